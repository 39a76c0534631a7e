"""Weights taken out of a small network for handwritten digits, by ntsolve.prune and, for comparison, by their size.

No training afterwards. The optimal brain surgeon takes out the weights that the loss needs least, in several steps, and
changes the others to make up for them; magnitude pruning takes out the smallest. Accuracy is that on digits which
neither the training nor the pruning has seen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import ntsolve

from . import Options, need
from ._network import Network, digits
from ._picture import blank, save

SPARSITIES = (0.5, 0.7, 0.8, 0.9)
DAMP = 1e-5
EXAMPLES = 512  # whose gradients make the Fisher matrix


@dataclass(frozen=True)
class Method:
    """``run(task, sparsity)`` gives the weights."""

    name: str
    run: Callable


@dataclass(frozen=True)
class Task:
    """A trained network, the examples that gradients are taken of, and those that accuracy is measured on."""

    network: Network
    weights: np.ndarray
    pixels: np.ndarray
    labels: np.ndarray
    held_out_pixels: np.ndarray
    held_out_labels: np.ndarray

    def gradients(self, w):
        """(EXAMPLES, d): of the loss of each example."""
        return self.network.gradients(w, self.pixels[:EXAMPLES], self.labels[:EXAMPLES])

    def accuracy(self, w):
        """On the held-out digits."""
        return self.network.accuracy(w, self.held_out_pixels, self.held_out_labels)


def task(seed=0):
    """Train a network: 0.2 seconds."""
    data, network, rng = digits(seed), Network(), np.random.default_rng(seed + 100)
    weights = network.train(data.pixels, data.labels, rng)
    return Task(network, weights, data.pixels, data.labels, data.held_out_pixels, data.held_out_labels)


def surgeon(recomputes=1, joint=True):
    """The optimal brain surgeon, with gradients taken anew for each step."""

    def run(task, sparsity):
        pruned = ntsolve.prune(
            task.weights, task.gradients, sparsity=sparsity, recomputes=recomputes, joint=joint, damp=DAMP
        )
        return pruned.weights

    return run


def magnitude(task, sparsity):
    """The smallest weights set to zero."""
    w = task.weights.copy()
    w[np.argsort(abs(w))[: round(sparsity * w.size)]] = 0
    return w


MAGNITUDE = Method("smallest weights (magnitude)", magnitude)
METHODS = (
    Method("ntsolve.prune, 12 recomputes", surgeon(12)),
    Method("ntsolve.prune, 6 recomputes", surgeon(6)),
    Method("ntsolve.prune, at once", surgeon()),
    Method("ntsolve.prune, at once, joint=False", surgeon(joint=False)),
    MAGNITUDE,
)


@dataclass(frozen=True)
class Accuracies:
    """The outcome; as text, a table. `shares[name]` has the accuracy at each sparsity."""

    title: str
    sparsities: tuple[float, ...]
    shares: dict[str, tuple[float, ...]]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()

    def __str__(self):
        head = ("weights taken out", *(f"{s:.0%}".replace("%", " %") for s in self.sparsities), "seconds")
        rows = [
            (name, *(f"{100 * share:.1f}" for share in shares), f"{self.seconds[name]:.2g}")
            for name, shares in self.shares.items()
        ]
        cells = [head, *rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells = [(row[0].ljust(widths[0]), *row[1:]) for row in cells]
        return "\n".join([self.title, "", *("  ".join(map(str.rjust, row, widths)) for row in cells), "", *self.notes])


def one_blas_thread():
    """A context: matrices as small as these gain nothing from more, and lose much where the machine is busy."""
    (threadpoolctl,) = need("threadpoolctl")  # scikit-learn brings it
    return threadpoolctl.threadpool_limits(1, "blas")


def run(options: Options) -> Accuracies:
    """Train, prune at several sparsities, and compare."""
    with one_blas_thread():
        return compare(options)


def compare(options):
    """What `run` does."""
    options.say("training")
    network = task()
    sparsities = SPARSITIES[:2] if options.quick else SPARSITIES
    methods = (METHODS[1], MAGNITUDE) if options.quick else METHODS
    options.say("first call, not timed")
    surgeon(3)(network, 0.97)  # so far that all kernels come to be used
    shares, seconds = {}, {}
    for method in methods:
        began, found = time.perf_counter(), []
        for sparsity in sparsities:
            options.say(f"{method.name}: {sparsity:.0%}")
            found.append(network.accuracy(method.run(network, sparsity)))
        shares[method.name], seconds[method.name] = tuple(found), time.perf_counter() - began
    before = network.accuracy(network.weights)
    sizes = "-".join(map(str, network.network.sizes))
    table = Accuracies(
        f"a network of {network.weights.size:,} weights ({sizes}) that has {100 * before:.1f} % of "
        f"{len(network.held_out_labels)} held-out digits right; % right after pruning",
        sparsities,
        shares,
        seconds,
        notes=(
            f"No training after the pruning. Fisher matrix of {EXAMPLES} gradients, damp {DAMP:g}.",
            "Seconds: for all sparsities, BLAS on one thread.",
        ),
    )
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, network, table)
    return table


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(path, task, table):
    """Accuracy against sparsity; and how many connections each pixel has left at one of them."""
    figure = blank(13, 4.4)
    curves, *maps = figure.subplots(1, 4, width_ratios=(1.8, 1, 1, 1))
    colours = dict(zip(table.shares, ("#163a63", "#2c6fbb", "#7fb0e0", "#27ae60", "#c0392b"), strict=False))
    colours[MAGNITUDE.name] = "#c0392b"
    before = 100 * task.accuracy(task.weights)
    for name, shares in table.shares.items():
        x, y = [0, *(100 * s for s in table.sparsities)], [before, *(100 * share for share in shares)]
        curves.plot(x, y, "o-", color=colours[name], label=name, lw=1.8, ms=4)
    curves.set(xlabel="weights taken out, %", ylabel="held-out digits right, %", ylim=(0, 103))
    curves.legend(frameon=False, loc="lower left", fontsize=9)
    curves.spines[["top", "right"]].set_visible(False)

    shown = table.sparsities[-1]
    rows, columns = task.network.shapes[0]
    surgeons = surgeon(6)(task, shown)
    pictures = [
        (task.held_out_pixels.mean(0), "the mean digit", "gray_r", None),
        (surgeons, "ntsolve.prune, 6 recomputes", "Blues", columns),
        (magnitude(task, shown), "magnitude", "Reds", columns),
    ]
    for axes, (values, title, colour, most) in zip(maps, pictures, strict=True):
        if most is not None:
            values = (values[: rows * columns].reshape(rows, columns) != 0).sum(1)
            title = f"connections of each pixel\n{title}, {shown:.0%}"
        axes.imshow(values.reshape(8, 8), cmap=colour, vmin=0, vmax=most and max(1, values.max()))
        if most is not None:
            for pixel, count in enumerate(values):
                dark = "white" if count > 0.6 * values.max() else "0.3"
                axes.text(pixel % 8, pixel // 8, str(count), ha="center", va="center", fontsize=7, color=dark)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    save(figure, path)
