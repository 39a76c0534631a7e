"""Hot smoke rises past a ball and through a grate in a box; its pressure by ntsolve.cg with multigrid, and by SciPy.

An incompressible flow in steps of one time unit (J. Stam, "Stable Fluids", SIGGRAPH 1999): smoke and velocity are
carried along the flow, buoyancy adds upward velocity, and a pressure p takes the divergence out of it. With v the
velocities through the faces of the cells,

    A p = -div v,    v <- v - grad p,

A the Poisson operator of the cells that are not solid: no flow through walls and obstacles, p = 0 above the open top.
It is symmetric positive definite, and solving for p is most of the work where that is done by plain CG.
"""

import functools
import itertools
from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage
import scipy.sparse.linalg

import ntsolve

from . import Options
from ._contest import Method, Table, contest
from ._picture import blank, name_residuals, save, show_seconds

RTOL = 1e-6
REPEATS = 3
BUOYANCY = 0.25


def run(options: Options) -> Table:
    """Let smoke rise; solve for the last pressure with ntsolve and with SciPy, and compare."""
    box = Box((24, 16, 16)) if options.quick else Box((72, 48, 48))
    steps = 3 if options.quick else 40
    bar = ntsolve.progress(desc="the first pressure", leave=False, disable=None) if options.progress else None
    for step in range(steps):
        options.say(f"smoke rises: step {step + 1} of {steps}, {box.iterations} iterations in the last")
        box.step(callback=bar if step == 0 else None)
    b = box.right_hand_side
    matrix = box.pressure.tocsr()

    methods = [
        Method("ntsolve.cg, multigrid", functools.partial(multigrid, box.pressure, b),
               functools.partial(multigrid, box.pressure, b)),
        Method("ntsolve.cg, multigrid, CSR recognised", functools.partial(multigrid, matrix, b),
               functools.partial(multigrid, matrix, b)),
        Method("scipy cg", functools.partial(scipy_cg, matrix, b), peer=True),
    ]  # fmt: skip
    table = contest(
        f"pressure in a box of {' x '.join(map(str, box.shape))} cells, {b.size:,} unknowns; rtol {RTOL:g}",
        methods,
        lambda p: np.linalg.norm(b - matrix @ p) / np.linalg.norm(b),
        limit=1.01 * RTOL,
        repeats=1 if options.quick else REPEATS,
        notes=(
            "residual: ||b - A p|| / ||b||, recomputed by SciPy in float64 for each. Set-up is in the time: ntsolve",
            "makes its coarse grids in every call. It gets the grid, SciPy a CSR matrix that is made beforehand; the",
            "second line gets that matrix as well.",
        ),
        say=options.say,
    )
    if options.plot is not None:
        options.say("drawing")
        draw(options.plot, box, matrix, b, table)
    return table


def multigrid(A, b):
    """(p, iterations) of ntsolve."""
    result = ntsolve.cg(A, b, M="multigrid", rtol=RTOL)
    return result.x, result.nit


def scipy_cg(A, b, each=None):
    """(p, iterations) of SciPy; `each` gets the iterates."""
    count = itertools.count()

    def callback(p):
        next(count)
        if each is not None:
            each(p)

    p, _ = scipy.sparse.linalg.cg(A, b, rtol=RTOL, callback=callback)
    return p, next(count)


# ---- the flow -------------------------------------------------------------------------------------------------------


