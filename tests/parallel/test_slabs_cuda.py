"""Slabs of a grid with CuPy arrays, which pass through the host on their way to other ranks."""

import numpy as np
import pytest

import ntsolve
from ntsolve.parallel import slabcycle

from .team import together
from .test_slabs import Problem, mine

cupy = pytest.importorskip("cupy")


@pytest.mark.parametrize("kind", ["poisson", pytest.param("diffusion", marks=pytest.mark.slow)])
def test_a_solve_is_what_the_cpu_gives(kind, monkeypatch):
    monkeypatch.setattr(slabcycle, "GATHERED", 150)
    problem = Problem((10, 5, 6), kind=kind, holes=0.05, outside=("neumann", "neumann", "dirichlet"))
    want = ntsolve.cg(problem.operator(), problem.b, M="multigrid", rtol=1e-8)
    problem.arrays = {name: cupy.asarray(array) for name, array in problem.arrays.items()}
    b = cupy.asarray(problem.b)

    def run(comm):
        A = problem.operator(comm, "uneven")
        return [ntsolve.cg(A, mine(b, comm, "uneven"), M=M, rtol=1e-8) for M in ("multigrid", "jacobi")]

    parts = together(2, run)
    for number in range(2):
        x = cupy.concatenate([part[number].x for part in parts])
        np.testing.assert_allclose(x.get(), want.x, atol=1e-6 * abs(want.x).max())
    assert all(part[0].backend == "cuda" and abs(part[0].nit - want.nit) <= 2 for part in parts)
