"""Optimal transport, as the contract sees it. The answer is the potentials."""

import functools
import time

import numpy as np

import ntsolve

from .registry import Problem, Solver


def costs(n, m, dtype="float64"):
    """Distances in the plane, up to 1; and weights, whose sums are equal in every dtype."""
    rng = np.random.default_rng(n + m)
    x, y = rng.random((n, 2)), rng.random((m, 2))
    C = ((x[:, None] - y) ** 2).sum(2)
    a = np.full(n, 1 / n) * rng.uniform(0.5, 1.5, n)
    b = np.full(m, 1 / m) * rng.uniform(0.5, 1.5, m)
    return {"C": (C / C.max()).astype(dtype), "a": (a / a.sum()).astype(dtype), "b": (b / b.sum()).astype(dtype)}


@functools.cache
def kept(n, m, dtype):
    return costs(n, m, dtype)


def problem(n, m):
    """Made once: tests that time what is refused do not want to wait for it."""
    return lambda dtype: {name: value.copy() if n < 1000 else value for name, value in kept(n, m, dtype).items()}


def slow(seconds):
    options = {"reg": 1e-3, "tol": 1e-12, "method": "sinkhorn", "callback": lambda state: time.sleep(seconds)}
    return Problem("slow", problem(50, 60), options)


ENDLESS = {"reg": 2e-5, "tol": 0.0}
SOLVER = Solver(
    name="solve_ot",
    call=ntsolve.solve_ot,
    problems=(
        Problem("square", problem(40, 40), {"reg": 1e-2, "tol": 1e-6}, on_device=True),
        Problem("wide", problem(30, 50), {"reg": 1e-3, "tol": 1e-6}),
        Problem("relaxed", problem(30, 20), {"reg": 1e-2, "tol": 1e-6, "tau_a": 0.5}),
        Problem("sinkhorn", problem(12, 15), {"reg": 1e-1, "tol": 1e-6, "method": "sinkhorn"}, on_device=True),
        Problem("sns-paper", problem(12, 10), {"reg": 1e-1, "tol": 1e-6, "method": "sns-paper"}),
    ),
    large=Problem("large", problem(2000, 2000), {"reg": 1e-2, "maxiter": 0, "on_failure": "ignore"}),
    endless=(
        Problem("sinkhorn", problem(1000, 1200), {**ENDLESS, "method": "sinkhorn"}),
        Problem("sns", problem(3000, 3000), {"reg": 1e-7, "tol": 1e-13}),
    ),
    slow=slow,
    threaded=Problem("threaded", problem(1500, 1500), {"reg": 1e-2, "tol": 1e-6}),
    scalings={"C": 1},
    follow={"reg": "C", "tau_a": "C"},
    starts=(),
    tolerances=("tol", "reg"),
    accuracy={"float64": 1e-4, "float32": 1e-3},
    infinite=("C",),
    empty=("a", "b"),
    keeps_problem=True,
)
