"""Problems of Hock and Schittkowski, Test Examples for Nonlinear Programming Codes (1981), with equalities only.

HS53, HS60, HS62, HS63, HS80 and HS81 have bounds in the book that are inactive at the solution; HS100LNP and HS111LNP
are those problems with what is active at the solution as equalities. Here there are no bounds.
"""

import numpy as np
from numpy import cos, exp, log, pi, sin

from .problems import problem

ROOT2 = np.sqrt(2.0)


@problem(x0=(-1.2, 1), f=0, x=(1, 1))
def HS6(x):
    x1, x2 = x
    return (1 - x1) ** 2, [10 * (x2 - x1**2)]


@problem(x0=(2, 2), f=-np.sqrt(3), x=(0, np.sqrt(3)))
def HS7(x):
    x1, x2 = x
    return log(1 + x1**2) - x2, [(1 + x1**2) ** 2 + x2**2 - 4]


@problem(x0=(2, 1), f=-1, near=(4.60159, 1.95584))
def HS8(x):
    x1, x2 = x
    return -1.0, [x1**2 + x2**2 - 25, x1 * x2 - 9]


@problem(x0=(0, 0), f=-0.5, x=(-3, -4))
def HS9(x):
    x1, x2 = x
    return sin(pi * x1 / 12) * cos(pi * x2 / 16), [4 * x1 - 3 * x2]


@problem(x0=(-2.6, 2, 2), f=0, x=(1, 1, 1), degenerate=True)
def HS26(x):
    x1, x2, x3 = x
    return (x1 - x2) ** 2 + (x2 - x3) ** 4, [(1 + x2**2) * x1 + x3**4 - 3]


@problem(x0=(2, 2, 2), f=0.04, x=(-1, 1, 0))
def HS27(x):
    x1, x2, x3 = x
    return 0.01 * (x1 - 1) ** 2 + (x2 - x1**2) ** 2, [x1 + x3**2 + 1]


@problem(x0=(-4, 1, 1), f=0, x=(0.5, -0.5, 0.5))
def HS28(x):
    x1, x2, x3 = x
    return (x1 + x2) ** 2 + (x2 + x3) ** 2, [x1 + 2 * x2 + 3 * x3 - 1]


@problem(x0=(2, 2, 2, 2), f=-1, x=(1, 1, 0, 0))
def HS39(x):
    x1, x2, x3, x4 = x
    return -x1, [x2 - x1**3 - x3**2, x1**2 - x2 - x4**2]


@problem(x0=(0.8,) * 4, f=-0.25, x=(2 ** (-1 / 3), 2 ** (-1 / 2), 2 ** (-11 / 12), 2 ** (-1 / 4)))
def HS40(x):
    x1, x2, x3, x4 = x
    return -x1 * x2 * x3 * x4, [x1**3 + x2**2 - 1, x1**2 * x4 - x3, x4**2 - x2]


@problem(x0=(1,) * 4, f=28 - 10 * ROOT2, x=(2, 2, 0.6 * ROOT2, 0.8 * ROOT2))
def HS42(x):
    x1, x2, x3, x4 = x
    return (x1 - 1) ** 2 + (x2 - 2) ** 2 + (x3 - 3) ** 2 + (x4 - 4) ** 2, [x1 - 2, x3**2 + x4**2 - 2]


