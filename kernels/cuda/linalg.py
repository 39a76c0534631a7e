"""CUDA twins of contracts/linalg.py: launch geometry and typed arguments."""

import functools

import numpy as np

from ..contracts import BLOCK
from .launch import CTYPE, INSTANCES, launch

FILE = "linalg.cu"
THREADS = 256
REALS, INTEGERS, WIDTHS, TOTALS = ("float", "double"), ("int", "long long"), (1, 2, 4, 8, 16, 32), (32, 256)
INSTANCES[FILE] = [
    *(
        f"{name}<{t},{i},{w}>"
        for name in ("csr_matvec", "csr_matvec_dot")
        for t in REALS
        for i in INTEGERS
        for w in WIDTHS
    ),
    *(
        f"{name}<{t}>"
        for name in ("dense_matvec", "dot", "norm", "cg_update", "flexible_dots", "cg_direction")
        for t in REALS
    ),
    *(f"{name}<{w}>" for name in ("total", "cg_update_total") for w in TOTALS),
    *(f"csr_residual<{t},{i}>" for t in REALS for i in INTEGERS),
    *(f"dense_residual<{t}>" for t in REALS),
    "norm_total",
]
_launch = functools.partial(launch, FILE)
_int = np.int32


def _type(array):
    return CTYPE[array.dtype.name]


def _width(nnz, rows):
    """Lanes a row: few, so that a warp has several rows under way; more only where rows are long."""
    mean = nnz / max(1, rows)
    return next((w for w in WIDTHS if 4 * w >= mean), WIDTHS[-1])


def _over_vector(name, like, args, work, *extra):
    """Launch a kernel that runs a block for each system and BLOCK elements."""
    batch, n = like.shape
    blocks = work.shape[2] if work is not None else max(1, -(-n // BLOCK))
    _launch(f"{name}<{_type(like)}>", (batch * blocks,), THREADS, (*args, *extra, _int(n), _int(blocks)))
    return blocks


def _total_width(blocks):
    return TOTALS[0] if blocks <= 16 else TOTALS[1]


def _total(work, out0, out1):
    blocks = work.shape[2]
    width = _total_width(blocks)
    _launch(f"total<{width}>", (out0.size,), width, (work, out0, out1, _int(blocks)))


# ---- products -------------------------------------------------------------------------------------------------------


def csr_matvec(indptr, indices, data, x, y):
    (batch, n), m = y.shape, x.shape[1]
    instance = f"csr_matvec<{_type(data)},{_type(indptr)},{_width(indices.size, n)}>"
    args = (indptr, indices, data, x, y, _int(batch), _int(n), _int(m))
    _launch(instance, (-(-n // BLOCK),), THREADS, args)


def csr_matvec_dot(indptr, indices, data, p, q, pq, work):
    (batch, n), blocks = q.shape, work.shape[2]
    instance = f"csr_matvec_dot<{_type(data)},{_type(indptr)},{_width(indices.size, n)}>"
    _launch(instance, (blocks,), THREADS, (indptr, indices, data, p, q, work, _int(batch), _int(n), _int(blocks)))
    _total(work, pq, None)


def dense_matvec(A, x, y):
    (batch, n), (stack, _, m) = y.shape, A.shape
    grid = (-(-n // (THREADS // 32)), min(batch, 65535) if stack > 1 else 1)
    _launch(f"dense_matvec<{_type(A)}>", grid, THREADS, (A, x, y, _int(stack), _int(batch), _int(n), _int(m)))


def csr_residual(indptr, indices, data, x, b, r):
    (batch, n), m = r.shape, x.shape[1]
    args = (indptr, indices, data, x, b, r, _int(batch), _int(n), _int(m))
    _launch(f"csr_residual<{_type(data)},{_type(indptr)}>", (-(-n // THREADS),), THREADS, args)


def dense_residual(A, x, b, r):
    (batch, n), (stack, _, m) = r.shape, A.shape
    grid = (-(-n // (THREADS // 32)), min(batch, 65535) if stack > 1 else 1)
    _launch(f"dense_residual<{_type(A)}>", grid, THREADS, (A, x, b, r, _int(stack), _int(batch), _int(n), _int(m)))


# ---- reductions -----------------------------------------------------------------------------------------------------


def dot(x, y, out, work):
    _over_vector("dot", x, (x, y, work), work)
    _total(work, out, None)


def norm(x, out, work):
    blocks = _over_vector("norm", x, (x, work), work)
    _launch("norm_total", (out.size,), 32, (work, out, _int(blocks)))


# ---- conjugate gradients --------------------------------------------------------------------------------------------


def _rows(dinv):
    return _int(0 if dinv is None else dinv.shape[0])


def cg_update(p, q, dinv, rz_old, pq, rr_old, tol2, carry, x, r, rr, rz, work):
    args = (p, q, dinv, rz_old, pq, rr_old, tol2, x, r, work)
    blocks = _over_vector("cg_update", x, args, work, _rows(dinv))
    width = _total_width(blocks)
    scalars = (rz_old, pq, rr_old, tol2, np.float64(carry), rr, rz, work, _int(blocks))
    _launch(f"cg_update_total<{width}>", (rr.size,), width, scalars)


def flexible_dots(z, r, q, rz, minus_zq, work):
    _over_vector("flexible_dots", z, (z, r, q, work), work)
    _total(work, rz, minus_zq)


def cg_direction(z, dinv, numerator, denominator, p):
    _over_vector("cg_direction", p, (z, dinv, numerator, denominator, p), None, _rows(dinv))
