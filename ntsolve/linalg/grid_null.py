"""Where an operator on a grid is singular: sets of unknowns that hang together and have no way to a cell of value 0.

On such a set A u = b has solutions if b adds up to zero on it, and then they differ by constants.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dispatch import kernels_for
from . import grid_faces


@dataclass(frozen=True)
class NullSpace:
    """C sets of cells, set c being members[starts[c] : starts[c + 1]], flat places in the (batch of) grid."""

    starts: Any  # (C + 1,) int64
    members: Any
    whole: int  # cells of one grid, or of a batch of them
    grid_shape: tuple

    def project(self, k, rows):
        """Take from rows (batch, cells) the mean over each set; (sums, sums of absolute values) before, (., C)."""
        rows = rows.reshape(-1, self.whole)
        sets = self.starts.size - 1
        sums, sizes = k.xp.empty((len(rows), sets)), k.xp.empty((len(rows), sets))
        k.remove_means(self.starts, self.members, rows, sums, sizes)
        return sums, sizes

    def require_compatible(self, k, name, rows, dtype):
        """Project rows whose sums are zero but for rounding to `dtype`, that of the caller; a ValueError for others.

        Returns the norms of what was taken from each, on the host.
        """
        sums, sizes = map(k.to_host, self.project(k, rows))
        place = lambda which: k.to_host(self.members[self.starts[which] :][:1])[0]
        require_small(name, dtype, sums, sizes, place, self.grid_shape)
        starts, cells = k.to_host(self.starts), math.prod(self.grid_shape)
        first = k.to_host(self.members[self.starts[:-1]]) // cells  # the grid of the batch that a set is in
        removed = np.zeros((self.whole // cells, len(sums)))
        np.hypot.at(removed, first, (abs(sums) / np.sqrt(np.diff(starts))).T)
        return removed.T.reshape(-1)


def require_small(name, dtype, sums, sizes, place, grid_shape):
    """A ValueError unless sums (batch, sets) of `sizes` without signs are 0; place(set) is a cell of it."""
    # half of the digits would forgive too much, all but a few too little of what the sums of a caller lost
    bad = np.argwhere(abs(sums) > float(np.finfo(dtype).eps) ** (2 / 3) * sizes)
    if len(bad):
        row, which = (int(one) for one in bad[0])
        cell = tuple(int(one) for one in np.unravel_index(int(place(which)) % math.prod(grid_shape), grid_shape))
        raise ValueError(
            f"{name} must add up to 0 over the unknowns around cell {cell}, which walls close in (no cell of value "
            f"0 in reach: the system has no solution otherwise); it adds up to {sums[row, which]:.3g}, "
            f"{sizes[row, which]:.3g} without signs. Subtract its mean there, or open a way to a cell of value 0"
        )


def null_space(A):
    """The `NullSpace` of a GridOperator, None if there is none."""
    with kernels_for(mask=A.mask) as k:
        unknown = k.to_host(A.mask)
        if A.full and not A.batch_shape and no_zero_face(A):
            # every face conducts: one set, without looking
            if not bool((A.sink > 0).any()):
                starts = k.xp.asarray(np.array([0, A.size], dtype="int64"))
                return NullSpace(starts, A.cells, A.size, A.grid_shape)
            return None
        labels, count = components(k, A, unknown)
        grounded = np.zeros(count + 1, dtype=bool)
        grounded[0] = True  # cells that are no unknowns
        grounded[labels[k.to_host(A.sink) > 0]] = True
        if grounded.all():
            return None
        floating = ~grounded
        places = np.flatnonzero(floating[labels])
        order = np.argsort(labels.reshape(-1)[places], kind="stable")
        sizes = np.bincount(labels.reshape(-1)[places], minlength=count + 1)[floating]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype("int64")
        return NullSpace(k.xp.asarray(starts), k.xp.asarray(places[order].astype("int64")), unknown.size, A.grid_shape)


def no_zero_face(A):
    """Whether all faces between unknowns conduct."""
    if A.kind == "mask":
        return True
    with kernels_for(mask=A.mask) as k:
        pairs = grid_faces.linked(k, A.mask, A.ends)
        return not any(bool((both & ~(face > 0)).any()) for both, face in zip(pairs, A.faces, strict=True))


def components(k, A, unknown):
    """(number of each cell's component, from 1; 0 for no unknown; how many there are)"""
    from scipy import ndimage, sparse
    from scipy.sparse.csgraph import connected_components

    if no_zero_face(A):
        structure = ndimage.generate_binary_structure(A.ndim, 1)
        if A.batch_shape:
            structure = np.stack([np.zeros_like(structure), structure, np.zeros_like(structure)])
        labels, count = ndimage.label(unknown, structure)
        pairs = []
        for axis in range(A.ndim):
            if A.periodic[axis]:
                first = grid_faces.part(labels, axis, A.ndim, grid_faces.FIRST)
                last = grid_faces.part(labels, axis, A.ndim, grid_faces.LAST)
                met = (first > 0) & (last > 0)
                pairs.append(np.stack([first[met], last[met]]))
        if pairs:
            one, other = np.concatenate(pairs, axis=1)
            links = sparse.coo_array((np.ones(one.size), (one, other)), shape=(count + 1, count + 1))
            count, merged = connected_components(links, directed=False)
            merged = np.where(merged == merged[0], 0, merged + (merged < merged[0]))  # 0 is alone, and stays 0
            return merged[labels], count - 1
        return labels, count
    places = np.arange(unknown.size).reshape(unknown.shape)
    one, other = [], []
    for axis, face in enumerate(A.faces):
        conducts = k.to_host(face > 0)
        one.append(places[conducts])
        other.append(np.roll(places, -1, axis - A.ndim)[conducts])
    ends = np.concatenate(one), np.concatenate(other)
    links = sparse.coo_array((np.ones(ends[0].size, dtype="int8"), ends), shape=(unknown.size,) * 2)
    count, labels = connected_components(links, directed=False)
    labels = labels.reshape(unknown.shape)
    used = np.zeros(count, dtype=bool)  # other cells are components as well
    used[labels[unknown]] = True
    return np.where(unknown, np.cumsum(used)[labels], 0), int(used.sum())
