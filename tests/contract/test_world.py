"""A solve among others: in threads, after a fork, a thousand times over, and with no effect on anything else."""

import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ntsolve

from .registry import load_all

ROOT = Path(__file__).resolve().parents[2]
THREADS = 8


def state_of_the_world():
    """Global settings that a solve might touch."""
    import numba

    return {
        "numpy.random": repr(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
        "warnings": list(warnings.filters),
        "errstate": np.geterr(),
        "print options": repr(np.get_printoptions()),
        "numba threads": numba.get_num_threads(),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "log handlers": list(logging.getLogger().handlers) + logging.getLogger("ntsolve").handlers,
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "hooks": (sys.excepthook, threading.excepthook, sys.gettrace()),
    }


def test_nothing_else_is_touched(case):
    case.solve()  # loads what it needs
    before = state_of_the_world()
    case.solve()
    case.solve(maxiter=1, on_failure="ignore")
    with pytest.raises(ntsolve.ConvergenceError):
        case.solve(maxiter=1, on_failure="raise")
    assert state_of_the_world() == before


def test_the_users_floating_point_settings_are_left_alone(case):
    """Whether NumPy raises or keeps silent where numbers overflow makes no difference."""
    want = case.answer(case.solve()).tobytes()
    for setting in ("raise", "ignore"):
        with np.errstate(all=setting):
            assert case.answer(case.solve()).tobytes() == want
            assert set(np.geterr().values()) == {setting}


def test_threads_do_not_accumulate(solver):
    arguments = solver.threaded.make("float64")
    with ntsolve.config(threads=2):
        for _ in range(3):
            solver.solve(solver.threaded, arguments=arguments)
        before = threading.active_count()
        for _ in range(8):
            solver.solve(solver.threaded, arguments=arguments)
    assert threading.active_count() <= before


def test_eight_threads_at_once_give_the_answer_of_one(case):
    want = case.answer(case.solve()).tobytes()
    with ThreadPoolExecutor(THREADS) as pool:
        rounds = 3 if case.backend == "cpu" else 1  # the stand-in for a GPU is slow
        solves = [pool.submit(case.solve) for _ in range(rounds * THREADS)]
        assert {case.answer(solve.result()).tobytes() for solve in solves} == {want}


def test_eight_threads_that_each_use_two_give_the_answer_of_one(solver):
    arguments = solver.threaded.make("float64")

    def solve():
        with ntsolve.config(threads=2):
            return solver.answer(solver.solve(solver.threaded, arguments=arguments)).tobytes()

    want = solve()
    with ThreadPoolExecutor(THREADS) as pool:
        assert {one.result() for one in [pool.submit(solve) for _ in range(THREADS)]} == {want}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_can_solve(solver):
    """In a process of its own: a fork of one with as much in it as a test run proves nothing, and may hang."""
    code = f"from {__name__} import solve_in_forks; solve_in_forks({solver.name!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def solve_in_forks(name):
    """Solve here, then in children by os.fork and by multiprocessing, then here again."""
    import multiprocessing

    solver = next(s for s in load_all() if s.name == name)
    arguments = solver.threaded.make("float64")
    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads, which the child must survive

    def answer():
        with ntsolve.config(threads=2):
            small = [solver.answer(solver.solve(problem)).tobytes() for problem in solver.problems]
            return [solver.answer(solver.solve(solver.threaded, arguments=arguments)).tobytes(), *small]

    want = answer()
    assert any(thread.name == "ntsolve-kernel" for thread in threading.enumerate()), "no thread to lose in the fork"
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # hangs end
        os._exit(0 if answer() == want else 1)
    assert os.waitpid(child, 0)[1] == 0, "the forked child failed, or hung"

    def run():
        signal.alarm(60)
        sys.exit(0 if answer() == want else 1)

    children = [multiprocessing.get_context("fork").Process(target=run) for _ in range(2)]
    for process in children:
        process.start()
    assert answer() == want
    for process in children:
        process.join()
        assert process.exitcode == 0, "a child of multiprocessing failed, or hung"


def test_hundreds_of_solves_leave_no_memory_behind(solver):
    """Neither Python objects and arrays, nor anything that only the system sees."""
    problems = [(problem, problem.make("float64")) for problem in solver.problems]

    def solve(count):
        for i in range(count):
            problem, arguments = problems[i % len(problems)]
            # every other one fails
            solver.solve(problem, arguments=arguments, on_failure="ignore", **{"maxiter": 3} if i % 2 else {})

    solve(160)
    tracemalloc.start()
    gc.disable()  # a solve leaves no cycles, which would keep its arrays until the collector comes by
    try:
        solve(40)
        before, resident = held_bytes(), resident_bytes()
        solve(300)
        grown, resident = held_bytes() - before, resident_bytes() - resident
    finally:
        gc.enable()
        tracemalloc.stop()
    assert grown < 55_000, f"{grown} bytes of Python objects"  # one small vector of each would be 60,000
    assert resident < 6_000_000, f"{resident} bytes of the process"


def held_bytes():
    """Memory of Python objects, with what hangs in cycles, without the free tuples that Python keeps for later use."""
    gc.freeze()  # the collection drops the free ones; it is to leave cycles alone
    gc.collect()
    gc.unfreeze()
    return tracemalloc.get_traced_memory()[0]


def resident_bytes():
    """Memory of this process; 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if status.exists() else 0


def test_a_result_does_not_keep_the_problem_alive(case):
    """A list of results is as small as the answers in it."""
    if case.backend != "cpu":
        pytest.skip("the arrays on the device are copies")
    if case.solver.keeps_problem:
        pytest.skip("it says that it does")

    arguments = case.problem.make("float64")
    watched = [weakref.ref(v) for v in arguments.values() if isinstance(v, np.ndarray)]
    gc.disable()
    try:
        result = case.solve(arguments=arguments)
        del arguments
        assert np.all(result.success)
        assert [ref() for ref in watched] == [None] * len(watched)
    finally:
        gc.enable()
