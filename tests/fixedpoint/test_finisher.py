"""The finisher: from a rough point to the optimum of the program as passed in, by each way to solve its systems."""

import math
import time

import numpy as np
import pytest
import scipy.sparse as sp

from ntsolve.dispatch import kernels_for
from ntsolve.fixedpoint import finisher as finishing
from ntsolve.fixedpoint import newtonsystem
from ntsolve.fixedpoint.finisher import Finisher, balance
from ntsolve.fixedpoint.kkt import Errors, errors_of
from ntsolve.fixedpoint.program import Program
from ntsolve.fixedpoint.proximal import Proximal

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


def finish(program, tol=1e-9, attempts=3):
    """(x, y) in the program's units, and the Finisher."""
    scaled = scaled_item(program)
    finisher, point = Finisher(scaled, tol), None
    x, y = start(scaled)
    errors = scaled.errors(x, y)
    for _ in range(attempts):
        point = finisher.improve(x, y, 1.0, errors, math.inf, math.inf)
        if point is None or point.solved:
            break
        x, y, errors = point[:3]
    assert point is not None
    assert point.solved
    return point.x * scaled.x_unit, point.y * scaled.y_unit, finisher


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_reaches_the_optimum_by_each_way_to_solve_a_system(monkeypatch, system):
    take_system(monkeypatch, system)
    for program in programs_of_two_kinds(6):
        assert_optimal(program, *finish(program)[:2])


def test_badly_scaled_programs_are_finished_too():
    rescaled = badly_scaled_program(np.random.default_rng(3))
    x, y, _ = finish(rescaled)
    assert errors_of(rescaled, x, y).meets(1e-8)


def test_what_is_passed_in_is_left_alone_and_the_answer_is_new():
    program = transport_program(5, np.random.default_rng(0))
    scaled = scaled_item(program)
    x, y = start(scaled)
    kept = x.copy(), y.copy()
    point = Finisher(scaled, 1e-9).improve(x, y, 1.0, scaled.errors(x, y), math.inf, math.inf)
    assert np.array_equal(x, kept[0])
    assert np.array_equal(y, kept[1])
    assert not np.shares_memory(point.x, x)
    again = Finisher(scaled, 1e-9).improve(x, y, 1.0, scaled.errors(x, y), math.inf, math.inf)
    assert np.array_equal(point.x, again.x)
    assert np.array_equal(point.y, again.y)


def test_a_point_that_is_no_better_is_none():
    scaled = scaled_item(transport_program(5, np.random.default_rng(0)))
    finisher = Finisher(scaled, 0.0)  # nothing is good enough
    x, y = start(scaled)
    point = finisher.improve(x, y, 1.0, scaled.errors(x, y), math.inf, math.inf)
    assert not point.solved
    for _ in range(20):  # of rounding, too, some can be taken away
        better = finisher.improve(point.x, point.y, 1.0, point.errors, 0.0, 0.0)
        if better is None:
            break
        assert better.errors.kkt < point.errors.kkt
        point = better
    assert better is None


def test_it_ends_when_asked_to():
    scaled = scaled_item(random_program(np.random.default_rng(1), 60, 80, singles=0.0))
    finisher = Finisher(scaled, 1e-12)
    x, y = start(scaled)
    assert finisher.improve(x, y, 1.0, scaled.errors(x, y), math.inf, math.inf, stop=lambda: True) is None
    assert finisher.newton == 0


def test_a_small_problem_has_its_steps_whatever_the_clock_says(monkeypatch):
    scaled = scaled_item(transport_program(4, np.random.default_rng(5)))
    x, y = start(scaled)
    for small, least in ((10**9, finishing.SURE), (0, 1)):
        monkeypatch.setattr(finishing, "SMALL", small)
        finisher = Finisher(scaled, 0.0)
        finisher.improve(x, y, 1.0, scaled.errors(x, y), -1.0, -1.0)
        assert finisher.newton >= least
        assert finisher.newton <= least + 1


