"""The search for proofs that a linear program has no feasible point or no lower bound.

Of a program without a feasible point the multipliers of a proximal point step run away along a proof: with costs c = 0
their change over a step with a large T is one, nearly (Banjac et al., "Infeasibility detection in the alternating
direction method of multipliers for convex optimization", J. Optim. Theory Appl. 183, 2019). A direction without a lower
bound is looked for by a program that has a solution,

    min c'd,  d and A d in the directions of no finite side,  -1 <= d <= 1                               (1)

whose minimum is negative if there is one. Both are solved by proximal point steps, or, where nothing but products is
allowed, by PDHG, whose steps run away along a proof just the same. What counts as found is up to `certificates`, in the
program's own units.
"""

import math
import time
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..result import Status
from .certificates import Prover
from .newtonsystem import newton_system
from .pdhg import EVERY, Iteration
from .proximal import Proximal
from .scaled import Scaled

FIRST, GROWTH, LARGEST = 100.0, 3.0, 1e8  # T
STEPS, NEWTON_STEPS = 20, 100
LOOKS = 800  # of PDHG in place of the steps
FEASIBLE, NEARLY = 1e-8, 1e-6  # scaled, a violation below which there is a feasible point; by PDHG


class RaySearch:
    """The search for one program, to be gone on with.

    Parameters
    ----------
    program : Program
        Single, on the host, in the units in which proofs have to hold.
    scaled : Scaled
        The same in those of the iteration: one `item`.
    system : Dense or Sparse, optional
        Of the Newton steps, if there is one already.
    newton : bool
        Whether there are to be Newton steps, or else nothing but products.

    Attributes
    ----------
    system : Dense, Sparse or None
        May be set later.
    """

    def __init__(self, program, scaled, system=None, *, newton=True):
        self.program, self.scaled = program, scaled
        self._prover = Prover(program)
        self._plan = [RaySearch._farkas, RaySearch._direction]
        self._feasible = False
        self._newton = newton
        self.system: Any = system
        self._path: Any = None
        self._left = math.inf
        self._step = 0  # of the path, that is under way

    @property
    def over(self):
        """Whether there is nothing left to try."""
        return not self._plan

    def run(self, seconds, candidates=(), stop=None, left=math.inf):
        """Look for `seconds` at most.

        Parameters
        ----------
        seconds : float
        candidates : sequence of (array (n,), array (m,))
            Directions of x and y, in the program's units, to be tried first.
        left : float
            Seconds until all has to be over: a system that needs longer is not set up.
        stop : callable, optional
            Asked between Newton steps; True ends the search.

        Returns
        -------
        (Status, array) or None
            PRIMAL_INFEASIBLE and multipliers (m,), or DUAL_INFEASIBLE and a direction (n,).
        """
        for _, y in candidates:
            found = self._prover.primal(y)
            if found is not None:
                return Status.PRIMAL_INFEASIBLE, found[0]
        if self._feasible:
            found = self._first_direction(x for x, _ in candidates)
            if found is not None:
                return found
        until = time.perf_counter() + seconds
        self._left = left

        def going():
            return time.perf_counter() < until and not (stop is not None and stop())

        with kernels_for(c=self.scaled.c) as k:
            while self._plan and going():
                found, finished = self._plan[0](self, k, going)
                if found is not None:
                    return found
                if not finished:
                    break
                self._plan.pop(0)
                self._path = None
                if self._feasible:
                    found = self._first_direction(x for x, _ in candidates)
                    if found is not None:
                        return found
        return None

    def _first_direction(self, candidates):
        for x in candidates:
            found = self._prover.dual(x)
            if found is not None:
                return Status.DUAL_INFEASIBLE, found[0]
        return None

    def _steps(self, k, problem, x, going):
        """The path after each of its steps from (x, 0), without those of earlier calls; ends where it must."""
        if not self._newton:
            yield from self._looks(k, problem, x, going)
            return
        if self.system is None:
            self.system = newton_system(k, self.scaled, self._left)  # it knows A only
            if self.system is None:
                self._plan = []
                return
        if self._path is None:
            self._path, self._step = Proximal(k, problem, self.system), 0
            self._path.begin(x, np.zeros_like(problem.row_lower))
        while self._step < STEPS:
            T = min(FIRST * GROWTH**self._step, LARGEST)
            if self._path.step(T, 1.0, NEWTON_STEPS, going, far=math.inf) is None:
                return
            self._step += 1
            yield self._path

    def _looks(self, k, problem, x, going):
        """The same by PDHG, at each look."""
        if self._path is None:
            self._path, self._step = _Walk(k, problem, x), 0
        while self._step < STEPS and going():
            if not self._path.advance():
                self._step = STEPS
            elif self._path.looks >= LOOKS * (self._step + 1) // STEPS:
                self._step += 1
            yield self._path

    def _farkas(self, k, going):
        """(what was found, whether there is no more to be done)"""
        problem = replace(self.scaled, c=np.zeros_like(self.scaled.c))
        unit, activity = self.scaled.y_unit, np.zeros((1, self.scaled.row_lower.size))
        for path in self._steps(k, problem, np.clip(0.0, problem.lower, problem.upper), going):
            for y in (path.y - path.y0, path.y):
                found = self._prover.primal(y * unit)
                if found is not None:
                    return (Status.PRIMAL_INFEASIBLE, found[0]), True
            k.csr_matvec(problem.indptr, problem.indices, problem.data, path.x[None], activity)
            nearest = np.clip(activity[0], problem.row_lower, problem.row_upper)
            near = FEASIBLE if self._newton else NEARLY
            self._feasible = bool(abs(activity[0] - nearest).max(initial=0.0) < near)
            if self._feasible:
                return None, True
        if self._step == STEPS:  # a direction proves nothing where there may be no feasible point
            self._plan = []
        return None, False

    def _direction(self, k, going):
        p = self.scaled
        problem = replace(
            p,
            lower=np.where(np.isfinite(p.lower), 0.0, -1.0),
            upper=np.where(np.isfinite(p.upper), 0.0, 1.0),
            row_lower=np.where(np.isfinite(p.row_lower), 0.0, -np.inf),
            row_upper=np.where(np.isfinite(p.row_upper), 0.0, np.inf),
        )
        for path in self._steps(k, problem, np.zeros_like(p.c), going):
            found = self._first_direction((path.x * p.x_unit, (path.x - path.x0) * p.x_unit))
            if found is not None:
                return found, True
        return None, self._step == STEPS


class _Walk:
    """PDHG for a scaled problem on the host; (x, y) of the last step, and the (x0, y0) that it was taken from."""

    def __init__(self, k, problem, x):
        parts = {f.name: getattr(problem, f.name) for f in fields(problem)}
        shared = ("indptr", "indices", "tindptr", "tindices")
        one = Scaled(**{name: v if name in shared else np.asarray(v)[None] for name, v in parts.items()})
        self._iteration = Iteration(k, one, x[None].copy(), np.zeros((1, problem.row_lower.size)), 0.0)
        self.looks = 0
        self._see()

    def advance(self):
        """To the next look; whether there is to be another."""
        self._iteration.advance(EVERY)
        self.looks += 1
        self._see()
        return bool(self._iteration.running[0])

    def _see(self):
        i = self._iteration
        self.x, self.y = i.p[0], i.q[0]
        self.x0, self.y0 = self.x - i.dx[0], self.y - i.dy[0]
