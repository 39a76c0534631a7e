"""CUDA twins of contracts/gridcg.py: launch geometry and typed arguments."""

import functools

from .launch import INSTANCES, launch
from .split import REALS, ctype, ints

FILE = "gridcg.cu"
THREADS, CELL_THREADS = 512, 256
_OPERATORS = ("true,float", "false,float", "false,double")
INSTANCES[FILE] = [
    *(f"{name}<{kind}>" for name in ("grid_direction", "grid_update") for kind in _OPERATORS),
    *(f"{name}<{t}>" for name in ("grid_take", "grid_give") for t in REALS),
    "grid_total<true>",
    "grid_total<false>",
]
_launch = functools.partial(launch, FILE)


def _matrix(d, fx, fy, fz, wrap):
    """(template arguments, the arguments that say what A is)"""
    _, planes, ny, h = d.shape[1:]
    kind = "true,float" if fx is None else f"false,{ctype(fx)}"
    return kind, (d, fx, fy, fz, *ints(len(d), planes - 2, ny, h, *wrap))


def _both_halves(like):
    return 2, like.shape[2] - 2, like.shape[0]


def grid_direction(d, fx, fy, fz, wrap, z, before, alpha, rz, rz_old, x, p, pq, work):
    kind, A = _matrix(d, fx, fy, fz, wrap)
    args = (*A, z, before, alpha, rz, rz_old, x, p, work)
    _launch(f"grid_direction<{kind}>", _both_halves(x), THREADS, args)
    args = (work, pq, *ints(x.shape[2]), None, None, None, None, None)
    _launch("grid_total<false>", (len(x),), THREADS, args)


def grid_update(d, fx, fy, fz, wrap, p, rz, pq, rr_old, tol2, r, single, alpha, rr, work):
    kind, A = _matrix(d, fx, fy, fz, wrap)
    _launch(f"grid_update<{kind}>", _both_halves(r), THREADS, (*A, p, rz, pq, rr_old, tol2, r, single, work))
    _launch("grid_total<true>", (len(r),), THREADS, (work, rr, *ints(r.shape[2]), rz, pq, rr_old, tol2, alpha))


def _over(planes, cells, batch):
    return -(-cells // CELL_THREADS), planes, batch


def grid_take(a, factor, r, single):
    batch, nx, ny, nz = a.shape
    h = r.shape[-1]
    args = (a, factor, r, single, *ints(nx, ny, nz, h))
    _launch(f"grid_take<{ctype(a)}>", _over(nx, ny * 2 * h, batch), CELL_THREADS, args)


def grid_give(x, p, alpha, factor, a):
    batch, nx, ny, nz = a.shape
    args = (x, p, alpha, factor, a, *ints(nx, ny, nz, x.shape[-1]))
    _launch(f"grid_give<{ctype(a)}>", _over(nx, ny * nz, batch), CELL_THREADS, args)
