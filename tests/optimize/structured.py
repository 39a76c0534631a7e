"""Problems that come in any size: chains, regression, eigenvalues, charges on a sphere, control.

LUKVLE: Luksan and Vlcek, Sparse and partially separable test problems for unconstrained and equality constrained
optimization, report V-767 (Prague, 1999), problems 1 and 3. ORTHREG: after Gulliksson, report UMINF-178.90 (Umea,
1990): a curve or surface is fitted to points by least squares of distances; ours have fewer points. ELEC: Dolan and
More, Benchmarking optimization software with COPS (2000). DTOC5: Coleman and Liao, An efficient trust region method for
unconstrained discrete-time optimal control problems (1995), with 10 steps. Where no value is published for a size, it
is ours.
"""

from itertools import pairwise

import numpy as np
from numpy import exp, pi, sin, sqrt

from .problems import problem


@problem(x0=(-1.2, 1) * 10, f=6.23245863,
         near=(-0.950556, 0.913901, 0.989091, 0.998559, 0.999809, 0.999975, 0.999997, *(1,) * 13))  # fmt: skip
def LUKVLE1(x):
    f = sum(100 * (a**2 - b) ** 2 + (a - 1) ** 2 for a, b in pairwise(x))
    return f, [
        3 * b**3 + 2 * c - 5 + sin(b - c) * sin(b + c) + 4 * b - a * exp(a - b) - 3
        for a, b, c in zip(x, x[1:], x[2:], strict=False)
    ]


@problem(x0=(3, -1, 0, 1) * 5, f=14.1685139,
         near=(1.13193, -0.0818323, -0.132942, 0.173787, 0.00359302, -0.000612474, *(0,) * 8, -0.00344097, 0.00412907,
               0.298397, -0.00789022, 0.342188, 0.803911))  # fmt: skip
def LUKVLE3(x):
    f = 0.0
    for i in range(0, len(x) - 2, 2):
        a, b, c, d = x[i : i + 4]
        f = f + (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4
    first, second, last, before = x[0], x[1], x[-1], x[-2]
    c1 = 3 * first**3 + 2 * second - 5 + sin(first - second) * sin(first + second)
    return f, [c1, 4 * last - before * exp(before - last) - 3]


_ANGLES = 2 * pi * np.arange(10) / 10
_NOISE = 1 + 0.2 * np.cos(237.1531 * _ANGLES)


def _distances(points, data):
    coordinates = [p for point in points for p in point]
    return sum((p - d) ** 2 for p, d in zip(coordinates, data.ravel(), strict=True))


def _pairs(x):
    return list(zip(x[::2], x[1::2], strict=True))


def _conic(h11, h12, h22, g1, g2, x, y):
    return h11 * x**2 + 2 * h12 * x * y + h22 * y**2 - 2 * g1 * x - 2 * g2 * y - 1


_RAYS = [(9.0, 9.0), (6.0, -6.0), (-9.0, -9.0), (-6.0, 6.0)]
_SPRAY = np.array([(0.5 + a + c / pi, 0.5 + b + d / pi) for a, b in _RAYS for c, d in _RAYS])


@problem(x0=(1, 0, 1, 0, 0, *_SPRAY.ravel()), f=79.633051,
         near=(0.00109899, -0.00464626, 0.0196432, -0.00177363, 0.00749847, 12.7933, 10.553, 10.8195, 10.0861, 6.08391,
               8.96598, 8.05777, 9.43286, 9.79334, -4.44702, 7.81948, -4.9139, 3.08391, -6.03402, 5.05777, -5.56714,
               -5.08391, -7.96598, -7.05777, -8.43286, -11.7933, -9.55298, -9.81948, -9.0861, -2.08391, 7.03402,
               -4.05777, 6.56714, -8.79334, 5.44702, -6.81948, 5.9139))  # fmt: skip
def ORTHREGA(x):
    points = _pairs(x[5:])
    return _distances(points, _SPRAY), [_conic(*x[:5], *point) for point in points]


_SIX = np.array(((9, 9, 0), (6, -6, 0), (-9, -9, 0), (-6, 6, 0), (0, 0, 7), (0, 0, -7)), float) + 0.5


def _quadric(h11, h12, h13, h22, h23, h33, g1, g2, g3, x, y, z):
    squares = h11 * x**2 + h22 * y**2 + h33 * z**2 + 2 * (h12 * x * y + h13 * x * z + h23 * y * z)
    return squares - 2 * (g1 * x + g2 * y + g3 * z) - 1


_TERMS = np.array([[_quadric(*unit, *point) + 1 for unit in np.eye(9)] for point in _SIX])


@problem(x0=(1, 0, 0, 1, 0, 1, 0, 0, 0, *_SIX.ravel()), f=0,
         x=(*np.linalg.lstsq(_TERMS, np.ones(6), rcond=None)[0], *_SIX.ravel()), degenerate=True)  # fmt: skip
def ORTHREGB(x):
    points = list(zip(x[9::3], x[10::3], x[11::3], strict=True))
    return _distances(points, _SIX), [_quadric(*x[:9], *point) for point in points]


_OVAL = np.stack([2 * np.cos(_ANGLES) * np.cos(2) - np.sin(_ANGLES) * np.sin(2),
                  2 * np.cos(_ANGLES) * np.sin(2) + np.sin(_ANGLES) * np.cos(2)], 1) * _NOISE[:, None]  # fmt: skip


@problem(x0=(1, 0, 1, 1, 1, *_OVAL.ravel()), f=0.39905851,
         near=(1.00712, 0.302352, 0.342493, -0.0604888, 0.00948341, -0.919529, 2.04895, -1.25896, 1.17511, -1.08527,
               0.0849863, -0.583942, -1.01193, 0.214899, -1.8156, 0.919196, -1.63515, 1.06121, -1.15388, 1.00245,
               -0.269402, 0.577729, 0.920122, 0.123917, 1.60279))  # fmt: skip
def ORTHREGC(x):
    points = _pairs(x[5:])
    return _distances(points, _OVAL), [_conic(*x[:5], *point) for point in points]


_HEART = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1) * ((1 + 1.7**2 + np.cos(_ANGLES)) * _NOISE)[:, None]


