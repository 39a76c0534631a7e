"""One module per .cu file, every template instance named once, arguments typed by hand: CuPy converts nothing."""

import functools
import pathlib
import re

import cupy
import numpy as np

HERE = pathlib.Path(__file__).parent
OPTIONS = ("--std=c++17",)
INSTANCES: dict[str, list[str]] = {}
"""file -> every instance of every kernel in it: what is compiled, and what the compile gate checks"""

CTYPE = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long"}
NULL = np.uintp(0)  # a null pointer, for an argument that is None


def source(name):
    """The file's text with its headers pasted in: CuPy's on-disk cache does not see #includes."""
    text = (HERE / name).read_text()
    return re.sub(r'^#include "([^"]+)"\n', lambda match: source(match[1]), text, flags=re.M)


@functools.cache
def _module(device, file):
    """Compiled for, and loaded on, one device."""
    return cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=INSTANCES[file])


@functools.cache
def _function(device, file, instance):
    return _module(device, file).get_function(instance)


def launch(file, instance, grid, block, args, shared=0):
    """Launch an instance on the current stream of the current device. `args` are arrays, NumPy scalars, or None."""
    if min(grid) == 0:
        return
    args = tuple(NULL if a is None else a for a in args)
    _function(cupy.cuda.runtime.getDevice(), file, instance)(grid, (block,), args, shared_mem=shared)
