"""Threads of the Numba twins: where they run."""

import os
from collections import deque

import pytest

import ntsolve
from ntsolve.kernels.cpu import pool

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="threads cannot choose"
)


def where_each_may_run(monkeypatch, processor):
    """Processors that the caller's thread and a fresh worker may use, where both seem to be on `processor`."""
    monkeypatch.setattr(pool, "_processor", lambda: processor)
    monkeypatch.setattr(pool, "_IDLE", deque())
    found = {}
    with ntsolve.config(threads=2):
        pool.over_blocks(lambda first, last: found.update({first: os.sched_getaffinity(0)}), 2, 1)
    return found[1], found[0]  # the caller has the last blocks


@needs_affinity
def test_a_worker_on_the_processor_of_its_caller_goes_elsewhere(monkeypatch):
    allowed = os.sched_getaffinity(0)
    caller, worker = where_each_may_run(monkeypatch, min(allowed))
    assert worker == allowed - {min(allowed)}
    assert caller == allowed == os.sched_getaffinity(0)


@needs_affinity
def test_a_worker_elsewhere_stays_free(monkeypatch):
    allowed = os.sched_getaffinity(0)
    numbers = iter(range(10))
    monkeypatch.setattr(pool, "_IDLE", deque())
    monkeypatch.setattr(pool, "_processor", lambda: next(numbers))
    found = {}
    with ntsolve.config(threads=2):
        pool.over_blocks(lambda first, last: found.update({first: os.sched_getaffinity(0)}), 2, 1)
    assert found == {0: allowed, 1: allowed}


def test_threads_that_have_no_say_in_where_they_run_work_as_well(monkeypatch):
    monkeypatch.setattr(pool, "_processor", None)
    monkeypatch.setattr(pool, "_IDLE", deque())
    found = []
    with ntsolve.config(threads=3):
        pool.over_blocks(lambda first, last: found.extend(range(first, last)), 7, 1)
    assert sorted(found) == list(range(7))
