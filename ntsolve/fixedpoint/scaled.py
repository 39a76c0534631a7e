"""A linear program, or a batch of them, in the units that the iteration likes.

Rows and columns are divided by r and s so that the entries of A are near 1: ten steps of Ruiz ("A scaling algorithm to
equilibrate both rows and columns norms", 2001), then one of Pock and Chambolle ("Diagonal preconditioning for first
order primal-dual algorithms", 2011, with alpha = 1), after which |A|_2 <= 1. Then sides and bounds are divided by
1 + |sides|, and costs by 1 + |c|.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..kernels.contracts.lp import ERRORS, SCALARS
from .kkt import Errors, side_norm, work_shape
from .program import transpose

RUIZ = 10
POWER_STEPS, POWER_CALLS = 20, 3  # of the power method: in one call, and calls at most
CLOSE = 1e-3  # of its residual, relative, at which it ends
STEP = 0.998  # times 1 / |A|


@dataclass(frozen=True)
class Scaled:
    """The program in x~ = x / x_unit and y~ = y / y_unit; arrays of the backend with the batch in front.

    Attributes
    ----------
    indptr, indices, data : arrays (m + 1,), (nnz,), (batch, nnz)
        A, in CSR.
    tindptr, tindices, tdata : arrays (n + 1,), (nnz,), (batch, nnz)
        A', in CSR.
    c, lower, upper : array (batch, n)
    row_lower, row_upper : array (batch, m)
    x_unit, col_unit : array (batch, n)
        A variable and a reduced cost are these times what they are here.
    y_unit, row_unit : array (batch, m)
        A multiplier and a row's activity are these times what they are here.
    scalars : array (batch, SCALARS)
        Unit and offset of the objective, and norms of sides and costs, of the program as passed in.
    eta : array (batch,), on the host
        Step for which the iteration does not expand.
    """

    indptr: Any
    indices: Any
    data: Any
    tindptr: Any
    tindices: Any
    tdata: Any
    c: Any
    lower: Any
    upper: Any
    row_lower: Any
    row_upper: Any
    x_unit: Any
    col_unit: Any
    y_unit: Any
    row_unit: Any
    scalars: Any
    eta: Any

    @property
    def arguments(self):
        """What the kernels `lp_errors` and `lp_steps` begin with."""
        return (self.indptr, self.indices, self.data, self.tindptr, self.tindices, self.tdata, self.c, self.lower,
                self.upper, self.row_lower, self.row_upper, self.row_unit, self.col_unit, self.scalars)  # fmt: skip

    def item(self, k, i):
        """Program i of the batch, on the host, without the leading axis."""
        shared = ("indptr", "indices", "tindptr", "tindices")
        parts = {f.name: k.to_host(getattr(self, f.name)) for f in fields(self)}
        return Scaled(**{name: v if name in shared else v[i] for name, v in parts.items()})

    def errors(self, x, y):
        """`Errors` of a point of an `item`, in the units of the program as passed in."""
        from ..kernels import cpu

        (m,), (n,) = y.shape, x.shape
        shared = (self.indptr, self.indices, self.tindptr, self.tindices)
        arguments = (v if any(v is s for s in shared) else v[None] for v in self.arguments)
        errors = np.empty((1, ERRORS))
        cpu.lp_errors(*arguments, x[None], y[None], np.empty(work_shape(1, m, n)), errors)
        return Errors.from_row(errors[0])


def scale(k, program, *, ruiz=RUIZ, pock_chambolle=True, sides=True):
    """The `Scaled` form of a `Program` whose arrays are those of the backend k; the switches are for comparisons."""
    xp, (m, n) = k.xp, (program.m, program.n)
    batch = math.prod(program.shape)
    turned = transpose(k.to_host(program.indptr), k.to_host(program.indices), n)
    tindptr, tindices, permutation = map(xp.asarray, turned)

    def rows(v, width):
        return xp.ascontiguousarray(v).reshape(batch, width)

    pattern, tpattern = (program.indptr, program.indices), (tindptr, tindices)
    data = rows(program.data, program.nnz)
    tdata = xp.ascontiguousarray(data[:, permutation])
    r, s = xp.ones((batch, m)), xp.ones((batch, n))
    new_r, new_s = xp.empty_like(r), xp.empty_like(s)
    for step in range(ruiz + bool(pock_chambolle)):
        by_sum = int(step == ruiz)
        k.lp_equilibrate(*pattern, data, r, s, by_sum, new_r)
        k.lp_equilibrate(*tpattern, tdata, s, r, by_sum, new_s)
        r, new_r, s, new_s = new_r, r, new_s, s
    scaled, tscaled = xp.empty_like(data), xp.empty_like(tdata)
    k.lp_scale(*pattern, data, r, s, scaled)
    k.lp_scale(*tpattern, tdata, s, r, tscaled)

    c, lower, upper = (rows(v, n) for v in (program.c, program.lower, program.upper))
    row_lower, row_upper = (rows(v, m) for v in (program.row_lower, program.row_upper))
    scalars = xp.empty((batch, SCALARS))
    scalars[:, 1] = xp.asarray(program.offset)
    scalars[:, 2], scalars[:, 3] = side_norm(xp, row_lower, row_upper), xp.sqrt((c * c).sum(-1))
    c, lower, upper, row_lower, row_upper = c / s, lower * s, upper * s, row_lower / r, row_upper / r
    by, cost = xp.ones((batch, 1)), xp.ones((batch, 1))
    if sides:
        by = 1 / (1 + side_norm(xp, row_lower, row_upper))[:, None]
        cost = 1 / (1 + xp.sqrt((c * c).sum(-1)))[:, None]
    scalars[:, 0] = (1 / (by * cost))[:, 0]
    return Scaled(
        *pattern, scaled, *tpattern, tscaled,
        c=c * cost, lower=lower * by, upper=upper * by, row_lower=row_lower * by, row_upper=row_upper * by,
        x_unit=1 / (s * by), col_unit=s / cost, y_unit=1 / (r * cost), row_unit=r / by,
        scalars=scalars, eta=_step(k, (*pattern, scaled), (*tpattern, tscaled), m, n, batch),
    )  # fmt: skip


def _step(k, A, At, m, n, batch):
    """1 / |A|_2 from below, one a program: by the power method, with what it leaves open on the safe side."""
    xp = k.xp
    v = xp.asarray(np.random.default_rng(0).standard_normal((1, m)).repeat(batch, 0))
    u, w, out = xp.empty((batch, n)), xp.empty_like(v), xp.empty((batch, 2))
    for _ in range(POWER_CALLS):
        k.lp_power(*A, *At, POWER_STEPS, v, u, w, out)
        value, left = k.to_host(out).T
        if (left <= CLOSE * value).all():
            break
    square = value + left
    return np.where(square > 0, STEP / np.sqrt(np.where(square > 0, square, 1.0)), 1.0)
