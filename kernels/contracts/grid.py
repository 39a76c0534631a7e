"""The 5- and 7-point operators of a grid, without a matrix.

    (A u)_i = sum over the faces of cell i of c_f (u_i - u_j)

j is the cell across the face: another unknown, a cell of value 0, or (c_f = 0) a wall. Vectors are grid rows, (batch,
nz, ny, nx), zero in cells that are no unknowns; in 2-D nz is 1. An operator is either

- `open_faces` (stack, nz, ny, nx) uint8, the number of faces of each unknown that are no walls, and 0 in other cells,
  with one c_f = `scale` for all of them; `wraps` says which axes are periodic (bit 0: x, bit 1: y, bit 2: z); or
- `cz, cy, cx` (stack, nz, ny, nx), each cell's face to the next one along an axis (at the end: to the first), zero
  unless both are unknowns, and `diag`, the sum of all c_f of a cell. Where nz is 1, cz is not read.

`stack` is 1, or batch with an operator for each system.
"""

from fractions import Fraction

import numpy as np

from . import contract, workspace_shape
from .linalg import norm

SHAPES = ((1, 1, 1, 1), (2, 1, 1, 9), (1, 1, 7, 1), (1, 3, 1, 2), (1, 1, 12, 35), (2, 5, 6, 7), (1, 2, 2, 2),
          (1, 9, 17, 33), (1, 1, 2, 2500))  # fmt: skip


def cut(shape, wraps):
    """Axes of (nz, ny, nx) that are not periodic."""
    return [axis for axis in range(3) if not wraps >> (2 - axis) & 1]


def neighbours(u, axis, step, periodic):
    """What lies `step` further along an axis of (..., nz, ny, nx), zero beyond the end."""
    moved = np.roll(u, -step, axis - 3)
    if not periodic:
        moved[(..., -1 if step > 0 else 0, *[slice(None)] * (2 - axis))] = 0
    return moved


def counted(unknown, wall, wraps):
    """The open faces of each unknown: those that do not lead to a wall. Beyond a border lies a cell of value 0."""
    count = np.zeros(unknown.shape, dtype="uint8")
    for axis in range(3):
        for step in (1, -1):
            count += ~neighbours(wall, axis, step, bool(wraps >> (2 - axis) & 1))
    return np.where(unknown, count, 0).astype("uint8")


def _open_operators(rng):
    """(unknowns, open faces, wraps): all unknown; some cells walls, some of value 0; each combination of periods."""
    for number, (stack, *dims) in enumerate(SHAPES):
        for wraps in (0, 7 if number % 2 else 1 << number % 3):
            wraps &= sum((extent > 1) << (2 - axis) for axis, extent in enumerate(dims))
            kind = rng.random((stack, *dims)) if number % 3 else np.ones((stack, *dims))
            unknown = kind > 0.25
            yield unknown, counted(unknown, kind < 0.15, wraps), wraps


def faces_of(unknown, conduct, wraps):
    """cz, cy, cx and diag of cells that conduct `conduct` and lie in a border of value 0."""
    faces, diag = [], np.zeros_like(conduct)
    for axis in range(3):
        periodic = bool(wraps >> (2 - axis) & 1)
        linked = unknown & neighbours(unknown, axis, 1, periodic)
        face = np.where(linked, conduct, 0)
        faces.append(face)
        diag += face + neighbours(face, axis, -1, periodic)
    diag += np.where(unknown & (conduct > 1.2), 0.75, 0).astype(conduct.dtype)
    if unknown.shape[1] == 1:
        faces[0] = np.zeros((1, 1, 1, 1), conduct.dtype)
    return (*faces, diag)


def _face_operators(rng, dtype):
    for unknown, _, wraps in _open_operators(rng):
        conduct = rng.uniform(0.1, 2.0, unknown.shape).astype(dtype)
        yield unknown, faces_of(unknown, conduct, wraps)


def _sum_open(open_faces, scale, wraps, u):
    """A u in float64."""
    u = u.astype(float)
    around = np.zeros(u.shape)
    for axis in range(3):
        for step in (1, -1):
            around += neighbours(u, axis, step, bool(wraps >> (2 - axis) & 1))
    return np.where(open_faces > 0, scale * (open_faces * u - around), 0.0)


