"""Where an operator that is divided among ranks is singular: sets of unknowns that may lie on several of them.

Each rank finds the sets of its slab; where unknowns on both sides of a cut hang together, their sets are one.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..linalg import grid_null
from .planes import Spread


@dataclass(frozen=True)
class SlabNull:
    """C sets of unknowns of the whole grid, of which this rank has parts."""

    A: Any  # the SlabOperator, which keeps this
    parts: Any  # the NullSpace of this rank's parts of those it has any of, or None
    which: Any  # on the host: the number of the set of each part
    sizes: Any  # (C,) unknowns of each set, on the host
    places: Any  # (C,) the first cell of each in the whole grid

    def project(self, k, rows):
        """Take from rows (batch, cells) the mean over each set; (sums, sums of absolute values) before, (., C)."""
        rows = rows.reshape(-1, self.A.size)
        sums, sizes = np.zeros((2, len(rows), self.sizes.size))
        if self.parts is not None:
            found = self.parts.project(k, rows)  # which leaves a mean of 0 over each part
            sums[:, self.which], sizes[:, self.which] = map(k.to_host, found)
        mine = sums.copy()
        self.A.comm.total(sums, sizes)
        if self.parts is not None:
            parts, lengths = self.parts, np.diff(k.to_host(self.parts.starts))
            change = mine[:, self.which] / lengths - (sums / self.sizes)[:, self.which]
            values = k.xp.empty((len(rows), parts.members.size), rows.dtype)
            k.gather_cells(parts.members, rows, values)
            values += k.xp.asarray(np.repeat(change, lengths, axis=1).astype(rows.dtype))
            k.scatter_cells(parts.members, rows, values)
        return sums, sizes

    def require_compatible(self, k, name, rows, dtype):
        """Project rows whose sums are zero but for rounding; a ValueError on all ranks for others.

        Returns the norms of what was taken from each.
        """
        sums, sizes = self.project(k, rows)
        grid_null.require_small(name, dtype, sums, sizes, lambda which: self.places[which], self.A.whole_shape)
        return np.sqrt((sums**2 / self.sizes).sum(axis=1))


def null_space(A):
    """The `SlabNull` of a SlabOperator, None if there is none. All ranks call it."""
    ranks = A.comm
    with kernels_for(mask=A.mask) as k:
        grounded = k.to_host(A.own_sink() > 0)
        if A.extended.kind == "mask":
            del A.extended.sink  # made for this
        labels, count = _labels(k, A)
        counts = ranks.gather(np.array([count]))
        labels = np.where(labels > 0, labels + counts[: ranks.rank].sum(), 0)
        sets = _merged(k, A, labels, int(counts.sum()))  # the set of each label, from 0, on all ranks
        held = np.flatnonzero(np.bincount(labels[grounded]))
        floating = np.ones(sets.max(initial=0) + 1, dtype=bool)
        floating[sets[ranks.gather(held[held > 0])]] = False
        floating[0] = False  # cells that are no unknowns
        if not floating.any():
            return None
        number = np.cumsum(floating) - 1
        mine = np.where(floating[sets], number[sets], -1)[labels].reshape(-1)  # the set of each cell
        places = np.flatnonzero(mine >= 0)
        order = np.argsort(mine[places], kind="stable")
        places, mine = places[order], mine[places][order]
        which, first, lengths = np.unique(mine, return_index=True, return_counts=True)
        sizes = np.zeros(int(floating.sum()))
        sizes[which] = lengths
        ranks.total(sizes)
        cells = np.full(sizes.size, -np.inf)
        cells[which] = -(places[first] + A.offset * (A.size // A.grid_shape[0]))
        cells = -ranks.largest(cells)
        parts = None
        if which.size:
            starts = k.xp.asarray(np.append(first, places.size).astype("int64"))
            members = k.xp.asarray(places.astype("int64"))
            parts = grid_null.NullSpace(starts, members, A.size, A.grid_shape)
        return SlabNull(weakref.proxy(A), parts, which, sizes, cells.astype("int64"))


def _labels(k, A):
    """(the number of each cell's set in the slab, from 1; 0 for no unknown; how many there are)"""
    if A.full and grid_null.no_zero_face(A):
        return np.ones(A.grid_shape, dtype="int64"), 1
    labels, count = grid_null.components(k, A, k.to_host(A.mask))
    used = np.bincount(labels.reshape(-1), minlength=count + 1) > 0
    used[0] = False
    return (np.cumsum(used) * used)[labels], int(used.sum())


def _merged(k, A, labels, total):
    """(total + 1,): the set of each label of the whole grid, and 0 for 0."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    ranks, slabs = A.comm, A.slabs
    spread = Spread(_Host, ranks.rank, slabs, [slabs.after(rank) for rank in range(ranks.size)])
    beyond = [np.zeros((1, *labels.shape[1:]), dtype="int64") for _ in slabs.after(ranks.rank)]
    spread.run(ranks, labels, *beyond)
    pairs = np.zeros((0, 2), dtype="int64")
    if beyond:
        met = (labels[-1] > 0) & (beyond[0][0] > 0)
        if A.kind != "mask":
            met &= k.to_host(A.own_faces()[0][-1] > 0)
        pairs = np.unique(np.stack([labels[-1][met], beyond[0][0][met]], axis=1), axis=0)
    one, other = ranks.gather(pairs).T
    links = sparse.coo_array((np.ones(one.size), (one, other)), shape=(total + 1, total + 1))
    sets = connected_components(links, directed=False)[1]
    return np.where(sets == sets[0], 0, sets + (sets < sets[0]))  # 0 is alone, and stays 0


class _Host:
    """For a `Spread` of arrays on the host."""

    xp = np
