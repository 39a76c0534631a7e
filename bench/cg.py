"""ntsolve.cg against scipy.sparse.linalg.cg on the CPU: one large system, ten thousand small ones, one small one."""

import functools
import itertools

import numpy as np
import scipy.sparse.linalg

import ntsolve
from ntsolve.demo import need

from ._floor import cg_bytes, copy_bandwidth, sentence
from ._harness import Method, Options, Report, Target
from ._problems import dense_spd, poisson, relative_residual

CLAIM = (
    "CG on the CPU: on 10^6 unknowns (2-D Poisson, CSR) at most 0.7 of SciPy's time with 2 threads and not above it "
    "with 1; on 10,000 dense systems of order 32 at least 20 times as fast as a loop over SciPy's."
)
RTOL = 1e-8
LIMIT = 1.01 * RTOL  # both stop by a recurrence for r, which is not exactly b - A x
THREADS = 2


def run(options: Options) -> Report:
    """All three parts."""
    report = Report()
    poisson_part(report, options)
    batch_part(report, options)
    small_part(report, options)
    return report


def _ntsolve(A, b, threads):
    with ntsolve.config(threads=threads):
        result = ntsolve.cg(A, b, rtol=RTOL)
    return result.x, int(np.max(result.nit))


def _scipy(A, b):
    count = itertools.count()
    x, _ = scipy.sparse.linalg.cg(A, b, rtol=RTOL, callback=lambda _: next(count))
    return x, next(count)


def _scipy_one_blas_thread(A, b):
    (threadpoolctl,) = need("threadpoolctl")
    with threadpoolctl.threadpool_limits(1, "blas"):
        return _scipy(A, b)


def poisson_part(report, options):
    """(a) One large sparse system."""
    n = 300 if options.quick else 1000
    A, b = poisson(n), np.random.default_rng(0).standard_normal(n * n)

    def compile_it(threads):
        with ntsolve.config(threads=threads):
            ntsolve.cg(A, b, maxiter=2, on_failure="ignore")

    names = {count: f"ntsolve.cg, {count} thread{'s' * (count > 1)}" for count in (THREADS, 1)}
    methods = [
        Method(name, functools.partial(_ntsolve, A, b, count), functools.partial(compile_it, count))
        for count, name in names.items()
    ]
    methods.append(Method("scipy cg", functools.partial(_scipy, A, b), peer=True))
    methods.append(Method("scipy cg, BLAS on 1 thread", functools.partial(_scipy_one_blas_thread, A, b), peer=True))
    table = report.contest(
        options,
        f"2-D Poisson, {n} x {n} = {n * n:,} unknowns, CSR, rtol {RTOL:g}",
        methods,
        functools.partial(relative_residual, A, b),
        limit=LIMIT,
        repeats=3,
        error_name="||b - A x|| / ||b||",
        notes=("SciPy's sparse product runs on one thread; its dots on as many as its BLAS has, except where said.",),
    )
    for (count, name), bound in zip(names.items(), (0.7, 1.0), strict=True):
        report.targets.append(Target(f"{name}, ratio to the fastest SciPy", table.ratio(name), bound))
        entry = table.entry(name)
        bandwidth = copy_bandwidth(count, mebibytes=64 if options.quick else 256)
        moved = cg_bytes(n * n, A.nnz)
        report.lines.append(sentence(name, moved, entry.median / entry.iterations, bandwidth))


def batch_part(report, options):
    """(b) Many small dense systems in one call; SciPy has to be called for each."""
    count, n = (500 if options.quick else 10_000), 32
    A, b = dense_spd(count, n, np.random.default_rng(1))

    def loop():
        return np.stack([scipy.sparse.linalg.cg(A[i], b[i], rtol=RTOL)[0] for i in range(count)]), None

    names = {threads: f"ntsolve.cg, one call, {threads} thread{'s' * (threads > 1)}" for threads in (THREADS, 1)}
    methods = [
        Method(name, functools.partial(_ntsolve, A, b, threads), functools.partial(_ntsolve, A, b, threads))
        for threads, name in names.items()
    ]
    methods.append(Method("loop over scipy cg", loop, peer=True))
    table = report.contest(
        options,
        f"{count:,} dense SPD systems of order {n}, rtol {RTOL:g}",
        methods,
        functools.partial(relative_residual, A, b),
        limit=LIMIT,
        repeats=5,
        error_name="largest ||b - A x|| / ||b||",
        notes=("ntsolve gets all systems in one call; SciPy one a call, and most of its time is the call.",),
    )
    gain = 1 / table.ratio(names[THREADS])
    report.targets.append(Target(f"{names[THREADS]}: times as fast as the loop", gain, 20, at_least=True))


def small_part(report, options):
    """(c) What one call costs when there is little to do. No target: it is to be known."""
    rng = np.random.default_rng(2)
    problems = [("dense, n = 50", dense_spd(1, 50, rng)[0][0]), ("CSR, n = 100", poisson(10))]
    problems += [("CSR, n = 1,024", poisson(32)), ("CSR, n = 10,000", poisson(100))]
    for title, A in problems:
        b = rng.standard_normal(A.shape[0])
        calls = 10 if options.quick else max(10, 20_000 // A.shape[0])  # in a row, so that a clock can tell

        def repeated(solve, A=A, b=b, calls=calls):
            for _ in range(calls - 1):
                solve(A, b)
            return solve(A, b)

        def single_thread(A, b):
            return _ntsolve(A, b, 1)

        methods = [
            Method(name, functools.partial(repeated, solve), functools.partial(solve, A, b), peer=solve is _scipy)
            for name, solve in (("ntsolve.cg, 1 thread", single_thread), ("scipy cg", _scipy))
        ]
        report.contest(
            options,
            f"{calls} calls in a row: {title}, rtol {RTOL:g}",
            methods,
            functools.partial(relative_residual, A, b),
            limit=LIMIT,
            repeats=9,
            error_name="||b - A x|| / ||b||",
        )
