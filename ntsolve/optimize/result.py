"""What `minimize` returns: SciPy's names, as of method "trust-constr", and the record of the iteration."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..result import Result, Status, part

TRACE = np.dtype(
    [
        ("relative_residual", "f8"),
        ("descent_margin", "f8"),
        ("eta1", "f8"),
        ("eta2", "f8"),
        ("shift", "f8"),
        ("dual_shift", "f8"),
        ("step", "f8"),
        ("accepted_by", "U12"),
    ]
)

ADVICE = {
    Status.NAN_OR_INF: (
        "One of your functions or derivatives gave NaN or infinity at x: start elsewhere, or check them there."
    ),
}
"""What is said of a status here, where it is not what is said of it elsewhere."""


class PerConstraint(list):
    """One value for each of the constraints passed in; a list that stays short when it is shown."""

    def part_of_batch(self, shape, number):
        """Of one of the problems."""
        return PerConstraint(part(values, shape, number) for values in self)

    def __repr__(self):
        shown = (f"<{type(v).__name__} {tuple(v.shape)}>" if getattr(v, "shape", ()) else repr(v) for v in self)
        return "[" + ", ".join(shown) + "]"


@dataclass(frozen=True, eq=False, repr=False)
class MinimizeResult(Result):
    """Result of `minimize`; `residual` is ``max(|grad L|, |c|)``, largest entries, with L = f + v'c.

    In a batch each field has a leading axis.

    Attributes
    ----------
    fun : float
        f(x).
    grad : array (n,)
        Gradient of f.
    lagrangian_grad : array (n,)
        Gradient of L with the multipliers `v`.
    optimality : float
        Its largest entry, by size.
    constr_violation : float
        The largest entry of c, by size.
    constr : list of array
        What each constraint's fun gave; of a `LinearConstraint`, A x.
    jac : list of array, CSR matrix or LinearOperator
        The Jacobian of each constraint.
    v : list of array
        The multipliers of each constraint.
    nfev, njev, nhev : int
        Evaluations of the objective, its gradient and the Hessian, or those that stood in for it.
    constr_nfev, constr_njev, constr_nhev : list of int
        And of each constraint.
    inner : str
        The solver of the Newton systems.
    products, factorizations, inner_iterations : int
        Of the Hessian with vectors; of Newton systems; of an iterative inner solver.
    rank_deficient : bool or None
        Whether the constraints' gradients are linearly dependent at x; None where that was not found out.
    trace : structured array, a row for each iteration
        The `relative_residual` of the Newton system, `descent_margin` (1 or more where the direction
        is one of sufficient descent for the merit function), its penalties `eta1` and `eta2`, the `shift` of the
        Hessian and the `dual_shift`, the `step` along the direction (0 where none was taken) and what it was
        `accepted_by`: "objective", "filter", "merit", "restoration", "curvature" or "".
    """

    fun: Any
    grad: Any
    lagrangian_grad: Any
    optimality: Any
    constr_violation: Any
    constr: Any
    jac: Any
    v: Any
    nfev: int
    njev: int
    nhev: int
    constr_nfev: Any
    constr_njev: Any
    constr_nhev: Any
    inner: str
    products: int
    factorizations: int
    inner_iterations: int
    rank_deficient: Any
    trace: Any

    def _advice(self, status):
        return ADVICE.get(status, status.advice)

    def _problem(self, number):
        one = super()._problem(number)
        trace = self.trace.reshape(len(self.trace), np.size(self.success))[: one.nit, number]
        return dataclasses.replace(one, trace=trace)

    def verify(self, fun, *, jac=None, constraints=(), args=()) -> float:
        """Recompute ``max(|grad L|, |c|)`` at `x` with the multipliers `v` from a problem.

        Parameters
        ----------
        fun, jac, constraints, args
            As of `minimize`.

        Returns
        -------
        float
        """
        from .functions import Problem

        if np.ndim(self.success):
            raise TypeError("verify is for single problems, not for a batch")
        problem = Problem(fun, np.asarray(self.x, dtype=float), jac=jac, constraints=constraints, args=args)
        v = np.concatenate([np.zeros(0), *self.v])
        if v.size != problem.m:
            raise ValueError(f"the result has {v.size} multipliers, constraints have {problem.m} entries")
        return problem.residual(problem.at(np.asarray(self.x, dtype=float)), v)
