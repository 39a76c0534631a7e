"""Entropic transport: plans that meet their marginals, and are the solution, on every problem that has one."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import Status
from ntsolve.transport.level import Level

from . import oracle, problems

UGLY, INFEASIBLE = problems.ugly(), problems.infeasible()
METHODS = ("sns", "sinkhorn", "sns-paper")


def example(n=30, m=40, seed=0):
    rng = np.random.default_rng(seed)
    return problems.squared(*problems.points(n, m, seed)), problems.weights(rng, n), problems.weights(rng, m)


# ---- every problem --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UGLY)
def test_an_awkward_problem_is_solved(name):
    C, a, b, reg = UGLY[name]
    tol = 1e-9 * a.sum()
    result = ntsolve.solve_ot(C, a, b, reg=reg, tol=tol)
    assert result.success
    assert result.residual <= tol
    P = result.plan
    assert np.isfinite(P).all()
    assert P.min() >= 0
    assert oracle.marginal_error(P, a, b) <= 1.5 * tol
    assert (P[a == 0] == 0).all()
    assert (P[:, b == 0] == 0).all()
    assert (P[np.isinf(C)] == 0).all()


@pytest.mark.parametrize("name", UGLY)
def test_success_is_never_claimed_without_the_marginals(name):
    """Whatever it is stopped by."""
    C, a, b, reg = UGLY[name]
    for maxiter in (0, 1, 5, 12):
        result = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-9 * a.sum(), maxiter=maxiter, on_failure="ignore")
        error = oracle.marginal_error(result.plan, a, b)
        assert result.success == (result.residual <= result.tolerance)
        assert abs(error - result.residual) <= 1e-6 * a.sum() + 1e-6 * error
        assert error > 0


@pytest.mark.parametrize("reg", [1.0, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("method", METHODS)
def test_the_plan_is_the_solution(reg, method):
    C, a, b = example()
    if method == "sinkhorn":
        reg = max(reg, 1e-2)
    want = oracle.plan(C, *oracle.solve(C, a, b, reg), reg)
    result = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-11, method=method)
    assert result.success
    assert abs(result.plan - want).sum() < 1e-8
    assert result.value == pytest.approx(oracle.value(want, C, reg), rel=1e-9)
    assert result.value_linear == pytest.approx(oracle.linear_value(want, C), rel=1e-8)


def test_the_potentials_give_the_plan():
    C, a, b = example()
    result = ntsolve.solve_ot(C, a, b, reg=1e-3)
    f, g = result.potentials
    assert abs(oracle.plan(C, f, g, 1e-3) - result.plan).sum() < 1e-12
    assert a @ f == pytest.approx(b @ g)
    assert np.array_equal(result.x, np.r_[f, g])


def test_uniform_weights_are_the_default():
    C, _, b = example()
    n, m = C.shape
    for a in (None, [], np.zeros(0)):
        assert np.allclose(ntsolve.solve_ot(C, a, None, reg=1e-2).plan.sum(1), 1 / n)
        P = ntsolve.solve_ot(C, a, 3 * b, reg=1e-2).plan
        assert np.allclose(P.sum(1), 3 / n)
        assert np.allclose(P.sum(0), 3 * b)
    assert np.allclose(ntsolve.solve_ot(C, reg=1e-2).plan.sum(0), 1 / m)


@pytest.mark.parametrize("order", ["F", "strided", "reversed"])
def test_the_layout_of_the_cost_does_not_matter(order):
    C, a, b = example()
    other = {
        "F": np.asfortranarray(C),
        "strided": np.repeat(np.repeat(C, 2, 0), 3, 1)[::2, ::3],
        "reversed": C[::-1, ::-1].copy()[::-1, ::-1],
    }[order]
    want = ntsolve.solve_ot(C, a, b, reg=1e-2).plan
    assert ntsolve.solve_ot(other, a, b, reg=1e-2).plan.tobytes() == want.tobytes()


def test_integer_costs_and_weights_are_taken():
    C = np.arange(12).reshape(3, 4)
    result = ntsolve.solve_ot(C, np.array([4, 4, 4]), np.array([3, 3, 3, 3]), reg=1)
    assert result.success
    assert result.plan.dtype == np.float64
    assert np.allclose(result.plan.sum(1), 4)


def test_large_problems_with_sorted_columns_are_solved():
    C = problems.squared(*problems.points(150, 1100))
    result = ntsolve.solve_ot(C, reg=1e-3)
    assert result.success
    assert oracle.marginal_error(result.plan, 1 / 150, 1 / 1100) < 1.1e-9


# ---- values and bounds ----------------------------------------------------------------------------------------------


def test_the_bounds_hold_the_unregularised_cost():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(5)
    for trial in range(200):
        n, m = rng.integers(2, 40, 2)
        C = rng.random((n, m)) if trial % 2 else problems.squared(*problems.points(n, m, trial))
        a, b = problems.weights(rng, n), problems.weights(rng, m)
        maxiter = None if trial % 3 else int(rng.integers(0, 10))
        result = ntsolve.solve_ot(C, a, b, reg=10 ** rng.uniform(-4, 0), maxiter=maxiter, on_failure="ignore")
        exact = ot.emd2(a, b, C)
        assert result.lower_bound <= exact + 1e-12
        assert exact - 1e-12 <= result.upper_bound


@pytest.mark.parametrize("name", [name for name in UGLY if "forbidden" not in name and "permutation" not in name])
def test_the_gap_closes_at_convergence(name):
    C, a, b, reg = UGLY[name]
    result = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-9 * a.sum())
    assert 0 <= result.gap <= 1e-7 * np.ptp(C) * a.sum() + 1e-12 * abs(result.value)


def test_the_gap_is_that_of_the_oracle():
    C, a, b = example()
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, maxiter=2, on_failure="ignore")
    f, g = result.potentials
    P = result.plan
    dual = a @ f + b @ g - 1e-2 * P.sum()
    keep = np.minimum(1, b / P.sum(0))
    Q = P * keep
    Q = Q + np.outer(a - Q.sum(1), b - Q.sum(0)) / (a - Q.sum(1)).sum()
    assert oracle.marginal_error(Q, a, b) < 1e-14
    assert result.gap == pytest.approx(oracle.value(Q, C, 1e-2) - dual, rel=1e-6)
    assert result.upper_bound == pytest.approx(oracle.linear_value(Q, C), rel=1e-9)
    assert result.gap > 1e-6


def test_a_small_reg_is_close_to_the_unregularised_cost():
    ot = pytest.importorskip("ot")
    C, a, b = example()
    result = ntsolve.solve_ot(C, a, b, reg=1e-5)
    assert result.value_linear == pytest.approx(ot.emd2(a, b, C), rel=1e-3)
    assert result.upper_bound - result.lower_bound < 1e-3


# ---- forms of the plan ----------------------------------------------------------------------------------------------


def test_the_sparse_plan_is_the_plan_above_the_threshold():
    for name in ("not square, reg 0.001", "zero weights", "forbidden pairs"):
        C, a, b, reg = UGLY[name]
        result = ntsolve.solve_ot(C, a, b, reg=reg)
        S = result.sparse_plan(1e-5)
        assert sp.issparse(S)
        assert S.format == "csr"
        assert S.shape == C.shape
        assert np.array_equal(S.toarray(), np.where(result.plan > 1e-5, result.plan, 0))
        assert abs(result.sparse_plan() - result.plan).max() <= 1e-12
    with pytest.raises(ValueError, match="threshold"):
        result.sparse_plan(-1)


def test_the_plan_is_made_when_asked_for_and_kept():
    C, a, b = example()
    result = ntsolve.solve_ot(C, a, b, reg=1e-2)
    assert "plan" not in vars(result)
    assert result.plan is result.plan


def test_verify_sums_up_the_plan_itself():
    for name in ("not square, reg 0.001", "zero weights", "forbidden pairs", "mass of 1e6"):
        C, a, b, reg = UGLY[name]
        result = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-9 * a.sum())
        assert result.verify(C, a, b) == pytest.approx(oracle.marginal_error(result.plan, a, b), rel=1e-3, abs=1e-14)
        assert result.marginal_error == result.residual
    assert result.verify(C + 0.1 * reg, a, b) == pytest.approx(2 * (1 - np.exp(-0.1)) * a.sum(), rel=1e-6)
    with pytest.raises(ValueError, match="C"):
        result.verify(C[:-1], a, b)


# ---- the start ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_warm_start_saves_steps(method):
    C, a, b = example()
    reg = 2e-2 if method == "sinkhorn" else 1e-3
    cold = ntsolve.solve_ot(C, a, b, reg=reg, method=method)
    warm = ntsolve.solve_ot(C * 1.001, a, b, reg=reg, method=method, potentials_init=cold.potentials)
    assert warm.success
    assert warm.nit < 0.7 * cold.nit
    again = ntsolve.solve_ot(C, a, b, reg=reg, method=method, potentials_init=cold.potentials)
    assert again.success
    assert again.nit <= 2


def test_a_bad_start_does_no_harm():
    C, a, b = example()
    want = ntsolve.solve_ot(C, a, b, reg=1e-3).plan
    rng = np.random.default_rng(0)
    for size in (1e-3, 1.0, 1e3):
        start = size * rng.standard_normal(C.shape[0]), size * rng.standard_normal(C.shape[1])
        result = ntsolve.solve_ot(C, a, b, reg=1e-3, potentials_init=start)
        assert result.success
        assert abs(result.plan - want).sum() < 1e-7


def test_a_start_from_weights_with_zeros_is_taken():
    C, a, b, reg = UGLY["zero weights"]
    first = ntsolve.solve_ot(C, a, b, reg=reg)
    assert np.isneginf(first.potentials[0]).any()
    full = ntsolve.solve_ot(C, None, None, reg=reg, potentials_init=first.potentials)
    assert full.success


@pytest.mark.parametrize("bad", [3, np.zeros(5), (np.zeros(30),), (np.zeros(30), np.zeros(41)), (None, np.zeros(40))])
def test_a_start_that_is_none_is_refused(bad):
    C, a, b = example()
    with pytest.raises((TypeError, ValueError), match="potentials_init"):
        ntsolve.solve_ot(C, a, b, reg=1e-2, potentials_init=bad)


# ---- precision ------------------------------------------------------------------------------------------------------


def test_single_precision_is_solved_to_what_it_can_hold():
    C, a, b = (v.astype(np.float32) for v in example())
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, tol=1e-5)
    assert result.success
    assert result.plan.dtype == np.float32
    assert {p.dtype.name for p in result.potentials} == {"float32"}
    assert oracle.marginal_error(result.plan, a.astype(float), b.astype(float)) <= 1e-5


def test_a_tolerance_out_of_reach_is_said_to_be():
    C, a, b = example()
    with pytest.warns(ntsolve.PrecisionWarning, match="rounding"):
        result = ntsolve.solve_ot(C, a, b, reg=1e-2, tol=1e-18)
    assert result.status == Status.STALLED
    assert not result.success
    assert result.residual < 1e-13
    with pytest.warns(ntsolve.PrecisionWarning):
        result = ntsolve.solve_ot(C.astype(np.float32), a, b, reg=1e-2, tol=1e-9)
    assert 1e-9 < result.residual < 1e-6


@pytest.mark.parametrize("reg", [1e-1, 1e-3])
def test_the_default_tolerance_is_within_reach_of_the_dtype(reg):
    """Of all that is passed in: weights in float32 may differ in their sums."""
    C, a, b = example()
    for single in ("C", "a", "Cab", ""):
        given = [v.astype(np.float32) if name in single else v for name, v in zip("Cab", (C, a, b), strict=True)]
        result = ntsolve.solve_ot(*given, reg=reg)
        assert result.success
        assert result.tolerance == pytest.approx(1e-6 if single else 1e-9, rel=0.2)  # sums that differ by rounding
        assert oracle.marginal_error(result.plan.astype(float), a, b) <= (2e-6 if single else 1.5e-9)
    several = ntsolve.solve_ot([C, C[:10].astype(np.float32)], reg=reg)
    assert several.success.all()


@pytest.mark.parametrize("mass", [1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("tau", [None, 0.1])
def test_the_default_tolerance_is_relative_to_the_mass(mass, tau):
    C, a, b = example()
    whole = ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=tau)
    part = ntsolve.solve_ot([C, C], mass * a, mass * b, reg=1e-2, tau_a=tau)
    assert part.success.all()
    np.testing.assert_allclose(part.tolerance, 1e-9 * mass * max(a.sum(), b.sum()), rtol=1e-5)
    if tau is None:  # else the scale is a part of the problem: P (log P - 1)
        np.testing.assert_allclose(part.value_linear / mass, whole.value_linear, rtol=1e-7)


def test_sums_that_differ_by_rounding_are_named_where_they_stand_in_the_way():
    C, a, b = example()
    single = a.astype(np.float32)
    assert 0 < abs(single.sum(dtype=float) - b.sum()) < 1e-6
    for weights in (single, single.astype(float)):
        result = ntsolve.solve_ot(C, weights, b, reg=1e-2, tol=1e-10, on_failure="ignore")
        assert not result.success
        assert "sums of a and b differ" in result.message
        assert ntsolve.solve_ot(C, weights, b, reg=1e-2).success
    with pytest.raises(ValueError, match="sums"):
        ntsolve.solve_ot(C, a, (1 + 1e-5) * b, reg=1e-2)


def test_what_is_computed_on_demand_is_an_item_too():
    C, a, b = example()
    result = ntsolve.solve_ot(C, a, b, reg=1e-2)
    assert result["value"] == result.value
    assert result["plan"] is result.plan
    assert "value_linear" in repr(result)
    with pytest.raises(KeyError):
        result["verify"]
    batch = ntsolve.solve_ot([C, C[:10]], reg=1e-2)
    assert batch[1] is batch.results[1]
    assert batch[-1].plan.shape == (10, 40)
    assert batch["value"].shape == (2,)


@pytest.mark.parametrize("reg", [1e-9, 1e-12, 1e-15])
def test_a_reg_below_rounding_is_no_endless_loop(reg):
    C, a, b = example(20, 20)
    result = ntsolve.solve_ot(C, a, b, reg=reg, on_failure="ignore", time_limit=20)
    assert result.status in (Status.STALLED, Status.CONVERGED)
    assert result.success == (result.residual <= 1e-9)
    assert np.isfinite(result.plan).all()


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INFEASIBLE)
def test_forbidden_pairs_that_leave_no_plan_are_refused(name):
    C, a, b = INFEASIBLE[name]
    with pytest.raises(ValueError, match=r"C .*forbid"):
        ntsolve.solve_ot(C, a, b, reg=1e-2)


def test_a_row_without_mass_may_be_forbidden_everything():
    C, a, b = example()
    C[3], a[3] = np.inf, 0
    assert ntsolve.solve_ot(C, a / a.sum(), b, reg=1e-2).success


def test_unequal_sums_are_refused_with_both():
    C, a, b = example()
    with pytest.raises(ValueError, match=r"a sums to .*2\.0.*b to .*1\.0"):
        ntsolve.solve_ot(C, np.full(30, 2 / 30), np.full(40, 1 / 40), reg=1e-2)
    with pytest.raises(ValueError, match="sums"):
        ntsolve.solve_ot(C, a, b * (1 + 1e-6), reg=1e-2)
    assert ntsolve.solve_ot(C, a, b * (1 + 1e-13), reg=1e-2).success


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"C": np.ones(3)}, "C"),
        ({"C": np.ones((0, 3))}, "C"),
        ({"C": np.array(1.0)}, "C"),
        ({"C": np.full((30, 40), np.nan)}, "C"),
        ({"C": np.full((30, 40), -np.inf)}, "C"),
        ({"C": np.ones((30, 40), complex)}, "C"),
        ({"C": sp.csr_array(np.ones((30, 40)))}, "C"),
        ({"a": np.ones(29)}, "a"),
        ({"a": np.full(30, -1.0)}, "a"),
        ({"a": np.zeros(30)}, "a"),
        ({"a": np.full(30, np.nan)}, "a"),
        ({"b": np.full(40, np.inf)}, "b"),
        ({"b": np.ones((40, 1))}, "b"),
        ({"reg": 0}, "reg"),
        ({"reg": -1.0}, "reg"),
        ({"reg": np.nan}, "reg"),
        ({"reg": np.inf}, "reg"),
        ({"reg": "small"}, "reg"),
        ({"tol": -1.0}, "tol"),
        ({"method": "emd"}, "method"),
        ({"tau_a": 0.0}, "tau_a"),
        ({"tau_b": -1.0}, "tau_b"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_makes_no_sense_is_refused(change, name, check):
    C, a, b = example()
    arguments = {"C": C, "a": a, "b": b, "reg": 1e-2, "check": check} | change
    if name in "ab" and not check and not np.isfinite(np.asarray(arguments[name])).all():
        pytest.skip("not looked for")
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        ntsolve.solve_ot(arguments.pop("C"), arguments.pop("a"), arguments.pop("b"), **arguments)


@pytest.mark.parametrize("method", METHODS)
def test_who_looks_on_changes_nothing(method):
    C, a, b = np.random.default_rng(0).random((80, 90)), problems.masses(80), problems.masses(90)
    reg = 1e-3 if method == "sns" else 1e-2
    alone = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-8, method=method)
    watched = ntsolve.solve_ot(C, a, b, reg=reg, tol=1e-8, method=method, callback=lambda state: None)
    assert watched.nit == alone.nit
    np.testing.assert_array_equal(watched.x, alone.x)


def test_a_newton_step_halves_the_error_or_lowers_the_objective(monkeypatch):
    search, steps = Level._search, []

    def watched(level, x):
        error, phi = level.error, level._objective(level.at)
        length = search(level, x)
        if length:
            steps.append(level.error < 0.5 * error or level._objective(level.trial) <= phi + 1e-12 * max(1, abs(phi)))
        return length

    monkeypatch.setattr(Level, "_search", watched)
    rng = np.random.default_rng(0)
    for seed in range(3):
        a, b = (problems.masses(60, seed) ** 6 for _ in range(2))
        assert ntsolve.solve_ot(rng.random((60, 60)), a / a.sum(), b / b.sum(), reg=3e-4, tol=1e-10).success
    assert len(steps) > 20
    assert all(steps)


def test_nothing_warns_but_the_solver():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for C, a, b, reg in UGLY.values():
            ntsolve.solve_ot(C, a, b, reg=reg, maxiter=3)
    assert {w.category for w in seen} <= {ntsolve.ConvergenceWarning, ntsolve.PrecisionWarning}
