"""Feasibility polishing: the nearest feasible x, or y, where the other one and the gap are already good enough.

Where y is feasible to the tolerance and the duality gap closed, but x lags behind, PDHG on the same rows and bounds
without costs moves x to a feasible point nearby, and much sooner, since nothing but feasibility is asked for. Where it
is y that lags, the same is done with all finite sides and bounds zero, of which any feasible y is a solution.
(Applegate et al., "PDLP: a practical first-order method for large-scale linear programming", 2025, polishes both by
turns; one at a time, and only once the other is done, is what did not cost more than it gained on Netlib.)

Where all is well but for a few rows, those whose sides are small beside the errors that the others may have, only they
are asked for, and what the others have is enough for them: a few steps, which leave the objective nearly where it is.
"""

import time
from dataclasses import replace

import numpy as np

from ..kernels.contracts.lp import COLUMN_NORM, DUAL, ERRORS, GAP, PRIMAL, ROW_NORM, WEIGHT, meets
from .kkt import Errors, work_shape
from .pdhg import EVERY, Iteration

FIRST, AGAIN, AFTER_FAILURE = 512, 1.25, 2.0  # iterations; times so many until it is thought of again
SHARE = 1 / 25  # of the iterations so far
LAGS = 10.0  # times the tolerance: an error below is soon met anyhow
ENOUGH = 0.01  # times the tolerance: nothing is gained by less
SECONDS_A_BLOCK = 0.01
MENDING = 16  # iterations for a few rows


class Polish:
    """Of the only program of a `Scaled`.

    Attributes
    ----------
    next : int
        The iteration after which to call `make`.
    wins, steps : int
        Programs solved so, and iterations spent on it.
    """

    kept = ("next", "wins", "steps")

    def __init__(self, k, scaled):
        self._k, self._scaled = k, scaled
        self.next, self.wins, self.steps = FIRST, 0, 0

    def make(self, iteration, going):
        """Whether (p, q) of the iteration, polished, solves the program; it is then put in place."""
        row, tol, nit = iteration.rows[0], iteration.tol, int(iteration.nit[0])
        self.next = int(AGAIN * nit) // EVERY * EVERY
        lagging = [error for error, other in ((PRIMAL, DUAL), (DUAL, PRIMAL)) if row[other] <= tol < row[error] / LAGS]
        budget = int(SHARE * nit) // EVERY * EVERY
        if not lagging or row[GAP] > tol or not budget:
            return False
        self.next = int(AFTER_FAILURE * nit)
        x, y, errors = self._polished(iteration, lagging[0], budget, going)
        if not meets(errors, tol):
            return False
        self.wins += 1
        iteration.put(0, x[0], y[0], Errors.from_row(errors), True)
        return True

    def _polished(self, iteration, error, budget, going):
        """(x, y, their errors), with the x or y that `error` is of made feasible."""
        xp, primal, tol = self._k.xp, error == PRIMAL, iteration.tol
        x, y = iteration.p.copy(), iteration.q.copy()
        start = (x, xp.zeros_like(y)) if primal else (xp.zeros_like(x), y)
        problem = (without_costs if primal else without_sides)(self._k, self._scaled)
        inner = Iteration(self._k, problem, *start, 0.0)
        inner.state[:, WEIGHT] = float(iteration.weight[0])
        block, errors = 1, np.full(ERRORS, np.nan)
        while inner.done < budget and going():
            began = time.perf_counter()
            inner.advance(min(block, EVERY - inner.done % EVERY))
            block = 2 * block if time.perf_counter() - began < SECONDS_A_BLOCK else max(1, block // 2)
            if inner.done % EVERY or inner.rows[0, error] > tol:
                continue
            x, y = (inner.p, y) if primal else (x, inner.q)
            errors = errors_at(self._k, self._scaled, x, y)
            if meets(errors, tol) or inner.rows[0, error] <= ENOUGH * tol:
                break
        self.steps += inner.done
        return x, y, errors


def mended(k, scaled, iteration, rows, pace):
    """(x, errors) of the iteration's only program, with x moved towards the sides of some rows (m,).

    `pace` is what an iteration takes, in seconds.
    """
    xp, problem = k.xp, without_costs(k, scaled)
    activity = xp.empty_like(iteration.q)
    k.csr_matvec(scaled.indptr, scaled.indices, scaled.data[0], iteration.p, activity)
    rows = xp.asarray(rows)[None]
    low = xp.where(rows, scaled.row_lower, xp.minimum(scaled.row_lower, activity))
    high = xp.where(rows, scaled.row_upper, xp.maximum(scaled.row_upper, activity))
    problem = replace(problem, row_lower=low, row_upper=high)
    inner = Iteration(k, problem, iteration.p.copy(), xp.zeros_like(iteration.q), 0.0)
    inner.state[:, WEIGHT] = float(iteration.weight[0])
    block = max(1, min(MENDING, int(SECONDS_A_BLOCK / max(pace, 1e-9))))
    while inner.done < MENDING and inner.running[0]:
        inner.advance(min(block, MENDING - inner.done))
    return inner.p, errors_at(k, scaled, inner.p, iteration.q)


def errors_at(k, scaled, x, y):
    """(ERRORS,) on the host, of a point of the only program."""
    errors, work = k.xp.empty((1, ERRORS)), k.xp.empty(work_shape(1, y.shape[1], x.shape[1]))
    k.lp_errors(*scaled.arguments, x, y, work, errors)
    return np.array(k.to_host(errors))[0]


def without_costs(k, scaled):
    """The program of finding a feasible x."""
    scalars = scaled.scalars.copy()
    scalars[:, COLUMN_NORM] = 0.0
    return replace(scaled, c=k.xp.zeros_like(scaled.c), scalars=scalars)


def without_sides(k, scaled):
    """The program whose dual is that of finding a feasible y: finite sides and bounds are zero."""
    xp, scalars = k.xp, scaled.scalars.copy()
    scalars[:, ROW_NORM] = 0.0
    sides = {name: getattr(scaled, name) for name in ("lower", "upper", "row_lower", "row_upper")}
    return replace(scaled, **{name: xp.where(xp.isfinite(v), 0.0, v) for name, v in sides.items()}, scalars=scalars)
