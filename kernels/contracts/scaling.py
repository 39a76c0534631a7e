"""Scaling, annealing and Newton steps on a stored kernel R of a transport problem.

R (n, width) is stored in blocks of 1 x LANES (contracts/gibbs.py): block k of row i, starts[i] <= k < ends[i], holds R
at the columns offsets[k], ..., offsets[k] + 7, zeros where nothing is kept. starts, ends (n,) int64, offsets (room,)
int32, values (room, LANES) float64, or float32 with sums in float64 all the same. Vectors over rows are (n,), over
columns (width,); the last entries of those over columns belong to no column: they are 0 in b and R, and finite
elsewhere.

With P_ij = u_i R_ij v_j, a and b the marginals, and powers 1, or tau / (tau + reg) for unbalanced marginals (Chizat,
Peyre, Schmitzer, Vialard 2018; a and b are then a exp(-f / tau) and b exp(-g / tau) at u = v = 1):

    s = R v,  u = (a / s)^power_a                                                                               (1)
    y = R'u,  v <- (b / y)^power_b                                                                              (2)
    err = sum_j |v_j y_j - b_j v_j^(1 - 1 / power_b)|       the column marginal's error, rows being exact       (3)
    T_ij = R_ij v_j / s_i       rows sum to one                                                                 (4)
    S = diag(d) - T' diag(q) T          Schur complement of the Newton system, q_i = u_i s_i                    (5)

`work` is scratch of contracts/gibbs.workspace_shape, whose number of parts decides how sums over rows are grouped.
"""

import numpy as np

from . import contract
from .gibbs import LANES, width_of, workspace_shape

UNDERFLOW = 1e-290
"""A y_j of less, where b_j > 0, cannot be divided by."""

A_NOT_POSITIVE = -1.0  # p.Sp <= 0, or not a number


# ---- in NumPy -------------------------------------------------------------------------------------------------------


def dense(starts, ends, offsets, values, width):
    """R as an array."""
    R = np.zeros((len(starts), width))
    for i, (first, last) in enumerate(zip(starts, ends, strict=True)):
        for k in range(first, last):
            R[i, offsets[k] : offsets[k] + LANES] = values[k]
    return R


def toward_zero(x, dtype):
    """x rounded so that it does not grow."""
    rounded = x.astype(dtype)
    return np.where(rounded.astype(float) > x, np.nextafter(rounded, dtype.type(0)), rounded)


def _power(x, power):
    return x if power == 1 else x**power


# ---- cases ----------------------------------------------------------------------------------------------------------

SHAPES = ((1, 1, 1.0), (3, 5, 1.0), (7, 8, 1.0), (17, 40, 0.5), (40, 33, 0.3), (6, 600, 1.0), (90, 90, 0.1))


def _stored(rng, dtype):
    """((starts, ends, offsets, values), m, work): rows of many and of few blocks, with gaps between them."""
    for number, (n, m, density) in enumerate(SHAPES):
        width, dtype = width_of(m), np.dtype(dtype)
        R = np.exp(-8.0 * rng.random((n, width))).reshape(n, -1, LANES)
        R *= (rng.random(R.shape[:2]) < density)[:, :, None]
        R[np.arange(n), np.arange(n) % R.shape[1]] = np.exp(-8.0 * rng.random((n, LANES)))
        R[rng.integers(n, size=max(n, R.shape[1])), np.arange(max(n, R.shape[1])) % R.shape[1]] = 0.5
        R.reshape(n, width)[:, m:] = 0.0
        starts, offsets, values = np.empty(n, np.int64), list[int](), list[np.ndarray]()
        for i in range(n):
            (kept,) = R[i].any(1).nonzero()
            gap = int(rng.integers(2))
            starts[i] = len(offsets)
            offsets += [*(kept * LANES), *[-1] * gap]
            values += [*R[i, kept], *np.full((gap, LANES), np.nan)]
        ends = starts + R.any(2).sum(1)
        store = starts, ends, np.array(offsets, np.int32), np.array(values).reshape(-1, LANES).astype(dtype)
        yield store, m, np.full(workspace_shape(1 + number % 3, width), np.nan)


def _masses(rng, n, width=0):
    masses = np.zeros(width or n)
    masses[:n] = rng.uniform(0.5, 1.5, n) / n
    return masses


# ---- products -------------------------------------------------------------------------------------------------------


