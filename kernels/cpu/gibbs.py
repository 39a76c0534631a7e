"""Numba twins of contracts/gibbs.py.

A row's costs are read or computed once, and then worked on in a cache, eight columns at a time. Of run k (runs.py),
work[k, 0] is the column sum, work[k, 1] has the exponents and work[k, 2] the costs of the row that it is at.
"""

import numpy as np
from numba import njit

from ..contracts.gibbs import NOTHING
from .cost import columns_of, source_of, stage
from .lanes import (
    LANES_JIT,
    SMALL_JIT,
    above,
    any_of,
    choose,
    count_of,
    either,
    exp,
    fill,
    flush_denormals,
    is_nan,
    item,
    larger,
    largest_of,
    load,
    only,
    restore_denormals,
    smaller,
    smallest_of,
    store,
    sum_of,
    times_plus,
)
from .runs import add_runs, lower_to_runs, over_runs, rows_of

_FINITE = np.finfo(float).max


# ---- a row ----------------------------------------------------------------------------------------------------------


@njit(**SMALL_JIT)
def _exponents(source, i, m, log_v, scale, x, c):
    """x = log_v - scale C_i; the largest."""
    stage(source, i, m, c)
    minus, top = fill(-scale), fill(-np.inf)
    for j in range(0, x.size, 8):
        exponent = times_plus(load(c, j), minus, load(log_v, j))
        store(x, j, exponent)
        top = larger(exponent, top)
    return largest_of(top)


@njit(**SMALL_JIT)
def _exps(x, top):
    """x = exp(x - top); the sum."""
    below, total = fill(top), fill(0.0)
    for j in range(0, x.size, 8):
        e = exp(load(x, j) - below, NOTHING)
        store(x, j, e)
        total = total + e
    return sum_of(total)


@njit(**SMALL_JIT)
def _mass(a, power, log_sum):
    return a if power == 1.0 else a * np.exp((1.0 - power) * log_sum)


# ---- the kernel and its sums ----------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _gibbs_kernel(
    first, last, work, source, log_v, scale, a, power, b, delta, starts, ends, offsets, values, log_sum
):
    mode = flush_denormals()
    m = columns_of(source)
    for run in range(first, last):
        col, x, c = work[run, 0], work[run, 1], work[run, 2]
        col[:] = 0.0
        low, high = rows_of(run, work.shape[0], a.size)
        for i in range(low, high):
            top = _exponents(source, i, m, log_v, scale, x, c)
            total = _exps(x, top)
            log_sum[i] = top + np.log(total)
            weight, inverse = fill(_mass(a[i], power, log_sum[i]) / total), fill(1.0 / total)
            row_least, column_least = fill(delta * total), fill(delta * total / a[i])
            end = starts[i]
            for j in range(0, x.size, 8):
                e = load(x, j)
                store(col, j, times_plus(weight, e, load(col, j)))
                kept = above(e, smaller(row_least, column_least * load(b, j)))
                if any_of(kept):
                    store(values, 8 * end, only(kept, e * inverse))
                    offsets[end] = j
                    end += 1
            ends[i] = end
    restore_denormals(mode)


def gibbs_kernel(
    C, X, Y, root, order, log_v, scale, a, power, b, delta, starts, ends, offsets, values, log_sum, col, work
):
    source = source_of(C, X, Y, root, order)
    scalars = float(scale), a, float(power), b, float(delta)
    over_runs(_gibbs_kernel, work, source, log_v, *scalars, starts, ends, offsets, values, log_sum)
    add_runs(work, col)


@njit(**LANES_JIT)
def _gibbs_sums(first, last, work, source, log_v, scale, a, power, log_sum):
    mode = flush_denormals()
    m = columns_of(source)
    for run in range(first, last):
        col, x, c = work[run, 0], work[run, 1], work[run, 2]
        col[:] = 0.0
        low, high = rows_of(run, work.shape[0], a.size)
        for i in range(low, high):
            top = _exponents(source, i, m, log_v, scale, x, c)
            total = _exps(x, top)
            log_sum[i] = top + np.log(total)
            weight = fill(_mass(a[i], power, log_sum[i]) / total)
            for j in range(0, x.size, 8):
                store(col, j, times_plus(weight, load(x, j), load(col, j)))
    restore_denormals(mode)


def gibbs_sums(C, X, Y, root, log_v, scale, a, power, log_sum, col, work):
    over_runs(_gibbs_sums, work, source_of(C, X, Y, root), log_v, float(scale), a, float(power), log_sum)
    add_runs(work, col)


