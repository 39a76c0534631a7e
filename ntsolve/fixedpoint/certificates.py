"""Proofs that a linear program has no feasible point, or no lower bound, and when to believe them.

Row multipliers y prove that there is no feasible point (Farkas) if, with z = -A'y, on every finite side

    p(y) = sum_i y_i (row_lower_i or row_upper_i) + sum_j z_j (lower_j or upper_j) > 0,                  (1)

the side by the sign of y_i or z_j, and no y_i or z_j has the sign of an infinite side: a feasible x would make the sum
at most y'Ax + z'x = 0. A direction x proves that the objective falls without bound, if there is a feasible point, if

    c'x < 0, and x and A x point to no finite side.                                                      (2)

In floating point the second half holds but for a violation v. Then feasible points, if any, are beyond |x|_1 = p / |v|,
and that means something only where p and v are not themselves rounding. So a proof counts if

    |v| <= 1e-6 p,  p >= 1e-6 sum |its terms|,  and  |v| <= 1e-9 p or each v_j <= 1e-8 sum_i |a_ij y_i|  (3)

with |v| the largest entry, in the units of the program as passed in; likewise for (2) by rows. Weaker rules have
"proved" feasible programs infeasible.
"""

import numpy as np

LOOSE, STRICT = 1e-6, 1e-9  # of |v| / p
CANCELLED = 1e-6  # p over the sum of the sizes of its terms, at least
ROUNDING = 1e-8  # v_j over the sum of the sizes of its terms, at most
UNIT = 1e-15  # relative error of a sum of products
THRESHOLDS = (1e-9, 1e-6, 1e-4, 1e-2)  # entries below this part of the largest are tried as zeros
NEARLY_ZERO, NEGLIGIBLE = 1e-4, 1e-9  # z_j, and the sizes of what it is made of, relative: to be polished
MOST_ENTRIES = 1_000_000  # of a matrix for the polish


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
        The multipliers, with largest entry 1, and |v| / p of (3).
    """
    A = program.matrix()
    At = A.T.tocsr()
    sides = program.row_lower, program.row_upper, program.lower, program.upper
    return _first_that_holds(lambda v: _farkas(At, *sides, v), y, A, sides[:2])


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
        The direction, with largest entry 1, and |v| / p of (3), p = -c'x.
    """
    A = program.matrix()
    lower = np.where(np.isfinite(program.lower), 0.0, -np.inf)
    upper = np.where(np.isfinite(program.upper), 0.0, np.inf)
    least = np.where(np.isfinite(program.row_lower), 0.0, -np.inf)
    most = np.where(np.isfinite(program.row_upper), 0.0, np.inf)

    def holds(v):
        v = np.clip(v, lower, upper)
        violation, sizes = _outside(A, v, least, most)
        return _holds(-program.c * v, violation, sizes, v)

    blocked = np.where(upper == 0, -np.inf, 0.0), np.where(lower == 0, np.inf, 0.0)
    return _first_that_holds(holds, x, A.T.tocsr(), blocked)


def _farkas(At, row_lower, row_upper, lower, upper, y):
    z = -(At @ y)
    sizes = abs(At) @ abs(y)
    pays = np.where(z > 0, lower, upper)
    paid = np.isfinite(pays)
    violation = np.where(paid, 0.0, abs(z))
    side = np.where(y > 0, row_lower, row_upper)
    terms = np.concatenate([y * np.where(y == 0, 0.0, side), z[paid] * pays[paid]])
    noise = UNIT * (sizes[paid] @ abs(pays[paid]))  # a z that is rounding must not be worth something
    return _holds(terms, violation, sizes, y, noise)


def _outside(A, x, least, most):
    """(how far A x is outside its bounds, the sizes of what its entries are made of)"""
    activity = A @ x
    return np.maximum(np.maximum(least - activity, activity - most), 0.0), abs(A) @ abs(x)


def _holds(terms, violation, sizes, vector, noise=0.0):
    """(vector, |v| / p) if (3) holds, else None."""
    worth, worst = terms.sum(), violation.max(initial=0.0)
    if not (np.isfinite(worth) and worth > 0 and worth >= CANCELLED * abs(terms).sum() and worth >= 10 * noise):
        return None
    if worst <= STRICT * worth or (worst <= LOOSE * worth and (violation <= ROUNDING * sizes).all()):
        return vector, float(worst / worth)
    return None


def _first_that_holds(holds, vector, A, sides):
    """`vector` with the signs that its sides allow, as it is, polished, or with small entries left out."""
    vector = _allowed(vector, *sides)
    if vector is None:
        return None
    for candidate in _variants(vector, A, sides):
        found = holds(candidate)
        if found is not None:
            return found
    return None


def _variants(vector, A, sides):
    yield vector
    for threshold in THRESHOLDS:
        yield np.where(abs(vector) > threshold, vector, 0.0)
    polished = _allowed(_polished(vector, A), *sides)
    if polished is not None:
        yield polished


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


def _polished(y, A):
    """y with the columns that it nearly makes zero made so exactly: the smallest change in weighted least squares."""
    At = A.T.tocsr()
    z, sizes = -(At @ y), abs(At) @ abs(y)
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
