"""Fixed points of which each rank has a part: the answer of one process, and the same decisions on all."""

import numpy as np
import pytest

import ntsolve
from ntsolve import Status
from ntsolve.errors import RankError

from ..backends import BACKENDS, to_device, to_host
from .team import ends, part, together

SIZES = [2, 3]
N = 41


def whole(comm, x):
    """Everyone's part, one after the other."""
    lengths = np.empty(comm.size, dtype=np.int64)
    comm.Allgatherv(np.array([x.size]), lengths)
    taken = np.empty(int(lengths.sum()), x.dtype)
    comm.Allgatherv(x, [taken, lengths])
    return taken


def failed(error, kind, word):
    """Whether this is an exception of that kind which says so."""
    return isinstance(error, kind) and word in str(error)


@pytest.fixture(scope="module")
def problem():
    """(A, b, step): nonnegative least squares, for its projected gradient step."""
    rng = np.random.default_rng(3)
    A, b = rng.standard_normal((160, N)) * np.linspace(0.5, 1, N), rng.standard_normal(160)
    return A, b, 1 / np.linalg.norm(A, 2) ** 2


def descent(problem, cut=lambda v: v, gathered=lambda x: x, sizes=None):
    A, b, step = problem
    sizes = np.full(N, step) if sizes is None else sizes
    return lambda x: np.maximum(x - cut(sizes * (A.T @ (A @ gathered(x) - b))), 0)


def parts_of(problem, comm, sizes=None):
    return descent(problem, lambda v: part(v, comm), lambda x: whole(comm, x), sizes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [{}, {"accelerate": "anderson"}, {"reflect": False, "anchor": "classic"}, {"restart": None, "tol": 1e-3}],
    ids=["auto", "anderson", "classic", "one run"],
)
def test_halpern_gives_the_answer_of_one_process(problem, size, options):
    options = {"tol": 1e-9, **options}
    serial = ntsolve.halpern(descent(problem), np.zeros(N), **options)
    found = together(
        size, lambda comm: ntsolve.halpern(parts_of(problem, comm), part(np.zeros(N), comm), comm=comm, **options)
    )
    x = np.concatenate([each.x for each in found])
    assert serial.success
    assert np.linalg.norm(x - descent(problem)(x)) <= 1.01 * options["tol"]
    np.testing.assert_allclose(x, serial.x, atol=100 * options["tol"])
    for each in found:
        assert each.success
        assert abs(each.nit - serial.nit) <= 2
        assert each.history.tobytes() == found[0].history.tobytes()


@pytest.mark.parametrize("form", ["diagonal", "callable"])
def test_metrics_are_of_the_parts(problem, form):
    sizes = problem[2] * np.linspace(0.6, 1, N)  # steps of their own: nonexpansive in the metric 1 / sizes
    M = 1 / sizes

    def metric(v):
        return (lambda x: v * x) if form == "callable" else v

    serial = ntsolve.halpern(descent(problem, sizes=sizes), np.zeros(N), metric=metric(M))

    def run(comm):
        T = parts_of(problem, comm, sizes)
        return ntsolve.halpern(T, part(np.zeros(N), comm), metric=metric(part(M, comm)), comm=comm)

    for each in together(3, run):
        assert each.success
        assert abs(each.nit - serial.nit) <= 2


def test_structures_and_empty_parts():
    """The whole is {"a": rank 0's 4 numbers, "b": rank 2's 3}, rotated a little and shrunk; rank 1 has nothing."""
    start = np.arange(1.0, 8.0)
    cuts = [(slice(0, 4), slice(0, 0)), (slice(0, 0), slice(0, 0)), (slice(0, 0), slice(4, 7))]

    def T(v):
        return 0.9 * np.roll(v, 1) + 0.05

    def run(comm):
        first, last = cuts[comm.rank]

        def local(x):
            moved = T(whole(comm, np.concatenate([x["a"], x["b"]])))
            return {"a": moved[first], "b": moved[last]}

        return ntsolve.halpern(local, {"a": start[first], "b": start[last]}, comm=comm, tol=1e-9)

    found, serial = together(3, run), ntsolve.halpern(T, start, tol=1e-9)
    assert all(each.success and abs(each.nit - serial.nit) <= 2 for each in found)
    assert found[1].x["a"].size == found[1].x["b"].size == 0
    np.testing.assert_allclose(np.concatenate([found[0].x["a"], found[2].x["b"]]), 0.5, atol=1e-7)


