"""Gradients whose columns are on several ranks: who has what, and the inverse of F where there are few of them.

Where there are fewer columns than gradients, all columns of G are no larger than the products G G' would be. They are
gathered on every rank, F is factored as it is there, and each rank answers for its own columns.
"""

from typing import Any

import numpy as np

from ..reductions import SERIAL
from .gradients import InMemory
from .inverse import Primal


def parts(ranks, d, m, block_size, dtype):
    """(columns on all ranks, whether no block has columns on two); d, m, block_size and dtype are this rank's."""
    ranks.alike(block_size=block_size, **{"the number of gradients": m, "the dtype of the gradients": str(dtype)})
    counts = ranks.gather(np.array([d]))
    whole = int(counts.sum())
    if not whole:
        raise ValueError("G is empty: it has no columns on any rank")
    if ranks is SERIAL:
        return whole, True
    if block_size is None or block_size >= whole:
        return whole, False
    for rank in np.flatnonzero(counts)[:-1]:
        if counts[rank] % block_size:
            raise ValueError(f"block_size = {block_size} does not divide the {counts[rank]} columns of rank {rank}: a "
                             "block would have columns on two ranks")  # fmt: skip
    return whole, True


class Gathered:
    """A `Primal` of all columns, for the part of them that `rows` has."""

    def __init__(self, k, rows, width, damp, ranks, gram=None):
        self.k, self.rows, self.ranks = k, rows, ranks
        counts = ranks.gather(np.array([rows.d]))
        first = int(counts[: ranks.rank].sum())
        self.own = slice(first, first + rows.d)
        self.inner: Any = Primal(k, self._all(), width, damp, gram)

    def _all(self):
        """The gradients with the columns of all ranks."""
        mine = self.rows.columns(self.k.xp.arange(self.rows.d))
        return InMemory(self.k.xp.ascontiguousarray(self.ranks.gather(mine).T), owned=True)

    @property
    def gram(self):
        return self.inner.gram

    def factor(self):
        return self.inner.factor()

    def append(self, order):
        self.inner.rows = self._all()
        self.inner.append(order)

    def exchange(self, age, order):
        before, self.inner.rows = self.inner.rows, self._all()
        try:
            self.inner.exchange(age, order)
        except BaseException:
            self.inner.rows = before
            raise

    def _through(self, method, X):
        """A method of the inner one on rows X, of which each rank has some columns."""
        xp = self.k.xp
        whole = xp.ascontiguousarray(self.ranks.gather(xp.ascontiguousarray(X.T)).T)
        return xp.ascontiguousarray(method(whole)[:, self.own])

    def solve(self, X):
        return self._through(self.inner.solve, X)

    def multiply(self, X):
        return self._through(self.inner.multiply, X)

    def solve_row(self, i):
        return self.inner.solve_row(i)[self.own].astype(self.rows.working)

    def diagonal(self):
        return self.inner.diagonal()[self.own]

    def submatrix(self, index):
        return self.inner.submatrix(index + self.own.start)

    def log_det(self):
        return self.inner.log_det()
