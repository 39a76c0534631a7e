"""Numba twins of contracts/gridcg.py: the passes of conjugate gradients on a grid, in float64 where they add up.

A thread marches through a slab of planes, as in cycle.py. The first pass keeps p in a ring, and computes it again in
the planes next to the slab; the second reads neighbours from the array.
"""

import numpy as np
from numba import njit, uint64

from ..contracts.linalg import verdict
from .lanes import LANES_JIT, SMALL_JIT, above, fill, only, sum_of
from .lanes import store as store_wide
from .lanes import times_plus as wide_times_plus
from .pool import over_blocks
from .singles import fill as single
from .singles import load, load_wide, narrow, store, times_plus
from .split import edges, plane_of, row_places, systems

_GRAIN = 100_000  # cells a thread is worth waking for


@njit(**SMALL_JIT)
def _sideways(row, m, h):
    """Steps to the z neighbour in the same row and to the one round the corner, and the place in `edges`."""
    return (-1, h - 1, m) if row[9] else (1, 1 - h, h + m)


@njit(**SMALL_JIT)
def _mask_sum(x, row, m, rim, h, w2):
    """The sum of the neighbours of eight cells."""
    own, left, right, behind, ahead = row[0], row[1], row[2], row[3], row[4]
    step, turn, edge = _sideways(row, m, h)
    inside = load_wide(rim, edge)
    total = load_wide(x, ahead + m) + load_wide(x, behind + m) + (load_wide(x, right + m) + load_wide(x, left + m))
    total = wide_times_plus(inside, load_wide(x, own + m + step), total + load_wide(x, own + m))
    return wide_times_plus(fill(1.0) - inside, load_wide(x, own + m + turn), total) if w2 else total


@njit(**SMALL_JIT)
def _flow(total, face, mine, other, squared):
    """total + f (p - p'), or with the square of that."""
    difference = mine - other
    return wide_times_plus(face * difference if squared else face, difference, total)


@njit(**SMALL_JIT)
def _flows(x, row, m, mine, fx, fy, fz, colour, half, rim, h, squared):
    """The sum of f (p - p') over the faces of eight cells whose p is `mine`, or of f (p - p')^2.

    No branches, which would send the sums through memory: where there is nothing, faces are 0.
    """
    own, left, right, behind, ahead, cell, cell_left, cell_behind, cell_right, even = row
    this, that = (half, 0) if colour else (0, half)
    step, turn, edge = _sideways(row, m, h)
    inside = load_wide(rim, edge)
    total = _flow(fill(0.0), load_wide(fx, this + cell + m), mine, load_wide(x, ahead + m), squared)
    total = _flow(total, load_wide(fx, that + cell_behind + m), mine, load_wide(x, behind + m), squared)
    total = _flow(total, load_wide(fy, this + cell_right + m), mine, load_wide(x, right + m), squared)
    total = _flow(total, load_wide(fy, that + cell_left + m), mine, load_wide(x, left + m), squared)
    total = _flow(total, load_wide(fz, cell + m), mine, load_wide(x, own + m), squared)
    at = half + cell + m + (0 if even else 1)
    total = _flow(total, inside * load_wide(fz, at), mine, load_wide(x, own + m + step), squared)
    outside = (fill(1.0) - inside) * load_wide(fz, at if even else at - h)
    return _flow(total, outside, mine, load_wide(x, own + m + turn), squared)


@njit(**SMALL_JIT)
def _energy(d, fx, fy, fz, k, g, shape, wrap, x, behind, own, ahead, other, rim):
    """p.Ap, as far as it is due to plane k: its cells, and the faces of its red ones.

    In x, red cells of planes k - 1, k, k + 1 start at `behind`, `own`, `ahead`, black ones `other` further on.
    """
    (planes, ny, h), (w0, w1, w2) = shape, wrap
    nx, half = planes - 2, planes * ny * h
    total = fill(0.0)
    for j in range(ny):
        row = row_places(k, j, 0, g, nx, ny, h, w0, w1, behind + other, own + other, ahead + other, 0)
        place, cell = own + j * h, row[5]
        for m in range(0, h, 8):
            red, black = load_wide(x, place + m), load_wide(x, place + other + m)
            total = wide_times_plus(load_wide(d, cell + m) * red, red, total)
            total = wide_times_plus(load_wide(d, half + cell + m) * black, black, total)
            if fx is None:
                total = wide_times_plus(fill(-2.0) * red, _mask_sum(x, row, m, rim, h, w2), total)
            else:
                total = total + _flows(x, row, m, red, fx, fy, fz, 0, half, rim, h, True)
    return sum_of(total)


@njit(**LANES_JIT)
def _direction(first, last, d, fx, fy, fz, wrap, shape, z, before, alpha, beta, x, p, work):
    """(1) for planes first + 1, ..., last; arrays flat but work (X,)."""
    planes, ny, h = shape
    nx, size = planes - 2, ny * h
    half = planes * size
    ring = np.zeros(8 * size + 3 * h + 8, np.float32)  # four planes of red, then four of black
    other = 4 * size + h
    rim = edges(h)
    scale, step = single(beta), fill(alpha)
    for i in range(first, last + 2):
        start, g = h + (i & 3) * size, plane_of(i, nx, wrap[0]) * size
        for colour in range(2):
            into, cells = start + colour * other, g + colour * half
            if g == 0:
                for n in range(0, size, 8):
                    store(ring, into + n, single(0.0))
            elif first < i <= last:
                for n in range(0, size, 8):
                    was = load(before, cells + n)
                    new = times_plus(scale, was, load(z, cells + n))
                    store(ring, into + n, new)
                    store(p, cells + n, new)
                    wide = wide_times_plus(step, load_wide(before, cells + n), load_wide(x, cells + n))
                    store_wide(x, cells + n, wide)
            else:
                for n in range(0, size, 8):
                    store(ring, into + n, times_plus(scale, load(before, cells + n), load(z, cells + n)))
        k = i - 1
        if k > first:
            behind, own, ahead = h + ((k - 1) & 3) * size, h + (k & 3) * size, h + ((k + 1) & 3) * size
            work[k] = _energy(d, fx, fy, fz, k, k, shape, wrap, ring, behind, own, ahead, other, rim)


