"""A solve by several ranks is cut off, and gone on with from the files that they have left."""

import os
import tempfile

import numpy as np

import ntsolve

from ...linalg.problems import laplacian, rhs
from ...parallel.test_rowblocks import mine, rows_of


def check_a_solve_in_parts_is_the_solve_in_one(comm):
    A, b = laplacian(300, shift=1e-3), rhs(300)

    def solve(**options):
        rows, part = rows_of(A, comm), mine(b, comm)
        return ntsolve.cg(rows, part, M="jacobi", rtol=1e-8, comm=comm, on_failure="ignore", **options)

    folder = comm.bcast(tempfile.mkdtemp() if comm.Get_rank() == 0 else None)
    path = os.path.join(folder, "run.npz")
    whole = solve()
    assert not solve(maxiter=whole.nit // 2, checkpoint=path, resume=path).success
    found = solve(checkpoint=path, resume=path)
    assert found.success
    assert found.nit == whole.nit
    np.testing.assert_array_equal(found.x, whole.x)
