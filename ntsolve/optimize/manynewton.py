"""The outer iteration of batch.py: the method of newton.py, for all problems of a batch at once.

Arrays of vectors and matrices are on the backend; what is one number a problem is in (batch,) arrays on the host, where
the decisions are made. Each problem is in one of two modes, whose step comes from one factorisation of the same kernel,

    [[H + tau I, J'], [J, -delta I]] (dx, dlam) = -(g + J'lam, c)       a Newton step,                    (1)
    [[mu I, J'], [J, -I]] (s, y) = -(0, c)                              a step of restoration,            (2)

of which (2) is that of Levenberg and Marquardt, (J'J + mu I) s = -J'c, with mu = nu |c|; where that is slow, the
Hessian of c'c / 2 is made whole by adding that of the constraints to mu I.
"""

from typing import Any

import numpy as np

from ..result import Status
from .kkt import DUAL_SHIFT, FIRST_GROWTH, FIRST_SHIFT, GROWTH, LARGEST_SHIFT
from .manykkt import TINY, product, transposed_product
from .manysearch import Search
from .outer import (
    LARGEST_DAMPING,
    LARGEST_START,
    RESTORATIONS,
    SHORT,
    SHORT_IN_A_ROW,
    UNBOUNDED_BELOW,
)
from .result import TRACE

FEW_LEFT = 0.8  # of the problems still open, for which it is worth taking the others out
LONGEST_RESTORATION = 100
NEAR = 1e6  # times the tolerance, from where other multipliers may show a solution
SLOW_AFTER = 8  # steps of restoration that have to lower |c| by a tenth

_RESULTS = ("x", "lam", "status", "nit", "residual")
_NUMBERS = ("status", "nit", "f", "f_scale", "theta", "small", "largest", "restoring", "convex", "last_shift",
            "damping", "best", "stalled", "short", "restorations", "long", "nu", "goal", "stationarity", "violation",
            "residual")  # fmt: skip
_ARRAYS = ("x", "lam", "c", "g", "J", "gL", "c_scale")


