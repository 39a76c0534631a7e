"""One linear program over ranks, each of which passes its own rows; what is different from a program in one place.

Every rank iterates on its rows. Presolve goes without, as for a batch. What is attempted besides the iteration needs
the whole matrix, and is done by the first rank alone: the rows are brought there at the first attempt if they have at
most GATHERED numbers, and what is found is sent out. Larger programs are left to the iteration, and so are proofs: the
directions in which it moves are tried as such.
"""

import dataclasses
from dataclasses import astuple

import numpy as np

from ..kernels import cpu
from ..kernels.contracts.lp import ERRORS, MET
from ..result import Status
from .attempts import NOT_NEAR, STALLS, Attempts, contradiction
from .kkt import Errors
from .program import Program, transpose
from .rowblocks import Measure, scale_rows
from .rowpdhg import RowIteration
from .scaled import Scaled
from .solve import HUGE, Solve

GATHERED = 20_000_000  # entries, rows and columns of a program that the first rank may be given as a whole: 1 GB
FIRST = 256  # iterations after which the first rank is asked
POINT, SOLVED, PRIMAL_RAY, DUAL_RAY, NEXT, NEWS = range(6)  # what the first rank says after an attempt
MOST_NEXT = 2.0**53


def agree(taken, ranks, tol, finisher, maxiter):
    """`taken` as every rank may have it, once all are found to have passed the same.

    Raises
    ------
    ValueError
        Naming what is not the same on all ranks, or cannot be solved over ranks.
    """
    program = taken.program
    if ranks.any(not program.single):
        raise ValueError("comm: one linear program is solved over ranks, and a batch of them was passed")
    x0 = None if taken.x0 is None else taken.x0 + 0.0
    ranks.alike(c=program.c + 0.0, bounds=np.stack([program.lower, program.upper]) + 0.0, x0=x0, tol=tol,
                finisher=bool(finisher), maxiter=maxiter)  # fmt: skip
    y0, started = taken.y0, ranks.any(taken.y0 is not None)
    if started and y0 is None:
        y0 = np.zeros(program.m)
    dtype = np.dtype(float) if ranks.any(taken.dtype == float) else taken.dtype
    return dataclasses.replace(taken, y0=y0, dtype=dtype)


class RowSolve(Solve):
    """The only program of a call, of which this rank has rows."""

    seconds_a_block = 0.2  # each begins and ends with messages

    def __init__(self, k, taken, batch, ranks):
        super().__init__(k, taken, batch, ranks)
        self.measure = Measure(self.program, ranks)

    def contradictions(self):
        found = contradiction(self.program)
        first = np.flatnonzero(self.ranks.gather(np.array([found is not None])))
        if first.size:
            mine = first[0] == self.ranks.rank
            self.status[0] = Status.PRIMAL_INFEASIBLE
            self.rays[0] = found[1] if found and mine else np.zeros(self.program.m)

    def scale(self, program):
        return scale_rows(self.k, program, self.ranks)

    def iterate(self, x, y, tol):
        return RowIteration(self.k, self.scaled, x, y, tol, self.ranks)

    def huge(self, x, y):
        return np.array([self.ranks.any(bool((abs(x) > HUGE).any()) or bool((abs(y) > HUGE).any()))])

    def attempts(self, finisher):
        return [RowAttempts(self.k, self.program, self.scaled, self.measure, finisher, self.ranks)]

    def block(self, watch, milestone):
        """The fewest that any rank would like."""
        return int(-self.ranks.largest([-super().block(watch, milestone)])[0])

    def measured(self, x, y):
        x, y = (v[0].astype(float) for v in (x, y))
        return [Errors.from_row(self.measure.errors(x, y)).with_units(*self.measure.violations(x, y))]

    def agreed(self, dtype=None):
        """The first rank's x: that of others may differ by the rounding of their processors."""
        x, y = self.restored(dtype)
        x = x if self.ranks.rank == 0 else np.zeros_like(x)
        self.ranks.add(x)
        return x, y

    def mend(self, tol):
        return False

    def products(self, x, y):
        return tuple(v[None] for v in self.measure.products(x[0], y[0]))


