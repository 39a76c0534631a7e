"""What a transport solve returns."""

import functools
from dataclasses import dataclass, field
from typing import Any

from .. import validate
from ..dispatch import kernels_for
from ..result import Result
from .gradient import OF, gradient
from .solution import Solution


@dataclass(frozen=True, eq=False, repr=False)
class OTResult(Result):
    """Result of an entropic transport problem; P_ij = exp((f_i + g_j - C_ij) / reg).

    Plan, values, bounds and gradients are computed when they are first asked for, from the potentials and the cost: the
    result keeps a reference to the cost matrix (or the points) that was passed in, which must not be changed meanwhile.

    Attributes
    ----------
    x : array (n + m,)
        The potentials f and g, one after the other, of the dtype that was passed in.
    residual : float
        L1 error of the marginals, ``|P 1 - a|_1 + |P'1 - b|_1``, recomputed from the cost by a pass of its own. For
        float32, with what rounding the plan to it adds.
    nit : int
        Scaling and Newton steps.
    tolerance : float
        What the residual was compared with.
    reg : float
    passes, scaling_steps, newton_steps, cg_steps : int
        Passes over the cost; evaluations on the stored kernel; Newton steps; conjugate gradient steps.
    """

    tolerance: Any
    reg: float
    passes: Any
    scaling_steps: Any
    newton_steps: Any
    cg_steps: Any
    _solution: Solution = field(default=None)  # type: ignore[assignment]

    def __repr__(self):
        asked = "value, value_linear, plan, potentials, lower_bound, upper_bound, gap"
        return f"{super().__repr__()}\n{'on demand':>14}: {asked}"

    def _with_device(self, function, *args):
        with kernels_for(f=self._solution.f):
            return function(*args)

    @property
    def marginal_error(self):
        """The residual: L1 error of the marginals."""
        return self.residual

    @property
    def potentials(self):
        """(f, g): arrays (n,) and (m,), -inf where a or b is 0. Where all is met, a.f = b.g fixes their constant."""
        solution = self._solution
        return tuple(self._with_device(solution.restore, each) for each in solution.potentials)

    @functools.cached_property
    def plan(self):
        """P, an array (n, m) of the kind and dtype of the cost; computed when it is first asked for."""
        return self._with_device(lambda: self._solution.restore(self._solution.plan()))

    def sparse_plan(self, threshold=1e-12) -> Any:
        """The entries of the plan above a threshold, as a CSR matrix of SciPy (of CuPy, on the GPU).

        Parameters
        ----------
        threshold : float
            In units of mass. What is left out has at most ``threshold * n * m`` of it.
        """
        return self._with_device(self._solution.sparse_plan, validate.nonnegative("threshold", threshold))

    @property
    def value(self):
        """<P, C> + reg sum P (log P - 1), and the penalties of an unbalanced problem."""
        return self._with_device(lambda: self._solution.value)

    @property
    def value_linear(self):
        """<P, C>"""
        return self._with_device(lambda: self._solution.value_linear)

    @property
    def lower_bound(self):
        """A lower bound of the unregularised transport cost: the value of a feasible dual point."""
        return self._bounds()[0]

    @property
    def upper_bound(self):
        """An upper bound of it: the cost of a feasible plan. Infinite if that would need forbidden pairs."""
        return self._bounds()[1]

    @property
    def gap(self):
        """Regularised value of the plan, rounded to be feasible, minus that of the dual."""
        self._only_balanced("gap")
        return self._with_device(lambda: self._solution.gap)

    def _bounds(self):
        self._only_balanced("a bound")
        return self._with_device(lambda: self._solution.bounds)

    def _only_balanced(self, what):
        if not self._solution.balanced:
            raise ValueError(f"{what} is of a plan with given marginals; this one may miss them (tau_a, tau_b)")

    def gradient(self, wrt, *, of="value") -> Any:
        """Gradient of the value, or of its linear part, with respect to an argument of the problem.

        Parameters
        ----------
        wrt : {"C", "a", "b", "X", "Y"}
            "X" and "Y" are for `solve_ot_sample`.
        of : {"value", "value_linear"}
            What is differentiated. The second by the implicit function theorem, with one linear solve that all `wrt`
            share.

        Returns
        -------
        array
            Of the shape of the argument. Those for a and b are meant for changes that keep the sums equal: a constant
            may go from one to the other. An entry for a weight of 0 is -inf, or NaN for "value_linear".
        """
        wrt = validate.choice("wrt", wrt, ("C", "a", "b", "X", "Y"))
        of = validate.choice("of", of, OF)
        return self._with_device(lambda: self._solution.restore(gradient(self._solution, wrt, of)))

    def verify(self, C, a=None, b=None) -> Any:
        """Recompute ``|P 1 - a|_1 + |P'1 - b|_1`` from the potentials and a problem, summing up the plan itself.

        Parameters
        ----------
        C : array (n, m)
        a, b : arrays (n,) and (m,), optional
            Default: uniform, of the mass of the other, or 1.

        Returns
        -------
        float
        """
        C, a, b = (
            None if each is None else validate.own_kind(name, each)[0]
            for name, each in zip("Cab", (C, a, b), strict=True)
        )
        with kernels_for(C=C, a=a, b=b, f=self._solution.f) as k:
            return self._solution.marginal_error(k, C, a, b)
