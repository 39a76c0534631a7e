"""cupy.ndarray, strictly: no silent copies between host and device, no mixing of devices, no lucky indexing."""

import ctypes
import math
import operator

import numpy as np

from .. import build
from ..errors import EmuError
from . import indexing, memory, streams
from .memory import Block, MemoryPointer

ALLOWED = frozenset("?bhilqBHILQefdFD")  # cupy.ndarray takes no other dtype
SCALARS = (bool, int, float, complex, np.generic)


class Flags:
    __module__ = "cupy._core.flags"

    def __init__(self, host: np.ndarray, owndata: bool):
        self.c_contiguous, self.f_contiguous = host.flags.c_contiguous, host.flags.f_contiguous
        self.owndata = owndata
        self.forc = self.c_contiguous or self.f_contiguous
        self.fnc = self.f_contiguous and not self.c_contiguous

    def __getitem__(self, name):
        return {"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous, "OWNDATA": self.owndata}[name]


class ndarray:
    """A device array: a NumPy view (`_h`) of memory in the emulator's arena, and the block that keeps it alive."""

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_base", "_block", "_h")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise EmuError("cupy.ndarray(memptr=, strides=) is not emulated")
        dt = checked_dtype(dtype)
        shape = (int(shape),) if np.ndim(shape) == 0 else tuple(operator.index(n) for n in shape)
        if any(n < 0 for n in shape):
            raise ValueError("Negative dimensions are not allowed")
        count = math.prod(shape)
        nbytes = count * dt.itemsize
        self._block, self._base = (Block(nbytes) if nbytes else None), None
        if self._block is None:
            memory.refuse_while_capturing()
            flat = np.empty(0, dt)
        else:
            flat = np.frombuffer((ctypes.c_char * nbytes).from_address(self._block.ptr), dt, count)
        self._h = flat.reshape(shape, order="F" if order == "F" else "C")

    # ---- what it is
    shape = property(lambda self: self._h.shape)
    dtype = property(lambda self: self._h.dtype)
    size = property(lambda self: self._h.size)
    ndim = property(lambda self: self._h.ndim)
    nbytes = property(lambda self: self._h.nbytes)
    itemsize = property(lambda self: self._h.itemsize)
    strides = property(lambda self: self._h.strides)
    base = property(lambda self: self._base)
    flags = property(lambda self: Flags(self._h, self._base is None))
    T = property(lambda self: view_of(self, self._h.T))

    @property
    def device(self):
        from .devices import Device

        return Device(device_of(self))

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(address(self), device_of(self))

    @property
    def __cuda_array_interface__(self) -> dict:
        strides = None if self._h.flags.c_contiguous else self.strides
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1,
            "version": 3,
            "strides": strides,
            "data": (address(self), False),
        }

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._h)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    # ---- to the host: each of these waits for the stream
    def get(self, stream=None, order="C", out=None, blocking=True):
        if not blocking:
            raise EmuError("get(blocking=False) is not emulated")
        streams.host_waits(stream or streams.current(), "get", [] if self._block is None else [self._block])
        if out is None:
            return np.array(self._h, order=order)
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if out.dtype != self.dtype or out.shape != self.shape:
            raise ValueError(f"Shape or dtype mismatch: {out.shape} {out.dtype} != {self.shape} {self.dtype}")
        out[...] = self._h
        return out

    def item(self, *args):
        return self.get().item(*args)

    def tolist(self):
        return self.get().tolist()

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __complex__(self):
        return complex(self.get())

    def __bool__(self):
        return bool(self.get())

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError(f"numpy.{func.__name__} is called with a device array; call cupy.{func.__name__}")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """NumPy scalar (op) device array comes here."""
        from .ufuncs import UFUNCS

        if method != "__call__" or any(isinstance(x, np.ndarray) for x in inputs):
            return NotImplemented
        mine = UFUNCS.get(ufunc.__name__)
        if mine is None or set(kwargs) - {"out"}:
            return NotImplemented
        return mine(*inputs, **({"out": kwargs["out"][0]} if "out" in kwargs else {}))

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if not self.flags.forc:
            raise BufferError("the array is not contiguous")
        return self._h.__dlpack__()

    def __dlpack_device__(self):
        return (2, device_of(self))  # kDLCUDA

    # ---- from the host
    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype or arr.shape != self.shape:
            raise TypeError("set() takes a NumPy array of the same shape and dtype")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        upload(self, arr)

    # ---- views and copies
    def __getitem__(self, key):
        basic, key = indexing.parse(key)
        if basic:
            return view_of(self, indexing.view(self._h, key))
        return compute("an indexed read", lambda: indexing.gather(self._h, key), [self, *indexing.arrays(key)])

    def __setitem__(self, key, value):
        basic, key = indexing.parse(key, needs_count=isinstance(value, ndarray) and value.ndim > 0)
        operands = [self, *indexing.arrays(key)]
        value_h = host_of(value)
        if isinstance(value, ndarray):
            operands.append(value)
        if basic:
            target = indexing.view(self._h, key)
            change("an assignment", lambda: np.copyto(target, value_h, casting="unsafe"), operands[1:], self, target)
            return
        place = [k if isinstance(k, slice) else host_of(k) for k in key]
        indexing.refuse_duplicates(self._h, tuple(place))

        def assign():
            self_h[tuple(place)] = value_h

        self_h = self._h
        change("an indexed assignment", assign, operands[1:], self, None)

    def reshape(self, *shape, order="C"):
        shape = shape[0] if len(shape) == 1 else shape
        new = self._h.reshape(shape, order=order)
        return view_of(self, new) if np.shares_memory(new, self._h) or not self.size else _copied(self, new)

    def ravel(self, order="C"):
        new = self._h.ravel(order)
        return view_of(self, new) if np.shares_memory(new, self._h) or not self.size else _copied(self, new)

    def transpose(self, *axes):
        return view_of(self, self._h.transpose(*axes))

    def squeeze(self, axis=None):
        return view_of(self, self._h.squeeze(axis))

    def view(self, dtype=None):
        return view_of(self, self._h.view(checked_dtype(dtype)) if dtype is not None else self._h.view())

    def copy(self, order="C"):
        return _copied(self, self._h, order)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        dt = checked_dtype(dtype)
        if not copy and dt == self.dtype and (order == "K" or self._h.flags[order]):
            return self
        return compute("astype", lambda: self._h.astype(dt, order=order), [self])

    def fill(self, value):
        if np.ndim(value):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        h, v = self._h, host_of(value)
        change("fill", lambda: h.fill(v), [value] if isinstance(value, ndarray) else [], self, h)


