"""Numba twins of contracts/lp.py: one thread a program, whose iterations run without a word of Python in between."""

import math

import numpy as np
from numba import njit, uint64

from ..contracts import lp as the
from .pool import JIT, over_blocks

_GRAIN = 30_000  # entries of matrices a thread is worth waking for
_SUMS = 512  # products with a matrix that are kept until they are used: they stay in the first cache


def _over_programs(body, count, entries, *args):
    """Share programs among threads; each has so many entries to go through."""
    over_blocks(body, count, max(1, _GRAIN // max(1, entries)), *args)


# ---- scaling --------------------------------------------------------------------------------------------------------


@njit(**JIT)
def _equilibrate(first, last, indptr, indices, data, own, other, by_sum, out):
    for s in range(first, last):
        values, mine, theirs = data[s], own[s], other[s]
        for i in range(mine.size):
            size = 0.0
            for k in range(indptr[i], indptr[i + 1]):
                entry = abs(values[k]) / (mine[i] * theirs[uint64(indices[k])])
                size = size + entry if by_sum else max(size, entry)
            out[s, i] = mine[i] * math.sqrt(size) if size > 0.0 else mine[i]


def lp_equilibrate(indptr, indices, data, own, other, by_sum, out):
    _over_programs(_equilibrate, own.shape[0], indices.size, indptr, indices, data, own, other, by_sum, out)


@njit(**JIT)
def _scale(first, last, indptr, indices, data, own, other, out):
    for s in range(first, last):
        for i in range(own.shape[1]):
            for k in range(indptr[i], indptr[i + 1]):
                out[s, k] = data[s, k] / (own[s, i] * other[s, uint64(indices[k])])


def lp_scale(indptr, indices, data, own, other, out):
    _over_programs(_scale, own.shape[0], indices.size, indptr, indices, data, own, other, out)


@njit(**JIT)
def _product(indptr, indices, data, x, y):
    """y = A x"""
    k = uint64(0)
    for i in range(y.size):
        end = uint64(indptr[i + 1])
        total = 0.0
        while k < end:
            total += data[k] * x[uint64(indices[k])]
            k += uint64(1)
        y[i] = total


@njit(**JIT)
def _power(first, last, indptr, indices, data, tindptr, tindices, tdata, steps, v, u, w, out):
    for s in range(first, last):
        vector, product = v[s], w[s]
        size = overlap = square = 0.0
        for step in range(steps):
            _product(tindptr, tindices, tdata[s], vector, u[s])
            _product(indptr, indices, data[s], u[s], product)
            if step == steps - 1:
                for i in range(vector.size):
                    size += vector[i] * vector[i]
                    overlap += vector[i] * product[i]
                    square += product[i] * product[i]
            vector[:] = product
        value = overlap / size if size > 0.0 else 0.0
        out[s, 0] = value
        out[s, 1] = math.sqrt(max(square / size - value * value, 0.0)) if size > 0.0 else 0.0
        norm = math.sqrt(square)
        for i in range(vector.size):
            vector[i] = vector[i] / norm if norm > 0.0 else 0.0


def lp_power(indptr, indices, data, tindptr, tindices, tdata, steps, v, u, w, out):
    entries = 2 * steps * indices.size
    _over_programs(_power, v.shape[0], entries, indptr, indices, data, tindptr, tindices, tdata, steps, v, u, w, out)


# ---- optimality -----------------------------------------------------------------------------------------------------


@njit(**JIT)
def _size(bound):
    """Of a bound, 0 for none."""
    return abs(bound) if abs(bound) < np.inf else 0.0


@njit(**JIT)
def _unmet(multiplier, low, high):
    """(what the side is worth that the multiplier pays, how much of it pays an infinite side)"""
    side = low if multiplier > 0.0 else high
    if multiplier == 0.0:
        return 0.0, 0.0
    if abs(side) < np.inf:
        return multiplier * side, 0.0
    return (multiplier, multiplier) if multiplier != multiplier else (0.0, abs(multiplier))


@njit(**JIT)
def _most(a, b):
    """The larger, and NaN if b is."""
    return b if b > a or b != b else a


@njit(**JIT)
def _errors(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
            scalars, x, y, errors):  # fmt: skip
    unit, offset = scalars[the.OBJECTIVE_UNIT], scalars[the.OFFSET]
    primal = dual = p = d = slack = worst_row = worst_column = 0.0
    k = uint64(0)
    for i in range(y.size):
        end = uint64(indptr[i + 1])
        g = 0.0
        while k < end:
            g += data[k] * x[uint64(indices[k])]
            k += uint64(1)
        low, high = row_lower[i], row_upper[i]
        over = _most(_most(0.0, low - g), g - high)
        paid, wrong = _unmet(y[i], low, high)
        d += paid
        slack += abs(y[i]) * over
        over *= row_unit[i]
        wrong *= unit / row_unit[i]
        primal += over * over
        dual += wrong * wrong
        worst_row = _most(worst_row, over / (1.0 + max(_size(low), _size(high)) * row_unit[i]))
        worst_column = _most(worst_column, wrong)
    k = uint64(0)
    for j in range(x.size):
        end = uint64(tindptr[j + 1])
        z = c[j]
        while k < end:
            z -= tdata[k] * y[uint64(tindices[k])]
            k += uint64(1)
        low, high, x_unit = lower[j], upper[j], unit / col_unit[j]
        paid, wrong = _unmet(z, low, high)
        p += c[j] * x[j]
        d += paid
        slack += abs(x[j]) * wrong
        wrong *= col_unit[j]
        over = _most(_most(0.0, low - x[j]), x[j] - high) * x_unit
        primal += over * over
        dual += wrong * wrong
        worst_row = _most(worst_row, over / (1.0 + max(_size(low), _size(high)) * x_unit))
        worst_column = _most(worst_column, wrong / (1.0 + abs(c[j]) * col_unit[j]))
    p, d = p * unit + offset, d * unit + offset
    errors[the.PRIMAL] = math.sqrt(primal) / (1.0 + scalars[the.ROW_NORM])
    errors[the.DUAL] = math.sqrt(dual) / (1.0 + scalars[the.COLUMN_NORM])
    errors[the.GAP] = abs(p - d) / (1.0 + abs(p) + abs(d))
    errors[the.PRIMAL_OBJECTIVE], errors[the.DUAL_OBJECTIVE] = p, d
    errors[the.OBJECTIVE_ERROR] = (abs(p - d) + slack * unit) / (1.0 + min(abs(p), abs(d)))
    errors[the.ROW_VIOLATION], errors[the.COLUMN_VIOLATION] = worst_row, worst_column


@njit(**JIT)
def _all_errors(first, last, indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper,
                row_unit, col_unit, scalars, x, y, errors):  # fmt: skip
    for s in range(first, last):
        _errors(indptr, indices, data[s], tindptr, tindices, tdata[s], c[s], lower[s], upper[s], row_lower[s],
                row_upper[s], row_unit[s], col_unit[s], scalars[s], x[s], y[s], errors[s])  # fmt: skip


def lp_errors(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit,
              col_unit, scalars, x, y, work, errors):  # fmt: skip
    _over_programs(_all_errors, x.shape[0], 2 * indices.size, indptr, indices, data, tindptr, tindices, tdata, c, lower,
                   upper, row_lower, row_upper, row_unit, col_unit, scalars, x, y, errors)  # fmt: skip


# ---- iteration ------------------------------------------------------------------------------------------------------


@njit(**JIT)
def _some_sums(first, last, indptr, indices, data, x, out):
    """out = (A x)[first:last]. What is done with them is a loop of its own, so that it runs in SIMD registers."""
    k = uint64(indptr[first])
    for i in range(first, last):
        end = uint64(indptr[i + 1])
        total = 0.0
        while k < end:
            total += data[k] * x[uint64(indices[k])]
            k += uint64(1)
        out[i - first] = total


@njit(**JIT)
def _columns(tindptr, tindices, tdata, c, lower, upper, tau, share, keep, x, y, x0, p, dx, reflected, sums):
    """(1) for x, and (3)."""
    for first in range(0, x.size, sums.size):
        last = min(first + sums.size, x.size)
        _some_sums(first, last, tindptr, tindices, tdata, y, sums)
        _some_columns(sums[: last - first], c[first:last], lower[first:last], upper[first:last], tau, share, keep,
                      x[first:last], x0[first:last], p[first:last], dx[first:last], reflected[first:last])  # fmt: skip


@njit(**JIT)
def _some_columns(sums, c, lower, upper, tau, share, keep, x, x0, p, dx, reflected):
    for j in range(x.size):
        at = x[j]
        to = min(max(at - tau * (c[j] - sums[j]), lower[j]), upper[j])
        if keep:
            p[j], dx[j] = to, to - at
        beyond = 2.0 * to - at
        reflected[j] = beyond
        x[j] = share * beyond + (1.0 - share) * x0[j]


@njit(**JIT)
def _rows(indptr, indices, data, row_lower, row_upper, sigma, share, keep, y, y0, q, dy, reflected, sums):
    """(2), and (3)."""
    for first in range(0, y.size, sums.size):
        last = min(first + sums.size, y.size)
        _some_sums(first, last, indptr, indices, data, reflected, sums)
        _some_rows(sums[: last - first], row_lower[first:last], row_upper[first:last], sigma, share, keep,
                   y[first:last], y0[first:last], q[first:last], dy[first:last])  # fmt: skip


@njit(**JIT)
def _some_rows(sums, row_lower, row_upper, sigma, share, keep, y, y0, q, dy):
    for i in range(y.size):
        at = y[i]
        t = at - sigma * sums[i]
        to = t - min(max(t, -sigma * row_upper[i]), -sigma * row_lower[i])
        if keep:
            q[i], dy[i] = to, to - at
        y[i] = share * (2.0 * to - at) + (1.0 - share) * y0[i]


@njit(**JIT)
def _moved(indptr, indices, data, dx, dy, weight, eta):
    """(4)"""
    sx = sy = cross = 0.0
    for j in range(dx.size):
        sx += dx[j] * dx[j]
    k = uint64(0)
    for i in range(dy.size):
        end = uint64(indptr[i + 1])
        total = 0.0
        while k < end:
            total += data[k] * dx[uint64(indices[k])]
            k += uint64(1)
        sy += dy[i] * dy[i]
        cross += dy[i] * total
    squared = weight * sx + sy / weight + 2.0 * eta * cross
    return math.sqrt(squared) if squared > 0.0 else squared * 0.0


@njit(**JIT)
def _meets(errors, tol):
    kkt = max(errors[the.PRIMAL], errors[the.DUAL], errors[the.GAP])
    violation = max(errors[the.ROW_VIOLATION], errors[the.COLUMN_VIOLATION])
    close = errors[the.OBJECTIVE_ERROR] <= the.OBJECTIVE_SLACK * tol
    return kkt <= tol and close and violation <= the.VIOLATION_SLACK * tol


@njit(**JIT)
def _distance(v, w):
    total = 0.0
    for i in range(v.size):
        total += (v[i] - w[i]) * (v[i] - w[i])
    return math.sqrt(total)


@njit(**JIT)
def _restart(state, dp, dq, first_look):
    """As `_restart` of the contract."""
    moved, first = state[the.MOVED], state[the.FIRST]
    fallen = moved <= the.SUFFICIENT * first or (moved <= the.NECESSARY * first and moved > state[the.LAST])
    state[the.LAST] = moved
    if not (first_look or fallen or state[the.INNER] >= the.ARTIFICIAL * state[the.TOTAL]):
        return False
    if min(dp, dq) > the.LEAST_MOVE and max(dp, dq) < the.LARGEST_MOVE:
        error = math.log(dq / dp / state[the.WEIGHT])
        state[the.INTEGRAL] = the.MEMORY * state[the.INTEGRAL] + error
        weight = state[the.WEIGHT] * math.exp(the.PROPORTIONAL * error + the.INTEGRATED * state[the.INTEGRAL])
        state[the.WEIGHT] = min(max(weight, 1.0 / the.LARGEST_WEIGHT), the.LARGEST_WEIGHT)
    state[the.INNER], state[the.LAST] = 0.0, np.inf
    state[the.RESTARTS] += 1.0
    return True


@njit(**JIT)
def _steps(first, last, indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper,
           row_unit, col_unit, scalars, tol, done, steps, every, x, y, x0, y0, p, q, dx, dy, reflected, state, errors,
           trace):  # fmt: skip
    sums = np.empty(_SUMS)
    for s in range(first, last):
        mine, look = state[s], 0
        for step in range(done + 1, done + steps + 1):
            if mine[the.OUTCOME] != the.RUNNING:
                break
            due, end, fresh = step % every == 0, step == done + steps, mine[the.INNER] == 0.0
            keep = due or end or fresh
            mine[the.INNER] += 1.0
            mine[the.TOTAL] += 1.0
            share = mine[the.INNER] / (mine[the.INNER] + 1.0)
            tau, sigma = mine[the.ETA] / mine[the.WEIGHT], mine[the.ETA] * mine[the.WEIGHT]
            _columns(tindptr, tindices, tdata[s], c[s], lower[s], upper[s], tau, share, keep, x[s], y[s], x0[s], p[s],
                     dx[s], reflected[s], sums)  # fmt: skip
            _rows(indptr, indices, data[s], row_lower[s], row_upper[s], sigma, share, keep, y[s], y0[s], q[s], dy[s],
                  reflected[s], sums)  # fmt: skip
            if fresh:
                mine[the.FIRST] = _moved(indptr, indices, data[s], dx[s], dy[s], mine[the.WEIGHT], mine[the.ETA])
            if not (due or end):
                continue
            mine[the.MOVED] = _moved(indptr, indices, data[s], dx[s], dy[s], mine[the.WEIGHT], mine[the.ETA])
            _errors(indptr, indices, data[s], tindptr, tindices, tdata[s], c[s], lower[s], upper[s], row_lower[s],
                    row_upper[s], row_unit[s], col_unit[s], scalars[s], p[s], q[s], errors[s])  # fmt: skip
            kkt = _most(_most(errors[s, the.PRIMAL], errors[s, the.DUAL]), errors[s, the.GAP])
            trace[s, look] = kkt
            look += 1
            if not (np.isfinite(mine[the.MOVED]) and np.isfinite(kkt)):
                mine[the.OUTCOME] = the.NOT_FINITE
            elif due and _meets(errors[s], tol):
                mine[the.OUTCOME] = the.MET
            elif due and _restart(mine, _distance(p[s], x0[s]), _distance(q[s], y0[s]), mine[the.TOTAL] == every):
                x[s], x0[s], y[s], y0[s] = p[s], p[s], q[s], q[s]


def lp_steps(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
             scalars, tol, done, steps, every, x, y, x0, y0, p, q, dx, dy, reflected, state, errors, trace,
             work):  # fmt: skip
    entries, numbers = 2 * steps * indices.size, (float(tol), int(done), int(steps), int(every))
    _over_programs(_steps, x.shape[0], entries, indptr, indices, data, tindptr, tindices, tdata, c, lower, upper,
                   row_lower, row_upper, row_unit, col_unit, scalars, *numbers, x, y, x0, y0, p, q, dx, dy, reflected,
                   state, errors, trace)  # fmt: skip
