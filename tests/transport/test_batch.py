"""Batches of transport problems: each is solved as it would be alone."""

import pickle
import time

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import Status

from . import oracle, problems


def batch(count=5, n=20, m=30):
    rng = np.random.default_rng(0)
    C = np.stack([problems.squared(*problems.points(n, m, i)) for i in range(count)])
    a = np.stack([problems.weights(rng, n) for _ in range(count)])
    b = np.stack([problems.weights(rng, m) for _ in range(count)])
    return C, a, b


@pytest.mark.parametrize("reg", [1.0, 1e-2, 1e-3])
def test_small_problems_are_solved_as_they_would_be_alone(reg):
    C, a, b = batch(7, 12, 30)
    C[1, 3:6, 20:25] = np.inf
    a[2, 5] = b[2, 7] = 0.0
    a[2], b[2] = a[2] / a[2].sum(), b[2] / b[2].sum()
    a[3], b[3] = 1e3 * a[3], 1e3 * b[3]
    a[4], b[4] = 1e-6 * a[4], 1e-6 * b[4]
    tol = 1e-12  # of masses from 1e-6 to 1e3
    result = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-9)
    alone = [ntsolve.solve_ot(*each, reg=reg, tol=tol, on_failure="ignore") for each in zip(C, a, b, strict=True)]
    assert result.success.all()
    for P, one, weights in zip(result.plan, alone, zip(a, b, strict=True), strict=True):
        assert oracle.marginal_error(P, *weights) <= 1e-9
        assert abs(P - one.plan).sum() <= 1e-7 * weights[0].sum() + 1e-7
    np.testing.assert_allclose(result.value, [one.value for one in alone], rtol=1e-7, atol=1e-7)
    allowed = np.arange(7) != 1  # rounding the other takes forbidden pairs
    assert (result.gap[allowed] <= 1e-6 * a.sum(axis=1)[allowed] + 1e-8).all()
    again = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-9, potentials_init=result.potentials)
    assert (again.nit <= 1).all()


def test_what_the_kernel_for_small_problems_cannot_do_is_done_all_the_same():
    rng = np.random.default_rng(0)
    C = np.stack([rng.random((20, 20)), 1e-3 * np.eye(20), np.zeros((20, 20))])
    assert ntsolve.solve_ot(C, reg=1e-5, tol=1e-10).success.all()
    stopped = ntsolve.solve_ot(C, reg=1e-5, maxiter=2, on_failure="ignore")
    assert (stopped.nit <= 2).all()
    assert stopped.status[0] == Status.MAXITER
    assert np.allclose(stopped.plan[0].sum(axis=1), 1 / 20)
    late = ntsolve.solve_ot(C, reg=1e-5, time_limit=0.0, on_failure="ignore")
    assert late.status[0] == Status.TIME_LIMIT
    C[1] = np.inf
    with pytest.raises(ValueError, match=r"C\[1\] forbids all pairs"):
        ntsolve.solve_ot(C, reg=1e-2)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_is_its_problems(threads):
    C, a, b = batch(5, 50, 60)
    alone = [ntsolve.solve_ot(*each, reg=1e-3) for each in zip(C, a, b, strict=True)]
    with ntsolve.config(threads=threads):
        result = ntsolve.solve_ot(C, a, b, reg=1e-3)
    assert result.success.all()
    assert result.plan.tobytes() == np.stack([each.plan for each in alone]).tobytes()
    assert result.x.tobytes() == np.stack([each.x for each in alone]).tobytes()
    for name in ("nit", "residual", "status", "passes", "newton_steps", "value", "value_linear", "lower_bound", "gap"):
        assert np.array_equal(getattr(result, name), [getattr(each, name) for each in alone])
    for i, each in enumerate(alone):
        assert np.array_equal(result.history[: each.nit + 1, i], each.history)
    f, g = result.potentials
    assert (f.shape, g.shape) == (a.shape, b.shape)
    assert np.array_equal(result.gradient("a"), f)
    assert np.allclose(result.verify(C, a, b), result.residual, atol=1e-13)
    assert all(sp.issparse(each) for each in result.sparse_plan(1e-6))
    assert [type(each) for each in result.results] == [ntsolve.OTResult] * 5


