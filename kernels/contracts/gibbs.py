"""Passes over the cost of a transport problem: each computes exp((g_j - C_ij) / reg) once, and keeps what is asked for.

The cost is an array C (n, m), or comes from points: C is None and C_ij = |x_i - y_j|^2, or |x_i - y_j| where `root`,
with X (n, p) and Y (p, m), a coordinate a row; it is computed in the pass and never stored. +inf in C is a forbidden
pair.

Vectors over rows are (n,), those over columns (width,): m rounded up to whole blocks of LANES, of which the last width
- m entries belong to no column: 0 in b and left, anything finite elsewhere. Potentials are passed divided by reg, as
log_u and log_v, and 1/reg as `scale`:

    x_ij = log_v_j - scale C_ij,   log_sum_i = log sum_j exp(x_ij),   R_ij = exp(x_ij - log_sum_i)               (1)
    mass_i = a_i exp((1 - power) log_sum_i)      what row i carries: a_i where power is 1 (no slack in a)       (2)
    P_ij = mass_i R_ij = exp(log_u_i + log_v_j - scale C_ij)                                                    (3)

An exp whose argument is NOTHING below the largest of its row is 0. A call may be given some of the rows: what it sums
over rows it adds to what is there. `work` is float64 of `workspace_shape(parts, width)`: rows are cut into `parts`
runs, each with a column sum of its own, added in order, so that the result does not depend on the number of threads.
"""

import numpy as np

from . import contract

LANES = 8
"""Columns of a block of the stored kernel (contracts/scaling.py)."""

NOTHING = -300.0
"""exp of less is 0; far above the first denormal number, so that no product of a few of them is slow."""


