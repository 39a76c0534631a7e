"""The interior point method: to the optimum of programs of all kinds, by each way to solve its systems."""

import itertools
import math

import numpy as np
import pytest

import ntsolve
from ntsolve.dispatch import kernels_for
from ntsolve.fixedpoint.certificates import certify_primal
from ntsolve.fixedpoint.interior import Interior
from ntsolve.fixedpoint.kkt import errors_of
from ntsolve.fixedpoint.newtonsystem import newton_system
from ntsolve.fixedpoint.program import Program

from .programs import (
    SYSTEMS,
    assert_optimal,
    badly_scaled_program,
    programs_of_two_kinds,
    random_program,
    scaled_item,
    start,
    take_system,
    transport_program,
)


def interior(program):
    scaled = scaled_item(program)
    with kernels_for(c=scaled.c) as k:
        return Interior(scaled, newton_system(k, scaled), *start(scaled))


def solved(program, tol=1e-9):
    """(x, y) in the program's units."""
    method = interior(program)
    point = method.improve(tol, lambda: True)
    assert point.solved
    assert method.steps < 40
    return point.x * method.scaled.x_unit, point.y * method.scaled.y_unit


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_reaches_the_optimum_by_each_way_to_solve_a_system(monkeypatch, system):
    take_system(monkeypatch, system)
    for program in programs_of_two_kinds(8):
        assert_optimal(program, *solved(program))


def test_rows_of_all_kinds_and_badly_scaled():
    rng = np.random.default_rng(3)
    for _ in range(5):
        rescaled = badly_scaled_program(rng)
        assert errors_of(rescaled, *solved(rescaled)).meets(1e-8)


def test_what_is_passed_in_is_left_alone_and_the_answer_is_the_same_again():
    scaled = scaled_item(transport_program(6, np.random.default_rng(0)))
    x, y = start(scaled)
    kept = x.copy(), y.copy()
    with kernels_for(c=scaled.c) as k:
        first, second = (Interior(scaled, newton_system(k, scaled), x, y).improve(1e-9, lambda: True) for _ in "ab")
    assert np.array_equal(x, kept[0])
    assert np.array_equal(y, kept[1])
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.y, second.y)


def test_interrupted_it_goes_on_where_it_was():
    program = random_program(np.random.default_rng(5), 25, 30, singles=0.1)
    whole, parts = interior(program), interior(program)
    expected = whole.improve(1e-9, lambda: True)
    for allowed in itertools.count():
        asked = iter(range(allowed))
        point = parts.improve(1e-9, lambda asked=asked: next(asked, None) is not None)
        if point.solved:
            break
    assert allowed > 1
    assert parts.steps == whole.steps
    assert np.array_equal(point.x, expected.x)


def test_a_smaller_tolerance_is_gone_on_to():
    method = interior(transport_program(8, np.random.default_rng(1)))
    rough = method.improve(1e-2, lambda: True)
    steps = method.steps
    fine = method.improve(1e-9, lambda: True)
    assert rough.solved
    assert fine.solved
    assert fine.errors.meets(1e-9)
    assert 0 < steps < method.steps


def test_without_a_feasible_point_it_ends_and_runs_away_along_a_proof():
    rng = np.random.default_rng(2)
    A = rng.random((6, 8))
    b = A @ np.ones(8)
    A, b = np.vstack([A, A.sum(0)]), np.append(b, 0.5 * b.sum())
    program = Program.from_matrix(np.ones(8), A, b, b, np.zeros(8), np.full(8, np.inf))
    method = interior(program)
    point = method.improve(1e-9, lambda: True)
    assert method.over
    assert not point.solved
    assert certify_primal(program, method.y * method.scaled.y_unit) is not None


def test_without_any_bound_there_is_nothing_for_it_to_do():
    rng = np.random.default_rng(4)
    free = np.full(6, np.inf)
    program = Program.from_matrix(np.zeros(6), rng.random((4, 6)), np.ones(4), np.ones(4), -free, free)
    method = interior(program)
    method.improve(1e-9, lambda: True)
    assert method.over
    assert method.steps == 0


def test_numbers_that_overflow_end_it():
    program = Program.from_matrix(np.ones(2), np.ones((1, 2)), [1.0], [1.0], np.zeros(2), np.full(2, np.inf))
    scaled = scaled_item(program)
    with kernels_for(c=scaled.c) as k, np.errstate(all="ignore"):
        method = Interior(scaled, newton_system(k, scaled), np.zeros(2), np.full(1, math.nan))
        assert method.improve(1e-9, lambda: True) is None
    assert method.over


def test_linprog_calls_it_early_where_its_factors_are_cheap():
    """Degenerate, and slow for PDHG; iterations are those of PDHG."""
    program = transport_program(15, np.random.default_rng(8))
    given = {"A_eq": program.matrix(), "b_eq": program.row_upper, "tol": 1e-9}
    found = ntsolve.linprog(program.c, **given)
    assert found.success
    assert found.nit <= 512
    alone = ntsolve.linprog(program.c, **given, finisher=False, maxiter=512, on_failure="ignore")
    assert not alone.success
