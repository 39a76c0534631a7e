"""The colours of one photo given to another by optimal transport between their pixels, beside POT.

The pixels of a photo are points in the cube of red, green and blue. A plan P between samples x_i of one photo and y_j
of the other, at squared distances, says where each colour goes (Ferradans, Papadakis, Peyre, Aujol, "Regularized
discrete optimal transport", SIAM J. Imaging Sci. 7, 2014): to the mean of what it is sent to,

    x_i -> sum_j P_ij y_j / sum_j P_ij.

Pixels that are not in the sample are moved as their nearest neighbours in it.
"""

import functools
import warnings

import numpy as np

import ntsolve

from . import Options, need
from ._contest import Method, Table, contest
from ._picture import blank, save

REG = 5e-3  # of costs up to 3
TOL = 1e-7
SAMPLES = 1000
NEIGHBOURS = 8
REPEATS = 3


def run(options: Options) -> Table:
    """Transport the colours with ntsolve and with POT, and compare."""
    photos = load_photos(options.quick)
    X, Y = (sample(photo, 150 if options.quick else SAMPLES, seed) for seed, photo in enumerate(photos))
    C = costs(X, Y)
    methods = [
        Method("ntsolve.solve_ot", functools.partial(transport, C), functools.partial(transport, C)),
        Method("ot.sinkhorn", functools.partial(pot, C, tolerance(C)), peer=True),
    ]
    table = contest(
        f"{len(X):,} colours of china.jpg to {len(Y):,} of flower.jpg; reg {REG:g}, plan included",
        methods,
        functools.partial(marginal_error, C),
        limit=TOL,
        repeats=1 if options.quick else REPEATS,
        error_name="L1 marginal error",
        notes=(
            f"The sums of each plan's rows and columns are recomputed, and have to be right to {TOL:g} in all. POT has",
            "another measure; its threshold is set so that this is met and not much more, its BLAS held to one thread.",
        ),
        say=options.say,
    )
    if options.plot is not None:
        options.say("drawing")
        plan, _ = transport(C)
        draw(options.plot, photos, (X, Y), plan)
    return table


# ---- the problem ----------------------------------------------------------------------------------------------------


def load_photos(quick=False):
    """scikit-learn's two photos, of a Chinese palace and of a flower; in [0, 1], (height, width, 3)."""
    datasets, _ = need("sklearn.datasets", "PIL")
    step = 8 if quick else 2
    photos = (datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg"))
    return [photo[::step, ::step].astype(float) / 255 for photo in photos]


def sample(photo, count, seed):
    """Colours of some pixels, (count, 3)."""
    pixels = photo.reshape(-1, 3)
    return pixels[np.random.default_rng(seed).choice(len(pixels), count, replace=False)]


def costs(X, Y):
    """Squared distances in the cube of colours."""
    return ((X[:, None, :] - Y[None]) ** 2).sum(-1)


def transport(C):
    """The plan, and the number of iterations."""
    result = ntsolve.solve_ot(C, reg=REG, tol=TOL)
    return result.plan, int(result.nit)


def recolour(pixels, X, Y, plan):
    """Colours (count, 3) moved as those of the sample X are, to the means of what the plan sends them to."""
    from scipy.spatial import KDTree

    shift = plan @ Y / plan.sum(1, keepdims=True) - X
    distance, near = KDTree(X).query(pixels, k=NEIGHBOURS)
    weight = 1 / (distance + 0.01)
    return pixels + (weight[..., None] * shift[near]).sum(1) / weight.sum(1, keepdims=True)


# ---- the peer, and the check ----------------------------------------------------------------------------------------


def pot(C, threshold):
    """POT's plan, and its iterations."""
    ot, threadpoolctl = need("ot", "threadpoolctl")  # scikit-learn brings the latter
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1, "blas"):
        warnings.simplefilter("ignore")
        plan, log = ot.sinkhorn([], [], C, REG, stopThr=threshold, numItermax=20_000, log=True)
    return plan, log["niter"]


def tolerance(C):
    """The largest threshold of POT's, which is of a 2-norm, from which the plan is as accurate as asked."""
    threshold = TOL
    while threshold > 1e-3 * TOL:
        error = marginal_error(C, pot(C, threshold)[0])
        if error <= TOL:
            break
        threshold *= 0.9 * TOL / error
    return threshold


def marginal_error(C, plan):
    """|P 1 - a|_1 + |P'1 - b|_1 for uniform a and b."""
    n, m = C.shape
    return abs(plan.sum(1) - 1 / n).sum() + abs(plan.sum(0) - 1 / m).sum()


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(path, photos, samples, plan):
    """Both photos, each in the colours of the other, and the samples in the cube of colours."""
    figure = blank(13, 8.2)
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 0.9))
    X, Y = samples
    for row, (photo, moved, name) in enumerate((
        (photos[0], (X, Y, plan), "flower"),
        (photos[1], (Y, X, plan.T), "palace"),
    )):  # fmt: skip
        other = recolour(photo.reshape(-1, 3), *moved).reshape(photo.shape)
        for column, (image, title) in enumerate(((photo, "as it is"), (other, f"in the colours of the {name}"))):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(np.clip(image, 0, 1), interpolation="antialiased")
            axes.set_title(title, fontsize=11)
            axes.set_axis_off()
        cube = figure.add_subplot(grid[row, 2], projection="3d")
        cube.scatter(*samples[row].T, c=samples[row], s=9, depthshade=False)
        cube.set(xlabel="red", ylabel="green", zlabel="blue", xlim=(0, 1), ylim=(0, 1), zlim=(0, 1))
        cube.set_box_aspect(None, zoom=0.85)
        cube.set_title(f"{len(samples[row]):,} of its pixels", fontsize=11)
    save(figure, path)
