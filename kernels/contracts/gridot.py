"""Optimal transport between images whose cost is a sum over the axes, as moves along columns and then along rows.

For c(i, k) + d(j, l) a plan from (i, j) to (k, l) may go through (k, j): f[j, i, k] is the mass moved from (i, j) to
(k, j), g[k, j, l] that moved on to (k, l). With lines (the columns of the first image, the rows of the second) first:

    min sum f c + sum g d,  f, g >= 0,   sum_k f[j, i, k] = a[i, j]            potential y1[j, i]
                                         sum_l g[k, j, l] = sum_i f[j, i, k]   potential y2[k, j]               (1)
                                         sum_j g[k, j, l] = b[k, l]            potential y3[k, l]

Both are "lines" x (lines, p, p) with potentials `rows` (lines, p) and `columns` (lines, p): (y1, y2') for f, (-y2, y3)
for g. HOT (Zhang, Yuan, Qin, Sun, "HOT: An efficient Halpern accelerating algorithm for optimal transport problems",
2024) is Halpern's iteration for the reflected splitting of (1); in one variable s, with step sigma,

    t = s + 2 sigma (rows_i + columns_k - C_ik),   s <- w |t| + (1 - w) |t0|                                  (2)

where the potentials make s + sigma (rows + columns - C) meet the constraints. In the limit max(t, 0) is the plan and
max(-t, 0) / sigma what its reduced costs are. t0 is t at the anchor.
"""

import numpy as np

from . import contract


def _t(s, rows, columns, C, sigma):
    return s + 2 * sigma * (rows[:, :, None] + columns[:, None, :] - C)


def _lines(rng, dtype):
    """(s, anchor, rows, columns, C, sigma) for lines shorter and longer than vectors and warps."""
    for lines, p in ((1, 1), (3, 2), (5, 7), (4, 33), (2, 70), (0, 3)):
        s, anchor = rng.random((lines, p, p)).astype(dtype), rng.standard_normal((lines, p, p)).astype(dtype)
        rows, columns = rng.standard_normal((lines, p)), rng.standard_normal((lines, p))
        yield s, anchor, rows, columns, ((np.arange(p)[:, None] - np.arange(p)) ** 2 / p**2).astype(dtype), 0.3


def _sums(lines, p):
    return np.full((lines, p), np.nan), np.full((lines, p), np.nan)


def _step_cases(rng, dtype):
    for s, anchor, rows, columns, C, sigma in _lines(rng, dtype):
        yield s, anchor, rows, columns, C, sigma, 0.75, *_sums(*rows.shape), np.full(len(s), np.nan)


@contract(cases=_step_cases, writes=("s", "row_sums", "column_sums", "moved"), rtol={"float32": 2e-5, "float64": 1e-12})
def grid_step(s, anchor, rows, columns, C, sigma, weight, row_sums, column_sums, moved):
    """(2) for lines s, anchor (lines, p, p), C (p, p); then sums of s over its last and its middle axis (lines, p).

    moved (lines,) is the sum of (s - |t|)^2. Potentials and sums are float64, the rest of one dtype.
    """
    t = abs(_t(s, rows, columns, C, sigma))
    moved[:] = ((s.astype(float) - t) ** 2).sum((1, 2))
    s[:] = weight * t + (1 - weight) * abs(anchor)
    row_sums[:], column_sums[:] = s.sum(2, dtype=float), s.sum(1, dtype=float)


def _plan_cases(rng, dtype):
    for s, _, rows, columns, C, sigma in _lines(rng, dtype):
        yield s, rows, columns, C, sigma, *_sums(*rows.shape)


@contract(cases=_plan_cases, writes=("row_sums", "column_sums"), rtol={"float32": 2e-5, "float64": 1e-12})
def grid_plan(s, rows, columns, C, sigma, row_sums, column_sums):
    """Sums of the plan max(t, 0) over its last and its middle axis."""
    x = np.maximum(_t(s, rows, columns, C, sigma), 0)
    row_sums[:], column_sums[:] = x.sum(2), x.sum(1)


def _turn_cases(rng, dtype):
    for case in _lines(rng, dtype):
        yield *case, np.full((len(case[0]), 2), np.nan)


