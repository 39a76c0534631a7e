"""Systems of equations, as minimisation of a constant: small classics, most of them with as many equations as unknowns.

More, Garbow and Hillstrom, Testing unconstrained optimization software, ACM Trans. Math. Softw. 7 (1981): ROSENBRNE,
POWELLSGNE, POWELLBS, TRIGON, BROWNALE, BDVALUE, INTEGREQ, BROYDN3D, BROYDNBD, CHEBYQUAD. HYPCIR, GOTTFR, CLUSTER:
Buckley, report TR 1989CS-3 (Dalhousie University). HIMMELBC: Himmelblau, Applied Nonlinear Programming (1972).
DENSCHNCNE: Dennis and Schnabel, Numerical Methods for Unconstrained Optimization and Nonlinear Equations (1983).
HATFLDF, HATFLDG: OPTIMA user manual (Hatfield, 1989). HEART6, HEART8: Dennis, Gay and Vu, A new nonlinear equations
test problem, report 83-16 (Rice University, 1985).
"""

import numpy as np
from numpy import cos, exp, sin

from .problems import problem


@problem(x0=(-1.2, 1), f=0, x=(1, 1))
def ROSENBRNE(x):
    x1, x2 = x
    return 0.0, [10 * (x2 - x1**2), 1 - x1]


@problem(x0=(3, -1, 0, 1), f=0, x=(0, 0, 0, 0), degenerate=True)
def POWELLSGNE(x):
    x1, x2, x3, x4 = x
    return 0.0, [x1 + 10 * x2, np.sqrt(5) * (x3 - x4), (x2 - 2 * x3) ** 2, np.sqrt(10) * (x1 - x4) ** 2]


@problem(x0=(0, 1), f=0, near=(1.098159e-5, 9.106147))
def POWELLBS(x):
    x1, x2 = x
    return 0.0, [1e4 * x1 * x2 - 1, exp(-x1) + exp(-x2) - 1.0001]


@problem(x0=(1 / 5,) * 5, f=0, near=(0.0617549, 0.0639399, 0.0664867, 0.0695306, 0.321489))
def TRIGON(x):
    n, total = len(x), sum(cos(xi) for xi in x)
    return 0.0, [n - total + (i + 1) * (1 - cos(xi)) - sin(xi) for i, xi in enumerate(x)]


@problem(x0=(0.5,) * 10, f=0, x=(1,) * 10)
def BROWNALE(x):
    total, product = sum(x), 1.0
    for xi in x:
        product = product * xi
    return 0.0, [xi + total - len(x) - 1 for xi in x[:-1]] + [product - 1]


_GRID = np.arange(1, 11) / 11
_BENT = (-0.043165, -0.0815772, -0.114486, -0.140974, -0.159909, -0.169877, -0.16909, -0.15525, -0.125356, -0.0754165)


@problem(x0=_GRID * (_GRID - 1), f=0, near=_BENT)
def BDVALUE(x):
    h, y = 1 / (len(x) + 1), [0.0, *x, 0.0]
    return 0.0, [
        2 * y[i] - y[i - 1] - y[i + 1] + h**2 * (y[i] + i * h + 1) ** 3 / 2 for i in range(1, len(x) + 1)
    ]


@problem(x0=_GRID * (_GRID - 1), f=0, near=_BENT)
def INTEGREQ(x):
    h = 1 / (len(x) + 1)
    t = [h * (i + 1) for i in range(len(x))]
    cubes = [(xi + ti + 1) ** 3 for xi, ti in zip(x, t, strict=True)]
    c = []
    for i, xi in enumerate(x):
        below = sum(t[j] * cubes[j] for j in range(i + 1))
        above = sum((1 - t[j]) * cubes[j] for j in range(i + 1, len(x)))
        c.append(xi + h * ((1 - t[i]) * below + t[i] * above) / 2)
    return 0.0, c


@problem(x0=(-1,) * 15, f=0, near=(-0.57, -0.68, *(-0.706,) * 8, -0.70, -0.69, -0.67, -0.60, -0.42))
def BROYDN3D(x):
    y = [0.0, *x, 0.0]
    return 0.0, [(3 - 2 * y[i]) * y[i] - y[i - 1] - 2 * y[i + 1] + 1 for i in range(1, len(x) + 1)]


@problem(x0=(-1,) * 15, f=0, near=(-0.43, -0.48, -0.52, -0.56, -0.59, *(-0.62,) * 9, -0.59))
def BROYDNBD(x):
    c = []
    for i, xi in enumerate(x):
        near = sum(x[j] * (1 + x[j]) for j in range(max(0, i - 5), min(len(x), i + 2)) if j != i)
        c.append(xi * (2 + 5 * xi**2) + 1 - near)
    return 0.0, c


