"""The Newton system in the space of the controls, where the constraints can be solved for the state.

Let x = (w, z), the state w of m entries first, and J = [J_w, J_z] with J_w invertible: S = J_w^-1 is what a state solve
applies. Directions that keep the linearised constraints are Z z = (-S J_z z, z), and with d_0 = (S b_c, 0)

    Z'(H + tau I) Z z = Z'(b_x - (H + tau I) d_0),   dx = d_0 + Z z,   lam = S'(b_w - ((H + tau I) dx)_w)          (1)

solves [[H + tau I, J'], [J, 0]] (dx, lam) = (b_x, b_c): the residual of the reduced system is that of the whole one. It
is done by conjugate gradients; a product with Z'HZ takes a state solve, an adjoint one and a product with H. See Biros,
Ghattas, SIAM J. Sci. Comput. 27 (2005). In place of least squares, the multipliers at a point are the adjoint state,
lam = -S' g_w.
"""

from typing import Any

import numpy as np

from .. import validate
from .hessians import is_operator, is_sparse
from .kkt import Inner, least_eigenpair, shifts
from .leastsquares import Matrixfree

STEPS = 1000
FLAT = 1e-14  # p'Z'HZp below this part of |p| |Z'HZp| is rounding


class Reduced(Inner):
    """Equation (1)."""

    def __init__(self, n, m, **options):
        super().__init__(n, m, **options)
        if not m:
            raise ValueError('inner="reduced" and state_solve need constraints')
        validate.function("state_solve", self.state_solve)
        self._point: Any = None
        self._at: Any = None
        self.S: Any = None

    def visit(self, point):
        self._point = point

    # ---- the state --------------------------------------------------------------------------------------------------

    def _state(self, J):
        """S at the point visited, for the scaled constraints."""
        x = self._point.x
        if self._at is None or (self._at[0] is not J and not np.array_equal(self._at[1], x)):
            self._at = J, x, self._state_of(J)
        return self._at[2]

    def _state_of(self, J):
        if self.n < self.m:
            raise ValueError(f'inner="reduced" needs as many variables as constraints at least: {self.n} < {self.m}')
        if self.state_solve is None:
            try:
                return _Factored(J, self.m)
            except RuntimeError:  # singular here
                return None
        given = self.state_solve(self._point.x.copy())
        if not (hasattr(given, "matvec") and hasattr(given, "rmatvec")):
            raise TypeError(f"state_solve returned {type(given).__name__}, not something with matvec and rmatvec")
        if tuple(getattr(given, "shape", (self.m, self.m))) != (self.m, self.m):
            raise ValueError(f"state_solve returned shape {tuple(given.shape)}; there are {self.m} constraints")
        return _Scaled(given, self._point.problem.c_scale, self.m)

    def _lift(self, v):
        """Z v"""
        along = self.J @ np.concatenate([np.zeros(self.m), v]) if self._J_z is None else self._J_z @ v
        return np.concatenate([-self.S.matvec(along), v])

    def _reduce(self, u):
        """Z' u"""
        adjoint = self.S.rmatvec(u[: self.m])
        return u[self.m :] - ((self.J.T @ adjoint)[self.m :] if self._J_z is None else self._J_z.T @ adjoint)

    def _hessian(self, v):
        """(H + tau I) v"""
        self.products += 1
        return self.H.matvec(v) + self.shift * v

    # ---- the system -------------------------------------------------------------------------------------------------

    def _take(self, H, J):
        self.H, self.J, self.S = H, J, self._state(J)
        self._J_z = None if is_operator(J) else J[:, self.m :]

    def prepare(self, H, J, floor, last):
        if self._state(J) is None:
            return False
        self._take(H, J)
        self.shift, self.dual_shift, self._last = floor, 0.0, last
        self._inverse = self._preconditioner()
        return True

    def _preconditioner(self):
        """Of Z'HZ: what the user has given, or the diagonal of H that belongs to the controls."""
        n, m = self.n, self.m
        if self.precond is not None:
            from scipy.sparse.linalg import aslinearoperator

            given = aslinearoperator(self.precond)
            if given.shape != (n - m, n - m):
                raise ValueError(f'precond has shape {given.shape}; for inner="reduced" it is {(n - m, n - m)}')
            return given.matvec
        if self.H.kind not in ("dense", "sparse"):
            return lambda r: r
        diagonal = (self.H.sparse().diagonal() if self.H.kind == "sparse" else np.diag(self.H.dense()))[m:]
        positive = np.where(diagonal > 0, diagonal, 1.0)
        return lambda r: r / (positive + self.shift)

    def solve(self, b, accuracy):
        n, m = self.n, self.m
        size = np.linalg.norm(b)
        if size == 0:
            return np.zeros_like(b), 0.0
        d0 = np.concatenate([self.S.matvec(b[n:]), np.zeros(n - m)])
        for tau in shifts(self.shift, self._last):
            self.shift = tau
            rhs = self._reduce(b[:n] - self._hessian(d0))
            z, bends = self._conjugate_gradients(rhs, accuracy * size)
            if bends or not self.going():
                break
        x = d0 + self._lift(z)
        lam = self.S.rmatvec(b[:m] - self._hessian(x)[:m])
        d = np.concatenate([x, lam])
        return d, float(np.linalg.norm(self.apply(d) - b) / size)

    def _conjugate_gradients(self, r, tolerance):
        """(z, whether no direction of negative curvature was met)"""
        z, r = np.zeros_like(r), r.copy()
        if not r.size:
            return z, True
        y = self._inverse(r)
        p, ry = y.copy(), r @ y
        for _ in range(STEPS):
            if not np.linalg.norm(r) > 0.5 * tolerance or not self.going():
                break
            q = self._reduce(self._hessian(self._lift(p)))
            self.iterations += 1
            pq = p @ q
            if not pq > FLAT * np.linalg.norm(p) * np.linalg.norm(q):
                return z, False
            z += (ry / pq) * p
            r -= (ry / pq) * q
            y = self._inverse(r)
            ry, before = r @ y, ry
            p = y + (ry / before) * p
        return z, True

    # ---- at a point -------------------------------------------------------------------------------------------------

    def normal(self, J):
        S = self._state(J)
        return super().normal(J) if S is None else _Adjoint(J, S, self.m)

    def curvature(self, H, J):
        """(u'Hu, u): Lanczos on Z'HZ. A negative value proves negative curvature; it need not be the least there is."""
        if self._state(J) is None:
            return super().curvature(H, J)
        self._take(H, J)
        shift, self.shift = self.shift, 0.0
        value, p = least_eigenpair(lambda v: self._reduce(self._hessian(self._lift(v))),
                                   self.rng.standard_normal(self.n - self.m))  # fmt: skip
        self.shift = shift
        u = self._lift(p)
        size = np.linalg.norm(u)
        return (value / size**2, u / size) if size > 0 else (value, u)


