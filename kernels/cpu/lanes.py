"""Eight float64 as one value: explicit SIMD for Numba functions.

A `Lanes` is LLVM's <8 x double>, which the code generator cuts into the registers that there are: one of AVX-512, two
of AVX2, four of SSE2 or NEON. A loop written with it does not depend on the vectoriser's mood. `load`, `store` and
`item` take a C-contiguous array and a flat index, and check no bounds.

    total = fill(0.0)
    for k in range(0, x.size, 8):
        total = times_plus(load(x, k), load(y, k), total)
    return sum_of(total)
"""

import operator
import platform

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# No reassociation: what is added in which order is written out.
LANES_JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
SMALL_JIT = LANES_JIT | {"forceinline": True}

_BIT, _INT32, _INT64, _DOUBLE = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_DOUBLES, _FLOATS, _BITS, _INTS = (ir.VectorType(scalar, 8) for scalar in (_DOUBLE, ir.FloatType(), _BIT, _INT64))


class _LanesType(types.Type):
    def __init__(self):
        super().__init__("Lanes")


class _MaskType(types.Type):
    def __init__(self):
        super().__init__("Mask")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _DOUBLES)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _BITS)


_LANES, _MASK = _LanesType(), _MaskType()


def _splat(builder, vector, scalar):
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT32, 8), [0] * 8))


def _call(builder, name, result, *arguments):
    """A call of an LLVM intrinsic."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


# ---- memory ---------------------------------------------------------------------------------------------------------


def _flat(array):
    """Only an array that lies in memory element after element has flat indices."""
    if array.layout != "C":
        raise TypingError(f"{array} is not C-contiguous")


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def item(typing_context, array, index):
    """array[index], without what Python's meaning of negative indices costs; integers as int64."""
    _flat(array)
    result = types.int64 if isinstance(array.dtype, types.Integer) else array.dtype

    def generate(context, builder, signature, arguments):
        pointer = _address(context, builder, signature.args[0], *arguments)
        return context.cast(builder, builder.load(pointer), array.dtype, result)

    return result(array, types.int64), generate


@intrinsic
def load(typing_context, array, first):
    """Eight elements from array[first] on, float64 or float32."""
    _flat(array)

    def generate(context, builder, signature, arguments):
        single = signature.args[0].dtype == types.float32
        pointer = _address(context, builder, signature.args[0], *arguments)
        vector = builder.load(builder.bitcast(pointer, (_FLOATS if single else _DOUBLES).as_pointer()))
        vector.align = 4 if single else 8
        return builder.fpext(vector, _DOUBLES) if single else vector

    return _LANES(array, types.int64), generate


@intrinsic
def store(typing_context, array, first, lanes):
    """Write to array[first], ..., array[first + 7], float64 or float32."""
    _flat(array)

    def generate(context, builder, signature, arguments):
        single = signature.args[0].dtype == types.float32
        pointer = _address(context, builder, signature.args[0], *arguments[:2])
        value = builder.fptrunc(arguments[2], _FLOATS) if single else arguments[2]
        builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 4 if single else 8
        return context.get_dummy_value()

    return types.void(array, types.int64, _LANES), generate


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def _infix(symbol, instruction):
    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, arguments, keywords):
            return signature(_LANES, *arguments) if arguments == (_LANES, _LANES) else None

    @lower_builtin(symbol, _LanesType, _LanesType)
    def _generate(context, builder, signature, arguments):
        return getattr(builder, instruction)(*arguments)


for _symbol, _instruction in {"add": "fadd", "sub": "fsub", "mul": "fmul", "truediv": "fdiv"}.items():
    _infix(getattr(operator, _symbol), _instruction)


def _unary(result, parameter, code):
    @intrinsic
    def function(typing_context, a):
        return result(parameter), lambda context, builder, signature, arguments: code(builder, *arguments)

    return function


def _binary(result, parameters, code):
    @intrinsic
    def function(typing_context, a, b):
        return result(*parameters), lambda context, builder, signature, arguments: code(builder, *arguments)

    return function


def _above(builder, a, b):
    return builder.fcmp_ordered(">", a, b)


def _halved(combine):
    """The eight combined to one: lanes 0..3 with 4..7, then 0, 1 with 2, 3, then 0 with 1."""

    def code(builder, vector):
        for width in (4, 2, 1):
            undefined = ir.Constant(vector.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(_INT32, width), [*lanes]))
                for lanes in (range(width), range(width, 2 * width))
            )
            vector = combine(builder, low, high)
        return builder.extract_element(vector, _INT32(0))

    return code


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _number(mask_code):
    def code(builder, mask):
        byte = builder.bitcast(mask, ir.IntType(8))
        return mask_code(builder, byte)

    return code


