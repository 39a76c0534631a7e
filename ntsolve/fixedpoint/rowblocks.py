"""A linear program of which each rank has rows: products with A', errors, and the units of the iteration.

c, bounds and x are the same on every rank, and so is a reduced cost; a row, its sides and its multiplier are on one
rank only. A x is local, A'y is the sum over the ranks of what their rows give. Sums over columns are added up by one
rank, those over rows by all, and what is decided is decided by the sums.
"""

import math
from dataclasses import replace

import numpy as np

from ..kernels import cpu
from ..kernels.contracts.lp import COLUMN_NORM, OBJECTIVE_UNIT, OFFSET, ROW_NORM, SCALARS
from .certificates import NEAR, ROUNDING, THRESHOLDS, UNIT, cone, judged
from .kkt import relative, side_norm
from .program import transpose
from .scaled import CLOSE, POWER_CALLS, POWER_STEPS, RUIZ, STEP, Scaled

AT_ONCE = 1 << 16  # numbers of a vector whose maxima over the ranks are taken in one message


class RowBlocks:
    """Rows of a program in the form that `lp_errors` takes, `Scaled.arguments`, a batch of one.

    Parameters
    ----------
    k : module
        Kernels.
    arguments : tuple
        Of this rank's rows, with the norms in `scalars` those of all rows.
    ranks : Reductions
    """

    def __init__(self, k, arguments, ranks):
        self.k, self.ranks = k, ranks
        indptr, indices, data, tindptr, tindices, tdata, *self._rest = arguments
        self._A, self._At = (indptr, indices, data[0]), (tindptr, tindices, tdata[0])
        self.n, self.m = self._rest[0].shape[1], self._rest[3].shape[1]

    def times(self, x, out):
        """out = A x, this rank's rows of it."""
        self.k.csr_matvec(*self._A, x, out)
        return out

    def turned(self, y, out):
        """out = A'y of all rows."""
        self.k.csr_matvec(*self._At, y, out)
        self.ranks.add(out)
        return out

    def errors(self, x, y):
        """(ERRORS,) on the host, as `lp_errors` has them."""
        xp, ranks = self.k.xp, self.ranks
        c, lower, upper, low, high, row_unit, col_unit, scalars = self._rest
        g, z = self.times(x, xp.empty((1, self.m))), c - self.turned(y, xp.empty((1, self.n)))
        unit, offset, row_norm, column_norm = np.asarray(self.k.to_host(scalars))[0]
        x_unit = unit / col_unit
        over = xp.maximum(xp.maximum(low - g, g - high), 0.0)
        paid, wrong = _paid(xp, y, low, high)
        wrong_y = wrong * unit / row_unit
        side = xp.maximum(_size(xp, low), _size(xp, high)) * row_unit
        outside = xp.maximum(xp.maximum(lower - x, x - upper), 0.0) * x_unit
        edge = xp.maximum(_size(xp, lower), _size(xp, upper)) * x_unit
        paid_z, wrong_z = _paid(xp, z, lower, upper)
        unpaid = wrong_z * col_unit
        ours = [_square(over * row_unit), _square(wrong_y), paid.sum(), (abs(y) * over).sum(), 0.0]
        everyones = [_square(outside), _square(unpaid), paid_z.sum(), (abs(x) * wrong_z).sum(), (c * x).sum()]
        sums = np.array([float(v) for v in ours]) + ranks.carry * np.array([float(v) for v in everyones])
        ranks.total(sums)
        violations = ranks.largest([
            max(_most(over * row_unit / (1 + side)), _most(outside / (1 + edge))),
            max(_most(wrong_y), _most(unpaid / (1 + abs(c) * col_unit))),
        ])  # fmt: skip
        primal, dual, d, slack, p = sums.tolist()
        p, d = p * unit + offset, d * unit + offset
        return np.array([
            math.sqrt(primal) / (1 + row_norm),
            math.sqrt(dual) / (1 + column_norm),
            abs(p - d) / (1 + abs(p) + abs(d)),
            p,
            d,
            (abs(p - d) + slack * unit) / (1 + min(abs(p), abs(d))),
            *violations,
        ])  # fmt: skip