def _sweep_cases(rng, dtype):
    for store, m, work in _stored(rng, dtype):
        n, width = len(store[0]), width_of(m)
        for power in (1.0, 0.6):
            v = np.exp(rng.standard_normal(width))
            yield *store, v, _masses(rng, n), power, np.full(n, np.nan), np.full(width, np.nan), work


@contract(cases=_sweep_cases, writes=("s", "y"), scratch=("work",))
def scaling_sweep(starts, ends, offsets, values, v, a, power_a, s, y, work):
    """s = R v and y = R'u with u of (1), in one pass."""
    R = dense(starts, ends, offsets, values, v.size)
    s[:] = R @ v
    y[:] = R.T @ _power(a / s, power_a)


def _products_cases(rng, dtype):
    for store, m, work in _stored(rng, dtype):
        n, width = len(store[0]), width_of(m)
        x, q = rng.standard_normal(width), rng.standard_normal(n)
        for row in (None, rng.standard_normal(n)):
            yield *store, x, q, row, np.full(n, np.nan), np.full(width, np.nan), work


@contract(
    cases=_products_cases, writes=("t", "y"), scratch=("work",), rtol={"float32": 1e-11, "float64": 1e-11}
)
def scaling_products(starts, ends, offsets, values, x, q, row, t, y, work):
    """t = R x and y = R' z in one pass, where z = q t, or z = q row if a vector `row` (n,) is given."""
    R = dense(starts, ends, offsets, values, x.size)
    t[:] = R @ x
    y[:] = R.T @ (q * (t if row is None else row))


def _columns_cases(rng, dtype):
    for store, m, work in _stored(rng, dtype):
        yield *store, rng.random(len(store[0])), np.full(width_of(m), np.nan), work


@contract(cases=_columns_cases, writes=("diagonal",), scratch=("work",))
def scaling_diagonal(starts, ends, offsets, values, q, diagonal, work):
    """diagonal_j = sum_i q_i R_ij^2, the diagonal of R' diag(q) R."""
    diagonal[:] = q @ dense(starts, ends, offsets, values, diagonal.size) ** 2


@contract(cases=_columns_cases, writes=("top",), scratch=("work",))
def scaling_column_max(starts, ends, offsets, values, u, top, work):
    """top_j = max_i u_i R_ij, 0 for a column with nothing in it; u >= 0."""
    top[:] = (u[:, None] * dense(starts, ends, offsets, values, top.size)).max(0, initial=0.0)


# ---- Sinkhorn -------------------------------------------------------------------------------------------------------


def _steps_cases(rng, dtype):
    for store, m, work in _stored(rng, dtype):
        n, width = len(store[0]), width_of(m)
        for steps, tol, rate, warm, power_a, power_b in (
            (0, 0.0, 1.0, 0, 1.0, 1.0),
            (5, 1e-12, 2.0, 0, 1.0, 1.0),
            (6, 0.01, 0.5, 2, 1.0, 1.0),
            (4, 0.0, 2.0, 0, 0.7, 0.9),
        ):
            v = np.exp(rng.standard_normal(width))
            yield (*store, _masses(rng, n), power_a, _masses(rng, m, width), power_b, tol, rate, warm, steps, v,
                   np.full(n, np.nan), np.full(width, np.nan), np.full(steps + 1, np.nan), work)  # fmt: skip
    # the scaling of one column underflows
    starts, ends = np.array([0, 1], np.int64), np.array([1, 2], np.int64)
    values = np.full((2, LANES), 0.1, dtype)
    values[:, 3] = 0.0
    work = np.full(workspace_shape(1, LANES), np.nan)
    yield (starts, ends, np.zeros(2, np.int32), values, np.full(2, 0.5), 1.0, np.full(LANES, 1 / LANES), 1.0, 0.0, 1.0,
           9, 3, np.ones(LANES), np.full(2, np.nan), np.full(LANES, np.nan), np.full(4, np.nan), work)  # fmt: skip


