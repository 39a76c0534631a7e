"""cupy.RawModule: kernels from source, with their arguments checked against the compiled signature.

CuPy passes on whatever bytes it is given: a Python int becomes an int64, also where the kernel has an int; an array
gives its address, whatever its dtype, order and device. Here each of these is an error.
"""

import re

import numpy as np

from .. import build, control, source
from ..errors import EmuError
from . import memory, streams
from .array import address, device_of, ndarray
from .devices import SHARED_OPTIN

SCALARS = {
    "b": "bool",
    "c": "int8",
    "a": "int8",
    "h": "uint8",
    "s": "int16",
    "t": "uint16",
    "i": "int32",
    "j": "uint32",
    "l": "int64",
    "m": "uint64",
    "x": "int64",
    "y": "uint64",
    "f": "float32",
    "d": "float64",
}
VECTOR = re.compile(r"\d+(float|double|int|uint|longlong|char|uchar)[234]")
VECTOR_OF = {
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "uint": "uint32",
    "longlong": "int64",
    "char": "int8",
    "uchar": "uint8",
}
COMPLEX = {"float32": "complex64", "float64": "complex128"}
STATIC_SHARED = 48 << 10


class RawModule:
    """As cupy.RawModule with `code=`."""

    __module__ = "cupy._core.raw"

    def __init__(
        self,
        *,
        code=None,
        path=None,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        name_expressions=None,
        jitify=False,
    ):
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is not None or backend != "nvrtc" or translate_cucomplex or enable_cooperative_groups or jitify:
            raise EmuError("the emulator takes code= for NVRTC only")
        if not isinstance(code, str):
            raise TypeError("code must be a str")
        if not isinstance(options, tuple):
            raise TypeError("options must be a tuple of str")
        self.code, self.options, self.backend = code, options, backend
        self.name_expressions = None if name_expressions is None else tuple(name_expressions)

    def get_function(self, name):
        unmangled = rf'extern\s+"C"\s+__global__[^;{{]*\b{re.escape(name)}\s*\('
        if name not in (self.name_expressions or ()) and not re.search(unmangled, self.code):
            raise EmuError(f'CUDA_ERROR_NOT_FOUND: {name!r} is neither in name_expressions nor extern "C"')
        try:
            return RawKernel._of(build.instance(self.code, name, self.options), name)
        except (build.BuildError, source.SourceError) as e:
            raise EmuError(str(e)) from e

    def compile(self, log_stream=None) -> None:
        build.prebuild([(self.code, self.name_expressions or (), self.options)])


class RawKernel:
    """As cupy.RawKernel, of a RawModule."""

    __module__ = "cupy._core.raw"

    def __init__(self, *args, **kwargs):
        raise EmuError("use cupy.RawModule(...).get_function(name)")

    @classmethod
    def _of(cls, instance: build.Instance, name: str) -> "RawKernel":
        kernel = cls.__new__(cls)
        kernel._instance, kernel.name, kernel.__name__, kernel._max_dynamic = instance, name, name, STATIC_SHARED
        return kernel

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._max_dynamic

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, n):
        if not 0 <= n <= SHARED_OPTIN:
            raise EmuError(
                f"CUDA_ERROR_INVALID_VALUE: {n} bytes of dynamic shared memory, the device has {SHARED_OPTIN}"
            )
        self._max_dynamic = int(n)

    def __call__(self, grid, block, args, *, shared_mem=0):
        if not (isinstance(grid, tuple) and isinstance(block, tuple) and isinstance(args, (tuple, list))):
            raise TypeError("grid, block and args must be tuples")
        grid, block = self._geometry(grid, block)
        if not 0 <= shared_mem <= self._max_dynamic:
            raise EmuError(
                f"{self.name}: CUDA_ERROR_INVALID_VALUE: {shared_mem} bytes of dynamic shared memory, "
                f"max_dynamic_shared_size_bytes is {self._max_dynamic}"
            )
        signature = self._instance.signature
        if len(args) != len(signature):
            raise EmuError(f"{self.name}: {len(args)} arguments, the kernel has {len(signature)}")
        values, ranges, reads, writes = [], [], [], []
        for k, (a, kind) in enumerate(zip(args, signature, strict=True)):
            if kind.startswith("P"):
                self._pointer(k, a, kind, values, ranges, reads, writes)
            else:
                values.append(self._scalar(k, a, kind))
        instance, name, shared = self._instance, self.name, int(shared_mem)

        def run():
            message = instance.run(grid, block, values, ranges, shared, control.current_schedule())
            if message:
                raise EmuError(f"{name}: {message}")

        reads = [b for b in reads if not any(b is w for w in writes)]
        streams.submit(name, run, reads, writes, kind="launches")

    def _geometry(self, grid, block):
        for what, sizes in (("grid", grid), ("block", block)):
            if not 1 <= len(sizes) <= 3 or not all(
                isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes
            ):
                raise EmuError(f"{self.name}: {what} {sizes!r} is not one to three ints")
            if min(sizes) < 1:
                raise EmuError(f"{self.name}: {what} {sizes!r}; CuPy takes a zero for a one, and launches")
        grid, block = (tuple(int(n) for n in (*s, 1, 1)[:3]) for s in (grid, block))
        if block[0] * block[1] * block[2] > 1024 or block[2] > 64 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
            raise EmuError(f"{self.name}: CUDA_ERROR_INVALID_VALUE: grid {grid}, block {block}")
        return grid, block

    def _scalar(self, k, a, kind) -> bytes:
        want = SCALARS.get(kind)
        if want is None:
            raise EmuError(f"{self.name} argument {k}: the emulator passes numbers and pointers only, not {kind!r}")
        if not isinstance(a, np.generic) or a.dtype != want:
            raise EmuError(
                f"{self.name} argument {k}: {_kind_of(a)} where the kernel has {want} by value; pass np.{want}(...)"
            )
        return a.tobytes()

    def _pointer(self, k, a, kind, values, ranges, reads, writes) -> None:
        where = f"{self.name} argument {k}"
        readonly, pointee = kind.startswith("PK"), kind.removeprefix("P").removeprefix("K")
        if type(a) in (np.uint64, np.int64) and not a:  # np.uintp(0): CuPy passes eight zero bytes, a null pointer
            values.append(bytes(8))
            return
        if not isinstance(a, ndarray):
            raise EmuError(f"{where}: {_kind_of(a)} where the kernel has a pointer (a null pointer is np.uintp(0))")
        if pointee != "v":
            vector = VECTOR.fullmatch(pointee)
            want = VECTOR_OF[vector[1]] if vector else SCALARS.get(pointee)
            if want is None:
                raise EmuError(f"{where}: the emulator does not know the pointed-to type {pointee!r}")
            if a.dtype != want and not (vector and a.dtype == COMPLEX.get(want)):
                raise EmuError(f"{where}: {a.dtype} array where the kernel has {'const ' if readonly else ''}{want}*")
        if not a.flags.c_contiguous:
            raise EmuError(f"{where}: not C-contiguous, and the kernel sees an address only")
        values.append(address(a).to_bytes(8, "little"))
        if not a.size:
            return
        if device_of(a) != memory.current_device():
            raise EmuError(
                f"{where}: an array of device {device_of(a)}, the current device is {memory.current_device()}"
            )
        ranges.append((address(a), address(a) + a.nbytes, int(readonly), k))
        (reads if readonly else writes).append(a._block)


def _kind_of(a) -> str:
    return f"{a.dtype} scalar" if isinstance(a, np.generic) else type(a).__name__
