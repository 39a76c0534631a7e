"""Sixteen float32 as one value: what lanes.py is for float64, as far as convolutions need it.

`load_floats` and `store_floats` take a C-contiguous float32 array and a flat index, and check no bounds.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

_INT32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), 16)
WIDTH = 16


class _FloatsType(types.Type):
    def __init__(self):
        super().__init__("Floats")


@register_model(_FloatsType)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _VECTOR)


_FLOATS = _FloatsType()


def _address(context, builder, array_type, array, index):
    if array_type.layout != "C" or array_type.dtype != types.float32:
        raise TypingError(f"{array_type} is not a C-contiguous array of float32")
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load_floats(typing_context, array, first):
    """Sixteen elements from array[first] on."""

    def generate(context, builder, signature, arguments):
        vector = builder.load(_address(context, builder, signature.args[0], *arguments))
        vector.align = 4
        return vector

    return _FLOATS(array, types.int64), generate


@intrinsic
def store_floats(typing_context, array, first, floats):
    """Write to array[first], ..., array[first + 15]."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2])).align = 4
        return context.get_dummy_value()

    return types.void(array, types.int64, _FLOATS), generate


@intrinsic
def fill_floats(typing_context, x):
    """Sixteen times x."""

    def generate(context, builder, signature, arguments):
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(undefined, arguments[0], _INT32(0))
        return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT32, 16), [0] * 16))

    return _FLOATS(types.float32), generate


@intrinsic
def item_times_plus(typing_context, array, index, b, c):
    """array[index] b + c, rounded once where the processor can."""

    def generate(context, builder, signature, arguments):
        array, index, b, c = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(undefined, builder.load(builder.gep(data, [index])), _INT32(0))
        a = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT32, 16), [0] * 16))
        function_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.fmuladd.v16f32")
        return builder.call(function, [a, b, c])

    return _FLOATS(array, types.int64, _FLOATS, _FLOATS), generate
