"""Settings that hold in a context: this thread or asyncio task, for as long as the `with` block lasts."""

import operator
import warnings
from contextvars import ContextVar

from .kernels.settings import THREADS

BACKEND: ContextVar[str] = ContextVar("ntsolve_backend", default="auto")
BUDGET: ContextVar[int] = ContextVar("ntsolve_budget", default=2**30)


class config:
    """Settings for the solves inside a `with` block, in which they hold for this thread or asyncio task.

    Outside of one they do nothing, and say so. What is to hold for a whole program goes around its main function; the
    number of threads of a process can also be set in its environment, as NTSOLVE_NUM_THREADS.

    Parameters
    ----------
    threads : int, optional
        Threads that a CPU kernel may use. Default: NTSOLVE_NUM_THREADS, else the processors of this process.
    backend : {"auto", "cpu", "cuda"}, optional
        "auto" goes by the arrays: NumPy on the CPU, CuPy on the GPU. The others refuse arrays that live elsewhere
        (TypeError) and so guard a pipeline against a solve on the wrong side. Nothing is ever copied across.
    budget : int, optional
        Bytes that a solver may hold at a time of data that it could as well keep on disk, such as the gradients of an
        `EmpiricalFisher`. Default: 2**30, one GiB.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Warns
    -----
    RuntimeWarning
        If settings were made and never entered with `with`.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> with ntsolve.config(threads=1):
    ...     r = ntsolve.cg(np.diag([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> r.x
    array([1., 2.])
    """

    def __init__(self, *, threads=None, backend=None, budget=None) -> None:
        threads, budget = _positive("threads", threads), _positive("budget", budget)
        if backend not in (None, "auto", "cpu", "cuda"):
            raise ValueError(f'backend must be "auto", "cpu" or "cuda", not {backend!r}')
        self._wanted = [(THREADS, threads), (BACKEND, backend), (BUDGET, budget)]
        self._undo: list = []
        self._unused = any(value is not None for _, value in self._wanted)

    def __del__(self):
        if getattr(self, "_unused", False):  # without the attribute where a setting was refused
            warnings.warn("ntsolve.config(...) does nothing by itself: use it as `with ntsolve.config(...): ...`",
                          RuntimeWarning, stacklevel=2)  # fmt: skip

    def __enter__(self) -> "config":
        self._unused = False
        self._undo.append([(variable, variable.set(value)) for variable, value in self._wanted if value is not None])
        return self

    def __exit__(self, *exception) -> None:
        for variable, token in reversed(self._undo.pop()):
            variable.reset(token)


def _positive(name, value):
    if value is None:
        return None
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or operator.index(value) < 1:
        raise ValueError(f"{name} must be a positive integer, not {value!r}")
    return operator.index(value)