def _sum_faces(cz, cy, cx, diag, u):
    u = u.astype(float)
    total = diag * u
    for axis, face in enumerate((cz, cy, cx)):
        if axis == 0 and u.shape[1] == 1:
            continue
        total -= face * neighbours(u, axis, 1, True) + neighbours(face * u, axis, -1, True)
    return total


def _vectors(rng, dtype, unknown):
    for batch in {len(unknown), 3} if len(unknown) == 1 else {len(unknown)}:
        yield (rng.standard_normal((batch, *unknown.shape[1:])) * unknown).astype(dtype)


def _products(p):
    batch = len(p)
    return np.full_like(p, np.nan), np.full(batch, np.nan), np.full(workspace_shape(batch, p[0].size), np.nan)


DOT = {"float32": 1e-4, "float64": 1e-11}


def _open_cases(rng, dtype):
    for unknown, open_faces, wraps in _open_operators(rng):
        for p in _vectors(rng, dtype, unknown):
            yield open_faces, 2.25, wraps, p, *_products(p)


@contract(cases=_open_cases, writes=("q", "pq"), scratch=("work",), rtol=DOT)
def open_matvec_dot(open_faces, scale, wraps, p, q, pq, work):
    """q = A p, pq = p.q in float64, (batch,); p, q (batch, nz, ny, nx)."""
    q[:] = _sum_open(open_faces, scale, wraps, p)
    pq[:] = (p.astype(float) * q).reshape(len(p), -1).sum(1)


def _face_cases(rng, dtype):
    for unknown, operator in _face_operators(rng, dtype):
        for p in _vectors(rng, dtype, unknown):
            yield *operator, p, *_products(p)


@contract(cases=_face_cases, writes=("q", "pq"), scratch=("work",), rtol=DOT)
def faces_matvec_dot(cz, cy, cx, diag, p, q, pq, work):
    """The same for an operator given by its faces."""
    q[:] = _sum_faces(cz, cy, cx, diag, p)
    pq[:] = (p.astype(float) * q).reshape(len(p), -1).sum(1)


# ---- residuals ------------------------------------------------------------------------------------------------------


def _right_sides(rng, product, unknown, x):
    """b of which b - A x is far smaller than b, and b of which it is not."""
    for size in (0.0, 1.0):
        yield ((product + size * rng.standard_normal(x.shape)) * unknown).astype(x.dtype)


def _small(cases):
    return (case for case in cases if case[0][0].size < 700)


def _open_residual_cases(rng, dtype):
    for unknown, open_faces, wraps in _small(_open_operators(rng)):
        for x in _vectors(rng, dtype, unknown):
            for b in _right_sides(rng, _sum_open(open_faces, 0.7, wraps, x), unknown, x):
                yield open_faces, 0.7, wraps, x, b, np.full_like(b, np.nan)


EXACT = {"float32": 2e-7, "float64": 1e-11}


@contract(cases=_open_residual_cases, writes=("r",), rtol=EXACT)
def open_residual(open_faces, scale, wraps, x, b, r):
    """r = b - A x, each entry as if summed in twice the precision of float64 and rounded once.

    The matrix is that of the rounded entries scale * open_faces and -scale.
    """
    periodic = [bool(wraps >> (2 - axis) & 1) for axis in range(3)]
    around = [neighbours(x, axis, step, periodic[axis]) for axis in range(3) for step in (1, -1)]
    for at in np.ndindex(*x.shape):
        count = int(open_faces[(at[0] % len(open_faces), *at[1:])])
        total = Fraction(float(b[at]))
        if count:
            total -= Fraction(scale * count) * Fraction(float(x[at]))
            total += Fraction(scale) * sum(Fraction(float(u[at])) for u in around)
        r[at] = float(total)


def _open_norm_cases(rng, dtype):
    for open_faces, scale, wraps, x, b, _ in _open_residual_cases(rng, dtype):
        for size in (1.0, 1e-35 if dtype == np.float32 else 1e-200):
            x, b = (v * dtype.type(size) for v in (x, b))
            yield open_faces, scale, wraps, x, b, np.full(len(x), np.nan), np.full(workspace_shape(*_rows(x)), np.nan)
    b[0, 0, 0, 0] = np.nan
    yield open_faces, scale, wraps, x, b, np.full(len(x), np.nan), np.full(workspace_shape(*_rows(x)), np.nan)


