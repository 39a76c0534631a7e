"""CUDA twins of contracts/grid.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "grid.cu"
THREADS = 256
REALS, INTEGERS = ("float", "double"), ("int", "long long")
_OVER_REALS = ("open_matvec_dot", "faces_matvec_dot", "open_residual", "open_residual_norm", "faces_residual",
               "gather_cells", "scatter_cells", "remove_means")  # fmt: skip
INSTANCES[FILE] = [
    *(f"{name}<{t}>" for name in _OVER_REALS for t in REALS),
    *(f"{name}<{t},{i}>" for name in ("read_faces", "match_faces") for t in REALS for i in INTEGERS),
    "grid_total",
]
_launch = functools.partial(launch, FILE)
_int, _long = np.int32, np.int64


def _type(array):
    return CTYPE[array.dtype.name]


def _ints(*values):
    return tuple(map(_int, values))


# ---- products -------------------------------------------------------------------------------------------------------


def _dot(name, stack, args, like, pq, work):
    blocks = work.shape[2]
    _launch(f"{name}<{_type(like)}>", (len(like) * blocks,), THREADS, (*args, *_ints(stack, *like.shape[1:], blocks)))
    _launch("grid_total", (len(like),), 32, (work, pq, _int(blocks)))


def open_matvec_dot(open_faces, scale, wraps, p, q, pq, work):
    args = (open_faces, np.float64(scale), _int(wraps), p, q, work)
    _dot("open_matvec_dot", len(open_faces), args, p, pq, work)


def faces_matvec_dot(cz, cy, cx, diag, p, q, pq, work):
    _dot("faces_matvec_dot", len(diag), (cz, cy, cx, diag, p, q, work), p, pq, work)


def _residual(name, stack, args, like):
    cells = like[0].size if len(like) else 0
    _launch(f"{name}<{_type(like)}>", (-(-cells // THREADS),), THREADS, (*args, *_ints(stack, *like.shape)))


def open_residual(open_faces, scale, wraps, x, b, r):
    _residual("open_residual", len(open_faces), (open_faces, np.float64(scale), _int(wraps), x, b, r), x)


def open_residual_norm(open_faces, scale, wraps, x, b, out, work):
    args, sizes = (open_faces, np.float64(scale), _int(wraps), x, b, work), _ints(*x.shape[1:], work.shape[2])
    grid = (len(x) * work.shape[2],)
    _launch(f"open_residual_norm<{_type(x)}>", grid, THREADS, (*args, _int(len(open_faces)), *sizes))
    launch("linalg.cu", "norm_total", (out.size,), 32, (work, out, _int(work.shape[2])))


def faces_residual(cz, cy, cx, diag, x, b, r):
    _residual("faces_residual", len(diag), (cz, cy, cx, diag, x, b, r), x)


# ---- between (N,) and the grid --------------------------------------------------------------------------------------


def _copy(name, cells, rows, x):
    args = (cells, rows, x, *_ints(len(x), cells.size), _long(rows.shape[1]))
    _launch(f"{name}<{_type(x)}>", (-(-cells.size // THREADS),), THREADS, args)


def gather_cells(cells, rows, x):
    _copy("gather_cells", cells, rows, x)


def scatter_cells(cells, rows, x):
    _copy("scatter_cells", cells, rows, x)


def spread_cells(cells, rows, x):
    rows.fill(0)
    scatter_cells(cells, rows, x)


def remove_means(starts, members, x, sums, sizes):
    sets = starts.size - 1
    args = (starts, members, x, sums, sizes, _int(sets), _long(x.shape[1]))
    _launch(f"remove_means<{_type(x)}>", (len(x) * sets,), THREADS, args)


# ---- a sparse matrix that is a stencil ------------------------------------------------------------------------------


def csr_to_faces(indptr, indices, data, cells, wraps, match, cz, cy, cx, diag, flaws, balance):
    grid, sizes = (-(-cells.size // THREADS),), _ints(cells.size, *diag.shape)
    types = f"<{_type(data)},{_type(indptr)}>"
    matrix = (indptr, indices, data, cells, _int(wraps))
    _launch("read_faces" + types, grid, THREADS, (*matrix, cz, cy, cx, diag, flaws, balance, *sizes))
    _launch("match_faces" + types, grid, THREADS, (*matrix, np.float64(match), cz, cy, cx, flaws, *sizes))
