"""A plate heated so that its temperature follows a wish: optimal control of a nonlinear PDE, beside trust-constr.

On the square (-1, 1)^2, with temperature w, zero at the edge, and heating z,

    min  1/2 |w - w_wish|^2 + alpha/2 |z|^2   subject to   -Laplace w + kappa w^3 = z,

by the five-point formula on N x N points: 2 N^2 unknowns and N^2 nonlinear constraints. `inner="reduced"` solves the
Newton systems in the space of z alone, with a sparse factorisation of the linearised equation for w.
"""

import functools

import numpy as np
import scipy.optimize
import scipy.sparse as sp

import ntsolve

from . import Options
from ._contest import Method, Table, contest
from ._picture import blank, save

TOL = 1e-8
ALPHA, KAPPA = 0.1, 1.0
SMALL, LARGE = 31, 127  # points a side: against the peer, and for the picture


class HeatedPlate:
    """The problem on N x N points; x = (w, z)."""

    def __init__(self, N):
        self.N, self.points, h = N, N * N, 2 / (N + 1)
        second = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(N, N)) / h**2
        self.stiffness = sp.csr_array(sp.kron(second, sp.eye_array(N)) + sp.kron(sp.eye_array(N), second))
        at = np.linspace(-1 + h, 1 - h, N)
        self.wish = (np.sin(4 + at)[:, None] + np.cos(3 + at)).ravel()
        self.start = np.ones(2 * self.points)

    def split(self, x):
        return x[: self.points], x[self.points :]

    def objective(self, x):
        w, z = self.split(x)
        return 0.5 * np.sum((w - self.wish) ** 2) + 0.5 * ALPHA * np.sum(z**2)

    def gradient(self, x):
        w, z = self.split(x)
        return np.concatenate([w - self.wish, ALPHA * z])

    def hessian(self, x):
        return sp.diags_array(np.repeat([1.0, ALPHA], self.points)).tocsr()

    def equation(self, x):
        w, z = self.split(x)
        return self.stiffness @ w + KAPPA * w**3 - z

    def jacobian(self, x):
        w = self.split(x)[0]
        return sp.hstack([self.stiffness + sp.diags_array(3 * KAPPA * w**2), -sp.eye_array(self.points)], format="csr")

    def equation_hessian(self, x, v):
        w = self.split(x)[0]
        return sp.diags_array(np.concatenate([6 * KAPPA * w * v, np.zeros(self.points)])).tocsr()

    @property
    def constraint(self):
        """As SciPy and ntsolve take it."""
        return scipy.optimize.NonlinearConstraint(self.equation, 0, 0, jac=self.jacobian, hess=self.equation_hessian)

    def residual(self, x):
        """The largest entry of the violation, and of the gradient of the Lagrangian at the adjoint state."""
        J, g = self.jacobian(x), self.gradient(x)
        adjoint = sp.linalg.spsolve(J[:, : self.points].T.tocsc(), -g[: self.points])
        return max(np.abs(self.equation(x)).max(), np.abs(g + J.T @ adjoint).max())


def solve(plate, inner, callback=None):
    """By ntsolve."""
    return ntsolve.minimize(plate.objective, plate.start, jac=plate.gradient, hess=plate.hessian,
                            constraints=plate.constraint, inner=inner, tol=TOL, callback=callback)  # fmt: skip


def trust_constr(plate):
    """By SciPy."""
    found = scipy.optimize.minimize(
        plate.objective, plate.start, jac=plate.gradient, hess=plate.hessian, constraints=plate.constraint,
        method="trust-constr", options={"gtol": TOL, "xtol": 1e-14, "maxiter": 500, "sparse_jacobian": True},
    )  # fmt: skip
    return found.x, found.nit


def run(options: Options) -> Table:
    """Heat the plate with ntsolve and with SciPy, and compare."""
    small = HeatedPlate(11 if options.quick else SMALL)
    large = HeatedPlate(21 if options.quick else LARGE)

    def ours(inner):
        result = solve(small, inner)
        return result.x, result.nit

    names = {"reduced": "space of the heating", "splu": "sparse factorisation"}
    options.say(f"a plate of {large.N} x {large.N} points")
    picture = solve(large, "reduced")
    if not picture.success or large.residual(picture.x) > 10 * TOL:
        raise AssertionError(f"the large plate: {picture.message}")
    table = contest(
        f"A plate of {small.N} x {small.N} points: {small.start.size:,} unknowns, {small.points:,} constraints",
        [
            *(Method(f'ntsolve.minimize, inner="{inner}" ({words})', functools.partial(ours, inner))
              for inner, words in names.items()),
            Method("scipy trust-constr", functools.partial(trust_constr, small), peer=True),
        ],
        small.residual,
        limit=10 * TOL,
        repeats=1,
        notes=(
            "residual: largest entry of the equation and of the Lagrangian's gradient at the adjoint state, by SciPy.",
            f"ntsolve alone, {large.N} x {large.N} points ({large.start.size:,} unknowns): {picture.elapsed:.2g} s,",
            f"{picture.nit} iterations, with {picture.inner_iterations} of conjugate gradients inside.",
        ),
        say=options.say,
    )  # fmt: skip
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, large, picture)
    return table


def draw(path, plate, result):
    """The wish, the temperature, the heating, and how the residual fell."""
    figure = blank(15, 4)
    *maps, fall = figure.subplots(1, 4)
    w, z = plate.split(result.x)
    for axes, field, title in zip(maps, (plate.wish, w, z), ("wished for", "temperature w", "heating z"), strict=True):
        limit = abs(field).max()
        shown = axes.imshow(field.reshape(plate.N, plate.N).T, origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r",
                            vmin=-limit, vmax=limit)  # fmt: skip
        figure.colorbar(shown, ax=axes, shrink=0.8)
        axes.set_title(title, fontsize=11)
    fall.semilogy(result.history, "o-", color="#2c6fbb", lw=1.5)
    fall.axhline(TOL, color="0.5", ls="--", lw=1)
    fall.set_xlabel("Newton iteration")
    fall.set_title("largest entry of the KKT residual", fontsize=11)
    fall.grid(alpha=0.3)
    save(figure, path)
