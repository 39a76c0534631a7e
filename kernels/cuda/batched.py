"""CUDA twins of contracts/batched.py: launch geometry and typed arguments."""

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "batched.cu"
WARPS = 4  # systems a block of batched_cg_warp
INSTANCES[FILE] = [
    *(f"batched_cg_warp<{t},{WARPS}>" for t in ("float", "double")),
    *(f"batched_cg_block<{t}>" for t in ("float", "double")),
]


def batched_cg(A, b, jacobi, rtol, atol, maxiter, x, residual, tolerance, nit, outcome):
    batch, n = b.shape
    kind, eps = CTYPE[b.dtype.name], np.float64(np.finfo(b.dtype).eps)
    numbers = (np.int32(jacobi), np.float64(rtol), np.float64(atol), eps, np.int32(maxiter))
    args = (A, b, *numbers, x, residual, tolerance, nit, outcome)
    if n <= 32:
        grid, block = (-(-batch // WARPS),), 32 * WARPS
        launch(FILE, f"batched_cg_warp<{kind},{WARPS}>", grid, block, (*args, np.int32(batch), np.int32(n)))
    else:
        launch(FILE, f"batched_cg_block<{kind}>", (batch,), 256, (*args, np.int32(n)))
