"""The transport problem at one regularisation, on a stored kernel: Sinkhorn, Anderson and Newton steps for v.

With the rows' scaling eliminated, s = R v and u = (a / s)^power, what is left is to minimise, over log v,

    phi(v) = sum_i a_i log s_i - sum_j b_j log v_j                    (balanced)                                (1)

with gradient col - b, col = v * R'u, and Hessian diag(col) - T' diag(a) T, T_ij = R_ij v_j / s_i. Where a marginal may
be missed at the price tau KL, its power is tau / (tau + reg) instead of 1, and

    a log s -> u s / (1 - power),      -b log v -> (tau / reg) target,     target = b v^(-reg / tau).           (2)

- Sinkhorn: v <- v target / col. It is taken while the error at least halves in a step.
- Anderson: the same, accelerated, on log v weighted by sqrt(b).
- Newton: of T only the entries that matter, as in Tang et al., "Accelerating Sinkhorn Algorithm with Sparse Newton
  Iterations", ICLR 2024; the diagonal is kept whole and shifted, so that the matrix stays positive definite (Tang, Qiu,
  "Safe and Sparse Newton Method for Entropic-Regularized Optimal Transport", NeurIPS 2024).
"""

import enum
import math

import numpy as np

from ..kernels.contracts.scaling import UNDERFLOW
from .anderson import Anderson

FALL = 0.5  # Sinkhorn goes on while a step takes the error below this part of it
HISTORY = 10  # of Anderson
ANDERSON_FALL = 0.7  # a step, over the last ANDERSON_SPAN; else Newton is quicker
ANDERSON_SPAN = 4
CLIP = 5.0  # on what Anderson adds to a Sinkhorn step in log v
SHIFT = 0.03  # of the Hessian, relative to b and to the error
REACH = 4.0  # of a Newton step in log v, to either side
MARGIN = 24.0  # in log v: further away, entries that were dropped may matter
SINGLE = 1e-5  # while the error is larger, the Newton matrix is in float32
WORK_A_CALL = 5e7  # entries touched by one call of a kernel, so that Ctrl-C works


class Verdict(enum.Enum):
    """How a level ended."""

    MET = "the error is below the tolerance"
    STUCK = "no step helps"
    FAR = "v went where entries that were dropped may matter, or underflowed"
    HALTED = "the watch says so"


