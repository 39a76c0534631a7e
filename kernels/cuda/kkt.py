"""CUDA twins of contracts/kkt.py: launch geometry and typed arguments."""

import numpy as np

from .launch import INSTANCES, launch

FILE = "kkt.cu"
WARPS = 4  # matrices a block
INSTANCES[FILE] = [f"kkt_factor<{WARPS}>", f"kkt_solve<{WARPS}>", "kaczmarz"]


def kkt_factor(H, J, shift, dual_shift, zero, factor, order, inertia):
    (batch, n, _), m = H.shape, J.shape[1]
    args = (H, J, shift, dual_shift, np.float64(zero), factor, order, inertia)
    sizes = (np.int32(batch), np.int32(n), np.int32(m))
    launch(FILE, INSTANCES[FILE][0], (-(-batch // WARPS),), 32 * WARPS, (*args, *sizes))


def kkt_solve(factor, order, X):
    batch, s, q = X.shape
    sizes = (np.int32(batch), np.int32(s), np.int32(q))
    launch(FILE, INSTANCES[FILE][1], (-(-batch // WARPS),), 32 * WARPS, (factor, order, X, *sizes))


def kaczmarz(A, b, squares, rows, x):
    batch, q, n = A.shape
    sizes = (np.int32(q), np.int32(n), np.int32(rows.shape[1]))
    launch(FILE, "kaczmarz", (batch,), 256, (A, b, squares, rows, x, *sizes))
