"""Which grid a CSR matrix may be of, from where its entries are.

What is found here is a guess that `grid_csr` puts to the test entry by entry: a wrong one is not taken.
"""

import itertools

import numpy as np

MOST_COMPONENTS = 64  # that are laid out one behind the other
MOST_CELLS = 8  # of a grid, for each unknown
ROUNDS = 8


def box(indptr, indices):
    """(grid_shape, periodic) of a grid all of whose cells are unknowns in C order, or None."""
    n = indptr.size - 1
    rows = np.unique(np.concatenate([np.arange(min(n, 3)), np.linspace(0, n - 1, 999).astype(int)]))
    ahead = {
        int(j) - int(i) for i in rows for j in indices[indptr[i] : indptr[i + 1]][:8] if j > i
    }  # distances from the diagonal
    if len(ahead) > 6:
        return None
    for shape in _shapes(n, ahead):
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        around = [stride * (extent - 1) for stride, extent in zip(strides, shape, strict=True)]
        if ahead <= {*strides, *around}:
            periodic = tuple(
                extent > 2 and step in ahead for extent, step in zip(shape, around, strict=True)
            )
            return shape, periodic
    return None


def _shapes(n, ahead):
    """Extents that the strides may be those of."""
    yield (1, n)
    for nx in sorted(ahead - {1}):
        if n % nx == 0:
            yield (n // nx, nx)
    for nx, plane in itertools.combinations(sorted(ahead - {1}), 2):
        if plane % nx == 0 and n % plane == 0:
            yield (n // plane, plane // nx, nx)


def place(indptr, indices, data):
    """(grid_shape, flat place of each unknown) for the unknowns of some cells of a grid, taken in C order; or None.

    In C order, the neighbours ahead of a cell come as x, y, z; and among all faces along one axis, that of the later
    cell leads to the later cell. So a face whose axis is known says something about those before and after it.
    """
    n = indptr.size - 1
    row = np.repeat(np.arange(n), np.diff(indptr))
    off = (row != indices) & (data != 0)
    row, column = row[off].astype("int64"), indices[off].astype("int64")
    degree = np.bincount(row, minlength=n)
    if row.size == 0 or degree.max() > 6:
        return None
    forward = column > row
    one, other = row[forward], column[forward]  # by row, then by column
    if 2 * one.size != row.size:
        return None
    order = np.argsort(one * n + other, kind="stable")
    one, other = one[order], other[order]
    axis = _axes(n, one, other)
    return None if axis is None else _layout(n, one, other, axis)


def _rank(n, group, key):
    """For each face, its place among those of the same cell, and how many these are; faces sorted by cell and key."""
    order = np.lexsort((key, group))
    count = np.bincount(group, minlength=n)
    rank = np.empty(group.size, dtype="int64")
    rank[order] = np.arange(group.size) - np.repeat(np.cumsum(count) - count, count)
    return rank, count[group]


def _axes(n, one, other):
    """0 (along x), 1, 2 for each face; None where that makes no sense."""
    rank, count = _rank(n, one, other)
    back, behind = _rank(n, other, -one)
    ndim = int(max(count.max(), behind.max()))
    if ndim > 3:
        return None
    ndim = max(ndim, 2)
    axis = np.full(one.size, -1)
    axis[count == ndim] = rank[count == ndim]
    axis[behind == ndim] = back[behind == ndim]
    if ndim == 2:
        axis[(axis < 0) & (other > one + 1)] = 1
    for _ in range(ROUNDS):
        unknown = np.flatnonzero(axis < 0)
        if unknown.size == 0:
            return axis
        fits = np.zeros((ndim, unknown.size), dtype=bool)
        for a in range(ndim):
            known = np.flatnonzero(axis == a)
            at = np.searchsorted(known, unknown)  # faces are sorted by their first cell
            before = other[known[np.maximum(at - 1, 0)]] if known.size else np.zeros(unknown.size)
            after = other[known[np.minimum(at, known.size - 1)]] if known.size else np.zeros(unknown.size)
            fits[a] = ((at == 0) | (before < other[unknown])) & ((at == known.size) | (other[unknown] < after))
        fits[0] &= other[unknown] == one[unknown] + 1
        sure = fits.sum(axis=0) == 1
        if not sure.any():
            break
        axis[unknown[sure]] = fits[:, sure].argmax(axis=0)
    unknown = np.flatnonzero(axis < 0)
    if (~fits.any(axis=0)).any():
        return None
    axis[unknown] = fits.argmax(axis=0)
    return axis


def _layout(n, one, other, axis):
    """Coordinates along a tree that spans each component, components one behind the other."""
    from scipy import sparse
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    ndim = max(2, int(axis.max()) + 1)
    links = sparse.csr_array((np.ones(one.size, dtype="int8"), (one, other)), shape=(n, n))
    count, label = connected_components(links, directed=False)
    if count > MOST_COMPONENTS:
        return None
    roots = np.empty(count, dtype="int64")
    roots[label[::-1]] = np.arange(n)[::-1]  # the first of each; np.unique takes as long as all of the rest
    ends = np.concatenate([one, np.full(count, n)]), np.concatenate([other, roots])
    tree = sparse.csr_array((np.ones(ends[0].size, dtype="int8"), ends), shape=(n + 1, n + 1))
    _, parent = breadth_first_order(tree, n, directed=False)
    parent[n] = n
    step = sparse.csr_array((axis + 1, (one, other)), shape=(n + 1, n + 1))
    child = np.arange(n)
    taken = parent[:n].astype("int64")
    low, high = np.minimum(child, taken), np.maximum(child, taken)
    moved = np.asarray(step[low, high]).reshape(-1)
    moved[taken == n] = 0
    coordinates = np.zeros((n + 1, ndim), dtype="int64")  # x first
    inner = moved > 0
    coordinates[child[inner], moved[inner] - 1] = np.where(child[inner] > taken[inner], 1, -1)
    above = np.concatenate([taken, [n]])
    while (above != n).any():  # each cell adds what its ancestor has, and looks twice as far next
        coordinates += coordinates[above]
        above = above[above]
    coordinates = coordinates[:n, ::-1]  # z first
    parts = [coordinates[label == number] if count > 1 else coordinates for number in range(count)]
    least = np.array([part.min(axis=0) for part in parts])
    most = np.array([part.max(axis=0) for part in parts]) - least
    coordinates = coordinates - least[label]
    height = most[:, 0] + 2  # a layer of walls between components
    first = np.cumsum(height) - height
    coordinates[:, 0] += first[label]
    shape = (int(height.sum()) - 1, *(int(extent) + 1 for extent in most[:, 1:].max(axis=0)))
    if float(np.prod(np.array(shape, dtype=float))) > MOST_CELLS * n + 1000:
        return None
    cells = np.ravel_multi_index(tuple(coordinates.T), shape)
    taken = np.zeros(int(np.prod(shape)), dtype=bool)
    taken[cells] = True
    return None if np.count_nonzero(taken) < n else (shape, cells.astype("int64"))