class Level:
    """v at one regularisation. Vectors over columns are (width,); what is called `_m` is their view without padding.

    Attributes
    ----------
    error : float
        |P'1 - target|_1 at v; the rows are met exactly.
    """

    def __init__(self, k, store, a, b, watch, mass, counts):
        xp, n, m, width = k.xp, a.size, b.size, store.width
        self.k, self.store, self.watch, self.mass, self.counts = k, store, watch, mass, counts
        self.m, self.r = m, math.nan  # r: the regularisation it is at
        self.a, self.b = a, xp.zeros(width)
        self.b[:m] = b
        self.b_m, self.log_b = self.b[:m], xp.log(b)
        self.powers = (1.0, 1.0)
        self.error, self.evaluated = math.inf, False  # whether s and y are those of v = 1 already
        self.v, self.v_try = xp.ones(width), xp.ones(width)
        self.s, self.s_try = xp.ones(n), xp.ones(n)
        self.y, self.y_try = xp.zeros(width), xp.zeros(width)
        self.col, self.col_try = xp.zeros(width), xp.zeros(width)
        self.log_v, self.log_try = xp.zeros(m), xp.zeros(m)
        self.gap, self.diagonal, self.x, self.rest, self.p = (xp.zeros(width) for _ in range(5))
        self.t = xp.empty(n)
        self.single = SINGLE

    # ---- one evaluation ---------------------------------------------------------------------------------------------

    def _evaluate(self, v, s, y, col):
        """The error at v, with s, y and col there; infinite where the next scaling cannot be computed."""
        xp, store = self.k.xp, self.store
        if self.evaluated:
            self.evaluated = False
            s.fill(1)
        else:
            self.k.scaling_sweep(*store.parts, v, self.a, 1.0, s, y, store.work)
        xp.multiply(v, y, out=col)
        xp.subtract(col, self.b, out=self.gap)
        xp.abs(self.gap, out=self.gap)
        self.counts["scalings"] += 1
        return float(self.gap.sum()) if float(y[: self.m].min()) > UNDERFLOW else math.inf

    def aim(self, b):
        """Other column sums to meet."""
        self.b_m[:] = b
        self.log_b = self.k.xp.log(b)

    def start(self, log_v):
        """Put v there."""
        self.evaluated = False
        self.log_v[:] = log_v
        self.k.xp.exp(self.log_v, out=self.v[: self.m])

    def _did(self, error):
        self.watch.did([[error * self.mass]], 1)

    # ---- the level --------------------------------------------------------------------------------------------------

    def solve(self, tol):
        """Steps until the error is at most tol; v, s, y, col and log_v belong together on return, unless FAR."""
        verdict = self._sinkhorn(tol, 60) if self.store.truncated else self._anderson(tol)
        return self._newton(tol) if verdict is None else verdict

    def _sinkhorn(self, tol, most, warm=2):
        """Sinkhorn steps while they are quick; None is: on to Newton."""
        k, store, watch = self.k, self.store, self.watch
        room = max(1, int(WORK_A_CALL / (8 * store.blocks + 1)))
        done = 0
        while True:
            steps = max(1, min(most - done, room, watch.maxiter - watch.nit)) if watch.callback is None else 1
            err = k.xp.empty(steps + 1)
            k.sinkhorn_steps(*store.parts, self.a, 1.0, self.b, 1.0, tol, FALL, warm - done, steps, self.v, self.s,
                             self.y, err, store.work)  # fmt: skip
            errors = k.to_host(err)
            errors = errors[errors >= 0] if not np.isnan(errors).any() else errors[:1] * np.inf
            taken = len(errors) - 1
            self.counts["scalings"] += len(errors)
            self.error = float(errors[-1])
            if self.error == math.inf:
                return Verdict.FAR
            if taken:
                watch.did(errors[1:, None] * self.mass, taken)
            done += taken
            k.xp.multiply(self.v, self.y, out=self.col)
            k.xp.log(self.v[: self.m], out=self.log_v)
            if self.error <= tol:
                return Verdict.MET
            if not watch.going():
                return Verdict.HALTED
            if taken < steps or done >= most:
                return None

    def _anderson(self, tol, most=80, warm=2):
        """Accelerated Sinkhorn steps while they are quick; None is: on to Newton."""
        xp, m, log_v = self.k.xp, self.m, self.log_v
        anderson = Anderson(self.k, xp.sqrt(self.b_m), HISTORY, CLIP)
        g = xp.empty(m)
        errors, best, best_at = [], math.inf, log_v
        for step in range(most + 1):
            self.error = err = self._evaluate(self.v, self.s, self.y, self.col)
            if err == math.inf or err != err:
                self.error = math.inf
                return Verdict.FAR
            if step:
                self._did(err)
            errors.append(err)
            if err < best:
                best, best_at = err, log_v.copy()
            if err <= tol:
                return Verdict.MET
            if not self.watch.going():
                return Verdict.HALTED
            if step > warm + ANDERSON_SPAN and err > ANDERSON_FALL**ANDERSON_SPAN * errors[-1 - ANDERSON_SPAN]:
                break
            xp.log(self.y[:m], out=g)
            xp.subtract(self.log_b, g, out=g)  # where Sinkhorn would go
            if step > 1 and err > 2 * errors[-2]:
                anderson.forget()
            if step < warm:
                log_v[:] = g
            else:
                anderson.step(log_v, g, log_v)
            if not float(abs(log_v).max()) < 200:
                log_v -= log_v[int(self.b_m.argmax())]
                xp.clip(xp.nan_to_num(log_v, nan=0.0), -600, 600, out=log_v)
            xp.exp(log_v, out=self.v[:m])
        if err > 1.5 * best:
            self.start(best_at)
            self.error = self._evaluate(self.v, self.s, self.y, self.col)
        return None

    # ---- Newton -----------------------------------------------------------------------------------------------------

    def _newton(self, tol, most=100):
        """Newton steps on phi."""
        m = self.m
        falls = slow = 0
        for _ in range(most):
            if not self.watch.going():
                return Verdict.HALTED
            before = self.error
            x = self._direction()
            length = self._search(x)
            self.counts["newton"] += 1
            if length:
                self.v, self.v_try = self.v_try, self.v
                self.s, self.s_try = self.s_try, self.s
                self.y, self.y_try = self.y_try, self.y
                self.col, self.col_try = self.col_try, self.col
                self.log_v, self.log_try = self.log_try, self.log_v
                self._did(self.error)
                if self.error <= tol:
                    return Verdict.MET
            if not length or (length < 0.05 and self.error > 0.9 * before):
                falls += 1
                if falls > 5:
                    return Verdict.STUCK
                self.v[:m] *= self.b_m / self.col[:m]
                verdict = self._sinkhorn(tol, 20, 3)
                if verdict is not None:
                    return verdict
            slow = slow + 1 if self.error < 1e-10 and self.error > 0.5 * before else 0
            if slow > 3:
                return Verdict.STUCK  # it is rounding that is left
            if float(abs(self.log_v).max()) > (MARGIN if self.store.truncated else 300):
                return Verdict.FAR
        return Verdict.STUCK

    def _direction(self):
        """x of (diag(d) - T' diag(a) T) x = target - col, by conjugate gradients with a Jacobi preconditioner."""
        k, xp, store, err = self.k, self.k.xp, self.store, self.error
        d = self.gap
        xp.multiply(self.b, SHIFT * min(err, 1.0), out=d)
        d += self.col
        d[self.m :] = 1
        threshold = min(1e-3, max(0.2 * err / 16, 1e-13))
        T, work, blocks = store.newton_matrix(self.v, self.s, self.a, self.b, threshold, err > self.single)
        k.scaling_diagonal(*T, self.a, self.diagonal, work)
        dinv = xp.subtract(d, self.diagonal, out=self.diagonal)
        xp.maximum(dinv, 1e-14 * d, out=dinv)
        xp.reciprocal(dinv, out=dinv)
        x, r, p = self.x, self.rest, self.p
        x.fill(0)
        xp.subtract(self.b, self.col, out=r)
        xp.multiply(r, dinv, out=p)
        rz0 = float(r @ p)
        tol2 = min(0.1, max(0.3 * math.sqrt(err), 1e-4)) ** 2 * rz0
        left, most = 400, max(1, min(64, int(WORK_A_CALL / (16 * blocks + 1))))
        rz = xp.empty(most + 1)
        rz[0] = rz0
        while left > 0:
            steps = min(most, left)
            k.schur_cg_steps(*T, self.a, d, dinv, tol2, steps, x, r, p, rz[: steps + 1], self.t, work)
            seen = k.to_host(rz[: steps + 1])
            taken = int((seen[:-1] > tol2).sum())
            self.counts["cg"] += taken
            left -= steps
            if taken < steps or not seen[-1] > tol2:
                break
            rz[0] = rz[steps]
        return x[: self.m] - float(xp.median(x[: self.m]))

    def _search(self, x):
        """The length of the step along x that is taken, with everything at its end in `_try`; 0 if none helps."""
        xp, m = self.k.xp, self.m
        slope = self.col[:m] - self.b_m
        spread = float(x.max() - x.min())
        length, down = 1.0, float(slope @ x)
        if spread > 2 * REACH:
            clipped = xp.clip(x, -REACH, REACH)
            along = float(slope @ clipped)
            if along < 0.02 * down * 2 * REACH / spread:
                x, down = clipped, along
            else:
                length = 2 * REACH / spread
        phi = self._objective(self.s, self.log_v)
        for _ in range(12):
            xp.multiply(x, length, out=self.log_try)
            self.log_try += self.log_v
            xp.exp(self.log_try, out=self.v_try[:m])
            err = self._evaluate(self.v_try, self.s_try, self.y_try, self.col_try)
            if err < 0.5 * self.error:
                break
            least = phi + 1e-4 * length * down + 1e-14 * max(1.0, abs(phi))
            if err < math.inf and self._objective(self.s_try, self.log_try) <= least:
                break
            length *= 0.4
        else:
            return 0.0
        self.error = err
        return length

    def _objective(self, s, log_v):
        """(1)"""
        return float(self.a @ self.k.xp.log(s)) - float(self.b_m @ log_v)