# ---- bounds ---------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _gibbs_certificate(first, last, work, source, g, scale, a, keep, left, f, kept, short, reach):
    mode = flush_denormals()
    m = columns_of(source)
    zero, one = fill(0.0), fill(1.0)
    for run in range(first, last):
        low_part, x, c = work[run, 0], work[run, 1], work[run, 2]
        low_part[:] = np.inf
        low, high = rows_of(run, work.shape[0], a.size)
        for i in range(low, high):
            stage(source, i, m, c)
            least = fill(np.inf)
            for j in range(0, x.size, 8):
                reduced = load(c, j) - load(g, j)
                store(x, j, reduced)
                least = smaller(reduced, least)
            f[i] = smallest_of(least)
            fi, factor = fill(f[i]), fill(scale)
            total, kept_sum, short_sum, reach_sum = zero, zero, zero, zero
            for j in range(0, x.size, 8):
                e = exp((fi - load(x, j)) * factor, NOTHING)
                costs, keeps, lefts = load(c, j), load(keep, j), load(left, j)
                part_kept = e * keeps
                total = total + e
                short_sum = times_plus(e, one - keeps, short_sum)
                kept_sum = kept_sum + only(above(part_kept, zero), part_kept * costs)
                reach_sum = reach_sum + only(above(lefts, zero), lefts * costs)
                store(low_part, j, smaller(costs - fi, load(low_part, j)))
            weight = a[i] / sum_of(total)
            kept[i], short[i], reach[i] = weight * sum_of(kept_sum), weight * sum_of(short_sum), sum_of(reach_sum)
    restore_denormals(mode)


def gibbs_certificate(C, X, Y, root, g, scale, a, keep, left, f, kept, short, reach, low, work):
    over_runs(_gibbs_certificate, work, source_of(C, X, Y, root), g, float(scale), a, keep, left, f, kept, short, reach)
    lower_to_runs(work, low)


@njit(**SMALL_JIT)
def _plan_row(source, i, m, log_u, log_v, scale, x, c):
    """x = row i of the plan, 0 in the padding; c = its costs."""
    stage(source, i, m, c)
    minus, row = fill(-scale), fill(log_u[i])
    for j in range(0, x.size, 8):
        exponent = times_plus(load(c, j), minus, load(log_v, j)) + row
        store(x, j, exp(exponent, NOTHING))


@njit(**LANES_JIT)
def _rounded_value(first, last, work, source, log_u, log_v, scale, keep, short, left, linear, entropy):
    mode = flush_denormals()
    m = columns_of(source)
    zero = fill(0.0)
    for run in range(first, last):
        x, c = work[run, 1], work[run, 2]
        low, high = rows_of(run, work.shape[0], log_u.size)
        for i in range(low, high):
            _plan_row(source, i, m, log_u, log_v, scale, x, c)
            missing, total = fill(short[i]), zero
            for j in range(0, x.size, 8):
                rounded = times_plus(load(x, j), load(keep, j), missing * load(left, j))
                store(x, j, rounded)
                total = total + only(above(rounded, zero), rounded * load(c, j))
            linear[i] = sum_of(total)
            sum_logs = 0.0
            for j in range(m):
                if x[j] > 0.0:
                    sum_logs += x[j] * (np.log(x[j]) - 1.0)
            entropy[i] = sum_logs
    restore_denormals(mode)


def rounded_value(C, X, Y, root, log_u, log_v, scale, keep, short, left, linear, entropy, work):
    source = source_of(C, X, Y, root)
    over_runs(_rounded_value, work, source, log_u, log_v, float(scale), keep, short, left, linear, entropy)


# ---- the plan -------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _plan_dense(first, last, work, source, log_u, log_v, scale, P):
    mode = flush_denormals()
    m = columns_of(source)
    whole = m - m % 8
    for run in range(first, last):
        x, c = work[run, 1], work[run, 2]
        low, high = rows_of(run, work.shape[0], log_u.size)
        for i in range(low, high):
            _plan_row(source, i, m, log_u, log_v, scale, x, c)
            for j in range(0, whole, 8):
                store(P, i * m + j, load(x, j))
            for j in range(whole, m):
                P[i, j] = x[j]
    restore_denormals(mode)


def plan_dense(C, X, Y, root, log_u, log_v, scale, P, work):
    over_runs(_plan_dense, work, source_of(C, X, Y, root), log_u, log_v, float(scale), P)


@njit(**LANES_JIT)
def _plan_count(first, last, work, source, log_u, log_v, scale, threshold, counts):
    mode = flush_denormals()
    m = columns_of(source)
    least = fill(threshold)
    for run in range(first, last):
        x, c = work[run, 1], work[run, 2]
        low, high = rows_of(run, work.shape[0], log_u.size)
        for i in range(low, high):
            _plan_row(source, i, m, log_u, log_v, scale, x, c)
            count = 0
            for j in range(0, x.size, 8):
                count += count_of(above(load(x, j), least))
            counts[i] = count
    restore_denormals(mode)


