"""The cost of a transport problem, stored or computed from points: what every pass over it has in common.

A pass goes over blocks of rows that take a kernel well under 100 ms, so that Ctrl-C works, and so that a cost which
comes from a user's function is never there as a whole.
"""

import functools
import importlib

import numpy as np

from ..kernels.contracts.gibbs import width_of, workspace_shape
from ..reductions import SERIAL
from . import shared
from .cells import principal

ENTRIES_A_CALL = 1 << 24
SAMPLES, AXES = 16, 3  # rows of a cost matrix, and principal components of them, that tell its columns apart


class Cost:
    """C (n, m), never asked for as a whole. Vectors over columns are (width,), padded; those over rows (n,).

    `ranks` have the other rows: sums over rows are over all of theirs. There are `rows` in all, known after `look`.
    """

    entries_a_call = ENTRIES_A_CALL

    def __init__(self, k, shape, dtype, ranks=SERIAL):
        self.k, self.shape, self.dtype, self.ranks = k, shape, np.dtype(dtype), ranks
        self.width, self.rows = width_of(shape[1]), shape[0]
        self.low = self.high = 0.0
        self.forbidden = False

    @functools.cached_property
    def work(self):
        """Scratch of the kernels."""
        return self.k.xp.empty(workspace_shape(self.k.column_parts(self.shape[0] * self.shape[1]), self.width))

    @functools.cached_property
    def slices(self):
        """Rows of each call."""
        return self.cut(self.entries_a_call)

    def cut(self, entries):
        """Slices of the rows with so many entries at most."""
        n, m = self.shape
        step = max(1, min(entries, self.entries_a_call) // m)
        return [slice(low, min(n, low + step)) for low in range(0, n, step)]

    def blocks(self):
        """(slice of the rows, arguments of the kernels that say where the cost of those rows comes from)"""
        raise NotImplementedError

    def __getstate__(self):
        """Without what does not pickle, or is only scratch."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("work", "slices")}
        return {**state, "k": self.k.NAME, "ranks": SERIAL if self.ranks is SERIAL else shared.Left()}

    def __setstate__(self, state):
        self.__dict__.update(state, k=importlib.import_module(f"ntsolve.kernels.{state['k']}"))

    def ordered_blocks(self, order, entries=ENTRIES_A_CALL):
        """The same with the columns in another order, and the `order` that the kernel has to see to itself, or None."""
        raise NotImplementedError

    def part(self, rows, columns):
        """The cost of some rows and columns; None is all of them."""
        raise NotImplementedError

    def allowed(self):
        """(n, m) bool on the host: the pairs that are not forbidden."""
        raise NotImplementedError

    def lone_columns(self):
        """(m,) bool: the columns with nothing but forbidden pairs."""
        raise NotImplementedError

    def column_log_sums(self, log_u, scale):
        """(m,): log sum_i exp(log_u_i - scale C_ij)"""
        raise NotImplementedError

    def features(self):
        """(axes, m) on the host: where the columns are, so that near ones can be put side by side."""
        raise NotImplementedError

    def look(self, name):
        """Note the range of the costs; refuse NaN, -inf, and forbidden pairs that leave a row or column no way out."""
        xp, n = self.k.xp, self.shape[0]
        low, high, forbidden = xp.empty(n), xp.empty(n), xp.empty(n, dtype="int64")
        for part, source in self.blocks():
            self.k.cost_range(*source, low[part], high[part], forbidden[part], self.work)
        with np.errstate(all="ignore"):
            extremes = [-float(low.min()), float(high.max())] if n else [-np.inf, -np.inf]
            lowest, self.high = self.ranks.largest(np.array(extremes)).tolist()
        self.low = -lowest
        pairs, rows = shared.total(self.ranks, float(forbidden.sum()), n)
        self.rows = int(rows)
        if not self.low > -np.inf or np.isnan(self.high):
            raise ValueError(f"{name} contains NaN or -inf")
        self.forbidden = pairs > 0
        if self.forbidden:
            reached = 1.0 - self.lone_columns()
            self.ranks.add(reached)
            for what, lone in (("row", low == np.inf), ("column", reached == 0)):
                if bool(lone.any()):
                    place = int(lone.argmax())
                    raise ValueError(f"{name} forbids all pairs (+inf) of a {what} that has mass: there is no plan "
                                     f"({what} {place} of those with mass)")  # fmt: skip
        if not np.isfinite(self.high - self.low):
            raise ValueError(f"{name} has costs from {self.low} to {self.high}: their difference overflows")

    @property
    def span(self):
        """Largest minus smallest cost."""
        return self.high - self.low

    # ---- passes -----------------------------------------------------------------------------------------------------

    def sums(self, log_v, scale, a, power, log_sum, col):
        """log_sum and col of the contract gibbs_sums, over all rows."""
        col.fill(0)
        for part, source in self.blocks():
            self.k.gibbs_sums(*source, log_v, scale, a[part], power, log_sum[part], col, self.work)
        self.ranks.add(col)

    def kernel(self, order, log_v, scale, a, power, b, delta, store, log_sum, col):
        """The stored kernel, log_sum and col of the contract gibbs_kernel, over all rows."""
        col.fill(0)
        for part, source, left in self.ordered_blocks(order):
            rows = store.starts[part], store.ends[part]
            self.k.gibbs_kernel(*source, left, log_v, scale, a[part], power, b, delta, *rows, store.offsets,
                                store.values, log_sum[part], col, self.work)  # fmt: skip
        self.ranks.add(col)

    def certificate(self, g, scale, a, keep, left):
        """(f, kept, short, reach, low) of the contract gibbs_certificate."""
        xp, n = self.k.xp, self.shape[0]
        f, kept, short, reach = (xp.empty(n) for _ in range(4))
        low = xp.full(self.width, np.inf)
        for part, source in self.blocks():
            self.k.gibbs_certificate(*source, g, scale, a[part], keep, left, f[part], kept[part], short[part],
                                     reach[part], low, self.work)  # fmt: skip
        shared.columns_smallest(self.ranks, xp, low)
        return f, kept, short, reach, low

    def rounded(self, log_u, log_v, scale, keep, short, left):
        """(linear, entropy) of the contract rounded_value."""
        xp, n = self.k.xp, self.shape[0]
        linear, entropy = xp.empty(n), xp.empty(n)
        for part, source in self.blocks():
            self.k.rounded_value(*source, log_u[part], log_v, scale, keep, short[part], left, linear[part],
                                 entropy[part], self.work)  # fmt: skip
        return linear, entropy

    def plan(self, log_u, log_v, scale, P):
        """The plan, in P."""
        for part, source in self.blocks():
            self.k.plan_dense(*source, log_u[part], log_v, scale, P[part], self.work)

    def sparse(self, log_u, log_v, scale, threshold):
        """(indptr, indices, data) of the entries of the plan above the threshold."""
        xp, n = self.k.xp, self.shape[0]
        counts, indptr = xp.empty(n, dtype="int64"), xp.zeros(n + 1, dtype="int64")
        for part, source in self.blocks():
            self.k.plan_count(*source, log_u[part], log_v, scale, threshold, counts[part], self.work)
        indptr[1:] = xp.cumsum(counts)
        indices, data = xp.empty(int(indptr[-1]), dtype="int32"), xp.empty(int(indptr[-1]), dtype=self.dtype)
        for part, source in self.blocks():
            own = indptr[part.start : part.stop + 1]
            self.k.plan_sparse(*source, log_u[part], log_v, scale, threshold, own, indices, data, self.work)
        return indptr, indices, data

    def moments(self, log_u, log_v, scale):
        """(rows, cols) of the contract plan_moments."""
        xp, n = self.k.xp, self.shape[0]
        rows, cols = xp.empty(n), xp.zeros(self.width)
        for part, source in self.blocks():
            self.k.plan_moments(*source, log_u[part], log_v, scale, rows[part], cols, self.work)
        self.ranks.add(cols)
        return rows, cols

    def marginals(self, log_u, log_v, scale):
        """Row and column sums of the plan, a block of it at a time."""
        xp, (n, m) = self.k.xp, self.shape
        rows, cols = xp.empty(n), xp.zeros(m)
        for part, source in self.blocks():
            P = xp.empty((part.stop - part.start, m))
            self.k.plan_dense(*source, log_u[part], log_v, scale, P, self.work)
            rows[part] = P.sum(axis=1)
            cols += P.sum(axis=0)
        self.ranks.add(cols)
        return rows, cols


class MatrixCost(Cost):
    """A stored cost matrix."""

    def __init__(self, k, C, ranks=SERIAL):
        super().__init__(k, C.shape, C.dtype, ranks)
        self.C = C

    def blocks(self):
        for part in self.slices:
            yield part, (self.C[part], None, None, 0)

    def ordered_blocks(self, order, entries=ENTRIES_A_CALL):
        for part in self.cut(entries):
            yield part, (self.C[part], None, None, 0), order

    def part(self, rows, columns):
        C = self.C if rows is None else self.C[rows]
        C = C if columns is None else C[:, columns]
        return self if C is self.C else MatrixCost(self.k, self.k.xp.ascontiguousarray(C), self.ranks)

    def column_log_sums(self, log_u, scale):
        out = self.k.xp.empty((1, self.shape[1]))
        self.k.softmin_columns(self.C[None], (log_u / scale)[None], 1 / scale, out)
        return -scale * out[0]

    def allowed(self):
        return np.isfinite(self.k.to_host(self.C))

    def lone_columns(self):
        return self.k.xp.isinf(self.C).all(axis=0)

    def features(self):
        n = self.shape[0]
        rows = np.sort(np.random.default_rng(0).choice(n, min(SAMPLES, n), replace=False))
        rows = self.k.to_host(self.C[self.k.xp.asarray(rows)]).astype(float)
        return principal(np.where(np.isfinite(rows), rows, self.high), AXES)
