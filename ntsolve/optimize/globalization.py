"""When a step is accepted: the exact augmented Lagrangian, and the filter.

The merit function is the exact augmented Lagrangian of Pillo and Grippo, SIAM J. Control Optim. 17 (1979), as in Hong,
Na, Mahoney and Kolar, "Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching",
ICML 2023 (arXiv 2305.18379), eq. (3); with gL = g + J' lam and H the Hessian of the Lagrangian,

    M(x, lam) = f + lam'c + eta1/2 |c|^2 + eta2/2 |gL|^2                                                  (1)
    grad M    = (gL + eta2 H gL + eta1 J'c,  c + eta2 J gL).                                              (2)

A Newton direction d is one of descent for M, by half of what it is worth,

    grad M' d <= -(eta2 / 2) |(gL, c)|^2,                                                                 (3)

once eta1 is large and eta2 small enough.

The filter of Fletcher and Leyffer, Math. Program. 91 (2002), in the form of Waechter and Biegler, Math. Program. 106
(2006), section 2.3, accepts what lowers f or theta = |c|_1 below every pair that it holds.
"""

import numpy as np

ARMIJO = 1e-4
ROUNDING = 10 * np.finfo(float).eps
ETA1_CAP = 1e6
LARGEST = 10.0  # violation that is ever accepted, relative to that of the start


class Merit:
    """The function (1) with penalties that `aim` adapts to a direction.

    Parameters
    ----------
    keep : bool
        Penalties never return to where they began, as convergence theory wants it; else each direction has its own.
    """

    BEGIN = (1.0, 0.1)
    kept = ("eta1", "eta2", "slope", "margin")

    def __init__(self, *, keep):
        self.keep = keep
        self.eta1, self.eta2 = self.BEGIN
        self.slope = np.nan  # of M along the direction
        self.margin = np.nan  # of (3): 1 or more where it holds

    def value(self, point, lam):
        """(1)"""
        gL = point.g + point.J.T @ lam
        return point.f + point.c @ lam + 0.5 * self.eta1 * (point.c @ point.c) + 0.5 * self.eta2 * (gL @ gL)

    def forget(self):
        """Back to the penalties of the beginning."""
        self.eta1, self.eta2 = self.BEGIN

    def aim(self, point, lam, gL, H_gL, dx, dlam):
        """Adapt the penalties until (3) holds for the direction (dx, dlam); False where none do."""
        c, size2 = point.c, gL @ gL + point.c @ point.c
        Jdx, JgL = point.J @ dx, point.J @ gL
        # grad M'd = plain + eta1 violation + eta2 stationarity
        plain, violation, stationarity = gL @ dx + c @ dlam, c @ Jdx, H_gL @ dx + JgL @ dlam
        if not self.keep:
            self.forget()
        before = self.eta1, self.eta2
        cap = 1e4 * ETA1_CAP if self.keep else ETA1_CAP
        while True:
            self.slope = plain + self.eta1 * violation + self.eta2 * stationarity
            wanted = 0.5 * min(self.eta2, 1.0) * size2
            self.margin = -self.slope / wanted if wanted > 0 else np.nan
            if self.slope <= -wanted:
                self.start = self.value(point, lam)
                return True
            if not self.eta1 < cap:
                if self.keep:  # no direction for this function: the penalties are those of the ones before
                    self.eta1, self.eta2 = before
                    self.slope = np.nan
                self.start = self.value(point, lam)
                return False
            self.eta1 *= 4
            self.eta2 /= 2

    def accepts(self, trial, lam, a):
        """Armijo's rule."""
        if not self.slope < 0:
            return False
        value = self.value(trial, lam)
        return bool(value <= self.start + ARMIJO * a * self.slope + ROUNDING * max(1.0, abs(self.start)))


class Filter:
    """Pairs (theta, f) that no accepted point may be worse than in both.

    Parameters
    ----------
    theta : float
        |c|_1 at the start; `LARGEST` times that is never accepted, and far below it steps are judged by f.
    """

    def __init__(self, theta):
        self.largest, self.small = LARGEST * max(1.0, theta), 1e-4 * max(1.0, theta)
        self._pairs = [(self.largest, -np.inf)]

    def pack(self):
        return {"largest": self.largest, "small": self.small, "pairs": self._pairs}

    def unpack(self, saved):
        saved.into(self, "largest", "small")
        self._pairs = saved.rows("pairs", 2)

    def blocks(self, theta, f):
        return any(theta >= a and f >= b for a, b in self._pairs)

    def add(self, point):
        """Take up a point, less a margin."""
        theta, f = (1 - 1e-5) * point.violation, point.f - 1e-8 * point.violation
        self._pairs = [(a, b) for a, b in self._pairs if a < theta or b < f] + [(theta, f)]

    def accepts(self, point, trial, descent, a):
        """None, or why: "objective" by Armijo's rule on f (`descent` is g'dx), "filter" where f or theta got better."""
        theta, theta_new = point.violation, trial.violation
        if self.blocks(theta_new, trial.f):
            return None
        if descent < 0 and theta <= self.small and a * (-descent) ** 2.3 > theta**1.1:
            enough = point.f + 1e-8 * a * descent + ROUNDING * max(1.0, abs(point.f))
            return "objective" if trial.f <= enough else None
        better = theta_new <= (1 - 1e-5) * theta or trial.f <= point.f - 1e-8 * theta
        return "filter" if better else None
