"""ntsolve.halpern against the plain iteration and Halpern's own, and finite sums against deterministic methods."""

import functools
import time

import numpy as np

import ntsolve
from ntsolve.demo._contest import Entry

from ._fixedpoint_problems import NETLIB, Game, LeastSquares, Quadratic, data, maps, pdhg
from ._harness import Options, Report, Table, Target

CLAIM = (
    "Evaluations of a map to 1e-6 of its first residual: ntsolve.halpern needs at most 0.75 of the plain iteration's "
    "on the PDHG map of three Netlib programs, never more than 1.3 of them elsewhere, and a tenth of plain Halpern's. "
    "Finite sums of 20,000: at most half the component evaluations of the deterministic restarted method to 1e-2."
)
FALL = 1e-6
CAP = 60_000  # evaluations at which the plain iteration is stopped
OURS, ANDERSON = "ntsolve.halpern", 'ntsolve.halpern, accelerate="anderson"'
SECONDS = 15.0  # for each method on the game and the quadratic program


def run(options: Options) -> Report:
    """All parts."""
    report = Report()
    to_plain, to_halpern, to_plain_pdhg = {}, {}, {}
    problems = [(*each, None) for each in maps(options.quick)]
    if data("netlib").is_dir():
        problems += [pdhg(name) for name in NETLIB[: 1 if options.quick else None]]
    else:
        report.lines.append(f"{data('netlib')} is not there (NTSOLVE_DATA): linear programs are left out.")
    for way in (None, "anderson"):  # what is loaded on the first call
        ntsolve.halpern(lambda x: 0.5 * x + 1.0, np.zeros(3), accelerate=way)
    for name, T, x0, metric in problems:
        options.say(name)
        ours, plain, halpern, table = _beside(name, T, x0, metric)
        report.tables.append(table)
        (to_plain if metric is None else to_plain_pdhg)[name] = ours / plain
        to_halpern[name] = halpern / ours
    report.targets.append(_worst("evaluations, of those of the plain iteration", to_plain, 1.3))
    if to_plain_pdhg:
        report.targets.append(_worst("evaluations on PDHG maps, of those of the plain one", to_plain_pdhg, 0.75))
    report.targets.append(_worst("times fewer evaluations than plain Halpern", to_halpern, 10, at_least=True))
    _finite_sum(report, options)
    _as_published(report, options)
    return report


def _worst(text, ratios, bound, *, at_least=False):
    name = (min if at_least else max)(ratios, key=ratios.__getitem__)
    return Target(f"{text} (the worst: {name})", ratios[name], bound, at_least)


def _timed(name, method, *, peer=False):
    """method() -> (evaluations, relative residual, reached?) as an Entry."""
    began = time.perf_counter()
    count, error, reached = method()
    seconds = time.perf_counter() - began
    return Entry(name if reached else f"{name}, stopped", peer, count, (seconds,), error)


def _plain(T, x0, tol, cap):
    x, t = x0, T(x0)
    first = residual = np.linalg.norm(x - t)
    count = 1
    while residual > tol and count < cap:
        x, t, count = t, T(t), count + 1
        residual = np.linalg.norm(x - t)
    return count, residual / first, residual <= tol


def _solved(T, x0, tol, cap, **options):
    result = ntsolve.halpern(T, x0, tol=tol, maxiter=cap, on_failure="ignore", **options)
    return result.nfev, np.linalg.norm(result.x - T(result.x)) / np.linalg.norm(x0 - T(x0)), result.success


def _beside(name, T, x0, metric):
    tol = FALL * np.linalg.norm(x0 - T(x0))
    options = {} if metric is None else {"metric": metric}
    ours = _timed(OURS, functools.partial(_solved, T, x0, tol, CAP, **options))
    cap = 12 * ours.iterations
    classic = {"reflect": False, "restart": None, "anchor": "classic"}
    others = [
        _timed(ANDERSON, functools.partial(_solved, T, x0, tol, CAP, accelerate="anderson", **options)),
        _timed("plain iteration", functools.partial(_plain, T, x0, tol, CAP), peer=True),
        _timed("plain Halpern", functools.partial(_solved, T, x0, tol, cap, **classic), peer=True),
    ]
    title = f"{name}: evaluations to {FALL:g} of the first residual"
    table = Table(title, (ours, *others), "residual / first residual", NOTES)
    return ours.iterations, others[1].iterations, others[2].iterations, table


NOTES = (
    "Iterations are evaluations of the map. 'Stopped': at so many, which is then a lower bound of what is needed.",
    "Plain Halpern is stopped at 12 times the evaluations of ntsolve.halpern.",
)


