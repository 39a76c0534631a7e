"""What an entry costs in the two passes that a transport solve is made of, and the floor under them."""

import time

import numpy as np

from ntsolve.kernels import cpu
from ntsolve.kernels.contracts.gibbs import LANES, width_of, workspace_shape

from ._floor import copy_bandwidth


def _best(function, repeats):
    function()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure(n, repeats):
    """(name, bound, nanoseconds an entry, what the floor is) of the pass with exponentials, and of the sweep."""
    rng = np.random.default_rng(0)
    C, weights, width = rng.random((n, n)), np.full(n, 1 / n), width_of(n)
    padded = np.zeros(width)
    padded[:n] = 1 / n
    log_v, log_sum, col = np.zeros(width), np.empty(n), np.zeros(width)
    work = np.empty(workspace_shape(cpu.column_parts(n * n), width))
    scale = 100.0

    def exp_pass():
        cpu.gibbs_sums(C, None, None, 0, log_v, scale, weights, 1.0, log_sum, col, work)

    lanes = width // LANES
    starts, ends = np.arange(n, dtype=np.int64) * lanes, np.empty(n, np.int64)
    offsets, values = np.empty(n * lanes, np.int32), np.empty((n * lanes, LANES))
    cpu.gibbs_kernel(C, None, None, 0, None, log_v, scale, weights, 1.0, padded, 0.0, starts, ends, offsets, values,
                     log_sum, col, work)  # fmt: skip
    v, s, y = np.ones(width), np.empty(n), np.empty(width)

    def sweep():
        cpu.scaling_sweep(starts, ends, offsets, values, v, weights, 1.0, s, y, work)

    entries = n * n
    bandwidth = 0.5 * copy_bandwidth(1, mebibytes=64, repeats=3)  # a pass reads, and writes nothing to speak of
    exponents, powers = -30 * rng.random(1 << 16), np.empty(1 << 16)
    exponential = _best(lambda: np.exp(exponents, out=powers), 20) / exponents.size * 1e9
    read = 8 / bandwidth * 1e9
    floor = f"reading the costs takes {read:.2f} (copy, same run), NumPy's exp {exponential:.2f}"
    yield "exp pass", 3.0, _best(exp_pass, repeats) / entries * 1e9, floor
    stored = int((ends - starts).sum()) * LANES
    floor = f"reading the stored kernel takes {read * 8.5 / 8:.2f}, each entry is multiplied and added twice"
    yield "sweep", 1.0, _best(sweep, repeats) / stored * 1e9, floor
