"""What a caller may set about how the CPU twins run. Context-local, and free of heavy imports."""

import os
from contextvars import ContextVar

THREADS: ContextVar[int | None] = ContextVar("ntsolve_threads", default=None)


def available_threads() -> int:
    """Threads used where nobody set a number: NTSOLVE_NUM_THREADS, or the processors this process may run on."""
    wanted = os.environ.get("NTSOLVE_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """The number of threads that kernels called from this context may use."""
    return THREADS.get() or available_threads()
