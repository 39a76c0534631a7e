"""Proofs: found where there are some, true in exact arithmetic, and none for programs that have an optimum."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from ntsolve import Status
from ntsolve.dispatch import kernels_for
from ntsolve.fixedpoint.certificates import certify_dual, certify_primal
from ntsolve.fixedpoint.infeasible import RaySearch
from ntsolve.fixedpoint.program import Program
from ntsolve.fixedpoint.scaled import scale

from .programs import INFEASIBLE, UNBOUNDED, highs, random_program

INF = np.inf


def scaled_item(program):
    with kernels_for(c=program.c) as k:
        return scale(k, program).item(k, 0)


def search(program, seconds=60.0, newton=True):
    return RaySearch(program, scaled_item(program), newton=newton).run(seconds)


def made(c, A, row_lower, row_upper, lower=0.0, upper=INF):
    A = np.array(A)
    sides = [np.broadcast_to(v, A.shape[0]) for v in (row_lower, row_upper)]
    return Program.from_matrix(c, A, *sides, *(np.broadcast_to(v, A.shape[1]) for v in (lower, upper)))


def with_row(program, row, low, high):
    A = sp.vstack([program.matrix(), sp.csr_array(row[None])])
    sides = np.append(program.row_lower, low), np.append(program.row_upper, high)
    return Program.from_matrix(program.c, A, *sides, program.lower, program.upper)


def infeasible_program(rng):
    """A row that is a sum of others, on the wrong side of what they and the bounds allow."""
    program = random_program(rng, 12, 15, singles=0.1)
    A = program.matrix()
    y = np.round(2 * rng.standard_normal(program.m))
    y = np.where(np.isinf(program.row_lower), np.minimum(y, 0), y)
    y = np.where(np.isinf(program.row_upper), np.maximum(y, 0), y)
    z = np.where(np.isinf(program.lower), 0.0, rng.integers(0, 2, program.n))
    side = np.where(y > 0, program.row_lower, program.row_upper)
    least = y[y != 0] @ side[y != 0] + z[z != 0] @ program.lower[z != 0]
    return with_row(program, A.T @ y + z, -INF, least - 1.0)


def exact_primal(program, y):
    """(the smallest value of y'Ax - (its side) over the bounds, the largest violation), in rational numbers."""
    y = [Fraction(float(v)) for v in y]
    z = [Fraction(0)] * program.n
    for i, v in enumerate(y):
        for t in range(program.indptr[i], program.indptr[i + 1]):
            z[program.indices[t]] -= v * Fraction(float(program.data[t]))
    worth, worst = Fraction(0), Fraction(0)
    sides = [*zip(y, program.row_lower, program.row_upper, strict=True),
             *zip(z, program.lower, program.upper, strict=True)]  # fmt: skip
    for v, low, high in sides:
        side = low if v > 0 else high
        if v and np.isfinite(side):
            worth += v * Fraction(float(side))
        else:
            worst = max(worst, abs(v))
    return worth, worst


@pytest.mark.parametrize("newton", [True, False])
def test_programs_without_a_feasible_point_are_proved_to_have_none(newton):
    for seed in range(25):
        program = infeasible_program(np.random.default_rng(seed))
        assert highs(program)[0] == INFEASIBLE
        status, ray = search(program, newton=newton)
        assert status == Status.PRIMAL_INFEASIBLE
        assert abs(ray).max() == 1
        worth, worst = exact_primal(program, ray)
        assert worth > 0
        assert worst <= 1e-6 * worth


def unbounded_program(rng):
    """A feasible program with a direction in which nothing stops the objective."""
    program = random_program(rng, 10, 14, singles=0.0, fixed=0.0)
    A = program.matrix().toarray()
    d = np.where(np.isinf(program.upper), 1.0, np.where(np.isinf(program.lower), -1.0, 0.0))
    d *= rng.integers(0, 2, program.n)
    free = np.flatnonzero(d)
    if not free.size:
        return unbounded_program(rng)
    x = np.clip(0.0, program.lower, program.upper)
    row_lower, row_upper = program.row_lower.copy(), program.row_upper.copy()
    row_upper[(A @ d > 0)] = INF
    row_lower[(A @ d < 0)] = -INF
    row_lower, row_upper = np.minimum(row_lower, A @ x), np.maximum(row_upper, A @ x)
    c = program.c - (program.c @ d + 1.0) / (d @ d) * d
    return Program.from_matrix(c, A, row_lower, row_upper, program.lower, program.upper)


@pytest.mark.parametrize("newton", [True, False])
def test_programs_without_a_lower_bound_have_a_direction(newton):
    for seed in range(20):
        program = unbounded_program(np.random.default_rng(seed))
        assert highs(program)[0] == UNBOUNDED
        status, x = search(program, newton=newton)
        assert status == Status.DUAL_INFEASIBLE
        assert program.c @ x < 0
        activity = program.matrix() @ x
        small = 1e-6 * -(program.c @ x)
        assert (x >= np.where(np.isfinite(program.lower), 0, -INF)).all()
        assert (x <= np.where(np.isfinite(program.upper), 0, INF)).all()
        assert (activity >= np.where(np.isfinite(program.row_lower), -small, -INF)).all()
        assert (activity <= np.where(np.isfinite(program.row_upper), small, INF)).all()


@pytest.mark.parametrize("newton", [True, False])
def test_nothing_is_proved_of_programs_that_have_an_optimum(newton):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        program = random_program(rng, *rng.integers(2, 20, 2))
        program.c[:] *= 10.0 ** rng.integers(-4, 5)
        search = RaySearch(program, scaled_item(program), newton=newton)
        noise = [(rng.standard_normal(program.n), rng.standard_normal(program.m)) for _ in range(3)]
        assert search.run(60.0, noise) is None
        assert search.over


@pytest.mark.parametrize("newton", [True, False])
def test_a_direction_is_no_proof_where_there_is_no_feasible_point(newton):
    program = made([-1.0, 0.0], [[0.0, 1.0], [0.0, 1.0]], [1.0, -INF], [INF, 0.0])
    rays = RaySearch(program, scaled_item(program), newton=newton)
    status, _ = rays.run(60.0, [(np.array([1.0, 0.0]), np.zeros(2))])
    assert status == Status.PRIMAL_INFEASIBLE


def test_directions_passed_in_are_tried_first():
    program = made([1.0], [[1.0], [1.0]], [2.0, -INF], [INF, 1.0])
    found = RaySearch(program, scaled_item(program)).run(0.0, [(np.zeros(1), np.array([3.0, -3.0]))])
    assert found[0] == Status.PRIMAL_INFEASIBLE
    np.testing.assert_array_equal(found[1], [1.0, -1.0])


def test_the_search_ends_when_asked_to_and_goes_on_later():
    program = infeasible_program(np.random.default_rng(3))
    rays = RaySearch(program, scaled_item(program))
    assert rays.run(60.0, stop=lambda: True) is None
    assert rays.run(0.0) is None
    assert not rays.over
    assert rays.run(60.0)[0] == Status.PRIMAL_INFEASIBLE


def test_a_search_in_pieces_finds_what_one_in_one_go_finds():
    """It goes on where it was stopped, even within a step."""

    class Halts:
        """Says stop after a few questions."""

        def __init__(self, questions):
            self.left = questions

        def __call__(self):
            self.left -= 1
            return self.left < 0

    for program, wanted in ((infeasible_program(np.random.default_rng(8)), Status.PRIMAL_INFEASIBLE),
                            (unbounded_program(np.random.default_rng(8)), Status.DUAL_INFEASIBLE)):  # fmt: skip
        whole = RaySearch(program, scaled_item(program)).run(60.0)
        parts, found = RaySearch(program, scaled_item(program)), None
        for _ in range(1000):
            found = parts.run(60.0, stop=Halts(3))
            if found is not None:
                break
        assert found[0] == whole[0] == wanted
        np.testing.assert_allclose(found[1], whole[1], rtol=1e-6, atol=1e-9)


def test_a_proof_by_rounding_is_none():
    far = made([0.0, 0.0], [[1.0, 1e-7]], 1.0, INF, [0.0, -INF], [0.0, INF])
    assert certify_primal(far, np.ones(1)) is None  # x = (0, 1e7) is feasible
    # x = w = 1e17 is feasible; 0.1 + 0.2 - 0.3 is not zero, and times a bound that far it would seem to pay
    paid = made([0.0, 0.0], [[0.1, -0.1], [0.2, -0.2], [0.3, -0.3]], [-INF, -INF, 0.0], [0.0, 0.0, INF], [1e17, -INF])
    assert certify_primal(paid, np.array([-1.0, -1.0, 1.0])) is None
    cancelled = made([0.0], [[1.0], [1.0]], [1e9, -INF], [INF, 1e9 * (1 - 1e-15)], -INF)
    assert certify_primal(cancelled, np.array([1.0, -1.0])) is None


@pytest.mark.parametrize(("a", "b"), [(1e-12, 1.0), (1.0, 2e9), (1e-9, 2.0), (1e9, 1e20), (1e-20, 1e-5)])
def test_far_is_meant_in_the_units_of_the_problem(a, b):
    """a x >= b has solutions, if only large ones."""
    assert certify_primal(made([0.0], [[a]], b, INF, -INF), np.ones(1)) is None
    assert certify_primal(made([0.0], [[a]], b, INF, 0.0), np.ones(1)) is None
    assert certify_dual(made([-b], [[a]], -INF, 0.0, -INF), np.ones(1)) is None
    assert certify_primal(made([0.0], [[a]], b, INF, 0.0, 0.9 * b / a), np.ones(1)) is not None


def test_a_proof_does_not_depend_on_its_length_or_on_wrong_signs():
    program = made([1.0], [[1.0], [1.0], [1.0]], [2.0, -INF, 0.0], [INF, 1.0, INF])
    for size in (1e-150, 1.0, 1e150):
        y, ratio = certify_primal(program, size * np.array([1.0, -1.0, -1e-3]))
        np.testing.assert_array_equal(y, [1.0, -1.0, 0.0])
        assert ratio == 0
    for broken in (np.zeros(3), np.full(3, np.nan), np.full(3, INF), -np.ones(3)):
        assert certify_primal(program, broken) is None


def test_small_entries_may_be_noise():
    program = made([-1.0, 0.0], [[1.0, -1.0], [0.0, 1.0]], 0.0, [INF, 1.0])
    x, ratio = certify_dual(program, np.array([5.0, 1e-5]))
    np.testing.assert_array_equal(x, [1.0, 0.0])
    assert ratio == 0
    assert certify_dual(program, np.array([1.0, 1.0])) is None


@pytest.mark.slow
def test_nothing_is_proved_of_many_programs_that_have_an_optimum():
    for seed in range(500):
        rng = np.random.default_rng(10_000 + seed)
        program = random_program(rng, *rng.integers(2, 40, 2), density=0.2)
        assert search(program) is None
