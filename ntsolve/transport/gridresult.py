"""What a transport problem between images returns."""

from dataclasses import dataclass, field
from typing import Any

from .. import validate
from ..dispatch import kernels_for
from ..result import Result
from . import gridbounds

LARGEST_PLAN = 2**28  # entries


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
    def value_linear(self):
        """The same: nothing is regularised."""
        return self.upper_bound

    @property
    def gap(self):
        """upper_bound - lower_bound"""
        return self.upper_bound - self.lower_bound

    def sparse_plan(self, threshold=0.0) -> Any:
        """The plan as a CSR matrix (m n, m n) of SciPy, pixels numbered in C order, with fewer than 4 m n entries.

        Parameters
        ----------
        threshold : float
            Entries up to it are left out, in units of mass. With the default, none.
        """
        from scipy.sparse import coo_array

        threshold = validate.nonnegative("threshold", threshold)
        start, to, mass = gridbounds.glued(self._problem, self._middle)
        mass, size = mass * self._mass, self._problem.a.size
        kept = mass > threshold
        return coo_array((mass[kept], (start[kept], to[kept])), shape=(size, size)).tocsr()

    @property
    def plan(self) -> Any:
        """`sparse_plan` as an array (m n, m n) of the kind and dtype of the images, for small ones.

        Raises
        ------
        ValueError
            The array would have more than 2**28 entries, those of images of 128 x 128.
        """
        size = self._problem.a.size
        if size * size > LARGEST_PLAN:
            raise ValueError(f"plan: {size} x {size} entries; sparse_plan() has them without the zeros")
        x, own = validate.own_kind("x", self.x)
        with kernels_for(x=x) as k:
            return own(k.xp.asarray(self.sparse_plan().toarray().astype(x.dtype)))

    @property
    def marginal_error(self) -> float:
        """L1 error of the sums of the plan, which is rounding."""
        plan, a, b = self.sparse_plan(), self._problem.a.ravel() * self._mass, self._problem.b.ravel() * self._mass
        return float(abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - b).sum())
