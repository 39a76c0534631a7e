"""CUDA twins of contracts/lp.py: launch geometry and typed arguments."""

import functools

import numpy as np

from .launch import INSTANCES, launch

FILE = "lp.cu"
THREADS = ROWS = 256
WIDTHS = (1, 4, 32)  # lanes a row
INSTANCES[FILE] = [
    *(f"lp_equilibrate<{w},{by_sum}>" for w in WIDTHS for by_sum in ("false", "true")),
    *(
        f"{name}<{w}>"
        for name in ("lp_scale", "lp_product", "lp_columns", "lp_rows", "lp_look_rows", "lp_look_columns")
        for w in WIDTHS
    ),
    *("lp_power_end", "lp_errors_end", "lp_first", "lp_look_end", "lp_anchor"),
]
_launch = functools.partial(launch, FILE)
_int = np.int32


def _over_rows(name, batch, rows, nnz, args, *, also=""):
    """Launch a kernel that runs a block for each program and ROWS rows, with few lanes where rows are short.

    `also` names the rest of the template's arguments.
    """
    mean = nnz / max(1, rows)
    width = next((w for w in WIDTHS if 4 * w >= mean), WIDTHS[-1])
    _launch(f"{name}<{width}{also}>", (-(-rows // ROWS), batch), THREADS, args)


# ---- scaling --------------------------------------------------------------------------------------------------------


def lp_equilibrate(indptr, indices, data, own, other, by_sum, out):
    (batch, m), n, nnz = own.shape, other.shape[1], indices.size
    args = (indptr, indices, data, own, other, out, _int(nnz), _int(m), _int(n))
    _over_rows("lp_equilibrate", batch, m, nnz, args, also=",true" if by_sum else ",false")


def lp_scale(indptr, indices, data, own, other, out):
    (batch, m), n, nnz = own.shape, other.shape[1], indices.size
    _over_rows("lp_scale", batch, m, nnz, (indptr, indices, data, own, other, out, _int(nnz), _int(m), _int(n)))


def lp_power(indptr, indices, data, tindptr, tindices, tdata, steps, v, u, w, out):
    (batch, m), n, nnz = v.shape, u.shape[1], indices.size
    before, after = v, w
    for step in range(steps):
        if step:
            before, after = after, before
        _over_rows("lp_product", batch, n, nnz, (tindptr, tindices, tdata, before, u, _int(nnz), _int(n), _int(m)))
        _over_rows("lp_product", batch, m, nnz, (indptr, indices, data, u, after, _int(nnz), _int(m), _int(n)))
    _launch("lp_power_end", (batch,), THREADS, (before, after, v, out, _int(m)))


# ---- optimality -----------------------------------------------------------------------------------------------------


def _look(parts, x, y, moving, work):
    """What rows and columns leave in `work`, and how many blocks of each there are."""
    (indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
     scalars) = parts  # fmt: skip
    (batch, n), m, nnz, blocks = x.shape, y.shape[1], indices.size, work.shape[2]
    state, x0, y0, dx, dy = moving
    rows = (indptr, indices, data, row_lower, row_upper, row_unit, scalars, x, y, state, y0, dx, dy, work)
    _over_rows("lp_look_rows", batch, m, nnz, (*rows, _int(nnz), _int(m), _int(n), _int(blocks)))
    columns = (tindptr, tindices, tdata, c, lower, upper, col_unit, scalars, x, y, state, x0, dx, work)
    _over_rows("lp_look_columns", batch, n, nnz, (*columns, _int(nnz), _int(m), _int(n), _int(blocks)))
    return _int(blocks), _int(-(-m // ROWS)), _int(-(-n // ROWS))


def lp_errors(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit,
              col_unit, scalars, x, y, work, errors):  # fmt: skip
    parts = (indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
             scalars)  # fmt: skip
    counts = _look(parts, x, y, (None,) * 5, work)
    _launch("lp_errors_end", (x.shape[0],), 32, (work, scalars, errors, *counts))


# ---- iteration ------------------------------------------------------------------------------------------------------


def lp_steps(indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
             scalars, tol, done, steps, every, x, y, x0, y0, p, q, dx, dy, reflected, state, errors, trace,
             work):  # fmt: skip
    parts = (indptr, indices, data, tindptr, tindices, tdata, c, lower, upper, row_lower, row_upper, row_unit, col_unit,
             scalars)  # fmt: skip
    (batch, n), m, nnz = x.shape, y.shape[1], indices.size
    sizes, moving = (_int(nnz), _int(m), _int(n)), (state, x0, y0, dx, dy)
    look = since = 0
    for k in range(done + 1, done + steps + 1):
        since += 1
        due, end = k % every == 0, k == done + steps
        now = (state, _int(since), _int(due or end))
        _over_rows("lp_columns", batch, n, nnz,
                   (tindptr, tindices, tdata, c, lower, upper, *now, x, y, x0, p, dx, reflected, *sizes))  # fmt: skip
        _over_rows("lp_rows", batch, m, nnz,
                   (indptr, indices, data, row_lower, row_upper, *now, y, y0, q, dy, reflected, *sizes))  # fmt: skip
        if since == 1:
            _launch("lp_first", (batch,), 32, (work, state, *_look(parts, p, q, moving, work)))
        if due or end:
            counts = _look(parts, p, q, moving, work)
            numbers = (np.float64(tol), _int(since), _int(due), _int(every))
            place = (_int(look), _int(trace.shape[1]))
            _launch("lp_look_end", (batch,), 32, (work, scalars, *numbers, state, errors, trace, *place, *counts))
            for anchor, v, v0, size in ((p, x, x0, n), (q, y, y0, m)) if due else ():
                _launch("lp_anchor", (-(-size // THREADS), batch), THREADS, (state, anchor, v, v0, _int(size)))
            look, since = look + 1, 0
