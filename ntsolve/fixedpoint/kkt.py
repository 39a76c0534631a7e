"""How far a point is from optimal: the one measure that decides, in the units of the program as it was passed in."""

from dataclasses import astuple, dataclass

import numpy as np

from ..kernels.contracts.lp import ERRORS, OBJECTIVE_SLACK, SCALARS, VIOLATION_SLACK, WORK


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
        The largest violation of a row or bound, and of a column's reduced cost, each over 1 + the size of its side.
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

    def finite(self):
        """Whether all of them are numbers."""
        return bool(np.isfinite(astuple(self)).all())


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
        name: xp.ascontiguousarray(getattr(program, name)).reshape(batch, -1)
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


def work_shape(batch, m, n):
    """Of the room that `lp_errors` and `lp_steps` ask for."""
    return (batch, WORK, max(1, -(-max(m, n) // 256)))


def errors_of(program, x, y):
    """`Errors` of a point of a single program, all on the host."""
    from ..kernels import cpu

    x, y = (np.ascontiguousarray(v, dtype=float)[None] for v in (x, y))
    return Errors.from_row(error_rows(cpu, program, x, y)[0])
