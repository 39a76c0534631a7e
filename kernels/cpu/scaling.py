"""Numba twins of contracts/scaling.py.

Sums over rows are made in runs (runs.py). Where there is one thread, a loop of steps stays in compiled code.
"""

import numpy as np
from numba import njit

from ..contracts.scaling import A_NOT_POSITIVE, UNDERFLOW
from ..settings import threads
from .lanes import (
    LANES_JIT,
    SMALL_JIT,
    above,
    any_of,
    either,
    fill,
    flush_denormals,
    item,
    larger,
    largest_of,
    load,
    only,
    restore_denormals,
    store,
    sum_of,
    times_plus,
    toward_zero,
)
from .pool import JIT, over_blocks
from .runs import largest_of_runs, over_runs, rows_of, sum_runs

# What a row's sum is multiplied by before it is added back: (a / s)^power, q s, or q row.
_SCALING, _PRODUCT, _GIVEN = 0, 1, 2
_NONE = np.empty(0)


# ---- products -------------------------------------------------------------------------------------------------------


@njit(**SMALL_JIT)
def _dot(blocks, first, last, x):
    """The sum of a row's blocks times x; four sums at a time, since one waits for itself."""
    offsets, values = blocks
    total0, total1, total2, total3 = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
    k = first
    while k + 4 <= last:
        total0 = times_plus(load(values, 8 * k), load(x, item(offsets, k)), total0)
        total1 = times_plus(load(values, 8 * k + 8), load(x, item(offsets, k + 1)), total1)
        total2 = times_plus(load(values, 8 * k + 16), load(x, item(offsets, k + 2)), total2)
        total3 = times_plus(load(values, 8 * k + 24), load(x, item(offsets, k + 3)), total3)
        k += 4
    while k < last:
        total0 = times_plus(load(values, 8 * k), load(x, item(offsets, k)), total0)
        k += 1
    return sum_of((total0 + total1) + (total2 + total3))


@njit(**SMALL_JIT)
def _add(blocks, first, last, weight, y):
    """y += weight times a row's blocks."""
    offsets, values = blocks
    weights = fill(weight)
    for k in range(first, last):
        j = item(offsets, k)
        store(y, j, times_plus(weights, load(values, 8 * k), load(y, j)))


@njit(**LANES_JIT)
def _sweep(first_run, last_run, work, starts, ends, offsets, values, x, mode, weights, power, row, s):
    """s = R x, and to each run's column sum what `mode` says."""
    flushed = flush_denormals()
    blocks = offsets, values
    for run in range(first_run, last_run):
        y = work[run, 0]
        y[:] = 0.0
        low, high = rows_of(run, work.shape[0], starts.size)
        for i in range(low, high):
            first, last = starts[i], ends[i]
            total = _dot(blocks, first, last, x)
            s[i] = total
            if mode == _SCALING:
                weight = weights[i] / total
                if power != 1.0:
                    weight = weight**power
            elif mode == _PRODUCT:
                weight = weights[i] * total
            else:
                weight = weights[i] * row[i]
            _add(blocks, first, last, weight, y)
    restore_denormals(flushed)


def scaling_sweep(starts, ends, offsets, values, v, a, power_a, s, y, work):
    over_runs(_sweep, work, starts, ends, offsets, values, v, _SCALING, a, float(power_a), _NONE, s)
    sum_runs(work, y)


def scaling_products(starts, ends, offsets, values, x, q, row, t, y, work):
    mode, row = (_PRODUCT, _NONE) if row is None else (_GIVEN, row)
    over_runs(_sweep, work, starts, ends, offsets, values, x, mode, q, 1.0, row, t)
    sum_runs(work, y)


@njit(**LANES_JIT)
def _diagonal(first_run, last_run, work, starts, ends, offsets, values, q):
    flushed = flush_denormals()
    for run in range(first_run, last_run):
        y = work[run, 0]
        y[:] = 0.0
        low, high = rows_of(run, work.shape[0], starts.size)
        for i in range(low, high):
            weight = fill(q[i])
            for k in range(starts[i], ends[i]):
                j, block = item(offsets, k), load(values, 8 * k)
                store(y, j, times_plus(weight * block, block, load(y, j)))
    restore_denormals(flushed)


def scaling_diagonal(starts, ends, offsets, values, q, diagonal, work):
    over_runs(_diagonal, work, starts, ends, offsets, values, q)
    sum_runs(work, diagonal)


