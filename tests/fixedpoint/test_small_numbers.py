"""Numbers that are small, large, infinite or rounding: what is meant by them is done, or refused by name."""

import itertools
import time

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import LinearConstraint

import ntsolve
from ntsolve import Status
from ntsolve.fixedpoint.newtonsystem import newton_system, seconds_to_begin
from ntsolve.fixedpoint.program import Program
from ntsolve.fixedpoint.scaled import scale
from ntsolve.kernels import cpu

TOL = 1e-6
INF = np.inf


def solve(*args, **options):
    return ntsolve.linprog(*args, on_failure="ignore", **options)


@pytest.mark.parametrize("presolve", [True, False])
@pytest.mark.parametrize("entry", [1e-4, 1e-6, 1e-8])
def test_a_row_of_small_entries_is_met_as_one_of_large_entries(entry, presolve):
    for found in (
        solve([1, 1], [[-entry, -entry]], [-entry], presolve=presolve),
        solve([1, 1], np.full((2, 1, 2), -entry), np.full((2, 1), -entry), presolve=presolve),
    ):
        assert np.all(found.success)
        np.testing.assert_allclose(found.fun, 1.0, rtol=1e-4)
    beside_large = [1, 1, 0], [[-entry, -entry, 0]], [-entry], [[0, 0, 1]], [1e8]
    assert solve(*beside_large).fun == pytest.approx(1.0, rel=1e-4)
    found = solve(*beside_large, presolve=False, maxiter=5000)
    assert not found.success or found.fun == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("entry", [1e-4, 1e-6, 1e-8])
def test_a_column_of_small_entries_counts_as_one_of_large_entries(entry):
    found = solve([-entry, 0.0], [[entry, entry]], [entry], presolve=False)
    assert found.success
    assert found.fun == pytest.approx(-entry, rel=1e-3)


@pytest.mark.parametrize("side", [1e-3, 1e-5])
def test_a_small_side_is_met_relative_to_its_own_size(side):
    found = solve([1, 1], [[-1, -2]], [-side])
    assert found.success
    assert found.fun == pytest.approx(side / 2, rel=2e-3)


def test_a_side_that_is_rounding_asks_for_no_more_than_zero_does():
    for side in (0.0, 1e-17, -1e-17):
        assert solve([1.0, 1.0], A_eq=[[1.0, -1.0]], b_eq=[side], bounds=(None, 1), tol=1e-8).status in (
            Status.DUAL_INFEASIBLE, Status.CONVERGED)  # fmt: skip
        assert solve([1.0, -2.0], A_eq=[[1.0, -1.0]], b_eq=[side], bounds=(0, 1), tol=1e-8).success


@pytest.mark.parametrize("e", [3e-8, 1.5e-8, 1e-8])
def test_a_solution_far_out_is_not_proved_away(e):
    found = solve([1, 0], A_eq=[[1, -1], [1, -1 - e]], b_eq=[0, -1], maxiter=4000)
    assert found.status != Status.PRIMAL_INFEASIBLE
    found = solve([-1, 0], [[1, -1], [-(1 - e), 1]], [0, 1], maxiter=4000)
    assert found.status != Status.DUAL_INFEASIBLE


def test_sides_and_bounds_that_cross_by_rounding_are_equal():
    high, low = 0.3, 0.1 + 0.2
    assert low > high
    for options in ({}, {"presolve": False}):
        for found in (
            solve([1, 1], constraints=([[1, 1]], [low], [high]), **options),
            solve([1, 1], A_eq=[[1, 1]], b_eq=[1.0], bounds=[(low, high), (0, 1)], **options),
        ):
            assert found.success
        assert found.x[0] == pytest.approx(0.3)
        crossed = solve([1, 1], constraints=([[1, 1]], [low + 1e-12], [high]), **options)
        assert crossed.status == Status.PRIMAL_INFEASIBLE
        crossed = solve([1, 1], [[1, 1]], [1.0], bounds=[(low + 1e-12, high), (0, 1)], **options)
        assert crossed.status == Status.PRIMAL_INFEASIBLE


