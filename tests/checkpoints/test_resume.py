"""A solve that was cut off and gone on with is the solve that was not."""

import time

import numpy as np
import pytest

import ntsolve
from ntsolve import Status
from ntsolve.linalg import multigrid

from ..backends import BACKENDS, to_device, to_host
from .solves import SOLVES, flat

PLAIN = ("cg", "cg with a function", "cg multigrid", "finite sum", "linprog", "solve_ot", "solve_ot_grid", "minimize")


@pytest.fixture(params=[name if name in PLAIN else pytest.param(name, marks=pytest.mark.slow) for name in SOLVES])
def solve(request):
    return SOLVES[request.param]()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def test_a_solve_in_parts_is_the_solve_in_one(solve, path):
    whole = solve()
    most = int(np.max(whole.nit))
    for part in (0.1, 0.6):
        cut = solve(maxiter=max(1, int(part * most)), checkpoint=path, resume=path)
        assert not np.all(cut.success)
    result = solve(checkpoint=path, resume=path)
    assert np.all(result.success)
    assert solve.right(result)
    assert np.max(result.nit) >= np.max(cut.nit)
    assert len(result.history) <= np.max(result.nit) + 1
    assert np.array_equal(result.history[: len(cut.history)], cut.history) or whole.history[0].shape != ()
    if solve.bitwise:
        assert np.array_equal(flat(result), flat(whole))
        assert np.array_equal(result.nit, whole.nit)


def test_what_is_solved_is_solved_at_once(solve, path):
    done = solve(checkpoint=path)
    again = solve(resume=path)
    assert np.all(again.success)
    assert solve.right(again)
    assert np.max(again.nit) <= np.max(done.nit) + 1
    if solve.bitwise:
        assert np.array_equal(flat(again), flat(done))
        assert np.array_equal(again.history, done.history)


def test_another_problem_is_refused(solve, path):
    solve(maxiter=2, checkpoint=path)
    with pytest.raises(ValueError, match=r"resume.* is of another problem: \w+ was "):
        solve.solver(*solve.other, **solve.options, resume=path)


def test_another_tolerance_is_refused(solve, path):
    solve(maxiter=2, checkpoint=path)
    name = "rtol" if solve.solver is ntsolve.cg else "tol"
    with pytest.raises(ValueError, match=f"resume.*: {name} was .*, and is 0.0125"):
        solve(**{name: 0.0125}, resume=path)


@pytest.mark.parametrize("every", ["cg", "halpern", "linprog", "solve_ot sinkhorn", "minimize"])
def test_a_callback_that_stops_leaves_a_checkpoint(every, path):
    solve = SOLVES[every]()
    stopped = solve(callback=lambda state: state.nit >= 5, checkpoint=path)
    assert np.all(stopped.status == Status.CALLBACK_STOP)
    assert path.exists()
    whole, result = solve(), solve(resume=path)
    assert np.allclose(flat(result), flat(whole), rtol=1e-9, atol=1e-12)
    assert result.nit == whole.nit


@pytest.mark.parametrize("every", ["cg", "cg multigrid", "halpern", "linprog", "solve_ot", "solve_ot_grid", "minimize"])
def test_a_time_limit_of_nothing_leaves_a_checkpoint_to_begin_with(every, path):
    solve = SOLVES[every]()
    stopped = solve(time_limit=0.0, checkpoint=path)
    assert np.all(stopped.status == Status.TIME_LIMIT)
    assert path.exists()
    result = solve(resume=path)
    assert np.all(result.success)
    assert solve.right(result)


def test_time_and_iterations_count_from_the_first_call(path):
    solve = SOLVES["cg"]()
    first = solve(maxiter=20, checkpoint=path, callback=lambda state: time.sleep(0.6 * (state.nit == 1)))
    assert first.nit == 20
    second = solve(maxiter=30, checkpoint=path, resume=path)
    assert second.nit == 30
    assert len(second.history) == 31
    assert second.elapsed > 0.6
    third = solve(time_limit=0.5, resume=path)
    assert third.status == Status.TIME_LIMIT
    assert third.nit == 30


