"""`compat.pot` is POT's: calls as in its own tests, where they concern results, put to both; and where POT gives up."""

import doctest
import logging

import numpy as np
import pytest

import ntsolve
from ntsolve.compat import pot
from tests.backends import BACKENDS, to_device, to_host

ot = pytest.importorskip("ot")

LOSS_METHODS = ("sinkhorn", "sinkhorn_log", "sinkhorn_stabilized")
METHODS = (*LOSS_METHODS, "sinkhorn_epsilon_scaling", "greenkhorn")
def cloud(n=40, m=None, seed=0):
    """Squared distances between points in the plane, and two sets of weights."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 2)), rng.standard_normal((m or n, 2))
    a, b = rng.random(n) + 0.2, rng.random(m or n) + 0.2
    return ot.dist(x, y), a / a.sum(), b / b.sum()


def bumps(n=60):
    """Two Gaussian histograms on a line, far apart."""
    return (ot.datasets.make_1D_gauss(n, m=0.3 * n, s=n / 10), ot.datasets.make_1D_gauss(n, m=0.4 * n, s=n / 10),
            ot.utils.dist0(n))  # fmt: skip


# ---- sinkhorn and sinkhorn2: the same numbers -----------------------------------------------------------------------

M, A, B = cloud(40, 30)
SQUARE, U, V = cloud(50)
UNIFORM = np.full(50, 1 / 50)
LEFT, RIGHT, LINE = bumps()
MANY = np.random.default_rng(5).random((50, 3))
MANY /= MANY.sum(0)

CALLS = {
    "uniform weights": (UNIFORM, UNIFORM, SQUARE, 1.0),
    "weights": (U, V, SQUARE, 1.0),
    "not square": (A, B, M, 0.5),
    "empty weights": ([], [], SQUARE, 1.0),
    "one side empty": (U, [], SQUARE, 1.0),
    "lists": (A.tolist(), B.tolist(), M.tolist(), 0.5),
    "whole-numbered costs": (U, V, np.round(SQUARE * 3).astype(int), 1.0),
    "far apart": (LEFT, RIGHT, LINE, 100.0),
    "two by two": ([0.5, 0.5], [0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], 1.0),
    "one point": ([1.0], B, M[:1], 1.0),
    "unnormalised": (3 * A, 3 * B, M, 0.5),
}


def theirs(function, *args, **options):
    return function(*(np.asarray(each, dtype=float) for each in args[:3]), *args[3:], stopThr=1e-13, numItermax=100_000,
                    **options)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_plan_is_pots(call, method):
    plan = pot.sinkhorn(*call, method=method, stopThr=1e-12)
    np.testing.assert_allclose(plan, theirs(ot.sinkhorn, *call), rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("method", LOSS_METHODS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_cost_is_pots(call, method):
    cost = pot.sinkhorn2(*call, method=method, stopThr=1e-12)
    assert isinstance(cost, np.float64)
    assert cost == pytest.approx(theirs(ot.sinkhorn2, *call), rel=1e-9)


@pytest.mark.parametrize("function", ["sinkhorn", "sinkhorn2"])
@pytest.mark.parametrize("method", LOSS_METHODS)
@pytest.mark.parametrize("targets", [MANY, MANY[:, :1]], ids=["three", "one"])
def test_many_targets_give_the_costs(function, method, targets):
    costs, log = getattr(pot, function)(UNIFORM, targets, SQUARE, 0.5, method=method, log=True)
    np.testing.assert_allclose(costs, theirs(ot.sinkhorn, UNIFORM, targets, SQUARE, 0.5), rtol=1e-7)
    one_by_one = [pot.sinkhorn2(UNIFORM, target, SQUARE, 0.5) for target in targets.T]
    np.testing.assert_array_equal(costs, one_by_one)
    first, second = ("alpha", "beta") if method == "sinkhorn_stabilized" else ("u", "v")
    assert log[first].shape == (50, targets.shape[1])
    assert log[second].shape == (50, targets.shape[1])
    assert len(log["result"]) == targets.shape[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kind_and_dtype_are_those_of_the_costs(dtype, backend):
    weights = np.full(9, 1 / 9, dtype)
    a, b, cost = (to_device(each, backend) for each in (weights, weights, SQUARE[:9, :9].astype(dtype)))
    plan = pot.sinkhorn(a, b, cost, 1.0, stopThr=1e-4)
    assert type(plan) is type(cost)
    assert plan.dtype == dtype
    loss = pot.sinkhorn2(a, b, cost, 1.0, stopThr=1e-4)
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(float((to_host(plan) * to_host(cost)).sum()), rel=1e-4)


# ---- log, warm starts, warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_log_has_pots_keys_and_its_scalings_make_the_plan(method):
    plan, log = pot.sinkhorn(A, B, M, 0.5, method=method, log=True)
    _, expected = ot.sinkhorn(A, B, M, 0.5, method=method, log=True, numItermax=10_000)
    assert set(log) >= set(expected)
    if "u" in expected:
        np.testing.assert_allclose(log["u"][:, None] * np.exp(-M / 0.5) * log["v"], plan, rtol=1e-10)
    else:
        np.testing.assert_allclose(np.exp((log["alpha"][:, None] + log["beta"] - M) / 0.5), plan, rtol=1e-10)
    iterations = log["n_iter" if "n_iter" in expected else "niter"]
    assert iterations == log["result"].nit
    assert len(log["err"]) == iterations + 1
    assert isinstance(log["result"], ntsolve.OTResult)


@pytest.mark.parametrize("method", METHODS)
def test_a_warm_start_from_pots_solution_is_the_solution(method):
    _, log = ot.sinkhorn(A, B, M, 0.5, method="sinkhorn_log", stopThr=1e-12, log=True, numItermax=10_000)
    start = log["log_u"], log["log_v"]
    if method in ("sinkhorn_stabilized", "sinkhorn_epsilon_scaling"):
        start = 0.5 * start[0], 0.5 * start[1]
    _, cold = pot.sinkhorn(A, B, M, 0.5, method=method, log=True)
    _, warm = pot.sinkhorn(A, B, M, 0.5, method=method, log=True, warmstart=start)
    assert warm["result"].success
    assert warm["result"].nit < cold["result"].nit


@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "arrays"])
def test_many_targets_can_be_started_warm(pairs):
    costs, log = pot.sinkhorn2(UNIFORM, MANY, SQUARE, 0.5, log=True)
    start = log["log_u"], log["log_v"]
    if pairs:
        start = list(zip(*(each.T for each in start), strict=True))
    again, warm = pot.sinkhorn2(UNIFORM, MANY, SQUARE, 0.5, log=True, warmstart=start)
    np.testing.assert_allclose(again, costs, rtol=1e-7)
    assert warm["niter"] < log["niter"]
    with pytest.raises(ValueError, match="warmstart has 4 entries, b has 3 columns"):
        pot.sinkhorn2(UNIFORM, MANY, SQUARE, 0.5, warmstart=[None] * 4)


@pytest.mark.parametrize("method", METHODS)
def test_no_convergence_warns_as_in_pot(method):
    with pytest.warns(UserWarning, match="did not converge"):
        pot.sinkhorn(LEFT, RIGHT, LINE, 1.0, method=method, stopThr=0, numItermax=1)
    pot.sinkhorn(LEFT, RIGHT, LINE, 1.0, method=method, stopThr=0, numItermax=1, warn=False)
    if method in LOSS_METHODS:
        pot.sinkhorn2(LEFT, RIGHT, LINE, 1.0, method=method, stopThr=0, numItermax=1)
        with pytest.warns(ntsolve.ConvergenceWarning):
            pot.sinkhorn2(LEFT, RIGHT, LINE, 1.0, method=method, stopThr=0, numItermax=1, warn=True)


def test_the_threshold_is_pots_norm_of_the_column_error():
    """Between the norm that POT looks at and the sum of absolute values there is room: nobody warns in it."""
    plan, log = pot.sinkhorn(LEFT, RIGHT, LINE, 5.0, stopThr=0, numItermax=20, warn=False, log=True)
    seen, whole = np.linalg.norm(plan.sum(0) - RIGHT), log["result"].marginal_error
    assert seen < whole
    pot.sinkhorn(LEFT, RIGHT, LINE, 5.0, stopThr=0.5 * (seen + whole), numItermax=20)
    with pytest.warns(pot.SinkhornWarning, match="did not converge"):
        pot.sinkhorn(LEFT, RIGHT, LINE, 5.0, stopThr=0.5 * seen, numItermax=20)


def test_verbose_logs_and_prints_nothing(capsys, caplog):
    with caplog.at_level(logging.INFO, logger="ntsolve"):
        pot.sinkhorn(A, B, M, 0.5, verbose=True)
    assert caplog.records
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("function", [pot.sinkhorn, pot.sinkhorn2])
def test_unknown_names_are_refused(function):
    with pytest.raises(ValueError, match=r"Unknown method 'foo'.*'sinkhorn_log'"):
        function(A, B, M, 1.0, method="foo")
    with pytest.raises(TypeError, match="unexpected keyword numItermx"):
        function(A, B, M, 1.0, numItermx=3)
    function(A, B, M, 1.0, method="sinkhorn_stabilized", tau=10, print_period=5)
    function(A, B, M, 1.0, method="SINKHORN")


@pytest.mark.parametrize("method", ["greenkhorn", "sinkhorn_epsilon_scaling"])
def test_methods_without_a_cost_are_refused_as_in_pot(method):
    for library in (ot, pot):
        with pytest.raises(ValueError, match="Unknown method"):
            library.sinkhorn2(A, B, M, 1.0, method=method)


def test_what_pot_lets_through_is_refused():
    with pytest.raises(ValueError, match=r"a sums to 2.*b to 1"):
        pot.sinkhorn(2 * A, B, M, 1.0)
    with pytest.raises(ValueError, match="reg must be positive"):
        pot.sinkhorn(A, B, M, 0)
    with pytest.raises(ValueError, match="C contains NaN"):
        pot.sinkhorn(A, B, np.full_like(M, np.nan), 1.0)


# ---- where POT gives up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_small_reg_gives_the_plan_that_it_has(method):
    """POT's kernel underflows there: it returns zeros, after no iterations."""
    cost, reg = 0.1 + M / M.max(), 1e-4
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="numerical errors"):
        nothing, log = ot.sinkhorn(A, B, cost, reg, log=True)
    assert not nothing.any()
    assert log["niter"] == 0
    plan = pot.sinkhorn(A, B, cost, reg, method=method)
    assert abs(plan.sum(0) - B).sum() + abs(plan.sum(1) - A).sum() <= 1e-9
    exact = ot.emd2(A, B, cost)
    assert exact - 1e-9 <= (plan * cost).sum() <= exact + reg * np.log(plan.size)


