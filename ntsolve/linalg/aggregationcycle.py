"""The cycles of an `Aggregation`, (1) and (2) of aggregation.py: the memory that one application needs, and its order.

On the grid there are SWEEPS sweeps, which cost little beside the sparse levels below it and save iterations where the
coefficient varies within aggregates. As a recursion this is (1) with P = 1 and the same A on the first levels:

    M = S'(2 D/w - D) S + (I - S'A) M' (I - A S)                                                         (3)

where M' is the same with a sweep less, and at last P T P'. So M stays symmetric and positive definite.
"""

import functools
import math

from .linear_operator import WithKernels

THETA, SIGMA = 0.75, 1.3  # the first more than half of the second
ONCE, TWICE = SIGMA * (2 / THETA - 1 / THETA**2), SIGMA / THETA**2  # (2), as a sum of what one and another cycle find
SWEEPS = 4
_SAME = (1, 1, 1)  # no cells are joined


class _Sparse(WithKernels):
    """The sparse levels."""

    def __init__(self, k, hierarchy):
        self.k, self.h = k, hierarchy
        empty = functools.partial(k.xp.zeros, dtype=hierarchy.dtype)
        self.work = [tuple(empty(level.diag.size) for _ in range(4)) for level in hierarchy.large]  # r, x, t, y
        self.small = () if hierarchy.small is None else tuple(empty(hierarchy.small[6].size) for _ in range(4))

    def inner(self, level):
        """Where the right-hand side of a sparse level goes."""
        if level < len(self.work):
            return self.work[level][0]
        return self.small[1][: int(self.h.sizes[level])]

    def visit(self, level):
        """(2) on a sparse level; returns the correction."""
        k, h = self.k, self.h
        if level == len(self.work):
            x, r, y, t = self.small[0], *self.small[1:]
            k.coarse_cycle(*h.small, ONCE, TWICE, x, r, y, t)
            return x[: int(h.sizes[level])]
        r, x, t, y = self.work[level]
        here = h.large[level]
        self.once(level)
        y[...] = x
        k.sparse_residual(*here.matrix, here.diag, x, r, r)
        self.once(level)
        x *= TWICE
        y *= ONCE
        x += y
        return x

    def once(self, level):
        """(1) on a sparse level."""
        k, here = self.k, self.h.large[level]
        r, x, t, _ = self.work[level]
        indptr, *entries = here.matrix
        k.sparse_down(indptr, here.middle, *entries, here.dinv, here.bounds, r, x, t)
        if here.join is not None:
            k.sum_members(*here.join[:2], t, self.inner(level + 1))
            k.add_aggregates(here.join[2], self.visit(level + 1), x)
        k.sparse_up(*here.matrix, here.dinv, here.bounds, r, x)


class Colours(_Sparse):
    """The cycle on vectors in the layout of contracts/split.py, `batch` at a time."""

    settles = False

    def __init__(self, k, hierarchy, weights, batch, zeros=None):
        super().__init__(k, hierarchy)
        self.weights, self.batch = weights, batch
        self.stencil, self.wrap = hierarchy.split
        self.whole = math.prod(self.stencil[0].shape)
        shape = (batch, *self.stencil[0].shape[1:])
        single = functools.partial(zeros or k.xp.zeros, dtype="float32")
        self._left, self._spare = [single(shape) for _ in range(SWEEPS)], single(shape)
        self._black = [single((batch, *shape[2:])) for _ in range(SWEEPS)]
        self._sums, self._rz = k.xp.zeros((batch, 2, shape[2])), k.xp.zeros(batch)

    def apply(self, r, z, rz):
        """z = M r and rz = r.z, M for A times `coefficient_scale`; as `hierarchy.Hierarchy` does it."""
        k, level = self.k, (*self.stencil, *self.weights, _SAME, self.wrap)
        left = [r, *self._left]
        found = [z, *left[2:-1], self._spare, left[-1]]  # what a sweep finds goes where the one below it has read
        for sweep in range(SWEEPS):
            k.cycle_down(left[sweep], *level, self._black[sweep], left[sweep + 1])
        for part in left[-1].reshape(-1, self.whole):
            if self.h.join is None:
                part.fill(0)
                continue
            k.sum_members(*self.h.join[:2], part, self.inner(0))
            e = self.visit(0)
            part.fill(0)
            k.add_aggregates(self.h.join[2], e, part)
        for sweep in reversed(range(SWEEPS)):
            k.cycle_up(left[sweep], *level, False, self._black[sweep], found[sweep + 1], found[sweep],
                       self._rz if sweep else rz, self._sums)  # fmt: skip


class Rows(_Sparse):
    """The cycle on vectors in the natural order, one grid (or batch of grids) at a time, for what `Colours` cannot."""

    def __init__(self, k, hierarchy, weights):
        super().__init__(k, hierarchy)
        self.weights = weights
        self.r, self.x, self.t = (k.xp.zeros(hierarchy.diag.shape, dtype=hierarchy.dtype) for _ in range(3))

    def run(self, row, out):
        """out = M row, M for A."""
        k, h, r, x, t = self.k, self.h, self.r, self.x, self.t
        r[...] = row.reshape(r.shape)
        x.fill(0)
        if h.grid is None:
            k.sum_members(*h.join[:2], r.reshape(-1), self.inner(0))
            self.once(0)
            k.add_aggregates(h.join[2], self.work[0][1], x.reshape(-1))
        else:
            order = [(1, self.weights[0]), (0, self.weights[1])] * SWEEPS  # red is 1, as in contracts/split.py
            for sweep in order:
                k.colour_sweep(*h.grid, h.dinv, *sweep, r, x)
            if h.join is not None:
                k.stencil_residual(*h.grid, h.diag, x, r, t)
                k.sum_members(*h.join[:2], t.reshape(-1), self.inner(0))
                k.add_aggregates(h.join[2], self.visit(0), x.reshape(-1))
            for sweep in reversed(order):
                k.colour_sweep(*h.grid, h.dinv, *sweep, r, x)
        out[...] = x.reshape(-1)
        out *= 1 / h.scale
