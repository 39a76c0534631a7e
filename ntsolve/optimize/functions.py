"""The user's functions as the solver sees them: scaled, counted, checked, each evaluated once a point.

Inside, the objective is multiplied by min(1, 100 / |grad f(x0)|) and each constraint by
clip(100 / |grad c_i(x0)|, 1e-8, 1), largest entries in both, as in Waechter and Biegler, Math. Program. 106 (2006),
section 3.8. What is reported, and what is compared with the tolerance, is unscaled.
"""

import functools
from typing import Any

import numpy as np

from .. import validate
from . import constraints as forms
from .differences import FIRST, SECOND, DifferencedHessian, jacobian
from .hessians import Hessian, is_operator, is_sparse

LARGEST_GRADIENT = 100.0  # at the start, after scaling


class Problem:
    """min f(x) subject to c(x) = 0.

    Attributes
    ----------
    n, m : int
    f_scale : float
    c_scale : array (m,)
    blocks : list of Constraint
        The user's constraints, whose entries one after another are c.
    nfev, njev, nhev : int
        Calls of fun, jac and hess or hessp.
    """

    def __init__(self, fun, x0, *, jac=None, hess=None, hessp=None, constraints=(), args=()):
        if fun is None:
            raise TypeError("fun must be callable, not NoneType")
        self._hess: Any
        self._fun: Any = validate.function("fun", fun)
        self.args = args if isinstance(args, tuple) else (args,)
        self.n = x0.size
        if not (jac is None or jac is True or jac is False or callable(jac) or _named(jac)):
            raise TypeError(f"jac must be callable, True or one of {', '.join(forms.DIFFERENCES)}, not {jac!r}")
        self._jac = None if jac is False else jac
        if isinstance(hess, forms.HessianUpdateStrategy) or _named(hess):
            self._hess, wanted = None, _named(hess)
        else:
            self._hess, wanted = validate.function("hess", hess), False
        self._hessp: Any = validate.function("hessp", hessp) if hess is None else None
        self.blocks = forms.take(constraints, self.n)
        self.nfev = self.njev = self.nhev = 0
        self.missing = [] if self._jac is not None and jac != "2-point" else ["jac"]
        if self._hessp is None:
            if self._hess is None and not wanted:
                self.missing.append("hess")
            self.missing += [f"{block.name}.{name}" for block in self.blocks for name in block.missing]
        else:
            self.missing += [f"{block.name}.jac" for block in self.blocks if "jac" in block.missing]
        self.f_scale, self.c_scale = 1.0, np.ones(0)
        with _quiet():
            for block in self.blocks:
                block.begin(block.raw(x0.copy()))
        self.m = sum(block.m for block in self.blocks)
        self.c_scale = np.ones(self.m)

    def at(self, x):
        """The point x, of which everything is still to be evaluated."""
        return Point(self, x)

    def begin(self, x0):
        """The first point, whose derivatives settle the scales."""
        point = Point(self, x0)
        f, c, g, J = point.f, point.c, point.g, point.J
        steepest = np.abs(g).max(initial=0.0)
        rows = _row_sizes(J)
        if np.isfinite(steepest) and np.isfinite(rows).all():
            if steepest > LARGEST_GRADIENT:
                self.f_scale = max(LARGEST_GRADIENT / steepest, 1e-8)
            with np.errstate(divide="ignore"):
                self.c_scale = np.clip(LARGEST_GRADIENT / rows, 1e-8, 1.0)
        point.__dict__.update(f=f * self.f_scale, c=c * self.c_scale, g=g * self.f_scale,
                              J=_row_scaled(J, self.c_scale))  # fmt: skip
        return point

    def multipliers_in(self, lam):
        """The user's multipliers in the scaled problem."""
        return lam * self.f_scale / self.c_scale

    def multipliers_out(self, lam):
        """And back."""
        return lam * self.c_scale / self.f_scale

    def residual(self, point, lam):
        """max(|grad L|, |c|), largest entries, of the problem as the user wrote it; lam is scaled."""
        return max(self.stationarity(point, lam), self.violation(point))

    def stationarity(self, point, lam):
        with np.errstate(all="ignore"):
            return float(np.max(np.abs(point.g + point.J.T @ lam), initial=0.0)) / self.f_scale

    def violation(self, point):
        with np.errstate(all="ignore"):
            return float(np.max(np.abs(point.c / self.c_scale), initial=0.0))

    # ---- the user's functions, in the user's scale --------------------------------------------------------------

    def objective(self, x):
        """f(x), and its gradient where one call gives both, else None."""
        self.nfev += 1
        with _quiet():
            value, gradient = self._fun(x.copy(), *self.args), None
            if self._jac is True:
                if not (isinstance(value, (tuple, list)) and len(value) == 2):
                    raise TypeError("with jac=True fun must return f(x) and its gradient")
                value, gradient = value
        value = np.asarray(value)
        if value.size != 1 or value.dtype.kind not in "fiub":
            raise TypeError(f"fun returned {value.dtype} of shape {value.shape} where a real number is needed")
        return float(value.reshape(())), None if gradient is None else self._gradient("fun", gradient)

    def gradient(self, x):
        """grad f(x) (n,)"""
        self.njev += 1
        with _quiet():
            if self._jac is True:
                return self.objective(x)[1]
            if callable(self._jac):
                return self._gradient("jac", self._jac(x.copy(), *self.args))
            if self._jac == "cs":
                return jacobian(lambda z: self._fun(z, *self.args), x, "cs")[0]
            return jacobian(lambda z: self.objective(z)[0], x, "3-point")[0]

    def _gradient(self, name, value):
        value = np.asarray(value)
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{name} returned a gradient of {value.dtype} where real numbers are needed")
        if value.size != self.n or max(value.shape, default=1) != self.n:
            raise ValueError(f"{name} returned a gradient of shape {value.shape}; ({self.n},) is needed")
        return np.array(value, dtype=float).reshape(self.n)

    def values(self, x):
        """c(x) (m,)"""
        with _quiet():
            return np.concatenate([np.zeros(0), *(block.value(x.copy()) for block in self.blocks)])

    def jacobian(self, x):
        """c'(x) (m, n): an array, a CSR matrix if one of the blocks is sparse, a LinearOperator if one is that."""
        with _quiet():
            parts = [block.jacobian(x) for block in self.blocks]
        return _stacked(parts, self.n)

    def hessian_parts(self, x, lam, *, objective=True):
        """[(weight, matrix)] of the Hessian of f + lam'c, or of lam'c alone"""
        self.nhev += 1
        if self._hessp is not None:
            parts: list[Any] = [(1.0, _Product(lambda v: self._lagrangian_product(x, lam, v)))]
            if not objective:
                parts.append((-1.0, _Product(lambda v: self._lagrangian_product(x, 0 * lam, v))))
            return parts
        parts, unknown, first = [], [], 0  # unknown: of which constraints differences are needed
        differenced = objective and self._hess is None
        with _quiet():
            if objective and not differenced:
                parts.append((1.0, forms.square("hess", self._hess(x.copy(), *self.args), self.n)))
            for block in self.blocks:
                v = lam[first : first + block.m]
                first += block.m
                if not block.has_hessian:
                    unknown.append((block, v))
                elif not block.linear:
                    parts.append((1.0, block.hessian(x, v)))
        if unknown or differenced:
            exact = not differenced or self._jac is True or callable(self._jac) or self._jac == "cs"
            step = FIRST if exact and all(block.exact_jacobian for block, _ in unknown) else SECOND
            def gradient(z):
                with _quiet():
                    total = self.gradient(z) if differenced else np.zeros(self.n)
                    return sum((block.jacobian(z).T @ v for block, v in unknown), start=total)

            parts.append((1.0, DifferencedHessian(gradient, x, step)))
        return parts

    def _lagrangian_product(self, x, lam, v):
        with _quiet():
            product = np.asarray(self._hessp(x.copy(), lam.copy(), v.copy(), *self.args))
        if product.size != self.n or product.dtype.kind not in "fiub":
            raise ValueError(f"hessp returned {product.dtype} of shape {product.shape}; ({self.n},) is needed")
        return np.array(product, dtype=float).reshape(self.n)


