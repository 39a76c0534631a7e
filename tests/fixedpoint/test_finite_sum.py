"""ntsolve.halpern_finite_sum: both algorithms against the solution, and what they count."""

import numpy as np
import pytest
from scipy.optimize import nnls

import ntsolve

from .test_monotone import simplex


class Sum:
    """Least squares: the mean over rows of a (a'x - b), which counts the rows that it looks at."""

    def __init__(self, rng, n=400, d=6):
        self.A, self.b, self.count, self.n = rng.standard_normal((n, d)), rng.standard_normal(n), 0, n

    def __call__(self, rows, x):
        rows = np.arange(self.n) if rows is None else rows
        assert len(set(rows.tolist())) == rows.size  # each at most once
        self.count += rows.size
        A = self.A[rows]
        return A.T @ (A @ x - self.b[rows]) / rows.size


@pytest.mark.parametrize("method", ["cocoercive", "monotone"])
@pytest.mark.parametrize("constrained", [False, True])
def test_it_finds_the_solution(rng, method, constrained):
    F = Sum(rng)
    prox = (lambda x, step: np.maximum(x, 0)) if constrained else None
    result = ntsolve.halpern_finite_sum(F, F.n, np.ones(6), prox=prox, method=method, tol=1e-7)
    assert result.success
    want = nnls(F.A, F.b)[0] if constrained else np.linalg.lstsq(F.A, F.b)[0]
    np.testing.assert_allclose(result.x, want, atol=1e-5)


def test_the_residual_and_the_count_are_true(rng):
    F = Sum(rng)
    result = ntsolve.halpern_finite_sum(F, F.n, np.ones(6), tol=1e-5)
    assert result.nfev == F.count
    assert result.residual == pytest.approx(np.linalg.norm(F(None, result.x)), rel=1e-9)
    assert len(result.history) == result.nit + 1


@pytest.mark.parametrize("method", ["cocoercive", "monotone"])
def test_theory_holds_with_its_steps(rng, method):
    F = Sum(rng, n=32)
    L = (F.A**2).sum(1).max()
    options = {"method": method, "step": "theory", "restart": None, "lipschitz": L}
    result = ntsolve.halpern_finite_sum(F, F.n, np.ones(6), tol=0.05, **options)
    assert result.success
    assert result.restarts == 0


def test_restarts_and_larger_steps_need_fewer_components(rng):
    F = Sum(rng)
    L = (F.A**2).sum(1).max()
    theory = ntsolve.halpern_finite_sum(F, F.n, np.ones(6), tol=0.03, step="theory", restart=None, lipschitz=L)
    assert 2 * ntsolve.halpern_finite_sum(F, F.n, np.ones(6), tol=0.03).nfev < theory.nfev


def test_it_needs_fewer_components_than_the_deterministic_method(rng):
    F = Sum(rng, n=20_000, d=20)
    F.A *= np.geomspace(1, 0.05, 20)
    step = F.n / np.linalg.norm(F.A, 2) ** 2
    start = np.ones(20)
    tol = 1e-2 * np.linalg.norm(F(None, start))
    some = ntsolve.halpern_finite_sum(F, F.n, start, tol=tol)
    all_ = ntsolve.halpern(lambda x: x - step * F(None, x), start, tol=step * tol)
    assert some.nfev < 0.7 * all_.nfev * F.n


def test_a_game_of_a_sum_is_solved(rng):
    A = rng.random((30, 30))

    def F(rows, x):  # the rows of A are the components
        rows = np.arange(30) if rows is None else rows
        out, part = np.zeros(60), 30 / rows.size
        out[:30] = part * (A[rows].T @ x[30:][rows])
        out[30:] = -part * (A[:, rows] @ x[:30][rows])
        return out

    prox = lambda x, step: np.concatenate([simplex(x[:30]), simplex(x[30:])])
    result = ntsolve.halpern_finite_sum(F, 30, np.full(60, 1 / 30), prox=prox, method="monotone", tol=1e-3)
    assert result.success


@pytest.mark.parametrize("method", ["cocoercive", "monotone"])
@pytest.mark.parametrize("maxiter", [7, 2000])
def test_iterations_are_evaluations_of_all_components(rng, method, maxiter):
    A = rng.standard_normal((20, 6, 6))
    A -= A.transpose(0, 2, 1)  # skew, so that steps turn out to be too large
    whole = []

    def F(rows, x):
        whole.append(rows is None)
        return (A if rows is None else A[rows]).mean(0) @ x + 0.1 * x

    result = ntsolve.halpern_finite_sum(F, 20, np.ones(6), method=method, tol=1e-3, maxiter=maxiter,
                                        on_failure="ignore")  # fmt: skip
    assert sum(whole) == result.nit + 1 == len(result.history)
    assert result.nit <= maxiter
    assert result.success == (maxiter > 7)
    assert result.residual == pytest.approx(np.linalg.norm(F(None, result.x)), rel=1e-9)


def test_the_seed_decides(rng):
    F = Sum(rng)
    counts = [ntsolve.halpern_finite_sum(F, F.n, np.ones(6), rng=seed).nfev for seed in (None, 0, 1, 1)]
    assert counts[0] == counts[1] != counts[2] == counts[3]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_components_are_fine(rng, n):
    F = Sum(rng, n=n, d=1)
    result = ntsolve.halpern_finite_sum(F, n, np.ones(1), tol=1e-6)
    assert result.success


def test_bad_arguments_are_named():
    F = lambda rows, x: x
    for options, name in (({"n": 0}, "n"), ({"step": "theory"}, "lipschitz"), ({"method": "page"}, "method"),
                          ({"batch": 0}, "batch"), ({"step": 1.0}, "step")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            ntsolve.halpern_finite_sum(F, x0=np.zeros(2), **{"n": 5} | options)
    with pytest.raises(ValueError, match="what F returned"):
        ntsolve.halpern_finite_sum(lambda rows, x: x[:1], 5, np.ones(2))
