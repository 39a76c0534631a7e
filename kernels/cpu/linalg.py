"""Numba twins of contracts/linalg.py.

Each `_body(first, last, ...)` does a range of blocks of BLOCK elements and writes partial sums to `work`; the sums over
blocks are added in order afterwards. Reassociation is allowed inside a block (so that sums vectorise), but nothing
that assumes numbers to be finite: several of these functions look for NaN.
"""

import numpy as np
from numba import njit, uint64

from ..contracts import BLOCK
from ..contracts.linalg import A_NOT_POSITIVE, HOPELESS, M_NOT_POSITIVE
from .exact import EXACT_JIT, add, subtract_product
from .pool import JIT, over_blocks

_TINY, _HUGE = 1e-280, 1e280  # sums of squares between these have lost nothing
_GRAIN = 60  # blocks a thread is worth waking for: about 120,000 elements


def _over_vector(body, n, *args, batch=1):
    over_blocks(body, max(1, -(-n // BLOCK)), max(1, _GRAIN // max(1, batch)), *args)


@njit(**JIT)
def _total(work, slot, out):
    for s in range(out.size):
        total = 0.0
        for b in range(work.shape[2]):
            total += work[s, slot, b]
        out[s] = total


# ---- products -------------------------------------------------------------------------------------------------------


@njit(**JIT)
def _csr_rows(indptr, indices, data, x, y, low, high):
    k = uint64(indptr[low])
    for i in range(low, high):
        end = uint64(indptr[i + 1])
        total = 0.0
        while k < end:
            total += np.float64(data[k]) * np.float64(x[uint64(indices[k])])  # unsigned: no test for negative indices
            k += uint64(1)
        y[i] = total


@njit(**JIT)
def _csr_matvec(first, last, indptr, indices, data, x, y):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, y.shape[1])
        for s in range(y.shape[0]):  # the block of the matrix is in cache after the first system
            _csr_rows(indptr, indices, data, x[s], y[s], low, high)


def csr_matvec(indptr, indices, data, x, y):
    if y.size:
        _over_vector(_csr_matvec, y.shape[1], indptr, indices, data, x, y, batch=y.shape[0])


@njit(**JIT)
def _csr_matvec_dot(first, last, indptr, indices, data, p, q, work):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, q.shape[1])
        for s in range(q.shape[0]):
            _csr_rows(indptr, indices, data, p[s], q[s], low, high)
            ps, qs = p[s, low:high], q[s, low:high]
            total = 0.0
            for i in range(ps.size):
                total += np.float64(ps[i]) * np.float64(qs[i])
            work[s, 0, b] = total


def csr_matvec_dot(indptr, indices, data, p, q, pq, work):
    _over_vector(_csr_matvec_dot, q.shape[1], indptr, indices, data, p, q, work, batch=q.shape[0])
    _total(work, 0, pq)


@njit(**JIT)
def _dense_matvec(first, last, A, x, y):
    for i in range(first, last):
        for s in range(y.shape[0]):
            row, xs = A[s % A.shape[0], i], x[s]
            total = 0.0
            for j in range(xs.size):
                total += np.float64(row[j]) * np.float64(xs[j])
            y[s, i] = total


def dense_matvec(A, x, y):
    rows_worth_a_thread = 1 + _GRAIN * BLOCK // max(1, A.shape[0] * A.shape[2])
    over_blocks(_dense_matvec, y.shape[1], rows_worth_a_thread, A, x, y)


@njit(**EXACT_JIT)
def _csr_residual(first, last, indptr, indices, data, x, b, r):
    for block in range(first, last):
        for s in range(r.shape[0]):
            for i in range(block * BLOCK, min((block + 1) * BLOCK, r.shape[1])):
                high, low = np.float64(b[s, i]), 0.0
                for k in range(indptr[i], indptr[i + 1]):
                    high, low = subtract_product(high, low, np.float64(data[k]), np.float64(x[s, uint64(indices[k])]))
                r[s, i] = high + low


def csr_residual(indptr, indices, data, x, b, r):
    if r.size:
        _over_vector(_csr_residual, r.shape[1], indptr, indices, data, x, b, r, batch=r.shape[0])


@njit(**EXACT_JIT)
def dense_residual_row(row, x, b):
    """b - row.x; four sums at a time, since one waits for itself."""
    high0, high1, high2, high3 = b, 0.0, 0.0, 0.0
    low0 = low1 = low2 = low3 = 0.0
    whole = row.size // 4 * 4
    for k in range(0, whole, 4):
        high0, low0 = subtract_product(high0, low0, np.float64(row[k]), np.float64(x[k]))
        high1, low1 = subtract_product(high1, low1, np.float64(row[k + 1]), np.float64(x[k + 1]))
        high2, low2 = subtract_product(high2, low2, np.float64(row[k + 2]), np.float64(x[k + 2]))
        high3, low3 = subtract_product(high3, low3, np.float64(row[k + 3]), np.float64(x[k + 3]))
    for k in range(whole, row.size):
        high0, low0 = subtract_product(high0, low0, np.float64(row[k]), np.float64(x[k]))
    for high in (high1, high2, high3):
        high0, low0 = add(high0, low0, high)
    return high0 + (low0 + low1 + low2 + low3)


@njit(**EXACT_JIT)
def _dense_residual(first, last, A, x, b, r):
    for i in range(first, last):
        for s in range(r.shape[0]):
            r[s, i] = dense_residual_row(A[s % A.shape[0], i], x[s], np.float64(b[s, i]))


def dense_residual(A, x, b, r):
    rows_worth_a_thread = 1 + _GRAIN * BLOCK // max(1, 4 * A.shape[0] * A.shape[2])
    over_blocks(_dense_residual, r.shape[1], rows_worth_a_thread, A, x, b, r)


# ---- reductions -----------------------------------------------------------------------------------------------------


@njit(**JIT)
def _dot(first, last, x, y, work):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, x.shape[1])
        for s in range(x.shape[0]):
            xs, ys = x[s, low:high], y[s, low:high]
            total = 0.0
            for i in range(xs.size):
                total += np.float64(xs[i]) * np.float64(ys[i])
            work[s, 0, b] = total


