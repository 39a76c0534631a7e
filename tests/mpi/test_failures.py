"""A rank that fails, or is killed, brings all down with a message, and soon."""

import numpy as np
import pytest

from .launch import run
from .test_checks import pytestmark  # noqa: F401

PROGRAM = "tests.mpi.programs.failing"
SOON = 30.0  # seconds, with what it takes to start


def killed(size, after, *, unseen):
    done = run(size, "-m", PROGRAM, "kill", after, timeout=200.0, unseen=unseen)
    assert done.seconds < SOON
    assert done.code
    assert done.output.count("begun") == size
    assert "it did not fail" not in done.output
    return done.output


def test_the_others_of_a_killed_rank_say_so_and_end():
    assert "ends with RankError: rank 1 is gone" in killed(3, 40, unseen=True)


@pytest.mark.slow
def test_a_launcher_may_be_quicker():
    assert "signal 9" in killed(2, 40, unseen=False).lower()


def test_an_exception_on_one_is_an_exception_on_all():
    done = run(3, "-m", PROGRAM, "raise", 40, timeout=200.0)
    assert done.seconds < SOON
    assert done.code
    assert "rank 1 ends with KeyError: 'mine'" in done.output
    for rank in (0, 2):
        assert f"rank {rank} ends with RankError: rank 1: KeyError: 'mine'" in done.output


@pytest.mark.slow
def test_those_who_wait_for_something_else_are_ended():
    done = run(3, "-m", PROGRAM, "stray", 5, timeout=200.0)
    assert done.seconds < SOON
    assert done.code
    assert "rank 1: KeyError: 'mine'" in done.output
    assert "all processes are ended" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("time", range(10))
def test_a_rank_killed_at_any_moment_brings_all_down(time):
    after = int(np.random.default_rng(time).integers(1, 1000))
    killed(2 + time % 2, after, unseen=time < 8)
