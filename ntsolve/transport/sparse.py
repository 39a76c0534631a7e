"""Many points: a stored kernel of which only what matters is ever there, and a start from cells of points.

A stored kernel of n x m entries would take as much memory as the cost that is not stored. So there is none: the
potentials of a problem between half as many cells of near points (k-d trees, each cell its weighted mean) are extended
to all points by one Sinkhorn step against the cells, whose error is of second order in their size, and the kernel is
built from there at reg itself, without entries of less than a small part of their row and column. What that leaves out
of the column sums is known from the pass that builds it, and moved to the other side:

    b~ = b - (col of the whole kernel - col of what is kept), both at v = 1                                       (1)

A solution v of the kept problem for b~ solves the whole one but for what is left out times |log v|. So a few rounds of
building and solving do, accelerated, and what is stored is O(n + what a plan of that reg has in entries).
"""

import math
import time

import numpy as np

from ..anderson import Anderson
from ..kernels.contracts.gibbs import LANES
from ..reductions import SERIAL
from ..result import Status
from . import newton, shared
from .cells import kd_order, merged
from .level import Level, Verdict
from .store import Store

DENSE = 1 << 22  # entries of a kernel that is stored as a whole
BLOCKS_A_CHUNK = 1 << 16  # of the kernel, built at a time
DROPS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # entries, relative to their row, that are left out: the first that leaves
SHARE, ENOUGH = 0.06, 1 << 22  # so large a part of all, or so many
SAMPLE = 64  # rows, to find out
HISTORY = 5  # rounds that are remembered
SINGLE = 1e-7  # a Newton matrix in float32 for larger errors
ROUNDS = 40


