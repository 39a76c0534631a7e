"""Every template instance named in one place, arguments typed by hand: CuPy converts nothing."""

import functools

import cupy
import numpy as np

from ..sources import source

OPTIONS = ("--std=c++17",)
INSTANCES: dict[str, list[str]] = {}
"""file -> every instance of every kernel in it: what is compiled, and what the compile gate checks"""

CTYPE = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long"}
NULL = np.uintp(0)  # a null pointer, for an argument that is None


@functools.cache
def _function(device, file, instance):
    """Compiled for, and loaded on, one device. A module an instance: a caller waits for those that a solve uses."""
    return cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=[instance]).get_function(instance)


def launch(file, instance, grid, block, args, shared=0):
    """Launch an instance on the current stream of the current device. `args` are arrays, NumPy scalars, or None."""
    if min(grid) == 0:
        return
    args = tuple(NULL if a is None else a for a in args)
    _function(cupy.cuda.runtime.getDevice(), file, instance)(grid, (block,), args, shared_mem=shared)
