"""Proofs that a linear program has no feasible point, or no lower bound, and when to believe them.

Row multipliers y prove that there is no feasible point (Farkas) if, with z = -A'y, on every finite side

    p(y) = sum_i y_i (row_lower_i or row_upper_i) + sum_j z_j (lower_j or upper_j) > 0,                  (1)

the side by the sign of y_i or z_j, and no y_i or z_j has the sign of an infinite side: a feasible x would make the sum
at most y'Ax + z'x = 0. A direction x proves that the objective falls without bound, if there is a feasible point, if

    c'x < 0, and x and A x point to no finite side.                                                      (2)

In floating point the second half holds but for violations v_j. Then feasible points are not excluded, but they are far
out: beyond |x|_1 = p / max |v_j|, and that means something only where p and v are not themselves rounding, and where it
is far in the units of the problem. So with u_j the units in which the largest entries of A are 1 (rows first, then
columns), and B the largest side that is paid for, in such units, a proof counts if

    max |v_j| <= 1e-6 p,    p >= 1e-6 sum |its terms|,    and                                            (3)
    max |u_j v_j| B <= 1e-9 p    or    each |v_j| <= 1e-13 sum_i |a_ij y_i|                              (4)

in the numbers of the program as passed in; likewise for (2) by rows. Without u and B, (4) would take x >= 2e9 for a
contradiction: it is beyond 1e9. Weaker rules than (3) have "proved" feasible programs infeasible.
"""

import numpy as np

from .kkt import entry_units

LOOSE, STRICT = 1e-6, 1e-9  # of the violation over p, in (3) and (4)
CANCELLED = 1e-6  # p over the sum of the sizes of its terms, at least
ROUNDING = 1e-13  # v_j over the sum of the sizes of its terms, at most
UNIT = 1e-15  # relative error of a sum of products
NEAR = 1e-2  # |v| / p beyond which a vector is not worth a second look
THRESHOLDS = (1e-9, 1e-6, 1e-4, 1e-2)  # entries below this part of the largest are tried as zeros
NEARLY_ZERO, NEGLIGIBLE = 1e-4, 1e-9  # z_j, and the sizes of what it is made of, relative: to be polished
MOST_ENTRIES = 100_000  # of a matrix for the polish


def certify_primal(program, y):
    """Multipliers near y that prove that there is no feasible point.

    Parameters
    ----------
    program : Program
        Single, on the host.
    y : array (m,)
        In its units.

    Returns
    -------
    (array (m,), float) or None
        The multipliers, with largest entry 1, and max |v_j| / p of (3).
    """
    return Prover(program).primal(y)


def certify_dual(program, x):
    """A direction near x that proves that the objective falls without bound from any feasible point.

    Parameters
    ----------
    program : Program
        Single, on the host.
    x : array (n,)
        In its units.

    Returns
    -------
    (array (n,), float) or None
        The direction, with largest entry 1, and max |v_i| / p of (3), p = -c'x.
    """
    return Prover(program).dual(x)


