"""CUDA twins of contracts/lprows.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import INSTANCES, launch

FILE = "lprows.cu"
THREADS, LANES = 256, 8  # a row is summed by eight lanes
INSTANCES[FILE] = ["lp_columns", f"lp_rows<{LANES}>"]
_launch = functools.partial(launch, FILE)
_int, _real = np.int32, np.float64


def lp_columns(aty, c, lower, upper, tau, share, keep, x, x0, p, dx, reflected):
    args = (aty, c, lower, upper, _real(tau), _real(share), _int(keep), x, x0, p, dx, reflected, _int(x.size))
    _launch("lp_columns", (-(-x.size // THREADS),), THREADS, args)


def lp_rows(indptr, indices, data, row_lower, row_upper, sigma, share, keep, reflected, y, y0, q, dy):
    args = (indptr, indices, data, row_lower, row_upper, _real(sigma), _real(share), _int(keep), reflected, y, y0, q)
    _launch(INSTANCES[FILE][1], (-(-y.size * LANES // THREADS),), THREADS, (*args, dy, _int(y.size)))
