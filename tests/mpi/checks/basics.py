"""MPI itself answers as the team of threads does, on which most tests run."""

import logging
import time

import numpy as np

from ntsolve.parallel import wires
from ntsolve.parallel.comm import join

from ...parallel.team import bounds, together
from ...parallel.test_comm import many_ugly


def _conversation(comm):
    rank, size = comm.Get_rank(), comm.Get_size()
    total = np.zeros(3)
    comm.Allreduce(np.array([1.0, rank, -rank]), total)
    counts = [1 + 2 * (other % 2) for other in range(size)]
    all_parts = np.zeros(sum(counts), dtype="complex64")
    comm.Allgatherv(np.full(counts[rank], rank + 1j, dtype="complex64"), [all_parts, counts])
    nothing = [1] + (size - 1) * [0]
    first = np.zeros(1, dtype="int64")
    comm.Allgatherv(np.full(nothing[rank], 7), [first, nothing])
    return total, all_parts, first


def check_the_team_speaks_as_mpi_does(comm):
    expected = together(comm.Get_size(), _conversation)[comm.Get_rank()]
    for got, wanted in zip(_conversation(comm), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def check_maxima_of_many_numbers(comm):
    rows = many_ugly(comm.Get_size())
    np.testing.assert_array_equal(join(comm).largest(rows[comm.Get_rank()]), rows.max(axis=0))


def check_who_waits_long_says_so(comm):
    ranks, heard = join(comm), []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    log, patience = logging.getLogger("ntsolve"), wires._LONG
    log.addHandler(handler)
    wires._LONG = 0.1
    try:
        if comm.Get_rank() == 0:
            time.sleep(0.3)
        ranks.any(False)
    finally:
        wires._LONG = patience
        log.removeHandler(handler)
    assert len(heard) == (comm.Get_rank() > 0), heard
    assert all("with the same comm" in line for line in heard)


def check_parts_are_disjoint_and_all(comm):
    assert sum(end - first for first, end in comm.allgather(bounds(10, comm))) == 10
