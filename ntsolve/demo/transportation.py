"""Ink moved from one page of handwritten digits to another at least cost: a linear program, beside HiGHS.

Pixels i with ink a_i supply, pixels j with ink b_j need, and moving a unit costs the distance C_ij:

    min sum_ij C_ij P_ij   subject to   sum_j P_ij = a_i,  sum_i P_ij = b_j,  P >= 0.                    (1)

Any numbers f_i give a lower bound of the optimum, sum a_i f_i + sum b_j min_i (C_ij - f_i), and any plan that meets the
constraints an upper one. Both are computed from what each method returns, by the same code: the error in the table is
what lies between them.
"""

import functools

import numpy as np
import scipy.optimize
import scipy.sparse as sp

import ntsolve

from . import Options, need
from ._contest import Method, Table, contest
from ._picture import blank, save

TOL = 1e-7
GAP = 1e-5  # between the bounds, relative
REPEATS = 3
SIDE = 8  # of a digit
EVALUATIONS = 4000  # of the map, in the picture


def run(options: Options) -> Table:
    """Move the ink with ntsolve and with HiGHS, and compare."""
    page = 1 if options.quick else 3
    problem = Transportation(*load_pages(page))
    ways = {"simplex": "highs-ds", "interior point": "highs-ipm"}
    table = contest(
        f"Two pages of {page} x {page} digits: {problem.C.size:,} unknowns, {sum(problem.C.shape):,} constraints",
        [
            Method("ntsolve.linprog", problem.solve, problem.solve),
            *(Method(f"HiGHS, {name}", functools.partial(problem.highs, method), peer=True)
              for name, method in ways.items()),
        ],
        problem.gap,
        limit=GAP,
        repeats=1 if options.quick else REPEATS,
        error_name="certified gap",
        notes=("certified gap: between a lower and an upper bound of the optimum, relative; see the source.",),
        say=options.say,
    )  # fmt: skip
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, problem, convergence(Transportation(*load_pages(1))))
    return table


# ---- the problem ----------------------------------------------------------------------------------------------------


def load_pages(side):
    """Two pages (8 side, 8 side) of scikit-learn's digits."""
    (datasets,) = need("sklearn.datasets")
    images = datasets.load_digits().images
    first, second = (images[k * side**2 : (k + 1) * side**2] for k in range(2))
    return [np.block([list(page[row * side : (row + 1) * side]) for row in range(side)]) for page in (first, second)]


class Transportation:
    """Program (1) for two images; pixels without ink take no part."""

    def __init__(self, source, target):
        self.images = source, target
        places = [np.argwhere(image > 0) for image in (source, target)]
        self.a, self.b = (image[image > 0] / image.sum() for image in (source, target))
        self.C = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1) / len(source)
        self.places = places
        m, n = self.C.shape
        ones = [np.ones((1, n)), np.ones((1, m))]
        self.A = sp.vstack([sp.kron(sp.eye_array(m), ones[0]), sp.kron(ones[1], sp.eye_array(n))], format="csr")
        self.sides = np.concatenate([self.a, self.b])

    def solve(self):
        """((plan, multipliers), iterations) by ntsolve."""
        result = ntsolve.linprog(self.C.ravel(), A_eq=self.A, b_eq=self.sides, tol=TOL)
        return (result.x, result.y), result.nit

    def highs(self, method):
        """The same by SciPy."""
        found = scipy.optimize.linprog(self.C.ravel(), A_eq=self.A, b_eq=self.sides, method=method)
        return (found.x, found.eqlin.marginals), found.nit

    def gap(self, answer):
        """(upper - lower bound) / upper bound."""
        low, high = self.bounds(*answer)
        return max(high - low, 0.0) / high

    def bounds(self, x, y):
        """Lower and upper bound of the optimum."""
        f = y[: self.a.size]
        low = self.a @ f + self.b @ (self.C - f[:, None]).min(0)
        P = np.maximum(x.reshape(self.C.shape), 0.0)
        P *= np.minimum(1, self.a / np.maximum(P.sum(1), 1e-300))[:, None]  # at most what there is, and is needed
        P *= np.minimum(1, self.b / np.maximum(P.sum(0), 1e-300))
        left, missing = self.a - P.sum(1), self.b - P.sum(0)
        P += np.outer(left, missing) / max(left.sum(), 1e-300)
        return low, float((self.C * P).sum())


# ---- the picture ----------------------------------------------------------------------------------------------------


def primal_dual_map(problem):
    """A step of the primal-dual hybrid gradient method of Chambolle and Pock as a map of (P, y), and its metric."""
    A, c, b = problem.A, problem.C.ravel(), problem.sides
    step = 0.99 / np.sqrt(problem.C.shape[0] + problem.C.shape[1])  # |A|^2 is m + n

    def step_from(z):
        x, y = z
        new = np.maximum(x - step * (c - A.T @ y), 0.0)
        return new, y + step * (b - A @ (2 * new - x))

    def metric(z):
        x, y = z
        return x / step + A.T @ y, A @ x + y / step

    return step_from, metric, (np.zeros(c.size), np.zeros(b.size))


def convergence(problem):
    """The residual of Picard's iteration, of Halpern's as published, and of `ntsolve.halpern`, by evaluations."""
    T, metric, start = primal_dual_map(problem)
    plain = {"reflect": False, "restart": None, "anchor": "classic"}
    curves = {"Picard": picard(T, start)}
    for name, options in (("Halpern", plain), ("Halpern, restarted and reflected", {})):
        result = ntsolve.halpern(T, start, metric=metric, tol=1e-10, maxiter=EVALUATIONS, on_failure="ignore",
                                 **options)  # fmt: skip
        curves[name] = result.history
    return curves


def picard(T, z):
    """|z - T(z)| of z <- T(z)."""
    residuals = []
    for _ in range(EVALUATIONS):
        new = T(z)
        residuals.append(np.sqrt(sum(((v - w) ** 2).sum() for v, w in zip(z, new, strict=True))))
        z = new
    return np.array(residuals)


def draw(path, problem, curves):
    """The two pages, where the ink goes, and how three iterations converge on one digit."""
    figure = blank(15, 4)
    from matplotlib.collections import LineCollection

    left, middle, right, fall = figure.subplots(1, 4)
    source, target = problem.images
    for axes, image, title in ((left, source, "from"), (middle, target, "to"), (right, source, "where the ink goes")):
        axes.imshow(image, cmap="gray_r", vmax=None if axes is not right else 2.5 * source.max())
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=11)
    P = problem.solve()[0][0].reshape(problem.C.shape)
    shown = 0.02 * P.max()
    rows, columns = np.nonzero(shown < P)
    ends = np.stack([problem.places[0][rows], problem.places[1][columns]], axis=1)[:, :, ::-1]
    right.add_collection(LineCollection(list(ends), linewidths=3 * P[rows, columns] / P.max(), colors="#c0392b"))
    for name, curve in curves.items():
        fall.semilogy(np.arange(1, len(curve) + 1), curve, label=name, lw=1.5)
    fall.set_xlabel("evaluations of the primal-dual map")
    fall.set_title("residual, one digit to the next", fontsize=11)
    fall.legend(fontsize=8)
    fall.grid(alpha=0.3)
    save(figure, path)
