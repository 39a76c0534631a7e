"""Eight float32 as one value: the `Lanes` of lanes.py in single precision, for data that is read as it streams by.

`load` takes float32, or uint8 which become the numbers that they are; `load_wide` gives them as float64 `Lanes`.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from . import lanes

_INT8, _INT32, _FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()
_SINGLES, _BYTES, _INTS = (ir.VectorType(scalar, 8) for scalar in (_FLOAT, _INT8, _INT32))
_DOUBLES = ir.VectorType(ir.DoubleType(), 8)


class _SinglesType(types.Type):
    def __init__(self):
        super().__init__("Singles")


@register_model(_SinglesType)
class _SinglesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _SINGLES)


_TYPE = _SinglesType()


def _infix(symbol, instruction):
    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, arguments, keywords):
            return signature(_TYPE, *arguments) if arguments == (_TYPE, _TYPE) else None

    @lower_builtin(symbol, _SinglesType, _SinglesType)
    def _generate(context, builder, signature, arguments):
        return getattr(builder, instruction)(*arguments)


for _symbol, _instruction in {"add": "fadd", "sub": "fsub", "mul": "fmul"}.items():
    _infix(getattr(operator, _symbol), _instruction)


def _read(context, builder, array_type, array, first):
    """Eight elements: float32, or int32 made of uint8."""
    pointer = lanes._address(context, builder, array_type, array, first)
    single = array_type.dtype == types.float32
    vector = builder.load(builder.bitcast(pointer, (_SINGLES if single else _BYTES).as_pointer()))
    vector.align = 4 if single else 1
    return vector if single else builder.zext(vector, _INTS)


@intrinsic
def load(typing_context, array, first):
    """Eight elements from array[first] on, float32 or uint8."""
    lanes._flat(array)

    def generate(context, builder, signature, arguments):
        vector = _read(context, builder, signature.args[0], *arguments)
        return vector if vector.type == _SINGLES else builder.sitofp(vector, _SINGLES)

    return _TYPE(array, types.int64), generate


@intrinsic
def load_wide(typing_context, array, first):
    """The same as float64 `Lanes`: eight elements of float64, float32 or uint8."""
    lanes._flat(array)

    def generate(context, builder, signature, arguments):
        if signature.args[0].dtype == types.float64:
            pointer = lanes._address(context, builder, signature.args[0], *arguments)
            vector = builder.load(builder.bitcast(pointer, _DOUBLES.as_pointer()))
            vector.align = 8
            return vector
        vector = _read(context, builder, signature.args[0], *arguments)
        return builder.fpext(vector, _DOUBLES) if vector.type == _SINGLES else builder.sitofp(vector, _DOUBLES)

    return lanes._LANES(array, types.int64), generate


@intrinsic
def store(typing_context, array, first, singles):
    """Write to array[first], ..., array[first + 7], float32."""
    lanes._flat(array)

    def generate(context, builder, signature, arguments):
        pointer = lanes._address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(pointer, _SINGLES.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(array, types.int64, _TYPE), generate


@intrinsic
def fill(typing_context, x):
    """x, rounded, eight times."""

    def generate(context, builder, signature, arguments):
        return lanes._splat(builder, _SINGLES, builder.fptrunc(arguments[0], _FLOAT))

    return _TYPE(types.float64), generate


@intrinsic
def times_plus(typing_context, a, b, c):
    """a b + c, rounded once where the processor can."""

    def generate(context, builder, signature, arguments):
        return lanes._call(builder, "llvm.fmuladd.v8f32", _SINGLES, *arguments)

    return _TYPE(_TYPE, _TYPE, _TYPE), generate


@intrinsic
def where_positive(typing_context, d, x):
    """x where d > 0, else 0."""

    def generate(context, builder, signature, arguments):
        zero = ir.Constant(_SINGLES, [0.0] * 8)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zero), arguments[1], zero)

    return _TYPE(_TYPE, _TYPE), generate


@intrinsic
def widen(typing_context, x):
    """x as float64 `Lanes`."""
    return lanes._LANES(_TYPE), lambda context, builder, signature, a: builder.fpext(a[0], _DOUBLES)


@intrinsic
def narrow(typing_context, x):
    """float64 `Lanes`, rounded."""
    return _TYPE(lanes._LANES), lambda context, builder, signature, a: builder.fptrunc(a[0], _SINGLES)


def _shuffled(places):
    """A function of two: lane l of its value is number places[l] of their sixteen."""

    @intrinsic
    def function(typing_context, a, b):
        def generate(context, builder, signature, arguments):
            return builder.shuffle_vector(*arguments, ir.Constant(ir.VectorType(_INT32, 8), places))

        return _TYPE(_TYPE, _TYPE), generate

    return function


evens, odds = _shuffled([*range(0, 16, 2)]), _shuffled([*range(1, 16, 2)])
# lanes of the one and of the other in turn, of their first halves and of their second
mixed_low, mixed_high = (_shuffled([lane // 2 + 4 * half + 8 * (lane % 2) for lane in range(8)]) for half in (0, 1))
