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
    "of CG on unseen masks at 128^3 and 0.62 of those of the untrained cycle, and with 2 threads, set-up of the cycle "
    "included, is at least 110 times as fast as scipy's cg and 55 times as fast as the better of pyamg's two."
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

OURS, OF_CSR, UNTRAINED = "of a GridOperator", "of the CSR matrix", "untrained cycle"
SCIPY = "scipy cg"
BOUNDS = {64: (35, 30, None), 128: (110, 55, 18)}  # times as fast as SciPy, pyamg, and pyamg's solve alone
NOTES = (
    f"ntsolve has {THREADS} threads; SciPy and pyamg use one for their sparse kernels.",
    "pyamg and SciPy get a CSR matrix, which is made beforehand; the first line gets a stencil (a mask),",
    "the second that same CSR matrix, which it has to recognise as one. Every call sets up its cycle anew; where the",
    "unknowns are is kept with the operator, from the first call on.",
)


def times(report, options):
    """Set-up and solve on masks that no training has seen."""
    for n, repeats in ((64, 5), (128, 2)) if not options.quick else ((16, 1),):
        found = [_one_mask(report, options, n, seed, repeats) for seed in range(2 if options.quick else grids.MASKS)]
        bounds = BOUNDS.get(n, (0, 0, None))
        for column, (text, bound) in enumerate(
            zip((SCIPY, "the better of pyamg's two", "the better of pyamg's solves alone"), bounds, strict=True)
        ):
            ratios = [row[column] for row in found]
            for word, value in (("median", np.median(ratios)), ("worst", min(ratios))):
                if bound is not None:
                    line = f"masks {n}^3, {len(found)} unseen, times as fast as {text}, {word}"
                    report.targets.append(Target(line, value, bound, at_least=True))
        for column, text in ((3, "recognising the CSR matrix"), (4, "being the first with its operator")):
            longer = [row[column] for row in found]
            report.lines.append(
                f"masks {n}^3: {text} makes a call {np.median(longer):.2f} times as long (median; worst "
                f"{max(longer):.2f})"
            )


def _one_mask(report, options, n, seed, repeats):
    """Times as fast as SciPy, as pyamg, as its solve alone; times as long of a matrix, and of a new operator."""
    A, b = grids.system(problems.pressure, seed, (n,) * 3)
    matrix = A.tocsr()
    amg, alone = scipy.sparse.csr_matrix(matrix), {}

    def with_setup(kind, setup):
        solver = setup(amg)
        began = time.perf_counter()
        found = pyamg_cg(solver, b)
        alone.setdefault(kind, []).append(time.perf_counter() - began)
        return found

    def check(x):
        error = np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)
        time.sleep(0.2)  # so long the threads of BLAS stay awake, on the cores that the next method needs
        return error

    own = {
        OURS: functools.partial(ours, A, b),
        OF_CSR: functools.partial(ours, matrix, b),
        UNTRAINED: functools.partial(with_cycle, grids.blocks("untrained"), A, b),
    }
    methods = [Method(f"ntsolve, {text}", solve, solve) for text, solve in own.items()]
    methods.append(Method(SCIPY, functools.partial(scipy_cg, matrix, b), peer=True))
    for kind, setup in pyamg_setups(options.quick).items():
        methods.append(Method(f"pyamg {kind}", functools.partial(with_setup, kind, setup), peer=True))
    name = f"mask {n}^3 number {seed}"
    table = contest(
        f"{name}: {A.shape[0]:,} unknowns, rtol {RTOL:g}, set-up and solve",
        methods,
        check,
        limit=LIMIT,
        repeats=repeats,
        error_name="||b - A x|| / ||b||",
        notes=NOTES,
        say=lambda line: options.say(f"{name}: {line}"),
    )
    if seed == 0:
        report.tables.append(table)
    median = {entry.method.removeprefix("ntsolve, "): entry.median for entry in table.entries}
    found = ", ".join(
        f"{entry.method} {1e3 * entry.median:.3g} ms ({entry.iterations})" for entry in table.entries
    )
    solves = {kind: float(np.median(seconds)) for kind, seconds in alone.items()}
    found += "".join(f", {kind}'s solve alone {1e3 * seconds:.3g} ms" for kind, seconds in solves.items())
    report.lines.append(f"{name}, {A.mask.mean():.0%} of the cells are fluid, time (iterations): {found}")
    fresh = grids.system(problems.pressure, seed, (n,) * 3)
    began = time.perf_counter()
    ours(*fresh)
    first = time.perf_counter() - began
    better = min((median[f"pyamg {kind}"] for kind in solves), default=np.nan)
    rivals = median[SCIPY], better, min(solves.values(), default=np.nan)
    return (*(rival / median[OURS] for rival in rivals), median[OF_CSR] / median[OURS], first / median[OURS])


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