def plan_count(C, X, Y, root, log_u, log_v, scale, threshold, counts, work):
    over_runs(_plan_count, work, source_of(C, X, Y, root), log_u, log_v, float(scale), float(threshold), counts)


@njit(**LANES_JIT)
def _plan_sparse(first, last, work, source, log_u, log_v, scale, threshold, indptr, indices, data):
    mode = flush_denormals()
    m = columns_of(source)
    least = fill(threshold)
    for run in range(first, last):
        x, c = work[run, 1], work[run, 2]
        low, high = rows_of(run, work.shape[0], log_u.size)
        for i in range(low, high):
            _plan_row(source, i, m, log_u, log_v, scale, x, c)
            end = indptr[i]
            for block in range(0, x.size, 8):
                if any_of(above(load(x, block), least)):
                    for j in range(block, block + 8):
                        if x[j] > threshold:
                            indices[end], data[end] = j, x[j]
                            end += 1
    restore_denormals(mode)


def plan_sparse(C, X, Y, root, log_u, log_v, scale, threshold, indptr, indices, data, work):
    source = source_of(C, X, Y, root)
    over_runs(_plan_sparse, work, source, log_u, log_v, float(scale), float(threshold), indptr, indices, data)


@njit(**LANES_JIT)
def _plan_moments(first, last, work, source, log_u, log_v, scale, rows):
    mode = flush_denormals()
    m = columns_of(source)
    zero = fill(0.0)
    for run in range(first, last):
        col, x, c = work[run, 0], work[run, 1], work[run, 2]
        col[:] = 0.0
        low, high = rows_of(run, work.shape[0], log_u.size)
        for i in range(low, high):
            _plan_row(source, i, m, log_u, log_v, scale, x, c)
            total = zero
            for j in range(0, x.size, 8):
                e = load(x, j)
                moment = only(above(e, zero), e * load(c, j))
                total = total + moment
                store(col, j, load(col, j) + moment)
            rows[i] = sum_of(total)
    restore_denormals(mode)


def plan_moments(C, X, Y, root, log_u, log_v, scale, rows, cols, work):
    over_runs(_plan_moments, work, source_of(C, X, Y, root), log_u, log_v, float(scale), rows)
    add_runs(work, cols)


@njit(**LANES_JIT)
def _points_gradient(first, last, work, source, log_u, log_v, scale, alpha, beta, slope, gradient):
    mode = flush_denormals()
    _, X, Y, root, _ = source
    p, m = Y.shape
    whole = m - m % 8
    zero, one, two, slopes = fill(0.0), fill(1.0), fill(2.0), fill(slope)
    for run in range(first, last):
        x, c = work[run, 1], work[run, 2]
        low, high = rows_of(run, work.shape[0], log_u.size)
        for i in range(low, high):
            _plan_row(source, i, m, log_u, log_v, scale, x, c)
            row = fill(alpha[i])
            for j in range(0, x.size, 8):
                costs = load(c, j)
                weight = load(x, j) * times_plus(slopes, row + load(beta, j) - costs, one)
                store(x, j, only(above(costs, zero), weight / costs) if root else two * weight)
            for k in range(p):
                at = np.float64(item(X, i * p + k))
                here, total = fill(at), zero
                for j in range(0, whole, 8):
                    total = times_plus(here - load(Y, k * m + j), load(x, j), total)
                rest = 0.0
                for j in range(whole, m):
                    rest += (at - np.float64(item(Y, k * m + j))) * x[j]
                gradient[i, k] = sum_of(total) + rest
    restore_denormals(mode)


def points_gradient(X, Y, root, log_u, log_v, scale, alpha, beta, slope, gradient, work):
    scalars = float(scale), alpha, beta, float(slope)
    over_runs(_points_gradient, work, source_of(None, X, Y, root), log_u, log_v, *scalars, gradient)


# ---- the cost -------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _cost_range(first, last, work, source, low, high, forbidden):
    m = columns_of(source)
    finite = fill(_FINITE)
    for run in range(first, last):
        c = work[run, 2]
        start, stop = rows_of(run, work.shape[0], low.size)
        for i in range(start, stop):
            stage(source, i, m, c)
            least, most = fill(np.inf), fill(-np.inf)
            nan, count = is_nan(least), m - c.size  # the padding counts as forbidden
            for j in range(0, c.size, 8):
                costs = load(c, j)
                infinite = above(costs, finite)
                count += count_of(infinite)
                nan = either(nan, is_nan(costs))
                least = smaller(costs, least)
                most = larger(choose(infinite, most, costs), most)
            bad = any_of(nan)
            low[i] = np.nan if bad else smallest_of(least)
            high[i] = np.nan if bad else largest_of(most)
            forbidden[i] = count


def cost_range(C, X, Y, root, low, high, forbidden, work):
    over_runs(_cost_range, work, source_of(C, X, Y, root), low, high, forbidden)
