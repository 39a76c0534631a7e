"""An interior point method for the end of a linear program, from where PDHG has come to.

Of min c'x, s = A x with bounds on x and s, all in v = (x, s), it keeps v strictly inside them and moves along the path

    c - A'y = z_x,  y = z_s,  z = z_l - z_u,  A x = s,  z_l (v - l) = z_u (u - v) = mu -> 0                     (1)

by Newton's method with Mehrotra's predictor and corrector ("On the implementation of a primal-dual interior point
method", SIAM J. Optim. 2, 1992). Each step solves, for two right-hand sides,

    (A W_x A' + W_s + delta I) dy = r,    W = 1 / (z_l / (v - l) + z_u / (u - v) + rho)                         (2)

whose rho and delta, the proximal terms of Pougkakiotis and Gondzio ("An interior point-proximal method of multipliers
for convex quadratic programming", Comput. Optim. Appl. 78, 2021), go to zero with mu: free variables, and rows that
depend on each other, need no treatment of their own. A side that is an equation is a v that does not move.
"""

import math

import numpy as np
from scipy.sparse import csr_array

from .finisher import Point

MARGIN, OF_SPAN = 0.05, 0.25  # from bounds at the start, and of the span between them at most; scaled
RHO, DELTA = (1e-11, 1e-8), (1e-12, 1e-8)  # mu, but within these
SHORT = 0.9, 0.9995  # of the way to the boundary: 1 - mu, but within these
STEPS = 80
PATIENCE = 15  # steps in which the largest of the residuals, and mu, has to halve
DONE = 1e-18  # mu, scaled, from which on nothing is to be gained
CLOSED = 100.0  # times tol, relative to the objectives alone; or scaled, over this
FAR = 1e4  # a bound beyond, scaled, is left out: what is lost of its dual objective is more than it helps
NEAREST = 1e-20  # to a bound, where rounding would make it none