def width_of(m: int) -> int:
    """Length of a vector over m columns: m rounded up to whole blocks."""
    return -(-m // LANES) * LANES


def parts_of(entries: int, most: int, grain: int) -> int:
    """Runs of rows worth a column sum of their own, from the number of entries that a pass reads."""
    return max(1, min(most, int(entries) // grain))


def workspace_shape(parts: int, width: int) -> tuple[int, int, int]:
    """Shape of `work`: for each run of rows a column sum, a row of numbers, and a row of costs."""
    return (parts, 3, width)


# ---- in NumPy -------------------------------------------------------------------------------------------------------


def cost(C, X, Y, root):
    """(n, m) float64."""
    if C is not None:
        return C.astype(float)
    squares = ((X.astype(float)[:, :, None] - Y.astype(float)[None]) ** 2).sum(1)
    return np.sqrt(squares) if root else squares


def _exp(x):
    return np.where(x > NOTHING, np.exp(np.maximum(x, NOTHING)), 0.0)


def _softmax(x):
    """R and log_sum of (1)."""
    if not x.size:
        return x, np.zeros(len(x))
    top = x.max(1, keepdims=True)
    e = _exp(x - top)
    total = e.sum(1, keepdims=True)
    return e / total, (top + np.log(total))[:, 0]


def _plan(C, log_u, log_v, scale):
    return _exp(log_u[:, None] + log_v[: C.shape[1]] - scale * C)


def _times(weights, C):
    """weights * C, 0 where a weight is: also at forbidden pairs."""
    return np.where(weights == 0, 0.0, weights * np.where(weights == 0, 0.0, C))


# ---- cases ----------------------------------------------------------------------------------------------------------

SHAPES = ((1, 1), (3, 5), (7, 8), (17, 40), (40, 33), (5, 600), (0, 9))


def _costs(rng, dtype):
    """(C, X, Y, root): stored, with forbidden pairs, and from points in one to five dimensions."""
    for n, m in SHAPES:
        yield rng.random((n, m)).astype(dtype), None, None, 0
    C = rng.random((20, 30))
    C[rng.random(C.shape) < 0.3] = np.inf
    C[:, 0] = 0.5
    yield C.astype(dtype), None, None, 0
    for p, root in ((1, 0), (2, 1), (3, 0), (5, 1)):
        X, Y = rng.random((13, p)).astype(dtype), rng.random((p, 21)).astype(dtype)
        if root:
            Y[:, 4] = X[6]  # a distance of 0
        yield None, X, Y, root


def _sides(source):
    C, X, Y, _ = source
    return C.shape if C is not None else (X.shape[0], Y.shape[1])


def _column(values, pad=0.25):
    """Padded to whole blocks."""
    return np.concatenate([values, np.full(width_of(values.size) - values.size, pad)])


def _masses(rng, n):
    return rng.uniform(0.5, 1.5, n) / max(1, n)


def _with_potentials(rng, dtype):
    """(source, log_v, scale, n, m, work) at ever smaller regularisation."""
    for number, source in enumerate(_costs(rng, dtype)):
        n, m = _sides(source)
        for scale in (3.0, 400.0):
            log_v = _column(rng.standard_normal(m) * (0.1 * scale))
            parts = 1 + (number + int(scale)) % 3
            yield source, log_v, scale, n, m, np.full(workspace_shape(parts, width_of(m)), np.nan)


# ---- the kernel and its sums ----------------------------------------------------------------------------------------


def _kernel_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        width = width_of(m)
        for permuted, delta, power in ((False, 0.0, 1.0), (True, 1e-3, 1.0), (False, 1e-9, 0.8)):
            order = rng.permutation(m).astype(np.int32) if permuted and source[0] is not None else None
            starts = np.arange(n, dtype=np.int64) * (width // LANES) + 1
            room = n * (width // LANES) + 1
            yield (*source, order, log_v, scale, _masses(rng, n), power, _column(_masses(rng, m), 0.0), delta, starts,
                   np.full(n, -1, np.int64), np.full(room, -1, np.int32), np.full((room, LANES), np.nan),
                   np.full(n, np.nan), rng.random(width), work)  # fmt: skip


@contract(cases=_kernel_cases, writes=("ends", "offsets", "values", "log_sum", "col"), scratch=("work",))
def gibbs_kernel(
    C, X, Y, root, order, log_v, scale, a, power, b, delta, starts, ends, offsets, values, log_sum, col, work
):
    """(1) stored in blocks of 1 x LANES, and its column sums: col += sum_i mass_i R_i, over all of R.

    Kept are entries with R_ij > delta min(1, b_j / a_i), and of the blocks those with an entry that is. Block q of row
    i is in values[k] (LANES of them, 0 where not kept) with its first column in offsets[k], for starts[i] <= k <
    ends[i]; starts (n,) int64 is the caller's, who leaves room for width / LANES blocks a row; what lies beyond ends is
    left alone.
    order (m,) int32 or None: column j here is column order[j] of C; with points it is None.
    a (n,), b (width,), log_sum (n,), col (width,), values (room, LANES) float64; ends int64, offsets (room,) int32.
    """
    costs = cost(C, X, Y, root)
    n, m = costs.shape
    if order is not None:
        costs = costs[:, order]
    R, log_sum[:] = _softmax(log_v[:m] - scale * costs)
    col[:m] += (a * np.exp((1 - power) * log_sum)) @ R
    for i in range(n):
        kept = np.zeros(width_of(m))
        kept[:m] = np.where(R[i] > delta * np.minimum(1, b[:m] / a[i]), R[i], 0)
        blocks = kept.reshape(-1, LANES)
        (chosen,) = np.nonzero(blocks.any(1))
        ends[i] = starts[i] + chosen.size
        values[starts[i] : ends[i]] = blocks[chosen]
        offsets[starts[i] : ends[i]] = chosen * LANES


def _sums_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        for power in (1.0, 0.7):
            yield (*source, log_v, scale, _masses(rng, n), power, np.full(n, np.nan), rng.random(width_of(m)), work)


@contract(cases=_sums_cases, writes=("log_sum", "col"), scratch=("work",))
def gibbs_sums(C, X, Y, root, log_v, scale, a, power, log_sum, col, work):
    """The same without storing anything: log_sum, and col += sum_i mass_i R_i."""
    costs = cost(C, X, Y, root)
    R, log_sum[:] = _softmax(log_v[: costs.shape[1]] - scale * costs)
    col[: costs.shape[1]] += (a * np.exp((1 - power) * log_sum)) @ R


# ---- bounds ---------------------------------------------------------------------------------------------------------


def _certificate_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        keep, left = _column(rng.uniform(0.5, 1, m)), _column(rng.uniform(0, 0.1, m), 0.0)
        keep[: m // 2], left[1:m:2] = 1.0, 0.0
        yield (*source, log_v / scale, scale, _masses(rng, n), keep, left, *(np.full(n, np.nan) for _ in range(4)),
               rng.random(width_of(m)), work)  # fmt: skip


@contract(cases=_certificate_cases, writes=("f", "kept", "short", "reach", "low"), scratch=("work",))
def gibbs_certificate(C, X, Y, root, g, scale, a, keep, left, f, kept, short, reach, low, work):
    """What both bounds of the unregularised cost need, for P = a R with log_v = scale g, in one pass.

    c-transforms, a feasible dual point:  f_i = min_j (C_ij - g_j),  low_j = min(low_j, min_i (C_ij - f_i)).
    Rounding (Altschuler, Weed, Rigollet 2017, algorithm 2): with keep_j = min(1, b_j / (P'1)_j), left = b - keep (P'1),
    kept_i = sum_j C_ij P_ij keep_j,  short_i = sum_j P_ij (1 - keep_j),  reach_i = sum_j C_ij left_j;  0 inf = 0.
    The rounded plan P keep + short left' / sum(short) costs sum(kept) + short.reach / sum(short).
    """
    costs = cost(C, X, Y, root)
    m = costs.shape[1]
    R, _ = _softmax(scale * (g[:m] - costs))
    P = a[:, None] * R
    f[:] = (costs - g[:m]).min(1)
    kept[:] = _times(P * keep[:m], costs).sum(1)
    short[:] = (P * (1 - keep[:m])).sum(1)
    reach[:] = _times(np.broadcast_to(left[:m], costs.shape), costs).sum(1)
    low[:m] = np.minimum(low[:m], (costs - f[:, None]).min(0, initial=np.inf))


def _rounded_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        log_u, log_v = _balanced(source, log_v, scale)
        extra = rng.uniform(0, 1e-3, m)
        extra[::2] = 0.0
        if source[0] is not None and np.isinf(source[0]).any():
            extra[:] = 0.0
        yield (*source, log_u, log_v, scale, _column(rng.uniform(0.9, 1, m)), _masses(rng, n), _column(extra, 0.0),
               np.full(n, np.nan), np.full(n, np.nan), work)  # fmt: skip


def _balanced(source, log_v, scale):
    """log_u for which every row of the plan sums to one."""
    costs = cost(*source)
    return -_softmax(log_v[: costs.shape[1]] - scale * costs)[1], log_v


@contract(cases=_rounded_cases, writes=("linear", "entropy"), scratch=("work",))
def rounded_value(C, X, Y, root, log_u, log_v, scale, keep, short, left, linear, entropy, work):
    """Cost and entropy of a rounded plan Q_ij = P_ij keep_j + short_i left_j with P of (3), a row each.

    linear_i = sum_j C_ij Q_ij,  entropy_i = sum_j Q_ij (log Q_ij - 1), where Q = 0 counts nothing.
    """
    costs = cost(C, X, Y, root)
    m = costs.shape[1]
    Q = _plan(costs, log_u, log_v, scale) * keep[:m] + short[:, None] * left[:m]
    linear[:] = _times(Q, costs).sum(1)
    entropy[:] = (Q * (np.log(np.where(Q > 0, Q, 1.0)) - 1)).sum(1)


# ---- the plan -------------------------------------------------------------------------------------------------------


def _plan_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        log_u, log_v = _balanced(source, log_v, scale)
        yield *source, log_u, log_v, scale, np.full((n, m), np.nan, dtype), work


@contract(cases=_plan_cases, writes=("P",), scratch=("work",))
def plan_dense(C, X, Y, root, log_u, log_v, scale, P, work):
    """(3) in P (n, m), float32 or float64."""
    P[:] = _plan(cost(C, X, Y, root), log_u, log_v, scale)


def _count_cases(rng, dtype):
    for source, log_v, scale, n, _m, work in _with_potentials(rng, dtype):
        for threshold in (0.0, 0.03):
            yield *source, *_balanced(source, log_v, scale), scale, threshold, np.full(n, -1, np.int64), work


@contract(cases=_count_cases, writes=("counts",), scratch=("work",))
def plan_count(C, X, Y, root, log_u, log_v, scale, threshold, counts, work):
    """counts_i (n,) int64 = the number of j with P_ij > threshold."""
    counts[:] = (_plan(cost(C, X, Y, root), log_u, log_v, scale) > threshold).sum(1)


def _sparse_cases(rng, dtype):
    for *source, log_u, log_v, scale, threshold, counts, work in _count_cases(rng, dtype):
        plan_count(*source, log_u, log_v, scale, threshold, counts, work)
        indptr = np.concatenate([[0], counts.cumsum()])
        yield (*source, log_u, log_v, scale, threshold, indptr, np.full(indptr[-1], -1, np.int32),
               np.full(indptr[-1], np.nan, dtype), work)  # fmt: skip


@contract(cases=_sparse_cases, writes=("indices", "data"), scratch=("work",))
def plan_sparse(C, X, Y, root, log_u, log_v, scale, threshold, indptr, indices, data, work):
    """The entries of (3) above the threshold in CSR: indptr (n + 1,) int64 from plan_count, indices int32, data."""
    P = _plan(cost(C, X, Y, root), log_u, log_v, scale)
    for i in range(P.shape[0]):
        (chosen,) = np.nonzero(P[i] > threshold)
        indices[indptr[i] : indptr[i + 1]] = chosen
        data[indptr[i] : indptr[i + 1]] = P[i, chosen]


def _moment_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        log_u, log_v = _balanced(source, log_v, scale)
        yield *source, log_u, log_v, scale, np.full(n, np.nan), rng.random(width_of(m)), work


@contract(cases=_moment_cases, writes=("rows", "cols"), scratch=("work",))
def plan_moments(C, X, Y, root, log_u, log_v, scale, rows, cols, work):
    """Sums of the plan times the cost: rows_i = sum_j P_ij C_ij, cols_j += sum_i P_ij C_ij; 0 inf = 0."""
    costs = cost(C, X, Y, root)
    moments = _times(_plan(costs, log_u, log_v, scale), costs)
    rows[:] = moments.sum(1)
    cols[: costs.shape[1]] += moments.sum(0)


def _gradient_cases(rng, dtype):
    for source, log_v, scale, n, m, work in _with_potentials(rng, dtype):
        if source[0] is not None:
            continue
        log_u, log_v = _balanced(source, log_v, scale)
        for slope in (0.0, scale):
            yield (*source[1:], log_u, log_v, scale, rng.random(n), _column(rng.random(m)), slope,
                   np.full(source[1].shape, np.nan), work)  # fmt: skip


@contract(cases=_gradient_cases, writes=("gradient",), scratch=("work",), rtol={"float32": 1e-9, "float64": 1e-11})
def points_gradient(X, Y, root, log_u, log_v, scale, alpha, beta, slope, gradient, work):
    """Chain rule from costs to points: gradient_i = sum_j P_ij (1 + slope (alpha_i + beta_j - C_ij)) dC_ij/dx_i, (n,
    p).

    Of |x - y| the derivative at 0 is taken as 0. With X and Y exchanged it is the gradient for the points of Y.
    """
    costs = cost(None, X, Y, root)
    n, m = costs.shape
    weights = _plan(costs, log_u, log_v, scale) * (1 + slope * (alpha[:, None] + beta[:m] - costs))
    weights = weights / np.where(costs > 0, costs, np.inf) if root else 2 * weights
    X, Y = X.astype(float), Y.astype(float)
    for i in range(n):
        gradient[i] = ((X[i][:, None] - Y) * weights[i]).sum(1)


# ---- the cost -------------------------------------------------------------------------------------------------------


def _range_cases(rng, dtype):
    for number, source in enumerate(_costs(rng, dtype)):
        n, m = _sides(source)
        work = np.full(workspace_shape(1 + number % 3, width_of(m)), np.nan)
        yield *source, np.full(n, np.nan), np.full(n, np.nan), np.full(n, -1, np.int64), work
    C = rng.random((6, 50)).astype(dtype)
    C[1], C[2, 3], C[3, 40], C[4, 0], C[5, 49] = np.inf, np.inf, np.nan, -np.inf, -1
    work = np.full(workspace_shape(2, width_of(50)), np.nan)
    yield C, None, None, 0, np.full(6, np.nan), np.full(6, np.nan), np.full(6, -1, np.int64), work


@contract(cases=_range_cases, writes=("low", "high", "forbidden"), scratch=("work",))
def cost_range(C, X, Y, root, low, high, forbidden, work):
    """For each row the smallest cost, the largest below +inf, and the number of +inf (int64).

    A row with a NaN has NaN for low and high; one with nothing below +inf has low = inf and high = -inf.
    """
    for i, row in enumerate(cost(C, X, Y, root)):
        forbidden[i] = (row == np.inf).sum()
        low[i] = row.min()
        high[i] = row[row != np.inf].max(initial=-np.inf)
