"""What the bench of minimize judges by is right: its residual, and the problems that come in several forms."""

import numpy as np
import pytest

from bench import _optimize_peers as peers
from bench import _optimize_problems as problems
from bench import _optimize_set as of_set

from .problems import load_all


def test_the_residual_of_a_solution_is_that_of_the_collection():
    for name in ("HS7", "HS39", "BT11", "GENHS28"):
        problem = load_all()[name]
        for x in (problem.x0, problem.x_star):
            found = peers.kkt_residual(problem.grad(x), problem.constraint(x), problem.jac(x))
            assert found == pytest.approx(problem.residual(x), rel=1e-10, abs=1e-12)


def test_the_residual_with_operators_is_that_with_arrays():
    plate = problems.Plate(9)
    x = np.random.default_rng(0).standard_normal(plate.start.size)
    g, c, J = plate.gradient(x), 0 * plate.equation(x), plate.jacobian(x)
    dense = peers.kkt_residual(g, c, J.toarray())
    assert dense > 1e-3
    assert peers.kkt_residual(g, c, plate.jacobian_operator(x), plate.normal_inverse) == pytest.approx(dense, rel=1e-8)


def test_a_plate_without_a_matrix_is_the_same_plate():
    with_matrix, without = problems.Plate(8), problems.Plate(8, matrix_free=True)
    x, v = np.random.default_rng(1).standard_normal((2, with_matrix.start.size))
    u = v[: with_matrix.points]
    np.testing.assert_array_equal(with_matrix.start, without.start)
    np.testing.assert_array_equal(with_matrix.wish, without.wish)
    np.testing.assert_allclose(without.equation(x), with_matrix.equation(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(without.jacobian(x) @ v, with_matrix.jacobian(x) @ v, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(without.jacobian(x).rmatvec(u), with_matrix.jacobian(x).T @ u, rtol=1e-12, atol=1e-12)


def test_a_state_solve_is_an_inverse():
    plate = problems.Plate(8)
    x = np.random.default_rng(2).standard_normal(plate.start.size)
    r = np.random.default_rng(3).standard_normal(plate.points)
    state = plate.jacobian(x)[:, : plate.points]
    solve = plate.state_solve(x)
    np.testing.assert_allclose(state @ solve.matvec(r), r, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(state.T @ solve.rmatvec(r), r, rtol=1e-9, atol=1e-9)


def test_a_problem_alone_is_its_row_of_the_batch():
    batch = problems.Quartics(4)
    one, x = batch.alone(2), batch.start
    np.testing.assert_allclose(one.objective(x[2], *one.of_objective), batch.objective(x, *batch.of_objective)[2])
    np.testing.assert_allclose(one.violation(x[2], *one.of_constraint), batch.violation(x, *batch.of_constraint)[2])
    np.testing.assert_allclose(one.jacobian(x[2], *one.of_constraint), batch.jacobian(x, *batch.of_constraint)[2])
    assert one.residual(one.by_trust_constr()[0]) <= 1e-7


def test_slsqp_is_stopped_where_it_is_done():
    problem = load_all()["HS39"]
    done = lambda x: problem.residual(x) <= 1e-8
    x, steps = peers.slsqp(problem.fun, problem.x0, problem.grad, problem.constraint, problem.jac, done)
    assert done(x)
    assert 1 < steps < peers.MOST_ITERATIONS


def test_rows_are_counted():
    class Ran:
        factorizations, nit = 3, 2

    assert of_set.rows_touched(Ran, 10) == 3 * 50 + 5 * of_set.SOLVES * 10