@contract(cases=_steps_cases, writes=("v", "s", "y", "err"), scratch=("work",), rtol={"float32": 1e-9, "float64": 1e-9})
def sinkhorn_steps(starts, ends, offsets, values, a, power_a, b, power_b, tol, rate, warm, steps, v, s, y, err, work):
    """Up to `steps` updates (1), (2); err (steps + 1,) has the error (3) before each, and after the last.

    It ends when err[k] <= tol, when err[k] > rate err[k - 1] with k > warm, when y underflows or is NaN where b > 0
    (err[k] is then inf), or when err[k] is NaN; then v is not updated any more and the rest of err is -1. On return s
    and y belong to v.
    """
    for k in range(steps + 1):
        scaling_sweep(starts, ends, offsets, values, v, a, power_a, s, y, work)
        err[k] = marginal_error(v, y, b, power_b)
        if not tol < err[k] < np.inf or (k > warm and err[k] > rate * err[k - 1]):
            err[k + 1 :] = -1
            return
        if k < steps:
            v[:] = np.where(b > 0, _power(b / y, power_b), v)


def marginal_error(v, y, b, power_b):
    """(3), or inf where the next scaling cannot be computed."""
    if not (y[b > 0] > UNDERFLOW).all():
        return np.inf
    target = b if power_b == 1 else b * v ** (1 - 1 / power_b)
    return abs(v * y - target).sum()


# ---- annealing ------------------------------------------------------------------------------------------------------


def _anneal_cases(rng, dtype):
    for number, ((starts, ends, offsets, values), m, _) in enumerate(_stored(rng, np.float64)):
        n, width = len(starts), width_of(m)
        if n > 4:
            ends[3] = starts[3]  # a row without anything
        v, u = np.exp(rng.standard_normal(width)), np.exp(rng.standard_normal(n))
        top = v * (u[:, None] * dense(starts, ends, offsets, values, width)).max(0, initial=0.0)
        for drop in (0.0, 3e-2):
            yield (1 + number % 4, v, u, top, drop, starts.copy(), ends.copy(), offsets.copy(),
                   values.copy())  # fmt: skip


