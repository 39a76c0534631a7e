"""Solves over MPI: what `comm` costs with one process, and what a second one gains."""

import functools
import importlib.util

import numpy as np

import ntsolve

from . import _distributed_grid, _mpi
from ._harness import Method, Options, Report, Target
from ._problems import poisson, relative_residual
from ._ranks import REG, RTOL, TOL

CLAIM = (
    "Solves over MPI: cg with one process at most 3 % above the solve without a communicator; two processes, with one "
    "thread each, against one."
)
LIMIT = 1.01 * RTOL
RESIDUAL = "||b - A x|| / ||b||"
TWO = (  # of _ranks.py; title; what it is judged by, and the limit of that; size of a quick run, and of another
    ("rows", f"2-D Poisson, {{0}} x {{0}}, rows of a CSR matrix, cg, rtol {RTOL:g}", RESIDUAL, LIMIT, 100, 700),
    ("rows-ic0", f"2-D Poisson, {{0}} x {{0}}, rows of a CSR matrix, cg with IC(0) of each one's block, rtol {RTOL:g}",
     RESIDUAL, LIMIT, 100, 600),
    ("transport", f"{{0}} x {{0}} points in the plane, solve_ot_sample, reg {REG:g}, tol {TOL:g}",
     "error of the marginals", 1.01 * TOL, 500, 12_000),
    ("fisher", "EmpiricalFisher of 256 gradients of length {0}, float32, made, and one solve", "||F x - v|| / ||v||",
     1e-4, 10_000, 400_000),
)  # fmt: skip


def run(options: Options) -> Report:
    """Both parts."""
    report = Report()
    if importlib.util.find_spec("mpi4py") is None or _mpi.launcher() is None:
        report.lines.append('This needs MPI: python -m pip install "ntsolve[mpi]"')
        return report
    overhead_part(report, options)
    for problem in TWO[:1] if options.quick else TWO:
        two_part(report, options, *problem)
    _distributed_grid.part(report, options)
    return report


def overhead_part(report, options):
    """(a) One process."""
    from mpi4py import MPI

    sides = (30, 100) if options.quick else (30, 100, 300)
    for side in sides:
        A, b = poisson(side), np.random.default_rng(0).standard_normal(side * side)
        calls = 1 if options.quick else max(1, 100_000 // side**2)  # in a row, so that a clock can tell

        def solve(comm, A=A, b=b, calls=calls):
            with ntsolve.config(threads=1):
                for _ in range(calls):
                    result = ntsolve.cg(A, b, rtol=RTOL, comm=comm)
            return result.x, result.nit

        methods = [Method(name, functools.partial(solve, comm), functools.partial(solve, comm), peer=comm is None)
                   for name, comm in (("comm of one process", MPI.COMM_SELF), ("without comm", None))]  # fmt: skip
        table = report.contest(
            options,
            f"{calls} call{'s in a row' * (calls > 1)}, 2-D Poisson, {side} x {side}, CSR, 1 thread, rtol {RTOL:g}",
            methods,
            functools.partial(relative_residual, A, b),
            limit=LIMIT,
            repeats=15,
            error_name="||b - A x|| / ||b||",
        )
        report.targets.append(Target(f"{side} x {side}: ratio with comm", table.ratio(methods[0].name), 1.03))


def two_part(report, options, problem, title, error_name, limit, small, large):
    """(b) Two processes, in turn with one."""
    size = small if options.quick else large
    runs: dict[int, list] = {1: [], 2: []}
    for turn in range(1 if options.quick else 3):
        for count in (1, 2):
            options.say(f"{count} processes: run {turn + 1}")
            runs[count].append(_mpi.run(count, "_ranks", problem, size))
    notes = ("Run by mpiexec; the time is that of the slower process, without the start, of rows without the plan.",)
    table = _mpi.table(title.format(size), runs, error_name=error_name, limit=limit, notes=notes)
    report.tables.append(table)
    report.lines.append(f"{table.title}: a second process makes it {1 / table.ratio(_mpi.TWO):.2f} times as fast.")
