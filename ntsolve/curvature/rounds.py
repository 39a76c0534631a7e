"""What iterations for a linear system have in common: each is run until its own residual says "converged", then
b - A x is computed from the problem, and where that says otherwise it is taken up again, for as long as this halves it.
"""

import numpy as np

from .. import operators
from ..monitor import Monitor
from ..outcome import linear_result
from ..result import Status

GROWTH = 1e10  # of a residual, beyond which a system is given up


class Rounds:
    """All systems of one call, each divided by a power of two so that its residual is about 1 at the start.

    A method fills in `begin` and `step`. Vectors are (batch, n) arrays of the backend; what is known of each system is
    in (batch,) arrays on the host. A method changes `x`, keeps `r` if it needs one, and leaves alone what is not
    `active`.
    """

    def __init__(self, k, system, rtol, atol):
        self.k, self.system, self.A = k, system, system.A
        b = system.b
        self.b_norm = self._norms(b)
        with np.errstate(all="ignore"):
            self.tolerance = np.maximum(rtol * self.b_norm, atol)
            self.goal = self.tolerance - 0.5 * np.finfo(b.dtype).eps * self.b_norm  # as A x, near b, is rounded
        x, r = system.x0, b.copy()
        if x is None:
            x, self.residual = k.xp.zeros_like(b), self.b_norm.copy()
        else:
            x[k.xp.asarray(self.b_norm == 0)] = 0
            self.residual = k.to_host(operators.true_residual(k, system, x, r))
        size = np.maximum(self.b_norm, self.residual)
        exponent = np.frexp(np.where(np.isfinite(size) & (size > 0), size, 1.0))[1]
        self.scale = np.ldexp(np.ones(len(size)), exponent)
        self._up, self._down = k.xp.asarray(exponent)[:, None], k.xp.asarray(-exponent)[:, None]
        with np.errstate(all="ignore"):
            self.x, self.r = k.xp.ldexp(x, self._down), k.xp.ldexp(r, self._down)
        self.status = np.where(np.isfinite(self.residual), 0, int(Status.NAN_OR_INF))
        self.nit = np.zeros(len(size), dtype="int64")
        self._last = np.full(len(size), np.inf)

    def prepare(self, watch):
        """What has to be done once, before the first iteration."""

    def begin(self):
        """Start the iteration at x, where the residual is r."""
        raise NotImplementedError

    def step(self):
        """One iteration; the norms (batch,) of the residuals, as it sees them."""
        raise NotImplementedError

    def solve(self, name, maxiter, options):
        """Iterate; the LinearResult."""
        system = self.system
        with Monitor(name, maxiter=maxiter, time_limit=options.time_limit, callback=options.callback,
                     began=options.began, verbose=options.verbose, start=self.residual, target=self.tolerance,
                     shape=system.shape, solution=lambda: system.restore(self.solution())) as watch:  # fmt: skip
            if (self.residual > self.goal).any() and watch.going():
                self.prepare(watch)
            while watch.status is None and self._resume():
                self.begin()
                while self.active.any() and watch.going():
                    self._advance(watch)
                self._verify()
            status = np.where(self.status, self.status, watch.status or Status.STALLED)
            solved = np.isfinite(self.residual) & (self.residual <= self.goal)
            return linear_result(system, self.solution(), success=solved, residual=self.residual,
                                 tolerance=self.tolerance, status=status, nit=self.nit, history=watch.history,
                                 elapsed=watch.elapsed, backend=self.k.NAME)  # fmt: skip

    def solution(self):
        """The current iterate, in the caller's units."""
        with np.errstate(all="ignore"):
            return self.k.xp.ldexp(self.x, self._up).astype(self.r.dtype, copy=False)

    def _resume(self):
        """Whether some system can be helped by starting from where it is."""
        unsolved = (self.status == 0) & ~(self.residual <= self.goal)
        with np.errstate(all="ignore"):
            self.active = unsolved & (self.residual < 0.5 * self._last)
            self.status[unsolved & ~self.active] = int(Status.STALLED)
            self._last = self._seen = self.residual
            floor = 0.1 * np.finfo(self.r.dtype).eps * np.maximum(self.b_norm, self.residual)
            self._aim = np.maximum(0.999 * self.goal, floor)
        return bool(self.active.any())

    def _advance(self, watch):
        norms = self.step() * self.scale
        self.nit += self.active
        bad = self.active & ~np.isfinite(norms)
        self.status[bad] = int(Status.NAN_OR_INF)
        grown = self.active & (norms > GROWTH * self._last)
        self.status[grown & (self.status == 0)] = int(Status.BREAKDOWN)
        self._seen = np.where(self.active & ~bad, norms, self._seen)
        self.active = self.active & (self._seen > self._aim) & (self.status == 0)
        watch.did(self._seen[None], 1)

    def _verify(self):
        """b - A x, computed from the problem as the caller gave it."""
        if self.nit.any():
            r = self.k.xp.empty_like(self.r)
            self.residual = self.k.to_host(operators.true_residual(self.k, self.system, self.solution(), r))
            self.status[(self.status == 0) & ~np.isfinite(self.residual)] = int(Status.NAN_OR_INF)
            with np.errstate(all="ignore"):
                self.r[...] = self.k.xp.ldexp(r, self._down)

    # ---- for the methods

    def _norms(self, vectors):
        return self.k.to_host(operators.norms(self.k, vectors))

    def _each(self, values):
        """Numbers (batch,) of the host, as a factor on vectors; 0 for systems that rest."""
        return self.k.xp.asarray(np.where(self.active, values, 0.0))[:, None]
