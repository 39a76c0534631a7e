"""Numba twins of contracts/fisher.py.

A pass over G goes by units, BLOCK columns of one block of it, whose vectors stay in cache while the rows of G come by
four at a time; products are taken four rows with four vectors at a time, which is 16 of them for 8 numbers loaded.
Large matrix products and triangular solves are left to BLAS, on columns converted to float64.
"""

import numpy as np
from numba import njit

from ..contracts import BLOCK
from ..contracts.fisher import column_blocks, gram_columns_tile, gram_tile, pieces
from .pool import JIT, over_blocks

_GRAIN = 120_000  # elements that a thread is worth waking for
_CALL = 2**26  # products in one call: well under 100 ms, so that a Ctrl-C is seen
_FOR_BLAS = 2**21  # products in a block from which BLAS pays for the call


def _in_calls(body, units, products, *args):
    """over_blocks(body, units, ..., start, *args) in calls that take a short time; `products` that a unit takes."""
    a_call = max(1, _CALL // max(1, products))
    for start in range(0, units, a_call):
        over_blocks(body, min(a_call, units - start), max(1, _GRAIN // max(1, products)), start, *args)


# ---- products of a few rows -----------------------------------------------------------------------------------------


@njit(**JIT)
def _dot(x, y):
    total = 0.0
    for j in range(y.size):
        total += np.float64(x[j]) * np.float64(y[j])
    return total


@njit(**JIT)
def _dots_4x1(a, b, c, d, x):
    """x with four rows"""
    p = q = r = s = 0.0
    for j in range(x.size):
        p += np.float64(a[j]) * x[j]
        q += np.float64(b[j]) * x[j]
        r += np.float64(c[j]) * x[j]
        s += np.float64(d[j]) * x[j]
    return p, q, r, s


@njit(**JIT)
def _dots_4x4(a, b, c, d, x, y, z, w):
    """Each of x, y, z, w with each of four rows"""
    ax = ay = az = aw = bx = by = bz = bw = cx = cy = cz = cw = dx = dy = dz = dw = 0.0
    for j in range(x.size):
        aj, bj, cj, dj = np.float64(a[j]), np.float64(b[j]), np.float64(c[j]), np.float64(d[j])
        xj, yj, zj, wj = x[j], y[j], z[j], w[j]
        ax += aj * xj
        ay += aj * yj
        az += aj * zj
        aw += aj * wj
        bx += bj * xj
        by += bj * yj
        bz += bj * zj
        bw += bj * wj
        cx += cj * xj
        cy += cj * yj
        cz += cj * zj
        cw += cj * wj
        dx += dj * xj
        dy += dj * yj
        dz += dj * zj
        dw += dj * wj
    return (ax, bx, cx, dx), (ay, by, cy, dy), (az, bz, cz, dz), (aw, bw, cw, dw)


@njit(**JIT)
def _dots(G, low, high, X, out):
    """out[s, i] = X[s] . G[i, low:high] for all rows; X (s, high - low) float64"""
    m, s = G.shape[0], X.shape[0]
    for i in range(0, m - 3, 4):
        a, b, c, d = G[i, low:high], G[i + 1, low:high], G[i + 2, low:high], G[i + 3, low:high]
        for t in range(0, s - 3, 4):
            x, y, z, w = _dots_4x4(a, b, c, d, X[t], X[t + 1], X[t + 2], X[t + 3])
            out[t, i], out[t, i + 1], out[t, i + 2], out[t, i + 3] = x
            out[t + 1, i], out[t + 1, i + 1], out[t + 1, i + 2], out[t + 1, i + 3] = y
            out[t + 2, i], out[t + 2, i + 1], out[t + 2, i + 2], out[t + 2, i + 3] = z
            out[t + 3, i], out[t + 3, i + 1], out[t + 3, i + 2], out[t + 3, i + 3] = w
        for t in range(s // 4 * 4, s):
            out[t, i], out[t, i + 1], out[t, i + 2], out[t, i + 3] = _dots_4x1(a, b, c, d, X[t])
    for i in range(m // 4 * 4, m):
        for t in range(s):
            out[t, i] = _dot(G[i, low:high], X[t])


@njit(**JIT)
def _add_4x1(y, a, b, c, d, p, q, r, s):
    """y += p a + q b + r c + s d"""
    for j in range(y.size):
        y[j] += (p * np.float64(a[j]) + q * np.float64(b[j])) + (r * np.float64(c[j]) + s * np.float64(d[j]))


@njit(**JIT)
def _add_4x4(x, y, z, w, a, b, c, d, C, t, i):
    """(x, y, z, w) += C[t:t+4, i:i+4] (a, b, c, d)"""
    ax, bx, cx, dx = C[t, i], C[t, i + 1], C[t, i + 2], C[t, i + 3]
    ay, by, cy, dy = C[t + 1, i], C[t + 1, i + 1], C[t + 1, i + 2], C[t + 1, i + 3]
    az, bz, cz, dz = C[t + 2, i], C[t + 2, i + 1], C[t + 2, i + 2], C[t + 2, i + 3]
    aw, bw, cw, dw = C[t + 3, i], C[t + 3, i + 1], C[t + 3, i + 2], C[t + 3, i + 3]
    for j in range(x.size):
        aj, bj, cj, dj = np.float64(a[j]), np.float64(b[j]), np.float64(c[j]), np.float64(d[j])
        x[j] += (ax * aj + bx * bj) + (cx * cj + dx * dj)
        y[j] += (ay * aj + by * bj) + (cy * cj + dy * dj)
        z[j] += (az * aj + bz * bj) + (cz * cj + dz * dj)
        w[j] += (aw * aj + bw * bj) + (cw * cj + dw * dj)


@njit(**JIT)
def _add_rows(C, G, low, high, Y):
    """Y += C G[:, low:high]; C (s, m), Y (s, high - low) float64"""
    m, s = G.shape[0], Y.shape[0]
    for i in range(0, m - 3, 4):
        a, b, c, d = G[i, low:high], G[i + 1, low:high], G[i + 2, low:high], G[i + 3, low:high]
        for t in range(0, s - 3, 4):
            _add_4x4(Y[t], Y[t + 1], Y[t + 2], Y[t + 3], a, b, c, d, C, t, i)
        for t in range(s // 4 * 4, s):
            _add_4x1(Y[t], a, b, c, d, C[t, i], C[t, i + 1], C[t, i + 2], C[t, i + 3])
    for i in range(m // 4 * 4, m):
        row = G[i, low:high]
        for t in range(s):
            y, p = Y[t], C[t, i]
            for j in range(y.size):
                y[j] += p * np.float64(row[j])


# ---- products with vectors ------------------------------------------------------------------------------------------


@njit(**JIT)
def _span(unit, in_pieces, width, c):
    """(block, first column, last column) of a unit of BLOCK columns"""
    k, piece = unit // in_pieces, unit % in_pieces
    low = k * width + piece * BLOCK
    return k, low, min(low + BLOCK, (k + 1) * width, c)


@njit(**JIT)
def _row_dots(first, last, start, G, width, in_pieces, X, work):
    room = np.empty((X.shape[0], min(BLOCK, G.shape[1])))
    for unit in range(start + first, start + last):
        _, low, high = _span(unit, in_pieces, width, G.shape[1])
        x = room[:, : high - low]
        for t in range(X.shape[0]):
            x[t] = X[t, low:high]
        _dots(G, low, high, x, work[unit])


@njit(**JIT)
def _add_pieces(work, in_pieces, out):
    for unit in range(work.shape[0]):
        total, part = out[unit // in_pieces], work[unit]
        for t in range(total.shape[0]):
            for i in range(total.shape[1]):
                total[t, i] += part[t, i]


def row_dots(G, width, X, out, work):
    (m, c), s = G.shape, X.shape[0]
    width = min(width, max(1, c))
    products = m * s * min(width, BLOCK)
    if c:
        _in_calls(_row_dots, work.shape[0], products, G, width, pieces(c, width), X, work)
        _add_pieces(work, pieces(c, width), out)


@njit(**JIT)
def _combine_rows(first, last, start, G, width, in_pieces, C, alpha, X, beta, Y):
    s = Y.shape[0]
    room = np.empty((s, min(BLOCK, G.shape[1])))
    for unit in range(start + first, start + last):
        k, low, high = _span(unit, in_pieces, width, G.shape[1])
        total = room[:, : high - low]
        total[:] = 0.0
        _add_rows(C[k], G, low, high, total)
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
    (m, c), s = G.shape, Y.shape[0]
    width = min(width, max(1, c))
    units, products = column_blocks(c, width) * pieces(c, width), m * s * min(width, BLOCK)
    _in_calls(_combine_rows, units, products, G, width, pieces(c, width), C, float(alpha), X, float(beta), Y)


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
def _mirror(A):
    """The upper triangle from the lower one, by squares that fit into cache."""
    n = A.shape[0]
    for i0 in range(0, n, 32):
        for j0 in range(0, i0 + 1, 32):
            for i in range(i0, min(i0 + 32, n)):
                for j in range(j0, min(j0 + 32, i)):
                    A[j, i] = A[i, j]


@njit(**JIT)
def _small_gram(first, last, start, G, width, transposed, A):
    m, c = G.shape
    room = np.empty((width, m) if transposed else (m, width))
    products = np.empty((room.shape[0], room.shape[0]))
    for k in range(start + first, start + last):
        low, high = k * width, min((k + 1) * width, c)
        if transposed:
            rows = room[: high - low]
            for i in range(m):
                for j in range(low, high):
                    rows[j - low, i] = G[i, j]
        else:
            rows = room[:, : high - low]
            for i in range(m):
                rows[i] = G[i, low:high]
        n = rows.shape[0]
        _dots(rows, 0, rows.shape[1], rows, products)
        for i in range(n):
            for j in range(i):
                A[k, i, j] += products[i, j]
                A[k, j, i] = A[k, i, j]
            A[k, i, i] += products[i, i]


def gram(G, width, A, work):
    from . import blas  # loads scipy.linalg, which other solvers do without

    m, c = G.shape
    width = min(width, max(1, c))
    if m * m * width < _FOR_BLAS:
        _in_calls(_small_gram, A.shape[0], m * m * width, G, width, False, A)
        return
    at_once = min(gram_tile(m, c, width)[1], max(64, 64 * _CALL // m**2))
    for k in range(A.shape[0]):
        end = min((k + 1) * width, c)
        for low in range(k * width, end, at_once):
            blas.add_row_products(_converted(G, low, min(at_once, end - low), work), A[k])
        _mirror(A[k])


def gram_columns(G, width, A, work):
    from . import blas

    m, c = G.shape
    if m * width * width < _FOR_BLAS:
        _in_calls(_small_gram, A.shape[0], m * width * width, G, width, True, A)
        return
    at_once = min(gram_columns_tile(m, c, width)[1], max(64, 64 * _CALL // width**2))
    for k in range(A.shape[0]):
        columns = min(width, c - k * width)
        corner = A[k] if columns == width else A[k, :columns, :columns].copy()
        for low in range(0, m, at_once):
            blas.add_column_products(_converted(G[low : low + at_once], k * width, columns, work), corner)
        _mirror(corner)
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
    room = np.empty((m, width))
    for k in range(start + first, start + last):
        low, high = k * width, min((k + 1) * width, c)
        W, total = room[:, : high - low], out[low:high]
        total[:] = 0.0
        for i in range(m):
            row = W[i]
            row[:] = 0.0
            _add_rows(L[k, i : i + 1, :i], W[:i], 0, high - low, W[i : i + 1])
            g = G[i, low:high]
            for j in range(row.size):
                row[j] = (np.float64(g[j]) - row[j]) / L[k, i, i]
                total[j] += row[j] * row[j]


def leverage(L, G, width, out, work):
    from . import blas

    m, c = G.shape
    width = min(width, max(1, c))
    if m * m * width < _FOR_BLAS:
        _in_calls(_small_leverage, L.shape[0], m * m * width, L, G, width, out)
        return
    at_once = min(work.shape[1], max(64, 64 * _CALL // m**2))
    for k in range(L.shape[0]):
        end = min((k + 1) * width, c)
        for low in range(k * width, end, at_once):
            W = _converted(G, low, min(at_once, end - low), work.reshape(-1))
            blas.solve_lower(L[k], W)
            over_blocks(_add_squares, -(-W.shape[1] // 512), 1 + _GRAIN // (512 * m), W, out[low : low + W.shape[1]])
