"""Reductions and products, as functions and as methods of ndarray."""

import numpy as np

from . import array
from .array import ndarray
from .ufuncs import UFUNCS


def _reduce(name: str, a, out, **options):
    """Apply NumPy's reduction; the result is a device array even when it is one number."""
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    f, h = getattr(np, name), a._h
    if out is None:
        with np.errstate(all="ignore"):
            return array.compute(name, lambda: f(h, **options), [a])
    array.memory.refuse_while_capturing()  # a reduction needs workspace
    value = np.asarray(f(h, **options))
    if out.shape != value.shape:
        raise ValueError("output parameter has the wrong shape")
    target = out._h
    array.change(name, lambda: np.copyto(target, value, casting="unsafe"), [a], out, target)
    return out


def _with_dtype(name):
    def reduce(a, axis=None, dtype=None, out=None, keepdims=False):
        return _reduce(name, a, out, axis=axis, dtype=dtype, keepdims=keepdims)

    reduce.__name__ = name
    return reduce


def _without_dtype(name):
    def reduce(a, axis=None, out=None, keepdims=False):
        return _reduce(name, a, out, axis=axis, keepdims=keepdims)

    reduce.__name__ = name
    return reduce


sum, prod, mean = map(_with_dtype, ("sum", "prod", "mean"))
max, min, any, all = map(_without_dtype, ("max", "min", "any", "all"))


def argmax(a, axis=None):
    return _reduce("argmax", a, None, axis=axis)


def argmin(a, axis=None):
    return _reduce("argmin", a, None, axis=axis)


def cumsum(a, axis=None, dtype=None, out=None):
    return _reduce("cumsum", a, out, axis=axis, dtype=dtype)


def matmul(x1, x2, out=None):
    return _product(np.matmul, x1, x2, out)


def dot(a, b, out=None):
    return _product(np.dot, a, b, out)


def _product(f, a, b, out):
    if not (isinstance(a, ndarray) and isinstance(b, ndarray)):
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) or f is np.matmul:
            raise TypeError(f"Unsupported type {type(b if isinstance(a, ndarray) else a)}")
        return UFUNCS["multiply"](a, b, out=out)
    x, y = a._h, b._h
    with np.errstate(all="ignore"):
        if out is None:
            return array.compute(f.__name__, lambda: f(x, y), [a, b])
        target = out._h
        if target.dtype != np.result_type(x, y):
            raise TypeError("output array has another dtype than the product")
        array.memory.refuse_while_capturing()  # cuBLAS may need workspace
        array.change(f.__name__, lambda: np.copyto(target, f(x, y)), [a, b], out, target)
    return out


for _f in (sum, prod, mean, max, min, any, all, argmax, argmin, cumsum, dot):
    setattr(ndarray, _f.__name__, _f)
ndarray.__matmul__ = lambda self, other: matmul(self, other)