class ManyNewton(Search):
    """One solve of a batch; afterwards `x`, `status` and what else a result needs.

    Parameters
    ----------
    k : kernels
    functions : Functions
    x : array (batch, n)
    lam : array (batch, m) or None
    tol : float
    """

    def __init__(self, k, functions, x, lam, *, tol):
        batch = functions.batch
        super().__init__(k, batch, functions.n, functions.m)
        self.functions, self.tol = functions, tol
        self.x = x
        f, self.c = functions.values(x)
        self.f = k.to_host(f).copy()
        self.g, self.J = functions.derivatives(x)
        self.f_scale, self.c_scale = k.to_host(functions.f_scale), functions.c_scale
        self.status, self.nit = np.zeros(batch, dtype="int64"), np.zeros(batch, dtype="int64")
        self.lam = self._capped(self._least_squares(np.ones(batch, bool))) if lam is None else lam
        self.theta = self._sizes(self.c)
        self.filter_theta, self.filter_f = [1e4 * np.maximum(1, self.theta)], [np.full(batch, -np.inf)]
        self.small, self.largest = 1e-4 * np.maximum(1, self.theta), self.filter_theta[0]
        self.restoring, self.convex = np.zeros(batch, bool), np.zeros(batch, bool)
        self.last_shift, self.damping, self.best = np.zeros(batch), np.zeros(batch), np.full(batch, np.inf)
        self.stalled, self.short, self.restorations, self.long = (np.zeros(batch, int) for _ in range(4))
        self.nu, self.goal = np.full(batch, 1e-8), np.zeros(batch)
        self.lately = np.full((SLOW_AFTER, batch), np.inf)  # |c| in restoration
        self._notes: list = []
        self.residual: Any = None
        self.rows = np.arange(batch)  # of the batch that are still here
        self._look()
        self._all = {name: getattr(self, name) for name in _RESULTS}

    def whole(self, name):
        """One of "x", "lam", "status", "nit", "residual", for the whole batch."""
        if self.rows.size == self.functions.batch:
            return getattr(self, name)
        self._all[name][self.rows] = getattr(self, name)
        return self._all[name]

    def _keep(self, chosen):
        """Leave the others where they are, for good: functions are called for those that are kept."""
        if self.rows.size == self.functions.batch:
            self._all = {name: getattr(self, name).copy() for name in _RESULTS}
        for name in _RESULTS:
            self.whole(name)
        self.rows = self.rows[chosen]
        for name in (*_NUMBERS, *_ARRAYS):
            setattr(self, name, getattr(self, name)[chosen])
        self.lately = self.lately[:, chosen]
        self.filter_theta = [theta[chosen] for theta in self.filter_theta]
        self.filter_f = [f[chosen] for f in self.filter_f]
        count = self.rows.size
        self.factor, self.order, self.inertia = self.factor[:count], self.order[:count], self.inertia[:count]

    def multipliers(self):
        """In the user's units."""
        return self.functions.multipliers_out(self.whole("lam"))

    def trace(self):
        """What became of each iteration, (iterations, *shape)."""
        return np.array(self._notes, dtype=TRACE).reshape(len(self._notes), *self.functions.shape)

    def run(self, watch):
        """Iterate until each problem is solved or hopeless, or as long as the Monitor lets it."""
        with np.errstate(all="ignore"):
            while True:
                self._judge()
                active = self.status == 0
                if not active.any() or not watch.going():
                    break
                if self.functions.divisible and active.sum() <= FEW_LEFT * active.size:
                    self._keep(active)
                    active = self.status == 0
                before = self.residual.copy()
                self._step(active)
                self._look()
                self.nit += active
                worse = self.residual > 0.9 * self.best
                self.stalled = np.where(active & worse, self.stalled + 1, 0)
                self.best = np.minimum(self.best, self.residual)
                self.residual = np.where(active, self.residual, before)
                watch.did(self.whole("residual")[None].copy(), 1)
        self.status[self.status == 0] = watch.status or Status.STALLED

    def _look(self):
        """The unscaled residual, and what it is made of."""
        self.gL = self.g + transposed_product(self.J, self.lam)
        self.stationarity = self._largest(self.gL) / self.f_scale
        self.violation = self._largest(self.c / self.c_scale)
        self.residual = np.maximum(self.stationarity, self.violation)

    def _capped(self, lam):
        return self._mask(self._largest(lam) <= LARGEST_START, lam, self.xp.zeros_like(lam))

    # ---- whether to go on -----------------------------------------------------------------------------------------

    def _judge(self):
        undecided = self.status == 0
        self.status[undecided & ~(np.isfinite(self.residual) & np.isfinite(self.f))] = Status.NAN_OR_INF
        unscaled = self.f / self.f_scale
        below = (unscaled < UNBOUNDED_BELOW) & (self.violation <= 1e-6 * np.maximum(1, -unscaled))
        self.status[(self.status == 0) & below] = Status.UNBOUNDED
        self._replace_multipliers()
        met = (self.status == 0) & (self.residual <= self.tol)
        doubtful = met & ~self.convex
        self.status[met & self.convex] = Status.CONVERGED
        if doubtful.any():
            batch = self.x.shape[0]
            H = self.functions.hessian(self.x, self.lam, rows=self.rows)
            shift = 1e-8 * np.maximum(1e-8, self._host(abs(H).max(axis=2).max(axis=1)))
            inertia = self._factor(H, shift, np.full(batch, DUAL_SHIFT), doubtful)
            minimum = (inertia[:, 0] == self.n) & (inertia[:, 1] == self.m)
            self.status[doubtful] = np.where(minimum, Status.CONVERGED, Status.NOT_A_MINIMUM)[doubtful]

    def _replace_multipliers(self):
        """By those of least squares, where these show a solution, or are far better where nothing else helps."""
        open_ = (self.status == 0) & (self.residual > self.tol)
        wanted = open_ & ((self.residual <= NEAR * self.tol) & (self.violation <= self.tol) | (self.stalled >= 3))
        if not (self.m and wanted.any()):
            return
        lam = self._least_squares(wanted)
        there = self._largest(self.g + transposed_product(self.J, lam)) / self.f_scale
        solved = (there <= self.tol) & (self.violation <= self.tol)
        better = wanted & (solved | ((self.stalled >= 3) & (there < 0.1 * self.stationarity)))
        if better.any():
            self.lam = self._mask(better, lam, self.lam)
            self.stalled[better] = 0
            self._look()

    # ---- an iteration ---------------------------------------------------------------------------------------------

    def _step(self, active):
        newton = active & ~self.restoring
        c_size = np.sqrt(self._dot(self.c, self.c))
        slow = active & ~newton & (c_size > 0.9 * self.lately[0])
        self.lately = np.concatenate([self.lately[1:], np.where(newton, np.inf, c_size)[None]])
        weights = self._mask(newton, self.lam, self.c)
        H = self.functions.hessian(self.x, weights, self.xp.asarray(newton.astype(float)), rows=self.rows)
        H = self.xp.ascontiguousarray(self._mask(newton | slow, H, self.xp.zeros_like(H)))
        shift, dual, lost = self._regularised(H, newton, slow, active, self.nu * c_size)
        top = self._mask(newton, -self.gL, self.xp.zeros_like(self.g))
        dx, dlam, left = self._refined(H, shift, dual, top, -self.c)
        lost |= newton & ~np.isfinite(self._dot(dx, dx) + self._dot(dlam, dlam))
        self._aim(H, dx, dlam)
        a, by = self._search(active & ~lost, newton, H, dx, dlam)
        self._note(a, by, left, shift, dual)
        moved = by != ""
        self.convex = np.where(newton, moved & (shift == 0) & (dual == 0) & (a == 1), self.convex & ~active)
        self.last_shift = np.where(newton & (shift > self.damping), shift, self.last_shift)
        eased = np.where(self.damping > 1e-10, self.damping / 10, 0.0)
        self.damping = np.where(newton & moved & (a == 1), eased, self.damping)
        self.short = np.where(newton & moved & (a < SHORT), self.short + 1, 0)
        self._renew_multipliers(lost, newton & moved & (dual > 0))
        self._change_modes(newton, moved, lost, dx, shift)

    def _regularised(self, H, newton, slow, active, mu):
        """(tau, delta) that give K the signs of a minimum, or (mu, 1) in restoration; for which there are none."""
        shift = np.where(newton, self.damping, np.maximum(mu, 1e-300))
        dual = np.where(newton, 0.0, 1.0)
        pending, lost = active.copy(), np.zeros(active.size, bool)
        while pending.any():
            inertia = self._factor(H, shift, dual, pending)
            right = (inertia[:, 0] == self.n) & (inertia[:, 1] == self.m)
            pending &= (newton | slow) & ~right
            lift = pending & (inertia[:, 2] > 0) & (dual == 0) & (self.m > 0)
            dual[lift] = DUAL_SHIFT
            again = self.last_shift > 0
            growth, least = np.where(again, GROWTH, FIRST_GROWTH), np.where(again, self.last_shift / 3, FIRST_SHIFT)
            larger = np.maximum(growth * shift, least)
            shift = np.where(pending & ~lift, larger, shift)
            hopeless = pending & (shift > LARGEST_SHIFT)
            lost |= hopeless
            pending &= ~hopeless
        return shift, dual, lost

    # ---- restoration ----------------------------------------------------------------------------------------------

    def _restored(self, chosen, H, s, by):
        """Take the steps (2) that lower |c| by a part of what the model says, and adapt nu."""
        places = np.flatnonzero(chosen)
        at = self.xp.asarray(places)
        x, f, theta, c = self.x[at] + s[at], np.full(chosen.size, np.nan), np.full(chosen.size, np.nan), self.c.copy()
        f[places], c[at], theta[places] = self._values(x, places)
        Js = product(self.J, s)
        expected = -(self._dot(self.c, Js) + 0.5 * self._dot(Js, Js) + 0.5 * self._dot(product(H, s), s))
        got = 0.5 * (self._dot(self.c, self.c) - self._dot(c, c))
        ratio = got / np.maximum(expected, TINY)
        good = chosen & np.isfinite(f) & np.isfinite(theta) & (ratio > 1e-4) & (got > 0)
        nu = np.where(ratio > 0.75, np.maximum(self.nu / 6, 1e-12), np.where(ratio < 0.25, 3 * self.nu, self.nu))
        self.nu = np.where(good, nu, np.where(chosen, np.maximum(6 * self.nu, 1e-8), self.nu))
        by[good] = "restoration"
        which = np.flatnonzero(good[places])
        self._take(which, places, x, self.lam[at], f[places], c[at])
        small = self._largest(s) <= 1e-15 * np.maximum(1, self._largest(self.x))
        slope, size = self._largest(transposed_product(self.J, self.c)), np.sqrt(self._dot(self.c, self.c))
        stuck = chosen & ~good & (small | (self.nu > 1e30))
        self.long[chosen] += 1
        stationary = (self._largest(self.c) > 1e-6) & (slope <= np.where(stuck, 1e-6, 1e-8) * size)
        self.status[chosen & stationary] = Status.INFEASIBLE_STATIONARY
        self.status[(stuck | (chosen & (self.long > LONGEST_RESTORATION))) & ~stationary] = Status.NO_DESCENT

    def _renew_multipliers(self, lost, singular):
        """Where a singular system has thrown them far out."""
        size = np.sqrt(self._dot(self.lam, self.lam))
        wanted = (self.status == 0) & (lost | (singular & (self._largest(self.lam) > LARGEST_START)))
        self.renewed = np.zeros(lost.size, bool)
        if wanted.any():
            lam = self._capped(self._least_squares(wanted))
            self.renewed = lost & (np.sqrt(self._dot(lam, lam)) < 0.1 * size)
            self.lam = self._mask(wanted & (singular | self.renewed), lam, self.lam)

    def _change_modes(self, newton, moved, lost, dx, shift):
        """Into restoration and out of it; more damping where nothing was accepted and nothing is to restore."""
        open_ = self.status == 0
        done = open_ & self.restoring & (self.theta <= self.goal) & ~self._blocked(self.theta, self.f)
        done |= open_ & self.restoring & (self._largest(self.c) <= 1e-12)
        if done.any():
            self.lam = self._mask(done, self._capped(self._least_squares(done)), self.lam)
            self.restoring &= ~done
            self.last_shift[done] = self.damping[done] = 0.0
        violation = self._largest(self.c / self.c_scale)
        refused = open_ & newton & ~moved & ~self.renewed
        restorable = (violation > self.tol) & (self.restorations < RESTORATIONS)
        begin = open_ & newton & restorable & (refused | (self.short >= SHORT_IN_A_ROW))
        if begin.any():
            self._block(begin)
            self.goal = np.where(begin, np.where(refused, 0.9, 0.1) * self.theta, self.goal)
            self.restoring |= begin
            self.restorations[begin] += 1
            self.nu[begin], self.long[begin], self.short[begin], self.lately[:, begin] = 1e-8, 0, 0, np.inf
        still = refused & ~begin
        self.status[still & lost] = Status.NO_DESCENT
        standing = np.sqrt(self._dot(dx, dx)) <= 1e-13 * np.maximum(1, np.sqrt(self._dot(self.x, self.x)))
        self.status[still & standing & (self.stalled > 3)] = Status.STALLED
        self.damping = np.where(still, np.maximum(1e-4, 10 * np.maximum(self.damping, shift)), self.damping)
        self.status[still & (self.damping > LARGEST_DAMPING)] = Status.NO_DESCENT

    def _note(self, a, by, left, shift, dual):
        rows = np.zeros(self.functions.batch, dtype=TRACE)
        margin = -self.slope / (0.5 * self.eta2 * np.maximum(self.size2, TINY))
        columns = left, margin, self.eta1, self.eta2, shift, dual, a, by
        for name, values in zip(TRACE.names or (), columns, strict=True):
            rows[name][self.rows] = values
        self._notes.append(rows)
