"""Restarted, reflected Halpern iteration of PDHG for linear programs, its scaling, and its measures of optimality.

For min c'x, row_lower <= A x <= row_upper, lower <= x <= upper, with steps tau = eta / w and sigma = eta w:

    p = clip(x - tau (c - A'y), lower, upper),  t = y - sigma A (2 p - x)                                (1)
    q = t - clip(t, -sigma row_upper, -sigma row_lower)                                                  (2)
    (x, y) <- k/(k + 1) (2 (p, q) - (x, y)) + 1/(k + 1) (x0, y0)       the k-th step from the anchor      (3)
    moved^2 = w |p - x|^2 + |q - y|^2 / w + 2 eta (q - y)'A (p - x)                                      (4)

(Lu and Yang, "Restarted Halpern PDHG for linear programming", 2024.) Every `every` steps the errors of (p, q) are
looked at, and (p, q) becomes the next anchor when `moved`, against what it was at the first step from this one, is
below SUFFICIENT, or below NECESSARY and rising, or this anchor has served ARTIFICIAL of all steps. The weight w then
goes, by a controller with memory, to |q - y0| / |p - x0|.

The matrix is given twice, as CSR of A and of A'. Batches share the pattern: data are (batch, nnz).
"""

import math

import numpy as np
import scipy.sparse as sp

from . import contract

ERRORS = 8
# relative errors, objectives and the error of the objective that they allow; the largest violations, see `lp_errors`
(PRIMAL, DUAL, GAP, PRIMAL_OBJECTIVE, DUAL_OBJECTIVE, OBJECTIVE_ERROR, ROW_VIOLATION, COLUMN_VIOLATION) = range(ERRORS)
OBJECTIVE_SLACK, VIOLATION_SLACK = 5.0, 100.0  # times tol, that these may be where the answer is to stand

SCALARS = 4
OBJECTIVE_UNIT, OFFSET, ROW_NORM, COLUMN_NORM = range(SCALARS)

STATE = 10
OUTCOME, WEIGHT, ETA, INTEGRAL, FIRST, LAST, MOVED, TOTAL, INNER, RESTARTS = range(STATE)
RUNNING, MET, NOT_FINITE, RESTING = 0.0, 1.0, 2.0, 3.0  # OUTCOME; the caller sets RESTING

SUFFICIENT, NECESSARY, ARTIFICIAL = 0.2, 0.5, 0.36
PROPORTIONAL, INTEGRATED, MEMORY = 0.99, 0.01, 0.3
LEAST_MOVE, LARGEST_MOVE, LARGEST_WEIGHT = 1e-16, 1e12, 1e8
WORK = 18  # partial sums that a block of rows and columns leaves


def _matrix(indptr, indices, data, columns):
    return sp.csr_array((data, indices, indptr), shape=(indptr.size - 1, columns))


def _patterns(rng):
    """(A, batch): tiny, empty, with empty rows and columns, of more than one block of rows, with long rows."""
    shapes = ((1, 1, 1, 1.0), (2, 7, 11, 0.4), (1, 0, 3, 0.0), (3, 5, 4, 0.3), (1, 300, 2100, 0.004), (1, 12, 10, 0.8),
              (1, 30, 40, 0.7))  # fmt: skip
    for batch, m, n, density in shapes:
        yield sp.csr_array(sp.random_array((m, n), density=density, rng=rng)), batch


def _both(A, batch, rng):
    """CSR of A and of A', with data for each of the batch."""
    numbered = sp.csr_array((np.arange(A.nnz), A.indices, A.indptr), shape=A.shape)
    turned = numbered.tocsc()
    data = rng.standard_normal((batch, A.nnz))
    parts = (A.indptr, A.indices, data, turned.indptr, turned.indices, np.ascontiguousarray(data[:, turned.data]))
    return tuple(v.astype(np.int32) if v.dtype.kind == "i" else v for v in parts)