class RowAttempts:
    """As `attempts.Attempts`, which the first rank makes, for all."""

    kept = ("next", "_before")

    def __init__(self, k, program, scaled, measure, finish, ranks):
        self._k, self._program, self._scaled, self._measure = k, program, scaled, measure
        self._finish, self._ranks, self.next = finish, ranks, FIRST
        sizes = ranks.gather(np.array([[program.m, program.nnz]], dtype=np.int64))
        self._rows, self._entries = sizes.T.tolist()
        self._fits = int(sizes.sum()) + program.n <= GATHERED
        self._before = np.inf
        self._whole: Attempts | None = None  # on the first rank
        self._gathered = False

    def due(self, nit):
        return nit >= self.next

    def make(self, iteration, watch):
        """One attempt; a (Status, ray), or None."""
        if not self._fits:
            return self._try_directions(iteration)
        if not self._gathered:
            self._gather()
        y, dy, far = (self._collected(v[0]) for v in (iteration.q, iteration.dy, iteration.q - iteration.y0))
        news, found = np.zeros(NEWS + ERRORS), None
        put = _Put(iteration, self._k, y, dy, far)
        if self._whole is not None:
            found = self._whole.make(put, _Clock(watch))
            news[NEXT] = min(float(self._whole.next), MOST_NEXT)
            if put.point is not None:
                news[[POINT, SOLVED]], news[NEWS:] = (1.0, put.point[3]), astuple(put.point[2])
            if found is not None:
                news[PRIMAL_RAY if found[0] == Status.PRIMAL_INFEASIBLE else DUAL_RAY] = 1.0
        self._ranks.total(news)
        self.next = int(news[NEXT])
        if news[POINT]:
            x, y = (None, None) if put.point is None else put.point[:2]
            errors = Errors.from_row(news[NEWS:])
            iteration.put(0, self._told(x), self._dealt(y), errors, bool(news[SOLVED]))
        ray = None if found is None else found[1]
        if news[PRIMAL_RAY]:
            return self._proof(Status.PRIMAL_INFEASIBLE, self._measure.primal(self._dealt(ray)))
        if news[DUAL_RAY]:
            return self._proof(Status.DUAL_INFEASIBLE, self._measure.dual(self._told(ray)))
        return None

    @staticmethod
    def _proof(status, ray):
        return None if ray is None else (status, ray)

    def _try_directions(self, iteration):
        """Those in which the iteration moves, where it does not get anywhere."""
        self.next = 2 * max(int(iteration.nit[0]), self.next)
        error = iteration.errors(0).kkt
        stalled, self._before = error > STALLS * self._before, error
        if not (stalled or error > NOT_NEAR):
            return None
        host, s = self._k.to_host, self._scaled
        moves = [(iteration.dx, iteration.dy), (iteration.p - iteration.x0, iteration.q - iteration.y0)]
        for _, dy in moves:
            ray = self._measure.primal(host(dy * s.y_unit)[0])
            if ray is not None:
                return Status.PRIMAL_INFEASIBLE, ray
        row_error = float(iteration.rows[0, 0])
        for dx, _ in moves if row_error <= iteration.tol else ():  # proves nothing without a feasible point
            ray = self._measure.dual(host(dx * s.x_unit)[0])
            if ray is not None:
                return Status.DUAL_INFEASIBLE, ray
        return None

    # ---- to the first rank, and from it -----------------------------------------------------------------------------

    def _gather(self):
        """The whole program, as it was passed in and scaled, on the first rank."""
        p, s, host = self._program, self._scaled, self._k.to_host
        parts = {name: host(getattr(s, name)[0]) for name in ("row_lower", "row_upper", "y_unit", "row_unit")}
        rows = {name: self._collected(v) for name, v in parts.items()}
        sides = {name: self._collected(getattr(p, name)) for name in ("row_lower", "row_upper")}
        lengths = self._collected(np.diff(p.indptr).astype(float))
        indices, data, scaled = (self._collected(v, self._entries) for v in (p.indices, p.data, host(s.data[0])))
        self._gathered = True
        if self._ranks.rank:
            return
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        whole = Program(p.c, p.lower, p.upper, **sides, indptr=indptr, indices=indices, data=data, offset=p.offset)
        tindptr, tindices, permutation = transpose(indptr, indices, p.n)
        columns = {name: host(getattr(s, name)) for name in ("c", "lower", "upper", "x_unit", "col_unit", "scalars")}
        rows = {name: v[None] for name, v in rows.items()}
        item = Scaled(indptr=indptr, indices=indices, data=scaled[None], tindptr=tindptr, tindices=tindices,
                      tdata=scaled[permutation][None], **columns, **rows, eta=s.eta)  # fmt: skip
        self._whole = Attempts(cpu, whole, item, 0, self._finish)

    def _collected(self, v, lengths=None):
        """All ranks' parts of a vector on the first one; None elsewhere."""
        lengths, v = lengths or self._rows, np.ascontiguousarray(self._k.to_host(v))
        if self._ranks.rank:
            self._ranks.exchange({0: v} if v.size else {}, {})()
            return None
        whole = np.empty(sum(lengths), v.dtype)
        whole[: v.size] = v
        self._ranks.exchange({}, {rank: part for rank, part in self._parts(whole, lengths) if part.size})()
        return whole

    def _dealt(self, whole):
        """This rank's part of a vector over all rows that the first rank has."""
        if self._ranks.rank:
            mine = np.empty(self._program.m)
            self._ranks.exchange({}, {0: mine} if mine.size else {})()
            return mine
        whole = np.ascontiguousarray(whole, dtype=float)
        self._ranks.exchange({rank: part for rank, part in self._parts(whole, self._rows) if part.size}, {})()
        return whole[: self._rows[0]].copy()

    @staticmethod
    def _parts(whole, lengths):
        """(rank, its part) of all but the first."""
        ends = np.cumsum(lengths)
        return [(rank, whole[ends[rank - 1] : ends[rank]]) for rank in range(1, len(lengths))]

    def _told(self, x):
        """A vector over the columns that the first rank has."""
        x = np.zeros(self._program.n) if x is None else np.array(x, dtype=float)
        self._ranks.add(x)
        return x


class _Put:
    """What `Attempts` sees of the iteration: the whole point, and room for a better one."""

    def __init__(self, iteration, k, q, dy, far):
        self.point = None
        if q is None:
            return
        self.tol, self.nit, self.weight = iteration.tol, iteration.nit, iteration.weight
        self.rows, self.outcome, self.running = iteration.rows.copy(), iteration.outcome.copy(), iteration.running
        self.p, self.dx, self.x0 = (np.array(k.to_host(v)) for v in (iteration.p, iteration.dx, iteration.x0))
        self.q, self.dy, self.y0 = q[None], dy[None], (q - far)[None]

    def errors(self, i):
        return Errors.from_row(self.rows[i])

    def put(self, i, x, y, errors, solved):
        self.point = x, y, errors, solved
        self.p[i], self.q[i], self.rows[i] = x, y, astuple(errors)
        if solved:
            self.outcome[i], self.running = MET, np.zeros(1, dtype=bool)


class _Clock:
    """What `Attempts` sees of the watch on one rank, while the others wait."""

    def __init__(self, watch):
        self._watch, self.time_limit = watch, watch.time_limit

    @property
    def elapsed(self):
        return self._watch.elapsed

    def going(self):
        return self._watch.reason() is None
