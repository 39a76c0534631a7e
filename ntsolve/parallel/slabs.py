"""Operators on a grid of which every rank has a slab: consecutive planes along the first axis.

A is that of `ntsolve.linalg.grid`, divided by rows: a rank has the unknowns of its planes. Its part of A consists of
the block of these unknowns, which is again the operator of a grid (cells of other ranks are cells of value 0 there),
and of the faces to the neighbouring planes. Besides its own, a rank keeps the coefficients of GHOSTS planes or more on
each side, its `extended` slab: the block of A of those. That is what the multigrid cycle works on, see slabcycle.py.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..linalg import grid_faces
from ..linalg.grid import GridOperator
from ..linalg.grid_faces import Border
from ..linalg.grid_rows import Form
from .comm import join
from .planes import Slabs, Spread
from .slabnull import null_space
from .slabrows import SlabRows

GHOSTS = 4
"""Three planes that a cycle gets wrong where a slab ends, and one whose directions a product with A needs."""


class SlabOperator(GridOperator):
    """This rank's part of a `GridOperator` that was made with ``comm=``.

    Vectors are this rank's part of those of the whole grid, (N,) or in the shape of the slab. What is written here of
    the faces, `sink`, `cells`, `diag` and so on is that of the block of this rank's unknowns.

    Attributes
    ----------
    shape : (N, N)
        N the number of this rank's unknowns.
    grid_shape, whole_shape : tuple
        Extents of the slab, and of the whole grid.
    offset : int
        The first plane of the slab.
    comm : Ranks
    """

    def __init__(self, k, communicator, ranks, slabs, held, extended):
        self.communicator, self._ranks, self.slabs, self.extended = communicator, ranks, slabs, extended
        self._null: Any = ...
        self.held = held  # range of planes of the extended slab
        self.offset, end = slabs.own(ranks.rank)
        self.inside = slice(self.offset - held[0], end - held[0])  # of the extended slab
        options: dict[str, Any] = {}
        if extended.kind == "mask":
            options = {"open_faces": extended.open_faces[self.inside]}
        else:
            along, *across = (face[self.inside] for face in extended.faces)
            along = along.copy()
            along[-1] = 0
            options = {"faces": (along, *across), "diag": extended.diag[self.inside]}
            self.top = extended.top
        super().__init__(k, extended.mask[self.inside], extended.ends, spacing=extended.spacing, dtype=extended.dtype,
                         kind=extended.kind, scale=extended.scale, weak=extended.weak, **options)  # fmt: skip

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def comm(self):
        if getattr(self._ranks, "broken", False):  # a solve has failed; the operator is as good as it was
            self._ranks = join(self.communicator)
        return self._ranks

    @property
    def multigrid(self):
        """What a `LearnedMultigrid` of it is."""
        from .slabcycle import SlabMultigrid

        return SlabMultigrid

    @property
    def whole_shape(self):
        return (self.slabs.count, *self.grid_shape[1:])

    @property
    def whole_periodic(self):
        """The periodic axes of the whole grid."""
        return (self.slabs.wrap, *self.periodic[1:])

    @functools.cached_property
    def sink(self):
        if self.kind == "mask":
            return super().sink
        total, inside = self.own_sink().copy(), self.inside
        along, planes = self.extended.faces[0], self.held[1] - self.held[0]
        if inside.start > 0:
            total[0] += along[inside.start - 1]
        if inside.stop < planes:
            total[-1] += along[inside.stop - 1]
        return total

    @property
    def null(self):  # no cached_property, whose lock would keep ranks that are threads from talking to each other
        if self._null is ...:
            self._null = null_space(self)
        return self._null

    def own_faces(self):
        return tuple(face[self.inside] for face in self.extended.faces)

    def own_sink(self):
        """What the faces of its unknowns to cells of value 0 conduct, of the whole grid."""
        return self.extended.sink[self.inside]

    def diagonals_and_next(self):
        end = self.inside.stop + (self.slabs.own(self.comm.rank)[1] < self.slabs.count)
        with kernels_for(mask=self.mask) as k:
            return k.to_host(self.extended.diag[self.inside.start : end])[None]

    def whole(self, k):
        """The operator of the whole grid, on every rank."""
        gather = lambda array: self.comm.gather(k.xp.ascontiguousarray(array[self.inside]))
        one, wrap = self.extended, self.whole_periodic
        options = {"spacing": one.spacing, "dtype": one.dtype, "kind": one.kind, "scale": one.scale, "weak": one.weak}
        if one.kind == "mask":
            options["open_faces"] = gather(one.open_faces)
        else:
            options |= {"faces": tuple(map(gather, one.faces)), "sink": gather(one.sink), "diag": gather(one.diag)}
        ends = Border(one.ends.low, one.ends.high, wrap)  # low and high are no longer asked for
        return GridOperator(k, gather(one.mask), ends, **options)

    def __repr__(self):
        whole = "x".join(map(str, self.whole_shape))
        here = f"planes {self.offset} to {self.offset + self.grid_shape[0] - 1} of {whole} cells"
        return f"<SlabOperator: {self.counts[0]} unknowns on {here}, {self.kind}>"

    # ---- what it does -----------------------------------------------------------------------------------------------

    def among(self, comm):
        if not (comm is None or comm is self.communicator or join(comm) is self.comm):
            raise ValueError("comm is not the communicator that A, a GridOperator, was made with")
        return self.comm

    def matvec(self, x):
        """This rank's part of A x, in x's form: ``(..., N)`` or ``(..., *grid_shape)``. All ranks call it."""
        with self.comm.together():
            return super().matvec(x)

    __matmul__ = matvec

    def on_rows(self, k, dtype):
        return SlabRows(k, self, dtype)

    def linear_system(self, k, b, x0, **options):
        given = options["names"][1]
        form = Form.of(self, given, b)
        kinds = {given: b, options["start"]: x0}
        kinds = {f"the dtype of {name}": None if v is None else str(v.dtype) for name, v in kinds.items()}
        self.comm.alike(**kinds, **{f"the leading axes of {given}": str(form.lead)})
        return super().linear_system(k, b, x0, **options)

    def tocsr(self):
        raise TypeError("a GridOperator that is divided among ranks is not given as a matrix")


# ---- how it is made -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Widened:
    """What a constructor was given, on the planes of an extended slab and one more on each side."""

    slabs: Slabs
    held: tuple  # range of planes of the extended slab
    got: tuple  # that of the arrays
    unknown: Any
    wall: Any
    kappa: Any
    ends: Border
    spacing: tuple

    def cut(self, array):
        """Only the planes of the extended slab."""
        return array[self.held[0] - self.got[0] : self.held[1] - self.got[0]]

    @property
    def options(self):
        return {"spacing": self.spacing, "ndim": len(self.spacing)}


def poisson(communicator, mask, solid, spacing, outside, periodic, ndim):
    """`GridOperator.poisson` of this rank's slab."""
    with join(communicator).together() as ranks:
        mask = grid_faces.booleans("mask", mask)
        with kernels_for(mask=mask, solid=solid) as k:
            wide = _widened(k, ranks, mask, solid, None, spacing, outside, periodic, ndim)
            if len(set(wide.spacing)) > 1:
                return _of_faces(k, communicator, ranks, wide, k.xp.ones(wide.unknown.shape), weak=True)
            count = grid_faces.open_faces(k, wide.unknown, wide.wall, wide.ends)
            one = GridOperator(k, wide.cut(wide.unknown), wide.ends, dtype="float64", kind="mask", weak=True,
                               scale=grid_faces.weights(wide.spacing)[0], open_faces=wide.cut(count),
                               **wide.options)  # fmt: skip
            return SlabOperator(k, communicator, ranks, wide.slabs, wide.held, one)


