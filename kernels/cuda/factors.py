"""CUDA twins of contracts/factors.py: launch geometry and typed arguments. To factor is cuSOLVER's, through CuPy."""

import functools

import cupy
import cupyx
import numpy as np

from .launch import INSTANCES, launch

FILE = "factors.cu"
THREADS = 256
BATCHED = 256  # order up to which cuSOLVER has many matrices at once
INSTANCES[FILE] = ["cholesky_verdict", "cholesky_solve", "shift_factor"]
_launch = functools.partial(launch, FILE)
_int = np.int32


def _factor(A, L):
    """L = the factor of A, one matrix or a stack; whether there is one. For a stack CuPy says no if one of it fails."""
    try:
        with cupyx.errstate(linalg="raise"):  # else it answers without looking; this waits for the device
            L[...] = cupy.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        return False
    return True


def cholesky(A, shift, L, info):
    blocks, q = A.shape[:2]
    L[...] = A
    diagonal = L.reshape(blocks, q * q)[:, :: q + 1]
    cupy.add(diagonal, shift, out=diagonal)
    info.fill(0)
    if q and not (1 < blocks and q <= BATCHED and _factor(L, L)):
        for k in range(blocks):
            if not _factor(L[k], L[k]):
                info[k] = 1
    _launch("cholesky_verdict", (blocks,), THREADS, (L, info, _int(q)))


def cholesky_solve(L, X):
    blocks, s, q = X.shape
    _launch("cholesky_solve", (blocks * s if q else 0,), THREADS, (L, X, _int(s), _int(q)))


def shift_factor(L, drop, row, corner, work, info):
    args = (L, _int(drop), row, np.float64(corner), work, info, _int(L.shape[0]))
    _launch("shift_factor", (1,), THREADS, args)
