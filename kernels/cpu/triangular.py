"""Numba twins of contracts/triangular.py: rows in their own order; the systems of a batch on several threads."""

import numpy as np
from numba import njit, uint64

from ..contracts.triangular import PIVOT
from .pool import JIT, over_blocks

_CALL = 200_000  # rows in one call, so that a Ctrl-C is seen


@njit(**JIT)
def _row_levels(low, high, indptr, indices, place, level):
    for i in range(low, high):
        most = -1
        for at in range(indptr[i], place[i]):
            most = max(most, level[indices[at]])
        level[i] = most + 1


def row_levels(indptr, indices, place, level):
    for low in range(0, level.size, _CALL):
        _row_levels(low, min(low + _CALL, level.size), indptr, indices, place, level)


@njit(**JIT)
def _ic0_rows(low, high, indptr, indices, place, data, shift, factor, row, free):
    """The rows from `low` to `high`; the one at which it breaks down, or -1.

    row (n,) holds s_im / d_m of the row at work, zero elsewhere; free (n,) says where above the diagonal of row j the
    next entry of S' goes: rows come in ascending order, and so do the columns of j.
    """
    for i in range(low, high):
        begin, end = uint64(indptr[i]), uint64(place[i])
        pivot = np.float64(data[end]) * (1.0 + shift)
        d = pivot
        for at in range(begin, end):
            j = uint64(indices[at])
            s = np.float64(data[at])
            for k in range(uint64(indptr[j]), uint64(place[j])):
                s -= np.float64(factor[k]) * row[uint64(indices[k])]
            row[j] = s / np.float64(factor[uint64(place[j])])
            d -= s * row[j]
            factor[at] = s
            factor[uint64(free[j])] = s
            free[j] += 1
        for at in range(begin, end):
            row[uint64(indices[at])] = 0.0
        if not (d > PIVOT * pivot and np.isfinite(d)):
            return i
        factor[end] = d
    return -1


def ic0_factor(indptr, indices, place, data, shift, factor, broke):
    n = place.size
    row, free = np.zeros(n), place + 1
    broke[0] = -1
    for low in range(0, n, _CALL):
        high = min(low + _CALL, n)
        broke[0] = _ic0_rows(low, high, indptr, indices, place, data, float(shift), factor, row, free)
        if broke[0] >= 0:
            factor[...] = 0
            return


@njit(**JIT)
def _forward(first, last, low, high, indptr, indices, place, data, dinv, r, z):
    for s in range(first, last):
        rs, zs = r[s], z[s]
        for i in range(low, high):
            total = np.float64(rs[i])
            for at in range(uint64(indptr[i]), uint64(place[i])):
                total -= np.float64(data[at]) * np.float64(zs[uint64(indices[at])])
            zs[i] = total * np.float64(dinv[i])


@njit(**JIT)
def _back(first, last, low, high, indptr, indices, place, data, dinv, scale, z):
    for s in range(first, last):
        zs = z[s]
        for i in range(high - 1, low - 1, -1):
            total = 0.0
            for at in range(uint64(place[i]) + uint64(1), uint64(indptr[i + 1])):
                total += np.float64(data[at]) * np.float64(zs[uint64(indices[at])])
            zs[i] = scale * np.float64(zs[i]) - np.float64(dinv[i]) * total


def two_sweeps(indptr, indices, place, data, dinv, scale, order, level_ptr, r, z):
    batch, n = z.shape
    grain = max(1, 20_000 // max(1, n))
    parts = [(low, min(low + _CALL, n)) for low in range(0, n, _CALL)]
    for part in parts:
        over_blocks(_forward, batch, grain, *part, indptr, indices, place, data, dinv, r, z)
    for part in reversed(parts):
        over_blocks(_back, batch, grain, *part, indptr, indices, place, data, dinv, float(scale), z)
