"""How far a point is from optimal: the one measure that decides, in the units of the program as it was passed in."""

from dataclasses import dataclass, replace

import numpy as np

from ..kernels.contracts.lp import ERRORS, OBJECTIVE_SLACK, SCALARS, VIOLATION_SLACK, WORK

FLOOR = 1e-6  # of a size that a violation is relative to, see `violations_in_units`


@dataclass(frozen=True)
class Errors:
    """Of a primal and dual point (x, y) of a program.

    Attributes
    ----------
    primal : float
        2-norm of the violations of rows and bounds, over 1 + the norm of the finite sides of the rows.
    dual : float
        2-norm of the reduced costs and multipliers that an infinite bound would have to pay, over 1 + |c|.
    gap : float
        |p - d| / (1 + |p| + |d|), of the two objectives p and d.
    primal_objective, dual_objective : float
    objective_error : float
        What gap and violations together leave open of the objective, over 1 + min(|p|, |d|): |p - d|, and each
        violation of a row times its multiplier, of a reduced cost times its variable.
    row_violation, column_violation : float
        The largest violation of a row or bound, and of a column's reduced cost, each over 1 + the size of its side; see
        `with_units` as well.
    """

    primal: float
    dual: float
    gap: float
    primal_objective: float
    dual_objective: float
    objective_error: float
    row_violation: float
    column_violation: float

    @classmethod
    def from_row(cls, row):
        """From a row that the kernel `lp_errors` wrote."""
        return cls(*map(float, row))

    @property
    def kkt(self):
        """The largest of the three relative errors."""
        return float(np.max((self.primal, self.dual, self.gap)))  # NaN, if one is

    def meets(self, tol):
        """Whether this is an answer to tolerance `tol`: all of its errors, and what they leave open, are small."""
        violation = max(self.row_violation, self.column_violation)
        return bool(
            self.kkt <= tol and self.objective_error <= OBJECTIVE_SLACK * tol and violation <= VIOLATION_SLACK * tol
        )

    @property
    def level(self):
        """The smallest tolerance that these errors meet."""
        violation = max(self.row_violation, self.column_violation)
        return max(self.kkt, self.objective_error / OBJECTIVE_SLACK, violation / VIOLATION_SLACK)

    def with_units(self, row, column):
        """The same, where violations measured in other units, see `violations_in_units`, may be larger."""
        return replace(self, row_violation=max(self.row_violation, row),
                       column_violation=max(self.column_violation, column))  # fmt: skip


def side_norm(xp, row_lower, row_upper):
    """2-norm of the finite sides of the rows (..., m), those of an equation counted once."""
    low = xp.where(xp.isfinite(row_lower) & (row_lower != row_upper), row_lower, 0.0)
    high = xp.where(xp.isfinite(row_upper), row_upper, 0.0)
    return xp.sqrt((low * low).sum(-1) + (high * high).sum(-1))


def error_rows(k, program, x, y):
    """(batch, ERRORS) on the host, of points x (batch, n), y (batch, m) of an unscaled program or batch of them."""
    xp, batch, m, n = k.xp, x.shape[0], y.shape[-1], x.shape[-1]
    tindptr, tindices, permutation = program.turned
    rows = {
        name: _by_program(xp, getattr(program, name), batch)
        for name in ("data", "c", "lower", "upper", "row_lower", "row_upper")
    }
    if not m:
        rows["row_lower"] = rows["row_upper"] = xp.zeros((batch, 0))
    data = rows["data"]
    turned = xp.ascontiguousarray(data[:, xp.asarray(permutation)])
    scalars = xp.ones((batch, SCALARS))
    scalars[:, 1] = xp.asarray(program.offset)
    scalars[:, 2] = side_norm(xp, rows["row_lower"], rows["row_upper"])
    scalars[:, 3] = xp.sqrt((rows["c"] * rows["c"]).sum(-1))
    errors = xp.empty((batch, ERRORS))
    k.lp_errors(program.indptr, program.indices, data, xp.asarray(tindptr), xp.asarray(tindices), turned, rows["c"],
                rows["lower"], rows["upper"], rows["row_lower"], rows["row_upper"], xp.ones((batch, m)),
                xp.ones((batch, n)), scalars, x, y, xp.empty(work_shape(batch, m, n)), errors)  # fmt: skip
    return k.to_host(errors)


def _by_program(xp, v, batch):
    """(..., size) as (batch, size), of which either may be zero."""
    return xp.ascontiguousarray(v).reshape(batch, v.shape[-1])


def violations_in_units(program, x, y):
    """(batch, 2): the largest of `all_in_units`."""
    return np.stack([v.max(1, initial=0.0) for v in all_in_units(program, x, y)], axis=1)


def all_in_units(program, x, y):
    """Violations of rows (batch, m) and of reduced costs (batch, n), in units in which the entries of A are near 1.

    A row with small entries asks for something all the same, which an error against 1 would not notice. So each row is
    divided by its largest entry, then each column by that of its own; a violation is then relative to the sum of the
    sizes of all that is added up in it, and FLOOR, or 1 where the side or cost is zero and tells no size.
    """
    from scipy.sparse import csr_array

    batch, m, n, nnz = x.shape[0], y.shape[-1], x.shape[-1], program.nnz
    names = ("data", "c", "lower", "upper", "row_lower", "row_upper")
    data, c, lower, upper, low, high = (np.ravel(getattr(program, name)) for name in names)
    number = np.arange(batch)[:, None]  # of the blocks of one large diagonal
    indices = np.ravel(program.indices + n * number)
    indptr = np.append(np.ravel(program.indptr[:-1] + nnz * number), batch * nnz)
    A, sizes = (csr_array((v, indices, indptr), shape=(batch * m, batch * n)) for v in (data, abs(data)))
    row_unit, column_unit = entry_units(batch * m, batch * n, np.repeat(np.arange(batch * m), np.diff(indptr)),
                                        indices, data)  # fmt: skip
    x, y = np.ravel(x), np.ravel(y)
    activity, z = A @ x, c - A.T @ y
    below = low - activity
    excess = np.maximum(np.maximum(below, activity - high), 0.0)
    excess = relative(excess, np.where(below > 0, low, high), sizes @ abs(x), row_unit)
    paid = np.isfinite(np.where(z > 0, lower, upper))
    unpaid = relative(np.where(paid, 0.0, abs(z)), c, sizes.T @ abs(y), column_unit)
    return excess.reshape(batch, m), unpaid.reshape(batch, n)


def entry_units(m, n, row_of, column_of, data):
    """What rows (m,), then columns (n,), are to be multiplied by for their largest entries to be 1."""
    units: list[np.ndarray] = []
    for size, of in ((m, row_of), (n, column_of)):
        largest = np.zeros(size)
        np.maximum.at(largest, of, abs(data) * (units[0][row_of] if units else 1.0))
        units.append(1 / np.where(largest > 0, largest, 1.0))
    return units


def relative(violation, side, size, unit):
    floor = np.where(side == 0, 1.0, FLOOR)
    with np.errstate(invalid="ignore"):
        return np.where(violation > 0, violation * unit / ((abs(side) + size) * unit + floor), 0.0)


def work_shape(batch, m, n):
    """Of the room that `lp_errors` and `lp_steps` ask for."""
    return (batch, WORK, max(1, -(-max(m, n) // 256)))


def errors_of(program, x, y):
    """`Errors` of a point of a single program, all on the host."""
    from ..kernels import cpu

    x, y = (np.ascontiguousarray(v, dtype=float)[None] for v in (x, y))
    return Errors.from_row(error_rows(cpu, program, x, y)[0])
