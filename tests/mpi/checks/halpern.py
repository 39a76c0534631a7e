"""`halpern` and `monotone` of parts, against one process that has it all."""

import numpy as np
import pytest

import ntsolve

from ...parallel.team import part

N = 100


def _whole(comm, x):
    counts = comm.allgather(x.size)
    taken = np.empty(sum(counts), x.dtype)
    comm.Allgatherv(x, [taken, counts])
    return taken


def _descent(cut=lambda v: v, gathered=lambda x: x):
    """Projected gradient steps of a nonnegative least squares problem."""
    rng = np.random.default_rng(3)
    A, b = rng.standard_normal((300, N)) * np.linspace(0.5, 1, N), rng.standard_normal(300)
    step = 1 / np.linalg.norm(A, 2) ** 2
    return lambda x: np.maximum(x - cut(step * (A.T @ (A @ gathered(x) - b))), 0)


def check_halpern(comm):
    whole, mine = _descent(), _descent(lambda v: part(v, comm), lambda x: _whole(comm, x))
    for options in ({}, {"accelerate": "anderson"}):
        serial = ntsolve.halpern(whole, np.zeros(N), tol=1e-8, **options)
        found = ntsolve.halpern(mine, part(np.zeros(N), comm), tol=1e-8, comm=comm, **options)
        assert found.success
        assert abs(found.nit - serial.nit) <= 2
        np.testing.assert_allclose(_whole(comm, found.x), serial.x, atol=1e-6)


def check_everything_on_the_last_rank(comm):
    last = comm.Get_rank() == comm.Get_size() - 1
    x0 = np.ones(5) if last else np.zeros(0)
    found = ntsolve.halpern(lambda x: 0.5 * np.roll(x, 1) + 1, x0, comm=comm)
    assert found.success
    np.testing.assert_allclose(found.x, np.full(5 if last else 0, 2.0), atol=1e-7)


def check_monotone(comm):
    rng = np.random.default_rng(5)
    B, q = rng.standard_normal((60, 60)), rng.standard_normal(60)
    M = 0.3 * (B - B.T) + 0.5 * np.eye(60)
    serial = ntsolve.monotone(lambda x: M @ x + q, np.ones(60), tol=1e-6)
    found = ntsolve.monotone(
        lambda x: part(M @ _whole(comm, x) + q, comm), part(np.ones(60), comm), tol=1e-6, comm=comm
    )
    assert found.success
    assert abs(found.nit - serial.nit) <= 2
    np.testing.assert_allclose(_whole(comm, found.x), serial.x, atol=1e-4)


def check_an_exception_on_one_rank_ends_all(comm):
    calls, last = [0], comm.Get_size() - 1

    def T(x):
        calls[0] += 1
        if comm.Get_rank() == last and calls[0] == 4:
            raise KeyError("lost")
        return 0.999 * x

    with pytest.raises(KeyError if comm.Get_rank() == last else ntsolve.RankError) as caught:
        ntsolve.halpern(T, np.ones(3), comm=comm, on_failure="ignore")
    assert comm.Get_rank() == last or f"rank {last}: KeyError" in str(caught.value)
