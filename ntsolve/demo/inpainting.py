"""Holes in a photo filled by solving Laplace's equation, three colours in one call, beside scipy.sparse.linalg.cg.

Harmonic inpainting: in the hole each pixel is the mean of its neighbours, at its edge the photo is given. With the
graph Laplacian L of the pixels, u the unknown and k the known ones,

    L[u, u] x[u] = -L[u, k] x[k],

a symmetric positive definite system with one right-hand side for each colour. To ntsolve it is also a Poisson equation
on the grid of the pixels, known by the mask of the lost ones, which multigrid solves in a few iterations.
"""

import functools

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg

import ntsolve

from . import Options, need
from ._contest import Method, Table, contest
from ._picture import blank, name_residuals, save, show_seconds

RTOL = 1e-6
REPEATS = 3
COLOURS = ("red", "green", "blue")


def run(options: Options) -> Table:
    """Fill the holes with ntsolve and with SciPy, and compare."""
    photo = load_photo(options.quick)
    hole = damage(photo.shape[:2])
    A, b = system(photo, hole)
    n = A.shape[0]

    first = {}  # the runs that compile: they show their progress, and their histories go into the picture

    def multigrid(callback=None):
        return ntsolve.cg(grid(hole), b, M="multigrid", rtol=RTOL, callback=callback)

    def plain(callback=None):
        return ntsolve.cg(A, b, rtol=RTOL, callback=callback)

    def method(name, solve):
        def prepare():
            options.say("")
            text = f"filling {n:,} pixels"
            bar = ntsolve.progress(desc=text, leave=False, disable=None) if options.progress else None
            first[name] = solve(bar)

        def answer():
            result = solve()
            return result.x, int(result.nit.max())

        return Method(name, answer, prepare)

    methods = [
        method("ntsolve.cg, multigrid, 3 colours", multigrid),
        method("ntsolve.cg, 3 colours in one call", plain),
        Method("scipy cg, colour by colour", functools.partial(one_by_one, A, b), peer=True),
        Method("scipy cg with Jacobi, colour by colour", functools.partial(one_by_one, A, b, jacobi(A)), peer=True),
    ]
    table = contest(
        f"{n:,} lost pixels of china.jpg ({photo.shape[1]} x {photo.shape[0]}), {b.size:,} unknowns; rtol {RTOL:g}",
        methods,
        functools.partial(relative_residual, A, b),
        limit=1.01 * RTOL,
        repeats=1 if options.quick else REPEATS,
        notes=(
            "residual: ||b - A x|| / ||b||, recomputed by SciPy in float64 for each; the largest of the three colours.",
            f"ntsolve has {threads()}. Multigrid gets the mask of the lost pixels, and makes its coarse grids in the",
            "time; the others get a CSR matrix that is made beforehand, which ntsolve reads once for three colours.",
            "SciPy takes one right-hand side a call, on one thread: its sparse product has no more, and its BLAS is",
            "held to one, because with more its dots gain nothing, and lose much where the machine is busy.",
        ),
        say=options.say,
    )
    if options.plot is not None:
        options.say("drawing")
        filled = photo.copy()
        filled[hole] = first[methods[0].name].x.T
        draw(options.plot, photo, hole, filled, first, table)
    return table


def threads():
    """How many threads ntsolve may use, in words."""
    from ntsolve.kernels.settings import threads as number

    return "1 thread" if number() == 1 else f"up to {number()} threads"


# ---- the problem ----------------------------------------------------------------------------------------------------


def load_photo(quick=False):
    """scikit-learn's photo of the Summer Palace, at twice its size; in [0, 1], (height, width, 3)."""
    datasets, _ = need("sklearn.datasets", "PIL")
    photo = datasets.load_sample_image("china.jpg").astype(float) / 255
    return photo[130:290, 240:440] if quick else twice(photo)


def twice(photo):
    """Twice the size, by linear interpolation."""
    for axis in (0, 1):
        photo = np.moveaxis(photo, axis, 0)
        between = np.concatenate([(photo[:-1] + photo[1:]) / 2, photo[-1:]])
        photo = np.moveaxis(np.stack([photo, between], 1).reshape(-1, *photo.shape[1:]), 0, axis)
    return photo


