"""The inverse of the coarsest level, and closed boxes, where that is singular."""

import numpy as np
import pytest

import ntsolve
from ntsolve import GridOperator
from ntsolve.linalg import bottom


def laplacian(weights, slack):
    return np.diag(weights.sum(axis=1) + slack) - weights


def graphs():
    rng = np.random.default_rng(0)
    for n, top, grounded in ((1, 0, True), (1, 0, False), (7, 0, True), (7, 0, False), (40, 3, False), (40, 3, True)):
        half = np.triu(10.0 ** rng.uniform(0, top, (n, n)) * (rng.random((n, n)) < 0.4), 1)
        half[np.arange(n - 1), np.arange(1, n)] = 1.0
        weights = half + half.T
        cut = n // 2
        weights[:cut, cut:] = weights[cut:, :cut] = 0  # two sets, of which one may have slack
        slack = np.zeros(n)
        slack[-1] = 2.0 * grounded
        yield weights, slack


@pytest.mark.parametrize(("weights", "slack"), list(graphs()))
def test_the_bottom_is_inverted_on_its_range_and_semidefinite(weights, slack):
    A, B = laplacian(weights, slack), bottom.inverse(weights, slack)
    np.testing.assert_allclose(A @ B @ A, A, atol=1e-9 * max(1, abs(A).max()))
    np.testing.assert_allclose(B, B.T, atol=1e-12 * max(1, abs(B).max()))
    assert np.linalg.eigvalsh(B).min() >= -1e-12 * max(1, abs(B).max())


def test_the_bottom_takes_a_weak_link_for_a_link_and_none_for_none():
    weights = np.zeros((4, 4))
    for i, j, c in ((0, 1, 1.0), (2, 3, 1.0), (1, 2, 1e-9)):
        weights[i, j] = weights[j, i] = c
    slack = np.array([1.0, 0, 0, 0])
    e = np.array([0.0, 0, 0, 1.0])
    want = np.linalg.solve(laplacian(weights, slack), e)
    np.testing.assert_allclose(bottom.inverse(weights, slack) @ e, want, rtol=1e-5)
    weights[1, 2] = weights[2, 1] = 0
    assert np.abs(bottom.inverse(weights, slack)).max() <= 2.1


@pytest.mark.parametrize("decades", [6, 8])
def test_closed_boxes_of_any_contrast_are_solved(decades):
    for seed in range(150):
        rng = np.random.default_rng(seed)
        A = GridOperator.diffusion(10.0 ** rng.uniform(0, decades, (1, 8)), outside="neumann")
        b = rng.standard_normal((1, 8))
        b -= b.mean()
        assert ntsolve.cg(A, b, M="multigrid").success, seed
