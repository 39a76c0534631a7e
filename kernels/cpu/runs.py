"""Sums over rows, whatever the number of threads: rows are cut into runs, each with a column sum of its own.

There are as many runs as `work` (runs, slots, width) has room for. Run k adds up in work[k, 0]; the runs are then put
together in their order.
"""

from numba import njit

from .lanes import LANES_JIT, SMALL_JIT, larger, load, smaller, store
from .pool import over_blocks


def over_runs(body, work, *args):
    """Share the runs among threads: body(first, last, work, *args)."""
    over_blocks(body, work.shape[0], 1, work, *args)


@njit(**SMALL_JIT)
def rows_of(run, runs, n):
    """First row of a run, and the one after its last."""
    return run * n // runs, (run + 1) * n // runs


@njit(**LANES_JIT)
def add_runs(work, out):
    """out += the sum of the runs."""
    width = out.size
    for j in range(0, width, 8):
        total = load(out, j)
        for run in range(work.shape[0]):
            total = total + load(work, run * work.shape[1] * width + j)
        store(out, j, total)


@njit(**LANES_JIT)
def sum_runs(work, out):
    """out = the sum of the runs."""
    width = out.size
    for j in range(0, width, 8):
        total = load(work, j)
        for run in range(1, work.shape[0]):
            total = total + load(work, run * work.shape[1] * width + j)
        store(out, j, total)


@njit(**LANES_JIT)
def largest_of_runs(work, out):
    """out = the largest of the runs."""
    width = out.size
    for j in range(0, width, 8):
        most = load(work, j)
        for run in range(1, work.shape[0]):
            most = larger(load(work, run * work.shape[1] * width + j), most)
        store(out, j, most)


@njit(**LANES_JIT)
def lower_to_runs(work, out):
    """out = the smallest of the runs and out."""
    width = out.size
    for j in range(0, width, 8):
        least = load(out, j)
        for run in range(work.shape[0]):
            least = smaller(load(work, run * work.shape[1] * width + j), least)
        store(out, j, least)
