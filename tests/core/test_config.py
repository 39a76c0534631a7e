"""Settings hold in their context and nowhere else."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ntsolve
from ntsolve.config import BACKEND, BUDGET
from ntsolve.kernels import settings

ROOT = Path(__file__).resolve().parents[2]


def test_a_setting_ends_with_its_block():
    before = settings.threads()
    with ntsolve.config(threads=3):
        assert settings.threads() == 3
        with ntsolve.config(backend="cpu"):  # leaves the other alone
            assert (settings.threads(), BACKEND.get()) == (3, "cpu")
            with ntsolve.config(threads=5, backend="auto"):
                assert (settings.threads(), BACKEND.get()) == (5, "auto")
            assert (settings.threads(), BACKEND.get()) == (3, "cpu")
        assert BACKEND.get() == "auto"
    assert settings.threads() == before


def test_the_budget_is_one_gibibyte_unless_somebody_says_otherwise():
    assert BUDGET.get() == 2**30
    with ntsolve.config(budget=10**6):
        assert BUDGET.get() == 10**6
    assert BUDGET.get() == 2**30


def test_a_setting_ends_with_an_error():
    before = settings.threads()
    with pytest.raises(ZeroDivisionError), ntsolve.config(threads=3):
        1 / 0
    assert settings.threads() == before


def test_one_object_can_be_entered_again_and_within_itself():
    before, three = settings.threads(), ntsolve.config(threads=3)
    with three:
        with ntsolve.config(threads=4), three:
            assert settings.threads() == 3
        assert settings.threads() == 3
    with three:
        assert settings.threads() == 3
    assert settings.threads() == before


def test_a_setting_says_nothing_to_other_threads():
    with ntsolve.config(threads=7), ThreadPoolExecutor(1) as pool:
        assert pool.submit(settings.threads).result() == settings.available_threads()
        handed_on = contextvars.copy_context()
        assert pool.submit(handed_on.run, settings.threads).result() == 7


def test_threads_with_settings_of_their_own_do_not_mix():
    meet, seen = threading.Barrier(4), {}

    def work(count):
        with ntsolve.config(threads=count):
            meet.wait(10)
            seen[count] = settings.threads()
            meet.wait(10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 5)))
    assert seen == {1: 1, 2: 2, 3: 3, 4: 4}


def test_tasks_with_settings_of_their_own_do_not_mix():
    async def work(count):
        with ntsolve.config(threads=count):
            await asyncio.sleep(0.01 * count)
            return settings.threads()

    async def all_of_them():
        return await asyncio.gather(*(work(count) for count in (3, 1, 2)))

    assert asyncio.run(all_of_them()) == [3, 1, 2]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threads", 0),
        ("threads", -1),
        ("threads", 1.5),
        ("threads", True),
        ("threads", "2"),
        ("backend", "gpu"),
        ("budget", 0),
        ("budget", 1e9),
        ("backend", 1),
    ],
)
def test_a_setting_out_of_range_is_refused(option, value):
    with pytest.raises(ValueError, match=option):
        ntsolve.config(**{option: value})


def test_settings_are_keyword_only_and_known():
    with pytest.raises(TypeError):
        ntsolve.config(2)
    with pytest.raises(TypeError, match="thread"):
        ntsolve.config(thread=2)


def test_settings_that_are_not_entered_are_a_mistake():
    with pytest.warns(RuntimeWarning, match="with ntsolve.config"):
        ntsolve.config(threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ntsolve.config()
        with ntsolve.config(threads=1):
            pass


@pytest.mark.parametrize(("value", "meant"), [("3", 3), ("0", None), ("-2", None), ("many", None), ("", None)])
def test_the_environment_sets_the_default(value, meant):
    env = os.environ | {"NTSOLVE_NUM_THREADS": value}
    code = "import ntsolve.kernels.settings as s, os; print(s.threads() and s.threads(), len(os.sched_getaffinity(0)))"
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    got, processors = map(int, done.stdout.split())
    assert got == (meant or processors)
    said = done.stderr.count(f"NTSOLVE_NUM_THREADS={value} is not a positive number")
    assert said == (meant is None and value != ""), "once, where it is wrong"


def test_a_solve_uses_as_many_threads_as_it_is_given():
    n = 300_000
    A, b = (lambda v: 2 * v), np.ones(n)
    with ntsolve.config(threads=1):
        before = threading.active_count()
        assert ntsolve.cg(A, b).success
        assert threading.active_count() == before
