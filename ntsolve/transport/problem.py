"""The door of the transport solvers: what a user passes, checked and put into the form that the loops work on.

Inside, both weights have mass one and no zeros: rows and columns without mass are left out, and come back in the
result. Sums that differ by rounding only are made equal; where they differ by more there is no plan, and that is an
error.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..reductions import SERIAL
from . import shared

SAME_SUM = {"float32": 2e-6, "float64": 5e-7}  # relative: what rounding to float32 explains, now or before
TOL = {"float32": 1e-6, "float64": 1e-9}  # relative to the mass: where no tolerance is asked for
NO_MASS = 1e-100  # relative to the largest weight: less than that is none, for scalings that must not underflow


@dataclass(frozen=True, eq=False)
class Problem:
    """One transport problem; arrays are of the backend. `rows` and `columns` are None where all have mass."""

    cost: Any  # MatrixCost, PointCost or FunctionCost, without the rows and columns that have no mass
    a: Any  # (n,) float64, positive; of sum 1 where both marginals are to be met
    b: Any  # (m,)
    mass: float  # a and b in the user's units are mass * a and mass * b
    shape: tuple[int, int]  # with the rows and columns that have no mass
    rows: Any
    columns: Any
    tau: tuple[float, float]  # price of missing a marginal; infinite where it has to be met
    mismatch: float  # of the sums of a and b as they were passed in
    tol: float  # what the marginal error may be, in the user's units

    @property
    def weights(self):
        """(a, b) in the user's units."""
        return self.mass * self.a, self.mass * self.b

    @property
    def balanced(self):
        """Whether both marginals have to be met."""
        return min(self.tau) == np.inf


def real(name, array):
    """Real float32 or float64 numbers, finite or not."""
    array = validate.numeric(name, array, check=False)
    if array.dtype.kind == "c":
        raise TypeError(f"{name} has dtype {array.dtype}; real numbers are needed")
    return array


def cost_matrix(k, name, C):
    """A cost (n, m) as a C-contiguous float array."""
    if C is None:
        raise TypeError(f"{name} is None where an array is needed")
    if C.ndim != 2 or 0 in C.shape:
        raise ValueError(f"{name} has shape {tuple(C.shape)}; a matrix (n, m) of costs is needed")
    return k.xp.ascontiguousarray(real(name, C))


def relaxation(name, value):
    """The price of missing a marginal; None is infinite: it has to be met."""
    return np.inf if value is None else validate.positive(name, value, finite=False)


def equal_weights(k, a, b, shape, *, balanced=True, names=("a", "b"), sides=("C", "C"), check=True, ranks=SERIAL,
                  or_else=", or let the plan miss them at a price: tau_a, tau_b"):  # fmt: skip
    """(a, b, sum of a, sum of b) in float64, of equal sums where `balanced`; None is uniform.

    `ranks` have the other weights of a; sums are over all of theirs.
    `or_else` is what the solver offers where the sums differ, besides scaling.
    """
    (a, sum_a, rounding_a), (b, sum_b, rounding_b) = (
        _weights(k, name, values, count, side, check, among)
        for name, values, count, side, among in zip(names, (a, b), shape, sides, (ranks, SERIAL), strict=True)
    )
    if a is None:
        sum_a = 1.0 if b is None else sum_b
        a = k.xp.full(shape[0], sum_a / shared.total(ranks, shape[0]))
    if b is None:
        sum_b = sum_a
        b = k.xp.full(shape[1], sum_b / shape[1])
    if balanced and sum_a != sum_b:
        if abs(sum_a - sum_b) > max(rounding_a, rounding_b) * max(sum_a, sum_b):
            raise ValueError(
                f"{names[0]} sums to {sum_a!r}, {names[1]} to {sum_b!r}: a plan needs equal sums. Scale one of them"
                + or_else
            )
        b = b * (sum_a / sum_b)
    return a, b, sum_a, sum_b


def pose(k, cost, a, b, *, tol=None, tau=(np.inf, np.inf), names=("C", "a", "b"), sides=("C", "C"), check=True):
    """The problem of that cost with those weights: arrays of the backend, or None for uniform ones.

    `names` are those of the arguments, and `sides` of what has the rows and the columns.
    `check=False` leaves out the search for NaN and infinity in the weights; signs and sums are always looked at.
    """
    kinds = {np.dtype(each.dtype).name for each in (cost, a, b) if hasattr(each, "dtype")}
    shape, balanced, ranks = cost.shape, min(tau) == np.inf, cost.ranks
    said = {"names": names[1:], "sides": sides, "check": check}
    a, b, sum_a, sum_b = equal_weights(k, a, b, shape, balanced=balanced, **said, ranks=ranks)
    rows, columns = (_with_mass(k, each, among) for each, among in ((a, ranks), (b, SERIAL)))
    a, b = (each if kept is None else each[kept] for each, kept in ((a, rows), (b, columns)))
    mass, mismatch = (sum_a, abs(sum_a - sum_b)) if balanced else (1.0, 0.0)
    if balanced:
        a, b = a / shared.total(ranks, float(a.sum())), b / float(b.sum())
    cost = cost.part(rows, columns)
    cost.look(names[0])
    if tol is None:
        tol = TOL["float32" if ranks.any("float32" in kinds) else "float64"] * max(sum_a, sum_b) + mismatch
    return Problem(cost, a, b, mass, shape, rows, columns, tau, mismatch, tol)


def _weights(k, name, values, count, side, check, ranks):
    """(weights in float64, their sum, relative rounding of that); the sum of uniform ones is None."""
    given = not (values is None or values.size == 0)
    if not ranks.any(given):
        return None, 0.0, 0.0
    if not given:
        if count:
            raise ValueError(f"{name} is given on other ranks, and not here")
        values = k.xp.empty(0)
    if values.shape != (count,):
        raise ValueError(f"{name} has shape {tuple(values.shape)}; {side} needs {count} weights there")
    values = real(name, values)
    rounding = SAME_SUM[values.dtype.name]
    values = k.xp.ascontiguousarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        least = float(values.min()) if count else 0.0
        total = shared.total(ranks, float(values.sum()))
        rounding = float(ranks.largest(rounding))
    if check and not np.isfinite(total):
        raise ValueError(f"{name} contains NaN or infinity, or its sum overflows")
    if least < 0:
        raise ValueError(f"{name} has a negative weight: {least}")
    if total == 0:
        raise ValueError(f"{name} sums to 0: there is nothing to transport")
    return values, total, rounding


def _with_mass(k, weights, ranks):
    """Indices of the weights that count; None where all do."""
    most = float(ranks.largest(float(weights.max()) if weights.size else 0.0))
    counts = weights > NO_MASS * most
    return None if bool(counts.all()) else k.xp.flatnonzero(counts)