def diffusion(communicator, kappa, mask, solid, spacing, outside, periodic, ndim):
    """`GridOperator.diffusion` of this rank's slab."""
    with join(communicator).together() as ranks:
        kappa, mask = grid_faces.numbers("kappa", kappa, mask)
        with kernels_for(kappa=kappa, mask=mask, solid=solid) as k:
            mask = k.xp.ones(kappa.shape, dtype=bool) if mask is None else mask
            wide = _widened(k, ranks, mask, solid, kappa, spacing, outside, periodic, ndim)
            return _of_faces(k, communicator, ranks, wide, wide.kappa, weak=False)


def _widened(k, ranks, mask, solid, kappa, spacing, outside, periodic, ndim):
    across = tuple(mask.shape[1:])
    planes = ranks.gather(np.array([mask.shape[0] if mask.ndim else 0]))
    slabs = Slabs(tuple(map(int, np.concatenate([[0], np.cumsum(planes)]))), False)
    mask, wall, ends, spacing = grid_faces.checked(k, mask, solid, spacing, outside, periodic, ndim, slabs.count)
    ranks.alike(**{"the shape of mask and kappa, but for the first axis,": across,
                   "the dtype of kappa": None if kappa is None else str(kappa.dtype), "spacing": spacing,
                   "outside": (ends.low, ends.high), "periodic": ends.wrap})  # fmt: skip
    if mask.ndim != len(spacing):
        raise ValueError("comm: a batch of grids cannot be divided among ranks, only one grid can")
    if kappa is not None:
        grid_faces.require_conductive(k, kappa, mask, wall)
    slabs = Slabs(slabs.bounds, ends.wrap[0])
    held = slabs.with_ghosts(GHOSTS)
    got = [slabs.cut(low - 1, high + 1) for low, high in held]
    low, high = got[ranks.rank]
    spread = Spread(k, ranks.rank, slabs, [[one] for one in got])

    def wide(array):
        target = k.xp.empty((high - low, *array.shape[1:]), array.dtype)
        spread.run(ranks, k.xp.ascontiguousarray(array), target)
        return target

    ends = Border((ends.low[0] and low == 0, *ends.low[1:]), (ends.high[0] and high == slabs.count, *ends.high[1:]),
                  (False, *ends.wrap[1:]))  # fmt: skip
    return _Widened(slabs, held[ranks.rank], (low, high), wide(mask), wide(wall),
                    None if kappa is None else wide(kappa), ends, spacing)  # fmt: skip


