"""Numba twins of the residuals of contracts/grid.py: b - A x in twice the precision of float64, see exact.py.

Blocks are ranges of lines, as in grid.py.
"""

import numpy as np
from numba import njit

from .exact import EXACT_JIT, add, subtract_product
from .grid import line_at, over_lines
from .lanes import above, any_of, fill, fused, only, store
from .linalg import merged_squares, norm_total, scaled_squares
from .singles import load_wide


@njit(**EXACT_JIT)
def _take(high, low, c, u):
    """(high, low) + c u, line by line."""
    for i in range(high.size):
        high[i], low[i] = subtract_product(high[i], low[i], -np.float64(c[i]), np.float64(u[i]))


@njit(**EXACT_JIT)
def _take_along(high, low, c, u):
    """The two neighbours along the line; c (n,) of the face after a cell, the last of which leads to the first."""
    n = high.size
    _take(high[: n - 1], low[: n - 1], c[: n - 1], u[1:])
    _take(high[1:], low[1:], c[: n - 1], u[: n - 1])
    _take(high[n - 1 :], low[n - 1 :], c[n - 1 :], u[:1])
    _take(high[:1], low[:1], c[n - 1 :], u[n - 1 :])


@njit(**EXACT_JIT)
def _add_product_lanes(high, low, a, b):
    """(high, low) + a b, eight at a time."""
    product = a * b
    high, low = add(high, low, product)
    return high, low + fused(a, b, fill(0.0) - product)


@njit(**EXACT_JIT)
def _open_residual_line(count, scale, wraps, x, y0, y1, z0, z1, b, wide, out):
    """out = b - A x on one line: a sum of neighbours, times the scale; wide (n + 2) is scratch."""
    n = x.size
    for i in range(n):
        wide[i + 1] = x[i]
    wide[0], wide[n + 1] = (x[n - 1], x[0]) if wraps & 1 else (0.0, 0.0)
    whole = n // 8 * 8
    for i in range(0, whole, 8):
        faces, right = load_wide(count, i), load_wide(b, i)
        unknown = above(faces, fill(0.0))
        if not any_of(unknown):
            store(out, i, right)
            continue
        high, low = add(load_wide(wide, i), fill(0.0), load_wide(wide, i + 2))
        high, low = add(high, low, load_wide(y0, i))
        high, low = add(high, low, load_wide(y1, i))
        high, low = add(high, low, load_wide(z0, i))
        high, low = add(high, low, load_wide(z1, i))
        around = only(unknown, fill(scale))
        total, rest = _add_product_lanes(right, fill(0.0), fill(-scale) * faces, load_wide(wide, i + 1))
        total, rest = _add_product_lanes(total, rest, around, high)
        store(out, i, total + (rest + around * low))
    for i in range(whole, n):
        high, low = add(wide[i], 0.0, wide[i + 2])
        high, low = add(high, low, np.float64(y0[i]))
        high, low = add(high, low, np.float64(y1[i]))
        high, low = add(high, low, np.float64(z0[i]))
        high, low = add(high, low, np.float64(z1[i]))
        around = scale if count[i] > 0 else 0.0
        total, rest = subtract_product(np.float64(b[i]), 0.0, scale * np.float64(count[i]), wide[i + 1])
        total, rest = subtract_product(total, rest, -around, high)
        out[i] = total + (rest + around * low)


@njit(**EXACT_JIT)
def _open_residual(first, last, open_faces, scale, wraps, x, b, r, lines_a_block):
    ny, n = x.shape[2], x.shape[3]
    zero, wide = np.zeros(n, x.dtype), np.empty(n + 2)
    for line in range(first * lines_a_block, min(last * lines_a_block, x.shape[1] * ny)):
        z, y = line // ny, line % ny
        for s in range(x.shape[0]):
            u = x[s]
            _open_residual_line(open_faces[s % open_faces.shape[0], z, y], scale, wraps, u[z, y],
                                line_at(u, z, y - 1, wraps, zero), line_at(u, z, y + 1, wraps, zero),
                                line_at(u, z - 1, y, wraps, zero), line_at(u, z + 1, y, wraps, zero), b[s, z, y], wide,
                                r[s, z, y])  # fmt: skip


def _lines_a_block(x):
    return max(1, 2048 // max(1, x.shape[3]))


def open_residual(open_faces, scale, wraps, x, b, r):
    each = _lines_a_block(x)
    over_lines(_open_residual, len(x), -(-x.shape[1] * x.shape[2] // each), open_faces, scale, wraps, x, b, r, each)


@njit(**EXACT_JIT)
def _open_residual_norm(first, last, open_faces, scale, wraps, x, b, work):
    ny, n, blocks = x.shape[2], x.shape[3], work.shape[2]
    lines = x.shape[1] * ny
    zero, wide, out = np.zeros(n, x.dtype), np.empty(n + 2), np.empty(n, x.dtype)
    for block in range(first, last):
        for s in range(x.shape[0]):
            u, top, total = x[s], 0.0, 0.0
            for line in range(block * lines // blocks, (block + 1) * lines // blocks):
                z, y = line // ny, line % ny
                _open_residual_line(open_faces[s % open_faces.shape[0], z, y], scale, wraps, u[z, y],
                                    line_at(u, z, y - 1, wraps, zero), line_at(u, z, y + 1, wraps, zero),
                                    line_at(u, z - 1, y, wraps, zero), line_at(u, z + 1, y, wraps, zero), b[s, z, y],
                                    wide, out)  # fmt: skip
                top, total = merged_squares(top, total, *scaled_squares(out))
            work[s, 0, block], work[s, 1, block] = top, total


def open_residual_norm(open_faces, scale, wraps, x, b, out, work):
    over_lines(_open_residual_norm, len(x), work.shape[2], open_faces, scale, wraps, x, b, work)
    norm_total(work, out)


@njit(**EXACT_JIT)
def _faces_residual(first, last, cz, cy, cx, diag, x, b, r, lines_a_block):
    nz, ny, n = x.shape[1], x.shape[2], x.shape[3]
    high, low, c = np.empty(n), np.empty(n), np.empty(n)
    for line in range(first * lines_a_block, min(last * lines_a_block, nz * ny)):
        z, y = line // ny, line % ny
        y0, y1 = (y if y else ny) - 1, y + 1 if y < ny - 1 else 0
        z0, z1 = (z if z else nz) - 1, z + 1 if z < nz - 1 else 0
        for s in range(x.shape[0]):
            u, right, stack = x[s], b[s, z, y], s % diag.shape[0]
            d = diag[stack, z, y]
            for i in range(n):
                high[i], low[i], c[i] = np.float64(right[i]), 0.0, -np.float64(d[i])
            _take(high, low, c, u[z, y])
            _take_along(high, low, cx[stack, z, y], u[z, y])
            _take(high, low, cy[stack, z, y], u[z, y1])
            _take(high, low, cy[stack, z, y0], u[z, y0])
            if nz > 1:
                _take(high, low, cz[stack, z, y], u[z1, y])
                _take(high, low, cz[stack, z0, y], u[z0, y])
            out = r[s, z, y]
            for i in range(n):
                out[i] = high[i] + low[i]


def faces_residual(cz, cy, cx, diag, x, b, r):
    each = _lines_a_block(x)
    over_lines(_faces_residual, len(x), -(-x.shape[1] * x.shape[2] // each), cz, cy, cx, diag, x, b, r, each)
