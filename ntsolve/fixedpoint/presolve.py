"""What of a linear program is plain before any iteration, and how its solution comes back.

In passes over the matrix, until nothing changes:

    a row without entries asks for nothing, or for what cannot be;                                       (1)
    a row with one entry a of x_j is a pair of bounds of x_j, and goes where the tighter bounds are;     (2)
    a column whose bounds are equal is a number, and moves to the sides of its rows;                     (3)
    a column without entries lies at the bound that its cost likes.                                      (4)

In what is left, rows that the bounds exclude are looked for: propagation.py, whose further passes come once they are
called for. A small program may wait for these.

The multipliers come back in reverse: those of (1) are zero; where in (2) the reduced cost z_j = c_j - (A'y)_j has the
sign of a bound that a row gave, that row takes it, y_i = z_j / a; (3) and (4) have none. With c = 0 the same rule
completes a proof of infeasibility. (Andersen and Andersen, "Presolving in linear programming", Math. Program. 71,
1995.)

Contradictory bounds end it only with a proof in terms of the program as passed in; else the row stays.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..result import Status
from .certificates import certify_dual, certify_primal
from .program import Program
from .propagation import contradictions

PASSES = 30
WORTH = 5000  # entries, from which on it is quicker to look for contradictions than to begin
SLACK = 1e-9  # relative, of an empty row's sides
TINY = 1e-9  # entries from which no bounds are made, relative to the largest of all
ROUNDING = 8 * np.finfo(float).eps  # of all that has been moved to a side: what is left is nothing


@dataclass(frozen=True)
class Presolved:
    """A smaller program, and the ways to and from it.

    Attributes
    ----------
    program : Program
        What is left; its rows or columns may be none.
    status : None, Status.PRIMAL_INFEASIBLE or Status.DUAL_INFEASIBLE
    ray : array or None
        The proof of that, in terms of the program as passed in: row multipliers (m,), or a direction (n,). Multipliers
        are all zero where the bounds of one variable contradict each other.
    original : Program
    """

    program: Program
    status: Status | None
    ray: Any
    original: Program
    _rows: Any = None  # numbers of those left
    _columns: Any = None
    _values: Any = None  # (n,) of the columns that are not
    _passes: list = field(default_factory=list)

    def restore(self, x, y):
        """(x, y) of the program as passed in, from those of what is left."""
        full_x, full_y = self._values.copy(), np.zeros(self.original.m)
        full_x[self._columns], full_y[self._rows] = x, y
        return full_x, _restored(self.original.matrix(), self.original.c, self._passes, full_y)

    def reduce(self, x, y):
        """The same point, of what is left; either may be None."""
        return None if x is None else x[self._columns], None if y is None else y[self._rows]

    def restore_multipliers(self, y):
        """Of a proof that what is left has no feasible point, one for the program as passed in."""
        full = np.zeros(self.original.m)
        full[self._rows] = y
        return _restored(self.original.matrix(), np.zeros(self.original.n), self._passes, full)

    def restore_direction(self, x):
        """Of a direction without a lower bound, the same in the program as passed in."""
        full = np.zeros(self.original.n)
        full[self._columns] = x
        return full


def presolve(program):
    """Reduce a single `Program` on the host; see `Presolved`."""
    return _Work(program).run()


def _restored(A, c, passes, y):
    """Multipliers of rows that became bounds, the last ones first; (2)."""
    if passes:
        At = A.T.tocsr()
    for below, above in reversed(passes):  # each (rows, columns, entries)
        z = c - At @ y
        for (rows, columns, entries), sign in ((below, 1.0), (above, -1.0)):
            takes = sign * z[columns] > 0
            y[rows[takes]] = z[columns[takes]] / entries[takes]
    return y


class _Work:
    """What is left of a program, pass after pass."""

    def __init__(self, program):
        self.program = program
        p = program
        self.A = p.matrix()
        self.lower, self.upper, self.values = p.lower.copy(), p.upper.copy(), np.zeros(p.n)
        self.row_lower, self.row_upper = p.row_lower.copy(), p.row_upper.copy()
        self.moved = np.zeros(p.m)  # sizes of what columns have moved to the sides of a row
        self.row_of = np.repeat(np.arange(p.m), np.diff(p.indptr))
        self.rows, self.columns = np.ones(p.m, bool), np.ones(p.n, bool)  # that are left
        self.stays = np.zeros(p.m, bool)  # rows not to be looked at again
        self.tiny = TINY * abs(p.data).max(initial=0.0)
        self.passes: list = []
        self.verdict: tuple | None = None  # (Status, proof)

    def run(self):
        if (self.lower > self.upper).any():
            return self._verdict(Status.PRIMAL_INFEASIBLE, np.zeros(self.program.m))
        for _ in range(PASSES):
            entries = self.rows[self.row_of] & self.columns[self.program.indices]
            in_row = np.bincount(self.row_of[entries], minlength=self.program.m)
            in_column = np.bincount(self.program.indices[entries], minlength=self.program.n)
            changed = self._empty_rows(in_row)
            changed |= self._single_entries(in_row, entries)
            changed |= self._numbers(self.columns & (self.lower == self.upper), self.lower)
            changed |= self._empty_columns(in_column)
            if self.verdict is not None:
                return self._verdict(*self.verdict)
            if not changed:
                break
        if not self.rows.any() and self.columns.any():  # what is left is feasible, and has a direction
            ray = self._direction()
            if certify_dual(self.program, ray) is not None:
                return self._verdict(Status.DUAL_INFEASIBLE, ray)
        left = self._reduced()
        for y in contradictions(left.program, 1) if left.program.nnz >= WORTH else ():
            found = certify_primal(self.program, left.restore_multipliers(y))
            if found is not None:
                return self._verdict(Status.PRIMAL_INFEASIBLE, found[0])
        return left

    def _verdict(self, status, ray):
        return Presolved(self.program, status, ray, self.program)

    # ---- the rules --------------------------------------------------------------------------------------------------

    def _empty_rows(self, in_row):
        numbers = np.flatnonzero(self.rows & (in_row == 0))
        with np.errstate(invalid="ignore"):
            below = self.row_lower[numbers] > SLACK * (1 + abs(self.program.row_lower[numbers]))
            above = self.row_upper[numbers] < -SLACK * (1 + abs(self.program.row_upper[numbers]))
        unmet = below | above
        for number, sign in zip(numbers[unmet], np.where(below, 1.0, -1.0)[unmet], strict=True):
            if not self.stays[number]:
                self._contradiction({number: sign})
            self.stays[number] = True
        self.rows[numbers[~unmet]] = False
        return not unmet.all()

    def _single_entries(self, in_row, entries):
        single = self.rows & (in_row == 1) & ~self.stays
        at = np.flatnonzero(entries & single[self.row_of])
        rows, columns, a = self.row_of[at], self.program.indices[at], self.program.data[at]
        usable = abs(a) > self.tiny
        self.stays[rows[~usable]] = True
        rows, columns, a = rows[usable], columns[usable], a[usable]
        if not rows.size:
            return False
        low, high = self.row_lower[rows] / a, self.row_upper[rows] / a
        low, high = np.where(a > 0, low, high), np.where(a > 0, high, low)
        lower, upper = self.lower.copy(), self.upper.copy()
        np.maximum.at(lower, columns, low)
        np.minimum.at(upper, columns, high)
        crossed = lower[columns] > upper[columns]
        if crossed.any():
            for column in np.unique(columns[crossed]):
                mine = np.flatnonzero(columns == column)
                self._crossed(rows[mine], a[mine], low[mine], high[mine], column)
            self.stays[rows[crossed]] = True
            rows, columns, a = rows[~crossed], columns[~crossed], a[~crossed]
            low, high = low[~crossed], high[~crossed]
        below = _winners(low, lower, self.lower, columns, rows, a)
        above = _winners(high, upper, self.upper, columns, rows, a)
        self.lower[columns], self.upper[columns] = lower[columns], upper[columns]
        self.passes.append((below, above))
        self.rows[rows] = False
        return rows.size > 0

    def _crossed(self, rows, a, low, high, column):
        """Rows, and perhaps a bound of the column, that contradict each other."""
        proof = {}
        first, last = low.argmax(), high.argmin()
        if low[first] > self.lower[column]:
            proof[rows[first]] = 1 / a[first]
        if high[last] < self.upper[column]:
            proof[rows[last]] = proof.get(rows[last], 0.0) - 1 / a[last]
        self._contradiction(proof)

    def _contradiction(self, multipliers):
        if self.verdict is not None:
            return
        y = np.zeros(self.program.m)
        y[list(multipliers)] = list(multipliers.values())
        y = _restored(self.A, np.zeros(self.program.n), self.passes, y)
        found = certify_primal(self.program, y)
        if found is not None:
            self.verdict = Status.PRIMAL_INFEASIBLE, found[0]

    def _numbers(self, which, values):
        """(3), of columns that are to have these values."""
        numbers = np.flatnonzero(which)
        if not numbers.size:
            return False
        self.values[numbers] = values[numbers]
        self.columns[numbers] = False
        moved = np.zeros(self.program.n)
        moved[numbers] = values[numbers]
        shift = self.A @ moved
        self.moved += abs(self.A) @ abs(moved)
        for side in (self.row_lower, self.row_upper):
            side -= shift
            side[abs(side) <= ROUNDING * self.moved] = 0.0
        return True

    def _empty_columns(self, in_column):
        c = self.program.c
        empty = self.columns & (in_column == 0)
        values = np.where(c > 0, self.lower, np.where(c < 0, self.upper, np.clip(0.0, self.lower, self.upper)))
        return self._numbers(empty & np.isfinite(values), values)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _direction(self):
        c = self.program.c
        return np.where(self.columns, -np.sign(c), 0.0)

    def _reduced(self):
        p = self.program
        rows, columns = np.flatnonzero(self.rows), np.flatnonzero(self.columns)
        if rows.size == p.m and columns.size == p.n:
            left = replace(p, lower=self.lower, upper=self.upper)
        else:
            sides = self.row_lower[rows], self.row_upper[rows], self.lower[columns], self.upper[columns]
            offset = p.offset + float(p.c @ self.values)
            left = Program.from_matrix(p.c[columns], self.A[rows][:, columns], *sides, offset)
        return Presolved(left, None, None, p, rows, columns, self.values, self.passes)


def _winners(bounds, best, before, columns, rows, entries):
    """(rows, columns, entries) of the rows whose bound is the tightest of its column, one a column."""
    wins = np.flatnonzero((bounds == best[columns]) & (best[columns] != before[columns]))
    _, first = np.unique(columns[wins], return_index=True)
    wins = wins[first]
    return rows[wins], columns[wins], entries[wins]
