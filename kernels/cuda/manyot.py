"""CUDA twin of contracts/manyot.py: launch geometry and typed arguments."""

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "manyot.cu"
THREADS = 512
INSTANCES[FILE] = [f"transport_items<{t}>" for t in ("float", "double")]


def transport_items(C, a, b, places, sizes, reg, tol, limit, r, f, g, columns, error, nit, outcome, room, wide, tall):
    args = (C, a, b, places, sizes, np.float64(reg), tol, np.int32(limit), r, f, g, columns, error, nit)
    kernel = f"transport_items<{CTYPE[C.dtype.name]}>"
    launch(FILE, kernel, (r.size,), THREADS, (*args, outcome, room, wide, tall, np.int64(b.size)))
