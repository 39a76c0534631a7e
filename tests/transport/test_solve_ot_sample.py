"""solve_ot_sample solves the problem of the costs between its points, and never stores these."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import ntsolve
from ntsolve.transport import sparse
from tests.backends import BACKENDS, to_device, to_host

from . import oracle
from .problems import masses

ROOT = Path(__file__).resolve().parents[2]
METRICS = ("sqeuclidean", "euclidean", "cosine")


def clouds(n, m, p=2, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, p)).astype(dtype), (rng.standard_normal((m, p)) + 0.5).astype(dtype)


def error(result, C, a, b, reg):
    """The marginals' error at the potentials that were found, by an independent sum."""
    f, g = (np.asarray(to_host(v), float) for v in result.potentials)
    return oracle.marginal_error(oracle.plan(C, f, g, reg), a, b)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("p", [1, 2, 3, 7])
@pytest.mark.parametrize("reg", [0.1, 0.003])
def test_it_solves_the_problem_of_the_costs(metric, p, reg):
    X, Y = clouds(60, 45, p)
    a, b, C = masses(60), masses(45), cdist(X, Y, metric)
    reg *= C.max()
    result = ntsolve.solve_ot_sample(X, Y, a, b, metric=metric, reg=reg)
    assert result.success
    assert error(result, C, a, b, reg) <= 2e-9
    stored = ntsolve.solve_ot(C, a, b, reg=reg)
    np.testing.assert_allclose(result.plan, stored.plan, atol=1e-9)
    for name in ("value", "value_linear", "lower_bound", "upper_bound"):
        assert getattr(result, name) == pytest.approx(getattr(stored, name), rel=1e-5, abs=1e-9 * C.max())
    assert result.lower_bound <= result.upper_bound
    kept = result.sparse_plan(1e-9)
    assert abs(kept.toarray() - stored.plan).max() <= 2e-9


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kind_and_dtype_are_kept(backend, metric, dtype):
    X, Y = clouds(15, 20, dtype=dtype)
    there = [to_device(v, backend) for v in (X, Y)]
    result = ntsolve.solve_ot_sample(*there, metric=metric, reg=0.3, tol=1e-5)
    assert result.success
    assert type(result.plan) is type(there[0])
    assert result.plan.dtype == result.potentials[0].dtype == dtype
    C = cdist(X.astype(float), Y.astype(float), metric)
    assert error(result, C, np.full(15, 1 / 15), np.full(20, 1 / 20), 0.3) <= 2e-5


@pytest.fixture
def few(monkeypatch):
    """Make a few hundred points as many as take the way of many."""
    monkeypatch.setattr(sparse, "DENSE", 1000)
    monkeypatch.setattr(sparse, "ENOUGH", 1000)


@pytest.mark.parametrize("metric", [*METRICS, "function"])
@pytest.mark.parametrize("reg", [1e-2, 1e-3])
@pytest.mark.parametrize("sizes", [(300, 300), (500, 130)])
def test_many_points_give_what_a_stored_kernel_does(few, metric, reg, sizes):
    X, Y = clouds(*sizes, seed=5)
    name, cost = metric, metric
    if metric == "function":
        name, cost = "cityblock", lambda X, Y: cdist(X, Y, "cityblock")
    a, b, C = masses(sizes[0]), masses(sizes[1]), cdist(X, Y, name)
    reg *= C.max()
    result = ntsolve.solve_ot_sample(X, Y, a, b, metric=cost, reg=reg, tol=1e-7)
    assert result.success
    assert error(result, C, a, b, reg) <= 2e-7
    stored = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-10)
    assert result.value == pytest.approx(stored.value, abs=1e-6 * C.max())
    np.testing.assert_allclose(result.plan, stored.plan, atol=1e-6)


def test_out_of_time_nothing_is_built_any_more(few, monkeypatch):
    """What is left to do then is one pass over the costs, from the potentials that there are."""
    X, Y = clouds(400, 300)
    built = []
    real = sparse.PackedStore.build

    def counted(store, *args, **kwargs):
        built.append(store.cost.shape)
        return real(store, *args, **kwargs)

    monkeypatch.setattr(sparse.PackedStore, "build", counted)
    with pytest.warns(ntsolve.ConvergenceWarning):
        result = ntsolve.solve_ot_sample(X, Y, reg=1e-3, time_limit=0.0)
    assert (result.status, result.passes, built) == (ntsolve.Status.TIME_LIMIT, 1, [])
    assert abs(error(result, cdist(X, Y, "sqeuclidean"), np.full(400, 1 / 400), np.full(300, 1 / 300), 1e-3)
               - result.residual) < 1e-12  # fmt: skip


def test_out_of_time_a_kernel_is_not_built_to_its_end(few, monkeypatch):
    X, Y = clouds(400, 300)
    monkeypatch.setattr(sparse, "BLOCKS_A_CHUNK", 64)
    looks = []
    real = sparse._Rounds._over

    def later(rounds):
        if rounds.a.size == 400:
            looks.append(rounds.watch)
            if len(looks) == 3:
                rounds.watch.time_limit = 0.0
        return real(rounds)

    monkeypatch.setattr(sparse._Rounds, "_over", later)
    with pytest.warns(ntsolve.ConvergenceWarning):
        result = ntsolve.solve_ot_sample(X, Y, reg=1e-3, time_limit=1e6)
    assert (result.status, len(looks)) == (ntsolve.Status.TIME_LIMIT, 3)
    assert result.residual < 1.0


