"""Deflation carried from solve to solve: conjugate gradients that get better on slowly changing systems.

With W (k, n) and C = W A W', deflated CG (Saad, Yeung, Erhel, Guyomarc'h, "A Deflated Version of the Conjugate Gradient
Algorithm", SIAM J. Sci. Comput. 21 (2000), algorithm 3.5) starts at and keeps directions in the A-orthogonal complement
of W,

    x += W' C^-1 W r,                                                                                    (1)
    p = z + beta p - W' C^-1 (W A) z,                                                                    (2)

and converges as if the eigenvalues that W stands for were not there. For W the lowest Ritz vectors are taken.
Directions of CG are A-orthogonal to each other and to W, so no product is needed to find them: with S (m, n) the rows
of W, what is kept so far, and some p / sqrt(p.Ap),

    S A S' = I,    S D S' = Y diag(mu) Y',    W = the rows of Y' S with the largest mu,                  (3)

D the diagonal of A: the Ritz values of (A, D) on the span of S are the 1 / mu. A first solve collects all of its
directions and compresses them to 2 k whenever there is no more room, as eigCG does with residuals (Stathopoulos and
Orginos, SIAM J. Sci. Comput. 32 (2010)); later ones refresh W with their first directions.
"""

from typing import Any

import numpy as np

from .. import validate
from ..kernels.contracts.fisher import gram_workspace, row_dots_workspace
from ..operators import norms

FRESH = 30  # directions between two compressions, and of a later solve, at least; 3 k where that is more
SAFE = 1e18  # sizes of vectors up to which float32 holds them, and down to its inverse
LOST = 1e8  # growth of a squared residual at which deflation is given up
UNBLOCKED = 100  # order of a matrix up to which LAPACK is kept to one thread
LONGER = 1.25  # times the iterations of the last solve, from which a solve collects again


class Recycler:
    """What conjugate gradients learn of a matrix, carried on to the next: passed as `recycle=` to `ntsolve.cg`.

    Parameters
    ----------
    k : int
        Ritz vectors to keep. More take out more of the spectrum, and cost more an iteration: 4 k n products and sums.

    Attributes
    ----------
    size : int
        Vectors held at present, at most k.
    nbytes : int
        Memory of them: 4 k n bytes for n unknowns, 8 k n where float32 would not hold them. During a solve there are
        k n numbers of the working dtype beside them, and, for directions, another 5 k n, or (2 k + 30) n if k < 10.

    Notes
    -----
    Made for a sequence of systems whose matrices differ little, such as the steps of a simulation. The first solve
    costs up to twice as much; then come k products with A a solve, and two passes over k vectors an iteration, for
    fewer iterations. A matrix of another order, dtype or device starts anew. A space that is of no use for a matrix
    costs time, never correctness: what is deflated is recomputed with the A at hand, and the residual is that of the
    problem as it is passed in. One solve at a time may use it.

    Saad, Yeung, Erhel and Guyomarc'h, SIAM J. Sci. Comput. 21 (2000), algorithm 3.5; Stathopoulos and Orginos, SIAM
    J. Sci. Comput. 32 (2010).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> import ntsolve
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(400, 400), format="csr")
    >>> b = np.random.default_rng(0).standard_normal((3, 400))
    >>> recycler = ntsolve.Recycler(k=8)
    >>> nits = [ntsolve.cg(A, row, rtol=1e-8, recycle=recycler).nit for row in b]
    >>> nits[2] < 0.7 * nits[0], recycler
    (True, Recycler(k=8, size=8))
    """

    def __init__(self, k=10):
        self.k = validate.count("k", k, least=1)
        self.clear()

    def clear(self):
        """Forget everything."""
        self._kind, self._W, self._last = None, None, None

    @property
    def size(self):
        return 0 if self._W is None else self._W.shape[0]

    @property
    def nbytes(self):
        return 0 if self._W is None else self._W.nbytes

    def __repr__(self):
        return f"Recycler(k={self.k}, size={self.size})"

    def __getstate__(self):
        return {"k": self.k, "_kind": None, "_W": None, "_last": None}

    def space(self, k, system, diagonal):
        """The `Space` of a solve; `diagonal` (1, n) or None is that of A."""
        kind = (k.NAME, getattr(getattr(system.b, "device", None), "id", None), system.A.n, system.b.dtype.name)
        if kind != self._kind:
            self.clear()
            self._kind = kind
        return Space(k, self, system, diagonal)


