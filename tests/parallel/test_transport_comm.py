"""solve_ot_sample with the rows of X shared among ranks: the answer of one process, here on threads as ranks."""

import pickle

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import ntsolve
from ntsolve import Status
from ntsolve.errors import RankError
from ntsolve.parallel.comm import join
from ntsolve.transport import sparse
from ntsolve.transport.cells import kd_order

from ..backends import BACKENDS, to_device, to_host
from ..transport.problems import masses
from .team import bounds, ends, together


def clouds(n, m, p=2, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return rng.random((n, p)).astype(dtype), (rng.random((m, p)) + 0.3).astype(dtype)


def shared(size, X, Y, a=None, b=None, *, cuts=None, run=together, then=None, **options):
    """Of each rank, the result for its rows of X, and of a and f; or what `then(result)` makes of it."""

    def solve(comm):
        own = slice(*(bounds(len(X), comm) if cuts is None else cuts[comm.rank : comm.rank + 2]))
        start = options.get("potentials_init")
        more = {} if start is None else {"potentials_init": (start[0][own], start[1])}
        result = ntsolve.solve_ot_sample(X[own], Y, None if a is None else a[own], b, comm=comm, **options | more)
        return result if then is None else then(result)

    with ntsolve.config(threads=1):
        return run(size, solve)


def assert_same(parts, serial, tol=1e-9):
    """The parts are those of the answer of one process, and the ranks agree."""
    first = parts[0]
    for part in parts:
        assert part.status == serial.status
        assert abs(part.nit - serial.nit) <= 2
        assert part.residual == first.residual <= part.tolerance
        assert np.array_equal(part.potentials[1], first.potentials[1])
        assert np.array_equal(part.history, first.history)
        for name in ("value", "value_linear", "lower_bound", "upper_bound"):
            if name.startswith("value") or serial._solution.balanced:
                assert getattr(part, name) == getattr(first, name)
                assert getattr(part, name) == pytest.approx(getattr(serial, name), rel=10 * tol, abs=tol)
    f, g = np.concatenate([part.potentials[0] for part in parts]), first.potentials[1]
    np.testing.assert_allclose(f, serial.potentials[0], atol=tol)
    np.testing.assert_allclose(g, serial.potentials[1], atol=tol)


@pytest.fixture
def few(monkeypatch):
    """Make a few hundred points as many as take the way of many."""
    monkeypatch.setattr(sparse, "DENSE", 1000)
    monkeypatch.setattr(sparse, "ENOUGH", 1000)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", cdist])
@pytest.mark.parametrize("reg", [0.03, 1e-3])
def test_the_parts_make_up_the_answer_of_one_process(size, metric, reg):
    X, Y = clouds(60, 45)
    options = {"a": masses(60), "b": masses(45), "metric": metric, "reg": reg}
    assert_same(shared(size, X, Y, **options), ntsolve.solve_ot_sample(X, Y, **options))


@pytest.mark.parametrize("cuts", [(0, 5, 60), (0, 0, 60), (0, 60, 60, 60), (0, 1, 1, 60)])
@pytest.mark.parametrize("tau", [{}, {"tau_a": 0.3}, {"tau_b": 0.3}, {"tau_a": 0.5, "tau_b": 0.1}])
def test_parts_may_be_of_any_size_and_marginals_relaxed(cuts, tau):
    X, Y = clouds(60, 45)
    a = masses(60)
    a[:7], a[20] = 0, 0
    options = {"a": a / a.sum(), "b": masses(45), "reg": 0.005, **tau}
    f = ntsolve.solve_ot_sample(X, Y, **options)
    parts = shared(len(cuts) - 1, X, Y, cuts=cuts, **options)
    assert_same(parts, f)
    np.testing.assert_allclose(np.concatenate([part.plan for part in parts]), f.plan, atol=1e-9)


@pytest.mark.parametrize("size", [2, 3])
def test_a_kernel_that_is_sorted_and_annealed_is_shared(size):
    X, Y = clouds(150, 1100)
    assert_same(shared(size, X, Y, reg=1e-3), ntsolve.solve_ot_sample(X, Y, reg=1e-3))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("metric", ["sqeuclidean", cdist])
def test_cells_and_packed_kernels_are_shared(few, size, metric):
    X, Y = clouds(230, 190)
    options = {"a": masses(230), "b": masses(190), "metric": metric, "reg": 2e-3}
    serial = ntsolve.solve_ot_sample(X, Y, **options)
    assert_same(shared(size, X, Y, **options), serial)
    assert_same(shared(3, X, Y, cuts=(0, 200, 200, 230), **options), serial)


@pytest.mark.parametrize("size", [2, 3])
def test_float32_is_shared(size):
    X, Y = clouds(40, 33, dtype="float32")
    options = {"reg": 0.01, "tol": 1e-5}
    parts = shared(size, X, Y, **options)
    assert_same(parts, ntsolve.solve_ot_sample(X, Y, **options), tol=1e-5)
    assert {part.potentials[0].dtype for part in parts} == {np.dtype("float32")}


@pytest.mark.skipif("cuda" not in BACKENDS, reason="neither a GPU nor the emulator")
@pytest.mark.parametrize("dense", [True, False])
def test_arrays_on_a_gpu_are_shared(monkeypatch, dense):
    monkeypatch.setattr(sparse, "DENSE", 1e9 if dense else 60)
    X, Y = (to_device(points, "cuda") for points in clouds(12, 9))
    serial = ntsolve.solve_ot_sample(X, Y, reg=0.03)
    parts = shared(3, X, Y, cuts=(0, 5, 5, 12), reg=0.03, then=lambda r: (r, to_host(r.gradient("Y"))))
    for part, gradient in parts:
        assert part.backend == "cuda"
        assert part.value == pytest.approx(serial.value, rel=1e-9)
        assert abs(part.nit - serial.nit) <= 2
        np.testing.assert_allclose(gradient, to_host(serial.gradient("Y")), atol=1e-8)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("of", ["value", "value_linear"])
def test_gradients_are_those_of_the_own_rows_and_of_all_columns(metric, of):
    X, Y = clouds(30, 24)
    options = {"a": masses(30), "b": masses(24), "metric": metric, "reg": 0.02, "tol": 1e-12}
    serial = ntsolve.solve_ot_sample(X, Y, **options)
    parts = shared(3, X, Y, cuts=(0, 11, 11, 30), **options,
                   then=lambda r: {wrt: r.gradient(wrt, of=of) for wrt in "XYabC"})  # fmt: skip
    for wrt in "XYabC":
        wanted = serial.gradient(wrt, of=of)
        found = [part[wrt] for part in parts] if wrt in "Yb" else [np.concatenate([part[wrt] for part in parts])]
        for each in found:
            shift = (each - wanted).mean() if wrt in "ab" and of == "value_linear" else 0.0
            np.testing.assert_allclose(each - shift, wanted, atol=1e-8)


def test_a_plan_is_of_the_own_rows():
    X, Y = clouds(50, 40)
    serial = ntsolve.solve_ot_sample(X, Y, reg=0.01)

    def then(result):
        first = 0 if np.allclose(result.plan, serial.plan[:25], atol=1e-9) else 25
        end = first + 25
        assert np.allclose(result.plan, serial.plan[first:end], atol=1e-9)
        assert abs(result.sparse_plan(1e-9).toarray() - serial.plan[first:end]).max() < 2e-9
        return result.verify(cdist(X[first:end], Y, "sqeuclidean")), result.gap

    for error, gap in shared(2, X, Y, reg=0.01, then=then):
        assert error <= 1.01e-9
        assert gap == pytest.approx(serial.gap, abs=1e-12)


def test_a_similar_problem_starts_from_the_potentials_of_the_last():
    X, Y = clouds(60, 45)
    start = ntsolve.solve_ot_sample(X, Y, reg=1e-3).potentials
    options = {"reg": 1e-3, "potentials_init": start}
    serial = ntsolve.solve_ot_sample(X + 1e-4, Y, **options)
    assert_same(shared(2, X + 1e-4, Y, **options), serial)
    assert_same(shared(3, X + 1e-4, Y, cuts=(0, 0, 30, 60), **options), serial)


def test_a_pass_takes_one_message(few):
    """One sum of columns for each pass over the cost or the kernel, and for each product of conjugate gradients."""
    X, Y = clouds(230, 190)

    def solve(comm):
        result = ntsolve.solve_ot_sample(X[slice(*bounds(230, comm))], Y, reg=2e-3, comm=comm)
        return result, comm.calls["Allreduce"]

    with ntsolve.config(threads=1):
        (result, messages), _ = together(2, solve)
    done = result.passes + result.scaling_steps + result.newton_steps + result.cg_steps
    assert messages <= 1.1 * done  # some are of cells, of a look at a few rows, of what follows the solve


def test_what_has_been_computed_needs_no_other_rank_and_survives_pickling():
    X, Y = clouds(40, 30)
    result = shared(2, X, Y, reg=0.01)[1]
    again = pickle.loads(pickle.dumps(result))
    for name in ("value", "value_linear", "lower_bound", "upper_bound"):
        assert getattr(again, name) == getattr(result, name)
    assert np.array_equal(again.plan, result.plan)
    with pytest.raises(RuntimeError, match="other ranks"):
        again.gradient("Y")


# ---- stops ----------------------------------------------------------------------------------------------------------


def test_all_stop_when_one_is_told_to():
    X, Y = clouds(60, 45)
    seen = []

    def solve(comm):
        stop = (lambda state: seen.append(state.nit) or state.nit == 5) if comm.rank else None
        own = slice(*bounds(60, comm))
        return ntsolve.solve_ot_sample(X[own], Y, reg=1e-3, comm=comm, callback=stop, on_failure="ignore")

    with ntsolve.config(threads=1):
        parts = together(2, solve)
    assert [part.status for part in parts] == [Status.CALLBACK_STOP] * 2
    assert {part.nit for part in parts} == {5}
    assert seen == [1, 2, 3, 4, 5]
    assert parts[0].residual == parts[1].residual


@pytest.mark.parametrize("limit", [{"maxiter": 3}, {"time_limit": 0.0}])
def test_limits_hold_for_all(few, limit):
    X, Y = clouds(60, 45)
    parts = shared(2, X, Y, reg=1e-3, on_failure="ignore", **limit)
    assert parts[0].status == parts[1].status in (Status.MAXITER, Status.TIME_LIMIT)
    assert parts[0].nit == parts[1].nit <= 3


# ---- errors ---------------------------------------------------------------------------------------------------------


def failures(size, *arguments, **options):
    found = shared(size, *arguments, run=ends, on_failure="ignore", **options)
    assert all(isinstance(each, Exception) for each in found), found
    return found


@pytest.mark.parametrize("name", ["Y", "b", "reg", "tol", "tau_a", "metric", "maxiter", "potentials_init"])
def test_what_differs_between_ranks_is_named(name):
    X, Y = clouds(20, 15)
    options = {"Y": Y, "b": masses(15), "reg": 0.1, "tol": 1e-9, "tau_a": 0.2, "metric": "euclidean", "maxiter": 100,
               "potentials_init": (np.zeros(10), np.zeros(15))}  # fmt: skip
    others = {"Y": Y + 1e-9, "b": masses(15, seed=5), "reg": 0.2, "tol": 1e-8, "tau_a": None, "metric": "cosine",
              "maxiter": 90, "potentials_init": (np.zeros(10), np.ones(15))}  # fmt: skip

    def solve(comm):
        chosen = options | ({name: others[name]} if comm.rank else {})
        return ntsolve.solve_ot_sample(X[slice(*bounds(20, comm))], comm=comm, **chosen)

    for error in ends(2, solve):
        assert isinstance(error, ValueError)
        assert name in str(error)
        assert "rank" in str(error)


def test_a_bad_argument_on_one_rank_ends_all():
    X, Y = clouds(20, 15)
    negative, wrong = masses(20), X.copy()
    negative[15], wrong[15] = -0.1, np.nan
    first, second = failures(2, X, Y, negative, reg=0.1)
    assert isinstance(first, RankError)
    assert "rank 1: ValueError: a has a negative weight" in str(first)
    assert isinstance(second, ValueError)
    assert "NaN" in str(failures(2, wrong, Y, reg=0.1)[1])

    def solve(comm):
        return ntsolve.solve_ot_sample(X[:10], Y, masses(10) if comm.rank else None, reg=0.1, comm=comm)

    first, second = ends(2, solve)
    assert "a is given on other ranks" in str(first)
    assert isinstance(second, RankError)
    for size in (0, 1):
        kind, word = (TypeError, "reg") if size else (RankError, "rank 1: TypeError: reg")
        found = ends(2, lambda comm: ntsolve.solve_ot_sample(X, Y, reg="a" if comm.rank else 1.0, comm=comm))[size]
        assert isinstance(found, kind)
        assert word in str(found)


def test_a_metric_that_raises_on_one_rank_ends_all():
    X, Y = clouds(20, 15)

    def metric(X, Y):
        if X[0, 0] == 77:  # a point of the second rank's
            raise ZeroDivisionError("no such points")
        return cdist(X, Y)

    X[10:, 0] = 77
    first, second = failures(2, X, Y, reg=0.1, metric=metric)
    assert isinstance(first, RankError)
    assert "no such points" in str(first)
    assert isinstance(second, ZeroDivisionError)


def test_sums_are_compared_over_all_ranks():
    X, Y = clouds(20, 15)
    for error in failures(2, X, Y, 2 * masses(20), masses(15), reg=0.1):
        assert "a sums to 2" in str(error) or "a sums to 1.99" in str(error)
    for error in failures(3, X[:0], Y, reg=0.1):
        assert "X has no points on any rank" in str(error)
    for error in failures(2, np.stack([X, X, X, X]), Y, reg=0.1):
        assert "comm is for one problem" in str(error)


def test_forbidden_pairs_that_leave_no_plan_are_named_by_all():
    X, Y = clouds(12, 12)

    def metric(X, Y):
        C = cdist(X, Y)
        C[np.ix_(np.isin(X[:, 0], few), np.arange(12) >= 3)] = np.inf
        return C

    few = X[[0, 1, 7, 8], 0]  # four rows, on two ranks, share three columns
    for error in failures(2, X, Y, reg=0.1, metric=metric):
        assert "4 rows (0, 1, 7, 8) have 0.333333 of the mass, and the 3 columns" in str(error)


def test_comm_has_to_be_a_communicator():
    with pytest.raises(TypeError, match="comm"):
        ntsolve.solve_ot_sample(*clouds(5, 4), reg=0.1, comm=object())


# ---- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("count", [1, 5, 40, 1000])
def test_ranks_share_the_work_of_putting_points_in_order(size, count):
    features = np.random.default_rng(0).random((2, count))
    wanted = kd_order(features, 8)
    for found in together(size, lambda comm: kd_order(features, 8, join(comm))):
        assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))