@contract(cases=_turn_cases, writes=("s", "moved"), rtol={"float32": 5e-5, "float64": 1e-12})
def grid_turn(s, anchor, rows, columns, C, sigma, moved):
    """s <- t, to become an anchor; moved (lines, 2): squared distances of max(t, 0) and max(-t, 0) from the last."""
    t = _t(s, rows, columns, C, sigma)
    old = anchor.astype(float)
    moved[:, 0] = ((np.maximum(t, 0) - np.maximum(old, 0)) ** 2).sum((1, 2))
    moved[:, 1] = ((np.minimum(t, 0) - np.minimum(old, 0)) ** 2).sum((1, 2))
    s[:] = t


def _anchor_cases(rng, dtype):
    for s, anchor, rows, *_ in _lines(rng, dtype):
        yield s - dtype.type(0.5), anchor, 1.7, *_sums(*rows.shape)


@contract(cases=_anchor_cases, writes=("s", "anchor", "row_sums", "column_sums"))
def grid_anchor(s, anchor, ratio, row_sums, column_sums):
    """anchor <- s, its negative entries times `ratio`, by which sigma has grown; s <- |anchor|, and its sums."""
    anchor[:] = np.where(s < 0, ratio * s, s)
    s[:] = abs(anchor)
    row_sums[:], column_sums[:] = s.sum(2, dtype=float), s.sum(1, dtype=float)


def _potentials_cases(rng, dtype):
    for m, n in ((1, 1), (3, 5), (40, 33), (2, 70)):
        a, b = rng.random((m, n)), rng.random((m, n))
        C, D = rng.random((m, m)), rng.random((n, n))
        sums = (rng.random((n, m)), rng.random((n, m)), rng.random((m, n)), rng.random((m, n)))
        costs = (C.sum(1), C.sum(0), D.sum(1), D.sum(0))
        shapes = ((n, m), (n, m), (m, n), (m, n))
        yield a, b, *sums, *costs, 0.7, *(np.full(shape, np.nan) for shape in shapes)


@contract(cases=_potentials_cases, writes=("f_rows", "f_columns", "g_rows", "g_columns"))
def grid_potentials(
    a, b, f_row_sums, f_column_sums, g_row_sums, g_column_sums, c_rows, c_columns, d_rows, d_columns, sigma,
    f_rows, f_columns, g_rows, g_columns,
):  # fmt: skip
    """The potentials for which s + sigma (rows + columns - C) meets the constraints (1), from the sums of s.

    a, b (m, n); sums and potentials of f (n, m), of g (m, n); row and column sums of the costs (m,), (m,), (n,), (n,).
    With r the residuals of the constraints over sigma, and q = r2 - mean_i r1 + mean_l r3 for y2[k, j],
    y2 = (q + (m / n) mean_k q + (n / m) mean_j q) / (m + n), y1 = (r1 - sum_k y2) / m, y3 = (r3 + sum_j y2) / n.
    """
    m, n = a.shape
    r1 = (a - f_row_sums.T) / sigma + c_rows[:, None]  # (i, j)
    r2 = (g_row_sums - f_column_sums.T) / sigma + c_columns[:, None] - d_rows  # (k, j)
    r3 = (b - g_column_sums) / sigma + d_columns  # (k, l)
    q = r2 - r1.mean(0) + r3.mean(1)[:, None]
    y2 = (q + q.mean(1)[:, None] * n / m + q.mean(0) * m / n) / (m + n)
    f_rows[:] = ((r1 - y2.sum(0)) / m).T
    f_columns[:] = y2.T
    g_rows[:] = -y2
    g_columns[:] = (r3 + y2.sum(1)[:, None]) / n


def _transform_cases(rng, dtype):
    for p, q, n in ((1, 1, 1), (4, 3, 9), (33, 40, 65), (130, 5, 3), (3, 2, 0)):
        yield rng.random((p, q)), rng.standard_normal((p, n)), np.full((q, n), np.nan)


@contract(cases=_transform_cases, writes=("w",), rtol={"float32": 1e-14, "float64": 1e-14})
def min_plus(C, u, w):
    """w_kj = min_i (C_ik - u_ij) for C (p, q), u (p, n), w (q, n), float64: the c-transform of each column of u."""
    w[:] = (C[:, :, None] - u[:, None, :]).min(0)