def test_a_list_may_have_problems_of_any_size():
    rng = np.random.default_rng(1)
    sizes = [(3, 5), (40, 30), (1, 7), (25, 25)]
    C = [rng.random(size) for size in sizes]
    b = [problems.weights(rng, m) for _, m in sizes]
    result = ntsolve.solve_ot(C, None, b, reg=1e-2)
    assert result.success.shape == (4,)
    assert result.success.all()
    for P, each, weights in zip(result.plan, C, b, strict=True):
        assert P.shape == each.shape
        assert oracle.marginal_error(P, 1 / len(P), weights) < 1.1e-9
    assert [x.shape for x in result.x] == [(sum(size),) for size in sizes]
    assert result.upper_bound.shape == (4,)
    assert [each.shape for each in result.gradient("C")] == sizes
    assert ntsolve.solve_ot(C, [None] * 4, tuple(b), reg=1e-2).plan[1].tobytes() == result.plan[1].tobytes()


def test_one_cost_may_serve_many_weights():
    C, a, b = batch(4, 50, 60)
    result = ntsolve.solve_ot(C[0], a, b, reg=1e-2)
    assert result.plan.shape == C.shape
    assert np.array_equal(result.plan[3], ntsolve.solve_ot(C[0], a[3], b[3], reg=1e-2).plan)
    result = ntsolve.solve_ot(C[0], a[0], b, reg=1e-2)
    assert np.array_equal(result.plan[3], ntsolve.solve_ot(C[0], a[0], b[3], reg=1e-2).plan)
    result = ntsolve.solve_ot(C, a[0], None, reg=1e-2)
    assert np.array_equal(result.plan[3], ntsolve.solve_ot(C[3], a[0], reg=1e-2).plan)


def test_more_leading_axes_are_a_batch_too():
    C, a, b = batch(6, 50, 60)
    result = ntsolve.solve_ot(C.reshape(2, 3, 50, 60), a.reshape(2, 3, 50), b[0], reg=1e-2)
    assert result.plan.shape == (2, 3, 50, 60)
    assert result.status.shape == result.value.shape == (2, 3)
    assert result.history.shape[1:] == (2, 3)
    assert np.array_equal(result.plan[1, 2], ntsolve.solve_ot(C[5], a[5], b[0], reg=1e-2).plan)


def test_points_come_in_batches():
    rng = np.random.default_rng(0)
    X, Y = rng.random((3, 20, 2)), rng.random((3, 30, 2))
    result = ntsolve.solve_ot_sample(X, Y, reg=1e-2)
    assert np.array_equal(result.plan[1], ntsolve.solve_ot_sample(X[1], Y[1], reg=1e-2).plan)
    assert result.gradient("X").shape == X.shape
    lists = ntsolve.solve_ot_sample([X[0], X[1, :7]], [Y[0], Y[1]], metric="euclidean", reg=1e-2)
    assert np.array_equal(lists.plan[1], ntsolve.solve_ot_sample(X[1, :7], Y[1], metric="euclidean", reg=1e-2).plan)


def test_a_warm_start_has_the_form_of_the_potentials():
    C, a, b = batch()
    cold = ntsolve.solve_ot(C, a, b, reg=1e-3)
    warm = ntsolve.solve_ot(C, a, b, reg=1e-3, potentials_init=cold.potentials)
    assert warm.success.all()
    assert warm.nit.max() <= 2
    lists = ntsolve.solve_ot(list(C), list(a), list(b), reg=1e-3)
    warm = ntsolve.solve_ot(list(C), list(a), list(b), reg=1e-3, potentials_init=lists.potentials)
    assert warm.nit.max() <= 2


def test_each_problem_has_its_own_status():
    C, a, b = batch()
    easy = ntsolve.solve_ot(C, a, b, reg=1.0).nit.max()
    C[2] *= 1e4
    with pytest.warns(ntsolve.ConvergenceWarning, match="1 of 5 problems failed"):
        result = ntsolve.solve_ot(C, a, b, reg=1.0, maxiter=easy + 1)
    assert list(result.success) == [True, True, False, True, True]
    assert list(result.status) == [1, 1, Status.MAXITER, 1, 1]
    with pytest.raises(ntsolve.ConvergenceError) as error:
        ntsolve.solve_ot(C, a, b, reg=1.0, maxiter=easy + 1, on_failure="raise")
    assert error.value.result.nit[2] == easy + 1


