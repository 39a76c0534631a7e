"""Numba twins of contracts/gridot.py: a line on one thread, its sums in the order of its entries."""

import numpy as np
from numba import njit

from .pool import JIT, over_blocks

_GRAIN = 200_000  # entries a thread is worth waking for


def _over_lines(body, s, *args):
    over_blocks(body, s.shape[0], 1 + _GRAIN // max(1, s.shape[1] * s.shape[2]), s, *args)


@njit(**JIT)
def _grid_step(first, last, s, anchor, rows, columns, C, scale, near, far, row_sums, column_sums, moved):
    for line in range(first, last):
        there, sums, square = columns[line], column_sums[line], 0.0
        sums[:] = 0.0
        for i in range(s.shape[1]):
            row, old, c, here, total = s[line, i], anchor[line, i], C[i], rows[line, i], 0.0
            for k in range(row.size):
                t = abs(row[k] + scale * (here + there[k] - c[k]))
                d = row[k] - t
                new = near * t + far * abs(old[k])
                row[k] = new
                total += new
                square += d * d
                sums[k] += new
            row_sums[line, i] = total
        moved[line] = square


def grid_step(s, anchor, rows, columns, C, sigma, weight, row_sums, column_sums, moved):
    _over_lines(_grid_step, s, anchor, rows, columns, C, 2 * sigma, weight, 1 - weight, row_sums, column_sums,
                moved)  # fmt: skip


@njit(**JIT)
def _grid_plan(first, last, s, rows, columns, C, scale, row_sums, column_sums):
    for line in range(first, last):
        there, sums = columns[line], column_sums[line]
        sums[:] = 0.0
        for i in range(s.shape[1]):
            row, c, here, total = s[line, i], C[i], rows[line, i], 0.0
            for k in range(row.size):
                x = max(row[k] + scale * (here + there[k] - c[k]), 0.0)
                total += x
                sums[k] += x
            row_sums[line, i] = total


def grid_plan(s, rows, columns, C, sigma, row_sums, column_sums):
    _over_lines(_grid_plan, s, rows, columns, C, 2 * sigma, row_sums, column_sums)


@njit(**JIT)
def _grid_turn(first, last, s, anchor, rows, columns, C, scale, moved):
    for line in range(first, last):
        there, above, below = columns[line], 0.0, 0.0
        for i in range(s.shape[1]):
            row, old, c, here = s[line, i], anchor[line, i], C[i], rows[line, i]
            for k in range(row.size):
                t = row[k] + scale * (here + there[k] - c[k])
                row[k] = t
                high, low = max(t, 0.0) - max(old[k], 0.0), min(t, 0.0) - min(old[k], 0.0)
                above += high * high
                below += low * low
        moved[line, 0], moved[line, 1] = above, below


def grid_turn(s, anchor, rows, columns, C, sigma, moved):
    _over_lines(_grid_turn, s, anchor, rows, columns, C, 2 * sigma, moved)


@njit(**JIT)
def _grid_anchor(first, last, s, anchor, ratio, row_sums, column_sums):
    p = s.shape[1]
    for line in range(first, last):
        sums = column_sums[line]
        sums[:] = 0.0
        for i in range(p):
            row, turned, total = s[line, i], anchor[line, i], 0.0
            for k in range(p):
                t = row[k] * ratio if row[k] < 0 else row[k]
                turned[k] = t
                row[k] = abs(t)
                total += np.float64(abs(t))
                sums[k] += abs(t)
            row_sums[line, i] = total


def grid_anchor(s, anchor, ratio, row_sums, column_sums):
    _over_lines(_grid_anchor, s, anchor, ratio, row_sums, column_sums)


@njit(**JIT)
def _grid_potentials(a, b, f_row_sums, f_column_sums, g_row_sums, g_column_sums, c_rows, c_columns, d_rows, d_columns,
                     sigma, f_rows, f_columns, g_rows, g_columns):  # fmt: skip
    m, n = a.shape
    per = 1.0 / sigma
    from_f, from_g = np.zeros(n), np.zeros(m)  # mean_i r1, mean_l r3
    over_k, over_j = np.zeros(n), np.zeros(m)  # sums of q, then of y2
    for j in range(n):
        for i in range(m):
            r1 = (a[i, j] - f_row_sums[j, i]) * per + c_rows[i]
            f_rows[j, i] = r1
            from_f[j] += r1 / m
    for k in range(m):
        for j in range(n):
            r3 = (b[k, j] - g_column_sums[k, j]) * per + d_columns[j]
            g_columns[k, j] = r3
            from_g[k] += r3 / n
    for k in range(m):
        for j in range(n):
            q = (g_row_sums[k, j] - f_column_sums[j, k]) * per + c_columns[k] - d_rows[j] - from_f[j] + from_g[k]
            g_rows[k, j] = q
            over_k[j] += q
            over_j[k] += q
    for k in range(m):
        row = g_rows[k]
        for j in range(n):
            row[j] = (row[j] + over_j[k] / m + over_k[j] / n) / (m + n)
    over_k[:] = 0.0
    over_j[:] = 0.0
    for k in range(m):
        row = g_rows[k]
        for j in range(n):
            over_k[j] += row[j]
            over_j[k] += row[j]
            f_columns[j, k] = row[j]
            row[j] = -row[j]
    for j in range(n):
        for i in range(m):
            f_rows[j, i] = (f_rows[j, i] - over_k[j]) / m
    for k in range(m):
        for j in range(n):
            g_columns[k, j] = (g_columns[k, j] + over_j[k]) / n


def grid_potentials(a, b, f_row_sums, f_column_sums, g_row_sums, g_column_sums, c_rows, c_columns, d_rows, d_columns,
                    sigma, f_rows, f_columns, g_rows, g_columns):  # fmt: skip
    _grid_potentials(a, b, f_row_sums, f_column_sums, g_row_sums, g_column_sums, c_rows, c_columns, d_rows, d_columns,
                     sigma, f_rows, f_columns, g_rows, g_columns)  # fmt: skip


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
