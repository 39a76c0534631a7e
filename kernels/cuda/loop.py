"""Running a block of iterations: as it is, or as a captured CUDA graph, which launches faster."""

import functools

import cupy

from ..contracts.gibbs import parts_of

SMALL = 50_000  # reads and writes an iteration up to which one block does it sooner than several launches
FLOPS_A_CALL = 1e12  # what one call of a batched kernel may take on: well under 100 ms of it
WORTH_CAPTURING = 8  # steps
ENTRIES_A_PROBLEM = 2**21  # of a transport problem that one block of threads takes; a larger one fills the device
column_parts = functools.partial(parts_of, most=264, grain=4096)  # two blocks for each multiprocessor of an H200
PACKED_RUNS = 2112  # of rows that an annealed or compacted kernel has next to each other: a warp each


class Replay:
    """Call body(1), ..., body(steps), as often as it is run; blocks of 8 steps and more are captured, then replayed.

    A captured body launches kernels on arrays that exist before and after: it allocates nothing, asks the device
    nothing, and the arrays stay where they are.
    """

    def __init__(self, body, *, capturable=False):
        self.body, self.capturable, self.graphs = body, capturable, {}

    def __call__(self, steps):
        if not self.capturable or steps < WORTH_CAPTURING:
            self._run(steps)
            return
        if steps not in self.graphs:
            stream = cupy.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
            with stream:
                stream.begin_capture()
                try:
                    self._run(steps)
                finally:
                    graph = stream.end_capture()
            self.graphs[steps] = graph
        self.graphs[steps].launch(cupy.cuda.get_current_stream())

    def _run(self, steps):
        for j in range(1, steps + 1):
            self.body(j)