def test_many_points_of_any_number_of_threads_have_one_answer(few):
    X, Y = clouds(400, 350, seed=2)
    answers = []
    for threads in (1, 2, 4):
        with ntsolve.config(threads=threads):
            answers.append(ntsolve.solve_ot_sample(X, Y, reg=0.02, tol=1e-7).x.tobytes())
    assert len(set(answers)) == 1


def test_a_function_sees_blocks_of_points_and_makes_the_costs():
    X, Y = clouds(40, 30)
    shapes = []

    def cost(X, Y):
        shapes.append((X.shape, Y.shape))
        return abs(X[:, None] - Y).sum(2)

    result = ntsolve.solve_ot_sample(X, Y, metric=cost, reg=0.1)
    want = ntsolve.solve_ot(cost(X, Y), reg=0.1)
    assert result.success
    np.testing.assert_allclose(result.plan, want.plan, atol=1e-12)
    assert all(x[1] == y[1] == 2 and y[0] == 30 for x, y in shapes)


def test_equal_points_and_points_without_mass_are_fine():
    X, Y = clouds(30, 25)
    X[5:15] = X[0]
    Y[:] = Y[3]
    a, b = masses(30), masses(25)
    a[[2, 7]] = b[4] = 0
    a, b = a / a.sum(), b / b.sum()
    for metric in METRICS:
        result = ntsolve.solve_ot_sample(X, Y, a, b, metric=metric, reg=0.05)
        assert result.success
        assert (result.plan[[2, 7]] == 0).all()
        assert (result.plan[:, 4] == 0).all()
        assert oracle.marginal_error(result.plan, a, b) <= 2e-9


def test_far_away_from_the_origin_differences_keep_their_digits():
    """|x|^2 - 2 x.y + |y|^2 would not."""
    X, Y = clouds(40, 40)
    near = ntsolve.solve_ot_sample(X, Y, reg=0.1)
    far = ntsolve.solve_ot_sample(X + 1e6, Y + 1e6, reg=0.1)
    assert far.success
    np.testing.assert_allclose(far.plan, near.plan, atol=1e-8)


def test_it_starts_from_potentials():
    X, Y = clouds(200, 200)
    first = ntsolve.solve_ot_sample(X, Y, reg=0.02)
    again = ntsolve.solve_ot_sample(X, Y, reg=0.02, potentials_init=first.potentials)
    assert again.success
    assert again.nit < first.nit


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"X": np.ones(5)}, ValueError, r"\bX\b"),
        ({"X": np.ones((0, 2))}, ValueError, r"\bX\b"),
        ({"Y": np.ones((5, 3))}, ValueError, r"\bY\b"),
        ({"Y": np.full((5, 2), np.nan)}, ValueError, r"\bY\b.*NaN"),
        ({"X": np.full((5, 2), np.inf)}, ValueError, r"\bX\b"),
        ({"X": np.ones((5, 2), complex)}, TypeError, r"\bX\b"),
        ({"metric": "manhattan"}, ValueError, "metric"),
        ({"metric": 3}, (TypeError, ValueError), "metric"),
        ({"metric": lambda X, Y: np.ones((2, 2))}, ValueError, "metric"),
        ({"metric": lambda X, Y: np.full((len(X), len(Y)), np.nan)}, ValueError, "metric"),
        ({"metric": lambda X, Y: None}, (TypeError, ValueError), "metric"),
        ({"reg": 0.0}, ValueError, "reg"),
        ({"a": np.ones(4)}, ValueError, r"\ba\b"),
        ({"b": -np.ones(6)}, ValueError, r"\bb\b"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, kind, words):
    X, Y = clouds(5, 6)
    arguments = {"X": X, "Y": Y, "reg": 0.1} | change
    with pytest.raises(kind, match=words):
        ntsolve.solve_ot_sample(**arguments)


def test_the_cosine_of_a_zero_vector_is_refused():
    X, Y = clouds(5, 6)
    X[2] = 0
    with pytest.raises(ValueError, match="X"):
        ntsolve.solve_ot_sample(X, Y, metric="cosine", reg=0.1)


def test_what_the_metric_raises_is_passed_on():
    def broken(X, Y):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ntsolve.solve_ot_sample(*clouds(5, 6), metric=broken, reg=0.1)


@pytest.mark.slow
def test_ten_thousand_points_take_a_small_part_of_what_their_costs_would():
    code = """
import resource, numpy as np, ntsolve
rng = np.random.default_rng(0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
ntsolve.solve_ot_sample(rng.random((50, 2)), rng.random((60, 2)), reg=0.1)
before = peak()
X, Y = rng.random((10_000, 2)), rng.random((10_000, 2))
result = ntsolve.solve_ot_sample(X, Y, reg=2e-3, tol=1e-6)
assert result.success
assert peak() - before < 0.15 * 8e8, peak() - before
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=600)
