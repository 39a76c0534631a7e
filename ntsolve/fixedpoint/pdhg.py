"""Restarted, reflected Halpern PDHG: the state of all programs of a batch, advanced by whole blocks of iterations.

The equations are at the top of the kernels' contract, ntsolve.kernels.contracts.lp.
"""

from dataclasses import astuple

import numpy as np

from ..kernels.contracts.lp import (
    ERRORS,
    ETA,
    INNER,
    LAST,
    MET,
    NOT_FINITE,
    OUTCOME,
    RESTING,
    RUNNING,
    STATE,
    TOTAL,
    WEIGHT,
)
from .kkt import Errors, work_shape

EVERY = 64  # iterations between two looks
MOST_LOOKS = 256  # in one block


class Iteration:
    """Points, anchors and weights of a batch of programs in `Scaled` form.

    Parameters
    ----------
    k : module
        Kernels.
    scaled : Scaled
    x, y : array (batch, n), (batch, m)
        Where to begin, scaled; x within its bounds.
    tol : float
        Of `lp_errors`, at which a program's iteration ends.
    """

    kept = ("x", "x0", "p", "y", "y0", "q", "dx", "dy", "_reflected", "state", "_errors", "done", "tol")

    def pack(self):
        return {name: getattr(self, name) for name in self.kept}

    def unpack(self, saved):
        saved.into(self, *self.kept)
        self.look()

    def __init__(self, k, scaled, x, y, tol):
        xp, self.k, self.scaled, self.tol = k.xp, k, scaled, tol
        batch = x.shape[0]
        self.x, self.x0, self.p = x, x.copy(), x.copy()
        self.y, self.y0, self.q = y, y.copy(), y.copy()
        self.dx, self.dy, self._reflected = xp.zeros_like(x), xp.zeros_like(y), xp.empty_like(x)
        state = np.zeros((batch, STATE))
        state[:, WEIGHT], state[:, ETA], state[:, LAST] = 1.0, scaled.eta, np.inf
        self.state = xp.asarray(state)
        self._errors = xp.empty((batch, ERRORS))
        self._work = xp.empty(work_shape(batch, y.shape[1], x.shape[1]))
        self.done = 0
        k.lp_errors(*scaled.arguments, x, y, self._work, self._errors)
        self.look()

    def look(self):
        """Bring what the host wants to know: `outcome`, `nit`, `weight` (batch,) and `rows` (batch, ERRORS)."""
        state = self.k.to_host(self.state)
        self.outcome, self.nit, self.weight = state[:, OUTCOME].copy(), state[:, TOTAL].astype(int), state[:, WEIGHT]
        self.rows = np.array(self.k.to_host(self._errors))

    @property
    def running(self):
        return self.outcome == RUNNING

    def advance(self, steps):
        """`steps` more iterations; (looks, batch): the largest relative error at each look, and after how many."""
        last = self.done + steps
        ends = list(range((self.done // EVERY + 1) * EVERY, last + 1, EVERY))
        if not ends or ends[-1] != last:
            ends.append(last)
        trace = self.k.xp.full((self.x.shape[0], len(ends)), np.nan)
        self.k.lp_steps(*self.scaled.arguments, self.tol, self.done, steps, EVERY, self.x, self.y, self.x0, self.y0,
                        self.p, self.q, self.dx, self.dy, self._reflected, self.state, self._errors, trace,
                        self._work)  # fmt: skip
        before, self.done = self.done, last
        self.look()
        return np.diff([before, *ends]), self.k.to_host(trace).T

    def errors(self, i):
        """`Errors` of (p, q) of program i, in its own units."""
        return Errors.from_row(self.rows[i])

    def put(self, i, x, y, errors, solved):
        """Go on from another point of program i, or rest there if it solves it."""
        xp = self.k.xp
        for v, name in ((x, ("x", "x0", "p")), (y, ("y", "y0", "q"))):
            v = xp.asarray(v)
            for one in name:
                getattr(self, one)[i] = v
        self._errors[i] = xp.asarray(astuple(errors))
        state = self.state[i].copy()
        state[INNER], state[LAST] = 0.0, np.inf
        state[OUTCOME] = MET if solved else RUNNING
        self.state[i] = state
        self.look()

    def rest(self, i):
        """Program i is done with."""
        self.state[i, OUTCOME] = RESTING
        self.look()

    def wake(self, i, tol):
        """Program i goes on, since its answer did not do, to a smaller tolerance."""
        self.tol = min(self.tol, tol)
        self.state[i, OUTCOME] = RUNNING
        self.look()

    def point(self):
        """(x, y) of all programs, (batch, n) and (batch, m), unscaled."""
        return self.p * self.scaled.x_unit, self.q * self.scaled.y_unit

    def broken(self):
        """(batch,): whose numbers are no longer finite."""
        return self.outcome == NOT_FINITE
