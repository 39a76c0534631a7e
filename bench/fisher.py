"""ntsolve.EmpiricalFisher and ntsolve.prune against the recursion of the M-FAC paper, LAPACK, NumPy and magnitude."""

import functools
import shutil
import tempfile
import time
from contextlib import contextmanager

import numpy as np
import scipy.linalg

import ntsolve
from ntsolve.demo import need

from . import _disk
from ._fisher_pruning import pruning_part
from ._floor import read_bandwidth
from ._harness import Method, Options, Report, Target
from ._mfac import (
    Dynamic,
    Exact,
    Lapack,
    Plain,
    Recursion,
    Woodbury,
    gradients,
    relative_error,
    residual,
)

CLAIM = (
    "The inverse of the empirical Fisher matrix: accurate to 1e-6 with gradients in float32 and a condition of 1e8, "
    "where the recursion of the M-FAC paper and Woodbury's identity in float32 have lost all digits; set up at least "
    "20 times as fast as by the recursion and in at most 1.2 of LAPACK's time; 16 right-hand sides at least 4 times as "
    "fast as 16 calls; a window that moves without a new factorisation; 8 GB of gradients on disk in 1 GB of memory; "
    "networks pruned to 50, 70, 80 and 90 % with 95, 95, 93 and 80 % of held-out digits right."
)
THREADS = 2


def run(options: Options) -> Report:
    """All parts."""
    report = Report()
    accuracy_part(report, options)
    drift_part(report, options)
    for m, d in ((32, 4000), (16, 8000)) if options.quick else ((512, 300_000), (256, 1_000_000)):
        static_part(report, options, m, d)
    for m in (32, 64) if options.quick else (512, 1024):
        window_part(report, options, m)
    disk_part(report, options)
    pruning_part(report, options)
    return report


@contextmanager
def on(threads):
    """ntsolve and BLAS with that many threads."""
    (threadpoolctl,) = need("threadpoolctl")
    with ntsolve.config(threads=threads), threadpoolctl.threadpool_limits(threads, "blas"):
        yield


def words(threads):
    return f"{threads} thread{'s' * (threads > 1)}"


RECURSION = f"the paper's recursion, NumPy, {words(THREADS)}"


# ---- accuracy -------------------------------------------------------------------------------------------------------


def accuracy_part(report, options):
    """Set up and solve, with right-hand sides within the span of the gradients and across it."""
    m, d = (32, 600) if options.quick else (256, 20_000)
    rng = np.random.default_rng(0)
    worst = 0.0
    for duplicates in (0, 10):
        G = gradients(m, d, rng, duplicates=duplicates)
        exact = Exact(G)
        X = np.stack([rng.standard_normal(d), np.sqrt(d) * G.mean(0)]).astype(np.float32)
        for damp in (1e-8,) if duplicates or options.quick else (1e-2, 1e-4, 1e-6, 1e-8):
            true = [exact.solve(x.astype(float), damp) for x in X]

            def error(answer, true=true):
                return max(relative_error(x, y) for x, y in zip(answer, true, strict=True))

            def ours(G=G, X=X, damp=damp):
                return ntsolve.EmpiricalFisher(G, damp=damp).solve(X), None

            def peer(kind, G=G, X=X, damp=damp):
                made = kind(G, damp)
                with np.errstate(all="ignore"):
                    return [made.solve(x) for x in X], None

            kinds = {"the paper's static recursion": Recursion, "its dynamic algorithm": Dynamic}
            kinds["Woodbury's identity"] = Woodbury
            methods = [Method("ntsolve.EmpiricalFisher", ours, ours)]
            methods += [
                Method(f"{name}, float32", functools.partial(peer, kind), peer=True) for name, kind in kinds.items()
            ]
            repeated = f", {duplicates} of them twice" if duplicates else ""
            table = report.contest(
                options,
                f"Accuracy: {m} gradients of {d:,} in float32{repeated}, eigenvalues like 1/i^2 from 1, damp {damp:g}",
                methods,
                error,
                limit=np.inf,
                repeats=1,
                error_name="relative error",
                notes=("The worse of two right-hand sides, random and mean gradient; truth: float64 SVD.",),
            )
            worst = max(worst, table.entries[0].error)
    report.targets.append(Target("largest relative error of EmpiricalFisher.solve, float32", worst, 1e-6))


