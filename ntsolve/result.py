"""What a solve returns: a status that carries its own advice, and frozen results."""

import enum
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np


class Status(enum.IntEnum):
    """How a solve ended: positive when the answer stands, negative when not. `advice` says what to do about it."""

    advice: str

    def __new__(cls, value, advice=""):
        member = int.__new__(cls, value)
        member._value_ = value
        member.advice = advice  # a look-up by value does not come here
        return member

    def __str__(self):
        return self.name

    def __format__(self, spec):
        return format(int(self), spec) if spec else self.name

    CONVERGED = 1, "Converged: the residual, recomputed from the problem, meets the tolerance."
    CALLBACK_STOP = 2, "Stopped by the callback; the residual says how good the answer is."
    MAXITER = -1, (
        "Stopped at maxiter before the tolerance was met: raise maxiter, or help the iteration "
        "(a better start or preconditioner, or a better scaled problem)."
    )
    TIME_LIMIT = -2, "Stopped at the time limit before the tolerance was met: this is the iterate reached by then."
    INTERRUPTED = -3, "Interrupted from the keyboard: this is the iterate reached by then."
    STALLED = -4, (
        "No further progress: the residual reached what rounding in this dtype allows, above the tolerance. "
        "Use float64, a better scaled problem, or a larger tolerance."
    )
    NAN_OR_INF = -5, (
        "NaN or infinity arose in the iteration: look at the operator, the preconditioner and the scaling. "
        "A may be singular or not symmetric."
    )
    INDEFINITE_OPERATOR = -6, (
        "A is not positive definite, or it is singular and b is no A x (p.Ap <= 0 for some p): "
        "solve with -A if that is positive definite, or use a solver for indefinite systems."
    )
    INDEFINITE_PRECONDITIONER = -7, "M is not positive definite (r.Mr <= 0 for some r): use another preconditioner."
    BREAKDOWN = -8, "The residual grew without bound: A is singular, not symmetric, or not positive definite."
    PRIMAL_INFEASIBLE = -9, "The problem has no feasible point; the result holds a certificate."
    DUAL_INFEASIBLE = -10, "The objective is unbounded on the feasible set; the result holds a certificate."
    RANK_DEFICIENT = -11, (
        "No progress where the constraints' gradients are linearly dependent: they may contradict each other, "
        "or one may be superfluous; start elsewhere."
    )
    INFEASIBLE_STATIONARY = -12, (
        "The violation of the constraints is least here among nearby points, and not zero: "
        "check that the constraints can all be met, or start elsewhere."
    )
    UNBOUNDED = -13, "The objective falls without bound on points that meet the constraints: one may be missing."
    NOT_A_MINIMUM = -14, (
        "The first-order conditions hold, but the Hessian of the Lagrangian bends down along the constraints, "
        "and no lower point was found: start elsewhere."
    )
    NO_DESCENT = -15, (
        "No step is an improvement, though the residual is above the tolerance: check the derivatives against "
        "differences; or the functions have a kink here."
    )
    RAISED = -16, "The solve raised an exception, which is kept in `errors`."


_COMPUTED = (property, functools.cached_property)