@njit(**LANES_JIT)
def _column_max(first_run, last_run, work, starts, ends, offsets, values, u):
    flushed = flush_denormals()
    for run in range(first_run, last_run):
        y = work[run, 0]
        y[:] = 0.0
        low, high = rows_of(run, work.shape[0], starts.size)
        for i in range(low, high):
            weight = fill(u[i])
            for k in range(starts[i], ends[i]):
                j = item(offsets, k)
                store(y, j, larger(weight * load(values, 8 * k), load(y, j)))
    restore_denormals(flushed)


def scaling_column_max(starts, ends, offsets, values, u, top, work):
    over_runs(_column_max, work, starts, ends, offsets, values, u)
    largest_of_runs(work, top)


# ---- Sinkhorn -------------------------------------------------------------------------------------------------------


@njit(**JIT)
def _marginal_error(v, y, b, power_b):
    total = 0.0
    for j in range(v.size):
        if b[j] > 0.0 and not y[j] > UNDERFLOW:
            return np.inf
        target = b[j]
        if power_b != 1.0:
            target *= v[j] ** (1.0 - 1.0 / power_b)
        total += abs(v[j] * y[j] - target)
    return total


@njit(**LANES_JIT)
def _scale_columns(y, b, power_b, tol, rate, warm, last, k, v, err):
    """The error of step k; v of the next, or False if there is none."""
    err[k] = _marginal_error(v, y, b, power_b)
    if not tol < err[k] < np.inf or (k > warm and err[k] > rate * err[k - 1]):
        return False
    if k < last:
        for j in range(v.size):
            if b[j] > 0.0:
                v[j] = b[j] / y[j]
                if power_b != 1.0:
                    v[j] = v[j] ** power_b
    return True


@njit(**LANES_JIT)
def _sinkhorn_steps(
    work, starts, ends, offsets, values, a, power_a, b, power_b, tol, rate, warm, last, v, s, y, err
):
    for k in range(last + 1):
        _sweep(0, work.shape[0], work, starts, ends, offsets, values, v, _SCALING, a, power_a, s, s)
        sum_runs(work, y)
        if not _scale_columns(y, b, power_b, tol, rate, warm, last, k, v, err):
            break


def sinkhorn_steps(starts, ends, offsets, values, a, power_a, b, power_b, tol, rate, warm, steps, v, s, y, err, work):
    power_a, power_b, tol, rate, last = float(power_a), float(power_b), float(tol), float(rate), int(steps)
    err[:] = -1.0
    if work.shape[0] == 1 or threads() == 1:
        blocks = starts, ends, offsets, values
        _sinkhorn_steps(work, *blocks, a, power_a, b, power_b, tol, rate, int(warm), last, v, s, y, err)
        return
    for k in range(last + 1):
        scaling_sweep(starts, ends, offsets, values, v, a, power_a, s, y, work)
        if not _scale_columns(y, b, power_b, tol, rate, int(warm), last, k, v, err):
            break


# ---- annealing ------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _anneal(first_run, last_run, runs, v, u, top, drop, starts, ends, offsets, values):
    flushed = flush_denormals()
    factor = fill(drop)
    for run in range(first_run, last_run):
        low, high = rows_of(run, runs, starts.size)
        end = starts[low] if low < high else 0
        for i in range(low, high):
            first, last = starts[i], ends[i]
            most = fill(0.0)
            for k in range(first, last):
                most = larger(load(values, 8 * k) * load(v, item(offsets, k)), most)
            peak = largest_of(most)
            row_least, inverse, weight = fill(drop * peak), fill(1.0 / peak), fill(u[i])
            starts[i] = end
            for k in range(first, last):
                j = item(offsets, k)
                scaled = load(values, 8 * k) * load(v, j)
                kept = either(above(scaled, row_least), above(weight * scaled, factor * load(top, j)))
                if any_of(kept):
                    square = only(kept, scaled * inverse)
                    square = square * square
                    store(values, 8 * end, square * square)
                    offsets[end] = j
                    end += 1
            ends[i] = end
    restore_denormals(flushed)


