"""Setup of an aggregation hierarchy, on the host for either backend: passes over a graph.

A matrix here is a graph: node i has the entries begin[i] to end[i] of `indices` and `weights`, which are > 0: the
off-diagonal entries with their signs turned. There may be gaps between nodes. Aggregation follows Notay, "An
aggregation-based algebraic multigrid method", Electron. Trans. Numer. Anal. 37 (2010), with pairs formed by the
strongest coupling in natural order. What one node does not need to know of another's fate, threads share.
"""

import numpy as np
from numba import njit, uint64

from .pool import JIT, over_blocks
from .spare import borrow

STRONG = 0.25  # of the strongest coupling of either node: weaker ones make no pair
DOMINANT = 5.0  # a diagonal so many times the couplings of its row leaves nothing for coarser levels to do
NARROW = 3  # couplings of a node of a corridor, at most; and of the mean node of a maze
FREE, ALONE = -2, -1
_ROWS, _GRAIN = 4096, 4  # nodes of a block, and blocks a thread is worth waking for


def _blocks(nodes):
    return -(-nodes // _ROWS)


def _room(nodes, entries, dtype):
    """Begin and end, indices and weights; these two are borrowed, see `spare.py`."""
    place = np.int32 if entries < 2**31 else np.int64
    return np.empty(nodes, place), np.empty(nodes, place), borrow((entries,), np.int32), borrow((entries,), dtype)


def graph_of_faces(cells, number, cx, cy, cz, slack):
    """(begin, end, indices, weights, strongest, diag, slack) of unknowns `cells` (N,), faces (stack, nx, ny, nz).

    number (cells,) is each cell's unknown; strongest (N,) the largest weight of each; slack (N,) by how much its
    diagonal exceeds the sum of them.
    """
    graph, sums = _room(cells.size, 6 * cells.size, cx.dtype), tuple(np.empty(cells.size, cx.dtype) for _ in range(2))
    over_blocks(_graph_of_faces, _blocks(cells.size), _GRAIN, cells, number, cx.reshape(-1), cy.reshape(-1),
                cz.reshape(-1), slack, cx.shape, *graph, *sums)  # fmt: skip
    return *graph, *sums, slack


@njit(**JIT)
def _enter(face, beyond, number, c, indices, weights, at):
    """Write an entry, and move on if there is one: no branch, which would be taken at random."""
    weight = c[face]
    indices[at], weights[at] = number[beyond], weight
    return at + uint64(weight > 0)


@njit(**JIT)
def _graph_of_faces(first, last, cells, number, cx, cy, cz, slack, shape, begin, end, indices, weights, strongest,
                    diag):  # fmt: skip
    _, nx, ny, nz = shape
    one, row, plane, grid = uint64(1), uint64(nz), uint64(ny * nz), uint64(nx * ny * nz)
    at = uint64(0)
    x = y = z = before = 0
    for i in range(first * _ROWS, min(last * _ROWS, cells.size)):
        if i % _ROWS == 0:
            at = uint64(6 * i)
        start = at
        cell = cells[i]
        z += cell - before  # mostly one step along z, which needs no division
        before = cell
        if z < 0 or z >= nz:
            z, y, x = cell % nz, cell // nz % ny, cell // (ny * nz) % nx
        a = uint64(cell)
        low, high = a - one if z > 0 else a + row - one, a + one if z < nz - 1 else a - row + one
        at = _enter(low, low, number, cz, indices, weights, at)
        at = _enter(a, high, number, cz, indices, weights, at)
        if ny > 1:
            low, high = a - row if y > 0 else a + plane - row, a + row if y < ny - 1 else a - plane + row
            at = _enter(low, low, number, cy, indices, weights, at)
            at = _enter(a, high, number, cy, indices, weights, at)
        low, high = a - plane if x > 0 else a + grid - plane, a + plane if x < nx - 1 else a - grid + plane
        at = _enter(low, low, number, cx, indices, weights, at)
        at = _enter(a, high, number, cx, indices, weights, at)
        most, total = 0.0, np.float64(slack[i])
        for k in range(start, at):
            total += weights[k]
            most = max(most, weights[k])
        begin[i], end[i], strongest[i], diag[i] = start, at, most, total


@njit(**JIT)
def pair(begin, end, indices, weights, strongest, diag):
    """(aggregate of each node, how many there are): pairs with the strongest free neighbour; what is left over joins.

    ALONE is the aggregate of nodes that need no coarser level. Nodes are taken in their order, but along the corridors
    of a maze from where a pair ends, so that few are left over there.
    """
    n = begin.size
    entries = (end - begin).sum()
    maze = entries < NARROW * n
    aggregate = np.full(n, FREE, np.int32)
    queue, head, tail = np.empty(entries if maze else 0, np.int32), 0, 0
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
        mate = nearest = -1
        for k in range(uint64(begin[i]), uint64(end[i])):
            w = weights[k]
            total += w
            a = aggregate[uint64(indices[k])]
            if a == ALONE:
                continue
            if w > most:
                most, nearest = w, indices[k]
            if a == FREE and w > strength and w >= STRONG * strongest[uint64(indices[k])]:
                strength, mate = w, indices[k]
        if total == 0.0 or diag[i] > DOMINANT * total:
            aggregate[i] = ALONE
        elif mate >= 0 and strength >= STRONG * most:
            aggregate[i] = aggregate[mate] = count
            count += 1
            if maze:
                for node in (i, mate):
                    for k in range(uint64(begin[node]), uint64(end[node])):
                        j = indices[k]
                        if aggregate[j] == FREE and end[j] - begin[j] <= NARROW and tail < queue.size:
                            queue[tail] = j
                            tail += 1
        elif nearest >= 0 and aggregate[nearest] >= 0:
            aggregate[i] = aggregate[nearest]
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


def composed(one, two):
    """The aggregate among `two` of each node's aggregate among `one`."""
    out = np.empty_like(one)
    over_blocks(_composed, _blocks(one.size), _GRAIN, one, two, out)
    return out


@njit(**JIT)
def _composed(first, last, one, two, out):
    for i in range(first * _ROWS, min(last * _ROWS, one.size)):
        out[i] = two[uint64(one[i])] if one[i] >= 0 else ALONE


def moved(aggregate, place, new, size):
    """Aggregates, whose numbers become `new`, of nodes that move to `place`; ALONE in others of `size` places."""
    out = np.empty(size, np.int32)
    if size > aggregate.size:
        out.fill(ALONE)
    over_blocks(_moved, _blocks(aggregate.size), _GRAIN, aggregate, place, new, out)
    return out


@njit(**JIT)
def _moved(first, last, aggregate, place, new, out):
    for i in range(first * _ROWS, min(last * _ROWS, aggregate.size)):
        out[uint64(place[i])] = new[uint64(aggregate[i])] if aggregate[i] >= 0 else ALONE


def galerkin(begin, end, indices, weights, slack, aggregate, starts, members):
    """The graph P'AP, P the indicator of the aggregates: (begin, end, indices, weights, strongest, diag, slack).

    `slack` is by how much a diagonal exceeds the weights of its row. Sums of it, and of weights, know no cancellation:
    where P'AP is singular, it is exactly so.
    """
    count = starts.size - 1
    room = np.zeros(_blocks(count) + 1, np.int64)  # of each block, where nothing is added up
    over_blocks(_entries, _blocks(count), _GRAIN, begin, end, starts, members, room)
    room = np.cumsum(room)
    coarse = _room(count, int(room[-1]), weights.dtype)
    sums = tuple(np.empty(count, weights.dtype) for _ in range(3))
    over_blocks(_galerkin, _blocks(count), _GRAIN, begin, end, indices, weights, slack, aggregate, starts, members,
                room, *coarse, *sums)  # fmt: skip
    return *coarse, *sums


@njit(**JIT)
def _entries(first, last, begin, end, starts, members, room):
    for block in range(first, last):
        total = 0
        for m in range(uint64(starts[block * _ROWS]), uint64(starts[min((block + 1) * _ROWS, starts.size - 1)])):
            i = uint64(members[m])
            total += end[i] - begin[i]
        room[block + 1] = total + _ROWS


@njit(**JIT)
def _galerkin(first, last, begin, end, indices, weights, slack, aggregate, starts, members, room, coarse_begin,
              coarse_end, coarse_indices, coarse_weights, coarse_strongest, coarse_diag, coarse_slack):  # fmt: skip
    count = starts.size - 1
    place = np.full(count, -1, coarse_begin.dtype)  # where the entry of this row for a column is
    start = np.int64(0)
    for a in range(first * _ROWS, min(last * _ROWS, count)):
        if a % _ROWS == 0:
            start = room[a // _ROWS]
        at, own = start + 1, 0.0
        place[a] = start  # what leads back into the aggregate, which the row then does without
        for m in range(uint64(starts[a]), uint64(starts[a + 1])):
            i = uint64(members[m])
            own += slack[i]
            for k in range(uint64(begin[i]), uint64(end[i])):
                b, w = aggregate[uint64(indices[k])], weights[k]
                if b < 0:
                    own += w
                    continue
                where = place[uint64(b)]  # no branch on whether it is new, which would be taken at random
                new = where < start
                where = at if new else where
                at += np.int64(new)
                place[uint64(b)] = where
                coarse_indices[uint64(where)] = b
                coarse_weights[uint64(where)] = w if new else w + coarse_weights[uint64(where)]
        outward = most = 0.0
        for k in range(uint64(start + 1), uint64(at)):
            outward += coarse_weights[k]
            most = max(most, coarse_weights[k])
        coarse_begin[a], coarse_end[a], coarse_strongest[a] = start + 1, at, most
        coarse_slack[a], coarse_diag[a] = own, own + outward
        start = at


@njit(**JIT)
def colour(begin, end, indices):
    """(colour of each node, how many there are): the first that no neighbour has."""
    n = begin.size
    colours, count = np.full(n, -1, np.int16), 0
    seen = np.full(n + 1, -1, np.int64)
    for i in range(n):
        for k in range(uint64(begin[i]), uint64(end[i])):
            c = colours[uint64(indices[k])]
            if c >= 0:
                seen[c] = i
        c = 0
        while seen[c] == i:
            c += 1
        colours[i] = c
        count = max(count, c + 1)
    return colours, count


def by_colours(begin, end, indices, colours):
    """The order of nodes by colours, and of one colour by the entries to lower ones, then by all entries.

    Loops over the entries of one row after another end sooner where it is known from the last one when they do.
    """
    keys = np.empty(colours.size, np.uint16)
    over_blocks(_keys, _blocks(colours.size), _GRAIN, begin, end, indices, colours, keys)
    by_entries = np.argsort(keys, kind="stable")
    return by_entries[np.argsort(colours[by_entries], kind="stable")]


@njit(**JIT)
def _keys(first, last, begin, end, indices, colours, keys):
    for i in range(first * _ROWS, min(last * _ROWS, keys.size)):
        lower = 0
        for k in range(uint64(begin[i]), uint64(end[i])):
            lower += colours[uint64(indices[k])] < colours[i]
        keys[i] = 256 * min(lower, 255) + min(end[i] - begin[i], 255)


def reorder(begin, end, indices, weights, order, place):
    """(indptr, middle, indices, weights) of the graph with its nodes in the given order; place is the inverse of it.

    In each row, nodes before it come first; those after it start at middle[i]. No gaps between rows.
    """
    n = order.size
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum((end - begin)[order], out=indptr[1:])
    middle = np.empty(n, np.int64)
    new_indices, new_weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], weights.dtype)
    over_blocks(_reorder, _blocks(n), _GRAIN, begin, indices, weights, order, place, indptr, middle, new_indices,
                new_weights)  # fmt: skip
    return indptr, middle, new_indices, new_weights


@njit(**JIT)
def _reorder(first, last, begin, indices, weights, order, place, indptr, middle, new_indices, new_weights):
    for i in range(first * _ROWS, min(last * _ROWS, order.size)):
        k = uint64(begin[uint64(order[i])])
        front, back = indptr[i], indptr[i + 1]
        for _ in range(back - front):
            j = place[uint64(indices[k])]
            if j < i:
                new_indices[uint64(front)], new_weights[uint64(front)] = j, weights[k]
                front += 1
            else:
                back -= 1
                new_indices[uint64(back)], new_weights[uint64(back)] = j, weights[k]
            k += uint64(1)
        middle[i] = front
