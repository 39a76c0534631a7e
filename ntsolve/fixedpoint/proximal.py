"""Proximal point steps for a linear program, each by a semismooth Newton method.

For min c'x, s = Ax with bounds on x and s, a step of size T from (x_0, s_0, y_0) in the norm

    |(x, s, y)|^2 = w (|x|^2 + |s|^2) + |y|^2 / w                                                        (1)

has tau = T / w, sigma = T w, and ends where the g(y) of `kernels.contracts.proximal` is zero. Newton's direction is

    H d = -g(y)                                                                                          (2)

and how far to go along it is found by looking for the zero of the slope, which is piecewise linear. The larger T, the
fewer steps to a solution: in the end one step is enough (Rockafellar, "Monotone operators and the proximal point
algorithm", SIAM J. Control Optim. 14, 1976; for linear programs Li, Sun, Toh, SIAM J. Optim. 30, 2020).
"""

import math

import numpy as np

ENOUGH = 0.2  # of the distance moved, or of 1: the residual at which a step is good enough
VAIN, NEAR = 6, 1e-7  # a residual below NEAR that VAIN Newton steps have not halved is what rounding leaves
ROUNDING = 1e-15


class Proximal:
    """A point (x, s, y), and steps from it, for a scaled problem with arrays of one axis on the host."""

    def __init__(self, k, problem, system):
        self.k, self.problem, self.system = k, problem, system
        n, m = problem.c.size, problem.row_lower.size
        self.x, self.s, self.y = np.zeros(n), np.zeros(m), np.zeros(m)
        self.x0, self.s0, self.y0 = np.zeros(n), np.zeros(m), np.zeros(m)
        self._free, self._slack = np.zeros(n, np.int8), np.zeros(m, np.int8)
        self._g, self._aty, self._atd = np.zeros(m), np.zeros(n), np.zeros(n)
        self._length = np.zeros(1)
        self.newton = 0
        self._halted = False

    def begin(self, x, y):
        """Start from (x, A x, y)."""
        p = self.problem
        self.x[:], self.y[:], self._halted = x, y, False
        self.k.csr_matvec(p.indptr, p.indices, p.data, self.x[None], self.s[None])
        np.clip(self.s, p.row_lower, p.row_upper, out=self.s)

    def step(self, T, weight, cap, going, *, far=1.0):
        """One step, in at most `cap` Newton steps; how many it took, or None where `going` says no.

        After a None the next call goes on with the same step. It may end with a residual of ENOUGH times the distance
        moved, or times `far` where that is less.
        """
        k, p = self.k, self.problem
        tau, sigma = T / weight, T * weight
        if not self._halted:
            self.x0[:], self.s0[:], self.y0[:] = self.x, self.s, self.y
        self._halted = False
        least, vain, taken = math.inf, 0, 0
        while True:
            size = self._look(tau, sigma)
            if not math.isfinite(size):
                return None
            if size * T * math.sqrt(weight) <= ENOUGH * min(self.moved(weight), far):
                break
            if size < ROUNDING * (1 + np.abs(self.s).max(initial=0.0)):
                break
            if not going():
                self._halted = True
                return None
            if taken == cap:
                break
            least, vain = (size, 0) if size < 0.5 * least else (least, vain + 1)
            if vain >= VAIN and size < NEAR:
                break
            d = self.system.solve(self._free, self._slack, tau, 1 / sigma, self._g)  # (2)
            taken, self.newton = taken + 1, self.newton + 1
            k.csr_matvec(p.tindptr, p.tindices, p.tdata, d[None], self._atd[None])
            k.proximal_search(p.c, p.lower, p.upper, p.row_lower, p.row_upper, self.x0, self.s0, self.y0, self.y, d,
                              self._aty, self._atd, tau, sigma, self._length)  # fmt: skip
            if not self._length[0] > 0:
                break
            self.y += self._length[0] * d
        # what rounding and an unfinished step leave of multipliers whose side is not there
        self.y[(self.y > 0) & np.isneginf(p.row_lower)] = 0.0
        self.y[(self.y < 0) & np.isposinf(p.row_upper)] = 0.0
        return taken

    def _look(self, tau, sigma):
        """x, s and g of the current y; |g|."""
        k, p = self.k, self.problem
        k.proximal_columns(p.tindptr, p.tindices, p.tdata, p.c, p.lower, p.upper, self.x0, self.y, tau, self._aty,
                           self.x, self._free)  # fmt: skip
        k.proximal_rows(p.indptr, p.indices, p.data, p.row_lower, p.row_upper, self.s0, self.y0, self.x, self.y, tau,
                        sigma, self.s, self._slack, self._g)  # fmt: skip
        return math.sqrt(self._g @ self._g)

    def moved(self, weight):
        """(1) of the way from the start of the step."""
        x, s, y = self.x - self.x0, self.s - self.s0, self.y - self.y0
        return math.sqrt(weight * (x @ x + s @ s) + (y @ y) / weight)