@pytest.mark.parametrize("with_prox", [False, True])
def test_monotone_gives_the_answer_of_one_process(with_prox):
    rng = np.random.default_rng(5)
    B, q = rng.standard_normal((N, N)), rng.standard_normal(N)
    M = 0.3 * (B - B.T) + 0.5 * np.eye(N)
    prox = (lambda x, step: np.maximum(x, 0)) if with_prox else None
    serial = ntsolve.monotone(lambda x: M @ x + q, np.ones(N), prox=prox, tol=1e-7)

    def run(comm):
        return ntsolve.monotone(lambda x: part(M @ whole(comm, x) + q, comm), part(np.ones(N), comm), prox=prox,
                                tol=1e-7, comm=comm)  # fmt: skip

    found = together(3, run)
    assert all(each.success and abs(each.nit - serial.nit) <= 2 for each in found)
    np.testing.assert_allclose(np.concatenate([each.x for each in found]), serial.x, atol=1e-5)


def test_a_step_of_halpern_takes_one_message(problem):
    """Besides the map's own, and the word whether to go on."""

    def run(comm):
        T, own = parts_of(problem, comm), [0]

        def counted(x):
            before = comm.calls["Allgatherv"]
            moved = T(x)
            own[0] += comm.calls["Allgatherv"] - before
            return moved

        result = ntsolve.halpern(counted, part(np.zeros(N), comm), tol=1e-9, comm=comm)
        return (comm.calls["Allgatherv"] - own[0]) / result.nit

    for messages in together(2, run):
        assert messages <= 4.4  # each of the two with a word before it whether all is well; and beginning and end


def test_arguments_that_differ_are_named(problem):
    def run(comm, **options):
        return ntsolve.halpern(parts_of(problem, comm), part(np.zeros(N), comm), comm=comm, **options)

    for error in ends(2, lambda comm: run(comm, tol=1e-6 * (1 + comm.rank))):
        assert failed(error, ValueError, "tol")
    for error in ends(2, lambda comm: run(comm, metric=None if comm.rank else np.ones(21))):
        assert failed(error, ValueError, "metric")

    def mixed(comm):
        x0 = np.zeros(3, dtype="f4" if comm.rank else "f8")
        return ntsolve.halpern(lambda x: 0.5 * x, x0, comm=comm)

    for error in ends(2, mixed):
        assert failed(error, ValueError, "dtype of x0")
    for error in ends(2, lambda comm: ntsolve.halpern(lambda x: x, np.ones(2), metric=np.eye(2), comm=comm)):
        assert failed(error, TypeError, "metric")
    for error in ends(2, lambda comm: ntsolve.halpern(lambda x: x, np.ones(0), comm=comm)):
        assert failed(error, ValueError, "x0 has no entries")


def test_what_fails_on_one_rank_ends_all(problem):
    def run(comm, spoil):
        T, calls = parts_of(problem, comm), [0]

        def spoiled(x):
            calls[0] += 1
            moved = T(x)
            return spoil(moved) if comm.rank == 1 and calls[0] == 5 else moved

        return ntsolve.halpern(spoiled, part(np.zeros(N), comm), comm=comm, on_failure="ignore")

    def fail(moved):
        raise KeyError("lost")

    found = ends(3, lambda comm: run(comm, fail))
    assert isinstance(found[1], KeyError)
    for other in (found[0], found[2]):
        assert failed(other, RankError, "rank 1: KeyError")
    found = ends(3, lambda comm: run(comm, lambda moved: moved * np.nan))
    assert [each.status for each in found] == [Status.NAN_OR_INF] * 3
    bad = ends(2, lambda comm: ntsolve.halpern(lambda x: x, np.ones(3) * [1, np.nan][comm.rank], comm=comm))
    assert failed(bad[1], ValueError, "x0")
    assert failed(bad[0], RankError, "rank 1: ValueError: x0")


def test_a_callback_on_one_rank_stops_all(problem):
    def run(comm):
        stop = (lambda state: state.nit == 7) if comm.rank else None
        return ntsolve.halpern(parts_of(problem, comm), part(np.zeros(N), comm), comm=comm, callback=stop, tol=1e-12,
                               on_failure="ignore")  # fmt: skip

    found = together(2, run)
    assert {each.nit for each in found} == {7}
    assert found[1].status == Status.CALLBACK_STOP


@pytest.mark.skipif("cuda" not in BACKENDS, reason="CuPy, or the stand-in for it, is needed")
def test_parts_may_lie_on_gpus():
    def run(comm):
        return ntsolve.halpern(lambda x: 0.5 * x + 1, to_device(np.ones(2 + comm.rank), "cuda"), tol=1e-3, comm=comm)

    for each in together(2, run):
        assert each.success
        assert each.backend == "cuda"
        np.testing.assert_allclose(to_host(each.x), 2, atol=2e-3)
