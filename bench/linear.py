"""ntsolve.cg on grids with a learned multigrid cycle, beside scipy's cg and pyamg; and what else speeds CG up."""

import functools
import importlib
import importlib.util
import itertools
import time

import numpy as np
import scipy.sparse.linalg

import ntsolve
from ntsolve.demo import need

from . import _linear_grids as grids
from . import _linear_problems as problems
from ._floor import copy_bandwidth
from ._harness import Method, Options, Report, Target, contest

CLAIM = (
    "Pressure and diffusion on grids: ntsolve.cg with the learned multigrid cycle needs at most 1/60 of the iterations "
    "of CG on unseen masks at 128^3 and 0.62 of those of the untrained cycle, and with 2 threads, set-up included, is "
    "at least 110 times as fast as scipy's cg and 55 times as fast as the better of pyamg's two."
)
RTOL = grids.RTOL
LIMIT = 1.01 * RTOL
THREADS = 2
OTHERS = ("_linear_precond", "_linear_dcd")  # further parts: recycling, tuning, any M; deep conjugate directions


def run(options: Options) -> Report:
    """All parts."""
    report = Report()
    with ntsolve.config(threads=THREADS):
        grids.masks(report, options)
        grids.contrast(report, options)
        grids.shapes(report, options)
        times(report, options)
        speed(report, options)
    for name in OTHERS:
        if importlib.util.find_spec(f"{__package__}.{name}") is not None:
            importlib.import_module(f"{__package__}.{name}").run(report, options)
    return report


# ---- the peers ------------------------------------------------------------------------------------------------------


def ours(A, b):
    """(x, iterations), set-up included."""
    result = ntsolve.cg(A, b, M="multigrid", rtol=RTOL)
    return result.x, int(result.nit)


def with_cycle(make, A, b):
    """The same with a preconditioner of A that is made in the call."""
    result = ntsolve.cg(A, b, M=make(A), rtol=RTOL)
    return result.x, int(result.nit)


def scipy_cg(A, b):
    """(x, iterations) of SciPy, without a preconditioner."""
    count = itertools.count()
    x, _ = scipy.sparse.linalg.cg(A, b, rtol=RTOL, maxiter=20_000, callback=lambda _: next(count))
    return x, next(count)


def pyamg_cg(solver, b):
    """(x, iterations) of CG preconditioned by one of pyamg's hierarchies."""
    residuals: list[float] = []
    x = solver.solve(b, tol=RTOL, accel="cg", maxiter=500, residuals=residuals)
    return x, len(residuals) - 1


def pyamg_setups(quick):
    """Name and set-up of smoothed aggregation and of classical (Ruge-Stueben) multigrid; a quick run does without."""
    if quick and importlib.util.find_spec("pyamg") is None:
        return {}
    (pyamg,) = need("pyamg")
    return {"SA": pyamg.smoothed_aggregation_solver, "RS": pyamg.ruge_stuben_solver}


# ---- time -----------------------------------------------------------------------------------------------------------


def times(report, options):
    """Set-up and solve on masks that no training has seen."""
    for n, masks, bounds in ((64, 2, (35, 30, None)), (128, 1, (110, 55, 18))) if not options.quick else (
        (16, 1, (0, 0, None)),
    ):
        for seed in range(masks):
            A, b = grids.system(problems.pressure, seed, (n,) * 3)
            _one_mask(report, options, f"{n}^3 number {seed}", A, b, bounds)


def _one_mask(report, options, name, A, b, bounds):
    matrix = A.tocsr()
    amg = scipy.sparse.csr_matrix(matrix)
    options.say(f"mask {name}: pyamg's set-ups")
    setups, solvers, seconds = pyamg_setups(options.quick), {}, {}
    for kind, setup in setups.items():
        began = time.perf_counter()
        solvers[kind] = setup(amg)
        seconds[kind] = time.perf_counter() - began

    own = {
        "ntsolve.cg, multigrid, of a GridOperator": functools.partial(ours, A, b),
        "ntsolve.cg, multigrid, of the CSR matrix": functools.partial(ours, matrix, b),
        "ntsolve.cg, untrained cycle": functools.partial(with_cycle, grids.blocks("untrained"), A, b),
    }
    methods = [Method(text, solve, solve) for text, solve in own.items()]
    methods.append(Method("scipy cg", functools.partial(scipy_cg, matrix, b), peer=True))
    for kind, setup in setups.items():
        methods.append(Method(f"pyamg {kind} + CG", lambda setup=setup: pyamg_cg(setup(amg), b), peer=True))
        alone = functools.partial(pyamg_cg, solvers[kind], b)
        methods.append(Method(f"pyamg {kind} + CG, solve alone", alone, peer=True))
    table = contest(
        f"mask {name}: {A.shape[0]:,} unknowns, rtol {RTOL:g}, set-up and solve",
        methods,
        lambda x: np.linalg.norm(b - matrix @ x) / np.linalg.norm(b),
        limit=LIMIT,
        repeats=1 if options.quick else 5 if A.shape[0] < 500_000 else 3,
        error_name="||b - A x|| / ||b||",
        notes=(
            f"ntsolve has {THREADS} threads; SciPy and pyamg use one for their sparse kernels.",
            "pyamg and SciPy get a CSR matrix, which is made beforehand; the first line gets a stencil (a mask),",
            "the second that same CSR matrix, which it has to recognise as one.",
        ),
        say=options.say,
    )
    report.tables.append(table)
    median = {entry.method: entry.median for entry in table.entries}
    mine = median["ntsolve.cg, multigrid, of a GridOperator"]
    better = min((median[f"pyamg {kind} + CG"] for kind in setups), default=np.nan)
    solve_alone = min((median[f"pyamg {kind} + CG, solve alone"] for kind in setups), default=np.nan)
    for text, other, bound in (
        ("scipy cg", median["scipy cg"], bounds[0]),
        ("the better of pyamg's two", better, bounds[1]),
        ("the better of pyamg's solves alone", solve_alone, bounds[2]),
    ):
        if bound is not None:
            report.targets.append(Target(f"mask {name}: times as fast as {text}", other / mine, bound, at_least=True))
    share = median["ntsolve.cg, multigrid, of the CSR matrix"] / mine
    report.lines.append(f"mask {name}: recognising the CSR matrix makes the call {share:.2f} times as long")


