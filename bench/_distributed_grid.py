"""A grid in slabs, for bench/distributed.py: ``mpiexec -n 2 python -m bench._distributed_grid KIND PLANES``.

It reports {bytes: of the rank with most, seconds, iterations, error}. Python and its libraries, above all Numba's
compiler, may take more memory than the solve does. So the bytes are the peak of a process above what it had before,
when everything was compiled.
"""

import sys
import time

import numpy as np

import ntsolve

from . import _mpi
from ._harness import Target
from ._transport_memory import peak, present

RTOL = 1e-8
KINDS = {"mask": "Poisson", "coefficients": "diffusion, coefficients from 0.5 to 2"}
SMALL = 40  # planes of the solve that compiles


def part(report, options):
    """Rows and targets: a second process should have about half of the memory, and gain time."""
    planes = 96 if options.quick else 256
    for kind, title in list(KINDS.items())[: 1 if options.quick else None]:
        runs = {}
        for count in (1, 2):
            options.say(f"grid, {kind}: {count} processes")
            runs[count] = [_mpi.run(count, "_distributed_grid", kind, planes)]
        table = _mpi.table(f"{title}, {planes}^3 cells in slabs, cg with multigrid, rtol {RTOL:g}", runs,
                           error_name="||b - A x|| / ||b||", limit=1.01 * RTOL,
                           notes=("With the setup of the cycle, without that of the operator.",))  # fmt: skip
        report.tables.append(table)
        sizes = [runs[count][0]["bytes"] for count in (1, 2)]
        report.lines.append(f"{table.title}: {sizes[0] / 2**20:.0f} MiB in one process, {sizes[1] / 2**20:.0f} in each "
                            f"of two; the second makes it {1 / table.ratio(_mpi.TWO):.2f} times as fast.")  # fmt: skip
        report.targets.append(Target(f"{kind}, {planes}^3: memory of one of two processes, in halves of that of one",
                                     2 * sizes[1] / sizes[0], 1.15))  # fmt: skip


def solve(comm, kind, planes):
    """(result, seconds, relative residual)"""
    first, end = _mpi.bounds(comm, planes)
    shape = (end - first, planes, planes)
    if kind == "mask":
        A = ntsolve.GridOperator.poisson(np.ones(shape, dtype=bool), comm=comm)
    else:
        A = ntsolve.GridOperator.diffusion(np.random.default_rng(comm.rank).uniform(0.5, 2, shape), comm=comm)
    b = np.ones(shape)
    comm.Barrier()
    began = time.perf_counter()
    result = ntsolve.cg(A, b, M="multigrid", rtol=RTOL)
    seconds = time.perf_counter() - began
    return result, seconds, result.residual / np.sqrt(planes**3)


def main(kind, planes):
    """Compile with a small solve, do the other, and report."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    with ntsolve.config(threads=1):
        solve(comm, kind, SMALL)
        before = present()
        result, seconds, error = solve(comm, kind, planes)
    most, slowest = (comm.allreduce(value, op=MPI.MAX) for value in (peak() - before, seconds))
    _mpi.say(comm, {"bytes": most, "seconds": slowest, "iterations": int(result.nit), "error": float(error)})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
