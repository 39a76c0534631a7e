"""Farms on the executors that people have: threads, processes, loky, dask. That of MPI is in tests/mpi."""

import concurrent.futures
import contextlib
import functools
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ntsolve
from ntsolve import Status
from ntsolve.parallel import rows

from . import farmhands

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def processes(kind):
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind))


@contextlib.contextmanager
def loky():
    pool = pytest.importorskip("loky").get_reusable_executor(2, timeout=30)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def dask(**kind):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(dashboard_address=None, silence_logs=50, **kind) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


EXECUTORS = {
    "threads": (lambda: concurrent.futures.ThreadPoolExecutor(2), False),
    "forked processes": (lambda: processes("fork"), True),
    "spawned processes": (lambda: processes("spawn"), True),
    "loky": (loky, True),
    "dask, threads": (lambda: dask(processes=False, n_workers=1, threads_per_worker=2), False),
    "dask, processes": (lambda: dask(n_workers=2, threads_per_worker=1), True),
}


SLOW = ("spawned processes", "dask, processes")  # loky's are spawned as well; of dask the gallery has processes


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in EXECUTORS])
def test_it_keeps_its_promises_with(kind):
    make, pickles = EXECUTORS[kind]
    with make() as executor:
        farmhands.keeps_its_promises(executor, pickles)


@pytest.mark.parametrize("kind", ["forked processes", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_worker_that_dies_loses_nothing_that_is_done(kind):
    with EXECUTORS[kind][0]() as executor:
        ntsolve.solve_batch(farmhands.tiny, [(0,), (1,)], executor=executor)
        problems = [(n,) for n in (0, 1, 2, 3, 5, *range(6, 60))]
        result = ntsolve.solve_batch(farmhands.dies_of_five, problems, executor=executor, on_failure="ignore")
    assert result.success[0]
    assert not result.success[4]
    assert set(result.status[~result.success]) == {Status.RAISED}
    assert all(isinstance(error, concurrent.futures.BrokenExecutor) for error in result.errors if error is not None)


@pytest.mark.slow
def test_dask_finds_the_problem_that_kills_its_workers():
    with EXECUTORS["dask, processes"][0]() as executor:
        problems = [(n,) for n in range(20)]
        result = ntsolve.solve_batch(farmhands.dies_of_five, problems, executor=executor, on_failure="ignore")
    assert list(np.flatnonzero(~result.success)) == [5]


INTERRUPTED = """
import concurrent.futures, multiprocessing
import ntsolve
from tests.parallel import farmhands
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        shown = lambda done, count: print(done, flush=True)
        result = ntsolve.solve_batch(farmhands.waits, [(n,) for n in range(40)], executor=executor, progress=shown,
                                     on_failure="ignore")
    print(result)
"""


def test_a_ctrl_c_in_a_terminal_ends_workers_and_all():
    """It reaches every process, and each ends the solve that it has; no worker begins another."""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, start_new_session=True) as run:  # fmt: skip

        def kill():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)

        late = threading.Timer(120, kill)
        late.start()
        try:
            seen = []  # both workers have to be in a solve: one that has none would die, and break the pool
            while seen.count("waits\n") < 2 or "3\n" not in seen:
                seen.append(run.stdout.readline())
                assert seen[-1], "it has ended"
            os.killpg(run.pid, signal.SIGINT)
            said = run.stdout.read()  # until the last of them has ended
            run.wait()
        finally:
            late.cancel()
            kill()
    assert run.returncode == 0
    assert "3 CONVERGED" in said
    assert "INTERRUPTED" in said
    assert "RAISED" not in said


class Counted(concurrent.futures.ThreadPoolExecutor):
    """Notes the orders, and how many problems are under way at a time."""

    def __init__(self, workers):
        super().__init__(workers)
        self.orders, self.flying, self.most = [], 0, 0

    def submit(self, function, order):
        self.orders.append(len(order.calls))
        self.flying += len(order.calls)
        self.most = max(self.most, self.flying)
        future = super().submit(function, order)
        future.add_done_callback(lambda _: self.landed(len(order.calls)))
        return future

    def landed(self, count):
        self.flying -= count


def test_small_problems_share_an_order():
    with Counted(2) as executor:
        result = ntsolve.solve_batch(farmhands.tiny, [(n,) for n in range(1000)], executor=executor)
    assert result.success.all()
    assert len(executor.orders) < 300
    assert sum(executor.orders) == 1000


def test_large_problems_are_not_all_under_way_at_once():
    rng = np.random.default_rng(0)
    problems = [(rng.random((60, 60 + i)),) for i in range(40)]
    with Counted(2) as executor, ntsolve.config(budget=100_000):
        result = ntsolve.solve_batch("solve_ot_sample", [(C, C) for (C,) in problems], executor=executor, reg=0.1)
    assert result.success.all()
    assert executor.most <= 3  # one for each worker, and one to come


def test_only_names_arrays_and_settings_are_pickled():
    A, b = np.eye(3), np.ones(3)
    order = rows.Order("cg", [{"A": A, "b": b}], {"rtol": 1e-3, "on_failure": "ignore"}, {"threads": 1}, "0")
    named = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module, name):
            named.add(f"{module}.{name}")
            return super().find_class(module, name)

    Noting(io.BytesIO(pickle.dumps(order))).load()
    assert {name for name in named if not name.startswith("numpy.")} == {"ntsolve.parallel.rows.Order"}
    result = pickle.loads(pickle.dumps(rows.fill(order))).open(order)
    assert result[0][0].success


def test_equal_problems_are_a_batch_on_their_worker(monkeypatch):
    seen, real = [], ntsolve.cg

    @functools.wraps(real)
    def cg(A, b, **options):
        seen.append(np.shape(b))
        return real(A, b, **options)

    monkeypatch.setattr(ntsolve, "cg", cg)
    problems = [(np.eye(4), np.full(4, float(i))) for i in range(64)]
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        result = ntsolve.solve_batch("cg", problems, executor=executor)
    assert result.success.all()
    assert [x[0] for x in result.x] == list(range(64))
    assert len(seen) < 32
    assert sum(shape[0] for shape in seen if len(shape) == 2) + seen.count((4,)) == 64
