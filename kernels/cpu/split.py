"""Numba twins of contracts/split.py, and where things are in that layout."""

import numpy as np
from numba import njit, uint64

from .lanes import LANES_JIT, SMALL_JIT
from .pool import over_blocks

_GRAIN = 100_000  # cells a thread is worth waking for

# ---- where things are -----------------------------------------------------------------------------------------------


@njit(**SMALL_JIT)
def plane_of(k, nx, wraps):
    """The plane of an array that is plane k of the grid, 1 to nx, or 0, which is a ghost."""
    if 1 <= k <= nx:
        return k
    return (k - 1) % nx + 1 if wraps else 0


@njit(**SMALL_JIT)
def beside(row, j, ny, h, wraps, outside):
    """Where the rows before and after row j start; `outside` where there is none."""
    before = row - h if j > 0 else (row + (ny - 1) * h if wraps else outside)
    after = row + h if j < ny - 1 else (row - (ny - 1) * h if wraps else outside)
    return before, after


@njit(**SMALL_JIT)
def row_places(k, j, colour, g, nx, ny, h, w0, w1, behind, own, ahead, outside):
    """Where row j of plane k, of one colour, has its neighbours; g is the plane of the array that it is.

    Of x, whose planes k - 1, k, k + 1 start at `behind`, `own`, `ahead`, and a row of zeros at `outside`: the places of
    the same row, of those before and after it in y, and in x. Of the faces: those of the same row, of the rows before
    it in y and x, and of the same row again if there is one after it in y. Last, whether its cells are the even ones.
    Where there is no row, faces are those of the ghost plane, which are 0.
    """
    left, right = beside(own + j * h, j, ny, h, w1, outside)
    cell = g * ny * h + j * h
    cell_left, cell_right = beside(cell, j, ny, h, w1, 0)
    cell_right = cell if cell_right else 0
    cell_behind = (plane_of(k - 1, nx, w0) * ny + j) * h
    even = (k + j + colour) & 1 == 0
    return own + j * h, left, right, behind + j * h, ahead + j * h, cell, cell_left, cell_behind, cell_right, even


@njit(**LANES_JIT)
def edges(h):
    """Factors of z neighbours that lie before (first row) and after (second): 0 where that is in another row."""
    factors = np.ones(2 * h, np.float32)
    factors[0] = factors[2 * h - 1] = 0
    return factors


def systems(*stencil):
    """The arrays of a stencil, flat, for each system that has its own."""
    return [[None if part is None else part[s].reshape(-1) for part in stencil] for s in range(len(stencil[0]))]


