"""Numba twins of contracts/sketch.py."""

import numpy as np
from numba import njit

from ..contracts.sketch import GRAM_ROWS
from .pool import JIT, over_blocks

_WORTH = 100_000  # entries of X that a thread is worth waking for
_COLUMNS = 16  # of a matrix that are transformed together: two cache lines of a row
_MOST = 50_000_000  # operations in one call, so that a Ctrl-C is seen


def _in_turns(body, count, operations, *args):
    """`over_blocks`, with blocks of so many operations each, in several calls of body(first, last, offset, ...)."""
    turn = max(1, _MOST // (1 + operations))
    for offset in range(0, count, turn):
        over_blocks(body, min(turn, count - offset), 1 + _WORTH // (1 + operations), offset, *args)


@njit(**JIT)
def _sample_rows(first, last, offset, X, rows, weights, Y):
    for t in range(offset + first, offset + last):
        source, target, weight = X[rows[t]], Y[t], weights[t]
        for j in range(target.size):
            target[j] = weight * np.float64(source[j])


def sample_rows(X, rows, weights, Y):
    _in_turns(_sample_rows, Y.shape[0], Y.shape[1], X, rows, weights, Y)


@njit(**JIT)
def _add(total, weight, row):
    for j in range(total.size):
        total[j] += weight * np.float64(row[j])


@njit(**JIT)
def _sum_buckets(first, last, offset, X, start, rows, weights, Y):
    total = np.empty(X.shape[1])
    for b in range(offset + first, offset + last):
        total[:] = 0.0
        for t in range(start[b], start[b + 1]):
            _add(total, weights[rows[t]], X[rows[t]])
        for j in range(total.size):
            Y[b, j] = total[j]


def sum_buckets(X, start, rows, weights, Y):
    _in_turns(_sum_buckets, Y.shape[0], X.size // max(1, Y.shape[0]), X, start, rows, weights, Y)


@njit(**JIT)
def _butterfly(a, b):
    for j in range(a.size):
        a[j], b[j] = a[j] + b[j], a[j] - b[j]


@njit(**JIT)
def _hadamard(first, last, offset, A):
    """Columns in groups of _COLUMNS, copied out so that their rows lie together."""
    N, n = A.shape
    room = np.empty((N, _COLUMNS))
    for group in range(offset + first, offset + last):
        low, high = group * _COLUMNS, min((group + 1) * _COLUMNS, n)
        scale, wide = 1.0 / np.sqrt(np.float64(N)), high - low
        for i in range(N):
            for j in range(wide):
                room[i, j] = scale * np.float64(A[i, low + j])
        half = 1
        while half < N:
            for base in range(0, N, 2 * half):
                for i in range(base, base + half):
                    _butterfly(room[i], room[i + half])
            half *= 2
        for i in range(N):
            for j in range(wide):
                A[i, low + j] = room[i, j]


def hadamard(A):
    if A.size:
        N, n = A.shape
        _in_turns(_hadamard, -(-n // _COLUMNS), _COLUMNS * N * N.bit_length(), A)


@njit(**JIT)
def _gram_matvec(first, last, offset, X, d, v, work):
    for block in range(offset + first, offset + last):
        total = work[block]
        total[:] = 0.0
        for i in range(block * GRAM_ROWS, min((block + 1) * GRAM_ROWS, X.shape[0])):
            row, product = X[i], 0.0
            for j in range(row.size):
                product += np.float64(row[j]) * v[j]
            _add(total, d[i] * product, row)


@njit(**JIT)
def _total(work, y):
    y[:] = work[0]
    for block in range(1, work.shape[0]):
        _add(y, 1.0, work[block])


def gram_matvec(X, d, v, y, work):
    _in_turns(_gram_matvec, work.shape[0], 2 * GRAM_ROWS * X.shape[1], X, d, v, work)
    _total(work, y)


@njit(**JIT)
def _gram_csr(first, last, low, high, indptr, indices, data, d, G):
    """The lower triangle, of rows first * _COLUMNS to last * _COLUMNS; adds the rows low to high of X."""
    top, end = first * _COLUMNS, min(last * _COLUMNS, G.shape[0])
    for r in range(low, high):
        begin, stop = indptr[r], indptr[r + 1]
        for a in range(begin, stop):
            i = indices[a]
            if not top <= i < end:
                continue
            weight, row = d[r] * np.float64(data[a]), G[i]
            for b in range(begin, a + 1):
                row[indices[b]] += weight * np.float64(data[b])


@njit(**JIT)
def _mirror(G):
    for i in range(G.shape[0]):
        for j in range(i):
            G[j, i] = G[i, j]


def gram_csr(indptr, indices, data, d, G):
    G[:] = 0.0
    operations = 1 + indices.size * indices.size // max(1, d.size) ** 2  # of a row, about
    turn, blocks = max(1, _MOST // operations), -(-G.shape[0] // _COLUMNS)
    grain = 1 + _WORTH * blocks // (1 + operations * d.size)
    for low in range(0, d.size, turn):
        over_blocks(_gram_csr, blocks, grain, low, min(low + turn, d.size), indptr, indices, data, d, G)
    _mirror(G)
