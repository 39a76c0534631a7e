"""The loop of conjugate gradients: (1) - (4) of cg.py, for all systems of a call, with the stop tests and the rounds.

The recurrence for r drifts from b - A x. So when it says "converged", b - A x is computed; where that misses the
tolerance the iteration takes it up as its new r, and ends as STALLED when this no longer halves it. Each system is
scaled by a power of two, so that neither a tiny nor a huge b loses digits or overflows.
"""

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from .. import operators
from ..kernels.contracts import workspace_shape
from ..kernels.contracts.linalg import A_NOT_POSITIVE, HOPELESS, M_NOT_POSITIVE
from ..monitor import LONGEST_BLOCK, Monitor
from ..outcome import linear_result
from ..reductions import SERIAL
from ..result import Status
from .watchdog import Log, Watchdog
from .window import Window, skewness

_VERDICTS = {A_NOT_POSITIVE: Status.INDEFINITE_OPERATOR, M_NOT_POSITIVE: Status.INDEFINITE_PRECONDITIONER}


def iterate(name, k, system, M, rtol, atol, maxiter, options, comm=SERIAL, *, recycle=None, watched=False, kind=None,
            keeper=None):  # fmt: skip
    """The solve of a `LinearSystem`, for whichever solver is called `name`; M is None, "jacobi" or an `Operator`.

    Where M is `watched`, it is given up for Jacobi's when that makes more progress. `kind` is the `State` to use, and
    `keeper` that of checkpoints.
    """
    state = (kind or State)(k, system, M, rtol, atol, comm, recycle=recycle, watched=watched)
    guard = None
    if watched:
        guard = Watchdog(state, lambda M: State(k, system, M, rtol, atol, comm, watched=True))
    shown = guard or state
    with Monitor(name, maxiter=maxiter, time_limit=options.time_limit, callback=options.callback, comm=comm,
                 began=options.began, verbose=options.verbose, start=state.residual, target=state.tolerance,
                 shape=system.shape, keeper=keeper,
                 solution=lambda: system.restore(shown.solution())) as watch:  # fmt: skip
        resumed = watch.begin(shown)
        state.rounds(watch, guard, begun=resumed and bool(state.active.any()))
        if guard is not None:
            guard.finish(watch)
        # undecided: stopped by the watch, or solved, which linear_result sees
        status = np.where(shown.status, shown.status, watch.status or Status.STALLED)
        success = np.isfinite(shown.residual) & (shown.residual <= state.goal)
        watch.finish(shown, success.all())
        result = linear_result(
            system,
            shown.solution(),
            success=success,
            residual=shown.residual,
            tolerance=state.tolerance,
            status=status,
            nit=shown.nit,
            history=watch.history,
            elapsed=watch.elapsed,
            backend=k.NAME,
        )
    state.close()
    if guard is not None and guard.given_up:
        result = replace(result, message=f"{result.message} {guard.given_up}")
    return result