def _eigh(matrix):
    """Eigenvalues, and eigenvectors in columns.

    Small ones without the blocked routines, whose threads wait in a loop and keep those of the kernels from running.
    """
    m = len(matrix)
    if not 0 < m <= UNBLOCKED:
        return np.linalg.eigh(matrix)
    from scipy.linalg.lapack import dsyev  # here: it takes time to load

    values, vectors, info = dsyev(matrix, lwork=3 * m - 1)  # the least that it accepts
    return (values, vectors) if info == 0 else np.linalg.eigh(matrix)


class Space:
    """W and A W for one matrix, and the directions of its solve."""

    def __init__(self, k, recycler, system, diagonal):
        self.k, self.recycler, self.A = k, recycler, system.A
        n, dtype, xp = system.A.n, system.b.dtype, k.xp
        self.n, self.dtype, self.keep = n, dtype, min(recycler.k, n // 4)
        self.weight = xp.ones(n, dtype=dtype) if diagonal is None else xp.sqrt(diagonal[0]).astype(dtype, copy=False)
        self.window = max(FRESH, 3 * self.keep)
        self.S: Any = xp.empty((2 * self.keep + self.window, n), dtype=dtype) if self.keep else None
        self.patience = 1 << 30 if recycler._last is None else int(LONGER * recycler._last) + 1
        self.W = self.WA = None
        size = self._load()
        self.scale = np.ones(size)  # of the rows of S, A-orthonormal when divided by it
        self.count, self.nit, self.fresh, self.least = size, 0, 0, np.inf

    # ---- W ----

    def _load(self):
        """W as it is carried, C^-1 W A, and A-orthonormal rows of S; how many, without what is of no use."""
        W, xp = self.recycler._W, self.k.xp
        if W is None or not self.keep:
            return 0
        wide = xp.ascontiguousarray(W.astype(self.dtype))
        WA = xp.zeros_like(wide)
        self.A.matvec(wide, WA)
        with np.errstate(all="ignore"):
            C = self._products(WA, wide)
            size = np.sqrt(abs(np.diag(C)).clip(np.finfo(float).tiny))
            C = (C + C.T) / 2 / size / size[:, None]
        if not np.isfinite(C).all():
            self.recycler.clear()
            return 0
        values, Y = _eigh(C)
        good = values > 1e-6 * max(values[-1], 0)  # what is left of others is rounding; none, where A is indefinite
        if not good.any():
            self.recycler.clear()
            return 0
        turn = (Y[:, good] / np.sqrt(values[good])).T / size
        count = len(turn)
        self.S[:count] = self._combined(wide, turn) * self.weight
        self.inverse = turn.T @ turn  # of C, on the span of what is good
        self.W, self.WA = W, self._combined(WA, self.inverse)
        return count

    def _products(self, left, right):
        """right left' on the host, in float64."""
        m, s = left.shape[0], right.shape[0]
        xp = self.k.xp
        out, work = xp.zeros((1, s, m)), xp.empty(row_dots_workspace(m, self.n, self.n, s))
        self.k.row_dots(left, self.n, right, out, work)
        return self.k.to_host(out)[0]

    def _combined(self, rows, turn):
        """turn rows, for a small matrix on the host."""
        xp = self.k.xp
        out = xp.empty((len(turn), self.n), dtype=self.dtype)
        self.k.combine_rows(rows, self.n, xp.asarray(np.ascontiguousarray(turn)[None]), 0.0, None, 1.0, out)
        return out

    def _narrow(self, rows):
        """In float32, where it holds them."""
        size = self.k.to_host(norms(self.k, rows))
        safe = (size < SAFE).all() and (size > 1 / SAFE).all()
        return rows.astype("float32") if safe else rows

    # ---- the iteration ----

    def prepare(self, batch, dinv):
        """Room for what follows; dinv (1, n) or None is the preconditioner, where that is a diagonal."""
        if self.W is None:
            return
        xp, size = self.k.xp, self.W.shape[0]
        self.mu, self.work = xp.zeros((1, batch, size)), xp.empty(row_dots_workspace(size, self.n, self.n, batch))
        self.WAM = self.WA if dinv is None else self.WA * dinv

    def correct(self, x, r):
        """(1), but for r; by how much it lowers (e, A e), (batch,) on the host."""
        products = self._products(self.W, r)
        steps = products @ self.inverse
        self.mu[...] = self.k.xp.asarray(steps[None])
        self.k.combine_rows(self.W, self.n, self.mu, 1.0, x, 1.0, x)
        self.least = np.inf
        return (products * steps).sum(axis=1)

    def deflate(self, z, p):
        """The last term of (2), for p = z + beta p; where M is a diagonal, r stands for z."""
        if self.W is not None:
            self.mu.fill(0)
            self.k.row_dots(self.WAM, self.n, z, self.mu, self.work)
            self.k.combine_rows(self.W, self.n, self.mu, 1.0, p, -1.0, p)

    def lost(self, rr):
        """Whether squared residuals (batch,), NaN for systems at rest, have grown as only rounding makes them grow."""
        if self.W is None:
            return False
        self.least = np.fmin(self.least, rr)
        if not (rr > LOST * self.least).any():
            return False
        self.W, self.keep = None, 0
        self.recycler.clear()
        return True

    # ---- what is learned ----

    @property
    def collecting(self):
        """Whether directions are wanted."""
        if self.S is None or not self.keep:
            return False
        return self.W is None or self.fresh < self.window or self.nit >= self.patience

    @property
    def due(self):
        """Iterations up to the next that may change what is wanted, at least one."""
        ends = [self.patience - self.nit, self.window - self.fresh]
        if self.collecting:
            ends.append(len(self.S) - self.count)
        return min((end for end in ends if end > 0), default=1 << 30)

    def take(self, p, at):
        """Note the direction p (n,), the one number `at` (from 0) of a block of iterations."""
        self.k.xp.multiply(p, self.weight, out=self.S[self.count + at])

    def learn(self, pq, collected):
        """After a block of iterations of which `pq` are the p.Ap: noted, where `collected`."""
        self.nit += len(pq)
        if not collected:
            return
        self.scale = np.concatenate([self.scale, np.sqrt(pq)])
        self.count += len(pq)
        self.fresh += len(pq)
        if self.count == len(self.S):
            self._compress(2 * self.keep)

    def _compress(self, most):
        """(3), leaving `most` rows of S; False where rounding has made nonsense of it."""
        k, xp, m = self.k, self.k.xp, self.count
        gram = xp.zeros((1, m, m))
        k.gram(self.S[:m], self.n, gram, xp.empty(gram_workspace(m, self.n, self.n)))
        with np.errstate(all="ignore"):
            gram = k.to_host(gram)[0] / self.scale / self.scale[:, None]
        if not np.isfinite(gram).all():
            self.count, self.scale = 0, np.ones(0)
            return False
        Y = _eigh(gram)[1][:, ::-1][:, :most]
        kept = self._combined(self.S[:m], Y.T / self.scale)
        self.count = kept.shape[0]
        self.S[: self.count] = kept
        self.scale = np.ones(self.count)
        return True

    def finish(self):
        """Leave W to the next solve."""
        recycler = self.recycler
        if not self.keep:
            return
        if self.fresh and self.count and self._compress(self.keep):
            W = self._narrow(self.S[: self.count] / self.weight)
            sizes = self.k.to_host(norms(self.k, W))
            recycler._W = W if np.isfinite(sizes).all() and sizes.all() else None
        recycler._last = self.nit or recycler._last
