"""Contradictions between rows and bounds that show without an iteration, and the multipliers that prove them.

With every x_j within its bounds, row i of A x cannot leave

    sum_j min(a_ij l_j, a_ij u_j)  <=  (A x)_i  <=  sum_j max(a_ij l_j, a_ij u_j).                         (1)

Where that misses the row's sides, there is no feasible point. Else what the other terms of a row leave of its sides
bounds each x_j, perhaps more tightly than l_j and u_j do; with these bounds (1) is looked at again, for a few passes
(Brearley, Mitra, Williams, "Analysis of mathematical programming problems prior to applying the simplex algorithm",
Math. Program. 8, 1975). Rows that are multiples of each other are compared as well.

The proof is put together backwards. Multipliers y = +-1 of the row in (1) leave z = -A'y to be paid by bounds; where
z_j pays one that row i gave, y_i takes it over, y_i += z_j / a_ij, and leaves more to bounds of earlier passes.
"""

import numpy as np

PASSES = 6
MISSED = 1e-7  # (1) by more than this, relative to the sizes of its terms, counts
GAINED = 1e-2  # what a bound has to move by to be a new one, relative to 1 + its size
LARGEST = 1e9  # of a bound that is taken from a row
TINY = 1e-6  # an entry that gives no bounds, relative to the largest of its row
TRIED = 3  # rows, worst first, that are tried
SAME = 1e-12  # relative, of numbers that tell that rows are multiples


def contradictions(program, passes=PASSES):
    """Candidates y (m,) for `certificates.certify_primal`, one by one, of a single `Program` on the host."""
    p = program
    if not p.nnz:
        return
    row_of = np.repeat(np.arange(p.m), np.diff(p.indptr))
    largest = np.zeros(p.m)
    filled = np.flatnonzero(np.diff(p.indptr))
    largest[filled] = np.maximum.reduceat(abs(p.data), p.indptr[filled])
    yield from _multiples(p, row_of, largest)
    A, lower, upper = None, p.lower, p.upper
    gained: list[tuple] = []
    for left in reversed(range(passes)):
        rows = _Rows(p, row_of, largest, lower, upper)
        if not rows.at.size:
            return
        missed, sign = rows.missed()
        for i in missed.argsort()[::-1][:TRIED]:
            if missed[i] > MISSED:
                A = p.matrix() if A is None else A
                yield _proof(A, gained, i, sign[i])
        if not left:
            return
        below, above = rows.tighter()
        if not (below[1].size or above[1].size):
            return
        lower, upper = lower.copy(), upper.copy()
        lower[below[1]], upper[above[1]] = below[3], above[3]
        gained.append((below[:3], above[:3]))


