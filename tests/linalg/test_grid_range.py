"""Coefficients at the ends of the range of their dtype: a finite matrix, or an error that says what to scale."""

import numpy as np
import pytest

import ntsolve

G = ntsolve.GridOperator


@pytest.mark.parametrize(
    ("value", "dtype", "spacing"),
    [
        (1e308, "float64", 1.0),
        (2e38, "float32", 1.0),
        (1e30, "float32", 1e-6),
        (1e30, "float32", 1e-30),
        (1e-320, "float64", 1.0),
        (1e-300, "float64", 1e30),
        (1e-30, "float32", 1e10),
    ],
)
def test_what_leaves_the_range_is_refused(value, dtype, spacing):
    with pytest.raises(ValueError, match="kappa / spacing"):
        G.diffusion(np.full((4, 4), value, dtype), spacing=spacing)


@pytest.mark.parametrize("spacing", [1e-154, 1e-160, 1e155, 1e160])
def test_a_spacing_whose_square_is_no_number_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing"):
        G.poisson(np.ones((4, 4), dtype=bool), spacing=spacing)


@pytest.mark.parametrize("spacing", [1e-30, (1e-30, 2e-30), 1e30, (1e100, 1e101)])
def test_a_right_hand_side_too_short_for_the_spacing_is_refused(spacing):
    A, b = G.poisson(np.ones((4, 5), dtype=bool), spacing=spacing), np.ones(20)
    assert ntsolve.cg(A, b, rtol=1e-9).success
    with pytest.raises(ValueError, match=r"^A has entries of .* float32.*pass b in float64"):
        ntsolve.cg(A, b.astype("float32"))


@pytest.mark.parametrize("value", [4e307, 1e300, 1.0, 1e-300])
@pytest.mark.parametrize("M", [None, "jacobi", "multigrid"])
def test_what_is_in_the_range_is_solved(value, M):
    kappa = value * np.array([[1.0, 0.5, 0.25], [0.125, 1.0, 1.0], [1.0, 0.5, 1.0]])
    A = G.diffusion(kappa)
    assert np.isfinite(A.tocsr().data).all()
    result = ntsolve.cg(A, np.ones(9), M=M, rtol=1e-9)
    assert result.success
    want = np.linalg.solve(G.diffusion(kappa / value).tocsr().toarray(), np.ones(9))
    np.testing.assert_allclose(result.x * value, want, rtol=1e-7)


def test_the_mean_of_two_huge_cells_is_harmonic():
    A = G.diffusion(np.array([[1.5e307, 4e307]]), outside="neumann")
    np.testing.assert_allclose(-A.tocsr().toarray()[0, 1], 2 / (1 / 1.5e307 + 1 / 4e307), rtol=1e-15)
