"""Numba twins of contracts/softmin.py.

A row is done by itself, in two sweeps over exponents that stay in a cache: the largest, then the sum. Columns are done
in tiles of TILE, all rows by one thread, CHUNK rows at a time: C is read in its own order, neighbouring columns are
neighbouring lanes, and when a chunk brings a larger exponent the sum so far is scaled down to it. So no result depends
on how rows or tiles are shared among threads.
"""

import numpy as np
from numba import njit

from .exponential import exp
from .pool import JIT, over_blocks

TILE, CHUNK = 128, 32  # columns and rows whose exponents are in a cache together: 32 KiB
_NOTHING = -1e300  # below any exponent that counts, and finite, that differences with it are numbers
_GRAIN = 20_000  # exponentials a thread is worth waking for

# A sum may be reassociated, that it vectorises; exponents may not, since -inf and NaN have to arrive. The largest of a
# row is found in eight lanes by hand: as one reduction it would have to be told that there are no NaN.
_ELEMENTWISE = JIT | {"fastmath": {"contract", "nsz"}}


@njit(**_ELEMENTWISE)
def _exponents(C, g, inverse, x):
    for j in range(x.size):
        x[j] = (g[j] - np.float64(C[j])) * inverse


@njit(**_ELEMENTWISE)
def _largest(x):
    whole = x.size // 8 * 8
    m0 = m1 = m2 = m3 = m4 = m5 = m6 = m7 = -np.inf
    for j in range(0, whole, 8):
        m0 = x[j] if x[j] > m0 else m0
        m1 = x[j + 1] if x[j + 1] > m1 else m1
        m2 = x[j + 2] if x[j + 2] > m2 else m2
        m3 = x[j + 3] if x[j + 3] > m3 else m3
        m4 = x[j + 4] if x[j + 4] > m4 else m4
        m5 = x[j + 5] if x[j + 5] > m5 else m5
        m6 = x[j + 6] if x[j + 6] > m6 else m6
        m7 = x[j + 7] if x[j + 7] > m7 else m7
    for j in range(whole, x.size):
        m0 = x[j] if x[j] > m0 else m0
    return max(max(max(m0, m1), max(m2, m3)), max(max(m4, m5), max(m6, m7)))


@njit(**JIT)
def _exp_sum(x, top):
    total = 0.0
    for j in range(x.size):
        total += exp(x[j] - top)
    return total


@njit(**JIT)
def _softmin_rows(first, last, C, g, reg, f):
    x = np.empty(C.shape[2])
    for i in range(first, last):
        for s in range(f.shape[0]):
            _exponents(C[s % C.shape[0], i], g[s], 1.0 / reg, x)
            top = _largest(x)
            f[s, i] = -reg * (top + np.log(_exp_sum(x, top))) if top > -np.inf else -reg * top


def softmin_rows(C, g, reg, f):
    rows_worth_a_thread = 1 + _GRAIN // max(1, g.size)
    over_blocks(_softmin_rows, f.shape[1], rows_worth_a_thread, C, g, reg, f)


@njit(**_ELEMENTWISE)
def _column_exponents(C, f, inverse, x, top):
    for j in range(x.size):
        x[j] = (f - np.float64(C[j])) * inverse
        top[j] = x[j] if x[j] > top[j] else top[j]


@njit(**_ELEMENTWISE)
def _scale_down(total, before, top):
    """The sums, which were of exp(x - before), become those of exp(x - top)."""
    for j in range(total.size):
        total[j] *= exp(before[j] - top[j])
        before[j] = top[j]


@njit(**_ELEMENTWISE)
def _add_exp(total, x, top):
    for j in range(total.size):
        total[j] += exp(x[j] - top[j])


@njit(**JIT)
def _softmin_columns(first, last, C, f, reg, g):
    n, m = C.shape[1:]
    for tile in range(first, last):
        low, high = tile * TILE, min((tile + 1) * TILE, m)
        x = np.empty((CHUNK, high - low))
        total, top, before = np.empty(high - low), np.empty(high - low), np.empty(high - low)
        for s in range(g.shape[0]):
            total[:] = 0.0
            top[:] = before[:] = _NOTHING
            for start in range(0, n, CHUNK):
                rows = min(CHUNK, n - start)
                for i in range(rows):
                    _column_exponents(C[s % C.shape[0], start + i, low:high], f[s, start + i], 1.0 / reg, x[i], top)
                _scale_down(total, before, top)
                for i in range(rows):
                    _add_exp(total, x[i], top)
            for j in range(high - low):
                g[s, low + j] = -reg * (top[j] + np.log(total[j])) if top[j] != _NOTHING else np.inf


def softmin_columns(C, f, reg, g):
    tiles_worth_a_thread = 1 + _GRAIN // max(1, f.size * TILE)
    over_blocks(_softmin_columns, -(-g.shape[1] // TILE), tiles_worth_a_thread, C, f, reg, g)
