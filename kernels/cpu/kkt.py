"""Numba twins of contracts/kkt.py: a matrix at a time, by rows, whose upper part is all that is read and written."""

import numpy as np
from numba import njit

from ..contracts.kkt import ALPHA
from .pool import JIT, over_blocks


@njit(**JIT)
def _assemble(H, J, shift, dual_shift, A):
    """The upper part of (1), zero below; its largest entry, NaN or infinite if one is."""
    n, m = H.shape[0], J.shape[0]
    top = 0.0
    for i in range(n):
        row = A[i]
        row[:i] = 0.0
        row[i] = H[i, i] + shift
        row[i + 1 : n] = H[i, i + 1 :]
        row[n:] = J[:, i]
        for j in range(i, n + m):
            size = abs(row[j])
            if size > top or size != size:
                top = size
    for i in range(n, n + m):
        A[i] = 0.0
        A[i, i] = -dual_shift
    return max(top, abs(dual_shift)) if m > 0 else top


@njit(**JIT)
def _swap(A, order, p, r):
    """Rows and columns p < r of a symmetric matrix of which the upper part is kept, and of M above."""
    for i in range(p):
        A[i, p], A[i, r] = A[i, r], A[i, p]
    for i in range(p + 1, r):
        A[p, i], A[i, r] = A[i, r], A[p, i]
    for j in range(r + 1, A.shape[0]):
        A[p, j], A[r, j] = A[r, j], A[p, j]
    A[p, p], A[r, r] = A[r, r], A[p, p]
    order[p], order[r] = order[r], order[p]


@njit(**JIT)
def _pivot(A, k):
    """(what to swap with, order of the block)"""
    q, here, far, most = A.shape[0], abs(A[k, k]), -1, 0.0
    for j in range(k + 1, q):
        if abs(A[k, j]) > most:
            far, most = j, abs(A[k, j])
    if not here < ALPHA * most:
        return k, 1
    beyond = 0.0
    for i in range(k, far):
        beyond = max(beyond, abs(A[i, far]))
    for j in range(far + 1, q):
        beyond = max(beyond, abs(A[far, j]))
    if not here < ALPHA * most * (most / beyond):
        return k, 1
    return far, 1 if not abs(A[far, far]) < ALPHA * beyond else 2


@njit(**JIT)
def _subtract(x, factor, y):
    for j in range(x.size):
        x[j] -= factor * y[j]


@njit(**JIT)
def _eliminate_one(A, k):
    d = A[k, k]
    if d == 0.0:  # and so is what is right of it
        return
    for i in range(k + 1, A.shape[0]):
        _subtract(A[i, i:], A[k, i] / d, A[k, i:])
    for j in range(k + 1, A.shape[0]):
        A[k, j] /= d


@njit(**JIT)
def _eliminate_two(A, k):
    q, off = A.shape[0], A[k, k + 1]
    low, high = A[k + 1, k + 1] / off, A[k, k] / off
    scale = 1.0 / (low * high - 1.0) / off
    for i in range(k + 2, q):
        first = scale * (low * A[k, i] - A[k + 1, i])
        second = scale * (high * A[k + 1, i] - A[k, i])
        _subtract(A[i, i:], first, A[k, i:])
        _subtract(A[i, i:], second, A[k + 1, i:])
        A[k, i], A[k + 1, i] = first, second  # not read again: later rows begin further right


@njit(**JIT)
def _factor_one(A, order, tiny, inertia):
    q, k, positive, negative = A.shape[0], 0, 0, 0
    while k < q:
        pivot, size = _pivot(A, k)
        if pivot != k + size - 1:
            _swap(A, order, k + size - 1, pivot)
        if size == 1:
            _eliminate_one(A, k)
            positive += A[k, k] > tiny
            negative += A[k, k] < -tiny
        else:
            _eliminate_two(A, k)
            order[k], order[k + 1] = -1 - order[k], -1 - order[k + 1]
            middle, half = 0.5 * (A[k, k] + A[k + 1, k + 1]), 0.5 * (A[k, k] - A[k + 1, k + 1])
            radius = np.sqrt(half * half + A[k, k + 1] * A[k, k + 1])
            positive += middle + radius > tiny
            positive += middle - radius > tiny
            negative += middle + radius < -tiny
            negative += middle - radius < -tiny
        k += size
    inertia[0], inertia[1], inertia[2] = positive, negative, q - positive - negative


