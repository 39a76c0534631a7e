"""Halpern's iteration, as the contract sees it: maps with one fixed point."""

import time

import numpy as np

import ntsolve

from .registry import Problem, Solver


def gentle(x):
    """A contraction towards 1, the more so the larger an entry is, and turned a little."""
    return x - 0.5 * (x - 1) - 0.1 * np.tanh(x - 1) + 0.2 * (x[::-1] - 1)


def turning(x):
    """A turn of pairs of entries, averaged with staying."""
    y = x - 1
    turned = y.copy()
    turned[0::2], turned[1::2] = 0.8 * y[0::2] - 0.6 * y[1::2], 0.6 * y[0::2] + 0.8 * y[1::2]
    return (x + turned + 1) / 2


def start(n):
    return lambda dtype: {"T": gentle, "x0": np.linspace(2, 5, n).astype(dtype)}


def slowly(x):
    """No fixed point within reach."""
    return x - 1e-3 * np.tanh(1e-3 * x)


def slow(seconds):
    def sleeping(x):
        time.sleep(seconds)
        return slowly(x)

    return Problem("slow", lambda dtype: {"T": sleeping, "x0": np.linspace(2, 5, 30)}, {"tol": 1e-12})


def constant(x):
    """Takes anything that an array can be made of; what it returns then has another shape."""
    return np.ones(2000)


SOLVER = Solver(
    name="halpern",
    call=ntsolve.halpern,
    problems=(
        Problem("contraction", start(20), {"tol": 1e-5}, on_device=True),
        Problem("turning", lambda dtype: {"T": turning, "x0": np.linspace(2, 5, 20).astype(dtype)}, {"tol": 1e-5}),
        Problem("anderson", start(20), {"tol": 1e-6, "accelerate": "anderson"}),
    ),
    large=Problem("large", lambda dtype: {"T": constant, "x0": np.zeros(2000, dtype)}),
    endless=(
        Problem("quick", lambda dtype: {"T": slowly, "x0": np.linspace(2, 5, 30)}, {"tol": 0.0, "maxiter": 10**9}),
    ),
    slow=slow,
    threaded=Problem("threaded", start(260_000), {"maxiter": 4, "on_failure": "ignore"}),
    scalings={},
    starts=(),
    tolerances=("tol",),
    accuracy={"float64": 1e-4, "float32": 1e-3},
)
