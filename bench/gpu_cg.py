"""ntsolve.cg on the GPU against CuPy: 100,000 small dense systems in one call, and one of ten million unknowns."""

import functools
import warnings

import ntsolve
from ntsolve import _environment

from ._floor import cg_bytes, sentence
from ._harness import Method, Options, Report, Target
from ._problems import dense_spd, poisson, relative_residual

CLAIM = (
    "CG on the GPU: 100,000 dense systems of order 32 in one call, beside cupy.linalg.solve; a 2-D Poisson problem of "
    "10^7 unknowns, beside cupyx.scipy.sparse.linalg.cg; both against the memory's bandwidth."
)
RTOL = 1e-10
STEPS = 300


def run(options: Options) -> Report:
    """Both parts; nothing but a line where there is no GPU."""
    found, why_not = _environment.gpus()
    report = Report()
    if not found:
        report.lines.append(f"not run, this needs a GPU: {why_not}")
        return report
    import cupy

    bandwidth = copy_bandwidth(cupy, 64 if options.quick else 2048)
    batch_part(report, options, cupy, bandwidth)
    poisson_part(report, options, cupy, bandwidth)
    return report


def copy_bandwidth(cupy, mebibytes, repeats=9):
    """Bytes a second, read plus written, of a copy on the device, by CUDA events; the best of a few."""
    source = cupy.ones(mebibytes * 2**20 // 8)
    target = cupy.zeros_like(source)
    best = float("inf")
    for _ in range(repeats):
        began, ended = cupy.cuda.Event(), cupy.cuda.Event()
        began.record()
        cupy.copyto(target, source)
        ended.record()
        ended.synchronize()
        best = min(best, cupy.cuda.get_elapsed_time(began, ended) / 1e3)
    return 2 * source.nbytes / best


def wait(cupy):
    """Until the device has done all it was asked to."""
    cupy.cuda.Device().synchronize()


def batch_part(report, options, cupy, bandwidth):
    """Many small dense systems; the peer factorises them."""
    count, n = (2000 if options.quick else 100_000), 32
    A, b = dense_spd(count, n, cupy.random.default_rng(1), cupy)

    def iterate():
        result = ntsolve.cg(A, b, rtol=RTOL)
        return result.x, int(result.nit.max())

    def factorise():
        return cupy.linalg.solve(A, b[..., None])[..., 0], None

    name = "ntsolve.cg, one call"
    table = report.contest(
        options,
        f"{count:,} dense SPD systems of order {n}, rtol {RTOL:g}",
        [Method(name, iterate, iterate), Method("cupy.linalg.solve", factorise, factorise, peer=True)],
        functools.partial(relative_residual, A, b),
        limit=1.01 * RTOL,
        repeats=15,
        error_name="largest ||b - A x|| / ||b||",
        notes=(
            "cupy.linalg.solve is direct: more accurate than asked, and good for any invertible matrix;",
            "CG lives on these being symmetric, positive definite and well conditioned.",
            f"Floor: the matrices read once, {A.nbytes / bandwidth * 1e3:.3g} ms at {bandwidth / 1e9:.4g} GB/s (copy).",
        ),
        synchronize=functools.partial(wait, cupy),
    )
    report.targets.append(Target(f"{name}, ratio to cupy.linalg.solve", table.ratio(name), 1.0))


def poisson_part(report, options, cupy, bandwidth):
    """One large sparse system, a fixed number of iterations."""
    import cupyx.scipy.sparse
    import cupyx.scipy.sparse.linalg

    n = 200 if options.quick else 3163
    A = poisson(n, cupy, cupyx.scipy.sparse)
    b = cupy.random.default_rng(0).standard_normal(n * n)

    def ours(steps=STEPS):
        result = ntsolve.cg(A, b, rtol=0.0, maxiter=steps, on_failure="ignore")
        return result.x, result.nit

    def peer(steps=STEPS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, _ = cupyx.scipy.sparse.linalg.cg(A, b, rtol=0.0, maxiter=steps)
        return x, steps

    name = "ntsolve.cg"
    table = report.contest(
        options,
        f"2-D Poisson, {n} x {n} = {n * n:,} unknowns, CSR, {STEPS} iterations of each",
        [Method(name, ours, ours), Method("cupyx cg", peer, functools.partial(peer, 10), peer=True)],
        functools.partial(relative_residual, A, b),
        limit=1e3,  # not solved in so few iterations, and the residual of CG rises at first: `agree` is the check
        agree=0.01,
        repeats=5,
        error_name="||b - A x|| / ||b||",
        notes=("A fixed number of iterations, because solving takes thousands; the residuals must agree to 1 %.",),
        synchronize=functools.partial(wait, cupy),
    )
    report.targets.append(Target(f"{name}, ratio to cupyx.scipy.sparse.linalg.cg", table.ratio(name), 1.0))
    per_step = {entry.method: entry.median / entry.iterations for entry in table.entries}
    report.lines.append(sentence(name, cg_bytes(n * n, A.nnz), per_step[name], bandwidth))
    report.lines += [f"{method}: {1e3 * seconds:.3g} ms an iteration" for method, seconds in per_step.items()]
