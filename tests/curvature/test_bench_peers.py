"""What the bench measures against computes what it is said to, where that can be known: in float64, without trouble."""

import numpy as np
import pytest

from bench import _disk, _mfac
from tests.curvature import problems

DAMP = 1e-2


@pytest.fixture
def gradients():
    return problems.gradients(12, 50)


@pytest.mark.parametrize("kind", ["Recursion", "Dynamic", "Woodbury", "Lapack"])
def test_a_peer_applies_the_inverse(kind, gradients, rng):
    x, F = rng.standard_normal(50), problems.fisher(gradients, DAMP)
    peer = getattr(_mfac, kind)(gradients, DAMP)
    np.testing.assert_allclose(peer.solve(x), np.linalg.solve(F, x), rtol=1e-9)
    diagonal = np.diag(np.linalg.inv(F))
    if kind == "Recursion":
        np.testing.assert_allclose(peer.diag(), diagonal, rtol=1e-9)
    if kind == "Lapack":
        np.testing.assert_allclose(peer.diag([3, 7]), diagonal[[3, 7]], rtol=1e-9)


def test_the_truth_is_true(gradients, rng):
    x = rng.standard_normal(50)
    exact = _mfac.Exact(gradients).solve(x, DAMP)
    F = problems.fisher(gradients, DAMP)
    np.testing.assert_allclose(exact, np.linalg.solve(F, x), rtol=1e-9)
    assert _mfac.residual(gradients, DAMP, exact, x) < 1e-12
    assert _mfac.residual(gradients, DAMP, 1.5 * exact, x) == pytest.approx(0.5)
    assert _mfac.relative_error(1.5 * exact, exact) == pytest.approx(0.5)
    assert _mfac.relative_error(np.nan * exact, exact) > 1e300


def test_the_plain_window_holds_the_last_gradients(gradients, rng):
    window, coming = _mfac.Plain(gradients, DAMP), rng.standard_normal((15, 50))
    for g in coming:
        window.append(g)
    np.testing.assert_array_equal(np.sort(window.gradients(), 0), np.sort(coming[-12:], 0))
    F = problems.fisher(coming[-12:], DAMP)
    np.testing.assert_allclose(window.solve_newest(), np.linalg.solve(F, coming[-1]), rtol=1e-9)


def test_the_problem_has_the_spectrum_that_it_says(rng):
    G = _mfac.gradients(20, 30_000, rng)
    values = np.linalg.svd(G.astype(float), compute_uv=False) ** 2 / 20
    np.testing.assert_allclose(values, np.arange(1, 21.0) ** -2, rtol=0.1)
    twice = _mfac.gradients(20, 100, rng, duplicates=3)
    np.testing.assert_array_equal(twice[-3:], twice[:3])


@pytest.mark.slow
def test_the_file_has_the_gradients_and_the_process_reports(tmp_path):
    path = tmp_path / "G.f4"
    _disk.write(path, 500)
    G = np.fromfile(path, np.float32).reshape(_disk.ROWS, 500)
    assert np.linalg.matrix_rank(G) == _disk.ROWS
    assert _disk.read(path)["read"] > 0
    found = _disk.solve(str(path), 500, 1)
    assert found["bytes"] > 2**20
    x = np.load(f"{path}.npy")
    assert _mfac.residual(G, _disk.DAMP, x, _disk.right_hand_side(500)) < 1e-4
