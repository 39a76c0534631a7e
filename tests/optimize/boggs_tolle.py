"""Problems made for studies of methods of sequential quadratic programming.

BT: Boggs and Tolle, A strategy for global convergence in a sequential quadratic programming algorithm, SIAM J. Numer.
Anal. 26 (1989); BT4 with a square for a cube in its constraint, without which it is unbounded. MWRIGHT: Wright, thesis
(Stanford, 1976), problem 4 from start D. BYRDSPHR: two nearly tangent spheres, of Byrd. MARATOS: Brown and
Bartholomew-Biggs, report 178 of the Numerical Optimisation Centre (Hatfield, 1987). DIXCHLNG: a challenge of Dixon's
(1991). GENHS28: problem 28 of Hock and Schittkowski in ten variables.
"""

from itertools import pairwise

import numpy as np
from numpy import sin

from .problems import problem

ROOT2 = np.sqrt(2.0)


@problem(x0=(0.08, 0.06), f=-1, x=(1, 0))
def BT1(x):
    x1, x2 = x
    return 100 * x1**2 + 100 * x2**2 - x1 - 100, [x1**2 + x2**2 - 1]


@problem(x0=(10, 10, 10), f=0.03256820025, near=(1.104860, 1.196674, 1.535262))
def BT2(x):
    x1, x2, x3 = x
    return (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 4, [x1 * (1 + x2**2) + x3**4 - 4 - 3 * ROOT2]


@problem(x0=(20,) * 5, f=176 / 43, x=np.array((-33, 11, 27, -5, 11)) / 43)
def BT3(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - x2) ** 2 + (x2 + x3 - 2) ** 2 + (x4 - 1) ** 2 + (x5 - 1) ** 2
    return f, [x1 + 3 * x2, x3 + x4 - 2 * x5, x2 - x5]


@problem(x0=(4.0382, -2.9470, -0.09115), f=-45.5105507, near=(2.2845, -3.7209, 2.4364), also=(-3.70476818, 3.28903774))
def BT4(x):
    x1, x2, x3 = x
    return x1 - x2 + x2**3, [x1**2 + x2**2 + x3**2 - 25, x1 + x2 + x3 - 1]


@problem(x0=(2,) * 5, f=0.277044784, near=(1.28693, 1.48024, 1.37945, 1.32195, 0.628718))
def BT6(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6
    return f, [x1**2 * x4 + sin(x4 - x5) - 2 * ROOT2, x2 + x3**4 * x2**2 - 8 - ROOT2]


@problem(x0=(-2, 1, 1, 1, 1), f=306.5, x=(0.5, 2, 0, -np.sqrt(4.5), 0), also=(360.379767,))
def BT7(x):
    x1, x2, x3, x4, x5 = x
    f = 100 * (x2 - x1**2) ** 2 + (x1 - 1) ** 2
    return f, [x1 * x2 - x3**2 - 1, x2**2 - x4**2 + x1, x1 + x5**2 - 0.5]


@problem(x0=(1, 1, 1, 0, 0), f=1, x=(1, 0, 0, 0, 0), degenerate=True)
def BT8(x):
    x1, x2, x3, x4, x5 = x
    return x1**2 + x2**2 + x3**2, [x1 - 1 - x4**2 + x2**2, x1**2 + x2**2 - 1 - x5**2]


@problem(x0=(2, 2), f=-1, x=(1, 1))
def BT10(x):
    x1, x2 = x
    return -x1, [x2 - x1**3, x2 - x1**2]


@problem(x0=(2,) * 5, f=0.824891778, near=(1.267576, 0.965300, 0.351044, -0.013642, -0.732424))
def BT11(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 2 + (x3 - x4) ** 4 + (x4 - x5) ** 4
    return f, [x1 + x2**2 + x3**3 + 2 - 3 * ROOT2, x2 - x3**2 + x4 + 2 - 2 * ROOT2, x1 - x5 - 2]


_X1, _X2 = 2500 / 101, 25 / 101


@problem(x0=(2,) * 5, f=6.188119, x=(_X1, _X2, 0, np.sqrt(_X1**2 + _X2**2 - 25), np.sqrt(_X1 - 2)))
def BT12(x):
    x1, x2, x3, x4, x5 = x
    return 0.01 * x1**2 + x2**2, [x1 + x2 - x3**2 - 25, x1**2 + x2**2 - x4**2 - 25, x1 - x5**2 - 2]


@problem(x0=(-1, 2, 1, -2, -2), f=24.97881, near=(-1.2946, 2.46308, 1.21264, -0.164162, -1.54488), also=(42.0460732,))
def MWRIGHT(x):
    x1, x2, x3, x4, x5 = x
    f = x1**2 + (x1 - x2) ** 2 + (x2 - x3) ** 3 + (x3 - x4) ** 4 + (x4 - x5) ** 4
    return f, [x1 + x2**2 + x3**2 - 2 - 3 * ROOT2, x2 - x3**2 + x4 + 2 - 2 * ROOT2, x1 * x5 - 2]


_HEIGHT = np.sqrt((9 - 0.25) / 2)


@problem(x0=(5, 0.0001, -0.0001), f=-0.5 - 2 * _HEIGHT, x=(0.5, _HEIGHT, _HEIGHT))
def BYRDSPHR(x):
    x1, x2, x3 = x
    return -x1 - x2 - x3, [x1**2 + x2**2 + x3**2 - 9, (x1 - 1) ** 2 + x2**2 + x3**2 - 9]


@problem(x0=(1.1, 0.1), f=-1, x=(1, 0))
def MARATOS(x):
    x1, x2 = x
    return -x1 + 1e-6 * (x1**2 + x2**2 - 1), [x1**2 + x2**2 - 1]


@problem(x0=(-2, -1 / 2, 3, 1 / 3, -4, -1 / 4, 5, 1 / 5, -6, -1 / 6), f=0, x=(1,) * 10, also=(2471.8978,))
def DIXCHLNG(x):
    f = 0.0
    for x1, x2, x3, x4 in zip(x, x[1:], x[2:], x[3:], strict=False):
        f = f + 100 * (x2 - x1**2) ** 2 + (x1 - 1) ** 2 + 90 * (x4 - x3**2) ** 2 + (x3 - 1) ** 2
        f = f + 10.1 * ((x2 - 1) ** 2 + (x4 - 1) ** 2) + 19.8 * (x2 - 1) * (x4 - 1)
    c, product = [], 1.0
    for i, xi in enumerate(x):
        product = product * xi
        if i % 2:
            c.append(product - 1)
    return f, c


@problem(x0=(-4, *(1,) * 9), f=0.9271737,
         near=(0.16421, -0.05205, 0.31329, 0.14182, 0.13436, 0.19649, 0.15756, 0.1628, 0.17228, 0.16421))  # fmt: skip
def GENHS28(x):
    f = sum((a + b) ** 2 for a, b in pairwise(x))
    return f, [a + 2 * b + 3 * c - 1 for a, b, c in zip(x, x[1:], x[2:], strict=False)]
