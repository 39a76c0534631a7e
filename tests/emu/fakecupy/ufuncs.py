"""Elementwise functions, and the operators and reductions of ndarray made from them."""

import numpy as np

from . import array
from .array import ndarray


class ufunc:
    """As cupy.ufunc: takes device arrays and scalars, gives device arrays."""

    __module__ = "cupy._core._kernel"

    def __init__(self, function: np.ufunc):
        self._f = function
        self.__name__ = self.name = f"cupy_{function.__name__}"
        self.nin, self.nout, self.nargs = function.nin, function.nout, function.nargs

    def __repr__(self):
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args, out=None, dtype=None, casting="same_kind"):
        if len(args) == self._f.nargs and out is None:
            *args, out = args
        if len(args) != self._f.nin:
            raise TypeError(f"Wrong number of arguments for '{self.name}'")
        host = [array.host_of(a) for a in args]
        f, options = self._f, {"dtype": dtype, "casting": casting}
        operands = [a for a in args if isinstance(a, ndarray)]
        if out is None:
            with np.errstate(all="ignore"):
                if f.nout > 1:
                    return tuple(
                        array.compute(self.name, lambda i=i: f(*host, **options)[i], operands) for i in range(f.nout)
                    )
                return array.compute(self.name, lambda: f(*host, **options), operands)
        if not isinstance(out, ndarray):
            raise TypeError(f"return arrays must be of ArrayType, not {type(out)}")
        target = out._h
        f.resolve_dtypes(tuple(_kind(h) for h in host) + (target.dtype,), casting=casting)
        if np.broadcast_shapes(*(np.shape(h) for h in host)) != target.shape:
            raise ValueError("output array must have the shape of the result")

        def run():
            with np.errstate(all="ignore"):
                f(*host, out=target, **options)

        array.change(self.name, run, operands, out, target)
        return out


def _kind(x):
    """What ufunc.resolve_dtypes takes: a dtype, or the type of a Python number, which adapts."""
    python = isinstance(x, (int, float, complex)) and not isinstance(x, (bool, np.generic))
    return type(x) if python else np.asarray(x).dtype


# fmt: off
_NAMES = (
    "absolute", "add", "bitwise_and", "bitwise_or", "bitwise_xor", "ceil", "copysign", "cos", "cosh", "divide",
    "equal", "exp", "exp2", "expm1", "floor", "floor_divide", "fmax", "fmin", "frexp", "greater", "greater_equal",
    "invert", "isfinite", "isinf", "isnan", "ldexp", "left_shift", "less", "less_equal", "log", "log10", "log1p",
    "log2", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
    "not_equal", "positive", "power", "reciprocal", "remainder", "right_shift", "rint", "sign", "signbit", "sin",
    "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc",
)
# fmt: on
UFUNCS = {name: ufunc(getattr(np, name)) for name in _NAMES}
UFUNCS |= {
    "abs": UFUNCS["absolute"],
    "true_divide": UFUNCS["divide"],
    "mod": UFUNCS["remainder"],
    "bitwise_not": UFUNCS["invert"],
}

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARE = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _install_operators() -> None:
    def binary(f):
        return lambda self, other: f(self, other)

    def reflected(f):
        return lambda self, other: f(other, self)

    def inplace(f):
        return lambda self, other: f(self, other, out=self)

    def unary(f):
        return lambda self: f(self)

    for short, name in _BINARY.items():
        f = UFUNCS[name]
        setattr(ndarray, f"__{short}__", binary(f))
        setattr(ndarray, f"__r{short}__", reflected(f))
        setattr(ndarray, f"__i{short}__", inplace(f))
    for short, name in _COMPARE.items():
        setattr(ndarray, f"__{short}__", binary(UFUNCS[name]))
    for short, name in _UNARY.items():
        setattr(ndarray, f"__{short}__", unary(UFUNCS[name]))
    ndarray.__matmul__ = lambda self, other: matmul(self, other)
    ndarray.__hash__ = None


def reduction(name: str):
    """A reduction as method; its result is a device array even when it is one number."""
    f = getattr(np, name)
    takes_dtype = name in ("sum", "prod", "mean", "cumsum")
    plain = name in ("argmax", "argmin", "cumsum")

    def reduce(self, axis=None, dtype=None, out=None, keepdims=False):
        options = {"axis": axis}
        if not plain:
            options["keepdims"] = keepdims
        elif keepdims:
            raise TypeError(f"{name}() has no keepdims here")
        if dtype is not None:
            if not takes_dtype:
                raise TypeError(f"{name}() takes no dtype")
            options["dtype"] = dtype
        h = self._h
        if out is None:
            with np.errstate(all="ignore"):
                return array.compute(name, lambda: f(h, **options), [self])
        if out.shape != f(h, **options).shape:
            raise ValueError("output parameter has the wrong shape")
        array.memory.refuse_while_capturing()  # a reduction needs workspace
        target = out._h
        array.change(name, lambda: np.copyto(target, f(h, **options), casting="unsafe"), [self], out, target)
        return out

    reduce.__name__ = name
    return reduce


REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "mean", "argmax", "argmin", "cumsum")


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


_install_operators()
for _name in REDUCTIONS:
    setattr(ndarray, _name, reduction(_name))
ndarray.dot = dot