def test_weights_of_zero_get_nothing():
    a = np.where(np.arange(40) < 10, 0, A)
    plan, log = pot.sinkhorn(a / a.sum(), B, M, 0.5, log=True)
    assert not plan[:10].any()
    assert not log["u"][:10].any()
    np.testing.assert_allclose(plan.sum(0), B, rtol=1e-8)


# ---- solve ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("reg_type", ["KL", "entropy"])
def test_solve_gives_what_pots_solve_gives(reg_type, weighted):
    weights = (A, B) if weighted else ()
    expected = ot.solve(M, *weights, reg=0.5, reg_type=reg_type, tol=1e-13, max_iter=100_000)
    got = pot.solve(M, *weights, reg=0.5, reg_type=reg_type, tol=1e-12)
    np.testing.assert_allclose(got.plan, expected.plan, rtol=1e-8)
    np.testing.assert_allclose(got.sparse_plan.toarray(), expected.plan, rtol=1e-8)
    np.testing.assert_allclose(got.lazy_plan[:], expected.plan, rtol=1e-8)
    np.testing.assert_allclose(got.lazy_plan[3:9, ::2], expected.plan[3:9, ::2], rtol=1e-8)
    np.testing.assert_allclose(got.lazy_plan[-1], expected.plan[-1:], rtol=1e-8)
    assert got.value == pytest.approx(expected.value, rel=1e-9)
    assert got.value_linear == pytest.approx(expected.value_linear, rel=1e-9)
    for ours, pots in zip((*got.marginals, got.marginal_a, got.marginal_b),
                          (*expected.marginals, expected.marginal_a, expected.marginal_b), strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, pots, rtol=1e-8)
    shift = got.potential_a[0] - expected.potential_a[0]
    np.testing.assert_allclose(got.potential_a - shift, expected.potential_a, atol=1e-8)
    np.testing.assert_allclose(got.potential_b + shift, expected.potential_b, atol=1e-8)
    assert got.log["result"].success
    assert "Converged" in got.status
    assert "value=" in repr(got)


