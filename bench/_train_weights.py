"""Made the files in ntsolve/weights, and makes them again: `python -m bench._train_weights mask-3d --out FOLDER`.

The problems are those of `_linear_problems` with seeds that no bench and no test uses. On one machine, and with one
version of the kernels, a run gives the same file bit by bit, for any number of threads; elsewhere rounding may tip the
order of two candidates, and the search ends in other weights that are about as good.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import ntsolve
from ntsolve.linalg import weights
from ntsolve.linalg.training import fractional_iterations

from . import _linear_problems as problems

SEED = 2026
PROBLEMS = 30
SHAPES = {"mask-2d": (96, 96), "mask-3d": (48, 48, 48), "coefficient-2d": (96, 96), "coefficient-3d": (32, 32, 32)}
GENERATIONS = 150
MILD = 1.4  # decades of contrast: above, cells are not joined in blocks


def mask(rng, shape):
    """A fluid among obstacles."""
    return problems.pressure(rng, shape)


def coefficient(rng, shape):
    """Mild contrast, or cells of unequal sides."""
    if rng.random() < 0.25:
        return problems.box(shape, spacing=tuple(10 ** rng.uniform(-0.7, 0.7, len(shape))))
    kinds = list(problems.COEFFICIENTS.values())
    return kinds[rng.integers(len(kinds))](rng, shape, decades=rng.uniform(0.1, MILD))


MAKERS = {"mask": mask, "coefficient": coefficient}


def training_set(family):
    """The operators that the weights of a family are trained on."""
    make, number = MAKERS[family.split("-")[0]], weights.FAMILIES.index(family)
    return [make(np.random.default_rng([SEED, number, i]), SHAPES[family]) for i in range(PROBLEMS)]


def train(family, out, say=print):
    """Train a family and write its file."""
    began = time.perf_counter()
    found = ntsolve.train_multigrid(training_set(family), generations=GENERATIONS, time_limit=None,
                                    rng=SEED)  # fmt: skip
    seconds = time.perf_counter() - began
    found.save(Path(out) / f"{family}.npz")
    say(f"{family}: {found.untrained:.2f} -> {found.trained:.2f} iterations on what it was trained on, {seconds:.0f} s")
    for name, array in found.weights.arrays().items():
        say(f"  {name} {np.round(array, 3).tolist()}")
    return found


def unseen(family, found, shape, count=6, say=print):
    """Compare with the untrained cycle on problems not trained on."""
    kind = family.split("-")[0]
    rows = []
    for i in range(count):
        rng = np.random.default_rng([SEED + 1, weights.FAMILIES.index(family), i])
        A = MAKERS[kind](rng, shape)
        b = problems.right_hand_side(A, rng)
        cycles = [ntsolve.LearnedMultigrid(A, weights=w, coarsening="blocks") for w in ("untrained", found)]
        rows.append([fractional_iterations(A, b, M) for M in cycles])
    (before, after), (worst_before, worst_after) = np.median(rows, axis=0), np.max(rows, axis=0)
    say(f"  {shape}: untrained {before:.2f} (worst {worst_before:.2f}), learned {after:.2f} ({worst_after:.2f}), "
        f"ratio {after / before:.3f}, of each {[round(a / u, 2) for u, a in rows]}")  # fmt: skip


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("family", nargs="+", choices=weights.FAMILIES)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    for family in options.family:
        found = train(family, options.out)
        for factor in (1, 2):
            unseen(family, found.weights, tuple(n * factor for n in SHAPES[family]))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
