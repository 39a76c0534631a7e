"""Linear programs of which each rank has rows, against HiGHS and against one process."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog as scipy_linprog

import ntsolve
from ntsolve import Status
from ntsolve.errors import RankError
from ntsolve.fixedpoint import rowsolve
from ntsolve.fixedpoint.program import Program

from ..backends import BACKENDS, to_device, to_host
from ..contract.linprog import program
from ..fixedpoint.programs import highs, random_program
from .team import ends, together

QUIET = {"on_failure": "ignore"}


def solve(p, comm, cuts, **options):
    """`linprog` of this rank's rows, from one cut to the next."""
    mine = slice(cuts[comm.rank], cuts[comm.rank + 1])
    rows = p.matrix()[mine], p.row_lower[mine], p.row_upper[mine]
    y0 = options.pop("y0", None)
    if y0 is not None:
        options["y0"] = y0[mine]
    bounds = np.stack([p.lower, p.upper], -1)
    return ntsolve.linprog(p.c, bounds=bounds, constraints=rows, comm=comm, **QUIET | options)


def over(p, cuts, **options):
    return together(len(cuts) - 1, lambda comm: solve(p, comm, cuts, **options))


def alone(p, **options):
    rows, bounds = (p.matrix(), p.row_lower, p.row_upper), np.stack([p.lower, p.upper], -1)
    return ntsolve.linprog(p.c, bounds=bounds, constraints=rows, **QUIET | options)


def measured_alone(p, found):
    """The residual of the answer put together, as one process computes it."""
    x, y = found[0].x, np.concatenate([each.y for each in found])
    stopped = alone(p, x0=x, y0=y, maxiter=0, presolve=False)
    np.testing.assert_allclose(stopped.x, x)
    return stopped.residual


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_the_answer_is_that_of_highs_however_the_rows_are_cut(size, seed):
    rng = np.random.default_rng([size, seed])
    m = int(rng.integers(1, 40))
    p = random_program(rng, m, int(rng.integers(2, 40)))
    cuts = [0, *np.sort(rng.integers(0, m + 1, size - 1)), m]  # some have no rows
    found = over(p, cuts, tol=1e-8)
    status, value = highs(p)
    assert status == 0
    for each in found:
        assert each.success
        assert each.fun + p.offset == pytest.approx(value, rel=1e-6, abs=1e-6)
        assert each.x.tobytes() == found[0].x.tobytes()
        assert (each.residual, each.nit, each.dual_objective) == (
            found[0].residual, found[0].nit, found[0].dual_objective)  # fmt: skip
    assert measured_alone(p, found) <= 1.01e-8


def test_small_numbers_are_in_units_that_all_ranks_share():
    """The largest side is on one rank alone."""
    p = random_program(np.random.default_rng(5), 25, 20)
    size, cost = 2.0**-24, 2.0**-21
    sides = {name: size * getattr(p, name) for name in ("lower", "upper", "row_lower", "row_upper")}
    small = dataclasses.replace(p, c=cost * p.c, **sides)
    cuts = [0, 11, 11, 25]

    def body(comm):
        found, mine = solve(small, comm, cuts, tol=1e-8), slice(cuts[comm.rank], cuts[comm.rank + 1])
        rows = small.matrix()[mine], small.row_lower[mine], small.row_upper[mine]
        bounds = np.stack([small.lower, small.upper], -1)
        return found, found.verify(small.c, bounds=bounds, constraints=rows, comm=comm)

    _, value = highs(p)
    for found, residual in together(3, body):
        assert found.success
        assert found.fun / size / cost + p.offset == pytest.approx(value, rel=1e-6, abs=1e-6)
        assert residual == pytest.approx(found.residual, rel=1e-6, abs=1e-12)
        assert residual <= 1e-8