def _of_faces(k, communicator, ranks, wide, kappa, *, weak):
    """The operator of coefficients."""
    with np.errstate(all="ignore"):  # seen in the diagonal
        weights = grid_faces.weights(wide.spacing)
        faces, sink = grid_faces.conducted(k, kappa, wide.unknown, wide.wall, weights, wide.ends)
        diag = wide.cut(grid_faces.add_faces(faces, wide.ends, sink.copy()))
    top = _in_range(k, ranks, diag, wide, kappa.dtype)
    (along, *across), total = map(wide.cut, faces), wide.cut(sink)
    if wide.held[0] > wide.got[0]:
        total[0] += faces[0][wide.held[0] - wide.got[0] - 1]
    if wide.held[1] < wide.got[1]:
        total[-1] += along[-1]
        along[-1] = 0
    one = GridOperator(k, wide.cut(wide.unknown), wide.ends, dtype=kappa.dtype, kind="coefficient", weak=weak,
                       faces=(along, *across), sink=total, diag=diag, **wide.options)  # fmt: skip
    one.top = top
    return SlabOperator(k, communicator, ranks, wide.slabs, wide.held, one)


def _in_range(k, ranks, diag, wide, dtype):
    """The largest entry of the diagonal of the whole, which must be numbers, and not all but 0."""
    top = float(ranks.largest(float(diag.max())))
    linked = any(bool(pairs.any()) for pairs in grid_faces.linked(k, wide.unknown, wide.ends))
    lost = top < np.finfo(dtype).tiny and (top > 0 or ranks.any(linked))
    if not np.isfinite(top) or lost:
        raise ValueError(f"kappa / spacing^2 leaves the range of {dtype}: the diagonal of the matrix is "
                         f"{'all but 0' if lost else 'not finite'}; scale kappa or spacing")  # fmt: skip
    return top
