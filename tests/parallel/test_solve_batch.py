"""A farm of solves: each problem gets what its solver gives it alone, in order, whatever becomes of the others."""

import concurrent.futures
import functools
import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import Status


def spd(n, seed=0):
    half = np.random.default_rng(seed).standard_normal((n, n))
    return half @ half.T / n + np.eye(n)


def systems(sizes=(5, 8, 5, 300, 8, 5)):
    return [(spd(n, i), np.arange(1.0, n + 1)) for i, n in enumerate(sizes)]


def costs(sizes=((5, 6), (60, 50), (5, 6), (60, 50), (7, 7))):
    rng = np.random.default_rng(0)
    return [(rng.random(size),) for size in sizes]


EXECUTORS = {
    "none": lambda: None,
    "threads": lambda: concurrent.futures.ThreadPoolExecutor(3),
    "processes": lambda: concurrent.futures.ProcessPoolExecutor(2),
}


@pytest.mark.parametrize("kind", ["none", "threads"])
@pytest.mark.parametrize("how", ["name", "function"])
def test_each_gets_what_it_gets_alone(kind, how):
    executor = EXECUTORS[kind]()
    for name, problems, settings in (("cg", systems(), {"rtol": 1e-10}), ("solve_ot", costs(), {"reg": 1e-2})):
        function = getattr(ntsolve, name)
        result = ntsolve.solve_batch(name if how == "name" else function, problems, executor=executor, **settings)
        assert len(result) == len(problems)
        assert result.success.all()
        for one, problem in zip(result, problems, strict=True):
            alone = function(*problem, **settings)
            answer = "x" if name == "cg" else "plan"  # the potentials of a plan with zeros are not unique
            np.testing.assert_allclose(getattr(one, answer), getattr(alone, answer), rtol=1e-6, atol=1e-8)
            assert type(one) is type(alone)
            assert one.status is Status.CONVERGED
            assert isinstance(one.success, (bool, np.bool_))
            assert one.history.ndim == 1


def test_processes_give_the_same():
    problems = systems((300, 310, 320))
    with EXECUTORS["processes"]() as executor:
        result = ntsolve.solve_batch(ntsolve.cg, problems, executor=executor, rtol=1e-10)
        failed = ntsolve.solve_batch("cg", [*problems, (np.eye(3), np.ones(2))], executor=executor, on_failure="ignore")
    for one, (A, b) in zip(result, problems, strict=True):
        assert one.x.tobytes() == ntsolve.cg(A, b, rtol=1e-10).x.tobytes()
    assert list(failed.status) == [1, 1, 1, Status.RAISED]
    assert "b has 2 entries" in str(failed.errors[3])
    assert len(pickle.loads(pickle.dumps(failed))) == 4


def test_equal_problems_are_one_call(monkeypatch):
    seen = []
    real = ntsolve.cg

    @functools.wraps(real)
    def counted(A, b, **options):
        seen.append(np.shape(b))
        return real(A, b, **options)

    monkeypatch.setattr(ntsolve, "cg", counted)
    result = ntsolve.solve_batch("cg", systems())
    assert sorted(seen) == [(2, 8), (3, 5), (300,)]
    assert result.success.all()
    seen.clear()
    with ntsolve.config(budget=2 * 8 * (8 * 8 + 8)):  # of two problems
        assert ntsolve.solve_batch("cg", [(spd(8), np.ones(8))] * 5).success.all()
    assert seen == [(2, 8), (2, 8), (8,)]
    A = sp.diags_array(np.arange(1.0, 31), format="csr")
    seen.clear()
    result = ntsolve.solve_batch("cg", [(A, np.ones(30)), (A, np.arange(30.0))], M="jacobi", rtol=1e-12)
    assert seen == [(2, 30)]
    np.testing.assert_allclose(result.x[1], np.arange(30.0) / np.arange(1.0, 31), rtol=1e-10)


def test_what_differs_in_settings_or_kind_is_not_one_call():
    A, b = spd(6), np.ones(6)
    problems = [
        {"A": A, "b": b},
        {"A": A, "b": b, "rtol": 1e-12},
        {"A": A.astype(np.float32), "b": b.astype(np.float32)},
        {"A": A, "b": b, "x0": b},
        {"A": lambda v: A @ v, "b": b},
        {"A": A, "b": np.ones((2, 6))},
    ]
    result = ntsolve.solve_batch(ntsolve.cg, problems)
    assert result.success.all()
    assert [one.x.dtype.name for one in result] == ["float64", "float64", *["float32"], *["float64"] * 3]
    assert result[1].residual < 1e-11
    assert result[5].x.shape == (2, 6)


