"""Problems for the bench of `ntsolve.minimize`."""

import functools

import numpy as np
import scipy.fft
import scipy.optimize
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import ntsolve
from ntsolve.demo.constrained_regression import Regression
from ntsolve.demo.control import ALPHA, KAPPA, HeatedPlate

from ._data import data
from ._optimize_peers import kkt_residual, trust_constr

PLANES = 10  # linear constraints of the regressions


def sparse_regression(quick):
    """(title, Regression): a9a, or in a quick run something generated; 10 random planes and the unit sphere."""
    rng = np.random.default_rng(0)
    if quick:
        X = sp.random_array((2000, 40), density=0.2, format="csr", rng=rng)
        title, y = "generated, 2,000 x 40", np.where(rng.random(2000) < 0.3, 1.0, -1.0)
    else:
        a9a = np.load(data("libsvm/a9a.npz"))
        X = sp.csr_array((a9a["data"], a9a["indices"], a9a["indptr"]), shape=tuple(a9a["shape"]))
        title, y = f"a9a, {X.shape[0]:,} x {X.shape[1]}, CSR", np.where(a9a["y"] > 0, 1.0, -1.0)
    A, b = rng.standard_normal((PLANES, X.shape[1])), rng.standard_normal(PLANES)
    return title, Regression(X, y, A, b, 1.0, np.ones(X.shape[1]))


def dense_regression(N, n):
    """Regression on generated X (N, n) in float32 with columns of size 1, 1/2, 1/3, ..., scaled to rows of length 1."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, n), dtype=np.float32)
    sizes = 1 / np.arange(1, n + 1)
    X *= (sizes / np.linalg.norm(sizes)).astype(np.float32)
    w = rng.standard_normal(n)
    w /= np.linalg.norm(w)
    with np.errstate(over="ignore"):  # a certain label
        y = np.where(rng.random(N) < 1 / (1 + np.exp(-np.sqrt(n) * (X @ w.astype(np.float32)))), 1.0, -1.0)
    A = rng.standard_normal((PLANES, n))
    return Regression(X, y, A, 0.8 * (A @ w), 1.0, np.full(n, n**-0.5), ridge=1e-3)


def regression_in_casadi(ca, problem):
    """(x, f, g, options) for `Ipopt`: loss, gradient and X' diag(d) X as one expression each, of sparse matrices."""
    X = ca.DM(sp.csc_matrix(sp.diags_array(problem.y) @ problem.X))
    x, p, of, v = ca.MX.sym("x", problem.n), ca.MX.sym("p", 0), ca.MX.sym("of"), ca.MX.sym("v", PLANES + 1)
    margin = X @ x
    small = ca.exp(-ca.fabs(margin))
    f = ca.sum1(ca.fmax(-margin, 0) + ca.log1p(small)) / problem.N
    g = ca.vertcat(problem.A @ x - problem.b, ca.dot(x, x) - problem.length**2)
    pull = ca.if_else(margin > 0, small, 1) / (1 + small)
    gradient = -(X.T @ pull) / problem.N
    weights = small / (1 + small) ** 2 / problem.N
    H = of * (X.T @ (ca.diag(weights) @ X)) + 2 * v[PLANES] * ca.DM.eye(problem.n)
    options = {
        "grad_f": ca.Function("grad_f", [x, p], [f, gradient], ["x", "p"], ["f", "grad_f_x"]),
        "hess_lag": ca.Function("hess_lag", [x, p, of, v], [ca.triu(H)], ["x", "p", "lam_f", "lam_g"],
                                ["triu_hess_gamma_x_x"]),
    }  # fmt: skip
    return x, f, g, options


class Plate(HeatedPlate):
    """The heated plate of the demo, with a fast sine transform for its Laplacian; without any matrix if asked for."""

    def __init__(self, N, matrix_free=False):
        self.matrix_free, self.h = matrix_free, 2 / (N + 1)
        if matrix_free:
            self.N, self.points = N, N * N
            at = np.linspace(-1 + self.h, 1 - self.h, N)
            self.wish = (np.sin(4 + at)[:, None] + np.cos(3 + at)).ravel()
            self.start = np.ones(2 * self.points)
        else:
            super().__init__(N)
        waves = (2 / self.h * np.sin(np.arange(1, N + 1) * np.pi / (2 * (N + 1)))) ** 2
        self.eigenvalues = waves[:, None] + waves

    def laplacian(self, w):
        """-Laplace w, by the five-point formula."""
        if not self.matrix_free:
            return self.stiffness @ w
        w = w.reshape(self.N, self.N)
        total = 4 * w
        total[1:] -= w[:-1]
        total[:-1] -= w[1:]
        total[:, 1:] -= w[:, :-1]
        total[:, :-1] -= w[:, 1:]
        return total.ravel() / self.h**2

    def transformed(self, r, factor):
        """The multiple of each sine wave in r by its factor."""
        waves = scipy.fft.dstn(r.reshape(self.N, self.N), type=1, norm="ortho", workers=2)
        return scipy.fft.idstn(waves * factor, type=1, norm="ortho", workers=2).ravel()

    def equation(self, x):
        w, z = self.split(x)
        return self.laplacian(w) + KAPPA * w**3 - z

    def jacobian(self, x):
        if not self.matrix_free:
            return super().jacobian(x)
        slope = 3 * KAPPA * self.split(x)[0] ** 2

        def product(v):
            dw, dz = self.split(v.reshape(-1))
            return self.laplacian(dw) + slope * dw - dz

        def transposed(u):
            u = u.reshape(-1)
            return np.concatenate([self.laplacian(u) + slope * u, -u])

        return LinearOperator((self.points, 2 * self.points), matvec=product, rmatvec=transposed, dtype=float)

    @property
    def constraint(self):
        if not self.matrix_free:
            return super().constraint
        return {"type": "eq", "fun": self.equation, "jac": self.jacobian, "hess": self.equation_hessian}

    def state_solve(self, x):
        """The inverse of -Laplace + 3 kappa w^2, by conjugate gradients with that of -Laplace as preconditioner."""
        slope, inverse = 3 * KAPPA * self.split(x)[0] ** 2, 1 / self.eigenvalues
        shape = (self.points, self.points)
        A = LinearOperator(shape, matvec=lambda v: self.laplacian(v) + slope * v, dtype=float)
        M = LinearOperator(shape, matvec=lambda v: self.transformed(v, inverse), dtype=float)

        def solve(r):
            return ntsolve.cg(A, r, M=M, rtol=1e-12, maxiter=50, on_failure="ignore").x

        return LinearOperator(shape, matvec=solve, rmatvec=solve, dtype=float)

    def normal_inverse(self, u):
        """About (J J')^-1 u, J the Jacobian of the equation."""
        return self.transformed(u, 1 / (self.eigenvalues**2 + 1))

    def jacobian_operator(self, x):
        """For the residual."""
        return aslinearoperator(self.jacobian(x))


