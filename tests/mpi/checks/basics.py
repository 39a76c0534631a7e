"""MPI itself answers as the team of threads does, on which most tests run."""

import numpy as np

from ...parallel.team import bounds, together


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


def check_parts_are_disjoint_and_all(comm):
    assert sum(end - first for first, end in comm.allgather(bounds(10, comm))) == 10