@pytest.mark.parametrize("gathered", [True, False])
def test_the_iteration_is_that_of_one_process(monkeypatch, gathered):
    """With and without a first rank that may see all rows, as long as the iteration alone gets there."""
    monkeypatch.setattr(rowsolve, "GATHERED", rowsolve.GATHERED if gathered else 0)
    p = random_program(np.random.default_rng(5), 25, 20)
    options = {"finisher": False, "tol": 1e-5}
    found, serial = over(p, [0, 11, 11, 25], **options), alone(p, presolve=False, **options)
    assert serial.success
    for each in found:
        assert each.success
        assert each.nit == serial.nit
        np.testing.assert_allclose(each.history[::64], serial.history[::64], rtol=1e-6)  # where restarts are decided
    np.testing.assert_allclose(found[0].x, serial.x, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(np.concatenate([each.y for each in found]), serial.y, rtol=1e-6, atol=1e-8)


def test_rows_of_all_kinds_with_their_marginals_are_local():
    rng = np.random.default_rng(8)
    n = 14
    A, E, R = (rng.standard_normal((m, n)) for m in (7, 4, 5))
    x = rng.uniform(0.2, 0.8, n)
    c, b, e = rng.standard_normal(n), A @ x + 0.05, E @ x
    low, high = R @ x - 0.1, R @ x + 0.1
    reference = scipy_linprog(c, np.vstack([A, R, -R]), np.concatenate([b, high, -low]), E, e, bounds=(0, 1))

    cuts = (slice(0, 5), slice(0, 0), slice(3, 5)), (slice(5, 7), slice(0, 4), slice(0, 3))

    def run(comm):
        ub, eq, two = cuts[comm.rank]
        return ntsolve.linprog(c, A[ub], b[ub], E[eq] if comm.rank else None, e[eq] if comm.rank else None, (0, 1),
                               constraints=(R[two], low[two], high[two]), tol=1e-9, comm=comm)  # fmt: skip

    def run_and_verify(comm):
        result = run(comm)
        ub, eq, two = cuts[comm.rank]
        rows = R[two], low[two], high[two]
        again = result.verify(c, A[ub], b[ub], E[eq], e[eq], (0, 1), constraints=rows, comm=comm)
        assert again == result.residual
        return result

    first, second = together(2, run_and_verify)
    assert first.fun == pytest.approx(reference.fun, rel=1e-7)
    marginals = np.concatenate([first.ineqlin.marginals, second.ineqlin.marginals])
    np.testing.assert_allclose(marginals, reference.ineqlin.marginals[:7], atol=1e-6)
    np.testing.assert_allclose(second.eqlin.marginals, reference.eqlin.marginals, atol=1e-6)
    np.testing.assert_allclose(second.con, 0, atol=1e-6)
    np.testing.assert_allclose(first.slack, b[:5] - A[:5] @ first.x, atol=1e-12)
    assert first.con.size == 0
    assert first.rows.residual.shape == (2, 2)
    both = np.concatenate([second.rows.marginals, first.rows.marginals])
    np.testing.assert_allclose(both, reference.ineqlin.marginals[7:12] - reference.ineqlin.marginals[12:], atol=1e-6)
    for name in ("lower", "upper"):
        np.testing.assert_allclose(getattr(first, name).marginals, getattr(reference, name).marginals, atol=1e-6)


def infeasible(rng):
    """Three rows that ask for less than a fourth one, their sum, asks for."""
    A = rng.standard_normal((10, 8))
    A[9] = A[2] + A[5] + A[8]
    low, high = np.full(10, -np.inf), A @ rng.uniform(0, 1, 8) + 1
    low[9], high[9] = high[[2, 5, 8]].sum() + 0.5, np.inf
    return Program.from_matrix(np.ones(8), sp.csr_array(A), low, high, np.zeros(8), np.full(8, np.inf))


def unbounded(rng):
    A, d = rng.standard_normal((6, 9)), rng.uniform(0.5, 1, 9)
    A -= np.outer(A @ d, d) / (d @ d)
    low, high = np.full(6, -np.inf), np.ones(6)
    return Program.from_matrix(-d, sp.csr_array(A), low, high, np.zeros(9), np.full(9, np.inf))


@pytest.mark.parametrize("gathered", [True, False])
def test_a_proof_of_infeasibility_has_a_part_on_each_rank(monkeypatch, gathered):
    monkeypatch.setattr(rowsolve, "GATHERED", rowsolve.GATHERED if gathered else 0)
    p = infeasible(np.random.default_rng(2))
    found = over(p, [0, 4, 4, 10])
    assert {each.status for each in found} == {Status.PRIMAL_INFEASIBLE}
    y = np.concatenate([each.ray for each in found])
    z = -(p.matrix().T @ y)
    assert np.all(z <= 1e-6)  # x >= 0 has no upper bound
    assert y @ np.where(y == 0, 0, np.where(y > 0, p.row_lower, p.row_upper)) > 1e-3


def test_a_direction_without_a_bound_is_the_same_for_all():
    p = unbounded(np.random.default_rng(3))
    found = over(p, [0, 2, 6])
    assert {each.status for each in found} == {Status.DUAL_INFEASIBLE}
    assert found[0].ray.tobytes() == found[1].ray.tobytes()
    d = found[0].ray
    assert p.c @ d < 0
    assert np.all(d >= 0)
    assert np.all(p.matrix() @ d <= 1e-6 * -(p.c @ d))


def test_sides_that_contradict_each_other_on_one_rank_are_everyones():
    p = random_program(np.random.default_rng(4), 9, 6)
    p.row_lower[7], p.row_upper[7] = 2.0, 1.0
    found = over(p, [0, 3, 6, 9])
    assert {each.status for each in found} == {Status.PRIMAL_INFEASIBLE}
    assert [np.flatnonzero(each.ray).tolist() for each in found] == [[], [], [1]]


def test_a_start_near_the_solution_is_taken_and_one_far_off_is_left_out():
    p = random_program(np.random.default_rng(6), 30, 25)
    solution = alone(p, tol=1e-9, presolve=False)
    assert solution.success
    warm = over(p, [0, 9, 30], x0=solution.x, y0=solution.y)
    assert warm[0].nit == 0
    assert warm[0].success
    cold, off = over(p, [0, 9, 30]), over(p, [0, 9, 30], x0=solution.x * 1e9 + 1e9)
    assert off[0].nit == cold[0].nit > 0


def test_arguments_that_differ_are_named():
    p = random_program(np.random.default_rng(7), 12, 10)
    cases = {
        "c": lambda comm: {"c": p.c + 1e-12 * comm.rank},
        "bounds": lambda comm: {"bounds": (0, 1 + comm.rank)},
        "tol": lambda comm: {"tol": 1e-6 * (1 + comm.rank)},
        "x0": lambda comm: {"x0": np.zeros(10)} if comm.rank else {},
        "maxiter": lambda comm: {"maxiter": 5 + comm.rank},
    }
    for name, options in cases.items():

        def run(comm, options=options):
            given = {"c": p.c, "bounds": (0, 1), **options(comm)}
            return ntsolve.linprog(given.pop("c"), np.eye(10), np.ones(10), comm=comm, **given, **QUIET)

        for error in ends(2, run):
            assert isinstance(error, ValueError), name
            assert str(error).startswith(f"{name} must be the same on every rank")
    for error in ends(2, lambda comm: ntsolve.linprog(np.ones((2, 3)), np.eye(3), np.ones(3), comm=comm)):
        assert isinstance(error, ValueError)
        assert "a batch" in str(error)
    for error in ends(2, lambda comm: ntsolve.linprog(np.ones(3 + comm.rank), comm=comm)):
        assert isinstance(error, ValueError)
        assert str(error).startswith("c must be")


def test_what_fails_on_one_rank_ends_all():
    p = random_program(np.random.default_rng(9), 12, 10)

    def bad_rows(comm):
        b = np.ones(10)
        b[3] = np.nan if comm.rank == 1 else 1.0
        return ntsolve.linprog(p.c, np.eye(10), b, comm=comm)

    found = ends(3, bad_rows)
    assert isinstance(found[1], ValueError)
    for other in (found[0], found[2]):
        assert isinstance(other, RankError)
        assert "rank 1: ValueError: b_ub contains NaN" in str(other)

    def stops(comm):
        callback = (lambda state: state.nit == 3) if comm.rank else None
        return solve(p, comm, [0, 6, 12], callback=callback, tol=1e-13, finisher=False)

    found = ends(2, stops)
    assert {each.nit for each in found} == {3}
    assert found[1].status == Status.CALLBACK_STOP

    def fails(comm):
        def callback(state):
            raise KeyError(float(state.x[0]))

        return solve(p, comm, [0, 6, 12], callback=callback if comm.rank else None)

    found = ends(2, fails)
    assert isinstance(found[1], KeyError)
    assert isinstance(found[0], RankError)


def test_an_iteration_takes_one_message():
    p = random_program(np.random.default_rng(10), 25, 20)

    def run(comm):
        solve(p, comm, [0, 12, 25], finisher=False, tol=0.0, maxiter=64)
        few = comm.calls["Allreduce"]
        solve(p, comm, [0, 12, 25], finisher=False, tol=0.0, maxiter=128)
        return comm.calls["Allreduce"] - 2 * few

    for messages in together(2, run):
        assert messages in range(60, 70)  # and what a look and a restart take


def test_float32_is_answered_in_float32_where_all_rows_are():
    p = random_program(np.random.default_rng(11), 12, 10)
    A, c = p.matrix().toarray(), p.c.astype("f4")

    def run(comm, other):
        mine = slice(0, 5) if comm.rank else slice(5, 12)
        rows = A[mine].astype(other if comm.rank else "f4")
        return ntsolve.linprog(c, bounds=np.stack([p.lower, p.upper], -1), tol=1e-4, comm=comm,
                               constraints=(rows, p.row_lower[mine], p.row_upper[mine]))  # fmt: skip

    for dtype in ("f4", "f8"):
        for each in together(2, lambda comm, dtype=dtype: run(comm, dtype)):
            assert each.success
            assert each.x.dtype == each.y.dtype == np.dtype(dtype)


@pytest.mark.skipif("cuda" not in BACKENDS, reason="CuPy, or the stand-in for it, is needed")
def test_rows_may_lie_on_gpus():
    given = program(2, 3, seed=23)
    serial = ntsolve.linprog(**given, tol=1e-3, presolve=False, finisher=False)

    def run(comm):
        mine = slice(comm.rank, comm.rank + 1)
        c, A, b = (to_device(v, "cuda") for v in (given["c"], given["A_ub"][mine], given["b_ub"][mine]))
        return ntsolve.linprog(c, A, b, tol=1e-3, finisher=False, comm=comm)

    found = together(2, run)
    for each in found:
        assert each.success
        assert each.backend == "cuda"
        assert each.nit == serial.nit
        np.testing.assert_allclose(to_host(each.x), serial.x, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([to_host(each.y) for each in found]), serial.y, atol=1e-6)
