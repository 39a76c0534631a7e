"""Whether a preconditioner is worth it: progress against Jacobi's, in the same solve.

An iteration of CG lowers the energy (e, A e) of the error by

    alpha (r, z) = (r, z)^2 / (p, A p)                                                                   (1)

whatever M is, so what a run has gained is known without knowing the solution, grows in every step, and can be
compared with what another run from the same start has gained in as many steps. That other run, the rival, is
Jacobi-CG. It is not begun where M is about to be done; it gets 4 iterations after the first 4 with M, then one for
each 8. M is given up

  - where the rival has gained more in its first j iterations than M in its first j, or, if M is seen not to be
    symmetric, linear or the same (window.py), has converged at a rate that is not clearly below M's;
  - where M has lately gained less than steepest descent with Jacobi would have, whose step gains at least
    (r, D^-1 r) / lambda_max(D^-1 A), with the smallest alpha of the rival for 1 / lambda_max;
  - where it fails in the course of the solve: (r, M r) <= 0, NaN, or a residual without bound.

Where M is seen to have become another, both begin anew from where M is. What follows an M that is given up is
Jacobi-CG, from where the error is smaller in the norm of A. An M that fails at its first application is a mistake and
not given up but reported; and one may always take a few iterations, so the cost is bounded by a multiple of Jacobi-CG's
in problems that take some.
"""

from typing import Any

import numpy as np

from ..result import Status

FIRST = 4  # iterations of either before they are compared
SHARE = 8  # of M for one of the rival, later on
LONG = 24  # iterations with M, from which it is seen whether it stands still
STILL = 0.1  # of what was gained in all, in the second half: less is a reason to let the rival catch up
CLEARLY = 0.9  # of M's error that the rival has at most, to win so late
MARGIN = 1.01  # that the rival must be ahead by
CROOKED = 1e-4  # cosine from which M is not symmetric, linear or the same; float32 inside it makes less
CHANGED = 0.1  # cosine that M has not had at first, from which it has become another
WORTH = 1.3  # times Jacobi's rate, that a crooked M must have
NEAR = 8  # iterations from the end, at the present rate, M is left alone
GIVEN_UP = "M was given up"
_REASONS = {1: "Jacobi-CG made more progress", 2: "it made hardly any progress", 3: "it failed"}
_FAILED = (Status.INDEFINITE_PRECONDITIONER, Status.NAN_OR_INF, Status.BREAKDOWN, Status.INDEFINITE_OPERATOR)


class Log:
    """The progress of each system (batch,): what each iteration gained, and what is in reach."""

    kept = ("gains", "reach", "alphas", "residuals", "head", "skew")
    grows = kept[:-2]

    def __init__(self, batch):
        self.gains, self.reach, self.alphas, self.residuals = np.zeros((4, 0, batch))
        self.head = np.zeros(batch)  # gained before the first iteration, by deflation
        self.skew = np.zeros(batch)  # the largest cosine, see window.py

    def note(self, rz, pq, rd, rr):
        """Rows of a block of iterations: (r, z) before each, (p, A p), and (r, D^-1 r) and (r, r) after it."""
        with np.errstate(all="ignore"):
            alphas = rz / pq
            gains = alphas * rz
        good = np.isfinite(gains) & (gains > 0)
        self.gains = np.concatenate([self.gains, np.where(good, gains, 0.0)])
        self.alphas = np.concatenate([self.alphas, np.where(good, alphas, np.inf)])
        self.reach = np.concatenate([self.reach, np.where(np.isfinite(rd), rd, 0.0)])
        self.residuals = np.concatenate([self.residuals, np.sqrt(abs(rr))])

    def gained(self, steps):
        """By the first iterations, or by all."""
        return self.head + self.gains[:steps].sum(axis=0)

    def lately(self, steps):
        """By the last iterations."""
        return self.gains[-steps:].sum(axis=0)