# ---- scaling --------------------------------------------------------------------------------------------------------


def _scale_cases(rng, dtype):
    for A, batch in _patterns(rng):
        parts = _both(A, batch, rng)[:3]
        own, other = rng.uniform(0.5, 2, (batch, A.shape[0])), rng.uniform(0.5, 2, (batch, A.shape[1]))
        for by_sum in (0, 1):
            yield *parts, own, other, by_sum, np.full_like(own, np.nan)


@contract(cases=_scale_cases, writes=("out",))
def lp_equilibrate(indptr, indices, data, own, other, by_sum, out):
    """out = own sqrt(size), with size the largest |a_ij| / (own_i other_j) of row i, or if `by_sum` their sum.

    One step of Ruiz' equilibration, or of Pock's and Chambolle's, for the rows; for the columns pass A'. Rows without
    entries, or with nothing but zeros, keep what they have. own, out (batch, m), other (batch, n).
    """
    for s in range(own.shape[0]):
        for i in range(own.shape[1]):
            row = slice(indptr[i], indptr[i + 1])
            sizes = abs(data[s, row]) / (own[s, i] * other[s, indices[row]])
            size = sizes.sum() if by_sum else sizes.max(initial=0)
            out[s, i] = own[s, i] * math.sqrt(size) if size > 0 else own[s, i]


def _apply_cases(rng, dtype):
    for *parts, own, other, by_sum, _ in _scale_cases(rng, dtype):
        if by_sum:
            yield *parts, own, other, np.full_like(parts[2], np.nan)


@contract(cases=_apply_cases, writes=("out",))
def lp_scale(indptr, indices, data, own, other, out):
    """out = a_ij / (own_i other_j); out (batch, nnz)."""
    rows = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    out[...] = data / (own[:, rows] * other[:, indices])


def _power_cases(rng, dtype):
    for A, batch in _patterns(rng):
        v = rng.standard_normal((batch, A.shape[0]))
        for steps in (1, 5):
            u, w = np.full((batch, A.shape[1]), np.nan), np.full_like(v, np.nan)
            yield *_both(A, batch, rng), steps, v.copy(), u, w, np.full((batch, 2), np.nan)


@contract(cases=_power_cases, writes=("v", "out"), scratch=("u", "w"), rtol={"float32": 1e-7, "float64": 1e-7})
def lp_power(indptr, indices, data, tindptr, tindices, tdata, steps, v, u, w, out):
    """`steps` steps v <- A A'v of the power method, without scaling in between; then |v| = 1.

    out (batch, 2): v'A A'v of the v before the last step, and |A A'v - that v| (of |v| = 1), within which an eigenvalue
    of A A' lies. v, w (batch, m), u (batch, n). Where nothing is left of v, out is zero and so is v.
    """
    for s in range(v.shape[0]):
        A = _matrix(indptr, indices, data[s], u.shape[1])
        for _ in range(steps):
            before, v[s] = v[s].copy(), A @ (A.T @ v[s])
        size = before @ before
        value = before @ v[s] / size if size > 0 else 0.0
        left = math.sqrt(max(v[s] @ v[s] / size - value**2, 0.0)) if size > 0 else 0.0
        out[s] = value, left
        norm = np.linalg.norm(v[s])
        v[s] = v[s] / norm if norm > 0 else 0.0


# ---- optimality -----------------------------------------------------------------------------------------------------


def _finite(v):
    return np.where(np.isfinite(v), v, 0.0)


