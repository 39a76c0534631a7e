"""Solves under mpiexec, for bench/distributed.py: ``mpiexec -n 2 python -m bench._ranks PROBLEM SIZE REPEATS``.

Rank 0 prints a line of JSON: {seconds: [of each solve, the slowest rank's], iterations, error}. A problem is a function
of (comm, size) that returns (solve, error): `solve()` is timed, `error(result)` is its relative residual.
"""

import functools
import json
import sys
import time

import numpy as np
import scipy.sparse as sp

import ntsolve

RTOL = 1e-8


def rows(comm, size, M=None):
    """The 2-D Poisson problem of bench/cg.py: each rank has lines of the grid, as rows of a CSR matrix."""
    first, end = (size * rank // comm.size for rank in (comm.rank, comm.rank + 1))
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(size, size), format="csr")
    own = sp.kron(T[first:end], sp.eye_array(size)) + sp.kron(sp.eye_array(size, format="csr")[first:end], T)
    b = np.random.default_rng(0).standard_normal(size * size)[first * size : end * size]
    A = ntsolve.RowPartition(own.tocsr(), comm)

    def error(result):
        return result.verify(A, b) / np.sqrt(comm.allreduce(b @ b))

    return lambda: ntsolve.cg(A, b, M=M, rtol=RTOL, comm=comm), error


PROBLEMS = {"rows": rows, "rows-ic0": functools.partial(rows, M="ic0")}


def main(name, size, repeats):
    """Solve, once without timing, and print."""
    from mpi4py import MPI

    comm, seconds = MPI.COMM_WORLD, []
    with ntsolve.config(threads=1):
        solve, error = PROBLEMS[name](comm, size)
        for _ in range(repeats + 1):
            comm.Barrier()
            began = time.perf_counter()
            result = solve()
            seconds.append(comm.allreduce(time.perf_counter() - began, op=MPI.MAX))
        found = {"seconds": seconds[1:], "iterations": int(np.max(result.nit)), "error": float(np.max(error(result)))}
    if comm.rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
