"""Which step along its direction each problem of a batch takes: the rules of globalization.py, for many at once."""

from typing import Any

import numpy as np

from ..result import Status
from .globalization import ARMIJO, ETA1_CAP, ROUNDING, Merit
from .manykkt import Systems, product, transposed_product
from .outer import CORRECTIONS, HALVINGS

LADDER = np.split(0.5 ** np.arange(HALVINGS), [1, 3, 7])  # steps that are tried together, if functions can be divided
ONE_BY_ONE = np.split(0.5 ** np.arange(HALVINGS), HALVINGS)
LEAST_FOR_MERIT = 0.25  # step for which the derivatives that the merit function takes are worth evaluating


class Search(Systems):
    """The filters, and the search. What it reads and writes is set up by `ManyNewton`."""

    f: Any
    c: Any
    lam: Any
    gL: Any
    theta: Any
    small: Any
    largest: Any
    status: Any
    rows: Any
    functions: Any
    filter_theta: list
    filter_f: list

    def _restored(self, chosen, H, s, by):
        raise NotImplementedError

    def _aim(self, H, dx, dlam):
        """Penalties of the merit function for which the direction is one of descent, as in `Merit.aim`."""
        self.size2 = self._dot(self.gL, self.gL) + self._dot(self.c, self.c)
        plain = self._dot(self.gL, dx) + self._dot(self.c, dlam)
        violation = self._dot(self.c, product(self.J, dx))
        stationarity = self._dot(product(H, self.gL), dx) + self._dot(product(self.J, self.gL), dlam)
        eta1, eta2 = (np.full(plain.shape, value) for value in Merit.BEGIN)
        while True:
            slope = plain + eta1 * violation + eta2 * stationarity
            more = ~(slope <= -0.5 * eta2 * self.size2) & (eta1 < ETA1_CAP)
            if not more.any():
                break
            eta1, eta2 = np.where(more, 4 * eta1, eta1), np.where(more, eta2 / 2, eta2)
        self.eta1, self.eta2, self.slope = eta1, eta2, slope
        self.descent = self._dot(self.g, dx)
        self.merit = self._merit(self.f, self.c, self.g, self.J, self.lam)

    def _merit(self, f, c, g, J, lam, places=slice(None)):
        gL = g + transposed_product(J, lam)
        plain = f + self._dot(c, lam)
        return plain + 0.5 * self.eta1[places] * self._dot(c, c) + 0.5 * self.eta2[places] * self._dot(gL, gL)

    def _search(self, active, newton, H, dx, dlam):
        """(a, what accepted it); moves those that something accepted."""
        a, by = np.zeros(active.size), np.full(active.size, "", dtype="U12")
        self._new = self.x.copy(), self.lam.copy(), self.f.copy(), self.c.copy()
        if not newton[active].all():
            self._restored(active & ~newton, H, dx, by)
        left = np.flatnonzero(active & newton)
        for steps in LADDER if self.functions.divisible else ONE_BY_ONE:
            if not left.size:
                break
            places, a_try = np.repeat(left, steps.size), np.tile(steps, left.size)
            at, step = self.xp.asarray(places), self.xp.asarray(a_try)[:, None]
            x, lam = self.x[at] + step * dx[at], self.lam[at] + step * dlam[at]
            good, c, theta = self._try(places, a_try, x, lam, a, by)
            if steps[0] == 1.0 and not good.all():
                refused = np.flatnonzero(~good)
                self._correct(left[refused], c[self.xp.asarray(refused)], theta[refused], a, by)
            left = left[by[left] == ""]
        self._block(newton & (by != "") & (by != "objective"))
        self.x, self.lam, self.f, self.c = self._new
        self.theta = self._sizes(self.c)
        moved = np.flatnonzero(by != "")
        if moved.size:
            at = self.xp.asarray(moved)
            g, J = self._derivatives(self.x[at], moved)
            self.g, self.J = self.g.copy(), self.J.copy()
            self.g[at], self.J[at] = g, J
            broken = ~np.isfinite(self._host(g.sum(axis=1) + J.sum(axis=2).sum(axis=1)))
            self.status[moved[broken]] = Status.NAN_OR_INF
        return a, by

    def _values(self, x, places):
        """(f, c, |c|_1) at x, of the problems at these places."""
        if self.functions.divisible:
            f, c = self.functions.values(x, rows=self.rows[places])
        else:
            everywhere, at = self.x.copy(), self.xp.asarray(places)
            everywhere[at] = x
            f, c = self.functions.values(everywhere)
            f, c = f[at], c[at]
        return self._host(f), c, self._sizes(c)

    def _derivatives(self, x, places):
        """(g, J) likewise"""
        if self.functions.divisible:
            return self.functions.derivatives(x, rows=self.rows[places])
        everywhere, at = self.x.copy(), self.xp.asarray(places)
        everywhere[at] = x
        g, J = self.functions.derivatives(everywhere)
        return g[at], J[at]

    def _blocked(self, theta, f, places=slice(None)):
        worse = theta >= np.array(self.filter_theta)[:, places]
        return (worse & (f >= np.array(self.filter_f)[:, places])).any(axis=0)

    def _block(self, chosen):
        if chosen.any():
            self.filter_theta.append(np.where(chosen, (1 - 1e-5) * self.theta, np.inf))
            self.filter_f.append(np.where(chosen, self.f - 1e-8 * self.theta, np.inf))

    def _try(self, places, step, x, lam, a, by):
        """(good, c, |c|_1); takes what the filter, else the merit function accepts: see `globalization`.

        Of several steps of one problem, which stand together, the first that is accepted.
        """
        f, c, theta = self._values(x, places)
        f0, theta0, descent = self.f[places], self.theta[places], np.maximum(0, -self.descent[places])
        fine = np.isfinite(f) & np.isfinite(theta) & (theta <= self.largest[places])
        free = fine & ~self._blocked(theta, f, places)
        switch = (theta0 <= self.small[places]) & (descent > 0) & (step * descent**2.3 > theta0**1.1)
        enough = f <= f0 - 1e-8 * step * descent + ROUNDING * np.maximum(1, abs(f0))
        better = (theta <= (1 - 1e-5) * theta0) | (f <= f0 - 1e-8 * theta0)
        why = np.where(free & switch & enough, "objective", np.where(free & ~switch & better, "filter", ""))
        left = np.flatnonzero(fine & (why == "") & (self.slope[places] < 0) & (step >= LEAST_FOR_MERIT))
        if left.size:
            at, of = self.xp.asarray(left), places[left]
            g, J = self._derivatives(x[at], of)
            merit = self._merit(f[left], c[at], g, J, lam[at], of)
            start = self.merit[of]
            aim = start + ARMIJO * step[left] * self.slope[of] + ROUNDING * np.maximum(1, abs(start))
            why[left[merit <= aim]] = "merit"
        good = why != ""
        which = np.flatnonzero(good)
        if which.size:
            which = which[np.unique(places[which], return_index=True)[1]]
            self._take(which, places, x, lam, f, c)
            by[places[which]], a[places[which]] = why[which], step[which]
        return good, c, theta

    def _take(self, which, places, x, lam, f, c):
        at, to = self.xp.asarray(which), self.xp.asarray(places[which])
        new = self._new
        new[0][to], new[1][to], new[2][places[which]], new[3][to] = x[at], lam[at], f[which], c[at]

    def _correct(self, places, c, theta, a, by):
        """Second-order corrections of full steps that raised the violation."""
        at = self.xp.asarray(places)
        total = self.c[at]
        going = theta >= self.theta[places]
        for _ in range(CORRECTIONS):
            kept = self.xp.asarray(np.flatnonzero(going))
            places, theta = places[going], theta[going]
            if not places.size:
                return
            total, at = (total + c)[kept], self.xp.asarray(places)
            dx, dlam = self._solve(-self.gL[at], -total, at)
            good, c, theta_new = self._try(places, np.ones(places.size), self.x[at] + dx, self.lam[at] + dlam, a, by)
            going, theta = ~good & (theta_new <= 0.99 * theta), theta_new