def _programs(rng):
    """Arguments up to `scalars`, and a point (x, y): bounds of all kinds, scaled and in their own units."""
    for A, batch in _patterns(rng):
        (m, n), parts = A.shape, _both(A, batch, rng)
        near, activity = rng.standard_normal((batch, n)), rng.standard_normal((batch, m))
        lower, upper = near - rng.uniform(0, 1, (batch, n)), near + rng.uniform(0, 1, (batch, n))
        row_lower, row_upper = activity - rng.uniform(0, 1, (batch, m)), activity + rng.uniform(0, 1, (batch, m))
        kind, row_kind = rng.integers(0, 5, n), rng.integers(0, 5, m)
        lower[:, (kind == 1) | (kind == 3)] = row_lower[:, (row_kind == 1) | (row_kind == 3)] = -np.inf
        upper[:, (kind == 2) | (kind == 3)] = row_upper[:, (row_kind == 2) | (row_kind == 3)] = np.inf
        lower[:, kind == 4], row_lower[:, row_kind == 4] = upper[:, kind == 4], row_upper[:, row_kind == 4]
        c, scalars = rng.standard_normal((batch, n)), rng.uniform(0.5, 2, (batch, SCALARS))
        row_unit, col_unit = rng.uniform(0.5, 2, (batch, m)), rng.uniform(0.5, 2, (batch, n))
        yield (*parts, c, lower, upper, row_lower, row_upper, row_unit, col_unit, scalars), near, activity


def _errors_cases(rng, dtype):
    for program, x, y in _programs(rng):
        batch = x.shape[0]
        for size in (0.0, 1.0):
            work = np.full((batch, WORK, _blocks(x, y)), np.nan)
            yield *program, size * x, size * y, work, np.full((batch, ERRORS), np.nan)


