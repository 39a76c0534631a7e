"""Controls and counters of the emulator, for tests only; nothing here has a counterpart in CuPy."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator

from . import build

lock = threading.RLock()  # around everything that counts, captures or orders


@dataclasses.dataclass
class Counts:
    """What the host asked of the devices so far.

    Attributes
    ----------
    syncs : times the host waited: get, item, float, bool, boolean masks, synchronize
    launches : raw kernels launched by the host
    graph_launches : graphs launched by the host
    array_ops : elementwise, reduction, copy and fill operations; on a GPU each is at least one small kernel
    allocations : device arrays that own memory
    uploads : copies from host to device
    """

    syncs: int = 0
    launches: int = 0
    graph_launches: int = 0
    array_ops: int = 0
    allocations: int = 0
    uploads: int = 0

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(*(a - b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


_counts = Counts()
_schedule = int(os.environ.get("EMU_SCHEDULE", "0"))


def counts() -> Counts:
    """A copy of the counters; subtract two of them."""
    return dataclasses.replace(_counts)


def count(what: str) -> None:
    with lock:
        setattr(_counts, what, getattr(_counts, what) + 1)


def sync_count() -> int:
    return _counts.syncs


def launch_count() -> int:
    return _counts.launches


def current_schedule() -> int:
    return _schedule


@contextlib.contextmanager
def schedule(number: int) -> Iterator[None]:
    """Run threads and blocks in another order: 0 forwards, 1 backwards, any other number a seed."""
    global _schedule
    before, _schedule = _schedule, number
    try:
        yield
    finally:
        _schedule = before


@contextlib.contextmanager
def unwritten_reads_allowed() -> Iterator[None]:
    """Do not object when something reads device memory that nothing has written."""
    build.runtime().emu_check_written(0)
    try:
        yield
    finally:
        build.runtime().emu_check_written(1)
