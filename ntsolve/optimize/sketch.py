"""Newton systems in the null space of J, by conjugate gradients with a sketched Hessian as preconditioner.

With J' = Q (R; 0), Q = (Y, Z) orthogonal, a Newton system K (dx, dlam) = (t, -c) of kkt.py splits into

    dx = Y R^-T (-c) + Z u,    Z'(H + tau I) Z u = Z'(t - (H + tau I) Y R^-T (-c)),                       (1)
    dlam = R^-1 Y'(t - (H + tau I) dx),                                                                   (2)

so that what is left of the first of these is all that is left of the whole. It is solved with exact products with H.
Where H = X' diag(d) X + rest, X of N rows, the preconditioner is the Cholesky factor of

    Z'((S X)'(S X) + rest + tau I) Z,                                                                     (3)

S a sketch of few rows applied to diag(|d|)^1/2 X: rows sampled in proportion to d_i |x_i|^2, a CountSketch (Clarkson
and Woodruff, J. ACM 63 (2017)), or a subsampled randomised Hadamard transform (Ailon and Chazelle, SIAM J. Comput. 39
(2009)). As in the sketch-and-precondition solvers of Rokhlin and Tygert, PNAS 105 (2008), and Avron, Maymounkov and
Toledo, SIAM J. Sci. Comput. 32 (2010), the sketch costs iterations and no accuracy: (1) meets the same test as any
other inner solver. It is kept for a few outer iterations, since d changes little from one to the next.
"""

from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..kernels.contracts.sketch import gram_workspace
from .hessians import gram_of_rows, is_sparse
from .kkt import Inner, shifts
from .leastsquares import DEPENDENT

SKETCHES = ("rows", "countsketch", "srht", "exact")
ROWS = {"rows": 2, "countsketch": 4, "srht": 2}  # of the sketch, for each column of X
KEPT = 4  # outer iterations that a sketch serves
POOR = 15  # conjugate gradient iterations after which it is made anew
MOST_ITERATIONS = 200
ROUNDS = 4  # of refinement
STRIP = 64  # columns of X that are transformed at a time


def row_sizes(X):
    """|x_i|^2 (N,)"""
    if is_sparse(X):
        return np.asarray(X.multiply(X).sum(axis=1), dtype=float).reshape(-1)
    return np.einsum("ij,ij->i", X, X).astype(float)


def sketched(X, weights, kind, rng, sizes=None):
    """S diag(weights) X, (k, n) float64 or of X's dtype, with E (S A)'(S A) = A'A.

    Parameters
    ----------
    X : array (N, n) or CSR matrix
    weights : array (N,)
    kind : {"rows", "countsketch", "srht"}
    rng : numpy.random.Generator
    sizes : array (N,), optional
        |x_i|^2, for "rows".
    """
    N, n = X.shape
    count = min(N, ROWS[kind] * n)
    if kind == "rows":
        share = weights**2 * (row_sizes(X) if sizes is None else sizes)
        total = share.sum()
        share = 0.5 * share / total + 0.5 / N if total > 0 else np.full(N, 1 / N)
        rows = np.sort(np.minimum(np.searchsorted(np.cumsum(share), rng.random(count)), N - 1))
        return _sampled(X, rows, weights[rows] / np.sqrt(count * share[rows]))
    signs = rng.choice((-1.0, 1.0), N)
    if kind == "countsketch":
        return _bucketed(X, rng.integers(0, count, N), signs * weights, count)
    return _mixed(X, signs * weights, count, rng)


def _sampled(X, rows, weights):
    if is_sparse(X):
        return X[rows].multiply(weights[:, None]).toarray()
    Y = np.empty((rows.size, X.shape[1]), X.dtype)
    with kernels_for(X=X) as k:
        k.sample_rows(X, rows.astype("int64"), weights, Y)
    return Y


def _bucketed(X, bucket, weights, count):
    order = np.argsort(bucket, kind="stable")
    start = np.searchsorted(bucket[order], np.arange(count + 1))
    if is_sparse(X):
        import scipy.sparse as sp

        return (sp.csr_array((weights[order], order, start), shape=(count, X.shape[0])) @ X).toarray()
    Y = np.empty((count, X.shape[1]), X.dtype)
    with kernels_for(X=X) as k:
        k.sum_buckets(X, start.astype("int64"), order.astype("int64"), weights, Y)
    return Y


def _mixed(X, weights, count, rng):
    """Some columns at a time, so that the padded copy of X stays small."""
    N, n = X.shape
    padded = 1 << (N - 1).bit_length()
    kept = np.sort(rng.choice(padded, count, replace=False))
    Y = np.empty((count, n))
    with kernels_for(weights=weights) as k:
        for low in range(0, n, STRIP):
            strip = X[:, low : low + STRIP]
            strip = strip.toarray() if is_sparse(strip) else np.ascontiguousarray(strip)
            A = np.zeros((padded, strip.shape[1]))
            k.sample_rows(strip.astype(float), np.arange(N), weights, A[:N])
            k.hadamard(A)
            Y[:, low : low + STRIP] = A[kept]
    return Y * np.sqrt(padded / count)


