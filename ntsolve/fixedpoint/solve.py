"""The solve of `linprog`: the iteration and what is attempted besides, until answers, put back, are good enough.

All programs of one call are advanced in blocks. What ends there is measured in the program as it was passed in; where
that falls short, the iteration goes on to a smaller tolerance.
"""

import dataclasses
import math

import numpy as np

from ..kernels import cpu
from ..kernels.contracts.lp import DUAL, GAP, PRIMAL, VIOLATION_SLACK
from ..outcome import worst
from ..reductions import SERIAL
from ..result import Status
from .attempts import Attempts, contradiction
from .certificates import certify_dual, certify_primal
from .finisher import SMALL
from .kkt import Errors, all_in_units, error_rows, violations_in_units
from .pdhg import EVERY, MOST_LOOKS, Iteration
from .polish import mended
from .result import ADVICE, LinprogResult, Marginals
from .scaled import scale
from .units import Units

SECONDS_AN_ENTRY = 4e-9  # of A, guessed for the first block
STALLED_BELOW, PATIENCE = 1e-8, 50_000  # an error that does not halve in so many iterations, and as many as before
FAR_OFF, HUGE = 100.0, 1e10  # times the errors of x = 0, y = 0, and scaled: beyond them a start is left out
NO_ANSWER = 100.0  # times the tolerance: an error at the start beyond which there is nothing to put back
TIGHTER, ROUNDS = 0.3, 12  # times the tolerance, where the answer falls short when put back; how often
FALLS_SHORT = 0.1  # times what a row may be violated by: rows to be mended, where one is beyond that
AGAIN = 1.125  # times the iterations so far: when it is put back again, smaller tolerance or not


