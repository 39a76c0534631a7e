"""What a solver says about itself, so that the promises can be put to it.

To put a solver under the contract, add a module beside this one that describes it as a `Solver`, and its name to
`MODULES` below.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from tests.backends import BACKENDS, to_device, to_host

MODULES = ("cg", "ihvp", "transport", "minimize", "linprog", "halpern")


@dataclass(frozen=True)
class Problem:
    """Arguments of one call: `make(dtype)` gives the positional ones by name, in order, on the host."""

    name: str
    make: Callable[[str], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float64", "float32")
    on_device: bool = False  # also to be run on a GPU, which may be an emulated one: keep it tiny


@dataclass(frozen=True)
class Solver:
    """A public solver, and what the promises need to know of it."""

    name: str  # in ntsolve
    call: Callable
    problems: tuple[Problem, ...]
    """Each has one answer, found to `accuracy` in more than one iteration."""
    large: Problem
    """Of order 2000, with a sparse matrix if the solver takes any: bad input is refused within 50 ms."""
    endless: tuple[Problem, ...]
    """Take longer than a test waits; one for each loop that the solver has. Float64 only."""
    slow: Callable[[float], Problem]
    """slow(seconds): every iteration sleeps that long, and there are more than a second's worth of them."""
    threaded: Problem
    """Large enough for the kernels to use two threads, with few iterations, and an answer of any quality."""
    scalings: dict[str, int]
    """Argument: p, where the answer goes as the p-th power of a factor on that argument."""
    starts: tuple[str, ...]
    """Arguments that scale as the answer does."""
    tolerances: tuple[str, ...]
    """Options that must be finite and not negative."""
    accuracy: dict[str, float]
    """Relative, of the answers to `problems`, by dtype."""
    answer: Callable[[Any], Any] = lambda result: result.x
    follow: dict[str, str] = field(default_factory=dict)
    """Option: the argument in whose units it is."""
    infinite: tuple[str, ...] = ()
    """Arguments in which +inf has a meaning."""
    empty: tuple[str, ...] = ()
    """Arguments that may be empty: it means what leaving them out does."""
    keeps_problem: bool = False
    """Results refer to the arrays passed in, and compute from them what is asked for later."""

    def solve(self, problem, dtype="float64", *, backend="cpu", arguments=None, **options):
        """The result on a problem, or on `arguments` put in place of its own."""
        arguments = problem.make(dtype) if arguments is None else arguments
        values = [to_device(value, backend) for value in arguments.values()]
        return self.call(*values, **problem.options | options)


@dataclass(frozen=True)
class Case:
    """One problem of one solver on one backend."""

    solver: Solver
    problem: Problem
    backend: str

    def __str__(self):
        return f"{self.solver.name}-{self.problem.name}-{self.backend}"

    def solve(self, dtype="float64", **options):
        return self.solver.solve(self.problem, dtype, backend=self.backend, **options)

    def answer(self, result):
        """The answer, as a NumPy array."""
        return np.asarray(to_host(self.solver.answer(result)))


def load_all():
    """Every solver under the contract."""
    return [importlib.import_module(f"{__package__}.{name}").SOLVER for name in MODULES]


def cases(solvers):
    """Every problem of the solvers, on every backend that it is meant for."""
    for solver in solvers:
        for problem in solver.problems:
            for backend in BACKENDS if problem.on_device else BACKENDS[:1]:
                yield Case(solver, problem, backend)


def scaled(value, factor):
    """An array, matrix, operator or function, times a number."""
    if isinstance(value, np.ndarray) or sp.issparse(value):
        return value * value.dtype.type(factor)
    if hasattr(value, "matvec"):
        return value * factor
    return lambda v: value(v) * v.dtype.type(factor)


def fingerprint(value):
    """All that a solve must leave as it is, in a form that can be compared."""
    value = to_host(value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.strides, value.flags.writeable, value.tobytes()
    if sp.issparse(value):
        parts = {
            name: getattr(value, name)
            for name in ("indptr", "indices", "row", "col", "offsets", "data")
            if isinstance(getattr(value, name, None), np.ndarray)
        }
        return value.format, value.shape, {name: fingerprint(part) for name, part in parts.items()}
    return id(value)
