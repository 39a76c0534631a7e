"""Ritz values and the bound made of them, against dense linear algebra."""

import numpy as np
import pytest

from ntsolve.linalg.ritz import most_iterations, ritz_values

from .problems import poisson, spd


def coefficients(A, b, M, steps):
    """(r, z) and alpha of conjugate gradients as in the textbook, and the energies of the error, from the start."""
    x, r = np.zeros_like(b), b.copy()
    p = z = M @ r
    e = np.linalg.solve(A, b)
    rz, alphas, energies = [], [], [e @ A @ e]
    for _ in range(steps):
        q = A @ p
        rz.append(r @ z)
        alphas.append(rz[-1] / (p @ q))
        x, r = x + alphas[-1] * p, r - alphas[-1] * q
        z = M @ r
        p = z + (r @ z) / rz[-1] * p
        energies.append((e - x) @ A @ (e - x))
    return np.array(rz), np.array(alphas), np.array(energies)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_after_as_many_iterations_as_there_are_eigenvalues_they_are_those(scale):
    A, M = spd(6, 6, condition=40), np.diag(np.linspace(0.5, 2, 6))
    rz, alphas, _ = coefficients(A, np.ones(6), M, 6)
    got = ritz_values(rz[:, None] * scale, alphas[:, None] * scale)  # those of a multiple of M
    want = np.sort(np.linalg.eigvals(M @ A).real)
    np.testing.assert_allclose(got[0] * scale, want, rtol=1e-6)


def test_the_bound_holds_with_eigenvalues_and_sees_through_one_that_is_small():
    A = poisson(8).toarray()
    A[0] = A[:, 0] = 0
    A[0, 0] = 1e-4
    b = np.random.default_rng(0).standard_normal(64)
    values = np.linalg.eigvalsh(A)[None]
    for eps in (1e-2, 1e-4, 1e-6):
        bound = most_iterations(values, np.array([np.log(2 / eps)]))[0]
        _, _, energies = coefficients(A, b, np.eye(64), 60)
        assert (energies <= eps**2 * energies[0]).argmax() <= bound
        assert bound < 0.2 * 0.5 * np.sqrt(values[0, -1] / values[0, 0]) * np.log(2 / eps)


def test_each_system_has_its_own_and_what_is_no_number_promises_nothing():
    rz, alphas, _ = coefficients(spd(9, 9, condition=10), np.ones(9), np.eye(9), 4)
    rz, alphas = (np.stack([v, v, v], axis=1) for v in (rz, alphas))
    rz[2, 1], alphas[1, 2] = 0, np.inf
    values = ritz_values(rz, alphas)
    alone = ritz_values(rz[:, :1], alphas[:, :1])
    np.testing.assert_array_equal(values[0], alone[0])
    np.testing.assert_array_equal(np.isinf(most_iterations(values, np.full(3, 20.0))), [False, True, True])
    assert np.isinf(most_iterations(np.array([[-2.0, -1.0, 2.0]]), np.array([20.0]))).all()
