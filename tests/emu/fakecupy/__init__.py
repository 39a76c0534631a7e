"""A strict stand-in for CuPy on top of the emulator: its arrays live in the emulator's memory, its kernels run there.

`install()` puts it in the place of cupy and cupyx. It offers a small part of CuPy, with CuPy's names and
behaviour; what CuPy would silently do wrong, or slowly, is an `EmuError`. Test-only controls are in
tests/emu/control.py, never in the module `cupy` itself.
"""

import sys
import types

import numpy as np

from ..control import launch_count, sync_count
from ..errors import EmuError
from . import devices, functions, memory, raw, reductions, solver, sparse, streams, ufuncs
from .array import ndarray

__all__ = ["EmuError", "install", "launch_count", "modules", "sync_count"]

_DTYPES = (
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool_",
    "intp",
    "uintp",
    "complex64",
    "complex128",
    "dtype",
    "finfo",
    "iinfo",
    "inf",
    "nan",
    "pi",
    "e",
    "newaxis",
    "can_cast",
    "promote_types",
)
_FUNCTIONS = (
    "empty",
    "zeros",
    "ones",
    "full",
    "empty_like",
    "zeros_like",
    "ones_like",
    "full_like",
    "arange",
    "eye",
    "asarray",
    "ascontiguousarray",
    "asnumpy",
    "from_dlpack",
    "where",
    "take",
    "concatenate",
    "stack",
    "broadcast_to",
    "expand_dims",
    "squeeze",
    "ravel",
    "reshape",
    "transpose",
    "copyto",
    "median",
    "clip",
    "nan_to_num",
    "copy",
    "result_type",
    "get_array_module",
)
_REDUCTIONS = ("sum", "prod", "mean", "max", "min", "any", "all", "argmax", "argmin", "cumsum", "matmul", "dot")
_RUNTIME = (
    "getDeviceCount",
    "getDevice",
    "setDevice",
    "getDeviceProperties",
    "runtimeGetVersion",
    "driverGetVersion",
    "deviceSynchronize",
    "memGetInfo",
    "CUDARuntimeError",
)


def _module(name: str, **content) -> types.ModuleType:
    module = types.ModuleType(name, "A stand-in for tests; see tests/emu/fakecupy.")
    vars(module).update(content)
    return module


def _pick(source, names) -> dict:
    return {n: getattr(source, n) for n in names}


def _modules() -> dict[str, types.ModuleType]:
    runtime = _module(
        "cupy.cuda.runtime",
        **_pick(devices, _RUNTIME),
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
    )
    memory_ = _module("cupy.cuda.memory", **_pick(memory, ("OutOfMemoryError", "MemoryPool", "MemoryPointer")))
    stream = _module(
        "cupy.cuda.stream", **_pick(streams, ("Stream", "Event", "get_current_stream", "get_elapsed_time"))
    )
    cuda = _module(
        "cupy.cuda",
        runtime=runtime,
        memory=memory_,
        stream=stream,
        Device=devices.Device,
        is_available=devices.is_available,
        Graph=streams.Graph,
        **_pick(streams, ("Stream", "Event", "get_current_stream", "get_elapsed_time")),
        **_pick(memory, ("MemoryPool", "MemoryPointer")),
    )
    linalg = _module("cupy.linalg", **_pick(solver, ("norm", "cholesky")))
    cupy = _module(
        "cupy",
        ndarray=ndarray,
        ufunc=ufuncs.ufunc,
        array=functions.array_,
        cuda=cuda,
        linalg=linalg,
        RawModule=raw.RawModule,
        RawKernel=raw.RawKernel,
        get_default_memory_pool=memory.get_default_memory_pool,
        **_pick(np, _DTYPES),
        **_pick(functions, _FUNCTIONS),
        **ufuncs.UFUNCS,
        **_pick(reductions, _REDUCTIONS),
        __version__="14.2.0",
    )
    sparse_linalg = _module("cupyx.scipy.sparse.linalg", **_pick(sparse, ("LinearOperator", "aslinearoperator")))
    sparse_ = _module(
        "cupyx.scipy.sparse",
        linalg=sparse_linalg,
        **_pick(
            sparse, ("spmatrix", "csr_matrix", "csc_matrix", "coo_matrix", "issparse", "isspmatrix", "isspmatrix_csr")
        ),
    )
    scipy = _module("cupyx.scipy", sparse=sparse_)
    cupyx = _module("cupyx", scipy=scipy, errstate=solver.errstate)
    found = (cupy, cuda, runtime, memory_, stream, linalg, cupyx, scipy, sparse_, sparse_linalg)
    for m in found:
        m.__path__ = []  # packages, as far as `import a.b` is concerned
    return {m.__name__: m for m in found}


modules = _modules()


def install() -> None:
    """Make `import cupy` and `import cupyx` give the stand-in."""
    for name in [n for n in sys.modules if n.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")]:
        if sys.modules[name] is not modules.get(name):
            del sys.modules[name]
    sys.modules.update(modules)
