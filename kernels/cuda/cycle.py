"""CUDA twins of contracts/cycle.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import INSTANCES, launch
from .split import ints

FILE = "cycle.cu"
THREADS, SUM_THREADS, SMALL_THREADS = 256, 512, 512
INSTANCES[FILE] = [
    *(f"{name}<{mask}>" for name in ("down_black", "down_coarse", "up_black", "up_red", "up_settle")
      for mask in ("true", "false")),
    "sum_planes",
    "cycle_small",
]
_launch = functools.partial(launch, FILE)


def _level(d, fx, fy, fz, red, black, wrap):
    """(of a mask?, the arguments that say what a level is)"""
    _, planes, ny, h = d.shape[1:]
    weights = np.float32(red), np.float32(black)
    return str(fx is None).lower(), (d, fx, fy, fz, *ints(len(d)), *weights, *ints(planes - 2, ny, h, *wrap))


def _over(planes, cells, batch, threads=THREADS):
    return -(-cells // threads), planes, batch


def cycle_down(r, d, fx, fy, fz, red, black, factor, wrap, xb, rc):
    batch, _, planes, ny, h = r.shape
    coarse_planes, coarse_ny, coarse_h = rc.shape[2:]
    mask, level = _level(d, fx, fy, fz, red, black, wrap)
    _launch(f"down_black<{mask}>", _over(planes - 2, ny * h, batch), THREADS, (r, *level, xb))
    args = (r, *level, xb, rc, *ints(coarse_planes - 2, coarse_ny, coarse_h, *factor))
    _launch(f"down_coarse<{mask}>", _over(coarse_planes - 2, 2 * coarse_ny * coarse_h, batch), THREADS, args)


def cycle_up(r, d, fx, fy, fz, red, black, factor, wrap, settle, xb, ec, z, rz, work):
    batch, _, planes, ny, h = r.shape
    coarse = ints(ec.shape[2] - 2, *ec.shape[3:], *factor)
    mask, level = _level(d, fx, fy, fz, red, black, wrap)
    grid = _over(planes - 2, ny * h, batch, SUM_THREADS)
    _launch(f"up_black<{mask}>", grid, SUM_THREADS, (r, *level, xb, ec, z, *coarse))
    halves = 2, planes - 2, batch
    _launch(f"up_red<{mask}>", halves, SUM_THREADS, (r, *level, ec, z, *coarse, np.int32(settle), work))
    if settle:
        _launch(f"up_settle<{mask}>", halves, SUM_THREADS, (r, *level, z, work))
    _launch("sum_planes", (batch,), SUM_THREADS, (work, rz, *ints(planes)))


def cycle_small(r, z, levels, weights, stencil, inverse, cells, room):
    args = (r, z, levels, weights, stencil, inverse, cells, room, *ints(len(levels) - 1, cells.size),
            np.int64(stencil.shape[1]), *ints(len(stencil), len(inverse)), np.int64(room.shape[1]))  # fmt: skip
    _launch("cycle_small", (len(r),), SMALL_THREADS, args)
