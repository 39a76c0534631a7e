"""The test problems themselves: their derivatives are those of their formulas, their solutions are solutions."""

import numpy as np
import pytest

from .problems import load_all

PROBLEMS = load_all()
STEP = 1e-30  # of a complex step, which loses no digits however small it is


def near(problem, seed=0):
    """A point near the start where no derivative vanishes by accident."""
    return problem.x0 + 0.01 * np.random.default_rng(seed).uniform(0.5, 1.5, problem.n)


def complex_steps(function, x):
    """The Jacobian of `function` at x, one column a variable."""
    return np.stack([np.imag(function(x + 1j * STEP * unit)) / STEP for unit in np.eye(x.size)], axis=-1)


def polished(problem):
    """The solution to full precision, by Newton's method on the KKT conditions from its published digits."""
    x, v, n = problem.x_star, problem.multipliers(problem.x_star), problem.n
    for _ in range(20):
        J = problem.jac(x)
        H = problem.hess(x) + problem.constraint_hess(x, v)
        K = np.block([[H, J.T], [J, np.zeros((problem.m, problem.m))]])
        step = np.linalg.lstsq(K, -np.concatenate([problem.grad(x) + J.T @ v, problem.constraint(x)]), rcond=1e-12)[0]
        x, v = x + step[:n], v + step[n:]
    return x


def test_there_are_at_least_sixty_of_them():
    assert len(PROBLEMS) >= 60


@pytest.mark.parametrize("name", PROBLEMS)
def test_derivatives_are_those_of_the_formulas(name):
    problem = PROBLEMS[name]
    x, v = near(problem), np.random.default_rng(1).standard_normal(problem.m)
    pairs = (
        (problem.grad(x), complex_steps(lambda z: problem.formulas(z)[0], x)),
        (problem.jac(x), complex_steps(lambda z: np.array(problem.formulas(z)[1]), x)),
        (problem.hess(x), complex_steps(problem.grad, x)),
        (problem.constraint_hess(x, v), complex_steps(lambda z: problem.jac(z).T @ v, x)),
    )
    for found, expected in pairs:
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * (1 + abs(expected).max()))


@pytest.mark.parametrize("name", PROBLEMS)
def test_published_solution_is_feasible_and_stationary(name):
    problem = PROBLEMS[name]
    x = problem.x_star if problem.exact else polished(problem)
    assert problem.residual(x) <= 1e-9 * max(1, abs(problem.f_star))
    assert problem.fun(x) == pytest.approx(problem.f_star, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(x, problem.x_star, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", PROBLEMS)
def test_published_solution_is_a_minimum(name):
    """The Hessian of the Lagrangian has no negative curvature along the constraints; some where degenerate."""
    problem = PROBLEMS[name]
    x = problem.x_star if problem.exact else polished(problem)
    H = problem.hess(x) + problem.constraint_hess(x, problem.multipliers(x))
    _, s, V = np.linalg.svd(problem.jac(x))
    if s[-1] <= 1e-10 * s[0]:
        pytest.skip("multipliers are not unique")
    Z = V[problem.m :].T
    curvature = np.linalg.eigvalsh(Z.T @ H @ Z)
    assert curvature.min(initial=0) >= -1e-9 * abs(curvature).max(initial=1)
    if not problem.degenerate and curvature.size:
        assert curvature[0] > 1e-9 * curvature[-1]
