"""Independent pieces of work side by side, each with its own Python around the kernels."""

import itertools

from ..settings import THREADS, threads
from .pool import over_blocks


def each(run, count):
    """run(i) for all i below `count`, in any order, as many at a time as there are threads; kernels in it use one."""
    numbers = itertools.count()  # next() of it is atomic

    def work(first, last):
        token = THREADS.set(1)
        try:
            for number in numbers:
                if number >= count:
                    break
                run(number)
        finally:
            THREADS.reset(token)

    parts = min(count, threads())
    if parts <= 1:
        for number in range(count):
            run(number)
    else:
        over_blocks(work, parts, 1)