def dot(x, y, out, work):
    _over_vector(_dot, x.shape[1], x, y, work, batch=x.shape[0])
    _total(work, 0, out)


@njit(**JIT)
def scaled_squares(x):
    """(size, sum of the squares of x / size): size is 1, or the largest |x| where squares leave the range; or NaN."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    if _TINY < total < _HUGE:
        return 1.0, total
    top = total = 0.0
    for i in range(x.size):
        size = abs(np.float64(x[i]))
        if size > top or size != size:  # takes a NaN, and keeps it
            top = size
    if 0.0 < top < np.inf:
        for i in range(x.size):
            part = np.float64(x[i]) / top
            total += part * part
    return top, total


@njit(**JIT)
def merged_squares(top, total, other, squares):
    """What `scaled_squares` would return of two vectors together."""
    if other == top:
        return top, total + squares
    if other < top or top != top:
        top, total, other, squares = other, squares, top, total
    if other < np.inf and top > 0.0:
        squares += total * (top / other) * (top / other)
    return other, squares


@njit(**JIT)
def _norm(first, last, x, work):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, x.shape[1])
        for s in range(x.shape[0]):
            work[s, 0, b], work[s, 1, b] = scaled_squares(x[s, low:high])


@njit(**JIT)
def norm_total(work, out):
    """The roots of the sums of all blocks, from `scaled_squares` of each."""
    for s in range(out.size):
        top = 0.0
        for b in range(work.shape[2]):
            if work[s, 0, b] > top or work[s, 0, b] != work[s, 0, b]:
                top = work[s, 0, b]
        total = 0.0
        if 0.0 < top < np.inf:
            for b in range(work.shape[2]):
                part = work[s, 0, b] / top
                total += work[s, 1, b] * part * part
        out[s] = top * np.sqrt(total) if total > 0.0 else top


def norm(x, out, work):
    _over_vector(_norm, x.shape[1], x, work, batch=x.shape[0])
    norm_total(work, out)


# ---- conjugate gradients --------------------------------------------------------------------------------------------


@njit(**JIT)
def _verdict(rr, rz, pq, tol2):
    """(go on?, the value that rr gets if not)"""
    if not tol2 < rr <= HOPELESS:
        return False, rr
    if not (np.isfinite(rz) and np.isfinite(pq)):
        return False, np.nan
    if rz <= 0.0:
        return False, M_NOT_POSITIVE
    if pq <= 0.0:
        return False, A_NOT_POSITIVE
    return True, rr


@njit(**JIT)
def _cg_update(first, last, p, q, dinv, rz_old, pq, rr_old, tol2, x, r, work):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, x.shape[1])
        for s in range(x.shape[0]):
            go, _ = _verdict(rr_old[s], rz_old[s], pq[s], tol2[s])
            if not go:
                continue
            # positive; abs keeps `reassoc` from making (rz p) / pq of alpha p, which may underflow
            alpha = abs(rz_old[s] / pq[s])
            xs, rs, ps, qs = x[s, low:high], r[s, low:high], p[s, low:high], q[s, low:high]
            rr = rz = 0.0
            if dinv is None:
                for i in range(xs.size):
                    xs[i] += alpha * ps[i]
                    rs[i] -= alpha * qs[i]
                    rr += np.float64(rs[i]) * np.float64(rs[i])
                rz = rr
            else:
                ds = dinv[s % dinv.shape[0], low:high]
                for i in range(xs.size):
                    xs[i] += alpha * ps[i]
                    rs[i] -= alpha * qs[i]
                    square = np.float64(rs[i]) * np.float64(rs[i])
                    rr += square
                    rz += square * np.float64(ds[i])
            work[s, 0, b], work[s, 1, b] = rr, rz


@njit(**JIT)
def _cg_update_total(rz_old, pq, rr_old, tol2, carry, rr, rz, work):
    for s in range(rr.size):
        go, stop = _verdict(rr_old[s], rz_old[s], pq[s], tol2[s])
        if go:
            sum_rr = sum_rz = 0.0
            for b in range(work.shape[2]):
                sum_rr += work[s, 0, b]
                sum_rz += work[s, 1, b]
            rr[s], rz[s] = sum_rr, sum_rz
        else:
            rr[s], rz[s] = carry * stop, carry * rz_old[s]


def cg_update(p, q, dinv, rz_old, pq, rr_old, tol2, carry, x, r, rr, rz, work):
    _over_vector(_cg_update, x.shape[1], p, q, dinv, rz_old, pq, rr_old, tol2, x, r, work, batch=x.shape[0])
    _cg_update_total(rz_old, pq, rr_old, tol2, carry, rr, rz, work)


@njit(**JIT)
def _flexible_dots(first, last, z, r, q, work):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, z.shape[1])
        for s in range(z.shape[0]):
            zs, rs, qs = z[s, low:high], r[s, low:high], q[s, low:high]
            rz = zq = 0.0
            for i in range(zs.size):
                rz += np.float64(zs[i]) * np.float64(rs[i])
                zq -= np.float64(zs[i]) * np.float64(qs[i])
            work[s, 0, b], work[s, 1, b] = rz, zq


def flexible_dots(z, r, q, rz, minus_zq, work):
    _over_vector(_flexible_dots, z.shape[1], z, r, q, work, batch=z.shape[0])
    _total(work, 0, rz)
    _total(work, 1, minus_zq)


# no sums to reassociate here; and beta p must not become (numerator p) / denominator, which may underflow
@njit(**JIT | {"fastmath": {"contract", "nsz"}})
def _cg_direction(first, last, z, dinv, numerator, denominator, p):
    for b in range(first, last):
        low, high = b * BLOCK, min((b + 1) * BLOCK, p.shape[1])
        for s in range(p.shape[0]):
            beta = numerator[s] / denominator[s]
            if not np.isfinite(beta):
                beta = 0.0
            zs, ps = z[s, low:high], p[s, low:high]
            if dinv is None:
                for i in range(zs.size):
                    ps[i] = zs[i] + beta * ps[i]
            else:
                ds = dinv[s % dinv.shape[0], low:high]
                for i in range(zs.size):
                    ps[i] = np.float64(zs[i]) * np.float64(ds[i]) + beta * ps[i]


def cg_direction(z, dinv, numerator, denominator, p):
    _over_vector(_cg_direction, p.shape[1], z, dinv, numerator, denominator, p, batch=p.shape[0])
