"""Between a GridOperator and its matrix in CSR, in both directions.

A matrix says little of its grid. Where every cell is an unknown, the distances of the entries from the diagonal are
the strides of the grid; else each unknown is placed from its neighbours (grid_places).
"""

import math

import numpy as np

from .. import matrices, validate
from ..dispatch import kernels_for
from ..kernels.contracts.grid import MATCH
from . import grid_faces, grid_places

ADVICE = (
    "a symmetric matrix is needed whose off-diagonal entries are <= 0 and lead to the next cells of a 2-D or 3-D grid"
)
ROUNDING = 8  # of a sum, in units of that of the diagonal entry
SHIFT = 2  # of sums on average: entries that are rounded the same way in all rows make one at most
UNKNOWN = (
    f"A is not recognised as the matrix of a grid: {ADVICE}, in C order. "
    "Pass GridOperator.from_csr its grid_shape (and mask) if it is one"
)


def matrix(A):
    """The CSR matrix of a GridOperator (the block diagonal one of a batch is not made)."""
    if A.batch_shape:
        raise ValueError("tocsr: a batch has no single matrix; take A[i].tocsr()")
    with kernels_for(mask=A.mask) as k:
        mask, cells = k.to_host(A.mask), k.to_host(A.cells)
        n = cells.size
        wide = "int32" if (2 * A.ndim + 1) * n < 2**31 else "int64"
        number = np.zeros(mask.size, dtype=wide)
        number[cells] = np.arange(n, dtype=wide)
        number = number.reshape(mask.shape)
        entries = [(number, k.to_host(A.diag), True)]
        for axis, face in enumerate(map(k.to_host, A.faces)):  # the earlier axis lies further away
            entries.append((np.roll(number, -1, axis), -face, False))
            entries.insert(0, (np.roll(number, 1, axis), -np.roll(face, 1, axis), False))
        ahead = entries[2 * A.ndim : A.ndim : -1]
        entries = entries[A.ndim - 1 :: -1] + [entries[A.ndim]] + ahead
        columns = np.stack([part.reshape(-1)[cells] for part, _, _ in entries], axis=1)
        values = np.stack([part.reshape(-1)[cells] for _, part, _ in entries], axis=1)
        stored = values != 0
        stored[:, A.ndim] = True  # the diagonal
        indptr = np.concatenate([[0], np.cumsum(stored.sum(axis=1))]).astype(wide)
        from scipy.sparse import csr_array

        found = csr_array((values[stored], columns[stored], indptr), shape=(n, n))
        if any(A.periodic) or not A.in_order:
            found.sum_duplicates()  # sorts, too; two cells along a period meet twice
        parts = (k.xp.asarray(found.data), k.xp.asarray(found.indices), k.xp.asarray(found.indptr))
        return k.csr_matrix(*parts, (n, n))


def read(A, grid_shape=None, mask=None):
    """The arguments of the GridOperator whose matrix is A; a ValueError or TypeError where there is none."""
    if not matrices.is_sparse(A):
        raise TypeError(f"A must be a sparse matrix, not {type(A).__name__}")
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.shape[0] == 0:
        raise ValueError(f"A must be square and not empty, not {tuple(A.shape)}")
    validate.sparse_parts("A", A)
    A = A.tocsr()
    A = type(A)((A.data, A.indices, A.indptr), shape=A.shape)  # which forgets what was known of its order once
    if not getattr(A, "has_canonical_format", True):
        A = A.copy()
        A.sum_duplicates()
    data = validate.numeric("A.data", A.data)
    if data.dtype.kind == "c":
        raise TypeError("A is complex; a GridOperator is real")
    with kernels_for(A=A, mask=mask) as k:
        n = A.shape[0]
        wide = np.result_type(A.indptr.dtype, A.indices.dtype, "int32")
        parts = (A.indptr.astype(wide, copy=False), A.indices.astype(wide, copy=False), data)
        parts = tuple(map(k.xp.ascontiguousarray, parts))
        periodic = cells = None
        told = mask is not None or grid_shape is not None
        if mask is not None:
            mask = grid_faces.booleans("mask", mask, like=grid_shape)
            grid_shape = mask.shape
            if int(mask.sum()) != n:
                raise ValueError(f"mask has {int(mask.sum())} unknowns, A has order {n}")
            cells = k.xp.asarray(np.flatnonzero(k.to_host(mask)).astype("int64"))
        elif grid_shape is not None:
            if np.ndim(grid_shape) != 1:
                raise TypeError(f"grid_shape must be a tuple of extents, not {type(grid_shape).__name__}")
            grid_shape = tuple(validate.count("grid_shape", extent, least=1) for extent in grid_shape)
            if math.prod(grid_shape) != n:
                raise ValueError(f"grid_shape {grid_shape} has {math.prod(grid_shape)} cells, A has order {n}")
        else:
            found = grid_places.box(*(k.to_host(part) for part in parts[:2]))
            if found is not None:
                grid_shape, periodic = found
                options = _take(k, parts, grid_shape, None, periodic)
                if options is not None:
                    return options
            placed = grid_places.place(*(k.to_host(part) for part in parts))
            if placed is not None:
                grid_shape, cells = placed
                cells, periodic = k.xp.asarray(cells), (False,) * len(grid_shape)
        if grid_shape is None:
            raise ValueError(UNKNOWN)
        if len(grid_shape) not in (2, 3):
            raise ValueError(f"grid_shape must have 2 or 3 extents, not {grid_shape}")
        periodic = (True,) * len(grid_shape) if periodic is None else periodic
        options = _take(k, parts, grid_shape, cells, periodic)
        if options is None and not told:
            raise ValueError(UNKNOWN)
        if options is None:
            raise ValueError(f"A is not the matrix of a grid of shape {tuple(grid_shape)}: {ADVICE}")
        return options


