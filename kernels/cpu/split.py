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
def _codes_split(first, last, counts, v):
    codes = np.empty(counts.shape[2], np.uint8)
    for i in range(first, last):
        for j in range(counts.shape[1]):
            row, even = counts[i, j], (i + 1 + j) & 1
            for k in range(uint64(codes.size)):  # a table would be read cell by cell
                d = row[k]
                low = 60 if d == 1 else (30 if d == 2 else (20 if d == 3 else 0))
                codes[k] = 15 if d == 4 else (12 if d == 5 else (10 if d == 6 else low))
            _split_row(codes, v[even, i + 1, j], v[1 - even, i + 1, j])


def codes_split(open_faces, v):
    for s in range(len(v)):
        _over_planes(_codes_split, open_faces.shape[1], open_faces[s].size, open_faces[s], v[s])


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


@njit(**SMALL_JIT)
def _mask_row(mine, ahead, after, before, behind, bits, wraps, present, x, y, z, s):
    """Add the faces of a row of a mask, those that the coarse level keeps, and what is left of D; all uint8.

    `bits` are 1 for the rows that there are, of the first four, and for the faces in x and y that are kept.
    """
    nz = mine.size
    has_ahead, has_after, has_before, has_behind, crosses, follows = bits
    for k in range(uint64(nz)):
        present[k + uint64(1)] = mine[k] > 0
    present[0], present[nz + 1] = (present[nz], present[1]) if wraps else (0, 0)
    for k in range(uint64(nz)):
        here = present[k + uint64(1)]
        in_x, in_y = here & has_ahead & np.uint8(ahead[k] > 0), here & has_after & np.uint8(after[k] > 0)
        in_z, back = here & present[k + uint64(2)], here & present[k]
        others = (here & has_behind & np.uint8(behind[k] > 0)) + (here & has_before & np.uint8(before[k] > 0))
        x[k] += in_x & crosses
        y[k] += in_y & follows
        z[k] += in_z
        s[k] += mine[k] - (in_x + in_y + in_z + back + others)


@njit(**LANES_JIT)
def _fold(values, f2, inside, factor, out):
    """The row of a coarse level: pairs added up or, if only the second of each has a face across, that one."""
    pairs = values.size // 2
    if f2 == 1:
        for k in range(uint64(out.size)):
            out[k] = factor * values[k]
        return
    for k in range(uint64(pairs)):
        first, second = values[uint64(2) * k], values[uint64(2) * k + uint64(1)]
        out[k] = factor * (np.float64(second) if inside else np.float64(first) + np.float64(second))
    if values.size % 2:
        out[pairs] = 0.0 if inside else factor * values[2 * pairs]


@njit(**LANES_JIT)
def _fold_all(plane, row, rows, factor, alpha, alpha_s, cx, cy, cz, cs):
    f0, f1, f2 = factor
    _fold(rows[0], f2, False, alpha if f0 == 2 else 1.0, cx[plane, row])
    _fold(rows[1], f2, False, alpha if f1 == 2 else 1.0, cy[plane, row])
    _fold(rows[2], f2, True, alpha if f2 == 2 else 1.0, cz[plane, row])
    _fold(rows[3], f2, False, alpha_s, cs[plane, row])


