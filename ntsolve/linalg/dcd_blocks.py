"""Large blocks of a grid, for whose mean errors one solves exactly around an application of a network.

Where there are walls and little air, what the network of `dcd_network` leaves is an error that hardly varies over a
quarter of the grid. With Z the indicators of blocks, at most 64 of them, and f the network,

    Q = Z E^+ Z',  E = Z'AZ,      z = Q r + (I - Q A) f((I - A Q) r),                                      (1)

so that A z and r have the same sums over each block: what f finds is made A-orthogonal to the blocks as directions are
to earlier ones. This is balancing (Mandel, "Balancing domain decomposition", Comm. Numer. Methods Engrg. 9, 1993; as a
preconditioner beside deflation: Tang, Nabben, Vuik, Erlangga, "Comparison of two-level preconditioners derived from
deflation, domain decomposition and multigrid methods", J. Sci. Comput. 39, 2009). E is a Poisson matrix on the grid of
blocks, its entries the numbers of open faces between them.
"""

import math

import numpy as np

from ..kernels.contracts import workspace_shape
from ..kernels.contracts.convolution import half
from . import bottom, grid_faces

MOST = 64  # blocks
HALVINGS = 2  # at least: a block is no smaller than 4 cells an axis


class Blocks:
    """(1) for a GridOperator with equal spacings, or a batch of them, in units of its `scale`; float32."""

    def __init__(self, k, A):
        dims = (-1, *(1,) * (3 - A.ndim), *A.grid_shape)
        self.open_faces, self.wraps = A.open_faces.reshape(dims), A.ends.bits
        self.inside = A.mask.reshape(dims).astype("float32")
        self.grids = [self.inside.shape[1:]]
        while len(self.grids) <= HALVINGS or math.prod(self.grids[-1]) > MOST:
            self.grids.append(half(self.grids[-1]))
        self.inverse = k.xp.asarray(self._inverse(k, A, dims))

    def _inverse(self, k, A, dims):
        """E^+ (batch, blocks, blocks)."""
        slack = self._to_host_sums(k, (A.sink / A.scale).reshape(dims))
        at, size = np.arange(slack.shape[1]).reshape(self.grids[-1]), 2 ** (len(self.grids) - 1)
        weights = np.zeros((*slack.shape, at.size))
        for axis, pairs in enumerate(grid_faces.linked(k, A.mask, A.ends), 3 - A.ndim):
            pairs, last = pairs.reshape(dims), (slice(None),) * (axis + 1) + (slice(size - 1, None, size),)
            across = k.xp.zeros(pairs.shape, dtype=bool)
            across[last] = pairs[last]  # between blocks
            along, numbers = np.moveaxis(at, axis, 0), self._to_host_sums(k, across)
            one, other = along[:-1].ravel(), along[1:].ravel()
            weights[:, one, other] = weights[:, other, one] = numbers[:, one]
        return np.array([bottom.inverse(*each) for each in zip(weights, slack, strict=True)], dtype="float32")

    def _to_host_sums(self, k, fields):
        return k.to_host(self._sums(k, k.xp.ascontiguousarray(fields.astype("float32"))))

    def _sums(self, k, fields):
        """Z' v (rows, blocks) for fields (rows, n0, n1, n2)."""
        for grid in self.grids[1:]:
            fine, fields = fields, k.xp.empty((len(fields), *grid), dtype="float32")
            k.pool_blocks(fine, 1.0, fields)
        return fields.reshape(len(fields), -1)

    def _exactly(self, k, fields):
        """Q v."""
        sums = self._sums(k, fields)
        values = (self.inverse * sums[:, None, :]).sum(axis=-1).reshape(-1, *self.grids[-1])
        for grid in self.grids[-2:0:-1]:
            coarse, values = values, k.xp.zeros((len(values), *grid), dtype="float32")
            k.unpool_add(coarse, k.xp.ones((1, *grid), dtype="float32"), values)
        spread = k.xp.zeros(fields.shape, dtype="float32")
        for number in range(len(spread)):
            row, which = slice(number, number + 1), number % len(self.inside)
            k.unpool_add(values[row], self.inside[which : which + 1], spread[row])
        return spread

    def _times(self, k, fields):
        """A v."""
        image, dots = k.xp.empty_like(fields), k.xp.empty(len(fields))
        work = k.xp.empty(workspace_shape(len(fields), math.prod(self.grids[0])))
        k.open_matvec_dot(self.open_faces, 1.0, self.wraps, fields, image, dots, work)
        return image

    def around(self, k, network, r):
        """z of (1) for rows r (batch, cells) float32; `network` takes and gives such rows."""
        r = r.reshape(-1, *self.grids[0])
        first = self._exactly(k, r)
        q = network((r - self._times(k, first)).reshape(len(r), -1)).reshape(r.shape)
        q -= self._exactly(k, self._times(k, q))
        q += first
        return q.reshape(len(r), -1)
