"""Minimization under equality constraints, as the contract sees it."""

import time

import numpy as np
import scipy.sparse as sp
from scipy.optimize import LinearConstraint, NonlinearConstraint

import ntsolve

from .registry import Problem, Solver

N = 8
WEIGHTS = np.arange(1.0, N + 1)


def quartic(x):
    return np.sum(WEIGHTS * (x - 1) ** 4) + x @ x


def quartic_jac(x):
    return 4 * WEIGHTS * (x - 1) ** 3 + 2 * x


def quartic_hess(x):
    return np.diag(12 * WEIGHTS * (x - 1) ** 2 + 2)


SPHERE = NonlinearConstraint(
    lambda x: x @ x, 4, 4, jac=lambda x: 2 * x[None], hess=lambda x, v: 2 * v[0] * np.eye(x.size)
)
PLANE = LinearConstraint(np.ones((1, N)), 3, 3)
EXACT = {"jac": quartic_jac, "hess": quartic_hess, "constraints": [SPHERE, PLANE], "tol": 1e-5}


def start(dtype):
    return {"fun": quartic, "x0": np.linspace(0.2, 1.0, N).astype(dtype)}


def batch_fun(x):
    return (WEIGHTS * (x - 1) ** 4).sum(-1) + (x * x).sum(-1)


BATCH = {
    "jac": lambda x: 4 * WEIGHTS * (x - 1) ** 3 + 2 * x,
    "hess": lambda x: (12 * WEIGHTS * (x - 1) ** 2 + 2)[..., None] * np.eye(N),
    "constraints": NonlinearConstraint(
        lambda x: (x * x).sum(-1)[..., None], 4, 4, jac=lambda x: 2 * x[..., None, :],
        hess=lambda x, v: 2 * v[..., None] * np.eye(N),
    ),
    "tol": 1e-5,
}  # fmt: skip


def batch(dtype, count=3):
    x0 = np.linspace(0.2, 1.0, N) * np.linspace(1, 1.2, count)[:, None]
    return {"fun": batch_fun, "x0": x0.astype(dtype)}


def valley(x):
    """Rosenbrock's, chained: Newton's method goes along it in short steps, about as many as there are variables."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def valley_jac(x):
    bend = x[1:] - x[:-1] ** 2
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * bend - 2 * (1 - x[:-1])
    g[1:] += 200 * bend
    return g


def valley_hess(x):
    main = np.zeros_like(x)
    main[:-1] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    main[1:] += 200
    return sp.diags_array([-400 * x[:-1], main, -400 * x[:-1]], offsets=[-1, 0, 1], format="csr")


def crawling(n):
    """Into Rosenbrock's valley at its far end."""
    x0 = np.full(n, -1.0)
    return {"fun": valley, "x0": x0}


def slow(seconds):
    def hess(x):
        time.sleep(seconds)
        return valley_hess(x)

    options = {"jac": valley_jac, "hess": hess, "maxiter": 10**6}
    return Problem("slow", lambda dtype: crawling(400), options)


def large(dtype):
    return {"fun": lambda x: x @ x / 2 - x.sum(), "x0": np.linspace(0, 1, 2000).astype(dtype)}


LARGE = {
    "jac": lambda x: x - 1,
    "hess": lambda x: sp.eye_array(x.size),
    "constraints": LinearConstraint(sp.eye_array(20, 2000, format="csr"), 0, 0),
}
VALLEY = {"jac": valley_jac, "hess": valley_hess, "maxiter": 10**9}

SOLVER = Solver(
    name="minimize",
    call=ntsolve.minimize,
    problems=(
        Problem("ldl", start, EXACT),
        Problem("merit", start, {**EXACT, "globalization": "merit"}),
        Problem("splu", start, {**EXACT, "inner": "splu"}),
        Problem("minres", start, {**EXACT, "inner": "minres"}),
        Problem("free", start, {**EXACT, "constraints": ()}),
        Problem("batch", batch, BATCH),
    ),
    large=Problem("large", large, LARGE),
    endless=(
        Problem("ldl", lambda dtype: crawling(400), VALLEY),
        Problem("splu", lambda dtype: crawling(2_000), VALLEY),
    ),
    slow=slow,
    threaded=Problem("threaded", lambda dtype: batch(dtype, 2000), BATCH),
    scalings={},
    starts=(),
    tolerances=("tol",),
    accuracy={"float64": 1e-5, "float32": 1e-4},
)
