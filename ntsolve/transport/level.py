"""The transport problem at one regularisation, on a stored kernel: Sinkhorn, Anderson and Newton steps for v.

With the rows' scaling eliminated, s = R v and u = (a / s)^power, what is left is to minimise, over log v,

    phi(v) = sum_i a_i log s_i - sum_j b_j log v_j                    (balanced)                                (1)

with gradient col - b, col = v * R'u, and Hessian diag(col) - T' diag(a) T, T_ij = R_ij v_j / s_i. Where a marginal may
be missed at the price tau KL, its power is tau / (tau + reg) instead of 1, and

    a log s -> u s / (1 - power),      -b log v -> (tau / reg) target,     target = b v^(-reg / tau),           (2)

the gradient is col - target, and the Hessian diag(col + (reg / tau) target) - T' diag(power u s) T.

- Sinkhorn: v <- (b / R'u)^power. It is taken while the error at least halves in a step.
- Anderson: the same, accelerated, on log v weighted by sqrt(b).
- Newton: of T only the entries that matter, as in Tang et al., "Accelerating Sinkhorn Algorithm with Sparse Newton
  Iterations", ICLR 2024; the diagonal is kept whole and shifted, so that the matrix stays positive definite (Tang, Qiu,
  "Safe and Sparse Newton Method for Entropic-Regularized Optimal Transport", NeurIPS 2024).
"""

import enum
import math

import numpy as np

from ..anderson import Anderson
from ..kernels.contracts.scaling import UNDERFLOW
from . import shared

FALL = 0.5  # Sinkhorn goes on while a step takes the error below this part of it
HISTORY = 10  # of Anderson
ANDERSON_FALL = 0.7  # a step, over the last ANDERSON_SPAN; else Newton is quicker
ANDERSON_SPAN = 4
CLIP = 5.0  # on what Anderson adds to a Sinkhorn step in log v
SHIFT = 0.03  # of the Hessian, relative to b and to the error
LEAST, LARGEST = 1e-300, 600.0  # of a marginal, and of an exponent
FARTHEST = 200.0  # |log v|, and even of a kernel that is whole
REACH = 4.0  # of a Newton step in log v, to either side
MARGIN = 24.0  # in log v: further away, entries that were dropped may matter
SINGLE = 1e-5  # while the error is larger, the Newton matrix is in float32
WORK_A_CALL = 2e7  # entries touched by one call of a kernel, so that Ctrl-C works


class Verdict(enum.Enum):
    """How a level ended."""

    MET = "the error is below the tolerance"
    STUCK = "no step helps"
    FAR = "v went where entries that were dropped may matter, or underflowed"
    HALTED = "the watch says so"


class Point:
    """v, and what belongs to it: s and y of (1), the column sums, and what they should be."""

    def __init__(self, xp, n, m, width, target):
        self.log_v, self.v, self.s = xp.zeros(m), xp.ones(width), xp.ones(n)
        self.y, self.col, self.target = xp.zeros(width), xp.zeros(width), target


