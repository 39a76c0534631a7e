"""A slab's operator on rows of its cells: its block, and a plane from each neighbour.

With p the part of this rank and g the neighbours' planes next to it, A p is what the block makes of p, less c_f g in
the first and the last plane. While the planes are on their way the block is at work.
"""

import numpy as np

from .. import operators
from ..kernels.contracts import workspace_shape
from ..linalg import grid_rows
from .planes import Spread


class SlabRows(grid_rows.Grid):
    """A SlabOperator on rows (batch, cells of the slab)."""

    capturable = False

    def __init__(self, k, grid, dtype):
        super().__init__(k, grid, dtype)
        self.carry = grid.comm.carry
        self.planes, *rest = grid.grid_shape
        self.plane = (int(np.prod(rest)),)
        self._sides = []  # (its own plane, the neighbour's in `extended`, what the faces between them conduct)
        for own, here, beyond in ((0, grid.inside.start, -1), (self.planes - 1, grid.inside.stop - 1, 1)):
            if 0 <= here + beyond < grid.held[1] - grid.held[0]:
                self._sides.append((own, here + beyond, self._coupling(here, beyond)))
        slabs, ranks = grid.slabs, grid.comm
        self._spread = Spread(k, ranks.rank, slabs, [slabs.before(n) + slabs.after(n) for n in range(ranks.size)])

    def _coupling(self, here, beyond):
        one = self.grid.extended
        if one.kind == "mask":
            face = one.mask[here].astype(self.dtype) * self.dtype.type(one.scale)
        else:
            face = one.faces[0][min(here, here + beyond)].astype(self.dtype)
        return face.reshape(1, -1)

    def _fetch(self, v):
        """Begin to get the neighbours' planes; what waits for them returns (batch, cells) of each."""
        batch, xp = len(v), self.k.xp
        planes = v.reshape(batch, self.planes, *self.plane).transpose(1, 0, 2)
        ghosts = [xp.empty((1, batch, *self.plane), v.dtype) for _ in self._sides]
        arrived = self._spread.start(self.grid.comm, planes, ghosts)

        def wait():
            arrived()
            return [ghost[0] for ghost in ghosts]

        return wait

    def matvec_dot(self, p, q, pq, work):
        k, batch = self.k, len(p)
        wait = self._fetch(p)
        super().matvec_dot(p, q, pq, work)
        p, q = (v.reshape(batch, self.planes, *self.plane) for v in (p, q))
        part, work = k.xp.empty(batch), k.xp.empty(workspace_shape(batch, *self.plane))
        for (own, _, face), ghost in zip(self._sides, wait(), strict=True):
            flow = face * ghost
            q[:, own] -= flow
            k.dot(k.xp.ascontiguousarray(p[:, own]), flow, part, work)
            pq -= part

    residual_norms = operators.Operator.residual_norms

    def residual(self, b, x, r):
        wait = self._fetch(x)
        super().residual(b, x, r)
        ghosts = wait()
        b, x, r = (v.reshape(len(v), self.planes, *self.plane) for v in (b, x, r))
        # where a neighbour takes part, once more and with it, so that it is rounded only once
        for own in sorted({side[0] for side in self._sides}):
            r[:, own] = self._residual_of_plane(own, b, x, ghosts)

    def _residual_of_plane(self, own, b, x, ghosts):
        xp, inside = self.k.xp, self.grid.inside
        around = {inside.start + plane: x[:, plane] for plane in (own - 1, own, own + 1) if 0 <= plane < self.planes}
        for (at, there, _), ghost in zip(self._sides, ghosts, strict=True):
            if at == own:
                around[there] = ghost
        places = sorted(around)
        x = xp.ascontiguousarray(xp.stack([around[place] for place in places], axis=1))
        right, left = xp.zeros_like(x), xp.empty_like(x)
        middle = places.index(inside.start + own)
        right[:, middle] = b[:, own]
        with np.errstate(all="ignore"):  # seen in the norm
            self._residual(*self._window(places[0], places[-1] + 1), *self._shaped(x, right, left))
        return left[:, middle]

    def _window(self, start, stop):
        """The operator on some planes of the extended slab, as the kernels take it."""
        one, xp = self.grid.extended, self.k.xp
        cut = lambda part: self._shaped(xp.ascontiguousarray(part.astype(self.dtype, copy=False))[None])[0]
        if one.kind == "mask":
            return one.open_faces[start:stop].reshape(1, *self._dims(stop - start)), *self.parts[1:]
        along = one.faces[0][start:stop].copy()
        along[-1] = 0  # the kernels take the plane after the last for the first
        across = [face[start:stop] for face in one.faces[1:]]
        return *self.parts[: 3 - one.ndim], *map(cut, (along, *across, one.diag[start:stop]))

    def _dims(self, planes):
        return (*self.dims[: 3 - self.grid.ndim], planes, *self.grid.grid_shape[1:])

    def _shaped(self, *windows):
        return [v.reshape(len(v), *self._dims(v.shape[1])) for v in windows]
