"""Running a block of iterations. On the CPU it is a loop; the CUDA twin may replay a captured graph."""

import functools

from ..contracts.gibbs import parts_of


class Replay:
    """Call body(1), ..., body(steps), as often as it is run."""

    def __init__(self, body, *, capturable=False):
        self.body = body

    def __call__(self, steps):
        for j in range(1, steps + 1):
            self.body(j)


SMALL = 300_000  # reads and writes an iteration up to which one thread does it sooner than several
FLOPS_A_CALL = 5e7  # what one call of a batched kernel may take on, so that a Ctrl-C is seen
column_parts = functools.partial(parts_of, most=16, grain=65_536)  # a run of rows takes 60 microseconds and more
PACKED_RUNS = 16  # of rows, which an annealed or compacted kernel has next to each other
ENTRIES_A_PROBLEM = 48**2  # of a transport problem that one core solves sooner than the loop over kernels
