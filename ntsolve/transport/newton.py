"""Sinkhorn-Newton-Sparse by annealing the kernel: entropic transport to high accuracy in a few passes over the cost.

With R = exp((g - C) / reg), rows scaled to one, everything but building R and verifying the answer happens on R. Going
from reg to reg / 4 is R <- R^4, entry by entry: two multiplications each, no exp and no look at the cost. Entries that
are small in their row and in their column are dropped on the way, so that R is sparse where reg is small.

    r = 4^K reg, the least that is not small for the range of the costs; R from an exp pass
    for k = K, ..., 0:
        v: the problem at r on R, to a loose tolerance, at k = 0 to the one asked for    (level.py)
        g += r log v
        k > 0: R <- (kept R v)^4, r <- r / 4; v from the secant through the last two g
    verify: an exp pass from the cost as it was passed in, rows exact, error in the columns (K = 0: R is that pass)
        if that is above the tolerance: R from an exp pass at g, and k = 0 again

Newton on a stored, truncated kernel is the method of Tang et al., ICLR 2024, and Tang, Qiu, NeurIPS 2024: level.py.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..kernels.contracts.gibbs import LANES
from .cells import kd_order
from .level import Level, Verdict, limited, relaxed
from .store import Store

COARSE = 0.005  # of the range of costs: where annealing starts
LEVEL_TOL = 3e-3  # of all levels but the last
DROP = 3e-5  # entries below it, in their row and column, are dropped from level to level
KEEP = 1e-18  # entries of a kernel that is built anew
SORTED = 1000  # columns from which they are worth sorting, so that blocks are sparse
MOST_AHEAD = 30.0  # of the secant, in log v
ROUNDS = 30
RESTARTS = 3


class Outcome(NamedTuple):
    """Potentials, the error of their marginals, and what it took."""

    f: Any
    g: Any
    error: float
    counts: dict[str, int]
    columns: Any  # column sums of the plan


def solve(k, cost, a, b, reg, tol, watch, g=None, mass=1.0, tau=(np.inf, np.inf), levels=0):
    """Potentials of the balanced problem of `cost`, for a and b positive of sum 1, and tol relative to that.

    Parameters
    ----------
    cost : Cost
    g : array (m,), optional
        Where to start.
    watch : Monitor
        It is shown errors times `mass`.
    levels : int
        Where to start from g: at 4^levels reg.
    """
    counts = {"passes": 0, "scalings": 0, "newton": 0, "cg": 0}
    method = _Annealing(k, cost, a, b, reg, tol, watch, mass, counts)
    watch.iterate = method.current
    best, level_tol = None, LEVEL_TOL
    try:
        for _ in range(1 + RESTARTS):
            outcome = method.run(level_tol, g, levels)
            if best is None or not outcome.error >= best.error:
                best = outcome
            if best.error <= tol or best.error <= method.rounding or not watch.going():
                break
            level_tol, g = max(min(level_tol / 10, best.error / 30), tol), None
        return best
    finally:
        method.store.release()


class _Annealing:
    def __init__(self, k, cost, a, b, reg, tol, watch, mass, counts):
        xp, (n, m) = k.xp, cost.shape
        self.k, self.cost, self.a, self.b, self.reg, self.tol = k, cost, a, b, reg, tol
        self.watch, self.counts = watch, counts
        self.levels = 0
        while reg * 4.0**self.levels < 0.999 * COARSE * cost.span:
            self.levels += 1
        self.order = None
        if self.levels and m >= SORTED:
            self.order = xp.asarray(kd_order(cost.features(), LANES, cost.ranks)[0], dtype="int32")
            b = b[self.order]
        self.store = Store(k, cost)
        self.level = Level(k, self.store, a, b, watch, mass, counts)
        self.log_sum, self.log_v = xp.empty(n), xp.zeros(cost.width)
        # relative, of a plan whose logarithms are differences of numbers of this size
        self.rounding = 4 * np.finfo(float).eps * (1 + cost.span / reg)

    def run(self, level_tol, g, levels=0):
        """Once through all levels, or from potentials g through the last ones only."""
        xp, level, store, m = self.k.xp, self.level, self.store, self.b.size
        levels = self.levels if g is None else min(levels, self.levels)
        r = self.reg * 4.0**levels
        self.g = xp.zeros(m) if g is None else xp.array(g if self.order is None else g[self.order])
        self._build(r, 0.0 if g is None else KEEP)
        secant = None
        for k in range(levels, 0, -1):
            self.watch.above = k
            verdict = self._level(r, level_tol)
            if verdict is Verdict.HALTED:
                return self._outcome()
            step, secant = (None if secant is None else self.g - secant), self.g.copy()
            store.anneal(level.at.v, self.a / level.at.s, DROP)
            r = self.reg * 4.0 ** (k - 1)
            level.set(r, 0.0 if step is None else limited(xp, (step - xp.median(step)) / (4 * r), MOST_AHEAD))
        self.watch.above = 0
        return self._last(whole=not levels and g is None)

    def _level(self, r, tol):
        """Solve at r, building the kernel anew where v leaves the part of it that was kept; g takes up v."""
        level = self.level
        for _ in range(ROUNDS):
            verdict = level.solve(tol)
            absorb(self.k, self.g, r, level.at.log_v)
            if verdict in (Verdict.MET, Verdict.HALTED):
                break
            self._build(r, KEEP)
        return verdict

    def _last(self, whole):
        """Solve at reg until a pass over the cost confirms it; a kernel from that cost that is `whole` needs none."""
        level, best, before = self.level, None, math.inf
        for turn in range(ROUNDS):
            verdict = level.solve(0.5 * self.tol)
            if whole and turn == 0 and verdict is Verdict.MET:
                return self._of_kernel()
            absorb(self.k, self.g, self.reg, level.at.log_v)
            outcome = self._outcome()
            if best is None or not outcome.error >= best.error:
                best = outcome
            if best.error <= self.tol or verdict is Verdict.HALTED or best.error <= self.rounding:
                break
            if turn % 3 == 0:
                if not best.error < 0.5 * before:
                    break
                before = best.error
            self._build(self.reg, KEEP)
        return best

    def _build(self, r, delta):
        """R from the cost at g, and v = 1."""
        m, level = self.b.size, self.level
        level.set(r, 0.0)
        self.log_v[:m] = self.g / r
        self.store.build(self.order, self.log_v, r, self.a, 1.0, level.b, delta, self.log_sum, level.at.y)
        self.counts["passes"] += 1
        level.at.y[m:] = 0
        level.at.s.fill(1)
        level.evaluated = delta == 0

    def potentials(self):
        """g in the order of the columns."""
        if self.order is None:
            return self.g.copy()
        g = self.k.xp.zeros_like(self.g)
        g[self.order] = self.g
        return g

    def current(self):
        """(f, g) as they are now, in the user's units."""
        level, g = self.level, self.potentials()
        step = level.r * level.at.log_v
        if self.order is None:
            g += step
        else:
            g[self.order] += step
        f = exact_rows(self.k, self.cost, self.a, self.b, level.r, g)[0]
        return f + level.r * math.log(level.mass), g

    def _of_kernel(self):
        """The outcome by the kernel itself: a_i / s_i R_ij v_j is the plan of the cost as it was passed in."""
        at, level = self.level.at, self.level
        f = self.reg * (self.k.xp.log(self.a / at.s) - self.log_sum)
        return Outcome(f, self.g + self.reg * at.log_v, level.error, self.counts, at.col[: self.b.size].copy())

    def _outcome(self):
        """f from g by an exp pass over the cost as it was passed in, which makes the rows exact; the columns' error."""
        g = self.potentials()
        f, error, columns = exact_rows(self.k, self.cost, self.a, self.b, self.reg, g)
        self.counts["passes"] += 1
        return Outcome(f, g, error, self.counts, columns)


def absorb(k, g, r, log_v):
    """Move r log v over to g, unless that is no number any more."""
    if bool(k.xp.isfinite(log_v).all()):
        g += r * (log_v - k.xp.median(log_v))
    log_v.fill(0)


def exact_rows(k, cost, a, b, reg, g, tau=(np.inf, np.inf)):
    """(f, error, columns): the row potentials that are best for g, by a pass over the cost, and |columns - target|_1.

    P 1 = a then, or a exp(-f / tau) where a may be missed; the target is b, or b exp(-g / tau). `columns` is P'1.
    """
    xp, m = k.xp, b.size
    log_v, log_sum, col = xp.zeros(cost.width), xp.empty(a.size), xp.empty(cost.width)
    log_v[:m] = g / reg
    power_a = 1.0 if tau[0] == np.inf else tau[0] / (tau[0] + reg)
    cost.sums(log_v, 1 / reg, a if power_a == 1 else a**power_a, power_a, log_sum, col)
    error = float(abs(col[:m] - relaxed(xp, b, g, tau[1])).sum())
    return reg * power_a * (xp.log(a) - log_sum), error, col[:m]
