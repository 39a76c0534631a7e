"""Numba twins of contracts/batched.py: a system at a time, whose matrix stays in cache for all its iterations."""

import math

import numpy as np
from numba import njit

from ..contracts.batched import MET, NOT_FINITE, NOT_POSITIVE, OUT_OF_STEPS, STALLED
from .exact import EXACT_JIT
from .linalg import dense_residual_row
from .pool import JIT, over_blocks


@njit(**JIT)
def _size(v):
    """||v||_2 without overflow."""
    top = 0.0
    for i in range(v.size):
        size = abs(np.float64(v[i]))
        if size > top or size != size:
            top = size
    if not 0.0 < top < np.inf:
        return top
    total = 0.0
    for i in range(v.size):
        part = np.float64(v[i]) / top
        total += part * part
    return top * np.sqrt(total)


@njit(**EXACT_JIT)
def _residual(A, b, x, r):
    """r = b - A x"""
    for i in range(b.size):
        r[i] = dense_residual_row(A[i], x, np.float64(b[i]))


@njit(**JIT)
def _one_cg(A, b, jacobi, rtol, atol, maxiter, eps, x, r, p, q, dinv):
    """(residual, tolerance, steps, outcome) of one system; x is the start and the answer, the rest is room."""
    n = b.size
    b_norm = _size(b)
    tol = max(rtol * b_norm, atol)
    goal = tol - 0.5 * eps * b_norm  # b - A x is only known to the rounding of A x
    if b_norm == 0.0:
        x[:] = 0.0
        return 0.0, tol, 0, MET
    if np.any(x != 0.0):  # NaN is
        _residual(A, b, x, r)
    else:
        r[:] = b
    res, last, steps = _size(r), np.inf, 0
    positive = True
    for i in range(n):
        d = np.float64(A[i, i]) if jacobi else 1.0
        positive = positive and d > 0.0
        dinv[i] = 1.0 / d
    while True:
        if not np.isfinite(res):
            return res, tol, steps, NOT_FINITE
        if res <= goal:
            return res, tol, steps, MET
        if not positive:
            return res, tol, steps, NOT_POSITIVE
        if steps >= maxiter:
            return res, tol, steps, OUT_OF_STEPS
        if not res < 0.5 * last:
            return res, tol, steps, STALLED
        last = res
        exponent = math.frexp(max(b_norm, res))[1] - 1
        aim2 = math.ldexp(max(0.999 * goal, 0.1 * eps * max(b_norm, res)), -exponent) ** 2
        rr = rz = 0.0
        for i in range(n):
            x[i] = math.ldexp(np.float64(x[i]), -exponent)
            r[i] = math.ldexp(np.float64(r[i]), -exponent)
            p[i] = np.float64(r[i]) * dinv[i]
            rr += np.float64(r[i]) * np.float64(r[i])
            rz += np.float64(r[i]) * np.float64(r[i]) * dinv[i]
        broken = 0
        while rr > aim2 and steps < maxiter:
            pq = 0.0
            for i in range(n):
                row = A[i]
                total = 0.0
                for k in range(n):
                    total += np.float64(row[k]) * np.float64(p[k])
                q[i] = total
                pq += np.float64(p[i]) * np.float64(q[i])
            if not (np.isfinite(rz) and np.isfinite(pq)) or pq <= 0.0:
                broken = NOT_POSITIVE if pq <= 0.0 else NOT_FINITE
                break
            alpha = abs(rz / pq)  # positive; abs keeps `reassoc` from making (rz p) / pq of it, which may underflow
            rr = new_rz = 0.0
            for i in range(n):
                x[i] += alpha * p[i]
                r[i] -= alpha * q[i]
                square = np.float64(r[i]) * np.float64(r[i])
                rr += square
                new_rz += square * dinv[i]
            beta = abs(new_rz / rz)
            rz = new_rz
            for i in range(n):
                p[i] = np.float64(r[i]) * dinv[i] + beta * p[i]
            steps += 1
        for i in range(n):
            x[i] = math.ldexp(np.float64(x[i]), exponent)
        _residual(A, b, x, r)
        res = _size(r)
        if broken != 0 and not res <= goal:
            return res, tol, steps, broken


@njit(**JIT)
def _batched_cg(first, last, A, b, jacobi, rtol, atol, maxiter, eps, x, residual, tolerance, nit, outcome):
    n = b.shape[1]
    r, p, q, dinv = np.empty(n, b.dtype), np.empty(n, b.dtype), np.empty(n, b.dtype), np.empty(n)
    for s in range(first, last):
        if outcome[s] != OUT_OF_STEPS:
            continue
        residual[s], tolerance[s], steps, outcome[s] = _one_cg(
            A[s], b[s], jacobi, rtol, atol, maxiter, eps, x[s], r, p, q, dinv
        )
        nit[s] += steps


def batched_cg(A, b, jacobi, rtol, atol, maxiter, x, residual, tolerance, nit, outcome):
    systems_worth_a_thread = 1 + 10_000 // (1 + b.shape[1] ** 2)
    eps = float(np.finfo(b.dtype).eps)
    over_blocks(_batched_cg, b.shape[0], systems_worth_a_thread, A, b, jacobi, rtol, atol, maxiter, eps, x, residual,
                tolerance, nit, outcome)  # fmt: skip
