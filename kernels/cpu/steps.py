"""Numba twins of contracts/steps.py: a system on one thread, all of its iterations in one call."""

import numpy as np
from numba import njit

from .linalg import _csr_rows, _verdict
from .pool import JIT, over_blocks


@njit(**JIT)
def _step(x, r, p, q, dinv, d, tol2, rr_old, rz_old):
    """(rr, rz) after (2) and (3) for one system whose q = A p is there; row d of dinv is its own."""
    if not rr_old > tol2:
        return rr_old, rz_old
    pq = 0.0
    for i in range(x.size):
        pq += np.float64(p[i]) * np.float64(q[i])
    go, stop = _verdict(rr_old, rz_old, pq, tol2)
    if not go:
        return stop, rz_old
    # quotients are positive; abs keeps `reassoc` from making (rz p) / pq of alpha p, which may underflow
    alpha = abs(rz_old / pq)
    rr = rz = 0.0
    if dinv is None:
        for i in range(x.size):
            x[i] += alpha * p[i]
            r[i] -= alpha * q[i]
            rr += np.float64(r[i]) * np.float64(r[i])
        rz = rr
        beta = abs(rz / rz_old)
        for i in range(x.size):
            p[i] = r[i] + beta * p[i]
    else:
        ds = dinv[d]
        for i in range(x.size):
            x[i] += alpha * p[i]
            r[i] -= alpha * q[i]
            square = np.float64(r[i]) * np.float64(r[i])
            rr += square
            rz += square * np.float64(ds[i])
        beta = abs(rz / rz_old)
        for i in range(x.size):
            p[i] = np.float64(r[i]) * np.float64(ds[i]) + beta * p[i]
    return rr, rz


@njit(**JIT)
def _csr_cg_steps(first, last, indptr, indices, data, dinv, tol2, steps, x, r, p, q, rr, rz):
    for s in range(first, last):
        d = 0 if dinv is None else s % dinv.shape[0]
        for j in range(1, steps + 1):
            if rr[j - 1, s] > tol2[s]:
                _csr_rows(indptr, indices, data, p[s], q[s], 0, x.shape[1])
            rr[j, s], rz[j, s] = _step(x[s], r[s], p[s], q[s], dinv, d, tol2[s], rr[j - 1, s], rz[j - 1, s])


def csr_cg_steps(indptr, indices, data, dinv, tol2, steps, x, r, p, q, rr, rz):
    over_blocks(_csr_cg_steps, x.shape[0], _grain(data.size, steps), indptr, indices, data, dinv, tol2, steps, x, r, p,
                q, rr, rz)  # fmt: skip


@njit(**JIT)
def _dense_cg_steps(first, last, A, dinv, tol2, steps, x, r, p, q, rr, rz):
    for s in range(first, last):
        d = 0 if dinv is None else s % dinv.shape[0]
        As, ps, qs = A[s % A.shape[0]], p[s], q[s]
        for j in range(1, steps + 1):
            if rr[j - 1, s] > tol2[s]:
                for i in range(x.shape[1]):
                    row = As[i]
                    total = 0.0
                    for k in range(x.shape[1]):
                        total += np.float64(row[k]) * np.float64(ps[k])
                    qs[i] = total
            rr[j, s], rz[j, s] = _step(x[s], r[s], ps, qs, dinv, d, tol2[s], rr[j - 1, s], rz[j - 1, s])


def dense_cg_steps(A, dinv, tol2, steps, x, r, p, q, rr, rz):
    over_blocks(_dense_cg_steps, x.shape[0], _grain(A[0].size, steps), A, dinv, tol2, steps, x, r, p, q, rr, rz)


def _grain(entries, steps):
    """Systems a thread is worth waking for."""
    return 1 + 100_000 // (1 + entries * steps)
