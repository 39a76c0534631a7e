"""The multigrid cycle of a grid that is divided into slabs: that of one process, with the same numbers.

On a level, one sweep down and one up reach two planes far, and three on the finest, where black cells settle at last. A
rank that knows the residual on its planes and on as many ghost planes at each side gets x, and the restricted residual,
right on its own; so it does with the correction, if it knows that on the ghosts. Hence the kernels of
`ntsolve.linalg.hierarchy` are applied to the extended slab as if the grid ended there, and two messages to each
neighbour a level make up for it: residuals before the way down, corrections before the way up. An extended slab begins
at an even plane, so that colours and blocks of two planes are those of the whole grid, wherever the ranks' planes
begin.

Levels of few cells are not worth messages: the first of these is gathered, and each rank does all the rest. So it is
where cells are joined along strong faces, from the finest level on: that takes the memory of the whole on each rank.

What is chosen from the operator is chosen from sums and maxima over the ranks.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..kernels.contracts import split as layout
from ..linalg import gridcg, hierarchy
from ..linalg.aggregation import Aggregation
from ..linalg.hierarchy import three
from ..linalg.multigrid import Choice, LearnedMultigrid
from .planes import Slabs, Spread, in_colours

GATHERED = 32**3  # cells of a level from which on all ranks do the same
FEWEST = 4  # planes a rank, on average, of the levels above
GHOSTS, FINEST_GHOSTS = 2, 4  # the finest z is wanted on a plane more


@dataclass(frozen=True)
class Level:
    """Who has which planes of a level."""

    slabs: Slabs
    held: list  # range of the extended slab, of each rank
    passed: list  # range of the planes that the extended slab of the level above is made into, of each rank


def levels_of(A, plan, depth):
    """The `Level` of each level down to `depth`."""
    levels = [Level(A.slabs, A.slabs.with_ghosts(FINEST_GHOSTS), [])]
    for factor, *_ in plan.factors[:depth]:
        above = levels[-1]
        slabs = above.slabs.halved() if factor == 2 else above.slabs
        passed = [(low // factor, -(-high // factor)) for low, high in above.held]
        levels.append(Level(slabs, slabs.with_ghosts(GHOSTS), passed))
    return levels


class SlabLevels:
    """This rank's part of the stencils of all levels, see `hierarchy.Levels`.

    Attributes
    ----------
    depth : int
        Levels that are divided among the ranks.
    rest : hierarchy.Levels
        All others.
    """

    def __init__(self, k, A, plan, weights):
        self.k, self.A, self.plan, self.weights = k, A, plan, weights
        self.scale, ranks = hierarchy.coefficient_scale(k, A), A.comm
        me, divided = ranks.rank, [math.prod(s) > GATHERED and s[0] >= FEWEST * ranks.size for s in plan.sizes[:-1]]
        self.depth = depth = (*divided, False).index(False)
        self.stencils, self.merged = [], []
        if not depth:
            self.rest = hierarchy.Levels(k, A.whole(k), plan, weights)
            self.merged = self.rest.merged
            return
        self.wrap = (0, *plan.wrap[1:])
        self.levels = levels_of(A, plan, depth)
        given = hierarchy.finest(k, A.extended, (self.planes(0), *plan.sizes[0][1:]))
        for number, factor in enumerate(plan.factors[:depth]):
            self.stencils.append(hierarchy.split_stencil(k, given, self.wrap))
            low, high = self.levels[number + 1].passed[me]
            _, _, alpha, alpha_s = weights.at(number)
            coarse = [k.xp.empty((1, high - low, *plan.sizes[number + 1][1:]), "float32") for _ in range(4)]
            if number in hierarchy.WATCHED:
                self.merged.append(self._merged(number, factor, given))
            k.stencil_coarsen(*given, alpha, alpha_s, factor, self.wrap, *coarse)
            first, end = (plane - low for plane in self.levels[number + 1].slabs.own(me))
            if number + 1 < depth:
                given = (None, *self._widened(number + 1, [part[0, first:end] for part in coarse]))
        whole = (None, *(ranks.gather(k.xp.ascontiguousarray(part[0, first:end]))[None] for part in coarse))
        sub = hierarchy.Plan(plan.sizes[depth:], plan.factors[depth:], plan.wrap)
        self.rest = hierarchy.Levels(k, A.extended, sub, weights, first=depth, given=whole)
        self.merged += self.rest.merged

    def cycle(self, batch, settle):
        """A cycle on `batch` vectors in extended slabs, with memory of its own."""
        if self.depth:
            return SlabHierarchy(self, batch, settle)
        make = lambda like: hierarchy.Hierarchy(self.rest, batch, settle=settle)
        return _OfWhole(self.k, self.A, make, batch, settle and bool(self.rest.stencils))

    def relaxation(self, level):
        """(w of red, w of black)"""
        return self.weights.at(level)[:2]

    def planes(self, number):
        """How many the extended slab of a level has."""
        low, high = self.levels[number].held[self.A.comm.rank]
        return high - low

    def _widened(self, number, own):
        """(fx, fy, fz, s) of the extended slab of a level, as if the grid ended there, of this rank's planes of it."""
        xp, level, ranks = self.k.xp, self.levels[number], self.A.comm
        got = [level.slabs.cut(low - 1, high) for low, high in level.held]
        (low, high), (start, end) = level.held[ranks.rank], got[ranks.rank]
        parts = xp.zeros((end - start, 4, *own[0].shape[1:]), "float32")
        Spread(self.k, ranks.rank, level.slabs, [[one] for one in got]).run(ranks, xp.stack(own, axis=1), parts)
        fx, fy, fz, s = (xp.ascontiguousarray(parts[low - start :, part])[None] for part in range(4))
        if start < low:
            s[:, 0] += parts[0, 0]
        if level.slabs.wrap or high < level.slabs.count:
            s[:, -1] += fx[:, -1]
            fx[:, -1] = 0
        return fx, fy, fz, s

    def _merged(self, number, factor, given):
        """The share of pairs that walls part, of all ranks."""
        low, _ = self.levels[number].held[self.A.comm.rank]
        first, end = (factor[0] * plane - low for plane in self.levels[number + 1].slabs.own(self.A.comm.rank))
        counts = np.array(hierarchy.pairs_of(self.k, given[1:], factor, slice(first, end)))
        self.A.comm.total(counts)
        return counts[1] / max(1, counts[0])


