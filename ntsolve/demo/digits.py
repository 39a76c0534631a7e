"""One handwritten digit turned into the next by moving its ink along a transport plan, beside POT.

Displacement interpolation (McCann, "A convexity principle for interacting gases", Adv. Math. 128, 1997): the plan P
moves the mass P_ij from pixel x_i of one image to pixel y_j of the other, so that at time t it is at
(1 - t) x_i + t y_j.
"""

import functools
import itertools
import warnings

import numpy as np

import ntsolve

from . import Options, need
from ._contest import Method, Table, contest
from ._picture import blank, save

REG = 3e-3  # of squared distances, in units of the image's diagonal
TOL = 1e-7
SIDE = 8
REPEATS = 3
FRAMES = 7
FINE = 4  # pixels of a frame to one of the image


def run(options: Options) -> Table:
    """Plans from each digit to the next, with ntsolve and with POT."""
    images = load_digits(4 if options.quick else 10)
    C, pairs = costs(), list(itertools.pairwise(images))
    methods = [
        Method("ntsolve.solve_ot", functools.partial(transport, C, pairs), functools.partial(transport, C, pairs)),
        Method("ot.sinkhorn, sinkhorn_log", functools.partial(pot, C, pairs, tolerance(C, pairs)), peer=True),
    ]
    table = contest(
        f"{len(pairs)} pairs of digits of {SIDE} x {SIDE} pixels, one after the other; reg {REG:g}, plans included",
        methods,
        functools.partial(marginal_error, pairs),
        limit=TOL,
        repeats=1 if options.quick else REPEATS,
        error_name="L1 marginal error",
        notes=(
            "Error and iterations: the most of all pairs. POT is asked for the accuracy of the contest, hardly more;",
            "its other methods fail here: they divide by the weights, and there are pixels without ink.",
        ),
        say=options.say,
    )  # fmt: skip
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, [frames(plan) for plan in transport(C, pairs)[0]])
    return table


# ---- the problem ----------------------------------------------------------------------------------------------------


def load_digits(count):
    """scikit-learn's first images of 0, 1, 2, ...: (64,) each, of sum 1. Pixels without ink stay so."""
    (datasets,) = need("sklearn.datasets")
    data = datasets.load_digits()
    images = [data.images[np.flatnonzero(data.target == digit)[0]].reshape(-1) for digit in range(count)]
    return [image / image.sum() for image in images]


def pixels():
    """Where the pixels are, (64, 2)."""
    return np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2).astype(float)


def costs():
    """Squared distances of the pixels, the largest of which is 1."""
    x = pixels()
    return ((x[:, None, :] - x[None]) ** 2).sum(-1) / (2 * (SIDE - 1) ** 2)


def transport(C, pairs):
    """The plans, and the most iterations."""
    results = [ntsolve.solve_ot(C, a, b, reg=REG, tol=TOL) for a, b in pairs]
    return [result.plan for result in results], max(int(result.nit) for result in results)


def frames(plan):
    """Images (FRAMES, side, side) of the mass on its way."""
    x, side = pixels(), FINE * SIDE
    rows, columns = np.nonzero(plan > 1e-7)
    mass = plan[rows, columns]
    shown = []
    for t in np.linspace(0, 1, FRAMES):
        place = FINE * ((1 - t) * x[rows] + t * x[columns]) + (FINE - 1) / 2
        shown.append(blurred(place, mass, side))
    return np.stack(shown)


def blurred(place, mass, side):
    """An image of points, each as wide as a pixel."""
    grid = np.arange(side)
    down, across = (np.exp(-(((grid - place[:, axis, None]) / (0.75 * FINE)) ** 2)) for axis in (0, 1))
    return np.einsum("k,ki,kj->ij", mass, down, across)


# ---- the peer, and the check ----------------------------------------------------------------------------------------


def pot(C, pairs, threshold):
    """POT's plans, and its most iterations."""
    (ot,) = need("ot")
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # log 0, of pixels without ink
        warnings.simplefilter("ignore")
        options = {"method": "sinkhorn_log", "stopThr": threshold, "numItermax": 100_000, "log": True}
        found = [ot.sinkhorn(a, b, C, REG, **options) for a, b in pairs]
    return [plan for plan, _ in found], max(log["niter"] for _, log in found)


def tolerance(C, pairs):
    """The largest threshold of POT's, which is of a 2-norm, from which all plans are as accurate as asked."""
    threshold = TOL
    while threshold > 1e-3 * TOL:
        error = marginal_error(pairs, pot(C, pairs, threshold)[0])
        if error <= TOL:
            break
        threshold *= 0.9 * TOL / error
    return threshold


def marginal_error(pairs, plans):
    """The largest |P 1 - a|_1 + |P'1 - b|_1."""
    return max(abs(P.sum(1) - a).sum() + abs(P.sum(0) - b).sum() for P, (a, b) in zip(plans, pairs, strict=True))


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(path, films):
    """A row for each pair, from one digit to the next."""
    figure = blank(1.1 * FRAMES, 1.1 * len(films), layout=None)
    shown = figure.subplots(len(films), FRAMES, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for row, film in zip(shown, films, strict=True):
        for axes, frame in zip(row, film, strict=True):
            axes.imshow(frame, cmap="gray_r", vmin=0)
            axes.set(xticks=[], yticks=[])
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99)
    save(figure, path)
