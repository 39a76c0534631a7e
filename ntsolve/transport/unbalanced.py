"""Plans that may miss their marginals: Newton on the same kernel, through decreasing regularisation.

    min <P, C> + reg sum P (log P - 1) + tau_a KL(P 1 | a) + tau_b KL(P'1 | b),   KL(p | q) = sum p log(p / q) - p + q

(Chizat, Peyre, Schmitzer, Vialard, "Scaling algorithms for unbalanced optimal transport problems", Math. Comp. 87,
2018). At the solution P_ij = exp((f_i + g_j - C_ij) / reg), P 1 = a exp(-f / tau_a) and P'1 = b exp(-g / tau_b); an
infinite tau is a marginal that is met. f is eliminated, in closed form, and the penalty makes what is left strictly
convex in g.

Where marginals are all but free, Sinkhorn's iteration in the logarithmic domain is at its end in a few steps: its error
falls by the product of both tau / (tau + reg).

Unlike in newton.py the scale of a row matters, which the powers of a kernel lose: R is built at each level by a pass
over the cost.
"""

import math

import numpy as np

from ..kernels.contracts.scaling import UNDERFLOW
from . import newton, shared
from .level import Level, Verdict, limited, relaxed
from .store import Store

CHEAP = 0.01  # product of the powers below which Sinkhorn's iteration is all it takes


def solve(k, cost, a, b, reg, tol, watch, tau, g=None, levels=0):
    """Potentials for positive a and b in the user's units, tol the L1 error of both marginal equations."""
    if math.prod(1.0 if price == np.inf else price / (price + reg) for price in tau) < CHEAP:
        return _scaled(k, cost, a, b, reg, tol, watch, tau, g)
    method = _Relaxed(k, cost, a, b, reg, tol, watch, tau)
    watch.iterate = method.current
    try:
        return method.run(g, levels)
    finally:
        method.store.release()


def _scaled(k, cost, a, b, reg, tol, watch, tau, g):
    """Sinkhorn's iteration, two passes over the cost a step."""
    xp, power = k.xp, 1.0 if tau[1] == np.inf else tau[1] / (tau[1] + reg)
    counts = {"passes": 0, "scalings": 0, "newton": 0, "cg": 0}
    g = xp.zeros(b.size) if g is None else xp.array(g)
    best, before = None, math.inf
    watch.iterate = lambda: (newton.exact_rows(k, cost, a, b, reg, g, tau)[0], g)
    while True:
        f, error, columns = newton.exact_rows(k, cost, a, b, reg, g, tau)
        counts["passes"] += 1
        if best is None:
            best = newton.Outcome(f, g, error, counts, columns)
        else:
            watch.did([[error]], 1)
            if not error >= best.error:
                best = newton.Outcome(f, g, error, counts, columns)
        if error <= 0.1 * tol or error > 0.5 * before or not watch.going():
            return best
        before = error
        g = reg * power * (xp.log(b) - cost.column_log_sums(f / reg, 1 / reg))
        counts["passes"] += 1
        counts["scalings"] += 1