@pytest.mark.parametrize("presolve", [True, False])
@pytest.mark.parametrize("start", [{"x0": [1e300, 0]}, {"x0": [1e30, 0]}, {"y0": [-1e300, 0]}])
def test_a_start_that_is_far_off_is_left_out(start, presolve):
    found = solve([-1, -2], [[1, 1], [1, 3]], [4, 6], **start, presolve=presolve, maxiter=5000)
    assert found.success
    assert found.fun == pytest.approx(-5)


def test_a_batch_of_no_programs_has_no_answers():
    found = solve(np.zeros((0, 2)), [[1, 1]], [1])
    assert (found.x.shape, found.fun.shape, found.y.shape) == ((0, 2), (0,), (0, 1))


@pytest.mark.parametrize(("name", "sides"), [("lb contains inf", ([INF], [INF])), ("ub contains -inf", (-INF, [-INF]))])
def test_a_side_that_nothing_meets_is_refused_by_name(name, sides):
    with pytest.raises(ValueError, match=rf"constraints\[0\]\.{name}"):
        solve([1, 1], constraints=[([[1, 1]], *sides)])


def test_three_constraints_are_not_taken_for_one():
    rows = tuple(LinearConstraint([row], -INF, side) for row, side in (([1, 1], 4), ([1, 3], 6), ([1, 0], 9)))
    assert solve([-1, -2], constraints=rows).fun == solve([-1, -2], constraints=list(rows)).fun


@pytest.mark.parametrize("name", ["finisher", "presolve"])
def test_a_switch_is_true_or_false(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        solve([1], **{name: "no"})


def test_a_system_that_needs_longer_than_is_left_is_not_set_up():
    rng = np.random.default_rng(0)
    A = sp.csr_array(sp.random_array((700, 1400), density=0.01, rng=rng))
    scaled = scale(cpu, Program.from_matrix(np.ones(1400), A, *(A @ np.ones(1400),) * 2, np.zeros(1400), np.ones(1400)))
    assert newton_system(cpu, scaled.item(cpu, 0), 1e-3) is None
    assert newton_system(cpu, scaled.item(cpu, 0), 1e3) is not None


@pytest.mark.parametrize("options", [{}, {"presolve": False}, {"finisher": False}])
def test_the_answer_to_a_small_program_depends_on_no_clock(monkeypatch, options):
    rng = np.random.default_rng(3)
    A = rng.random((8, 12))
    program = (-rng.random(12), A, A.sum(1))
    expected = [solve([-1, -2], [[1, 1], [1, 3]], [4, 6], **options), solve(*program, tol=1e-9, **options)]
    for tick in (0.0, 5.0):  # seconds from one look at the clock to the next
        ticks = itertools.count()
        with monkeypatch.context() as m:
            m.setattr(time, "perf_counter", lambda ticks=ticks, tick=tick: tick * next(ticks))
            found = [solve([-1, -2], [[1, 1], [1, 3]], [4, 6], **options), solve(*program, tol=1e-9, **options)]
        for one, other in zip(found, expected, strict=True):
            assert one.success
            assert one.nit == other.nit
            assert np.array_equal(one.x, other.x)
            assert np.array_equal(one.y, other.y)


def test_without_a_tolerance_it_ends_where_rounding_does():
    found = solve([1.18203209], [[-0.86353218], [0.88772213]], [-2.00197353, 2.05805441], tol=0.0)
    assert found.status in (Status.STALLED, Status.CONVERGED)
    assert found.nit < 1000
    assert found.violation < 1e-12


def test_few_rows_need_no_beginning_but_time_for_their_entries():
    few, many = (
        scale(cpu, Program.from_matrix(np.ones(n), np.ones((20, n)), np.ones(20), np.full(20, INF), np.zeros(n),
                                       np.ones(n)))
        for n in (30, 3000)
    )  # fmt: skip
    assert seconds_to_begin(few) == seconds_to_begin(many) == 0.0
    assert newton_system(cpu, many.item(cpu, 0)).seconds > 10 * newton_system(cpu, few.item(cpu, 0)).seconds
