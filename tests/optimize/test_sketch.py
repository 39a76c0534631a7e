"""Sketches, and Newton systems in the null space with a sketched Hessian for a preconditioner."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import LinearConstraint, NonlinearConstraint

import ntsolve
from ntsolve.optimize.hessians import Hessian, gram_of_rows
from ntsolve.optimize.kkt import LDL
from ntsolve.optimize.sketch import ROWS, SKETCHES, NullSpace, sketched

from .problems import load_all

PROBLEMS = load_all()
RANDOM = SKETCHES[:3]


def logistic(N=400, n=12, *, sparse=False, dtype="float64", seed=0):
    """Arguments of: regularised logistic regression on a sphere and two planes, with a FactoredHessian."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, n)) * np.geomspace(1, 0.1, n)
    if sparse:
        X *= rng.random((N, n)) < 0.3
    y, A, s = np.where(rng.random(N) < 1 / (1 + np.exp(-3 * X.sum(1))), 1.0, -1.0), rng.standard_normal((2, n)), 1e-2
    X = sp.csr_array(X.astype(dtype)) if sparse else X.astype(dtype)
    inside = rng.standard_normal(n)
    inside /= np.linalg.norm(inside)

    def weights(w):
        return 1 / (1 + np.exp(y * (X @ w)))

    def hess(w):
        p = weights(w)
        return ntsolve.FactoredHessian(X, p * (1 - p) / N, s)

    sphere = NonlinearConstraint(lambda w: w @ w, 1, 1, jac=lambda w: 2 * w[None],
                                 hess=lambda w, v: 2 * v[0] * np.eye(n))  # fmt: skip
    return {
        "fun": lambda w: np.logaddexp(0, -y * (X @ w)).mean() + s / 2 * w @ w,
        "x0": np.ones(n) / np.sqrt(n),
        "jac": lambda w: s * w - X.T @ (y * weights(w)) / N,
        "hess": hess,
        "constraints": [LinearConstraint(A, A @ inside * 0.5, A @ inside * 0.5), sphere],
    }


def system(n=9, m=3, N=200, *, seed=0, rest=None, dtype="float64"):
    """(H, J, b, dense H): a FactoredHessian and what else is in H."""
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((N, n)) * np.geomspace(1, 1e-2, n)).astype(dtype)
    H = Hessian(n, [(0.5, ntsolve.FactoredHessian(X, rng.random(N), 1e-3)), *([] if rest is None else [(1.0, rest)])])
    J, b = rng.standard_normal((m, n)), rng.standard_normal(n + m)
    return H, J, b, H.dense().copy()


def left_over(inner, dense, J, d, b):
    K = np.block([[dense + inner.shift * np.eye(inner.n), J.T], [J, np.zeros((inner.m, inner.m))]])
    return np.linalg.norm(K @ d - b) / np.linalg.norm(b)


