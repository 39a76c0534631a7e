"""Numba twins of contracts/grid.py, but for the residuals, which are in gridresidual.py.

A block is a range of lines along x, so many that the blocks are as many as partial sums. What lies beyond a border is
a line of zeros, and the two ends of a line are done by themselves: the loop between them has no branches.
"""

import numpy as np
from numba import njit, uint64

from .linalg import _total
from .pool import JIT, over_blocks

_GRAIN = 30  # blocks a thread is worth waking for: about 60,000 cells


def over_lines(body, batch, blocks, *args):
    over_blocks(body, blocks, max(1, _GRAIN // max(1, batch)), *args)


@njit(**JIT)
def line_at(u, z, y, wraps, zero):
    """A line of u (nz, ny, nx), which may lie one step beyond a border."""
    nz, ny = u.shape[0], u.shape[1]
    if z < 0 or z >= nz:
        if not wraps & 4:
            return zero
        z = z % nz
    if y < 0 or y >= ny:
        if not wraps & 2:
            return zero
        y = y % ny
    return u[z, y]


# ---- products -------------------------------------------------------------------------------------------------------


@njit(**JIT)
def _open_line(count, scale, wraps, x, y0, y1, z0, z1, out):
    """out = A x on one line; returns x.out."""
    n = x.size
    total = 0.0
    last = n - 1
    for i in range(0, n, max(1, last)):  # the ends
        before = np.float64(x[i - 1]) if i > 0 else (np.float64(x[last]) if wraps & 1 else 0.0)
        after = np.float64(x[i + 1]) if i < last else (np.float64(x[0]) if wraps & 1 else 0.0)
        around = before + after + np.float64(y0[i]) + np.float64(y1[i]) + np.float64(z0[i]) + np.float64(z1[i])
        out[i] = scale * (count[i] * np.float64(x[i]) - around) if count[i] else 0.0
        total += np.float64(x[i]) * np.float64(out[i])
    left, mid, right, c, o = x[: n - 2], x[1 : n - 1], x[2:], count[1 : n - 1], out[1 : n - 1]
    y0, y1, z0, z1 = y0[1 : n - 1], y1[1 : n - 1], z0[1 : n - 1], z1[1 : n - 1]
    for i in range(mid.size):
        around = np.float64(left[i]) + np.float64(right[i]) + np.float64(y0[i]) + np.float64(y1[i])
        around += np.float64(z0[i]) + np.float64(z1[i])
        value = scale * (np.float64(c[i]) * np.float64(mid[i]) - around)
        o[i] = value if c[i] > 0 else 0.0
        total += np.float64(mid[i]) * np.float64(o[i])
    return total


@njit(**JIT)
def _open_matvec_dot(first, last, open_faces, scale, wraps, p, q, work):
    ny = p.shape[2]
    lines, blocks = p.shape[1] * ny, work.shape[2]
    zero = np.zeros(p.shape[3], p.dtype)
    for b in range(first, last):
        for s in range(p.shape[0]):
            count, u = open_faces[s % open_faces.shape[0]], p[s]
            total = 0.0
            for line in range(b * lines // blocks, (b + 1) * lines // blocks):
                z, y = line // ny, line % ny
                total += _open_line(count[z, y], scale, wraps, u[z, y], line_at(u, z, y - 1, wraps, zero),
                                    line_at(u, z, y + 1, wraps, zero), line_at(u, z - 1, y, wraps, zero),
                                    line_at(u, z + 1, y, wraps, zero), q[s, z, y])  # fmt: skip
            work[s, 0, b] = total


def open_matvec_dot(open_faces, scale, wraps, p, q, pq, work):
    over_lines(_open_matvec_dot, len(p), work.shape[2], open_faces, scale, wraps, p, q, work)
    _total(work, 0, pq)


@njit(**JIT)
def _flat_line(d, c, x, y0, cy0, y1, cy1, out):
    """out = A x on one line, without what couples planes; `x[i - 1]` is the last one for i = 0, where c is zero."""
    n = x.size
    last = n - 1
    for i in range(0, n, max(1, last)):
        before, after = i - 1 if i > 0 else last, i + 1 if i < last else 0
        value = np.float64(d[i]) * np.float64(x[i])
        value -= np.float64(c[before]) * np.float64(x[before]) + np.float64(c[i]) * np.float64(x[after])
        value -= np.float64(cy0[i]) * np.float64(y0[i]) + np.float64(cy1[i]) * np.float64(y1[i])
        out[i] = value
    left, mid, right, c0, c1 = x[: n - 2], x[1 : n - 1], x[2:], c[: n - 2], c[1 : n - 1]
    d, o, y0, y1, cy0, cy1 = d[1 : n - 1], out[1 : n - 1], y0[1 : n - 1], y1[1 : n - 1], cy0[1 : n - 1], cy1[1 : n - 1]
    for i in range(mid.size):
        value = np.float64(d[i]) * np.float64(mid[i])
        value -= np.float64(c0[i]) * np.float64(left[i]) + np.float64(c1[i]) * np.float64(right[i])
        value -= np.float64(cy0[i]) * np.float64(y0[i]) + np.float64(cy1[i]) * np.float64(y1[i])
        o[i] = value


@njit(**JIT)
def _add_planes(x, z0, cz0, z1, cz1, out):
    for i in range(x.size):
        out[i] -= np.float64(cz0[i]) * np.float64(z0[i]) + np.float64(cz1[i]) * np.float64(z1[i])


@njit(**JIT)
def _line_dot(x, y):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@njit(**JIT)
def _faces_matvec_dot(first, last, cz, cy, cx, diag, p, q, work):
    nz, ny = p.shape[1], p.shape[2]
    lines, blocks = nz * ny, work.shape[2]
    buffer = np.empty(p.shape[3])
    for b in range(first, last):
        for s in range(p.shape[0]):
            u, stack = p[s], s % diag.shape[0]
            total = 0.0
            for line in range(b * lines // blocks, (b + 1) * lines // blocks):
                z, y = line // ny, line % ny
                y0, y1 = (y if y else ny) - 1, y + 1 if y < ny - 1 else 0
                x, out = u[z, y], q[s, z, y]
                _flat_line(diag[stack, z, y], cx[stack, z, y], x, u[z, y0], cy[stack, z, y0], u[z, y1],
                           cy[stack, z, y], buffer)  # fmt: skip
                if nz > 1:
                    z0, z1 = (z if z else nz) - 1, z + 1 if z < nz - 1 else 0
                    _add_planes(x, u[z0, y], cz[stack, z0, y], u[z1, y], cz[stack, z, y], buffer)
                for i in range(out.size):
                    out[i] = buffer[i]
                total += _line_dot(x, out)
            work[s, 0, b] = total


def faces_matvec_dot(cz, cy, cx, diag, p, q, pq, work):
    over_lines(_faces_matvec_dot, len(p), work.shape[2], cz, cy, cx, diag, p, q, work)
    _total(work, 0, pq)


# ---- between (N,) and the grid --------------------------------------------------------------------------------------

_CHUNK = 8192


@njit(**JIT)
def _gather_cells(first, last, cells, rows, x):
    for s in range(x.shape[0]):
        row, out = rows[s], x[s]
        for i in range(first * _CHUNK, min(last * _CHUNK, cells.size)):
            out[i] = row[uint64(cells[i])]


def gather_cells(cells, rows, x):
    over_blocks(_gather_cells, -(-cells.size // _CHUNK), 8, cells, rows, x)


@njit(**JIT)
def _scatter_cells(first, last, cells, rows, x):
    for s in range(x.shape[0]):
        row, values = rows[s], x[s]
        for i in range(first * _CHUNK, min(last * _CHUNK, cells.size)):
            row[uint64(cells[i])] = values[i]


def scatter_cells(cells, rows, x):
    over_blocks(_scatter_cells, -(-cells.size // _CHUNK), 8, cells, rows, x)


@njit(**JIT)
def _spread_cells(first, last, cells, rows, x):
    """A range of unknowns, and all cells from the one after the unknown before them on."""
    for s in range(x.shape[0]):
        row, values = rows[s], x[s]
        for chunk in range(first, last):
            low, high = chunk * _CHUNK, min((chunk + 1) * _CHUNK, cells.size)
            row[cells[low - 1] + 1 if low else 0 : cells[high - 1] + 1 if high < cells.size else row.size] = 0
            for i in range(low, high):
                row[uint64(cells[i])] = values[i]


def spread_cells(cells, rows, x):
    if cells.size == 0:
        rows[...] = 0
    over_blocks(_spread_cells, -(-cells.size // _CHUNK), 8, cells, rows, x)


@njit(**JIT)
def _remove_means(starts, members, x, sums, sizes):
    for s in range(x.shape[0]):
        row = x[s]
        for c in range(starts.size - 1):
            cells = members[starts[c] : starts[c + 1]]
            total = size = 0.0
            for i in range(cells.size):
                value = np.float64(row[uint64(cells[i])])
                total += value
                size += abs(value)
            sums[s, c], sizes[s, c] = total, size
            mean = total / cells.size
            for i in range(cells.size):
                row[uint64(cells[i])] -= mean


def remove_means(starts, members, x, sums, sizes):
    _remove_means(starts, members, x, sums, sizes)


# ---- a sparse matrix that is a stencil ------------------------------------------------------------------------------


@njit(**JIT)
def _step(there, x, y, z, dims, wraps):
    """1, 2, 3 for a step along x, y, z to `there` places further, negative for one back, 0 for anything else."""
    nz, ny, nx = dims
    plane = nx * ny
    if there == 1 and x < nx - 1:
        return 1
    if there == -1 and x > 0:
        return -1
    if nx > 2 and wraps & 1:
        if x == nx - 1 and there == 1 - nx:
            return 1
        if x == 0 and there == nx - 1:
            return -1
    if there == nx and y < ny - 1:
        return 2
    if there == -nx and y > 0:
        return -2
    if ny > 2 and wraps & 2:
        if y == ny - 1 and there == nx - plane:
            return 2
        if y == 0 and there == plane - nx:
            return -2
    if there == plane:
        return 3
    if there == -plane:
        return -3
    if nz > 2 and wraps & 4:
        if z == nz - 1 and there == (1 - nz) * plane:
            return 3
        if z == 0 and there == (nz - 1) * plane:
            return -3
    return 0


@njit(**JIT)
def _coordinates(a, dims):
    line = a // dims[2]
    return a - line * dims[2], line % dims[1], line // dims[1]


@njit(**JIT)
def _read_faces(first, last, indptr, indices, data, cells, wraps, cz, cy, cx, diag, dims, flaws, balance):
    for i in range(first * _CHUNK, min(last * _CHUNK, cells.size)):
        a = cells[i]
        x, y, z = _coordinates(a, dims)
        flaw = forward = 0
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            value, b = np.float64(data[k]), cells[uint64(indices[k])]
            if not np.isfinite(value) or (a != b and value > 0.0):
                flaw = 1
            elif a == b:
                diag[a] = value
            elif value != 0.0:
                step = _step(b - a, x, y, z, dims, wraps)
                if step == 0:
                    flaw = 1
                elif step < 0:
                    forward -= 1
                else:
                    forward += 1
                    if step == 1:
                        cx[a] = -value
                    elif step == 2:
                        cy[a] = -value
                    else:
                        cz[a] = -value
        flaws[i], balance[i] = flaw, forward


@njit(**JIT)
def _match_faces(first, last, indptr, indices, data, cells, wraps, match, cz, cy, cx, dims, flaws):
    for i in range(first * _CHUNK, min(last * _CHUNK, cells.size)):
        a = cells[i]
        x, y, z = _coordinates(a, dims)
        for k in range(uint64(indptr[i]), uint64(indptr[i + 1])):
            value, b = np.float64(data[k]), cells[uint64(indices[k])]
            if (b < a or (wraps and b > a)) and value < 0.0 and np.isfinite(value):
                step = _step(b - a, x, y, z, dims, wraps)
                if step < 0:
                    mirror = np.float64(cx[b] if step == -1 else (cy[b] if step == -2 else cz[b]))
                    if not abs(mirror + value) <= match * mirror:
                        flaws[i] = 1


def csr_to_faces(indptr, indices, data, cells, wraps, match, cz, cy, cx, diag, flaws, balance):
    chunks, dims = -(-cells.size // _CHUNK), diag.shape
    flat = [part.reshape(-1) for part in (cz, cy, cx, diag)]
    matrix = (indptr, indices, data, cells, wraps)
    over_blocks(_read_faces, chunks, 4, *matrix, *flat, dims, flaws, balance)
    over_blocks(_match_faces, chunks, 4, *matrix, match, *flat[:3], dims, flaws)
