"""Which grid a CSR matrix may be of, from where its entries are.

What is found here is a guess that `grid_csr` puts to the test entry by entry: a wrong one is not taken.
"""

import itertools

import numpy as np

from ..kernels.cpu import places

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
    faces = places.faces_of(indptr, indices, data)
    axis = None if faces is None else places.axes_of(*faces, ROUNDS)
    if axis is None:
        return None
    one, other = faces[:2]
    run, inside, count = places.runs_of(indptr.size - 1, one, other, axis)
    found = _laid_out(count, *places.links_of(one, other, axis, run, inside))
    if found is None:
        return None
    coordinates, label = found
    return _flat(coordinates, label, run, inside)


def _laid_out(n, one, other, axis, shift, doubt):
    """(coordinates of runs, z first; the component of each) along a tree that spans each component, or None.

    Link `number` leads from run one[number] to other[number]: a step along its axis, and `shift` along x. The tree is
    that of the least doubt about axes.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

    ndim = max(2, int(axis.max(initial=0)) + 1)
    links = sparse.csr_array((np.ones(one.size, dtype="int8"), (one, other)), shape=(n, n))
    count, label = connected_components(links, directed=False)
    if count > MOST_COMPONENTS:
        return None
    roots = np.empty(count, dtype="int64")
    roots[label[::-1]] = np.arange(n)[::-1]  # the first of each; np.unique takes as long as all of the rest
    ends = np.concatenate([one, np.full(count, n)]), np.concatenate([other, roots])
    tree = minimum_spanning_tree(sparse.csr_array((np.append(doubt, np.ones(count)), ends), shape=(n + 1, n + 1)))
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


def _flat(coordinates, label, run, inside):
    """(grid_shape, flat place of each unknown), or None where two would have the same, or the grid is too large.

    `coordinates` are those of the first unknown of each run, the unknowns being inside[i] further in run[i].
    """
    count, n = int(label.max()) + 1, run.size
    ends = coordinates.copy()
    ends[:, -1] += np.bincount(run) - 1
    members = [label == number for number in range(count)] if count > 1 else [slice(None)]
    least = np.array([coordinates[which].min(axis=0) for which in members])
    most = np.array([ends[which].max(axis=0) for which in members]) - least
    coordinates = coordinates - least[label]
    height = most[:, 0] + 2  # a layer of walls between components
    first = np.cumsum(height) - height
    coordinates[:, 0] += first[label]
    shape = (int(height.sum()) - 1, *(int(extent) + 1 for extent in most[:, 1:].max(axis=0)))
    if float(np.prod(np.array(shape, dtype=float))) > MOST_CELLS * n + 1000:
        return None
    cells = np.ravel_multi_index(tuple(coordinates.T), shape).astype("int64")[run] + inside
    taken = np.zeros(int(np.prod(shape)), dtype=bool)
    taken[cells] = True
    return None if np.count_nonzero(taken) < n else (shape, cells)
