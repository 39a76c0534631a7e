"""The outer iteration of newton.py: from one point and its multipliers to the next."""

import numpy as np

from ..result import Status
from .globalization import Filter, Merit
from .restoration import restore
from .result import TRACE

FORCING = 0.1  # accuracy of a Newton system far from the solution; near it the square root of the residual
HALVINGS = 18
CORRECTIONS = 4
SHORT = 0.5  # a step below this is short
SHORT_IN_A_ROW = 5
RESTORATIONS = 20
ESCAPES = 10
LARGEST_START = 1e3  # multipliers of least squares beyond this are not started from
LARGEST_DAMPING = 1e14
UNBOUNDED_BELOW = -1e20
FLAT = 1e-8  # a curvature that counts as zero, relative to the Hessian
FAR_AWAY = 1e12  # x, relative to the start, where f has only fallen
FALLEN = 1e10
PATIENCE = 50


class Newton:
    """One solve. `run` gives the status; `point`, `lam` and `trace()` are there afterwards.

    Parameters
    ----------
    problem : Problem
    inner : Inner
    start : Point
    lam : array (m,) or None
        Multipliers of the scaled problem.
    tol : float
        On the unscaled residual.
    merit_only : bool
        No filter.

    Attributes
    ----------
    point, lam, residual
        Where it is.
    seen : list of one Point
        The same, for whoever must not hold on to the iteration.
    """

    kept = ("lam", "best", "stalled", "short", "restorations", "escapes", "last_shift", "damping", "_first_size",
            "_first_f", "merit", "filter", "inner")  # fmt: skip

    def __init__(self, problem, inner, start, lam, *, tol, merit_only):
        self.problem, self.inner, self.tol = problem, inner, tol
        self.start, self.seen = start, [start]
        self._place(start)
        self.merit = Merit(keep=merit_only)
        self.filter = None if merit_only else Filter(start.violation)
        self.lam = self._first_multipliers(start) if lam is None else lam
        self.residual = problem.residual(start, self.lam)
        self.best = np.inf
        self.stalled = self.short = self.restorations = self.escapes = 0
        self.last_shift = self.damping = 0.0  # damping: a floor of the shift, raised where nothing is accepted
        self._first_size, self._first_f = max(1.0, float(np.abs(start.x).max())), start.f
        self._mark = (0, np.inf, start.f, start.violation)
        self._rows: list = []

    def pack(self):
        state = {name: getattr(self, name) for name in self.kept}
        return state | {"x": self.point.x, "mark": self._mark, "rows": self._rows, "begun": self.start is not None}

    def unpack(self, saved):
        """Take up a checkpoint, and evaluate the functions at its x."""
        saved.into(self, *self.kept)
        self._mark, self.start = saved.like("mark", self._mark), self.start if saved["begun"] else None
        self._rows = saved.rows("rows", len(TRACE.names or ()))
        x = saved.like("x", self.point.x)
        if not (np.isfinite(x).all() and np.isfinite(self.lam).all()):
            raise ValueError("resume: the checkpoint contains NaN or infinity")
        self._place(self.problem.at(x))
        self.residual = self.problem.residual(self.point, self.lam)

    def trace(self):
        """What became of each iteration."""
        return np.array(self._rows, dtype=TRACE)

    def run(self, watch):
        """Iterate until solved or hopeless, or as long as the Monitor lets it."""
        self.watch = watch
        if not (self.point.finite and self.point.smooth):
            return Status.NAN_OR_INF
        status = None
        with np.errstate(all="ignore"):  # what overflows is seen where it is used
            while status is None:
                status = self._solved() or self._hopeless() or self._iterate()
            fallen = self.point.f < -FALLEN * max(1.0, abs(self._first_f))
            if status == Status.NO_DESCENT and fallen and self._feasible():
                status = Status.UNBOUNDED
        return status

    # ---- whether to go on -------------------------------------------------------------------------------------------

    def _solved(self):
        """CONVERGED at a minimum within the tolerance, also if the multipliers of least squares show it to be one."""
        if self.residual > self.tol and (self.stalled >= 3 or self.problem.violation(self.point) <= self.tol):
            better = self._least_squares()
            there = self.problem.residual(self.point, better)
            stationary = np.abs(self.point.g + self.point.J.T @ better).max(initial=0.0)
            now = np.abs(self.point.g + self.point.J.T @ self.lam).max(initial=0.0)
            if there <= self.tol or (self.stalled >= 3 and stationary < 0.1 * now):
                self.lam, self.residual, self.stalled = better, there, 0
        if self.residual > self.tol:
            return None
        return self._second_order()

    def _hopeless(self):
        point = self.point
        if not np.isfinite(self.residual):
            return Status.NAN_OR_INF
        far = np.abs(point.x).max() > FAR_AWAY * self._first_size and point.f < self._first_f
        if (far or point.f / self.problem.f_scale < UNBOUNDED_BELOW) and self._feasible():
            return Status.UNBOUNDED
        if self._stands_still():
            return Status.NO_DESCENT
        return None if self.watch.going(self) else self.watch.status

    def _feasible(self):
        """As far as matters where f falls without bound."""
        return self.point.violation <= 1e-6 * max(1.0, -self.point.f)

    def _stands_still(self):
        """Whether the last PATIENCE iterations changed next to nothing: neither the residual, nor f, nor c."""
        if self.watch.nit < self._mark[0] + PATIENCE:
            return False
        before, self._mark = self._mark, (self.watch.nit, self.best, self.point.f, self.point.violation)
        pairs = zip(self._mark[2:], before[2:], strict=True)
        same = all(abs(now - then) <= 1e-6 * max(1.0, abs(then)) for now, then in pairs)
        return same and self.best > 0.9 * before[1]

    def _second_order(self):
        """CONVERGED, unless the Hessian bends down along the constraints; then away from there, if that can be."""
        convex = self._rows and self._rows[-1][4] == 0 and self._rows[-1][6] > 0 and self.damping == 0
        if convex and self.inner.inertia_known:
            return Status.CONVERGED  # the last step was that of a convex model, and led here
        H = self.point.hessian(self.lam)
        if self.inner.prepare(H, self.point.J, 0.0, 0.0) and self.inner.shift == 0.0 and self.inner.inertia_known:
            return Status.CONVERGED
        value, u = self.inner.curvature(H, self.point.J)
        v = self.inner.rng.standard_normal(u.size)
        size = max(float(np.linalg.norm(H.matvec(u))), float(np.linalg.norm(H.matvec(v)) / np.linalg.norm(v)))
        if not value < -FLAT * max(size, 1e-4):
            return Status.CONVERGED
        if not self.watch.going():
            return self.watch.status
        found = self._escape(value, u)
        return Status.CONVERGED if found == Status.NOT_A_MINIMUM and value > -100 * FLAT * size else found

    def _escape(self, value, u):
        """Along a direction of negative curvature, to where the Lagrangian is lower."""
        problem, point, lam = self.problem, self.point, self.lam
        before = point.f + lam @ point.c
        self.escapes += 1
        a = max(1.0, float(np.abs(point.x).max(initial=0.0)))
        while a > 1e-7 and self.escapes <= ESCAPES:
            trials = [problem.at(point.x + sign * a * u) for sign in (1, -1)]
            values = [float(t.f + lam @ t.c) if t.finite else np.inf for t in trials]
            best = int(np.argmin(values))
            if values[best] <= before + 0.1 * a * a * value and trials[best].smooth:
                point = trials[best]
                if self.filter is not None:
                    self.filter = Filter(max(point.violation, self.filter.small))
                self._move(point, self._first_multipliers(point), step=a, by="curvature")
                self.best, self.stalled = np.inf, 0
                return None
            a /= 4
        return Status.NOT_A_MINIMUM

    # ---- an iteration -----------------------------------------------------------------------------------------------

    def _iterate(self):
        """A step, or what else can be done; a status where nothing can."""
        point, lam, inner = self.point, self.lam, self.inner
        if self.residual <= self.tol:  # an escape led right to a solution
            return None
        gL = point.g + point.J.T @ lam
        H = point.hessian(lam)
        if not inner.prepare(H, point.J, self.damping, self.last_shift):
            return self._unpreparable(H)
        dx, dlam, left = self._direction(H, gL)
        if inner.shift > self.damping:
            self.last_shift = inner.shift
        row = {"left": left, "shift": inner.shift, "dual_shift": inner.dual_shift}
        if not (np.isfinite(dx).all() and np.isfinite(dlam).all()):
            self.damping = max(1e-4, 10 * max(self.damping, inner.shift))
            self._move(point, lam, step=0.0, by="", **row)
            return None if self.damping <= LARGEST_DAMPING else Status.NAN_OR_INF
        a, by, trial, lam_new = self._search(gL, dx, dlam)
        if trial is None:
            self._move(point, lam, step=0.0, by="", **row)
            return self._refused(gL, dx)
        if self.filter is not None and by != "objective":
            self.filter.add(point)
        if inner.dual_shift > 0 and np.abs(lam_new).max(initial=0.0) > LARGEST_START:
            lam_new = self._first_multipliers(trial)  # a singular system has thrown them far out
        if a == 1.0:
            self.damping = self.damping / 10 if self.damping > 1e-10 else 0.0
        self._move(trial, lam_new, step=a, by=by, **row)
        self.short = self.short + 1 if a < SHORT else 0
        infeasible = self.problem.violation(trial) > self.tol
        if self.short >= SHORT_IN_A_ROW and infeasible and self.restorations < RESTORATIONS:
            self.short = 0
            return self._restore(0.1)
        return None

    def _unpreparable(self, H):
        """No shift makes (1) a system to be solved."""
        if not np.isfinite(H.matvec(np.ones(self.problem.n))).all():
            return Status.NAN_OR_INF
        better = self._first_multipliers(self.point)
        if np.linalg.norm(better) < 0.1 * np.linalg.norm(self.lam):  # which had made H huge
            return self._take(better)
        if self.problem.violation(self.point) > self.tol and self.restorations < RESTORATIONS:
            return self._restore(0.9)
        return Status.NO_DESCENT

    def _direction(self, H, gL):
        """(dx, dlam, relative residual) of (1), accurate enough for descent of the merit function."""
        point, lam, inner = self.point, self.lam, self.inner
        b = -np.concatenate([gL, point.c])
        accuracy = min(FORCING, float(np.linalg.norm(b)) ** 0.5)
        inner.products += 1
        H_gL = H.matvec(gL)
        while True:
            d, left = inner.solve(b, accuracy)
            dx, dlam = d[: self.problem.n], d[self.problem.n :]
            descends = self.merit.aim(point, lam, gL, H_gL, dx, dlam)
            if descends or inner.exact or left > accuracy or accuracy <= 1e-10:
                return dx, dlam, left
            accuracy *= 0.01

    def _search(self, gL, dx, dlam):
        """(a, what accepted it, point, multipliers); the point is None where nothing was accepted."""
        point, lam, problem = self.point, self.lam, self.problem
        a = 1.0
        for _ in range(HALVINGS):
            trial, lam_new = problem.at(point.x + a * dx), lam + a * dlam
            by = self._accepts(trial, lam_new, dx, a)
            if by is None and a == 1.0:
                by, trial, lam_new = self._corrected(trial, gL, dx)
            if by is not None:
                return a, by, trial, lam_new
            a *= 0.5
        return 0.0, None, None, None

    def _accepts(self, trial, lam, dx, a):
        if not trial.finite:
            return None
        if self.filter is not None:
            if trial.violation > self.filter.largest:
                return None
            by = self.filter.accepts(self.point, trial, self.point.g @ dx, a)
            if by is not None and trial.smooth:
                return by
        return "merit" if trial.smooth and self.merit.accepts(trial, lam, a) else None

    def _corrected(self, trial, gL, dx):
        """Second-order corrections, as long as they lower the violation: of a full step that did not."""
        c, theta = self.point.c.copy(), self.point.violation
        if not trial.finite or trial.violation < theta:
            return None, None, None
        for _ in range(CORRECTIONS):
            theta = trial.violation
            c = c + trial.c
            d, _ = self.inner.solve(-np.concatenate([gL, c]), 1e-4)
            step, dlam = d[: self.problem.n], d[self.problem.n :]
            trial, lam_new = self.problem.at(self.point.x + step), self.lam + dlam
            if not trial.finite:
                break
            by = self._accepts(trial, lam_new, dx, 1.0)
            if by is not None:
                return by, trial, lam_new
            if not trial.violation <= 0.99 * theta:
                break
        return None, None, None

    def _refused(self, gL, dx):
        """Nothing along the direction was accepted."""
        point = self.point
        better = self._least_squares()
        if np.linalg.norm(dx) <= 1e-13 * max(1.0, float(np.linalg.norm(point.x))):
            if np.linalg.norm(better - self.lam) > 1e-10 * max(1.0, float(np.linalg.norm(self.lam))):
                return self._take(better)
            return Status.NO_DESCENT if self.damping else Status.STALLED
        if self.problem.violation(point) > self.tol and self.restorations < RESTORATIONS:
            return self._restore(0.9)
        if np.abs(point.g + point.J.T @ better).max() < 0.5 * np.abs(gL).max():
            return self._take(better)
        self.damping = max(1e-4, 10 * max(self.damping, self.inner.shift))
        return Status.NO_DESCENT if self.damping > LARGEST_DAMPING else None

    def _take(self, lam):
        self.lam = lam
        self.residual = self.problem.residual(self.point, lam)

    def _restore(self, factor):
        """Lower the violation to `factor` of what it is, at a point that the filter does not block."""
        theta, filter_ = self.point.violation, self.filter
        self.restorations += 1
        if filter_ is not None:
            filter_.add(self.point)

        def done(point):
            lower = point.violation <= factor * theta and not (filter_ and filter_.blocks(point.violation, point.f))
            return lower or np.abs(point.c).max() <= 1e-12

        point, how = self._levenberg_marquardt(self.point, done)
        if how in ("infeasible", "stuck") and self.start is not None:
            # the iteration may have been led into the wrong valley: once, from where it began
            begun, self.start = self.start, None
            target = 0.1 * point.violation
            again, ended = self._levenberg_marquardt(begun, lambda p: p.violation <= target)
            if ended == "done":
                point, how = again, ended
                self.filter = None if filter_ is None else Filter(begun.violation)
            else:
                self._place(point)
        self._take(self._first_multipliers(point))
        self.merit.forget()
        self.last_shift = self.damping = 0.0
        if how == "infeasible":
            return Status.INFEASIBLE_STATIONARY
        if how == "nan":
            return Status.NAN_OR_INF
        if how == "stuck" and factor == 0.9 and point.violation > 0.99 * theta:
            return Status.NO_DESCENT
        return None

    # ---- bookkeeping ------------------------------------------------------------------------------------------------

    def _levenberg_marquardt(self, point, done):
        budget = min(100, self.watch.maxiter - self.watch.nit)
        moved = lambda p: self._move(p, self.lam, step=1.0, by="restoration")
        return restore(point, self.inner, done=done, budget=budget, going=self.watch.going, moved=moved)

    def _place(self, point):
        self.point = self.seen[0] = point
        self.inner.visit(point)

    def _move(self, point, lam, *, step, by, left=np.nan, shift=0.0, dual_shift=0.0):
        """An iteration is over, and this is where it led."""
        newton = by not in ("restoration", "curvature")
        self._place(point)
        self.lam = lam
        self.residual = self.problem.residual(point, lam)
        self.stalled = self.stalled + 1 if self.residual > 0.9 * self.best else 0
        self.best = min(self.best, self.residual)
        margin = self.merit.margin if newton else np.nan
        self._rows.append((left, margin, self.merit.eta1, self.merit.eta2, shift, dual_shift, step, by))
        self.watch.did(np.array([[self.residual]]), 1)

    def _least_squares(self):
        return self.inner.multipliers(self.point.g, self.point.J)

    def _first_multipliers(self, point):
        """Those of least squares, or zero where these are huge."""
        if not (point.finite and point.smooth):
            return np.zeros(self.problem.m)
        self.inner.visit(point)
        lam = self.inner.multipliers(point.g, point.J)
        return lam if np.abs(lam).max(initial=0.0) <= LARGEST_START else np.zeros(self.problem.m)
