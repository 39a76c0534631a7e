"""The extra-anchored gradient method for monotone Lipschitz operators, with backtracking and restarts.

For 0 in F(x) + dg(x), F monotone and L-Lipschitz, g convex with proximal map prox, and an anchor a:

    w = u + (a - u) / (k + 1)                                                                                 (1)
    v = w - eta k / (k + 1) F(u),   u+ = w - eta F(v)            without g,   eta <= 1 / L                    (2)
    v = prox(w - eta F(u), eta),    u+ = prox(w - eta F(v), eta)    with g,   eta < 1 / (sqrt(3) L)           (3)

(2) is FEG of Lee, Kim, "Fast extra gradient methods for smooth structured nonconvex-nonconcave minimax problems",
NeurIPS 2021, ||F(u)|| <= 2 L ||u0 - x*|| / k after k iterations; (3) is the accelerated extragradient method of Cai,
Oikonomou, Zheng, "Accelerated algorithms for monotone inclusion and constrained nonconvex-nonconcave min-max
optimization" (arXiv 2206.05248).
Where L is not known, an iteration is done anew with a smaller step unless, for (2) and (3) respectively,

    eta ||F(u+) - F(v)|| <= theta ||u+ - v||,   eta ||F(v) - F(u)|| <= theta ||v - u||                         (4)
    2 eta <F(v) - F(u), v - u+> <= theta (||v - w||^2 + ||u+ - v||^2)                                         (5)

with theta a little below 1. (5), of Nemirovski, SIAM J. Optim. 15 (2004), takes no account of what prox undoes, and so
admits longer steps. Between cycles, extragradient steps (w = u) are taken where they are quicker.
"""

import math

from .. import validate
from ..dispatch import kernels_for
from ..outcome import report
from ..parallel.comm import join
from ..result import FixedPointResult
from .loop import Evaluation, Iteration, iterate
from .schedule import Adaptive, Always, Step
from .trees import Tree

MAXITER = 100_000
SHRINK, GROW, CREEP = 0.7, 1.3, 1.1  # of the step: where it fails, at a restart, at an extragradient step with ease
THETA, EASE = 0.95, 0.5
WITH_PROX = 0.57  # eta L


def monotone(F, x0, *, prox=None, lipschitz=None, args=(), tol=1e-8, restart="adaptive", distance=None, maxiter=MAXITER,
             time_limit=None, callback=None, verbose=False, rng=None, check=True, on_failure="warn",
             comm=None, checkpoint=None, checkpoint_every=60.0, resume=None) -> FixedPointResult:  # fmt: skip
    """Find a zero of a monotone operator, or solve a variational inequality, by the extra-anchored gradient method.

    Saddle points of a function that is convex in y and concave in z are such zeros: F(y, z) = (grad_y, -grad_z).

    Parameters
    ----------
    F : callable
        ``F(x, *args)`` returns an array of the shape of x: monotone, <F(x) - F(y), x - y> >= 0, and Lipschitz.
    x0 : array, or tuple or dict of arrays
        Where to start. F gets and returns the same structure.
    prox : callable, optional
        ``prox(x, step)`` returns the proximal point of step * g at x; for a constraint, the projection. Then 0 in
        F(x) + dg(x) is solved, without it F(x) = 0.
    lipschitz : float, optional
        A Lipschitz constant of F. Default: found by backtracking.
    args : tuple
        Passed on to F.
    tol : float
        Solved when ``||x - prox(x - F(x), 1)||_2 <= tol``, without prox ``||F(x)||_2 <= tol``.
    restart : {"adaptive", None}
        "adaptive": start anew where that pays, and take extragradient steps where they are quicker.
    distance : float, optional
        A bound of the distance of x0 to the solution. With lipschitz, restart=None and without prox, the `bound` of the
        result is then what theory promised.
    maxiter, time_limit, callback, verbose, rng, check, on_failure
        As for `halpern`; an iteration takes two evaluations of F, and of prox.
    comm : communicator, optional
        As for `halpern`: F and prox get and return the parts that each process has.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there.

    Returns
    -------
    FixedPointResult
        `nfev` counts evaluations of F.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. What F and prox raise is passed on as it is.
    ConvergenceError
        With ``on_failure="raise"``.
    RankError
        With `comm`, where another process has failed: what it raised is in the message.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

    Examples
    --------
    The saddle point of y'Bz + c'y, on which gradient steps diverge:

    >>> import numpy as np, ntsolve
    >>> B, c = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([1.0, -1.0])
    >>> start = {"y": np.zeros(2), "z": np.zeros(2)}
    >>> result = ntsolve.monotone(lambda x: {"y": B @ x["z"] + c, "z": -B.T @ x["y"]}, start, tol=1e-10)
    >>> result.status.name, np.allclose(result.x["z"], [-1, 1])
    ('CONVERGED', True)
    """
    with join(comm).together() as ranks:
        result = _run(ranks, F, x0, prox, lipschitz, args, tol, restart, distance, maxiter=maxiter,
                      time_limit=time_limit, callback=callback, verbose=verbose, rng=rng, check=check,
                      on_failure=on_failure, checkpoint=checkpoint, checkpoint_every=checkpoint_every,
                      resume=resume)  # fmt: skip
    report("monotone", result, on_failure)
    return result