@problem(x0=np.arange(1, 8) / 8, f=0, near=(0.0580691, 0.235172, 0.338044, 0.5, 0.661956, 0.764828, 0.941931))
def CHEBYQUAD(x):
    """Nodes of equal weights on [0, 1] that integrate the shifted Chebyshev polynomials exactly."""
    n = len(x)
    before, now, c = [1.0] * n, [2 * xi - 1 for xi in x], []
    for i in range(1, n + 1):
        exact = -1 / (i**2 - 1) if i % 2 == 0 else 0.0
        c.append(sum(now) * (1 / n) - exact)
        before, now = now, [2 * (2 * xi - 1) * t - s for xi, t, s in zip(x, now, before, strict=True)]
    return 0.0, c


@problem(x0=(0, 1), f=0, near=(0.517638, 1.931852))
def HYPCIR(x):
    x1, x2 = x
    return 0.0, [x1 * x2 - 1, x1**2 + x2**2 - 4]


@problem(x0=(0.5, 0.5), f=0, x=(0, 0))
def GOTTFR(x):
    x1, x2 = x
    return 0.0, [x1 - 0.1136 * (x1 + 3 * x2) * (1 - x1), x2 + 7.5 * (2 * x1 - x2) * (1 - x2)]


@problem(x0=(0.1,) * 3, f=0, near=(0.00168421, 0.0169204, 0.583146))
def HATFLDF(x):
    x1, x2, x3 = x
    return 0.0, [x1 + x2 * exp(k * x3) - value for k, value in ((1, 0.032), (2, 0.056), (3, 0.099))]


@problem(x0=(1,) * 25, f=0,
         near=(17.7, 0.733, 12.3, 1.35, 9.75, 1.86, 8.22, 2.29, 7.16, 2.63, 6.36, 2.89, 5.72, 3.06, 5.18, 3.15, 4.68,
               3.14, 4.18, 3.01, 3.61, 2.70, 2.86, 2.05, 1.55))  # fmt: skip
def HATFLDG(x):
    y = [1.0, *x, -1.0]
    middle = x[12]
    c = [y[i] * (y[i - 1] - y[i + 1]) + y[i] - middle + 1 for i in range(2, 25)]
    return 0.0, [x[0] - middle + 1 - x[0] * x[1], *c, x[24] - middle + 1 + x[23] * x[24]]


def _moments(dipoles, sums):
    """Real and imaginary parts of sum_j (p_j + i q_j) (u_j + i v_j)^k - sums[k], k = 1, 2, 3."""
    c = []
    for wanted in sums:
        dipoles = [(p * u - q * v, p * v + q * u, u, v) for p, q, u, v in dipoles]
        c += [sum(d[0] for d in dipoles) - wanted[0], sum(d[1] for d in dipoles) - wanted[1]]
    return c


@problem(x0=(0, 0, 1, 1, 1, 1), f=0, near=(-0.8191, -0.0167761, 2.25022, 2.68151, 0.797098, -20.2417))
def HEART6(x):
    a, c, t, u, v, w = x
    dipoles = [(a, c, t, v), (-0.816 - a, -0.017 - c, u, w)]
    return 0.0, _moments(dipoles, ((-1.826, -0.754), (-4.839, -3.259), (-14.023, 15.467)))


@problem(x0=(1,) * 8, f=0, near=(-0.311627, -0.378373, 0.328244, -0.372244, -1.28223, 2.4943, 1.55487, -1.38464))
def HEART8(x):
    a, b, c, d, t, u, v, w = x
    dipoles = [(a, c, t, v), (b, d, u, w)]
    sums = ((-1.57, -1.31), (-2.65, 2.0), (-12.6, 9.48))
    return 0.0, [a + b + 0.69, c + d + 0.044, *_moments(dipoles, sums)]


@problem(x0=(0, 0), f=0, near=(0.69482, 0.768169))
def CLUSTER(x):
    x1, x2 = x
    return 0.0, [(x1 - x2**2) * (x1 - sin(x2)), (cos(x2) - x1) * (x2 - cos(x1))]


@problem(x0=(1, 1), f=0, x=(3, 2))
def HIMMELBC(x):
    x1, x2 = x
    return 0.0, [x1**2 + x2 - 11, x1 + x2**2 - 7]


@problem(x0=(2, 3), f=0, x=(1, 1))
def DENSCHNCNE(x):
    x1, x2 = x
    return 0.0, [x1**2 + x2**2 - 2, exp(x1 - 1) + x2**3 - 2]
