"""The functions of many small problems of one structure: called together, checked, scaled, differenced.

All are vectorised: with x of shape (..., n), f (...,), its gradient (..., n), its Hessian (..., n, n), c (..., m), its
Jacobian (..., m, n) and the Hessian of v'c (..., n, n) for v (..., m). Parameters that differ from problem to problem
come in one of two ways.

- As `args`, of fun, jac and hess, and of constraints that are dicts: arrays with the leading axis of x0 are cut with
  it, and functions are called for those problems only that are not solved yet.
- From the functions themselves, which are then always called for all problems, in order; where a problem is solved, its
  row of x stands still.

Which of the two it is shows when the functions are called for some of the problems.
"""

import numpy as np
from scipy.optimize import HessianUpdateStrategy, LinearConstraint, NonlinearConstraint

from .. import validate
from ..kernels.contracts.kkt import MAX_ORDER
from .constraints import parts_of_dict, target_of
from .differences import FIRST
from .functions import LARGEST_GRADIENT
from .manykkt import transposed_product

CENTRAL = ("2-point", "3-point")  # what asks for differences, which are central ones


class Functions:
    """The user's functions on (batch, n), checked and scaled as in `functions.Problem`, each problem by itself.

    Attributes
    ----------
    shape : tuple
        The leading axes.
    batch, n, m : int
    f_scale : array (batch,)
    c_scale : array (batch, m)
    blocks : list of (name, fun, target, jac, hess, args)
    spans : list of (first, last)
        The entries of c that each constraint has.
    missing : list of str
        Derivatives that differences stand in for.
    divisible : bool
        Whether the functions can be called for some of the problems.
    nfev, njev, nhev : int
        Calls, for however many problems.
    """

    def __init__(self, k, fun, x0, jac, hess, constraints, args):
        xp = self.xp = k.xp
        self.shape, self.n = tuple(x0.shape[:-1]), x0.shape[-1]
        self.batch = int(np.prod(self.shape))
        self.args = args if isinstance(args, tuple) else (args,)
        if fun is None:
            raise TypeError("fun must be callable, not NoneType")
        self._fun, self._both = validate.function("fun", fun), jac is True
        for name, given in (("jac", jac), ("hess", hess)):
            if isinstance(given, str) and given not in CENTRAL:
                raise ValueError(f"{name} must be callable, '2-point' or '3-point' for a batch, not {given!r}")
        self._jac = None if isinstance(jac, (str, bool)) else validate.function("jac", jac)
        self._hess = None if isinstance(hess, (str, HessianUpdateStrategy)) else validate.function("hess", hess)
        self.blocks = _blocks(constraints, xp, self.n)
        self.missing = [] if self._jac or self._both else ["jac"]
        self.missing += [] if self._hess else ["hess"]
        for name, _, _, of_jac, of_hess, _ in self.blocks:
            self.missing += [f"{name}.jac"] * (not of_jac) + [f"{name}.hess"] * (not of_hess)
        self.nfev = self.njev = self.nhev = 0
        x, self.spans, self.m = self.flat(x0), [], 0
        for name, function, target, _, _, args in self.blocks:
            value = xp.asarray(function(self.restored(x).copy(), *args))
            wide = value.shape[-1] if value.ndim == len(self.shape) + 1 else 0
            self._check(f"{name}.fun", value, (wide,), self.shape)
            if target is not None and np.broadcast_shapes(target.shape, (*self.shape, wide)) != (*self.shape, wide):
                raise ValueError(f"{name}: lb and ub of shape {target.shape} do not fit a fun of {tuple(value.shape)}")
            self.spans.append((self.m, self.m + wide))
            self.m += wide
        if self.n + self.m > MAX_ORDER:
            raise ValueError(f"x0 and constraints have n + m = {self.n + self.m}; batches take {MAX_ORDER} at most")
        self.f_scale, self.c_scale = xp.ones(self.batch), xp.ones((self.batch, self.m))
        self._scale(x)
        self.divisible = self._can_be_divided(x) if k.NAME == "cpu" and len(self.shape) == 1 else False
        self.nfev = self.njev = self.nhev = 0

    def flat(self, x):
        """(..., n) as (batch, n) in float64."""
        return self.xp.asarray(x, dtype="float64").reshape(self.batch, self.n).copy()

    def restored(self, x):
        """And back."""
        return x.reshape(*self.shape, x.shape[-1])

    def multipliers_in(self, lam):
        """The user's multipliers in the scaled problems."""
        return lam * self.f_scale[:, None] / self.c_scale

    def multipliers_out(self, lam):
        """And back."""
        return lam * self.c_scale / self.f_scale[:, None]

    def targets(self, xp):
        """What each constraint's fun has to be, (batch, m)."""
        all_of = xp.zeros((self.batch, self.m))
        for (_, _, target, *_), (low, high) in zip(self.blocks, self.spans, strict=True):
            if target is not None:
                wide = xp.broadcast_to(xp.asarray(target), (*self.shape, high - low))
                all_of[:, low:high] = wide.reshape(self.batch, high - low)
        return all_of

    def _scale(self, x):
        xp = self.xp
        self._target = self.targets(xp)
        g, J = self.derivatives(x)
        with np.errstate(all="ignore"):
            steepest, rows = abs(g).max(axis=1), abs(J).max(axis=2)
            f_scale = xp.minimum(1.0, xp.maximum(LARGEST_GRADIENT / steepest, 1e-8))
            c_scale = xp.minimum(1.0, xp.maximum(LARGEST_GRADIENT / rows, 1e-8))
        self.f_scale = xp.where(xp.isfinite(f_scale), f_scale, 1.0)
        self.c_scale = xp.where(xp.isfinite(c_scale), c_scale, 1.0)

    # ---- scaled values --------------------------------------------------------------------------------------------

    # For the problems `rows` of the batch, of which x has the rows; or for all.

    def values(self, x, rows=None):
        """f (batch,), c (batch, m)"""
        rows = self._some(rows)
        f, c = self._plain(x, rows)
        f_scale, c_scale, target = (_cut(a, rows) for a in (self.f_scale, self.c_scale, self._target))
        with np.errstate(all="ignore"):
            return f * f_scale, (c - target) * c_scale

    def derivatives(self, x, rows=None):
        """The gradient of f (batch, n), the Jacobian of c (batch, m, n)."""
        self.njev += 1
        rows = self._some(rows)
        g, J = self._plain_derivatives(x, rows)
        f_scale, c_scale = _cut(self.f_scale, rows), _cut(self.c_scale, rows)
        with np.errstate(all="ignore"):
            return g * f_scale[:, None], J * c_scale[:, :, None]

    def hessian(self, x, lam, objective=1.0, rows=None):
        """Of objective * f + lam'c, (batch, n, n), symmetric; objective is a number or (batch,)."""
        self.nhev += 1
        rows = self._some(rows)
        xp, weights, weight = self.xp, lam * _cut(self.c_scale, rows), objective * _cut(self.f_scale, rows)
        total, known, leading = xp.zeros((x.shape[0], self.n, self.n)), [], self.shape if rows is None else (rows.size,)
        with np.errstate(all="ignore"):
            if self._hess:
                H = self._checked("hess", self._call(self._hess, x, rows), (self.n, self.n), rows, shared=True)
                total += weight[:, None, None] * H
            for block, (low, high) in zip(self.blocks, self.spans, strict=True):
                known.append(block[4] is not None)
                if block[4]:
                    v = weights[:, low:high].reshape(*leading, high - low)
                    H = self._call(block[4], x, rows, v, args=block[5])
                    total += self._checked(f"{block[0]}.hess", H, (self.n, self.n), rows, shared=True)
            if not (self._hess and all(known)):
                total += self._differences(lambda z: self._unknown(z, rows, weight, weights, known), x)
            return 0.5 * (total + total.transpose(0, 2, 1))

    def _unknown(self, x, rows, weight, weights, known):
        """The gradient of those parts of the Lagrangian that have no Hessian."""
        g, J = self._plain_derivatives(x, rows)
        total = self.xp.zeros_like(x) if self._hess else weight[:, None] * g
        for has_hessian, (low, high) in zip(known, self.spans, strict=True):
            if not has_hessian:
                total = total + transposed_product(J[:, low:high], weights[:, low:high])
        return total

    # ---- the user's functions -------------------------------------------------------------------------------------

    def _some(self, rows):
        """None where these are all rows, in order."""
        return None if rows is None or rows.size == self.batch else rows

    def _call(self, function, x, rows, *more, args=None):
        """With a copy of x, which is theirs to change."""
        args = self.args if args is None else args
        if rows is None:
            return function(self.restored(x).copy(), *more, *args)
        return function(x.copy(), *more, *(a[rows] if self._is_parameter(a) else a for a in args))

    def _is_parameter(self, value):
        return tuple(getattr(value, "shape", ())[:1]) == self.shape

    def _can_be_divided(self, x):
        """Whether the functions, called for half of the problems in reverse order, give what they give for all."""
        rows = np.arange(self.batch)[::-2]
        if rows.size == self.batch:
            return False
        lam = np.ones((self.batch, self.m))
        whole = (*self.values(x), *self.derivatives(x), self.hessian(x, lam))
        try:
            at = x[rows]
            part = *self.values(at, rows), *self.derivatives(at, rows), self.hessian(at, lam[rows], rows=rows)
        except Exception:  # of whatever kind: they want all the problems
            return False
        pairs = zip(part, whole, strict=True)
        return all(np.allclose(p, w[rows], rtol=1e-9, atol=1e-9, equal_nan=True) for p, w in pairs)

    def _plain(self, x, rows=None):
        self.nfev += 1
        with np.errstate(all="ignore"):
            f = self._call(self._fun, x, rows)
            f = self._checked("fun", f[0] if self._both else f, (), rows)
            c = self.xp.zeros((x.shape[0], self.m))
            for (name, function, _, _, _, args), (low, high) in zip(self.blocks, self.spans, strict=True):
                value = self._call(function, x, rows, args=args)
                c[:, low:high] = self._checked(f"{name}.fun", value, (high - low,), rows)
        return f, c

    def _plain_derivatives(self, x, rows=None):
        n = self.n
        J = self.xp.zeros((x.shape[0], self.m, n))
        with np.errstate(all="ignore"):
            if self._both:
                g = self._checked("fun", self._call(self._fun, x, rows)[1], (n,), rows, shared=True)
            elif self._jac:
                g = self._checked("jac", self._call(self._jac, x, rows), (n,), rows, shared=True)
            else:
                g = self._differences(lambda z: self._plain(z, rows)[0][:, None], x)[:, 0]
            for (name, function, _, of_jac, _, args), (low, high) in zip(self.blocks, self.spans, strict=True):
                if of_jac:
                    value = self._call(of_jac, x, rows, args=args)
                    J[:, low:high] = self._checked(f"{name}.jac", value, (high - low, n), rows, shared=True)
                else:
                    shape, name = (high - low,), f"{name}.fun"
                    one = lambda z, f=function, a=args, s=shape, name=name: self._checked(
                        name, self._call(f, z, rows, args=a), s, rows
                    )
                    J[:, low:high] = self._differences(one, x)
        return g, J

    def _differences(self, function, x):
        """Central differences of (batch, m) values: (batch, m, n)."""
        columns = []
        for j in range(self.n):
            above, below = x.copy(), x.copy()
            step = FIRST * self.xp.maximum(1.0, abs(x[:, j]))
            above[:, j] += step
            below[:, j] -= step
            apart = (above[:, j] - below[:, j])[:, None]
            columns.append((function(above) - function(below)) / apart)
        return self.xp.stack(columns, axis=-1)

    def _check(self, name, value, shape, leading):
        if tuple(value.shape) != (*leading, *shape) or value.dtype.kind not in "fiub":
            axes = ", ".join(map(str, (*leading, *shape)))
            raise ValueError(f"{name} returned {value.dtype} of shape {tuple(value.shape)}; ({axes}) is needed, since "
                             "functions are vectorised over the leading axes of x0")  # fmt: skip

    def _checked(self, name, value, shape, rows, *, shared=False):
        """(batch, *shape) in float64; a derivative that is the same for all problems need not be repeated."""
        leading = self.shape if rows is None else (rows.size,)
        value = self.xp.asarray(value)
        if shared and tuple(value.shape) == tuple(shape):
            value = self.xp.broadcast_to(value, (*leading, *shape))
        self._check(name, value, shape, leading)
        return value.astype("float64").reshape(self.batch if rows is None else rows.size, *shape)