class Fields:
    """A dataclass whose fields, and what it computes when asked for, are attributes, or items by name."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __getitem__(self, name) -> Any:
        if name not in self.keys() and not isinstance(getattr(type(self), str(name), None), _COMPUTED):
            raise KeyError(name)
        return getattr(self, name)

    def keys(self) -> list[str]:
        """Names of the fields."""
        return [entry.name for entry in fields(self) if not entry.name.startswith("_")]

    def __contains__(self, name) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __repr__(self):
        lines = []
        for name in self.keys():
            value = getattr(self, name)
            if getattr(value, "ndim", 0) and value.size > 4:
                value = f"<{type(value).__module__.partition('.')[0]} array {tuple(value.shape)} {value.dtype}>"
            elif isinstance(value, Status):
                value = value.name
            lines.append(f"{name:>14}: {value}")
        return f"{type(self).__name__}\n" + "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class Result(Fields):
    """What every solver returns. Fields, and what is computed when asked for, are attributes, or items by name.

    Of a batch, ``result[i]`` is what problem number i would have got by itself, in the order of the leading axes as in
    memory; ``result[i, j]`` the same by its place along these axes; ``result[i:j]`` a tuple of some. What all problems
    share, such as `elapsed` and counts of calls, is that of the batch. To go through all: ``result[:]``.

    Attributes
    ----------
    x : array
        The answer, of the kind, device and dtype of the input.
    success : bool, or bool array (batch)
        Whether the residual, recomputed from the problem as it was passed in, meets the tolerance.
    status : Status, or int array of Status values (batch)
    message : str
        What the status means and what to do about it.
    nit : int, or int array (batch)
        Iterations.
    residual : float, or float array (batch)
        The optimality measure, recomputed at `x`.
    history : array (nit + 1, ...)
        The measure as the iteration saw it, from the start; further axes are the batch. A batch of small dense systems
        that one kernel solves has two rows, the start and the end.
    elapsed : float
        Seconds.
    backend : str
        "cpu" or "cuda".
    """

    x: Any
    success: Any
    status: Any
    message: str
    nit: Any
    residual: Any
    history: np.ndarray
    elapsed: float
    backend: str

    def __getitem__(self, name) -> Any:
        if isinstance(name, (int, np.integer, slice, tuple)):
            return self._problems(name)
        return super().__getitem__(name)

    def _problems(self, which):
        """Result number `which` of a batch, or some of them."""
        shape, size = np.shape(self.success), np.size(self.success)
        if not shape:
            raise TypeError(f"{type(self).__name__} of one problem: items are fields, by name; there is no {which!r}")
        if isinstance(which, slice):
            return tuple(self._problem(number) for number in range(size)[which])
        if isinstance(which, tuple):
            return self._problem(int(np.arange(size).reshape(shape)[which]))
        if not -size <= which < size:
            raise IndexError(f"there are {size} problems, and no number {which}")
        return self._problem(int(which) % size)

    def _problem(self, number):
        """The result of one problem of a batch."""
        shape = np.shape(self.success)
        values = {entry.name: part(getattr(self, entry.name), shape, number) for entry in fields(self)}
        values["status"] = Status(values["status"])
        values["message"] = self._advice(values["status"])
        values["history"] = self.history.reshape(len(self.history), -1)[: values["nit"] + 1, number]
        return type(self)(**values)

    def _advice(self, status):
        return status.advice


def part(values, shape, number):
    """What belongs to problem `number` of a batch of this shape: of an array with its axes in front, of a list with a
    value for each problem, or of what knows better. Anything else is for all of them.
    """
    if hasattr(values, "part_of_batch"):
        return values.part_of_batch(shape, number)
    if isinstance(values, list):
        return values[number]
    axes = len(shape)
    if tuple(getattr(values, "shape", ())[:axes]) != shape:
        return values
    if len(values.shape) == axes:
        return values.reshape(-1)[number].item()
    return values.reshape(math.prod(shape), *values.shape[axes:])[number]


@dataclass(frozen=True, eq=False, repr=False)
class LinearResult(Result):
    """Result of a linear solve A x = b; `residual` is ||b - A x||_2.

    Attributes
    ----------
    tolerance : float, or float array (batch)
        What the residual was compared with: max(rtol ||b||, atol).
    """

    tolerance: Any

    def verify(self, A, b) -> Any:
        """Recompute ||b - A x||_2 from a problem (A, b).

        Parameters
        ----------
        A : array (..., n, n), sparse matrix, or object with `@` or a matvec
        b : array (..., n)

        Returns
        -------
        float, or array (batch)
        """
        from .operators import residual_norm

        return residual_norm(A, b, self.x)


@dataclass(frozen=True, eq=False, repr=False)
class IHVPResult(LinearResult):
    """Result of a solve (H + damp I) x = v; `residual` is ||v - (H + damp I) x||_2.

    Attributes
    ----------
    products : int
        Products with H of one vector, all of them: of a sketch, of the iterations, and of verified residuals.
    """

    products: int

    def verify(self, A, b, *, damp=0.0) -> Any:
        """Recompute ||b - (A + damp I) x||_2.

        Parameters
        ----------
        A : array (d, d), sparse matrix, or object with `@` or a matvec, or callable
        b : array (..., d)
        damp : float

        Returns
        -------
        float, or array (batch)
        """
        return super().verify(A, b - damp * self.x)


@dataclass(frozen=True, eq=False, repr=False)
class InfluenceResult(Result):
    """Influence of training points: `x` (..., m) are the scores; `residual` is that of the solve behind them.

    Attributes
    ----------
    tolerance : float, or float array
        What the residual was compared with: max(rtol ||g_test||, atol).
    products : int
        With the Hessian, in all.
    s_test : array (..., d)
        The inverse Hessian times the test gradients.
    """

    tolerance: Any
    products: int
    s_test: Any


@dataclass(frozen=True, eq=False, repr=False)
class FixedPointResult(Result):
    """Result of a fixed point iteration; `residual` is ||x - T(x)||_2, or that of the inclusion that was solved.

    `x` has the structure of x0: an array, or a tuple or dict of arrays.

    Attributes
    ----------
    tolerance : float
        What the residual was compared with.
    nfev : int
        Evaluations of the map; of a finite sum, of components.
    restarts : int
        How often the iteration was started anew, from where it was.
    bound : float or None
        What the theory promised of the residual beforehand, from the distance to a solution that was passed in.
    error_bound : float or None
        The distance of `x` to the solution is at most this, by the contraction factor that was passed in.
    """

    tolerance: Any
    nfev: int
    restarts: int
    bound: Any = None
    error_bound: Any = None
