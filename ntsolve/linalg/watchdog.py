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

What can be proven. Let Jacobi-CG take J iterations. Whoever has done j of them knows no more than J > j: so it looks
where D^-1 A has j + 1 eigenvalues. Hence a cost of at most 5/4 J for all A and M takes a rival that does four
iterations for each with M, which makes a good M cost five times what it has to. One of the two has to go, so that rule
is kept for an M under suspicion: symmetric, and with Ritz values (ritz.py) that promise several times the iterations
that Jacobi's do, as those of a coarse space without a smoother, which leads for longer than one can wait. Such an M
gets m <= max(8, j / 4) iterations, and its rival is not begun anew. So

    cost <= J + max(8, J / 4),   which is at most 5/4 J from J = 32 on,                                  (2)

unless it seems about to be done, or has proven its worth: it is let go where it was at its present residual so much
sooner than the rival that, at this pace, all that was and will be spent is well below J, and where it has not been
slower of late. For any other M, what the rules above amount to is measured, not proven (bench `linear`).
"""

from typing import Any

import numpy as np

from ..result import Status
from .ritz import most_iterations, ritz_values

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
SUSPECT = 3  # times the iterations that Ritz values promise of Jacobi's, from which M is under suspicion
FREE, PART = 8, 4  # iterations that such an M may take, or one for so many of the rival
WORTHY = 0.8  # of what Jacobi-CG seems to need, that such an M may cost with all that was spent, to be let go
GIVEN_UP = "M was given up"
_REASONS = {1: "Jacobi-CG made more progress", 2: "it made hardly any progress", 3: "it failed", 4: "it became another"}
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

    def most(self, steps, digits):
        """Iterations that the Ritz values of the first promise at most."""
        with np.errstate(all="ignore"):
            values = ritz_values(self.gains[:steps] / self.alphas[:steps], self.alphas[:steps])
        return most_iterations(values, digits)

    def left(self, start, goal, steps=None):
        """Iterations to a residual, at the rate since `start` or, of the last `steps`, since those."""
        steps = min(steps or len(self.gains), len(self.gains))
        before = start if steps == len(self.gains) else self.residuals[-steps - 1]
        with np.errstate(all="ignore"):
            left = steps * np.log(self.residuals[-1] / goal) / np.log(before / self.residuals[-1])
        return np.where(left >= 0, left, np.inf)

    def lately(self, steps):
        """By the last iterations."""
        return self.gains[-steps:].sum(axis=0)


class Watchdog:
    """Watches a `State` that runs with M; `rival(M)` makes another, from the same start, without it."""

    kept = ("reason", "after", "next", "finishing", "changed", "spent", "origin", "suspect", "proven", "judged",
            "ordered")  # fmt: skip

    def __init__(self, state, rival):
        self.state, self._make = state, rival
        self.rival: Any = None
        self.reason = np.zeros(state.nit.size, dtype=int)  # why M was given up, of each system
        self.after = np.zeros_like(self.reason)  # iterations with it
        self.next, self._racing, self.finishing = 1, False, False
        self.changed = False  # whether M is seen to be another than at first, or so from the first on
        self.spent = np.zeros_like(self.reason)  # iterations of a rival of before
        self.origin = state.start.copy()  # residuals where this race began
        self.suspect, self.proven = self.reason > 0, self.reason > 0  # by Ritz values; to be let go nevertheless
        self.judged = False  # whether Ritz values have been looked at
        self.ordered = 0  # iterations of the rival, which a stop may have cut short

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
        """After a block of iterations, or a stop: run the rival where that is due, and give M up where it has lost."""
        state = self.state
        self._failures()
        if not state.active.any() or len(state.log.gains) < self.next:
            return
        m = len(state.log.gains)
        skew = state.log.skew[state.active].max()
        if skew > CROOKED:
            state.widen()
        changed, self.changed = self.changed, bool(self.changed or skew > CHANGED)
        if m > FIRST and self.changed and not changed:
            self._lose(state.active & self.suspect & ~self.proven, 4)
            if not state.active.any():
                return
        if m < FIRST or (m > FIRST and self.changed and not changed):
            self.next = FIRST
            if m > FIRST:
                self._anew()
            return
        self.next = m + max(1, m // 4)
        if self.rival is None and self._nearly_done(m):
            return
        raced = self._race(max(FIRST, m if self._stands_still(m) else m // SHARE, self.ordered), watch)
        if raced and len(self.rival.log.gains):
            self._compare(len(self.rival.log.gains), m)
            raced = self._hold(m, watch)
        if not raced:
            self.next = m  # from where the solve is gone on with

    def _anew(self):
        """Race from here on: what M gained as another says nothing of what it is now."""
        state, log = self.state, Log(len(self.reason))
        if self.rival is not None:
            self.spent = self.spent + self.rival.nit
        log.skew, state.log, self.origin = state.log.skew, log, state.seen
        self.judged, self.ordered, self.proven = False, 0, np.zeros_like(self.proven)
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
        return bool((self._is_near(m) | ~self.state.active).all())

    def _is_near(self, m):
        state = self.state
        left = state.log.left(self.origin / state.scale, state.tolerance / state.scale)
        return left <= max(NEAR, m // 4)

    def _hold(self, m, watch):
        """Let the rival lead where M is under suspicion, up to where M may go on; False where it was stopped."""
        state, rival = self.state, self.rival
        while True:
            j = len(rival.log.gains)
            self._judge(m, j)
            if not (self.suspect & ~self.proven & ~self._is_near(m) & state.active & rival.active).any():
                return True
            allowed = max(FREE, j // PART)
            if m < allowed:
                self.next = min(self.next, allowed)
                return True
            if not self._race(j + max(1, j // 4), watch):
                return False
            self._compare(len(rival.log.gains), m)

    def _judge(self, m, j):
        """Which systems are under suspicion, and for which M has proven what it is worth."""
        state, rival = self.state, self.rival
        if not self.judged and min(j, m) >= FIRST:  # later on a good M would pay for it with all that was spent
            with np.errstate(all="ignore"):
                digits = np.log(2 * self.origin / state.tolerance)
                mine, other = (log.most(FIRST, digits) for log in (state.log, rival.log))
            symmetric = state.log.skew <= CROOKED  # else these are no Ritz values
            self.suspect, self.judged = symmetric & np.isfinite(mine) & (mine > SUSPECT * other), True
        if m < FREE or not self.suspect.any():
            return
        mine, other = state.log.residuals, rival.log.residuals
        start, goal = self.origin / state.scale, state.tolerance / state.scale
        reached = other <= mine[-1]
        when = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, j)  # the rival was there, at the earliest
        whole = m + state.log.left(start, goal)
        worthy = whole + j <= WORTHY * when / m * whole
        # not while the rival learns of a small eigenvalue, in which its residual grows
        steady = other[-1] <= 2 * other.min(axis=0)
        ahead = state.log.left(start, goal, max(FIRST, m // 2)) < rival.log.left(start, goal, max(FIRST, j // 4))
        self.proven = self.proven | (self.suspect & worthy & steady & ahead)

    def _stands_still(self, m):
        """Whether a system has gained little, and its residual has not fallen, in the second half of the iterations."""
        if m < LONG or self.rival is None:
            return False
        log, half, j = self.state.log, m // 2, len(self.rival.log.gains)
        slow = log.lately(m - half) < STILL * log.gained(None)
        slow &= abs(self.rival.log.gained(j) - log.gained(j)) > 0.001 * log.gained(j)  # else M is like Jacobi's
        return bool((slow & (log.residuals[-1] > 0.5 * log.residuals[:half].min(axis=0)) & self.state.active).any())

    def _race(self, steps, watch):
        """Let the rival do so many iterations in all; False where it was stopped on the way."""
        if self.rival is None and not self._call().begin():
            return True
        rival, xp, self.ordered = self.rival, self.state.k.xp, steps
        rival.active = rival.active & self.state.active
        rival.rest()
        waiting = None if rival.active.all() else (xp.asarray(~rival.active)[:, None], rival.p.copy())
        self._racing = True
        while (left := steps - len(rival.log.gains)) > 0 and rival.active.any() and watch.going():
            rival.advance(self._iterate, min(left, watch.block()), watch)
        self._racing = False
        if waiting is not None:  # an iteration moves p of what rests, too, which may be gone on with
            rival.p[...] = xp.where(*waiting, rival.p)
        return bool(len(rival.log.gains) >= steps or not rival.active.any())

    def _compare(self, j, m):
        state, rival = self.state, self.rival
        mine, other = (log.gained(min(j, m)) for log in (state.log, rival.log))
        ahead = other > MARGIN * mine
        if m >= LONG:  # by then what M has gained is about all there is, and the rest of it the error
            ahead &= state.log.gained(None) - other < CLEARLY * (state.log.gained(None) - mine)
        if m >= 2 * j:
            ahead |= (state.log.skew > CROOKED) & (self._rate(mine) < WORTH * self._rate(other))
        window = max(FIRST, m // SHARE)
        with np.errstate(invalid="ignore"):  # of systems at rest
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