class State:
    """All systems of one call. Inside, each is divided by 2**exponent, so that its residual is about 1 at the start.

    Vectors are (batch, n) arrays of the backend; what is known of each system is in (batch,) arrays on the host.
    """

    kept: tuple[str, ...] = ("x", "r", "p", "rr", "rz", "tol2", "aim2", "status", "nit", "active", "left", "_last",
                             "seen", "residual")  # fmt: skip

    window: Window | None = None  # of directions, where M is seen to need it

    def __init__(self, k, system, M, rtol, atol, comm, *, recycle=None, watched=False):
        self.k, self.system, self.A, self.comm, self.watched = k, system, system.A, comm, watched
        self.M: Any = None if isinstance(M, str) else M
        xp, b = k.xp, system.b
        batch, n = b.shape
        x, r, exponent = self.measure(rtol, atol)
        self._up, self._down = xp.asarray(exponent)[:, None], xp.asarray(-exponent)[:, None]
        with np.errstate(all="ignore"):
            self.r, self.p = xp.ldexp(r, self._down), xp.zeros_like(b)
            self.x = xp.zeros_like(b) if x is None else xp.ldexp(x, self._down)

        self.dinv = None
        if isinstance(M, str):
            diagonal = self.A.diagonal()
            positive = diagonal > 0
            with np.errstate(all="ignore"):  # seen in r.z
                self.dinv = xp.ascontiguousarray(1 / xp.where(positive, diagonal, 1))
            broken = np.broadcast_to(~k.to_host(positive.all(axis=-1)), (batch,)).astype(float)
            broken = comm.largest(broken) > 0
            self.status[broken] = int(Status.INDEFINITE_OPERATOR)  # a diagonal entry is p.Ap for a unit vector p
        self.work = xp.empty(workspace_shape(batch, n))
        self.q, self.pq, self.minus_zq = xp.zeros_like(b), xp.zeros_like(self.rr), xp.zeros_like(self.rr)
        self.z: Any = None if self.M is None else xp.zeros_like(b)
        self.rd = self.rz if self.M is None else xp.zeros_like(self.rr)
        self.size = None  # power of two that M r is multiplied by, so that (M r, A M r) is in range
        if watched:
            diagonal = self._diagonal()
            self.log, self.dinv = Log(batch), None if diagonal is None else xp.ascontiguousarray(1 / diagonal)
        self.space = recycle and recycle.space(k, system, self._diagonal())
        if self.space:
            self.space.prepare(batch, self.dinv if self.M is None else None)

    def measure(self, rtol, atol):
        """What is asked of each system, and where it starts: x0 or None, b - A x0, and the exponents of their sizes."""
        k, xp, comm, b = self.k, self.k.xp, self.comm, self.system.b
        batch = len(b)
        found = k.to_host(operators.norms(k, b)) if self.system.norms is None else self.system.norms
        b_norm = self.b_norm = comm.norm(found)
        with np.errstate(all="ignore"):
            self.tolerance = np.maximum(rtol * b_norm, atol)
            # A x, near b, is rounded: a residual is only known to that, and success must not be due to it
            self.goal = self.tolerance - 0.5 * np.finfo(b.dtype).eps * b_norm
        x, r = self.system.x0, b
        if x is None:
            self.residual = b_norm.copy()
        else:
            x[xp.asarray(b_norm == 0)] = 0  # the solution, whatever the start
            r = xp.empty_like(b)
            self.residual = comm.norm(k.to_host(operators.true_residual(k, self.system, x, r)))
        size = np.maximum(b_norm, self.residual)
        exponent = np.frexp(np.where(np.isfinite(size) & (size > 0), size, 1.0))[1] - 1
        self.scale = np.ldexp(np.ones(batch), exponent)

        self.start = self.seen = self.residual
        self.status = np.zeros(batch, dtype="int64")  # 0 while undecided
        self.status[~np.isfinite(self.residual)] = int(Status.NAN_OR_INF)
        self.nit = np.zeros(batch, dtype="int64")
        self.active = np.zeros(batch, dtype=bool)
        self.left = np.zeros(batch, dtype=bool)  # to another run
        self._last = np.full(batch, np.inf)  # the residual when an iteration was last begun
        self.tol2, self.aim2 = xp.zeros(batch), np.zeros(batch)
        self.moved = False  # x is not where it was at the start, whatever nit says
        self.collecting = False
        # row 0 is what a block of iterations starts from, row j what its iteration j leaves
        self.rr, self.rz = xp.zeros((LONGEST_BLOCK + 1, batch)), xp.zeros((LONGEST_BLOCK + 1, batch))
        return x, r, exponent

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def pack(self):
        state = {name: getattr(self, name) for name in self.kept} | {"size": self.size, "window": self.window}
        state["M"] = self.M if hasattr(self.M, "pack") else None
        return state | ({"log": self.log} if hasattr(self, "log") else {})

    def unpack(self, saved):
        if hasattr(self.M, "pack"):
            saved.part("M").into(self.M)
        saved.into(self, *self.kept)
        self.size = saved["size"]
        if self.size is not None and self.size is not False:
            self.size = saved.like("size", self.k.xp.zeros((len(self.nit), 1), "int32"))
        if hasattr(self, "log"):
            saved.part("log").into(self.log)
        if saved["window"] is not None:
            self.widen()
            saved.part("window").into(self.window)
        self._resumed()

    def _resumed(self):
        """What follows from the state."""
        if self.M is None:
            self.rd = self.rz
        self.moved = True
        if not self.active.any():
            self.verify()

    # ---- the start --------------------------------------------------------------------------------------------------

    def _diagonal(self):
        """Of A, (batch, n) or (1, n), or None where A does not give it, or it is not positive."""
        try:
            diagonal = self.A.diagonal()
        except ValueError:
            return None
        return None if self.comm.any(not bool((diagonal > 0).all())) else diagonal

    def solution(self):
        """The current iterate, in the caller's units."""
        with np.errstate(all="ignore"):  # seen in the residual
            x = self.k.xp.ldexp(self.x, self._up)
            self.A.settle(x)
            return x

    def choose(self):
        """Whether there are systems that an iteration, anew or again, can help; `active` is which.

        Taking up b - A x again is worth it while that halves it.
        """
        unsolved = (self.status == 0) & (self.residual > self.goal) & ~self.left
        if not unsolved.any():
            return False
        with np.errstate(all="ignore"):
            self.active = unsolved & (self.residual < 0.5 * self._last)
            self.status[unsolved & ~self.active] = int(Status.STALLED)
            self._last = self.seen = self.residual
            # the recurrence aims a little lower than needed, and no lower than what rounding leaves of b - A x
            floor = 0.1 * np.finfo(self.system.b.dtype).eps * np.maximum(self.b_norm, self.residual)
            self.aim2 = (np.maximum(self._within_reach(), floor) / self.scale) ** 2  # infinite for a huge atol
        return bool(self.active.any())

    def _within_reach(self):
        """The goal of the iteration, for the part of the residual that it can lower."""
        goal, removed = 0.999 * self.goal, self.system.removed
        if removed is None:
            return goal
        left = goal * np.sqrt(np.maximum(1 - (removed / goal) ** 2, 0))
        return np.where(removed < goal, left, 0.1 * removed)  # where it is in vain, what it can do makes no difference

    def begin(self):
        """Start the iteration where `choose` sees use in it."""
        if not self.choose():
            return False
        k, (rr, rz) = self.k, (self.rr[0], self.rz[0])
        self.rest()
        if self.space:
            self.space.restart()
        if self.space and self.space.W is not None:
            gained = self.space.correct(self.x, self.r)
            if self.watched:
                self.log.head = self.log.head + gained
            self.moved = True
            self.verify()
        if self.window:
            self.window.clear()
        self.p.fill(0)
        z, dinv = self.r, self.dinv
        if self.M is not None:
            self.M.restart()
            self.size = None
            self.precondition()
            z, dinv = self.z, None
        k.cg_direction(z, dinv, rz, k.xp.ones_like(rz), self.p)  # p = z: rz is finite, p is zero
        k.dot(self.r, self.r, rr, self.work)
        k.dot(self.r, self.p, rz, self.work)
        self.comm.total(rr, rz)
        if self.space:
            self.space.deflate(z, self.p)
        return True

    def rest(self):
        """Let the systems that are not active rest."""
        self.tol2[...] = self.k.xp.asarray(np.where(self.active, self.aim2, np.inf))

    def widen(self):
        """Keep directions orthogonal to more than the last, from here on."""
        self.window = self.window or Window(self.k, self.x)

    def precondition(self):
        """z = M r, by a power of two that is chosen when a round begins: it cancels, but (p, A p) might overflow."""
        k, xp = self.k, self.k.xp
        self.M.matvec(self.r, self.z)
        if self.M.fixed:
            return
        if self.size is None:
            with np.errstate(all="ignore"):
                norms = [self.comm.norm(k.to_host(operators.norms(k, v))) for v in (self.r, self.z)]
                size = norms[0] / norms[1]
            power = np.frexp(np.where(np.isfinite(size) & (size > 0), size, 1.0))[1]
            power[abs(power) < (40 if self.r.dtype == np.float64 else 10)] = 0
            self.size = xp.asarray(power)[:, None] if power.any() else False
        if self.size is not False:
            with np.errstate(all="ignore"):  # seen in r.z
                self.z[...] = xp.ldexp(self.z, self.size)

    def iteration(self, j):
        """(1) - (4), from row j - 1 to row j."""
        k, p, q, pq, rr, rz = self.k, self.p, self.q, self.pq[j], self.rr, self.rz
        self.A.matvec_dot(p, q, pq, self.work)  # (1)
        self.comm.total(pq)
        rd = rz[j] if self.M is None else self.rd[j]  # (r, dinv r)
        if self.collecting:
            self.space.take(self.x[0], j - 1)
        k.cg_update(p, q, self.dinv, rz[j - 1], pq, rr[j - 1], self.tol2, self.comm.carry,
                    self.x, self.r, rr[j], rd, self.work)  # (2)  # fmt: skip
        self.comm.total(rr[j], rd)
        z = self.r
        if self.M is None:
            k.cg_direction(z, self.dinv, rz[j], rz[j - 1], p)  # (3)
        elif self.M.fixed:
            self.precondition()
            z = self.z
            k.dot(self.r, z, rz[j], self.work)
            self.comm.total(rz[j])
            k.cg_direction(z, None, rz[j], rz[j - 1], p)  # (3)
        else:
            self.precondition()
            z = self.z
            minus_zq = self.minus_zq[j]
            k.flexible_dots(z, self.r, q, rz[j], minus_zq, self.work)
            self.comm.total(rz[j], minus_zq)
            if self.window:
                self.window.keep(p, q, pq)
            k.cg_direction(z, None, minus_zq, pq, p)  # (4)
            if self.window:
                self.window.straighten(z, p, self.comm, self.work)
        if self.space:
            self.space.deflate(z, p)

    def small_block(self, kernel, steps):
        """(1) - (3), `steps` times, in one kernel."""
        kernel(self.dinv, self.tol2, steps, self.x, self.r, self.p, self.q, self.rr, self.rz)

    def rounds(self, watch, guard=None, *, begun=False, whole=None):
        """Iterate until nothing is left that this can solve, or `watch` says so; the first round may have begun.

        `whole` is the state of the solve, where this is a part of it.
        """
        whole = whole or guard or self
        plain = (self.M is None or (self.M.fixed and self.M.capturable)) and self.comm is SERIAL and not self.space
        kernel = self.A.steps_kernel() if plain and self.M is None and not self.watched else None
        if kernel is not None:
            iterate = functools.partial(self.small_block, kernel)
        else:
            iterate = self.k.Replay(self.iteration, capturable=plain and self.A.capturable)
        if begun and guard is not None:
            guard.look(watch)
        while begun or self.begin():
            begun = False
            while self.active.any() and watch.going(whole):
                steps = watch.block(exact=kernel is not None)
                if guard is not None:  # where a block ends is a matter of speed, where a look is due is not
                    steps = min(steps, guard.due)
                self.advance(iterate, steps, watch)
                if guard is not None:
                    guard.look(watch)
            self.verify()
            if watch.status is not None:
                break
        if self.space:
            self.space.finish()

    def advance(self, iterate, steps, watch):
        """A block of iterations of each active system, and what it means for them."""
        self.collecting = bool(self.space and self.active[0] and self.space.collecting)
        if self.space:
            steps = min(steps, self.space.due)
        iterate(steps)
        if self.watched:
            after = slice(1, steps + 1)
            rows = self.rz[:steps], self.pq[after], self.rd[after], self.rr[after]
            self.log.note(*(self.k.to_host(v) for v in rows))
            if self.M is not None:
                dots = self.rz[: steps + 1], self.pq[after], self.minus_zq[after]
                skew = skewness(*(self.k.to_host(v) for v in dots))
                skew[~((self.k.to_host(self.rr[after]) > self.aim2) & self.active)] = 0
                self.log.skew = np.maximum(self.log.skew, skew.max(axis=0))
        rz = np.array(self.k.to_host(self.rz[:steps, 0])) if self.collecting else None
        self.rr[0], self.rz[0] = self.rr[steps], self.rz[steps]
        rows = self.k.to_host(self.rr[1 : steps + 1])
        running = ((rows > self.aim2) & (rows <= HOPELESS)).sum(0)
        # the iteration that converges, or is the last straw, counts; one that a verdict prevents does not
        taken = np.where(rows[-1] >= 0, np.minimum(running + 1, steps), running)
        last = rows[-1]
        taken = np.where(self.active, taken, 0)
        self.nit += taken
        if rz is not None:
            self.space.learn(self.k.to_host(self.pq[1 : taken[0] + 1, 0]), rz[: taken[0]])
        if not (last >= 0).all():
            for verdict, status in _VERDICTS.items():
                self.status[self.active & (last == verdict)] = int(status)
            self.status[self.active & ~np.isfinite(last)] = int(Status.NAN_OR_INF)
        most = int(taken.max())
        if most:
            with np.errstate(all="ignore"):
                seen = np.where(self.active & (rows >= 0), np.sqrt(abs(rows)) * self.scale, self.seen)
            self.seen = seen[-1]  # what rests is shown as it was last
            watch.did(seen[:most], most)
        if self.space and self.space.lost(np.where(self.active & (last >= 0), last, np.nan)):
            self.active[:], self._last = False, np.full_like(self._last, np.inf)  # begin anew, without
            return
        # in exact arithmetic the residual grows by the square root of the condition number at most
        self.status[self.active & (self.status == 0) & (last > HOPELESS)] = int(Status.BREAKDOWN)
        self.active = self.active & (last > self.aim2) & (self.status == 0)

    @property
    def begun(self):
        """Whether a round has been begun."""
        return bool(np.isfinite(self._last).any())

    def resume(self, systems):
        """Go on with these systems of a round that has begun; whether there was one."""
        if self.begun:
            rr = self.k.to_host(self.rr[0])
            self.active = systems & (self.status == 0) & (rr > self.aim2)
            self.rest()
        return self.begun

    def begin_at(self, other, systems):
        """Let the next round begin where another run of these systems is."""
        self.x = self.k.xp.where(self.k.xp.asarray(systems)[:, None], other.x, self.x)
        self.moved, self._last = True, np.full_like(self._last, np.inf)
        self.verify()

    def verify(self):
        """b - A x, computed from the problem as the caller gave it; it is what a next round starts from."""
        if self.moved or self.nit.any():
            self.residual = self.comm.norm(self.k.to_host(self.true_norms()))
            self.status[~np.isfinite(self.residual)] = int(Status.NAN_OR_INF)

    def true_norms(self):
        """||b - A x||; the next round starts from b - A x."""
        r = self.k.xp.empty_like(self.system.b)
        norms = operators.true_residual(self.k, self.system, self.solution(), r)
        with np.errstate(all="ignore"):
            self.r[...] = self.k.xp.ldexp(r, self._down)
        return norms

    def close(self):
        """Let another solve have the memory of this one."""