@pytest.mark.parametrize("kind", ["none", "threads"])
def test_one_that_raises_loses_no_other(kind):
    problems = [*systems((5, 5, 9)), (np.eye(4), np.ones(3)), (np.full((5, 5), np.nan), np.ones(5)), (np.eye(2),)]
    with pytest.warns(ntsolve.ConvergenceWarning, match="3 of 6 problems failed; problem 3: b has 3"):
        result = ntsolve.solve_batch("cg", problems, executor=EXECUTORS[kind]())
    assert list(result.status) == [1, 1, 1, *[Status.RAISED] * 3]
    assert [type(error) for error in result.errors] == [*[type(None)] * 3, ValueError, ValueError, TypeError]
    assert result.x[3] is None
    assert result[0].success
    assert "3 CONVERGED" in repr(result)


def test_failures_are_said_raised_or_left_alone():
    problems = [(spd(40), np.ones(40)), (-np.eye(3), np.ones(3))]
    with pytest.raises(ntsolve.ConvergenceError, match="1 of 2") as caught:
        ntsolve.solve_batch("cg", problems, on_failure="raise")
    assert list(caught.value.result.success) == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ntsolve.solve_batch("cg", problems, on_failure="ignore")
    assert result.status[1] == Status.INDEFINITE_OPERATOR


def test_any_function_that_returns_a_result():
    def twice(*systems, **options):
        return ntsolve.cg(systems[0], 2 * systems[1], **options)

    result = ntsolve.solve_batch(twice, systems((4, 5)), rtol=1e-12)
    np.testing.assert_allclose(result[0].x, 2 * np.linalg.solve(*systems((4,))[0]), rtol=1e-9)
    assert ntsolve.solve_batch("cg", []).success.shape == (0,)
    assert repr(ntsolve.solve_batch("cg", iter([]))) == "BatchResult of 0 problems: none"


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        (("no_solver", []), ValueError, "solver"),
        (("config", []), ValueError, "solver"),
        (("read_mps", []), ValueError, "solver"),
        ((3, []), TypeError, "solver"),
        (("cg", 5), TypeError, "problems"),
        (("cg", {"A": 1}), TypeError, "problems"),
        (("cg", [np.eye(2)]), TypeError, r"problems\[0\]"),
        ((max, [[1, 2]]), TypeError, r"problems\[0\]"),
    ],
)
def test_what_does_not_fit_is_named(arguments, error, name):
    with pytest.raises(error, match=name):
        ntsolve.solve_batch(*arguments)
    for executor in (5, concurrent.futures.ThreadPoolExecutor):
        with pytest.raises(TypeError, match="executor"):
            ntsolve.solve_batch("cg", [], executor=executor)


class Broken(concurrent.futures.Executor):
    """Takes two problems, and breaks."""

    def __init__(self):
        self.taken = 0

    def submit(self, call, *args):
        self.taken += 1
        if self.taken > 2:
            raise RuntimeError("shut")
        future = concurrent.futures.Future()
        future.set_result(call(*args))
        return future


def test_pruning_is_a_solve():
    G = np.random.default_rng(0).standard_normal((5, 8))
    problems = [(np.arange(1.0, 9),), (np.arange(8.0, 0, -1),)]
    result = ntsolve.solve_batch("prune", problems, fisher=G, damp=0.1, sparsity=0.5)
    assert result.success.all()
    assert [int(one.mask.sum()) for one in result] == [4, 4]
    assert [np.count_nonzero(x) for x in result.x] == [4, 4]


def test_what_is_around_the_solves_may_fail_too():
    problems = systems((4, 5, 6))
    result = ntsolve.solve_batch("cg", problems, executor=Broken(), on_failure="ignore")
    assert list(result.status) == [1, 1, Status.RAISED]
    assert str(result.errors[2]) == "shut"
    for wrong in (lambda A, b: None, lambda A, b: 3):
        result = ntsolve.solve_batch(wrong, problems, on_failure="ignore")
        assert [type(error) for error in result.errors] == [TypeError] * 3

    def show(done, count):
        raise KeyError("screen")

    with pytest.warns(RuntimeWarning, match="screen"):
        assert ntsolve.solve_batch("cg", problems, progress=show).success.all()


def test_a_setting_that_no_call_takes_is_refused_at_once_and_a_name_that_one_has_is_its_own():
    A, b = np.eye(2), np.ones(2)
    with pytest.raises(TypeError, match="cg got an unexpected keyword argument 'rtoll'"):
        ntsolve.solve_batch("cg", [(A, b)], rtoll=1e-3)
    problems = [{"A": A, "rhs": b}, {"A": A, 3: b}, {"A": A, "b": b}, (A, b, *[None] * 20), (A, b)]
    result = ntsolve.solve_batch("cg", problems, on_failure="ignore")
    assert list(result.success) == [False, False, True, False, True]
    assert all(isinstance(result.errors[number], TypeError) for number in (0, 1, 3))
    with pytest.raises(TypeError, match="solve_ot needs a setting reg"):
        ntsolve.solve_batch("solve_ot", [(A,), {"C": A}])
    assert ntsolve.solve_batch("solve_ot", [{"C": A, "reg": 1.0}]).success.all()
    untold = ntsolve.solve_batch(max, [(1, 2)], on_failure="ignore")  # has no signature to look at
    assert "which is not a Result" in str(untold.errors[0])


