"""``mpiexec -n 3 python -m mpi4py.futures -m tests.mpi.programs.farm``: a farm whose workers are ranks."""

import sys

from mpi4py.futures import MPIPoolExecutor

import ntsolve
from tests.parallel import farmhands

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        farmhands.keeps_its_promises(executor, True)
        result = ntsolve.solve_batch(farmhands.tiny, [(n,) for n in range(500)], executor=executor)
    sys.stdout.write(f"{result!r} by {executor.num_workers} workers\n")
