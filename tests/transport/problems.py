"""Transport problems for the tests, the awkward ones among them."""

import functools

import numpy as np


def grid_cost(side, p, dtype=float):
    """|x - y|_p^p between the points of a square grid, largest entry 1."""
    points = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    C = (abs(points[:, None] - points[None]) ** p).sum(-1).astype(float)
    return (C / C.max()).astype(dtype)


@functools.cache
def digit(number, floor=0.0):
    """An 8 x 8 digit of scikit-learn's, as weights of sum 1, `floor` of it spread evenly."""
    from sklearn.datasets import load_digits

    image = load_digits().images[number].ravel()
    return (image / image.sum() + floor / image.size) / (1 + floor)


def uniform(n):
    return np.full(n, 1 / n)


def points(n, m, seed=0, shift=1.0):
    """(X, Y): two clouds in the plane."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + shift


def squared(X, Y):
    """Squared distances, largest 1."""
    C = ((X[:, None] - Y[None]) ** 2).sum(-1)
    return C / C.max()


def weights(rng, n):
    """Random weights of sum 1."""
    a = rng.random(n) + 0.1
    return a / a.sum()


def masses(n, seed=1):
    """Uneven weights of sum 1."""
    w = np.random.default_rng(seed).uniform(0.2, 1.8, n)
    return w / w.sum()


def ugly():
    """name: (C, a, b, reg), each with weights of equal sums, and a plan."""
    rng = np.random.default_rng(3)
    n, m = 60, 99
    C, u, v, w = squared(*points(n, m)), uniform(n), uniform(m), uniform(n)
    cases = {f"not square, reg {reg}": (C, u, v, reg) for reg in (1e-2, 1e-3, 1e-4, 1e-5)}
    cases["transposed"] = np.ascontiguousarray(C.T), v, u, 1e-4
    holes_a, holes_b = u.copy(), v.copy()
    holes_a[:15], holes_b[30:45] = 0, 0
    cases["zero weights"] = C, holes_a / holes_a.sum(), holes_b / holes_b.sum(), 1e-3
    cases["one weight only"] = C, np.eye(n)[3], v, 1e-3
    cases["one weight on each side"] = C, np.eye(n)[3], np.eye(m)[5], 1e-3
    for least in (1e-14, 1e-60, 1e-300):
        a, b = rng.random(n) ** 8 + least, rng.random(m) ** 8 + least
        a[:5], b[:5] = least, least
        cases[f"weights of {least}"] = C, a / a.sum(), b / b.sum(), 1e-3
    cases["dominant weight"] = C, u, np.r_[1 - 1e-6, np.full(m - 1, 1e-6 / (m - 1))], 1e-3
    cases["cost + 1000"] = C + 1000, u, v, 1e-3
    cases["negative costs"] = C - 7, u, v, 1e-3
    cases["cost x 1000"] = C * 1e3, u, v, 1.0
    cases["cost x 1e-200"] = C * 1e-200, u, v, 1e-203
    cases["cost x 1e200"] = C * 1e200, u, v, 1e197
    cases["mass of 1e6"] = C, 1e6 * u, 1e6 * v, 1e-3
    cases["mass of 1e-6"] = C, 1e-6 * u, 1e-6 * v, 1e-3
    blocks = np.ones((n, n))
    blocks[:30, :30], blocks[30:, 30:] = rng.random((30, 30)) * 0.2, rng.random((30, 30)) * 0.2
    cases["two blocks"] = blocks, w, w, 1e-3
    uneven = w.copy()
    uneven[:30] *= 1.001
    cases["two blocks, uneven"] = blocks, uneven / uneven.sum(), w, 1e-3
    cases["two blocks, uneven, reg 1e-4"] = blocks, uneven / uneven.sum(), w, 1e-4
    cases["integer ties"] = rng.integers(0, 10, (n, n)) / 10, w, w, 1e-3
    cases["integer costs"] = rng.integers(0, 10, (n, m)), u, v, 0.05
    cases["constant cost"] = np.ones((n, n)), w, weights(rng, n), 1e-3
    cases["cost of zero"] = np.zeros((n, n)), w, weights(rng, n), 1e-3
    far = C.copy()
    far[0] += 50
    cases["a far row"] = far, u, v, 1e-3
    cases["an outlier"] = np.where(np.arange(n)[:, None] * m + np.arange(m) == 7, 1e6, C), u, v, 1e-3
    cases["rank one cost"] = np.arange(n)[:, None] + np.arange(m)[None] * 0.5, u, v, 1e-2
    twice = np.repeat(np.repeat(C[:30, :40], 2, 0), 2, 1)
    cases["duplicates"] = twice, uniform(60), uniform(80), 1e-3
    cases["identical clouds"] = squared(points(n, 9)[0], points(n, 9)[0]), w, w, 1e-4
    cases["one row"] = C[:1], np.ones(1), v, 1e-3
    cases["one column"] = C[:, :1], u, np.ones(1), 1e-3
    cases["one entry"] = C[:1, :1], np.ones(1), np.ones(1), 1e-3
    cases["two by two"] = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.6, 0.4]), np.array([0.5, 0.5]), 0.01
    cases["reg far above the range"] = C, u, v, 1e6
    cases["reg 1e-7 of the range"] = C[:20, :20], uniform(20), uniform(20), 1e-7
    banded = np.where(abs(np.arange(n)[:, None] - np.arange(n)) <= 5, squared(*points(n, n)), np.inf)
    cases["forbidden pairs"] = banded, w, w, 1e-3
    cases["a permutation is all there is"] = np.where(np.eye(n)[rng.permutation(n)] > 0, 0.3, np.inf), w, w, 1e-2
    triangle = np.where(np.tri(12) > 0, rng.random((12, 12)), np.inf)
    cases["forbidden but for one plan"] = triangle, uniform(12), uniform(12), 1e-1
    smooth = digit(0), digit(1)
    cases["digits, with zeros"] = grid_cost(8, 2), *smooth, 1e-3
    for p in (1, 2):
        for reg in (1e-3, 1e-4):
            cases[f"digits, L{p}, reg {reg}"] = grid_cost(8, p), digit(0, 0.05), digit(1, 0.05), reg
    r = np.random.default_rng(0)
    for reg in (1e-4, 1e-5):
        cases[f"random assignment, reg {reg}"] = r.random((120, 120)), uniform(120), uniform(120), reg
    return cases


def infeasible():
    """name: (C, a, b) whose forbidden pairs leave no plan."""
    rng = np.random.default_rng(4)
    C, w = rng.random((12, 12)), uniform(12)
    row, column, blocks, hall = C.copy(), C.copy(), np.full((12, 12), np.inf), C.copy()
    row[3], column[:, 5] = np.inf, np.inf
    blocks[:6, :6], blocks[6:, 6:] = C[:6, :6], C[6:, 6:]
    uneven = np.r_[np.full(6, 0.9), np.full(6, 1.1)] / 12
    hall[:4, 3:] = np.inf  # four rows, three columns
    return {
        "a row with nowhere to go": (row, w, w),
        "a column that nothing reaches": (column, w, w),
        "two blocks of different mass": (blocks, uneven, w),
        "four rows share three columns": (hall, w, w),
    }
