"""CUDA twins of contracts/steps.py: launch geometry and typed arguments."""

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "steps.cu"
THREADS = 512
INSTANCES[FILE] = [
    *(f"csr_cg_steps<{t},{i}>" for t in ("float", "double") for i in ("int", "long long")),
    *(f"dense_cg_steps<{t}>" for t in ("float", "double")),
]


def _state(dinv, tol2, steps, x, r, p, q, rr, rz):
    batch, n = x.shape
    dinv_rows = np.int32(0 if dinv is None else dinv.shape[0])
    return dinv, dinv_rows, tol2, np.int32(steps), x, r, p, q, rr, rz, np.int32(batch), np.int32(n)


def csr_cg_steps(indptr, indices, data, dinv, tol2, steps, x, r, p, q, rr, rz):
    instance = f"csr_cg_steps<{CTYPE[x.dtype.name]},{CTYPE[indices.dtype.name]}>"
    args = (indptr, indices, data, *_state(dinv, tol2, steps, x, r, p, q, rr, rz))
    launch(FILE, instance, (x.shape[0],), THREADS, args)


def dense_cg_steps(A, dinv, tol2, steps, x, r, p, q, rr, rz):
    args = (A, np.int32(A.shape[0]), *_state(dinv, tol2, steps, x, r, p, q, rr, rz))
    launch(FILE, f"dense_cg_steps<{CTYPE[x.dtype.name]}>", (x.shape[0],), THREADS, args)
