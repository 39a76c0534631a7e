"""Sums in twice the precision of float64, for the residuals that decide what is a success.

Ogita, Rump and Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26 (2005): algorithms TwoProductFMA, TwoSum
and Dot2. What rounding takes from each product and each sum is kept, and added at the end.
"""

from numba import float64, njit
from numba.extending import intrinsic

# Nothing may be reassociated or contracted. It has to be said: Numba compiles what a fastmath function calls with the
# caller's fastmath unless the callee says otherwise, and keeps the result on disk.
EXACT_JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}


@intrinsic
def _fma(typing_context, a, b, c):
    """a b + c, rounded once."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return float64(float64, float64, float64), generate


@njit(**EXACT_JIT)
def add(high, low, value):
    """(high, low) + value"""
    total = high + value
    part = total - high
    return total, low + ((high - (total - part)) + (value - part))


@njit(**EXACT_JIT)
def subtract_product(high, low, a, b):
    """(high, low) - a b"""
    product = -a * b
    high, low = add(high, low, product)
    return high, low + _fma(-a, b, -product)
