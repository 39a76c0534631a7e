"""Rows of a transport problem's cost, stored or computed from points."""

import numpy as np
from numba import njit

from .lanes import SMALL_JIT, fill, item, load, sqrt, store, times_plus

_NO_ORDER = np.empty(0, np.int32)


def source_of(C, X, Y, root, order=None):
    """The cost's arguments with empty arrays for None, so that each body is compiled once for a dtype."""
    if C is None:
        return np.empty((0, 0), X.dtype), X, Y, int(root), _NO_ORDER
    nothing = np.empty((0, 0), C.dtype)
    return C, nothing, nothing, 0, _NO_ORDER if order is None else order


@njit(**SMALL_JIT)
def stage(source, i, m, c):
    """Costs of row i to c, and +inf after them."""
    C, X, Y, root, order = source
    whole, p = m - m % 8, X.shape[1]
    if p > 0:
        for j in range(0, whole, 8):
            squares = fill(0.0)
            for k in range(p):
                difference = load(Y, k * m + j) - fill(np.float64(item(X, i * p + k)))
                squares = times_plus(difference, difference, squares)
            store(c, j, sqrt(squares) if root else squares)
        for j in range(whole, m):
            square = 0.0
            for k in range(p):
                square += (np.float64(item(Y, k * m + j)) - np.float64(item(X, i * p + k))) ** 2
            c[j] = np.sqrt(square) if root else square
    elif order.size:
        for j in range(m):
            c[j] = np.float64(item(C, i * m + item(order, j)))
    else:
        for j in range(0, whole, 8):
            store(c, j, load(C, i * m + j))
        for j in range(whole, m):
            c[j] = np.float64(item(C, i * m + j))
    for j in range(m, c.size):
        c[j] = np.inf


@njit(**SMALL_JIT)
def columns_of(source):
    """m, the number of columns that there really are."""
    return source[0].shape[1] + source[2].shape[1]
