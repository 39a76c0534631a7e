"""Device memory: blocks, the pool and its limit."""

import math
import threading
import weakref

from .. import build, control
from ..errors import EmuError

GRANULE = 512  # CuPy's pool rounds up to this
N_DEVICES = 2
TOTAL_MEMORY = 32 << 30  # of each fake device, in bytes
_limits = [0] * N_DEVICES


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory.OutOfMemoryError."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, size, total, limit=0):
        extra = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{extra}).")


_blocks: "weakref.WeakValueDictionary[int, Block]" = weakref.WeakValueDictionary()


class Block:
    """One allocation. `wrote` and `read` say which stream used it last, and when: see streams.py."""

    __slots__ = ("__weakref__", "device", "nbytes", "ptr", "read", "wrote")

    def __init__(self, nbytes: int):
        self.ptr = 0  # __del__ looks at it, whatever fails below
        refuse_while_capturing()
        self.nbytes, self.device = nbytes, current_device()
        self.wrote: tuple | None = None
        self.read: dict = {}
        rt = build.runtime()
        used = rt.emu_used_bytes(self.device)
        limit = _limits[self.device] or TOTAL_MEMORY
        if used + -(-nbytes // GRANULE) * GRANULE > limit:
            raise OutOfMemoryError(nbytes, used, _limits[self.device])
        ptr = rt.emu_malloc(nbytes, self.device)
        if ptr is None:
            raise OutOfMemoryError(nbytes, used, _limits[self.device])
        self.ptr = ptr
        _blocks[ptr] = self
        control.count("allocations")

    def __del__(self):
        if self.ptr:
            build.runtime().emu_free(self.ptr)


def find_block(address: int) -> Block | None:
    """The allocation that holds an address."""
    return next((b for b in list(_blocks.values()) if b.ptr <= address < b.ptr + b.nbytes), None)


class _PerThread(threading.local):
    device = 0
    capturing = None  # the stream whose work this thread records


this_thread = _PerThread()


def current_device() -> int:
    return this_thread.device


def refuse_while_capturing() -> None:
    if this_thread.capturing is not None:
        raise EmuError("a device array is allocated while a stream is captured; allocate before the capture")


class MemoryPointer:
    __module__ = "cupy.cuda.memory"

    def __init__(self, ptr: int, device: int):
        self.ptr, self.device_id = ptr, device


class MemoryPool:
    """The part of cupy.cuda.MemoryPool that concerns how much is used; all of it is about the current device."""

    __module__ = "cupy.cuda.memory"

    def used_bytes(self) -> int:
        return build.runtime().emu_used_bytes(current_device())

    def total_bytes(self) -> int:
        return build.runtime().emu_pool_bytes(current_device())

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def free_all_blocks(self, stream=None) -> None:
        build.runtime().emu_pool_trim(current_device())

    def set_limit(self, size=None, fraction=None) -> None:
        if (size is None) == (fraction is None):
            raise ValueError("size or fraction must be specified, not both")
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError(f"memory limit fraction out of range: {fraction}")
            size = math.ceil(fraction * TOTAL_MEMORY)
        if size < 0:
            raise ValueError(f"memory limit size out of range: {size}")
        _limits[current_device()] = int(size)

    def get_limit(self) -> int:
        return _limits[current_device()]


_pool = MemoryPool()


def get_default_memory_pool() -> MemoryPool:
    return _pool
