"""Numba twins of contracts/cycle.py: the cycle.

A thread marches through a slab of planes, a plane a step, and keeps what the next planes need in rings of a few planes,
which stay in cache: so each array is read and written once on the way down and once on the way up. What a slab needs of
its neighbours is computed again, not waited for, so a plane comes out the same whoever computes it. A ring has a row
of zeros in front, which is what cells at the rim have for a neighbour.
"""

import numpy as np
from numba import njit

from ..contracts.cycle import CODES
from .lanes import LANES_JIT, SMALL_JIT, sum_of
from .pool import over_blocks
from .singles import evens, fill, load, mixed_high, mixed_low, odds, store, times_plus, where_positive, widen
from .split import edges, plane_of, row_places, systems

_GRAIN = 100_000  # cells a thread is worth waking for


# ---- rings and rows --------------------------------------------------------------------------------------------------


@njit(**SMALL_JIT)
def _ring(planes, size, h):
    return np.zeros(planes * size + 2 * h + 8, np.float32)


@njit(**SMALL_JIT)
def _clear(ring, start, size):
    for n in range(start, start + size, 8):
        store(ring, n, fill(0.0))


@njit(**SMALL_JIT)
def _fine_planes(first, last, nx, f0):
    """The fine planes of the coarse planes first + 1, ..., last."""
    return f0 * first + 1, min(f0 * last, nx)


@njit(**SMALL_JIT)
def _coarse_row(plane, j, f0, f1):
    """(coarse plane, coarse row) of a fine row."""
    return (plane + f0 - 1) // f0, j // f1


# ---- n(x) of a row --------------------------------------------------------------------------------------------------


@njit(**SMALL_JIT)
def _row(k, j, colour, g, nx, ny, h, w0, w1):
    """What n(x) needs to know of row j of plane k, of one colour: `row_places` with x in a ring of four planes."""
    size = ny * h
    behind, own, ahead = h + ((k - 1) & 3) * size, h + (k & 3) * size, h + ((k + 1) & 3) * size
    return row_places(k, j, colour, g, nx, ny, h, w0, w1, behind, own, ahead, 0)


@njit(**SMALL_JIT)
def _neighbours(total, x, row, m, fx, fy, fz, colour, half, h, rim, w2):
    """total + n(x) for eight cells of a row; `half` is where the other colour starts in the faces."""
    own, left, right, behind, ahead, cell, cell_left, cell_behind, _, even = row
    step, turn, edge = (-1, h - 1, m) if even else (1, 1 - h, h + m)
    if fx is None:
        total = total + (load(x, ahead + m) + load(x, behind + m)) + (load(x, right + m) + load(x, left + m))
        total = total + load(x, own + m)
        inside = load(rim, edge)
        total = times_plus(inside, load(x, own + m + step), total)
        if w2:
            total = times_plus(fill(1.0) - inside, load(x, own + m + turn), total)
        return total
    mine, other = (half, 0) if colour else (0, half)
    total = times_plus(load(fx, mine + cell + m), load(x, ahead + m), total)
    total = times_plus(load(fx, other + cell_behind + m), load(x, behind + m), total)
    total = times_plus(load(fy, mine + cell + m), load(x, right + m), total)
    total = times_plus(load(fy, other + cell_left + m), load(x, left + m), total)
    total = times_plus(load(fz, cell + m), load(x, own + m), total)
    at = half + cell + m + (0 if even else 1)
    if w2:
        inside = load(rim, edge)
        total = times_plus(inside * load(fz, at), load(x, own + m + step), total)
        at = at if even else at - h
        return times_plus((fill(1.0) - inside) * load(fz, at), load(x, own + m + turn), total)
    return times_plus(load(fz, at), load(x, own + m + step), total)