def speed(report, options):
    """Nanoseconds an unknown and iteration, beside what the memory allows; fixed blocks against strong faces."""
    n = 24 if options.quick else 128
    bandwidth = copy_bandwidth(THREADS, mebibytes=32 if options.quick else 256, repeats=2 if options.quick else 7)
    mask = grids.system(problems.pressure, 0, (n,) * 3)
    mild = grids.system(problems.general, 0, (n,) * 3, decades=1.0)
    for name, (A, b), moved, bound in (("masks", mask, MASK_BYTES, 10), ("coefficients", mild, COEFFICIENT_BYTES, 22)):
        options.say(f"speed on {name}")
        M = ntsolve.LearnedMultigrid(A, coarsening="blocks")
        ntsolve.cg(A, b, M=M, rtol=RTOL)
        few, many = (min(_seconds(A, b, M, count) for _ in range(2 if options.quick else 5)) for count in (2, 10))
        each = 1e9 * (many - few) / 8 / np.prod(A.grid_shape)
        floor = 1e9 * moved / bandwidth
        report.lines.append(
            f"{name} {n}^3: an iteration takes {each:.3g} ns a cell with {THREADS} threads; {moved:g} bytes a cell at "
            f"{bandwidth / 1e9:.3g} GB/s (copy, same run) are {floor:.3g} ns"
        )
        report.targets.append(Target(f"{name} {n}^3, ns a cell and iteration", each, bound))
    m = 12 if options.quick else 96
    for name in ("general", "layered", "inclusions"):
        A, b = grids.system(problems.COEFFICIENTS[name], 100, (m,) * 3, decades=problems.DECADES)
        ways = {
            "auto": lambda A: ntsolve.LearnedMultigrid(A),
            "fixed blocks, untrained": grids.blocks("untrained"),
        }
        table = contest(
            f"{name} coefficients, contrast 10^5, {m}^3: how cells are joined, rtol {RTOL:g}",
            [Method(text, functools.partial(with_cycle, make, A, b), functools.partial(with_cycle, make, A, b),
                    peer=text != "auto") for text, make in ways.items()],
            lambda x, A=A, b=b: np.linalg.norm(b - A.matvec(x)) / np.linalg.norm(b),
            limit=LIMIT,
            repeats=1 if options.quick else 3,
            error_name="||b - A x|| / ||b||",
            say=options.say,
        )  # fmt: skip
        report.tables.append(table)
        text = f"{name} coefficients {m}^3: time over that of fixed blocks"
        report.targets.append(Target(text, table.ratio("auto"), 1.0))


def _seconds(A, b, M, count):
    """Of a solve that is stopped after `count` iterations."""
    began = time.perf_counter()
    ntsolve.cg(A, b, M=M, rtol=1e-14, maxiter=count, on_failure="ignore")
    return time.perf_counter() - began


# Bytes a cell and iteration on the finest level, each array once for each trip through memory; the coarse levels have
# 1/8 + 1/64 + ... of the cells, with coefficients of 16 bytes.
_DOWN = 4 + 2 + 0.5  # r, half of it written as x_black, and the restricted residual
_UP = 4 + 2 + 4 + 0.5  # r, x_black, z, the coarse correction
_PASS_A = 8 + 8 + 4 + 4 + 4  # x read and written, p read and written, z
_PASS_B = 4 + 8 + 8 + 4  # p, r read and written, r in float32
_COARSE = (_DOWN + _UP + 2 * 16) / 7
MASK_BYTES = _DOWN + _UP + _PASS_A + _PASS_B + 4 * 1 + _COARSE
COEFFICIENT_BYTES = MASK_BYTES - 4 + 4 * 16