class Point:
    """A point x, and what is known of the scaled problem there; each is evaluated when first asked for.

    Attributes
    ----------
    x : array (n,)
    f : float
    c : array (m,)
    g : array (n,)
        Gradient of f.
    J : array (m, n), CSR matrix, or LinearOperator
        Jacobian of c.
    violation : float
        |c|_1
    """

    def __init__(self, problem, x):
        self.problem, self.x = problem, x
        self._gradient = None

    @functools.cached_property
    def f(self):
        value, self._gradient = self.problem.objective(self.x)
        return value * self.problem.f_scale

    @functools.cached_property
    def c(self):
        return self.problem.values(self.x) * self.problem.c_scale

    @functools.cached_property
    def g(self):
        if self.problem._jac is True:
            _ = self.f  # which leaves the gradient
        if self._gradient is not None:
            self.problem.njev += 1
            return self._gradient * self.problem.f_scale
        return self.problem.gradient(self.x) * self.problem.f_scale

    @functools.cached_property
    def J(self):
        return _row_scaled(self.problem.jacobian(self.x), self.problem.c_scale)

    @functools.cached_property
    def violation(self):
        with np.errstate(all="ignore"):
            return float(np.abs(self.c).sum())

    @property
    def finite(self):
        """Whether f and c are."""
        return bool(np.isfinite(self.f) and np.isfinite(self.c).all())

    @property
    def smooth(self):
        """Whether the derivatives are finite as well."""
        J = self.J
        entries = J.data if is_sparse(J) else J
        known = True if is_operator(J) else bool(np.isfinite(entries).all())
        return known and bool(np.isfinite(self.g).all())

    def hessian(self, lam):
        """The Hessian of the scaled Lagrangian f + lam'c here."""
        problem = self.problem
        parts = problem.hessian_parts(self.x, problem.multipliers_out(lam))
        return Hessian(problem.n, [(weight * problem.f_scale, part) for weight, part in parts])

    def constraint_hessian(self, lam):
        """The Hessian of lam'c, c scaled."""
        problem = self.problem
        return Hessian(problem.n, problem.hessian_parts(self.x, lam * problem.c_scale, objective=False))