class Interior:
    """The method for one problem; to be gone on with where it was interrupted.

    Parameters
    ----------
    scaled : Scaled
        One problem, on the host.
    system : Dense or Sparse
        Its systems (2).
    x, y : array (n,), (m,)
        Scaled; where to begin.

    Attributes
    ----------
    steps : int
        So far.
    over : bool
        Whether there is nothing to be gained by more of them.
    x, y : array (n,), (m,)
        The iterate, within the bounds and with multipliers of sides that are there.
    """

    def __init__(self, scaled, system, x, y):
        self.scaled, self._system, p = scaled, system, scaled
        m, n = p.row_lower.size, p.c.size
        self._A = csr_array((p.data, p.indices, p.indptr), shape=(m, n))
        self._At = csr_array((p.tdata, p.tindices, p.tindptr), shape=(n, m))
        lower, upper = np.concatenate([p.lower, p.row_lower]), np.concatenate([p.upper, p.row_upper])
        moves = lower < upper
        lower, upper = np.where(lower < -FAR, -np.inf, lower), np.where(upper > FAR, np.inf, upper)
        self._below, self._above = (np.flatnonzero(moves & np.isfinite(side)) for side in (lower, upper))
        self._l, self._u = lower[self._below], upper[self._above]
        self._fixed = np.flatnonzero(~moves)
        self._y = y.copy()
        z = self._reduced_costs()
        margin = np.minimum(MARGIN, OF_SPAN * (upper - lower))
        self._v = np.clip(np.concatenate([x, self._A @ x]), lower + margin, upper - margin)
        self._zl, self._zu = np.maximum(z[self._below], MARGIN), np.maximum(-z[self._above], MARGIN)
        self.steps, self.over = 0, False
        self._complementarity = math.inf
        self._best, self._since = math.inf, 0

    @property
    def x(self):
        return np.clip(self._v[: self.scaled.c.size], self.scaled.lower, self.scaled.upper)

    @property
    def y(self):
        p, y = self.scaled, self._y
        gone = ((y > 0) & np.isneginf(p.row_lower)) | ((y < 0) & np.isposinf(p.row_upper))
        return np.where(gone, 0.0, y)

    def improve(self, tol, going):
        """Steps until `Point.solved` to this tolerance, or over, or `going` says no.

        Returns
        -------
        Point
            The best one seen, by its largest relative error.
        """
        best = None
        while True:
            x, y = self.x, self.y
            errors = self.scaled.errors(x, y)
            if not math.isfinite(errors.kkt):
                self.over = True
                return best
            meets = errors.meets(tol)
            if best is None or meets or errors.kkt < best.errors.kkt:
                best = Point(x, y, errors, meets)
            if (meets and self._closed(errors, tol)) or self.over or not going():
                return best
            self._step()

    def _closed(self, errors, tol):
        """Whether the gap is closed in the scaled problem as well, whose numbers tell where the others are small."""
        p, d = errors.primal_objective, errors.dual_objective
        return abs(p - d) <= CLOSED * tol * (abs(p) + abs(d)) or self._complementarity <= tol / CLOSED

    def _reduced_costs(self):
        return np.concatenate([self.scaled.c - self._At @ self._y, self._y])

    def _step(self):
        below, above, n = self._below, self._above, self.scaled.c.size
        zl, zu, z = self._zl, self._zu, self._reduced_costs()
        dl, du = np.maximum(self._v[below] - self._l, NEAREST), np.maximum(self._u - self._v[above], NEAREST)
        short = self._v[n:] - self._A @ self._v[:n]
        self._complementarity = dl @ zl + du @ zu
        mu = self._complementarity / max(1, dl.size + du.size)
        if self._in_vain(mu, short, z) or mu < DONE:
            self.over = True
            return
        wl, wu = zl / dl, zu / du
        curvature = np.full(z.size, min(max(mu, RHO[0]), RHO[1]))
        curvature[below] += wl
        curvature[above] += wu
        w = 1 / curvature
        w[self._fixed] = 0.0
        shift = w[n:] + min(max(mu, DELTA[0]), DELTA[1])
        try:
            self._system.factor(w[:n], shift)
        except RuntimeError:  # exactly singular
            self.over = True
            return

        def direction(tl, tu):
            """That in which zl dl and zu du become tl and tu, to first order."""
            force = -z
            force[below] += tl / dl
            force[above] -= tu / du
            moved = w * force
            r = short - self._A @ moved[:n] + moved[n:]
            dy = self._system.back(r)
            dy += self._system.back(r - self._A @ (w[:n] * (self._At @ dy)) - shift * dy)
            dv = moved + w * np.concatenate([self._At @ dy, -dy])
            return dv, dy, tl / dl - zl - wl * dv[below], tu / du - zu + wu * dv[above]

        dv, _, dzl, dzu = direction(0.0, 0.0)
        a, b = _length(dl, dv[below], du, -dv[above]), _length(zl, dzl, zu, dzu)
        left = (dl + a * dv[below]) @ (zl + b * dzl) + (du - a * dv[above]) @ (zu + b * dzu)
        aim = mu * (left / max(1, dl.size + du.size) / mu) ** 3
        dv, dy, dzl, dzu = direction(aim - dv[below] * dzl, aim + dv[above] * dzu)
        part = min(max(1 - mu, SHORT[0]), SHORT[1])
        a = min(1.0, part * _length(dl, dv[below], du, -dv[above], math.inf))
        b = min(1.0, part * _length(zl, dzl, zu, dzu, math.inf))
        if not math.isfinite(a + b + dv.sum() + dy.sum()):
            self.over = True
            return
        self._v += a * dv
        self._y += b * dy
        self._zl, self._zu = zl + b * dzl, zu + b * dzu
        self.steps += 1
        self.over = self.steps >= STEPS

    def _in_vain(self, mu, short, z):
        """Whether residuals and mu have stopped to fall."""
        z = z.copy()
        z[self._below] -= self._zl
        z[self._above] += self._zu
        z[self._fixed] = 0.0
        merit = max(mu, math.sqrt(short @ short), math.sqrt(z @ z))
        if merit < 0.5 * self._best:
            self._best, self._since = merit, self.steps
        return not merit < math.inf or self.steps - self._since > PATIENCE


def _length(v, dv, w, dw, most=1.0):
    """How far v + a dv and w + a dw stay positive, at most `most`."""
    for at, move in ((v, dv), (w, dw)):
        falls = move < 0
        most = min(most, float((at[falls] / -move[falls]).min(initial=math.inf)))
    return most
