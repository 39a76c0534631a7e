"""The part of the linear bench on deep conjugate directions: iterations, and what one of them costs."""

import time
import warnings

import numpy as np

import ntsolve

from . import _linear_problems as problems
from ._harness import Target

RTOL = 1e-4
MOST = 100  # iterations that are waited for
UNSEEN = 9100  # seeds of domains from here on; the training has seed 0 and another generator


def fixed_values(rng, shape):
    """A region with the value 0 around it and in its holes: between level lines of a random field, or a star."""
    while True:
        if rng.random() < 0.5:
            field = problems.noise(rng, shape, rng.uniform(2.5, 3.5))
            mask = abs(field - rng.uniform(-0.5, 0.5)) < rng.uniform(0.6, 1.5)
        else:
            x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
            rays = np.cos(rng.integers(3, 7) * np.arctan2(x[0], x[1]) + rng.uniform(0, 6))
            mask = sum(a**2 for a in x) < (0.7 + rng.uniform(0.05, 0.25) * rays) ** 2
            mask &= sum((a - c) ** 2 for a, c in zip(x, rng.uniform(-0.4, 0.4, len(shape)), strict=True)) > 0.02
        if mask.mean() > 0.15:
            return ntsolve.GridOperator.poisson(mask)


FAMILIES = {"the value 0 around": fixed_values, "walls, obstacles and air": problems.pressure}


def run(report, options):
    """Both parts."""
    iterations(report, options)
    cost(report, options)


def iterations(report, options):
    """Against CG, on domains that were not trained on, at the sizes of the training and at twice them."""
    sizes = [(16, 16), (8, 8, 8)] if options.quick else [(64, 64), (128, 128), (32, 32, 32), (64, 64, 64)]
    for family, make in FAMILIES.items():
        for shape in sizes:
            name = f"deep conjugate directions, {family}, {' x '.join(map(str, shape))}"
            rows = []
            for seed in range(2 if options.quick else 5 if shape == (64, 64, 64) else 8):  # that one takes long
                options.say(f"{name}: number {seed}")
                rng = np.random.default_rng([UNSEEN, seed])
                A = make(rng, shape)
                b = problems.right_hand_side(A, rng)
                M = ntsolve.DeepConjugateDirection(A)
                network = ntsolve.DeepConjugateDirection(A, blocks=False)
                blocks = ntsolve.DeepConjugateDirection(A, weights=identity(len(shape)))
                rows.append((_plain(A, b), *(_solve(M, b, kept) for kept in (2, "auto")), _flexible(A, M, b),
                             _solve(network, b, 2), _solve(blocks, b, 2, 1000)))  # fmt: skip
            plain, published, longer, flexible, network, blocks = np.array(rows).T
            for what, nit in (("2 directions as published", published), ("more where slow", longer)):
                title = f"{name}: iterations of CG to {RTOL:g} over its own, {what}, median"
                report.targets.append(Target(title, np.median(plain / nit), 5, at_least=True))
            report.lines.append(
                f"{name}, iterations to {RTOL:g}, median (worst) of {len(rows)}: CG {_words(plain)}, 2 directions as "
                f"published {_words(published)}, with more where slow {_words(longer)}, as M of cg {_words(flexible)}; "
                f"with 2 directions, the network without the blocks {_words(network)}, the blocks without the network "
                f"{_words(blocks)}"
            )


def _plain(A, b):
    return ntsolve.cg(A, b, rtol=RTOL).nit


def identity(dim):
    """The parameters of a network that gives what it gets."""
    made, taps = {}, (3,) * dim
    for level in range(3):
        for part, inputs in (("feature1", 3), ("feature2", 1), ("gate", 1), ("enter", 1), ("leave", 1)):
            made[f"levels.{level}.{part}.weight"] = np.zeros((1, inputs, *taps), dtype=np.float32)
        for part in ("feature1", "feature2", "gate"):
            made[f"levels.{level}.{part}.bias"] = np.ones(1, dtype=np.float32)
    for part in ("enter", "leave"):
        made[f"levels.0.{part}.weight"][(0, 0, *(1,) * dim)] = 1
    return made


def _solve(M, b, directions, most=MOST):
    """Iterations of the paper's method; those that are not enough count as infinitely many."""
    result = M.solve(b, rtol=RTOL, maxiter=most, directions=directions, on_failure="ignore")
    return result.nit if result.success else np.inf


def _flexible(A, M, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ntsolve.PerformanceWarning)  # where M was given up
        result = ntsolve.cg(A, b, M=M, rtol=RTOL, on_failure="ignore")
    return result.nit if result.success else np.inf


def _words(counts):
    return f"{np.median(counts):g} ({max(counts):g})"


def cost(report, options):
    """Of one application, beside that of an iteration of CG and one with the learned multigrid cycle."""
    for shape in [(16, 16), (8, 8, 8)] if options.quick else [(128, 128), (64, 64, 64)]:
        A = ntsolve.GridOperator.poisson(np.ones(shape, dtype=bool))
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        M, cycle = ntsolve.DeepConjugateDirection(A), ntsolve.LearnedMultigrid(A)
        each = {
            "an application of the network with its blocks": _seconds(lambda M=M, b=b: M.matvec(b), 5) / b.size,
            "an iteration of CG with the learned multigrid": _iteration(A, b, cycle, 4, 10) / b.size,
            "an iteration of plain CG": _iteration(A, b, None, 20, 120) / b.size,
        }
        words = ", ".join(f"{name} {1e9 * seconds:.3g} ns" for name, seconds in each.items())
        report.lines.append(
            f"{' x '.join(map(str, shape))}, time an unknown: {words}; the network has {M.parameters:,} parameters and "
            f"takes {M.flops:,.0f} floating-point operations an unknown"
        )


def _seconds(call, repeats):
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _iteration(A, b, M, few, many):
    """Seconds of one iteration, from what many and few of them take."""
    times = [
        _seconds(lambda n=n: ntsolve.cg(A, b, M=M, rtol=1e-14, maxiter=n, on_failure="ignore"), 7) for n in (few, many)
    ]
    return (times[1] - times[0]) / (many - few)