def test_the_next_attempt_goes_on_from_the_last_one():
    scaled = scaled_item(transport_program(12, np.random.default_rng(7)))
    x, y = start(scaled)
    whole, parts = Finisher(scaled, 1e-9), Finisher(scaled, 1e-9)
    assert whole.improve(x, y, 1.0, scaled.errors(x, y), math.inf, math.inf).solved
    errors, point = scaled.errors(x, y), None
    for _ in range(50):
        point = parts.improve(x, y, 1.0, errors, 0.0, 0.0)  # at least twenty steps each time
        if point is not None and point.solved:
            break
    assert point.solved
    assert parts.newton <= 3 * whole.newton + 2 * finishing.SURE


def test_a_factor_that_would_take_minutes_is_not_begun(monkeypatch):
    monkeypatch.setattr(newtonsystem, "FEW_ROWS", 0)
    monkeypatch.setattr(newtonsystem, "MOST_DENSE", 10)
    rng = np.random.default_rng(0)
    m = 400
    chain = sp.diags_array([1.0, 2.0], offsets=[0, 1], shape=(m, m))
    scattered = sp.random_array((m, m), density=0.01, rng=rng) + sp.eye_array(m)
    hub = sp.hstack([chain, np.ones((m, 1))])
    for A, limit, takes in ((chain, 1e5, True), (scattered, 1e5, False), (hub, 1e9, False)):
        monkeypatch.setattr(newtonsystem, "MOST_WORK", limit)
        monkeypatch.setattr(newtonsystem, "MOST_PRODUCTS", 1e5)
        n = A.shape[1]
        program = Program.from_matrix(np.ones(n), A, np.ones(m), np.ones(m), np.zeros(n), np.full(n, np.inf))
        scaled = scaled_item(program)
        with kernels_for(c=program.c) as k:
            assert (newtonsystem.newton_system(k, scaled) is not None) == takes
        if not takes:
            x, y = start(scaled)
            began = time.perf_counter()
            assert Finisher(scaled, 1e-9).improve(x, y, 1.0, scaled.errors(x, y), 9.0, 9.0) is None
            assert time.perf_counter() - began < 9.0


def test_a_step_solves_its_equation():
    """g(y) = 0 of the step, in numbers of its own; and the multipliers have the signs that the sides allow."""
    program = random_program(np.random.default_rng(11), 15, 20, singles=0.2)
    p = scaled_item(program)
    A = sp.csr_array((p.data, p.indices, p.indptr), shape=(program.m, program.n))
    rng = np.random.default_rng(0)
    x0, y0 = np.clip(rng.standard_normal(program.n), p.lower, p.upper), np.zeros(program.m)
    with kernels_for(c=program.c) as k:
        path = Proximal(k, p, newtonsystem.newton_system(k, p))
        path.begin(x0, y0)
        s0 = np.clip(A @ x0, p.row_lower, p.row_upper)
        T, weight = 10.0, 0.7
        assert path.step(T, weight, 100, lambda: True, far=1e-9) < 100
    tau, sigma, y = T / weight, T * weight, path.y
    x = np.clip(x0 - tau * (p.c - A.T @ y), p.lower, p.upper)
    s = np.clip(s0 - tau * y, p.row_lower, p.row_upper)
    np.testing.assert_allclose((y - y0) / sigma + A @ x - s, 0, atol=1e-9)
    np.testing.assert_allclose(path.x, x, atol=1e-8)
    assert not ((y > 0) & np.isinf(p.row_lower)).any()
    assert not ((y < 0) & np.isinf(p.row_upper)).any()


def test_the_weight_follows_the_errors_in_bounds():
    def errors(primal, dual):
        return Errors(primal, dual, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    assert balance(errors(1.0, 1.0)) == balance(errors(1.0, 0.3)) == 1.0
    assert balance(errors(9.0, 1.0)) == pytest.approx(3.0)
    assert balance(errors(1.0, 9.0)) == pytest.approx(1 / 3)
    assert balance(errors(1.0, 0.0)) == 4.0
    assert balance(errors(0.0, 1.0)) == 0.25
