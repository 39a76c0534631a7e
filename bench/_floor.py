"""The floor under an iteration: bytes it has to move, over the bandwidth that a copy reaches in the same run."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ntsolve.demo import need


def cg_bytes(n, stored, *, value=8, index=4):
    """Bytes that a CG iteration of ntsolve on CSR reads and writes: each vector once in each of its three passes.

    q = A p with p.q: the matrix, p and q. x += alpha p, r -= alpha q: four read, two written. p = r + beta p: three.
    """
    return stored * (value + index) + n * index + n * value * (2 + 6 + 3)


def copy_bandwidth(threads=1, *, mebibytes=256, repeats=7):
    """Bytes a second, read plus written, of np.copyto on that many threads; the best of a few."""
    size = mebibytes * 2**20 // 8
    source, target = np.ones(size), np.zeros(size)
    cuts = [size * part // threads for part in range(threads + 1)]
    parts = [slice(low, high) for low, high in itertools.pairwise(cuts)]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            began = time.perf_counter()
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))  # copies without the GIL
            best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


def read_bandwidth(threads=1, *, mebibytes=512, repeats=5):
    """Bytes a second that a dot product of a float32 array with itself reads, on that many threads; best of a few."""
    (threadpoolctl,) = need("threadpoolctl")
    size = mebibytes * 2**20 // 4
    source = np.ones(size, np.float32)
    cuts = [size * part // threads for part in range(threads + 1)]
    parts = [source[low:high] for low, high in itertools.pairwise(cuts)]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool, threadpoolctl.threadpool_limits(1, "blas"):
        for _ in range(repeats):
            began = time.perf_counter()
            list(pool.map(lambda part: part @ part, parts))
            best = min(best, time.perf_counter() - began)
    return source.nbytes / best


def sentence(name, moved, seconds, bandwidth):
    """Predicted and reached, in words. Above 100 % the vectors fit in a cache, and the floor is no floor."""
    predicted = moved / bandwidth
    return (
        f"floor of {name}: {moved / 1e6:.3g} MB an iteration at {bandwidth / 1e9:.3g} GB/s (copy, same run) is "
        f"{predicted * 1e3:.3g} ms; reached {seconds * 1e3:.3g} ms, {100 * predicted / seconds:.0f} % of it"
    )
