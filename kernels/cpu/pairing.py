"""Setup of an aggregation hierarchy, on the host for either backend: one pass each over a graph, sequential by nature.

A matrix here is a graph: `weights` > 0 are the off-diagonal entries with their signs turned, in CSR without the diagonal,
and `diag`. Aggregation follows Notay, "An aggregation-based algebraic multigrid method", Electron. Trans. Numer. Anal. 37
(2010), with pairs formed by the strongest coupling in natural order.
"""

import numpy as np
from numba import njit, uint64

from .pool import JIT

STRONG = 0.25  # of the strongest coupling of a row: weaker ones make no pair
DOMINANT = 5.0  # a diagonal so many times the couplings of its row leaves nothing for coarser levels to do
ALONE = -1


@njit(**JIT)
def graph_of_faces(cells, number, cz, cy, cx, shape):
    """(indptr, indices, weights) of unknowns `cells` (N,) with faces (flat); number (cells,) is each cell's unknown."""
    _, nz, ny, nx = shape
    plane, grid = ny * nx, nz * ny * nx
    n = cells.size
    indptr, indices, weights = np.zeros(n + 1, np.int64), np.empty(6 * n, np.int32), np.empty(6 * n, np.float64)
    at = 0
    for i in range(n):
        a = cells[i]
        x, y, z = a % nx, a // nx % ny, a // plane % nz
        before = a - 1 if x > 0 else a + nx - 1
        after = a + 1 if x < nx - 1 else a - nx + 1
        for b, w in ((before, cx[before]), (after, cx[a])):
            if w > 0:
                indices[at], weights[at] = number[b], w
                at += 1
        before = a - nx if y > 0 else a + plane - nx
        after = a + nx if y < ny - 1 else a - plane + nx
        for b, w in ((before, cy[before]), (after, cy[a])):
            if w > 0:
                indices[at], weights[at] = number[b], w
                at += 1
        if nz > 1:
            before = a - plane if z > 0 else a + grid - plane
            after = a + plane if z < nz - 1 else a - grid + plane
            for b, w in ((before, cz[before]), (after, cz[a])):
                if w > 0:
                    indices[at], weights[at] = number[b], w
                    at += 1
        indptr[i + 1] = at
    return indptr, indices[:at].copy(), weights[:at].copy()


@njit(**JIT)
def pair(indptr, indices, weights, diag):
    """(aggregate of each node, how many there are): pairs with the strongest free neighbour; what is left over joins.

    ALONE is the aggregate of nodes that need no coarser level.
    """
    n = indptr.size - 1
    aggregate = np.full(n, -2, np.int32)
    count = 0
    for i in range(n):
        if aggregate[i] != -2:
            continue
        most = total = strength = 0.0
        strongest = free = -1
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            j, w = indices[k], weights[k]
            total += w
            if aggregate[uint64(j)] == ALONE:
                continue
            if w > most:
                most, strongest = w, j
            if w > strength and aggregate[uint64(j)] == -2 and j != i:
                strength, free = w, j
        if total == 0.0 or diag[i] > DOMINANT * total:
            aggregate[i] = ALONE
        elif free >= 0 and strength >= STRONG * most:
            aggregate[i] = aggregate[free] = count
            count += 1
        elif strongest >= 0 and aggregate[strongest] >= 0:
            aggregate[i] = aggregate[strongest]
        else:
            aggregate[i] = count
            count += 1
    return aggregate, count


@njit(**JIT)
def members_of(aggregate, count):
    """(starts, members): the nodes of each aggregate, in order."""
    starts = np.zeros(count + 1, np.int64)
    for i in range(aggregate.size):
        if aggregate[i] >= 0:
            starts[aggregate[i] + 1] += 1
    for a in range(count):
        starts[a + 1] += starts[a]
    members, next_of = np.empty(starts[count], np.int64), starts[:count].copy()
    for i in range(aggregate.size):
        a = aggregate[i]
        if a >= 0:
            members[next_of[a]] = i
            next_of[a] += 1
    return starts, members


@njit(**JIT)
def galerkin(indptr, indices, weights, diag, aggregate, starts, members):
    """The graph P'AP, P the indicator of the aggregates."""
    count = starts.size - 1
    coarse_ptr, coarse_diag = np.zeros(count + 1, np.int64), np.zeros(count)
    coarse_indices, coarse_weights = np.empty(indices.size, np.int32), np.empty(indices.size)
    place = np.full(count, -1, np.int64)  # where the entry of this row for a column is
    at = 0
    for a in range(count):
        first, own = at, 0.0
        for m in range(starts[a], starts[a + 1]):
            i = members[m]
            own += diag[i]
            for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
                b = aggregate[uint64(indices[k])]
                if b == a:
                    own -= weights[k]
                elif b >= 0:
                    where = place[b]
                    if where < first:
                        place[b] = at
                        coarse_indices[at], coarse_weights[at] = b, weights[k]
                        at += 1
                    else:
                        coarse_weights[where] += weights[k]
        coarse_diag[a] = own
        coarse_ptr[a + 1] = at
    return coarse_ptr, coarse_indices[:at].copy(), coarse_weights[:at].copy(), coarse_diag


@njit(**JIT)
def colour(indptr, indices):
    """(colour of each node, how many there are): the first that no neighbour has."""
    n = indptr.size - 1
    colours, count = np.full(n, -1, np.int16), 0
    seen = np.full(n + 1, -1, np.int64)
    for i in range(n):
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            c = colours[uint64(indices[k])]
            if c >= 0:
                seen[c] = i
        c = 0
        while seen[c] == i:
            c += 1
        colours[i] = c
        count = max(count, c + 1)
    return colours, count


@njit(**JIT)
def reorder(indptr, indices, weights, order, place):
    """The graph with its nodes in the given order; place is the inverse of it."""
    n = order.size
    new_ptr, new_indices, new_weights = np.zeros(n + 1, np.int64), np.empty_like(indices), np.empty_like(weights)
    at = 0
    for i in range(n):
        old = order[i]
        for k in range(indptr[old], indptr[old + 1]):
            new_indices[at], new_weights[at] = place[indices[k]], weights[k]
            at += 1
        new_ptr[i + 1] = at
    return new_ptr, new_indices, new_weights
