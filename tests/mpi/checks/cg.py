"""`cg` with rows of a matrix on each rank, and with functions."""

import numpy as np
import pytest

import ntsolve
from ntsolve import RankError, Status
from ntsolve.parallel.comm import join

from ...linalg.problems import laplacian, poisson, residual, rhs
from ...parallel.team import part
from ...parallel.test_rowblocks import MATRICES, mine, rows_of


def _whole(comm, x):
    return np.concatenate(comm.allgather(x), axis=-1)


def _agrees(comm, A, b, result, serial, rtol):
    x = _whole(comm, result.x)
    assert np.all(residual(A, b, x) <= (1.001 * rtol + np.finfo(A.dtype).eps) * np.linalg.norm(b, axis=-1))
    assert np.all(result.success)
    assert np.all(abs(np.asarray(result.nit) - serial.nit) <= 2)
    assert len({each.tobytes() for each in comm.allgather(result.history)}) == 1


def check_every_kind_of_rows_and_cut(comm):
    for name, make in MATRICES.items():
        A = make()
        rtol = 1e-4 if name == "float32" else 1e-9
        b = rhs(A.shape[0], dtype=A.dtype)
        serial = ntsolve.cg(A, b, rtol=rtol)
        for cut in ("first", "uneven"):
            result = ntsolve.cg(rows_of(A, comm, cut), mine(b, comm, cut), rtol=rtol, comm=comm)
            _agrees(comm, A, b, result, serial, rtol)


def check_preconditioners_batches_and_starts(comm):
    A, b, x0 = poisson(20), rhs(3, 400), rhs(3, 400, seed=9)
    rows = ntsolve.RowPartition(rows_of(A, comm), comm)
    for M in (None, "jacobi", lambda r: r / 4):
        serial = ntsolve.cg(A, b, x0, M=M, rtol=1e-8)
        _agrees(comm, A, b, ntsolve.cg(rows, mine(b, comm), mine(x0, comm), M=M, rtol=1e-8), serial, 1e-8)
    blocks, plain = ntsolve.cg(rows, mine(b, comm), M="ic0", rtol=1e-8), ntsolve.cg(A, b, rtol=1e-8)
    assert (residual(A, b, _whole(comm, blocks.x)) <= 1.01e-8 * np.linalg.norm(b, axis=-1)).all()
    assert (blocks.nit < plain.nit).all()


def check_a_function_may_talk_by_itself(comm):
    n, rank, size = 40, comm.Get_rank(), comm.Get_size()

    def A(v):
        before = comm.sendrecv(v[-1], dest=(rank + 1) % size, source=(rank - 1) % size)
        after = comm.sendrecv(v[0], dest=(rank - 1) % size, source=(rank + 1) % size)
        padded = np.concatenate([[before if rank else 0.0], v, [after if rank + 1 < size else 0.0]])
        return 2.1 * v - padded[:-2] - padded[2:]

    whole, b = laplacian(n * size, shift=0.1), rhs(n * size)
    result = ntsolve.cg(A, part(b, comm), rtol=1e-10, comm=comm)
    _agrees(comm, whole, b, result, ntsolve.cg(whole, b, rtol=1e-10), 1e-10)


def check_one_stops_all(comm):
    A, b = poisson(20), np.ones(400)
    last = comm.Get_rank() == comm.Get_size() - 1
    stop = (lambda state: state.nit == 7) if last else None
    result = ntsolve.cg(rows_of(A, comm), mine(b, comm), rtol=1e-12, comm=comm, callback=stop)
    assert (result.status, result.nit) == (Status.CALLBACK_STOP, 7)
    limit = 0.0 if last else None
    result = ntsolve.cg(rows_of(A, comm), mine(b, comm), comm=comm, time_limit=limit, on_failure="ignore")
    assert (result.status, result.nit) == (Status.TIME_LIMIT, 0)


def check_an_error_on_one_is_an_error_on_all(comm):
    """And the next solve is as if nothing had been."""
    A, size = poisson(20), comm.Get_size()
    last = size - 1
    rows = rows_of(A, comm)

    def fail(*_):
        raise KeyError("mine")

    for what in ("b", "callback", "M", "A"):
        b, matrix = mine(np.ones(400), comm), rows
        options = {"M": lambda r: r, "callback": lambda state: None}
        if comm.Get_rank() == last:
            if what == "b":
                b[0] = np.nan
            elif what == "A":
                matrix = rows[:, :-1]
            else:
                options[what] = fail
        own = KeyError if what in ("callback", "M") else ValueError
        expected = own if comm.Get_rank() == last else RankError
        with pytest.raises(expected, match=None if expected is own else f"^rank {last}: {own.__name__}: "):
            ntsolve.cg(matrix, b, comm=comm, **options)
        result = ntsolve.cg(rows, mine(np.ones(400), comm), comm=comm)
        assert result.success


def check_nan_in_one_ends_all(comm):
    def M(r):
        return r * np.nan if comm.Get_rank() == comm.Get_size() - 1 else r

    A = rows_of(poisson(20), comm)
    result = ntsolve.cg(A, mine(np.ones(400), comm), M=M, comm=comm, on_failure="ignore")
    assert result.status == Status.NAN_OR_INF


def check_a_communicator_is_duplicated_once_and_given_back(comm):
    """MPI has some thousand communicators, and a long run more solves than that."""
    rows, b = rows_of(laplacian(20), comm), mine(np.ones(20), comm)
    assert join(comm) is join(comm)
    for _ in range(1500 if comm.Get_size() == 2 else 3):
        own = comm.Dup()
        assert join(own) is join(own)
        own.Free()
    for _ in range(3):
        own = comm.Split(0)
        assert ntsolve.cg(rows, b, comm=own).success
        own.Free()
