"""The algorithm of Hong, Na, Mahoney and Kolar as written, and its inner solvers.

"Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching", ICML 2023 (arXiv
2305.18379), AdaSketch-Newton-GALM. In the paper's letters, with G = c' and z = (dx, dlam), a Newton system

    K z = b,   K = [[B, G'], [G, 0]],   B = H + tau I,   b = -(grad_x L, c),                              (1)

is solved by sketch and project, for a random s,

    z <- z - K s (s'r) / |K s|^2,   r = K z - b,                                                          (2)

until |K| Psi |r| <= delta |b| and the direction is one of descent for the exact augmented Lagrangian M of
`globalization`, grad M' z <= -(eta2 / 2) |b|^2. Where it is not, eta1 <- nu^2 eta1, eta2 <- eta2 / nu, delta gets
smaller and (2) goes on. A step along z is one of Armijo's for M. With s a random unit vector, (2) is Kaczmarz' method
with rows chosen uniformly; with s Gaussian it takes all rows at once.

Psi, by which the paper bounds |K^-1|, is 200 or more with its constants, so that delta sits at its floor from the first
step: the adaptive test asks for a solution that is exact. Kaczmarz' method needs about |K|_F^2 / sigma_min(K)^2 rows
for each digit of it. `kkt` has faster ways; these are here for comparison.
"""

import numpy as np

from ..dispatch import kernels_for
from ..result import Status
from .globalization import Merit
from .kkt import Inner, shifts
from .result import TRACE
from .sparsekkt import curved_upwards

# the paper's constants
ETA1, ETA2, DELTA, BETA, NU, XI_B = 1.0, 0.1, 0.1, 0.1, 1.5, 0.1
LEAST_DELTA = 1e-6
MOST_TOUCHES = 20_000_000  # of rows, in one solve
HALVINGS = 60
CURVATURE = 1e-6  # least along the constraints that H is used with as it is


class SketchAndProject(Inner):
    """(2) on a dense K; `iterations` counts how often a row of K is touched."""

    def prepare(self, H, J, floor, last):
        self.H, self.J = H, J
        self.shift, self.dual_shift, self._last = floor, 0.0, last
        return bool(np.isfinite(self.matrix(H.dense(), J)).all())

    def matrix(self, B, J):
        """Take K over."""
        n, m = self.n, self.m
        G = J.toarray() if hasattr(J, "toarray") else J @ np.eye(n)
        self.K = np.zeros((n + m, n + m))
        self.K[:n, :n], self.K[n:, :n], self.K[:n, n:] = B, G, G.T
        self._squares = (self.K**2).sum(1)
        return self.K

    def solve(self, b, accuracy):
        size = np.linalg.norm(b)
        for tau in shifts(self.shift, self._last):
            self.matrix(self.H.dense() + tau * np.eye(self.n), self.J)
            self.shift = tau
            z, left = self.go_on(b, np.zeros_like(b), accuracy * size)
            if not np.isfinite(left) or not self.going() or curved_upwards(self, b, z):
                break
        return z, float(left / size) if size else 0.0

    def go_on(self, b, z, target):
        """(z, |K z - b|) by (2) from z on, until that is at most `target`."""
        raise NotImplementedError

    def _left(self, b, z):
        return float(np.linalg.norm(b - self.K @ z))