def _paid(xp, multiplier, low, high):
    """(what the sides are worth that multipliers pay, how much of them pays infinite sides)"""
    side = xp.where(multiplier > 0, low, high)
    finite = xp.isfinite(side)
    worth = xp.where(finite, multiplier * xp.where(finite, side, 0.0), multiplier * 0.0)
    return worth, xp.where(finite, 0.0, abs(multiplier))


def _size(xp, bound):
    """Of a bound, 0 for none."""
    return xp.where(xp.isfinite(bound), abs(bound), 0.0)


def _square(v):
    return (v * v).sum()


def _most(v):
    return float(v.max()) if v.size else 0.0


def largest(k, ranks, v):
    """The largest over the ranks of each entry of v (1, size), where v lives; a piece at a time."""
    host = k.to_host(v)[0]
    pieces = [ranks.largest(host[at : at + AT_ONCE]) for at in range(0, host.size, AT_ONCE)]
    return k.xp.asarray(np.concatenate([np.zeros(0), *pieces])[None])


# ---- units ----------------------------------------------------------------------------------------------------------


def scale_rows(k, program, ranks):
    """As `scale`, of a single program with the arrays of k, of which this rank has rows."""
    xp, (m, n) = k.xp, (program.m, program.n)
    turned = transpose(k.to_host(program.indptr), k.to_host(program.indices), n)
    tindptr, tindices, permutation = map(xp.asarray, turned)
    pattern, tpattern = (program.indptr, program.indices), (tindptr, tindices)
    data = xp.ascontiguousarray(program.data)[None]
    tdata = xp.ascontiguousarray(data[:, permutation])
    here = (tindptr[1:] > tindptr[:-1])[None]  # columns that this rank's rows have entries in
    r, s = xp.ones((1, m)), xp.ones((1, n))
    new_r, new_s = xp.empty_like(r), xp.empty_like(s)
    for step in range(RUIZ + 1):
        by_sum = int(step == RUIZ)
        k.lp_equilibrate(*pattern, data, r, s, by_sum, new_r)
        k.lp_equilibrate(*tpattern, tdata, s, r, by_sum, new_s)
        factor = xp.where(here, new_s / s, 0.0)  # the root of the size that a column has here
        if by_sum:
            factor *= factor
            ranks.add(factor)
            factor = xp.sqrt(factor)
        else:
            factor = largest(k, ranks, factor)
        s = s * xp.where(factor > 0, factor, 1.0)
        r, new_r = new_r, r
    scaled, tscaled = xp.empty_like(data), xp.empty_like(tdata)
    k.lp_scale(*pattern, data, r, s, scaled)
    k.lp_scale(*tpattern, tdata, s, r, tscaled)

    c, lower, upper, row_lower, row_upper = (getattr(program, name)[None] for name in SIDES)
    scalars = np.ones((1, SCALARS))
    scalars[0, OFFSET] = program.offset
    scalars[0, ROW_NORM] = _side_norm(k, ranks, row_lower, row_upper)
    scalars[0, COLUMN_NORM] = math.sqrt(float(_square(c)))
    c, lower, upper, row_lower, row_upper = c / s, lower * s, upper * s, row_lower / r, row_upper / r
    by, cost = 1 / (1 + _side_norm(k, ranks, row_lower, row_upper)), 1 / (1 + math.sqrt(float(_square(c))))
    scalars[0, OBJECTIVE_UNIT] = 1 / (by * cost)
    found = Scaled(
        *pattern, scaled, *tpattern, tscaled,
        c=c * cost, lower=lower * by, upper=upper * by, row_lower=row_lower * by, row_upper=row_upper * by,
        x_unit=1 / (s * by), col_unit=s / cost, y_unit=1 / (r * cost), row_unit=r / by, scalars=xp.asarray(scalars),
        eta=None,
    )  # fmt: skip
    return replace(found, eta=_step(RowBlocks(k, found.arguments, ranks)))


