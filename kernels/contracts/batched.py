"""Many small dense systems in one call.

Conjugate gradients as in contracts/linalg.py, with M = 1/diag(A) or the identity; each system from its start to its
verified end, on one core, warp or block, where it stays in registers and cache.
"""

import numpy as np

from . import contract
from .linalg import dense_residual

MAX_N = 256  # order up to which a system is taken
# how a system ended
OUTCOMES = OUT_OF_STEPS, MET, STALLED, NOT_FINITE, NOT_POSITIVE = range(5)


def _batched_cases(rng, dtype):
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    for batch, n, jacobi, maxiter in (
        (0, 3, 1, 9),
        (1, 1, 0, 9),
        (9, 7, 1, 70),
        (3, 32, 0, 99),
        (2, 33, 1, 99),
        (1, 256, 0, 99),
    ):
        half = rng.standard_normal((batch, n, n)) / np.sqrt(n)
        A = half @ half.transpose(0, 2, 1) + np.eye(n)
        b = rng.standard_normal((batch, n))
        x = np.zeros((batch, n))
        if batch == 9:  # each way to end once
            A[1] = -A[1]
            A[2] = np.diag([1.0, 1, 1, -1, 1, 1, 1])  # a negative diagonal entry
            A[3] = 2 * np.ones((n, n)) - np.eye(n)  # indefinite with a positive diagonal
            b[3] = np.arange(n)
            b[4] = 0
            b[5], x[5] = b[5] * 1e-3, 1.0
            x[6] = np.linalg.solve(A[6], b[6]) * (1 + rtol / 100)
            A[7] *= 1e30
            b[8], x[8, 0] = b[8] * 1e30, np.nan
        A, b, x = (v.astype(dtype) for v in (A, b, x))
        nit, outcome = np.zeros(batch, np.int32), np.full(batch, OUT_OF_STEPS, np.int32)
        if batch == 9:
            nit[0], outcome[0] = 5, STALLED  # decided before: left alone
        yield A, b, jacobi, rtol, 0.0, maxiter, x, np.full(batch, 7.0), np.full(batch, 7.0), nit, outcome
    A, state = np.diag(np.geomspace(1, 1e6, 20))[None].astype(dtype), np.zeros(1, np.int32)
    b, x = np.ones((1, 20), dtype), np.zeros((1, 20), dtype)
    yield A, b, 0, rtol, 0.0, 3, x, np.full(1, 7.0), np.full(1, 7.0), state + 4, state.copy()  # too few steps


@contract(
    cases=_batched_cases,
    writes=("x", "residual", "tolerance", "nit", "outcome"),
    within={"residual": "tolerance"},
    rtol={"float32": 1e-3, "float64": 1e-7},
)
def batched_cg(A, b, jacobi, rtol, atol, maxiter, x, residual, tolerance, nit, outcome):
    """A x = b for many dense systems, from start to verified end in one call: (1)-(3) with M = 1/diag(A) if `jacobi`.

    A (batch, n, n) with n <= MAX_N; b, x (batch, n), x the start and the answer. tolerance = max(rtol ||b||, atol) and
    residual = ||b - A x||, both (batch,) float64; nit (batch,) int32 is raised by the steps done, `maxiter` at most. As
    in `ntsolve.cg`, each system is divided by a power of two, and b - A x, computed as by `dense_residual`, is taken up
    anew as long as that halves it. outcome (batch,) int32 is one of OUTCOMES, OUT_OF_STEPS to begin with: systems with
    another are left alone.
    """
    for i in np.flatnonzero(outcome == OUT_OF_STEPS):
        x[i], residual[i], tolerance[i], steps, outcome[i] = _one_cg(A[i], b[i], jacobi, rtol, atol, maxiter, x[i])
        nit[i] += steps


def _one_cg(A, b, jacobi, rtol, atol, maxiter, x):
    dtype = b.dtype

    def size(v):
        top = abs(v).max(initial=0)
        return np.linalg.norm(v.astype(float) / top) * top if top else 0.0

    def left(x):
        if not np.isfinite(x).all():
            return np.full_like(b, np.nan)
        r = np.empty((1, len(b)), dtype)
        dense_residual(A[None], x[None], b[None], r)
        return r[0]

    b_norm, steps = size(b.astype(float)), 0
    tol = max(rtol * b_norm, atol)
    goal = tol - 0.5 * np.finfo(dtype).eps * b_norm
    if b_norm == 0:
        return np.zeros_like(x), 0.0, tol, 0, MET
    r = left(x)
    res, last = size(r.astype(float)), np.inf
    d = np.diagonal(A).astype(float) if jacobi else np.ones(len(b))
    while True:
        if not np.isfinite(res):
            return x, res, tol, steps, NOT_FINITE
        if res <= goal:
            return x, res, tol, steps, MET
        if (d <= 0).any():
            return x, res, tol, steps, NOT_POSITIVE
        if steps >= maxiter:
            return x, res, tol, steps, OUT_OF_STEPS
        if not res < 0.5 * last:
            return x, res, tol, steps, STALLED
        last, scale = res, 2.0 ** (np.frexp(max(b_norm, res))[1] - 1)
        aim2 = (max(0.999 * goal, 0.1 * np.finfo(dtype).eps * max(b_norm, res)) / scale) ** 2
        r = (r / scale).astype(dtype)
        z = r.astype(float) / d
        p = z.astype(dtype)
        y, rr, rz, broken = (x / scale).astype(dtype), r.astype(float) @ r, z @ r, 0
        while rr > aim2 and steps < maxiter and not broken:
            q = (A.astype(float) @ p).astype(dtype)
            pq = float(p.astype(float) @ q)
            if not (np.isfinite(rz) and np.isfinite(pq)) or pq <= 0:
                broken = NOT_POSITIVE if pq <= 0 else NOT_FINITE
                continue
            alpha = rz / pq
            y = (y + alpha * p).astype(dtype)
            r = (r - alpha * q).astype(dtype)
            z = r.astype(float) / d
            old, rz, rr = rz, z @ r, r.astype(float) @ r
            p = (z + rz / old * p).astype(dtype)
            steps += 1
        x = (y.astype(float) * scale).astype(dtype)
        r = left(x)
        res = size(r.astype(float))
        if broken and not res <= goal:
            return x, res, tol, steps, broken
