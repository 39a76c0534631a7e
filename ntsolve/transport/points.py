"""Costs that come from points: computed in each pass over them, and never there as a whole."""

import numpy as np

from .. import validate
from ..dispatch import home
from ..reductions import SERIAL
from . import shared
from .costs import ENTRIES_A_CALL, Cost
from .problem import real

METRICS = ("sqeuclidean", "euclidean", "cosine")
ENTRIES_OF_A_FUNCTION = 1 << 20  # computed by a user's metric, at a time


class _Points(Cost):
    """What is common to both."""

    def column_log_sums(self, log_u, scale):
        xp, (n, m) = self.k.xp, self.shape
        log_sum = xp.full(m, -np.inf)
        if n:
            turned = self.transposed()
            log_v, col = xp.zeros(turned.width), xp.empty(turned.width)
            log_v[:n] = log_u
            turned.sums(log_v, scale, xp.ones(m), 1.0, log_sum, col)
        return shared.columns_log_sums(self.ranks, xp, log_sum)

    def transposed(self):
        """The cost of Y against X, of the rows of X that are here alone."""
        raise NotImplementedError


class PointCost(_Points):
    """|x_i - y_j|^2, or |x_i - y_j| where `root`, of X (n, p) and Y (p, m)."""

    def __init__(self, k, X, Y, root, lengths=None, ranks=SERIAL):
        super().__init__(k, (X.shape[0], Y.shape[1]), X.dtype, ranks)
        self.X, self.Y, self.root = X, Y, root
        self.both = lengths  # (of X, of Y) as they were passed in, where they were scaled
        self._order, self._sorted = None, None

    def blocks(self):
        for part in self.slices:
            yield part, (None, self.X[part], self.Y, self.root)

    def ordered_blocks(self, order, entries=ENTRIES_A_CALL):
        if order is not self._order:
            self._order, self._sorted = order, self.k.xp.ascontiguousarray(self.Y[:, order])
        for part in self.cut(entries):
            yield part, (None, self.X[part], self.Y if order is None else self._sorted, self.root), None

    @property
    def lengths(self):
        """Lengths of the points of X, where they were scaled to 1 / sqrt(2)."""
        return self.both and self.both[0]

    def part(self, rows, columns):
        X = self.X if rows is None else self.X[rows]
        Y = self.Y if columns is None else self.k.xp.ascontiguousarray(self.Y[:, columns])
        lengths = self.both and tuple(
            each if kept is None else each[kept] for each, kept in zip(self.both, (rows, columns), strict=True)
        )
        return PointCost(self.k, X, Y, self.root, lengths, self.ranks)

    def transposed(self):
        xp, lengths = self.k.xp, self.both and self.both[::-1]
        return PointCost(self.k, xp.ascontiguousarray(self.Y.T), xp.ascontiguousarray(self.X.T), self.root, lengths)

    def of(self, X, Y):
        """The same kind of cost for other points, (n, p) and (m, p) on the host."""
        xp = self.k.xp
        X, Y = xp.asarray(X, dtype=self.dtype), xp.ascontiguousarray(xp.asarray(Y, dtype=self.dtype).T)
        return PointCost(self.k, X, Y, self.root, ranks=self.ranks)

    def features(self):
        return self.k.to_host(self.Y).astype(float)

    @property
    def points(self):
        """(X, Y), (n, p) and (m, p) in float64 on the host."""
        return self.k.to_host(self.X).astype(float), self.k.to_host(self.Y).T.astype(float)


