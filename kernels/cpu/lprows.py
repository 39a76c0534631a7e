"""Numba twins of contracts/lprows.py."""

from numba import njit, uint64

from ..contracts import BLOCK
from .pool import JIT, over_blocks

_GRAIN = 100_000  # reads and writes that a thread is worth waking for


@njit(**JIT)
def _clip(v, low, high):
    """NaN stays."""
    return low if v < low else (high if v > high else v)


@njit(**JIT)
def _columns(first, last, aty, c, lower, upper, tau, share, keep, x, x0, p, dx, reflected):
    for block in range(first, last):  # so that what is rounded in a SIMD register does not depend on threads
        _some_columns(block * BLOCK, min((block + 1) * BLOCK, x.size), aty, c, lower, upper, tau, share, keep, x, x0,
                      p, dx, reflected)  # fmt: skip


@njit(**JIT)
def _some_columns(low, high, aty, c, lower, upper, tau, share, keep, x, x0, p, dx, reflected):
    for j in range(low, high):
        at = x[j]
        to = _clip(at - tau * (c[j] - aty[j]), lower[j], upper[j])
        if keep:
            p[j], dx[j] = to, to - at
        beyond = 2.0 * to - at
        reflected[j] = beyond
        x[j] = share * beyond + (1.0 - share) * x0[j]


def lp_columns(aty, c, lower, upper, tau, share, keep, x, x0, p, dx, reflected):
    over_blocks(_columns, -(-x.size // BLOCK), 1 + _GRAIN // (10 * BLOCK), aty, c, lower, upper, float(tau),
                float(share), int(keep), x, x0, p, dx, reflected)  # fmt: skip


@njit(**JIT)
def _rows(first, last, indptr, indices, data, row_lower, row_upper, sigma, share, keep, reflected, y, y0, q, dy):
    k = uint64(indptr[first])
    for i in range(first, last):
        end = uint64(indptr[i + 1])
        total = 0.0
        while k < end:
            total += data[k] * reflected[uint64(indices[k])]
            k += uint64(1)
        at = y[i]
        t = at - sigma * total
        to = t - _clip(t, -sigma * row_upper[i], -sigma * row_lower[i])
        if keep:
            q[i], dy[i] = to, to - at
        y[i] = share * (2.0 * to - at) + (1.0 - share) * y0[i]


def lp_rows(indptr, indices, data, row_lower, row_upper, sigma, share, keep, reflected, y, y0, q, dy):
    rows_a_thread = 1 + _GRAIN * y.size // (1 + indices.size + 8 * y.size)
    over_blocks(_rows, y.size, rows_a_thread, indptr, indices, data, row_lower, row_upper, float(sigma), float(share),
                int(keep), reflected, y, y0, q, dy)  # fmt: skip
