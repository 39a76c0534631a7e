"""Numerical solvers behind one NumPy-style API, on the CPU (Numba) and the GPU (CuPy).

NumPy arrays run on the CPU, CuPy arrays on the GPU. The public names load when they are first used.
"""

import importlib

from ._checkout import find_kernels
from ._version import __version__

find_kernels()

_HOME = {
    "cg": "linalg.cg",
    "config": "config",
    "progress": "monitor",
    "LinearResult": "result",
    "Result": "result",
    "Status": "result",
    "ConvergenceError": "errors",
    "ConvergenceWarning": "errors",
    "PerformanceWarning": "errors",
    "PrecisionWarning": "errors",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name):
    if name in _HOME:
        found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    if name == "compat":
        return importlib.import_module(f"{__name__}.compat")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME, "compat"])
