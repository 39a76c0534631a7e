"""What is tried, now and then, besides the iteration: the interior point method, polishing, the finisher, and rays.

The interior point method takes a few dozen factors, of a size that is known beforehand, and begins once PDHG has had a
third of that time, unless PDHG's errors fall so quickly that it is soon done by itself. The rest comes after 512
iterations and whenever their number has doubled. The finisher gets as much time as PDHG has had, in parts that grow
with what it achieves; a ray is looked for once all have failed and PDHG does not get anywhere, with at most a third of
all the time. Whether the directions in which the iterations move are rays costs next to nothing, and is looked at
first, and more often. Polishing keeps its own, shorter, intervals; a batch goes without.
"""

import time
from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..result import Status
from .finisher import SMALL, WIN
from .pdhg import EVERY
from .polish import Polish
from .propagation import contradictions

FIRST = 512  # iterations
INSIDE, INSIDE_STEPS = 256, 20  # iterations after which the interior point method may begin; its steps, guessed
INSIDE_SHARE, INSIDE_LEAST = 3.0, 0.1  # of PDHG's time, that it may take; seconds
SOON = 2.0  # times the iterations so far: the finisher waits for it
BEGIN_SHARE, BEGIN_LEAST = 0.1, 0.015  # of PDHG's time, that may go into a look at its factors; seconds
OFTEN = 1.25  # times the iterations so far, until it is thought of again
INSIDE_MORE = 2.0  # times that, where it gets somewhere
STEP_SECONDS = 3e-4  # of one, besides its factor
LEAST = 0.02  # seconds
SHARE, SHARE_STALLED = 0.6, 2.0  # of PDHG's time, that the finisher may have taken
STALLS = 0.3  # of the error at the last attempt, above which PDHG stalls
FEWEST = 3  # steps of the finisher that there has to be time for
LOST = 0.5  # times its share after each attempt that was for nothing, twice at most
RAY_SHARE, RAY_SHARE_PRODUCTS, RAY_LEAST = 0.3, 0.1, 0.02  # the second without Newton's method
NOT_NEAR = 1e-2  # a relative error above which no point may exist