def _over_stored(body, count, offsets, *args):
    """Share `count` parts of a store among threads; nothing is summed over them."""
    over_blocks(body, count, 1 + 16_000 * count // max(1, offsets.size), *args)


def scaling_anneal(runs, v, u, top, drop, starts, ends, offsets, values):
    _over_stored(_anneal, runs, offsets, runs, v, u, top, float(drop), starts, ends, offsets, values)


@njit(**LANES_JIT)
def _pack(first_row, last_row, starts, ends, offsets, values, packed_starts, packed_offsets, packed_values):
    for i in range(first_row, last_row):
        first, to = starts[i], packed_starts[i]
        for k in range(ends[i] - first):
            packed_offsets[to + k] = item(offsets, first + k)
            store(packed_values, 8 * (to + k), load(values, 8 * (first + k)))


def scaling_pack(starts, ends, offsets, values, packed_starts, packed_offsets, packed_values):
    args = starts, ends, offsets, values, packed_starts, packed_offsets, packed_values
    _over_stored(_pack, starts.size, offsets, *args)


# ---- Newton ---------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _compact(first_run, last_run, runs, starts, ends, offsets, values, v, s, a, b, threshold, kept):
    flushed = flush_denormals()
    kept_starts, kept_ends, kept_offsets, kept_values = kept
    least = fill(threshold)
    narrow = kept_values.itemsize == 4
    for run in range(first_run, last_run):
        low, high = rows_of(run, runs, starts.size)
        end = starts[low] if low < high else 0
        for i in range(low, high):
            inverse, mass = fill(1.0 / s[i]), fill(a[i])
            kept_starts[i] = end
            for k in range(starts[i], ends[i]):
                j = item(offsets, k)
                scaled = load(values, 8 * k) * load(v, j) * inverse
                matters = either(above(scaled, least), above(mass * scaled, least * load(b, j)))
                if any_of(matters):
                    scaled = only(matters, scaled)
                    store(kept_values, 8 * end, toward_zero(scaled) if narrow else scaled)
                    kept_offsets[end] = j
                    end += 1
            kept_ends[i] = end
    restore_denormals(flushed)


def scaling_compact(
    starts, ends, offsets, values, v, s, a, b, threshold, runs, kept_starts, kept_ends, kept_offsets, kept_values
):
    kept = kept_starts, kept_ends, kept_offsets, kept_values
    args = runs, starts, ends, offsets, values, v, s, a, b, float(threshold), kept
    _over_stored(_compact, runs, offsets, *args)


@njit(**JIT)
def _cg_update(work, k, d, dinv, tol2, x, r, p, rz):
    """What an iteration does with vectors over columns, after the sweep with p; `work` has the runs' T' q T p."""
    width = x.size
    product = work[0, 0]
    for run in range(1, work.shape[0]):
        part = work[run, 0]
        for j in range(width):
            product[j] += part[j]
    curvature = 0.0
    for j in range(width):
        product[j] = d[j] * p[j] - product[j]
        curvature += p[j] * product[j]
    if not curvature > 0.0:
        rz[k] = A_NOT_POSITIVE
        return
    step = rz[k - 1] / curvature
    total = 0.0
    for j in range(width):
        x[j] += step * p[j]
        r[j] -= step * product[j]
        total += dinv[j] * r[j] * r[j]
    rz[k] = total
    if total > tol2:
        beta = total / rz[k - 1]
        for j in range(width):
            p[j] = dinv[j] * r[j] + beta * p[j]


@njit(**LANES_JIT)
def _schur_cg_steps(work, starts, ends, offsets, values, q, d, dinv, tol2, steps, x, r, p, rz, t):
    for k in range(1, steps + 1):
        if not rz[k - 1] > tol2:
            rz[k] = rz[k - 1]
            continue
        _sweep(0, work.shape[0], work, starts, ends, offsets, values, p, _PRODUCT, q, 1.0, t, t)
        _cg_update(work, k, d, dinv, tol2, x, r, p, rz)


def schur_cg_steps(starts, ends, offsets, values, q, d, dinv, tol2, steps, x, r, p, rz, t, work):
    tol2, steps = float(tol2), int(steps)
    if work.shape[0] == 1 or threads() == 1:
        _schur_cg_steps(work, starts, ends, offsets, values, q, d, dinv, tol2, steps, x, r, p, rz, t)
        return
    for k in range(1, steps + 1):
        if not rz[k - 1] > tol2:
            rz[k] = rz[k - 1]
            continue
        over_runs(_sweep, work, starts, ends, offsets, values, p, _PRODUCT, q, 1.0, _NONE, t)
        _cg_update(work, k, d, dinv, tol2, x, r, p, rz)
