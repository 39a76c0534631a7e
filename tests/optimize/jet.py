"""Numbers that carry their first and second derivatives, so that a test problem is written once, as published.

A `Jet` is (value, gradient, Hessian) of a scalar with respect to n variables; sums, products, powers and the functions
of NumPy that look for a method of that name (`np.sin(jet)` calls `jet.sin()`) carry the rules of differentiation
along. Values may be complex, for complex-step checks of the second derivatives.
"""

import numpy as np


def variables(x):
    """The n components of x as jets of themselves."""
    identity, zero = np.eye(x.size, dtype=x.dtype), np.zeros((x.size, x.size), x.dtype)
    return [Jet(value, identity[i], zero) for i, value in enumerate(x)]


class Jet:
    """A scalar, its gradient and its Hessian."""

    __slots__ = ("gradient", "hessian", "value")

    def __init__(self, value, gradient, hessian):
        self.value, self.gradient, self.hessian = value, gradient, hessian

    def _through(self, value, first, second):
        """The jet of h(self), from h, h' and h'' there."""
        outer = self.gradient[:, None] * self.gradient
        return Jet(value, first * self.gradient, first * self.hessian + second * outer)

    def __add__(self, other):
        if isinstance(other, Jet):
            return Jet(self.value + other.value, self.gradient + other.gradient, self.hessian + other.hessian)
        return Jet(self.value + other, self.gradient, self.hessian)

    def __mul__(self, other):
        if not isinstance(other, Jet):
            return Jet(self.value * other, self.gradient * other, self.hessian * other)
        outer = self.gradient[:, None] * other.gradient
        return Jet(
            self.value * other.value,
            self.value * other.gradient + other.value * self.gradient,
            self.value * other.hessian + other.value * self.hessian + outer + outer.T,
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        return self * other**-1.0 if isinstance(other, Jet) else self * (1 / other)

    def __rtruediv__(self, other):
        return other * self**-1.0

    def __pow__(self, p):
        first = p * self.value ** (p - 1) if p != 0 else 0.0
        second = p * (p - 1) * self.value ** (p - 2) if p not in (0, 1) else 0.0
        return self._through(self.value**p, first, second)

    def exp(self):
        e = np.exp(self.value)
        return self._through(e, e, e)

    def log(self):
        return self._through(np.log(self.value), 1 / self.value, -1 / self.value**2)

    def sqrt(self):
        return self**0.5

    def sin(self):
        s, c = np.sin(self.value), np.cos(self.value)
        return self._through(s, c, -s)

    def cos(self):
        s, c = np.sin(self.value), np.cos(self.value)
        return self._through(c, -s, -c)

    def arctan(self):
        first = 1 / (1 + self.value**2)
        return self._through(np.arctan(self.value), first, -2 * self.value * first**2)
