"""Numba twin of contracts/manyot.py: a problem at a time, whose plan stays in a cache."""

import numpy as np
from numba import njit

from ..contracts.manyot import (
    CG_STEPS,
    FAILURES,
    FALL,
    LEVEL_TOL,
    MET,
    NOT_FINITE,
    OUT_OF_STEPS,
    REACH,
    ROUNDING,
    SHIFT,
    SHORTER,
    STALLED,
    TRIALS,
    WIDE,
)
from .exponential import exp
from .pool import JIT, over_blocks

# Exponents of forbidden pairs are -inf, which have to arrive; `reassoc` would make NaN of them.
_ELEMENTWISE = JIT | {"fastmath": {"contract", "nsz"}}


@njit(**_ELEMENTWISE)
def _exponents(C, g, inverse, x):
    """x = (g - C) / r, and the largest of them."""
    top = -np.inf
    for j in range(x.size):
        x[j] = (g[j] - np.float64(C[j])) * inverse
    for j in range(x.size):
        top = x[j] if x[j] > top else top
    return top


@njit(**JIT)
def _exp_row(x, top):
    """x <- exp(x - top), and their sum."""
    total = 0.0
    for j in range(x.size):
        x[j] = exp(x[j] - top)
        total += x[j]
    return total


@njit(**JIT)
def _add_scaled(x, factor, total):
    for j in range(x.size):
        x[j] *= factor
        total[j] += x[j]


@njit(**JIT)
def _evaluate(C, a, b, r, g, f, P, col):
    """f of (1), P and its column sums; returns |P'1 - b|_1, or inf where a column is empty."""
    inverse = 1.0 / r
    col[:] = 0.0
    for i in range(f.size):
        top = _exponents(C[i], g, inverse, P[i])
        total = _exp_row(P[i], top)
        f[i] = r * (np.log(a[i]) - top - np.log(total))
        _add_scaled(P[i], a[i] / total, col)
    error = 0.0
    for j in range(b.size):
        if not col[j] > 1e-300:
            return np.inf
        error += abs(col[j] - b[j])
    return error


@njit(**JIT)
def _product(P, a, d, p, y):
    """y = (diag(d) - P' diag(1/a) P) p; returns p.y"""
    y[:] = 0.0
    for i in range(a.size):
        row = P[i]
        t = 0.0
        for j in range(p.size):
            t += row[j] * p[j]
        t /= a[i]
        for j in range(p.size):
            y[j] += t * row[j]
    dot = 0.0
    for j in range(p.size):
        y[j] = d[j] * p[j] - y[j]
        dot += p[j] * y[j]
    return dot


@njit(**JIT)
def _newton_step(a, b, P, col, error, x, r, p, y, d, dinv):
    """x is the step in g / r, no longer than REACH to either side; returns the slope of phi along it."""
    m = b.size
    dinv[:] = 0.0
    for i in range(a.size):
        row, inverse = P[i], 1.0 / a[i]
        for j in range(m):
            dinv[j] += row[j] * row[j] * inverse
    rz = 0.0
    for j in range(m):
        d[j] = col[j] + SHIFT * min(error, 1.0) * b[j]
        dinv[j] = 1.0 / max(d[j] - dinv[j], 1e-14 * d[j])
        x[j], r[j] = 0.0, b[j] - col[j]
        p[j] = dinv[j] * r[j]
        rz += r[j] * p[j]
    tol2 = min(0.1, max(0.3 * np.sqrt(error), 1e-4)) ** 2 * rz
    for _ in range(CG_STEPS):
        if not rz > tol2:
            break
        curvature = _product(P, a, d, p, y)
        if not curvature > 0.0:
            break
        alpha, old, rz = rz / curvature, rz, 0.0
        for j in range(m):
            x[j] += alpha * p[j]
            r[j] -= alpha * y[j]
            rz += r[j] * r[j] * dinv[j]
        for j in range(m):
            p[j] = dinv[j] * r[j] + rz / old * p[j]
    centre = 0.0
    for j in range(m):
        centre += b[j] * x[j]
    low = high = x[0] - centre
    down = along = 0.0
    for j in range(m):
        x[j] -= centre
        low, high = min(low, x[j]), max(high, x[j])
        down += (col[j] - b[j]) * x[j]
        along += (col[j] - b[j]) * min(max(x[j], -REACH), REACH)
    if high - low <= 2.0 * REACH:
        return down
    length = 2.0 * REACH / (high - low)
    if along < 0.02 * down * length:
        for j in range(m):
            x[j] = min(max(x[j], -REACH), REACH)
        return along
    for j in range(m):
        x[j] *= length
    return length * down