def _cut(array, rows):
    return array if rows is None else array[rows]


def _blocks(constraints, xp, n):
    """[(name, fun, target, jac, hess, args)]"""
    if constraints is None:
        return []
    if not isinstance(constraints, (list, tuple)):
        return [_block("constraints", constraints, xp, n)]
    return [_block(f"constraints[{i}]", constraint, xp, n) for i, constraint in enumerate(constraints)]


def _block(name, constraint, xp, n):
    if isinstance(constraint, dict):
        fun, jac, hess, args = parts_of_dict(name, constraint)
        of_jac, of_hess = _optional(f"{name}.jac", jac), _optional(f"{name}.hess", hess)
        return name, _function(name, "fun", fun), None, of_jac, of_hess, args
    if isinstance(constraint, NonlinearConstraint):
        fun = _function(name, "fun", constraint.fun)
        of_jac, of_hess = _optional(f"{name}.jac", constraint.jac), _optional(f"{name}.hess", constraint.hess)
        return name, fun, target_of(name, constraint), of_jac, of_hess, ()
    if isinstance(constraint, LinearConstraint):
        A = constraint.A.toarray() if hasattr(constraint.A, "toarray") else np.atleast_2d(constraint.A)
        A = xp.asarray(validate.numeric(f"{name}.A", A))
        if A.shape[-1] != n:
            raise ValueError(f"x0 has {n} entries, {name}.A has shape {tuple(A.shape)}")
        zero = lambda x, v: xp.zeros((n, n))
        return name, lambda x: x @ A.T, target_of(name, constraint), lambda x: A, zero, ()
    raise TypeError(f"{name} must be a NonlinearConstraint, a LinearConstraint or a dict, "
                    f"not {type(constraint).__name__}")  # fmt: skip


def _function(name, what, value):
    if value is None:
        raise TypeError(f"{name} has no {what}")
    return validate.function(f"{name}.{what}", value)


def _optional(name, value):
    """A function, or None for what differences stand in for."""
    named = isinstance(value, str) and value in CENTRAL
    if not (callable(value) or value is None or named or isinstance(value, HessianUpdateStrategy)):
        raise TypeError(f"{name} must be callable, '2-point' or '3-point' for a batch, not {value!r}")
    return value if callable(value) else None