class NullSpace(Inner):
    """(1) and (2). J is a dense matrix here; the Hessian is only multiplied with, and sketched.

    `precond` may be "rows" (the default), "countsketch", "srht" or "exact", which forms X' diag(d) X; or an approximate
    inverse of H of order n, which is used for any Hessian. Without it a Hessian that is no `FactoredHessian` is its own
    preconditioner where it is a matrix, and has none where it is an operator.
    """

    def __init__(self, n, m, *, precond=None, **options):
        super().__init__(n, m, precond=precond, **options)
        if isinstance(precond, str) and precond not in SKETCHES:
            raise ValueError(f"precond must be {' or '.join(map(repr, SKETCHES))} or an operator, not {precond!r}")
        self._kind = precond if isinstance(precond, str) else "rows"
        self._sketch: Any = None
        self._age, self._poor = 0, False
        self._sizes: Any = None
        self._work: Any = None
        self._cholesky: Any = None

    # ---- the spaces of J ------------------------------------------------------------------------------------------

    def _split(self, J):
        """J' = Q (R; 0), columns in the order of their pivots; of dependent rows only some are kept."""
        import scipy.linalg as la

        dense = J.toarray() if is_sparse(J) else (J if isinstance(J, np.ndarray) else (J.T @ np.eye(self.m)).T)
        (self._Q, self._tau), R, self._order = la.qr(dense.T, mode="raw", pivoting=True, check_finite=False)
        pivots = np.abs(np.diag(R))
        self._rank = int((pivots > DEPENDENT * max(pivots.max(initial=0.0), 1e-300)).sum())
        self._R = R[: self._rank, : self._rank]
        self._order = self._order[: self._rank]
        self._Q, self._tau = np.asfortranarray(self._Q[:, : self._rank]), self._tau[: self._rank]

    def _multiplied(self, A, side, transposed):
        """Q A, Q'A or, from the right, A Q."""
        from scipy.linalg.lapack import dormqr

        if not self._rank:
            return A
        wide = 64 * max(A.shape)
        return dormqr(side, "T" if transposed else "N", self._Q, self._tau, A, lwork=wide)[0]

    def _rotate(self, v, *, back=False):
        """Q'v, or Q v."""
        return self._multiplied(np.asfortranarray(v[:, None]), "L", not back)[:, 0]

    def _lift(self, u):
        """Z u"""
        return self._rotate(np.concatenate([np.zeros(self._rank), u]), back=True)

    # ---- H and its preconditioner ---------------------------------------------------------------------------------

    def prepare(self, H, J, floor, last):
        self.H, self.J = H, J
        self.shift, self.dual_shift, self._last = floor, 0.0, last
        self._split(J)
        self._rest = None
        found = H.factored
        if self.precond is not None and not isinstance(self.precond, str):
            return True
        if found is not None and H.rest.kind != "operator":
            self._take_sketch(*found)
            self._rest = H.rest.dense() + self._sketch
        elif H.kind in ("dense", "sparse"):
            self._rest = H.dense()
        return self._rest is None or self._factor()

    def _take_sketch(self, weight, factored):
        """(S X)'(S X) for the Hessian's X and d; that of before where it is neither old nor poor."""
        self._age += 1
        if self._sketch is not None and self._age <= KEPT and not self._poor:
            return
        self._age, self._poor = 1, False
        X, d = factored.X, np.abs(weight * factored.d)
        if self._kind == "exact":
            self._sketch = weight * factored.toarray()
            self._age = KEPT  # as good as H, for this iteration
            return
        if self._sizes is None or self._sizes[0] is not X:
            self._sizes = X, row_sizes(X)
        Y = sketched(X, np.sqrt(d), self._kind, self.rng, self._sizes[1])
        self._sketch = gram_of_rows(Y)
        self._sketch.reshape(-1)[:: self.n + 1] += weight * factored.s

    def _factor(self):
        """The Cholesky factor of (3), with more on the diagonal until there is one."""
        from scipy.linalg.lapack import dpotrf

        turned = self._multiplied(np.asfortranarray(self._rest), "L", True)
        turned = self._multiplied(turned, "R", False)[self._rank :, self._rank :]
        if not np.isfinite(turned).all():
            return False
        diagonal = np.diag(turned).copy()
        extra = 1e-10 * float(np.abs(diagonal).mean()) if diagonal.size else 0.0
        for tau in shifts(self.shift, self._last):
            trial = np.asfortranarray(turned)
            trial.reshape(-1, order="F")[:: trial.shape[0] + 1] = diagonal + tau + extra
            self.factorizations += 1
            self._cholesky, info = dpotrf(trial, lower=1, overwrite_a=1) if trial.size else (trial, 0)
            if info == 0:
                if self._exact_preconditioner():
                    self.shift = tau
                return True
        return False

    def _exact_preconditioner(self):
        """Whether what (3) says of the curvature holds for H."""
        return self.H.factored is None or self._kind == "exact"

    def _preconditioned(self, r):
        from scipy.linalg.lapack import dpotrs

        if self.precond is not None and not isinstance(self.precond, str):
            apply = self.precond.matvec if hasattr(self.precond, "matvec") else self.precond.__matmul__
            return self._rotate(apply(self._lift(r)))[self._rank :]
        return r if self._rest is None or not r.size else dpotrs(self._cholesky, r[:, None], lower=1)[0][:, 0]

    def _product(self, v):
        """(H + shift I) v; one pass over a dense X."""
        self.products += 1
        found = self.H.factored
        if found is None or not _plain(found[1].X):
            return self.H.matvec(v) + self.shift * v
        weight, factored = found
        X = factored.X
        if self._work is None:
            self._work = np.empty(gram_workspace(*X.shape))
        total = np.empty(self.n)
        with kernels_for(X=X) as k:
            k.gram_matvec(X, factored.d, np.ascontiguousarray(v), total, self._work)
        return weight * total + (weight * factored.s + self.shift) * v + self.H.rest.matvec(v)

    # ---- the system -----------------------------------------------------------------------------------------------

    def solve(self, b, accuracy):
        size = float(np.linalg.norm(b))
        if not size > 0:
            return np.zeros_like(b), 0.0
        while True:
            d, left, bends_down = self._refined(b, accuracy * size)
            if not bends_down or not self.going():
                return d, left / size
            raised = next((tau for tau in shifts(self.shift, self.shift or self._last) if tau > self.shift), None)
            if raised is None or not np.isfinite(left):
                return d, left / size
            self.shift = self._last = raised
            if self._rest is not None:
                self._factor()

    def _refined(self, b, target):
        """(d, |K d - b|, whether negative curvature was met), aiming at `target`."""
        d, r, left = np.zeros_like(b), b, float(np.linalg.norm(b))
        for _ in range(ROUNDS):
            step, r_new, bends_down = self._once(r, 0.5 * target)
            left_new = float(np.linalg.norm(r_new))
            if bends_down:
                return d, left, True
            if not left_new < left:
                break
            d, r, left = d + step, r_new, left_new
            if left <= target or not self.going():
                break
        return d, left, False

    def _once(self, b, target):
        """(d, b - K d, whether negative curvature was met) by (1) and (2)."""
        import scipy.linalg as la

        n, rank = self.n, self._rank
        top, bottom = b[:n], b[n:]
        y = la.solve_triangular(self._R, bottom[self._order], trans="T", check_finite=False) if rank else np.zeros(0)
        dx = self._rotate(np.concatenate([y, np.zeros(n - rank)]), back=True)
        Hdx = self._product(dx) if rank else np.zeros(n)
        u, Hu, bends_down = self._conjugate_gradients(self._rotate(top - Hdx)[rank:], target)
        if bends_down:
            return dx, b, True
        dx, Hdx = dx + u, Hdx + Hu
        dlam = np.zeros(self.m)
        if rank:
            dlam[self._order] = la.solve_triangular(self._R, self._rotate(top - Hdx)[:rank], check_finite=False)
        rest = np.concatenate([top - Hdx - self.J.T @ dlam, bottom - self.J @ dx])
        return np.concatenate([dx, dlam]), rest, False

    def _conjugate_gradients(self, r, target):
        """(Z u, (H + tau I) Z u, whether negative curvature was met)"""
        n, rank, count = self.n, self._rank, 0
        u, Hu = np.zeros(n), np.zeros(n)
        z = self._preconditioned(r)
        p, rz = z, float(r @ z)
        while np.linalg.norm(r) > target and count < MOST_ITERATIONS:
            lifted = self._lift(p)
            q = self._product(lifted)
            turned = self._rotate(q)[rank:]
            curvature = float(p @ turned)
            if not curvature > 1e-14 * float(p @ p) * max(self.shift, 1e-300):
                return u, Hu, True
            alpha = rz / curvature
            u, Hu, r = u + alpha * lifted, Hu + alpha * q, r - alpha * turned
            z = self._preconditioned(r)
            rz, before = float(r @ z), rz
            p = z + rz / before * p
            count += 1
            if not self.going():
                break
        self.iterations += count
        self._poor = self._poor or count > POOR
        return u, Hu, False


def _plain(X):
    """Whether the kernels take X as it is."""
    return isinstance(X, np.ndarray) and X.dtype.name in ("float32", "float64") and X.flags.c_contiguous