class _Relaxed:
    """Inside, masses are relative to `unit`: P = unit P', and log R of a row carries - log unit."""

    def __init__(self, k, cost, a, b, reg, tol, watch, tau):
        self.k, self.cost, self.a, self.b, self.reg, self.tol, self.tau = k, cost, a, b, reg, tol, tau
        self.watch = watch
        self.counts = {"passes": 0, "scalings": 0, "newton": 0, "cg": 0}
        self.unit = shared.total(cost.ranks, float(a.sum()))
        self.store = Store(k, cost)
        self.level = Level(k, self.store, a / self.unit, b / self.unit, watch, self.unit, self.counts, tau)
        self.log_sum, self.log_v = k.xp.empty(a.size), k.xp.zeros(cost.width)
        self.rounding = 4 * np.finfo(float).eps * (1 + cost.span / reg) * self.unit

    def run(self, g, levels):
        """Through the levels, then at reg until a pass over the cost confirms it; from g, through so many of them."""
        xp = self.k.xp
        if g is None:
            # a price below r makes Sinkhorn quick by itself
            enough = min(0.999 * newton.COARSE * self.cost.span, 0.5 * min(self.tau))
            while self.reg * 4.0**levels < enough:
                levels += 1
        self.g = xp.zeros(self.b.size) if g is None else xp.array(g)
        before = None
        for k in range(levels, 0, -1):
            r, self.watch.above = self.reg * 4.0**k, k
            if self._solve(r, newton.LEVEL_TOL) is Verdict.HALTED:
                return self._outcome()
            found = self.g.copy()
            if before is not None:
                self.g += limited(xp, (found - before) / 4, newton.MOST_AHEAD * r / 4)
            before = found
        best, last, self.watch.above = None, math.inf, 0
        for turn in range(newton.ROUNDS):
            verdict = self._solve(self.reg, 0.5 * self.tol / self.unit)
            outcome = self._outcome()
            if best is None or not outcome.error >= best.error:
                best = outcome
            if best.error <= max(self.tol, self.rounding) or verdict is Verdict.HALTED:
                break
            if turn % 3 == 0:
                if not best.error < 0.5 * last:
                    break
                last = best.error
        return best

    def _solve(self, r, tol):
        """Solve at r, building the kernel anew where v goes too far from it; g takes up v."""
        for _ in range(newton.ROUNDS):
            self._build(r)
            verdict = self.level.solve(tol)
            log_v = self.level.at.log_v
            if bool(self.k.xp.isfinite(log_v).all()):
                self.g += r * log_v
            log_v.fill(0)
            if verdict in (Verdict.MET, Verdict.HALTED):
                break
            if verdict is Verdict.STUCK and self.level.error < 1e-3:
                break
        return verdict

    def _build(self, r):
        """R at g, v = 1, and the marginals as they are scaled there.

        Columns that no row can reach at this price get their g from a Sinkhorn step in the logarithmic domain; if even
        the logarithm says that nothing goes there, that is so.
        """
        level, m = self.level, self.g.size
        self._pass(r)
        lost = level.at.y[:m] < UNDERFLOW
        if self.tau[1] < np.inf and bool(lost.any()):
            f = r * level.powers[0] * (self.k.xp.log(self.a) - self.log_sum)
            sums = self.cost.column_log_sums(f / r, 1 / r)
            self.g = self.k.xp.where(lost, r * level.powers[1] * (self.k.xp.log(self.b) - sums), self.g)
            self._pass(r)
            empty = level.at.y[:m] < UNDERFLOW
            level.aim(self.k.xp.where(empty, 0.0, level.b[:m]), empty)

    def _pass(self, r):
        xp, level, m = self.k.xp, self.level, self.g.size
        level.set(r, 0.0)
        power, (tau_a, tau_b) = level.powers[0], self.tau
        a, b = self.a / self.unit, self.b / self.unit
        level.aim(relaxed(xp, b, self.g, tau_b))
        self.log_v[:m] = self.g / r
        seen = a**power * self.unit ** (power - 1)
        self.store.build(None, self.log_v, r, seen, power, level.b, 0.0, self.log_sum, level.at.y)
        self.counts["passes"] += 1
        level.at.y[m:] = 0
        level.at.s.fill(1)
        level.evaluated = True
        level.a = relaxed(xp, a, r * (math.log(self.unit) - self.log_sum), tau_a)

    def current(self):
        """(f, g) as they are now."""
        level = self.level
        g = self.g + level.r * level.at.log_v
        return newton.exact_rows(self.k, self.cost, self.a, self.b, level.r, g, self.tau)[0], g

    def _outcome(self):
        f, error, columns = newton.exact_rows(self.k, self.cost, self.a, self.b, self.reg, self.g, self.tau)
        self.counts["passes"] += 1
        return newton.Outcome(f, self.g.copy(), error, self.counts, columns)