def test_the_dtype_and_the_kind_are_kept():
    C, a, b = (v.astype(np.float32) for v in batch())
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, tol=1e-5)
    assert result.plan.dtype == result.x.dtype == np.float32
    xp = pytest.importorskip("array_api_strict")
    C, a, b = batch()
    result = ntsolve.solve_ot(xp.asarray(C), xp.asarray(a), xp.asarray(b), reg=1e-2)
    assert type(result.plan) is type(result.x) is type(xp.asarray(C))
    result = ntsolve.solve_ot([xp.asarray(C[0]), xp.asarray(C[1])], reg=1e-2)
    assert type(result.plan[1]) is type(xp.asarray(C))


def test_a_callback_sees_one_problem_after_the_other():
    C, a, b = batch()
    seen = []
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, callback=lambda state: seen.append((state.nit, state.x.shape)))
    assert [nit for nit, _ in seen] == [nit + 1 for count in result.nit for nit in range(count)]
    assert {shape for _, shape in seen} == {(50,)}
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, callback=lambda state: len(seen) > 0)
    assert (result.status[1:] == Status.CALLBACK_STOP).all()


def test_the_time_limit_is_that_of_the_batch():
    C, a, b = batch(40, 100, 100)
    began = time.perf_counter()
    options = {"reg": 1e-4, "tol": 0.0, "method": "sinkhorn", "on_failure": "ignore"}
    result = ntsolve.solve_ot(C, a, b, **options, time_limit=0.3)
    assert time.perf_counter() - began < 3  # 40 limits would be 12
    assert (result.status == Status.TIME_LIMIT).all()
    assert np.isfinite(result.plan).all()


def test_the_result_pickles():
    C, a, b = batch()
    result = ntsolve.solve_ot(C, a, b, reg=1e-2)
    twin = pickle.loads(pickle.dumps(result))
    assert twin.plan.tobytes() == result.plan.tobytes()
    assert "success" in repr(result)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda C, a, b: (C[:4], a, b), "C is a batch of .4,.; a is a batch of .5,."),
        (lambda C, a, b: (list(C), a[:4], b), "batch"),
        (lambda C, a, b: (C, a[:, :-1], b), r"a\[0\]"),
        (lambda C, a, b: (C[:0], a[:0], b[:0]), "no problems"),
        (lambda C, a, b: ([C[0], C[1], np.full((2, 2), np.nan)], None, None), r"C\[2\] contains NaN"),
        (lambda C, a, b: ([C[0], "text"], None, None), r"C\[1\]"),
        (lambda C, a, b: (C, np.where(np.arange(5)[:, None] == 3, 2 * a, a), b), r"a\[3\] sums to 2"),
    ],
)
def test_what_does_not_fit_is_refused(change, match):
    with pytest.raises((TypeError, ValueError), match=match):
        ntsolve.solve_ot(*change(*batch()), reg=1e-2)


@pytest.mark.parametrize("init", [(np.zeros((3, 4)), np.zeros((3, 5))), ([np.zeros(4)], [np.zeros(5)])])
def test_starts_for_another_number_of_problems_are_refused(init):
    C = np.random.default_rng(0).random((2, 4, 5))
    with pytest.raises(ValueError, match=r"potentials_init has . starts; there are 2 problems"):
        ntsolve.solve_ot(C, reg=0.5, potentials_init=init)
    result = ntsolve.solve_ot(C, reg=0.5, potentials_init=([[0.0] * 4] * 2, [[0.0] * 5] * 2))
    assert result.success.all()
    with pytest.raises(ValueError, match="C, a, b are 3 problems; the result is of 2"):
        result.verify(np.zeros((3, 4, 5)))


def test_no_cost_at_all_is_named():
    with pytest.raises(TypeError, match="C is None"):
        ntsolve.solve_ot(None, reg=1.0)
