"""The stored kernel R of a transport problem: blocks of 1 x LANES columns, which get fewer as reg goes down."""

import numpy as np

from ..kernels.contracts.gibbs import LANES
from ..reductions import SERIAL
from . import shared


class Store:
    """R in blocks, what the kernels of contracts/scaling.py take first; and a second store, for the Newton matrix.

    Attributes
    ----------
    ranks : Reductions
        Those that have the other rows: sums over rows are over all of theirs.
    blocks : int
        There are on all ranks.
    truncated : bool
        Whether entries are left out that are not zero.
    """

    def __init__(self, k, cost, room=None):
        xp, (n, _), lanes = k.xp, cost.shape, cost.width // LANES
        self.k, self.cost, self.width, self.ranks = k, cost, cost.width, cost.ranks
        self.room = n * lanes if room is None else room
        self.starts = xp.arange(n, dtype="int64") * lanes
        self.ends = xp.zeros(n, dtype="int64")
        self.offsets, self.values = self._space()
        self.truncated = False
        self._newton = None

    def _space(self):
        return self.k.borrow((self.room,), "int32"), self.k.borrow((self.room, LANES), "float64")

    def release(self):
        """Leave the memory to the next solve."""
        for array in (self.offsets, self.values, *(self._newton or ())[1:]):
            self.k.give_back(array)
        self.offsets = self.values = self._newton = None

    @property
    def parts(self):
        """What kernels want of R."""
        return self.starts, self.ends, self.offsets, self.values

    def build(self, order, log_v, reg, a, power, b, delta, log_sum, col):
        """R = exp(log_v - C / reg), rows scaled to one, without what is not above delta min(1, b_j / a_i)."""
        self.starts[:] = self.k.xp.arange(self.starts.size, dtype="int64") * (self.width // LANES)
        self.cost.kernel(order, log_v, 1 / reg, a, power, b, delta, self, log_sum, col)
        self.truncated = delta > 0
        self._count()

    def anneal(self, v, u, drop):
        """From reg to reg / 4: R <- (R v / its rows' largest)^4."""
        k = self.k
        top = k.xp.empty(self.width)
        k.scaling_column_max(*self.parts, u, top, self.work)
        shared.columns_largest(self.ranks, k.xp, top)
        top *= v
        k.scaling_anneal(k.PACKED_RUNS, v, u, top, drop, *self.parts)
        before = self.blocks
        self._count()
        self.truncated |= self.blocks < before

    def _count(self):
        own = int((self.ends - self.starts).sum())
        self.blocks, self.work = int(shared.total(self.ranks, own)), self._work(own)

    def _work(self, blocks):
        return self.cost.work[: self.k.column_parts(LANES * blocks)]

    @property
    def fill(self):
        """Part of the blocks that is there."""
        return self.blocks / max(1, self.room)

    def newton_matrix(self, v, s, a, b, threshold, single):
        """(T of contracts/scaling.py (4) without its small entries, scratch, blocks), in float32 if `single`."""
        if self._newton is None:
            rows = self.k.xp.empty_like(self.starts), self.k.xp.empty_like(self.ends)
            self._newton = (rows, *self._space())
        (starts, ends), offsets, values = self._newton
        if single:
            values = values.reshape(-1).view(np.float32)[: values.size].reshape(values.shape)
        T = starts, ends, offsets, values
        self.k.scaling_compact(*self.parts, v, s, a, b, threshold, self.k.PACKED_RUNS, *T)
        own = int((ends - starts).sum())
        return T, self._work(own), int(shared.total(self.ranks, own))

    # ---- with the rows of all ranks ---------------------------------------------------------------------------------

    def sweep(self, v, a, power, s, y):
        """s and y of the contract scaling_sweep."""
        self.k.scaling_sweep(*self.parts, v, a, power, s, y, self.work)
        self.ranks.add(y)

    def diagonal(self, T, q, out, work):
        """The contract scaling_diagonal, of this store or of `newton_matrix`."""
        self.k.scaling_diagonal(*T, q, out, work)
        self.ranks.add(out)

    def sinkhorn_steps(self, *arguments):
        """The contract sinkhorn_steps, less `work`."""
        if self.ranks is SERIAL:
            self.k.sinkhorn_steps(*self.parts, *arguments, self.work)
        else:
            shared.sinkhorn_steps(self, *arguments)

    def schur_cg_steps(self, T, *arguments):
        """The contract schur_cg_steps, of this store or of `newton_matrix`."""
        if self.ranks is SERIAL:
            self.k.schur_cg_steps(*T, *arguments)
        else:
            shared.schur_cg_steps(self, T, *arguments)
