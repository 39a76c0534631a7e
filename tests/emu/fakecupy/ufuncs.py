"""Elementwise functions, and the operators of ndarray made from them."""

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
    ndarray.__hash__ = None


_install_operators()
