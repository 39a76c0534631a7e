"""Batches of small entropic problems, each solved whole in one kernel: on one core, or by one block of a GPU.

The method is that of newton.py without its stored, truncated kernel: entropic transport in the semi-dual form by
annealing, Sinkhorn and Newton steps (contracts/manyot.py). The loop of newton.py takes about a millisecond of Python a
problem, and tens of launches on a GPU; here all problems of a batch are in one call. What this does not solve, the loop
gets to see.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import BUDGET
from ..kernels.contracts.manyot import MET, OUT_OF_STEPS, WIDE
from ..monitor import Monitor
from ..result import Status
from . import one
from .newton import COARSE, Outcome, exact_rows
from .problem import Problem

MOST_STEPS = 400  # of a problem; newton.py needs fewer, or other means
STEPS_A_CALL = 60
WORK_AN_ENTRY = 1000  # operations that a problem takes, about


@dataclass
class _Item:
    number: int  # in the batch
    problem: Problem
    g: Any  # where to start, or None
    own: Any  # makes an array of the user's own kind; None: it is one


def solve(k, tasks, reg, options, results):
    """Put into `results` those of the tasks that are for this file, and that it solves."""
    small = [number for number, task in enumerate(tasks) if _entries(task) <= k.ENTRIES_A_PROBLEM]
    with Monitor("solve_ot", maxiter=options.maxiter + 1, time_limit=options.time_limit, began=options.began,
                 start=[0.0]) as watch, np.errstate(all="ignore"):  # fmt: skip
        for group in _groups(k, tasks, small):
            _solve(k, group, reg, watch, options.maxiter, results)


def _entries(task):
    """Of the cost; infinite where it is not stored."""
    C = task.arguments.get("C")
    return math.inf if C is None or C.ndim != 2 else C.size


def _groups(k, tasks, numbers):
    """So many problems in one call that they fit into the budget, and that a Ctrl-C is seen in time."""
    most = max(1, min(BUDGET.get() // 8, int(k.FLOPS_A_CALL / WORK_AN_ENTRY)))
    group: list[_Item] = []
    entries = 0
    for number in numbers:
        problem = tasks[number].pose()
        if not problem.balanced:
            return  # nor is any other: they share the prices of missing a marginal
        size, dtype = math.prod(problem.cost.shape), problem.cost.dtype
        if group and (entries + size > most or dtype != group[0].problem.cost.dtype):
            yield group
            group, entries = [], 0
        group.append(_Item(number, problem, one.start(k, problem, tasks[number].init)[1], tasks[number].own))
        entries += size
    if group:
        yield group


def _solve(k, group, reg, watch, maxiter, results):
    """All problems of the group, in one call of the kernel unless it takes long."""
    xp, count = k.xp, len(group)
    problems = [item.problem for item in group]
    sizes = np.array([problem.cost.shape for problem in problems], dtype=np.int64)
    ends = np.stack([sizes.prod(axis=1), sizes[:, 0], sizes[:, 1]]).cumsum(axis=1)
    entries, rows, columns = ends - np.stack([sizes.prod(axis=1), sizes[:, 0], sizes[:, 1]])
    C, at = _costs(k, problems, entries)
    a, b = (xp.concatenate([getattr(problem, side) for problem in problems]) for side in ("a", "b"))
    g = [xp.zeros(item.problem.b.size) if item.g is None else item.g for item in group]
    goal = xp.asarray([(problem.tol - problem.mismatch) / problem.mass for problem in problems])
    r = xp.asarray([_start(item, reg) for item in group])
    f, g, col = xp.zeros(a.size), xp.concatenate(g), xp.zeros(b.size)
    error, nit, outcome = xp.zeros(count), xp.zeros(count, dtype="int32"), xp.zeros(count, dtype="int32")
    room, wide, tall = xp.empty(int(ends[0, -1])), xp.empty((WIDE, b.size)), xp.empty(a.size)
    places = xp.asarray(np.stack([at, entries, rows, columns], axis=1))
    counts = xp.asarray(sizes.astype(np.int32))
    done, most = 0, min(maxiter, MOST_STEPS)
    while True:
        steps = min(STEPS_A_CALL, most - done) if watch.going() else 0  # none: what the start is worth
        k.transport_items(C, a, b, places, counts, reg, goal, steps, r, f, g, col, error, nit, outcome, room,
                          wide, tall)  # fmt: skip
        done += steps
        if not steps or done >= most or not bool((outcome == OUT_OF_STEPS).any()):
            break
    error, nit, outcome = (k.to_host(values) for values in (error, nit, outcome))
    for i, item in enumerate(group):
        if outcome[i] != MET and watch.status is None and nit[i] < maxiter:
            continue  # for the loop of newton.py
        problem, steps = item.problem, int(nit[i])
        row, column = slice(rows[i], rows[i] + sizes[i, 0]), slice(columns[i], columns[i] + sizes[i, 1])
        found = f[row], error[i], col[column]
        if outcome[i] != MET:  # it may be at another regularisation still
            found = exact_rows(k, problem.cost, problem.a, problem.b, reg, g[column])
        answer = Outcome(found[0] + reg * np.log(problem.mass), g[column].copy(), problem.mass * float(found[1]),
                         {"newton": steps}, problem.mass * found[2])  # fmt: skip
        start = sum(float(side.sum()) for side in problem.weights)
        history = np.array([start, answer.error][: 1 + (steps > 0)])
        status = watch.status or Status.MAXITER
        results[item.number] = one.conclude(k, problem, reg, answer, status, steps, history, watch.elapsed,
                                            item.own)  # fmt: skip


def _start(item, reg):
    """The regularisation that annealing starts from."""
    r = reg
    while item.g is None and r < 0.999 * COARSE * item.problem.cost.span:
        r *= 4.0
    return r


def _costs(k, problems, entries):
    """(all costs one after the other, where each starts): not copied where they are one array already."""
    first = problems[0].cost.C
    if all(problem.cost.C is first for problem in problems):
        return first.ravel(), np.zeros(len(problems), dtype=np.int64)
    return k.xp.concatenate([problem.cost.C.ravel() for problem in problems]), entries
