"""Presolve: what is left has the same optimum, whose solution and multipliers come back as those of the whole."""

import numpy as np
import pytest

import ntsolve
from ntsolve import Status
from ntsolve.fixedpoint.certificates import certify_dual, certify_primal
from ntsolve.fixedpoint.kkt import errors_of
from ntsolve.fixedpoint.presolve import presolve
from ntsolve.fixedpoint.program import Program

from .programs import INFEASIBLE, OPTIMAL, highs, highs_pair, random_program

INF = np.inf


def made(c, A, row_lower, row_upper, lower=0.0, upper=INF):
    n, m = len(c), len(A)
    sides = [np.broadcast_to(v, m) for v in (row_lower, row_upper)] + [np.broadcast_to(v, n) for v in (lower, upper)]
    return Program.from_matrix(c, np.array(A, float).reshape(m, n), *sides)


def test_a_solution_of_what_is_left_is_restored_to_one_of_the_whole():
    reduced = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        program = random_program(rng, *rng.integers(2, 16, 2))
        before, objective = highs(program)
        assert before == OPTIMAL
        left = presolve(program)
        assert left.status is None
        reduced += left.program.m < program.m
        x, y = highs_pair(left.program) if left.program.n else (np.zeros(0), np.zeros(left.program.m))
        x, y = left.restore(x, y)
        errors = errors_of(program, x, y)
        assert errors.meets(1e-9), (seed, errors)
        assert errors.primal_objective == pytest.approx(objective, abs=1e-9 * (1 + abs(objective)))
    assert reduced > 60


def test_contradictions_are_proved_and_nothing_else_is():
    proved = 0
    for seed in range(80):
        rng = np.random.default_rng(1000 + seed)
        program = random_program(rng, *rng.integers(2, 10, 2), singles=0.7)
        row = rng.integers(program.m)
        program.row_lower[row] = program.row_upper[row] = rng.integers(-3, 4)
        left = presolve(program)
        if left.status is None:
            continue
        assert left.status == Status.PRIMAL_INFEASIBLE
        assert highs(program)[0] == INFEASIBLE
        assert certify_primal(program, left.ray) is not None
        proved += 1
    assert proved > 10


def test_what_rounding_leaves_of_a_row_is_no_contradiction():
    """A row whose only variable is fixed, at a value that the row meets but for rounding; nothing bounds the rest."""
    missed = 0
    for seed in range(30):
        a, value, unit = np.random.default_rng(seed).uniform(0.1, 1, 3)
        entries, side = [[a * unit, 0.0]], a * (value * unit)
        missed += entries[0][0] * value != side
        bounds = np.array([[value, value], [0.0, INF]])
        assert presolve(made([0.0, -1.0], entries, side, side, *bounds.T)).status == Status.DUAL_INFEASIBLE
        found = ntsolve.linprog([0.0, -1.0], A_eq=entries, b_eq=[side], bounds=bounds, on_failure="ignore")
        assert found.status == Status.DUAL_INFEASIBLE
    assert missed > 5


def test_a_chain_of_rows_of_one_entry_is_followed_to_its_end():
    n = 12
    A = np.eye(n) - 0.5 * np.eye(n, k=-1)
    program = made(np.arange(1.0, n + 1), A, 1.0, 1.0, -INF, INF)
    left = presolve(program)
    assert left.program.m == left.program.n == 0
    x, y = left.restore(np.zeros(0), np.zeros(0))
    np.testing.assert_allclose(A @ x, 1)
    np.testing.assert_allclose(A.T @ y, program.c, rtol=1e-12)


def test_the_tightest_of_several_rows_takes_the_multiplier():
    program = made([1.0], [[1.0], [2.0], [-1.0]], [1.0, 6.0, -INF], [INF, INF, -2.0])
    x, y = presolve(program).restore(np.array([]), np.array([]))
    assert (x, list(y)) == (3.0, [0.0, 0.5, 0.0])


def test_bounds_and_rows_that_contradict_each_other():
    assert presolve(made([1.0], [[1.0]], 0.0, 1.0, 2.0, 1.0)).status == Status.PRIMAL_INFEASIBLE
    program = made([1.0, 1.0], [[2.0, 0.0], [1.0, 1.0]], [8.0, -INF], INF, 0.0, [3.0, INF])
    left = presolve(program)
    assert left.status == Status.PRIMAL_INFEASIBLE
    assert certify_primal(program, left.ray)[1] <= 1e-9
    assert presolve(made([1.0], [[0.0]], 1.0, 2.0)).status == Status.PRIMAL_INFEASIBLE


def test_a_column_without_rows_and_without_a_bound_is_a_direction_once_all_else_is_feasible():
    program = made([-1.0, 1.0], [[0.0, 1.0]], 1.0, 5.0)
    left = presolve(program)
    assert left.status == Status.DUAL_INFEASIBLE
    assert certify_dual(program, left.ray) is not None
    undecided = presolve(made([-1.0, 1.0, 1.0], [[0.0, 1.0, 1.0], [0.0, 1.0, -1.0]], [1.0, 0.0], [1.0, 0.5]))
    assert undecided.status is None
    assert undecided.program.n == 3


def test_a_proof_for_what_is_left_becomes_one_for_the_whole():
    """x_0 is a number by its row; the other two rows contradict each other."""
    program = made([0.0] * 3, [[2.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]], [8.0, -INF, 2.0], [8.0, 5.0, 3.0])
    left = presolve(program)
    assert left.program.m == 2
    ray = left.restore_multipliers(np.array([-1.0, 1.0]))
    assert certify_primal(program, ray) is not None


def test_the_start_is_reduced_with_the_program():
    program = made([1.0, 1.0], [[1.0, 0.0], [1.0, 1.0]], 1.0, [1.0, INF])
    left = presolve(program)
    x, y = left.reduce(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert (x.size, y.size) == (left.program.n, left.program.m)
    assert left.reduce(None, None) == (None, None)


def test_the_program_passed_in_is_left_alone():
    program = random_program(np.random.default_rng(5))
    before = [v.copy() for v in (program.c, program.lower, program.upper, program.row_lower, program.row_upper)]
    presolve(program)
    after = (program.c, program.lower, program.upper, program.row_lower, program.row_upper)
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))
