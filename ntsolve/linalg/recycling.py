"""Deflation carried from solve to solve: conjugate gradients that get better on slowly changing systems.

With W (k, n) and C = W A W', deflated CG (Saad, Yeung, Erhel, Guyomarc'h, "A Deflated Version of the Conjugate Gradient
Algorithm", SIAM J. Sci. Comput. 21 (2000), algorithm 3.5) starts at and keeps directions in the A-orthogonal complement
of W,

    x += W' C^-1 W r,                                                                                    (1)
    p = z + beta p - W' C^-1 (W A) z,                                                                    (2)

and converges as if the eigenvalues that W stands for were not there. For W the lowest Ritz vectors are taken.
Directions of CG are A-orthogonal to each other and to W, so no product is needed to find them: with S (m, n) the rows
of W, what is kept so far, and sums s of consecutive steps alpha p, of which

    s.As = sum of alpha (r, z)                                                                           (3)

is known, divided by the root of that,

    S A S' = I,    S D S' = Y diag(mu) Y',    W = the rows of Y' S with the largest mu,                  (4)

D the diagonal of A: the Ritz values of (A, D) on the span of S are the 1 / mu. A sum is what x moves by. Neighbours
have much the same of the low eigenvectors and different of the others, so sums lose little and save most of the cost.
They are compressed to 2 k whenever there is no more room, as eigCG does with residuals (Stathopoulos and Orginos, SIAM
J. Sci. Comput. 32 (2010)).
"""

from typing import Any

import numpy as np

from .. import validate
from ..kernels.contracts.fisher import gram_workspace, row_dots_workspace
from ..monitor import LONGEST_BLOCK
from ..operators import norms

FRESH = 40  # sums between two compressions at least; k where that is more
OF_A_LENGTH = 8  # sums of 1 step each, then of 2, 4, ...
LONGEST = 8  # steps in a sum
SAFE = 1e18  # sizes of vectors up to which float32 holds them, and down to its inverse
LOST = 1e8  # growth of a squared residual at which deflation is given up
UNBLOCKED = 100  # order of a matrix up to which LAPACK is kept to one thread


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
        k n numbers of the working dtype beside them, and, for what is learned, another 3 k n, but (2 k + 40) n at
        least.

    Notes
    -----
    Made for a sequence of systems whose matrices differ little, such as the steps of a simulation. The first solve
    only learns, and takes somewhat longer; then come k products with A a solve, and two passes over k vectors an
    iteration, for fewer iterations. A matrix of another order, dtype or device starts anew. A space that is of no use
    for a matrix costs time, never correctness: what is deflated is recomputed with the A at hand, and the residual is
    that of the problem as it is passed in. One solve at a time may use it. Copied or pickled, it keeps `k` and forgets
    its vectors.

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

    def __init__(self, k=10) -> None:
        self.k = validate.count("k", k, least=1)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._held: Any = None, None  # what kind of vectors W is of, and W

    @property
    def size(self):
        W = self._held[1]
        return 0 if W is None else W.shape[0]

    @property
    def nbytes(self):
        W = self._held[1]
        return 0 if W is None else W.nbytes

    def __repr__(self):
        return f"Recycler(k={self.k}, size={self.size})"

    def __getstate__(self):
        return {"k": self.k, "_held": (None, None)}

    def space(self, k, system, diagonal):
        """The `Space` of a solve; `diagonal` (1, n) or None is that of A."""
        kind = (k.NAME, getattr(getattr(system.b, "device", None), "id", None), system.A.n, system.b.dtype.name)
        if kind != self._held[0]:
            self._held = kind, None
        return Space(k, self, system, diagonal, kind)


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


def _begins(nit):
    """Whether a sum begins with this iteration: OF_A_LENGTH of each length but the last."""
    length = min(LONGEST, 1 << (nit // OF_A_LENGTH + 1).bit_length() - 1)
    return (nit - OF_A_LENGTH * (length - 1)) % length == 0


class Space:
    """W and A W for one matrix, and what its solve is about to add to them."""

    def __init__(self, k, recycler, system, diagonal, kind):
        self.k, self.recycler, self.A, self.kind = k, recycler, system.A, kind
        n, dtype, xp = system.A.n, system.b.dtype, k.xp
        self.n, self.dtype, self.keep = n, dtype, min(recycler.k, n // 4)
        self.weight = xp.ones(n, dtype=dtype) if diagonal is None else xp.sqrt(diagonal[0]).astype(dtype, copy=False)
        self.S: Any = xp.empty((2 * self.keep + max(FRESH, self.keep), n), dtype=dtype) if self.keep else None
        self.W = self.WA = None
        size = self._load()
        self.scale = np.ones(size)  # of the rows of S, A-orthonormal when divided by it
        self.count, self.fresh, self.least = size, 0, np.inf
        self.restart()

    # ---- W ----

    def _load(self):
        """W as it is carried, C^-1 W A, and A-orthonormal rows of S; how many, without what is of no use."""
        (kind, W), xp = self.recycler._held, self.k.xp
        if W is None or not self.keep or kind != self.kind:
            return 0
        self.A.settle(W)  # it may have been left by a matrix of other cells
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
        """Whether steps are wanted."""
        return self.keep > 0

    def restart(self):
        """Forget the sum that is not complete: x jumps, or the directions begin anew."""
        self.nit, self.begun, self.gains = 0, [], np.zeros(0)

    @property
    def due(self):
        """Iterations for which there is room, at least one."""
        if not self.collecting:
            return 1 << 30
        room, steps = len(self.S) - self.count - len(self.begun), 0
        while steps < LONGEST_BLOCK:
            room -= _begins(self.nit + steps)
            if room < 0:
                break
            steps += 1
        return steps

    def take(self, x, at):
        """Note x (n,) before the iteration number `at` (from 0) of a block, where a sum ends and another begins."""
        if not _begins(self.nit + at):
            return
        if self.begun:
            row = self.S[self.count + len(self.begun) - 1]
            self.k.xp.subtract(x, row, out=row)
            row *= self.weight
        self.S[self.count + len(self.begun)] = x
        self.begun.append(self.nit + at)

    def learn(self, pq, rz):
        """After a block of iterations with these p.Ap, and (r, z) before each; fewer than meant where it has ended."""
        with np.errstate(all="ignore"):
            self.gains = np.concatenate([self.gains, rz / pq * rz])
        self.nit += len(pq)
        first, last = self.begun[0], self.begun[-1]
        if first < last:
            gains = np.zeros(last - first)
            part = self.gains[: last - first]
            gains[: len(part)] = part
            sums = np.add.reduceat(gains, np.array(self.begun[:-1]) - first)
            sums = sums[sums > 0]  # but for those begun after the end
            self.scale = np.concatenate([self.scale, np.sqrt(sums)])
            self.count += len(sums)
            self.fresh += len(sums)
            self.gains, self.begun = self.gains[last - first :], [last]
        if last >= self.nit:  # begun after the end
            self.restart()
        elif self.count + 1 == len(self.S):
            begun = self.S[self.count].copy()
            self._compress(2 * self.keep)
            self.S[self.count] = begun

    def _compress(self, most):
        """(4), leaving `most` rows of S; False where rounding has made nonsense of it."""
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
            recycler._held = self.kind, W if np.isfinite(sizes).all() and sizes.all() else None
