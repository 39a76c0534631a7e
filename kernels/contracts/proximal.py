"""The pieces of a semismooth Newton method for the proximal point steps of a linear program.

For min c'x, s = Ax, l <= x <= u, l_c <= s <= u_c, a proximal point step from (x_0, s_0, y_0) with step sizes tau and
sigma ends where g(y) = 0,

    x(y) = clip(x_0 - tau (c - A'y), l, u),   s(y) = clip(s_0 - tau y, l_c, u_c)                         (1)
    g(y) = (y - y_0) / sigma + A x(y) - s(y),                                                            (2)

the gradient of a strongly convex function phi that is smooth but for kinks. Its generalised Hessian is

    H = I / sigma + tau (A_F A_F' + D),                                                                  (3)

F the columns whose x(y) lies strictly inside its bounds, D the 0-1 diagonal of the rows whose s(y) does. Along a
direction d the slope d'g(y + a d) is piecewise linear in a and never falls. (Li, Sun, Toh, "An asymptotically
superlinearly convergent semismooth Newton augmented Lagrangian method for linear programming", SIAM J. Optim. 30,
2020.)

All numbers are float64, all vectors have one axis. A is in CSR, (indptr, indices, data), and so is A', its column
indices ascending in each row; both with int32 indices.
"""

import itertools

import numpy as np
import scipy.sparse as sp

from . import contract

GOOD_ENOUGH = 0.1  # a full step is taken where it leaves this part of the slope
ACCURACY = 0.05  # and the search for another ends at this part
FURTHEST = 1e6  # of a step
LOOKS = 60  # for a step, at most
NARROW = 1e-12  # relative width of the interval at which the search ends


def _programs(rng, shapes=((1, 1), (7, 12), (33, 20), (60, 300), (300, 70), (3, 0), (0, 4))):
    """(A, A', c, bounds of columns, bounds of rows), with bounds of all kinds."""
    for m, n in shapes:
        A = sp.random_array((m, n), density=min(1.0, 4 / max(1, m)), rng=rng, format="csr")
        A.data -= 0.5
        lower, upper = _bounds(rng, n)
        row_lower, row_upper = _bounds(rng, m)
        yield _parts(A), _parts(A.T.tocsr()), rng.standard_normal(n), lower, upper, row_lower, row_upper


def _parts(A):
    A.sort_indices()
    return A.indptr.astype(np.int32), A.indices.astype(np.int32), A.data.astype(float)


def _bounds(rng, n):
    lower = np.where(rng.random(n) < 0.3, -np.inf, rng.standard_normal(n))
    upper = np.where(rng.random(n) < 0.3, np.inf, np.maximum(lower, -1.0) + rng.integers(0, 3, n))
    return lower, upper


def _column_cases(rng, dtype):
    for A, T, c, lower, upper, *_ in _programs(rng):
        n, m = c.size, A[0].size - 1
        for tau in (0.3, 1e4):
            yield (*T, c, lower, upper, rng.standard_normal(n), rng.standard_normal(m), tau, np.full(n, np.nan),
                   np.full(n, np.nan), np.full(n, 7, np.int8))  # fmt: skip


@contract(cases=_column_cases, writes=("aty", "x", "free"), rtol={"float32": 1e-11, "float64": 1e-11})
def proximal_columns(t_indptr, t_indices, t_data, c, lower, upper, x0, y, tau, aty, x, free):
    """aty = A'y and x = x(y) of (1); free (n,) int8 is 1 where x lies strictly inside its bounds, 0 elsewhere."""
    aty[:] = _product(t_indptr, t_indices, t_data, y)
    p = x0 - tau * (c - aty)
    free[:] = (p > lower) & (p < upper)
    x[:] = np.minimum(np.maximum(p, lower), upper)


def _product(indptr, indices, data, x):
    return np.array([data[a:b] @ x[indices[a:b]] for a, b in itertools.pairwise(indptr)])