SIDES = ("c", "lower", "upper", "row_lower", "row_upper")


def _side_norm(k, ranks, row_lower, row_upper):
    """2-norm of the finite sides of everyone's rows."""
    return float(ranks.norm(k.to_host(side_norm(k.xp, row_lower, row_upper)))[0])


def _step(blocks):
    """As `scaled._step`, from the same start."""
    k, ranks, m = blocks.k, blocks.ranks, blocks.m
    v, u, w = k.xp.asarray(_part_of_noise(ranks, m)[None]), k.xp.empty((1, blocks.n)), k.xp.empty((1, m))
    for _ in range(POWER_CALLS):
        for step in range(POWER_STEPS):
            blocks.times(blocks.turned(v, u), w)
            if step == POWER_STEPS - 1:
                sums = np.array([float((v * v).sum()), float((v * w).sum()), float((w * w).sum())])
                ranks.total(sums)
                size, overlap, square = sums
            v, w = w, v
        value = overlap / size if size > 0 else 0.0
        left = math.sqrt(max(square / size - value**2, 0.0)) if size > 0 else 0.0
        if left <= CLOSE * value:
            break
        v *= 1 / math.sqrt(square) if square > 0 else 0.0
    square = value + left
    return np.array([STEP / math.sqrt(square) if square > 0 else 1.0])


def _part_of_noise(ranks, m, chunk=1 << 20):
    """This rank's entries of a vector of normal numbers that does not depend on how many ranks there are."""
    before = int(ranks.gather(np.array([m]))[: ranks.rank].sum())
    rng = np.random.default_rng(0)
    while before:
        before -= rng.standard_normal(min(before, chunk)).size
    return rng.standard_normal(m)


# ---- in the units of the program ------------------------------------------------------------------------------------


