"""ntsolve.solve_ot_grid against ot.emd2 on images, with a certified gap."""

import functools
import multiprocessing
import time

import numpy as np

import ntsolve
from ntsolve.demo import need

from ._data import data
from ._harness import Method, Options, Report, Target

CLAIM = (
    "Exact transport between images to a certified gap of 1e-4, squared distances, 2 threads: at least 5 times as fast "
    "as ot.emd2 on 64 x 64 pixels, 15 times on 128 x 128."
)
TOL = 1e-4
PAIRS = (
    ("classicimages1", "classicimages2"),
    ("classicimages3", "classicimages4"),
    ("shapes1", "shapes2"),
    ("shapes3", "shapes4"),
)
LARGE = PAIRS[0], PAIRS[2]
PATIENCE, LONGEST = 20, 360  # emd2 on 128 x 128 is stopped after so many times our seconds, or so many seconds
START = 120  # seconds until it has its costs


def run(options: Options) -> Report:
    """Both sizes."""
    need("ot")
    report = Report()
    if not data("dotmark").is_dir():
        report.lines.append(f"{data('dotmark')} is not there (NTSOLVE_DATA): random images take the place of its own.")
    size, pairs = (16, PAIRS[:1]) if options.quick else (64, PAIRS)
    least = min(_beside(report, pair, size, options) for pair in pairs)
    report.targets.append(Target(f"{size} x {size}: times as fast as ot.emd2, 2 threads", least, 5, at_least=True))
    if not options.quick:
        least = min(_large(report, pair, options) for pair in LARGE)
        report.targets.append(Target("128 x 128: at least so many times as fast as ot.emd2", least, 15, at_least=True))
    return report


def image(name, size):
    """A picture of DOTmark with that many pixels a side, of mass 1; without them, smooth random numbers."""
    path = data("dotmark") / f"{name}.npz"
    if path.exists():
        picture = np.load(path)["image"].astype(float)
        step = picture.shape[0] // size
        picture = picture.reshape(size, step, size, step).mean((1, 3))
    else:
        rng = np.random.default_rng(sum(map(ord, name)))
        picture = np.cumsum(np.cumsum(rng.random((size, size)) - 0.5, 0), 1)
        picture -= picture.min()
    return picture / picture.sum()


def costs(mu, nu):
    """Squared distances of the pixels with mass of one image and of the other."""
    down, across = (
        np.subtract.outer(p.astype(float), q) for p, q in zip(np.nonzero(mu), np.nonzero(nu), strict=True)
    )
    down *= down
    across *= across
    down += across
    return down


def _ours(mu, nu, threads):
    with ntsolve.config(threads=threads):
        result = ntsolve.solve_ot_grid(mu, nu, tol=TOL)
    return result.value, result.nit


def _emd(mu, nu, C):
    import ot

    return ot.emd2(mu[mu > 0], nu[nu > 0], C, numItermax=10**8), None


def _verified_lower_bound(mu, nu, C):
    """Of potentials whose feasibility is looked at pair by pair."""
    result = ntsolve.solve_ot_grid(mu, nu, tol=TOL)
    u, v = result.potentials[0][mu > 0], result.potentials[1][nu > 0]
    assert (u[:, None] + v - C).max() <= 1e-9 * C.max()
    return float(u @ mu[mu > 0] + v @ nu[nu > 0])


def _beside(report, pair, size, options):
    mu, nu = (image(name, size) for name in pair)
    C = costs(mu, nu)
    bound = _verified_lower_bound(mu, nu, C)
    names = {threads: f"ntsolve.solve_ot_grid, {threads} thread{'s' * (threads > 1)}" for threads in (2, 1)}
    methods = [Method(name, functools.partial(_ours, mu, nu, threads)) for threads, name in names.items()]
    methods.append(Method("ot.emd2", functools.partial(_emd, mu, nu, C), peer=True))
    table = report.contest(
        options,
        f"{' and '.join(pair)}, {size} x {size}, squared distances, gap {TOL:g}",
        methods,
        lambda value: abs(value - bound) / bound,
        limit=1.01 * TOL,
        repeats=2,
        error_name="cost above a verified lower bound, relative",
        notes=(f"emd2 is given pixels with mass only, {C.shape[0]} and {C.shape[1]}, with costs made beforehand.",),
    )
    return 1 / table.ratio(names[2])


def _large(report, pair, options):
    """How many times as fast at least on 128 x 128, where emd2 may take a quarter of an hour and is stopped."""
    mu, nu = (image(name, 128) for name in pair)
    options.say(f"{' and '.join(pair)}, 128 x 128")
    began = time.perf_counter()
    with ntsolve.config(threads=2):
        result = ntsolve.solve_ot_grid(mu, nu, tol=TOL)
    ours = time.perf_counter() - began
    patience = min(PATIENCE * ours, LONGEST)
    options.say(f"ot.emd2, for at most {patience:.0f} seconds")
    context = multiprocessing.get_context("spawn")
    begins, answer = context.Event(), context.Queue()
    process = context.Process(target=_emd_alone, args=(pair, begins, answer))
    process.start()
    try:
        if not begins.wait(START):
            raise MemoryError("the costs of emd2 on 128 x 128 could not be made")
        stopped = _ends_not_within(process, patience)
    finally:
        process.kill()
        process.join()
    about = f"{' and '.join(pair)}, 128 x 128: {ours:.2f} s, {result.nit} iterations, gap {result.residual:.1e}"
    seconds = patience if stopped else answer.get(timeout=10)
    stop = "had not ended and was stopped" if stopped else "ended"
    report.lines.append(f"{about}; ot.emd2, on pixels with mass only, {stop} after {seconds:.1f} s, costs not counted.")
    assert result.success
    return seconds / ours


def _ends_not_within(process, seconds):
    process.join(seconds)
    if process.exitcode:
        raise MemoryError("emd2 on 128 x 128 failed, of too little memory it seems")
    return process.is_alive()


def _emd_alone(pair, begins, answer):
    mu, nu = (image(name, 128) for name in pair)
    C = costs(mu, nu)
    begins.set()
    began = time.perf_counter()
    _emd(mu, nu, C)
    answer.put(time.perf_counter() - began)
