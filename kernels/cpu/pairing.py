"""Setup of an aggregation hierarchy, on the host for either backend: one pass each over a graph, sequential by nature.

A matrix here is a graph: `weights` > 0 are the off-diagonal entries with their signs turned, in CSR without the
diagonal, and `diag`. Aggregation follows Notay, "An aggregation-based algebraic multigrid method", Electron. Trans.
Numer. Anal. 37 (2010), with pairs formed by the strongest coupling in natural order.
"""

import numpy as np
from numba import njit, uint64

from .pool import JIT

STRONG = 0.25  # of the strongest coupling of either node: weaker ones make no pair
DOMINANT = 5.0  # a diagonal so many times the couplings of its row leaves nothing for coarser levels to do
NARROW = 3  # couplings of a node of a corridor, at most; and of the mean node of a maze
FREE, ALONE = -2, -1


def graph_of_faces(cells, number, cz, cy, cx, shape):
    """(indptr, indices, weights) of unknowns `cells` (N,) with faces (flat); number (cells,) is each cell's unknown."""
    indptr, indices, weights = _room(cells.size, 6 * cells.size + 1)
    size = _graph_of_faces(cells, number, cz, cy, cx, shape, indptr, indices, weights)
    return indptr, indices[:size], weights[:size]


def _room(nodes, entries):
    """Arrays of NumPy's own, which are in large pages and so are there sooner."""
    return np.zeros(nodes + 1, np.int64), np.empty(entries, np.int32), np.empty(entries, np.float64)


@njit(**JIT)
def _enter(face, beyond, number, c, indices, weights, at):
    """Write an entry, and move on if there is one: no branch, which would be taken at random."""
    weight = c[face]
    indices[at], weights[at] = number[beyond], weight
    return at + uint64(weight > 0)


@njit(**JIT)
def _graph_of_faces(cells, number, cz, cy, cx, shape, indptr, indices, weights):
    _, nz, ny, nx = shape
    one, row, plane, grid = uint64(1), uint64(nx), uint64(ny * nx), uint64(nz * ny * nx)
    at = uint64(0)
    x = y = z = last = 0
    for i in range(cells.size):
        cell = cells[i]
        x += cell - last  # mostly one step along x, which needs no division
        last = cell
        if x < 0 or x >= nx:
            x, y, z = cell % nx, cell // nx % ny, cell // (ny * nx) % nz
        a = uint64(cell)
        before, after = a - one if x > 0 else a + row - one, a + one if x < nx - 1 else a - row + one
        at = _enter(before, before, number, cx, indices, weights, at)
        at = _enter(a, after, number, cx, indices, weights, at)
        before, after = a - row if y > 0 else a + plane - row, a + row if y < ny - 1 else a - plane + row
        at = _enter(before, before, number, cy, indices, weights, at)
        at = _enter(a, after, number, cy, indices, weights, at)
        if nz > 1:
            before, after = a - plane if z > 0 else a + grid - plane, a + plane if z < nz - 1 else a - grid + plane
            at = _enter(before, before, number, cz, indices, weights, at)
            at = _enter(a, after, number, cz, indices, weights, at)
        indptr[i + 1] = at
    return at


