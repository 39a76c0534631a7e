"""Unregularised optimal transport between two images, to a certified gap.

For costs that are a sum over the axes, c(i, k) + d(j, l), the transport problem of m x n pixels has an equivalent with
m n (m + n) unknowns in place of (m n)^2: mass moves along columns, then along rows (Auricchio, Bassetti, Gualandi,
Veneroni, "Computing Kantorovich-Wasserstein distances on d-dimensional histograms using (d+1)-partite graphs", NeurIPS
2018). HOT (Zhang and others, arXiv 2408.00598) solves that linear program by Halpern's iteration for its reflected
splitting, whose projection has a closed form: contracts/gridot.py. Here in one vector of state, with restarts and
a step that balances plan and potentials (hot.py), from coarser grids to finer ones; and it ends when the bounds of
gridbounds.py, which hold whatever the iteration does, are close enough.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..monitor import Monitor
from ..outcome import report
from ..result import Status
from . import gridbounds
from .gridbox import COARSEST, Box
from .gridresult import OTGridResult
from .hot import LOOK, GridProblem, Hot, finer
from .problem import equal_weights, real

MAXITER = 200_000
EASIER = 12.0  # tolerance of a coarser grid, of that of the next one
OFTEN, SELDOM, HOPE = 1.06, 1.25, 0.1  # times the iterations until the next certificate: (gap / tol)^HOPE, within these
ALL = 4  # certificates, of which one looks at all that may lead to a bound, the others at what led to the last one
EPS = float(np.finfo(np.float64).eps)
SAME = 8 * EPS  # images of mass 1 that differ by less in all differ by rounding
NEGLIGIBLE = 0.01  # part of the gap aimed at
SINGLE = 1e-5  # the state is float32 at first, for tolerances from here on
STUCK = 8  # certificates without progress after which a float32 state becomes a float64 one
SIMILAR = 0.1  # mass that has to move, below which the first plan, which carries no more, is a good start
LOST, LOST_COARSE = 60, 12  # and after which the grid is given up, or a coarser one
FLOOR = 1e-5  # to the power of the cost, at least 2: by how much bounds may be apart whatever the cost is


def solve_ot_grid(mu, nu, *, cost="sqeuclidean", spacing=1.0, tol=1e-4, floor=None, maxiter=MAXITER, time_limit=None,
                  callback=None, verbose=False, rng=None, check=True, on_failure="warn", checkpoint=None,
                  checkpoint_every=60.0, resume=None) -> OTGridResult:  # fmt: skip
    """Solve the optimal transport problem between two images, without regularisation.

    Parameters
    ----------
    mu, nu : arrays (m, n)
        Masses of the pixels: not negative, and of equal sums.
    cost : {"sqeuclidean", "cityblock"} or float
        Of a move by (di, dj) pixels of size `spacing`: the sum of their squares, or of their sizes; or a power p >= 1,
        for ``|di|**p + |dj|**p``.
    spacing : float or (float, float)
        Size of a pixel, down and across.
    tol : float
        Solved when the certified bounds of the cost differ by at most tol times the lower one.
    floor : float, optional
        Or by at most `floor` times what it would cost to carry all mass from one corner to the opposite one, of the
        smallest box around the masses: of images that are all but equal, the cost is all but 0. By default 1e-10, with
        which the root of a squared distance is known to 1e-5 of the diagonal, and ``1e-5**p`` for powers above 2.
        0 insists on `tol`; so does a tol of 0.
    maxiter : int
        Iterations on all grids, from the coarsest to the one given.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops.
    verbose : bool
        Report to the logger "ntsolve" at level INFO.
    rng : optional
        Accepted for uniformity; the method draws no random numbers.
    check : bool
        Look for NaN and infinity in the images.
    on_failure : {"warn", "raise", "ignore"}
        What to do when the solve ends without success.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there.

    Returns
    -------
    OTGridResult
        With `lower_bound`, `upper_bound`, feasible `potentials`, and `sparse_plan`, a plan whose cost is upper_bound.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. Images of different sums are such an error.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> x = np.arange(24)
    >>> blob = lambda i, j: np.exp(-((x[:, None] - i) ** 2 + (x - j) ** 2) / 8)
    >>> mu, nu = (image / image.sum() for image in (blob(8, 7), blob(14, 15)))
    >>> result = ntsolve.solve_ot_grid(mu, nu)
    >>> result.status.name, bool(result.upper_bound <= 1.0001 * result.lower_bound)
    ('CONVERGED', True)
    >>> bool(99 < result.value < 101)  # the blob moves by (6, 8)
    True
    """
    tol, power = validate.nonnegative("tol", tol), power_of(cost)
    floor = FLOOR ** max(2, power) if floor is None else validate.nonnegative("floor", floor)
    down, across = spacings(spacing)
    options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, check=check,
                              on_failure=on_failure, rng=rng, checkpoint=checkpoint,
                              checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
    (mu, own), (nu, _) = validate.own_kind("mu", mu), validate.own_kind("nu", nu)
    with kernels_for(mu=mu, nu=nu) as k:
        single = np.result_type(*(np.dtype(each.dtype) for each in (mu, nu))) == np.float32
        a, b, mass = images(k, mu, nu, options.check)
        b, box = _told_apart(a, b), Box(a, b)
        unit = max(down * box.shape[0], across * box.shape[1])  # costs inside are in units of its power
        steps = down / unit, across / unit
        whole = GridProblem(k, a, b, *_line_costs(a.shape, steps, power))
        problem = GridProblem(k, box.cut(a), box.cut(b), *_line_costs(box.shape, steps, power))
        solve = _Solve(k, whole if box.whole else problem, tol, floor, steps, power, box, whole)
        keeper = options.saving.of("solve_ot_grid", k, mu=mu, nu=nu, power=power, spacing=(down, across), tol=tol,
                                   floor=floor)  # fmt: skip
        result = solve.run(options, own, np.float32 if single else np.float64, mass, unit**power, keeper)
    report("solve_ot_grid", result, options.on_failure)
    return result


def power_of(cost):
    """The power p of |di|^p + |dj|^p."""
    if isinstance(cost, str):
        return {"sqeuclidean": 2.0, "cityblock": 1.0}[validate.choice("cost", cost, ("sqeuclidean", "cityblock"))]
    power = validate.positive("cost", cost)
    if power < 1:
        raise ValueError(f"cost must be a power of at least 1, not {cost}: below, mass need not keep its order")
    return power


def spacings(spacing):
    """(down, across)"""
    pair = tuple(spacing) if np.ndim(spacing) == 1 else (spacing, spacing)
    if len(pair) != 2:
        raise ValueError("spacing must be a number or a pair of numbers")
    return tuple(validate.positive("spacing", each) for each in pair)


def images(k, mu, nu, check=True):
    """(a, b, mass): both images on the host in float64, of sum 1."""
    found = []
    for name, image in (("mu", mu), ("nu", nu)):
        if image.ndim != 2 or 0 in image.shape:
            raise ValueError(f"{name} has shape {tuple(image.shape)}; an image (m, n) is needed")
        found.append(k.xp.ascontiguousarray(real(name, image)))
    mu, nu = found
    if mu.shape != nu.shape:
        raise ValueError(f"mu has shape {mu.shape}, nu has {nu.shape}")

    said = {"names": ("mu", "nu"), "sides": ("mu", "mu"), "check": check, "or_else": ""}
    a, b, mass, _ = equal_weights(k, mu.reshape(-1), nu.reshape(-1), (mu.size, nu.size), **said)
    a, b = k.to_host(a), k.to_host(b)
    return (a / a.sum()).reshape(mu.shape), (b / b.sum()).reshape(mu.shape), mass


def _line_costs(shape, steps, power):
    """(C, D)"""
    lines = (np.arange(size) * step for size, step in zip(shape, steps, strict=True))
    return [abs(at[:, None] - at) ** power for at in lines]


class _Solve:
    """A problem on its own grid and on coarser ones, and the best bounds so far."""

    def __init__(self, k, problem, tol, floor, steps, power, box, whole):
        self.k, self.tol, self.box, self.whole = k, tol, box, whole
        self.floor = floor * (problem.C.max() + problem.D.max())
        self.levels = [problem]
        while min(self.levels[0].a.shape) >= 2 * COARSEST and not any(size % 2 for size in self.levels[0].a.shape):
            a, b = (_halved(each) for each in (self.levels[0].a, self.levels[0].b))
            steps = tuple(2 * each for each in steps)
            self.levels.insert(0, GridProblem(k, a, _told_apart(a, b), *_line_costs(a.shape, steps, power)))
        self.nit, self.restarts = 0, 0
        self.which_middle = self.which_potential = self.certificates = 0
        self.level = 0  # the grid at work
        self.hot: Any = None  # and the iteration there
        self.due, self.stuck, self.best = 2 * LOOK, 0, np.inf  # of that grid, see `_level`

    # ---- checkpoints ----

    def pack(self):
        names = ("level", "hot", "restarts", "due", "stuck", "best", "u", "middle", "which_middle",
                 "which_potential", "certificates")  # fmt: skip
        double = self.hot is not None and self.hot.dtype == np.float64
        return {name: getattr(self, name) for name in names} | {"double": double}

    def unpack(self, saved):
        # bounds are computed anew, from what they were found by
        saved.into(self, "level", "restarts", "due", "stuck", "best", "certificates")
        if not 0 <= self.level < len(self.levels):
            raise ValueError("resume: the checkpoint is of another grid")
        problem = self.levels[self.level]
        self._begin(problem)
        self._improve(problem, [saved.like("u", self.u)], [saved.like("middle", self.middle)])
        saved.into(self, "which_middle", "which_potential")
        if saved["hot"] is not None:
            self.hot = self._hot()
            if saved["double"] is True and self.hot.dtype != np.float64:
                self.hot.double()
            saved.part("hot").into(self.hot)

    # ---- bounds ----

    def _begin(self, problem):
        """Bounds that are there before any iteration.

        Among them: mass that one image has more of in a pixel moves to the next pixel at least. On a single line,
        they are all that there is to know.
        """
        self.lower, self.u, self.v = gridbounds.lower_bound(problem, np.zeros(problem.a.shape))
        self.upper, self.middle = np.inf, problem.a
        next_pixel = min(cost[cost > 0].min(initial=np.inf) for cost in (problem.C, problem.D))
        more = np.where(problem.a > problem.b, next_pixel if next_pixel < np.inf else 0.0, 0.0)
        self._improve(problem, (more,), (problem.a, problem.b, np.outer(problem.b.sum(1), problem.a.sum(0))))
        if 1 in problem.a.shape:
            line = gridbounds.line_potential(problem.a.ravel(), problem.b.ravel(), problem.C + problem.D)
            self._improve(problem, (line.reshape(problem.a.shape),), ())

    def _refine(self, problem):
        """From bounds of a grid half as fine to bounds of this one."""
        of_coarse = self.u, self.v, self.middle / 4
        self._begin(problem)
        u, v, middle = (finer(each) for each in of_coarse)
        self._improve(problem, (u, v), (middle,))

    def _improve(self, problem, potentials, middles, number=0):
        """Better bounds, if these lead to them; of a `number` not divisible by ALL, only those that did last time."""
        some, found, error = number % ALL != 0, {}, NEGLIGIBLE * max(self.tol * self.lower, self.floor)
        for which in [self.which_middle] if some else range(len(middles)):
            found[which], fitted = gridbounds.upper_bound(problem, middles[which], error)
            if found[which] < self.upper:
                self.upper, self.middle = found[which], fitted
        self.which_middle = min(found, key=found.__getitem__, default=0)
        found = {}
        for which in [self.which_potential] if some else range(len(potentials)):
            found[which], u, v = gridbounds.lower_bound(problem, potentials[which], of_second=which == 1)
            if found[which] > self.lower:
                self.lower, self.u, self.v = found[which], u, v
        self.which_potential = max(found, key=found.__getitem__, default=0)

    @property
    def gap(self):
        """Relative to the lower bound, or to floor / tol where that is more: tol is then met at the floor."""
        apart, least = self.upper - self.lower, self.floor / self.tol if self.tol else 0.0
        return apart / max(self.lower, EPS * self.upper, least) if apart > 0 else 0.0 * apart

    def run(self, options, own, dtype, mass, unit, keeper=None):
        """The result."""
        scale = mass * unit
        self._begin(self.levels[-1])

        def answer(potentials):
            return own(self.k.xp.asarray(_rounded_down(np.stack(potentials) * unit, dtype)))

        with np.errstate(all="ignore"), Monitor("solve_ot_grid", maxiter=options.maxiter, time_limit=options.time_limit,
                     callback=options.callback, began=options.began, verbose=options.verbose, start=[self.gap],
                     target=[self.tol], solution=lambda: answer(self.everywhere()[1:]),
                     keeper=keeper) as watch:  # fmt: skip
            resumed = watch.begin(self) and self.hot is not None
            if resumed or not self.gap <= self.tol:
                self._all_levels(watch, resumed)
            watch.finish(self, self.gap <= self.tol)
        if not np.isfinite(self.gap):
            status = Status.NAN_OR_INF
        else:
            status = Status.CONVERGED if self.gap <= self.tol else watch.status or Status.STALLED
        lower, *potentials = self.everywhere()
        middle = self.middle if self.box.whole else self.box.put(self.middle)
        return OTGridResult(
            x=answer(potentials),
            success=status == Status.CONVERGED,
            status=status,
            message=status.advice,
            nit=watch.nit,
            residual=float(self.gap),
            history=watch.history,
            elapsed=watch.elapsed,
            backend=self.k.NAME,
            tolerance=self.tol,
            lower_bound=lower * scale,
            upper_bound=self.upper * scale,
            restarts=self.restarts,
            middle=own(self.k.xp.asarray((middle * mass).astype(dtype))),
            _problem=replace(self.whole, k=None),  # which could not be pickled
            _middle=middle,
            _mass=mass,
        )

    def everywhere(self):
        """(lower bound, u, v) on the whole grid."""
        if self.box.whole or self.u.shape != self.box.shape:  # or on a coarser grid yet
            return self.lower, self.u, self.v
        value, u, v = self.box.potentials(self.whole, self.v)
        return max(self.lower, min(value, self.upper)), u, v

    def _hot(self):
        return Hot(self.levels[self.level], np.float32 if self.tol >= SINGLE else np.float64)

    def _all_levels(self, watch, resumed):
        for level in range(self.level, len(self.levels)):
            problem, before, self.level = self.levels[level], self.hot, level
            if not resumed:
                self.hot, self.due, self.stuck, self.best = self._hot(), 2 * LOOK, 0, np.inf
                if before is not None:
                    self.hot.start_from(before, self.v, self.middle)
                    self._refine(problem)
                else:
                    self._begin(problem)
                if before is None and abs(problem.a - problem.b).sum() / 2 < SIMILAR:
                    self.hot.start(gridbounds.chain(problem, self.v), self.middle, self.hot.sigma)
            resumed, last = False, level == len(self.levels) - 1
            tol = self.tol * EASIER ** (len(self.levels) - 1 - level)
            if not self.gap <= tol or self.hot.total == 0:
                self._level(self.hot, problem, tol, watch)
            self.restarts += self.hot.restarts
            if watch.status is not None and not last:
                for finer_one in self.levels[level + 1 :]:
                    self._refine(finer_one)
                return

    def _level(self, hot, problem, tol, watch):
        while watch.going(self):
            steps = min(watch.block(), LOOK - hot.total % LOOK)
            for _ in range(steps):
                hot.iterate()
            if hot.total >= self.due and hot.total % LOOK == 0:  # where blocks end, the clock decides
                potentials, middles = hot.candidates()
                self._improve(problem, potentials, middles, self.certificates)
                self.certificates += 1
                times = (self.gap / tol) ** HOPE if tol > 0 else OFTEN
                self.due = max(hot.total + 2 * LOOK, int(min(max(times, OFTEN), SELDOM) * hot.total))
                apart = self.upper - self.lower
                self.stuck = self.stuck + 1 if apart > 0.95 * self.best else 0
                self.best = min(self.best, apart)
            watch.did(np.full((steps, 1), self.gap), steps)
            if self.gap <= tol:
                return
            if hot.total % LOOK == 0 and not np.isfinite(hot.restart_if_due()):
                self.lower = np.nan
                return
            if self.stuck >= STUCK and hot.dtype == np.float32:
                hot.double()
                self.stuck = 0
            elif self.stuck >= (LOST if problem is self.levels[-1] else LOST_COARSE):
                return


def _told_apart(a, b):
    """The second image; the first one where they differ by rounding."""
    return a if abs(a - b).sum() <= SAME else b


def _rounded_down(values, dtype):
    """In that dtype, nowhere above the values."""
    rounded = values.astype(dtype)
    return np.where(rounded > values, np.nextafter(rounded, dtype(-np.inf)), rounded)


def _halved(image):
    m, n = image.shape
    return image.reshape(m // 2, 2, n // 2, 2).sum((1, 3))