class SlabHierarchy:
    """A cycle ready to be applied to this rank's part of `batch` vectors at a time, see `hierarchy.Hierarchy`."""

    def __init__(self, levels, batch, settle):
        self.levels, self.k, k, depth = levels, levels.k, levels.k, levels.depth
        self.settles, self.stencil = settle, levels.stencils[0]
        xp, A, plan, me = k.xp, levels.A, levels.plan, levels.A.comm.rank
        self.own = slice(1 + A.inside.start, 1 + A.inside.stop)
        vectors = lambda number, ranges: [
            xp.zeros((batch, *layout.split_shape(ranges[me][1] - ranges[me][0], *plan.sizes[number][1:])), "float32")
            for _ in range(2)
        ]
        self._vectors = [(None, None), *(vectors(n, levels.levels[n].held) for n in range(1, depth))]
        self._passed = [None, *(vectors(n, levels.levels[n].passed)[0] for n in range(1, depth + 1))]
        shapes = [layout.split_shape(levels.planes(n), *plan.sizes[n][1:]) for n in range(depth)]
        self._black = [xp.zeros((batch, *shape[1:]), "float32") for shape in shapes]
        self._work = [xp.zeros((batch, 2, shape[1])) for shape in shapes]
        self._rz = xp.zeros(batch)
        spread = lambda n, ranges: Spread(k, me, levels.levels[n].slabs, [[one] for one in ranges])
        self._down = [spread(n, levels.levels[n].held) for n in range(depth)]
        self._up: list[Any] = [None, *(spread(n, levels.levels[n].passed) for n in range(1, depth))]
        rest = lambda like: hierarchy.Hierarchy(levels.rest, batch)
        self._gathered = Gathered(k, levels.levels[-1].slabs, rest, batch, plan.sizes[depth])

    def fill(self, r):
        """Get the ghosts of r from those who own them."""
        self._filled(0, r, r)

    def _filled(self, number, v, r):
        level, ranks = self.levels.levels[number], self.levels.A.comm
        low, high = level.held[ranks.rank]
        self._down[number].run(ranks, self._own(number, None if number else r), in_colours(v, low, low, high),
                               inside=number == 0)  # fmt: skip

    def apply(self, r, z, rz):
        """z = M r on the planes next to this rank's too, and rz = r.z of its own; r is filled up at its ghosts."""
        k, levels, ranks, plan = self.k, self.levels, self.levels.A.comm, self.levels.plan
        depth, me = levels.depth, ranks.rank
        vectors = [(r, z), *self._vectors[1:]]
        for n in range(depth):
            self._filled(n, vectors[n][0], r)
            k.cycle_down(vectors[n][0], *levels.stencils[n], *levels.relaxation(n), plan.factors[n], levels.wrap,
                         self._black[n], self._passed[n + 1])  # fmt: skip
        low, high = levels.levels[depth].passed[me]
        target = in_colours(self._passed[depth], low, low, high)
        self._gathered.apply(ranks, self._own(depth), target, (low, high), self._rz)
        for n in reversed(range(depth)):
            if n + 1 < depth:
                held, passed = levels.levels[n + 1].held[me], levels.levels[n + 1].passed[me]
                source = in_colours(vectors[n + 1][1], held[0], *levels.levels[n + 1].slabs.own(me))
                self._up[n + 1].run(ranks, source, in_colours(self._passed[n + 1], passed[0], *passed))
            k.cycle_up(vectors[n][0], *levels.stencils[n], *levels.relaxation(n), plan.factors[n], levels.wrap,
                       self.settles and not n, self._black[n], self._passed[n + 1], vectors[n][1], self._rz,
                       self._work[n])  # fmt: skip
        rz[...] = self._work[0][:, :, self.own].sum(axis=(1, 2))

    def _own(self, number, r=None):
        """This rank's planes of a residual: the caller's, or what was passed down to a level."""
        level, me = self.levels.levels[number], self.levels.A.comm.rank
        v, low = (self._passed[number], level.passed[me][0]) if r is None else (r, level.held[me][0])
        return in_colours(v, low, *level.slabs.own(me))


