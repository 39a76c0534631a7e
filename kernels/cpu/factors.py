"""Numba twins of contracts/factors.py; large matrices are left to LAPACK."""

import numpy as np
from numba import njit

from .pool import JIT, over_blocks

_FOR_LAPACK = 64  # order from which LAPACK is faster
_FOR_MANY = 4096  # numbers in all vectors from which LAPACK solves faster
_WHOLE = 2048  # order up to which one call takes a short time, so that a Ctrl-C is seen
_GRAIN = 200_000  # operations that a thread is worth waking for


@njit(**JIT)
def _dot(x, y):
    total = 0.0
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@njit(**JIT)
def _cholesky(first, last, A, shift, L, info):
    q = A.shape[1]
    for k in range(first, last):
        positive, factor = True, L[k]
        for i in range(q):
            for j in range(i):
                factor[i, j] = (A[k, i, j] - _dot(factor[i, :j], factor[j, :j])) / factor[j, j]
            left = A[k, i, i] + shift - _dot(factor[i, :i], factor[i, :i])
            positive = positive and left > 0.0
            if not positive:
                break
            factor[i, i] = np.sqrt(left)
            factor[i, i + 1 :] = 0.0
        info[k] = not positive
        if not positive:
            factor[:] = np.nan


@njit(**JIT)
def _clear_upper(L):
    for i in range(L.shape[0]):
        L[i, i + 1 :] = 0.0


def _factor(L):
    """L = the factor of the matrix in its lower triangle, by panels; whether there is one."""
    from . import blas  # loads scipy.linalg, which other solvers do without

    q = L.shape[0]
    if q <= _WHOLE:
        return blas.factor(L)
    wide, step = _WHOLE // 2, _WHOLE // 4
    for p in range(0, q, wide):
        panel = np.ascontiguousarray(L[p:, p : p + wide])
        square, below = panel[:wide], panel[wide:]
        if not blas.factor(square):
            return False
        for i in range(0, len(below), step):
            blas.solve_rows(square, below[i : i + step])
        L[p:, p : p + wide] = panel
        for i in range(0, len(below), step):
            rows = slice(p + wide + i, p + wide + i + step)
            L[rows, p + wide : rows.stop] -= blas.row_products(below[i : i + step], below[: i + step])
    return True


def cholesky(A, shift, L, info):
    blocks, q = A.shape[:2]
    if q < _FOR_LAPACK:
        over_blocks(_cholesky, blocks, 1 + _GRAIN // (1 + q**3), A, float(shift), L, info)
        return
    for k in range(blocks):
        L[k] = A[k]
        L[k].reshape(-1)[:: q + 1] += shift
        info[k] = not _factor(L[k])
        if info[k]:
            L[k] = np.nan
        else:
            _clear_upper(L[k])


@njit(**JIT)
def _cholesky_solve(first, last, L, X):
    s, q = X.shape[1:]
    for unit in range(first, last):
        factor, x = L[unit // s], X[unit // s, unit % s]
        for i in range(q):
            x[i] = (x[i] - _dot(factor[i, :i], x[:i])) / factor[i, i]
        for i in range(q - 1, -1, -1):
            x[i] /= factor[i, i]
            row, left, y = factor[i, :i], x[:i], x[i]
            for j in range(i):
                left[j] -= y * row[j]


def cholesky_solve(L, X):
    blocks, s, q = X.shape
    if q < _FOR_LAPACK or s * q <= _FOR_MANY:
        over_blocks(_cholesky_solve, blocks * s, 1 + _GRAIN // (1 + q**2), L, X)
        return
    from . import blas

    at_once = max(1, 2**30 // q**2)
    for k in range(blocks):
        for first in range(0, s, at_once):
            blas.solve(L[k], X[k, first : first + at_once])


# No reassociation in these three: a step waits for the one before it, and there is no sum to make faster.
@njit(**JIT | {"fastmath": {"contract", "nsz"}})
def _rotation(a, b):
    """(cosine, sine, size) of the rotation that takes (a, b) to (size, 0)"""
    top = max(abs(a), abs(b))
    if not 0.0 < top < np.inf:
        return 1.0, 0.0, a
    a, b = a / top, b / top
    size = np.sqrt(a * a + b * b)
    return a / size, b / size, size * top


@njit(**JIT | {"fastmath": {"contract", "nsz"}})
def _rotate_row(old, new, cosine, sine, x):
    """The columns of one row from `old` to `new`, x rotated into them; what is left of x"""
    for j in range(new.size):
        new[j], x = cosine[j] * old[j] + sine[j] * x, cosine[j] * x - sine[j] * old[j]
    return x


@njit(**JIT | {"fastmath": {"contract", "nsz"}})
def _rotate_four_rows(L, i, low, cosine, sine, x):
    """Rows i+1 to i+4 of L, which become i to i+3, up to column i: while one waits for itself, the others go on."""
    old0, old1, old2, old3 = L[i + 1, low + 1 :], L[i + 2, low + 1 :], L[i + 3, low + 1 :], L[i + 4, low + 1 :]
    new0, new1, new2, new3 = L[i, low:i], L[i + 1, low:i], L[i + 2, low:i], L[i + 3, low:i]
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for j in range(new0.size):
        c, s = cosine[j], sine[j]
        a0, a1, a2, a3 = old0[j], old1[j], old2[j], old3[j]
        new0[j], x0 = c * a0 + s * x0, c * x0 - s * a0
        new1[j], x1 = c * a1 + s * x1, c * x1 - s * a1
        new2[j], x2 = c * a2 + s * x2, c * x2 - s * a2
        new3[j], x3 = c * a3 + s * x3, c * x3 - s * a3
    x[0], x[1], x[2], x[3] = x0, x1, x2, x3


@njit(**JIT)
def _substitute(L, i, row, y):
    y[i] = (row[i] - _dot(L[i, :i], y[:i])) / L[i, i]


@njit(**JIT)
def _shift_factor(L, drop, row, corner, work, info):
    """Old row i+1 becomes row i; what it has in column `drop`, l in (1), is rotated into what is right of that."""
    q, x = L.shape[0], np.empty(4)
    cosine, sine, y = work[0], work[1], work[2]
    for i in range(drop):
        _substitute(L, i, row, y)
    for first in range(drop, q - 1, 4):
        last = min(first + 4, q - 1)
        for i in range(first, last):
            x[i - first] = L[i + 1, drop]
            L[i, :drop] = L[i + 1, :drop]
        if last == first + 4:
            _rotate_four_rows(L, first, drop, cosine[drop:first], sine[drop:first], x)
        else:
            for i in range(first, last):
                old, new = L[i + 1, drop + 1 :], L[i, drop:first]
                x[i - first] = _rotate_row(old, new, cosine[drop:first], sine[drop:first], x[i - first])
        for k in range(first, last):
            cosine[k], sine[k], L[k, k] = _rotation(L[k + 1, k + 1], x[k - first])
            for i in range(k + 1, last):
                old, new = L[i + 1, k + 1 :], L[i, k : k + 1]
                x[i - first] = _rotate_row(old, new, cosine[k:], sine[k:], x[i - first])
        for i in range(first, last):
            _substitute(L, i, row, y)
    left = corner - _dot(y[: q - 1], y[: q - 1])
    L[q - 1, : q - 1] = y[: q - 1]
    L[q - 1, q - 1] = np.sqrt(left) if left > 0.0 else np.nan
    info[0] = not left > 0.0


def shift_factor(L, drop, row, corner, work, info):
    _shift_factor(L, drop, row, float(corner), work, info)
