"""Which face of a grid each entry of a matrix is: passes over the entries, sequential by nature, on the host.

For ntsolve/linalg/grid_places.py, which says what it is about. Faces are sorted by their first cell, then by their
second. The axis of a face is 0 (along x), 1 or 2; UNKNOWN; or GUESSED more than that.
"""

import numpy as np
from numba import njit, uint64

from .pool import JIT

UNKNOWN, GUESSED = -1, 4
MOST = 6  # faces of a cell


def faces_of(indptr, indices, data):
    """(first cell, second cell of each face, faces ahead of each cell, behind each cell), None if it is no stencil."""
    n, room = indptr.size - 1, indices.size // 2
    one, other = np.empty(room, indices.dtype), np.empty(room, indices.dtype)
    ahead, behind = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    count = _faces_of(indptr, indices, data, one, other, ahead, behind)
    return None if count <= 0 else (one[:count], other[:count], ahead, behind)


@njit(**JIT)
def _faces_of(indptr, indices, data, one, other, ahead, behind):
    """How many there are; -1 for entries out of order, too many of them, or as many ahead as behind."""
    count = back = 0
    for i in range(indptr.size - 1):
        last = -1
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            j = indices[k]
            if j <= last:
                return -1
            last = j
            if data[k] == 0 or j == i:
                continue
            if j < i:
                back += 1
                continue
            if count == one.size or ahead[i] == MOST or behind[j] == MOST:
                return -1
            one[count], other[count] = i, j
            ahead[i] += 1
            behind[j] += 1
            count += 1
    for i in range(ahead.size):
        if ahead[i] + behind[i] > MOST:
            return -1
    return count if count == back else -1


def axes_of(one, other, ahead, behind, rounds):
    """The axis of each face, int8; None where that makes no sense."""
    ndim = int(max(2, ahead.max(), behind.max()))
    if ndim > 3:
        return None
    axis, fits = np.empty(one.size, np.int8), np.empty(one.size, np.uint8)
    unknown = _begin(one, other, ahead, behind, ndim, axis)
    for _ in range(rounds):
        if not unknown:
            return axis
        settled, possible = _settle(one, other, ndim, axis, fits)
        unknown -= settled
        if not possible:
            return None
        if not settled:
            break
    _guess(axis, fits)
    return axis


@njit(**JIT)
def _begin(one, other, ahead, behind, ndim, axis):
    """Those of cells with a face along each axis, on one side; how many others there are."""
    rank, cell, unknown = 0, -1, 0
    for f in range(uint64(one.size)):
        rank, cell = (rank + 1 if one[f] == cell else 0), one[f]
        axis[f] = rank if ahead[uint64(cell)] == ndim else UNKNOWN
    seen = np.zeros(ahead.size, np.uint8)  # faces behind a cell, from the nearest on
    for back in range(1, one.size + 1):
        f = uint64(one.size - back)
        cell = uint64(other[f])
        if behind[cell] == ndim:
            axis[f] = seen[cell]
        elif axis[f] == UNKNOWN and ndim == 2 and other[f] > one[f] + 1:
            axis[f] = 1
        seen[cell] += 1
        unknown += axis[f] == UNKNOWN
    return unknown


@njit(**JIT)
def _settle(one, other, ndim, axis, fits):
    """One round: (faces that fit one axis only, whether each fits one at all); `fits` has a bit for each axis.

    Among faces along one axis, the later one leads to the later cell.
    """
    before, after = np.full(3, -1, np.int64), np.full(3, np.iinfo(np.int64).max, np.int64)
    for f in range(uint64(one.size)):
        if axis[f] != UNKNOWN:
            before[uint64(axis[f])] = other[f]
            continue
        fits[f] = 0
        for a in range(ndim):
            if before[a] < other[f]:
                fits[f] |= np.uint8(1 << a)
    settled, possible = 0, True
    for back in range(1, one.size + 1):
        f = uint64(one.size - back)
        if axis[f] != UNKNOWN:
            after[uint64(axis[f])] = other[f]
            continue
        bits = 0
        for a in range(ndim):
            if fits[f] >> a & 1 and other[f] < after[a] and (a > 0 or other[f] == one[f] + 1):
                bits |= 1 << a
        fits[f] = bits
        possible = possible and bits > 0
        if bits == 1 or bits == 2 or bits == 4:
            axis[f] = bits >> 1  # is not looked at again in this round
            settled += 1
    return settled, possible


@njit(**JIT)
def _guess(axis, fits):
    """The first axis that fits."""
    for f in range(uint64(axis.size)):
        if axis[f] == UNKNOWN:
            axis[f] = GUESSED + (0 if fits[f] & 1 else (1 if fits[f] & 2 else 2))


def runs_of(n, one, other, axis):
    """(run of each cell, its place in it, number of runs): cells next to each other along x are a run."""
    run, inside = np.empty(n, np.int32), np.empty(n, np.int32)
    return run, inside, _runs_of(one, other, axis, run, inside)


@njit(**JIT)
def _runs_of(one, other, axis, run, inside):
    inside[:] = 0
    for f in range(uint64(one.size)):
        if axis[f] == 0 and other[f] == one[f] + 1:
            inside[uint64(other[f])] = 1
    number = -1
    for i in range(run.size):
        inside[i] = inside[i - 1] + 1 if inside[i] else 0
        number += inside[i] == 0
        run[i] = number
    return number + 1


def links_of(one, other, axis, run, inside):
    """(run, other run, axis, shift along x, doubt) of each way that faces lead from a run to another.

    The doubt is one over the number of these faces, and 2 more where none of them is sure of its axis.
    """
    ints, doubt = np.empty((4, one.size), np.int32), np.empty(one.size)
    count = 0
    for a in range(3):
        count = _links_of(one, other, axis, run, inside, a, ints, doubt, count)
    return (*ints[:, :count].astype("int64"), doubt[:count])


@njit(**JIT)
def _links_of(one, other, axis, run, inside, a, ints, doubt, count):
    last, last_other, many, sure = -1, -1, 0, False
    for f in range(uint64(one.size)):
        if axis[f] != a and axis[f] != a + GUESSED:
            continue
        i, j = uint64(one[f]), uint64(other[f])
        if axis[f] == 0 and other[f] == one[f] + 1:
            continue
        if run[i] != last or run[j] != last_other:
            last, last_other, many, sure = run[i], run[j], 0, False
            ints[0, count], ints[1, count], ints[2, count], ints[3, count] = last, last_other, a, inside[i] - inside[j]
            count += 1
        many, sure = many + 1, sure or axis[f] == a
        doubt[count - 1] = 1.0 / many + (0.0 if sure else 2.0)
    return count
