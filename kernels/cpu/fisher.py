"""Numba twins of contracts/fisher.py.

A pass over G goes by runs of columns: short enough for the vectors (in float64) to stay in cache, while the rows of G
come by a few at a time (cpu/rows.py), and long enough for memory to be read in long stretches, over several blocks
where these are narrow. Large matrix products and triangular solves are left to BLAS, on columns converted to float64.
"""

import numpy as np
from numba import njit

from ..contracts.fisher import gram_columns_tile, gram_tile
from .pool import JIT, over_blocks
from .rows import add_dots, add_products, add_rows, shaped

_GRAIN = 120_000  # elements that a thread is worth waking for
_CALL = 2**28  # products in one call: well under 100 ms, so that a Ctrl-C is seen
_RUN = 4160  # columns at least; no power of two, or the vectors would fall on the same lines of the cache
_SLAB = 32  # rows that one thread takes the products of
_FOR_BLAS = 2**21  # products in a block from which BLAS pays for the call,
_FOR_BLAS_IN_MANY = 2**25  # and where there are blocks enough for all threads


def _in_calls(body, units, products, *args):
    """over_blocks(body, units, ..., start, *args) in calls that take a short time; `products` that a unit takes."""
    a_call = max(1, _CALL // max(1, products))
    for start in range(0, units, a_call):
        over_blocks(body, min(a_call, units - start), max(1, _GRAIN // max(1, products)), start, *args)


# ---- products with vectors ------------------------------------------------------------------------------------------


@njit(**JIT)
def _row_dots(first, last, start, G, width, group, slabs, begin, end, run, X, out):
    """Units are _SLAB rows of `group` blocks; columns `begin` to `end` of a block, in runs."""
    (m, c), s = G.shape, X.shape[0]
    room = np.empty(s * run)
    for unit in range(start + first, start + last):
        k0, i0 = unit // slabs * group, unit % slabs * _SLAB
        k1, i1 = min(k0 + group, out.shape[0]), min(i0 + _SLAB, m)
        stop = min((k1 - 1) * width + end, c)
        for low in range(k0 * width + begin, stop, run):
            high = min(low + run, stop)
            x = shaped(room, s, high - low)
            for t in range(s):
                x[t] = X[t, low:high]
            for i in range(i0, i1, 4):
                for k in range(k0, k1):
                    left, right = max(low, k * width), min(high, (k + 1) * width)
                    add_dots(G, i, min(i + 4, i1), left, right, x, left - low, out[k])


def row_dots(G, width, X, out, work):
    (blocks, s, m), c = out.shape, G.shape[1]
    width, slabs = min(width, c), -(-m // _SLAB)
    if not out.size:
        return
    at_once = max(_RUN, _CALL // (m * s))  # columns of a block in one call
    run = min(at_once, max(_RUN, 16 * _RUN // s))
    group = max(1, run // width)
    for begin in range(0, width, at_once):
        end = min(begin + at_once, width)
        units, products = -(-blocks // group) * slabs, _SLAB * s * group * (end - begin)
        _in_calls(_row_dots, units, products, G, width, group, slabs, begin, end, run, X, out)


@njit(**JIT)
def _combine_rows(first, last, start, G, width, group, runs, run, C, alpha, X, beta, Y):
    """Units are runs of columns of `group` blocks."""
    (s, c), m = Y.shape, G.shape[0]
    room = np.empty(s * run)
    for unit in range(start + first, start + last):
        k0 = unit // runs * group
        k1, low = min(k0 + group, C.shape[0]), k0 * width + unit % runs * run
        high = min(low + run, k1 * width, c)
        if low >= high:
            continue
        total = shaped(room, s, high - low)
        total[:] = 0.0
        for i in range(0, m, 8):
            for k in range(k0, k1):
                left, right = max(low, k * width), min(high, (k + 1) * width)
                add_rows(C[k], G, i, min(i + 8, m), left, right, total, left - low)
        for t in range(s):
            y, sums = Y[t, low:high], total[t]
            if X is None:
                for j in range(y.size):
                    y[j] = beta * sums[j]
            else:
                x = X[t, low:high]
                for j in range(y.size):
                    y[j] = alpha * np.float64(x[j]) + beta * sums[j]


def combine_rows(G, width, C, alpha, X, beta, Y):
    (blocks, s, m), c = C.shape, G.shape[1]
    if not Y.size:
        return
    width, run = min(width, c), max(_RUN, 4 * _RUN // s)
    group = max(1, run // width)
    run = min(run, group * width)
    runs = -(-width // run) if group == 1 else 1
    units, products = -(-blocks // group) * runs, m * s * run
    args = G, width, group, runs, run, C, float(alpha), X, float(beta), Y
    _in_calls(_combine_rows, units, products, *args)


# ---- small matrices -------------------------------------------------------------------------------------------------


@njit(**JIT)
def _convert(first, last, G, low, tile):
    """tile = the rows of G from column `low` on, in float64"""
    for i in range(first, last):
        row, part = tile[i], G[i, low : low + tile.shape[1]]
        for j in range(row.size):
            row[j] = part[j]


def _converted(G, low, columns, work):
    """Those columns of G in float64, in `work`."""
    tile = work[: G.shape[0] * columns].reshape(G.shape[0], columns)
    over_blocks(_convert, G.shape[0], max(1, _GRAIN // max(1, columns)), G, low, tile)
    return tile


@njit(**JIT)
def _mirror(A, n):
    """The upper triangle of the first n rows and columns from the lower one, by squares that fit into cache."""
    for i0 in range(0, n, 32):
        for j0 in range(0, i0 + 1, 32):
            for i in range(i0, min(i0 + 32, n)):
                for j in range(j0, min(j0 + 32, i)):
                    A[j, i] = A[i, j]


def _for_blas(blocks, products):
    return products >= (_FOR_BLAS_IN_MANY if blocks >= 8 else _FOR_BLAS)


@njit(**JIT)
def _small_gram(first, last, start, G, width, transposed, A):
    m, c = G.shape
    stride = (m if transposed else width) + 8  # no power of two, or the rows would fall on the same lines of the cache
    room = np.empty(((width if transposed else m), stride))
    for k in range(start + first, start + last):
        low, high = k * width, min((k + 1) * width, c)
        if transposed:
            for i0 in range(0, m, 8):  # eight of a column are one line of the cache
                for j in range(low, high):
                    row = room[j - low]
                    for i in range(i0, min(i0 + 8, m)):
                        row[i] = G[i, j]
            add_products(room[: high - low], m, A[k])
            _mirror(A[k], high - low)
        else:
            for i in range(m):
                row, part = room[i], G[i, low:high]
                for j in range(part.size):
                    row[j] = part[j]
            add_products(room, high - low, A[k])
            _mirror(A[k], m)


def gram(G, width, A, work):
    from . import blas  # loads scipy.linalg, which other solvers do without

    m, c = G.shape
    width = min(width, max(1, c))
    if not _for_blas(A.shape[0], m * m * width):
        _in_calls(_small_gram, A.shape[0], m * m * width, G, width, False, A)
        return
    at_once = min(gram_tile(m, c, width)[1], max(64, 16 * _CALL // m**2))
    for k in range(A.shape[0]):
        end = min((k + 1) * width, c)
        for low in range(k * width, end, at_once):
            blas.add_row_products(_converted(G, low, min(at_once, end - low), work), A[k])
        _mirror(A[k], m)


def gram_columns(G, width, A, work):
    from . import blas

    m, c = G.shape
    if not _for_blas(A.shape[0], m * width * width):
        _in_calls(_small_gram, A.shape[0], m * width * width, G, width, True, A)
        return
    at_once = min(gram_columns_tile(m, c, width)[1], max(64, 16 * _CALL // width**2))
    for k in range(A.shape[0]):
        columns = min(width, c - k * width)
        corner = A[k] if columns == width else A[k, :columns, :columns].copy()
        for low in range(0, m, at_once):
            blas.add_column_products(_converted(G[low : low + at_once], k * width, columns, work), corner)
        _mirror(corner, columns)
        A[k, :columns, :columns] = corner


@njit(**JIT)
def _add_squares(first, last, W, out):
    """out = column sums of squares, by 512 columns"""
    for b in range(first, last):
        low, high = b * 512, min((b + 1) * 512, W.shape[1])
        total = out[low:high]
        total[:] = 0.0
        for i in range(W.shape[0]):
            row = W[i, low:high]
            for j in range(total.size):
                total[j] += row[j] * row[j]


@njit(**JIT)
def _small_leverage(first, last, start, L, G, width, out):
    m, c = G.shape
    room = np.empty(m * width)
    for k in range(start + first, start + last):
        low, high = k * width, min((k + 1) * width, c)
        W, total = shaped(room, m, high - low), out[low:high]
        total[:] = 0.0
        for i0 in range(0, m, 4):
            i1 = min(i0 + 4, m)
            W[i0:i1] = 0.0
            add_rows(L[k, i0:i1], W, 0, i0, 0, high - low, W[i0:i1], 0)
            for i in range(i0, i1):
                row, g = W[i], G[i, low:high]
                add_rows(L[k, i : i + 1], W, i0, i, 0, high - low, W[i : i + 1], 0)
                for j in range(row.size):
                    row[j] = (np.float64(g[j]) - row[j]) / L[k, i, i]
                    total[j] += row[j] * row[j]


def leverage(L, G, width, out, work):
    from . import blas

    m, c = G.shape
    width = min(width, max(1, c))
    if not _for_blas(L.shape[0], m * m * width):
        _in_calls(_small_leverage, L.shape[0], m * m * width, L, G, width, out)
        return
    at_once = min(work.shape[1], max(64, 16 * _CALL // m**2))
    for k in range(L.shape[0]):
        end = min((k + 1) * width, c)
        for low in range(k * width, end, at_once):
            W = _converted(G, low, min(at_once, end - low), work.reshape(-1))
            blas.solve_lower(L[k], W)
            over_blocks(_add_squares, -(-W.shape[1] // 512), 1 + _GRAIN // (512 * m), W, out[low : low + W.shape[1]])