def _rows(x):
    return len(x), x[0].size


@contract(cases=_open_norm_cases, writes=("out",), scratch=("work",), rtol=EXACT)
def open_residual_norm(open_faces, scale, wraps, x, b, out, work):
    """out = ||b - A x||_2 of each system, (batch,) float64, of the entries that `open_residual` gives."""
    r = np.empty_like(b)
    open_residual(open_faces, scale, wraps, x, np.where(np.isnan(b), 0, b), r)
    r += np.where(np.isnan(b), b, 0)
    norm(r.reshape(_rows(x)), out, work)


def _face_residual_cases(rng, dtype):
    for unknown, operator in _small(_face_operators(rng, dtype)):
        for x in _vectors(rng, dtype, unknown):
            cz, cy, cx, diag = operator
            for b in _right_sides(rng, _sum_faces(cz, cy, cx, diag, x), unknown, x):
                yield *operator, x, b, np.full_like(b, np.nan)


@contract(cases=_face_residual_cases, writes=("r",), rtol=EXACT)
def faces_residual(cz, cy, cx, diag, x, b, r):
    """The same for an operator given by its faces."""
    terms = [(diag, x, 1)]
    for axis, face in enumerate((cz, cy, cx)):
        if axis or x.shape[1] > 1:
            terms.append((face, neighbours(x, axis, 1, True), -1))
            terms.append((neighbours(face, axis, -1, True), neighbours(x, axis, -1, True), -1))
    for at in np.ndindex(*x.shape):
        total = Fraction(float(b[at]))
        for c, u, sign in terms:
            total -= sign * Fraction(float(c[(at[0] % len(c), *at[1:])])) * Fraction(float(u[at]))
        r[at] = float(total)


# ---- between (N,) and the grid --------------------------------------------------------------------------------------


def _cells_cases(rng, dtype):
    for batch, size, count in ((1, 1, 1), (1, 40, 0), (2, 90, 31), (1, 5000, 4100)):
        cells = np.sort(rng.permutation(size)[:count]).astype("int64")
        yield (cells, rng.standard_normal((batch, size)).astype(dtype),
               rng.standard_normal((batch, count)).astype(dtype))  # fmt: skip


@contract(cases=_cells_cases, writes=("x",))
def gather_cells(cells, rows, x):
    """x = the unknowns of grid rows: cells (N,) int64, flat places; rows (batch, nz ny nx), x (batch, N)."""
    x[:] = rows[:, cells]


@contract(cases=_cells_cases, writes=("rows",))
def scatter_cells(cells, rows, x):
    """The unknowns of grid rows = x; the other cells stay as they are."""
    rows[:, cells] = x


@contract(cases=_cells_cases, writes=("rows",))
def spread_cells(cells, rows, x):
    """Grid rows = x in their unknowns, whose cells ascend, and 0 elsewhere."""
    rows[:] = 0
    rows[:, cells] = x


def _component_cases(rng, dtype):
    for batch, sizes in ((1, (1,)), (2, (3, 1, 7)), (1, (3000, 40))):
        starts = np.cumsum((0, *sizes)).astype("int64")
        members = rng.permutation(starts[-1] + 5)[: starts[-1]].astype("int64")
        x = rng.standard_normal((batch, starts[-1] + 5)).astype(dtype)
        yield starts, members, x, np.full((batch, len(sizes)), np.nan), np.full((batch, len(sizes)), np.nan)


@contract(cases=_component_cases, writes=("x", "sums", "sizes"), rtol={"float32": 1e-5, "float64": 1e-12})
def remove_means(starts, members, x, sums, sizes):
    """Take from x its mean over each of C sets of cells; sums (batch, C) of x and sizes, of |x|, as they were before.

    Set c is members[starts[c] : starts[c + 1]], int64; x (batch, nz ny nx).
    """
    for c in range(starts.size - 1):
        cells = members[starts[c] : starts[c + 1]]
        values = x[:, cells].astype(float)
        sums[:, c], sizes[:, c] = values.sum(1), abs(values).sum(1)
        x[:, cells] = values - values.mean(1, keepdims=True)


