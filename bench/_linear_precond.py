"""Preconditioners, recycling, the tuner and the watchdog, as parts of the bench `linear`; each beside a named peer."""

import functools
import itertools
import warnings

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg
import scipy.spatial

import ntsolve

from ._harness import Method, Target, contest

THREADS, RTOL, LIMIT = 2, 1e-6, 1.05e-6


def drifting(n, steps, seed=0):
    """Weighted Laplacians of a Delaunay triangulation of n random points, whose weights vary slowly."""
    rng = np.random.default_rng(seed)
    points = rng.random((n, 2))
    corners = scipy.spatial.Delaunay(points).simplices
    edges = np.unique(np.sort(np.vstack([corners[:, pair] for pair in ([0, 1], [1, 2], [0, 2])]), axis=1), axis=0)
    x, y = points[edges].mean(axis=1).T
    base = np.exp(1.5 * np.sin(7 * x) * np.cos(5 * y) + rng.standard_normal(len(edges)))
    rows, columns = np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]]
    for t in range(steps):
        weights = np.tile(base * np.exp(0.15 * np.sin(0.3 * t + 10 * y)), 2)
        G = sp.coo_array((weights, (rows, columns)), shape=(n, n)).tocsr()
        A = (sp.diags_array(G.sum(axis=1) + (points[:, 0] < 0.01)) - G).tocsr()
        A.indptr, A.indices = A.indptr.astype(np.int32), A.indices.astype(np.int32)
        yield A, np.random.default_rng(t).standard_normal(n)


def relative_residual(systems, x):
    """The largest ||b - A x|| / ||b|| of a sequence."""
    return max(np.linalg.norm(b - A @ v) / np.linalg.norm(b) for (A, b), v in zip(systems, x, strict=True))


def sequence(systems, M, k=None, recycler=None):
    """(x of each, iterations of all), with what was carried so far, or without."""
    results = []
    with ntsolve.config(threads=THREADS):
        for A, b in systems:
            results.append(ntsolve.cg(A, b, M=M, rtol=RTOL, recycle=recycler))
    return [r.x for r in results], sum(r.nit for r in results)


def scipy_sequence(systems, preconditioner):
    """The same by scipy.sparse.linalg.cg."""
    count, answers = itertools.count(), []
    for A, b in systems:
        M = preconditioner(A)
        answers.append(scipy.sparse.linalg.cg(A, b, rtol=RTOL, M=M, callback=lambda _: next(count))[0])
    return answers, next(count)


def _jacobi(A):
    return sp.diags_array(1 / A.diagonal())


def run(report, options):
    """All three parts."""
    recycling_part(report, options)
    tuner_part(report, options)
    watchdog_part(report, options)


def recycling_part(report, options):
    """Eight drifting systems: iterations and time with a Recycler against without."""
    # with Jacobi beyond the caches: in them an iteration costs hardly more than deflation
    for M, k, bound, size in (("jacobi", 10, 0.50, 100_000), ("ic0", 20, 0.35, 20_000)):
        n = 2000 if options.quick else size
        systems = list(drifting(n, 8))
        carried = ntsolve.Recycler(k=k)
        nits = []
        for A, b in systems[:4]:
            nits.append(ntsolve.cg(A, b, M=M, rtol=RTOL, recycle=carried).nit)
        fifth = systems[4:5]

        def recycled(carried=carried, fifth=fifth, M=M, k=k):
            copy = ntsolve.Recycler(k=k)  # each repeat starts from what four solves left
            copy.__dict__.update(carried.__dict__)
            return sequence(fifth, M, recycler=copy)

        def whole(systems=systems, M=M, k=k):
            return sequence(systems, M, recycler=ntsolve.Recycler(k=k))

        for title, part, method in (
            (f"the fifth of 8 drifting systems, {n:,} unknowns, M={M!r}", fifth, recycled),
            (f"all 8 drifting systems, {n:,} unknowns, M={M!r}", systems, whole),
        ):
            alone = functools.partial(sequence, part, M)
            methods = [
                Method(f"ntsolve.cg, recycle=Recycler(k={k})", method, method),
                Method("ntsolve.cg alone", alone, alone, peer=True),
            ]
            if part is fifth:
                theirs = functools.partial(scipy_sequence, part, _jacobi)
                methods.append(Method("scipy cg with Jacobi", theirs, peer=True))
            table = contest(
                title,
                methods,
                functools.partial(relative_residual, part),
                limit=LIMIT,
                repeats=3 if part is fifth and not options.quick else 1,
                error_name="largest ||b - A x|| / ||b||",
                notes=("Setup (IC(0), A W, the refresh of the Ritz vectors) is inside the time. SciPy has no IC(0).",),
                say=options.say,
            )
            report.tables.append(table)
            mine, other = (table.entry(method.name) for method in methods[:2])
            gain = mine.iterations / other.iterations
            if part is fifth:
                text = f"recycling, M={M!r}, k={k}, solve 5: iterations relative to without"
                report.targets.append(Target(text, gain, bound))
                text = f"recycling, M={M!r}, k={k}, solve 5: time relative to without"
                report.targets.append(Target(text, mine.median / other.median, 0.7))
            else:
                report.lines.append(
                    f"All 8 with M={M!r}, the first (which collects) among them: {gain:.2f} of the iterations, "
                    f"{mine.median / other.median:.2f} of the time."
                )