@njit(**JIT)
def _kkt_factor(first, last, H, J, shift, dual_shift, zero, factor, order, inertia):
    q = factor.shape[1]
    for s in range(first, last):
        if shift[s] != shift[s]:
            continue
        for i in range(q):
            order[s, i] = i
        top = _assemble(H[s], J[s], shift[s], dual_shift[s], factor[s])
        if np.isfinite(top):
            _factor_one(factor[s], order[s], zero * top, inertia[s])
        else:
            factor[s] = np.nan
            inertia[s, 0], inertia[s, 1], inertia[s, 2] = 0, 0, q


def kkt_factor(H, J, shift, dual_shift, zero, factor, order, inertia):
    batch, q = order.shape
    over_blocks(_kkt_factor, batch, 1 + 200_000 // (1 + q**3), H, J, shift, dual_shift, float(zero), factor, order,
                inertia)  # fmt: skip


@njit(**JIT)
def _kkt_solve(first, last, factor, order, X):
    q = X.shape[2]
    y = np.empty(q)
    for s in range(first, last):
        A, p = factor[s], order[s]
        for x in X[s]:
            for k in range(q):
                y[k] = x[p[k] if p[k] >= 0 else -1 - p[k]]
            k = 0
            while k < q:  # M' and D
                if p[k] >= 0:
                    _subtract(y[k + 1 :], y[k], A[k, k + 1 :])
                    y[k] /= A[k, k]
                    k += 1
                else:
                    _subtract(y[k + 2 :], y[k], A[k, k + 2 :])
                    _subtract(y[k + 2 :], y[k + 1], A[k + 1, k + 2 :])
                    off = A[k, k + 1]
                    low, high, a, b = A[k + 1, k + 1] / off, A[k, k] / off, y[k] / off, y[k + 1] / off
                    y[k], y[k + 1] = (low * a - b) / (low * high - 1.0), (high * b - a) / (low * high - 1.0)
                    k += 2
            for k in range(q - 1, -1, -1):  # M
                start = k + 1
                if p[k] < 0 and _first_of_pair(p, k):
                    start = k + 2
                total = 0.0
                for j in range(start, q):
                    total += A[k, j] * y[j]
                y[k] -= total
            for k in range(q):
                x[p[k] if p[k] >= 0 else -1 - p[k]] = y[k]


@njit(**JIT)
def _first_of_pair(order, k):
    """Whether row k begins its block of order 2."""
    before = 0
    while before < k and order[k - 1 - before] < 0:
        before += 1
    return before % 2 == 0


def kkt_solve(factor, order, X):
    batch, s, q = X.shape
    over_blocks(_kkt_solve, batch, 1 + 200_000 // (1 + s * q**2), factor, order, X)


@njit(**JIT)
def _kaczmarz(first, last, A, b, squares, rows, x):
    for s in range(first, last):
        xs = x[s]
        for t in range(rows.shape[1]):
            i = rows[s, t]
            if squares[s, i] > 0.0:
                row, total = A[s, i], 0.0
                for j in range(xs.size):
                    total += row[j] * xs[j]
                _subtract(xs, (total - b[s, i]) / squares[s, i], row)


def kaczmarz(A, b, squares, rows, x):
    over_blocks(_kaczmarz, A.shape[0], 1 + 200_000 // (1 + rows.shape[1] * A.shape[2]), A, b, squares, rows, x)