# ---- helpers of the other modules
def checked_dtype(dtype) -> np.dtype:
    dt = np.dtype(dtype)
    if dt.char not in ALLOWED:
        raise ValueError(f"Unsupported dtype {dt}")
    return dt


def device_of(a: ndarray) -> int:
    return a._block.device if a._block is not None else memory.current_device()


def address(a: ndarray) -> int:
    """As in CuPy, an array without elements has no memory: 0."""
    return a._h.ctypes.data if a._block is not None and a.size else 0


def view_of(a: ndarray, h: np.ndarray) -> ndarray:
    new = object.__new__(ndarray)
    new._h, new._block, new._base = h, a._block, a if a._base is None else a._base
    return new


def of_block(h: np.ndarray, block: Block) -> ndarray:
    """An array over memory that another library holds."""
    new = object.__new__(ndarray)
    new._h, new._block, new._base = h, block, None
    return new


def host_of(x):
    """The operand as NumPy may take it: a device array's memory, or a scalar. Host arrays are refused."""
    if isinstance(x, ndarray):
        return x._h
    if isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _blocks(arrays) -> list[Block]:
    blocks = []
    for a in arrays:
        if not isinstance(a, ndarray) or a._block is None:
            continue
        if a._block.device != memory.current_device():
            raise EmuError(
                f"an array of device {a._block.device} is used while device {memory.current_device()} is current"
            )
        blocks.append(a._block)
    return blocks


def _check_written(what: str, arrays) -> None:
    for a in arrays:
        if (
            isinstance(a, ndarray)
            and a.size
            and a._block is not None
            and a._h.flags.forc
            and not build.runtime().emu_is_written(a._h.ctypes.data, a.nbytes)
        ):
            raise EmuError(f"{what} reads device memory that nothing has written")


def mark_written(h: np.ndarray) -> None:
    """Tell the emulator that all of the view `h` holds values now."""
    if not h.size:
        return
    if h.flags.forc:
        build.runtime().emu_written(h.ctypes.data, h.nbytes)
    elif h.ndim > 1:
        for row in h:
            mark_written(row)
    else:
        for i in range(h.size):
            build.runtime().emu_written(h.ctypes.data + i * h.strides[0], h.itemsize)


def compute(what: str, function, operands) -> ndarray:
    """A new array with the value of function(), which reads `operands`."""
    memory.refuse_while_capturing()
    blocks = _blocks(operands)
    _check_written(what, operands)
    value = np.asarray(function())
    out = ndarray(value.shape, value.dtype, order="F" if value.flags.fnc else "C")

    def store():
        out._h[...] = value
        mark_written(out._h)

    streams.submit(what, store, blocks, _blocks([out]))
    return out


def change(what: str, function, operands, target: ndarray, written: np.ndarray | None) -> None:
    """Run function(), which writes the view `written` of `target` (None: elements that were there before)."""
    reads, writes = _blocks(operands), _blocks([target])

    def run():
        function()
        if written is not None:
            mark_written(written)

    if memory.this_thread.capturing is None:
        _check_written(what, operands)
    streams.submit(what, run, reads, writes)


def _copied(a: ndarray, h: np.ndarray, order: str = "C") -> ndarray:
    return compute("a copy", lambda: np.array(h, order="C" if order == "K" and not h.flags.forc else order), [a])


def upload(a: ndarray, h: np.ndarray) -> None:
    def run():
        a._h[...] = h
        mark_written(a._h)

    if memory.this_thread.capturing is not None:
        raise EmuError("a copy from the host while a stream is captured")
    streams.submit("a copy from the host", run, [], _blocks([a]), kind="uploads")
