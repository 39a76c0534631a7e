"""CUDA twins of contracts/aggregation.py: launch geometry and typed arguments."""

import functools
import itertools

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "aggregation.cu"
THREADS, SMALL_THREADS = 256, 256
NAMES = ("colour_sweep", "stencil_residual", "sum_members", "add_aggregates", "sparse_down", "sparse_above",
         "sparse_up", "sparse_residual", "coarse_cycle")  # fmt: skip
INSTANCES[FILE] = [f"{name}<{t}>" for name in NAMES for t in ("float", "double")]
_launch = functools.partial(launch, FILE)
_int, _long = np.int32, np.int64


def _over(name, like, count, args):
    _launch(f"{name}<{CTYPE[like.dtype.name]}>", (-(-count // THREADS),), THREADS, args)


def colour_sweep(cz, cy, cx, dinv, colour, weight, r, x):
    args = (cz, cy, cx, dinv, _int(colour), np.float64(weight), r, x, *map(_int, x.shape))
    _over("colour_sweep", x, x.size, args)


def stencil_residual(cz, cy, cx, diag, x, r, t):
    _over("stencil_residual", x, x.size, (cz, cy, cx, diag, x, r, t, *map(_int, x.shape)))


def sum_members(starts, members, v, out):
    _over("sum_members", v, out.size, (starts, members, v, out, _int(out.size)))


def add_aggregates(aggregate, e, x):
    _over("add_aggregates", x, x.size, (aggregate, e, x, _long(x.size)))


def _colours(bounds):
    """(first row, the one after the last) of each colour; a solver keeps them on the host, where they are needed."""
    return list(itertools.pairwise((bounds.get() if hasattr(bounds, "get") else bounds).tolist()))


def sparse_down(indptr, middle, indices, weights, dinv, bounds, r, x, t):
    for low, high in _colours(bounds):
        args = (indptr, middle, indices, weights, dinv, r, x, _int(low), _int(high))
        _over("sparse_down", x, high - low, args)
    _over("sparse_above", x, x.size, (indptr, middle, indices, weights, x, t, _int(x.size)))


def sparse_up(indptr, indices, weights, dinv, bounds, r, x):
    for low, high in reversed(_colours(bounds)):
        _over("sparse_up", x, high - low, (indptr, indices, weights, dinv, r, x, _int(low), _int(high)))


def sparse_residual(indptr, indices, weights, diag, x, r, t):
    _over("sparse_residual", x, x.size, (indptr, indices, weights, diag, x, r, t, _int(x.size)))


def coarse_cycle(program, first, indptr, middle, indices, weights, diag, dinv, colours, bounds, starts, members,
                 aggregate, inverse, once, twice, x, r, y, t):  # fmt: skip
    args = (program, first, indptr, middle, indices, weights, diag, dinv, colours, bounds, starts, members, aggregate,
            inverse, np.float64(once), np.float64(twice), x, r, y, t, _int(len(program)))  # fmt: skip
    _launch(f"coarse_cycle<{CTYPE[x.dtype.name]}>", (1,), SMALL_THREADS, args)
