"""Newton systems too large for a dense factorisation: SuperLU, and MINRES.

SuperLU in its symmetric mode keeps the pivots on the diagonal, and its U then has the signs of K's eigenvalues on it
(Sylvester). This needs delta > 0, which refinement takes out of the answer again. Where pivots had to leave the
diagonal, and for MINRES, the sign is judged from the step alone, as by Chiang and Zavala, "An inertia-free filter
line-search algorithm", Comput. Optim. Appl. 64 (2016): with the multipliers' step dl,

    dx'(H + tau I)dx + max(-dl'c, 0) >= kappa dx'dx                                                       (1)

or tau is raised.
"""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sl

from .hessians import is_operator
from .kkt import DUAL_SHIFT, ZERO_PIVOT, Inner, refined, shifts

KAPPA = 1e-10
REFINEMENTS = 10
SINGULAR = 0.5  # a residual that MINRES leaves of a system that it cannot solve
DUAL_SHIFT_OF_MINRES = 1e-6


class SuperLU(Inner):
    """K as a sparse matrix."""

    exact = True

    def prepare(self, H, J, floor, last):
        self.H, self.J = H, J
        top = H.sparse()
        if top is None:
            raise TypeError('inner="splu" needs a Hessian that is an array or a sparse matrix, not an operator')
        if is_operator(J):
            raise TypeError('inner="splu" needs a Jacobian that is an array or a sparse matrix, not an operator')
        self._K = _bordered(top, J)
        if not np.isfinite(self._K.data).all():
            return False
        self._largest = float(np.abs(self._K.data).max(initial=0.0))
        columns = np.repeat(np.arange(self.n + self.m), np.diff(self._K.indptr))
        self._on_diagonal = np.flatnonzero(self._K.indices == columns)
        self._diagonal = self._K.data[self._on_diagonal].copy()
        for tau in shifts(floor, last):
            self.shift = tau
            good = self._factor(tau)
            if good is not False:
                self.inertia_known = bool(good)
                return True
        return False

    def _factor(self, tau):
        """True for the right signs, False for wrong ones, None where they are not known."""
        n, m = self.n, self.m
        regular = self._K.copy()
        self._K.data[self._on_diagonal] = self._diagonal + np.concatenate([np.full(n, tau), np.zeros(m)])
        regular.data[self._on_diagonal] = self._diagonal + np.concatenate([np.full(n, tau), np.full(m, -DUAL_SHIFT)])
        self.factorizations += 1
        try:
            self._factors = sl.splu(regular, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                                    options={"SymmetricMode": True})  # fmt: skip
        except RuntimeError:  # exactly singular
            return False
        self._regular, self.dual_shift = regular, 0.0
        if np.array_equal(self._factors.perm_r, self._factors.perm_c):
            pivots = self._factors.U.diagonal()
            tiny = ZERO_PIVOT * self._largest
            # a pivot of a constraint may be as small as delta, but not as noise
            signs = int((pivots > tiny).sum()), int((pivots < -min(tiny, 0.1 * DUAL_SHIFT)).sum())
            return signs == (n, m)
        try:
            self._factors = sl.splu(regular)
        except RuntimeError:
            return False
        return None

    def solve(self, b, accuracy):
        while True:
            d, left = self._solve(b)
            if self.inertia_known or curved_upwards(self, b, d):
                return d, left
            later = [tau for tau in shifts(self.shift, self.shift) if tau > self.shift]
            self.shift = max(1e-4, next(iter(later), np.inf))
            if self.shift > 1e20:
                return d, left
            self.inertia_known = bool(self._factor(self.shift))

    def _solve(self, b):
        d, left = refined(self._factors.solve, lambda v: self._K @ v, b, REFINEMENTS)
        if left > 1e-8:  # too near to singular without delta
            e, left_regular = refined(self._factors.solve, lambda v: self._regular @ v, b, REFINEMENTS)
            if left_regular < left:
                self.dual_shift = DUAL_SHIFT
                return e, left_regular
        return d, left


def _bordered(H, J):
    """[[H, J'], [J, 0]] as CSC, with every entry of the diagonal stored, which SuperLU's symmetric mode counts on."""
    n, m = H.shape[0], J.shape[0]
    H, J, every = H.tocoo(), sp.coo_array(J), np.arange(n + m)
    rows = np.concatenate([H.row, J.row + n, J.col, every])
    columns = np.concatenate([H.col, J.col, J.row + n, every])
    values = np.concatenate([H.data, J.data, J.data, np.zeros(n + m)])
    K = sp.csc_array((values, (rows, columns)), shape=(n + m, n + m))
    K.sum_duplicates()
    return K


