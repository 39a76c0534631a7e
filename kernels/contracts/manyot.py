"""Many transport problems in one call: each from its start to its end on one core, or by one block of threads.

Entropic transport in the semi-dual form (Cuturi, Peyre, Semidual regularized optimal transport, 2018): for potentials g
of the columns, those of the rows are what makes the row sums of P_ij = exp((f_i + g_j - C_ij) / r) equal to a,

    f_i = r (log a_i - log sum_j exp((g_j - C_ij) / r)),                                                        (1)

and what is left to minimise, over g / r, is

    phi(g) = -a.f / r - b.g / r,   gradient P'1 - b,   Hessian diag(P'1) - P' diag(1/a) P,                      (2)

by Sinkhorn steps g += r (log b - log P'1) while the error |P'1 - b|_1 at least halves in each, and by Newton steps
after, on the Hessian with a shift on its diagonal. r falls by fours from where the problem is easy to reg.
"""

import numpy as np

from . import contract

# how a problem ended
OUTCOMES = OUT_OF_STEPS, MET, STALLED, NOT_FINITE = range(4)
WIDE = 8  # vectors over the columns that a problem needs as room
LEVEL_TOL = 3e-3  # of the error, until r is reg
FALL = 0.5  # Sinkhorn goes on while a step takes the error below this part of it
SHIFT = 0.03  # of the Hessian, relative to b and to the error
REACH = 4.0  # of a step in g / r, to either side
SHORTER = 0.4  # a step, when the one before did not help
TRIALS, FAILURES, CG_STEPS = 12, 5, 200
ROUNDING = 1e-10  # an error below it that does not halve any more is rounding


def _cases(rng, dtype):
    shapes = ((3, 5), (7, 3), (1, 1), (40, 33), (5, 70))
    plans = ((shapes, False, 1e-2, 99), (((6, 9),) * 3, True, 1e-1, 99), (((12, 12), (9, 11)), False, 1e-3, 3),
             ((), False, 1.0, 9))  # fmt: skip
    for sizes, shared, reg, limit in plans:
        count, (n, m) = len(sizes), np.array(sizes, np.int64).reshape(-1, 2).T
        begin = [np.concatenate([[0], lengths.cumsum()]) for lengths in (n * m, n, m)]
        C = rng.random(n[0] * m[0] if shared else begin[0][-1]).astype(dtype)
        places = np.stack([begin[0][:-1] * (not shared), begin[0][:-1], begin[1][:-1], begin[2][:-1]], axis=1)
        a, b = (_masses(rng, lengths) for lengths in (n, m))
        r = np.full(count, reg)
        while count and r[0] < 0.005:
            r *= 4
        outcome = np.full(count, OUT_OF_STEPS, np.int32)
        if count == 5:
            outcome[1] = STALLED  # decided before: left alone
            C[places[4, 0]] = np.inf  # forbidden
        f, g, columns = (np.zeros(size) for size in (len(a), len(b), len(b)))
        shape = np.stack([n, m], axis=1).astype(np.int32)
        yield (C, a, b, places, shape, reg, np.full(count, 1e-7), limit, r, f, g, columns, np.full(count, 9.0),
               np.zeros(count, np.int32), outcome, np.full(begin[0][-1], np.nan),
               np.full((WIDE, len(b)), np.nan), np.full(len(a), np.nan))  # fmt: skip
    # the scaling of a column underflows
    C = np.array([0.0, 1.0, 0.0, 1.0], dtype)
    yield (C, np.full(2, 0.5), np.full(2, 0.5), np.zeros((1, 4), np.int64), np.full((1, 2), 2, np.int32), 1e-4,
           np.full(1, 1e-7), 9, np.full(1, 1e-4), np.zeros(2), np.zeros(2), np.zeros(2), np.full(1, 9.0),
           np.zeros(1, np.int32), np.zeros(1, np.int32), np.full(4, np.nan), np.full((WIDE, 2), np.nan),
           np.full(2, np.nan))  # fmt: skip


def _masses(rng, lengths):
    parts = [rng.uniform(0.5, 1.5, length) for length in lengths]
    return np.concatenate([part / part.sum() for part in parts]) if parts else np.zeros(0)


