"""Contradictions that show without an iteration: found, proved in the program as it is, and only where they are."""

import numpy as np
import pytest
import scipy.sparse as sp

from ntsolve import Status
from ntsolve.fixedpoint import presolve as presolving
from ntsolve.fixedpoint.certificates import certify_primal
from ntsolve.fixedpoint.linprog import solve_program
from ntsolve.fixedpoint.program import Program
from ntsolve.fixedpoint.propagation import contradictions

from .programs import INFEASIBLE, highs, random_program

INF = np.inf


def made(A, row_lower, row_upper, lower=0.0, upper=1.0):
    A = np.array(A, float)
    m, n = A.shape
    sides = [np.broadcast_to(v, size) for v, size in ((row_lower, m), (row_upper, m), (lower, n), (upper, n))]
    return Program.from_matrix(np.zeros(n), A, *sides)


def proofs(program):
    return [found for y in contradictions(program) if (found := certify_primal(program, y)) is not None]


@pytest.mark.parametrize(
    "program",
    [
        made([[1, 1, 1]], 3.5, INF),  # out of reach
        made([[1, -2, 1]], -INF, -2.5),
        made([[-1, 1, 0], [1, 1, 0]], [-INF, 3.0], [0.0, INF], 0.0, [1.0, INF, 1.0]),  # x_1 <= x_0 <= 1
        made([[1, -1, 0], [0, 1, -1], [-1, 0, 1]], 1, INF, 0.0, [INF, INF, 5.0]),  # each larger than the next, by 1
        made([[1, 2, -1], [-2, -4, 2]], [1.0, -1.0], INF, -INF, INF),  # multiples
        made([[1, 2, -1], [1, 2, -1]], [-INF, 3.0], [2.0, INF], -INF, INF),
    ],
)
def test_rows_and_bounds_that_exclude_each_other_are_proved_to(program):
    assert highs(program)[0] == INFEASIBLE
    assert proofs(program)
    result = solve_program(program, presolve=False, on_failure="ignore")
    assert result.status == Status.PRIMAL_INFEASIBLE
    assert certify_primal(program, result.ray)[1] <= 1e-9


def test_presolve_sees_rows_out_of_reach(monkeypatch):
    monkeypatch.setattr(presolving, "WORTH", 0)
    for program in (made([[1, 1, 1]], 3.5, INF), made([[1, 2, -1], [-2, -4, 2]], [1.0, -1.0], INF, -INF, INF)):
        left = presolving.presolve(program)
        assert left.status == Status.PRIMAL_INFEASIBLE
        assert certify_primal(program, left.ray)[1] <= 1e-9
    assert presolving.presolve(made([[1, 1, 1]], 3.0, INF)).status is None


def test_nothing_is_proved_of_programs_with_a_feasible_point():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        program = random_program(rng, *rng.integers(2, 20, 2), density=0.4)
        assert not proofs(program), seed


def test_proofs_are_found_of_programs_that_are_tightened_until_they_break():
    """Where a row is asked for more than the bounds of few other rows allow, in random programs."""
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        program = random_program(rng, 10, 12, density=0.3)
        row = int(np.diff(program.indptr).argmax())
        program.row_lower[row] += 6.0
        program.row_upper[row] = max(program.row_upper[row], program.row_lower[row])
        infeasible = highs(program)[0] == INFEASIBLE
        proved = bool(proofs(program))
        assert infeasible or not proved
        found += proved
    assert found >= 10


def test_a_program_without_bounds_is_left_alone():
    A = sp.random_array((30, 40), density=0.3, rng=np.random.default_rng(0))
    free = np.full(40, INF)
    program = Program.from_matrix(np.zeros(40), A, np.zeros(30), np.ones(30), -free, free)
    assert not list(contradictions(program))
    assert not list(contradictions(made(np.zeros((2, 3)), 0, 1)))
