"""Restoration: when no step is accepted while the constraints are violated, lower the violation alone.

Levenberg and Marquardt's method on |c|^2 / 2 with the damping mu = nu |c| of Fan and Yuan, Computing 74 (2005), whose
convergence needs no full rank:

    s = argmin |J s + c|^2 + mu |s|^2.                                                                    (1)

To it is added, where it is small, what follows the curve of c along s (Transtrum and Sethna, arXiv 1201.5885),

    (1/2) argmin |J t + c''(s, s)|^2 + mu |t|^2.                                                          (2)

Where that is slow the Hessian J'J + sum c_i H_i takes the place of J'J, shifted until it is positive. A point where
J'c = 0 is left along a direction of negative curvature of |c|^2, and is infeasible where there is none.
"""

import numpy as np

from .kkt import least_eigenpair

FLAT = 1e-8  # |J'c| / |c| below which |c| is stationary
INFEASIBLE_ABOVE = 1e-6
CREEPING, CREEP = 10, 0.5  # so many iterations have to lower |c| by this factor
PROBE = 0.1  # of s, for c'' by differences
TURN = 0.5
SLOW, FEW = 8, 0.9  # and here by this one, or second derivatives are made use of
DENSE_LIMIT = 500


def restore(point, inner, *, done, budget, going, moved):
    """(point, "done" | "infeasible" | "stuck" | "nan" | "stopped"): go from `point` to one that is done(point).

    `moved(point)` is told of every iteration, and no more than `budget` are made.
    """
    nu, sizes, slopes = 1e-8, [], []
    for _ in range(budget):
        if not going():
            return point, "stopped"
        inner.visit(point)
        c, J = point.c, point.J
        size, G = float(np.linalg.norm(c)), J.T @ c
        steepest = float(np.linalg.norm(G))
        if done(point):
            return point, "done"
        if steepest <= FLAT * size:
            better = _escape(point, inner)
            if better is None:
                return point, "infeasible" if size > INFEASIBLE_ABOVE else "stuck"
            point = better
            moved(point)
            continue
        sizes.append(size)
        slopes.append(steepest / size)
        settling = len(sizes) > CREEPING and slopes[-1] < 0.1 * slopes[-CREEPING]  # on a point that is infeasible
        if len(sizes) > CREEPING and size > CREEP * sizes[-CREEPING] and not settling:
            return point, "stuck"
        slow = len(sizes) > SLOW and size > FEW * sizes[-SLOW] and point.x.size <= DENSE_LIMIT
        model = _SecondOrder(point, G) if slow else _GaussNewton(point, inner)
        better, ratio, finite = None, 0.0, False
        for _ in range(40):
            s, predicted = model.step(nu * size)
            trial = point.problem.at(point.x + s)
            if trial.finite and trial.smooth:
                finite = True
                actual = 0.5 * (size**2 - float(trial.c @ trial.c))
                ratio = actual / max(predicted, 1e-300)
                if ratio > 1e-4 and actual > 0:
                    better = trial
                    break
            nu = max(6 * nu, 1e-8)
            if np.linalg.norm(s) <= 1e-15 * max(1.0, float(np.linalg.norm(point.x))):
                break
        if better is None:
            if not finite:
                return point, "nan"
            flat = steepest <= 1e-6 * size and size > INFEASIBLE_ABOVE
            return point, "infeasible" if flat else "stuck"
        if ratio > 0.75:
            nu = max(nu / 6, 1e-12)
        elif ratio < 0.25:
            nu *= 3
        point = better
        moved(point)
    return point, "done" if done(point) else "stuck"


class _GaussNewton:
    def __init__(self, point, inner):
        self.point, self.inner = point, inner

    def step(self, damping):
        """(1), and by how much |c|^2 / 2 falls in the model."""
        c, J = self.point.c, self.point.J
        s = self.inner.normal_step(J, c, damping)
        Js = J @ s
        predicted = -float(c @ Js + 0.5 * (Js @ Js))
        near = self.point.problem.at(self.point.x + PROBE * s)
        if near.finite:
            bend = (2 / PROBE) * ((near.c - c) / PROBE - Js)
            turn = 0.5 * self.inner.normal_step(J, bend, damping)  # (2)
            if np.linalg.norm(turn) <= TURN * np.linalg.norm(s):
                s = s + turn
        return s, predicted


class _SecondOrder:
    def __init__(self, point, G):
        import scipy.linalg as la

        J, n = point.J, point.x.size
        B = point.constraint_hessian(point.c).dense()
        self.G, self.B = G, B + np.stack([J.T @ (J @ unit) for unit in np.eye(n)], axis=1)
        self.B = 0.5 * (self.B + self.B.T)
        self.values, self.V = la.eigh(self.B, check_finite=False)

    def step(self, damping):
        low, size = self.values[0], max(abs(self.values[0]), abs(self.values[-1]))
        shift = max(damping, 1e-10 * size) + max(0.0, -low)
        s = -self.V @ ((self.V.T @ self.G) / (self.values + shift))
        return s, -float(self.G @ s + 0.5 * (s @ (self.B @ s)))


def _escape(point, inner):
    """A point of smaller |c| along a direction in which |c|^2 bends down; None where there is none."""
    H, J = point.constraint_hessian(point.c), point.J
    start = inner.rng.standard_normal(point.x.size)
    value, u = least_eigenpair(lambda v: J.T @ (J @ v) + H.matvec(v), start)
    size2 = float(point.c @ point.c)
    if not value < -1e-8 * max(1.0, size2):
        return None
    a = max(1.0, float(np.abs(point.x).max(initial=0.0)))
    while a > 1e-6:
        trials = [point.problem.at(point.x + sign * a * u) for sign in (1, -1)]
        values = [float(t.c @ t.c) if t.finite else np.inf for t in trials]
        best = int(np.argmin(values))
        if values[best] <= size2 + 0.1 * a * a * value and trials[best].smooth:
            return trials[best]
        a /= 4
    return None