# ---- down -----------------------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _down(first, last, r, d, fx, fy, fz, red, black, factor, wrap, shape, coarse, xb, rc):
    """(2), (3) for the coarse planes first + 1, ..., last; all arrays flat."""
    (planes, ny, h), (coarse_planes, coarse_ny, coarse_h) = shape, coarse
    (f0, f1, f2), (w0, w1, w2) = factor, wrap
    nx, size = planes - 2, ny * h
    half, coarse_half = planes * size, coarse_planes * coarse_ny * coarse_h
    low, high = _fine_planes(first, last, nx, f0)
    x_red, x_black, t_black = _ring(4, size, h), _ring(4, size, h), _ring(2, size, h)
    sums = np.zeros(coarse_ny * 2 * coarse_h, np.float32)
    rim = edges(h)
    scale = 1.0 / CODES if fx is None else 1.0
    w_red, rest_red, w_black, rest_black = fill(red * scale), fill(1.0 - red), fill(black * scale), fill(1.0 - black)
    for i in range(low - 2, high + 3):
        start, g = h + (i & 3) * size, plane_of(i, nx, w0) * size
        if g:
            for n in range(0, size, 8):
                store(x_red, start + n, w_red * load(d, g + n) * load(r, g + n))
        else:
            _clear(x_red, start, size)

        k = i - 1
        g = plane_of(k, nx, w0)
        if k >= low - 1 and g == 0:
            _clear(x_black, h + (k & 3) * size, size)
        elif k >= low - 1:
            for j in range(ny):
                row = _row(k, j, 1, g, nx, ny, h, w0, w1)
                own, cell, kept = row[0], row[5], (k & 1) * size + j * h
                mine = low <= k <= high
                for m in range(0, h, 8):
                    t = _neighbours(load(r, half + cell + m), x_red, row, m, fx, fy, fz, 1, half, h, rim, w2)
                    inverse = load(d, half + cell + m)
                    x = w_black * inverse * t
                    store(x_black, own + m, x)
                    if mine:
                        store(xb, cell + m, x)
                        store(t_black, kept + m, where_positive(inverse, rest_black * t))

        k = i - 2
        if k >= low:
            for j in range(ny):
                row = _row(k, j, 0, k, nx, ny, h, w0, w1)
                cell, kept = row[5], (k & 1) * size + j * h
                plane, coarse_row = _coarse_row(k, j, f0, f1)
                place = coarse_row * 2 * coarse_h
                # where axis 2 is not coarsened, the halves of a row are its colours
                other = 0 if f2 == 2 else ((plane + coarse_row + k + j) & 1) * coarse_h
                red_to, black_to = place + other, place if f2 == 2 else place + coarse_h - other
                for m in range(0, h, 8):
                    left = _neighbours(rest_red * load(r, cell + m), x_black, row, m, fx, fy, fz, 0, half, h, rim, w2)
                    left = where_positive(load(d, cell + m), left)
                    store(sums, red_to + m, load(sums, red_to + m) + left)
                    store(sums, black_to + m, load(sums, black_to + m) + load(t_black, kept + m))
            if k % f0 == 0 or k == high:
                _write_coarse(sums, rc, (k + f0 - 1) // f0, coarse_ny, coarse_h, coarse_half, f2)


@njit(**SMALL_JIT)
def _write_coarse(sums, rc, plane, ny, h, half, f2):
    """The sums of a coarse plane by colours; they are 0 afterwards."""
    for j in range(ny):
        place, row = j * 2 * h, (plane * ny + j) * h
        even, odd = (half + row, row) if (plane + j) & 1 else (row, half + row)
        if f2 == 1:
            even, odd = row, half + row
        for m in range(0, h, 8):
            if f2 == 2:
                a, b = load(sums, place + 2 * m), load(sums, place + 2 * m + 8)
                store(rc, even + m, evens(a, b))
                store(rc, odd + m, odds(a, b))
            else:
                store(rc, even + m, load(sums, place + m))
                store(rc, odd + m, load(sums, place + h + m))
    _clear(sums, 0, ny * 2 * h)


def _grain(coarse_planes, cells):
    return max(2, _GRAIN * coarse_planes // max(1, cells)) if _GRAIN > 1 else 1


def cycle_down(r, d, fx, fy, fz, red, black, factor, wrap, xb, rc):
    shape, coarse, own = r.shape[2:], rc.shape[2:], systems(d, fx, fy, fz)
    grain = _grain(coarse[0], r[0].size)
    for s in range(len(r)):
        over_blocks(_down, coarse[0] - 2, grain, r[s].reshape(-1), *own[s % len(own)], float(red), float(black),
                    factor, wrap, shape, coarse, xb[s].reshape(-1), rc[s].reshape(-1))  # fmt: skip


# ---- up -------------------------------------------------------------------------------------------------------------


@njit(**SMALL_JIT)
def _read_coarse(ec, values, start, plane, ny, h, half, f2):
    """The correction of a coarse plane, row by row as the fine cells see it."""
    for j in range(ny):
        place, row = start + j * 2 * h, (plane * ny + j) * h
        even, odd = (half + row, row) if (plane + j) & 1 else (row, half + row)
        if f2 == 1:
            even, odd = row, half + row
        for m in range(0, h, 8):
            a, b = load(ec, even + m), load(ec, odd + m)
            if f2 == 2:
                store(values, place + 2 * m, mixed_low(a, b))
                store(values, place + 2 * m + 8, mixed_high(a, b))
            else:
                store(values, place + m, a)
                store(values, place + h + m, b)


@njit(**SMALL_JIT)
def _correction(k, g, j, colour, coarse_ny, coarse_h, f0, f1, f2):
    """Where in the values of `_read_coarse` those for row j of plane k, in the array g, are, of one colour."""
    plane, row = _coarse_row(k, j, f0, f1)
    place = (plane & 1) * coarse_ny * 2 * coarse_h + row * 2 * coarse_h
    plane, _ = _coarse_row(g, j, f0, f1)
    return place if f2 == 2 else place + ((plane + row + g + j + colour) & 1) * coarse_h


@njit(**LANES_JIT)
def _up(first, last, r, d, fx, fy, fz, red, black, factor, wrap, settle, shape, coarse, xb, ec, z, work):
    """(4), (5) and, if asked to `settle`, (6), for the coarse planes first + 1, ..., last; work (2, X)."""
    (planes, ny, h), (coarse_planes, coarse_ny, coarse_h) = shape, coarse
    (f0, f1, f2), (w0, w1, w2) = factor, wrap
    nx, size = planes - 2, ny * h
    half, coarse_half = planes * size, coarse_planes * coarse_ny * coarse_h
    low, high = _fine_planes(first, last, nx, f0)
    reach = 1 if settle else 0  # planes further on either side
    x_red, z_black, z_red = _ring(4, size, h), _ring(4, size, h), _ring(4 * reach, size, h)
    values = np.zeros(2 * coarse_ny * 2 * coarse_h, np.float32)
    rim = edges(h)
    scale = 1.0 / CODES if fx is None else 1.0
    w_red, rest_red, w_black, rest_black = fill(red * scale), fill(1.0 - red), fill(black * scale), fill(1.0 - black)
    there, share = -9, fill(scale)  # no plane
    for i in range(low - 2 - reach, high + 3 + reach):
        g = plane_of(i, nx, w0)
        if g:
            plane, _ = _coarse_row(i, 0, f0, f1)
            if plane != there:
                there = plane
                start, (plane, _) = (plane & 1) * coarse_ny * 2 * coarse_h, _coarse_row(g, 0, f0, f1)
                _read_coarse(ec, values, start, plane, coarse_ny, coarse_h, coarse_half, f2)
            for j in range(ny):
                own, cell = h + (i & 3) * size + j * h, g * size + j * h
                place = _correction(i, g, j, 0, coarse_ny, coarse_h, f0, f1, f2)
                for m in range(0, h, 8):
                    inverse = load(d, cell + m)
                    e = where_positive(inverse, load(values, place + m))
                    store(x_red, own + m, times_plus(w_red * inverse, load(r, cell + m), e))
        else:
            _clear(x_red, h + (i & 3) * size, size)

        k = i - 1
        g = plane_of(k, nx, w0)
        if k >= low - 1 - reach and g == 0:
            _clear(z_black, h + (k & 3) * size, size)
        elif k >= low - 1 - reach:
            mine, total = low <= k <= high and not settle, 0.0
            for j in range(ny):
                row = _row(k, j, 1, g, nx, ny, h, w0, w1)
                own, cell = row[0], row[5]
                place = _correction(k, g, j, 1, coarse_ny, coarse_h, f0, f1, f2)
                products = fill(0.0)
                for m in range(0, h, 8):
                    given = load(r, half + cell + m)
                    t = _neighbours(given, x_red, row, m, fx, fy, fz, 1, half, h, rim, w2)
                    inverse = load(d, half + cell + m)
                    x = load(xb, cell + m) + where_positive(inverse, load(values, place + m))
                    x = times_plus(w_black * inverse, t, rest_black * x)
                    store(z_black, own + m, x)
                    if mine:
                        store(z, half + cell + m, x)
                        products = times_plus(x, given, products)
                total += sum_of(widen(products))
            if mine:
                work[1, k] = total

        k = i - 2
        g = plane_of(k, nx, w0)
        if k >= low - reach and g == 0:
            _clear(z_red, h + (k & 3) * size, size)
        elif k >= low - reach:
            mine, total = low <= k <= high, 0.0
            for j in range(ny):
                row = _row(k, j, 0, g, nx, ny, h, w0, w1)
                own, cell = row[0], row[5]
                products = fill(0.0)
                for m in range(0, h, 8):
                    given = load(r, cell + m)
                    t = _neighbours(given, z_black, row, m, fx, fy, fz, 0, half, h, rim, w2)
                    x = times_plus(w_red * load(d, cell + m), t, rest_red * load(x_red, own + m))
                    if settle:
                        store(z_red, own + m, x)
                    if mine:
                        store(z, cell + m, x)
                        products = times_plus(x, given, products)
                total += sum_of(widen(products))
            if mine:
                work[0, k] = total

        k = i - 3
        if settle and k >= low:
            total = 0.0
            for j in range(ny):
                row = _row(k, j, 1, k, nx, ny, h, w0, w1)
                cell, products = half + row[5], fill(0.0)
                for m in range(0, h, 8):
                    given = load(r, cell + m)
                    x = share * load(d, cell + m) * _neighbours(given, z_red, row, m, fx, fy, fz, 1, half, h, rim, w2)
                    store(z, cell + m, x)
                    products = times_plus(x, given, products)
                total += sum_of(widen(products))
            work[1, k] = total


@njit(**LANES_JIT)
def _plane_sums(work):
    total = 0.0
    for k in range(1, work.shape[1] - 1):
        total += work[0, k] + work[1, k]
    return total


def cycle_up(r, d, fx, fy, fz, red, black, factor, wrap, settle, xb, ec, z, rz, work):
    shape, coarse, own = r.shape[2:], ec.shape[2:], systems(d, fx, fy, fz)
    grain = _grain(coarse[0], r[0].size)
    for s in range(len(r)):
        over_blocks(_up, coarse[0] - 2, grain, r[s].reshape(-1), *own[s % len(own)], float(red), float(black),
                    factor, wrap, bool(settle), shape, coarse, xb[s].reshape(-1), ec[s].reshape(-1),
                    z[s].reshape(-1), work[s])  # fmt: skip
        rz[s] = _plane_sums(work[s])


# ---- small levels together ------------------------------------------------------------------------------------------


@njit(**LANES_JIT)
def _triple(row, at):
    return np.int64(row[at]), np.int64(row[at + 1]), np.int64(row[at + 2])


@njit(**LANES_JIT)
def _small(r, z, levels, weights, stencil, inverse, cells, room):
    """`cycle_small` of one system: all levels down, the bottom, all levels up. r and z are those of the finest."""
    depth = len(levels) - 1
    work = np.empty((2, levels[0, 0]))
    for down in range(2 * depth + 1):
        l = min(down, 2 * depth - down)
        shape = _triple(levels[l], 0)
        size = 2 * shape[0] * shape[1] * shape[2]
        at = levels[l, 10]
        rl, zl = (r, z) if l == 0 else (room[at : at + size], room[at + size : at + 2 * size])
        if l == depth:
            for a in range(len(cells)):
                total = np.float32(0)
                row = inverse[a]
                for b in range(len(cells)):
                    total += row[b] * rl[cells[b]]
                zl[cells[a]] = total
            continue
        factor, wrap, coarse = _triple(levels[l], 3), _triple(levels[l], 6), _triple(levels[l + 1], 0)
        coarse_size, below = 2 * coarse[0] * coarse[1] * coarse[2], levels[l + 1, 10]
        xb = room[at + 2 * size : at + 2 * size + size // 2]
        s = levels[l, 9]
        d, fx = stencil[s : s + size], stencil[s + size : s + 2 * size]
        fy, fz = stencil[s + 2 * size : s + 3 * size], stencil[s + 3 * size : s + 4 * size]
        red, black = np.float64(weights[l, 0]), np.float64(weights[l, 1])
        first, last = np.int64(0), coarse[0] - 2  # a literal 0 would be a signature of its own
        if down < depth:
            rc = room[below : below + coarse_size]
            _down(first, last, rl, d, fx, fy, fz, red, black, factor, wrap, shape, coarse, xb, rc)
        else:
            ec = room[below + coarse_size : below + 2 * coarse_size]
            _up(first, last, rl, d, fx, fy, fz, red, black, factor, wrap, False, shape, coarse, xb, ec, zl, work)


def cycle_small(r, z, levels, weights, stencil, inverse, cells, room):
    for s in range(len(r)):
        z[s, :, 1:-1] = 0
        _small(r[s].reshape(-1), z[s].reshape(-1), levels, weights, stencil[s % len(stencil)],
               inverse[s % len(inverse)], cells, room[s])  # fmt: skip
