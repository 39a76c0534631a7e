"""Linear programs by restarted, reflected Halpern PDHG, and Newton's method to finish.

min c'x  subject to  A_ub x <= b_ub,  A_eq x = b_eq,  lb <= A x <= ub,  lower <= x <= upper              (1)

The primal-dual hybrid gradient method (Chambolle and Pock, 2011) is a nonexpansive map T of (x, y) whose fixed points
are the solutions. Halpern's iteration, reflected and restarted, finds them (Lu and Yang, "Restarted Halpern PDHG for
linear programming", 2024): from an anchor z0,

    z_{k+1} = (k + 1)/(k + 2) (2 T(z_k) - z_k) + 1/(k + 2) z0,                                           (2)

and T(z) becomes the next anchor when |z - T(z)| has fallen enough. It needs nothing but products with A and A', and
gets near soon. From there, where factors of A A' are cheap, `Interior` takes the rest of the way by an interior point
method; where that ends early, `Finisher` takes proximal-point steps by Newton's method, now and then, and what it gains
is kept. Answers are measured, in the problem as it was passed in, by the errors of kkt.py: all have to be small.
"""

import dataclasses
import math

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..kernels import cpu
from ..kernels.contracts.lp import DUAL, GAP, PRIMAL
from ..monitor import Monitor
from ..outcome import report, worst
from ..parallel.comm import join
from ..reductions import SERIAL
from ..result import Status
from .arguments import take
from .attempts import Attempts, contradiction
from .kkt import Errors, error_rows, violations_in_units
from .pdhg import EVERY, MOST_LOOKS, Iteration
from .result import ADVICE, LinprogResult, Marginals
from .scaled import scale

MAXITER = 10_000_000
SECONDS_AN_ENTRY = 4e-9  # of A, guessed for the first block
STALLED_BELOW, PATIENCE = 1e-8, 50_000  # an error that does not halve in so many iterations, and as many as before
FAR_OFF, HUGE = 100.0, 1e10  # times the errors of x = 0, y = 0, and scaled: beyond them a start is left out
NO_ANSWER = 100.0  # times the tolerance: an error at the start beyond which there is nothing to put back
TIGHTER, ROUNDS = 0.3, 12  # times the tolerance, where the answer falls short when put back; how often
AGAIN = 1.125  # times the iterations so far: when it is put back again, smaller tolerance or not


