"""Bounds of the transport cost between two images that hold whatever they are computed from, on the host.

Upper: where mass is between its move along a column and that along a row, `middle` (m, n), is all that a plan needs.
Each column of the first image is carried to that of `middle`, and each row of it to that of the second image, in order,
which is optimal on a line for costs |i - k|^p, p >= 1. Any `middle` with the first image's column sums and the second's
row sums gives a plan. Lower: two c-transforms make any potential a feasible dual point (Peyre and Cuturi, Computational
Optimal Transport, 2019, section 5.1).
"""

import numpy as np

ROUNDING = 4 * float(np.finfo(np.float64).eps)  # of the largest potential: by so much u + v may exceed the cost
FITS, FITTED = 30, 1e-9  # sweeps of scaling rows and columns at most, and the relative error that ends them
FINEST = 1e-15  # of such errors


def ordered(p, q):
    """Couplings in order of each row of p with that row of q, (lines, n): (line, from, to, mass), line by line."""
    n = p.shape[1]
    ends = np.concatenate([np.cumsum(p, 1), np.cumsum(q, 1)], axis=1)
    order = np.argsort(ends, axis=1, kind="stable")
    ends = np.take_along_axis(ends, order, 1)
    mass = np.diff(ends, axis=1, prepend=0.0)
    of_p = order < n
    start = np.minimum(np.cumsum(of_p, 1) - of_p, n - 1)
    to = np.minimum(np.cumsum(~of_p, 1) - ~of_p, n - 1)
    line, at = np.nonzero(mass > 0)
    return line, start[line, at], to[line, at], mass[line, at]


def line_potential(p, q, cost):
    """(n,): an optimal potential of the first of two images on a line, of equal masses; -inf where that has none.

    Along the couplings in order, v_j = cost_ij - u_i; a cost of convex shape makes that feasible.
    """
    _, start, to, _ = ordered(p[None], q[None])
    u = np.full(p.size, -np.inf)
    u[start[0]] = 0.0
    u[start[1:]] = np.cumsum(cost[start[1:], to[:-1]] - cost[start[:-1], to[:-1]])
    return u


def line_cost(p, q, cost):
    """The least cost of carrying each row of p to that row of q; cost (n, n)."""
    _, start, to, mass = ordered(p, q)
    return float(mass @ cost[start, to])


def fit(middle, rows, columns, error=FITTED):
    """A nonnegative matrix with these sums, close to the one given: that one scaled, and what is missing added."""
    middle = np.maximum(middle, 0.0)  # a copy
    for _ in range(FITS):
        found = middle.sum(1)
        if abs(found - rows).sum() <= error * rows.sum():
            break
        middle *= _ratio(rows, found)[:, None]
        middle *= _ratio(columns, middle.sum(0))
    middle = middle * np.minimum(_ratio(rows, middle.sum(1)), 1)[:, None]
    middle = middle * np.minimum(_ratio(columns, middle.sum(0)), 1)
    down, across = np.maximum(rows - middle.sum(1), 0), np.maximum(columns - middle.sum(0), 0)
    missing = across.sum()
    return middle + down[:, None] * (across / missing) if missing > 0 else middle


def _ratio(wanted, found):
    return np.divide(wanted, found, out=np.zeros_like(found), where=found > 0)


def upper_bound(problem, middle, error=0.0):
    """(cost, middle) of the plan through `middle`, made to fit; this may add about that `error`, for costs up to 1."""
    middle = fit(middle, problem.b.sum(1), problem.a.sum(0), min(max(error, FINEST), FITTED))
    first = line_cost(np.ascontiguousarray(problem.a.T), np.ascontiguousarray(middle.T), problem.C)
    return first + line_cost(middle, problem.b, problem.D), middle


def lower_bound(problem, potential, *, of_second=False):
    """(value, u, v) of the dual point that a potential (m, n) of the first image, or of the second, leads to.

    u + v <= the cost of every pair, by v = the c-transform of u; then u = that of v.
    """
    there, back = (problem.C, problem.D), (problem.C.T, problem.D.T)
    if of_second:
        u = transform(problem.k, potential, *back)
        v = transform(problem.k, u, *there)
    else:
        v = transform(problem.k, potential, *there)
        u = transform(problem.k, v, *back)
    return value(problem, u, v), u, v


def value(problem, u, v):
    """Of a dual point, rounded down."""
    total = (u * (problem.a - problem.b)).sum() + ((u + v) * problem.b).sum()  # the sum of u a + v b, more exactly
    return float(total - ROUNDING * max(abs(u).max(), abs(v).max()))


def transform(k, u, C, D):
    """min over (i, j) of C[i, k] + D[j, l] - u[i, j], one axis at a time; -inf in u is no pixel."""
    return along(k, D, -along(k, C, u).T).T


def chain(problem, v):
    """(y1, y2, v): potentials of the first image and of the cells between, feasible beside v of the second image."""
    y2 = -along(problem.k, problem.D.T, v.T).T
    return along(problem.k, problem.C.T, y2), y2, v


def along(k, C, u):
    """min over i of C[i, k] - u[i, j], on the host."""
    xp = k.xp
    found = xp.empty((C.shape[1], u.shape[1]))
    k.min_plus(*(xp.asarray(np.ascontiguousarray(each)) for each in (C, u)), found)
    return k.to_host(found)


def glued(problem, middle):
    """(from, to, mass): pixels of both images, by their numbers in C order, of a plan through `middle`."""
    n = problem.a.shape[1]
    j, i, k1, first = ordered(np.ascontiguousarray(problem.a.T), np.ascontiguousarray(middle.T))
    k2, j2, l2, second = ordered(middle, problem.b)
    order, order2 = np.lexsort((i, j, k1)), np.lexsort((l2, j2, k2))  # by cell (k, j) of the middle
    start, to = (i * n + j)[order], (k2 * n + l2)[order2]
    ends, ends2 = np.cumsum(first[order]), np.cumsum(second[order2])
    both = np.concatenate([ends, ends2])
    order = np.argsort(both, kind="stable")
    mass = np.diff(both[order], prepend=0.0)
    of_first = order < ends.size
    a = np.minimum(np.cumsum(of_first) - of_first, ends.size - 1)
    b = np.minimum(np.cumsum(~of_first) - ~of_first, ends2.size - 1)
    kept = mass > 1e-15 * ends[-1]  # what rounding leaves between two cells is not of either
    return start[a[kept]], to[b[kept]], mass[kept]
