"""Conjugate gradients with a multigrid cycle on a grid that is divided into slabs: the iteration of linalg/gridcg.py.

Vectors have the planes of the extended slab, in the layout of the cycle. Its z is right on the planes of a rank and on
the next ones, hence so is p = z + beta p, and no plane of p is sent; r, from A p, is right on the rank's own. Of the
sums of a pass those of the rank's planes count. (p, A p) has for each red cell the energy of its faces: those that
lead to another rank are counted by the one with the red cell.
"""

from ..kernels.contracts import split as layout
from ..linalg import gridcg
from ..linalg.hierarchy import three
from .planes import in_colours

_PIECE = 1 << 20  # cells that are brought from one order to the other at a time


class State(gridcg.State):
    """The systems of one call, of which this rank has a part."""

    def _layout(self, A):
        inside = A.inside
        self._own = slice(1 + inside.start, 1 + inside.stop)
        return A.extended

    def _pieces(self):
        """(first plane of the slab, number of planes, sizes) of what is brought over at a time."""
        planes, *rest = three(self.A.grid.grid_shape)
        step = max(1, _PIECE // (rest[0] * rest[1]))
        for start in range(0, planes, step):
            many = min(step, planes - start)
            yield start, many, (many, *rest)

    def _between(self, start, many, whole, piece):
        """The same planes of a vector and of a piece that begins with them."""
        A, first = self.A.grid, self.A.grid.offset + start
        return in_colours(whole, A.held[0], first, first + many), in_colours(piece, first, first, first + many)

    def _take(self, rows, factor, into):
        xp, batch = self.k.xp, len(rows)
        cells = rows.reshape(batch, *three(self.A.grid.grid_shape))
        into.fill(0)  # planes of others, too
        self.single.fill(0)
        for start, many, sizes in self._pieces():
            wide, narrow = (xp.zeros((batch, *layout.split_shape(*sizes)), dtype) for dtype in ("float64", "float32"))
            self.k.grid_take(xp.ascontiguousarray(cells[:, start : start + many]), factor, wide, narrow)
            for whole, piece in ((into, wide), (self.single, narrow)):
                target, source = self._between(start, many, whole, piece)
                target[...] = source

    def _give(self, rows):
        xp, batch = self.k.xp, len(rows)
        cells = rows.reshape(batch, *three(self.A.grid.grid_shape))
        for start, many, sizes in self._pieces():
            pieces = []
            for whole in (self.x, self.p):
                pieces.append(xp.zeros((batch, *layout.split_shape(*sizes)), whole.dtype))
                source, target = self._between(start, many, whole, pieces[-1])
                target[...] = source
            found = xp.empty((batch, *sizes), rows.dtype)
            self.k.grid_give(*pieces, self.alpha, self._x_up, found)
            cells[:, start : start + many] = found

    def _of_own(self):
        """The sums of this rank's planes, of the last pass."""
        return self.work[:, :, self._own].sum(axis=(1, 2))

    def _settle(self, rr):
        self.cycle.fill(self.single)
        super()._settle(rr)
        rr[...] = self._of_all(rr)

    def _of_all(self, rr):
        """The sum of squares of the last pass, over the ranks; a system at rest has its verdict."""
        found = self.k.xp.where(self.alpha == 0, rr * self.comm.carry, self._of_own())
        self.comm.total(found)
        return found

    def iteration(self, j):
        k, rz, rr, comm = self.k, self.rz, self.rr, self.comm
        self._found = None
        if self.fresh and self.cycle.settles:
            self._settle(rr[j - 1])
        self.fresh = False
        self.cycle.apply(self.single, self.z, rz[j])
        comm.total(rz[j])
        self.before, self.p = self.p, self.before
        k.grid_direction(*self.stencil, self.wrap, self.z, self.before, self.alpha, rz[j], rz[j - 1], self.x, self.p,
                         self.pq, self.work)  # fmt: skip
        self.pq[...] = self._of_own()
        comm.total(self.pq)
        k.grid_update(*self.stencil, self.wrap, self.p, rz[j], self.pq, rr[j - 1], self.tol2, self.r, self.single,
                      self.alpha, rr[j], self.work)  # fmt: skip
        rr[j] = self._of_all(rr[j])
