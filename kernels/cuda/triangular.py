"""CUDA twins of contracts/triangular.py. What is done once for a matrix and in sequence is done on the host."""

import numpy as np

from ..cpu import triangular as host
from .launch import CTYPE, INSTANCES, launch

FILE = "triangular.cu"
THREADS = 512
WIDE = 4 * THREADS  # rows a level, on average, from which a launch a level is sooner than one block for all of them
INSTANCES[FILE] = [
    f"{name}<{t},{i}>" for name in ("forward", "back") for t in ("float", "double") for i in ("int", "long long")
]


def row_levels(indptr, indices, place, level):
    found = level.get()
    host.row_levels(indptr.get(), indices.get(), place.get(), found)
    level.set(found)


def ic0_factor(indptr, indices, place, data, shift, factor, broke):
    found, row = factor.get(), broke.get()
    host.ic0_factor(indptr.get(), indices.get(), place.get(), data.get(), shift, found, row)
    factor.set(found)
    broke.set(row)


def two_sweeps(indptr, indices, place, data, dinv, scale, order, level_ptr, r, z):
    (batch, n), levels = z.shape, level_ptr.size - 1
    instance = f"<{CTYPE[z.dtype.name]},{CTYPE[indptr.dtype.name]}>"
    matrix = (indptr, indices, place, data, dinv, np.float64(scale), order, level_ptr)
    wide = n > WIDE * levels
    grid = (batch, -(-n // (THREADS * max(1, levels))) if wide else 1)
    ranges = [(low, low + 1) for low in range(levels)] if wide else [(0, levels)]
    for name, turn in (("forward", 1), ("back", -1)):
        for first, last in ranges[::turn]:
            args = (*matrix, r, z, np.int32(first), np.int32(last), np.int32(n))
            launch(FILE, name + instance, grid if n else (0, 1), THREADS, args)
