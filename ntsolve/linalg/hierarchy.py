"""The levels of a multigrid cycle on a grid: how they are coarsened, and the memory that one application needs.

From each level to the next, blocks of two cells along some axes become one cell: along those on which the mean
conductance of the faces is at least STRONG times that of the strongest, and on which there is still something to
coarsen. With P piecewise constant on blocks, a face of the coarse grid has alpha times the sum of the fine faces that
it covers where its axis was coarsened, and that sum where it was not; the coupling to fixed values is alpha_s times
the sum over the block. A block at an odd end has one cell. The coarsest level is solved by a dense inverse (of the
nonsingular part, where the operator is singular).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.contracts import split as layout
from ..kernels.contracts import workspace_shape
from ..kernels.contracts.cycle import small_levels
from . import bottom
from .linear_operator import WithKernels

STRONG = 0.4
BOTTOM = 64  # cells of the coarsest level, about
LARGEST_BOTTOM = 256  # where periodic axes leave no more to coarsen
PERIODIC = (2, 2, 16)  # what the length of a periodic axis must be a multiple of on every level
WATCHED = (1, 2)  # levels at which `merged` looks
SMALL = 4096  # cells of a level from which on downwards one call does the cycle


@dataclass(frozen=True)
class Plan:
    """Sizes of the levels, finest first, and the factors from each to the next."""

    sizes: tuple[tuple[int, int, int], ...]
    factors: tuple[tuple[int, int, int], ...]
    wrap: tuple[int, int, int]


def three(shape, middle=1):
    """A tuple of 2 or 3 entries, one an axis of the grid, as (x, y, z) of the kernels."""
    return tuple(shape) if len(shape) == 3 else (shape[0], middle, shape[1])


def plan(sizes, strength, wrap=(0, 0, 0), alpha=0.5):
    """Decide what is coarsened when.

    Parameters
    ----------
    sizes : (nx, ny, nz)
    strength : three floats
        Mean conductance of the open faces of each axis; 0 where there are none.
    wrap : three of 0 or 1
        Periodic axes.

    Returns
    -------
    Plan or None
        None for a periodic axis that the kernels cannot do: of odd length, or of one along z that is no multiple of 16.
    """
    sizes, strength = list(sizes), list(strength)
    if any(w and n % s for n, w, s in zip(sizes, wrap, PERIODIC, strict=True)):
        return None
    all_sizes: list[Any] = [tuple(sizes)]
    factors: list[Any] = []
    while math.prod(sizes) > BOTTOM:
        able = [n > 2 and (not w or n % (2 * s) == 0) for n, w, s in zip(sizes, wrap, PERIODIC, strict=True)]
        most = max((c for c, a in zip(strength, able, strict=True) if a), default=None)
        if most is None:
            break
        factor = tuple(2 if a and c >= STRONG * most else 1 for a, c in zip(able, strength, strict=True))
        covered = math.prod(factor)
        strength = [c * alpha * covered / 2 if f == 2 else c * covered for c, f in zip(strength, factor, strict=True)]
        sizes = [-(-n // f) for n, f in zip(sizes, factor, strict=True)]
        all_sizes.append(tuple(sizes))
        factors.append(factor)
    return Plan(tuple(all_sizes), tuple(factors), tuple(wrap)) if math.prod(sizes) <= LARGEST_BOTTOM else None


def strengths(k, A):
    """Mean conductance of the open faces along each axis (x, y, z) of a GridOperator."""
    if A.kind == "mask":
        return three((1.0,) * A.ndim, 0.0)
    sums, counts = np.array([[float(f.sum()), int((f > 0).sum())] for f in A.own_faces()]).T.copy()
    A.comm.total(sums, counts)
    return three(tuple((sums / np.maximum(1, counts)).tolist()), 0.0)


def jumps(k, A, size):
    """How many neighbours on a line of cells, on average, have diagonals that differ by more than a factor of `size`.

    Of the axis that has the most of them. Every other line is looked at where there are many.
    """
    if A.kind == "mask":
        return 0.0
    diagonals = k.to_host(A.diag).reshape(-1, *A.grid_shape)
    step = 2 if math.prod(A.whole_shape) > 100_000 else 1
    first = slice(-A.offset % step, None, step)  # of the planes of a slab, which need not begin with plane 0
    counts = np.zeros((A.ndim, 2))
    for axis in range(1, A.ndim + 1):
        d = A.diagonals_and_next() if axis == 1 else diagonals[:, first]
        d = d[(slice(None),) * 2 + tuple(slice(None, None, 1 if other == axis else step) for other in range(2, d.ndim))]
        here = d[(slice(None),) * axis + (slice(None, -1),)]
        there = d[(slice(None),) * axis + (slice(1, None),)]
        both = (here > 0) & (there > 0)
        with np.errstate(over="ignore"):  # infinity is more than any
            jump = both & ((here > size * there) | (there > size * here))
        counts[axis - 1] = int(jump.sum()), int(both.sum())
    A.comm.total(counts)
    return max(count / max(1, pairs) * (n - 1) for (count, pairs), n in zip(counts, A.whole_shape, strict=True))


class Levels(WithKernels):
    """The stencils of all levels of a GridOperator under given weights, and the inverse of the coarsest.

    Attributes
    ----------
    plan : Plan
    weights : Weights
    first : int
        The level of the whole hierarchy that is the first here; its stencil is then given, in the natural order.
    stencils : list
        (d, fx, fy, fz) of each level but the small ones, as the kernels take them.
    merged : list of float
        For the coarsening of the second and the third level, the share of the pairs of cells it joins that walls part.
        Where it is large, the coarse grid has ways through walls.
    """

    def __init__(self, k, A, layout_plan, weights, *, first=0, given=None):
        self.k, self.grid, self.plan, self.weights, self.first = k, A, layout_plan, weights, first
        self.scale = coefficient_scale(k, A)
        self.batch = A.batch_shape[0] if A.batch_shape else 1
        sizes, factors, wrap = layout_plan.sizes, layout_plan.factors, layout_plan.wrap
        self.first_small = next((i for i, s in enumerate(sizes) if i and math.prod(s) <= SMALL), len(sizes) - 1)
        self.stencils, self.merged, small = [], [], []
        given = finest(k, A, sizes[0]) if given is None else given
        if self.first_small:
            self.stencils.append(split_stencil(k, given, wrap))
        for level, factor in enumerate(factors):
            _, _, alpha, alpha_s = weights.at(first + level)
            coarse = [k.xp.empty((self.batch, *sizes[level + 1]), "float32") for _ in range(4)]
            if first + level in WATCHED:
                pairs, apart = pairs_of(k, given[1:], factor)
                self.merged.append(apart / max(1, pairs))
            k.stencil_coarsen(*given, alpha, alpha_s, factor, wrap, *coarse)
            given = (None, *coarse)
            if level + 1 < self.first_small:
                self.stencils.append(split_stencil(k, given, wrap))
            elif level + 2 < len(sizes):
                small.append(split_stencil(k, given, wrap))
        self._small(given, sizes[self.first_small :], factors[self.first_small :], wrap, small)

    def relaxation(self, level):
        """(w of red, w of black)"""
        return self.weights.at(self.first + level)[:2]

    def _small(self, given, sizes, factors, wrap, stencils):
        xp = self.k.xp
        levels, cells, self.room = small_levels(sizes, factors, wrap)
        weights = np.array([self.relaxation(self.first_small + i) for i in range(len(sizes))], dtype="float32")
        parts = [self.k.to_host(part).reshape(self.batch, -1) for stencil in stencils for part in stencil]
        stencil = np.concatenate([np.zeros((self.batch, 0), "float32"), *parts], axis=1)
        natural = given[1:] if given[0] is None else _open(self.k.to_host(given[0]), wrap)
        inverse = xp.asarray(dense_inverse(*map(self.k.to_host, natural)))
        self.small = (xp.asarray(levels), xp.asarray(weights), xp.asarray(stencil), inverse, xp.asarray(cells))


class Hierarchy:
    """A cycle ready to be applied to `batch` vectors at a time: the levels, and memory for the vectors on each.

    Attributes
    ----------
    grid : GridOperator
    scale : float
        The cycle approximates the inverse of scale A.
    layout : (nx, ny, nz)
    split_shape : (2, X, Y, H)
        Of its vectors, without the batch.
    wrap : three of 0 or 1
    stencil : (d, fx, fy, fz) or None
        Of scale A on the finest level; None where that is the only one.
    settles : bool
        Whether r - A M r is 0 on black cells, for any r.
    """

    def __init__(self, levels, batch, zeros=None, *, settle=False):
        self.levels, self.k, self.settles = levels, levels.k, settle and bool(levels.stencils)
        zeros = zeros or levels.k.xp.zeros
        xp, sizes = self.k.xp, levels.plan.sizes
        self.batch, self.grid, self.scale, self.wrap = batch, levels.grid, levels.scale, levels.plan.wrap
        self.layout, self.split_shape = sizes[0], layout.split_shape(*sizes[0])
        self.stencil = levels.stencils[0] if levels.stencils else None
        coarse = [(batch, *layout.split_shape(*s)) for s in sizes[1 : levels.first_small + 1]]
        self._coarse = [(zeros(shape, "float32"), zeros(shape, "float32")) for shape in coarse]
        large = [layout.split_shape(*s) for s in sizes[: levels.first_small]]
        self._black = [zeros((batch, *shape[1:]), "float32") for shape in large]
        self._work = [xp.zeros((batch, 2, shape[1])) for shape in large]
        self._rz = xp.zeros(batch)
        self._dots = xp.empty(workspace_shape(batch, math.prod(self.split_shape)))
        self._room = xp.zeros((batch, levels.room), "float32")
        self._relaxation = [levels.relaxation(level) for level in range(levels.first_small)]

    def apply(self, r, z, rz):
        """z = M r and rz = r.z: r, z float32 (batch, 2, X, Y, H), whose ghosts are 0; rz (batch,) float64."""
        k, plan, last = self.k, self.levels.plan, self.levels.first_small
        vectors = [(r, z), *self._coarse]
        for level in range(last):
            k.cycle_down(vectors[level][0], *self.levels.stencils[level], *self._relaxation[level],
                         plan.factors[level], plan.wrap, self._black[level], vectors[level + 1][0])  # fmt: skip
        k.cycle_small(*vectors[last], *self.levels.small, self._room)
        if not last:
            k.dot(r.reshape(len(r), -1), z.reshape(len(z), -1), rz, self._dots)
        for level in reversed(range(last)):
            k.cycle_up(vectors[level][0], *self.levels.stencils[level], *self._relaxation[level],
                       plan.factors[level], plan.wrap, self.settles and not level, self._black[level],
                       vectors[level + 1][1], vectors[level][1], self._rz if level else rz,
                       self._work[level])  # fmt: skip


# ---- pieces ---------------------------------------------------------------------------------------------------------


def split_stencil(k, natural, wrap):
    """(d, fx, fy, fz) as the kernels take them, of a stencil in the natural order as `finest` gives it."""
    open_faces, *parts = natural
    if open_faces is not None:
        d = k.xp.zeros((len(open_faces), *layout.split_shape(*open_faces.shape[1:])), "uint8")
        k.codes_split(open_faces, d)
        return d, None, None, None
    shape = (len(parts[0]), *layout.split_shape(*parts[0].shape[1:]))
    d, *split = (k.xp.empty(shape, "float32") for _ in range(4))
    k.stencil_split(*parts, wrap, d, *split, None)
    return d, *split


def finest(k, A, sizes):
    """(open faces, None, ...) of a mask, (None, fx, fy, fz, s) of coefficients, scaled to a size of about 1."""
    xp, batch = k.xp, A.batch_shape[0] if A.batch_shape else 1
    if A.kind == "mask":
        return A.open_faces.reshape(batch, *sizes), None, None, None, None
    scale = coefficient_scale(k, A)
    parts = [(part * scale).astype("float32").reshape(batch, *sizes) for part in (*A.faces, A.sink)]
    if A.ndim == 2:
        parts.insert(1, xp.zeros_like(parts[0]))
    return None, *parts


def coefficient_scale(k, A):
    """The power of two by which the coefficients of A are multiplied inside the cycle; 1 / scale of a mask."""
    if A.kind == "mask":
        return 1.0 / A.scale
    return math.ldexp(1.0, min(1000, -math.frexp(A.top)[1])) if A.top > 0 else 1.0


def pairs_of(k, stencil, factor, planes=slice(None)):
    """The pairs of cells that a coarsening joins: those in use, and of these those that walls part.

    Cells with fixed values between them are not, where these hold them both: joining them does no harm. Only those of
    some planes, an even one to begin with.
    """
    counts = k.xp.empty((*stencil[0].shape[:2], 2))
    k.parted_pairs(*stencil, factor, counts)
    return k.to_host(counts)[:, planes].sum(axis=(0, 1)).tolist()


def _open(d, wrap):
    """(fx, fy, fz, s) of a mask in the natural order, on the host."""
    used = (d > 0).astype("float32")
    faces = []
    for axis, w in zip((1, 2, 3), wrap, strict=True):
        face = used * np.roll(used, -1, axis)
        if not w:
            face[(slice(None),) * axis + (-1,)] = 0
        faces.append(face)
    if d.shape[2] == 1:
        faces[1] = np.zeros_like(faces[1])
    return *faces, d - sum(face + np.roll(face, 1, axis) for axis, face in zip((1, 2, 3), faces, strict=True))


def dense_inverse(fx, fy, fz, s):
    """(batch, n, n) float32: the inverses of small stencils, of their nonsingular parts where they are singular."""
    batch, *sizes = s.shape
    n = math.prod(sizes)
    number = np.arange(n).reshape(sizes)
    weights = np.zeros((batch, n, n))
    for axis, face in enumerate((fx, fy, fz)):
        weights[:, number.ravel(), np.roll(number, -1, axis).ravel()] += face.reshape(batch, n)
    weights += weights.swapaxes(1, 2)
    weights[:, np.arange(n), np.arange(n)] = 0  # a period of one cell leads to itself
    return np.stack([bottom.inverse(*one) for one in zip(weights, s.reshape(batch, n), strict=True)]).astype("float32")
