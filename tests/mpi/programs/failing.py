"""Under mpiexec: a long solve in which rank 1 fails, in the way that the first argument names.

    kill      by SIGKILL, after so many iterations as the second argument says
    leave     by os._exit, with 0
    raise     an exception in the callback, while the others wait for it in the solve
    stray     an exception in A, while the others wait for it in a message of their own
"""

import os
import signal
import sys

import numpy as np
from mpi4py import MPI

import ntsolve

from ...linalg.problems import laplacian

LENGTH = 5000


def main(how, after):
    comm, n = MPI.COMM_WORLD, LENGTH
    mine, own = comm.rank == 1, np.zeros(1)

    def fail(count):
        if not (mine and count == after):
            return
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "leave":
            os._exit(0)
        raise KeyError("mine")

    first, end = (round(n * rank / comm.size) for rank in (comm.rank, comm.rank + 1))
    A, calls = laplacian(n)[first:end], [0]

    def product(v):
        calls[0] += 1
        fail(calls[0])
        comm.Allreduce(np.ones(1), own)
        return 2 * v

    sys.stderr.write("begun\n")
    try:
        with ntsolve.config(threads=1):
            ntsolve.cg(product if how == "stray" else A, np.ones(end - first), comm=comm, rtol=1e-14,
                       maxiter=10**6, M=lambda r: np.cumsum(r[::-1])[::-1] if how == "stray" else r,
                       callback=lambda state: fail(state.nit))  # fmt: skip
    except (ntsolve.RankError, KeyError) as error:
        sys.stderr.write(f"rank {comm.rank} ends with {type(error).__name__}: {error}\n")
        return 1
    sys.stderr.write("it did not fail\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