def test_the_random_numbers_go_on(path):
    solve = SOLVES["finite sum"]()
    whole = solve(rng=np.random.default_rng(3))
    solve(rng=np.random.default_rng(3), maxiter=whole.nit // 2, checkpoint=path)
    result = solve(rng=np.random.default_rng(99), resume=path)
    assert np.array_equal(result.x, whole.x)
    with pytest.raises(ValueError, match="another generator"):
        solve(rng=np.random.Generator(np.random.MT19937(0)), resume=path)


@pytest.mark.parametrize("lost", ["at once", "later"])
def test_a_preconditioner_that_was_given_up_stays_given_up(lost, path):
    A, b = SOLVES["cg"]().arguments
    spread = np.exp(3 * np.random.default_rng(0).standard_normal(b.size))
    calls = []

    def harmful(v):
        calls.append(1)
        return v * spread if lost == "at once" else v if np.linalg.norm(v) > 3e-2 else -v

    def solved(**options):
        return ntsolve.cg(A, b, M=harmful, rtol=1e-8, on_failure="ignore", **options)

    whole = solved()
    assert "given up" in whole.message
    for cut in (3, 10, whole.nit // 3, 2 * whole.nit // 3, whole.nit - 2):
        solved(maxiter=cut, checkpoint=path)
        calls.clear()
        result = solved(resume=path)
        assert np.array_equal(result.x, whole.x)
        assert result.nit == whole.nit
        assert result.message == whole.message
    assert not calls  # by then it is no longer asked


def test_a_multigrid_that_had_become_another_is_that_other(path, monkeypatch):
    monkeypatch.setattr(multigrid, "SLOW", 0.01)  # whatever it is, it is too slow
    kappa = np.ones((48, 48))
    b = np.ones((48, 48))

    def solved(**options):
        A = ntsolve.GridOperator.diffusion(kappa)
        M = ntsolve.LearnedMultigrid(A)
        assert M.coarsening == "blocks"
        return ntsolve.cg(A, b, M=M, rtol=1e-9, on_failure="ignore", **options), M

    whole, M = solved()
    assert M.coarsening == "aggregation"
    for cut in (2, whole.nit // 2, whole.nit - 1):
        solved(maxiter=cut, checkpoint=path)
        result, M = solved(resume=path)
        assert np.array_equal(result.x, whole.x)
        assert M.coarsening == "aggregation"


def test_systems_that_fail_do_not_keep_others_from_going_on(path):
    A = np.stack([np.diag([1.0, -1.0, 2.0]), np.diag([1.0, 2.0, 3.0])])
    cut = ntsolve.cg(A, np.ones((2, 3)), maxiter=1, checkpoint=path, on_failure="ignore")
    result = ntsolve.cg(A, np.ones((2, 3)), resume=path, on_failure="ignore")
    assert cut.status[1] == Status.MAXITER
    assert result.status.tolist() == [Status.INDEFINITE_OPERATOR, Status.CONVERGED]
    assert np.allclose(result.x[1], [1, 1 / 2, 1 / 3])


@pytest.mark.skipif("cuda" not in BACKENDS, reason="no GPU backend, not even an emulated one")
@pytest.mark.parametrize("name", ["cg", "halpern"])
def test_arrays_of_a_gpu_go_on_there(name, path):
    b = to_device(np.random.default_rng(0).standard_normal(24), "cuda")
    if name == "cg":
        A = to_device(2.5 * np.eye(24) - np.eye(24, k=1) - np.eye(24, k=-1), "cuda")
        solve = lambda **options: ntsolve.cg(A, b, M="jacobi", rtol=1e-10, on_failure="ignore", **options)
    else:
        solve = lambda **options: ntsolve.halpern(lambda x: 0.5 * (x + b), 0 * b, on_failure="ignore", **options)
    whole = solve()
    solve(maxiter=whole.nit // 2, checkpoint=path)
    result = solve(resume=path)
    assert type(result.x) is type(b)
    assert np.array_equal(to_host(result.x), to_host(whole.x))
    assert result.nit == whole.nit
