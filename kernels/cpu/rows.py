"""Products of a few rows at a time, for cpu/fisher.py: sums in float64 of rows in float32 or float64.

Four rows with four vectors are 16 products for 8 numbers loaded, which is what makes several vectors cheaper than one
after the other; eight rows are added to four vectors for the same reason. The vectors are float64.
"""

import numpy as np
from numba import njit

from .pool import JIT

_STRIP = 512  # columns of eight rows in float64 that the innermost cache holds


@njit(**JIT)
def shaped(room, rows, columns):
    """A matrix in the first numbers of `room`: part of a wider one would have strides, which stop SIMD."""
    return room[: rows * columns].reshape(rows, columns)


@njit(**JIT)
def _dot(x, y):
    total = 0.0
    for j in range(y.size):
        total += np.float64(x[j]) * y[j]
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
def add_dots(G, i0, i1, low, high, X, at, out):
    """out[t, i] += G[i, low:high] . X[t, at:...] for i0 <= i < i1 and all t"""
    s, end = X.shape[0], at + high - low
    for i in range(i0, i1 - 3, 4):
        a, b, c, d = G[i, low:high], G[i + 1, low:high], G[i + 2, low:high], G[i + 3, low:high]
        for t in range(0, s - 3, 4):
            sums = _dots_4x4(a, b, c, d, X[t, at:end], X[t + 1, at:end], X[t + 2, at:end], X[t + 3, at:end])
            for u, (p, q, r, v) in enumerate(sums):
                row = out[t + u]
                row[i] += p
                row[i + 1] += q
                row[i + 2] += r
                row[i + 3] += v
        for t in range(s // 4 * 4, s):
            p, q, r, v = _dots_4x1(a, b, c, d, X[t, at:end])
            row = out[t]
            row[i] += p
            row[i + 1] += q
            row[i + 2] += r
            row[i + 3] += v
    for i in range(i0 + (i1 - i0) // 4 * 4, i1):
        for t in range(s):
            out[t, i] += _dot(G[i, low:high], X[t, at:end])


@njit(**JIT)
def add_products(rows, n, A):
    """The lower triangle of A += rows[:, :n] rows[:, :n]'; squares of 4 x 4 on the diagonal are whole."""
    q = rows.shape[0]
    for low in range(0, n, _STRIP):
        high = min(low + _STRIP, n)
        for i in range(0, q, 4):
            last = min(i + 4, q)
            add_dots(rows, 0, last, low, high, rows[i:last], low, A[i:last])


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
def _add_8x4(w, x, y, z, C, t, i, a, b, c, d, e, f, g, h):
    """(w, x, y, z) += C[t:t+4, i:i+8] (a, ..., h)"""
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
def add_rows(C, G, i0, i1, low, high, Y, at):
    """Y[:, at:...] += C[:, i0:i1] G[i0:i1, low:high]"""
    s, end = Y.shape[0], at + high - low
    for i in range(i0, i1 - 7, 8):
        a, b, c, d = G[i, low:high], G[i + 1, low:high], G[i + 2, low:high], G[i + 3, low:high]
        e, f, g, h = G[i + 4, low:high], G[i + 5, low:high], G[i + 6, low:high], G[i + 7, low:high]
        for t in range(0, s - 3, 4):
            w, x, y, z = Y[t, at:end], Y[t + 1, at:end], Y[t + 2, at:end], Y[t + 3, at:end]
            _add_8x4(w, x, y, z, C, t, i, a, b, c, d, e, f, g, h)
        for t in range(s // 4 * 4, s):
            _add_8x1(Y[t, at:end], C, t, i, a, b, c, d, e, f, g, h)
    for i in range(i0 + (i1 - i0) // 8 * 8, i1):
        row = G[i, low:high]
        for t in range(s):
            y, p = Y[t, at:end], C[t, i]
            for j in range(y.size):
                y[j] += p * np.float64(row[j])
