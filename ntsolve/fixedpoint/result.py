"""What `linprog` returns: SciPy's names, multipliers, errors and certificates."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..result import Result, Status, part

ADVICE = {
    Status.STALLED: (
        "No further progress: rounding, in float64 or in the dtype of the answer, stands in the way of the tolerance. "
        "Use float64, a better scaled problem, or a larger tolerance."
    ),
    Status.NAN_OR_INF: "NaN or infinity arose in the iteration: look at the size of the numbers in the problem.",
}
"""What is said of a status here, where it is not what is said of it elsewhere."""


@dataclass(frozen=True, eq=False)
class Marginals:
    """Of a group of constraints: how much is left, and what the objective changes by when the bound does, each 1."""

    residual: Any
    marginals: Any

    def __getitem__(self, name):
        return getattr(self, name)

    def part_of_batch(self, shape, number):
        """Of one of the programs."""
        return Marginals(part(self.residual, shape, number), part(self.marginals, shape, number))

    def __repr__(self):
        return f"<residual and marginals, {tuple(self.marginals.shape)}>"


@dataclass(frozen=True, eq=False, repr=False)
class LinprogResult(Result):
    """Result of `linprog`; `residual` is the largest of the relative primal, dual and duality-gap errors.

    Where all costs, or all sides and bounds, are below 1/2, errors are those of the program in which they are not.
    Sides count over the largest entry of their row, where that is beyond 1.

    In a batch every field but `message`, `elapsed` and `backend` has leading axes.

    Attributes
    ----------
    fun : float
        c'x.
    slack, con : array
        b_ub - A_ub x and b_eq - A_eq x.
    ineqlin, eqlin, lower, upper : Marginals
        `residual` and `marginals` of the rows of A_ub and A_eq and of the bounds, as in SciPy: marginals are the
        derivatives of the objective with respect to b_ub, b_eq and the bounds.
    rows : Marginals
        Of `constraints`: `residual` (..., rows, 2) is what is left to their lower and to their upper side.
    y : array (..., m)
        Multipliers of all rows, in the order A_ub, A_eq, `constraints`.
    dual_objective : float
        Of y and c - A'y. Where these are feasible it is a lower bound of the optimal value.
    gap : float
        The absolute value of ``fun - dual_objective``.
    primal_error, dual_error, gap_error : float
        The three relative errors that `residual` is the largest of.
    objective_error : float
        What gap and violations leave open of the objective, relative: see the documentation.
    violation : float
        The largest violation of a row, bound or reduced cost, over 1 + the size of its side, or in units in which
        entries are near 1 over the size of what is added up in it, whichever is more.
    ray : array or None
        Status PRIMAL_INFEASIBLE: multipliers (m,) that prove it (Farkas). DUAL_INFEASIBLE: a direction (n,) along which
        the objective falls without bound. In a batch, a list.
    tolerance : float
    """

    fun: Any
    slack: Any
    con: Any
    ineqlin: Any
    eqlin: Any
    lower: Any
    upper: Any
    rows: Any
    y: Any
    dual_objective: Any
    gap: Any
    primal_error: Any
    dual_error: Any
    gap_error: Any
    objective_error: Any
    violation: Any
    ray: Any
    tolerance: float

    def _advice(self, status):
        return ADVICE.get(status, status.advice)

    def verify(self, c, A_ub=None, b_ub=None, A_eq=None, b_eq=None, bounds=(0, None), *, constraints=None,
               comm=None) -> Any:  # fmt: skip
        """Recompute `residual` from a problem, given as to `linprog`; with `comm`, each process from its own rows.

        Returns
        -------
        float, or array (batch)
        """
        from ..kernels import cpu
        from ..parallel.comm import join
        from ..reductions import SERIAL
        from .arguments import take
        from .kkt import error_rows
        from .units import Units

        def rows(v):
            v = np.asarray(v.get() if hasattr(v, "get") else v, dtype=float)
            return np.ascontiguousarray(v).reshape(-1, v.shape[-1]) if v.shape[-1] else v.reshape(batch, 0)

        with join(comm).together() as ranks:
            program = take(c, A_ub, b_ub, A_eq, b_eq, bounds, constraints, None, None, True).program
            if ranks is not SERIAL:
                from .rowblocks import Measure

                units, batch = Units.of(program, ranks), 1
                x, y = rows(self.x)[0] * units.size, rows(self.y)[0] * units.cost
                return float(Measure(units.program(program), ranks).errors(x, y)[:3].max())
        batch, units = int(np.prod(program.shape)), Units.of(program)
        cost, size = units.flat()
        errors = error_rows(cpu, units.program(program), rows(self.x) * size, rows(self.y) * cost)
        kkt = errors[:, :3].max(axis=1).reshape(program.shape)
        return kkt[()]