class Gathered:
    """A cycle that every rank does for the whole grid: make(r), r like the vectors that it will be applied to."""

    def __init__(self, k, slabs, make, batch, sizes):
        self.k, self.slabs = k, slabs
        self.r, self.z = (k.xp.zeros((batch, *layout.split_shape(*sizes)), "float32") for _ in range(2))
        self.inner = make(self.r)

    def apply(self, ranks, own, target, wanted, rz):
        """From this rank's planes of r to the wanted ones of z; rz = r.z, of which each rank has its share."""
        self.gather(ranks, own)
        self.inner.apply(self.r, self.z, rz)
        rz *= ranks.carry
        self.hand_out(self.z, target, wanted)

    def gather(self, ranks, own):
        """Get r from this rank's planes and those of the others."""
        in_colours(self.r, 0, 0, self.slabs.count)[...] = ranks.gather(self.k.xp.ascontiguousarray(own))

    def hand_out(self, v, target, wanted):
        """The wanted planes of a vector of the whole grid."""
        whole, count = in_colours(v, 0, 0, self.slabs.count), self.slabs.count
        for _, plane, many, place in Slabs((0, count), self.slabs.wrap).pieces(*wanted):
            target[place : place + many] = whole[plane : plane + many]


class _OfWhole:
    """A cycle on the finest level that every rank does for the whole grid."""

    def __init__(self, k, A, make, batch, settles=False):
        self.k, self.A, self.gathered = k, A, Gathered(k, A.slabs, make, batch, three(A.whole_shape))
        self.settles = settles
        if settles:
            sizes, wrap = three(A.extended.grid_shape), three(tuple(map(int, A.extended.periodic)), 0)
            self.stencil = hierarchy.split_stencil(k, hierarchy.finest(k, A.extended, sizes), wrap)

    def _own(self, r):
        return in_colours(r, self.A.held[0], *self.A.slabs.own(self.A.comm.rank))

    def fill(self, r):
        """Get the ghosts of r from those who own them."""
        low, high = self.A.held
        self.gathered.gather(self.A.comm, self._own(r))
        self.gathered.hand_out(self.gathered.r, in_colours(r, low, low, high), (low, high))

    def apply(self, r, z, rz):
        """z = M r on all planes of the extended slab, and this rank's share of rz = r.z."""
        low, high = self.A.held
        self.gathered.apply(self.A.comm, self._own(r), in_colours(z, low, low, high), (low, high), rz)


