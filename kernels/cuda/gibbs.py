"""CUDA twins of contracts/gibbs.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "gibbs.cu"
THREADS, WARPS, TILE = 256, 8, 32
STORED, SQUARES, DISTANCE = 0, 1, 2  # where the cost comes from
_RUNS = ("gibbs_kernel", "gibbs_sums", "gibbs_certificate", "plan_moments")
_ROWS = ("rounded_value", "plan_dense", "plan_count", "plan_sparse", "cost_range")
INSTANCES[FILE] = [
    *(
        f"{name}<{t},{source}>"
        for name in (*_RUNS, *_ROWS)
        for t in ("float", "double")
        for source in (STORED, SQUARES, DISTANCE)
    ),
    *(f"points_gradient<{t},{source}>" for t in ("float", "double") for source in (SQUARES, DISTANCE)),
    "add_runs",
    "lower_to_runs",
]
_launch = functools.partial(launch, FILE)
_int, _real = np.int32, np.float64


def _source(C, X, Y, root):
    """(type and kind of the cost, its arrays, n, m, p)"""
    if C is not None:
        return f"{CTYPE[C.dtype.name]},{STORED}", (C, None, None), (*map(_int, C.shape), _int(0))
    kind = DISTANCE if root else SQUARES
    return f"{CTYPE[X.dtype.name]},{kind}", (None, X, Y), (_int(X.shape[0]), _int(Y.shape[1]), _int(X.shape[1]))


def _over_runs(name, kind, args, sizes, work):
    _launch(f"{name}<{kind}>", (work.shape[0],), THREADS, (*args, work, *sizes, _int(work.shape[2])))


def _over_rows(name, kind, args, sizes):
    _launch(f"{name}<{kind}>", (-(-int(sizes[0]) // WARPS),), THREADS, (*args, *sizes))


def _combine(name, work, out):
    runs, _, width = work.shape
    _launch(name, (-(-width // TILE),), THREADS, (work, out, _int(runs), _int(width)))


# ---- the kernel and its sums ----------------------------------------------------------------------------------------


def gibbs_kernel(
    C, X, Y, root, order, log_v, scale, a, power, b, delta, starts, ends, offsets, values, log_sum, col, work
):
    kind, arrays, sizes = _source(C, X, Y, root)
    numbers = _real(scale), a, _real(power), b, _real(delta)
    args = (*arrays, order, log_v, *numbers, starts, ends, offsets, values, log_sum)
    _over_runs("gibbs_kernel", kind, args, sizes, work)
    _combine("add_runs", work, col)


def gibbs_sums(C, X, Y, root, log_v, scale, a, power, log_sum, col, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    _over_runs("gibbs_sums", kind, (*arrays, log_v, _real(scale), a, _real(power), log_sum), sizes, work)
    _combine("add_runs", work, col)


# ---- bounds ---------------------------------------------------------------------------------------------------------


def gibbs_certificate(C, X, Y, root, g, scale, a, keep, left, f, kept, short, reach, low, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    args = (*arrays, g, _real(scale), a, keep, left, f, kept, short, reach)
    _over_runs("gibbs_certificate", kind, args, sizes, work)
    _combine("lower_to_runs", work, low)


def rounded_value(C, X, Y, root, log_u, log_v, scale, keep, short, left, linear, entropy, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    args = (*arrays, log_u, log_v, _real(scale), keep, short, left, linear, entropy)
    _over_rows("rounded_value", kind, args, sizes)


# ---- the plan -------------------------------------------------------------------------------------------------------


def plan_dense(C, X, Y, root, log_u, log_v, scale, P, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    _over_rows("plan_dense", kind, (*arrays, log_u, log_v, _real(scale), P), sizes)


def plan_count(C, X, Y, root, log_u, log_v, scale, threshold, counts, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    _over_rows("plan_count", kind, (*arrays, log_u, log_v, _real(scale), _real(threshold), counts), sizes)


def plan_sparse(C, X, Y, root, log_u, log_v, scale, threshold, indptr, indices, data, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    args = (*arrays, log_u, log_v, _real(scale), _real(threshold), indptr, indices, data)
    _over_rows("plan_sparse", kind, args, sizes)


def plan_moments(C, X, Y, root, log_u, log_v, scale, rows, cols, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    _over_runs("plan_moments", kind, (*arrays, log_u, log_v, _real(scale), rows), sizes, work)
    _combine("add_runs", work, cols)


def points_gradient(X, Y, root, log_u, log_v, scale, alpha, beta, slope, gradient, work):
    kind, _, sizes = _source(None, X, Y, root)
    args = (X, Y, log_u, log_v, _real(scale), alpha, beta, _real(slope), gradient)
    _over_runs("points_gradient", kind, args, sizes, work)


# ---- the cost -------------------------------------------------------------------------------------------------------


def cost_range(C, X, Y, root, low, high, forbidden, work):
    kind, arrays, sizes = _source(C, X, Y, root)
    _over_rows("cost_range", kind, (*arrays, low, high, forbidden), sizes)
