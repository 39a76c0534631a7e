"""The iteration of `solve_ot_grid` on one grid, HOT: state, step, restart, and a start from a coarser grid.

Its equations are in contracts/gridot.py.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..fixedpoint.schedule import ENOUGH, LONG, SOME
from . import gridbounds

LOOK = 8  # iterations between two looks at the residual
LEAST_SIGMA, LARGEST_SIGMA = 1e-8, 1e8


@dataclass(frozen=True)
class GridProblem:
    """Images a, b (m, n) in float64 on the host, of sum 1, and costs of moves down, C (m, m), and across, D (n, n)."""

    k: Any
    a: np.ndarray
    b: np.ndarray
    C: np.ndarray
    D: np.ndarray


class Hot:
    """The state s = (f, g), and all that is allocated once."""

    kept = ("f", "g", "f0", "g0", "sums", "moved", "sigma", "steps", "total", "restarts", "first", "before")

    def __init__(self, problem, dtype):
        k, (m, n) = problem.k, problem.a.shape
        xp = k.xp
        self.k, self.problem, self.dtype = k, problem, np.dtype(dtype)
        self.a, self.b = xp.asarray(problem.a), xp.asarray(problem.b)
        self.C, self.D = (xp.asarray(each.astype(dtype)) for each in (problem.C, problem.D))
        self.cost_sums = tuple(xp.asarray(each.sum(axis)) for each in (problem.C, problem.D) for axis in (1, 0))
        self.f, self.g = xp.zeros((n, m, m), dtype=dtype), xp.zeros((m, n, n), dtype=dtype)
        self.f0, self.g0 = xp.zeros_like(self.f), xp.zeros_like(self.g)
        shapes = ((n, m), (n, m), (m, n), (m, n))
        self.sums = [xp.zeros(shape) for shape in shapes]  # of rows and columns of f, and of g
        self.potentials = [xp.zeros(shape) for shape in shapes]
        self.moved = xp.zeros(n), xp.zeros(m)
        self.changed = xp.zeros((n, 2)), xp.zeros((m, 2))
        size = math.sqrt(n * (problem.C**2).sum() + m * (problem.D**2).sum())
        self.sigma = math.sqrt((problem.a**2).sum() + (problem.b**2).sum()) / max(size, 1e-300) / math.sqrt(max(m, n))
        self.steps = self.total = self.restarts = 0
        self.first = self.before = math.inf  # the residual at the first look from this anchor, and at the last one

    def find_potentials(self):
        self.k.grid_potentials(self.a, self.b, *self.sums, *self.cost_sums, self.sigma, *self.potentials)

    def _both(self):
        """(state, anchor, rows, columns, cost), of f and of g."""
        return (
            (self.f, self.f0, *self.potentials[:2], self.C),
            (self.g, self.g0, *self.potentials[2:], self.D),
        )

    def iterate(self):
        """One step of Halpern's iteration."""
        self.find_potentials()
        weight = (self.steps + 1) / (self.steps + 2)
        for part, (s, *rest) in enumerate(self._both()):
            sums = self.sums[2 * part : 2 * part + 2]
            self.k.grid_step(s, *rest, self.sigma, weight, *sums, self.moved[part])
        self.steps += 1
        self.total += 1

    def restart_if_due(self):
        """A look at the residual, and what follows."""
        square = sum(float(each.sum()) for each in self.moved)
        residual = math.sqrt(square) if square >= 0 else math.nan
        if self.first == math.inf:
            self.first = residual
        fallen = residual <= ENOUGH * self.first
        if fallen or self.before < residual <= SOME * self.first or self.steps >= LONG * self.total:
            self.restart()
        else:
            self.before = residual
        return residual

    def restart(self):
        """Anchor at the current point, and balance the step by how far plan and reduced costs moved since the last."""
        self.find_potentials()
        for (s, *rest), changed in zip(self._both(), self.changed, strict=True):
            self.k.grid_turn(s, *rest, self.sigma, changed)
        plan, costs = (math.sqrt(sum(float(each[:, part].sum()) for each in self.changed)) for part in (0, 1))
        sigma = self.sigma
        if plan > 0 and costs > 0 and math.isfinite(plan + costs):
            sigma *= math.sqrt(plan / costs)  # halfway to plan / (costs / sigma), in logarithms
        self.anchor(min(max(sigma, LEAST_SIGMA), LARGEST_SIGMA))
        self.restarts += 1

    def anchor(self, sigma):
        """Take what is in f and g as t of a new anchor, with a new step."""
        for part, (s, s0, *_) in enumerate(self._both()):
            sums = self.sums[2 * part : 2 * part + 2]
            self.k.grid_anchor(s, s0, sigma / self.sigma, *sums)
        self.sigma, self.steps, self.first, self.before = sigma, 0, math.inf, math.inf

    def double(self):
        """Go on in float64."""
        self.find_potentials()
        self.dtype = np.dtype(np.float64)
        self.f, self.g, self.f0, self.g0 = (each.astype(float) for each in (self.f, self.g, self.f0, self.g0))
        self.C, self.D = (self.k.xp.asarray(each) for each in (self.problem.C, self.problem.D))

    # ---- what the state says ----------------------------------------------------------------------------------------

    def candidates(self):
        """(potentials of both images, middles of plans), on the host; (m, n) each."""
        self.find_potentials()
        k, xp = self.k, self.k.xp
        f_sums, g_sums = ([xp.empty_like(each) for each in self.sums[at : at + 2]] for at in (0, 2))
        for (s, _, *rest), sums in zip(self._both(), (f_sums, g_sums), strict=True):
            k.grid_plan(s, *rest, self.sigma, *sums)
        middle, other = k.to_host(f_sums[1]).T, k.to_host(g_sums[0])
        first, second = k.to_host(self.potentials[0]).T, k.to_host(self.potentials[3])
        return (first, second), (0.5 * (middle + other), middle, other)

    def start_from(self, coarse, middle):
        """A start from the end of a grid half as fine in both directions: its potentials, and its best `middle`."""
        problem, k, xp = self.problem, self.k, self.k.xp
        middle = gridbounds.fit(finer(middle) / 4, problem.b.sum(1), problem.a.sum(0))
        sigma = coarse.sigma / 4
        costs = problem.C, problem.D
        images = (np.ascontiguousarray(problem.a.T), np.ascontiguousarray(middle.T)), (middle, problem.b)
        coarse.find_potentials()
        for part, (state, cost, (p, q)) in enumerate(zip((self.f, self.g), costs, images, strict=True)):
            rows, columns = (xp.asarray(finer(k.to_host(y))) for y in coarse.potentials[2 * part : 2 * part + 2])
            reduced = xp.asarray(cost)[None] - rows[:, :, None] - columns[:, None, :]
            plan = np.zeros(state.shape)
            line, start, to, mass = gridbounds.ordered(p, q)
            np.add.at(plan, (line, start, to), mass)
            state[...] = (xp.asarray(plan) - sigma * xp.maximum(reduced, 0)).astype(self.dtype)
        self.sigma = sigma
        self.anchor(sigma)


def finer(values):
    """Values on a grid twice as fine, between those of the four nearest cells, beyond the border as before it."""
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        wide = np.concatenate([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
        out = np.empty((2 * values.shape[0], *values.shape[1:]))
        out[0::2] = 0.75 * wide[1:-1] + 0.25 * wide[:-2]
        out[1::2] = 0.75 * wide[1:-1] + 0.25 * wide[2:]
        values = np.moveaxis(out, 0, axis)
    return np.ascontiguousarray(values)