class Prover:
    """Looks at many vectors for one program; see `certify_primal` and `certify_dual`."""

    def __init__(self, program):
        self.program = p = program
        self._A = p.matrix()
        self._At = self._A.T.tocsr()
        self._sizes, self._sizes_t = abs(self._A), abs(self._At)
        row_of = np.repeat(np.arange(p.m), np.diff(p.indptr))
        self._row_unit, self._column_unit = entry_units(p.m, p.n, row_of, p.indices, p.data)
        self._lower, self._upper = cone(p.lower, p.upper)
        self._least, self._most = cone(p.row_lower, p.row_upper)

    def primal(self, y):
        """(multipliers, |v| / p) or None."""
        sides = self.program.row_lower, self.program.row_upper
        return _first_that_holds(self._farkas, y, sides, lambda v: _polished(v, self._A, self._At, self._sizes_t))

    def dual(self, x):
        """(direction, |v| / p) or None."""
        blocked = np.where(self._upper == 0, -np.inf, 0.0), np.where(self._lower == 0, np.inf, 0.0)
        return _first_that_holds(self._direction, x, blocked, lambda v: _polished(v, self._At, self._A, self._sizes))

    def _farkas(self, y):
        p = self.program
        z, sizes = -(self._At @ y), self._sizes_t @ abs(y)
        pays = np.where(z > 0, p.lower, p.upper)
        paid = np.isfinite(pays)
        side = np.where(y == 0, 0.0, np.where(y > 0, p.row_lower, p.row_upper))
        terms = np.concatenate([y * side, z[paid] * pays[paid]])
        noise = UNIT * (sizes[paid] @ abs(pays[paid]))  # a z that is rounding must not be worth something
        meant = paid & (abs(z) > ROUNDING * sizes)
        far = max(abs(side * self._row_unit).max(initial=0.0), abs(pays / self._column_unit)[meant].max(initial=0.0))
        return judged(terms, np.where(paid, 0.0, abs(z)), sizes, noise, self._column_unit * far)

    def _direction(self, x):
        activity, sizes = self._A @ x, self._sizes @ abs(x)
        outside = np.maximum(np.maximum(self._least - activity, activity - self._most), 0.0)
        far = abs(self.program.c * self._column_unit)[x != 0].max(initial=0.0)
        return judged(-self.program.c * x, outside, sizes, 0.0, self._row_unit * far)


def cone(lower, upper):
    """Bounds of the directions that lead to no finite side."""
    return np.where(np.isfinite(lower), 0.0, -np.inf), np.where(np.isfinite(upper), 0.0, np.inf)


def judged(terms, violation, sizes, noise, units):
    """(whether (3) and (4) hold, max |v| / p); `units` are u B."""
    worth, worst = terms.sum(), violation.max(initial=0.0)
    if not (np.isfinite(worth) and worth > 0 and worth >= CANCELLED * abs(terms).sum() and worth >= 10 * noise):
        return False, np.inf
    ratio = float(worst / worth)
    in_units = (violation * units).max(initial=0.0) <= STRICT * worth
    return ratio <= LOOSE and bool(in_units or (violation <= ROUNDING * sizes).all()), ratio


def _first_that_holds(judge, vector, sides, polish):
    """`vector` with the signs that its sides allow, as it is, with small entries left out, or polished."""
    vector = _allowed(vector, *sides)
    if vector is None:
        return None
    holds, ratio = judge(vector)
    if holds:
        return vector, ratio
    best = ratio
    for threshold in THRESHOLDS if ratio <= NEAR else THRESHOLDS[-1:]:
        candidate = np.where(abs(vector) > threshold, vector, 0.0)
        holds, ratio = judge(candidate)
        if holds:
            return candidate, ratio
        best = min(best, ratio)
    if best > NEAR:
        return None
    candidate = _allowed(polish(vector), *sides)
    if candidate is None:
        return None
    holds, ratio = judge(candidate)
    return (candidate, ratio) if holds else None


def _allowed(vector, lower, upper):
    """Positive entries where `lower` is infinite, negative ones where `upper` is, left out, and the largest made 1.

    None where nothing is left.
    """
    with np.errstate(all="ignore"):
        vector = np.where(((vector > 0) & np.isneginf(lower)) | ((vector < 0) & np.isposinf(upper)), 0.0, vector)
        largest = abs(vector).max(initial=0.0)
        if not (np.isfinite(largest) and largest > 0):
            return None
        return vector / largest


def _polished(y, A, At, sizes_t):
    """y with the columns that it nearly makes zero made so exactly: the smallest change in weighted least squares."""
    z, sizes = -(At @ y), sizes_t @ abs(y)
    columns = np.flatnonzero((abs(z) <= NEARLY_ZERO * sizes) & (sizes > NEGLIGIBLE))
    rows = np.flatnonzero(abs(y) > NEGLIGIBLE)
    if not columns.size or columns.size * rows.size > MOST_ENTRIES:
        return y
    B = A[rows][:, columns].toarray().T
    scale, weight = 1 / np.maximum(abs(B).max(1), 1e-12), np.sqrt(abs(y[rows]))
    change = np.linalg.lstsq(B * scale[:, None] * weight, z[columns] * scale, rcond=1e-12)[0]
    y = y.copy()
    y[rows] += change * weight
    return y