def plate_in_casadi(ca, plate):
    """(x, f, g) for `Ipopt`."""
    x = ca.MX.sym("x", 2 * plate.points)
    w, z = x[: plate.points], x[plate.points :]
    f = 0.5 * ca.sumsqr(w - ca.DM(plate.wish)) + 0.5 * ALPHA * ca.sumsqr(z)
    return x, f, ca.DM(sp.csc_matrix(plate.stiffness)) @ w + KAPPA * w**3 - z


class Quartics:
    """`count` problems min sum x^4/4 - p'x + x'T x / 2 on a sphere and on two planes, in 10 variables.

    p, the sphere and the planes differ. The functions take x (..., 10) and the parameters with the same leading axes.
    """

    n, planes = 10, 2
    T = 0.5 * (np.eye(n, k=1) + np.eye(n, k=-1))

    def __init__(self, count):
        rng, n = np.random.default_rng(0), self.n
        p, inside = rng.standard_normal((count, n)), rng.standard_normal((count, n))
        A = rng.standard_normal((count, self.planes, n))
        self.of_objective = (p,)
        self.of_constraint = A, (A @ inside[..., None])[..., 0], (inside**2).sum(axis=-1)
        self.start = inside + 0.5 * rng.standard_normal((count, n))

    def alone(self, i):
        """One problem, without the leading axis."""
        one = object.__new__(Quartics)
        one.start = self.start[i]
        one.of_objective = tuple(a[i] for a in self.of_objective)
        one.of_constraint = tuple(a[i] for a in self.of_constraint)
        return one

    @classmethod
    def objective(cls, x, p):
        return ((0.25 * x * x * x - p) * x).sum(axis=-1) + 0.5 * (x * (x @ cls.T)).sum(axis=-1)

    @classmethod
    def gradient(cls, x, p):
        return x * x * x - p + x @ cls.T

    @classmethod
    def hessian(cls, x, p):
        return (3 * x * x)[..., None] * np.eye(cls.n) + cls.T

    @staticmethod
    def violation(x, A, b, radius2):
        sphere = (x * x).sum(axis=-1) - radius2
        return np.concatenate([sphere[..., None], (A @ x[..., None])[..., 0] - b], axis=-1)

    @staticmethod
    def jacobian(x, A, b, radius2):
        return np.concatenate([2 * x[..., None, :], A], axis=-2)

    @classmethod
    def constraint_hessian(cls, x, v, A, b, radius2):
        return 2 * v[..., :1, None] * np.eye(cls.n)

    @property
    def constraint(self):
        """With its parameters, as ntsolve and SciPy take it."""
        return {"type": "eq", "fun": self.violation, "jac": self.jacobian, "hess": self.constraint_hessian,
                "args": self.of_constraint}  # fmt: skip

    def by_trust_constr(self):
        """(x, iterations) of one problem by SciPy, whose method takes no parameters with constraints."""
        bound = [functools.partial(self._bound, f) for f in (self.violation, self.jacobian)]
        (p,) = self.of_objective
        constraint = scipy.optimize.NonlinearConstraint(
            bound[0], 0, 0, jac=bound[1], hess=lambda x, v: self.constraint_hessian(x, v, *self.of_constraint)
        )
        return trust_constr(lambda x: self.objective(x, p), self.start, lambda x: self.gradient(x, p),
                            lambda x: self.hessian(x, p), constraint)  # fmt: skip

    def _bound(self, function, x):
        return function(x, *self.of_constraint)

    def residual(self, x):
        """Of one problem."""
        return kkt_residual(self.gradient(x, *self.of_objective), self._bound(self.violation, x),
                            self._bound(self.jacobian, x))  # fmt: skip
