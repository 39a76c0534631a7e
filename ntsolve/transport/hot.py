"""The iteration of `solve_ot_grid` on one grid, HOT: state, step, restart, and a start from a coarser grid.

Its equations are in contracts/gridot.py.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..fixedpoint.schedule import ENOUGH, LONG, SOME
from . import gridbounds

FASTEST = 20.0  # of the speeds, which are as the root of the mass, beside that of the mean
LOOK = 8  # iterations between two looks at the residual
LEAST_SIGMA, LARGEST_SIGMA = 1e-20, 1e8


@dataclass(frozen=True)
class GridProblem:
    """Images a, b (m, n) in float64 on the host, of sum 1, and costs of moves down, C (m, m), and across, D (n, n)."""

    k: Any
    a: np.ndarray
    b: np.ndarray
    C: np.ndarray
    D: np.ndarray


class Moves:
    """The moves of one kind, along lines: of each pixel with mass to, or from, each of the cells of its line.

    Attributes
    ----------
    line, place : arrays (R,)
        Of each pixel, the line among those with mass and where on it.
    row_of : array (lines, n)
        Number of a pixel; -1 where there is no mass.
    """

    def __init__(self, k, image, cost, cells):
        """image (lines, n); cost (n, m) of moves between pixels and cells of a line, `cells` of which are there."""
        xp, filled = k.xp, image > 0
        self.lines = np.flatnonzero(filled.any(1))
        self.line, self.place = np.nonzero(filled[self.lines])
        self.row_of = np.full(image.shape, -1)
        self.row_of[self.lines[self.line], self.place] = np.arange(self.line.size)
        self.cost = np.ascontiguousarray(cost[:, cells])
        masses = image[self.lines[self.line], self.place]
        self.speed = np.clip(np.sqrt(masses / masses.mean()), 1 / FASTEST, FASTEST)
        self.speed_sums = np.bincount(self.line, self.speed, minlength=self.lines.size)
        self.cost_rows = self.cost.sum(1)[self.place]
        self.cost_columns = self.image(self.speed, 0.0)[self.lines] @ self.cost  # (lines, cells), times speeds
        self.masses, self.speeds, self.p = (xp.asarray(each) for each in (masses, self.speed, self.speed_sums))
        self.starts = xp.asarray(np.searchsorted(self.line, np.arange(self.lines.size + 1)).astype(np.int32))
        self.places = xp.asarray(self.place.astype(np.int32))
        self.shape = self.line.size, len(cells)

    def image(self, values, outside):
        """(lines, n) with these values of the pixels with mass."""
        out = np.full(self.row_of.shape, outside)
        out[self.lines[self.line], self.place] = values
        return out


class Hot:
    """The state s = (f, g), and all that is allocated once."""

    kept = ("f", "g", "f0", "g0", "sums", "moved", "sigma", "steps", "total", "restarts", "first", "before")

    def __init__(self, problem, dtype):
        k = problem.k
        xp = k.xp
        self.k, self.problem, self.dtype = k, problem, np.dtype(dtype)
        columns, rows = np.flatnonzero((problem.a > 0).any(0)), np.flatnonzero((problem.b > 0).any(1))
        self.cells = np.ix_(rows, columns)  # (k, j) that mass may go through
        self.of_f = Moves(k, problem.a.T, problem.C, rows)
        self.of_g = Moves(k, problem.b, problem.D.T, columns)
        both = self.of_f, self.of_g
        between = self.of_f.cost_columns.T - self.of_g.cost_columns
        self.cost_sums = [xp.asarray(each) for each in (self.of_f.cost_rows, between, self.of_g.cost_rows)]
        self.inverse = xp.asarray(inverse_of_means(self.of_f.speed_sums, self.of_g.speed_sums))
        self.C, self.D = (xp.asarray(each.cost.astype(dtype)) for each in both)
        # these lie on cache lines: a vector of eight or sixteen that is on two takes twice as long
        self.f, self.g, self.f0, self.g0 = (k.borrow_zeros(each.shape, self.dtype) for each in (*both, *both))
        shapes = [shape for each in both for shape in (each.shape[0], (each.lines.size, each.shape[1]))]
        self.sums = [xp.zeros(shape) for shape in shapes]  # of rows and columns of f, and of g
        self.potentials = [xp.zeros(shape) for shape in shapes]
        self.moved = [xp.zeros(each.lines.size) for each in both]
        self.changed = [xp.zeros((each.lines.size, 2)) for each in both]
        size = math.sqrt(sum((each.cost**2).sum(1)[each.place].sum() for each in both))
        longest = math.sqrt(max(rows.size, columns.size))
        self.sigma = math.sqrt((problem.a**2).sum() + (problem.b**2).sum()) / max(size, 1e-300) / longest
        self.steps = self.total = self.restarts = 0
        self.first = self.before = math.inf  # the residual at the first look from this anchor, and at the last one

    def find_potentials(self):
        f, g = self.of_f, self.of_g
        self.k.grid_potentials(f.masses, g.masses, f.starts, g.starts, f.speeds, g.speeds, f.p, g.p, *self.sums,
                               *self.cost_sums, self.inverse, self.sigma, *self.potentials)  # fmt: skip

    def _both(self):
        """(state, anchor, rows, columns, cost, starts, places, speeds), of f and of g."""
        f, g = self.of_f, self.of_g
        return (
            (self.f, self.f0, *self.potentials[:2], self.C, f.starts, f.places, f.speeds),
            (self.g, self.g0, *self.potentials[2:], self.D, g.starts, g.places, g.speeds),
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
        for part, (s, s0, *_, starts, _, _) in enumerate(self._both()):
            sums = self.sums[2 * part : 2 * part + 2]
            self.k.grid_anchor(s, s0, starts, sigma / self.sigma, *sums)
        self.sigma, self.steps, self.first, self.before = sigma, 0, math.inf, math.inf

    def double(self):
        """Go on in float64."""
        self.find_potentials()
        self.dtype = np.dtype(np.float64)
        self.f, self.g, self.f0, self.g0 = (each.astype(float) for each in (self.f, self.g, self.f0, self.g0))
        self.C, self.D = (self.k.xp.asarray(each.cost) for each in (self.of_f, self.of_g))

    # ---- what the state says ----------------------------------------------------------------------------------------

    def candidates(self):
        """(potentials of both images, middles of plans), on the host; (m, n) each. -inf is no potential."""
        self.find_potentials()
        k, xp = self.k, self.k.xp
        f_sums, g_sums = ([xp.empty_like(each) for each in self.sums[at : at + 2]] for at in (0, 2))
        for (s, _, *rest), sums in zip(self._both(), (f_sums, g_sums), strict=True):
            k.grid_plan(s, *rest, self.sigma, *sums)
        middle, other = (np.zeros(self.problem.a.shape) for _ in range(2))
        middle[self.cells], other[self.cells] = k.to_host(f_sums[1]).T, k.to_host(g_sums[1])
        y1, y3 = (k.to_host(self.potentials[part]) for part in (0, 2))
        first, second = np.ascontiguousarray(self.of_f.image(y1, -np.inf).T), self.of_g.image(y3, -np.inf)
        return (first, second), (0.5 * (middle + other), middle, other)

    def start_from(self, coarse, v, middle):
        """A start from the end of a grid half as fine in both directions: its best potential v and best `middle`."""
        middle = gridbounds.fit(finer(middle) / 4, self.problem.b.sum(1), self.problem.a.sum(0))
        self.start([finer(each) for each in gridbounds.chain(coarse.problem, v)], middle, coarse.sigma / 4)

    def start(self, chain, middle, sigma):
        """A start from potentials (m, n) of the first image, the cells between and the second one, and a `middle`."""
        problem, f, g = self.problem, self.of_f, self.of_g
        y1, y2, y3 = chain[0], chain[1][self.cells], chain[2]
        potentials = (y1.T, y2.T), (y3, -y2)
        images = (np.ascontiguousarray(problem.a.T), np.ascontiguousarray(middle.T)), (problem.b, middle)
        numbers = (np.cumsum((problem.b > 0).any(1)) - 1, np.cumsum((problem.a > 0).any(0)) - 1)  # of cells of a line
        for state, part, (outer, inner), (p, q), number in zip((self.f, self.g), (f, g), potentials, images, numbers,
                                                               strict=True):  # fmt: skip
            rows = outer[part.lines[part.line], part.place]
            reduced = part.cost[part.place] - rows[:, None] - inner[part.line]
            plan = np.zeros(part.shape)
            line, start, to, mass = gridbounds.ordered(p, q)
            row = part.row_of[line, start]
            np.add.at(plan, (row[row >= 0], number[to[row >= 0]]), mass[row >= 0])
            plan -= sigma * part.speed[:, None] * np.maximum(reduced, 0)
            state[...] = self.k.xp.asarray(plan.astype(self.dtype))
        self.sigma = sigma
        self.anchor(sigma)


def inverse_of_means(p, q):
    """The matrix (J + K, J + K) that (3) of contracts/gridot.py asks for, from the sums of the speeds of the lines.

    It is the inverse of a symmetric matrix, which constant y2 make singular: what it makes of those does not matter.
    """
    share = 1 / (p + q[:, None])
    diagonal = np.concatenate([q.size / p - share.sum(0), p.size / q - share.sum(1)])
    matrix = np.diag(diagonal)
    matrix[: p.size, p.size :], matrix[p.size :, : p.size] = -share.T, -share
    null = np.concatenate([p, q]) / math.hypot(*p, *q)
    return np.linalg.inv(matrix + diagonal.mean() * np.outer(null, null))


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
