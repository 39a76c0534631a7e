"""CUDA twins of contracts/sketch.py: launch geometry and typed arguments."""

import numpy as np

from .launch import CTYPE, INSTANCES, launch

FILE = "sketch.cu"
THREADS = 256
REALS, RADICES = ("float", "double"), (8, 4, 2)
INSTANCES[FILE] = [
    *(f"{name}<{t}>" for name in ("sample_rows", "sum_buckets", "gram_matvec") for t in REALS),
    *(f"hadamard<{t},{r}>" for t in REALS for r in RADICES),
    "gram_total",
    *(f"gram_csr<{t},{i}>" for t in REALS for i in ("int", "long long")),
]


def _instance(name, like, *more):
    return f"{name}<{','.join((CTYPE[like.dtype.name], *map(str, more)))}>"


def _blocks(count):
    return -(-count // THREADS)


def sample_rows(X, rows, weights, Y):
    k, n = Y.shape
    grid = (min(k, 65535), _blocks(n))
    launch(FILE, _instance("sample_rows", X), grid, THREADS, (X, rows, weights, Y, np.int32(k), np.int32(n)))


def sum_buckets(X, start, rows, weights, Y):
    k, n = Y.shape
    args = (X, start, rows, weights, Y, np.int32(n))
    launch(FILE, _instance("sum_buckets", X), (k, _blocks(n)), THREADS, args)


def hadamard(A):
    N, n = A.shape
    half = 1
    if N == 1 or not n:
        return
    while half < N:
        radix = next(r for r in RADICES if half * r <= N)
        scale = np.float64(1 / np.sqrt(N) if half == 1 else 1.0)
        threads = N // radix * n
        args = (A, np.int64(n), np.int64(half), np.int64(threads), scale)
        launch(FILE, _instance("hadamard", A, radix), (_blocks(threads),), THREADS, args)
        half *= radix


def gram_matvec(X, d, v, y, work):
    N, n = X.shape
    blocks = work.shape[0]
    launch(FILE, _instance("gram_matvec", X), (blocks,), THREADS, (X, d, v, work, np.int32(N), np.int32(n)))
    launch(FILE, "gram_total", (_blocks(n),), THREADS, (work, y, np.int32(blocks), np.int32(n)))


def gram_csr(indptr, indices, data, d, G):
    n = G.shape[0]
    instance = f"gram_csr<{CTYPE[data.dtype.name]},{CTYPE[indptr.dtype.name]}>"
    args = (indptr, indices, data, d, G, np.int32(d.size), np.int32(n))
    launch(FILE, instance, (-(-n // (THREADS // 32)),), THREADS, args)