_PAIR, _MASKS = (_LANES, _LANES), (_MASK, _MASK)
fill = _unary(_LANES, types.float64, lambda builder, x: _splat(builder, _DOUBLES, x))
sum_of = _unary(types.float64, _LANES, _halved(lambda builder, a, b: builder.fadd(a, b)))
largest_of = _unary(types.float64, _LANES, _halved(_larger))
smallest_of = _unary(types.float64, _LANES, _halved(_smaller))
larger = _binary(_LANES, _PAIR, _larger)  # lane by lane; the second where they do not compare
smaller = _binary(_LANES, _PAIR, _smaller)
sqrt = _unary(_LANES, _LANES, lambda builder, x: _call(builder, "llvm.sqrt.v8f64", _DOUBLES, x))
above = _binary(_MASK, _PAIR, _above)  # a > b, false for NaN
is_nan = _unary(_MASK, _LANES, lambda builder, x: builder.fcmp_unordered("uno", x, x))
either = _binary(_MASK, _MASKS, lambda builder, a, b: builder.or_(a, b))
any_of = _unary(types.boolean, _MASK, _number(lambda b, byte: b.icmp_unsigned("!=", byte, byte.type(0))))
count_of = _unary(types.int64, _MASK, _number(lambda b, byte: b.zext(b.ctpop(byte), _INT64)))
only = _binary(_LANES, (_MASK, _LANES), lambda b, mask, x: b.select(mask, x, ir.Constant(_DOUBLES, [0.0] * 8)))


@intrinsic
def choose(typing_context, mask, a, b):
    """Lane by lane, a where the mask is set, else b."""

    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return _LANES(_MASK, _LANES, _LANES), generate


@intrinsic
def times_plus(typing_context, a, b, c):
    """a b + c, rounded once where the processor can."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "llvm.fmuladd.v8f64", _DOUBLES, *arguments)

    return _LANES(_LANES, _LANES, _LANES), generate


@intrinsic
def fused(typing_context, a, b, c):
    """a b + c, rounded once, whatever it costs."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "llvm.fma.v8f64", _DOUBLES, *arguments)

    return _LANES(_LANES, _LANES, _LANES), generate


def _with_exponent(builder, p, shifted):
    bits = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [52] * 8))
    return builder.bitcast(builder.add(builder.bitcast(p, _INTS), bits), _DOUBLES)


def _toward_zero(builder, x):
    kept = ir.Constant(_INTS, [-(1 << 29)] * 8)  # all but the bits that a float32 has no room for
    return builder.bitcast(builder.and_(builder.bitcast(x, _INTS), kept), _DOUBLES)


_scaled = _binary(_LANES, _PAIR, _with_exponent)
toward_zero = _unary(_LANES, _LANES, _toward_zero)  # what a conversion to float32 then leaves as it is

# of degree 11, interpolating e^r at the Chebyshev points of [-ln(2)/2, ln(2)/2]: within 4e-18 of it
_P2, _P3, _P4 = 0.5000000000000019, 0.1666666666666668, 0.0416666666664881
_P5, _P6, _P7 = 0.008333333333319601, 0.0013888888952314775, 0.00019841269890047113
_P8, _P9, _P10, _P11 = 2.4801485482328494e-05, 2.755724091857897e-06, 2.763263963904103e-07, 2.5110037605963777e-08
_LOG2_E, _LN2_HIGH, _LN2_LOW = np.log2(np.e), 0.693147180369123816490, 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52  # x + _ROUND - _ROUND is x rounded; the last bits of x + _ROUND are that whole number


@njit(**SMALL_JIT)
def exp(x, least):
    """e to the x, and 0 where not x > least; -708 <= least, x <= 709. Otherwise as exponential.py."""
    bounded = larger(x, fill(least))
    shifted = times_plus(bounded, fill(_LOG2_E), fill(_ROUND))
    k = shifted - fill(_ROUND)
    r = times_plus(k, fill(-_LN2_HIGH), bounded)
    r = times_plus(k, fill(-_LN2_LOW), r)
    p = times_plus(fill(_P11), r, fill(_P10))
    p = times_plus(p, r, fill(_P9))
    p = times_plus(p, r, fill(_P8))
    p = times_plus(p, r, fill(_P7))
    p = times_plus(p, r, fill(_P6))
    p = times_plus(p, r, fill(_P5))
    p = times_plus(p, r, fill(_P4))
    p = times_plus(p, r, fill(_P3))
    p = times_plus(p, r, fill(_P2))
    p = times_plus(p, r, fill(1.0))
    p = times_plus(p, r, fill(1.0))
    return only(above(x, fill(least)), _scaled(p, shifted))


# ---- denormal numbers -----------------------------------------------------------------------------------------------

_FLUSH = 0x8040  # of the x86 register MXCSR: results that would be denormal are 0, and arguments that are count as 0
_HAS_MXCSR = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
def flush_denormals(typing_context):
    """Let this thread treat denormal numbers, which cost up to 16 times as much, as 0; returns what to restore."""

    def generate(context, builder, signature, arguments):
        if not _HAS_MXCSR:
            return _INT32(0)
        place = cgutils.alloca_once(builder, _INT32)
        pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
        _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), pointer)
        before = builder.load(place)
        builder.store(builder.or_(before, _INT32(_FLUSH)), place)
        _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), pointer)
        return before

    return types.int32(), generate


@intrinsic
def restore_denormals(typing_context, before):
    """Undo flush_denormals."""

    def generate(context, builder, signature, arguments):
        if _HAS_MXCSR:
            place = cgutils.alloca_once(builder, _INT32)
            builder.store(arguments[0], place)
            pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
            _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), pointer)
        return context.get_dummy_value()

    return types.void(types.int32), generate
