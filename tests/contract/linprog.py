"""Linear programs, as the contract sees them."""

import time

import numpy as np
import scipy.sparse as sp

import ntsolve

from .registry import Problem, Solver


def program(m, n, seed=6, batch=()):
    """(c, A, b) of min c'x, A x <= b, 0 <= x <= 3, whose only solution has m entries between the bounds."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((*batch, m, n))
    inside = rng.uniform(0.5, 2.5, (*batch, m))
    x = np.concatenate([inside, np.broadcast_to(np.tile([0.0, 3.0], n)[: n - m], (*batch, n - m))], -1)
    y = -rng.uniform(0.5, 1.5, (*batch, m))
    z = np.where(x == 0, 1.0, np.where(x == 3, -1.0, 0.0)) * rng.uniform(0.5, 1.5, x.shape)
    return {
        "c": (np.swapaxes(A, -1, -2) @ y[..., None])[..., 0] + z,
        "A_ub": A,
        "b_ub": (A @ x[..., None])[..., 0],
    }


def typed(arguments, dtype):
    return {name: value.astype(dtype) for name, value in arguments.items()}


def rows(dtype):
    return typed(program(4, 12), dtype)


def tiny(dtype):
    return typed(program(1, 3, seed=23), dtype)


def batch(dtype):
    return typed(program(3, 9, batch=(3,)), dtype)


def equations(dtype):
    """Some of the rows as equations."""
    given = program(4, 12, seed=8)
    A, b = given["A_ub"], given["b_ub"]
    return typed({"c": given["c"], "A_ub": A[:2], "b_ub": b[:2], "A_eq": A[2:], "b_eq": b[2:]}, dtype)


def sparse(dtype):
    given = rows(dtype)
    return given | {"A_ub": sp.csr_array(given["A_ub"])}


def transport(n):
    """From n places to n, sparse: long to solve to the last digit."""
    rng = np.random.default_rng(9)
    A = sp.vstack([sp.kron(sp.eye_array(n), np.ones((1, n))), sp.kron(np.ones((1, n)), sp.eye_array(n))]).tocsr()
    mass = rng.uniform(0.5, 1.5, (2, n))
    mass /= mass.sum(1, keepdims=True)
    return {"c": rng.random(n * n), "A_ub": -A, "b_ub": -0.9 * mass.reshape(-1)}


def several(dtype, count=120):
    """A batch, many iterations of which use all threads."""
    return program(10, 30, seed=11, batch=(count,))


def large(dtype):
    eye = sp.eye_array(2000, format="csr", dtype=dtype)
    steps = (eye - sp.eye_array(2000, k=1, format="csr", dtype=dtype)).tocsr()
    one = np.ones(2000, dtype)
    return {"c": -one, "A_ub": steps + eye, "b_ub": one, "A_eq": steps, "b_eq": 0 * one, "bounds": (0, None)}


def slow(seconds):
    options = {"tol": 0.0, "finisher": False, "callback": lambda state: time.sleep(seconds)}
    return Problem("slow", lambda dtype: transport(20), options)


TIGHT = {"tol": 1e-5, "bounds": (0, 3)}
LONG = {"tol": 0.0, "maxiter": 10**9}
SOLVER = Solver(
    name="linprog",
    call=ntsolve.linprog,
    problems=(
        Problem("rows", rows, TIGHT),
        Problem("tiny", tiny, {**TIGHT, "tol": 1e-3}, on_device=True),  # done at the first look
        Problem("equations", equations, TIGHT),
        Problem("sparse", sparse, {**TIGHT, "finisher": False, "presolve": False}),
        Problem("batch", batch, TIGHT),
    ),
    large=Problem("large", large, {"tol": 1e-5, "maxiter": 1, "on_failure": "ignore"}),
    endless=(
        Problem("pdhg", lambda dtype: transport(60), {**LONG, "finisher": False}),
        Problem("finisher", lambda dtype: transport(60), LONG),
        Problem("batch", several, {**LONG, "bounds": (0, 3), "finisher": False}),
    ),
    slow=slow,
    threaded=Problem("threaded", several, {**TIGHT, "maxiter": 150, "on_failure": "ignore"}),
    scalings={},
    starts=(),
    tolerances=("tol",),
    accuracy={"float64": 1e-3, "float32": 1e-3},
    infinite=("b_ub",),
)