class PackedStore(Store):
    """A store with as many blocks as there are: the kernel is built a few rows at a time, and packed."""

    def __init__(self, k, cost):
        super().__init__(k, cost, room=0)
        self._lanes = cost.width // LANES

    def build(self, order, log_v, reg, a, power, b, delta, log_sum, col, over=None):
        """As of `Store`. Where `over()` comes true, what there is is of no use; whether that is so is returned."""
        k, xp, cost, lanes = self.k, self.k.xp, self.cost, self._lanes
        rows = max(1, BLOCKS_A_CHUNK // lanes)
        chunk = _Chunk(xp, rows, lanes)
        col.fill(0)
        used, cut = 0, False
        for part, source, left in cost.ordered_blocks(order, rows * cost.shape[1]):
            if over is not None and (cut := over()):
                break
            count = part.stop - part.start
            starts, ends = chunk.starts[:count], chunk.ends[:count]
            k.gibbs_kernel(*source, left, log_v, 1 / reg, a[part], power, b, delta, starts, ends, chunk.offsets,
                           chunk.values, log_sum[part], col, cost.work)  # fmt: skip
            lengths = ends - starts
            added = int(lengths.sum())
            if used + added > self.room:
                done = part.stop / cost.shape[0]
                self._grow(used, int(1.15 * (used + added) / done) + BLOCKS_A_CHUNK)
            self.ends[part] = used + xp.cumsum(lengths)
            self.starts[part] = self.ends[part] - lengths
            k.scaling_pack(starts, ends, chunk.offsets, chunk.values, self.starts[part], self.offsets, self.values)
            used += added
        self.ranks.add(col)
        self.truncated = delta > 0
        self._count()
        return self.ranks.any(cut)

    def _grow(self, used, room):
        old = self.offsets, self.values
        if self._newton is not None:
            for array in self._newton[1:]:
                self.k.give_back(array)
            self._newton = None
        self.room = room
        self.offsets, self.values = self._space()
        for new, array in zip((self.offsets, self.values), old, strict=True):
            new[:used] = array[:used]
            self.k.give_back(array)


class _Chunk:
    """Room for a few rows with all their blocks."""

    def __init__(self, xp, rows, lanes):
        self.starts = xp.arange(rows, dtype="int64") * lanes
        self.ends = xp.empty(rows, dtype="int64")
        self.offsets = xp.empty(rows * lanes, dtype="int32")
        self.values = xp.empty((rows * lanes, LANES))


def takes(cost):
    """Whether this is a problem for this file."""
    return hasattr(cost, "points") and cost.rows * cost.width > DENSE


def solve(k, cost, a, b, reg, tol, watch, g=None, mass=1.0, levels=0, depth=0):
    """Potentials of a balanced problem; arguments and return as those of `newton.solve`.

    Where `depth` is not 0, g and `levels` are of the problem between the cells of the cells ... of these points.
    """
    counts = {"passes": 0, "scalings": 0, "newton": 0, "cg": 0}
    seconds = 0.0 if watch.time_limit is None or watch.reserve else _seconds_a_pass(k, cost, a)
    if g is None or depth:
        watch.reserve += 2 * seconds  # this pass, half of one from the cells, and those of the levels below
        g = _from_cells(k, cost, a, b, reg, watch, mass, counts, g, levels, depth)
        watch.reserve -= 2 * seconds
    watch.reserve += seconds
    if not watch.going():
        f, error, columns = newton.exact_rows(k, cost, a, b, reg, g)
        counts["passes"] += 1
        return newton.Outcome(f, g, error, counts, columns)
    return _Rounds(k, cost, a, b, reg, tol, watch, mass, counts).run(g)


def _seconds_a_pass(k, cost, a):
    """What a pass over the cost will take, from one over a few rows."""
    xp, rows = k.xp, k.xp.arange(min(len(a), SAMPLE))
    few = cost.part(rows, None)
    few.ranks = SERIAL
    log_sum, col, log_v = xp.empty(rows.size), xp.empty(cost.width), xp.zeros(cost.width)
    for _ in range(2):  # the first loads the kernel
        began = time.perf_counter()
        few.sums(log_v, 0.0, a[rows], 1.0, log_sum, col)
        k.to_host(col)
    return (time.perf_counter() - began) * len(a) / max(1, rows.size)


class _Rounds:
    def __init__(self, k, cost, a, b, reg, tol, watch, mass, counts):
        xp, n = k.xp, a.size
        self.k, self.cost, self.a, self.b, self.reg, self.tol = k, cost, a, b, reg, tol
        self.watch, self.mass, self.counts = watch, mass, counts
        self.order = xp.asarray(kd_order(cost.features(), LANES, cost.ranks)[0], dtype="int32")
        self.store = PackedStore(k, cost)
        self.level = Level(k, self.store, a, b[self.order], watch, mass, counts)
        self.level.single = SINGLE
        self.b_sorted = b[self.order]
        self.log_sum, self.log_v, self.col = xp.empty(n), xp.zeros(cost.width), xp.empty(cost.width)
        self.rounding = 4 * np.finfo(float).eps * (1 + cost.span / reg)
        watch.iterate = self._current

    def run(self, g):
        """Rounds of (1) from potentials g."""
        self.g = g[self.order]
        try:
            return self._rounds()
        finally:
            self.store.release()

    def _rounds(self):
        level, drop, before, best = self.level, self._drop(), math.inf, None
        anderson = Anderson(self.k, self.k.xp.sqrt(self.b_sorted), HISTORY, math.inf)
        for _ in range(ROUNDS):
            error = self._build(drop)
            if error is None:
                best = None
                break
            if best is None or error < best[0]:
                best = error, self.g.copy()
            if error <= 0.9 * self.tol or error <= self.rounding or not self.watch.going():
                break
            if error > 0.5 * before:
                anderson.forget()
                drop = max(0.1 * drop, newton.KEEP)
                if error > 0.9 * before and drop == newton.KEEP:
                    break
                if self._build(drop) is None:
                    best = None
                    break
            before = error
            self._aim()
            verdict = level.solve(max(0.3 * self.tol, 1e-3 * error))
            start = self.g.copy()
            newton.absorb(self.k, self.g, self.reg, level.at.log_v)
            if verdict is Verdict.HALTED:
                best = None
                break
            if verdict is Verdict.MET and error < 0.1:
                anderson.step(start, self.g, self.g)
        g = self._unsorted(self.g if best is None else best[1])
        f, error, columns = newton.exact_rows(self.k, self.cost, self.a, self.b, self.reg, g)
        self.counts["passes"] += 1
        return newton.Outcome(f, g, error, self.counts, columns)

    def _drop(self):
        """How much to leave out, from a few rows."""
        xp, n, (own, m), log_v = self.k.xp, self.cost.rows, self.cost.shape, self.log_v
        chosen = np.sort(np.random.default_rng(0).choice(n, min(n, SAMPLE), replace=False))
        first = int(self.cost.ranks.gather(np.array([own]))[: self.cost.ranks.rank].sum())  # row of all
        rows = xp.asarray(chosen[(chosen >= first) & (chosen < first + own)] - first)
        few = PackedStore(self.k, self.cost.part(rows, None))
        log_v[:m] = self.g / self.reg
        log_sum, col = xp.empty(rows.size), xp.empty_like(log_v)
        for drop in DROPS:
            few.build(self.order, log_v, self.reg, self.a[rows], 1.0, self.level.b, drop, log_sum, col)
            part = LANES * few.blocks / (chosen.size * m)
            if part <= SHARE or part * n * m <= ENOUGH:
                break
        few.release()
        return drop

    def _build(self, drop):
        """R at g without what is below `drop`; the error of the whole kernel, or None if there is no time for it."""
        m, level = self.g.size, self.level
        self.log_v[:m] = self.g / self.reg
        level.b[:m] = self.b_sorted
        if self.store.build(self.order, self.log_v, self.reg, self.a, 1.0, level.b, drop, self.log_sum, self.col,
                            self._over):  # fmt: skip
            self.watch.going()
            return None
        self.counts["passes"] += 1
        return float(abs(self.col[:m] - self.b_sorted).sum())

    def _over(self):
        """Whether to stop, other than for the number of iterations, which building is none of."""
        return self.watch.reason() in (Status.TIME_LIMIT, Status.INTERRUPTED)

    def _aim(self):
        """(1)"""
        xp, m, level = self.k.xp, self.g.size, self.level
        level.set(self.reg, 0.0)
        at = level.at
        self.store.sweep(at.v, self.a, 1.0, at.s, at.y)
        target = xp.maximum(self.b_sorted - (self.col[:m] - at.y[:m]), 0.1 * self.b_sorted)
        level.aim(target / float(target.sum()))

    def _unsorted(self, g):
        out = self.k.xp.zeros_like(g)
        out[self.order] = g
        return out

    def _current(self):
        """(f, g) as they are now, in the user's units."""
        g = self._unsorted(self.g + self.reg * self.level.at.log_v)
        f = newton.exact_rows(self.k, self.cost, self.a, self.b, self.reg, g)[0]
        return f + self.reg * math.log(self.mass), g


def _from_cells(k, cost, a, b, reg, watch, mass, counts, g, levels, depth):
    """Potentials g from the problem between cells, which are those of all points, and shared among the ranks."""
    xp, ranks = k.xp, cost.ranks
    X, Y = cost.points
    whole = ranks.gather(X), ranks.gather(k.to_host(a))
    (X_cells, a_cells), (Y_cells, b_cells) = (
        merged(points, weights, -(-len(points) // 2), ranks) for points, weights in (whole, (Y, k.to_host(b)))
    )
    mine = slice(*shared.bounds(ranks, len(X_cells)))
    a_cells, b_cells = a_cells[mine] / a_cells.sum(), b_cells / b_cells.sum()
    coarse, half = cost.of(X_cells[mine], Y_cells), cost.of(X_cells[mine], Y)
    coarse.look("metric")

    def extended(f):
        return reg * (xp.log(b) - half.column_log_sums(f / reg, 1 / reg))

    def show(f, _):
        g = extended(f)
        return newton.exact_rows(k, cost, a, b, reg, g)[0] + reg * math.log(mass), g

    method, more = (solve, {"depth": max(depth - 1, 0)}) if takes(coarse) else (newton.solve, {})
    if (depth > 1 and method is not solve) or (depth == 1 and g.size != b_cells.size):
        raise ValueError("resume: the checkpoint does not fit to the cells of these points")
    found = method(k, coarse, xp.asarray(a_cells), xp.asarray(b_cells), reg, newton.LEVEL_TOL, _Before(watch, show), g,
                   mass=mass, levels=levels, **more)  # fmt: skip
    k.release()
    for name, count in found.counts.items():
        if name != "passes":  # over few of the costs
            counts[name] += count
    return extended(found.f)


class _Before:
    """The watch during a solve whose potentials are not yet those of the problem."""

    def __init__(self, watch, show):
        self.__dict__.update(watch=watch, show=show)

    def __getattr__(self, name):
        return getattr(self.watch, name)

    def __setattr__(self, name, value):
        if name != "iterate":
            setattr(self.watch, name, value)
            return
        current, show = value, self.show
        self.watch.iterate = lambda: show(*current())
        self.watch.inner, self.watch.depth = current, self.watch.depth + 1
