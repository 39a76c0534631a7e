"""Optimal transport between images whose cost is a sum over the axes, as moves along columns and then along rows.

For c(i, k) + d(j, l) a plan from (i, j) to (k, l) may go through (k, j): f[j, i, k] is the mass moved from (i, j) to
(k, j), g[k, l, j] that moved on from there to (k, l). Only pixels (i, j), (k, l) with mass are there, and of cells
(k, j) those of a row with mass in the second image and a column with mass in the first one, K x J of them:

    min sum f c + sum g d,  f, g >= 0,   sum_k f[j, i, k] = a[i, j]                        potential y1[j, i]
                                         sum_l g[k, l, j] = sum_i f[j, i, k]               potential y2[k, j]     (1)
                                         sum_j g[k, l, j] = b[k, l]                        potential y3[k, l]

Each is packed by lines, f by columns j of the first image, g by rows k of the second one: s (R, p) has a row for each
pixel with mass and an entry for each cell of its line; line j has the rows starts[j] to starts[j + 1], and row r the
costs C[places[r]] and a step sigma_r = sigma speeds[r], longer where there is more mass. Potentials are `rows` (R,) and
`columns` (L, p): (y1, y2') for f, (y3, -y2) for g. HOT (Zhang, Yuan, Qin, Sun, "HOT: An efficient Halpern accelerating
algorithm for optimal transport problems", 2024) is Halpern's iteration for the reflected splitting of (1), here in the
norm in which a row's squares count 1 / speeds[r]; in one variable s,

    t = s + 2 sigma_r (rows_r + columns_k - C_rk),   s <- w |t| + (1 - w) |t0|                                    (2)

where the potentials make s + sigma_r (rows + columns - C) meet the constraints. In the limit max(t, 0) is the plan and
max(-t, 0) / sigma_r what its reduced costs are. t0 is t at the anchor.
"""

import numpy as np

from . import contract


def _t(s, rows, columns, C, starts, places, speeds, sigma):
    line = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return s + 2 * sigma * speeds[:, None] * (rows[:, None] + columns[line] - C[places])


def _squares(starts, speeds, d):
    return _over_rows(starts, (d.astype(float) ** 2).sum(1) / speeds)


def _over_rows(starts, values):
    """Sums of the rows of each line, in float64."""
    ends = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0, dtype=float)])
    return ends[starts[1:]] - ends[starts[:-1]]