@problem(x0=(ROOT2 / 2, 1.75, 0.5, 2, 2), f=0, x=(1,) * 5, degenerate=True)
def HS46(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6
    return f, [x1**2 * x4 + sin(x4 - x5) - 1, x2 + x3**4 * x4**2 - 2]


@problem(x0=(2, ROOT2, -1, 2 - ROOT2, 0.5), f=0, x=(1,) * 5, degenerate=True)
def HS47(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - x2) ** 2 + (x2 - x3) ** 3 + (x3 - x4) ** 4 + (x4 - x5) ** 4
    return f, [x1 + x2**2 + x3**3 - 3, x2 - x3**2 + x4 - 1, x1 * x5 - 1]


@problem(x0=(3, 5, -3, 2, -2), f=0, x=(1,) * 5)
def HS48(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - 1) ** 2 + (x2 - x3) ** 2 + (x4 - x5) ** 2
    return f, [x1 + x2 + x3 + x4 + x5 - 5, x3 - 2 * (x4 + x5) + 3]


@problem(x0=(10, 7, 2, -3, 0.8), f=0, x=(1,) * 5, degenerate=True)
def HS49(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6
    return f, [x1 + x2 + x3 + 4 * x4 - 7, x3 + 5 * x5 - 6]


@problem(x0=(35, -31, 11, 5, -5), f=0, x=(1,) * 5)
def HS50(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - x2) ** 2 + (x2 - x3) ** 2 + (x3 - x4) ** 4 + (x4 - x5) ** 2
    return f, [x1 + 2 * x2 + 3 * x3 - 6, x2 + 2 * x3 + 3 * x4 - 6, x3 + 2 * x4 + 3 * x5 - 6]


def _three_lines(x):
    x1, x2, x3, x4, x5 = x
    return [x1 + 3 * x2, x3 + x4 - 2 * x5, x2 - x5]


@problem(x0=(2.5, 0.5, 2, -1, 0.5), f=0, x=(1,) * 5)
def HS51(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - x2) ** 2 + (x2 + x3 - 2) ** 2 + (x4 - 1) ** 2 + (x5 - 1) ** 2
    return f, [x1 + 3 * x2 - 4, x3 + x4 - 2 * x5, x2 - x5]


@problem(x0=(2,) * 5, f=1859 / 349, x=np.array((-33, 11, 180, -158, 11)) / 349)
def HS52(x):
    x1, x2, x3, x4, x5 = x
    return (4 * x1 - x2) ** 2 + (x2 + x3 - 2) ** 2 + (x4 - 1) ** 2 + (x5 - 1) ** 2, _three_lines(x)


@problem(x0=(2,) * 5, f=176 / 43, x=np.array((-33, 11, 27, -5, 11)) / 43)
def HS53(x):
    x1, x2, x3, x4, x5 = x
    return (x1 - x2) ** 2 + (x2 + x3 - 2) ** 2 + (x4 - 1) ** 2 + (x5 - 1) ** 2, _three_lines(x)


_A, _B = np.arcsin(np.sqrt(1 / 4.2)), np.arcsin(np.sqrt(5 / 7.2))
_C, _D = np.arcsin(np.sqrt(4 / 7)), np.arcsin(np.sqrt(2 / 7))


@problem(x0=(1, 1, 1, _A, _A, _A, _B), f=-3.456, x=(2.4, 1.2, 1.2, _C, _D, _D, pi / 2))
def HS56(x):
    x1, x2, x3, x4, x5, x6, x7 = x
    c = [x1 - 4.2 * sin(x4) ** 2, x2 - 4.2 * sin(x5) ** 2, x3 - 4.2 * sin(x6) ** 2]
    return -x1 * x2 * x3, [*c, x1 + 2 * x2 + 2 * x3 - 7.2 * sin(x7) ** 2]


@problem(x0=(2, 2, 2), f=0.03256820025, near=(1.104860, 1.196674, 1.535262))
def HS60(x):
    x1, x2, x3 = x
    return (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 4, [x1 * (1 + x2**2) + x3**4 - 4 - 3 * ROOT2]


@problem(x0=(0, 0, 0), f=-143.6461422, near=(5.326770, -2.118998, 3.210464))
def HS61(x):
    x1, x2, x3 = x
    f = 4 * x1**2 + 2 * x2**2 + 2 * x3**2 - 33 * x1 + 16 * x2 - 24 * x3
    return f, [3 * x1 - 2 * x2**2 - 7, 4 * x1 - x3**2 - 11]


@problem(x0=(0.7, 0.2, 0.1), f=-26272.51448, near=(0.617813, 0.328202, 0.053985))
def HS62(x):
    x1, x2, x3 = x
    f = 255 * log((x1 + x2 + x3 + 0.03) / (0.09 * x1 + x2 + x3 + 0.03))
    f = f + 280 * log((x2 + x3 + 0.03) / (0.07 * x2 + x3 + 0.03)) + 290 * log((x3 + 0.03) / (0.13 * x3 + 0.03))
    return -32.174 * f, [x1 + x2 + x3 - 1]


@problem(x0=(2, 2, 2), f=961.7151721, near=(3.512118, 0.216988, 3.552174))
def HS63(x):
    x1, x2, x3 = x
    f = 1000 - x1**2 - 2 * x2**2 - x3**2 - x1 * x2 - x1 * x3
    return f, [8 * x1 + 14 * x2 + 7 * x3 - 56, x1**2 + x2**2 + x3**2 - 25]


@problem(x0=(2,) * 5, f=0.24150513, near=(1.166172, 1.182111, 1.380257, 1.506036, 0.610920))
def HS77(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6
    return f, [x1**2 * x4 + sin(x4 - x5) - 2 * ROOT2, x2 + x3**4 * x4**2 - 8 - ROOT2]


def _powell(x):
    x1, x2, x3, x4, x5 = x
    return [x1**2 + x2**2 + x3**2 + x4**2 + x5**2 - 10, x2 * x3 - 5 * x4 * x5, x1**3 + x2**3 + 1]


@problem(x0=(-2, 1.5, 2, -1, -1), f=-2.91970041, near=(-1.717143, 1.595710, 1.827246, -0.763643, -0.763643))
def HS78(x):
    return x[0] * x[1] * x[2] * x[3] * x[4], _powell(x)


@problem(x0=(2,) * 5, f=0.0787768209, near=(1.191127, 1.362603, 1.472818, 1.635017, 1.679081))
def HS79(x):
    x1, x2, x3, x4, x5 = x
    f = (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 2 + (x3 - x4) ** 4 + (x4 - x5) ** 4
    return f, [x1 + x2**2 + x3**3 - 2 - 3 * ROOT2, x2 - x3**2 + x4 + 2 - 2 * ROOT2, x1 * x5 - 2]


@problem(x0=(-2, 2, 2, -1, -1), f=0.0539498478, near=(-1.717143, 1.595710, 1.827246, -0.763643, -0.763643))
def HS80(x):
    return exp(x[0] * x[1] * x[2] * x[3] * x[4]), _powell(x)


@problem(x0=(-2, 2, 2, -1, -1), f=0.0539498478, near=(-1.717143, 1.595710, 1.827246, -0.763643, -0.763643))
def HS81(x):
    f = exp(x[0] * x[1] * x[2] * x[3] * x[4]) - 0.5 * (x[0] ** 3 + x[1] ** 3 + 1) ** 2
    return f, _powell(x)


@problem(x0=(1, 2, 0, 4, 0, 1, 1), f=680.6300573,
         near=(2.330499, 1.951372, -0.477541, 4.365726, -0.624487, 1.038131, 1.594227))  # fmt: skip
def HS100LNP(x):
    x1, x2, x3, x4, x5, x6, x7 = x
    f = (x1 - 10) ** 2 + 5 * (x2 - 12) ** 2 + x3**4 + 3 * (x4 - 11) ** 2 + 10 * x5**6 + 7 * x6**2 + x7**4
    f = f - 4 * x6 * x7 - 10 * x6 - 8 * x7
    c1 = 127 - 2 * x1**2 - 3 * x2**4 - x3 - 4 * x4**2 - 5 * x5
    return f, [c1, -4 * x1**2 - x2**2 + 3 * x1 * x2 - 2 * x3**2 - 5 * x6 + 11 * x7]


_ENERGIES = (-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.1, -10.708, -26.662, -22.179)


@problem(x0=(-2.3,) * 10, f=-47.76109026,
         near=(-3.2023, -1.9124, -0.24443, -6.5612, -0.7231, -7.2742, -3.5972, -4.0203, -3.2884, -2.3344))  # fmt: skip
def HS111LNP(x):
    e = [exp(xi) for xi in x]
    total = log(sum(e))
    f = sum(ei * (energy + xi - total) for ei, energy, xi in zip(e, _ENERGIES, x, strict=True))
    c = [e[0] + 2 * e[1] + 2 * e[2] + e[5] + e[9] - 2, e[3] + 2 * e[4] + e[5] + e[6] - 1]
    return f, [*c, e[2] + e[6] + e[7] + 2 * e[8] + e[9] - 1]