def drift_part(report, options):
    """A window through which gradients pass that are alike, and whose size rises and falls by a thousand."""
    m, d, steps, damp = (16, 50, 200, 1e-6) if options.quick else (128, 1000, 10_000, 1e-6)
    rng = np.random.default_rng(1)
    base, F, worst = rng.standard_normal(d), ntsolve.EmpiricalFisher.window(m, d, damp), 0.0
    for step in range(1, steps + 1):
        if step % 500 == 1:
            options.say(f"window: step {step} of {steps}")
        F.append((base + 0.05 * rng.standard_normal(d)) * 10 ** (-3 * (step % 5000) / 5000))
        if step % (steps // 10) == 0:
            G = F.gradients()
            x = rng.standard_normal(d) + base
            worst = max(worst, relative_error(F.solve(x), Exact(G).solve(x, damp)))
    text = f"largest relative error in {steps:,} steps of a window, m = {m}, d = {d:,}, damp {damp:g}"
    report.targets.append(Target(text, worst, 1e-9))


# ---- set up, solve, diagonal ----------------------------------------------------------------------------------------


def static_part(report, options, m, d):
    """What a matrix of a given size costs: to be ready, a solve, 16 of them, the diagonal."""
    damp, rng = 1e-2, np.random.default_rng(2)
    G = rng.standard_normal((m, d), dtype=np.float32)
    G *= np.float32(np.sqrt(m / d))
    x = rng.standard_normal(d, dtype=np.float32)
    at, size = f"{m} gradients of {d:,}", f"({d:,}, {m})"

    def check(made):
        return residual(G, damp, made.solve(x), x)

    def ours(threads):
        with on(threads):
            return ntsolve.EmpiricalFisher(G, damp=damp), None

    def small():
        F = ntsolve.EmpiricalFisher(G[:, :4096], damp=damp)
        F.solve(x[:4096])
        F.diag()

    ready_part(report, options, G, damp, at, size, ours, small, check)
    slow = []

    def recursion():
        with on(THREADS):
            slow.append(Recursion(G, damp))
        return slow[-1], None

    fast = f"ntsolve, {words(THREADS)}"
    table = report.contest(
        options,
        f"Ready, against the recursion: {at}, float32",
        [Method(fast, functools.partial(ours, THREADS), small), Method(RECURSION, recursion, peer=True)],
        check,
        limit=1e-2,
        repeats=1,
        error_name="||F x - v|| / ||v||",
        notes=("The recursion in full, once: m (m - 1) vectors read, one after the other.",),
    )
    gain = 1 / table.ratio(fast)
    report.targets.append(Target(f"ready {size}: times as fast as the recursion", gain, 20, at_least=True))
    F, ready = ours(THREADS)[0], {entry.peer: entry.median for entry in table.entries}
    diagonal_part(report, options, F, slow[0], ready, Lapack(G, damp), at, size)
    slow.clear()
    solves(report, options, F, G, damp, at, size)


def ready_part(report, options, G, damp, at, size, ours, small, check):
    """Setting up against LAPACK, which gets the same products and factor made."""

    def lapack(threads):
        with on(threads):
            return Lapack(G, damp), None

    pairs = [Method(f"ntsolve, {words(t)}", functools.partial(ours, t), small) for t in (THREADS, 1)]
    pairs += [
        Method(f"dsyrk and dpotrf, {words(t)}", functools.partial(lapack, t), peer=True) for t in (THREADS, 1)
    ]
    table = report.contest(
        options,
        f"Ready for inverse products: {at}, float32",
        pairs,
        check,
        limit=1e-5,
        repeats=3,
        error_name="||F x - v|| / ||v||",
        notes=("LAPACK gets the gradients in float64, 65,536 columns at a time.",),
    )
    for threads in (THREADS, 1):
        ratio = table.entry(f"ntsolve, {words(threads)}").median
        ratio /= table.entry(f"dsyrk and dpotrf, {words(threads)}").median
        report.targets.append(Target(f"ready {size}, {words(threads)}: of LAPACK's time", ratio, 1.2))


def diagonal_part(report, options, F, recursion, ready, exact, at, size):
    """The diagonal, asked for once and again; `ready` are the seconds of setting up, by who is the peer."""
    some = np.linspace(0, F.d - 1, 9).astype(int)
    elements = exact.diag(some)

    def diagonal(made):
        with on(THREADS):
            return made.diag(), None

    began = time.perf_counter()
    diagonal(F)
    first = time.perf_counter() - began
    table = report.contest(
        options,
        f"Diagonal of the inverse, asked for again: {at}",
        [
            Method(f"ntsolve, {words(THREADS)}", functools.partial(diagonal, F)),
            Method(RECURSION, functools.partial(diagonal, recursion), peer=True),
        ],
        lambda answer: float(abs(answer[some] / elements - 1).max()),
        limit=1e-2,
        repeats=3,
        error_name="relative error (of 9)",
        notes=(f"ntsolve keeps the diagonal; asked for the first time it took {first:.3g} s.",),
    )
    query = {entry.peer: entry.median for entry in table.entries}
    whole = (ready[True] + query[True]) / (ready[False] + first)
    text = f"ready for the diagonal {size}, the first included: times as fast as the recursion"
    report.targets.append(Target(text, whole, 8, at_least=True))
    text = f"diagonal {size}, asked for again: times as fast as the recursion"
    report.targets.append(Target(text, query[True] / query[False], 4, at_least=True))


def solves(report, options, F, G, damp, at, size):
    """One right-hand side against the bandwidth of the memory; sixteen against sixteen calls."""
    X = np.random.default_rng(3).standard_normal((16, F.d), dtype=np.float32)

    def one(threads):
        with on(threads):
            return F.solve(X[:1]), None

    def numpy():
        with on(THREADS):
            c = scipy.linalg.cho_solve(factor, G @ X[0]).astype(np.float32)
            return (X[:1] - c @ G) / np.float32(damp), None

    def together():
        with on(THREADS):
            return F.solve(X), None

    def calls():
        with on(THREADS):
            return np.stack([F.solve(x) for x in X]), None

    with on(THREADS):
        factor = scipy.linalg.cho_factor((G @ G.T).astype(float) + F.m * damp * np.eye(F.m))
    repeats = 1 if options.quick else 5

    def error(answer):
        return max(residual(G, damp, answer[row], X[row]) for row in {0, len(answer) - 1})

    names = {threads: f"ntsolve, {words(threads)}" for threads in (THREADS, 1)}
    methods = [Method(name, functools.partial(one, t), functools.partial(one, t)) for t, name in names.items()]
    methods.append(Method(f"NumPy, float32, {words(THREADS)}", numpy, peer=True))
    table = report.contest(
        options,
        f"Inverse product, one right-hand side: {at}",
        methods,
        error,
        limit=1e-3,
        repeats=repeats,
        error_name="||F x - v|| / ||v||",
    )
    for threads, name in names.items():
        bandwidth = read_bandwidth(threads, mebibytes=64 if options.quick else 512)
        share = 2 * G.nbytes / table.entry(name).median / bandwidth
        text = f"solve {size}, {words(threads)}: of the bandwidth of reading ({bandwidth / 1e9:.3g} GB/s)"
        report.targets.append(Target(text, share, 0.85, at_least=True))
    table = report.contest(
        options,
        f"Inverse products, 16 right-hand sides: {at}, {words(THREADS)}",
        [Method("ntsolve, one call", together, together), Method("ntsolve, 16 calls", calls, peer=True)],
        error,
        limit=1e-4,
        repeats=3,
        error_name="||F x - v|| / ||v||",
    )
    gain = 1 / table.ratio("ntsolve, one call")
    report.targets.append(Target(f"16 right-hand sides {size}: times as fast as 16 calls", gain, 4, at_least=True))


# ---- window ---------------------------------------------------------------------------------------------------------


def window_part(report, options, m):
    """A gradient comes, the oldest leaves: with hardly any d, and then with a usual one and F^-1 times the newest."""
    damp, steps, rng = 1e-3, 3 if options.quick else 10, np.random.default_rng(4)
    for d in (m, 4 * m if options.quick else 100_000):
        G = rng.standard_normal((m, d), dtype=np.float32) * np.float32(np.sqrt(m / d))
        coming = rng.standard_normal((steps, d), dtype=np.float32) * np.float32(np.sqrt(m / d))
        F = ntsolve.EmpiricalFisher.window(m, d, damp, start=G)
        plain = Plain(G, damp)

        def step(window, threads, coming=coming):
            with on(threads):
                for g in coming:
                    window.append(g)
                    x = window.solve_newest() if coming.shape[1] > m else None
            return (x, coming[-1], window), None

        def error(answer):
            x, g, window = answer
            x = window.solve_newest() if x is None else x
            return residual(window.gradients(), damp, x, g.astype(float))

        def factor(threads, A=plain.A):
            with on(threads):
                for _ in range(steps):
                    shifted = A.copy().T
                    shifted[np.diag_indices(len(A))] += len(A) * damp
                    scipy.linalg.lapack.dpotrf(shifted, lower=1, overwrite_a=1)
            return None, None

        for threads in (THREADS, 1):
            ours = functools.partial(step, F, threads)
            methods = [Method(f"ntsolve, {words(threads)}", ours, ours)]
            small = d == m
            if small:
                peer = Method(f"dpotrf alone, {words(threads)}", functools.partial(factor, threads), peer=True)
            else:
                new = f"NumPy and a new dpotrf, {words(threads)}"
                peer = Method(new, functools.partial(step, plain, threads), peer=True)
            table = report.contest(
                options,
                f"{steps} gradients into a window: m = {m}, d = {d:,}, {words(threads)}",
                [*methods, peer],
                lambda answer: 0.0 if answer is None else error(answer),
                limit=1e-3,
                repeats=5,
                error_name="||F x - g|| / ||g||",
                notes=("append, with its products with the others.",) if small else ("append and solve_newest.",),
            )
            gain = 1 / table.ratio(methods[0].name)
            what = "append at d = m: times as fast as dpotrf alone" if small else "step: times as fast as plain"
            text = f"window m = {m}, {words(threads)}, {what}"
            report.targets.append(Target(text, gain, 5 if small else 1, at_least=True))


# ---- on disk --------------------------------------------------------------------------------------------------------


def disk_part(report, options):
    """Gradients of 8 GB in a file, and a process that may not have more than 1 GB."""
    wanted = 8e6 if options.quick else 8e9
    free = shutil.disk_usage(tempfile.gettempdir()).free
    columns = int(min(wanted, 0.5 * free) / (4 * _disk.ROWS))
    options.say("gradients on disk")
    found = _disk.measure(columns, THREADS)
    size = found["size"]
    text = f"{size / 1e9:.3g} GB on disk ({_disk.ROWS} gradients of {columns:,})"
    seconds = found["ready"] + found["solve"]
    report.targets.append(Target(f"{text}: GB of memory at most", found["bytes"] / 1e9, 1))
    ratio = seconds / (2 * found["read"] + found["again"])  # a solve has two passes, the second like reading again
    report.targets.append(Target(f"{text}: set up and solve, of the time to read the file once per pass", ratio, 1.3))
    report.targets.append(Target(f"{text}: ||F x - v|| / ||v||", found["residual"], 1e-5))
    report.lines.append(
        f"{text}: read once in {found['read']:.3g} s ({size / found['read'] / 1e9:.3g} GB/s), again in "
        f"{found['again']:.3g} s; set up (one pass) in {found['ready']:.3g} s, solved (two) in {found['solve']:.3g} s"
    )