def _row_cases(rng, dtype):
    for A, _, c, _, _, row_lower, row_upper in _programs(rng):
        n, m = c.size, A[0].size - 1
        s0, y0, y = (rng.standard_normal(m) for _ in range(3))
        yield (*A, row_lower, row_upper, s0, y0, rng.standard_normal(n), y, 0.3, 20.0, np.full(m, np.nan),
               np.full(m, 7, np.int8), np.full(m, np.nan))  # fmt: skip


@contract(cases=_row_cases, writes=("s", "slack", "g"), rtol={"float32": 1e-11, "float64": 1e-11})
def proximal_rows(indptr, indices, data, row_lower, row_upper, s0, y0, x, y, tau, sigma, s, slack, g):
    """s = s(y) of (1) and g = g(y) of (2) for x = x(y); slack (m,) int8 is the diagonal of D in (3)."""
    p = s0 - tau * y
    slack[:] = (p > row_lower) & (p < row_upper)
    s[:] = np.minimum(np.maximum(p, row_lower), row_upper)
    g[:] = (y - y0) / sigma + _product(indptr, indices, data, x) - s


def _search_cases(rng, dtype):
    for A, T, c, lower, upper, row_lower, row_upper in _programs(rng):
        n, m = c.size, A[0].size - 1
        x0, s0, y0, y = (rng.standard_normal(size) for size in (n, m, m, m))
        aty, x, g, s = np.zeros(n), np.zeros(n), np.zeros(m), np.zeros(m)
        proximal_columns(*T, c, lower, upper, x0, y, 0.7, aty, x, np.zeros(n, np.int8))
        proximal_rows(*A, row_lower, row_upper, s0, y0, x, y, 0.7, 9.0, s, np.zeros(m, np.int8), g)
        for length in (-1e-4, -0.7, -50.0, 1.0, 0.0):
            d = length * g
            atd = _product(T[0], T[1], T[2], d)
            yield (c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, 0.7, 9.0, np.full(1, np.nan))


@contract(cases=_search_cases, writes=("step",), rtol={"float32": 1e-8, "float64": 1e-8})
def proximal_search(c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma, step):
    """step (1,): how far to go from y along d. aty = A'y, atd = A'd.

    0 where the slope at 0 is not negative; 1 where the slope there is at most GOOD_ENOUGH of that; else where it is at
    most ACCURACY of it, found by false position in an interval that holds the zero, whose parts are cut at tenths.
    """

    def slope(a):
        x = np.minimum(np.maximum(x0 - tau * (c - (aty + a * atd)), lower), upper)
        at = y + a * d
        s = np.minimum(np.maximum(s0 - tau * at, row_lower), row_upper)
        return atd @ x + d @ ((at - y0) / sigma - s)

    step[0] = _search(slope)


def _search(slope):
    start, low, high = slope(0.0), 0.0, 1.0
    if not start < 0:
        return 0.0
    below, above = start, slope(1.0)
    if abs(above) <= GOOD_ENOUGH * -start:
        return 1.0
    while above < 0:
        if high >= FURTHEST:
            return high
        low, below, high = high, above, 4 * high
        above = slope(high)
    for _ in range(LOOKS):
        a = low + (high - low) * min(max(below / (below - above), 0.1), 0.9)
        here = slope(a)
        if abs(here) <= ACCURACY * -start or high - low <= NARROW * high:
            break
        if here < 0:
            low, below = a, here
        else:
            high, above = a, here
    return a


def _hessian_cases(rng, dtype):
    for A, T, c, *_ in _programs(rng):
        n, m = c.size, A[0].size - 1
        free, slack = (rng.integers(0, 2, size, np.int8) for size in (n, m))
        yield *A, *T, free, slack, 0.7, 1e-3, np.full((m, m), np.nan)


@contract(cases=_hessian_cases, writes=("H",), rtol={"float32": 1e-11, "float64": 1e-11})
def proximal_hessian(indptr, indices, data, t_indptr, t_indices, t_data, free, slack, tau, shift, H):
    """The lower triangle of (3) with shift = 1 / sigma, zero above; H (m, m)."""
    A = sp.csr_array((data, indices, indptr), shape=(slack.size, free.size)).toarray()
    A = A[:, free != 0]
    H[:] = np.tril(tau * (A @ A.T) + np.diag(shift + tau * slack))