def curved_upwards(inner, b, d):
    """Whether (1) holds for K d = b, b = -(grad L, c)."""
    x, lam = d[: inner.n], d[inner.n :]
    bends = x @ (inner.H.matvec(x) + inner.shift * x) + max(float(lam @ b[inner.n :]), 0.0)
    return bends >= KAPPA * (x @ x)


class Minres(Inner):
    """MINRES of Paige and Saunders on K, which is only multiplied with.

    `precond` approximates the inverse of a positive definite matrix near K in a sense: of order n + m, or of order n
    for the first block. Without it, the diagonals of H and of J diag(H)^-1 J' are used where H and J are matrices.
    """

    def prepare(self, H, J, floor, last):
        self.H, self.J = H, J
        self.shift, self.dual_shift, self._last = floor, 0.0, last
        return True

    def solve(self, b, accuracy):
        d, left = np.zeros_like(b), 1.0
        for tau in shifts(self.shift, self._last):
            self.shift = tau
            d, left = self._solve(b, accuracy)
            if left > SINGULAR and self.m and not self.dual_shift:  # perhaps J has not full rank
                self.dual_shift = DUAL_SHIFT_OF_MINRES
                d, left = self._solve(b, accuracy)
            if not np.isfinite(left) or not self.going():
                break
            if left <= SINGULAR and curved_upwards(self, b, d):
                break
        return d, left

    def _solve(self, b, accuracy):
        n, m = self.n, self.m
        K = sl.LinearOperator((n + m, n + m), matvec=self.apply, dtype=float)
        M = self._preconditioner()
        d, r = np.zeros(n + m), b
        size = left = best = np.linalg.norm(b)
        best_d = d
        if size == 0:
            return d, 0.0
        for _ in range(REFINEMENTS):
            watch = _Watch(self, K, r, accuracy * size)
            try:  # its own test is relative to |K| |d|, which says nothing where K is far from well-conditioned
                step = sl.minres(K, r, M=M, rtol=0.0, maxiter=5 * (n + m), callback=watch)[0]
            except _Stopped as stopped:
                step = stopped.x
            d = d + step
            r = b - self.apply(d)
            left = np.linalg.norm(r)  # MINRES lowers another norm of it, which may let this one grow for a while
            if left < best:
                best, best_d = left, d
            if not np.isfinite(left):
                return np.full(n + m, np.nan), np.inf
            if left <= accuracy * size or not self.going():
                break
        return best_d, float(best / size)

    def _preconditioner(self):
        n, m = self.n, self.m
        if self.precond is not None:
            given = sl.aslinearoperator(self.precond)
            if given.shape == (n + m, n + m):
                return given
            if given.shape != (n, n):
                raise ValueError(f"precond has shape {given.shape}; {(n, n)} or {(n + m, n + m)} is needed")
            return sl.LinearOperator((n + m, n + m), dtype=float,
                                     matvec=lambda v: np.concatenate([given.matvec(v[:n]), v[n:]]))  # fmt: skip
        if self.H.kind not in ("dense", "sparse") or is_operator(self.J):
            return None
        top = np.abs(self.H.sparse().diagonal() if self.H.kind == "sparse" else np.diag(self.H.dense())) + self.shift
        top = np.maximum(top, 1e-8 * max(top.max(initial=0.0), 1e-8))
        J = sp.csr_array(self.J)
        below = np.asarray(J.multiply(J) @ (1 / top)).reshape(-1)
        scale = 1 / np.concatenate([top, np.maximum(below, 1e-8 * max(below.max(initial=0.0), 1e-8))])
        return sl.LinearOperator((n + m, n + m), matvec=lambda v: scale * v.reshape(-1), dtype=float)


class _Stopped(Exception):
    """Out of MINRES, by the callback, with the iterate."""

    def __init__(self, x):
        super().__init__()
        self.x = x.copy()


class _Watch:
    """Ends MINRES where the residual meets a goal; what it is is looked at after each eighth more iterations."""

    def __init__(self, inner, K, r, goal):
        self.inner, self.K, self.r, self.goal = inner, K, r, goal
        self.count, self.next = 0, 1

    def __call__(self, x):
        self.inner.iterations += 1
        self.count += 1
        if self.count % 64 == 0 and not self.inner.going():
            raise _Stopped(x)
        if self.count >= self.next:
            self.next = self.count + 1 + self.count // 8
            if not np.linalg.norm(self.r - self.K @ x) > self.goal:
                raise _Stopped(x)
