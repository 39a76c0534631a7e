"""CUDA twins of contracts/convolution.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import INSTANCES, launch

FILE = "convolution.cu"
THREADS, TOGETHER = 256, 8
INSTANCES[FILE] = ["convolve<1>", "convolve<3>", "pool_blocks", "unpool_add"]
_launch = functools.partial(launch, FILE)


def _ints(*values):
    return tuple(np.int32(v) for v in values)


def convolve(x, w, bias, gate, relu, residual, y):
    channels, *grid = x.shape
    sizes = _ints(channels, y.shape[0], gate.shape[0], *grid, relu, residual)
    blocks = -(-(x.size // channels) // THREADS), -(-y.shape[0] // TOGETHER)
    _launch(f"convolve<{w.shape[2]}>", blocks, THREADS, (x, w, bias, gate, y, *sizes))


def pool_blocks(x, scale, y):
    args = (x, y, np.float32(scale), *_ints(*x.shape[1:], *y.shape[1:]), np.int64(y.size))
    _launch("pool_blocks", (-(-y.size // THREADS),), THREADS, args)


def unpool_add(x, inside, y):
    args = (x, inside, y, *_ints(*y.shape[1:], *x.shape[1:]), np.int64(y.size))
    _launch("unpool_add", (-(-y.size // THREADS),), THREADS, args)
