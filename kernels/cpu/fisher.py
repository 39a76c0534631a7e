"""Numba twins of contracts/fisher.py.

A pass over G goes by runs of columns: short enough for the vectors (in float64) to stay in cache, while the rows of G
come by four or eight at a time, and long enough for memory to be read in long stretches. Four vectors at a time share
what is loaded. Large matrix products and triangular solves are left to BLAS, on columns converted to float64.
"""

import numpy as np
from numba import njit

from ..contracts.fisher import gram_columns_tile, gram_tile
from .pool import JIT, over_blocks

_GRAIN = 120_000  # elements that a thread is worth waking for
_CALL = 2**28  # products in one call: well under 100 ms, so that a Ctrl-C is seen
_RUN = 4160  # columns at least; no power of two, or the vectors would fall on the same lines of the cache
_SLAB = 32  # rows that one thread takes the products of
_FOR_BLAS = 2**21  # products in a block from which BLAS pays for the call


def _in_calls(body, units, products, *args):
    """over_blocks(body, units, ..., start, *args) in calls that take a short time; `products` that a unit takes."""
    a_call = max(1, _CALL // max(1, products))
    for start in range(0, units, a_call):
        over_blocks(body, min(a_call, units - start), max(1, _GRAIN // max(1, products)), start, *args)


# ---- products of a few rows -----------------------------------------------------------------------------------------


@njit(**JIT)
def _shaped(room, rows, columns):
    """A matrix in the first numbers of `room`: part of a wider one would have strides, which stop SIMD."""
    return room[: rows * columns].reshape(rows, columns)


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
def _add_8x1(y, C, t, i, a, b, c, d, e, f, g, h):
    """y += C[t, i:i+8] (a, ..., h)"""
    p, q, r, s = C[t, i], C[t, i + 1], C[t, i + 2], C[t, i + 3]
    u, v, w, x = C[t, i + 4], C[t, i + 5], C[t, i + 6], C[t, i + 7]
    for j in range(y.size):
        y[j] += (
            p * np.float64(a[j]) + q * np.float64(b[j]) + r * np.float64(c[j]) + s * np.float64(d[j])
            + u * np.float64(e[j]) + v * np.float64(f[j]) + w * np.float64(g[j]) + x * np.float64(h[j])
        )  # fmt: skip


@njit(**JIT)
def _add_8x4(Y, C, t, i, a, b, c, d, e, f, g, h):
    """Y[t:t+4] += C[t:t+4, i:i+8] (a, ..., h)"""
    w, x, y, z = Y[t], Y[t + 1], Y[t + 2], Y[t + 3]
    wa, wb, wc, wd = C[t, i], C[t, i + 1], C[t, i + 2], C[t, i + 3]
    we, wf, wg, wh = C[t, i + 4], C[t, i + 5], C[t, i + 6], C[t, i + 7]
    xa, xb, xc, xd = C[t + 1, i], C[t + 1, i + 1], C[t + 1, i + 2], C[t + 1, i + 3]
    xe, xf, xg, xh = C[t + 1, i + 4], C[t + 1, i + 5], C[t + 1, i + 6], C[t + 1, i + 7]
    ya, yb, yc, yd = C[t + 2, i], C[t + 2, i + 1], C[t + 2, i + 2], C[t + 2, i + 3]
    ye, yf, yg, yh = C[t + 2, i + 4], C[t + 2, i + 5], C[t + 2, i + 6], C[t + 2, i + 7]
    za, zb, zc, zd = C[t + 3, i], C[t + 3, i + 1], C[t + 3, i + 2], C[t + 3, i + 3]
    ze, zf, zg, zh = C[t + 3, i + 4], C[t + 3, i + 5], C[t + 3, i + 6], C[t + 3, i + 7]
    for j in range(w.size):
        aj, bj, cj, dj = np.float64(a[j]), np.float64(b[j]), np.float64(c[j]), np.float64(d[j])
        ej, fj, gj, hj = np.float64(e[j]), np.float64(f[j]), np.float64(g[j]), np.float64(h[j])
        w[j] += wa * aj + wb * bj + wc * cj + wd * dj + we * ej + wf * fj + wg * gj + wh * hj
        x[j] += xa * aj + xb * bj + xc * cj + xd * dj + xe * ej + xf * fj + xg * gj + xh * hj
        y[j] += ya * aj + yb * bj + yc * cj + yd * dj + ye * ej + yf * fj + yg * gj + yh * hj
        z[j] += za * aj + zb * bj + zc * cj + zd * dj + ze * ej + zf * fj + zg * gj + zh * hj


@njit(**JIT)
def _add_rows(C, G, low, high, Y):
    """Y += C G[:, low:high]; C (s, m), Y (s, high - low) float64"""
    m, s = G.shape[0], Y.shape[0]
    for i in range(0, m - 7, 8):
        a, b, c, d = G[i, low:high], G[i + 1, low:high], G[i + 2, low:high], G[i + 3, low:high]
        e, f, g, h = G[i + 4, low:high], G[i + 5, low:high], G[i + 6, low:high], G[i + 7, low:high]
        for t in range(0, s - 3, 4):
            _add_8x4(Y, C, t, i, a, b, c, d, e, f, g, h)
        for t in range(s // 4 * 4, s):
            _add_8x1(Y[t], C, t, i, a, b, c, d, e, f, g, h)
    for i in range(m // 8 * 8, m):
        row = G[i, low:high]
        for t in range(s):
            y, p = Y[t], C[t, i]
            for j in range(y.size):
                y[j] += p * np.float64(row[j])


# ---- products with vectors ------------------------------------------------------------------------------------------


@njit(**JIT)
def _row_dots(first, last, start, G, width, slabs, begin, end, run, X, out):
    """Units are _SLAB rows of one block; columns `begin` to `end` of the block, in runs"""
    (m, c), s = G.shape, X.shape[0]
    room, dots = np.empty(s * run), np.empty((s, _SLAB))
    for unit in range(start + first, start + last):
        k, i0 = unit // slabs, unit % slabs * _SLAB
        i1, stop = min(i0 + _SLAB, m), min(k * width + end, (k + 1) * width, c)
        for low in range(k * width + begin, stop, run):
            high = min(low + run, stop)
            x = _shaped(room, s, high - low)
            for t in range(s):
                x[t] = X[t, low:high]
            _dots(G[i0:i1], low, high, x, dots)
            for t in range(s):
                for i in range(i0, i1):
                    out[k, t, i] += dots[t, i - i0]


def row_dots(G, width, X, out, work):
    (blocks, s, m), c = out.shape, G.shape[1]
    width, slabs = min(width, c), -(-m // _SLAB)
    at_once = max(_RUN, _CALL // max(1, m * s))  # columns of one call
    for begin in range(0, width if s else 0, at_once):
        end, run = min(begin + at_once, width), min(width, max(_RUN, 16 * _RUN // s))
        products = _SLAB * s * (end - begin)
        _in_calls(_row_dots, blocks * slabs, products, G, width, slabs, begin, end, run, X, out)


@njit(**JIT)
def _combine_rows(first, last, start, G, width, runs, run, C, alpha, X, beta, Y):
    """Units are runs of columns"""
    s, c = Y.shape[0], G.shape[1]
    room = np.empty(s * run)
    for unit in range(start + first, start + last):
        k = unit // runs
        low = k * width + unit % runs * run
        high = min(low + run, (k + 1) * width, c)
        if low >= high:
            continue
        total = _shaped(room, s, high - low)
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
    (blocks, s, m), c = C.shape, G.shape[1]
    width = min(width, c)
    if width and s:
        run = min(width, max(_RUN, 4 * _RUN // s))
        runs = -(-width // run)
        args = G, width, runs, run, C, float(alpha), X, float(beta), Y
        _in_calls(_combine_rows, blocks * runs, m * s * run, *args)


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
    room, products = np.empty(m * width), np.empty((width, width) if transposed else (m, m))
    for k in range(start + first, start + last):
        low, high = k * width, min((k + 1) * width, c)
        if transposed:
            rows = _shaped(room, high - low, m)
            for i in range(m):
                for j in range(low, high):
                    rows[j - low, i] = G[i, j]
        else:
            rows = _shaped(room, m, high - low)
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
    at_once = min(gram_tile(m, c, width)[1], max(64, 16 * _CALL // m**2))
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
    at_once = min(gram_columns_tile(m, c, width)[1], max(64, 16 * _CALL // width**2))
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
    room = np.empty(m * width)
    for k in range(start + first, start + last):
        low, high = k * width, min((k + 1) * width, c)
        W, total = _shaped(room, m, high - low), out[low:high]
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
    at_once = min(work.shape[1], max(64, 16 * _CALL // m**2))
    for k in range(L.shape[0]):
        end = min((k + 1) * width, c)
        for low in range(k * width, end, at_once):
            W = _converted(G, low, min(at_once, end - low), work.reshape(-1))
            blas.solve_lower(L[k], W)
            over_blocks(_add_squares, -(-W.shape[1] // 512), 1 + _GRAIN // (512 * m), W, out[low : low + W.shape[1]])
