"""Numba twins of contracts/proximal.py."""

from numba import njit

from ..contracts.proximal import ACCURACY, FURTHEST, GOOD_ENOUGH, LOOKS, NARROW
from .pool import JIT, over_blocks

_GRAIN = 100_000  # reads and writes that a thread is worth waking for


def _rows_a_thread(indices, rows):
    return 1 + _GRAIN * rows // (1 + indices.size + 8 * rows)


@njit(**JIT)
def _product(indices, data, x):
    total = 0.0
    for t in range(indices.size):
        total += data[t] * x[indices[t]]
    return total


@njit(**JIT)
def _proximal_columns(first, last, indptr, indices, data, c, lower, upper, x0, y, tau, aty, x, free):
    for j in range(first, last):
        start, end = indptr[j], indptr[j + 1]
        total = _product(indices[start:end], data[start:end], y)
        p = x0[j] - tau * (c[j] - total)
        aty[j] = total
        free[j] = lower[j] < p < upper[j]
        x[j] = min(max(p, lower[j]), upper[j])


def proximal_columns(t_indptr, t_indices, t_data, c, lower, upper, x0, y, tau, aty, x, free):
    over_blocks(_proximal_columns, c.size, _rows_a_thread(t_indices, c.size), t_indptr, t_indices, t_data, c, lower,
                upper, x0, y, float(tau), aty, x, free)  # fmt: skip


@njit(**JIT)
def _proximal_rows(first, last, indptr, indices, data, row_lower, row_upper, s0, y0, x, y, tau, sigma, s, slack, g):
    for i in range(first, last):
        start, end = indptr[i], indptr[i + 1]
        p = s0[i] - tau * y[i]
        slack[i] = row_lower[i] < p < row_upper[i]
        s[i] = min(max(p, row_lower[i]), row_upper[i])
        g[i] = (y[i] - y0[i]) / sigma + (_product(indices[start:end], data[start:end], x) - s[i])


def proximal_rows(indptr, indices, data, row_lower, row_upper, s0, y0, x, y, tau, sigma, s, slack, g):
    over_blocks(_proximal_rows, s.size, _rows_a_thread(indices, s.size), indptr, indices, data, row_lower, row_upper,
                s0, y0, x, y, float(tau), float(sigma), s, slack, g)  # fmt: skip


@njit(**JIT)
def _slope(a, c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma):
    total = 0.0
    for j in range(c.size):
        p = x0[j] - tau * (c[j] - (aty[j] + a * atd[j]))
        total += atd[j] * min(max(p, lower[j]), upper[j])
    for i in range(y.size):
        at = y[i] + a * d[i]
        s = min(max(s0[i] - tau * at, row_lower[i]), row_upper[i])
        total += d[i] * ((at - y0[i]) / sigma - s)
    return total


@njit(**JIT)
def _search(c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma):
    start = _slope(0.0, c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma)
    if not start < 0:
        return 0.0
    low, below, high = 0.0, start, 1.0
    above = _slope(high, c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma)
    if abs(above) <= GOOD_ENOUGH * -start:
        return 1.0
    while above < 0:
        if high >= FURTHEST:
            return high
        low, below, high = high, above, 4 * high
        above = _slope(high, c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma)
    a = high
    for _ in range(LOOKS):
        a = low + (high - low) * min(max(below / (below - above), 0.1), 0.9)
        here = _slope(a, c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma)
        if abs(here) <= ACCURACY * -start or high - low <= NARROW * high:
            break
        if here < 0:
            low, below = a, here
        else:
            high, above = a, here
    return a


def proximal_search(c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma, step):
    step[0] = _search(c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, float(tau), float(sigma))


@njit(**JIT)
def _proximal_hessian(first, last, indptr, indices, data, t_indptr, t_indices, t_data, free, slack, tau, shift, H):
    for i in range(first, last):
        row = H[i]
        row[:] = 0.0
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            if free[j]:
                value = tau * data[t]
                for u in range(t_indptr[j], t_indptr[j + 1]):
                    k = t_indices[u]
                    if k > i:
                        break
                    row[k] += value * t_data[u]
        row[i] += shift + tau * slack[i]


def proximal_hessian(indptr, indices, data, t_indptr, t_indices, t_data, free, slack, tau, shift, H):
    m = slack.size
    grain = 1 + _GRAIN * m // (1 + m * m + indices.size * indices.size // (1 + free.size))
    over_blocks(_proximal_hessian, m, grain, indptr, indices, data, t_indptr, t_indices, t_data, free, slack,
                float(tau), float(shift), H)  # fmt: skip
