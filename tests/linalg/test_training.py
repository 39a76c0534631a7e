"""Training of a multigrid cycle: it finds better weights, repeats itself, keeps to its budget, and touches no state."""

import builtins

import numpy as np
import pytest

import ntsolve
from bench import _linear_problems as problems
from bench import _train_weights
from ntsolve.linalg import training, weights

cma = pytest.importorskip("cma")


@pytest.fixture(scope="module")
def masks():
    return [problems.pressure(np.random.default_rng([50, i]), (20, 20)) for i in range(3)]


def test_a_few_generations_find_better_weights_and_again_the_same(masks, tmp_path):
    before = np.random.get_state()[1].copy()  # noqa: NPY002  it must be left alone
    found = ntsolve.train_multigrid(masks, generations=2, sample=2, rng=4, progress=False)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert found.evaluations == 20
    assert found.trained < found.untrained
    assert found.history.shape == (2, 3)
    assert (np.diff(found.history[:, 0]) > 0).all()

    with ntsolve.config(threads=1):
        again = ntsolve.train_multigrid(masks, generations=2, sample=2, rng=4, progress=False)
    np.testing.assert_array_equal(again.weights.relaxation, found.weights.relaxation)
    np.testing.assert_array_equal(again.history[:, 1:], found.history[:, 1:])

    found.save(tmp_path / "mine.npz")
    b = problems.right_hand_side(masks[0], np.random.default_rng(0))
    M = ntsolve.LearnedMultigrid(masks[0], weights=tmp_path / "mine.npz")
    np.testing.assert_array_equal(M.weights.faces, found.weights.faces)
    assert ntsolve.cg(masks[0], b, M=M).success
    other = ntsolve.GridOperator.poisson(np.ones((8, 8, 8), bool))
    with pytest.warns(ntsolve.PerformanceWarning, match="mine.npz was trained on grids of 2 axes, A has 3"):
        ntsolve.LearnedMultigrid(other, weights=tmp_path / "mine.npz")


def test_no_time_is_enough_for_the_untrained_cycle(masks):
    found = ntsolve.train_multigrid(masks, time_limit=0, progress=False)
    assert found.evaluations == 0
    assert found.history.shape == (0, 3)
    assert found.trained == found.untrained
    np.testing.assert_array_equal(found.weights.relaxation, 1)


def test_fractional_iterations_lie_below_whole_ones(masks):
    A = masks[0]
    b = problems.right_hand_side(A, np.random.default_rng(0))
    M = ntsolve.LearnedMultigrid(A)
    whole = ntsolve.cg(A, b, M=M, rtol=1e-6).nit
    part = training.fractional_iterations(A, b, M)
    assert whole - 1 < part <= whole
    assert training.fractional_iterations(A, b, M, cap=2) == 2
    assert training.fractional_iterations(A, 0 * b, M) == 0


def test_every_point_of_the_search_is_a_set_of_weights():
    rng = np.random.default_rng(0)
    for scale in (1, 10, 1000):
        found = training.decode(scale * rng.standard_normal(4 * training.LEVELS))
        weights.checked(found.arrays(), "found")
    np.testing.assert_array_equal(training.decode(np.zeros(12)).faces, 0.5)


@pytest.mark.parametrize("family", weights.FAMILIES)
def test_the_problems_of_a_family_are_of_it(family, monkeypatch):
    monkeypatch.setattr(_train_weights, "PROBLEMS", 3)
    monkeypatch.setattr(_train_weights, "SHAPES", {family: (12, 12) if family.endswith("2d") else (8, 8, 8)})
    for A in _train_weights.training_set(family):
        M = ntsolve.LearnedMultigrid(A, coarsening="blocks")
        assert M.weights.name == family


def test_a_missing_package_is_named(masks, monkeypatch):
    real = builtins.__import__

    def without_cma(name, *arguments, **options):
        if name == "cma":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_cma)
    with pytest.raises(ImportError, match=r"ntsolve\[train\]"):
        ntsolve.train_multigrid(masks)


def test_wrong_arguments_are_named(masks):
    for bad, error, name in (
        ({"problems": []}, ValueError, "problems"),
        ({"problems": masks[0]}, TypeError, "problems must be a sequence"),
        ({"problems": [np.eye(3)]}, TypeError, r"problems\[0\]"),
        ({"generations": 0}, ValueError, "generations"),
        ({"sample": 0}, ValueError, "sample"),
        ({"rtol": 1.0}, ValueError, "rtol"),
        ({"time_limit": -1}, ValueError, "time_limit"),
    ):
        with pytest.raises(error, match=name):
            ntsolve.train_multigrid(**{"problems": masks, "progress": False, **bad})