@problem(x0=(1, 0, 1, *_HEART.ravel()), f=3.41212108,
         near=(0.982906, -0.0194866, 1.71473, 4.92319, -0.00376885, 3.76505, 2.77081, 1.07802, 3.91968, -0.992151,
               3.39009, -2.47903, 1.86229, -2.95734, 0.00336191, -2.53112, -1.8021, -0.963626, -3.44543, 1.25953,
               -3.95008, 3.69377, -2.87908))  # fmt: skip
def ORTHREGD(x):
    z1, z2, z3 = x[:3]
    points = _pairs(x[3:])
    squares = [(a - z1) ** 2 + (b - z2) ** 2 for a, b in points]
    return _distances(points, _HEART), [r**2 - r * (1 + z3**2) ** 2 for r in squares]


def _spiral(count):
    """Points spread over the sphere, none of them special."""
    k = np.arange(count)
    z, turn = 1 - (2 * k + 1) / count, pi * (1 + np.sqrt(5)) * (k + 0.3)
    return np.stack([np.cos(turn) * np.sqrt(1 - z**2), np.sin(turn) * np.sqrt(1 - z**2), z], 1).ravel()


def _charges(x):
    points = list(zip(x[::3], x[1::3], x[2::3], strict=True))
    f = 0.0
    for i, (x1, y1, z1) in enumerate(points):
        for x2, y2, z2 in points[:i]:
            f = f + 1 / sqrt((x1 - x2) ** 2 + (y1 - y2) ** 2 + (z1 - z2) ** 2)
    return f, [a**2 + b**2 + c**2 - 1 for a, b, c in points]


_TETRAHEDRON = np.array(((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))) / np.sqrt(3)


@problem(x0=_spiral(4), f=6 / np.sqrt(8 / 3), x=_TETRAHEDRON.ravel(), degenerate=True)
def ELEC4(x):
    return _charges(x)


@problem(x0=_spiral(6), f=12 / np.sqrt(2) + 3 / 2, x=np.vstack([np.eye(3), -np.eye(3)]).ravel(), degenerate=True)
def ELEC6(x):
    return _charges(x)


_WAVE = np.sin(pi * np.arange(1, 13) / 13)


@problem(x0=(1, *(0.5,) * 11), f=2 - 2 * np.cos(pi / 13), x=_WAVE / np.linalg.norm(_WAVE))
def RAYLEIGH(x):
    """The least eigenvalue of the second difference on 12 points."""
    f = 2 * sum(xi**2 for xi in x) - 2 * sum(a * b for a, b in pairwise(x))
    return f, [sum(xi**2 for xi in x) - 1]


_TARGET = np.array(((2.0, 1.0, 0.0), (-1.0, 3.0, 0.5), (0.3, -0.7, 1.5)))
_U, _S, _V = np.linalg.svd(_TARGET)


@problem(x0=np.eye(3).ravel(), f=((_S - 1) ** 2).sum(), x=(_U @ _V).ravel())
def PROCRUSTES(x):
    """The orthogonal matrix nearest to a given one."""
    f = sum((xi - t) ** 2 for xi, t in zip(x, _TARGET.ravel(), strict=True))
    rows = [x[:3], x[3:6], x[6:]]
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    return f, [sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) - (i == j) for i, j in pairs]


@problem(x0=(0.0,) * 20, f=1.583336,
         near=(1.70892, 1.36278, 1.08422, 0.854492, 0.660763, 0.494136, 0.348402, 0.219254, 0.103758, 0, 1, 0.929108,
               0.879155, 0.848024, 0.834489, 0.83805, 0.85887, 0.897795, 0.956473, 1.03758))  # fmt: skip
def DTOC5(x):
    """Controls x_t and states y_t, of which the first is 1."""
    controls, states, h = x[:10], x[10:], 0.1
    f = h * sum(a**2 for a in x)
    steps = [states[t] + h * (states[t] ** 2 - controls[t]) - states[t + 1] for t in range(9)]
    return f, [states[0] - 1, *steps]