class Measure:
    """What decides on success and on proofs: a single `Program` on the host, of which this rank has rows, as it is."""

    def __init__(self, program, ranks):
        self.program, self.ranks = p, _ = (program, ranks)
        self.A = p.matrix()
        self.At = self.A.T.tocsr()
        self.sizes, self.sizes_t = abs(self.A), abs(self.At)
        scalars = np.array([[1.0, p.offset, 0.0, math.sqrt(p.c @ p.c)]])
        scalars[0, ROW_NORM] = _side_norm(cpu, ranks, p.row_lower[None], p.row_upper[None])
        tindptr, tindices, permutation = p.turned
        sides = (np.ascontiguousarray(getattr(p, name))[None] for name in SIDES)
        units = np.ones((1, p.m)), np.ones((1, p.n))
        self._blocks = RowBlocks(cpu, (p.indptr, p.indices, p.data[None], tindptr, tindices, p.data[permutation][None],
                                       *sides, *units, scalars), ranks)  # fmt: skip
        self.row_unit, self.column_unit = self._units()
        self.lower, self.upper = cone(p.lower, p.upper)
        self.least, self.most = cone(p.row_lower, p.row_upper)

    def _units(self):
        """As `kkt.entry_units`."""
        p = self.program
        row = _inverse(np.maximum.reduceat(np.append(abs(p.data), 0.0), p.indptr[:-1]) * (np.diff(p.indptr) > 0))
        column = np.zeros(p.n)
        np.maximum.at(column, p.indices, abs(p.data) * np.repeat(row, np.diff(p.indptr)))
        return row, _inverse(largest(cpu, self.ranks, column[None])[0])

    def products(self, x, y):
        """(A x of this rank's rows, c - A'y)"""
        z = -(self.At @ y)
        self.ranks.add(z)
        return self.A @ x, self.program.c + z

    def _turned(self, y):
        """(-A'y, |A|'|y|) of all rows."""
        both = np.stack([-(self.At @ y), self.sizes_t @ abs(y)])
        self.ranks.add(both)
        return both

    def errors(self, x, y):
        """(ERRORS,), of a point x (n,), y (m,)."""
        return self._blocks.errors(x[None], y[None])

    def violations(self, x, y):
        """As `kkt.violations_in_units`."""
        p = self.program
        z, sizes = self._turned(y)
        z, activity = p.c + z, self.A @ x
        below = p.row_lower - activity
        excess = np.maximum(np.maximum(below, activity - p.row_upper), 0.0)
        excess = relative(excess, np.where(below > 0, p.row_lower, p.row_upper), self.sizes @ abs(x), self.row_unit)
        paid = np.isfinite(np.where(z > 0, p.lower, p.upper))
        unpaid = relative(np.where(paid, 0.0, abs(z)), p.c, sizes, self.column_unit)
        return self.ranks.largest([excess.max(initial=0.0), unpaid.max(initial=0.0)])

    # ---- proofs, as in certificates.py, but for its polish ----

    def primal(self, y):
        """Multipliers near y (m,) that prove that there is no feasible point, this rank's of them; or None."""
        p = self.program
        wrong = ((y > 0) & np.isneginf(p.row_lower)) | ((y < 0) & np.isposinf(p.row_upper))
        return self._first_that_holds(self._farkas, np.where(wrong, 0.0, y))

    def dual(self, x):
        """A direction near x (n,) that proves that the objective falls without bound from any feasible point."""
        wrong = ((x > 0) & (self.upper == 0)) | ((x < 0) & (self.lower == 0))
        return self._first_that_holds(self._direction, np.where(wrong, 0.0, x))

    def _first_that_holds(self, judge, vector):
        size = float(self.ranks.largest([abs(vector).max(initial=0.0)])[0])
        if not (math.isfinite(size) and size > 0):
            return None
        vector, near = vector / size, True
        for threshold in (0.0, *THRESHOLDS):
            if not near and threshold != THRESHOLDS[-1]:
                continue
            candidate = np.where(abs(vector) > threshold, vector, 0.0)
            holds, ratio = judge(candidate)
            if not self.ranks.any(not holds):
                return candidate
            if threshold == 0.0:
                near = float(self.ranks.largest([ratio])[0]) <= NEAR
        return None

    def _farkas(self, y):
        p, ranks = self.program, self.ranks
        z, sizes = self._turned(y)
        pays = np.where(z > 0, p.lower, p.upper)
        paid = np.isfinite(pays)
        side = np.where(y == 0, 0.0, np.where(y > 0, p.row_lower, p.row_upper))
        worth = _signed(y * side) + ranks.carry * _signed(z[paid] * pays[paid])
        ranks.total(worth)
        meant = paid & (abs(z) > ROUNDING * sizes)
        sides = abs(side * self.row_unit).max(initial=0.0), abs(pays / self.column_unit)[meant].max(initial=0.0)
        far = float(ranks.largest([max(sides)])[0])
        noise = UNIT * (sizes[paid] @ abs(pays[paid]))
        return judged(worth, np.where(paid, 0.0, abs(z)), sizes, noise, self.column_unit * far)

    def _direction(self, x):
        activity, sizes, c = self.A @ x, self.sizes @ abs(x), self.program.c
        outside = np.maximum(np.maximum(self.least - activity, activity - self.most), 0.0)
        far = abs(c * self.column_unit)[x != 0].max(initial=0.0)
        return judged(-c * x, outside, sizes, 0.0, self.row_unit * far)


def _inverse(sizes):
    return 1 / np.where(sizes > 0, sizes, 1.0)


def _signed(terms):
    """(2,): the sums of the positive and of the negative ones."""
    return np.array([terms[terms > 0].sum(), terms[terms < 0].sum()])