def linprog(c, A_ub=None, b_ub=None, A_eq=None, b_eq=None, bounds=(0, None), *, constraints=None, x0=None, y0=None,
            tol=1e-6, finisher=True, presolve=True, maxiter=None, time_limit=None, callback=None, verbose=False,
            rng=None, check=True, on_failure="warn", comm=None, checkpoint=None, checkpoint_every=60.0,
            resume=None):  # fmt: skip
    """Minimize c'x subject to A_ub x <= b_ub, A_eq x = b_eq, bounds and two-sided rows; one program or a batch.

    Parameters
    ----------
    c : array (..., n)
        Leading axes, here or on other arguments, are a batch.
    A_ub, A_eq : array (..., m, n), sparse matrix, or list of sparse matrices of one shape, optional
        A list is a batch. Rows of a batch share one pattern, the union of those given.
    b_ub, b_eq : array (..., m), optional
    bounds : pair, sequence of pairs, array (..., n, 2), or scipy.optimize.Bounds
        (lower, upper) for all variables or for each; None is infinite. Default: x >= 0.
    constraints : scipy.optimize.LinearConstraint, tuple, or list of these, optional
        Further rows ``lb <= A x <= ub``; either side may be infinite. A tuple is ``(A, lb, ub)``.
    x0, y0 : array (..., n), (..., m), optional
        Where to start: a solution of a similar program, say. y as in the result. A start whose errors are 100 times
        those of zeros, or with entries of 1e10 in the problem's units, is left out.
    tol : float
        Relative: see Notes.
    finisher : bool
        Whether Newton's methods, from interior points and of proximal point steps, may help; without them the
        iteration does nothing but multiply by A and A'.
    presolve : bool
        Whether to take out beforehand what is decided by itself: rows without or with one entry, fixed variables.
        A batch goes without.
    maxiter : int, optional
        Iterations of PDHG. Default: 10,000,000.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops. Residuals are
        computed for it each time, so that it slows the solve down.
    verbose : bool
        Report to the logger "ntsolve" at level INFO.
    rng : optional
        Accepted for uniformity; the method draws no random numbers.
    check : bool
        Look for NaN and infinity in the arrays passed in.
    on_failure : {"warn", "raise", "ignore"}
        What to do when a program ends without success.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: each process passes its own rows, in A_ub,
        A_eq and `constraints`, with their sides and their part of y0; it may have none. c, bounds, x0, tol, finisher
        and maxiter are the same on all, and so is the `x` of the result, bit for bit; `y`, slacks, marginals of rows
        and a `ray` of multipliers are those of the process's own rows. One program, no batch. Presolve is left out;
        the finisher works on the first process, which is given all rows for that, once, if rows, columns and entries
        are 20,000,000 at most.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there.

    Returns
    -------
    LinprogResult

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    ConvergenceError
        With ``on_failure="raise"``.
    RankError
        With `comm`, where another process has failed: what it raised is in the message.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

    Notes
    -----
    `success` means, for x and y put into the program as passed in: the primal, dual and duality-gap errors, each
    relative, are at most `tol`; the error of the objective that they leave open is at most 5 tol; and no row, bound or
    reduced cost is violated by more than 100 tol, also where entries are small. The first alone, which is what first-
    order codes test, accepts answers whose objective is per cents off.

    Examples
    --------
    >>> import ntsolve
    >>> result = ntsolve.linprog([-1.0, -2.0], A_ub=[[1.0, 1.0], [1.0, 3.0]], b_ub=[4.0, 6.0])
    >>> result.status.name, round(result.fun, 4), result.x.round(4)
    ('CONVERGED', -5.0, array([3., 1.]))
    >>> result.ineqlin.marginals.round(4)
    array([-0.5, -0.5])
    """
    with join(comm).together() as ranks:
        options = validate.common(maxiter=MAXITER if maxiter is None else maxiter, time_limit=time_limit,
                                  callback=callback, verbose=verbose, check=check, on_failure=on_failure, rng=rng,
                                  checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
        tol = validate.nonnegative("tol", tol)
        taken = take(c, A_ub, b_ub, A_eq, b_eq, bounds, constraints, x0, y0, options.check)
        result = _run(taken, tol, finisher, presolve, options, ranks)
    report("linprog", result, on_failure)
    return result


def solve_program(program, *, x0=None, y0=None, tol=1e-6, finisher=True, presolve=True, maxiter=None, time_limit=None,
                  callback=None, verbose=False, rng=None, check=True, on_failure="warn"):  # fmt: skip
    """`linprog` of a single `Program` on the host, with the same keywords; its rows are `rows` in the result."""
    options = validate.common(maxiter=MAXITER if maxiter is None else maxiter, time_limit=time_limit, callback=callback,
                              verbose=verbose, check=check, on_failure=on_failure, rng=rng)  # fmt: skip
    bounds, rows = np.stack([program.lower, program.upper], -1), (program.row_lower, program.row_upper)
    taken = take(program.c, None, None, None, None, bounds, (program.matrix(), *rows), x0, y0, options.check)
    taken = dataclasses.replace(taken, program=dataclasses.replace(taken.program, offset=program.offset))
    result = _run(taken, validate.nonnegative("tol", tol), finisher, presolve, options)
    report("linprog", result, on_failure)
    return result


def _run(taken, tol, finisher, presolve, options, ranks=SERIAL):
    finisher, presolve = validate.flag("finisher", finisher), validate.flag("presolve", presolve)
    with kernels_for(**taken.where) as k, np.errstate(all="ignore"):  # seen in the errors
        if ranks is not SERIAL:
            from .rowsolve import RowSolve, agree

            taken = agree(taken, ranks, tol, finisher, options.maxiter)
            return _solve(RowSolve(k, taken, 1, ranks), tol, finisher, options)
        solve = Solve(k, taken, math.prod(taken.program.shape))
        if presolve and taken.program.single:
            from .presolve import presolve as reduce_program

            solve.reduce(reduce_program(taken.program))
        return _solve(solve, tol, finisher, options)


def _solve(solve, tol, finisher, options):
    solve.contradictions()
    solve.begin(tol)
    keeper = options.saving.of("linprog", solve.k, solve.ranks, program=solve.taken.program, x0=solve.taken.x0,
                               y0=solve.taken.y0, tol=tol, finisher=finisher, presolve=solve.presolved is not None)
    with Monitor("linprog", maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                 began=options.began, verbose=options.verbose, start=solve.start, target=np.full(solve.batch, tol),
                 shape=solve.program.shape, solution=lambda: solve.answer(solve.restored()[0]),
                 comm=solve.ranks, keeper=keeper) as watch:  # fmt: skip
        solve.run(watch, tol, finisher)
        return solve.result(watch, tol)


class Solve:
    """All programs of one call: `program` as passed in, `reduced` by presolve, both on the host.

    What is done differently where each of several `ranks` has rows of the only program is in rowsolve.py.
    """

    seconds_a_block = 0.02  # aimed at, so that a stop of any kind comes at once

    def __init__(self, k, taken, batch, ranks=SERIAL):
        self.k, self.taken, self.batch, self.ranks = k, taken, batch, ranks
        self.program = self.reduced = taken.program
        self.presolved, self.restore = None, lambda x, y: (x, y)
        self.starts = taken.x0, taken.y0
        self.status = np.zeros(batch, dtype="int64")  # 0 while undecided
        self.rays: list = [None] * batch
        self.met = np.zeros(batch, dtype=bool)
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
            if self.status[i] == 0 and (found := contradiction(_item(self.reduced, i))):
                self.status[i], self.rays[i] = found[0], self.whole_ray(*found)

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
                    if found is not None:
                        self.status[i], self.rays[i] = int(found[0]), self.whole_ray(*found)
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

    def whole_ray(self, status, ray):
        """A ray of a reduced program as one of the program that was passed in."""
        if self.presolved is None:
            return ray
        primal = status == Status.PRIMAL_INFEASIBLE
        return (self.presolved.restore_multipliers if primal else self.presolved.restore_direction)(ray)

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

    def restored(self, dtype=None):
        """(x, y) of the program as passed in, (batch, n) and (batch, m) on the host, rounded to the answer's dtype."""
        x, y = map(self.k.to_host, self.iteration.point())
        if self.program.single:
            x, y = (np.asarray(v)[None] for v in self.restore(x[0], y[0]))
        dtype = dtype or self.taken.dtype
        return tuple(np.ascontiguousarray(v.astype(dtype)) for v in (x, y))

    def agreed(self, dtype=None):
        """`restored`, the same on all ranks."""
        return self.restored(dtype)

    def verify(self, tol):
        """Measure what there is, in the program as passed in."""
        self.x, self.y = self.agreed()
        self.errors = self.measured(self.x, self.y)
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
        if goal < TIGHTER**ROUNDS * tol:
            return False
        for i in np.flatnonzero(short):
            self.iteration.wake(i, goal)
        self.again = later(self.iteration.nit.max())
        return bool(short.any())

    def products(self, x, y):
        """(A x, c - A'y), of (batch, n) and (batch, m) on the host."""
        return _products(self.program, x, y)

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
        return LinprogResult(
            x=self.answer(self.x),
            success=self.each(self.met),
            status=status.reshape(self.program.shape) if self.program.shape else Status(int(status[0])),
            message=message,
            nit=self.each(self.iteration.nit),
            residual=self.each([e.kkt for e in self.errors]),
            history=watch.history,
            elapsed=watch.elapsed,
            backend=self.k.NAME,
            y=self.answer(self.y),
            ray=self.rays if self.program.shape else self.rays[0],
            tolerance=tol,
            **self.groups(),
            **{name: self.each([getattr(e, field) for e in self.errors]) for name, field in _ERRORS.items()},
            gap=self.each([abs(e.primal_objective - e.dual_objective) for e in self.errors]),
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
        dtype = self.taken.dtype

        def pair(residual, marginals):
            return Marginals(*(self.answer(v.astype(dtype)) for v in (residual, marginals)))

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
    "fun": "primal_objective",
    "dual_objective": "dual_objective",
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
