"""Derivatives by differences, where a user gives none.

Central differences, whose error of order eps**(2/3) leaves a KKT residual of 1e-8 in reach where one-sided ones, with
eps**(1/2), do not; or the complex step f'(x) = Im f(x + ih) / h, which is exact to rounding for a function that takes
complex numbers (Squire and Trapp, SIAM Review 40 (1998)).
"""

import numpy as np

FIRST = np.finfo(float).eps ** (1 / 3)  # relative step of a central difference of something exact to rounding
SECOND = 2e-4  # and of a gradient that is such a difference itself


def jacobian(function, x, method):
    """(m, n): derivatives of function(x) (m,) or a number; method "cs" or anything else for central differences."""
    columns = []
    for j in range(x.size):
        if method == "cs":
            moved = x.astype(complex)
            moved[j] += 1e-100j
            value = np.atleast_1d(function(moved))
            if value.dtype.kind != "c":
                raise TypeError('"cs" needs functions that return complex numbers for complex x')
            columns.append(value.imag / 1e-100)
            continue
        step = FIRST * max(1.0, abs(x[j]))
        above, below = x.copy(), x.copy()
        above[j] += step
        below[j] -= step
        difference = np.atleast_1d(function(above)) - np.atleast_1d(function(below))
        columns.append(difference / (above[j] - below[j]))
    return np.stack(columns, axis=-1)


class DifferencedHessian:
    """The derivative of a gradient, known by its products: H v = (gradient(x + h v) - gradient(x - h v)) / 2h."""

    def __init__(self, gradient, x, step=FIRST):
        self.gradient, self.x, self.step = gradient, x, step

    def matvec(self, v):
        size = np.max(np.abs(v), initial=0.0)
        if not 0 < size < np.inf:
            return np.zeros_like(self.x) * size
        h = self.step * max(1.0, np.max(np.abs(self.x * v)) / size) / size
        return (self.gradient(self.x + h * v) - self.gradient(self.x - h * v)) / (2 * h)
