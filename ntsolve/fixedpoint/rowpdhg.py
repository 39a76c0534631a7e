"""The iteration of pdhg.py for a program of which each rank has rows: one sum of n numbers over the ranks a step.

The equations are those of ntsolve.kernels.contracts.lp. x is stepped on every rank, from the same A'y; y by rows. What
looks and restarts need comes in the messages of a look, every 64 steps, and of the first step from an anchor.
"""

import math
from dataclasses import astuple

import numpy as np

from ..kernels.contracts.lp import (
    DUAL,
    ETA,
    FIRST,
    GAP,
    INNER,
    LAST,
    MET,
    MOVED,
    NOT_FINITE,
    OUTCOME,
    PRIMAL,
    RESTING,
    RUNNING,
    STATE,
    TOTAL,
    WEIGHT,
    meets,
    restart,
)
from .kkt import Errors
from .pdhg import EVERY
from .rowblocks import RowBlocks


class RowIteration:
    """As `pdhg.Iteration`, whose attributes it has, of a single program.

    Parameters
    ----------
    k : module
        Kernels.
    scaled : Scaled
        Of this rank's rows, from `scale_rows`.
    x, y : array (1, n), (1, m)
        Where to begin, scaled; x within its bounds and the same on all ranks.
    tol : float
    ranks : Reductions
    """

    kept = ("x", "x0", "p", "y", "y0", "q", "dx", "dy", "state", "rows", "done", "tol")

    def __init__(self, k, scaled, x, y, tol, ranks):
        xp, self.k, self.scaled, self.tol, self.ranks = k.xp, k, scaled, tol, ranks
        self.x, self.x0, self.p = x, x.copy(), x.copy()
        self.y, self.y0, self.q = y, y.copy(), y.copy()
        self.dx, self.dy = xp.zeros_like(x), xp.zeros_like(y)
        self.state = np.zeros((1, STATE))
        self.state[:, WEIGHT], self.state[:, ETA], self.state[:, LAST] = 1.0, scaled.eta, np.inf
        self._blocks = RowBlocks(k, scaled.arguments, ranks)
        self._turned, self._reflected, self._activity = xp.empty_like(x), xp.empty_like(x), xp.empty_like(y)
        self.rows = self._blocks.errors(x, y)[None]
        self.done = 0

    @property
    def outcome(self):
        return self.state[:, OUTCOME]

    @property
    def nit(self):
        return self.state[:, TOTAL].astype(int)

    @property
    def weight(self):
        return self.state[:, WEIGHT]

    @property
    def running(self):
        return self.outcome == RUNNING

    def advance(self, steps):
        """`steps` more iterations; (looks, 1): the largest relative error at each look, and after how many."""
        state, last, trace, ends = self.state[0], self.done + steps, [], []
        for step in range(self.done + 1, last + 1):
            due, end = step % EVERY == 0, step == last
            if state[OUTCOME] == RUNNING:
                fresh = state[INNER] == 0
                self._step(state, due or end or fresh)
                if fresh:
                    state[FIRST] = self._distances(state)[0]
            if due or end:
                ends.append(step)
                trace.append(self._look(state, due) if state[OUTCOME] == RUNNING else math.nan)
        before, self.done = self.done, last
        return np.diff([before, *ends]), np.array(trace)[:, None]

    def _step(self, state, keep):
        """(1), (2), (3); p, q, dx and dy only to `keep` them."""
        s = self.scaled
        state[INNER] += 1
        state[TOTAL] += 1
        share = float(state[INNER] / (state[INNER] + 1))
        tau, sigma = float(state[ETA] / state[WEIGHT]), float(state[ETA] * state[WEIGHT])
        aty = self._blocks.turned(self.y, self._turned)
        self.k.lp_columns(aty[0], s.c[0], s.lower[0], s.upper[0], tau, share, keep, self.x[0], self.x0[0], self.p[0],
                          self.dx[0], self._reflected[0])  # fmt: skip
        self.k.lp_rows(s.indptr, s.indices, s.data[0], s.row_lower[0], s.row_upper[0], sigma, share, keep,
                       self._reflected[0], self.y[0], self.y0[0], self.q[0], self.dy[0])  # fmt: skip

    def _distances(self, state):
        """(4), and |p - x0| and |q - y0|"""
        dx, dy, p, q = (v.ravel() for v in (self.dx, self.dy, self.p - self.x0, self.q - self.y0))
        product = self._blocks.times(self.dx, self._activity).ravel()
        ours, everyones = (dy @ dy, dy @ product, q @ q, 0.0, 0.0), (0.0, 0.0, 0.0, dx @ dx, p @ p)
        sums = np.array([float(v) for v in ours]) + self.ranks.carry * np.array([float(v) for v in everyones])
        self.ranks.total(sums)
        sy, cross, far_y, sx, far_x = sums.tolist()
        square = state[WEIGHT] * sx + sy / state[WEIGHT] + 2 * state[ETA] * cross
        return math.sqrt(square) if square > 0 else square * 0.0, math.sqrt(far_x), math.sqrt(far_y)

    def _look(self, state, due):
        """Errors of (p, q), and what follows from them where a look is `due`; the largest relative error."""
        state[MOVED], *far = self._distances(state)
        errors = self.rows[0] = self._blocks.errors(self.p, self.q)
        kkt = float(errors[[PRIMAL, DUAL, GAP]].max())
        if not (math.isfinite(state[MOVED]) and math.isfinite(kkt)):
            state[OUTCOME] = NOT_FINITE
        elif due and meets(errors, self.tol):
            state[OUTCOME] = MET
        elif due and restart(state, *far, state[TOTAL] == EVERY):
            for v in (self.x, self.x0):
                v[...] = self.p
            for v in (self.y, self.y0):
                v[...] = self.q
        return kkt

    def errors(self, i):
        """`Errors` of (p, q), in the program's own units."""
        return Errors.from_row(self.rows[i])

    def put(self, i, x, y, errors, solved):
        """Go on from another point, or rest there if it solves the program."""
        for v, names in ((x, ("x", "x0", "p")), (y, ("y", "y0", "q"))):
            for name in names:
                getattr(self, name)[i] = self.k.xp.asarray(v)
        self.rows[i] = astuple(errors)
        self.state[i, INNER], self.state[i, LAST] = 0.0, np.inf
        self.state[i, OUTCOME] = MET if solved else RUNNING

    def rest(self, i):
        """The program is done with."""
        self.state[i, OUTCOME] = RESTING

    def wake(self, i, tol):
        """It goes on, since its answer did not do, to a smaller tolerance."""
        self.tol = min(self.tol, tol)
        self.state[i, OUTCOME] = RUNNING

    def point(self):
        """(x, y), unscaled."""
        return self.p * self.scaled.x_unit, self.q * self.scaled.y_unit

    def broken(self):
        """(1,): whether its numbers are no longer finite."""
        return self.outcome == NOT_FINITE
