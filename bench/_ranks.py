"""Solves under mpiexec, for bench/distributed.py: ``mpiexec -n 2 python -m bench._ranks PROBLEM SIZE``.

They report {seconds: of the slowest rank, iterations, error}. A problem is a function of (comm, size) that returns
(solve, error): `solve()` is timed, `error(result)` is what its answer is judged by.
"""

import functools
import sys
import time

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import cdist

import ntsolve

from . import _mpi

RTOL = 1e-8  # of cg
REG, TOL = 1e-3, 1e-6  # of transport


def rows(comm, size, M=None):
    """The 2-D Poisson problem of bench/cg.py: each rank has lines of the grid, as rows of a CSR matrix."""
    first, end = _mpi.bounds(comm, size)
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(size, size), format="csr")
    own = sp.kron(T[first:end], sp.eye_array(size)) + sp.kron(sp.eye_array(size, format="csr")[first:end], T)
    b = np.random.default_rng(0).standard_normal(size * size)[first * size : end * size]
    A = ntsolve.RowPartition(own.tocsr(), comm)

    def error(result):
        return result.verify(A, b) / np.sqrt(comm.allreduce(b @ b))

    return lambda: ntsolve.cg(A, b, M=M, rtol=RTOL, comm=comm), error


def transport(comm, size):
    """Random points in the unit square, as many on each side."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((size, 2)), rng.random((size, 2))
    first, end = _mpi.bounds(comm, size)

    def solve():
        return ntsolve.solve_ot_sample(X[first:end], Y, reg=REG, tol=TOL, comm=comm)

    def error(result):
        f, g = result.potentials
        rows, columns = [np.empty(0)], np.zeros(size)
        for part in range(0, end - first, 500):
            C = cdist(X[first:end][part : part + 500], Y, "sqeuclidean")
            P = np.exp((f[part : part + 500, None] + g - C) / REG)
            rows.append(P.sum(1))
            columns += P.sum(0)
        of_rows = comm.allreduce(np.sum(abs(np.concatenate(rows) - 1 / size)))
        return of_rows + np.sum(abs(comm.allreduce(columns) - 1 / size))

    return solve, error


def fisher(comm, size):
    """256 gradients of float32: the matrix made, and one solve with it."""
    first, end = _mpi.bounds(comm, size)
    rng = np.random.default_rng(comm.rank)
    G, v = (rng.standard_normal((rows, end - first), dtype="float32") for rows in (256, 1))

    def solve():
        F = ntsolve.EmpiricalFisher(G, damp=0.1, comm=comm)
        return F, F.solve(v)

    def error(found):
        F, x = found
        return np.sqrt(comm.allreduce(np.sum((F.matvec(x) - v) ** 2.0)) / comm.allreduce(np.sum(v**2.0)))

    return solve, error


PROBLEMS = {"rows": rows, "rows-ic0": functools.partial(rows, M="ic0"), "transport": transport, "fisher": fisher}


def main(name, size):
    """Solve, once without timing and once with, and report."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    with ntsolve.config(threads=1):
        solve, error = PROBLEMS[name](comm, size)
        solve()
        comm.Barrier()
        began = time.perf_counter()
        result = solve()
        seconds = comm.allreduce(time.perf_counter() - began, op=MPI.MAX)
        error = float(np.max(error(result)))
    iterations = int(np.max(result.nit)) if hasattr(result, "nit") else None
    _mpi.say(comm, {"seconds": seconds, "iterations": iterations, "error": error})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