class _Product:
    """Something with a matvec."""

    def __init__(self, matvec):
        self.matvec = matvec


class _quiet(np.errstate):
    """Overflow and the like in a user's function is no news to the solver, which looks at what comes out.

    A user who has asked NumPy to raise is obeyed.
    """

    def __init__(self):
        quiet: dict[str, Any] = {
            kind: "ignore" for kind, how in np.geterr().items() if how in ("warn", "print", "log")
        }
        super().__init__(**quiet)


def _named(value):
    return isinstance(value, str) and value in forms.DIFFERENCES


def _row_sizes(J):
    """The largest entry of each row, by size; 0 where that is not known."""
    if is_operator(J):
        return np.zeros(J.shape[0])
    if is_sparse(J):
        return abs(J).max(axis=1).toarray().reshape(-1) if J.shape[0] else np.zeros(0)
    return np.abs(J).max(axis=1, initial=0.0)


def _row_scaled(J, scale):
    if is_operator(J):
        from scipy.sparse.linalg import LinearOperator

        if (scale == 1).all():
            return J
        return LinearOperator(J.shape, matvec=lambda v: scale * J.matvec(v), rmatvec=lambda u: J.rmatvec(scale * u),
                              dtype=float)  # fmt: skip
    if is_sparse(J):
        scaled = J.copy()
        scaled.data = J.data * np.repeat(scale, np.diff(J.indptr))
        return scaled
    return J * scale[:, None]


def _stacked(parts, n):
    if not parts:
        return np.zeros((0, n))
    if any(map(is_operator, parts)):
        return _stacked_operator(parts, n)
    if any(map(is_sparse, parts)):
        import scipy.sparse as sp

        return sp.vstack([sp.csr_array(part) for part in parts], format="csr")
    return np.concatenate(parts)


def _stacked_operator(parts, n):
    from scipy.sparse.linalg import LinearOperator, aslinearoperator

    parts = [aslinearoperator(part) for part in parts]
    ends = np.cumsum([part.shape[0] for part in parts])

    def transposed(u):
        pieces = np.split(np.asarray(u).reshape(-1), ends[:-1])
        return sum((part.rmatvec(piece) for part, piece in zip(parts, pieces, strict=True)), start=np.zeros(n))

    return LinearOperator((int(ends[-1]), n), rmatvec=transposed, dtype=float,
                          matvec=lambda v: np.concatenate([part.matvec(v) for part in parts]))  # fmt: skip
