"""Equality constraints in the forms that SciPy knows, brought into one: c(x) = fun(x) - target."""

import numpy as np
from scipy.optimize import Bounds, HessianUpdateStrategy, LinearConstraint, NonlinearConstraint

from .. import validate
from ..matrices import to_csr
from .differences import jacobian
from .hessians import is_operator, is_sparse

DIFFERENCES = ("2-point", "3-point", "cs")


class Constraint:
    """One constraint object of the user's: fun(x) = target, with m entries once `begin` has seen them.

    Attributes
    ----------
    name : str
        What to call it in messages.
    m : int
    linear : bool
    missing : tuple of str
        Derivatives that differences have to stand in for, though nobody asked for that.
    nfev, njev, nhev : int
    """

    def __init__(self, name, function, target, jac, hess, *, linear=False, args=()):
        self.name, self.target, self.linear, self.args = name, target, linear, args
        self._function = validate.function(f"{name}.fun", function)
        if function is None:
            raise TypeError(f"{name} has no fun")
        if not (jac is None or callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES)):
            raise TypeError(f"{name}.jac must be callable or one of {', '.join(DIFFERENCES)}, not {jac!r}")
        if isinstance(hess, HessianUpdateStrategy) or (isinstance(hess, str) and hess in DIFFERENCES):
            hess = None
        self._jac, self._hess = jac, validate.function(f"{name}.hess", hess)
        self.m = self.nfev = self.njev = self.nhev = 0

    @property
    def missing(self):
        found = [] if callable(self._jac) or self._jac in ("3-point", "cs") else ["jac"]
        return tuple(found if self.has_hessian else [*found, "hess"])

    @property
    def has_hessian(self):
        return self.linear or self._hess is not None

    @property
    def exact_jacobian(self):
        return callable(self._jac) or self._jac == "cs"

    def begin(self, value):
        """Note the number of entries from a first value; the target must fit."""
        self.m = value.size
        try:
            self.target = np.broadcast_to(self.target, (self.m,))
        except ValueError:
            raise ValueError(f"{self.name}: fun has {self.m} entries, lb and ub {np.size(self.target)}") from None

    def raw(self, x):
        """fun(x), (m,) float64; complex for complex x."""
        self.nfev += 1
        value = np.asarray(self._function(x, *self.args))
        if value.dtype.kind not in ("fiub" if x.dtype.kind == "f" else "fiubc"):
            raise TypeError(f"{self.name}.fun returned {value.dtype} where real numbers are needed")
        if value.ndim > 1 and value.size != max(value.shape):
            raise ValueError(f"{self.name}.fun returned shape {value.shape}; (m,) is needed")
        value = np.array(value, dtype=complex if value.dtype.kind == "c" else float).reshape(-1)
        if self.m and value.size != self.m:
            raise ValueError(f"{self.name}.fun returned {value.size} entries, {self.m} before")
        return value

    def value(self, x):
        """c(x)"""
        return self.raw(x) - self.target

    def jacobian(self, x):
        """(m, n): array, CSR matrix, or LinearOperator."""
        self.njev += 1
        if not callable(self._jac):
            return jacobian(self.raw, x, self._jac)
        J = self._jac(x.copy(), *self.args)
        if is_operator(J):
            shape, wanted = tuple(J.shape), (self.m, x.size)
        else:
            J = J.tocsr() if is_sparse(J) else np.asarray(J)
            if J.dtype.kind not in "fiub":
                raise TypeError(f"{self.name}.jac returned {J.dtype} where real numbers are needed")
            J = J.astype(float)
            if J.ndim <= 1 and self.m == 1:
                J = J.reshape(1, -1)
            shape, wanted = tuple(J.shape), (self.m, x.size)
        if shape != wanted:
            raise ValueError(f"{self.name}.jac returned shape {shape}; {wanted} is needed")
        return J

    def hessian(self, x, v):
        """sum_i v_i times the Hessian of fun_i: array, sparse matrix, or something with a matvec."""
        self.nhev += 1
        return square(f"{self.name}.hess", self._hess(x.copy(), v.copy(), *self.args), x.size)


