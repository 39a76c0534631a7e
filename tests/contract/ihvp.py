"""Inverse-Hessian-vector products, as the contract sees them."""

import functools
import time

from scipy.sparse.linalg import LinearOperator

import ntsolve

from .cg import hopeless, laplacian, rhs, spd
from .registry import Problem, Solver


def dense(dtype, n=24):
    return {"hvp": spd(n, n, dtype=dtype), "v": rhs(n, dtype=dtype)}


def rows(dtype):
    return {"hvp": laplacian(30, dtype, 0.5), "v": rhs(2, 30, dtype=dtype)}


def function(dtype):
    A = laplacian(40, dtype, 0.5)
    return {"hvp": lambda v: A @ v, "v": rhs(40, dtype=dtype)}


def indefinite(dtype):
    return {"hvp": laplacian(40, dtype, -0.7), "v": rhs(40, dtype=dtype)}


def slow(seconds):
    A = laplacian(4000)

    def product(v):
        time.sleep(seconds)
        return A @ v

    operator = LinearOperator(A.shape, product, dtype=float)
    return Problem("slow", lambda dtype: {"hvp": operator, "v": rhs(4000)}, {"rtol": 1e-12, "rank": 3, "rng": 0})


def as_hessian(problem):
    """A problem of the contract's for cg, as one for ihvp."""
    return dict(zip(("hvp", "v"), problem.values(), strict=True))


TIGHT = {"rtol": 1e-6, "rank": 4, "rng": 0}
LONG = {"rtol": 1e-13, "maxiter": 10**9, "rank": 4, "rng": 0}
SOLVER = Solver(
    name="ihvp",
    call=ntsolve.ihvp,
    problems=(
        Problem("nystrom", dense, TIGHT, on_device=True),
        Problem("rows", rows, TIGHT),
        Problem("function", function, TIGHT),
        Problem("minres", indefinite, {**TIGHT, "method": "minres"}, on_device=True),
        Problem("neumann", functools.partial(dense, n=16), {**TIGHT, "method": "neumann"}),
    ),
    large=Problem("large", lambda dtype: {"hvp": laplacian(2000, dtype), "v": rhs(2000, dtype=dtype)}, TIGHT),
    endless=(
        Problem("nystrom", lambda dtype: {"hvp": laplacian(100_000), "v": rhs(100_000)}, {**LONG, "keep": 10}),
        Problem("minres", lambda dtype: as_hessian(hopeless(500)), {**LONG, "method": "minres"}),
        Problem("neumann", lambda dtype: as_hessian(hopeless(500)), {**LONG, "method": "neumann"}),
    ),
    slow=slow,
    threaded=Problem(
        "threaded",
        lambda dtype: {"hvp": laplacian(150_000), "v": rhs(150_000)},
        {"maxiter": 5, "on_failure": "ignore", "rank": 2, "rng": 0},
    ),
    scalings={"hvp": -1, "v": 1},
    starts=(),
    tolerances=("rtol", "atol", "damp"),
    accuracy={"float64": 1e-5, "float32": 2e-4},
)