def _take(k, parts, grid_shape, cells, periodic):
    """The arguments of GridOperator for CSR parts, None where the matrix is not one of this grid."""
    xp, n, dtype = k.xp, parts[0].size - 1, parts[2].dtype
    dims = (1,) * (3 - len(grid_shape)) + tuple(grid_shape)
    full = cells is None
    cells = xp.arange(n, dtype="int64") if full else cells
    cz, cy, cx, diag = (xp.zeros(dims, dtype=dtype) for _ in range(4))
    flaws, balance = xp.empty(n, dtype="uint8"), xp.empty(n, dtype="int8")
    wraps = sum(1 << bit for bit, wrap in enumerate(reversed(periodic)) if wrap)
    k.csr_to_faces(*parts, cells, wraps, MATCH[dtype.name], cz, cy, cx, diag, flaws, balance)
    if bool(flaws.any()) or int(balance.astype("int64").sum()):
        return None
    faces = [face.reshape(grid_shape) for face in (cz, cy, cx)[3 - len(grid_shape) :]]
    diag = diag.reshape(grid_shape)
    if full:
        mask = xp.ones(grid_shape, dtype=bool)
    else:
        mask = xp.zeros(math.prod(grid_shape), dtype=bool)
        mask[cells] = True
        mask = mask.reshape(grid_shape)
    # a period is one only if something crosses it
    wrap = tuple(
        bool(one) and bool(grid_faces.part(face, axis, len(grid_shape), grid_faces.LAST).any())
        for axis, (one, face) in enumerate(zip(periodic, faces, strict=True))
    )
    ends = grid_faces.border(grid_shape, "neumann", wrap)
    wide = [face.astype("float64", copy=False) for face in faces]
    sink = diag - grid_faces.add_faces(wide, ends, xp.zeros(diag.shape))
    eps = np.finfo(dtype).eps * diag.astype("float64", copy=False)
    sink = _without_rounding(xp, sink, eps).astype(dtype, copy=False)
    if bool((sink < 0).any()):
        return None
    options = {"k": k, "mask": mask, "ends": ends, "spacing": (1.0,) * len(grid_shape), "dtype": dtype}
    if not full:
        options["cells"] = cells
    found = _of_one_scale(k, mask, faces, sink, diag, ends)
    if found is None:
        found = {"kind": "coefficient", "faces": tuple(faces), "sink": sink, "diag": diag}
    return options | found


def _without_rounding(xp, sink, eps):
    """Sums of rows, 0 where they may be rounding: up to ROUNDING `eps`, an entry for each row, unless they add up."""
    little = abs(sink) <= ROUNDING * eps
    if float(xp.where(little, sink, 0).sum()) > SHIFT * float(xp.where(little, eps, 0).sum()):
        little = little & (sink <= eps)  # the others are there
    return xp.where(little, 0, sink)


def _of_one_scale(k, mask, faces, sink, diag, ends):
    """What an operator has all of whose faces conduct the same; None if they do not."""
    xp, ndim = k.xp, len(faces)
    scale = max(float(face.max()) for face in faces)
    if scale == 0:
        return None
    pairs = grid_faces.linked(k, mask, ends)
    if not all(bool((face == xp.where(both, scale, 0)).all()) for face, both in zip(faces, pairs, strict=True)):
        return None
    count = xp.rint(diag / diag.dtype.type(scale))
    if not bool(((count * diag.dtype.type(scale) == diag) & (count <= 2 * ndim)).all()):
        return None
    return {"kind": "mask", "scale": scale, "open_faces": count.astype("uint8")}
