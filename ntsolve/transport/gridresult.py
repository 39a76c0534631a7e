"""What a transport problem between images returns."""

from dataclasses import dataclass, field
from typing import Any

from ..result import Result
from . import gridbounds


@dataclass(frozen=True, eq=False, repr=False)
class OTGridResult(Result):
    """Result of `solve_ot_grid`; `residual` is the certified gap over the lower bound, or over floor / tol if more.

    Attributes
    ----------
    x : array (2, m, n)
        Potentials of the pixels of both images, whose sum is nowhere above the cost.
    lower_bound, upper_bound : float
        Of the transport cost: the value of the potentials, and the cost of a feasible plan.
    middle : array (m, n)
        Where mass is between its move along a column and that along a row: with it the plan is known.
    tolerance : float
        What the residual was compared with.
    restarts : int
    """

    tolerance: float
    lower_bound: float
    upper_bound: float
    restarts: int
    middle: Any
    _problem: Any = field(default=None)
    _middle: Any = field(default=None)
    _mass: float = 1.0

    @property
    def potentials(self):
        """(u, v): arrays (m, n) with u[i, j] + v[k, l] <= cost of moving (i, j) to (k, l); float32 is rounded down."""
        return self.x[0], self.x[1]

    @property
    def value(self):
        """The upper bound, which is the cost of the plan."""
        return self.upper_bound

    @property
    def gap(self):
        """upper_bound - lower_bound"""
        return self.upper_bound - self.lower_bound

    def sparse_plan(self) -> Any:
        """The plan as a CSR matrix (m n, m n) of SciPy, pixels numbered in C order, with fewer than 4 m n entries."""
        from scipy.sparse import coo_array

        start, to, mass = gridbounds.glued(self._problem, self._middle)
        size = self._problem.a.size
        return coo_array((mass * self._mass, (start, to)), shape=(size, size)).tocsr()
