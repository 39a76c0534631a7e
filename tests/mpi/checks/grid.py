"""`cg` on a grid of which each rank has a slab: the answer and the iterations of one process."""

import numpy as np
import pytest

import ntsolve
from ntsolve import RankError

from ...parallel.test_slabs import Problem, mine

PROBLEMS = (
    Problem((50, 41, 36), holes=0.02, outside="neumann"),  # a level or two are divided
    Problem((45, 40, 33), kind="diffusion"),
    Problem((16, 18, 20), kind="diffusion", contrast=1e8, holes=0.1),  # by aggregation
    Problem((240, 200), periodic=(True, False)),
)


def _agrees(comm, problem, cut, M, rtol=1e-9):
    whole = problem.operator()
    b = np.where(whole.mask, whole @ problem.b, 0)
    serial = ntsolve.cg(whole, b, M=M, rtol=rtol)
    A = problem.operator(comm, cut)
    result = ntsolve.cg(A, mine(b, comm, cut), M=M, rtol=rtol, comm=comm)
    x = np.concatenate(comm.allgather(result.x))
    assert np.linalg.norm(b - whole @ x) <= 1.001 * rtol * np.linalg.norm(b)
    assert result.success
    assert abs(result.nit - serial.nit) <= 2
    assert len({each.tobytes() for each in comm.allgather(result.history)}) == 1


def check_the_answer_of_one_process(comm):
    for problem, cut in zip(PROBLEMS, ("even", "uneven", "first", "even"), strict=True):
        _agrees(comm, problem, cut, "multigrid")


def check_other_preconditioners(comm):
    for M in (None, "jacobi", lambda r: r / 4):
        _agrees(comm, Problem((20, 18, 12), holes=0.2), "uneven", M)


def check_an_operator_outlives_a_solve_that_fails(comm):
    problem = Problem((12, 10, 8))
    A, b = problem.operator(comm), mine(problem.b, comm)
    last = comm.Get_rank() == comm.Get_size() - 1
    with pytest.raises(ValueError if last else RankError, match="b "):
        ntsolve.cg(A, np.full_like(b, np.nan) if last else b, M="multigrid")
    assert ntsolve.cg(A, b, M="multigrid").success
