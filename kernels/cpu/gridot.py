"""Numba twins of contracts/gridot.py: a line on one thread, its sums in the order of its entries."""

import numpy as np
from numba import njit

from .lanes import LANES_JIT, SMALL_JIT
from .pool import JIT, over_blocks
from .wide import fill, load, load_some, only, size_of, store, store_some, sum_of, times_plus, width

_GRAIN = 200_000  # entries a thread is worth waking for
_TILE = 16  # entries a side of what is transposed at a time
_FLUSH = 16  # rows that are added up in the dtype of s before they go to a sum in float64


def _over_lines(body, s, starts, *args):
    """Of the range of rows that a thread is given, it takes the lines that begin there."""
    over_blocks(body, s.shape[0], 1 + _GRAIN // max(1, s.shape[1]), s, starts, *args)


@njit(**SMALL_JIT)
def _stepped(before, level, old, steps, nears, fars):
    """(|t|, new s)"""
    t = size_of(times_plus(steps, level, before))
    return t, times_plus(nears, t, fars * size_of(old))


@njit(**LANES_JIT)
def _grid_step(first, last, s, starts, anchor, rows, columns, C, places, speeds, scale, near, far, row_sums,
               column_sums, moved):  # fmt: skip
    p, wide = s.shape[1], width(s)
    end, left = p // wide * wide, p % wide
    there, sums = np.zeros(end + wide, s.dtype), np.empty(end + wide, s.dtype)
    nears, fars, none = fill(s, near), fill(s, far), fill(s, 0.0)
    for line in range(starts.size - 1):
        if not first <= starts[line] < last:
            continue
        there[:p] = columns[line]
        sums[:] = 0
        square, squares, all_sums = 0.0, none, column_sums[line]
        all_sums[:] = 0.0
        for r in range(starts[line], starts[line + 1]):
            at, cost, here, total = np.int64(r) * p, np.int64(places[r]) * p, fill(s, rows[r]), none
            steps, per = fill(s, scale * speeds[r]), fill(s, 1 / speeds[r])
            for k in range(0, end, wide):
                before = load(s, at + k)
                level = load(there, k) - load(C, cost + k) + here
                t, new = _stepped(before, level, load(anchor, at + k), steps, nears, fars)
                store(s, at + k, new)
                store(sums, k, load(sums, k) + new)
                total, d = total + new, before - t
                squares = times_plus(d * per, d, squares)
            if left:
                before = load_some(s, at + end, left)
                level = only(left, load(there, end) - load_some(C, cost + end, left) + here)
                t, new = _stepped(before, level, load_some(anchor, at + end, left), steps, nears, fars)
                store_some(s, at + end, left, new)
                store(sums, end, load(sums, end) + new)
                total, d = total + new, before - t
                squares = times_plus(d * per, d, squares)
            row_sums[r] = sum_of(total)
            if (r - starts[line]) % _FLUSH == _FLUSH - 1:
                square, squares = square + sum_of(squares), none
                all_sums += sums[:p]
                sums[:] = 0
        all_sums += sums[:p]
        moved[line] = square + sum_of(squares)


def grid_step(s, anchor, rows, columns, C, starts, places, speeds, sigma, weight, row_sums, column_sums, moved):
    _over_lines(_grid_step, s, starts, anchor, rows, columns, C, places, speeds, 2 * sigma, weight, 1 - weight,
                row_sums, column_sums, moved)  # fmt: skip


@njit(**JIT)
def _grid_plan(first, last, s, starts, rows, columns, C, places, speeds, scale, row_sums, column_sums):
    for line in range(starts.size - 1):
        if not first <= starts[line] < last:
            continue
        there, sums = columns[line], column_sums[line]
        sums[:] = 0.0
        for r in range(starts[line], starts[line + 1]):
            row, c, here, step, total = s[r], C[places[r]], rows[r], scale * speeds[r], 0.0
            for k in range(row.size):
                x = max(row[k] + step * (here + there[k] - c[k]), 0.0)
                total += x
                sums[k] += x
            row_sums[r] = total


def grid_plan(s, rows, columns, C, starts, places, speeds, sigma, row_sums, column_sums):
    _over_lines(_grid_plan, s, starts, rows, columns, C, places, speeds, 2 * sigma, row_sums, column_sums)


@njit(**JIT)
def _grid_turn(first, last, s, starts, anchor, rows, columns, C, places, speeds, scale, moved):
    for line in range(starts.size - 1):
        if not first <= starts[line] < last:
            continue
        there, above, below = columns[line], 0.0, 0.0
        for r in range(starts[line], starts[line + 1]):
            row, old, c, here, step, per = s[r], anchor[r], C[places[r]], rows[r], scale * speeds[r], 1 / speeds[r]
            for k in range(row.size):
                t = row[k] + step * (here + there[k] - c[k])
                row[k] = t
                high, low = max(t, 0.0) - max(old[k], 0.0), min(t, 0.0) - min(old[k], 0.0)
                above += high * high * per
                below += low * low * per
        moved[line, 0], moved[line, 1] = above, below


def grid_turn(s, anchor, rows, columns, C, starts, places, speeds, sigma, moved):
    _over_lines(_grid_turn, s, starts, anchor, rows, columns, C, places, speeds, 2 * sigma, moved)


@njit(**JIT)
def _grid_anchor(first, last, s, starts, anchor, ratio, row_sums, column_sums):
    for line in range(starts.size - 1):
        if not first <= starts[line] < last:
            continue
        sums = column_sums[line]
        sums[:] = 0.0
        for r in range(starts[line], starts[line + 1]):
            row, turned, total = s[r], anchor[r], 0.0
            for k in range(row.size):
                t = row[k] * ratio if row[k] < 0 else row[k]
                turned[k] = t
                row[k] = abs(t)
                total += np.float64(abs(t))
                sums[k] += abs(t)
            row_sums[r] = total


def grid_anchor(s, anchor, starts, ratio, row_sums, column_sums):
    _over_lines(_grid_anchor, s, starts, anchor, ratio, row_sums, column_sums)


@njit(**JIT)
def _transpose(x, out):
    for k0 in range(0, x.shape[1], _TILE):
        for j0 in range(0, x.shape[0], _TILE):
            for k in range(k0, min(k0 + _TILE, x.shape[1])):
                for j in range(j0, min(j0 + _TILE, x.shape[0])):
                    out[k, j] = x[j, k]


@njit(**JIT)
def _residuals(masses, sums, speeds, costs, per, out):
    """Of the rows of a line; and their sum, times speeds."""
    total = 0.0
    for r in range(out.size):
        found = (masses[r] - sums[r]) * per / speeds[r] + costs[r]
        out[r] = found
        total += found * speeds[r]
    return total


@njit(**JIT)
def _grid_potentials(a, b, f_starts, g_starts, f_speeds, g_speeds, p, q, f_row_sums, f_column_sums, g_row_sums,
                     g_column_sums, c_f, c_fg, c_g, inverse, per, f_rows, f_columns, g_rows, g_columns):  # fmt: skip
    J, K = f_columns.shape
    f_sums = np.empty((K, J))  # so that loops run over j
    _transpose(f_column_sums, f_sums)
    from_f, over, means = np.empty(J), np.zeros(J + K), np.empty(J + K)
    for j in range(J):
        rows = slice(f_starts[j], f_starts[j + 1])
        from_f[j] = _residuals(a[rows], f_row_sums[rows], f_speeds[rows], c_f[rows], per, f_rows[rows]) / K
    over_k, means_k = over[:J], means[:J]
    for k in range(K):
        rows = slice(g_starts[k], g_starts[k + 1])
        from_g = _residuals(b[rows], g_row_sums[rows], g_speeds[rows], c_g[rows], per, g_rows[rows]) / J
        y2, f, g, c, total, here = g_columns[k], f_sums[k], g_column_sums[k], c_fg[k], 0.0, q[k]
        for j in range(J):
            h = ((g[j] - f[j]) * per + c[j] - from_f[j] + from_g) / (p[j] + here)
            y2[j] = h
            total += h
            over_k[j] += h
        over[J + k] = total
    for e in range(J + K):
        row, total = inverse[e], 0.0
        for d in range(row.size):
            total += row[d] * over[d]
        means[e] = total
    over[:] = 0.0
    for k in range(K):
        y2, f, mean, total, here = g_columns[k], f_sums[k], means[J + k], 0.0, q[k]
        for j in range(J):
            y = y2[j] + (means_k[j] + mean) / (p[j] + here)
            y2[j] = -y
            f[j] = y
            total += y
            over_k[j] += y
        rows = g_rows[g_starts[k] : g_starts[k + 1]]
        for r in range(rows.size):
            rows[r] = (rows[r] + total) / J
    _transpose(f_sums, f_columns)
    for j in range(J):
        rows, total = f_rows[f_starts[j] : f_starts[j + 1]], over_k[j]
        for r in range(rows.size):
            rows[r] = (rows[r] - total) / K


def grid_potentials(a, b, f_starts, g_starts, f_speeds, g_speeds, p, q, f_row_sums, f_column_sums, g_row_sums,
                    g_column_sums, c_f, c_fg, c_g, inverse, sigma, f_rows, f_columns, g_rows, g_columns):  # fmt: skip
    _grid_potentials(a, b, f_starts, g_starts, f_speeds, g_speeds, p, q, f_row_sums, f_column_sums, g_row_sums,
                     g_column_sums, c_f, c_fg, c_g, inverse, 1 / sigma, f_rows, f_columns, g_rows,
                     g_columns)  # fmt: skip


@njit(**JIT)
def _min_plus(first, last, C, u, w):
    for k in range(first, last):
        row = w[k]
        row[:] = np.inf
        for i in range(C.shape[0]):
            c, given = C[i, k], u[i]
            for j in range(row.size):
                left = c - given[j]
                row[j] = left if left < row[j] else row[j]


def min_plus(C, u, w):
    over_blocks(_min_plus, w.shape[0], 1 + _GRAIN // max(1, u.size), C, u, w)
