"""What real MPI is to show: a module a solver, each function `check(comm)` or `check_...(comm)` run on 1, 2, 3 ranks.

A check runs on every rank at once and fails by an exception on any. It compares with what one process computes. All
checks share the processes, one after the other, each with a communicator of its own; Numba and BLAS have one thread.
By hand: ``python -m tests.mpi 1 2 3`` runs all, ``python -m tests.mpi 2 basics`` one module on two ranks.
"""
