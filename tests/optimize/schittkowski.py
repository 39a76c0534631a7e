"""Problems of Schittkowski, More Test Examples for Nonlinear Programming Codes (1987), with equalities only.

S254 has bounds in the book that are implied. The book starts S316 to S322 and S336, S338 at
zero, where the gradient of a constraint vanishes and no method based on it can go on; here they start at (1, -1) and at
(1, 1, 1).
"""

import numpy as np
from numpy import exp, log

from .problems import problem

ROOT2 = np.sqrt(2.0)


@problem(x0=(-1.2, 1), f=0.99937529, near=(1.9994, 4.0))
def S216(x):
    x1, x2 = x
    return 100 * (x1**2 - x2) ** 2 + (x1 - 1) ** 2, [x1 * (x1 - 4) - 2 * x2 + 12]


@problem(x0=(-2, 3, 1), f=0.04, x=(-1, 1, 0))
def S235(x):
    x1, x2, x3 = x
    return (x2 - x1**2) ** 2 + 0.01 * (x1 - 1) ** 2, [x1 + x3**2 + 1]


@problem(x0=(1, 1, 1), f=-np.sqrt(3), x=(0, np.sqrt(3), 1))
def S254(x):
    x1, x2, x3 = x
    return log(x3) / np.log(10) - x2, [x2**2 + x3**2 - 4, x3 - 1 - x1**2]


def _ellipse(b2):
    """The point of an ellipse, with squared axes 100 and b2, that is nearest to (20, -20)."""

    def formulas(x):
        x1, x2 = x
        return (x1 - 20) ** 2 + (x2 + 20) ** 2, [x1**2 / 100 + x2**2 / b2 - 1]

    return formulas


for _number, _b2, _f, _near in (
    (316, 100, 334.314575, (7.0711, -7.0711)),
    (317, 64, 372.466606, (7.3523, -5.4226)),
    (318, 36, 412.750026, (7.8089, -3.7479)),
    (319, 16, 452.404394, (8.4922, -2.1122)),
    (320, 4, 485.531395, (9.3952, -0.6846)),
    (321, 1, 496.112356, (9.8161, -0.1909)),
    (322, 0.01, 499.960012, (9.9980, -0.0020)),
):
    _formulas = _ellipse(_b2)
    _formulas.__name__ = f"S{_number}"
    problem(x0=(1, -1), f=_f, near=_near)(_formulas)


@problem(x0=(1, 1, 1), f=-0.004472137, near=(2.0307e-6, 0.00447214, 0.002))
def S335(x):
    x1, x2, x3 = x
    return -(0.001 * x1 + x2), [1000 * x1**2 + 100 * x2**2 - x3, 100 * x1**2 + 400 * x2**2 + x3 - 0.01]


@problem(x0=(1, 1, 1), f=-0.337896, near=(0.534591, 0.534018, -0.218984))
def S336(x):
    x1, x2, x3 = x
    return 7 * x1 - 6 * x2 + 4 * x3, [x1**2 + 2 * x2**2 + 3 * x3**2 - 1, 5 * x1 + 5 * x2 - 3 * x3 - 6]


@problem(x0=(1, 1, 1), f=-10.9928063, near=(-0.366, -1.66, 2.84), also=(-7.2057,))
def S338(x):
    x1, x2, x3 = x
    return -(x1**2 + x2**2 + x3**2), [0.5 * x1 + x2 + x3 - 1, x1**2 + 2 / 3 * x2**2 + 0.25 * x3**2 - 4]


def _wright(x):
    x1, x2, x3 = x
    return (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 4, [x1 * (1 + x2**2) + x3**4 - 4 - 3 * ROOT2]


@problem(x0=(0, 0, 0), f=0.0325682, near=(1.104860, 1.196674, 1.535262))
def S345(x):
    return _wright(x)


_TIMES, _VALUES = (-5, -3, -1, 1, 3, 5), (127, 151, 379, 421, 460, 426)


@problem(x0=(300, -100, -0.1997, -127, -151, 379, 421, 460, 426), f=13390.093,
         near=(523.306, -156.948, -0.199665, 29.608, -86.6156, 47.3267, 26.2356, 22.916, -39.4707))  # fmt: skip
def S373(x):
    a, b, rate = x[:3]
    f = sum(r**2 for r in x[3:])
    return f, [a + b * exp(rate * t) + r - v for t, v, r in zip(_TIMES, _VALUES, x[3:], strict=True)]


def _quartic(x):
    f = sum((i + 1) * (xi**2 + xi**4) for i, xi in enumerate(x))
    return f, [sum(xi**2 for xi in x) - 1]


@problem(x0=(2,) * 20, f=1.9166667, near=(0.9129, 0.4082, *(0,) * 18))
def S394(x):
    return _quartic(x)


@problem(x0=(2,) * 50, f=1.9166668, near=(0.9129, 0.4082, *(0,) * 48))
def S395(x):
    return _quartic(x)