def damage(shape, seed=7):
    """True where a pixel is lost: blots, scratches, and a part where three of four pixels are gone."""
    rng = np.random.default_rng(seed)
    height, width = shape
    y, x = np.meshgrid(np.arange(height) / height, np.arange(width) / height, indexing="ij")
    wide = width / height

    def ellipse(centre, radii, angle):
        dx, dy = x - centre[0], y - centre[1]
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        return (along / radii[0]) ** 2 + (across / radii[1]) ** 2

    hole = np.zeros(shape, dtype=bool)
    for _ in range(9):
        centre = rng.uniform((0.05, 0.05), (wide - 0.05, 0.95))
        hole |= ellipse(centre, rng.uniform(0.02, 0.065, 2), rng.uniform(0, np.pi)) < 1
    for _ in range(12):  # scratches: y = a + b x + c sin(...)
        line = rng.uniform(-0.3, 1.3) + rng.uniform(-0.9, 0.9) * (x - wide / 2)
        line += rng.uniform(0.005, 0.03) * np.sin(rng.uniform(4, 12) * x + rng.uniform(0, 6))
        hole |= abs(y - line) < rng.uniform(0.002, 0.006)
    gone = np.clip(1.6 - ellipse((0.62 * wide, 0.52), (0.27, 0.17), 0.4), 0, 0.75)
    return hole | (rng.random(shape) < gone)


def laplacian(shape):
    """Graph Laplacian of a grid of pixels, each joined with its (up to four) neighbours."""

    def chain(n):
        degree = np.full(n, 2.0)
        degree[[0, -1]] = 1
        return sp.diags_array([-np.ones(n - 1), degree, -np.ones(n - 1)], offsets=[-1, 0, 1])

    rows, columns = (chain(n) for n in shape)
    return sp.csr_array(sp.kron(rows, sp.eye_array(shape[1])) + sp.kron(sp.eye_array(shape[0]), columns))


def system(photo, hole):
    """A (n, n) and b (3, n) of the lost pixels."""
    lost = np.flatnonzero(hole)
    known = np.flatnonzero(~hole)
    rows = laplacian(hole.shape)[lost]
    b = -(rows[:, known] @ photo.reshape(-1, photo.shape[-1])[known])
    return rows[:, lost], np.ascontiguousarray(b.T)


def grid(hole):
    """The same A as an operator on the grid: known pixels are cells of a given value, nothing flows over the edge."""
    return ntsolve.GridOperator.poisson(hole, solid=np.zeros_like(hole), outside="neumann")


# ---- the peer, and the check ----------------------------------------------------------------------------------------


def jacobi(A):
    """The inverse of A's diagonal, as SciPy takes it."""
    inverse = 1 / A.diagonal()
    return scipy.sparse.linalg.LinearOperator(A.shape, matvec=lambda r: inverse * r, dtype=A.dtype)


def one_by_one(A, b, M=None):
    """SciPy's cg for each right-hand side; the most iterations."""
    (threadpoolctl,) = need("threadpoolctl")  # scikit-learn brings it
    counts: list[int] = []

    def count(_):
        counts[-1] += 1

    x = []
    with threadpoolctl.threadpool_limits(1, "blas"):
        for row in b:
            counts.append(0)
            x.append(scipy.sparse.linalg.cg(A, row, rtol=RTOL, M=M, callback=count)[0])
    return np.stack(x), max(counts)


def relative_residual(A, b, x):
    """The largest ||b - A x|| / ||b||, by SciPy's product."""
    return max(np.linalg.norm(row - A @ answer) / np.linalg.norm(row) for row, answer in zip(b, x, strict=True))


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(path, photo, hole, filled, results, table):
    """Before, after, what differs; how the residuals fell, and what it took; results by method."""
    figure = blank(13, 8.2)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 0.92), squeeze=False).flat
    before = np.where(hole[..., None], 0.04, photo)
    share = 100 * hole.mean()
    for axes, image, title in zip(
        top.subplots(1, 2),
        (before, filled),
        (f"{hole.sum():,} of {hole.size:,} pixels lost ({share:.0f} %)", "filled by ntsolve.cg, multigrid"),
        strict=True,
    ):
        axes.imshow(np.clip(image, 0, 1), interpolation="antialiased")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()

    error, fall, times = bottom.subplots(1, 3, width_ratios=(1.25, 1, 1))
    difference = abs(filled - photo).mean(-1)
    shown = error.imshow(difference, cmap="magma", vmin=0, vmax=max(1e-3, float(np.quantile(difference, 0.995))))
    figure.colorbar(shown, ax=error, shrink=0.72, label="of full brightness")
    error.set_title("distance to the lost original", fontsize=11)
    error.set_axis_off()

    shades = ("#c0392b", "#27ae60", "#2c6fbb")
    multigrid, plain = results.values()
    for result, style in ((multigrid, "-"), (plain, ":")):
        for history, steps, colour, name in zip(result.history.T, result.nit, shades, COLOURS, strict=True):
            label = name if result is multigrid else None
            fall.semilogy(history[: steps + 1] / history[0], color=colour, label=label, lw=1.5, ls=style)
    fall.semilogy([], [], color="0.4", ls=":", label="without multigrid")
    name_residuals(fall, RTOL)
    show_seconds(times, table, f"seconds, median of {len(table.entries[0].seconds)}")
    save(figure, path)