def _run(ranks, F, x0, prox, lipschitz, args, tol, restart, distance, **common):
    tol = validate.nonnegative("tol", tol)
    for name, each in (("F", F), ("prox", prox)):
        if validate.function(name, each) is None and name == "F":
            raise TypeError("F must be callable, not None")
    lipschitz = None if lipschitz is None else validate.positive("lipschitz", lipschitz)
    args = validate.arguments("args", args)
    restart = validate.choice("restart", restart, ("adaptive", None))
    distance = None if distance is None else validate.nonnegative("distance", distance)
    options = validate.common(**common)
    ranks.alike(tol=tol, lipschitz=lipschitz, restart=restart, distance=distance, maxiter=options.maxiter,
                prox=prox is None)  # fmt: skip
    tree = Tree("x0", x0)
    with kernels_for(**tree.arrays) as k:
        x = tree.start(k, options.check, ranks)
        evaluate = Evaluation(tree, "F", lambda given: F(given, *args))
        prox = None if prox is None else Evaluation(tree, "prox", prox)
        state = _Anchored(k, tree, x, evaluate, prox, lipschitz, restart, ranks)
        keeper = options.saving.of("monotone", k, ranks, x0=x, args=args, tol=tol, lipschitz=lipschitz, prox=prox,
                                   restart=restart)  # fmt: skip
        return iterate("monotone", state, tol, options, distance=distance, keeper=keeper)


class _Anchored(Iteration):
    """The iterate u, called x, and F there."""

    kept = (*Iteration.kept, "anchor", "steps", "eta", "schedule", "F", "prox")

    def __init__(self, k, tree, x, F, prox, lipschitz, restart, ranks):
        super().__init__(k, tree, x, ranks)
        self.F, self.prox, self.lipschitz = F, prox, lipschitz
        self.schedule: Adaptive | Always = Adaptive() if restart else Always()
        self.eta = math.nan if lipschitz is None else (1.0 if prox is None else WITH_PROX) / lipschitz
        self.anchor, self.steps, self.Fx = x, 0, None

    @property
    def nfev(self):
        return self.F.count

    def forward_backward(self, x, direction, step):
        """prox(x - step * direction, step)"""
        moved = (x - step * direction).astype(x.dtype, copy=False)
        return moved if self.prox is None else self.prox(moved, step or 1.0)

    def look_again(self):
        self.Fx = None
        self.look()

    def look(self):
        if self.Fx is None:
            self.Fx = self.F(self.x)
        away = self.Fx if self.prox is None else self.x - self.forward_backward(self.x, self.Fx, 1.0)
        self.residual = self.dot.norm(away)
        if math.isnan(self.eta) and 0 < self.residual < math.inf:
            self.eta = self._first_step()

    def _first_step(self):
        """From how F changes on the way to a point nearby."""
        slope = self.dot.norm(self.Fx)
        size = 1e-3 * (1 + self.dot.norm(self.x)) / slope if slope > 0 else 1.0  # only prox moves x where F(x) = 0
        near = self.forward_backward(self.x, self.Fx, size)
        moved = self.dot.norm(near - self.x)
        changed = self.dot.norm(self.F(near) - self.Fx)
        return moved / changed if 0 < changed < math.inf and moved > 0 else size

    def advance(self):
        step = self.schedule.next(self.residual)
        self.restarts = self.schedule.restarts
        if step is Step.HALPERN:
            weight, self.steps = 1 / (self.steps + 1), self.steps + 1
        else:
            weight, self.steps = 0.0, 0
        w = (self.x + weight * (self.anchor - self.x)).astype(self.x.dtype, copy=False) if weight else self.x  # (1)
        while True:
            v = self.forward_backward(w, self.Fx, self.eta * (1 - weight) if self.prox is None else self.eta)
            Fv = self.F(v)
            x = self.forward_backward(w, Fv, self.eta)  # (2), (3)
            if self.lipschitz is not None:
                Fx, share = None, 1.0
                break
            if self.prox is None:
                Fx = self.F(x)
                share = self._share((x - v, Fx - Fv), (v - self.x, Fv - self.Fx))  # (4)
            else:
                Fx, share = None, self._share_with_prox(v - w, x - v, Fv - self.Fx)  # (5)
            if not share > THETA:  # or not finite, which the residual then shows
                break
            self.eta *= SHRINK
        self.x, self.Fx = x, Fx
        if step is not Step.HALPERN:
            self.anchor = x
            if share <= EASE:
                self.eta *= CREEP
        if step is Step.ANCHOR and self.lipschitz is None:
            self.eta *= GROW  # whether that was too much will be seen

    def _share(self, *pairs):
        """Left of (4) by what is right of theta, for pairs (moved, changed), the largest; 0 where all is rounding."""
        vectors = [v for pair in pairs for v in pair]
        *squares, size = self.dot.several(*((v, v) for v in (*vectors, self.x)))
        norms = [math.sqrt(square) for square in squares]
        return max(self.eta * changed / moved if self._matters(moved, size) else 0.0
                   for moved, changed in zip(norms[::2], norms[1::2], strict=True))  # fmt: skip

    def _share_with_prox(self, first, second, changed):
        """The same of (5)."""
        *squares, crossed, size = self.dot.several((first, first), (second, second), (changed, second),
                                                   (self.x, self.x))  # fmt: skip
        square = sum(squares)
        return -2 * self.eta * crossed / square if self._matters(math.sqrt(square), size) else 0.0

    def _matters(self, distance, size):
        """Whether a way is more than rounding of x, of which `size` is the square."""
        return distance > 1e3 * float(self.k.xp.finfo(self.x.dtype).eps) * math.sqrt(size)

    def promised(self, distance):
        if self.lipschitz is None or self.prox is not None or isinstance(self.schedule, Adaptive) or not self.steps:
            return None
        return 2 * self.lipschitz * distance / self.steps
