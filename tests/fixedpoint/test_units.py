"""A program whose numbers are small is solved as well as one whose numbers are not."""

import numpy as np
import pytest
import scipy.optimize

import ntsolve
from ntsolve import Status

SCALES = [(1e-6, 1.0), (1.0, 1e-6), (1e-6, 1e-6), (1e-9, 1e-3), (1e-150, 1e-150)]


def program(seed, m=30, n=50):
    """(c, A, b) of min c'x, A x = b, x >= 0 that has an answer."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n)) * (rng.random((m, n)) < 0.3)
    x = np.maximum(rng.standard_normal(n), 0)
    c = A.T @ rng.standard_normal(m) + np.where(x > 0, 0, rng.random(n))
    return c, A, A @ x


@pytest.mark.parametrize("finisher", [True, False])
@pytest.mark.parametrize(("cost", "size"), SCALES)
def test_small_numbers_leave_the_accuracy_what_it_is(cost, size, finisher):
    for seed in range(3):
        c, A, b = program(seed)
        exact = scipy.optimize.linprog(c, A_eq=A, b_eq=b).fun
        found = ntsolve.linprog(cost * c, A_eq=A, b_eq=size * b, tol=1e-6, finisher=finisher)
        assert found.success
        assert found.fun / cost / size == pytest.approx(exact, rel=1e-5, abs=1e-5)
        assert found.dual_objective / cost / size == pytest.approx(exact, rel=1e-5, abs=1e-5)
        assert abs(A @ found.x / size - b).max() < 1e-4
        np.testing.assert_allclose(found.con, size * b - A @ found.x, atol=1e-12 * size)
        z = cost * c - A.T @ found.eqlin.marginals
        np.testing.assert_allclose(found.lower.marginals, np.maximum(z, 0), atol=1e-12 * cost)
        assert found.verify(cost * c, A_eq=A, b_eq=size * b) <= 1e-6


@pytest.mark.parametrize("entry", [1e4, 1e8])
def test_entries_that_are_large_beside_the_sides_leave_the_accuracy_what_it_is(entry):
    """x is then small, whatever the size of the sides."""
    for seed in range(3):
        c, A, b = program(seed)
        exact = scipy.optimize.linprog(c, A_eq=A, b_eq=b).fun
        found = ntsolve.linprog(c, A_eq=entry * A, b_eq=b, tol=1e-6)
        assert found.success
        assert found.fun * entry == pytest.approx(exact, rel=1e-5, abs=1e-5)
        empty = {"A_ub": np.zeros((1, 50)), "b_ub": [3.0]}  # a row without entries says nothing about x
        found = ntsolve.linprog(c, A_eq=entry * A, b_eq=b, **empty, tol=1e-6)
        assert found.fun * entry == pytest.approx(exact, rel=1e-5, abs=1e-5)


def test_no_rounding_puts_an_answer_outside_its_bounds():
    far = 1e12 * np.array([1.0, -1.3, -5.0, -1.1])
    rows = {"A_ub": 1e-12 * np.array([[3.0, 0.0, 1.0, 1.0]]), "b_ub": [0.9]}
    for bounds in (np.stack([far, np.full(4, np.inf)], 1), np.stack([far, 2 * abs(far)], 1)):
        found = ntsolve.linprog(np.ones(4), **rows, bounds=bounds, tol=1e-8)
        assert found.success
        assert (found.x >= far).all()
        np.testing.assert_allclose(found.x, far, rtol=1e-15)


def test_two_sides_bounds_and_a_start_are_in_the_same_units():
    c, A, b = program(5)
    size, cost, seen = 2.0**-20, 2.0**-17, []

    def problem(cost, size):
        box, rows = np.stack([np.full(50, -size), np.full(50, 2 * size)], 1), (A, size * (b - 0.5), size * (b + 0.5))
        return {"c": cost * c, "bounds": box, "constraints": rows, "tol": 1e-10}

    whole = ntsolve.linprog(**problem(1.0, 1.0))
    small = ntsolve.linprog(**problem(cost, size), callback=lambda state: seen.append(state.x))
    assert whole.success
    np.testing.assert_allclose(small.x / size, whole.x, atol=1e-7)
    np.testing.assert_allclose(small.y / cost, whole.y, atol=1e-7)
    np.testing.assert_allclose(small.rows.residual / size, whole.rows.residual, atol=1e-7)
    np.testing.assert_allclose(small.upper.residual / size, whole.upper.residual, atol=1e-7)
    assert all(abs(x).max() <= 3 * size for x in seen)
    again = ntsolve.linprog(**problem(cost, size), x0=small.x, y0=small.y)
    assert again.nit == 0
    assert again.success


def test_each_program_of_a_batch_has_units_of_its_own():
    c, A, b = program(7)
    scales = np.array([1.0, 1e-5, 1e-8])[:, None]
    found = ntsolve.linprog(scales * c, A_eq=A, b_eq=scales[::-1] * b)
    exact = scipy.optimize.linprog(c, A_eq=A, b_eq=b).fun
    assert found.success.all()
    np.testing.assert_allclose(found.fun / (scales * scales[::-1]).ravel(), exact, rtol=1e-5)
    assert (found.verify(scales * c, A_eq=A, b_eq=scales[::-1] * b) <= 1e-6).all()


@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_proofs_hold_in_small_units(scale):
    infeasible = ntsolve.linprog([1.0], A_eq=[[1.0]], b_eq=[-scale], on_failure="ignore")
    assert infeasible.status == Status.PRIMAL_INFEASIBLE
    assert infeasible.ray[0] * -scale > 0 >= infeasible.ray[0]
    unbounded = ntsolve.linprog([-scale, 0.0], A_ub=[[1.0, -1.0]], b_ub=[scale], on_failure="ignore")
    assert unbounded.status == Status.DUAL_INFEASIBLE
    assert unbounded.ray[0] > 0


def test_single_precision_stays_single():
    c, A, b = (v.astype(np.float32) for v in program(1))
    found = ntsolve.linprog(1e-4 * c, A_eq=A, b_eq=1e-4 * b, tol=1e-4, callback=lambda s: s.x.dtype != np.float32)
    assert found.status == Status.CONVERGED
    assert found.x.dtype == found.y.dtype == found.con.dtype == np.float32