class _Aggregated:
    """An `Aggregation` of the whole grid, on every rank."""

    def __init__(self, k, A):
        self.k, self.A, self.whole = k, A, Aggregation(A.whole(k))
        self.levels = self.whole.levels

    def cycle(self, batch, settle):
        """A cycle on `batch` vectors in extended slabs; it settles nothing."""
        sizes = three(self.A.whole_shape)
        return _OfWhole(self.k, self.A, lambda like: gridcg.ThroughRows(self.k, self.whole, like, sizes), batch)


class SlabMultigrid(LearnedMultigrid):
    """A `LearnedMultigrid` of an operator that is divided among ranks: all of them make it, and all apply it."""

    @property
    def state(self):
        """How `cg` iterates with it."""
        from .slabcg import State

        return State

    def _planned(self, k):
        A = self.grid
        wrap = three(tuple(map(int, A.whole_periodic)), 0)
        return hierarchy.plan(three(A.whole_shape), hierarchy.strengths(k, A), wrap)

    def _blocks(self, k, weights, why):
        return Choice(weights, why, blocks=SlabLevels(k, self.grid, self._plan, weights))

    def _aggregated(self, weights, why):
        with kernels_for(A=self.grid.mask) as k:
            return Choice(weights, why, aggregation=_Aggregated(k, self.grid))

    def hierarchy(self, batch, zeros=None, *, settle=True):
        """A cycle on `batch` vectors in extended slabs, with memory of its own."""
        return (self._choice.blocks or self._choice.aggregation).cycle(batch, settle)

    def matvec_rows(self, k, r, z):
        """z = M r for rows (batch, cells) of this rank's slab."""
        A, xp, batch, sizes = self.grid, k.xp, len(r), three(self.grid.grid_shape)
        first, end = A.slabs.own(A.comm.rank)
        whole = [xp.zeros((batch, *layout.split_shape(*three(A.extended.grid_shape))), "float32") for _ in range(2)]
        rows = xp.zeros((batch, *layout.split_shape(*sizes)), "float32")
        inner, mine = ([in_colours(v, low, first, end) for v in vectors]
                       for vectors, low in ((whole, A.held[0]), ([rows], first)))  # fmt: skip
        k.grid_split(r.reshape(batch, *sizes), rows)
        inner[0][...] = mine[0]
        self.hierarchy(batch, settle=False).apply(*whole, xp.zeros(batch))
        mine[0][...] = inner[1]
        k.grid_join(rows, z.reshape(batch, *sizes))
        if self._choice.blocks is not None:
            z *= z.dtype.type(self._scale)
