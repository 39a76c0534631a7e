"""What a caller may set about how the CPU twins run. Context-local, and free of heavy imports."""

import functools
import os
import warnings
from contextvars import ContextVar

THREADS: ContextVar[int | None] = ContextVar("ntsolve_threads", default=None)


def available_threads() -> int:
    """Threads used where nobody set a number: NTSOLVE_NUM_THREADS, or the processors this process may run on."""
    wanted = _positive(os.environ.get("NTSOLVE_NUM_THREADS", ""))
    if wanted:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.lru_cache  # so that it is said once
def _positive(wanted: str) -> int:
    """The number in NTSOLVE_NUM_THREADS; 0 if there is none."""
    if wanted.strip().isdecimal() and int(wanted) > 0:
        return int(wanted)
    if wanted.strip():
        warnings.warn(f"NTSOLVE_NUM_THREADS={wanted} is not a positive number, and is left out of account",
                      RuntimeWarning, stacklevel=3)  # fmt: skip
    return 0


def threads() -> int:
    """The number of threads that kernels called from this context may use."""
    return THREADS.get() or available_threads()
