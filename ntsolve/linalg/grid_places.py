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
    place = one * n + other
    if not (place[1:] > place[:-1]).all():
        order = np.argsort(place, kind="stable")
        one, other = one[order], other[order]
    axis = _axes(n, one, other)
    return None if axis is None else _layout(n, one, other, axis)


def _ranks(n, one, other):
    """For each face, its place among those ahead of its first cell and how many these are; and behind its second.

    Faces are sorted by cells; those behind a cell are counted from the nearest one.
    """
    from scipy import sparse

    faces = np.arange(one.size)
    ahead, behind = np.bincount(one, minlength=n), np.bincount(other, minlength=n)
    ends = np.concatenate([[0], np.cumsum(ahead)])
    by_other = sparse.csr_array((faces, other, ends), shape=(n, n)).tocsc().data  # and by `one`
    last = np.empty_like(faces)
    last[by_other] = np.repeat(np.cumsum(behind), behind) - 1 - faces
    return faces - ends[one], ahead[one], last, behind[other]


def _axes(n, one, other):
    """0 (along x), 1, 2 for each face; None where that makes no sense."""
    rank, count, back, behind = _ranks(n, one, other)
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
    """Places of the unknowns, components one behind the other; unknowns next to each other along x are a run."""
    along = axis == 0
    if not (other[along] == one[along] + 1).all():
        return None
    begins = np.ones(n, dtype=bool)
    begins[other[along]] = False
    run, first = np.cumsum(begins) - 1, np.flatnonzero(begins)
    inside = np.arange(n) - first[run]
    one, other, axis = one[~along], other[~along], axis[~along]
    shift = inside[one] - inside[other]
    one, other = run[one], run[other]
    order = np.argsort(axis, kind="stable")  # so that faces between the same runs follow each other
    one, other, axis, shift = one[order], other[order], axis[order], shift[order]
    new = np.ones(one.size, dtype=bool)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    found = _laid_out(first.size, one[new], other[new], axis[new], shift[new])
    if found is None:
        return None
    coordinates, label = found
    coordinates, label = coordinates[run], label[run]
    coordinates[:, -1] += inside
    return _flat(n, coordinates, label)


def _laid_out(n, one, other, axis, shift):
    """(coordinates of runs, z first; the component of each) along a tree that spans each component, or None.

    Face `number` leads from run one[number] to other[number]: a step along its axis, and `shift` along x.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    ndim = max(2, int(axis.max(initial=0)) + 1)
    links = sparse.csr_array((np.ones(one.size, dtype="int8"), (one, other)), shape=(n, n))
    count, label = connected_components(links, directed=False)
    if count > MOST_COMPONENTS:
        return None
    roots = np.empty(count, dtype="int64")
    roots[label[::-1]] = np.arange(n)[::-1]  # the first of each; np.unique takes as long as all of the rest
    ends = np.concatenate([one, np.full(count, n)]), np.concatenate([other, roots])
    tree = sparse.csr_array((np.ones(ends[0].size, dtype="int8"), ends), shape=(n + 1, n + 1))
    _, parent = breadth_first_order(tree, n, directed=False)
    above = parent[:n].astype("int64")
    child = np.flatnonzero(above != n)
    low, high = np.minimum(child, above[child]), np.maximum(child, above[child])
    keys = one * n + other
    order = np.argsort(keys, kind="stable")
    face = order[np.searchsorted(keys, low * n + high, sorter=order)]
    step = np.zeros((one.size, ndim), dtype="int64")  # x first
    step[np.arange(one.size), axis] = 1
    step[:, 0] += shift
    coordinates = np.zeros((n + 1, ndim), dtype="int64")
    coordinates[child] = np.where(child > above[child], 1, -1)[:, None] * step[face]
    above = np.concatenate([above, [n]])
    while (above != n).any():  # each run adds what its ancestor has, and looks twice as far next
        coordinates += coordinates[above]
        above = above[above]
    return coordinates[:n, ::-1], label


def _flat(n, coordinates, label):
    """(grid_shape, flat place of each unknown), or None where two would have the same, or the grid is too large."""
    count = int(label.max()) + 1
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