@njit(**LANES_JIT)
def _plane_sums(work):
    total = 0.0
    for k in range(1, work.size - 1):
        total += work[k]
    return total


def _over_planes(body, shape, *args):
    planes = shape[0] - 2
    cells = 2 * planes * shape[1] * shape[2]
    over_blocks(body, planes, max(2, _GRAIN * planes // max(1, cells)) if _GRAIN > 1 else 1, *args)


def grid_direction(d, fx, fy, fz, wrap, z, before, alpha, rz, rz_old, x, p, pq, work):
    shape, own = x.shape[2:], systems(d, fx, fy, fz)
    for s in range(len(x)):
        with np.errstate(all="ignore"):
            beta = rz[s] / rz_old[s]
        beta = float(beta) if np.isfinite(beta) else 0.0
        _over_planes(_direction, shape, *own[s % len(own)], wrap, shape, z[s].reshape(-1), before[s].reshape(-1),
                     float(alpha[s]), beta, x[s].reshape(-1), p[s].reshape(-1), work[s, 0])  # fmt: skip
        pq[s] = _plane_sums(work[s, 0])


@njit(**LANES_JIT)
def _update(first, last, d, fx, fy, fz, wrap, shape, p, alpha, r, left, work):
    """(2) for planes first + 1, ..., last; arrays flat but work (X,)."""
    (planes, ny, h), (w0, w1, w2) = shape, wrap
    nx, size = planes - 2, ny * h
    half = planes * size
    rim = edges(h)
    step = fill(-alpha)
    for k in range(first + 1, last + 1):
        behind, ahead = plane_of(k - 1, nx, w0) * size, plane_of(k + 1, nx, w0) * size
        squares = fill(0.0)
        for j in range(ny):
            for colour in range(2):
                this, that = (half, 0) if colour else (0, half)
                row = row_places(k, j, colour, k, nx, ny, h, w0, w1, that + behind, that + k * size, that + ahead, 0)
                cell = this + row[5]
                for m in range(0, h, 8):
                    mine, diagonal = load_wide(p, cell + m), load_wide(d, cell + m)
                    if fx is None:
                        product = only(above(diagonal, fill(0.0)), diagonal * mine - _mask_sum(p, row, m, rim, h, w2))
                    else:
                        product = _flows(p, row, m, mine, fx, fy, fz, colour, half, rim, h, False)
                        product = wide_times_plus(diagonal, mine, product)
                    new = wide_times_plus(step, product, load_wide(r, cell + m))
                    store_wide(r, cell + m, new)
                    store(left, cell + m, narrow(new))
                    squares = wide_times_plus(new, new, squares)
        work[k] = sum_of(squares)


def grid_update(d, fx, fy, fz, wrap, p, rz, pq, rr_old, tol2, r, single, alpha, rr, work):
    shape, own = r.shape[2:], systems(d, fx, fy, fz)
    for s in range(len(r)):
        stop = verdict(rr_old[s], rz[s], pq[s], tol2[s])
        if stop is not None:
            alpha[s], rr[s] = 0.0, stop
            continue
        alpha[s] = rz[s] / pq[s]
        _over_planes(_update, shape, *own[s % len(own)], wrap, shape, p[s].reshape(-1), float(alpha[s]),
                     r[s].reshape(-1), single[s].reshape(-1), work[s, 0])  # fmt: skip
        rr[s] = _plane_sums(work[s, 0])


# ---- between a caller's order and that of colours -------------------------------------------------------------------


@njit(**LANES_JIT)
def _take(first, last, a, factor, r, left):
    count = a.shape[2]
    for i in range(first, last):
        for j in range(a.shape[1]):
            colour, row = (i + 1 + j) & 1, a[i, j]
            for parity in range(2):
                out, single = r[colour ^ parity, i + 1, j], left[colour ^ parity, i + 1, j]
                cells = (count + 1 - parity) // 2
                for m in range(uint64(cells)):
                    value = factor * row[uint64(2) * m + uint64(parity)]
                    out[m] = value
                    single[m] = value
                for m in range(cells, out.size):
                    out[m] = 0.0
                    single[m] = 0.0


def grid_take(a, factor, r, single):
    for s in range(len(a)):
        _over_planes(_take, r.shape[2:], a[s], float(factor[s]), r[s], single[s])


@njit(**LANES_JIT)
def _give(first, last, x, p, alpha, factor, a):
    count = a.shape[2]
    for i in range(first, last):
        for j in range(a.shape[1]):
            colour, row = (i + 1 + j) & 1, a[i, j]
            for parity in range(2):
                xs, ps = x[colour ^ parity, i + 1, j], p[colour ^ parity, i + 1, j]
                for m in range(uint64((count + 1 - parity) // 2)):
                    row[uint64(2) * m + uint64(parity)] = factor * (xs[m] + alpha * ps[m])


def grid_give(x, p, alpha, factor, a):
    for s in range(len(a)):
        _over_planes(_give, x.shape[2:], x[s], p[s], float(alpha[s]), float(factor[s]), a[s])
