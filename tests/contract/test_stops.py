"""A solve ends when it should: at the tolerance, at maxiter, at the time limit, on a callback's word, on Ctrl-C."""

import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import ntsolve
from ntsolve import Status
from tests.backends import to_device


@contextmanager
def interrupts(*after):
    """Sends this process a SIGINT so many seconds after each other, unless the block has ended before."""
    over = threading.Event()

    def send():
        for seconds in after:
            if over.wait(seconds):
                return
            os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


# ---- success, and failure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_problem_that_can_be_solved_is_solved(case, dtype):
    result = case.solve(dtype)
    assert np.all(result.success)
    assert np.all(np.asarray(result.status) == Status.CONVERGED)
    assert np.all(np.asarray(result.nit) > 1)
    assert result.backend == case.backend
    assert result.elapsed > 0


def test_no_iteration_is_no_success(case):
    result = case.solve(maxiter=0, on_failure="ignore")
    assert not np.any(result.success)
    assert np.all(np.asarray(result.status) == Status.MAXITER)
    assert np.all(np.asarray(result.nit) == 0)


def test_maxiter_is_kept(case):
    result = case.solve(maxiter=2, on_failure="ignore")
    assert not np.any(result.success)
    assert np.all(np.asarray(result.status) == Status.MAXITER)
    assert np.max(result.nit) == 2


def test_a_failure_warns_where_the_solver_was_called(case):
    values = [to_device(value, case.backend) for value in case.problem.make("float64").values()]
    with pytest.warns(ntsolve.ConvergenceWarning, match=rf"{case.solver.name}: .*maxiter") as record:
        case.solver.call(*values, **case.problem.options | {"maxiter": 1})
    assert [w.filename for w in record] == [__file__]


def test_a_failure_raises_if_so_wanted(case):
    with pytest.raises(ntsolve.ConvergenceError, match=case.solver.name) as error:
        case.solve(maxiter=1, on_failure="raise")
    assert not np.any(error.value.result.success)
    assert np.max(error.value.result.nit) == 1


def test_a_failure_is_silent_if_so_wanted(case, recwarn):
    assert not np.any(case.solve(maxiter=1, on_failure="ignore").success)
    assert not recwarn.list


@pytest.mark.parametrize("on_failure", ["warn", "raise", "ignore"])
def test_a_success_is_silent(case, on_failure, recwarn, capfd):
    assert np.all(case.solve(on_failure=on_failure).success)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


# ---- the callback ---------------------------------------------------------------------------------------------------


def test_a_callback_sees_every_iteration(case):
    seen = []
    result = case.solve(callback=lambda state: seen.append((state.nit, np.max(state.residual), state.elapsed)))
    numbers, residuals, times = map(list, zip(*seen, strict=True))
    assert numbers == list(range(1, np.max(result.nit) + 1))
    assert np.isfinite(residuals).all()
    assert residuals[-1] < residuals[0]
    assert times == sorted(times)
    assert 0 < times[-1] <= result.elapsed


def test_a_callback_sees_the_iterate(case):
    seen = []
    result = case.solve(callback=lambda state: seen.append(state.x))
    assert {type(x) for x in seen} == {type(result.x)}
    assert {x.shape for x in seen} == {result.x.shape}
    # iterates that were kept do not change later
    assert len({np.asarray(case.answer(result) if x is None else x.tolist()).tobytes() for x in seen}) == len(seen)
    assert np.allclose(np.array(seen[-1].tolist()), case.answer(result), rtol=1e-4)


def test_a_callback_runs_under_the_users_floating_point_settings(case):
    seen = []
    with np.errstate(all="raise"):
        case.solve(callback=lambda state: seen.append(np.geterr()), maxiter=2, on_failure="ignore")
    assert seen
    assert all(set(settings.values()) == {"raise"} for settings in seen)


def test_a_callback_stops_the_solve(case, recwarn):
    result = case.solve(callback=lambda state: state.nit == 2)
    assert np.all(np.asarray(result.status)[~np.asarray(result.success)] == Status.CALLBACK_STOP)
    assert not np.any(result.success)
    assert np.max(result.nit) == 2
    assert not recwarn.list  # it is what was asked for


@pytest.mark.parametrize("value", [None, False, 0, 1, "yes"])
def test_only_true_stops_the_solve(case, value):
    assert np.all(case.solve(callback=lambda state: value).success)


def test_an_error_in_the_callback_reaches_the_caller(case, default_sigint):
    def callback(state):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        case.solve(callback=callback)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert np.all(case.solve().success)


def test_progress_can_be_passed_as_a_callback(case, tmp_path):
    path = tmp_path / "bar"
    with path.open("w") as file:
        assert np.all(case.solve(callback=ntsolve.progress(file=file)).success)
    assert "100%" in path.read_text()


def test_verbose_reports_to_the_log(case, caplog, capfd):
    with caplog.at_level(logging.INFO, "ntsolve"):
        case.solve()
        assert not caplog.records
        case.solve(verbose=True)
    assert {record.name for record in caplog.records} == {"ntsolve"}
    assert case.solver.name in caplog.text
    assert capfd.readouterr().out == ""


# ---- the time limit -------------------------------------------------------------------------------------------------


TRIES = 4  # on a busy machine
LATE = 1.5  # times the limit: what a test may hold against a solve where others work on the same cores