class Solve:
    """All programs of one call, in their `units`: `program` as passed in, `reduced` by presolve, both on the host.

    What is done differently where each of several `ranks` has rows of the only program is in rowsolve.py.
    """

    seconds_a_block = 0.02  # aimed at, so that a stop of any kind comes at once

    def __init__(self, k, taken, batch, ranks=SERIAL):
        self.k, self.taken, self.batch, self.ranks = k, taken, batch, ranks
        self.units = Units.of(taken.program, ranks)
        self.program = self.reduced = self.units.program(taken.program)
        self.presolved, self.restore = None, lambda x, y: (x, y)
        self.starts = (None if taken.x0 is None else taken.x0 * self.units.size,
                       None if taken.y0 is None else taken.y0 * self.units.cost)  # fmt: skip
        self.status = np.zeros(batch, dtype="int64")  # 0 while undecided
        self.rays: list = [None] * batch
        self.met = np.zeros(batch, dtype=bool)
        self.small = self.program.single and self.program.m**2 + self.program.nnz <= SMALL
        self.again = math.inf  # iteration at which to see whether an answer that fell short does now

    def reduce(self, found):
        """Go on with what presolve has left of the only program there is."""
        if found.status is not None:
            self.status[0], self.rays[0] = int(found.status), found.ray
            return
        self.presolved, self.reduced, self.restore = found, found.program, found.restore
        self.starts = found.reduce(*self.starts)

    def pack(self):
        names = ("iteration", "status", "best", "since", "goal", "again", "tries")
        state = {name: getattr(self, name) for name in names}
        return state | {"rays": {i: ray for i, ray in enumerate(self.rays) if ray is not None}}

    def unpack(self, saved):
        saved.into(self, "iteration", "status", "best", "since", "goal", "again", "tries")
        rays = dict(saved.part("rays"))
        self.rays = [rays.get(str(i)) for i in range(self.batch)]

    def contradictions(self):
        """Settle the programs whose bounds or sides contradict each other."""
        for i in range(self.batch):
            if self.status[i] == 0 and (found := contradiction(_item(self.program, i))):
                self.status[i], self.rays[i] = found

    def scale(self, program):
        """`Scaled` of a program with arrays of the backend."""
        return scale(self.k, program)

    def iterate(self, x, y, tol):
        """The iteration from a point, scaled."""
        return Iteration(self.k, self.scaled, x, y, tol)

    def huge(self, x, y):
        """(batch,): whether a start has entries that no start should have."""
        return self.k.to_host((abs(x) > HUGE).any(-1) | (abs(y) > HUGE).any(-1))

    def attempts(self, finisher):
        """For each program, what to attempt besides the iteration."""
        return [Attempts(self.k, _item(self.reduced, i), self.scaled, i, finisher) for i in range(self.batch)]

    def begin(self, tol):
        k, program = self.k, self.reduced
        shape = (self.batch, program.n), (self.batch, program.m)
        names = (f.name for f in dataclasses.fields(program) if f.name != "offset")
        on_device = dataclasses.replace(program, **{name: k.xp.asarray(getattr(program, name)) for name in names})
        self.scaled = scaled = self.scale(on_device)
        begun = [v is not None for v in self.starts]
        x, y = (k.xp.zeros(size) if v is None else k.xp.asarray(np.array(v).reshape(size)) / unit
                for v, size, unit in zip(self.starts, shape, (scaled.x_unit, scaled.y_unit), strict=True))  # fmt: skip
        clipped = [k.xp.maximum(k.xp.minimum(v, scaled.upper), scaled.lower) for v in (x, k.xp.zeros_like(x))]
        x = clipped[0]
        y = k.xp.where((y > 0) & k.xp.isinf(scaled.row_lower), 0.0, y)
        y = k.xp.where((y < 0) & k.xp.isinf(scaled.row_upper), 0.0, y)
        self.iteration = self.iterate(x, y, tol)
        if any(begun):  # a start that is far off is no help
            plain = self.iterate(clipped[1], k.xp.zeros_like(y), tol)
            worse = ~(self.kkt() <= FAR_OFF * plain.rows[:, [PRIMAL, DUAL, GAP]].max(1))
            worse |= self.huge(x, y)
            if worse.any():
                worse = k.xp.asarray(worse)[:, None]
                x, y = k.xp.where(worse, plain.x, x), k.xp.where(worse, 0.0, y)
                self.iteration = self.iterate(x, y, tol)
        for i in np.flatnonzero(self.status):
            self.iteration.rest(i)
        self.start = self.best = self.kkt()
        self.since = np.zeros(self.batch, dtype=int)
        self.pace = SECONDS_AN_ENTRY * (program.nnz + program.n + program.m) * self.batch  # seconds an iteration

    def run(self, watch, tol, finisher):
        """Iterate, and attempt what else there is, until all programs are decided or it is time to stop."""
        iteration = self.iteration
        attempts = self.tries = self.attempts(finisher)
        self.goal = tol
        watch.begin(self)
        if not self.batch or not (self.kkt() > NO_ANSWER * tol).all():  # the start may be an answer
            self.verify(tol)
        while watch.going(self):
            if not iteration.running.any():
                if self.met.all():
                    break
                self.goal *= TIGHTER
                if not self.wake(tol, self.goal):
                    break
            before = self.kkt(), iteration.nit
            began = watch.elapsed
            left = min(attempts[i].next - iteration.nit[i] for i in np.flatnonzero(iteration.running))
            lengths, trace = iteration.advance(self.block(watch, min(left, self.again - iteration.nit.max())))
            self.pace = (watch.elapsed - began) / lengths.sum()
            self.give_up()
            for i in np.flatnonzero(iteration.running):
                if attempts[i].due(iteration.nit[i]) and watch.going():
                    found = attempts[i].make(iteration, watch)
                    if found is not None and self.prove(i, *found):
                        iteration.rest(i)
            self.note(watch, lengths, trace, before)
            if iteration.nit.max() >= self.again:
                self.again = later(iteration.nit.max())
                self.verify(tol)
        else:
            self.verify(tol)
        watch.finish(self, self.met.all())

    def give_up(self):
        """Let programs rest whose error is near rounding and has long not halved."""
        kkt, nit = self.kkt(), self.iteration.nit
        halved = kkt < 0.5 * self.best
        self.best, self.since = np.where(halved, kkt, self.best), np.where(halved, nit, self.since)
        late = nit - self.since > np.maximum(PATIENCE, self.since)
        for i in np.flatnonzero(late & (self.best < STALLED_BELOW) & self.iteration.running):
            self.status[i] = int(Status.STALLED)
            self.iteration.rest(i)

    def prove(self, i, status, ray):
        """Take a ray of a program, as reduced, for a proof, if it is one in the program that was passed in."""
        if self.presolved is not None:
            primal = status == Status.PRIMAL_INFEASIBLE
            restore = self.presolved.restore_multipliers if primal else self.presolved.restore_direction
            found = (certify_primal if primal else certify_dual)(self.program, restore(ray))
            if found is None:
                return False
            ray = found[0]
        self.status[i], self.rays[i] = int(status), ray
        return True

    def kkt(self):
        """(batch,): the largest of the three relative errors, as the iteration sees it."""
        return self.iteration.rows[:, [PRIMAL, DUAL, GAP]].max(1)

    def block(self, watch, milestone):
        """Iterations to do before the next look from here; a block is to end after `milestone` more."""
        done, left = self.iteration.done, watch.maxiter - watch.nit
        if watch.callback is not None:
            return 1
        seconds = self.seconds_a_block
        if watch.time_limit is not None:
            seconds = min(seconds, max(watch.time_limit - watch.elapsed, 0.0))
        steps = int(min(seconds / max(self.pace, 1e-9), EVERY * (MOST_LOOKS - 2), max(milestone, 1)))
        if steps > EVERY:
            steps -= (done + steps) % EVERY
        elif self.small:  # ends with the look that is due, whatever that takes
            steps = EVERY - done % EVERY
        return max(1, min(steps, left))

    def note(self, watch, lengths, trace, before):
        """Tell the watch of the block just done: a row for each iteration, or of a batch for each look."""
        taken = int((self.iteration.nit - before[1]).max())
        looks = int(np.searchsorted(np.cumsum(lengths), taken)) + 1
        rows, last = trace[:looks].copy(), before[0]
        for row in rows:
            row[np.isnan(row)] = last[np.isnan(row)]
            last = row
        rows[-1] = self.kkt()
        if not self.program.shape:
            rows = np.repeat(np.concatenate([before[0][None], rows]), [*lengths[:looks], 1], axis=0)[1:]
        watch.did(rows, taken)

    def measured(self, x, y):
        """`Errors` of each program as passed in."""
        rows = error_rows(cpu, self.program, *(np.ascontiguousarray(v, dtype=float) for v in (x, y)))
        units = violations_in_units(self.program, x, y)
        return [Errors.from_row(row).with_units(*more) for row, more in zip(rows, units, strict=True)]

    def restored(self, dtype=None, point=None):
        """(x, y) of the program as passed in, (batch, n) and (batch, m) on the host, rounded to the answer's dtype."""
        x, y = map(self.k.to_host, point or self.iteration.point())
        if self.program.single:
            x, y = (np.asarray(v)[None] for v in self.restore(x[0], y[0]))
        x = np.clip(x, *(v.reshape(x.shape) for v in (self.program.lower, self.program.upper)))  # units have rounded it
        dtype = dtype or self.taken.dtype
        return tuple(np.ascontiguousarray(v.astype(dtype)) for v in (x, y))

    def agreed(self, dtype=None):
        """`restored`, the same on all ranks."""
        return self.restored(dtype)

    def verify(self, tol):
        """Measure what there is, in the program as passed in."""
        x, y = self.agreed()
        self.judge(x, y, self.measured(x, y), tol)

    def judge(self, x, y, errors, tol):
        """Take this for the answer, and see of which programs it is one."""
        self.x, self.y, self.errors = x, y, errors
        undecided = (self.status == 0) | (self.status == Status.STALLED)
        self.met = np.array([e.meets(tol) for e in self.errors], dtype=bool) & undecided
        for i in np.flatnonzero(self.met & self.iteration.running):
            self.iteration.rest(i)

    def wake(self, tol, goal):
        """Where an answer, put back, falls short, go on to a smaller tolerance; whether there is any such."""
        self.verify(tol)
        short = (self.status == 0) & ~self.met & ~self.iteration.broken()
        if short.any() and self.taken.dtype != float:  # rounding the answer may be all that is wrong with it
            exact = self.measured(*self.agreed(float))
            short &= ~np.array([e.meets(tol) for e in exact], dtype=bool)
        if not tol or goal < TIGHTER**ROUNDS * tol:
            return False
        if short.any() and self.mend(tol):
            return False
        for i in np.flatnonzero(short):
            self.iteration.wake(i, goal)
        self.again = later(self.iteration.nit.max())
        return bool(short.any())

    def mend(self, tol):
        """Whether the only program's answer, of which nothing but rows falls short, has been moved to meet them."""
        if not self.program.single or not dataclasses.replace(self.errors[0], row_violation=0.0).meets(tol):
            return False
        iteration, scaled = self.iteration, self.scaled
        most = VIOLATION_SLACK * tol
        rows = all_in_units(self.reduced, *map(self.k.to_host, iteration.point()))[0][0]
        if not rows.max(initial=0.0) > most:
            return False
        x, errors = mended(self.k, scaled, iteration, rows > FALLS_SHORT * most, self.pace)
        point = x * scaled.x_unit, iteration.q * scaled.y_unit
        answer_x, answer_y = self.restored(point=point)
        found = self.measured(answer_x, answer_y)
        if not found[0].meets(tol):
            return False
        iteration.put(0, x[0], iteration.q[0].copy(), Errors.from_row(errors), True)
        self.judge(answer_x, answer_y, found, tol)
        return True

    def products(self, x, y):
        """(A x, c - A'y), of (batch, n) and (batch, m) on the host."""
        return _products(self.program, x, y)

    def shown(self):
        """The current x, in the caller's units and shape."""
        x, _ = self.restored()
        return self.answer((x / self.units.flat()[1]).astype(x.dtype))

    def answer(self, x):
        """(batch, ...) on the host -> the caller's shape and kind."""
        x = np.ascontiguousarray(x).reshape(*self.program.shape, *x.shape[1:])
        return self.taken.own(self.k.xp.asarray(x))

    def result(self, watch, tol):
        status = np.where(self.met, Status.CONVERGED, self.status)
        status[(status == 0) & self.iteration.broken()] = int(Status.NAN_OR_INF)
        status[status == 0] = int(watch.status or Status.STALLED)
        last = worst(self.met, status)
        message = ADVICE.get(last, last.advice)
        if self.program.shape and not self.met.all():
            message = f"{int((~self.met).sum())} of {self.batch} programs failed. {message}"
        cost, size = self.units.flat()
        objective = (cost * size)[:, 0]
        return LinprogResult(
            x=self.answer((self.x / size).astype(self.x.dtype)),
            success=self.each(self.met),
            status=status.reshape(self.program.shape) if self.program.shape else Status(int(status[0])),
            message=message,
            nit=self.each(self.iteration.nit),
            residual=self.each([e.kkt for e in self.errors]),
            history=watch.history,
            elapsed=watch.elapsed,
            backend=self.k.NAME,
            y=self.answer((self.y / cost).astype(self.y.dtype)),
            ray=self.rays if self.program.shape else self.rays[0],
            tolerance=tol,
            **self.groups(),
            fun=self.each([e.primal_objective for e in self.errors] / objective),
            dual_objective=self.each([e.dual_objective for e in self.errors] / objective),
            gap=self.each([abs(e.primal_objective - e.dual_objective) for e in self.errors] / objective),
            **{name: self.each([getattr(e, field) for e in self.errors]) for name, field in _ERRORS.items()},
            violation=self.each([max(e.row_violation, e.column_violation) for e in self.errors]),
        )

    def each(self, values):
        """A plain number for one program, an array for a batch."""
        values = np.asarray(values).reshape(self.program.shape)
        return values if self.program.shape else values[()].item()

    def groups(self):
        """SciPy's fields: what is left to the sides of rows and bounds, and their marginals."""
        program, y = self.program, self.y.astype(float)
        x = self.x.astype(float)
        activity, z = self.products(x, y)
        ends = np.cumsum(self.taken.counts)
        ub, eq, two = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])
        low, high = (v.reshape(self.batch, v.shape[-1]) - activity for v in (program.row_lower, program.row_upper))
        below, above = (v.reshape(self.batch, v.shape[-1]) for v in (program.lower, program.upper))
        dtype, (cost, size) = self.taken.dtype, self.units.flat()

        def pair(residual, marginals):
            left = residual / size.reshape(-1, *(1,) * (residual.ndim - 1))
            return Marginals(*(self.answer(v.astype(dtype)) for v in (left, marginals / cost)))

        ineqlin, eqlin = pair(high[:, ub], y[:, ub]), pair(high[:, eq], y[:, eq])
        return {
            "slack": ineqlin.residual,
            "con": eqlin.residual,
            "ineqlin": ineqlin,
            "eqlin": eqlin,
            "lower": pair(x - below, np.where(np.isfinite(below), np.maximum(z, 0.0), 0.0)),
            "upper": pair(above - x, np.where(np.isfinite(above), np.minimum(z, 0.0), 0.0)),
            "rows": pair(np.stack([-low[:, two], high[:, two]], axis=-1), y[:, two]),
        }


_ERRORS = {
    "primal_error": "primal",
    "dual_error": "dual",
    "gap_error": "gap",
    "objective_error": "objective_error",
}


def later(nit):
    """The iteration at which to see whether an answer that fell short does now."""
    return (int(AGAIN * nit) // EVERY + 1) * EVERY


def _item(program, i):
    """Program i of a batch, or a single one as it is."""
    if program.single:
        return program
    batch = math.prod(program.shape)
    names = ("c", "lower", "upper", "row_lower", "row_upper", "data")
    rows = {name: getattr(program, name).reshape(batch, getattr(program, name).shape[-1])[i] for name in names}
    return dataclasses.replace(program, **rows)


def _products(program, x, y):
    activity, z = np.empty_like(y), np.empty_like(x)
    for i in range(x.shape[0]):
        one = _item(program, i)
        A = one.matrix()
        activity[i], z[i] = A @ x[i], one.c - A.T @ y[i]
    return activity, z
