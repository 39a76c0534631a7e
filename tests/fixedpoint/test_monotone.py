"""ntsolve.monotone: saddle points and variational inequalities, with and without a Lipschitz constant."""

import numpy as np
import pytest
from scipy.optimize import linprog

import ntsolve


def simplex(y):
    """The nearest point of the simplex."""
    ordered = np.sort(y)[::-1]
    shifts = (np.cumsum(ordered) - 1) / np.arange(1, y.size + 1)
    return np.maximum(y - shifts[ordered > shifts][-1], 0)


def bilinear(rng, n=8):
    """(F, zero, L) of y'Bz + c'y - d'z."""
    B, c, d = rng.standard_normal((n, n)) + 2 * np.eye(n), rng.standard_normal(n), rng.standard_normal(n)
    F = lambda x: np.concatenate([B @ x[n:] + c, d - B.T @ x[:n]])
    return F, np.concatenate([np.linalg.solve(B.T, d), -np.linalg.solve(B, c)]), np.linalg.norm(B, 2)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("restart", [None, "adaptive"])
def test_it_finds_the_saddle_point_of_a_bilinear_function(rng, known, restart):
    F, zero, L = bilinear(rng)
    tol = 1e-9 if restart else 1e-2
    result = ntsolve.monotone(F, np.zeros(16), lipschitz=L if known else None, restart=restart, tol=tol)
    assert result.success
    assert result.residual == pytest.approx(np.linalg.norm(F(result.x)), rel=1e-6)
    np.testing.assert_allclose(result.x, zero, atol=1e3 * tol)


def test_the_residual_is_within_what_theory_promised(rng):
    F, zero, L = bilinear(rng)
    for maxiter in (1, 2, 5, 30):
        result = ntsolve.monotone(F, np.zeros(16), lipschitz=L, restart=None, distance=np.linalg.norm(zero), tol=0,
                                  maxiter=maxiter, on_failure="ignore")  # fmt: skip
        assert result.bound == pytest.approx(2 * L * np.linalg.norm(zero) / maxiter)
        assert result.residual <= result.bound


@pytest.mark.parametrize("known", [True, False])
def test_it_finds_the_value_of_a_matrix_game(rng, known):
    A = rng.random((5, 7))
    F = lambda x: {"row": A @ x["column"], "column": -A.T @ x["row"]}
    prox = lambda x, step: {name: simplex(part) for name, part in x.items()}
    start = {"row": np.full(5, 0.2), "column": np.full(7, 1 / 7)}
    result = ntsolve.monotone(F, start, prox=prox, lipschitz=np.linalg.norm(A, 2) if known else None, tol=1e-8)
    assert result.success
    value = linprog(np.r_[np.zeros(5), 1], A_ub=np.c_[A.T, -np.ones(7)], b_ub=np.zeros(7),
                    A_eq=np.r_[np.ones(5), 0][None], b_eq=[1], bounds=[(0, 1)] * 5 + [(None, None)]).fun  # fmt: skip
    assert (A.T @ result.x["row"]).max() == pytest.approx(value, abs=1e-6)


def test_the_search_for_a_step_copes_with_what_is_steeper_elsewhere():
    F = lambda x: np.array([x[1] + x[0] ** 3, -x[0] + x[1] ** 3])
    result = ntsolve.monotone(F, np.array([10.0, -10.0]), tol=1e-9)
    assert result.success
    np.testing.assert_allclose(result.x, 0, atol=1e-6)


def test_where_the_operator_is_zero_the_constraint_still_counts():
    result = ntsolve.monotone(lambda x: 0 * x, -3 * np.ones(2), prox=lambda x, step: np.maximum(x, 0))
    assert result.success
    np.testing.assert_array_equal(result.x, 0)


def test_single_precision_stays_so(rng):
    F, _, _ = bilinear(rng)
    F32 = lambda x: F(x).astype(np.float32)
    result = ntsolve.monotone(F32, np.zeros(16, np.float32), tol=1e-4)
    assert result.success
    assert result.x.dtype == np.float32


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="F must"):
        ntsolve.monotone(None, np.zeros(2))
    with pytest.raises(ValueError, match="lipschitz"):
        ntsolve.monotone(lambda x: x, np.zeros(2), lipschitz=0)
    with pytest.raises(ValueError, match="what prox returned"):
        ntsolve.monotone(lambda x: x, np.ones(2), prox=lambda x, step: x[:1])
