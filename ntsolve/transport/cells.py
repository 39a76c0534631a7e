"""Points, or columns of a cost, put into an order in which near ones are near, and into cells: a k-d tree."""

import numpy as np

from ..reductions import SERIAL
from . import shared


def kd_order(features, leaf, ranks=SERIAL):
    """(order, bounds) of the columns of `features` (axes, m): cell c is order[bounds[c] : bounds[c + 1]].

    A cell with more than `leaf` columns is cut in two along the axis on which it is widest, at a multiple of `leaf`.
    `ranks`, which have the same columns, share the work, and get the same order.
    """
    m = features.shape[1]
    order, ranges = np.arange(m), [(0, m)]
    cells: list[int] = []
    while ranges and (cells or len(ranges) < ranks.size):
        ranges = _cut(features, leaf, order, ranges, cells)
    order = shared.as_first(ranks, order)  # ties may fall otherwise on another kind of machine
    if ranges:
        first, end = shared.bounds(ranks, len(ranges))
        begin, stop, mine = ranges[first][0], ranges[end - 1][1], ranges[first:end]
        while mine:
            mine = _cut(features, leaf, order, mine, cells)
        order, cells = ranks.gather(order[begin:stop]), ranks.gather(np.array(cells)).tolist()
    return order, np.array([*sorted(cells), m])


def _cut(features, leaf, order, ranges, cells):
    """The halves of the ranges of columns, put into `order`; what is cut no further goes to `cells`."""
    halves = []
    for low, high in ranges:
        if high - low <= leaf:
            cells.append(low)
            continue
        inside = order[low:high]
        here = features[:, inside]
        widest = here[np.ptp(here, axis=1).argmax()]
        half = -(-((high - low) // 2) // leaf) * leaf
        order[low:high] = inside[np.argpartition(widest, min(half, high - low - 1))]
        halves += [(low, low + half), (low + half, high)]
    return halves


def principal(rows, axes):
    """(axes, m): what best tells the columns of `rows` (k, m) apart."""
    rows = rows - rows.mean(1, keepdims=True)
    _, vectors = np.linalg.eigh(rows @ rows.T)
    return vectors[:, ::-1][:, :axes].T @ rows


def merged(points, weights, cells, ranks=SERIAL):
    """(centres, weights) of at most about `cells` cells of points (n, p): each the weighted mean of those in it."""
    order, bounds = kd_order(points.T, max(1, -(-len(points) // cells)), ranks)
    starts = bounds[:-1]
    total = np.add.reduceat(weights[order], starts)
    centres = np.add.reduceat(weights[order, None] * points[order], starts) / total[:, None]
    return centres, total
