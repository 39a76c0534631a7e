"""Conjugate gradients, as the contract sees them."""

import time

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import ntsolve

from ..linalg.problems import laplacian
from .registry import Problem, Solver


def rhs(*shape, dtype="float64"):
    return np.random.default_rng(3).uniform(0.5, 1.5, shape).astype(dtype)


def spd(*shape, dtype="float64"):
    """Dense, with a condition number of about 10."""
    half = np.random.default_rng(4).standard_normal(shape)
    return (half @ half.swapaxes(-1, -2) / shape[-1] + 0.5 * np.eye(shape[-1])).astype(dtype)


def dense(dtype):
    return {"A": spd(24, 24, dtype=dtype), "b": rhs(24, dtype=dtype)}


def batch(dtype):
    return {"A": spd(3, 12, 12, dtype=dtype), "b": rhs(3, 12, dtype=dtype)}


def many(dtype):
    return {"A": laplacian(30, dtype, 0.5), "b": rhs(2, 30, dtype=dtype)}


def sparse(dtype):
    return {"A": laplacian(40, dtype, 0.5), "b": rhs(40, dtype=dtype)}


def warm(dtype):
    return {**sparse(dtype), "x0": rhs(40, dtype=dtype)[::-1].copy()}


def operator(dtype):
    return {"A": aslinearoperator(laplacian(40, dtype, 0.5)), "b": rhs(40, dtype=dtype)}


def function(dtype):
    A = laplacian(40, dtype, 0.5)
    return {"A": lambda v: A @ v, "b": rhs(40, dtype=dtype)}


def slow(seconds):
    A = laplacian(4000)

    def product(v):
        time.sleep(seconds)
        return A @ v

    return Problem(
        "slow", lambda dtype: {"A": LinearOperator(A.shape, product, dtype=float), "b": rhs(4000)}, {"rtol": 1e-12}
    )


def hopeless(n, batch=()):
    """Dense, and so ill-conditioned that the residual wanders for as long as maxiter allows."""
    Q = np.linalg.qr(np.random.default_rng(5).standard_normal((n, n)))[0]
    A = (Q * np.geomspace(1e-16, 1, n)) @ Q.T
    return {"A": np.broadcast_to(A + A.T, (*batch, n, n)).copy(), "b": rhs(*batch, n)}


TIGHT = {"rtol": 1e-6}
LONG = {"rtol": 1e-13, "maxiter": 10**9}
SOLVER = Solver(
    name="cg",
    call=ntsolve.cg,
    problems=(
        Problem("dense", dense, TIGHT, on_device=True),
        Problem("batch", batch, TIGHT, on_device=True),
        Problem("many-rhs", many, TIGHT, on_device=True),
        Problem("csr", sparse, TIGHT, on_device=True),
        Problem("warm", warm, TIGHT),
        Problem("jacobi", sparse, {**TIGHT, "M": "jacobi"}, on_device=True),
        Problem("flexible", sparse, {**TIGHT, "M": lambda r: 0.5 * r}, on_device=True),
        Problem("operator", operator, TIGHT),
        Problem("function", function, TIGHT),
    ),
    large=Problem(
        "large",
        lambda dtype: {"A": laplacian(2000, dtype), "b": rhs(2000, dtype=dtype), "x0": rhs(2000, dtype=dtype)},
        TIGHT,
    ),
    endless=(
        Problem("csr", lambda dtype: {"A": laplacian(400_000), "b": rhs(400_000)}, LONG),
        Problem("dense", lambda dtype: hopeless(500), LONG),
        Problem("batch", lambda dtype: hopeless(60, (500,)), LONG),
    ),
    slow=slow,
    threaded=Problem(
        "threaded", lambda dtype: {"A": laplacian(400_000), "b": rhs(400_000)}, {"maxiter": 20, "on_failure": "ignore"}
    ),
    scalings={"A": -1, "b": 1},
    starts=("x0",),
    tolerances=("rtol", "atol"),
    accuracy={"float64": 1e-5, "float32": 1e-4},
)
