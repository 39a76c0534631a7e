"""`linprog` of row blocks, against HiGHS and against one process that has all rows."""

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import Status

from ...fixedpoint.programs import highs, random_program


def _cuts(comm, m, seed):
    """Uneven, with ranks that may have nothing."""
    inside = np.sort(np.random.default_rng(seed).integers(0, m + 1, comm.Get_size() - 1))
    return [0, *inside.tolist(), m]


def _solve(p, comm, cuts, **options):
    mine = slice(cuts[comm.Get_rank()], cuts[comm.Get_rank() + 1])
    rows = p.matrix()[mine], p.row_lower[mine], p.row_upper[mine]
    return ntsolve.linprog(p.c, bounds=np.stack([p.lower, p.upper], -1), constraints=rows, comm=comm, **options)


def check_random_programs(comm):
    for seed in range(4):
        p = random_program(np.random.default_rng(seed), 40, 30)
        found = _solve(p, comm, _cuts(comm, p.m, seed), tol=1e-8)
        value = highs(p)[1]
        assert found.success
        assert abs(found.fun + p.offset - value) <= 1e-6 * (1 + abs(value))
        assert len(set(comm.allgather(found.x.tobytes()))) == 1


def check_the_iteration_is_that_of_one_process(comm):
    p = random_program(np.random.default_rng(5), 60, 50)
    serial = ntsolve.linprog(p.c, bounds=np.stack([p.lower, p.upper], -1), presolve=False, finisher=False,
                             constraints=(p.matrix(), p.row_lower, p.row_upper), tol=1e-5)  # fmt: skip
    found = _solve(p, comm, _cuts(comm, p.m, 1), finisher=False, tol=1e-5, presolve=False)
    assert found.success
    assert abs(found.nit - serial.nit) <= 2
    np.testing.assert_allclose(found.x, serial.x, atol=1e-6)


def check_no_feasible_point(comm):
    A = np.random.default_rng(2).standard_normal((10, 8))
    A[9] = A[2] + A[5] + A[8]
    high = A @ np.full(8, 0.5) + 1
    sign = np.where(np.arange(10) == 9, -1.0, 1.0)
    high[9] = -(high[[2, 5, 8]].sum() + 0.5)
    cuts = _cuts(comm, 10, 3)
    mine = slice(cuts[comm.Get_rank()], cuts[comm.Get_rank() + 1])
    found = ntsolve.linprog(np.ones(8), sp.csr_array((sign[:, None] * A)[mine]), high[mine], comm=comm,
                            on_failure="ignore")  # fmt: skip
    assert found.status == Status.PRIMAL_INFEASIBLE
    y = np.concatenate(comm.allgather(found.ray))
    assert np.all(y <= 0)
    assert np.all(-(y @ (sign[:, None] * A)) <= 1e-6)
    assert y @ high > 0


def check_a_bad_row_on_the_last_rank_ends_all(comm):
    last = comm.Get_size() - 1
    b = np.ones(3)
    b[1] = np.nan if comm.Get_rank() == last else 1.0
    kind = ValueError if comm.Get_rank() == last else ntsolve.RankError
    with pytest.raises(kind, match="b_ub contains NaN"):
        ntsolve.linprog(np.ones(3), np.eye(3), b, comm=comm)