@pytest.mark.parametrize("unbalanced", [0.7, (0.7, 2.0), (np.inf, 0.7), (0.7, np.inf), np.inf])
def test_relaxed_marginals_are_pots(unbalanced):
    expected = ot.solve(M, A, 1.5 * B if unbalanced != np.inf else B, reg=0.5, unbalanced=unbalanced, tol=1e-14,
                        max_iter=100_000)  # fmt: skip
    got = pot.solve(M, A, 1.5 * B if unbalanced != np.inf else B, reg=0.5, unbalanced=unbalanced, tol=1e-12)
    np.testing.assert_allclose(got.plan, expected.plan, rtol=1e-7)
    assert got.value_linear == pytest.approx((expected.plan * M).sum(), rel=1e-8)


def kl(p, q):
    return (p * np.log(p / q) - p + q).sum()


@pytest.mark.parametrize("reg_type", ["KL", "entropy"])
def test_the_value_with_relaxed_marginals_is_what_it_says(reg_type):
    got = pot.solve(M, A, B, reg=0.5, unbalanced=0.7, reg_type=reg_type, tol=1e-12)
    P = got.plan
    entropy = kl(P, A[:, None] * B) if reg_type == "KL" else (P * (np.log(P) - 1)).sum()
    paid = 0.7 * (kl(P.sum(1), A) + kl(P.sum(0), B))
    assert got.value == pytest.approx((P * M).sum() + 0.5 * entropy + paid, rel=1e-10)

    def worth(P):
        entropy = kl(P, A[:, None] * B) if reg_type == "KL" else (P * (np.log(P) - 1)).sum()
        return (P * M).sum() + 0.5 * entropy + 0.7 * (kl(P.sum(1), A) + kl(P.sum(0), B))

    rng = np.random.default_rng(0)
    assert all(worth(P * np.exp(1e-3 * rng.standard_normal(P.shape))) > got.value for _ in range(5))