def square(name, H, n):
    """What a user's function returned for a Hessian, if it is one of order n."""
    if H is None:
        raise TypeError(f"{name} returned None")
    if not is_operator(H):
        if not is_sparse(H):
            H = np.asarray(H)
        if H.dtype.kind not in "fiub":
            raise TypeError(f"{name} returned {H.dtype} where real numbers are needed")
    shape = tuple(H.shape)
    if n == 1 and np.size(H) == 1 and not is_operator(H) and not is_sparse(H):
        return np.asarray(H, dtype=float).reshape(1, 1)
    if shape != (n, n):
        raise ValueError(f"{name} returned shape {shape}; {(n, n)} is needed")
    return H


def take(constraints, n):
    """The constraints as a list, whatever a user wrote; what is no equality is refused by name.

    Raises
    ------
    TypeError, ValueError
    """
    if constraints is None:
        return []
    single = isinstance(constraints, (dict, Bounds, LinearConstraint, NonlinearConstraint))
    if not single and not isinstance(constraints, (list, tuple)):
        kind = type(constraints).__name__
        raise TypeError(f"constraints must be SciPy's objects or dicts, one or a list, not {kind}")
    named = [("constraints", constraints)] if single else [(f"constraints[{i}]", c) for i, c in enumerate(constraints)]
    return [_one(name, constraint, n) for name, constraint in named if not vacuous(constraint)]


def vacuous(constraint):
    """Whether they are bounds, of x or of a function of it, none of which is finite."""
    if not isinstance(constraint, (Bounds, LinearConstraint, NonlinearConstraint)):
        return False
    return bool(np.all(np.asarray(constraint.lb) == -np.inf) and np.all(np.asarray(constraint.ub) == np.inf))


def _one(name, constraint, n):
    if isinstance(constraint, Bounds):
        raise ValueError(f"{name} is a Bounds: bounds are not taken, equality constraints only")
    if isinstance(constraint, dict):
        return _from_dict(name, constraint)
    if isinstance(constraint, NonlinearConstraint):
        return Constraint(name, constraint.fun, target_of(name, constraint).ravel(), constraint.jac, constraint.hess)
    if isinstance(constraint, LinearConstraint):
        A = constraint.A
        A = to_csr(f"{name}.A", A) if is_sparse(A) else np.atleast_2d(np.asarray(A, dtype=float))
        if A.ndim != 2 or A.shape[1] != n:
            raise ValueError(f"x0 has {n} entries, {name}.A has shape {tuple(A.shape)}")
        validate.numeric(f"{name}.A", A.data if is_sparse(A) else A)
        return Constraint(name, lambda x: A @ x, target_of(name, constraint).ravel(), lambda x: A, None,
                          linear=True)  # fmt: skip
    raise TypeError(f"{name} must be a NonlinearConstraint, a LinearConstraint or a dict, "
                    f"not {type(constraint).__name__}")  # fmt: skip


def parts_of_dict(name, constraint):
    """(fun, jac, hess, args) of a constraint as {"type": "eq", "fun": ...}."""
    unknown = set(constraint) - {"type", "fun", "jac", "hess", "args"}
    if unknown:
        raise ValueError(f"{name} has keys that are not known: {', '.join(sorted(map(str, unknown)))}")
    if constraint.get("type") != "eq":
        raise ValueError(f"{name} has type {constraint.get('type')!r}: inequalities are not taken, only 'eq'")
    args = constraint.get("args", ())
    args = args if isinstance(args, tuple) else (args,)
    return constraint.get("fun"), constraint.get("jac"), constraint.get("hess"), args


def _from_dict(name, constraint):
    fun, jac, hess, args = parts_of_dict(name, constraint)
    return Constraint(name, fun, 0.0, jac, hess, args=args)


def target_of(name, constraint):
    """lb of a constraint, on the host and at least 1-D, if it is also its ub."""
    sides = (b.get() if hasattr(b, "get") else b for b in (constraint.lb, constraint.ub))
    lb, ub = (np.atleast_1d(np.asarray(b, dtype=float)) for b in sides)
    try:
        lb, ub = np.broadcast_arrays(lb, ub)
    except ValueError:
        raise ValueError(f"{name}: lb has shape {lb.shape}, ub {ub.shape}") from None
    if not np.array_equal(lb, ub):
        raise ValueError(f"{name} is an inequality: lb and ub differ, and only equalities (lb == ub) are taken")
    if not np.isfinite(lb).all():
        raise ValueError(f"{name}: lb and ub must be finite")
    return lb
