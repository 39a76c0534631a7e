"""Numba twins of contracts/aggregation.py.

A sweep over one colour of a line is done over the whole line, with weight 0 on the other colour: that vectorises. Rows
of one colour of a sparse level have no couplings among themselves, so threads may share them.
"""

import itertools

import numpy as np
from numba import njit, uint64

from ..contracts.aggregation import AGAIN, DOWN, FINISH, UP
from .pool import JIT, over_blocks

_CELLS, _ROWS = 4096, 1024  # of a block
_GRAIN = 4  # blocks a thread is worth waking for


# ---- the grid -------------------------------------------------------------------------------------------------------


@njit(**JIT)
def _around(cz, cy, cx, u, z, y, out):
    """out = the sum of c_f u_j over the faces of each cell of a line; arrays (nz, ny, nx)."""
    nz, ny, nx = u.shape
    y0, y1 = (y if y else ny) - 1, y + 1 if y < ny - 1 else 0
    x, c = u[z, y], cx[z, y]
    out[0] = c[nx - 1] * x[nx - 1]
    left, before, right = x[: nx - 1], c[: nx - 1], out[1:]
    for i in range(nx - 1):
        right[i] = before[i] * left[i]
    left, right = out[: nx - 1], x[1:]
    for i in range(nx - 1):
        left[i] += before[i] * right[i]
    out[nx - 1] += c[nx - 1] * x[0]
    a, ca, b, cb = u[z, y0], cy[z, y0], u[z, y1], cy[z, y]
    for i in range(nx):
        out[i] += ca[i] * a[i] + cb[i] * b[i]
    if nz > 1:
        z0, z1 = (z if z else nz) - 1, z + 1 if z < nz - 1 else 0
        a, ca, b, cb = u[z0, y], cz[z0, y], u[z1, y], cz[z, y]
        for i in range(nx):
            out[i] += ca[i] * a[i] + cb[i] * b[i]


@njit(**JIT)
def _colour_sweep(first, last, cz, cy, cx, dinv, colour, weight, r, x, lines_a_block):
    nz, ny, nx = x.shape[1:]
    around, weights = np.empty(nx, x.dtype), np.zeros((2, nx + 1), x.dtype)
    weights[0, ::2], weights[1, 1::2] = weight, weight
    for number in range(first * lines_a_block, min(last * lines_a_block, x.shape[0] * nz * ny)):
        s, z, y = number // (nz * ny), number // ny % nz, number % ny
        _around(cz[s] if nz > 1 else cz[0], cy[s], cx[s], x[s], z, y, around)
        d, right, out, mine = dinv[s, z, y], r[s, z, y], x[s, z, y], weights[(z + y + colour) % 2]
        for i in range(nx):
            value = out[i] + mine[i] * (d[i] * (right[i] + around[i]) - out[i])
            out[i] = value if mine[i] > 0 and d[i] > 0 else out[i]  # to the bit: others may be looking at it