def _blocks(x, y):
    return max(1, -(-max(x.shape[1], y.shape[1]) // 256))


@contract(cases=_errors_cases, writes=("errors",), scratch=("work",), rtol={"float32": 1e-10, "float64": 1e-10})
def lp_errors(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit,
              col_unit, scalars, x, y, work, errors):  # fmt: skip
    """How far (x, y) is from optimal, in the units of the unscaled program; errors (batch, ERRORS).

    An activity times row_unit, a reduced cost times col_unit and an objective times scalars[OBJECTIVE_UNIT] is that of
    the unscaled program, whose objective has scalars[OFFSET] on top and whose sides and costs have the norms
    scalars[ROW_NORM] and scalars[COLUMN_NORM]. Then, with p and d the objectives,

        PRIMAL  |violations of rows and bounds|_2 / (1 + ROW_NORM),  DUAL  |violations of z and y|_2 / (1 + COLUMN_NORM)
        GAP  |p - d| / (1 + |p| + |d|)
        OBJECTIVE_ERROR  (|p - d| + sum |y_i| violation_i + sum |x_j| violation_j) / (1 + min(|p|, |d|))
        ROW_VIOLATION, COLUMN_VIOLATION  the largest, against 1 + the size of the row's side, the bound or the cost

    A reduced cost or multiplier is a violation where the bound that it would be paid at is infinite. row_unit,
    row_lower, row_upper, y (batch, m); col_unit, c, lower, upper, x (batch, n); scalars (batch, SCALARS).
    """
    for s in range(x.shape[0]):
        A = _matrix(indptr, indices, data[s], x.shape[1])
        unit, offset, b_norm, c_norm = scalars[s]
        x_unit, y_unit = unit / col_unit[s], unit / row_unit[s]
        g, z = A @ x[s], c[s] - A.T @ y[s]
        low, high, below, above = row_lower[s], row_upper[s], lower[s], upper[s]
        row = np.maximum(low - g, 0) + np.maximum(g - high, 0)
        bound = np.maximum(below - x[s], 0) + np.maximum(x[s] - above, 0)
        column = np.where(z > 0, ~np.isfinite(below), ~np.isfinite(above)) * abs(z)
        wrong = np.where(y[s] > 0, ~np.isfinite(low), ~np.isfinite(high)) * abs(y[s])
        p = c[s] @ x[s] * unit + offset
        d = (y[s] * _finite(np.where(y[s] > 0, low, high))).sum() + (z * _finite(np.where(z > 0, below, above))).sum()
        d = d * unit + offset
        slack = ((abs(y[s]) * row).sum() + (abs(x[s]) * column).sum()) * unit
        side = np.maximum(abs(_finite(low)), abs(_finite(high)))
        edge = np.maximum(abs(_finite(below)), abs(_finite(above)))
        rows = np.concatenate([row * row_unit[s] / (1 + side * row_unit[s]), bound * x_unit / (1 + edge * x_unit)])
        columns = np.concatenate([column * col_unit[s] / (1 + abs(c[s]) * col_unit[s]), wrong * y_unit])
        primal = math.hypot(np.linalg.norm(row * row_unit[s]), np.linalg.norm(bound * x_unit))
        dual = math.hypot(np.linalg.norm(column * col_unit[s]), np.linalg.norm(wrong * y_unit))
        errors[s] = (primal / (1 + b_norm), dual / (1 + c_norm), abs(p - d) / (1 + abs(p) + abs(d)), p, d,
                     (abs(p - d) + slack) / (1 + min(abs(p), abs(d))), rows.max(initial=0),
                     columns.max(initial=0))  # fmt: skip


def meets(errors, tol):
    """Whether errors (ERRORS,) are those of an answer that stands."""
    kkt = max(errors[PRIMAL], errors[DUAL], errors[GAP])
    violation = max(errors[ROW_VIOLATION], errors[COLUMN_VIOLATION])
    return kkt <= tol and errors[OBJECTIVE_ERROR] <= OBJECTIVE_SLACK * tol and violation <= VIOLATION_SLACK * tol


# ---- iteration ------------------------------------------------------------------------------------------------------


def _steps_cases(rng, dtype):
    for program, near, activity in _programs(rng):
        batch, n, m = near.shape[0], near.shape[1], activity.shape[1]
        c, lower, upper = program[6:9]
        for done, steps, every in ((0, 1, 4), (0, 8, 4), (3, 7, 5)):
            x, y = np.clip(near, lower, upper), 0.1 * activity
            state = np.zeros((batch, STATE))
            state[:, WEIGHT], state[:, ETA] = rng.uniform(0.5, 2, batch), 0.3
            state[:, LAST], state[:, TOTAL], state[:, INNER] = np.inf, done, min(done, 2)
            state[:, FIRST] = 10.0 if done else 0.0
            if batch == 3:
                state[1, OUTCOME] = RESTING
                state[2, ETA] = np.nan
            x0, y0 = x + 0.01 * c, y.copy()
            room = [np.ones((batch, size)) for size in (n, m, n, m)]  # of this size is what dx, dy are differences of
            yield (*program, 1e-9, done, steps, every, x, y, x0, y0, *room, np.full((batch, n), np.nan), state,
                   np.full((batch, ERRORS), np.nan), np.full((batch, 4), np.nan),
                   np.full((batch, WORK, _blocks(x, y)), np.nan))  # fmt: skip


@contract(
    cases=_steps_cases,
    writes=("x", "y", "x0", "y0", "p", "q", "dx", "dy", "state", "errors", "trace"),
    scratch=("reflected", "work"),
    rtol={"float32": 1e-8, "float64": 1e-8},
)
def lp_steps(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
             scalars, tol, done, steps, every, x, y, x0, y0, p, q, dx, dy, reflected, state, errors, trace,
             work):  # fmt: skip
    """`steps` steps (1)-(3) of each program, `done` before, with looks and restarts where their number is a multiple of
    `every`, and a look after the last that decides nothing.

    state (batch, STATE): OUTCOME, which ends a program's steps unless it is RUNNING; WEIGHT w and INTEGRAL, what its
    controller remembers; ETA; FIRST, LAST and MOVED, (4) at the first step from the anchor, at the last look (infinite
    before one) and now; TOTAL, INNER and RESTARTS, steps in all, from the anchor, and anchors. A look takes `lp_errors`
    of (p, q), notes the largest of PRIMAL, DUAL and GAP in trace[:, number of the look], and sets OUTCOME to MET where
    `meets` them. dx, dy are p - x and q - y of the last step, `reflected` is room for 2 p - x. trace (batch, looks) is
    left as it is where there is no look. c to `scalars`, and `work`, are as for `lp_errors`.
    """
    program = (indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit,
               col_unit, scalars)  # fmt: skip
    matrices = [_matrix(indptr, indices, values, c.shape[1]) for values in data]
    look = 0
    for k in range(done + 1, done + steps + 1):
        due = k % every == 0
        for s in np.flatnonzero(state[:, OUTCOME] == RUNNING):
            A, mine = matrices[s], state[s]
            tau, sigma = mine[ETA] / mine[WEIGHT], mine[ETA] * mine[WEIGHT]
            p[s] = np.clip(x[s] - tau * (c[s] - A.T @ y[s]), lower[s], upper[s])
            t = y[s] - sigma * (A @ (2 * p[s] - x[s]))
            q[s] = t - np.clip(t, -sigma * row_upper[s], -sigma * row_lower[s])
            dx[s], dy[s] = p[s] - x[s], q[s] - y[s]
            mine[INNER] += 1
            mine[TOTAL] += 1
            share = mine[INNER] / (mine[INNER] + 1)
            x[s] = share * (2 * p[s] - x[s]) + (1 - share) * x0[s]
            y[s] = share * (2 * q[s] - y[s]) + (1 - share) * y0[s]
            if mine[INNER] == 1:
                mine[FIRST] = _moved(A, dx[s], dy[s], mine)
        if due or k == done + steps:
            running = state[:, OUTCOME] == RUNNING
            found = np.empty_like(errors)
            lp_errors(*program, p, q, work, found)
            errors[running] = found[running]
            for s in np.flatnonzero(running):
                state[s, MOVED] = _moved(matrices[s], dx[s], dy[s], state[s])
                trace[s, look] = max(errors[s, PRIMAL], errors[s, DUAL], errors[s, GAP])
                if not (np.isfinite(state[s, MOVED]) and np.isfinite(trace[s, look])):
                    state[s, OUTCOME] = NOT_FINITE
                elif due and meets(errors[s], tol):
                    state[s, OUTCOME] = MET
                elif due:
                    distances = math.dist(p[s], x0[s]), math.dist(q[s], y0[s])
                    if restart(state[s], *distances, state[s, TOTAL] == every):
                        for v, v0, anchor in ((x, x0, p), (y, y0, q)):
                            v[s] = v0[s] = anchor[s]
            look += 1


def _moved(A, dx, dy, state):
    squared = state[WEIGHT] * (dx @ dx) + (dy @ dy) / state[WEIGHT] + 2 * state[ETA] * (dy @ (A @ dx))
    return math.sqrt(squared) if squared > 0 else squared * 0  # NaN stays


def restart(state, dp, dq, first_look):
    """Whether (p, q), by dp and dq off the anchor, is to be the next; if so, the state is made ready for it."""
    moved, first = state[MOVED], state[FIRST]
    fallen = moved <= SUFFICIENT * first or (moved <= NECESSARY * first and moved > state[LAST])
    state[LAST] = moved
    if not (first_look or fallen or state[INNER] >= ARTIFICIAL * state[TOTAL]):
        return False
    if LEAST_MOVE < min(dp, dq) and max(dp, dq) < LARGEST_MOVE:
        error = math.log(dq / dp / state[WEIGHT])
        state[INTEGRAL] = MEMORY * state[INTEGRAL] + error
        weight = state[WEIGHT] * math.exp(PROPORTIONAL * error + INTEGRATED * state[INTEGRAL])
        state[WEIGHT] = min(max(weight, 1 / LARGEST_WEIGHT), LARGEST_WEIGHT)
    state[INNER], state[LAST] = 0, np.inf
    state[RESTARTS] += 1
    return True