def _residual(F, x):
    value = F(None, x)
    return float(np.linalg.norm(value if F.prox is None else x - F.prox(x - value, 1.0)))


def _on_sum(solve, F, fall, evaluations=1, **options):
    """(component evaluations, relative residual, reached?) of a solver's call on a sum."""
    first = _residual(F, F.start)
    result = solve(F, fall * first, **options)
    return result.nfev * evaluations, _residual(F, result.x) / first, result.success


def _sampled(F, tol, **options):
    return ntsolve.halpern_finite_sum(F, F.n, F.start, prox=F.prox, tol=tol, on_failure="ignore", **options)


def _monotone(F, tol, **options):
    return ntsolve.monotone(lambda x: F(None, x), F.start, prox=F.prox, tol=tol, on_failure="ignore", **options)


def _gradient_steps(F, tol, **options):
    """The fixed points of x - F(x) / L, whose residual is that of F over L."""
    return ntsolve.halpern(lambda x: x - F(None, x) / F.L, F.start, tol=tol / F.L, on_failure="ignore", **options)


def _finite_sum(report, options):
    """Least squares, twenty thousand components."""
    for decades in (2,) if options.quick else (2, 1):
        F = LeastSquares(2000 if options.quick else 20_000, decades=decades)
        L, entries = (F.A**2).sum(1).max(), []
        theory = {"step": "theory", "restart": None, "lipschitz": L, "maxiter": 300}
        for fall in (1e-2,) if options.quick else (1e-1, 1e-2, 1e-3):
            ours, peer, by_theory = (
                _timed(f"{name}, to {fall:g}", functools.partial(_on_sum, solve, F, fall, count, **more), peer=peer)
                for name, solve, count, more, peer in (
                    ("ntsolve.halpern_finite_sum", _sampled, 1, {"maxiter": 3000}, False),
                    ("deterministic, restarted", _gradient_steps, F.n, {"maxiter": 3000}, True),
                    ("steps of the theory, no restarts", _sampled, 1, theory, False),
                )
            )
            entries += [ours, peer, by_theory]
            if fall == 1e-2:
                text = f"component evaluations to 1e-2, of the deterministic method's ({decades} decades)"
                report.targets.append(Target(text, ours.iterations / peer.iterations, 0.5))
        title = f"Least squares, n = {F.n:,}, columns over {decades} decades: component evaluations"
        report.tables.append(Table(title, tuple(entries), "residual / first residual", NOTES[:1]))


def _extragradient(F, fall, seconds):
    """Korpelevich's method, with a constant step."""
    x, first, step = F.start, _residual(F, F.start), 0.9 / F.L
    prox = F.prox or (lambda x, step: x)
    count, error, began = 0, 1.0, time.perf_counter()
    while error > fall and time.perf_counter() - began < seconds:
        for _ in range(50):
            ahead = prox(x - step * F(None, x), step)
            x = prox(x - step * F(None, ahead), step)
        count, error = count + 100, _residual(F, x) / first
    return count * F.n, error, error <= fall


def _as_published(report, options):
    """The paper's game and quadratic program."""
    seconds = 2.0 if options.quick else SECONDS
    sizes = (40, 20) if options.quick else (500, 200)
    for title, F in ((f"Policeman and burglar, n = {sizes[0]}", Game(sizes[0])),
                     (f"Quadratic program, n = {sizes[1]}", Quadratic(sizes[1]))):  # fmt: skip
        entries, limits = [], {"time_limit": seconds, "maxiter": 10**6}
        published = {"step": "theory", "restart": None, "lipschitz": 1 / (4 * F.published_step)}
        for fall in (1e-1,) if options.quick else (1e-1, 1e-2):
            for name, solve, count, more in (
                ("ntsolve.monotone", _monotone, F.n, {}),
                ("ntsolve.halpern_finite_sum", _sampled, 1, {}),
                ('halpern_finite_sum, method="monotone"', _sampled, 1, {"method": "monotone"}),
                ("algorithm 1 as published", _sampled, 1, published),
            ):
                method = functools.partial(_on_sum, solve, F, fall, count, **limits, **more)
                entries.append(_timed(f"{name}, to {fall:g}", method))
            peer = functools.partial(_extragradient, F, fall, seconds)
            entries.append(_timed(f"extragradient, step 0.9 / L, to {fall:g}", peer, peer=True))
        notes = (
            *NOTES[:1],
            f"Algorithm 1 with its batch, probabilities and weights, and the step {F.published_step:.2g} of the",
            f"authors' experiments. Stopped: after {seconds:g} seconds.",
        )
        title = f"{title}: component evaluations"
        report.tables.append(Table(title, tuple(entries), "residual / first residual", notes))