@njit(**JIT)
def pair(indptr, indices, weights, diag):
    """(aggregate of each node, how many there are): pairs with the strongest free neighbour; what is left over joins.

    ALONE is the aggregate of nodes that need no coarser level. Nodes are taken in their order, but along the corridors
    of a maze from where a pair ends, so that few are left over there.
    """
    n = indptr.size - 1
    maze = indices.size < NARROW * n
    aggregate, strongest_of = np.full(n, FREE, np.int32), np.zeros(n)
    for i in range(n):
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            strongest_of[i] = max(strongest_of[i], weights[k])
    queue, head, tail = np.empty(indices.size, np.int32), 0, 0
    count = place = 0
    while place < n or head < tail:
        if head < tail:
            i = queue[uint64(head)]
            head += 1
        else:
            i = place
            place += 1
        if aggregate[uint64(i)] != FREE:
            continue
        most = total = strength = 0.0
        mate = strongest = -1
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            w = weights[k]
            total += w
            a = aggregate[uint64(indices[k])]
            if a == ALONE:
                continue
            if w > most:
                most, strongest = w, indices[k]
            if a == FREE and w > strength and w >= STRONG * strongest_of[uint64(indices[k])]:
                strength, mate = w, indices[k]
        if total == 0.0 or diag[i] > DOMINANT * total:
            aggregate[i] = ALONE
        elif mate >= 0 and strength >= STRONG * most:
            aggregate[i] = aggregate[mate] = count
            count += 1
            if maze:
                for node in (i, mate):
                    for k in range(uint64(indptr[node]), uint64(indptr[node + 1])):
                        j = indices[k]
                        if aggregate[j] == FREE and indptr[j + 1] - indptr[j] <= NARROW and tail < queue.size:
                            queue[tail] = j
                            tail += 1
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


def galerkin(indptr, indices, weights, slack, aggregate, starts, members):
    """The graph P'AP, P the indicator of the aggregates: (indptr, indices, weights, diag, slack).

    `slack` is by how much a diagonal exceeds the weights of its row. Sums of it, and of weights, know no cancellation:
    where P'AP is singular, it is exactly so.
    """
    count = starts.size - 1
    coarse, sums = _room(count, indices.size), (np.empty(count), np.empty(count))
    size = _galerkin(indptr, indices, weights, slack, aggregate, starts, members, *coarse, *sums)
    return coarse[0], coarse[1][:size], coarse[2][:size], *sums


@njit(**JIT)
def _galerkin(indptr, indices, weights, slack, aggregate, starts, members, coarse_ptr, coarse_indices, coarse_weights,
              coarse_diag, coarse_slack):  # fmt: skip
    count = starts.size - 1
    place = np.full(count, -1, np.int64)  # where the entry of this row for a column is
    at = 0
    for a in range(count):
        first, own, outward = at, 0.0, 0.0
        for m in range(uint64(starts[a]), uint64(starts[a + 1])):
            i = uint64(members[m])
            own += slack[i]
            for k in range(uint64(indptr[i]), uint64(indptr[i + uint64(1)])):
                b = aggregate[uint64(indices[k])]
                if b < 0:
                    own += weights[k]
                elif b != a:
                    outward += weights[k]
                    where = place[uint64(b)]
                    if where < first:
                        place[uint64(b)] = at
                        coarse_indices[uint64(at)], coarse_weights[uint64(at)] = b, weights[k]
                        at += 1
                    else:
                        coarse_weights[uint64(where)] += weights[k]
        coarse_slack[a], coarse_diag[a] = own, own + outward
        coarse_ptr[a + 1] = at
    return at


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
    """(indptr, middle, indices, weights) of the graph with its nodes in the given order; place is the inverse of it.

    In each row, nodes before it come first; those after it start at middle[i].
    """
    n = order.size
    new_ptr, middle = np.zeros(n + 1, np.int64), np.empty(n, np.int64)
    new_indices, new_weights = np.empty_like(indices), np.empty_like(weights)
    for i in range(n):
        old = uint64(order[i])
        low, high = uint64(indptr[old]), uint64(indptr[old + uint64(1)])
        front, back = new_ptr[i], new_ptr[i] + np.int64(high - low)
        new_ptr[i + 1] = back
        for k in range(low, high):
            j = place[uint64(indices[k])]
            if j < i:
                new_indices[uint64(front)], new_weights[uint64(front)] = j, weights[k]
                front += 1
            else:
                back -= 1
                new_indices[uint64(back)], new_weights[uint64(back)] = j, weights[k]
        middle[i] = front
    return new_ptr, middle, new_indices, new_weights