# ---- a sparse matrix that is a stencil ------------------------------------------------------------------------------

MATCH = {"float32": 1e-6, "float64": 1e-14}
"""What a_ij and a_ji may differ by, relative, in a matrix that is taken for symmetric."""


def _stencil_cases(rng, dtype):
    import scipy.sparse as sp

    for number, (unknown, operator) in enumerate(_face_operators(rng, dtype)):
        cz, cy, cx, diag = (part[0].astype(dtype) for part in operator)
        places = np.arange(diag.size).reshape(diag.shape)
        rows, columns, values = [places.ravel()], [places.ravel()], [diag.ravel()]
        for axis, face in enumerate((cz, cy, cx)):
            if axis or diag.shape[0] > 1:
                beyond = np.roll(places, -1, axis)
                rows += [places.ravel(), beyond.ravel()]
                columns += [beyond.ravel(), places.ravel()]
                values += [-face.ravel(), -face.ravel()]
        coordinates = np.concatenate(rows), np.concatenate(columns)
        A = sp.coo_array((np.concatenate(values), coordinates), shape=(diag.size, diag.size)).tocsr()
        A.eliminate_zeros()
        cells = np.flatnonzero(unknown[0]).astype("int64")
        A = A[cells][:, cells].tocsr()
        if number % 4 == 3 and A.nnz > 2:  # neither symmetric nor a stencil
            A.data[A.nnz // 2] *= 3
            A.indices[0] = (A.indices[0] + A.shape[0] // 2) % A.shape[0]
        for index in ("int32", "int64")[: 1 + (number < 4)]:
            outs = [np.zeros_like(diag) for _ in range(4)]
            count = len(cells)
            yield (A.indptr.astype(index), A.indices.astype(index), A.data, cells, number % 2 * 7, MATCH[dtype.name],
                   *outs, np.full(count, 7, "uint8"), np.full(count, 7, "int8"))  # fmt: skip


def step_to(a, b, dims, wraps):
    """(axis of z, y, x, +1 or -1) when flat place b is the neighbour of a on a grid, else None."""
    there = np.array(np.unravel_index(b, dims)) - np.unravel_index(a, dims)
    axes = np.flatnonzero(there)
    if axes.size != 1:
        return None
    axis, step = int(axes[0]), int(there[axes[0]])
    if abs(step) == 1:
        return axis, step
    if wraps >> (2 - axis) & 1 and abs(step) == dims[axis] - 1:
        return axis, -int(np.sign(step))
    return None


@contract(cases=_stencil_cases, writes=("cz", "cy", "cx", "diag", "flaws", "balance"))
def csr_to_faces(indptr, indices, data, cells, wraps, match, cz, cy, cx, diag, flaws, balance):
    """The faces and the diagonal of a CSR matrix of order N whose unknown i is the cell at flat place cells[i].

    cz, cy, cx, diag (nz, ny, nx) are zero before. flaws (N,) uint8 is 1 for a row with an entry that is no face of its
    cell, positive, not finite, or off its mirror image by more than `match` of it; balance (N,) int8 is the number of
    its non-zero entries that lead forward less that of those that lead back: their sum is 0 if the matrix is symmetric.
    """
    faces = (cz, cy, cx)
    flaws[:], balance[:] = 0, 0
    entries = [
        (i, indices[k], float(data[k])) for i in range(cells.size) for k in range(int(indptr[i]), int(indptr[i + 1]))
    ]
    for i, j, value in entries:
        if not np.isfinite(value) or (i != j and value > 0):
            flaws[i] = 1
        elif i == j:
            diag.reshape(-1)[cells[i]] = value
        elif value:
            step = step_to(cells[i], cells[j], diag.shape, wraps)
            if step is None:
                flaws[i] = 1
            else:
                balance[i] += step[1]
                if step[1] > 0:
                    faces[step[0]].reshape(-1)[cells[i]] = -value
    for i, j, value in entries:
        if i != j and value < 0 and np.isfinite(value):
            step = step_to(cells[i], cells[j], diag.shape, wraps)
            if step is not None and step[1] < 0:
                mirror = float(faces[step[0]].reshape(-1)[cells[j]])
                if not abs(mirror + value) <= match * mirror:
                    flaws[i] = 1
