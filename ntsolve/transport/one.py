"""One entropic transport problem, by any method: its start, the call of the method, and the result."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validate
from ..monitor import Monitor
from ..reductions import SERIAL
from ..result import Status
from . import newton, paper, shared, sinkhorn, sparse, unbalanced
from .feasibility import obstruction
from .level import relaxed
from .problem import real
from .result import OTResult
from .solution import Solution

MOST_LEVELS = 100  # that there may ever be


class _Current:
    """The iterate, made from the current potentials when it is asked for."""

    def __init__(self, show):
        self.show: Callable = show
        self.iterate: Callable

    def __call__(self):
        return self.show(*self.iterate())


class _Watch(Monitor):
    """A monitor to which a method says, as `iterate`, a function that gives its current potentials (f, g)."""

    def __init__(self, show, stopped, **options):
        super().__init__("solve_ot", solution=_Current(show), **options)
        self.stopped = stopped
        self.seen = self.comm.any(self.callback is not None)  # each step is, on some rank

    @property
    def iterate(self):
        return self.solution.iterate

    @iterate.setter
    def iterate(self, potentials):
        self.solution.iterate = self.inner = potentials
        self.depth = 0

    reserve = 0.0  # seconds that it takes to make a result of what there is

    def reason(self):
        late = self.time_limit is not None and self.elapsed + self.reserve >= self.time_limit
        return super().reason() or (Status.TIME_LIMIT if late else None)

    def going(self, state=None):
        """Whether this problem, and the batch it is of, may go on."""
        if self.stopped is not None and self.status is None:
            self.status = self.stopped()
        return super().going(self)

    # ---- checkpoints ----

    above = depth = 0  # the potentials are for 4^above reg, and of the cells of the cells ... of the points
    found: tuple[Any, ...] = (None, None)  # potentials of an earlier part of the solve

    def pack(self):
        f, g = self.inner()
        return {"f": f, "g": g, "above": self.above, "depth": self.depth}

    def unpack(self, saved):
        saved.into(self, "above", "depth")
        if not (0 <= self.above <= MOST_LEVELS and 0 <= self.depth <= MOST_LEVELS):
            raise ValueError("resume: the checkpoint is of no level of this problem")
        begin = self.inner()
        self.found = tuple(
            saved.like(name, like, grows=self.depth > 0) for name, like in zip("fg", begin, strict=True)
        )
        if not all(bool((abs(each) < np.inf).all()) for each in self.found):
            raise ValueError("resume: the potentials of the checkpoint are not finite")


def solve(k, problem, reg, method, init, options, own, stopped=None, keeper=None):
    """The result of a problem; `stopped()` is None, or why the batch that the problem is of has to end."""
    with np.errstate(all="ignore"):  # what overflows is seen
        return _solve(k, problem, reg, method, init, options, own, stopped, keeper)


def _solve(k, problem, reg, method, init, options, own, stopped, keeper):
    cost, mass, tau, tol = problem.cost, problem.mass, problem.tau, problem.tol
    a, b = problem.weights
    begin = start(k, problem, init)
    nothing = shared.total(cost.ranks, float(a.sum())) + float(b.sum())  # the error of a plan of zeros

    def show(f, g):
        f, g = _centred(problem, f, g)
        return Solution(problem, reg, f, g, None, None, own).x

    with _Watch(show, stopped, maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                began=options.began, verbose=options.verbose, start=[nothing], target=[tol],
                comm=cost.ranks, keeper=keeper) as watch:  # fmt: skip
        watch.iterate = lambda: (k.xp.zeros_like(a), k.xp.zeros_like(b))
        more = {}
        if watch.begin(watch):
            begin, more["levels"] = watch.found, watch.above
        goal = tol - problem.mismatch
        if method == "sns" and problem.balanced:
            way = sparse if sparse.takes(cost) else newton
            if way is sparse:
                more["depth"] = watch.depth
            elif watch.depth:
                raise ValueError("resume: the checkpoint is of a problem with more points")
            answer = way.solve(k, cost, problem.a, problem.b, reg, goal / mass, watch, begin[1], mass, **more)
            f, g, error, counts, columns = answer
            f, error, columns = f + reg * np.log(mass), mass * error, mass * columns
        elif method == "sns":
            f, g, error, counts, columns = unbalanced.solve(k, cost, a, b, reg, goal, watch, tau, begin[1], **more)
        else:
            if method == "sinkhorn":
                answer = sinkhorn.solve(k, cost.C, a, b, reg, 0.9 * goal, watch, begin[0], begin[1], tau)
            elif problem.balanced:
                answer = paper.solve(k, cost.C, a, b, reg, 0.9 * goal, watch, *begin)
            else:
                raise ValueError("method='sns-paper' meets both marginals: tau_a and tau_b are not for it")
            f, g, _, counts = answer
            f, error, columns = newton.exact_rows(k, cost, a, b, reg, g, tau)
        g = shared.as_first(cost.ranks, g)
        watch.iterate = lambda: (f, g)  # which does not keep the method alive
        answer = newton.Outcome(f, g, error, counts, columns)
        status = watch.status or Status.STALLED
        result = conclude(k, problem, reg, answer, status, watch.nit, watch.history, watch.elapsed, own)
        watch.finish(watch, result.success)
        return result


def conclude(k, problem, reg, answer, status, nit, history, elapsed, own):
    """The result for the potentials of an `Outcome`; `status` is for those that do not meet the tolerance."""
    f, g = _centred(problem, answer.f, answer.g)
    rows = relaxed(k.xp, problem.weights[0], f, problem.tau[0])
    solution = Solution(problem, reg, f, g, rows, answer.columns, own)
    residual, cost, counts = solution.residual(answer.error), problem.cost, answer.counts
    if not np.isfinite(residual):
        status = Status.NAN_OR_INF
    elif residual <= problem.tol:
        status = Status.CONVERGED
    ranks = cost.ranks
    if not ranks.any(status != Status.STALLED) and cost.forbidden:
        allowed, a = ranks.gather(cost.allowed()), ranks.gather(k.to_host(problem.a))
        why = obstruction(allowed, a, k.to_host(problem.b))
        if why is not None:
            raise ValueError(f"C forbids (+inf) too much, there is no plan: of what has mass, {why}")
    if ranks is not SERIAL:
        solution.complete()
    return OTResult(
        x=solution.x,
        success=status == Status.CONVERGED,
        status=status,
        message=_message(problem, status),
        nit=nit,
        residual=residual,
        history=history,
        elapsed=elapsed,
        backend=k.NAME,
        tolerance=problem.tol,
        reg=reg,
        passes=counts.get("passes", 0),
        scaling_steps=counts.get("scalings", 0),
        newton_steps=counts.get("newton", 0),
        cg_steps=counts.get("cg", 0),
        _solution=solution,
    )


def _message(problem, status):
    """Advice, or the reason where no plan can meet the tolerance."""
    if status == Status.STALLED and problem.mismatch > problem.tol:
        return (f"The sums of a and b differ by {problem.mismatch:.2g}, which is above tol: no plan meets both. "
                "Scale one of them, or raise tol.")  # fmt: skip
    return status.advice


def _centred(problem, f, g):
    """Potentials with a.f = b.g, where a constant may go from one to the other."""
    if not problem.balanced:
        return f, g
    ranks = problem.cost.ranks
    shift = 0.5 * shared.total(ranks, float(problem.a @ f) - ranks.carry * float(problem.b @ g))
    return f - shift, g + shift


def start(k, problem, init):
    """(f, g) to start from, without the rows and columns that have no mass; (None, None) if there is none."""
    if init is None:
        return None, None
    if not isinstance(init, (tuple, list)) or len(init) != 2:
        raise TypeError("potentials_init must be a tuple (f, g) of arrays")
    found = []
    for values, size, kept in zip(init, problem.shape, (problem.rows, problem.columns), strict=True):
        values, _ = validate.own_kind("potentials_init", values)
        if values.shape != (size,):
            raise ValueError(f"potentials_init has an array of shape {tuple(values.shape)}; {(size,)} is needed")
        values = real("potentials_init", values).astype(float)
        values = values if kept is None else values[kept]
        known = k.xp.isfinite(values)
        if bool((values != values).any()) or (size and not bool(known.any())):
            raise ValueError("potentials_init contains NaN, or nothing finite")
        if not bool(known.all()):  # had no mass, then
            values = k.xp.where(known, values, values[known].min())
        found.append(k.xp.ascontiguousarray(values))
    return tuple(found)