def test_a_reference_measure_is_pots():
    c = np.random.default_rng(3).random(M.shape)
    expected = ot.solve(M, A, B, reg=0.5, unbalanced=0.7, c=c, tol=1e-14, max_iter=100_000)
    got = pot.solve(M, A, B, reg=0.5, unbalanced=0.7, c=c, tol=1e-12)
    np.testing.assert_allclose(got.plan, expected.plan, rtol=1e-7)


REFUSED = {
    "reg=None": {"reg": None},
    "reg=0": {"reg": 0},
    "reg_type='L2'": {"reg_type": "L2"},
    "unbalanced_type='TV'": {"unbalanced": 1.0, "unbalanced_type": "TV"},
    "plan_init": {"plan_init": M},
    "c is supported": {"c": M},
}


@pytest.mark.parametrize(("message", "arguments"), REFUSED.items(), ids=REFUSED)
def test_what_solve_cannot_do_is_refused_by_name(message, arguments):
    with pytest.raises(NotImplementedError, match=message):
        pot.solve(M, A, B, **{"reg": 1.0, **arguments})


def test_unknown_names_are_refused_by_solve():
    with pytest.raises(ValueError, match="Unknown method 'foo'"):
        pot.solve(M, A, B, reg=1.0, method="foo")
    with pytest.raises(ValueError, match="Unknown grad 'foo'"):
        pot.solve(M, A, B, reg=1.0, grad="foo")
    with pytest.raises(ValueError, match="unbalanced has 3 entries"):
        pot.solve(M, A, B, reg=1.0, unbalanced=[1, 2, 3])
    with pytest.warns(UserWarning, match="did not converge"):
        pot.solve(M, A, B, reg=0.01, max_iter=1)


def test_potentials_of_a_result_start_the_next_solve():
    first = pot.solve(M, A, B, reg=0.5)
    again = pot.solve(M, A, B, reg=0.5, potentials_init=first.potentials)
    assert again.log["niter"] < first.log["niter"]