class _Rows:
    """(1) of the rows that (1) may say something about: with a finite side, and at most one infinite term there.

    `at` are their entries; in pairs is what belongs to the least value of a row and its upper side, and to the largest
    and the lower one.
    """

    def __init__(self, p, row_of, largest, lower, upper):
        self.p, self.lower, self.upper = p, lower, upper
        rises = p.data > 0
        no_lower, no_upper = np.isinf(lower)[p.indices], np.isinf(upper)[p.indices]
        infinite = np.where(rises, no_lower, no_upper), np.where(rises, no_upper, no_lower)
        self.sides = p.row_upper, p.row_lower
        self.count = [np.bincount(row_of[some], minlength=p.m) for some in infinite]
        tells = [(n <= 1) & np.isfinite(side) for n, side in zip(self.count, self.sides, strict=True)]
        self.at = at = np.flatnonzero((tells[0] | tells[1])[row_of])
        self.row, self.column, self.a = row_of[at], p.indices[at], p.data[at]
        self.usable = (abs(self.a) > TINY * largest[self.row]) & (self.a != 0)
        self.infinite = [some[at] for some in infinite]
        low, high = lower[self.column], upper[self.column]
        ends = np.where(rises[at], low, high), np.where(rises[at], high, low)
        self.terms = [np.where(none, 0.0, self.a * np.where(none, 0.0, end))
                      for none, end in zip(self.infinite, ends, strict=True)]  # fmt: skip
        self.sums = [np.bincount(self.row, terms, p.m) for terms in self.terms]

    def missed(self):
        """(m,): by how much (1) misses a side, relative, and the sign of the row's multiplier."""
        p, worst = self.p, []
        for count, total, terms, side, sign in zip(self.count, self.sums, self.terms, self.sides, (-1.0, 1.0),
                                                   strict=True):  # fmt: skip
            told = (count == 0) & np.isfinite(side)
            by = np.where(told, sign * (np.where(told, side, 0.0) - total), 0.0)
            size = np.bincount(self.row, abs(terms), p.m) + np.where(told, abs(side), 1.0)
            worst.append(np.where(by > 0, by / np.where(size > 0, size, 1.0), 0.0))
        return np.maximum(*worst), np.where(worst[0] > worst[1], -1.0, 1.0)

    def tighter(self):
        """Of new lower and upper bounds: (rows, columns, entries, bounds), the tightest of each column."""
        left = []
        for none, count, total, terms, side in zip(self.infinite, self.count, self.sums, self.terms, self.sides,
                                                   strict=True):  # fmt: skip
            told = self.usable & (count[self.row] == none) & np.isfinite(side)[self.row]
            bound = np.full(told.size, np.nan)
            some = np.flatnonzero(told)
            rest = (side - np.where(np.isfinite(side), total, 0.0))[self.row[some]] + terms[some]
            bound[some] = rest / self.a[some]
            left.append(bound)
        most, least = left  # of x_j where a_ij > 0; the other way round where not
        low, high = np.where(self.a > 0, least, most), np.where(self.a > 0, most, least)
        return self._best(low, self.lower, 1.0), self._best(high, self.upper, -1.0)

    def _best(self, bounds, old, sign):
        at = np.flatnonzero(abs(bounds) < LARGEST)
        known = old[self.column[at]]
        gain = np.where(np.isfinite(known), sign * (bounds[at] - known), np.inf)
        at = at[gain > GAINED * (1 + np.where(np.isfinite(known), abs(known), 0.0))]
        at = at[np.lexsort((-sign * bounds[at], self.column[at]))]
        columns, first = np.unique(self.column[at], return_index=True)
        at = at[first]
        return self.row[at], columns, self.a[at], bounds[at]


def _proof(A, gained, row, sign):
    """Multipliers of all rows, from that of one which (1) excludes."""
    y = np.zeros(A.shape[0])
    y[row] = sign
    for below, above in reversed(gained):
        z = -(A.T @ y)
        for (rows, columns, entries), side in ((below, 1.0), (above, -1.0)):
            pays = side * z[columns] > 0
            np.add.at(y, rows[pays], z[columns[pays]] / entries[pays])
    return y


def _multiples(p, row_of, largest):
    """Candidates from rows that are multiples of each other, told by their product with noise, relative."""
    noise = np.random.default_rng(0).standard_normal(p.n)
    product = np.bincount(row_of, p.data * noise[p.indices], p.m) / np.where(largest > 0, largest, 1.0)
    order = abs(product).argsort()
    size = abs(product)[order]
    alike = np.flatnonzero((np.diff(size) <= SAME * size[1:]) & (size[1:] > 0))
    if not alike.size:
        return
    first, second = order[alike], order[alike + 1]
    factor = largest[second] / largest[first] * np.sign(product[first] * product[second])
    low, high = p.row_lower[first] * factor, p.row_upper[first] * factor
    low, high = np.minimum(low, high), np.maximum(low, high)
    above, below = low - p.row_upper[second], p.row_lower[second] - high
    for i in np.maximum(above, below).argsort()[::-1][:TRIED]:
        if max(above[i], below[i]) > 0:
            y = np.zeros(p.m)
            y[second[i]] = sign = -1.0 if above[i] > below[i] else 1.0
            y[first[i]] = -sign * factor[i]
            yield y