@njit(**JIT)
def _dot(a, f):
    total = 0.0
    for i in range(a.size):
        total += a[i] * f[i]
    return total


@njit(**JIT)
def _one(C, a, b, reg, tol, limit, r, f, g, col, P, wide):
    """(r, error, steps, outcome)"""
    x, residual, p, y, d, dinv, trial, before = wide
    error = _evaluate(C, a, b, r, g, f, P, col)
    taken = sinkhorn = failures = slow = 0
    quick, levels = True, 0
    while True:
        if not np.isfinite(error):
            return r, error, taken, NOT_FINITE
        if error <= (max(LEVEL_TOL, tol) if r > reg else 0.5 * tol):
            if not r > reg:
                return r, error, taken, MET
            if levels == 0:
                before[:] = g
            centre = 0.0
            for j in range(g.size):
                centre += b[j] * (g[j] - before[j])
            for j in range(g.size):
                ahead, before[j] = g[j] - before[j] - centre, g[j]
                g[j] += 0.25 * ahead
            r, levels = r / 4.0, levels + 1
            error = _evaluate(C, a, b, r, g, f, P, col)
            quick, sinkhorn = True, 0
            continue
        if taken >= limit:
            return r, error, taken, OUT_OF_STEPS
        if failures > FAILURES or slow > 3:
            return r, error, taken, STALLED
        taken, last = taken + 1, error
        if quick:
            for j in range(g.size):
                g[j] += r * (np.log(b[j]) - np.log(col[j]))
            error = _evaluate(C, a, b, r, g, f, P, col)
            sinkhorn += 1
            quick = sinkhorn < 2 or error <= FALL * last
            continue
        down = _newton_step(a, b, P, col, error, x, residual, p, y, d, dinv)
        phi, length, helped = -(_dot(a, f) + _dot(b, g)) / r, 1.0, False
        for _ in range(TRIALS):
            for j in range(g.size):
                trial[j] = g[j] + length * r * x[j]
            error = _evaluate(C, a, b, r, trial, f, P, col)
            least = phi + 1e-4 * length * down + 1e-14 * max(1.0, abs(phi))
            helped = error < 0.5 * last or (np.isfinite(error) and -(_dot(a, f) + _dot(b, trial)) / r <= least)
            if helped:
                break
            length *= SHORTER
        if helped:
            g[:] = trial
        else:
            error = _evaluate(C, a, b, r, g, f, P, col)
        if not helped or (length < 0.05 and error > 0.9 * last):
            failures, quick, sinkhorn = failures + 1, True, 0
        slow = slow + 1 if error < ROUNDING and error > 0.5 * last else 0


@njit(**JIT)
def _items(first, last, C, a, b, places, sizes, reg, tol, limit, r, f, g, columns, error, nit, outcome, room):
    for item in range(first, last):
        if outcome[item] != OUT_OF_STEPS:
            continue
        n, m = sizes[item]
        at, to, row, column = places[item]
        rows, cols = slice(row, row + n), slice(column, column + m)
        cost, P = C[at : at + n * m].reshape(n, m), room[to : to + n * m].reshape(n, m)
        wide = np.empty((WIDE, m))  # of its own: slices of a matrix's last axis do not vectorise
        r[item], error[item], steps, outcome[item] = _one(
            cost, a[rows], b[cols], reg, tol[item], limit, r[item], f[rows], g[cols], columns[cols], P, wide
        )
        nit[item] += steps


def transport_items(C, a, b, places, sizes, reg, tol, limit, r, f, g, columns, error, nit, outcome, room, wide, tall):
    over_blocks(_items, len(r), 1, C, a, b, places, sizes, float(reg), tol, limit, r, f, g, columns, error, nit,
                outcome, room)  # fmt: skip