class Kaczmarz(SketchAndProject):
    """s a random unit vector: a row of K at a time."""

    def go_on(self, b, z, target):
        q, touched = b.size, 0
        with kernels_for(K=self.K) as k:
            left = self._left(b, z)
            while left > target and touched < MOST_TOUCHES and self.going():
                count = min(max(q, touched // 8), 1_000_000)
                rows = self.rng.integers(0, q, (1, count), dtype=np.int32)
                k.kaczmarz(self.K[None], b[None], self._squares[None], rows, z[None])
                touched += count
                left = self._left(b, z)
        self.iterations += touched
        return z, left


class Gaussian(SketchAndProject):
    """s a Gaussian vector: a combination of all rows at a time."""

    def go_on(self, b, z, target):
        q, touched, K = b.size, 0, self.K
        r = K @ z - b
        left = float(np.linalg.norm(r))
        while left > target and touched < MOST_TOUCHES:
            for s in self.rng.standard_normal((min(max(32, touched // (8 * q)), 4096), q)):
                a = K @ s
                step = (s @ r) / (a @ a)
                z -= step * a
                r -= step * (K @ a)
                touched += q
                if not r @ r > target * target:
                    break
            r = K @ z - b
            left = float(np.linalg.norm(r))
            if not self.going():
                break
        self.iterations += touched
        return z, left


class AdaSketch:
    """One solve by the paper's algorithm, on the problem without scaling; a counterpart of `outer.Newton`.

    Parameters
    ----------
    problem : Problem
    inner : SketchAndProject
    start : Point
    lam : array (m,) or None
        Multipliers of the scaled problem; the paper starts from zero.
    tol : float
    """

    def __init__(self, problem, inner, start, lam, *, tol):
        self.problem, self.inner, self.tol = problem, inner, tol
        self.lam = np.zeros(problem.m) if lam is None else problem.multipliers_out(lam)
        problem.f_scale, problem.c_scale = 1.0, np.ones(problem.m)
        self.point = problem.at(start.x)
        self.seen = [self.point]
        self.merit, self.delta = Merit(keep=True), DELTA
        self.merit.eta1, self.merit.eta2 = ETA1, ETA2
        self.residual = problem.residual(self.point, self.lam)
        self._rows: list = []

    def trace(self):
        """What became of each iteration."""
        return np.array(self._rows, dtype=TRACE)

    def run(self, watch):
        """Iterate until solved, or as long as the Monitor lets it."""
        if not (self.point.finite and self.point.smooth):
            return Status.NAN_OR_INF
        with np.errstate(all="ignore"):
            while True:
                if self.residual <= self.tol:
                    return Status.CONVERGED
                if not np.isfinite(self.residual):
                    return Status.NAN_OR_INF
                if not watch.going():
                    return watch.status
                status = self._iterate(watch)
                if status is not None:
                    return status

    def _iterate(self, watch):
        point, lam, merit, inner = self.point, self.lam, self.merit, self.inner
        H = point.hessian(lam).dense()
        if not np.isfinite(H).all():
            return Status.NAN_OR_INF
        G = point.J.toarray() if hasattr(point.J, "toarray") else point.J @ np.eye(self.problem.n)
        values, rows = np.linalg.eigh(G @ G.T) if self.problem.m else (np.ones(1), np.zeros((0, 0)))
        if not values[0] > 1e-14 * values[-1]:
            return Status.RANK_DEFICIENT
        tau = self._shift(H, G, values, rows)
        B = H + tau * np.eye(self.problem.n)
        K = inner.matrix(B, G)
        norm = lambda A: float(np.linalg.norm(A, 2)) if A.size else 0.0
        psi = 20 * max(norm(B) ** 2, 1.0) / (min(float(values[0]), 1.0) * min(XI_B, 1.0))
        self._bound = (0.5 - BETA) / (max(norm(G), norm(H), 1.0) ** 2 * psi**2)
        self._shrink(1.0)
        gL = point.g + G.T @ lam
        b = -np.concatenate([gL, point.c])
        size, H_gL, G_gL = float(np.linalg.norm(b)), H @ gL, G @ gL
        z, unit = np.zeros_like(b), norm(K) * psi
        while True:
            z, left = inner.go_on(b, z, self.delta * size / unit)
            gradient = np.concatenate([gL + merit.eta2 * H_gL + merit.eta1 * (G.T @ point.c),
                                       point.c + merit.eta2 * G_gL])  # fmt: skip
            merit.slope = float(gradient @ z)
            merit.margin = -merit.slope / (0.5 * merit.eta2 * size**2)
            if merit.margin >= 1 or merit.eta1 > 1e8 or not watch.going():
                break
            merit.eta1 *= NU**2
            merit.eta2 /= NU
            self._shrink(NU**4)
        if not watch.going():
            return watch.status  # the direction was not worked out
        return self._search(z, float(left / size), tau, watch)

    def _shift(self, H, G, values, rows):
        """tau: none where H bends upwards along the constraints, else more than enough."""
        onto_rows = (G.T @ (rows / values)) @ (rows.T @ G) if self.problem.m else 0 * H
        project = np.eye(self.problem.n) - onto_rows
        along = np.linalg.eigvalsh(project @ H @ project + onto_rows * (1 + abs(H).sum()))
        return 0.0 if along[0] >= CURVATURE else XI_B + float(np.linalg.norm(H))

    def _shrink(self, factor):
        merit = self.merit
        enough = self._bound * merit.eta2 / (1 + merit.eta1 + merit.eta2)
        self.delta = max(min(self.delta / factor, enough), LEAST_DELTA)

    def _search(self, z, left, tau, watch):
        """Armijo's rule on M."""
        problem, merit, a = self.problem, self.merit, 1.0
        start = merit.value(self.point, self.lam)
        for _ in range(HALVINGS):
            trial, lam = problem.at(self.point.x + a * z[: problem.n]), self.lam + a * z[problem.n :]
            if trial.finite and trial.smooth and merit.value(trial, lam) <= start + a * BETA * merit.slope:
                break
            a *= 0.5
        else:
            return Status.NO_DESCENT
        self.point, self.lam = trial, lam
        self.seen[0] = trial
        self.residual = problem.residual(trial, lam)
        self._rows.append((left, merit.margin, merit.eta1, merit.eta2, tau, 0.0, a, "merit"))
        watch.did(np.array([[self.residual]]), 1)
        return None
