"""Solves for the tests of checkpoints: small ones of each solver, with an oracle that is none of this package's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse as sp

import ntsolve


@dataclass(frozen=True)
class Solve:
    """solver(*arguments, **options); `right(result)` is whether the answer is one, by an independent computation."""

    solver: Any
    arguments: tuple
    options: dict
    right: Any
    bitwise: bool = True  # the same bits, resumed or not
    other: Any = None  # arguments of another problem

    def __call__(self, **options):
        return self.solver(*self.arguments, **{"on_failure": "ignore", **self.options, **options})


def flat(result):
    """All of x in one vector."""
    parts = result.x.values() if isinstance(result.x, dict) else [result.x]
    return np.concatenate([np.ravel(part) for part in parts])


def _laplacian(n, shift=1e-3):
    return sp.diags_array([-1.0, 2 + shift, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr")


def _linear(M=None, *, several=False, callable_A=False, n=400, rtol=1e-8, dtype="float64"):
    A = _laplacian(n)
    if M == "ic0":  # which is exact for three diagonals
        A = A + sp.diags_array([-1.0, 2.0, -1.0], offsets=[-20, 0, 20], shape=(n, n), format="csr")
    A = A.astype(dtype)
    b = np.random.default_rng(1).standard_normal((3, n) if several else n).astype(dtype)
    M = (lambda v: v * np.linspace(1.0, 30.0, n, dtype=v.dtype)) if M == "function" else M
    if M == "nonlinear":  # and good enough to be kept, with the directions that it needs
        inverse = np.linalg.inv(A.toarray() + 0.02 * np.eye(n))
        M = lambda v: (z := inverse @ v) * (1 + 0.3 * np.sign(z))

    def right(result):
        left = np.linalg.norm(b - (A.astype(float) @ result.x.T.astype(float)).T, axis=-1)
        return np.all(left <= 1.001 * rtol * np.linalg.norm(b, axis=-1) + 1e-7 * (dtype == "float32"))

    product = (lambda v: A @ v) if callable_A else A
    return Solve(ntsolve.cg, (product, b), {"M": M, "rtol": rtol}, right, other=(product, b + 1))


def _grid(dtype="float64", rtol=1e-9, contrast=False):
    rng = np.random.default_rng(2)
    kappa = np.exp(4 * rng.standard_normal((32, 32))) if contrast else np.ones((32, 32))
    A = ntsolve.GridOperator.diffusion(kappa)
    b = rng.standard_normal((32, 32)).astype(dtype)

    def right(result):
        return np.linalg.norm(b.ravel() - A.tocsr() @ result.x.ravel().astype(float)) <= 1.01 * rtol * np.linalg.norm(b)

    return Solve(ntsolve.cg, (A, b), {"M": "multigrid", "rtol": rtol}, right, other=(A, 2 * b))


def _least_squares():
    rng = np.random.default_rng(3)
    A, b = rng.standard_normal((60, 30)), rng.standard_normal(60)
    A[:, :10] *= np.linspace(0.05, 1, 10)
    return A, b, 1 / np.linalg.norm(A, 2) ** 2


def _halpern(**options):
    A, b, step = _least_squares()

    def right(result):
        return np.allclose(result.x, scipy.optimize.nnls(A, b)[0], atol=1e-5)

    map_ = lambda x: np.maximum(x - step * A.T @ (A @ x - b), 0)
    return Solve(ntsolve.halpern, (map_, np.zeros(30)), options, right, other=(map_, np.ones(30)))


def _monotone():
    rng = np.random.default_rng(4)
    B, c = rng.standard_normal((8, 8)) + 3 * np.eye(8), rng.standard_normal(8)
    start = {"y": np.zeros(8), "z": np.zeros(8)}

    def right(result):
        y, z = result.x["y"], result.x["z"]
        return np.allclose(z, -np.linalg.solve(B, c), atol=1e-5) and np.allclose(y, 0, atol=1e-5)

    operator = lambda x: {"y": B @ x["z"] + c, "z": -B.T @ x["y"]}
    other = {"y": np.ones(8), "z": np.zeros(8)}
    return Solve(ntsolve.monotone, (operator, start), {}, right, other=(operator, other))


def _finite_sum(method):
    rng = np.random.default_rng(5)
    A, b = rng.standard_normal((500, 4)), rng.standard_normal(500)

    def gradient(rows, x):
        rows = slice(None) if rows is None else rows
        return A[rows].T @ (A[rows] @ x - b[rows]) / len(b[rows])

    def right(result):
        return np.allclose(result.x, np.linalg.lstsq(A, b, rcond=None)[0], atol=1e-4)

    arguments, other = ((gradient, 500, start) for start in (np.ones(4), np.zeros(4)))
    bitwise = method == "cocoercive"  # the other cuts an iteration short where maxiter is near
    return Solve(ntsolve.halpern_finite_sum, arguments, {"method": method}, right, bitwise, other)


def _program(batch=False, **options):
    rng = np.random.default_rng(6)
    A = sp.random_array((30, 50), density=0.2, rng=rng, format="csr")
    b, c = A @ rng.random(50) + 0.1, -A.T @ rng.random(30) + rng.random(50)
    costs = np.stack([c, c + 0.1 * rng.random(50)]) if batch else c

    def right(result):
        best = [scipy.optimize.linprog(each, A, b).fun for each in np.atleast_2d(costs)]
        return np.allclose(result.fun, best, rtol=1e-4)

    return Solve(ntsolve.linprog, (costs, A, b), options, right, "finisher" in options, other=(costs, A, b + 1))


def _transport(**options):
    rng = np.random.default_rng(7)
    C = ((rng.random((60, 1, 2)) - rng.random((50, 2))) ** 2).sum(-1)

    def right(result):
        plan = np.exp((result.potentials[0][:, None] + result.potentials[1] - C) / options["reg"])
        balanced = "tau_a" not in options
        errors = abs(plan.sum(1) - 1 / 60).sum() + abs(plan.sum(0) - 1 / 50).sum()
        return errors <= 1e-8 if balanced else np.allclose(plan, result.plan, atol=1e-12)

    return Solve(ntsolve.solve_ot, (C,), options, right, bitwise=False, other=(C + np.eye(60, 50),))


def _points():
    rng = np.random.default_rng(8)
    X, Y = rng.random((2200, 2)), rng.random((2300, 2)) + 0.2

    def right(result):
        C = ((X[:, None] - Y) ** 2).sum(-1)
        plan = np.exp((result.potentials[0][:, None] + result.potentials[1] - C) / 2e-3)
        return abs(plan.sum(1) - 1 / 2200).sum() + abs(plan.sum(0) - 1 / 2300).sum() <= 1e-8

    return Solve(ntsolve.solve_ot_sample, (X, Y), {"reg": 2e-3}, right, bitwise=False, other=(X, Y + 1))


def _images():
    at = np.arange(32)
    blob = lambda i, j: np.exp(-((at[:, None] - i) ** 2 + (at - j) ** 2) / 20.0) + 0.01 * np.cos(at) ** 2
    mu, nu = (image / image.sum() for image in (blob(9, 8), blob(20, 22)))

    def right(result):
        plan = result.sparse_plan().tocoo()
        rows, columns = plan.sum(1), plan.sum(0)
        i, j = np.unravel_index(plan.row, mu.shape), np.unravel_index(plan.col, mu.shape)
        cost = (plan.data * ((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2)).sum()
        fits = np.allclose(rows, mu.ravel(), atol=1e-9) and np.allclose(columns, nu.ravel(), atol=1e-9)
        return fits and result.lower_bound <= cost <= 1.0021 * result.lower_bound

    return Solve(ntsolve.solve_ot_grid, (mu, nu), {"tol": 2e-3}, right, bitwise=False, other=(nu, mu))


def _minimize(inner="auto"):
    from scipy.optimize import NonlinearConstraint, rosen, rosen_der, rosen_hess

    n = 6
    bent = lambda x, v: 2 * v[0] * np.eye(n)
    sphere = NonlinearConstraint(lambda x: x @ x, 2, 2, jac=lambda x: 2 * x[None], hess=bent)
    options = {"jac": rosen_der, "hess": rosen_hess, "constraints": sphere, "inner": inner}

    def right(result):
        x, g = result.x, rosen_der(result.x)
        return abs(x @ x - 2) <= 1e-7 and np.linalg.norm(g - (g @ x) / (x @ x) * x) <= 1e-6

    start = 0.3 * np.arange(n) - 1.2
    return Solve(ntsolve.minimize, (rosen, start), options, right, other=(rosen, start + 0.01))


SOLVES = {
    "cg": lambda: _linear(),
    "cg jacobi": lambda: _linear("jacobi"),
    "cg ic0": lambda: _linear("ic0", rtol=1e-12),
    "cg float32": lambda: _linear("jacobi", rtol=1e-4, dtype="float32"),
    "cg of a function": lambda: _linear(callable_A=True),
    "cg with a function": lambda: _linear("function"),
    "cg with a nonlinear function": lambda: _linear("nonlinear"),
    "cg of several": lambda: _linear("jacobi", several=True),
    "cg multigrid": lambda: _grid(),
    "cg multigrid float32": lambda: _grid("float32", 1e-4),
    "cg multigrid contrast": lambda: _grid(contrast=True),
    "halpern": lambda: _halpern(),
    "halpern anderson": lambda: _halpern(accelerate="anderson"),
    "halpern metric": lambda: _halpern(metric=np.full(30, 2.0)),
    "monotone": lambda: _monotone(),
    "finite sum": lambda: _finite_sum("cocoercive"),
    "finite sum monotone": lambda: _finite_sum("monotone"),
    "linprog": lambda: _program(finisher=False),
    "linprog finisher": lambda: _program(tol=1e-8),
    "linprog batch": lambda: _program(batch=True, finisher=False, tol=1e-5),
    "solve_ot": lambda: _transport(reg=1e-3),
    "solve_ot unbalanced": lambda: _transport(reg=1e-3, tau_a=0.5, tau_b=1.0),
    "solve_ot sinkhorn": lambda: _transport(reg=2e-2, method="sinkhorn"),
    "solve_ot_sample": lambda: _points(),
    "solve_ot_grid": lambda: _images(),
    "minimize": lambda: _minimize(),
    "minimize nullspace": lambda: _minimize("nullspace"),
}
