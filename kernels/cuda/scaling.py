"""CUDA twins of contracts/scaling.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "scaling.cu"
THREADS, WARPS, TILE = 256, 8, 32
SCALING, PRODUCT, GIVEN = 0, 1, 2  # what a row's sum is made to before it is added back
REALS = ("float", "double")
INSTANCES[FILE] = [
    *(f"sweep<{t},{weight}>" for t in REALS for weight in (SCALING, PRODUCT, GIVEN)),
    *(f"by_column<{t},{diagonal}>" for t in REALS for diagonal in ("true", "false")),
    *(f"{name}<{t}>" for name in ("pack", "compact") for t in REALS),
    "sum_runs",
    "largest_of_runs",
    "sinkhorn_columns",
    "sinkhorn_update",
    "anneal",
    "schur_product",
    "schur_update",
]
_launch = functools.partial(launch, FILE)
_int, _real = np.int32, np.float64
_ALWAYS = (None, _int(0), _real(0))  # a sweep that depends on nothing


def _type(array):
    return CTYPE[array.dtype.name]


def _sweep(store, x, weight, given, power, row, when, s, work):
    instance = f"sweep<{_type(store[3])},{weight}>"
    sizes = _int(s.size), _int(work.shape[2])
    _launch(instance, (work.shape[0],), THREADS, (*store, x, given, _real(power), row, *when, s, work, *sizes))


def _by_tile(name, args, work):
    """A block for each TILE columns."""
    runs, _, width = work.shape
    _launch(name, (-(-width // TILE),), THREADS, (*args, work, _int(runs), _int(width)))


def _combine(name, work, out):
    runs, _, width = work.shape
    _launch(name, (-(-width // TILE),), THREADS, (work, out, _int(runs), _int(width)))


# ---- products -------------------------------------------------------------------------------------------------------


def scaling_sweep(starts, ends, offsets, values, v, a, power_a, s, y, work):
    _sweep((starts, ends, offsets, values), v, SCALING, a, power_a, None, _ALWAYS, s, work)
    _combine("sum_runs", work, y)


def scaling_products(starts, ends, offsets, values, x, q, row, t, y, work):
    weight = PRODUCT if row is None else GIVEN
    _sweep((starts, ends, offsets, values), x, weight, q, 1, row, _ALWAYS, t, work)
    _combine("sum_runs", work, y)


def _by_column(diagonal, starts, ends, offsets, values, weights, work):
    args = (starts, ends, offsets, values, weights, work, _int(starts.size), _int(work.shape[2]))
    _launch(f"by_column<{_type(values)},{diagonal}>", (work.shape[0],), THREADS, args)


def scaling_diagonal(starts, ends, offsets, values, q, diagonal, work):
    _by_column("true", starts, ends, offsets, values, q, work)
    _combine("sum_runs", work, diagonal)


def scaling_column_max(starts, ends, offsets, values, u, top, work):
    _by_column("false", starts, ends, offsets, values, u, work)
    _combine("largest_of_runs", work, top)


# ---- Sinkhorn -------------------------------------------------------------------------------------------------------


def sinkhorn_steps(starts, ends, offsets, values, a, power_a, b, power_b, tol, rate, warm, steps, v, s, y, err, work):
    store, last = (starts, ends, offsets, values), _int(steps)
    for k in map(_int, range(steps + 1)):
        when = (err, k, _real(-0.5)) if k else _ALWAYS
        _sweep(store, v, SCALING, a, power_a, None, when, s, work)
        _by_tile("sinkhorn_columns", (v, b, _real(power_b), err, k, y), work)
        numbers = _real(power_b), _real(tol), _real(rate), _int(warm), last, k
        _launch("sinkhorn_update", (1,), THREADS, (y, b, *numbers, v, err, work, _int(work.shape[2])))


# ---- annealing ------------------------------------------------------------------------------------------------------


def _by_run(name, runs, args, n):
    """A warp for each run of rows."""
    _launch(name, (-(-runs // WARPS),), THREADS, (_int(runs), *args, _int(n)))


def scaling_anneal(runs, v, u, top, drop, starts, ends, offsets, values):
    _by_run("anneal", runs, (v, u, top, _real(drop), starts, ends, offsets, values), starts.size)


def scaling_pack(starts, ends, offsets, values, packed_starts, packed_offsets, packed_values):
    args = (starts, ends, offsets, values, packed_starts, packed_offsets, packed_values, _int(starts.size))
    _launch(f"pack<{_type(values)}>", (-(-starts.size // WARPS),), THREADS, args)


# ---- Newton ---------------------------------------------------------------------------------------------------------


def scaling_compact(
    starts, ends, offsets, values, v, s, a, b, threshold, runs, kept_starts, kept_ends, kept_offsets, kept_values
):
    args = (starts, ends, offsets, values, v, s, a, b, _real(threshold))
    kept = (kept_starts, kept_ends, kept_offsets, kept_values)
    _by_run(f"compact<{_type(kept_values)}>", runs, (*args, *kept), starts.size)


def schur_cg_steps(starts, ends, offsets, values, q, d, dinv, tol2, steps, x, r, p, rz, t, work):
    store, tol2, width = (starts, ends, offsets, values), _real(tol2), _int(work.shape[2])
    for k in map(_int, range(1, steps + 1)):
        _sweep(store, p, PRODUCT, q, 1, None, (rz, _int(k - 1), tol2), t, work)
        _by_tile("schur_product", (d, p, rz, k, tol2), work)
        _launch("schur_update", (1,), THREADS, (dinv, tol2, k, x, r, p, rz, work, width))
