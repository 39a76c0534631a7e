"""Running a block of iterations. On the CPU it is a loop; the CUDA twin may replay a captured graph."""


class Replay:
    """Call body(1), ..., body(steps), as often as it is run."""

    def __init__(self, body, *, capturable=False):
        self.body = body

    def __call__(self, steps):
        for j in range(1, steps + 1):
            self.body(j)


FLOPS_A_CALL = 1e8  # what one call of a batched kernel may take on, so that a Ctrl-C is seen