class Attempts:
    """Of one program of a batch.

    Parameters
    ----------
    k : module
        Kernels of the iteration.
    program : Program
        Single, on the host, unscaled.
    scaled : Scaled
        Of the batch, of which this is number `i`.
    finish : bool
        Whether there is to be a finisher.
    """

    kept = ("_next", "_inside", "_before", "_losses", "_finishing", "_searching", "_within", "_polish", "_look")

    def __init__(self, k, program, scaled, i, finish):
        self._k, self._program, self._batch, self._i, self._finish = k, program, scaled, i, finish
        self._small = program.m**2 + program.nnz <= SMALL  # what is done then depends on no clock
        self._item: Any = None
        self._system: Any = None
        self._hopeless = False  # of there ever being a system
        self._interior: Any = None
        self._finisher: Any = None
        self._rays: Any = None
        self._next, self._before, self._losses = FIRST, np.inf, 0
        self._look = INSIDE  # the iteration at which directions are looked at
        self._inside = float(INSIDE) if finish else np.inf  # the iteration at which the interior point method is due
        self._seen: tuple | None = None  # (iteration, error over tolerance) at the first look at PDHG's rate
        self._polish = Polish(k, scaled) if scaled.c.shape[0] == 1 else None
        self._finishing = self._searching = self._within = 0.0  # seconds so far; `_within` is a part of `_finishing`

    def due(self, nit):
        """Whether it is time for an attempt."""
        return nit >= self.next

    @property
    def next(self):
        """The iteration after which the next is due."""
        return min(self._next, self._inside, self._look, np.inf if self._polish is None else self._polish.next)

    def make(self, iteration, watch):
        """One attempt; a (Status, ray), or None. It ends early where the watch says so."""
        i, nit = self._i, int(iteration.nit[self._i])
        if self._polish is not None and nit >= self._polish.next and self._polish.make(iteration, watch.going):
            return None
        if nit >= self._inside and self._step_inside(iteration, watch, nit):
            return None
        if nit >= self._look:
            self._look = max(nit + EVERY, int(OFTEN * nit) // EVERY * EVERY)
            found = self._directions(iteration) if iteration.errors(i).kkt > NOT_NEAR else None
            if found is not None:
                return found
        if self._inside <= SOON * nit:
            self._next = max(self._next, int(self._inside))
        if nit < self._next:
            return None
        elapsed = watch.elapsed
        left = np.inf if watch.time_limit is None else watch.time_limit - elapsed
        self._next = 2 * max(nit, self._next)
        errors = iteration.errors(i)
        stalled = errors.kkt > STALLS * self._before
        self._before = errors.kkt
        stop = _Stop(watch)
        won = self._finish and self._improve(iteration, errors, stalled, elapsed, left, stop)
        if won and (not iteration.running[i] or iteration.errors(i).kkt <= NOT_NEAR):
            return None
        if (stalled and self._finish) or errors.kkt > NOT_NEAR:  # also where a win has only come from worse to bad
            left -= watch.elapsed - elapsed
            return self._search(iteration, watch.elapsed, left, stop)
        return None

    def _begin(self, left):
        """Whether there is a system for Newton steps; it is made if there was none."""
        from .newtonsystem import newton_system

        if self._item is None:
            self._item = self._batch.item(self._k, self._i)
        if self._system is None and not self._hopeless:
            with kernels_for(x=self._item.c) as k:
                self._system = newton_system(k, self._item, left)
            self._hopeless = self._system is None
        return not self._hopeless

    def _dear(self, ours):
        """Seconds until what factors take is known, or 0 where that is cheap beside PDHG's time, `ours`."""
        from .newtonsystem import seconds_to_begin

        if self._small or self._hopeless or self._system is not None:
            return 0.0
        seconds = seconds_to_begin(self._batch)
        return seconds if seconds > max(BEGIN_LEAST, BEGIN_SHARE * ours) else 0.0

    def _step_inside(self, iteration, watch, nit):
        """Whether the interior point method, as far as there is time for it, solves the program."""
        from .interior import STEPS, Interior

        i, k, interior = self._i, self._k, self._interior
        ours = watch.elapsed - self._finishing - self._searching
        seconds = self._dear(ours)
        if seconds:
            self._inside = int(nit * max(OFTEN, seconds / (BEGIN_SHARE * ours)))
            return False
        if not self._begin(np.inf if watch.time_limit is None else watch.time_limit - watch.elapsed):
            self._inside = np.inf
            return False
        steps = INSIDE_STEPS if interior is None else min(INSIDE_STEPS, STEPS - interior.steps)
        needed = self._within + steps * (self._system.seconds + STEP_SECONDS)
        if not self._small and needed > max(INSIDE_LEAST, INSIDE_SHARE * ours):
            self._inside = int(nit * max(OFTEN, needed / (INSIDE_SHARE * ours)))
            return False
        if interior is None and self._promising(iteration, nit, ours, needed):
            self._inside = nit + max(EVERY, nit // 8 // EVERY * EVERY)
            return False
        began, seconds = time.perf_counter(), INSIDE_MORE * max(INSIDE_LEAST, INSIDE_SHARE * ours) - self._within
        if self._small:
            seconds = np.inf
        if interior is None:
            x, y = (k.to_host(v[i]) for v in (iteration.p, iteration.q))
            interior = self._interior = Interior(self._item, self._system, x, y)
        point = interior.improve(iteration.tol, lambda: watch.going() and time.perf_counter() - began < seconds)
        spent = time.perf_counter() - began
        self._within, self._finishing = self._within + spent, self._finishing + spent
        if interior.over:
            self._inside, self._next = np.inf, nit  # for the others, now
        if point is not None and (point.solved or point.errors.kkt < WIN * iteration.errors(i).kkt):
            iteration.put(i, point.x, point.y, point.errors, point.solved)
            return point.solved
        return False

    def _promising(self, iteration, nit, ours, needed):
        """Whether PDHG, by how its errors fall, is soon done by itself, in less than the time `needed` otherwise."""
        level = iteration.errors(self._i).level / iteration.tol if iteration.tol > 0 else np.inf
        if self._small or ours >= needed or not level < np.inf:
            return False
        if self._seen is None:  # wait for a second look
            self._seen = nit, level
            return True
        fall = np.log(self._seen[1] / level) / max(1, nit - self._seen[0])
        return bool(fall > 0 and np.log(max(level, 1.0)) / fall * ours / nit <= needed)

    def _improve(self, iteration, errors, stalled, elapsed, left, stop):
        """Whether the finisher has found a better point, which is then put in place."""
        from .finisher import Finisher

        ours = elapsed - self._finishing - self._searching
        if self._dear(ours) or not self._begin(left):
            return False
        if self._finisher is None:
            self._finisher = Finisher(self._item, iteration.tol, self._system)
        i, k, finisher = self._i, self._k, self._finisher
        share = (SHARE_STALLED if stalled else SHARE) * LOST ** min(self._losses, 1)
        seconds = max(LEAST, share * ours - self._finishing)
        if not self._small and seconds < FEWEST * (finisher.seconds_a_step or self._system.seconds):
            return False
        began = time.perf_counter()
        finisher.tol = iteration.tol
        x, y = (k.to_host(v[i]).copy() for v in (iteration.p, iteration.q))
        point = finisher.improve(x, y, float(iteration.weight[i]), errors, min(seconds, left), left, stop=stop)
        self._finishing += time.perf_counter() - began
        if point is None:
            self._losses += 1
            return False
        self._losses = 0
        iteration.put(i, point.x, point.y, point.errors, point.solved)
        return True

    def _search(self, iteration, elapsed, left, stop):
        if self._finish:
            self._begin(left)
        share = RAY_SHARE if self._finish else RAY_SHARE_PRODUCTS
        seconds = max(RAY_LEAST, share * elapsed - self._searching)
        return self._directions(iteration, min(seconds, left), stop, left)

    def _directions(self, iteration, seconds=0.0, stop=None, left=np.inf):
        """A ray among the directions that there are, or one found in so many seconds."""
        from .infeasible import RaySearch

        if self._item is None:
            self._item = self._batch.item(self._k, self._i)
        candidates = []
        if self._rays is None:
            self._rays = RaySearch(self._program, self._item, newton=self._finish)
            candidates += [(np.zeros(self._program.n), y) for y in contradictions(self._program)]
        self._rays.system = self._system
        began = time.perf_counter()
        i, host, item = self._i, self._k.to_host, self._item
        moves = [(iteration.dx, iteration.dy), (iteration.p - iteration.x0, iteration.q - iteration.y0)]
        moves = [(host(dx[i]), host(dy[i])) for dx, dy in moves]
        if self._interior is not None:  # which runs away along a ray as well
            moves.append((self._interior.x, self._interior.y))
        candidates += [(dx * item.x_unit, dy * item.y_unit) for dx, dy in moves]
        found = self._rays.run(seconds, candidates, stop=stop, left=left)
        self._searching += time.perf_counter() - began
        return found


class _Stop:
    """Asks the watch whether to stop. (A closure would hold on to more.)"""

    def __init__(self, watch):
        self._watch = watch

    def __call__(self):
        return not self._watch.going()


def contradiction(program):
    """(Status, ray) where a lower bound or side is above its upper one, in a single program on the host; else None."""
    bad = np.flatnonzero(program.row_lower > program.row_upper)
    if bad.size:
        ray = np.zeros(program.m)
        ray[bad[0]] = 1.0
        return Status.PRIMAL_INFEASIBLE, ray
    if (program.lower > program.upper).any():
        return Status.PRIMAL_INFEASIBLE, np.zeros(program.m)
    return None
