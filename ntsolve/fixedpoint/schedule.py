"""When a restarted Halpern iteration starts anew, and when it gives way to the plain iteration for a while.

Cycles of Halpern's iteration end as those of restarted methods for linear programs do (Applegate et al., "Faster
first-order primal-dual methods for linear programming using restarts and sharpness", Math. Program. 201 (2023)): when
the residual has fallen enough, when it has fallen somewhat and rises, or when the cycle is long. On maps that contract,
the plain iteration may be quicker, and nobody can know beforehand. So both are measured, by the fall of log residual an
evaluation, and the quicker one goes on; looks at the other one become rarer each time that they are lost.
"""

import enum
import math

ENOUGH, SOME, LONG = 0.2, 0.5, 0.36  # of the residual at the anchor, and of all evaluations so far
FIRST, SHORTEST = 32, 8  # evaluations in the first stretch of the plain iteration, and in any
QUICK = 0.35  # a fall an evaluation with which there is nothing to look for
HOPELESS = 0.01  # and one that is not worth staying for, even in the first stretch
LENIENT = 1.3  # a look at Halpern's iteration may take so much longer than the plain one for the same fall


class Step(enum.Enum):
    """How to go on from x and T(x)."""

    PLAIN = enum.auto()
    """x <- T(x)"""
    ANCHOR = enum.auto()
    """x <- T(x), which becomes the anchor."""
    HALPERN = enum.auto()


class Always:
    """No restarts: Halpern's iteration from x0 on."""

    restarts, kept = 0, ()

    def next(self, residual):
        """The step after an evaluation that found this residual."""
        return Step.HALPERN


class Adaptive:
    """Restarts, in competition with the plain iteration.

    Attributes
    ----------
    restarts : int
        Cycles of Halpern's iteration that were begun.
    """

    def __init__(self):
        self.restarts = self._count = self._steps = 0
        self._plain, self._window = True, FIRST
        self._begin, self._at = math.nan, 0  # of the stretch or cycle: residual and evaluation
        self._rates: dict = {}  # the last fall an evaluation of the plain iteration and of Halpern's: {plain: rate}
        self._look, self._lost = 0, 1  # evaluation from which on to look at Halpern's iteration; how often it lost
        self._cycles, self._wait = 0, 0  # since a look at the plain iteration, and from how many on there is one
        self._before = math.inf

    def pack(self):
        return {**vars(self), "_rates": [(int(plain), rate) for plain, rate in self._rates.items()]}

    def unpack(self, saved):
        saved.into(self, *(name for name in vars(self) if name != "_rates"))
        self._rates = {bool(plain): float(rate) for plain, rate in saved.rows("_rates", 2)}

    def next(self, residual):
        """The step after an evaluation that found this residual, in the norm in which T is nonexpansive."""
        self._count += 1
        if math.isnan(self._begin):
            self._begin, self._at = residual, self._count
        return self._after_plain(residual) if self._plain else self._after_halpern(residual)

    def _after_plain(self, residual):
        long = self._count - self._at
        early = self._count == SHORTEST + 1 and self._fall(residual, long) < HOPELESS
        if long >= self._window or early:
            rate = self._rates[True] = self._fall(residual, long)
            slower = False not in self._rates or rate < self._rates[False]
            # having lost, Halpern's iteration waits; even where it seems slower still, it is looked at again in the end
            if rate < QUICK and self._count >= self._look * (1 if slower else 2):
                return self._anchor()
            self._begin, self._at = residual, self._count
        return Step.PLAIN

    def _after_halpern(self, residual):
        long, plain = self._count - self._at, self._rates[True]
        fallen = residual <= ENOUGH * self._begin
        risen = self._before < residual <= SOME * self._begin
        lost = plain > 0 and long > SHORTEST / 2 + LENIENT * math.log(1 / ENOUGH) / plain
        if self._steps and (fallen or risen or lost or self._steps >= LONG * self._count + SHORTEST / 2):
            rate = self._rates[False] = max(0.0, self._fall(residual, long))
            if rate < plain:
                self._lost *= 2
                self._look = self._count + 4 * self._lost * long
                return self._begin_plain(long // 4)
            self._lost, self._cycles = 1, self._cycles + 1
            if self._cycles >= self._wait:
                self._wait, self._cycles, self._look = max(1, 2 * self._wait), 0, 0
                return self._begin_plain(long // 8)
            return self._anchor()
        self._before = residual
        self._steps += 1
        return Step.HALPERN

    def _fall(self, residual, long):
        return math.log(max(self._begin, 1e-300) / max(residual, 1e-300)) / long

    def _anchor(self):
        self._plain, self._begin, self._steps, self._before = False, math.nan, 0, math.inf
        self.restarts += 1
        return Step.ANCHOR

    def _begin_plain(self, window):
        self._plain, self._begin, self._window = True, math.nan, max(SHORTEST, window)
        return Step.PLAIN