def test_progress_is_told():
    seen = []
    ntsolve.solve_batch("cg", systems(), progress=lambda done, count: seen.append((done, count)))
    assert seen == [(3, 6), (5, 6), (6, 6)]
    ntsolve.solve_batch("cg", systems((3, 4)), progress=True)


@pytest.mark.parametrize("kind", ["none", "threads"])
def test_an_interrupt_returns_what_is_done(kind):
    released = threading.Event()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))

    def slow(number):
        if number == 2:
            released.wait(60)
        return ntsolve.cg(np.eye(3), np.ones(3))

    def interrupt(done, count):
        if done == 2:
            timer.start()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    executor = None if kind == "none" else concurrent.futures.ThreadPoolExecutor(1)
    try:
        result = ntsolve.solve_batch(slow, [(n,) for n in range(4)], executor=executor, progress=interrupt,
                                     on_failure="ignore")  # fmt: skip
    finally:
        released.set()
        timer.join()
        signal.signal(signal.SIGINT, before)
        if executor is not None:
            executor.shutdown()
    assert list(result.success) == [True, True, False, False]
    assert list(result.status[2:]) == [Status.INTERRUPTED] * 2


def test_small_programs_and_samples_are_batches_with_the_answers_of_each_alone(rng):
    programs = []
    for _ in range(6):
        A, x, y = rng.standard_normal((4, 7)), rng.random(7), rng.random(4)
        programs.append((rng.random(7) - y @ A, A, A @ x + 0.5))
    programs.append((np.ones(7), np.ones((4, 7)), -np.ones(4)))  # infeasible
    programs.append((np.ones(3), np.ones((1, 3)), -np.ones(1)))  # of another shape
    result = ntsolve.solve_batch("linprog", programs, on_failure="ignore")
    for one, program in zip(result, programs, strict=True):
        alone = ntsolve.linprog(*program, on_failure="ignore")
        assert one.status is alone.status
        assert one.message == alone.message
        if alone.success:
            assert abs(one.fun - alone.fun) < 1e-5
            assert one.ineqlin.marginals.shape == alone.ineqlin.marginals.shape
        assert (one.ray is None) is (alone.ray is None)
        assert type(one.nit) is int
    within = ntsolve.solve_batch("linprog", programs[:6], bounds=(0, 1))
    assert all((x >= -1e-6).all() and (x <= 1 + 1e-6).all() for x in within.x)

    points = [(rng.random((n, 2)), rng.random((20, 2))) for n in (20, 25, 20)]
    result = ntsolve.solve_batch("solve_ot_sample", points, reg=0.1)
    for one, pair in zip(result, points, strict=True):
        np.testing.assert_allclose(one.plan, ntsolve.solve_ot_sample(*pair, reg=0.1).plan, atol=1e-8)


def test_one_cost_and_many_weights(rng):
    C = rng.random((6, 6))
    weights = [(C, w / w.sum(), np.full(6, 1 / 6)) for w in rng.random((4, 6)) + 0.1]
    result = ntsolve.solve_batch("solve_ot", weights, reg=0.1)
    for one, (_, a, b) in zip(result, weights, strict=True):
        np.testing.assert_allclose(one.plan.sum(axis=1), a, atol=1e-8)
        np.testing.assert_allclose(one.plan.sum(axis=0), b, atol=1e-8)
    same = ntsolve.solve_batch("solve_ot", [(C,)] * 3, reg=0.1)
    assert same.success.all()


def test_a_result_of_a_batch_is_made_when_it_is_asked_for_and_pickles():
    result = ntsolve.solve_batch("cg", systems((5, 5, 5, 6)))
    again = pickle.loads(pickle.dumps(result))
    for one, other, x in zip(result, again, result.x, strict=True):
        assert one.x.tobytes() == other.x.tobytes() == x.tobytes()
    assert result[0] is result[0]


def test_a_checkpoint_is_for_one_solve(tmp_path):
    with pytest.raises(ValueError, match="checkpoint is a file for one solve"):
        ntsolve.solve_batch("cg", systems((5, 5)), checkpoint=tmp_path / "all.npz")


@pytest.mark.parametrize("kind", ["none", "threads"])
def test_arrays_of_a_gpu_stay_there(kind):
    cupy = pytest.importorskip("cupy")
    problems = [(cupy.asarray(spd(n, i)), cupy.asarray(np.ones(n))) for i, n in enumerate((5, 5, 5, 4))]
    result = ntsolve.solve_batch("cg", problems, executor=EXECUTORS[kind]())
    assert result.success.all()
    for one, (A, b) in zip(result, problems, strict=True):
        assert type(one.x) is type(b)
        assert one.backend == "cuda"
        assert float(abs(A @ one.x - b).max()) < 1e-4