def timed(solver, problem, limit):
    """(result, seconds), of the first solve that ends in time, or of the last."""
    arguments = problem.make("float64")
    solver.solve(problem, arguments=arguments, maxiter=1, on_failure="ignore")
    for _ in range(TRIES):
        began = time.perf_counter()
        result = solver.solve(problem, arguments=arguments, time_limit=limit, on_failure="ignore")
        taken = time.perf_counter() - began
        if taken < 1.1 * limit:
            break
    return result, taken


@pytest.mark.parametrize("seconds", [0.005, 0.04])
def test_the_time_limit_is_kept_by_slow_iterations(solver, seconds):
    limit = 0.3
    result, taken = timed(solver, solver.slow(seconds), limit)
    assert result.status == Status.TIME_LIMIT
    assert not result.success
    assert 0.5 * limit < taken < LATE * limit
    assert 0.5 * limit < result.elapsed <= taken


def test_the_time_limit_is_kept_by_quick_iterations(solver, endless):
    limit = 0.3
    result, taken = timed(solver, endless, limit)
    assert np.all(np.asarray(result.status) == Status.TIME_LIMIT)
    assert not np.any(result.success)
    assert 0.5 * limit < taken < LATE * limit


def test_no_time_is_no_success(case):
    result = case.solve(time_limit=0, on_failure="ignore")
    assert not np.any(result.success)
    assert np.all(np.asarray(result.status) == Status.TIME_LIMIT)


def test_time_enough_changes_nothing(case):
    assert case.answer(case.solve(time_limit=60)).tobytes() == case.answer(case.solve()).tobytes()


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_the_solve_in_half_a_second(solver, endless, default_sigint):
    arguments = endless.make("float64")
    solver.solve(endless, arguments=arguments, maxiter=1, on_failure="ignore")
    for _ in range(TRIES):
        began = time.perf_counter()
        with interrupts(0.3):
            result = solver.solve(endless, arguments=arguments, time_limit=20, on_failure="ignore")
        taken = time.perf_counter() - began - 0.3
        if taken < 0.5:
            break
        time.sleep(1.1)  # an interrupt within a second is a second one
    assert taken < 1
    assert np.all(np.asarray(result.status) == Status.INTERRUPTED)
    assert not np.any(result.success)
    assert np.isfinite(solver.answer(result)).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_ends_a_solve_with_slow_iterations(solver, default_sigint):
    began = time.perf_counter()
    with interrupts(0.2):
        result = solver.solve(solver.slow(0.05), time_limit=20, on_failure="ignore")
    assert time.perf_counter() - began < 2
    assert result.status == Status.INTERRUPTED


def test_a_second_interrupt_raises(solver, default_sigint):
    """For an iteration that hangs in somebody's code."""
    began = time.perf_counter()
    with interrupts(0.2, 0.1), pytest.raises(KeyboardInterrupt):
        solver.solve(solver.slow(5.0), time_limit=20, on_failure="ignore")
    assert time.perf_counter() - began < 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_of_one_solve_leaves_the_next_alone(solver, default_sigint):
    with interrupts(0.1):
        assert solver.solve(solver.slow(0.02), time_limit=20, on_failure="ignore").status == Status.INTERRUPTED
    assert np.all(solver.solve(solver.problems[0]).success)


def test_another_thread_installs_no_handler(solver, default_sigint):
    seen = set()
    with ThreadPoolExecutor(1) as pool:
        look = lambda state: seen.add(signal.getsignal(signal.SIGINT))
        assert np.all(pool.submit(solver.solve, solver.problems[0], callback=look).result().success)
    assert seen == {signal.default_int_handler}


@pytest.mark.parametrize("kind", ["function", "ignore", "default"])
def test_a_handler_of_the_users_own_is_left_alone(solver, kind, default_sigint):
    heard, seen = [], set()
    handler = {"function": lambda *_: heard.append(1), "ignore": signal.SIG_IGN, "default": signal.SIG_DFL}[kind]
    signal.signal(signal.SIGINT, handler)

    def callback(state):
        seen.add(signal.getsignal(signal.SIGINT))
        if state.nit == 2 and kind != "default":  # which would end this process
            os.kill(os.getpid(), signal.SIGINT)

    assert np.all(solver.solve(solver.problems[0], callback=callback).success)
    assert seen == {handler}
    assert signal.getsignal(signal.SIGINT) == handler
    assert heard == [1] * (kind == "function")


def test_a_solve_within_a_solve_shares_the_handler(solver, default_sigint):
    """A callback that solves, as in nested iterations: one Ctrl-C ends both."""
    inner = []

    def callback(state):
        inner.append(solver.solve(solver.slow(0.02), time_limit=10, on_failure="ignore"))

    with interrupts(0.2):
        outer = solver.solve(solver.slow(0.01), callback=callback, time_limit=20, on_failure="ignore")
    assert outer.status == inner[-1].status == Status.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loop_of_solves_can_be_left(solver, endless, default_sigint):
    """Each solve takes a Ctrl-C for itself; a second one within a second is for the loop."""
    arguments = endless.make("float64")

    def loop():
        for _ in range(100):
            solver.solve(endless, arguments=arguments, time_limit=5, on_failure="ignore")

    with interrupts(0.1, 0.3), pytest.raises(KeyboardInterrupt):
        loop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