def _over_lines(body, x, *args):
    lines = max(1, _CELLS // x.shape[3])
    over_blocks(body, -(-x.shape[0] * x.shape[1] * x.shape[2] // lines), _GRAIN, *args, lines)


def colour_sweep(cz, cy, cx, dinv, colour, weight, r, x):
    _over_lines(_colour_sweep, x, cz, cy, cx, dinv, colour, weight, r, x)


@njit(**JIT)
def _stencil_residual(first, last, cz, cy, cx, diag, x, r, t, lines_a_block):
    nz, ny, nx = x.shape[1:]
    around = np.empty(nx, x.dtype)
    for number in range(first * lines_a_block, min(last * lines_a_block, x.shape[0] * nz * ny)):
        s, z, y = number // (nz * ny), number // ny % nz, number % ny
        _around(cz[s] if nz > 1 else cz[0], cy[s], cx[s], x[s], z, y, around)
        d, right, u, out = diag[s, z, y], r[s, z, y], x[s, z, y], t[s, z, y]
        for i in range(nx):
            out[i] = right[i] + around[i] - d[i] * u[i]


def stencil_residual(cz, cy, cx, diag, x, r, t):
    _over_lines(_stencil_residual, x, cz, cy, cx, diag, x, r, t)


# ---- between levels -------------------------------------------------------------------------------------------------


@njit(**JIT)
def _sum_rows(low, high, starts, members, v, out):
    for a in range(low, high):
        total = 0.0
        for m in range(uint64(starts[a]), uint64(starts[a + 1])):
            total += np.float64(v[uint64(members[m])])
        out[a] = total


@njit(**JIT)
def _sum_members(first, last, starts, members, v, out):
    _sum_rows(first * _ROWS, min(last * _ROWS, out.size), starts, members, v, out)


def sum_members(starts, members, v, out):
    over_blocks(_sum_members, -(-out.size // _ROWS), _GRAIN, starts, members, v, out)


@njit(**JIT)
def _add_rows(low, high, aggregate, e, x):
    for i in range(low, high):
        a = aggregate[i]
        if a >= 0:
            x[i] += e[uint64(a)]


@njit(**JIT)
def _add_aggregates(first, last, aggregate, e, x):
    _add_rows(first * _ROWS, min(last * _ROWS, x.size), aggregate, e, x)


def add_aggregates(aggregate, e, x):
    over_blocks(_add_aggregates, -(-x.size // _ROWS), _GRAIN, aggregate, e, x)


# ---- sparse levels --------------------------------------------------------------------------------------------------


@njit(**JIT)
def _sweep_rows(low, high, indptr, indices, weights, dinv, r, x):
    k = uint64(indptr[low]) if low < high else uint64(0)
    for i in range(low, high):
        end, total = uint64(indptr[i + 1]), r[i]
        while k < end:
            total += weights[k] * x[uint64(indices[k])]
            k += uint64(1)
        x[i] = dinv[i] * total


@njit(**JIT)
def _sweep_colour(first, last, low, high, indptr, indices, weights, dinv, r, x):
    _sweep_rows(low + first * _ROWS, min(low + last * _ROWS, high), indptr, indices, weights, dinv, r, x)


def sparse_up(indptr, indices, weights, dinv, bounds, r, x):
    for low, high in reversed(list(itertools.pairwise(bounds.tolist()))):
        over_blocks(_sweep_colour, -(-(high - low) // _ROWS), _GRAIN, low, high, indptr, indices, weights, dinv, r, x)


@njit(**JIT)
def _down_rows(low, high, indptr, middle, indices, weights, dinv, r, x):
    for i in range(low, high):
        total = r[i]
        for k in range(uint64(indptr[i]), uint64(middle[i])):
            total += weights[k] * x[uint64(indices[k])]
        x[i] = dinv[i] * total


@njit(**JIT)
def _above_rows(low, high, indptr, middle, indices, weights, x, t):
    for i in range(low, high):
        total = x[i] * 0
        for k in range(uint64(middle[i]), uint64(indptr[i + 1])):
            total += weights[k] * x[uint64(indices[k])]
        t[i] = total


@njit(**JIT)
def _down_colour(first, last, low, high, indptr, middle, indices, weights, dinv, r, x):
    _down_rows(low + first * _ROWS, min(low + last * _ROWS, high), indptr, middle, indices, weights, dinv, r, x)


@njit(**JIT)
def _above(first, last, indptr, middle, indices, weights, x, t):
    _above_rows(first * _ROWS, min(last * _ROWS, x.size), indptr, middle, indices, weights, x, t)


def sparse_down(indptr, middle, indices, weights, dinv, bounds, r, x, t):
    matrix = (indptr, middle, indices, weights)
    for low, high in itertools.pairwise(bounds.tolist()):
        over_blocks(_down_colour, -(-(high - low) // _ROWS), _GRAIN, low, high, *matrix, dinv, r, x)
    over_blocks(_above, -(-x.size // _ROWS), _GRAIN, *matrix, x, t)


@njit(**JIT)
def _residual_rows(low, high, indptr, indices, weights, diag, x, r, t):
    k = uint64(indptr[low]) if low < high else uint64(0)
    for i in range(low, high):
        end, total = uint64(indptr[i + 1]), r[i] - diag[i] * x[i]
        while k < end:
            total += weights[k] * x[uint64(indices[k])]
            k += uint64(1)
        t[i] = total


@njit(**JIT)
def _sparse_residual(first, last, indptr, indices, weights, diag, x, r, t):
    _residual_rows(first * _ROWS, min(last * _ROWS, x.size), indptr, indices, weights, diag, x, r, t)


def sparse_residual(indptr, indices, weights, diag, x, r, t):
    over_blocks(_sparse_residual, -(-x.size // _ROWS), _GRAIN, indptr, indices, weights, diag, x, r, t)


# ---- small levels, all in one ---------------------------------------------------------------------------------------


@njit(**JIT)
def _dense_rows(inverse, r, x):
    for i in range(x.size):
        row, total = inverse[i], 0.0
        for j in range(r.size):
            total += np.float64(row[j]) * np.float64(r[j])
        x[i] = total


@njit(**JIT)
def _coarse_cycle(program, first, indptr, middle, indices, weights, diag, dinv, colours, bounds, starts, members,
                  aggregate, inverse, once, twice, x, r, y, t):  # fmt: skip
    for step in range(program.shape[0]):
        what, level = program[step]
        low, high = first[level], first[level + 1]
        if what == DOWN:
            for c in range(colours[level], colours[level + 1] - 1):
                _down_rows(bounds[c], bounds[c + 1], indptr, middle, indices, weights, dinv, r, x)
            _above_rows(low, high, indptr, middle, indices, weights, x, t)
            _sum_rows(high, first[level + 2], starts, members, t, r)
        elif what == UP:
            _add_rows(low, high, aggregate, x, x)
            for c in range(colours[level + 1] - 2, colours[level] - 1, -1):
                _sweep_rows(bounds[c], bounds[c + 1], indptr, indices, weights, dinv, r, x)
        elif what == AGAIN:
            _residual_rows(low, high, indptr, indices, weights, diag, x, r, r)
            y[low:high] = x[low:high]
        elif what == FINISH:
            for i in range(low, high):
                x[i] = once * y[i] + twice * x[i]
        else:
            _dense_rows(inverse, r[low:high], x[low:high])


def coarse_cycle(program, first, indptr, middle, indices, weights, diag, dinv, colours, bounds, starts, members,
                 aggregate, inverse, once, twice, x, r, y, t):  # fmt: skip
    _coarse_cycle(program, first, indptr, middle, indices, weights, diag, dinv, colours, bounds, starts, members,
                  aggregate, inverse, once, twice, x, r, y, t)  # fmt: skip
