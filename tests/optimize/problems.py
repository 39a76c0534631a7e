"""Classical test problems, min f(x) subject to c(x) = 0, with derivatives and known solutions.

Each is written once, from its published formulas, as a function of the components of x that returns f and the list of
the c_i; f is 0.0 for a system of equations. First and second derivatives come from `jet`. The function also takes the
symbols of a modelling tool, so that other solvers can be given the same problem.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import NonlinearConstraint

from .jet import Jet, variables

FAMILIES = ("hock_schittkowski", "boggs_tolle", "schittkowski", "structured", "systems")
PROBLEMS: dict[str, "Problem"] = {}


@dataclass
class Problem:
    """One problem.

    Attributes
    ----------
    name : str
    formulas : callable
        Sequence of n numbers, jets or symbols -> (f, [c_1, ..., c_m]).
    x0 : array (n,)
        Where the collections start.
    f_star : float
        The published least value, to the digits published.
    x_star : array (n,)
        Where it is taken: exact if `exact`, else to a few digits.
    exact : bool
    degenerate : bool
        The Jacobian or the reduced Hessian is singular at the solution, so that Newton's method is not quadratic there.
    also : tuple of floats
        Values of other minima that are known, where a solver may rightly end.
    """

    name: str
    formulas: Callable
    x0: np.ndarray
    f_star: float
    x_star: np.ndarray
    exact: bool = False
    degenerate: bool = False
    also: tuple[float, ...] = ()
    _seen: tuple[bytes, Any, Any] = field(default=(b"", None, None), repr=False)

    @property
    def n(self):
        return self.x0.size

    @property
    def m(self):
        return len(self._at(self.x0)[1])

    def _at(self, x):
        """(f, [c_i]) as jets, remembered for the last x."""
        x = np.asarray(x)
        x = np.array(x, dtype=complex if x.dtype.kind == "c" else float)
        if x.tobytes() != self._seen[0]:
            with np.errstate(all="ignore"):
                f, c = self.formulas(variables(x))
            zero = Jet(x.dtype.type(0), np.zeros(x.size, x.dtype), np.zeros((x.size, x.size), x.dtype))
            self._seen = (x.tobytes(), zero + f, [zero + ci for ci in c])
        return self._seen[1:]

    def fun(self, x):
        """f(x)"""
        return self._at(x)[0].value

    def grad(self, x):
        """Its gradient, (n,)."""
        return self._at(x)[0].gradient.copy()

    def hess(self, x):
        """Its Hessian, (n, n)."""
        return self._at(x)[0].hessian.copy()

    def constraint(self, x):
        """c(x), (m,)"""
        return np.array([ci.value for ci in self._at(x)[1]])

    def jac(self, x):
        """Its Jacobian, (m, n)."""
        return np.array([ci.gradient for ci in self._at(x)[1]])

    def constraint_hess(self, x, v):
        """The Hessian of v'c, (n, n)."""
        return sum(vi * ci.hessian for vi, ci in zip(v, self._at(x)[1], strict=True))

    def multipliers(self, x):
        """The least-squares multipliers at x, (m,)."""
        return np.linalg.lstsq(self.jac(x).T, -self.grad(x), rcond=1e-10)[0]

    def residual(self, x, v=None):
        """The KKT residual at x in the largest norm, with least-squares multipliers unless others are given."""
        v = self.multipliers(x) if v is None else v
        return max(abs(self.grad(x) + self.jac(x).T @ v).max(), abs(self.constraint(x)).max())

    def arguments(self):
        """What `minimize` and SciPy's namesake take, by name."""
        equality = NonlinearConstraint(self.constraint, 0.0, 0.0, jac=self.jac, hess=self.constraint_hess)
        return {"fun": self.fun, "x0": self.x0.copy(), "jac": self.grad, "hess": self.hess, "constraints": [equality]}


def problem(*, x0, f, x=None, near=None, degenerate=False, also=()):
    """Register the decorated function: published start x0 and least value f, taken at x exactly or nearly at `near`."""

    def register(formulas):
        start, solution = np.array(x0, float), np.array(near if x is None else x, float)
        name = formulas.__name__
        assert name not in PROBLEMS, name
        assert start.shape == solution.shape, name
        PROBLEMS[name] = Problem(name, formulas, start, float(f), solution, x is not None, degenerate, tuple(also))
        return formulas

    return register


def load_all():
    """Every problem, by name."""
    for family in FAMILIES:
        importlib.import_module(f"{__package__}.{family}")
    return PROBLEMS
