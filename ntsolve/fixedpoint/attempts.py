"""What is tried, now and then, besides the iteration: polishing, the finisher, and a search for rays.

Attempts come after 512 iterations and whenever their number has doubled. The finisher gets as much time as PDHG has
had, in parts that grow with what it achieves; a ray is looked for once the finisher has failed and PDHG does not get
anywhere, with at most a third of all the time. Polishing keeps its own, shorter, intervals; a batch goes without.
"""

import time
from typing import Any

import numpy as np

from ..result import Status
from .polish import Polish

FIRST = 512  # iterations
LEAST = 0.02  # seconds
SHARE, SHARE_STALLED = 0.6, 2.0  # of PDHG's time, that the finisher may have taken
STALLS = 0.3  # of the error at the last attempt, above which PDHG stalls
LOST = 0.5  # times its share after each attempt that was for nothing, twice at most
RAY_SHARE, RAY_LEAST = 0.3, 0.02
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

    def __init__(self, k, program, scaled, i, finish):
        self._k, self._program, self._batch, self._i, self._finish = k, program, scaled, i, finish
        self._item: Any = None
        self._finisher: Any = None
        self._rays: Any = None
        self._next, self._before, self._losses = FIRST, np.inf, 0
        self._polish = Polish(k, scaled) if scaled.c.shape[0] == 1 else None
        self._finishing = self._searching = 0.0  # seconds so far

    def due(self, nit):
        """Whether it is time for an attempt."""
        return nit >= self.next

    @property
    def next(self):
        """The iteration after which the next is due."""
        return self._next if self._polish is None else min(self._next, self._polish.next)

    def make(self, iteration, watch):
        """One attempt; a (Status, ray), or None. It ends early where the watch says so."""
        i, elapsed, nit = self._i, watch.elapsed, int(iteration.nit[self._i])
        if self._polish is not None and nit >= self._polish.next and self._polish.make(iteration, watch.going):
            return None
        if nit < self._next:
            return None
        left = np.inf if watch.time_limit is None else watch.time_limit - elapsed
        self._next = 2 * max(nit, self._next)
        errors = iteration.errors(i)
        stalled = errors.kkt > STALLS * self._before
        self._before = errors.kkt
        if self._item is None:
            self._item = self._batch.item(self._k, i)
        stop = _Stop(watch)
        won = self._finish and self._improve(iteration, errors, stalled, elapsed, left, stop)
        if won and (not iteration.running[i] or iteration.errors(i).kkt <= NOT_NEAR):
            return None
        if stalled or errors.kkt > NOT_NEAR:  # also where a win has only come from worse to bad
            left -= watch.elapsed - elapsed
            return self._search(iteration, watch.elapsed, left, stop)
        return None

    def _improve(self, iteration, errors, stalled, elapsed, left, stop):
        """Whether the finisher has found a better point, which is then put in place."""
        from .finisher import Finisher

        if self._finisher is None:
            self._finisher = Finisher(self._item, iteration.tol)
        i, k, finisher = self._i, self._k, self._finisher
        share = (SHARE_STALLED if stalled else SHARE) * LOST ** min(self._losses, 1)
        ours = elapsed - self._finishing - self._searching
        seconds = max(LEAST, share * ours - self._finishing)
        if finisher.seconds_a_step is not None and seconds < 3 * finisher.seconds_a_step:
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
        from .infeasible import RaySearch

        if self._rays is None:
            self._rays = RaySearch(self._program, self._item)
        seconds = max(RAY_LEAST, RAY_SHARE * elapsed - self._searching) if self._finish else 0.0
        began = time.perf_counter()
        i, host, item = self._i, self._k.to_host, self._item
        moves = [(iteration.dx, iteration.dy), (iteration.p - iteration.x0, iteration.q - iteration.y0)]
        candidates = [(host(dx[i]) * item.x_unit, host(dy[i]) * item.y_unit) for dx, dy in moves]
        found = self._rays.run(min(seconds, left), candidates, stop=stop, left=left)
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
