"""Iteration counts of the linear bench: masks of growing size, contrast, unequal sides, odd sizes, walls and mazes."""

import functools

import numpy as np

import ntsolve

from . import _linear_problems as problems
from ._harness import Target

RTOL = 1e-6
UNSEEN = 9000  # seeds from here on: none is used in training
MASKS = 6


def system(make, seed, shape, **options):
    """(A, b) of a problem by its seed."""
    rng = np.random.default_rng([UNSEEN, seed])
    A = make(rng, shape, **options)
    return A, problems.right_hand_side(A, rng)


def iterations(A, b, M="multigrid", maxiter=5000):
    """Of ntsolve.cg, until the recomputed residual meets RTOL."""
    result = ntsolve.cg(A, b, M=M, rtol=RTOL, maxiter=maxiter)
    if not result.success:
        raise AssertionError(f"no success on {A!r}: {result.message}")
    return result.nit


def blocks(weights):
    """A preconditioner of fixed blocks: from A."""
    return functools.partial(ntsolve.LearnedMultigrid, weights=weights, coarsening="blocks")


def _words(counts):
    return f"{np.median(counts):g} (worst {max(counts)})"


def masks(report, options):
    """Growth with the size, against CG and the untrained cycle."""
    medians = {}
    for n in (16,) if options.quick else (32, 64, 128):
        plain, untrained, learned = [], [], []
        for seed in range(2 if options.quick else MASKS):
            options.say(f"masks, {n}^3: number {seed}")
            A, b = system(problems.pressure, seed, (n,) * 3)
            learned.append(iterations(A, b))
            untrained.append(iterations(A, b, blocks("untrained")(A)))
            plain.append(iterations(A, b, None))
        medians[n] = np.median(learned)
        report.lines.append(
            f"masks {n}^3, {len(learned)} unseen, iterations, median: CG {_words(plain)}, untrained cycle "
            f"{_words(untrained)}, learned {_words(learned)}"
        )
        shares = np.divide(learned, untrained)
        report.targets.append(Target(f"masks {n}^3, learned over untrained, median", np.median(shares), 0.62))
        report.targets.append(Target(f"masks {n}^3, learned over untrained, worst", max(shares), 1.05))
        if n >= 64:
            ratio = np.median(np.divide(plain, learned))
            bound = 35 if n == 64 else 60
            report.targets.append(Target(f"masks {n}^3, CG over learned, median", ratio, bound, at_least=True))
    if not options.quick:
        report.targets.append(Target("masks, iterations at 128^3 less those at 32^3", medians[128] - medians[32], 4))


def contrast(report, options):
    """Five decades: what "auto" does against fixed blocks."""
    for n in (12,) if options.quick else (48, 96):
        for name, make in problems.COEFFICIENTS.items():
            ours, fixed = [], []
            for seed in range(1 if options.quick else 4):
                options.say(f"{name} coefficients, {n}^3: number {seed}")
                A, b = system(make, 100 + seed, (n,) * 3, decades=5.0)
                ours.append(iterations(A, b))
                fixed.append(iterations(A, b, blocks("untrained")(A)))
            report.lines.append(
                f"{name} coefficients, contrast 10^5, {n}^3, iterations, median: fixed blocks {_words(fixed)}, "
                f"ours {_words(ours)}"
            )
            if name != "white":
                text = f"{name} coefficients {n}^3, iterations, worst"
                report.targets.append(Target(text, max(ours), 15))
            worst = max(np.divide(ours, fixed))
            report.targets.append(Target(f"{name} coefficients {n}^3, ours over untrained blocks, worst", worst, 1.05))


def shapes(report, options):
    """Unequal sides, odd sizes, no Dirichlet side, periodic axes, walls and mazes."""
    n = 16 if options.quick else 48
    rng = np.random.default_rng(UNSEEN)
    near = iterations_of(problems.box((n,) * 3), rng)
    for name, spacing in (("needle", (1.0, 1.0, 0.1)), ("plate", (1.0, 0.1, 0.1)), ("three sides", (1.0, 0.3, 0.1))):
        found = iterations_of(problems.box((n,) * 3, spacing=spacing), rng)
        report.targets.append(Target(f"anisotropy 1:100, {name}, {n}^3, iterations", found, 14))
    for odd in (n - 1, n - 3, (n + 2, n - 11, n + 13)):
        shape = odd if isinstance(odd, tuple) else (odd,) * 3
        found = iterations_of(problems.box(shape), rng)
        text = f"box {'x'.join(map(str, shape))}, iterations over {n}^3's {near}"
        report.targets.append(Target(text, found - near, 2))
    for name, A in (
        ("Neumann on all sides", problems.box((n,) * 3, outside="neumann")),
        ("periodic along all axes", problems.box((n,) * 3, periodic=True)),
        ("thin walls with holes", problems.thin_walls((n,) * 3)),
        ("maze of slits", problems.maze((n,) * 3)),
        ("chambers", problems.chambers(rng, (n,) * 3)),
        ("labyrinth", problems.labyrinth(rng, (n - 1,) * 3)),
        ("labyrinth, 2-D", problems.labyrinth(rng, (4 * n - 1,) * 2)),
    ):
        options.say(name)
        text = f"{name}, {'x'.join(map(str, A.grid_shape))}, iterations"
        report.targets.append(Target(text, iterations_of(A, rng), 25))


def iterations_of(A, rng):
    """With a random right-hand side."""
    return iterations(A, problems.right_hand_side(A, rng))
