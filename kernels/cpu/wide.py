"""64 bytes as one value, 16 float32 or 8 float64: explicit SIMD for Numba functions that are to be twice as quick in
single precision. lanes.py is for those that compute in float64 whatever they read.

`load` and `store` take a C-contiguous array and a flat index, and check no bounds. The end of a row that is no multiple
of `width` is for load_some and store_some.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

_INT32 = ir.IntType(32)
_SCALARS = {types.float32: (ir.FloatType(), 4), types.float64: (ir.DoubleType(), 8)}  # and bytes


class _WideType(types.Type):
    def __init__(self, element):
        self.element = element
        scalar, self.align = _SCALARS[element]
        self.width = 64 // self.align
        self.vector = ir.VectorType(scalar, self.width)
        self.code = f"v{self.width}f{8 * self.align}"  # in names of LLVM's functions
        super().__init__(f"Wide({element})")


@register_model(_WideType)
class _WideModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, numba_type.vector)


_WIDE = {element: _WideType(element) for element in _SCALARS}


def _of(array):
    """Only an array that lies in memory element after element has flat indices."""
    if array.layout != "C" or array.dtype not in _WIDE:
        raise TypingError(f"{array} is not a C-contiguous array of float32 or float64")
    return _WIDE[array.dtype]


def _splat(builder, vector, scalar):
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT32, vector.count), [0] * vector.count))


def _call(builder, name, result, *arguments):
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _mask(builder, wide, count):
    """Which lanes are among the first `count`."""
    ints = ir.VectorType(_INT32, wide.width)
    counts = _splat(builder, ints, builder.trunc(count, _INT32))
    return builder.icmp_signed("<", ir.Constant(ints, [*range(wide.width)]), counts)


def _pointer(wide, context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), wide.vector.as_pointer())


@intrinsic
def width(typing_context, array):
    """Elements of that array that a Wide has."""
    wide = _of(array)
    return types.int64(array), lambda context, builder, signature, arguments: ir.IntType(64)(wide.width)


@intrinsic
def load(typing_context, array, first):
    """As many elements as there are lanes, from array[first] on."""
    wide = _of(array)

    def generate(context, builder, signature, arguments):
        vector = builder.load(_pointer(wide, context, builder, signature.args[0], *arguments))
        vector.align = wide.align
        return vector

    return wide(array, types.int64), generate


@intrinsic
def store(typing_context, array, first, value):
    """Write to array[first] and on."""
    wide = _of(array)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(wide, context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer).align = wide.align
        return context.get_dummy_value()

    return types.void(array, types.int64, wide), generate


@intrinsic
def load_some(typing_context, array, first, count):
    """`count` elements from array[first] on, less than there are lanes; 0 in the other ones."""
    wide = _of(array)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(wide, context, builder, signature.args[0], *arguments[:2])
        zero = ir.Constant(wide.vector, [0.0] * wide.width)
        name = f"llvm.masked.load.{wide.code}.p0"
        return _call(builder, name, wide.vector, pointer, _INT32(wide.align), _mask(builder, wide, arguments[2]), zero)

    return wide(array, types.int64, types.int64), generate


@intrinsic
def store_some(typing_context, array, first, count, value):
    """Write the first `count` lanes. What is loaded from there soon after waits long: do so for the end of a row."""
    wide = _of(array)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(wide, context, builder, signature.args[0], *arguments[:2])
        mask, name = _mask(builder, wide, arguments[2]), f"llvm.masked.store.{wide.code}.p0"
        _call(builder, name, ir.VoidType(), arguments[3], pointer, _INT32(wide.align), mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, wide), generate


@intrinsic
def only(typing_context, count, value):
    """The first `count` lanes, and 0 in the others."""

    def generate(context, builder, signature, arguments):
        zero = ir.Constant(value.vector, [0.0] * value.width)
        return builder.select(_mask(builder, value, arguments[0]), arguments[1], zero)

    return value(types.int64, value), generate


@intrinsic
def fill(typing_context, array, number):
    """That number in all lanes, of the array's dtype."""
    wide = _of(array)

    def generate(context, builder, signature, arguments):
        return _splat(builder, wide.vector, context.cast(builder, arguments[1], signature.args[1], wide.element))

    return wide(array, number), generate


def _infix(symbol, instruction):
    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, arguments, keywords):
            both = len(arguments) == 2 and isinstance(arguments[0], _WideType) and arguments[0] == arguments[1]
            return signature(arguments[0], *arguments) if both else None

    @lower_builtin(symbol, _WideType, _WideType)
    def _generate(context, builder, signature, arguments):
        return getattr(builder, instruction)(*arguments)


for _symbol, _instruction in {"add": "fadd", "sub": "fsub", "mul": "fmul"}.items():
    _infix(getattr(operator, _symbol), _instruction)


def _plain(name, count):
    """An LLVM intrinsic of `count` Wides."""

    def generate(context, builder, signature, arguments):
        wide = signature.return_type
        return _call(builder, f"llvm.{name}.{wide.code}", wide.vector, *arguments)

    if count == 1:
        return intrinsic(lambda typing_context, a: (a(a), generate))
    return intrinsic(lambda typing_context, a, b, c: (a(a, b, c), generate))


size_of = _plain("fabs", 1)  # |a|
times_plus = _plain("fmuladd", 3)  # a b + c, rounded once where the processor can


@intrinsic
def sum_of(typing_context, a):
    """Of all lanes, the second half added to the first until there is one; float64."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0]
        half = a.width // 2
        while half:
            undefined = ir.Constant(vector.type, ir.Undefined)
            parts = ([*range(half)], [*range(half, 2 * half)])
            low, high = (
                builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(_INT32, half), lanes))
                for lanes in parts
            )
            vector = builder.fadd(low, high)
            half //= 2
        return context.cast(builder, builder.extract_element(vector, _INT32(0)), a.element, types.float64)

    return types.float64(a), generate