@dataclass
class Box:
    """Smoke in a box; the first axis points upwards."""

    shape: tuple[int, int, int]
    smoke: np.ndarray = field(init=False)
    velocity: np.ndarray = field(init=False)  # (3, *shape), at the centres of the cells
    solid: np.ndarray = field(init=False)
    divergence: np.ndarray = field(init=False)
    iterations: int = field(init=False, default=0)

    def __post_init__(self):
        self.smoke, self.velocity = np.zeros(self.shape), np.zeros((3, *self.shape))
        self.divergence = np.zeros(self.shape)
        self.solid = obstacles(self.shape)
        ends = [("neumann", "dirichlet"), "neumann", "neumann"]  # open at the top
        self.pressure = ntsolve.GridOperator.poisson(~self.solid, solid=self.solid, outside=ends)

    @property
    def right_hand_side(self):
        """b of the pressure, of the flow before it was made free of divergence."""
        return -self.divergence[~self.solid]

    def step(self, callback=None):
        """One unit of time."""
        self._source()
        places = np.indices(self.shape) - self.velocity  # where what comes to a cell has been
        self.smoke, *moved = (
            scipy.ndimage.map_coordinates(f, places, order=1, mode="nearest") for f in (self.smoke, *self.velocity)
        )
        self.velocity = np.stack(moved)
        self.velocity[0] += BUOYANCY * self.smoke
        faces = [self._faces(axis) for axis in range(3)]
        self.divergence = sum(np.diff(f, axis=axis) for axis, f in enumerate(faces))
        self.divergence[self.solid] = 0
        result = ntsolve.cg(self.pressure, self.right_hand_side, M="multigrid", rtol=RTOL, callback=callback)
        self.iterations = result.nit
        p = np.zeros(self.shape)
        p[~self.solid] = result.x
        for axis, f in enumerate(faces):
            drop = np.diff(p, axis=axis, append=0.0) if axis == 0 else np.diff(p, axis=axis)
            inner = np.moveaxis(f, axis, 0)[1:] if axis == 0 else np.moveaxis(f, axis, 0)[1:-1]
            inner -= np.where(np.moveaxis(self._open(axis), axis, 0), np.moveaxis(drop, axis, 0), 0)
            low, high = np.moveaxis(f, axis, 0)[:-1], np.moveaxis(f, axis, 0)[1:]
            self.velocity[axis] = np.moveaxis((low + high) / 2, 0, axis)
        self.velocity[:, self.solid] = 0
        self.smoke[self.solid] = 0

    def _source(self):
        """Smoke comes out of a disc in the floor."""
        high, deep, wide = self.shape
        y, x = np.ogrid[:deep, :wide]
        disc = (y - deep / 2) ** 2 + (x - wide / 2) ** 2 < (0.16 * wide) ** 2
        layers = slice(0, max(2, high // 24))
        self.smoke[layers, disc] = 1.0
        self.velocity[0, layers, disc] = 1.0

    def _open(self, axis):
        """Whether flow may pass each face between two cells; with those to the open top for the first axis."""
        fluid = np.moveaxis(~self.solid, axis, 0)
        inner = fluid[:-1] & fluid[1:]
        if axis == 0:
            inner = np.concatenate([inner, fluid[-1:]])
        return np.moveaxis(inner, 0, axis)

    def _faces(self, axis):
        """The velocity through the faces across an axis, none through walls."""
        v = np.moveaxis(self.velocity[axis], axis, 0)
        faces = np.zeros((v.shape[0] + 1, *v.shape[1:]))
        faces[1:-1] = (v[:-1] + v[1:]) / 2
        faces[-1] = v[-1]
        last = None if axis == 0 else -1
        faces[1:last] *= np.moveaxis(self._open(axis), axis, 0)
        if axis:
            faces[-1] = 0
        return np.moveaxis(faces, 0, axis)


def obstacles(shape):
    """A ball above the source, and a grate of bars above the ball."""
    high, deep, wide = shape
    z, y, x = np.ogrid[:high, :deep, :wide]
    ball = (z - 0.36 * high) ** 2 + (y - deep / 2) ** 2 + (x - 0.46 * wide) ** 2 < (0.15 * wide) ** 2
    pitch = max(4, wide // 8)
    bars = ((x % pitch) < pitch / 3) & (abs(z - 0.68 * high) < high / 60) & (y >= 0)
    return ball | bars


# ---- the picture ----------------------------------------------------------------------------------------------------


def draw(path, box, matrix, b, table):
    """The smoke, the pressure, how the residuals fell, and what it took."""
    norm = np.linalg.norm(b)
    ours = ntsolve.cg(box.pressure, b, M="multigrid", rtol=RTOL).history / norm
    theirs = [1.0]
    scipy_cg(matrix, b, lambda p: theirs.append(float(np.linalg.norm(b - matrix @ p) / norm)))

    figure = blank(13, 5.2)
    seen, cut, fall, times = figure.subplots(1, 4, width_ratios=(0.75, 0.75, 1, 1))
    through = np.exp(-0.25 * box.smoke.sum(axis=1))  # light through the smoke
    shade = 0.75 * box.solid.any(axis=1)
    seen.imshow(np.clip(1 - through + 0.25 * shade, 0, 1), origin="lower", cmap="bone", vmin=0, vmax=1)
    seen.set_title("smoke, seen from the front", fontsize=11)
    p = np.full(box.shape, np.nan)
    p[~box.solid] = ntsolve.cg(box.pressure, b, M="multigrid", rtol=RTOL).x
    middle = p[:, box.shape[1] // 2]
    top = np.nanmax(abs(middle)) or 1.0
    shown = cut.imshow(middle, origin="lower", cmap="RdBu_r", vmin=-top, vmax=top)
    cut.set_facecolor("0.25")
    cut.set_title("pressure, cut in the middle", fontsize=11)
    figure.colorbar(shown, ax=cut, shrink=0.6)
    for axes in (seen, cut):
        axes.set_xticks([])
        axes.set_yticks([])

    fall.loglog(np.arange(1, len(theirs) + 1), theirs, color="#8e9aaf", label="scipy cg")
    fall.loglog(np.arange(1, len(ours) + 1), ours, color="#2c6fbb", lw=2, label="ntsolve.cg, multigrid")
    name_residuals(fall, RTOL)
    show_seconds(times, table, "seconds, set-up and solve")
    save(figure, path)
