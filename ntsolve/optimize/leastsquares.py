"""Least squares with the Jacobian J (m, n) of the constraints: multipliers, projections and damped Gauss-Newton steps.

Dense J: a QR factorisation with column pivoting of J'. Sparse J: the factors of an augmented system,

    [[I, J'], [J, -d I]] (r, lam) = (-g, 0),      (J J' + d I) lam = -J g,                                (1)

refined so that d does not show. A LinearOperator: LSMR of Fong and Saunders, SIAM J. Sci. Comput. 33 (2011).
"""

from typing import Any

import numpy as np

from .hessians import is_operator, is_sparse

DEPENDENT = 1e-10  # rows of J are dependent where a pivot is smaller, relative to the largest


def least_squares(J):
    """What is known of J for least squares, factorised once."""
    if is_operator(J):
        return Matrixfree(J)
    return Sparse(J) if is_sparse(J) else Dense(J)


class Dense:
    """J an array."""

    def __init__(self, J):
        import scipy.linalg as la

        self.J, self._la = J, la
        self._Q, self._R, self._order = la.qr(J.T, mode="economic", pivoting=True, check_finite=False)
        pivots = np.abs(np.diag(self._R))
        self.rank = int((pivots > DEPENDENT * pivots[0]).sum()) if pivots.size and pivots[0] > 0 else 0
        self._Q = self._Q[:, : self.rank]

    def multipliers(self, g):
        """argmin |g + J' lam|; the shortest, where there are several"""
        J = self.J
        if self.rank < J.shape[0]:
            if self.rank == 0:
                return np.zeros(J.shape[0])
            return self._la.lstsq(J.T, -g, cond=DEPENDENT, lapack_driver="gelsy", check_finite=False)[0]
        lam = np.empty(J.shape[0])
        R = self._R[: self.rank]
        lam[self._order] = self._la.solve_triangular(R, -(self._Q.T @ g), check_finite=False)
        return lam

    def project(self, v):
        """The part of v in the null space of J."""
        for _ in range(2):  # the second time for what rounding left
            v = v - self._Q @ (self._Q.T @ v)
        return v

    def step(self, c, damping):
        """argmin |J s + c|^2 + damping |s|^2"""
        J, (m, n), root = self.J, self.J.shape, np.sqrt(damping)
        solve = self._la.lstsq
        if m < n:  # the shortest (s, t) with J s + root t = -c has the same s
            wide = np.concatenate([J, root * np.eye(m)], axis=1)
            return solve(wide, -c, cond=1e-15, lapack_driver="gelsy", check_finite=False)[0][:n]
        tall = np.concatenate([J, root * np.eye(n)])
        return solve(tall, -np.concatenate([c, np.zeros(n)]), cond=1e-15, lapack_driver="gelsy", check_finite=False)[0]


class Sparse:
    """J a CSR matrix."""

    rank = None

    def __init__(self, J):
        self.J = J
        self._size = float(abs(J).max()) if J.nnz else 0.0
        self._factors: Any = None

    def _augmented(self, top, bottom):
        import scipy.sparse as sp
        import scipy.sparse.linalg as sl

        m, n = self.J.shape
        K = sp.block_array([[top * sp.eye_array(n), self.J.T], [self.J, -bottom * sp.eye_array(m)]], format="csc")
        return sl.splu(K)

    def multipliers(self, g):
        J = self.J
        m, n = J.shape
        if not self._size:
            return np.zeros(m)
        if self._factors is None:
            self._factors = self._augmented(1.0, 1e-12 * self._size**2)  # (1)
        lam = self._factors.solve(np.concatenate([-g, np.zeros(m)]))[n:]
        best = np.linalg.norm(g + J.T @ lam)
        for _ in range(2):
            better = lam + self._factors.solve(np.concatenate([-(g + J.T @ lam), np.zeros(m)]))[n:]
            size = np.linalg.norm(g + J.T @ better)
            if not size < 0.9 * best:
                break
            lam, best = better, size
        return lam

    def project(self, v):
        for _ in range(2):
            v = v + self.J.T @ self.multipliers(v)
        return v

    def step(self, c, damping):
        n = self.J.shape[1]
        floor = 1e-14 * max(self._size, 1.0) ** 2
        factors = self._augmented(max(damping, floor), 1.0)
        return factors.solve(np.concatenate([np.zeros(n), -c]))[:n]


class Matrixfree:
    """J known by its products."""

    rank = None

    def __init__(self, J):
        self.J = J

    def multipliers(self, g):
        from scipy.sparse.linalg import lsmr

        return lsmr(self.J.T, -g, atol=1e-12, btol=1e-12, maxiter=4 * max(self.J.shape))[0]

    def project(self, v):
        return v + self.J.T @ self.multipliers(v)

    def step(self, c, damping):
        from scipy.sparse.linalg import lsmr

        return lsmr(self.J, -c, damp=np.sqrt(damping), atol=1e-10, btol=1e-10, maxiter=4 * max(self.J.shape))[0]