def tuner_part(report, options):
    """SSOR-CG on shifted Laplacians, the shift drawn for each: what the tuner reaches after 300 solves."""
    n, rounds, after = (16, 120, 60) if options.quick else (64, 600, 300)
    rng = np.random.default_rng(0)
    arms = ntsolve.RelaxationTuner().arms
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    base = (sp.kron(T, sp.eye_array(n)) + sp.kron(sp.eye_array(n), T)).tocsr()
    shifts, rhs = 10 ** rng.uniform(-4, 0.5, rounds), rng.standard_normal((20, n * n))
    options.say("tuner: the table of all arms")
    nits = np.empty((rounds, len(arms)))
    for t, shift in enumerate(shifts):
        A = base + sp.diags_array(np.full(n * n, shift))
        M = ntsolve.ssor(A, 1.0)
        nits[t] = [ntsolve.cg(A, rhs[t % 20], M=M.with_omega(omega), rtol=1e-8).nit for omega in arms]
    best, fixed = nits[after:].min(axis=1).mean(), nits[after:].mean(axis=0)
    for method in ("regression", "tsallis"):
        found = []
        for seed in range(5):
            tuner = ntsolve.RelaxationTuner(method=method, rng=seed)
            played = []
            for t, shift in enumerate(shifts):
                played.append(nits[t, arms.index(tuner.suggest(np.log10(shift)))])
                tuner.observe(played[-1])
            found.append(np.mean(played[after:]))
        reached = float(np.mean(found))
        report.lines.append(
            f"Tuner ({method}), after {after} solves, mean of 5 seeds: {reached:.1f} iterations; "
            f"instance-optimal {best:.1f}, best fixed omega {fixed.min():.1f}, omega = 1 {fixed[0]:.1f}."
        )
        if method == "regression":
            text = f"tuner after {after} solves: iterations relative to instance-optimal"
            report.targets.append(Target(text, reached / best, 1.15))
            text = f"tuner after {after} solves: times fewer iterations than omega = 1"
            report.targets.append(Target(text, fixed[0] / reached, 1.7, at_least=True))


def watchdog_part(report, options):
    """1,000 random and adversarial M beside Jacobi-CG; see tests/linalg/adversaries.py for what they are."""
    from tests.linalg.adversaries import draw

    count, ratios, wrong, worst = 60 if options.quick else 1000, [], 0, ("", 0.0)
    options.say(f"watchdog: {count} preconditioners")
    for seed in range(count):
        name, A, b, M = draw(seed)
        jacobi = ntsolve.cg(A, b, M="jacobi", rtol=1e-8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = ntsolve.cg(A, b, M=M, rtol=1e-8, on_failure="ignore")
        wrong += bool(result.success) and np.linalg.norm(b - A @ result.x) > 1.000001e-8 * np.linalg.norm(b)
        ratios.append(result.nit / jacobi.nit)
        if ratios[-1] > worst[1]:
            worst = (name, ratios[-1])
    ratios = np.array(ratios)
    report.targets += [
        Target(f"watchdog, {count} preconditioners: wrong successes", float(wrong), 0.0),
        Target("watchdog: share of costs up to 1.25 of Jacobi-CG", float((ratios <= 1.25).mean()), 1.0, at_least=True),
        Target("watchdog: the largest cost relative to Jacobi-CG", float(ratios.max()), 1.25),
    ]
    report.lines.append(f"Watchdog: cost is products with A; median {np.median(ratios):.2f} of Jacobi-CG's, 95 % below "
                        f"{np.quantile(ratios, 0.95):.2f}; the largest with {worst[0]}.")  # fmt: skip


PARTS = (recycling_part, tuner_part, watchdog_part)