def _over_planes(body, planes, cells, *args):
    over_blocks(body, planes, max(1, _GRAIN * planes // max(1, cells)) if _GRAIN > 1 else 1, *args)


# ---- there and back -------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _split_row(row, even, odd):
    """Deal out a row; what there is no room for in it is 0."""
    pairs, count = row.size // 2, even.size
    for m in range(uint64(pairs)):
        even[m], odd[m] = row[uint64(2) * m], row[uint64(2) * m + uint64(1)]
    for m in range(pairs, count):
        even[m] = odd[m] = 0
    if row.size % 2:
        even[pairs] = row[row.size - 1]


@njit(**LANES_JIT)
def _split(first, last, a, v):
    for i in range(first, last):
        for j in range(a.shape[1]):
            even = (i + 1 + j) & 1
            _split_row(a[i, j], v[even, i + 1, j], v[1 - even, i + 1, j])


def grid_split(a, v):
    for s in range(len(a)):
        _over_planes(_split, a.shape[1], a[s].size, a[s], v[s])


@njit(**LANES_JIT)
def _join(first, last, v, a):
    for i in range(first, last):
        for j in range(a.shape[1]):
            even = (i + 1 + j) & 1
            row, evens, odds = a[i, j], v[even, i + 1, j], v[1 - even, i + 1, j]
            for m in range(uint64(row.size // 2)):
                row[uint64(2) * m], row[uint64(2) * m + uint64(1)] = evens[m], odds[m]
            if row.size % 2:
                row[row.size - 1] = evens[row.size // 2]


def grid_join(v, a):
    for s in range(len(a)):
        _over_planes(_join, a.shape[1], a[s].size, v[s], a[s])


# ---- stencils -------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _mask_row(d, i, j, ahead, after, before, behind, w2, x, y, z, s, crosses, follows):
    """Add the faces of row j of plane i of a mask, those that the coarse level keeps, and what is left of D."""
    mine, nz = d[i, j], d.shape[2]
    for k in range(nz):
        if mine[k]:
            right = k + 1 if k + 1 < nz else 0
            left = k - 1 if k > 0 else nz - 1
            to_right = mine[right] > 0 and (w2 or k + 1 < nz)
            to_left = mine[left] > 0 and (w2 or k > 0)
            in_x, in_y = ahead[k] > 0, after[k] > 0
            x[k] += crosses and in_x
            y[k] += follows and in_y
            z[k] += to_right
            s[k] += mine[k] - (to_right + to_left + in_x + in_y + (behind[k] > 0) + (before[k] > 0))


@njit(**LANES_JIT)
def _fold(values, f2, inside, factor, out):
    """The row of a coarse level: pairs added up or, if only the second of each has a face across, that one."""
    for k in range(out.size):
        if f2 == 1:
            out[k] = factor * values[k]
        else:
            second = values[2 * k + 1] if 2 * k + 1 < values.size else 0.0
            out[k] = factor * (second if inside else values[2 * k] + second)


@njit(**LANES_JIT)
def _coarsen(first, last, d, fx, fy, fz, s, shape, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    (nx, ny, nz), (f0, f1, f2), (w0, w1, w2) = shape, factor, wrap
    none = np.zeros(nz, np.uint8)
    rows = np.zeros((4, nz))
    x, y, z, sink = rows[0], rows[1], rows[2], rows[3]
    for plane in range(first, last):
        for row in range(cs.shape[1]):
            rows[:] = 0
            for i in range(f0 * plane, min(f0 * plane + f0, nx)):
                for j in range(f1 * row, min(f1 * row + f1, ny)):
                    crosses, follows = f0 == 1 or i % 2 == 1, f1 == 1 or j % 2 == 1
                    if d is not None:
                        ahead = d[(i + 1) % nx, j] if i + 1 < nx or w0 else none
                        behind = d[(i - 1) % nx, j] if i > 0 or w0 else none
                        after = d[i, (j + 1) % ny] if j + 1 < ny or w1 else none
                        before = d[i, (j - 1) % ny] if j > 0 or w1 else none
                        _mask_row(d, i, j, ahead, after, before, behind, w2, x, y, z, sink, crosses, follows)
                    if fx is not None:
                        xs, ys, zs, ss = fx[i, j], fy[i, j], fz[i, j], s[i, j]
                        for k in range(uint64(nz)):
                            z[k] += zs[k]
                            sink[k] += ss[k]
                        if crosses:
                            for k in range(uint64(nz)):
                                x[k] += xs[k]
                        if follows:
                            for k in range(uint64(nz)):
                                y[k] += ys[k]
            _fold(x, f2, False, alpha if f0 == 2 else 1.0, cx[plane, row])
            _fold(y, f2, False, alpha if f1 == 2 else 1.0, cy[plane, row])
            _fold(z, f2, True, alpha if f2 == 2 else 1.0, cz[plane, row])
            _fold(sink, f2, False, alpha_s, cs[plane, row])


def stencil_coarsen(d, fx, fy, fz, s, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    stencil = (d, fx, fy, fz, s)
    for b in range(len(cs)):
        own = [None if part is None else part[b] for part in stencil]
        shape = next(part.shape for part in own if part is not None)
        _over_planes(_coarsen, cs.shape[1], cs[b].size, *own, shape, float(alpha), float(alpha_s), factor, wrap,
                     cx[b], cy[b], cz[b], cs[b])  # fmt: skip


@njit(**LANES_JIT)
def _invert(first, last, fx, fy, fz, s, d):
    """1 / D, where the last face of an axis is the one before the first cell: 0 unless it wraps round."""
    nz = s.shape[2]
    whole = np.empty(nz)
    for i in range(first, last):
        for j in range(s.shape[1]):
            xs, ys, zs, sinks, behind, left = fx[i, j], fy[i, j], fz[i, j], s[i, j], fx[i - 1, j], fy[i, j - 1]
            before = zs[nz - 1]
            for k in range(nz):
                total = sinks[k] + xs[k] + behind[k] + ys[k] + left[k] + zs[k] + before
                whole[k] = 1.0 / total if total > 0.0 else 0.0
                before = zs[k]
            even = (i + 1 + j) & 1
            _split_row(whole, d[even, i + 1, j], d[1 - even, i + 1, j])


@njit(**LANES_JIT)
def _split_pairs(first, last, fz, wraps, v):
    """fz: what lies within a pair to the first half, what lies between two, or wraps round, to the second."""
    for i in range(first, last):
        for j in range(fz.shape[1]):
            row, inside, between = fz[i, j], v[0, i + 1, j], v[1, i + 1, j]
            _split_row(row, inside, between)
            before = between[between.size - 1] if wraps else 0
            for m in range(between.size):
                before, between[m] = between[m], before


def stencil_split(fx, fy, fz, s, wrap, d, sx, sy, sz, ss):
    for part in (d, sx, sy, sz, ss):
        part[:, :, 0] = part[:, :, -1] = 0
    for a, v in ((fx, sx), (fy, sy), (s, ss)):
        grid_split(a, v)
    for b in range(len(s)):
        _over_planes(_invert, s.shape[1], s[b].size, fx[b], fy[b], fz[b], s[b], d[b])
        _over_planes(_split_pairs, s.shape[1], s[b].size, fz[b], wrap[2], sz[b])