def _lines(rng, dtype):
    """What is before `weight` in grid_step, for lines shorter and longer than vectors and warps."""
    for counts, sources, p in (((1,), 1, 1), ((2, 1, 2), 2, 3), ((7, 1, 5, 7), 7, 5), ((33, 40), 40, 33), ((9,), 9, 70),
                               ((), 1, 3)):  # fmt: skip
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        chosen = [np.sort(rng.choice(sources, count, replace=False)) for count in counts]
        places = np.concatenate([*chosen, []]).astype(np.int32)
        shape = (len(places), p)
        s, anchor = rng.random(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
        rows, columns = rng.standard_normal(len(places)), rng.standard_normal((len(counts), p))
        C = ((np.arange(sources)[:, None] - np.arange(p)) ** 2 / max(sources, p) ** 2).astype(dtype)
        yield s, anchor, rows, columns, C, starts, places, 0.5 + rng.random(len(places)), 0.3


def _sums(rows, columns):
    return np.full(rows.shape, np.nan), np.full(columns.shape, np.nan)


def _step_cases(rng, dtype):
    for case in _lines(rng, dtype):
        rows, columns = case[2:4]
        yield *case, 0.75, *_sums(rows, columns), np.full(len(columns), np.nan)


@contract(cases=_step_cases, writes=("s", "row_sums", "column_sums", "moved"))
def grid_step(s, anchor, rows, columns, C, starts, places, speeds, sigma, weight, row_sums, column_sums, moved):
    """(2) for s, anchor (R, p), C (P, p), starts (L + 1,) int32, places (R,) int32, speeds (R,); then sums of s.

    Those are over the entries of a row (R,), and over the rows of a line (L, p). moved (L,): squares of s - |t|.
    Potentials, sums and speeds are float64, the rest of one dtype, in which t is computed.
    """
    t = abs(_t(s, rows, columns, C, starts, places, speeds, sigma))
    moved[:] = _squares(starts, speeds, s - t)
    s[:] = weight * t + (1 - weight) * abs(anchor)
    row_sums[:], column_sums[:] = s.sum(1, dtype=float), _over_rows(starts, s)


def _plan_cases(rng, dtype):
    for s, _, rows, columns, *rest in _lines(rng, dtype):
        yield s, rows, columns, *rest, *_sums(rows, columns)


@contract(cases=_plan_cases, writes=("row_sums", "column_sums"))
def grid_plan(s, rows, columns, C, starts, places, speeds, sigma, row_sums, column_sums):
    """Sums of the plan max(t, 0) over the entries of a row and over the rows of a line."""
    x = np.maximum(_t(s, rows, columns, C, starts, places, speeds, sigma), 0)
    row_sums[:], column_sums[:] = x.sum(1), _over_rows(starts, x)


def _turn_cases(rng, dtype):
    for case in _lines(rng, dtype):
        yield *case, np.full((len(case[3]), 2), np.nan)


@contract(cases=_turn_cases, writes=("s", "moved"), rtol={"float32": 5e-5, "float64": 1e-12})
def grid_turn(s, anchor, rows, columns, C, starts, places, speeds, sigma, moved):
    """s <- t, to become an anchor; moved (L, 2): squared distances of max(t, 0) and max(-t, 0) from the last."""
    t = _t(s, rows, columns, C, starts, places, speeds, sigma)
    for part, side in enumerate((np.maximum, np.minimum)):
        moved[:, part] = _squares(starts, speeds, side(t, 0) - side(anchor.astype(float), 0))
    s[:] = t


def _anchor_cases(rng, dtype):
    for s, anchor, rows, columns, _, starts, *_ in _lines(rng, dtype):
        yield s - dtype.type(0.5), anchor, starts, 1.7, *_sums(rows, columns)


@contract(cases=_anchor_cases, writes=("s", "anchor", "row_sums", "column_sums"))
def grid_anchor(s, anchor, starts, ratio, row_sums, column_sums):
    """anchor <- s, its negative entries times `ratio`, by which sigma has grown; s <- |anchor|, and its sums."""
    anchor[:] = np.where(s < 0, ratio * s, s)
    s[:] = abs(anchor)
    row_sums[:], column_sums[:] = s.sum(1, dtype=float), _over_rows(starts, s)


def _potentials_cases(rng, dtype):
    for f_counts, g_counts in (((1,), (1,)), ((3, 1), (2, 5, 4)), ((40,) * 33, (20,) * 40), ((2,) * 70, (70, 1))):
        starts = [np.concatenate([[0], np.cumsum(counts)]).astype(np.int32) for counts in (f_counts, g_counts)]
        J, K = len(f_counts), len(g_counts)
        size = {"a": sum(f_counts), "b": sum(g_counts)}
        given = [rng.random(size["a"]), rng.random(size["b"]), *starts]
        given += [0.5 + rng.random(each) for each in (size["a"], size["b"], J, K)]
        given += [rng.random(size["a"]), rng.random((J, K)), rng.random(size["b"]), rng.random((K, J))]
        given += [rng.random(size["a"]), rng.random((K, J)), rng.random(size["b"])]
        given.append(rng.random((J + K, J + K)) / (J + K))
        shapes = size["a"], (J, K), size["b"], (K, J)
        yield *given, 0.7, *(np.full(shape, np.nan) for shape in shapes)


@contract(cases=_potentials_cases, writes=("f_rows", "f_columns", "g_rows", "g_columns"))
def grid_potentials(
    a, b, f_starts, g_starts, f_speeds, g_speeds, p, q, f_row_sums, f_column_sums, g_row_sums, g_column_sums, c_f, c_fg,
    c_g, inverse, sigma, f_rows, f_columns, g_rows, g_columns,
):  # fmt: skip
    """The potentials for which s + sigma_r (rows + columns - C) meets the constraints (1), from the sums of s.

    a (A,), b (B,): masses of the rows of f and g; sums and potentials of f (A,), (J, K), of g (B,), (K, J); p (J,),
    q (K,): sums of the speeds v of the rows of a line; c_f (A,), c_g (B,): sums of a row's costs; c_fg (K, J): sums of
    v times the costs of f over the rows of line j, less those of g over the rows of line k. With r1, r3 the residuals
    of (1) over sigma_r, and r2 that over sigma, costs included, y1 = (r1 - sum_k y2) / K, y3 = (r3 + sum_j y2) / J, and

        (p_j + q_k) y2_kj - (p_j / K) sum_k y2_kj - (q_k / J) sum_j y2_kj = h
                                                                       h = r2 - sum_i v r1 / K + sum_l v r3 / J     (3)

    where p_j / K sum_k y2, then q_k / J sum_j y2, are `inverse` (J + K, J + K) times the sums of h / (p_j + q_k) over
    k, then over j.
    """
    J, K = p.size, q.size
    share = p + q[:, None]
    r1, r3 = (a - f_row_sums) / (sigma * f_speeds) + c_f, (b - g_row_sums) / (sigma * g_speeds) + c_g
    h = (g_column_sums - f_column_sums.T) / sigma + c_fg - _over_rows(f_starts, f_speeds * r1) / K
    h = (h + _over_rows(g_starts, g_speeds * r3)[:, None] / J) / share
    means = inverse @ np.concatenate([h.sum(0), h.sum(1)])
    y2 = h + (means[:J] + means[J:, None]) / share
    f_rows[:] = (r1 - np.repeat(y2.sum(0), np.diff(f_starts))) / K
    g_rows[:] = (r3 + np.repeat(y2.sum(1), np.diff(g_starts))) / J
    f_columns[:], g_columns[:] = y2.T, -y2


def _transform_cases(rng, dtype):
    for p, q, n in ((1, 1, 1), (4, 3, 9), (33, 40, 65), (130, 5, 3), (3, 2, 0)):
        yield rng.random((p, q)), rng.standard_normal((p, n)), np.full((q, n), np.nan)


@contract(cases=_transform_cases, writes=("w",), rtol={"float32": 1e-14, "float64": 1e-14})
def min_plus(C, u, w):
    """w_kj = min_i (C_ik - u_ij) for C (p, q), u (p, n), w (q, n), float64: the c-transform of each column of u."""
    w[:] = (C[:, :, None] - u[:, None, :]).min(0)
