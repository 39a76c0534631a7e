"""exp for loops over arrays: libm's is a call for each number, which keeps a loop from being vectorised.

x = k ln 2 + r with |r| <= ln(2)/2, where ln 2 is split in two (Cody and Waite, Software Manual for the Elementary
Functions, 1980); a Taylor polynomial of degree 13 for exp(r), and k is added to the exponent of the result. Within
1.5 units in the last place on [-708, 709].
"""

import numpy as np
from llvmlite import ir
from numba import float64, int64, njit
from numba.extending import intrinsic

# No reassociation: it would cancel the addition that rounds. A loop vectorises only when there is no call in it; it is
# LLVM that inlines, because Numba's own inlining would compile this with the caller's options.
EXP_JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}, "forceinline": True}

_LOG2_E = np.log2(np.e)
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52  # x + _ROUND - _ROUND is x rounded; the last bits of x + _ROUND are that whole number
_LEAST = -708.0  # beyond it the result would not be normal


@intrinsic
def _bits(typing_context, x):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return int64(float64), generate


@intrinsic
def _from_bits(typing_context, n):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return float64(int64), generate


@njit(**EXP_JIT)
def exp(x):
    """e to the x for x <= 709; what is below -708 counts as -708 and gives 3e-308, not 0. NaN stays NaN."""
    x = _LEAST if x < _LEAST else x
    shifted = x * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = x - k * _LN2_HIGH
    r -= k * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return _from_bits(_bits(p) + (_bits(shifted) << 52))