def _rows_by_run(runs, n):
    """The rows of each run."""
    return [range(run * n // runs, (run + 1) * n // runs) for run in range(runs)]


@contract(cases=_anneal_cases, writes=("starts", "ends", "offsets", "values"))
def scaling_anneal(runs, v, u, top, drop, starts, ends, offsets, values):
    """From reg to reg / 4, in place: R_ij <- (R_ij v_j / peak_i)^4 with peak_i = max_j R_ij v_j, small entries dropped.

    Kept are entries with R_ij v_j > drop peak_i or u_i R_ij v_j > drop top_j, where top (width,) is the columns'
    maximum of u_i R_ij v_j; and blocks with an entry that is. Rows are cut into `runs`; those of a run then follow one
    another from where the first of them started (starts ascends). What is not written over is left as it is. values
    float64.
    """
    for rows in _rows_by_run(runs, len(starts)):
        end = starts[rows[0]] if rows else 0
        for i in rows:
            blocks = range(starts[i], ends[i])
            peak = max(((values[k] * v[offsets[k] : offsets[k] + LANES]).max() for k in blocks), default=0.0)
            starts[i] = end
            for k in blocks:
                at = slice(offsets[k], offsets[k] + LANES)
                t = values[k] * v[at]
                keep = (t > drop * peak) | (u[i] * t > drop * top[at])
                if keep.any():
                    values[end], offsets[end] = np.where(keep, t / peak, 0) ** 4, offsets[k]
                    end += 1
            ends[i] = end


def _pack_cases(rng, dtype):
    for store, _, _ in _stored(rng, dtype):
        starts, ends = store[:2]
        packed = np.concatenate([[0], (ends - starts).cumsum()])
        yield (*store, packed[:-1] + 1, np.full(packed[-1] + 2, -1, np.int32),
               np.full((packed[-1] + 2, LANES), np.nan, dtype))  # fmt: skip


@contract(cases=_pack_cases, writes=("packed_offsets", "packed_values"))
def scaling_pack(starts, ends, offsets, values, packed_starts, packed_offsets, packed_values):
    """Copy the blocks of each row to where packed_starts (n,) int64 says, in another store of the same dtype."""
    for first, last, to in zip(starts, ends, packed_starts, strict=True):
        packed_offsets[to : to + last - first] = offsets[first:last]
        packed_values[to : to + last - first] = values[first:last]


# ---- Newton ---------------------------------------------------------------------------------------------------------


def _compact_cases(rng, dtype):
    for (starts, ends, offsets, values), m, _ in _stored(rng, np.float64):
        n, width, room = len(starts), width_of(m), len(offsets)
        v = np.exp(rng.standard_normal(width))
        s = dense(starts, ends, offsets, values, width) @ v
        a, b = _masses(rng, n), _masses(rng, m, width)
        for threshold, runs in ((0.0, 1), (0.03, 3)):
            yield (starts, ends, offsets, values, v, s, a, b, threshold, runs, np.full(n, -1, np.int64),
                   np.full(n, -1, np.int64), np.full(room, -1, np.int32),
                   np.full((room, LANES), np.nan, dtype))  # fmt: skip


@contract(
    cases=_compact_cases,
    writes=("kept_starts", "kept_ends", "kept_offsets", "kept_values"),
    rtol={"float32": 2e-7, "float64": 1e-12},
)
def scaling_compact(
    starts, ends, offsets, values, v, s, a, b, threshold, runs, kept_starts, kept_ends, kept_offsets, kept_values
):
    """(4) without its small entries, into another store with as much room; values float64.

    Kept are entries with T_ij > threshold or a_i T_ij > threshold b_j (P_ij relative to its row's and column's mass),
    and blocks with an entry that is. The rows of a run follow one another as in scaling_anneal. kept_values (room,
    LANES) is float64, or float32 rounded toward zero, so that (5) stays positive definite.
    """
    for rows in _rows_by_run(runs, len(starts)):
        end = starts[rows[0]] if rows else 0
        for i in rows:
            kept_starts[i] = end
            for k in range(starts[i], ends[i]):
                at = slice(offsets[k], offsets[k] + LANES)
                T = values[k] * v[at] / s[i]
                keep = (threshold < T) | (a[i] * T > threshold * b[at])
                if keep.any():
                    kept_values[end] = toward_zero(np.where(keep, T, 0), kept_values.dtype)
                    kept_offsets[end] = offsets[k]
                    end += 1
            kept_ends[i] = end


def _schur_cases(rng, dtype):
    for store, m, work in _stored(rng, dtype):
        n, width = len(store[0]), width_of(m)
        starts, ends, offsets, values = store
        values = values.copy()
        for first, last in zip(starts, ends, strict=True):  # rows sum to one, or a little less
            values[first:last] *= dtype.type(0.99) / values[first:last].sum()
        q = _masses(rng, n)
        T = dense(starts, ends, offsets, values, width)
        d = q @ T + 0.1 / m
        diagonal = d - q @ T**2
        r = np.zeros(width)
        r[:m] = rng.standard_normal(m) / m
        for steps, sign, tol in ((3, 1, 1e-9), (5, 1, 0.3), (2, -1, 1e-9)):
            dinv = 1 / diagonal
            rz = np.full(steps + 1, np.nan)
            rz[0] = r @ (dinv * r)
            yield (starts, ends, offsets, values, q, sign * d, dinv, tol**2 * rz[0], steps, np.zeros(width), r.copy(),
                   dinv * r, rz, np.full(n, np.nan), work)  # fmt: skip


@contract(
    cases=_schur_cases, writes=("x", "r", "p", "rz"), scratch=("t", "work"), rtol={"float32": 1e-9, "float64": 1e-9}
)
def schur_cg_steps(starts, ends, offsets, values, q, d, dinv, tol2, steps, x, r, p, rz, t, work):
    """`steps` conjugate gradient iterations on S x = r of (5) with T stored, preconditioned by dinv (width,) > 0.

    x, r, p (width,) is the state: at the start 0, the right-hand side, and dinv r. rz (steps + 1,): rz[0] = r.(dinv r)
    at the start of the call, rz[k] after iteration k. An iteration rests when not rz > tol2: rz[k] = rz[k - 1]; when
    p.Sp is not positive, rz[k] = A_NOT_POSITIVE. t (n,) is scratch.
    """
    T = dense(starts, ends, offsets, values, x.size)
    for k in range(1, steps + 1):
        rz[k] = rz[k - 1]
        if not rz[k - 1] > tol2:
            continue
        y = d * p - T.T @ (q * (T @ p))
        curvature = p @ y
        if not curvature > 0:
            rz[k] = A_NOT_POSITIVE
            continue
        step = rz[k - 1] / curvature
        x += step * p
        r -= step * y
        rz[k] = (dinv * r) @ r
        if rz[k] > tol2:
            p[:] = dinv * r + (rz[k] / rz[k - 1]) * p