# ---- sketches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", RANDOM)
def test_gram_matrix_of_a_sketch_is_right_on_average(kind, sparse):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 4)) * (rng.random((50, 4)) < 0.6)
    weights = rng.random(50)
    want = (X * weights[:, None]).T @ (X * weights[:, None])
    A = sp.csr_array(X) if sparse else X
    mean = np.mean([gram_of_rows(sketched(A, weights, kind, rng)) for _ in range(600)], axis=0)
    np.testing.assert_allclose(mean, want, atol=0.15 * abs(want).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", RANDOM)
def test_sketch_is_near_enough_to_precondition_with(kind, dtype):
    """The condition number of the sketched Gram matrix relative to the exact one is small, whatever that of X is."""
    rng = np.random.default_rng(1)
    X = (rng.standard_normal((3000, 20)) * np.geomspace(1, 1e-2, 20)).astype(dtype)
    weights = rng.uniform(0.5, 1, 3000)
    Y = sketched(X, weights, kind, rng)
    assert Y.shape == (20 * ROWS[kind], 20)
    exact = np.linalg.cholesky((X * weights[:, None]).astype(float).T @ (X * weights[:, None]))
    relative = np.linalg.solve(exact, np.linalg.solve(exact, gram_of_rows(Y)).T)
    assert np.linalg.cond(relative) < 100


def test_sampling_sees_the_one_row_that_matters():
    rng = np.random.default_rng(2)
    X = 1e-3 * rng.standard_normal((5000, 5))
    X[1234] = 100.0
    Y = sketched(X, np.ones(5000), "rows", rng)
    assert np.linalg.norm(Y, 2) == pytest.approx(np.linalg.norm(X, 2), rel=0.5)


@pytest.mark.parametrize("kind", RANDOM)
def test_tiny_matrices(kind):
    for shape in ((1, 1), (2, 3), (3, 1)):
        Y = sketched(np.ones(shape), np.ones(shape[0]), kind, np.random.default_rng(0))
        assert Y.shape[1] == shape[1]
        assert np.isfinite(Y).all()
    assert not sketched(np.ones((4, 2)), np.zeros(4), kind, np.random.default_rng(0)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("signs", [1, -1])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_factored_hessian_is_formed_and_multiplied_exactly(sparse, signs, dtype):
    """Also with columns twice in a row of a sparse X, and with negative weights."""
    rng = np.random.default_rng(0)
    X = np.round(3 * rng.standard_normal((300, 7)) * (rng.random((300, 7)) < 0.5)).astype(dtype)
    d = rng.integers(0, 5, 300) * np.where(rng.random(300) < 0.5, 1.0, signs)
    given = X
    if sparse:
        rows, columns = np.nonzero(X)
        halves = np.concatenate([X[rows, columns] - 1, np.ones(rows.size, dtype)])
        given = sp.coo_array((halves, (np.tile(rows, 2), np.tile(columns, 2))), shape=X.shape)
        given = sp.csr_array((given.data[np.argsort(given.row, kind="stable")],
                              given.col[np.argsort(given.row, kind="stable")],
                              np.searchsorted(np.sort(given.row), np.arange(301))), shape=X.shape)  # fmt: skip
        assert not given.has_canonical_format
    H = ntsolve.FactoredHessian(given, d, 0.5)
    want = X.T.astype(float) @ (d[:, None] * X) + 0.5 * np.eye(7)
    rounding = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(H.toarray(), want, rtol=rounding, atol=1e-9)
    v = rng.standard_normal(7)
    np.testing.assert_allclose(H @ v, want @ v, rtol=rounding, atol=10 * rounding * abs(want).max())


# ---- systems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accuracy", [1e-1, 1e-5, 1e-11])
@pytest.mark.parametrize("precond", [None, *SKETCHES])
def test_honours_the_accuracy_asked_for(precond, accuracy):
    H, J, b, dense = system(rest=np.diag(np.linspace(0, 1, 9)))
    inner = NullSpace(9, 3, rng=np.random.default_rng(0), precond=precond)
    assert inner.prepare(H, J, 0.0, 0.0)
    d, left = inner.solve(b, accuracy)
    found = left_over(inner, dense, J, d, b)
    assert inner.shift == 0
    assert found <= accuracy
    assert left == pytest.approx(found, rel=1e-2, abs=1e-14)


@pytest.mark.parametrize("kind", ["dense", "sparse", "operator", "float32"])
def test_takes_every_kind_of_hessian_and_jacobian(kind):
    H, J, b, dense = system(dtype="float32" if kind == "float32" else "float64")
    given = {"dense": dense, "sparse": sp.csr_array(dense), "operator": sp.linalg.aslinearoperator(dense)}
    if kind in given:
        H = Hessian(9, [(1.0, given[kind])])
    if kind == "sparse":
        J = sp.csr_array(J)
    elif kind == "operator":
        J = sp.linalg.aslinearoperator(J)
    inner = NullSpace(9, 3, rng=np.random.default_rng(0))
    assert inner.prepare(H, J, 0.0, 0.0)
    d, _ = inner.solve(b, 1e-6)
    J = J.toarray() if kind == "sparse" else (J @ np.eye(9) if kind == "operator" else J)
    assert left_over(inner, dense, J, d, b) <= 2e-6


def test_negative_curvature_raises_the_shift_as_far_as_needed():
    """Against the least eigenvalue of Z'HZ, that the exact factorisation finds."""
    rng = np.random.default_rng(3)
    for seed in range(8):
        H, J, b, dense = system(seed=seed, rest=np.diag(rng.standard_normal(9)))
        exact = LDL(9, 3, rng=rng)
        value, _ = exact.curvature(H, J)
        for precond in ("rows", "exact"):
            inner = NullSpace(9, 3, rng=np.random.default_rng(0), precond=precond)
            assert inner.prepare(H, J, 0.0, 0.0)
            d, _ = inner.solve(b, 1e-8)
            assert left_over(inner, dense, J, d, b) <= 1e-8
            assert (inner.shift > 0) == (value < 0)
            assert inner.shift == 0 or inner.shift > -value


def test_dependent_rows_of_the_jacobian_that_agree():
    H, J, b, dense = system()
    J[2], b[11] = 2 * J[1], 2 * b[10]
    inner = NullSpace(9, 3, rng=np.random.default_rng(0))
    assert inner.prepare(H, J, 0.0, 0.0)
    d, left = inner.solve(b, 1e-8)
    assert left_over(inner, dense, J, d, b) <= 1e-8
    assert left <= 1e-8


def test_without_constraints_and_with_as_many_as_variables():
    for m in (0, 9):
        H, J, b, dense = system(m=m)
        inner = NullSpace(9, m, rng=np.random.default_rng(0))
        assert inner.prepare(H, J, 0.0, 0.0)
        assert left_over(inner, dense, J, inner.solve(b, 1e-9)[0], b) <= 1e-9


# ---- in minimize ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("precond", [None, *SKETCHES])
def test_regression_ends_where_the_exact_factorisation_does(precond, sparse):
    arguments = logistic(sparse=sparse)
    exact = ntsolve.minimize(**arguments, inner="ldl")
    result = ntsolve.minimize(**arguments, inner="nullspace", precond=precond)
    assert result.success
    assert result.fun == pytest.approx(exact.fun, abs=1e-8)
    np.testing.assert_allclose(result.x, exact.x, atol=1e-6)
    assert result.verify(arguments["fun"], jac=arguments["jac"], constraints=arguments["constraints"]) <= 1e-8


@pytest.mark.parametrize("precond", RANDOM)
def test_few_products_are_needed(precond):
    arguments = logistic(N=4000, n=40)
    result = ntsolve.minimize(**arguments, inner="nullspace", precond=precond)
    none = ntsolve.minimize(**arguments, inner="minres")
    assert result.success
    assert none.success
    assert result.nit <= 2 * none.nit
    assert result.products < none.products


def test_tail_is_superlinear():
    history = ntsolve.minimize(**logistic(), inner="nullspace", tol=1e-12, on_failure="ignore").history
    tail = history[history < 1e-2]
    assert tail.size >= 3
    rates = tail[1:] / tail[:-1]
    assert rates[-1] < 0.05
    assert rates[-1] < rates[0] or rates[0] < 0.01


@pytest.mark.parametrize("name", ["HS6", "HS40", "HS42", "HS50", "HS56", "HS77", "HS79", "BT6", "S394", "LUKVLE1"])
def test_solves_classical_problems(name):
    problem = PROBLEMS[name]
    result = ntsolve.minimize(**problem.arguments(), inner="nullspace")
    assert result.success
    assert problem.residual(result.x) <= 1e-8


def test_an_operator_of_the_users_preconditions():
    arguments = logistic()
    H = arguments["hess"](arguments["x0"]).toarray()
    inverse = sp.linalg.aslinearoperator(np.linalg.inv(H))
    result = ntsolve.minimize(**arguments, inner="nullspace", precond=inverse)
    assert result.success


def test_an_unknown_sketch_is_refused_by_name():
    with pytest.raises(ValueError, match="precond"):
        ntsolve.minimize(**logistic(), inner="nullspace", precond="columns")


def test_the_same_seed_gives_the_same_answer_bitwise():
    first, second = (ntsolve.minimize(**logistic(), inner="nullspace", rng=5) for _ in range(2))
    assert first.x.tobytes() == second.x.tobytes()


def test_a_factored_hessian_times_a_matrix_is_that_of_its_columns():
    H = ntsolve.FactoredHessian(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([1.0, 2.0]), 0.5)
    np.testing.assert_allclose(H @ np.eye(2), H.toarray())
