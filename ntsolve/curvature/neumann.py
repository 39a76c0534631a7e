"""The Neumann series, for symmetric positive definite systems whose solution need not be accurate.

N. Agarwal, B. Bullins, E. Hazan, "Second-Order Stochastic Optimization for Machine Learning in Linear Time" (LiSSA),
JMLR 18 (2017), equation (5): with s at least the largest eigenvalue of A,

    A^-1 b = (1/s) sum_j (I - A/s)^j b,   that is   x += r/s,  r -= A r/s.                               (1)

An eigenvalue lambda of A loses the factor |1 - lambda/s| a step, so the series converges for s above half the largest
one, at the rate of the smallest. s comes from power iteration.
"""

import numpy as np

from ..kernels.contracts import workspace_shape
from ..result import Status
from .rounds import Rounds

PRODUCTS = 20  # of the power iteration, at most
CLOSE = 0.02  # it ends when the estimate changes by less than this
SAFETY = 1.1  # power iteration comes from below


class Neumann(Rounds):
    """Equation (1), for all systems at once."""

    def __init__(self, k, system, rtol, atol, rng):
        super().__init__(k, system, rtol, atol)
        self.rng, self.s = rng, np.inf

    def prepare(self, watch):
        k, xp = self.k, self.k.xp
        q = xp.asarray(self.rng.standard_normal((1, self.A.n))).astype(self.r.dtype)
        y, pq, work = xp.empty_like(q), xp.zeros(1), xp.empty(workspace_shape(*q.shape))
        largest = 0.0
        for _ in range(PRODUCTS):
            if not watch.going():
                return
            q *= 1 / float(self._norms(q)[0])
            self.A.matvec_dot(q, y, pq, work)
            q, y, before, largest = y, q, largest, float(k.to_host(pq)[0])
            if not largest > 0:  # also NaN
                bad = Status.INDEFINITE_OPERATOR if np.isfinite(largest) else Status.NAN_OR_INF
                self.status[self.status == 0] = int(bad)
                return
            if abs(largest - before) < CLOSE * largest:
                break
        self.s = SAFETY * largest

    def begin(self):
        self.q, self.rq = self.k.xp.zeros_like(self.r), self.k.xp.zeros(len(self.r))
        self.work = self.k.xp.empty(workspace_shape(*self.r.shape))

    def step(self):
        self.A.matvec_dot(self.r, self.q, self.rq, self.work)
        negative = self.active & (self.k.to_host(self.rq) <= 0)
        self.status[negative] = int(Status.INDEFINITE_OPERATOR)
        share = self._each(np.where(negative, 0.0, 1 / self.s))
        with np.errstate(all="ignore"):  # seen in the residual
            self.x += share * self.r  # (1)
            self.r -= share * self.q
        return self._norms(self.r)