class FunctionCost(_Points):
    """The cost that a user's function of two sets of points returns, asked for a block of rows at a time."""

    def __init__(self, k, X, Y, metric, ranks=SERIAL):
        super().__init__(k, (X.shape[0], Y.shape[0]), np.result_type(X.dtype, Y.dtype), ranks)
        self.X, self.Y, self.metric = X, Y, metric

    entries_a_call = ENTRIES_OF_A_FUNCTION

    def blocks(self):
        for part in self.slices:
            yield part, (self._values(part), None, None, 0)

    def ordered_blocks(self, order, entries=ENTRIES_A_CALL):
        for part in self.cut(entries):
            yield part, (self._values(part), None, None, 0), order

    def _values(self, part):
        X = self.X[part]
        C = self.metric(X, self.Y)
        if home(C) != home(X):
            if home(X) != ("cpu", None) or home(C) is not None:
                raise TypeError(f"metric returned {type(C).__name__} for {type(X).__name__}")
            C = np.asarray(C)
        if C.shape != (X.shape[0], self.shape[1]):
            raise ValueError(f"metric returned shape {C.shape} for {X.shape[0]} and {self.shape[1]} points")
        return self.k.xp.ascontiguousarray(real("metric", C))

    def part(self, rows, columns):
        X = self.X if rows is None else self.X[rows]
        Y = self.Y if columns is None else self.Y[columns]
        return FunctionCost(self.k, X, Y, self.metric, self.ranks)

    def transposed(self):
        metric = self.metric
        return FunctionCost(self.k, self.Y, self.X, lambda Y, X: metric(X, Y).T)

    def of(self, X, Y):
        """The same kind of cost for other points, (n, p) and (m, p) on the host."""
        xp = self.k.xp
        X, Y = xp.asarray(X, dtype=self.X.dtype), xp.asarray(Y, dtype=self.Y.dtype)
        return FunctionCost(self.k, X, Y, self.metric, self.ranks)

    @property
    def points(self):
        """(X, Y), in float64 on the host."""
        return self.k.to_host(self.X).astype(float), self.k.to_host(self.Y).astype(float)

    def features(self):
        return self.points[1].T

    def allowed(self):
        found = [np.isfinite(self.k.to_host(C)) for _, (C, *_rest) in self.blocks()]
        return np.concatenate([np.empty((0, self.shape[1]), dtype=bool), *found])

    def lone_columns(self):
        xp = self.k.xp
        lone = xp.ones(self.shape[1], dtype=bool)
        for _, (C, *_rest) in self.blocks():
            lone &= xp.isinf(C).all(axis=0)
        return lone


def cost_of_points(k, X, Y, metric, names=("X", "Y"), ranks=SERIAL):
    """The cost between the points X (n, p) and Y (m, p); `ranks` have other points of X, and one of them may have none.
    """
    X, Y = _points(names[0], X, least=0 if ranks.size > 1 else 1), _points(names[1], Y)
    if ranks.size > 1 and not shared.total(ranks, X.shape[0]):
        raise ValueError(f"{names[0]} has no points on any rank")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(f"{names[0]} has shape {X.shape} and {names[1]} {Y.shape}: their points differ in length")
    if callable(metric):
        return FunctionCost(k, X, Y, metric, ranks)
    xp, dtype = k.xp, np.result_type(X.dtype, Y.dtype)
    lengths = None
    if metric == "cosine":  # 1 - cos = |x / sqrt 2 - y / sqrt 2|^2 for unit vectors
        (X, length_X), (Y, length_Y) = _units(xp, names[0], X), _units(xp, names[1], Y)
        lengths = length_X, length_Y
    X, Y = xp.ascontiguousarray(X, dtype=dtype), xp.ascontiguousarray(Y.T, dtype=dtype)
    return PointCost(k, X, Y, int(metric == "euclidean"), lengths, ranks)


def metric_of(metric):
    """The name of a metric, or a function."""
    if callable(metric):
        return metric
    if not isinstance(metric, str):
        raise TypeError(f"metric must be a name or a function, not {type(metric).__name__}")
    return validate.choice("metric", metric, METRICS)


def _points(name, values, least=1):
    if values.ndim != 2 or values.shape[0] < least or not values.shape[1]:
        raise ValueError(f"{name} has shape {tuple(values.shape)}; points (n, p), one a row, are needed")
    values = validate.numeric(name, values)
    return real(name, values)


def _units(xp, name, points):
    """(points scaled to length 1 / sqrt(2), their lengths)"""
    wide = points.astype("float64")
    size = abs(wide).max(axis=1)
    if not bool((size > 0).all()):
        raise ValueError(f"{name} has a point at the origin: its cosine with others is undefined")
    wide = wide / size[:, None]
    norms = xp.sqrt((wide**2).sum(axis=1))
    return wide / (np.sqrt(2) * norms)[:, None], size * norms
