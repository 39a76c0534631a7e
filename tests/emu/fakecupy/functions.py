"""The module-level functions of cupy: making arrays, joining them."""

import ctypes

import numpy as np

from . import array
from .array import checked_dtype, compute, host_of, ndarray, of_block, upload, view_of
from .memory import find_block


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def _filled(shape, value, dtype, order="C"):
    a = empty(shape, dtype, order)
    a.fill(value)
    return a


def zeros(shape, dtype=float, order="C"):
    return _filled(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C"):
    return _filled(shape, 1, dtype, order)


def full(shape, fill_value, dtype=None, order="C"):
    return _filled(shape, fill_value, np.result_type(host_of(fill_value)) if dtype is None else dtype, order)


def _like(a, dtype, shape):
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    return (a.shape if shape is None else shape), (a.dtype if dtype is None else dtype)


def empty_like(prototype, dtype=None, order="C", subok=None, shape=None):
    return empty(*_like(prototype, dtype, shape), order)


def zeros_like(a, dtype=None, order="C", subok=None, shape=None):
    return zeros(*_like(a, dtype, shape), order)


def ones_like(a, dtype=None, order="C", subok=None, shape=None):
    return ones(*_like(a, dtype, shape), order)


def full_like(a, fill_value, dtype=None, order="C", subok=None, shape=None):
    return _filled(*(lambda s, d: (s, fill_value, d))(*_like(a, dtype, shape)), order)


def arange(start, stop=None, step=1, dtype=None):
    h = np.arange(0, start, step, dtype) if stop is None else np.arange(start, stop, step, dtype)
    return compute("arange", lambda: h, [])


def eye(N, M=None, k=0, dtype=float, order="C"):
    return compute("eye", lambda: np.eye(N, M, k, dtype, order), [])


def array_(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if isinstance(obj, ndarray):
        dt = obj.dtype if dtype is None else checked_dtype(dtype)
        wanted = order == "K" or (order == "A" and obj.flags.forc) or (order in "CF" and obj._h.flags[order])
        if not copy and dt == obj.dtype and wanted and obj.ndim >= ndmin:
            return obj
        a = obj
        return compute("array", lambda: np.array(a._h, dt, order=order, ndmin=ndmin), [a])
    if isinstance(obj, (list, tuple)) and any(isinstance(x, ndarray) for x in obj):
        return stack([x if isinstance(x, ndarray) else array_(x) for x in obj])
    h = np.array(obj, dtype, order=order, ndmin=ndmin)
    a = ndarray(h.shape, checked_dtype(h.dtype), order="F" if h.flags.fnc else "C")
    upload(a, h)
    return a


array_.__name__ = "array"


def asarray(a, dtype=None, order=None, *, blocking=False):
    return array_(a, dtype, copy=False, order=order or "K")


def ascontiguousarray(a, dtype=None):
    return array_(a, dtype, copy=False, order="C", ndmin=1)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(stream=stream, order=order, out=out, blocking=blocking)
    if out is not None:
        out[...] = a
        return out
    return np.asarray(a, order=order)


def from_dlpack(array, *, device=None, copy=None):
    """Take over a device array of the stand-in, or of another library that wraps one."""
    if isinstance(array, ndarray):
        return view_of(array, array._h)
    kind, number = array.__dlpack_device__()
    if kind != 2:
        raise ValueError("from_dlpack takes arrays of a CUDA device")

    class OnHost:
        __dlpack__ = staticmethod(lambda **kw: array.__dlpack__())
        __dlpack_device__ = staticmethod(lambda: (1, 0))

    h = np.from_dlpack(OnHost())
    block = find_block(h.ctypes.data)
    if block is None or block.device != number:
        raise BufferError(f"the array is not in the memory of device {number}")
    memory = (ctypes.c_char * block.nbytes).from_address(block.ptr)  # NumPy's own view is read-only
    return of_block(np.ndarray(h.shape, h.dtype, memory, h.ctypes.data - block.ptr, h.strides), block)


def _device(x):
    if not isinstance(x, ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def median(a, axis=None):
    h = host_of(_device(a))
    return compute("median", lambda: np.median(h, axis), [a])


def clip(a, a_min, a_max, out=None):
    h = host_of(_device(a))
    if out is None:
        return compute("clip", lambda: np.clip(h, a_min, a_max), [a])
    array.change("clip", lambda: np.clip(h, a_min, a_max, out=out._h), [a], out, None)
    return out


def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    h = host_of(_device(x))
    return compute("nan_to_num", lambda: np.nan_to_num(h, nan=nan, posinf=posinf, neginf=neginf), [x])


def where(condition, x=None, y=None):
    if x is None or y is None:
        raise array.EmuError("where(condition) waits for the device; it is not emulated")
    c, xh, yh = host_of(_device(condition)), host_of(x), host_of(y)
    return compute("where", lambda: np.where(c.astype(bool), xh, yh), [condition, x, y])


def take(a, indices, axis=None, out=None):
    if out is not None:
        raise array.EmuError("take(out=) is not emulated")
    h, index = host_of(_device(a)), host_of(_device(indices))
    return compute("take", lambda: np.take(h, index, axis), [a, indices])


def _join(name):
    def join(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
        if out is not None or dtype is not None:
            raise array.EmuError(f"{name}(out=, dtype=) is not emulated")
        hosts = [host_of(_device(a)) for a in tup]
        return compute(name, lambda: getattr(np, name)(hosts, axis=axis), list(tup))

    join.__name__ = name
    return join


concatenate, stack = _join("concatenate"), _join("stack")


def broadcast_to(array, shape):
    return view_of(array, np.broadcast_to(_device(array)._h, shape))


def expand_dims(a, axis):
    return view_of(a, np.expand_dims(_device(a)._h, axis))


def squeeze(a, axis=None):
    return _device(a).squeeze(axis)


def ravel(a, order="C"):
    return _device(a).ravel(order)


def reshape(a, newshape, order="C"):
    return _device(a).reshape(newshape, order=order)


def transpose(a, axes=None):
    return _device(a).transpose(*([] if axes is None else [axes]))


def copyto(dst, src, casting="same_kind", where=None):
    if where is not None:
        raise array.EmuError("copyto(where=) is not emulated")
    h, s = _device(dst)._h, host_of(src)
    if not np.can_cast(s.dtype if isinstance(src, ndarray) else np.result_type(s, h), h.dtype, casting):
        raise TypeError(f"Cannot cast to {h.dtype} in {casting} casting mode")
    array.change("copyto", lambda: np.copyto(h, s, casting="unsafe"), [src], dst, h)


def copy(a, order="K"):
    return _device(a).copy(order)


def result_type(*args):
    return np.result_type(*(a._h if isinstance(a, ndarray) else a for a in args))


def get_array_module(*args):
    import sys

    sparse = sys.modules["cupyx.scipy.sparse"]
    return sys.modules["cupy"] if any(isinstance(a, (ndarray, sparse.spmatrix)) for a in args) else np
