"""ntsolve.solve_batch: what it costs beside one call for all, and what two processes gain over one."""

import concurrent.futures
import functools
import multiprocessing

import numpy as np

import ntsolve

from ._harness import Method, Options, Report, Target
from ._problems import dense_spd, poisson, relative_residual

CLAIM = (
    "Farms: 64 equal small problems through solve_batch at 0.9 or more of the speed of the one batch that they make; "
    "1,000 unequal ones of 10 ms or more over 2 processes at least 1.6 times as fast as one after the other."
)
RTOL = 1e-8
LIMIT = 1.01 * RTOL
COUNT = 64


def run(options: Options) -> Report:
    """All three parts."""
    report = Report()
    equal_part(report, options)
    unequal_part(report, options)
    tiny_part(report, options)
    return report


def equal_part(report, options):
    """(a) Equal problems, a list of them, of three solvers."""
    rng = np.random.default_rng(0)
    least, small, systems = (dense_spd(COUNT, order, rng) for order in (32, 64, 100))
    costs = (rng.random((COUNT, 32, 32)),)
    programs = _programs(COUNT, 10, 20, rng)
    contests = (
        ("dense systems of order 32, cg", "cg", least, {"rtol": RTOL}, relative_residual, LIMIT, 20),
        ("dense systems of order 64, cg", "cg", small, {"rtol": RTOL}, relative_residual, LIMIT, 20),
        ("dense systems of order 100, cg", "cg", systems, {"rtol": RTOL}, relative_residual, LIMIT, 10),
        ("transport problems 32 x 32, solve_ot", "solve_ot", costs, {"reg": 1e-2}, _worst_marginal, 1e-9, 2),
        ("linear programs 10 x 20, linprog", "linprog", programs, {}, _worst_violation, 1e-4, 1),
    )
    for title, name, arrays, settings, check, limit, calls in contests:
        calls = 1 if options.quick else calls  # in a row, so that a clock can tell
        solver, problems = getattr(ntsolve, name), list(zip(*arrays, strict=True))

        def farm(name=name, problems=problems, settings=settings, calls=calls):
            for _ in range(calls):
                result = ntsolve.solve_batch(name, problems, threads=1, **settings)
                x = result.x
            return np.stack(x), None

        def batch(solver=solver, problems=problems, settings=settings, calls=calls):
            with ntsolve.config(threads=1):
                for _ in range(calls):
                    x = solver(*(np.stack(values) for values in zip(*problems, strict=True)), **settings).x
            return x, None

        def stacked(solver=solver, arrays=arrays, settings=settings, calls=calls):
            with ntsolve.config(threads=1):
                for _ in range(calls):
                    x = solver(*arrays, **settings).x
            return x, None

        methods = [
            Method("solve_batch", farm, farm),
            Method("the arrays stacked, and one call", batch, batch, peer=True),
            Method("one call, the arrays stacked before", stacked, stacked),
        ]
        table = report.contest(
            options,
            f"{COUNT} {title}; {calls} times, 1 thread",
            methods,
            functools.partial(check, *arrays),
            limit=limit,
            repeats=11,
            error_name="largest error, relative",
            notes=("solve_batch is given a list of problems, and the answer of each is asked for.",),
        )
        speed = 1 / table.ratio("solve_batch")
        if arrays is least:  # no target: the list itself is half of the work
            each = (table.entry("solve_batch").median - table.fastest_peer.median) / calls / COUNT
            report.lines.append(f"{title}: {1e6 * each:.2g} microseconds a problem beside those of one call.")
            continue
        report.targets.append(Target(f"{title}: speed of solve_batch, that of one call 1", speed, 0.9, at_least=True))


def unequal_part(report, options):
    """(b) Unequal problems over two processes."""
    count, least, most = (6, 20, 30) if options.quick else (1000, 130, 160)
    rng = np.random.default_rng(1)
    sizes = rng.integers(least, most, count)
    problems = [(poisson(int(n)), rng.standard_normal(n * n)) for n in sizes]
    with _processes() as executor:

        def serial():
            with ntsolve.config(threads=1):
                return [ntsolve.cg(*problem, rtol=RTOL).x for problem in problems], None

        def farm():
            return ntsolve.solve_batch("cg", problems, executor=executor, rtol=RTOL).x, None

        def warm():
            ntsolve.solve_batch("cg", problems[:20], executor=executor, rtol=RTOL)
            ntsolve.cg(*problems[0], rtol=RTOL)

        methods = [Method("solve_batch, 2 processes", farm, warm), Method("one after the other", serial, peer=True)]
        title = f"{count:,} unequal sparse systems, 2-D Poisson with {least}^2 to {most}^2 unknowns, rtol {RTOL:g}"
        note = "Each solve has one thread. The processes are there before the time begins."
        table = _contest_of_systems(report, options, title, problems, methods, repeats=2, note=note)
    gain = 1 / table.ratio("solve_batch, 2 processes")
    report.targets.append(Target("2 processes: times as fast as one after the other", gain, 1.6, at_least=True))
    each = table.entry("one after the other").median / count
    report.lines.append(f"A solve of the unequal systems takes {1e3 * each:.3g} ms, one after the other.")


def tiny_part(report, options):
    """(c) What a problem costs that takes no time itself. No target: it is to be known."""
    count = 50 if options.quick else 1000
    rng = np.random.default_rng(2)
    problems = [(np.diag(rng.random(n) + 1), np.ones(n)) for n in rng.integers(2, 52, count)]
    with _processes() as executor:

        def farm():
            return ntsolve.solve_batch(_solve, problems, executor=executor).x, None

        def single():
            return [result.x for result in executor.map(_solve, *zip(*problems, strict=True))], None

        methods = [
            Method("solve_batch", farm, farm),
            Method("a future for each problem", single, single, peer=True),
        ]
        note = "solve_batch sends several in an order. None of them is part of a batch."
        title = f"{count:,} tiny systems, 2 processes"
        _contest_of_systems(report, options, title, problems, methods, repeats=5, note=note)


def _contest_of_systems(report, options, title, problems, methods, *, repeats, note):
    """A table of systems (A, b) that are no batch, each of which has to be solved."""
    return report.contest(
        options,
        title,
        methods,
        lambda x: max(relative_residual(*problem, each) for problem, each in zip(problems, x, strict=True)),
        limit=LIMIT,
        repeats=repeats,
        error_name="largest ||b - A x|| / ||b||",
        notes=(note,),
    )


def _solve(A, b):
    """As the workers import it."""
    with ntsolve.config(threads=1):
        return ntsolve.cg(A, b, rtol=RTOL)


def _processes():
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def _programs(count, m, n, rng):
    """Linear programs (c, A_ub, b_ub) with known feasible x and y."""
    A, x, y = rng.random((count, m, n)), rng.random((count, n)), rng.random((count, m))
    loose = rng.random((count, m)) < 0.5
    b = (A @ x[..., None])[..., 0] + loose * rng.random((count, m))
    return rng.random((count, n)) - (y[:, None] @ A)[:, 0], A, b


def _worst_marginal(C, x):
    n = C.shape[1]
    P = np.exp((x[:, :n, None] + x[:, None, n:] - C) / 1e-2)
    return float((abs(P.sum(1) - 1 / n).sum(-1) + abs(P.sum(2) - 1 / n).sum(-1)).max())


def _worst_violation(c, A, b, x):
    """Violation of the rows and bounds, relative."""
    over = np.maximum((A @ x[..., None])[..., 0] - b, 0)
    return float(max((over / (1 + abs(b))).max(), np.maximum(-x, 0).max()))