# ---- solve_sample ---------------------------------------------------------------------------------------------------

X = np.random.default_rng(7).standard_normal((40, 3))
Y = np.random.default_rng(8).standard_normal((30, 3)) + 0.5


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", "cityblock"])
def test_points_give_what_pot_gives(metric, lazy):
    if lazy and metric == "cityblock":
        with pytest.raises(NotImplementedError, match="metric='cityblock' with lazy=True"):
            pot.solve_sample(X, Y, metric=metric, reg=0.5, lazy=True)
        return
    expected = ot.solve_sample(X, Y, A, B, metric=metric, reg=0.5, tol=1e-13, max_iter=100_000)
    got = pot.solve_sample(X, Y, A, B, metric=metric, reg=0.5, lazy=lazy, tol=1e-12)
    np.testing.assert_allclose(got.lazy_plan[:], expected.plan, rtol=1e-7)
    np.testing.assert_allclose(got.sparse_plan.toarray(), expected.plan, rtol=1e-7, atol=1e-20)
    assert (got.plan is None) == lazy
    assert got.value == pytest.approx(expected.value, rel=1e-9)
    assert got.value_linear == pytest.approx(expected.value_linear, rel=1e-9)
    np.testing.assert_allclose(got.marginal_a, A, rtol=1e-8)
    np.testing.assert_allclose(got.marginal_b, B, rtol=1e-8)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_points_on_any_device(metric, backend):
    x, y = (to_device(each[:11], backend) for each in (X, Y))
    plans = [pot.solve_sample(x, y, metric=metric, reg=0.5, lazy=lazy).lazy_plan[2:9] for lazy in (False, True)]
    assert type(plans[0]) is type(plans[1]) is type(x)
    expected = ot.solve_sample(X[:11], Y[:11], metric=metric, reg=0.5).plan[2:9]
    for plan in plans:
        np.testing.assert_allclose(to_host(plan), expected, rtol=1e-6)


def test_what_solve_sample_cannot_do_is_refused_by_name():
    for options, message in (({"debias": True}, "debias=True"), ({"scaler": "x"}, "scaler='x'"),
                             ({"lazy": True, "unbalanced": 1}, "lazy=True"), ({"reg": None}, "reg=None")):  # fmt: skip
        with pytest.raises(NotImplementedError, match=message):
            pot.solve_sample(X, Y, **{"reg": 1.0, **options})
    with pytest.raises(ValueError, match="Unknown method 'sliced'"):
        pot.solve_sample(X, Y, reg=1.0, method="sliced")


def test_a_lazy_plan_is_indexed_like_an_array():
    plan = pot.solve_sample(X, Y, reg=0.5, lazy=True).lazy_plan
    whole = plan[:]
    assert plan.shape == whole.shape == (40, 30)
    np.testing.assert_array_equal(plan[3:5, 4:], whole[3:5, 4:])
    np.testing.assert_array_equal(plan[-1], whole[-1:])
    np.testing.assert_array_equal(plan[0, -2], whole[:1, -2:-1])
    with pytest.raises(IndexError, match="3 indices"):
        plan[0, 0, 0]
    with pytest.raises(IndexError):
        plan[40]
    assert repr(plan) == "LazyPlan(shape=(40, 30))"


def test_the_examples_in_the_docstrings_run():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for function in (pot.sinkhorn, pot.sinkhorn2, pot.solve, pot.solve_sample):
        cases = finder.find(function, globs={})
        assert cases[0].examples
        for case in cases:
            runner.run(case)
    assert runner.failures == 0


@pytest.mark.parametrize(("change", "word"), [({"a": np.ones((2, 3))}, "weights"), ({"a": np.float64(1)}, "weights"),
                                              ({"M": np.ones((2, 3, 3))}, "M has shape")])  # fmt: skip
def test_shapes_that_make_no_problem_are_named(change, word):
    given = {"a": np.ones(3) / 3, "b": np.ones(3) / 3, "M": np.ones((3, 3))} | change
    with pytest.raises(ValueError, match=word):
        pot.sinkhorn(given["a"], given["b"], given["M"], 1.0)