@njit(**LANES_JIT)
def _coarsen_mask(first, last, d, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    (nx, ny, nz), (f0, f1, _), (w0, w1, w2) = d.shape, factor, wrap
    present, rows = np.zeros(nz + 2, np.uint8), np.zeros((4, nz), np.uint8)  # of at most four rows, at most 6 each
    for plane in range(first, last):
        for row in range(cs.shape[1]):
            rows[:] = 0
            for i in range(f0 * plane, min(f0 * plane + f0, nx)):
                for j in range(f1 * row, min(f1 * row + f1, ny)):
                    there = (np.uint8(i + 1 < nx or w0), np.uint8(j + 1 < ny or w1), np.uint8(j > 0 or w1),
                             np.uint8(i > 0 or w0))  # fmt: skip
                    kept = np.uint8(f0 == 1 or i % 2 == 1), np.uint8(f1 == 1 or j % 2 == 1)
                    ahead, behind = i + 1 if i + 1 < nx else 0, i - 1 if i > 0 else nx - 1
                    after, before = j + 1 if j + 1 < ny else 0, j - 1 if j > 0 else ny - 1
                    _mask_row(d[i, j], d[ahead, j], d[i, after], d[i, before], d[behind, j], there + kept, w2, present,
                              rows[0], rows[1], rows[2], rows[3])  # fmt: skip
            _fold_all(plane, row, rows, factor, alpha, alpha_s, cx, cy, cz, cs)


@njit(**LANES_JIT)
def _add(values, row):
    for k in range(uint64(row.size)):
        values[k] += row[k]


@njit(**LANES_JIT)
def _coarsen_faces(first, last, fx, fy, fz, s, alpha, alpha_s, factor, cx, cy, cz, cs):
    (nx, ny, nz), (f0, f1, _) = s.shape, factor
    rows = np.zeros((4, nz))
    for plane in range(first, last):
        for row in range(cs.shape[1]):
            rows[:] = 0
            for i in range(f0 * plane, min(f0 * plane + f0, nx)):
                for j in range(f1 * row, min(f1 * row + f1, ny)):
                    if f0 == 1 or i % 2 == 1:
                        _add(rows[0], fx[i, j])
                    if f1 == 1 or j % 2 == 1:
                        _add(rows[1], fy[i, j])
                    _add(rows[2], fz[i, j])
                    _add(rows[3], s[i, j])
            _fold_all(plane, row, rows, factor, alpha, alpha_s, cx, cy, cz, cs)


def stencil_coarsen(d, fx, fy, fz, s, alpha, alpha_s, factor, wrap, cx, cy, cz, cs):
    alphas = float(alpha), float(alpha_s)
    for b in range(len(cs)):
        out, planes, cells = (cx[b], cy[b], cz[b], cs[b]), cs.shape[1], cs[b].size
        if d is not None:
            _over_planes(_coarsen_mask, planes, cells, d[b], *alphas, factor, wrap, *out)
        else:
            _over_planes(_coarsen_faces, planes, cells, fx[b], fy[b], fz[b], s[b], *alphas, factor, *out)


@njit(**LANES_JIT)
def _used(i, fx, fy, fz, s, sums, used):
    """1 for each cell of plane i with a face or a sink, 3 where the faces are more than the sink.

    The last face of an axis is before the first cell.
    """
    nz = s.shape[2]
    for j in range(s.shape[1]):
        xs, ys, zs, sinks, behind, left = fx[i, j], fy[i, j], fz[i, j], s[i, j], fx[i - 1, j], fy[i, j - 1]
        out = used[j]
        for k in range(uint64(nz)):
            sums[k] = np.float64(xs[k]) + behind[k] + ys[k] + left[k] + zs[k]
        sums[0] += zs[nz - 1]
        after, before = sums[1:], zs[: nz - 1]
        for k in range(uint64(nz - 1)):
            after[k] += before[k]
        for k in range(uint64(nz)):
            out[k] = np.uint8(sums[k] + sinks[k] > 0.0) | (np.uint8(sums[k] > sinks[k]) << 1)


@njit(**LANES_JIT)
def _count_pairs(one, other, face):
    """(pairs in use, and those of them that something parts)"""
    pairs = apart = 0
    for k in range(uint64(one.size)):
        both = one[k] & other[k] & 1
        pairs += both
        apart += both & np.uint8(not face[k] > 0.0) & ((one[k] | other[k]) >> 1)
    return pairs, apart


@njit(**LANES_JIT)
def _parted_pairs(first, last, fx, fy, fz, s, factor, counts):
    nx, ny, nz = s.shape
    here, beyond, sums = np.empty((ny, nz), np.uint8), np.empty((ny, nz), np.uint8), np.empty(nz)
    for i in range(first, last):
        _used(i, fx, fy, fz, s, sums, here)
        across = factor[0] == 2 and i % 2 == 0 and i + 1 < nx
        if across:
            _used(i + 1, fx, fy, fz, s, sums, beyond)
        pairs = apart = 0
        for j in range(ny):
            if across:
                more, parted = _count_pairs(here[j], beyond[j], fx[i, j])
                pairs, apart = pairs + more, apart + parted
            if factor[1] == 2 and j % 2 == 0 and j + 1 < ny:
                more, parted = _count_pairs(here[j], here[j + 1], fy[i, j])
                pairs, apart = pairs + more, apart + parted
            if factor[2] == 2:
                more, parted = _count_pairs(here[j, : nz - 1 : 2], here[j, 1::2], fz[i, j, : nz - 1 : 2])
                pairs, apart = pairs + more, apart + parted
        counts[i, 0], counts[i, 1] = pairs, apart


def parted_pairs(fx, fy, fz, s, factor, counts):
    for b in range(len(s)):
        _over_planes(_parted_pairs, s.shape[1], s[b].size, fx[b], fy[b], fz[b], s[b], factor, counts[b])


@njit(**LANES_JIT)
def _inverse_row(xs, behind, ys, left, zs, sinks, whole):
    """1 / D of a row, where the last face is the one before the first cell: 0 unless it wraps round."""
    nz = whole.size
    for k in range(uint64(nz)):
        whole[k] = sinks[k] + xs[k] + behind[k] + ys[k] + left[k] + zs[k]
    whole[0] += zs[nz - 1]
    after, zs = whole[1:], zs[: nz - 1]
    for k in range(uint64(nz - 1)):
        after[k] += zs[k]
    for k in range(uint64(nz)):
        total = whole[k]
        whole[k] = 1.0 / total if total > 0.0 else 0.0


@njit(**LANES_JIT)
def _split_pairs(row, wraps, inside, between):
    """What lies within a pair of cells, and what lies between two pairs or wraps round."""
    nz = row.size
    for m in range(uint64(inside.size)):
        inside[m] = between[m] = 0
    for m in range(uint64((nz + 1) // 2)):
        inside[m] = row[uint64(2) * m]
    after = between[1:]
    for m in range(uint64(min(nz // 2, after.size))):
        after[m] = row[uint64(2) * m + uint64(1)]
    if wraps:
        between[0] = row[nz - 1]


@njit(**LANES_JIT)
def _stencil_split(first, last, fx, fy, fz, s, wraps, d, sx, sy, sz, ss):
    whole = np.empty(s.shape[2])
    for i in range(first, last):
        for j in range(s.shape[1]):
            even, plane = (i + 1 + j) & 1, i + 1
            odd = 1 - even
            _inverse_row(fx[i, j], fx[i - 1, j], fy[i, j], fy[i, j - 1], fz[i, j], s[i, j], whole)
            _split_row(whole, d[even, plane, j], d[odd, plane, j])
            _split_row(fx[i, j], sx[even, plane, j], sx[odd, plane, j])
            _split_row(fy[i, j], sy[even, plane, j], sy[odd, plane, j])
            _split_pairs(fz[i, j], wraps, sz[0, plane, j], sz[1, plane, j])
            if ss is not None:
                _split_row(s[i, j], ss[even, plane, j], ss[odd, plane, j])


def stencil_split(fx, fy, fz, s, wrap, d, sx, sy, sz, ss):
    for part in (d, sx, sy, sz, ss):
        if part is not None:
            part[:, :, 0] = part[:, :, -1] = 0
    for b in range(len(s)):
        own = [None if part is None else part[b] for part in (d, sx, sy, sz, ss)]
        _over_planes(_stencil_split, s.shape[1], s[b].size, fx[b], fy[b], fz[b], s[b], wrap[2], *own)