@contract(
    cases=_cases,
    writes=("r", "f", "g", "columns", "error", "nit", "outcome"),
    scratch=("room", "wide", "tall"),
    within={"error": "tol"},
    rtol={"float32": 1e-6, "float64": 1e-6},
)
def transport_items(C, a, b, places, sizes, reg, tol, limit, r, f, g, columns, error, nit, outcome, room, wide, tall):
    """Solve each problem whose outcome is OUT_OF_STEPS, by `limit` Sinkhorn and Newton steps at most.

    C, a, b, f, g, columns and room hold those of all problems, one after the other: problem p has `sizes[p]` = (n, m)
    (int32), and starts at `places[p]` (int64) in C, in room, in what is over rows, and in what is over columns. Costs
    may be +inf; weights are positive, of sum one. r, tol (batch,): r is reg times a power of four; it and g are where
    to start.

    On return f and g belong together at r, columns = P'1, error = |columns - b|_1; nit (int32) is raised by the steps
    taken. MET is: r = reg, and error <= tol / 2. wide (WIDE, columns), tall (rows,) and room are scratch; all float64.
    """
    for p in np.flatnonzero(outcome == OUT_OF_STEPS):
        at, _, row, column = places[p]
        n, m = sizes[p]
        rows, cols = slice(row, row + n), slice(column, column + m)
        cost = C[at : at + n * m].reshape(n, m).astype(float)
        r[p], f[rows], g[cols], columns[cols], error[p], steps, outcome[p] = _one(
            cost, a[rows], b[cols], reg, tol[p], limit, r[p], g[cols].copy()
        )
        nit[p] += steps


def _evaluate(C, a, b, r, g):
    """(f, P, P'1, error)"""
    x = (g - C) / r
    top = x.max(axis=1)
    f = r * (np.log(a) - top - np.log(np.exp(x - top[:, None]).sum(1)))
    P = np.exp((f[:, None] + g - C) / r)
    col = P.sum(0)
    return f, P, col, abs(col - b).sum() if (col > 1e-300).all() else np.inf


def _one(C, a, b, reg, tol, limit, r, g):
    f, P, col, error = _evaluate(C, a, b, r, g)
    taken = sinkhorn = failures = slow = 0
    quick, before = True, None
    while True:
        if not np.isfinite(error):
            return r, f, g, col, error, taken, NOT_FINITE
        if error <= (max(LEVEL_TOL, tol) if r > reg else 0.5 * tol):
            if not r > reg:
                return r, f, g, col, error, taken, MET
            ahead = np.zeros_like(g) if before is None else g - before
            before, r = g.copy(), r / 4
            g = g + 0.25 * (ahead - b @ ahead)  # the secant through the last two
            f, P, col, error = _evaluate(C, a, b, r, g)
            quick, sinkhorn = True, 0
            continue
        if taken >= limit:
            return r, f, g, col, error, taken, OUT_OF_STEPS
        if failures > FAILURES or slow > 3:
            return r, f, g, col, error, taken, STALLED
        taken, last = taken + 1, error
        if quick:
            g = g + r * (np.log(b) - np.log(col))
            f, P, col, error = _evaluate(C, a, b, r, g)
            sinkhorn += 1
            quick = sinkhorn < 2 or error <= FALL * last
            continue
        step, down = _newton_step(a, b, P, col, error)
        phi, length, helped = -(a @ f + b @ g) / r, 1.0, False
        for _ in range(TRIALS):
            trial = g + length * r * step
            found = _evaluate(C, a, b, r, trial)
            least = phi + 1e-4 * length * down + 1e-14 * max(1.0, abs(phi))
            helped = found[3] < 0.5 * error or (np.isfinite(found[3]) and -(a @ found[0] + b @ trial) / r <= least)
            if helped:
                break
            length *= SHORTER
        if helped:
            g, (f, P, col, error) = trial, found
        else:
            f, P, col, error = _evaluate(C, a, b, r, g)
        if not helped or (length < 0.05 and error > 0.9 * last):
            failures, quick, sinkhorn = failures + 1, True, 0
        slow = slow + 1 if error < ROUNDING and error > 0.5 * last else 0


def _newton_step(a, b, P, col, error):
    """(step in g / r, the slope of phi along it), no longer than REACH to either side."""
    d = col + SHIFT * min(error, 1.0) * b
    dinv = d - (P**2 / a[:, None]).sum(0)
    dinv = 1 / np.maximum(dinv, 1e-14 * d)
    x, r = np.zeros_like(b), b - col
    p = dinv * r
    rz = r @ p
    tol2 = min(0.1, max(0.3 * np.sqrt(error), 1e-4)) ** 2 * rz
    for _ in range(CG_STEPS):
        if not rz > tol2:
            break
        y = d * p - P.T @ (P @ p / a)
        curvature = p @ y
        if not curvature > 0:
            break
        alpha = rz / curvature
        x, r = x + alpha * p, r - alpha * y
        rz, old = r @ (dinv * r), rz
        p = dinv * r + rz / old * p
    x = x - b @ x
    slope = col - b
    spread = x.max() - x.min()
    if spread > 2 * REACH:
        clipped = np.clip(x, -REACH, REACH)
        x = clipped if slope @ clipped < 0.02 * (slope @ x) * 2 * REACH / spread else x * (2 * REACH / spread)
    return x, slope @ x