class _Adjoint:
    """What stands for least squares with J where there is a state solve."""

    def __init__(self, J, S, m):
        self.J, self.S, self.m, self.rank = J, S, m, None

    def multipliers(self, g):
        """The adjoint state: it makes the part of g + J'lam zero that belongs to the state."""
        return -self.S.rmatvec(g[: self.m])

    def project(self, v):
        return Matrixfree(self.J).project(v)

    def step(self, c, damping):
        return Matrixfree(self.J).step(c, damping)


class _Scaled:
    """A user's state solve, for constraints multiplied by `scale`."""

    def __init__(self, given, scale, m):
        self.given, self.scale, self.m = given, scale, m

    def _checked(self, y):
        y = np.asarray(y, dtype=float).reshape(-1)
        if y.size != self.m:
            raise ValueError(f"state_solve: a product has {y.size} entries, there are {self.m} constraints")
        return y

    def matvec(self, r):
        return self._checked(self.given.matvec(r / self.scale))

    def rmatvec(self, r):
        return self._checked(self.given.rmatvec(r)) / self.scale


class _Factored:
    """J_w factorised, where nobody has said how to solve with it."""

    def __init__(self, J, m):
        if is_operator(J):
            raise ValueError('inner="reduced" needs state_solve where the Jacobian is an operator')
        if is_sparse(J):
            from scipy.sparse.linalg import splu

            J_w = J[:, :m].tocsc()
            there = J_w.astype(bool)
            symmetric = (there != there.T).nnz == 0  # in its pattern, as where the state equation is elliptic
            factors = splu(J_w, permc_spec="MMD_AT_PLUS_A" if symmetric else "COLAMD")
            self.matvec, self.rmatvec = factors.solve, lambda r: factors.solve(r, "T")
            return
        from scipy.linalg.lapack import dgetrf, dgetrs

        lu, pivots, info = dgetrf(J[:, :m])
        if info:
            raise RuntimeError("singular")
        self.matvec = lambda r: dgetrs(lu, pivots, r)[0]
        self.rmatvec = lambda r: dgetrs(lu, pivots, r, trans=1)[0]
