"""The last digits of a linear program: proximal point steps from where PDHG has come to.

PDHG finds out slowly which bounds hold with equality, but well; once they are nearly known, a proximal point step with
a large T, which Newton's method does in a few linear solves, takes the rest of the way at once. After each step

    T is raised fivefold where Newton took few steps, and halved where it took many;                     (1)
    w is moved by sqrt(primal error / dual error), at most fourfold, where the two differ by more than 5. (2)

An attempt has a budget of seconds, doubled as long as it pays. What it has reached is kept, and the next attempt goes
on from there unless PDHG has come further meanwhile. It runs on the host.
"""

import time
from typing import Any, NamedTuple

from ..dispatch import kernels_for
from .newtonsystem import newton_system
from .proximal import Proximal

FIRST, LARGEST, SMALLEST = 100.0, 1e7, 1.0  # T
GROWTH, FEW, MANY = 5.0, 12, 30  # of (1)
UNBALANCED, MOST_SHIFT, FROM_STEP = 5.0, 4.0, 2  # of (2)
STEPS, NEWTON_STEPS = 60, 60
PAYS = 0.2  # the part that an error has to fall to for more time
WIN = 0.5  # and for a point to be worth taking
SMALL, SURE = 100_000, 20  # numbers in H and A of a problem that has this many Newton steps in any case


class Point(NamedTuple):
    """A better point: scaled x and y, its errors, and whether they meet the tolerance."""

    x: Any
    y: Any
    errors: Any
    solved: bool


class Finisher:
    """Attempts at the end of one problem.

    Parameters
    ----------
    scaled : Scaled
        One problem, on the host.
    tol : float
    system : Dense or Sparse, optional
        Of the Newton steps, if there is one already.

    Attributes
    ----------
    seconds_a_step : float or None
        What a Newton step took, of late.
    newton : int
        Newton steps so far.
    """

    def __init__(self, scaled, tol, system=None):
        self.scaled, self.tol = scaled, tol
        self.seconds_a_step: float | None = None
        self.newton = 0
        self._system: Any = system
        self._hopeless = False
        self._kept: Any = None  # (x, y, errors, T, weight) of the last attempt

    def improve(self, x, y, weight, errors, seconds, hard, stop=None):
        """Proximal point steps from (x, y), or from where the last attempt has ended if that is better.

        Parameters
        ----------
        x, y : array (n,), (m,)
            Scaled.
        weight : float
            The primal weight of PDHG.
        errors : Errors
            At (x, y).
        seconds, hard : float
            The budget, and the most that it may be raised to. Its clock starts with the second Newton step, since the
            first one may compile; a small problem has SURE steps whatever they take.
        stop : callable, optional
            Asked between Newton steps; True ends the attempt.

        Returns
        -------
        Point or None
            None where the error is not below half of that given.
        """
        if self._hopeless:
            return None
        with kernels_for(x=x) as k:
            if self._system is None:
                self._system = newton_system(k, self.scaled, hard)
                self._hopeless = self._system is None
                if self._hopeless:
                    return None
            given = errors.kkt
            T = FIRST
            if self._kept is not None and self._kept[2].kkt < given:
                x, y, errors, T, weight = self._kept
            path = Proximal(k, self.scaled, self._system)
            small = path.y.size**2 + self.scaled.data.size <= SMALL
            budget = _Budget(path, seconds, hard, errors.kkt, SURE if small else 1, stop)
            path.begin(x, y)
            point = self._steps(path, T, weight, budget)
        self.newton += path.newton
        if path.newton > 1:
            self.seconds_a_step = budget.spent() / (path.newton - 1)
        if point is not None and (point.solved or point.errors.kkt < WIN * given):
            return point
        return None

    def _steps(self, path, T, weight, budget):
        point = None
        for number in range(STEPS):
            taken = path.step(T, weight, NEWTON_STEPS, budget.going)
            if taken is None:
                break
            x, y = path.x.copy(), path.y.copy()
            errors = self.scaled.errors(x, y)
            budget.error = errors.kkt
            point = Point(x, y, errors, errors.meets(self.tol))
            if point.solved:
                break
            if number >= FROM_STEP:
                weight *= balance(errors)
            if taken <= FEW:
                T = min(GROWTH * T, LARGEST)
            elif taken >= MANY:
                T = max(T / 2, SMALLEST)
            self._kept = x, y, errors, T, weight
        return point


def balance(errors):
    """The factor (2)."""
    quotient = errors.primal / max(errors.dual, 1e-14)
    if 1 / UNBALANCED <= quotient <= UNBALANCED:
        return 1.0
    return min(max(quotient**0.5, 1 / MOST_SHIFT), MOST_SHIFT)


class _Budget:
    """Seconds, doubled up to `hard` while the error has fallen enough since the last time."""

    def __init__(self, path, seconds, hard, error, sure, stop):
        self._path, self._sure, self._stop = path, sure, stop
        self._began = time.perf_counter()
        self._seconds, self._hard = min(seconds, hard), hard
        self._before = self.error = error

    def spent(self):
        return time.perf_counter() - self._began

    def going(self):
        if self._stop is not None and self._stop():
            return False
        if self._path.newton <= 1:
            self._began = time.perf_counter()
        spent = self.spent()
        if spent <= self._seconds or self._path.newton < self._sure:
            return True
        if self.error > PAYS * self._before or spent >= self._hard:
            return False
        self._seconds, self._before = min(2 * self._seconds, self._hard), self.error
        return spent <= self._seconds