class Watchdog:
    """Watches a `State` that runs with M; `rival(M)` makes another, from the same start, without it."""

    kept = ("reason", "after", "next", "finishing", "changed", "spent", "origin")

    def __init__(self, state, rival):
        self.state, self._make = state, rival
        self.rival: Any = None
        self.reason = np.zeros(state.nit.size, dtype=int)  # why M was given up, of each system
        self.after = np.zeros_like(self.reason)  # iterations with it
        self.next, self._racing, self.finishing = 1, False, False
        self.changed = False  # whether M is seen to be another than at first, or so from the first on
        self.spent = np.zeros_like(self.reason)  # iterations of a rival of before
        self.origin = state.start.copy()  # residuals where this race began

    # ---- checkpoints ----

    def pack(self):
        return {name: getattr(self, name) for name in ("state", "rival", *self.kept)}

    def unpack(self, saved):
        saved.into(self, "state", *self.kept)
        if saved["rival"] is not None:
            saved.part("rival").into(self._call())
            self.rival.watched = not self.finishing

    # ---- during the rounds with M ----

    @property
    def due(self):
        """Iterations up to the next comparison."""
        return max(1, self.next - len(self.state.log.gains))

    def look(self, watch):
        """After a block of iterations: run the rival where that is due, and give M up where it has lost."""
        state = self.state
        self._failures()
        if not state.active.any() or len(state.log.gains) < self.next:
            return
        m = len(state.log.gains)
        skew = state.log.skew[state.active].max()
        if skew > CROOKED:
            state.widen()
        changed, self.changed = self.changed, bool(self.changed or skew > CHANGED)
        if m < FIRST or (m > FIRST and self.changed and not changed):
            self.next = FIRST
            if m > FIRST:
                self._anew()
            return
        self.next = m + max(1, m // 4)
        if self.rival is None and self._nearly_done(m):
            return
        self._race(max(FIRST, m if self._stands_still(m) else m // SHARE), watch)
        j = len(self.rival.log.gains)
        if j:
            self._compare(j, m)

    def _anew(self):
        """Race from here on: what M gained as another says nothing of what it is now."""
        state, log = self.state, Log(len(self.reason))
        if self.rival is not None:
            self.spent = self.spent + self.rival.nit
        log.skew, state.log, self.origin = state.log.skew, log, state.seen
        self._call().begin_at(state, state.active)
        self.rival.begin()

    def _failures(self):
        """Verdicts on systems that M has already worked on."""
        state = self.state
        failed = np.isin(state.status, [int(s) for s in _FAILED]) & (state.nit > 0) & (self.reason == 0)
        proof = state.status == int(Status.INDEFINITE_OPERATOR)
        if proof.any():  # p.Ap < 0 is one, 0 may be an underflow
            failed &= ~(proof & (state.k.to_host(state.pq) < 0).any(axis=0))
        state.status[failed] = 0
        self._lose(failed, 3)

    def _lose(self, lost, reason):
        state = self.state
        if lost.any():
            self.reason[lost], self.after[lost] = reason, state.nit[lost]
            state.left, state.active = state.left | lost, state.active & ~lost
            state.rest()

    def _nearly_done(self, m):
        """Whether all that run will soon be there, at the rate so far."""
        state = self.state
        with np.errstate(all="ignore"):
            done, wanted = self.origin / state.seen, state.seen / state.tolerance
            left = m * np.log(wanted) / np.log(done)
        return bool(((left >= 0) & (left <= max(NEAR, m // 4)) | ~state.active).all())

    def _stands_still(self, m):
        """Whether a system has gained little, and its residual has not fallen, in the second half of the iterations."""
        if m < LONG or self.rival is None:
            return False
        log, half, j = self.state.log, m // 2, len(self.rival.log.gains)
        slow = log.lately(m - half) < STILL * log.gained(None)
        slow &= abs(self.rival.log.gained(j) - log.gained(j)) > 0.001 * log.gained(j)  # else M is like Jacobi's
        return bool((slow & (log.residuals[-1] > 0.5 * log.residuals[:half].min(axis=0)) & self.state.active).any())

    def _race(self, steps, watch):
        """Let the rival do so many iterations in all."""
        if self.rival is None and not self._call().begin():
            return
        rival = self.rival
        rival.active = rival.active & self.state.active
        rival.rest()
        self._racing = True
        while (left := steps - len(rival.log.gains)) > 0 and rival.active.any() and watch.going():
            rival.advance(self._iterate, min(left, watch.block()), watch)
        self._racing = False

    def _compare(self, j, m):
        state, rival = self.state, self.rival
        mine, other = state.log.gained(j), rival.log.gained(j)
        ahead = other > MARGIN * mine
        if m >= LONG:  # by then what M has gained is about all there is, and the rest of it the error
            ahead &= state.log.gained(None) - other < CLEARLY * (state.log.gained(None) - mine)
        if m >= 2 * j:
            ahead |= (state.log.skew > CROOKED) & (self._rate(mine) < WORTH * self._rate(other))
        window = max(FIRST, m // SHARE)
        least = 0.5 * rival.log.alphas.min(axis=0) * state.log.reach[-window:].sum(axis=0)
        idle = state.log.lately(window) < least
        solved = ~rival.active & (rival.status == 0)
        self._lose(state.active & (ahead | solved), 1)
        self._lose(state.active & idle, 2)

    def _rate(self, gained):
        """Of convergence, where so much of all that is to be gained is; M has gained nearly all, or as good as."""
        with np.errstate(all="ignore"):
            return -np.log1p(-gained / self.state.log.gained(None))

    def _call(self):
        self.rival = self._make("jacobi" if self.state.dinv is not None else None)
        self._iterate = self.state.k.Replay(self.rival.iteration)
        return self.rival

    # ---- afterwards ----

    def finish(self, watch):
        """Jacobi-CG for the systems that have given M up."""
        lost, state = self.reason > 0, self.state
        if not lost.any():
            return
        if self.rival is None:
            self._call()
        rival = self.rival
        begun = bool(rival.active.any())
        if not self.finishing:
            rival.left, rival.seen = ~lost, np.where(lost, rival.seen, state.seen)
            # a rival that has done half of M's iterations goes on as it is: a restart may lose more than M is ahead by
            young = 2 * len(rival.log.gains) < len(state.log.gains)
            further = lost & (state.log.gained(None) > rival.log.gained(None)) & young
            if further.any():
                rival.begin_at(state, further)
            rival.watched = False
            begun = not further.any() and rival.resume(lost)
        if watch.status is None:
            self.finishing = True
            rival.rounds(watch, begun=begun, whole=self)

    @property
    def given_up(self):
        """What is to be said of it, if anything."""
        lost = self.reason > 0
        if not lost.any():
            return ""
        which = int(np.flatnonzero(lost)[0])
        many = f" for {int(lost.sum())} of {lost.size} systems" if lost.size > 1 else ""
        return f"{GIVEN_UP}{many} after {self.after[which]} iterations, since {_REASONS[int(self.reason[which])]}."

    # ---- both runs as one solve ----

    def solution(self):
        """Of the run at work; in the end, of the one that has solved each system."""
        if self.rival is None or not (self._racing or self.reason.any()):
            return self.state.solution()
        if self._racing:
            return self.rival.solution()
        lost = self.state.k.xp.asarray(self.reason > 0)[:, None]
        return self.state.k.xp.where(lost, self.rival.solution(), self.state.solution())

    def _of(self, name):
        own = getattr(self.state, name)
        return own if self.rival is None else np.where(self.reason > 0, getattr(self.rival, name), own)

    @property
    def status(self):
        """(batch,)"""
        return self._of("status")

    @property
    def residual(self):
        """(batch,)"""
        return self._of("residual")

    @property
    def nit(self):
        """(batch,), of both."""
        return self.state.nit + self.spent + (0 if self.rival is None else self.rival.nit)
