"""CUDA twins of contracts/softmin.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "softmin.cu"
THREADS, COLUMNS = 256, 8  # columns of one block, in softmin_columns
INSTANCES[FILE] = [f"{name}<{t}>" for name in ("softmin_rows", "softmin_columns") for t in ("float", "double")]
_launch = functools.partial(launch, FILE)


def _over(name, tiles, C, given, reg, found):
    """A block for each system and tile of what is found."""
    args = (C, given, np.float64(reg), found, *map(np.int32, C.shape))
    _launch(f"{name}<{CTYPE[C.dtype.name]}>", (found.shape[0] * tiles,), THREADS, args)


def softmin_rows(C, g, reg, f):
    _over("softmin_rows", -(-f.shape[1] // (THREADS // 32)), C, g, reg, f)


def softmin_columns(C, f, reg, g):
    _over("softmin_columns", -(-g.shape[1] // COLUMNS), C, f, reg, g)