class Level:
    """The problem at one regularisation r. Vectors over columns are (width,), zero or one beyond column m.

    Attributes
    ----------
    at : Point
    error : float
        |P'1 - target|_1 there; the rows are met exactly.
    evaluated : bool
        Whether s and y of `at` are known already.
    """

    def __init__(self, k, store, a, b, watch, mass, counts, tau=(np.inf, np.inf)):
        xp, n, m, width = k.xp, a.size, b.size, store.width
        self.k, self.store, self.watch, self.mass, self.counts = k, store, watch, mass, counts
        self.m, self.r, self.tau = m, math.nan, tau
        self.powers: tuple[float, ...] = (1.0, 1.0)
        self.relaxed = min(tau) < np.inf
        self.a, self.b = a, xp.zeros(width)
        self.aim(b)
        self.error, self.evaluated = math.inf, False
        targets = [xp.zeros(width) if tau[1] < np.inf else self.b for _ in range(2)]
        self.at, self.trial = (Point(xp, n, m, width, target) for target in targets)
        self.gap, self.diagonal, self.x, self.rest, self.p = (xp.zeros(width) for _ in range(5))
        self.t = xp.empty(n)
        self.single = SINGLE

    def aim(self, b, empty=None):
        """Column sums to meet; nothing goes to the columns of the mask `empty`, whose b is 0."""
        self.b[: self.m] = b
        self.empty = empty
        self.log_b = self.k.xp.log(self.k.xp.maximum(b, LEAST))

    def set(self, r, log_v):
        """Go to that regularisation, and put v there."""
        at, self.r, self.evaluated = self.at, r, False
        self.powers = tuple(1.0 if tau == np.inf else tau / (tau + r) for tau in self.tau)
        at.log_v[:] = log_v
        self.k.xp.exp(at.log_v, out=at.v[: self.m])

    # ---- one evaluation ---------------------------------------------------------------------------------------------

    def _evaluate(self, at):
        """The error at v, with all that belongs to it; infinite where the next scaling cannot be computed."""
        xp, store = self.k.xp, self.store
        if self.evaluated and at is self.at:
            self.evaluated = False
        else:
            store.sweep(at.v, self.a, self.powers[0], at.s, at.y)
        self._columns(at)
        xp.subtract(at.col, at.target, out=self.gap)
        xp.abs(self.gap, out=self.gap)
        self.counts["scalings"] += 1
        error = float(self.gap.sum())
        return error if float(at.y[: self.m].min()) > UNDERFLOW and error == error else math.inf

    def _columns(self, at):
        """Column sums, and what they should be."""
        xp = self.k.xp
        xp.multiply(at.v, at.y, out=at.col)
        if self.empty is not None:
            at.y[: self.m][self.empty] = 1
            at.col[: self.m][self.empty] = 0
        if at.target is not self.b:
            xp.multiply(at.log_v, -self.r / self.tau[1], out=at.target[: self.m])
            xp.exp(xp.minimum(at.target, LARGEST), out=at.target)
            at.target *= self.b

    def _masses(self, s):
        """Row sums u s of the plan."""
        power = self.powers[0]
        return self.a if power == 1 else self.a**power * s ** (1 - power)

    def _did(self):
        self.watch.did([[self.error * self.mass]], 1)

    # ---- the level --------------------------------------------------------------------------------------------------

    def solve(self, tol):
        """Steps until the error is at most tol; all of `at` belongs together on return, unless FAR."""
        verdict = self._sinkhorn(tol, 60) if self.store.truncated else self._anderson(tol)
        return self._newton(tol) if verdict is None else verdict

    def _sinkhorn(self, tol, most, warm=2):
        """Sinkhorn steps while they are quick; None is: on to Newton."""
        k, store, watch, at, powers = self.k, self.store, self.watch, self.at, self.powers
        room = max(1, int(WORK_A_CALL / (8 * store.blocks + 1)))
        done = 0
        while True:
            steps = 1 if watch.seen else max(1, min(most - done, room, watch.maxiter - watch.nit))
            err = k.xp.empty(steps + 1)
            store.sinkhorn_steps(self.a, powers[0], self.b, powers[1], tol, FALL, max(0, warm - done), steps,
                                 at.v, at.s, at.y, err)  # fmt: skip
            errors = k.to_host(err)
            errors = errors[errors >= 0] if not np.isnan(errors).any() else errors[:1] * np.inf
            taken = len(errors) - 1
            self.counts["scalings"] += len(errors)
            self.error = float(errors[-1])
            if self.error == math.inf:
                return Verdict.FAR
            k.xp.log(at.v[: self.m], out=at.log_v)
            self._columns(at)
            if taken:
                watch.did(errors[1:, None] * self.mass, taken)
            slow = taken > max(0, warm - done) and self.error > FALL * errors[-2]  # also where the block ends by itself
            done += taken
            if self.error <= tol:
                return Verdict.MET
            if not watch.going():
                return Verdict.HALTED
            if slow or done >= most:
                return None

    def _anderson(self, tol, most=80, warm=2):
        """Accelerated Sinkhorn steps while they are quick; None is: on to Newton."""
        xp, m, at = self.k.xp, self.m, self.at
        log_v = at.log_v
        anderson = Anderson(self.k, xp.sqrt(self.b[:m]), HISTORY, CLIP)
        g = xp.empty(m)
        errors, best, best_at = [], math.inf, log_v
        for step in range(most + 1):
            self.error = err = self._evaluate(at)
            if err == math.inf:
                return Verdict.FAR
            if step:
                self._did()
            errors.append(err)
            if err < best:
                best, best_at = err, log_v.copy()
            if err <= tol:
                return Verdict.MET
            if not self.watch.going():
                return Verdict.HALTED
            if step > warm + ANDERSON_SPAN and err > ANDERSON_FALL**ANDERSON_SPAN * errors[-1 - ANDERSON_SPAN]:
                break
            xp.log(at.y[:m], out=g)
            xp.subtract(self.log_b, g, out=g)  # where Sinkhorn would go
            if self.powers[1] != 1:
                g *= self.powers[1]
            if step > 1 and err > 2 * errors[-2]:
                anderson.forget()
            if step < warm:
                log_v[:] = g
            else:
                anderson.step(log_v, g, log_v)
            if not float(abs(log_v).max()) < FARTHEST:
                if not self.relaxed:
                    log_v -= log_v[int(self.b.argmax())]
                log_v[:] = limited(xp, xp.nan_to_num(log_v, nan=0.0), 3 * FARTHEST)
            xp.exp(log_v, out=at.v[:m])
        if err > 1.5 * best:
            self.set(self.r, best_at)
            self.error = self._evaluate(at)
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
            length = self._search(self._direction())
            self.counts["newton"] += 1
            if length:
                self.at, self.trial = self.trial, self.at
                self._did()
                if self.error <= tol:
                    return Verdict.MET
            if not length or (length < 0.05 and self.error > 0.9 * before):
                falls += 1
                if falls > 5:
                    return Verdict.STUCK
                at = self.at
                at.v[:m] = self.k.xp.exp(self.powers[1] * (self.log_b - self.k.xp.log(at.y[:m])))
                verdict = self._sinkhorn(tol, 20, 3)
                if verdict is not None:
                    return verdict
            slow = slow + 1 if self.error < 1e-10 and self.error > 0.5 * before else 0
            if slow > 3:
                return Verdict.STUCK  # it is rounding that is left
            if float(abs(self.at.log_v).max()) > (MARGIN if self.store.truncated else 1.5 * FARTHEST):
                return Verdict.FAR
        return Verdict.STUCK

    def _direction(self):
        """x of (diag(d) - T' diag(q) T) x = target - col, by conjugate gradients with a Jacobi preconditioner."""
        k, xp, store, err, at = self.k, self.k.xp, self.store, self.error, self.at
        d, (power_a, _), ratio = self.gap, self.powers, self.r / self.tau[1]
        xp.multiply(at.target, SHIFT * min(err, 1.0) + ratio, out=d)
        d += at.col
        d[self.m :] = 1
        if self.empty is not None:
            d[: self.m][self.empty] = 1
        masses = self._masses(at.s)
        q = masses if power_a == 1 else power_a * masses
        threshold = min(1e-3, max(0.2 * err / 16, 1e-13))
        T, work, blocks = store.newton_matrix(at.v, at.s, masses, at.target, threshold, err > self.single)
        store.diagonal(T, q, self.diagonal, work)
        dinv = xp.subtract(d, self.diagonal, out=self.diagonal)
        xp.maximum(dinv, 1e-14 * d, out=dinv)
        xp.divide(1.0, dinv, out=dinv)
        x, r, p = self.x, self.rest, self.p
        x.fill(0)
        xp.subtract(at.target, at.col, out=r)
        xp.multiply(r, dinv, out=p)
        rz0 = float(r @ p)
        tol2 = min(0.1, max(0.3 * math.sqrt(err), 1e-4)) ** 2 * rz0
        left, most = 400, max(1, min(64, int(WORK_A_CALL / (16 * blocks + 1))))
        rz = xp.empty(most + 1)
        rz[0] = rz0
        while left > 0:
            steps = min(most, left)
            store.schur_cg_steps(T, q, d, dinv, tol2, steps, x, r, p, rz[: steps + 1], self.t, work)
            seen = k.to_host(rz[: steps + 1])
            taken = int((seen[:-1] > tol2).sum())
            self.counts["cg"] += taken
            left -= steps
            if taken < steps or not seen[-1] > tol2 or not self.watch.going():
                break
            rz[0] = rz[steps]
        x = x[: self.m]
        return x if self.relaxed else x - float(xp.median(x))

    def _search(self, x):
        """The length of the step along x that is taken, with `trial` at its end; 0 if none helps."""
        xp, m, at, trial = self.k.xp, self.m, self.at, self.trial
        slope = at.col[:m] - at.target[:m]
        spread = float(x.max() - x.min())
        length, down = 1.0, float(slope @ x)
        if spread > 2 * REACH:
            clipped = limited(xp, x, REACH)
            along = float(slope @ clipped)
            if along < 0.02 * down * 2 * REACH / spread:
                x, down = clipped, along
            else:
                length = 2 * REACH / spread
        phi = self._objective(at)
        for _ in range(12):
            xp.multiply(x, length, out=trial.log_v)
            trial.log_v += at.log_v
            xp.exp(trial.log_v, out=trial.v[:m])
            err = self._evaluate(trial)
            if err < 0.5 * self.error:
                break
            least = phi + 1e-4 * length * down + 1e-14 * max(1.0, abs(phi))
            if err < math.inf and self._objective(trial) <= least:
                break
            length *= 0.4
        else:
            return 0.0
        self.error = err
        return length

    def _objective(self, at):
        """(1), or (2)"""
        (power_a, power_b), m, ranks = self.powers, self.m, self.store.ranks
        if power_a == 1:
            rows = float(self.a @ self.k.xp.log(at.s))
        else:
            rows = float(self._masses(at.s).sum()) / (1 - power_a)
        if power_b == 1:
            columns = -float(self.b[:m] @ at.log_v)
        else:
            columns = self.tau[1] / self.r * float(at.target.sum())
        return shared.total(ranks, rows + ranks.carry * columns)


def relaxed(xp, weights, potential, tau):
    """weights exp(-potential / tau): what a marginal should be that may miss its weights at the price tau KL."""
    return weights if tau == np.inf else weights * xp.exp(xp.minimum(-potential / tau, LARGEST))


def limited(xp, x, most):
    """x within -most and most."""
    return xp.minimum(xp.maximum(x, -most), most)
