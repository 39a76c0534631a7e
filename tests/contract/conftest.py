"""Puts every promise to every solver: a test that takes `case` or `solver` runs for all of them."""

import signal

import pytest

from ntsolve import monitor

from .registry import cases, load_all

SOLVERS = load_all()


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(cases(SOLVERS)), ids=str)
    elif "endless" in metafunc.fixturenames:
        pairs = [(solver, problem) for solver in SOLVERS for problem in solver.endless]
        metafunc.parametrize(("solver", "endless"), pairs, ids=[f"{s.name}-{p.name}" for s, p in pairs])
    elif "solver" in metafunc.fixturenames:
        metafunc.parametrize("solver", SOLVERS, ids=[solver.name for solver in SOLVERS])


@pytest.fixture
def default_sigint():
    """Python's own handler of Ctrl-C in place, as in a program; a test run in the background has none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monitor._INTERRUPTS.forget()
    yield
    signal.signal(signal.SIGINT, before)
