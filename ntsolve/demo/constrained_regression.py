"""A diagnosis from ten measurements of cells: logistic regression under constraints, beside SciPy's solvers.

With a row of X for each case of scikit-learn's breast-cancer data, standardised, y = 1 or -1 and the weights w,

    min  mean log(1 + exp(-y_i x_i'w))   subject to   A w = b,  |w|^2 = length^2:

the mean and the worst value of each measurement weigh the same (ten linear constraints), and the length of w is given
(one on a sphere, which is not convex). `ntsolve.FactoredHessian` keeps the Hessian as X' diag(d) X.
"""

import functools

import numpy as np
import scipy.optimize
from scipy.sparse.linalg import LinearOperator
from scipy.special import expit

import ntsolve

from . import Options, need
from ._contest import Method, Table, contest
from ._picture import blank, save

TOL = 1e-8
LENGTH = 3.0
REPEATS = 5
MEASUREMENTS = 10  # the columns of the data: mean, error and worst value of each


class Regression:
    """Logistic regression of y (N,), entries 1 and -1, on X (N, n), dense or CSR, with A w = b and |w| = length.

    `ridge` / 2 |w|^2 is added to the loss.
    """

    def __init__(self, X, y, A, b, length, start, ridge=0.0):
        self.X, self.y, self.A, self.b, self.length, self.start, self.ridge = X, y, A, b, length, start, ridge
        self.N, self.n = X.shape

    def loss(self, w):
        """The objective and its gradient, which share the product X w."""
        margin = self.y * (self.X @ w.astype(self.X.dtype))
        pull = (self.y * expit(-margin)).astype(self.X.dtype)
        value = float(np.logaddexp(0, -margin).mean()) + 0.5 * self.ridge * (w @ w)
        return value, self.ridge * w - np.asarray(self.X.T @ pull, dtype=float) / self.N

    def gradient(self, w):
        return self.loss(w)[1]

    def hessian(self, w):
        """As factors, for ntsolve."""
        p = expit(np.asarray(self.X @ w.astype(self.X.dtype), dtype=float))
        return ntsolve.FactoredHessian(self.X, p * (1 - p) / self.N, self.ridge)

    def product_with_hessian(self, w):
        """As products, which SciPy's solver is quicker with than with the matrix."""
        H = self.hessian(w)
        return LinearOperator(H.shape, matvec=H.matvec, dtype=float)

    def violation(self, w):
        return np.append(self.A @ w - self.b, w @ w - self.length**2)

    def jacobian(self, w):
        return np.vstack([self.A, 2 * w])

    @property
    def constraint(self):
        """As SciPy and ntsolve take it."""
        return scipy.optimize.NonlinearConstraint(
            self.violation, 0, 0, jac=self.jacobian, hess=lambda w, v: 2 * v[-1] * np.eye(self.n)
        )

    def residual(self, w):
        """The largest entry of the violation and of the Lagrangian's gradient, multipliers by least squares."""
        J, g = self.jacobian(w), self.gradient(w)
        v = np.linalg.lstsq(J.T, -g, rcond=None)[0]
        return max(float(np.abs(g + J.T @ v).max()), float(np.abs(self.violation(w)).max()))


def diagnosis():
    """The breast-cancer data and its constraints."""
    (datasets,) = need("sklearn.datasets")
    X, y = datasets.load_breast_cancer(return_X_y=True)
    X = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    A = np.zeros((MEASUREMENTS, X.shape[1]))
    for i in range(MEASUREMENTS):
        A[i, i], A[i, 2 * MEASUREMENTS + i] = 1, -1
    # of its target, 1 is benign; the weights point to what is not
    return Regression(X, np.where(y == 0, 1.0, -1.0), A, np.zeros(MEASUREMENTS), LENGTH, np.ones(X.shape[1]))


def solve(problem):
    """By ntsolve."""
    return ntsolve.minimize(problem.loss, problem.start, jac=True, hess=problem.hessian,
                            constraints=problem.constraint, tol=TOL)  # fmt: skip


def trust_constr(problem):
    """By SciPy's interior-point and trust-region method, with the same derivatives."""
    found = scipy.optimize.minimize(problem.loss, problem.start, jac=True, hess=problem.product_with_hessian,
                                    constraints=problem.constraint, method="trust-constr",
                                    options={"gtol": TOL, "xtol": 1e-14, "maxiter": 2000})  # fmt: skip
    return found.x, found.nit


def slsqp(problem):
    """By SciPy's sequential quadratic programming, which takes first derivatives."""
    equal = {"type": "eq", "fun": problem.violation, "jac": problem.jacobian}
    found = scipy.optimize.minimize(problem.loss, problem.start, jac=True, constraints=equal, method="SLSQP",
                                    options={"ftol": 1e-16, "maxiter": 2000})  # fmt: skip
    return found.x, found.nit


def ours(problem):
    """(x, iterations)"""
    result = solve(problem)
    return result.x, result.nit


def run(options: Options) -> Table:
    """Fit the weights by all three, and compare."""
    problem = diagnosis()
    field = {"ntsolve.minimize": ours, "scipy trust-constr": trust_constr, "scipy SLSQP": slsqp}
    found = ours(problem)[0]  # which compiles as well
    right = np.mean(problem.y * (problem.X @ found) > 0)
    table = contest(
        f"Breast-cancer data: {problem.N} cases, {problem.n} weights, {problem.b.size} linear constraints and a sphere",
        [Method(name, functools.partial(method, problem), peer=method is not ours) for name, method in field.items()],
        problem.residual,
        limit=10 * TOL,
        repeats=1 if options.quick else REPEATS,
        notes=(
            "residual: largest entry of the violation and of the Lagrangian's gradient, least-squares multipliers.",
            "ntsolve and trust-constr get second derivatives; SLSQP has no use for them.",
            f"The weights tell {right:.1%} of the cases that they were fitted to.",
        ),
        say=options.say,
    )
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, problem)
    return table


def draw(path, problem):
    """The weights of each measurement, and how the residual fell."""
    (datasets,) = need("sklearn.datasets")
    result = solve(problem)
    names = [name.removeprefix("mean ") for name in datasets.load_breast_cancer().feature_names[:MEASUREMENTS]]
    figure = blank(12, 4.5)
    bars, fall = figure.subplots(1, 2, width_ratios=[2, 1])
    place = np.arange(MEASUREMENTS)
    for first, label, color, shift in ((0, "mean and worst value", "#2c6fbb", -0.2), (1, "error", "#c46a2d", 0.2)):
        weights = result.x[first * MEASUREMENTS : (first + 1) * MEASUREMENTS]
        bars.bar(place + shift, weights, width=0.4, label=label, color=color)
    bars.set_xticks(place, names, rotation=35, ha="right", fontsize=9)
    bars.axhline(0, color="0.3", lw=0.8)
    bars.legend(frameon=False)
    bars.set_title("weights; to the top: malignant", fontsize=11)
    fall.semilogy(result.history, "o-", color="#2c6fbb", lw=1.5)
    fall.axhline(TOL, color="0.5", ls="--", lw=1)
    fall.set_xlabel("Newton iteration")
    fall.set_title("largest entry of the KKT residual", fontsize=11)
    fall.grid(alpha=0.3)
    save(figure, path)
