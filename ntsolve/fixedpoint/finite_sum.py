"""Halpern's iteration with variance reduction, for 0 in F(x) + dg(x), F the mean of F_1, ..., F_n.

Cai, Alacaoglu, Diakonikolas, "Variance Reduced Halpern Iteration for Finite-Sum Monotone Inclusions", ICLR 2024. With
an anchor a, J(u) = prox(u, eta) and the estimate G of F(u) of PAGE (Li, Bao, Zhang, Richtarik, ICML 2021):

    Algorithm 1, F cocoercive:  u+ = J(lam a + (1 - lam) u - eta G),  lam = 2 / (k + 4)                       (1)
    G = F(u) with probability p, else G + mean over b components of F_i(u) - F_i(u_before),  b = sqrt(n)      (2)
    p = 1 for k <= 1,  4 / (k + 4) while k - 1 <= sqrt(n),  then 4 / (sqrt(n) + 5)                            (3)

    Algorithm 2, F monotone:  u+ = lam a + (1 - lam) v,  lam = 1 / (k + 2), where v is nearly the solution of
    0 in c (F(v) + dg(v)) + v - u, c = sqrt(n) / L, found in 0.05 n log(k + 2) / b steps of                   (4)
    v+ = prox((1 - p) v + p w - gamma [H(w) + H_S(v) - H_S(w_before)]),  w <- v with probability p = b / n    (5)

with H = c F + I - u and S of b components. Beyond the paper: the anchor moves up where the residual, known after each
evaluation of all of F, has fallen enough; the step is as large as the residual permits, not as the theory does; and
then p is 2 / (sqrt(n) + 2) throughout, since (3) begins with many evaluations of all of F whenever the anchor moves.
"""

import math

from .. import validate
from ..dispatch import kernels_for
from ..outcome import report
from ..result import FixedPointResult
from .loop import Evaluation, Iteration, iterate
from .schedule import LONG
from .trees import Tree

MAXITER = 100_000
FALLEN = 0.3  # the residual at which the anchor moves, of that at the anchor
RISEN, SHRINK, GROW = 1.5, 0.5, 1.2  # a residual that says that the step is too large; the step then, and at a restart
PROBES = 8  # products of the power method for the first step, each with a few batches of components
INNER = 0.05  # of n log(k + 2)


def halpern_finite_sum(F, n, x0, *, prox=None, lipschitz=None, method="cocoercive", step="checked", batch=None, args=(),
                       tol=1e-6, restart="adaptive", maxiter=MAXITER, time_limit=None, callback=None, verbose=False,
                       rng=None, check=True, on_failure="warn", checkpoint=None, checkpoint_every=60.0,
                       resume=None) -> FixedPointResult:  # fmt: skip
    """Solve 0 in F(x) + dg(x) for F the mean of n components, few of which are looked at in a step.

    Parameters
    ----------
    F : callable
        ``F(indices, x, *args)`` returns the mean of F_i(x) over the components i in `indices`, an integer array; where
        `indices` is None, over all n.
    n : int
    x0 : array, or tuple or dict of arrays
        Where to start.
    prox : callable, optional
        ``prox(x, step)`` returns the proximal point of step * g at x; for a constraint, the projection.
    lipschitz : float, optional
        L, by which the components are cocoercive or Lipschitz on average: the mean of ``||F_i(x) - F_i(y)||^2`` is at
        most L <F(x) - F(y), x - y> for method "cocoercive", and ``L^2 ||x - y||^2`` for "monotone". Needed for
        step="theory"; otherwise it is where the search begins, and by default it is estimated.
    method : {"cocoercive", "monotone"}
        Algorithm 1 of the paper, for gradients of smooth convex functions and what else is cocoercive; algorithm 2 for
        what is monotone and Lipschitz, such as saddle points.
    step : {"checked", "theory"}
        "checked": as large as the residual permits. "theory": 1 / (4 L); for algorithm 2,
        sqrt(p (1 - p)) / (2 (c L + 1)).
    batch : int, optional
        Components in a step. Default: sqrt(n); for "monotone" with step="theory", one.
    args : tuple
        Passed on to F.
    tol : float
        Solved when ``||x - prox(x - F(x), 1)||_2 <= tol``, without prox ``||F(x)||_2 <= tol``.
    restart : {"adaptive", None}
        "adaptive": move the anchor up where the residual has fallen enough.
    maxiter : int
        Evaluations of all of F after the first; how many steps lie between two of them is a matter of chance. Method
        "monotone" makes some of them on the way to its next iterate, without a look at the residual.
    rng : optional
        Seed or generator that draws the components. Default: 0, the same each time.
    time_limit, callback, verbose, check, on_failure
        As for `halpern`; the callback is called after each look at the residual.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there.

    Returns
    -------
    FixedPointResult
        `nfev` counts evaluations of components; `nit` those of all of F after the first.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. What F and prox raise is passed on as it is.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

    Examples
    --------
    Least squares with 2000 equations, nonnegative:

    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> A, b = rng.standard_normal((2000, 5)), rng.standard_normal(2000)
    >>> def gradient(rows, x):
    ...     rows = slice(None) if rows is None else rows
    ...     return A[rows].T @ (A[rows] @ x - b[rows]) / len(b[rows])
    >>> result = ntsolve.halpern_finite_sum(gradient, 2000, np.ones(5), prox=lambda x, step: np.maximum(x, 0))
    >>> result.status.name, bool((result.x >= 0).all())
    ('CONVERGED', True)
    """
    tol, n = validate.nonnegative("tol", tol), validate.count("n", n, least=1)
    for name, each in (("F", F), ("prox", prox)):
        if validate.function(name, each) is None and name == "F":
            raise TypeError("F must be callable, not None")
    method = validate.choice("method", method, ("cocoercive", "monotone"))
    step = validate.choice("step", step, ("checked", "theory"))
    lipschitz = None if lipschitz is None else validate.positive("lipschitz", lipschitz)
    if step == "theory" and lipschitz is None:
        raise ValueError("lipschitz is needed for step='theory'")
    args = validate.arguments("args", args)
    restart = validate.choice("restart", restart, ("adaptive", None))
    if batch is None:
        batch = 1 if (method, step) == ("monotone", "theory") else math.isqrt(n - 1) + 1
    batch = min(n, validate.count("batch", batch, least=1))
    options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, check=check,
                              on_failure=on_failure, rng=rng, checkpoint=checkpoint,
                              checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
    draw = validate.generator("rng", rng)
    tree = Tree("x0", x0)
    with kernels_for(**tree.arrays) as k:
        x = tree.start(k, options.check)
        components = _Components(k, n, Evaluation(tree, "F", lambda x, i: F(i, x, *args)), batch, draw)
        prox = None if prox is None else Evaluation(tree, "prox", prox)
        kind = _Page if method == "cocoercive" else _Resolvents
        state = kind(k, tree, x, components, prox, lipschitz, step == "checked", restart is not None)
        keeper = options.saving.of("halpern_finite_sum", k, n=n, x0=x, args=args, tol=tol, lipschitz=lipschitz,
                                   prox=prox, method=method, step=step, batch=batch, restart=restart)  # fmt: skip
        result = iterate("halpern_finite_sum", state, tol, options, keeper=keeper)
    report("halpern_finite_sum", result, options.on_failure)
    return result


class _Components:
    """F, its components by lot, and how many were evaluated."""

    kept = ("count", "whole", "draw")

    def __init__(self, k, n, evaluate, batch, draw):
        self.k, self.n, self.evaluate, self.batch, self.draw = k, n, evaluate, batch, draw
        self.count = self.whole = 0  # evaluations of components; and of all of F, which are among them

    def all(self, x):
        self.count += self.n
        self.whole += 1
        return self.evaluate(x, None)

    def some(self, size):
        """Components, each at most once."""
        return self.k.xp.asarray(self.draw.choice(self.n, min(size, self.n), replace=False))

    def mean(self, indices, x):
        self.count += indices.size
        return self.evaluate(x, indices)

    def difference(self, x, y):
        """The mean of F_i(x) - F_i(y) over a batch."""
        indices = self.some(self.batch)
        return self.mean(indices, x) - self.mean(indices, y)


class _FiniteSum(Iteration):
    """What both algorithms share: an iteration is an evaluation of all of F."""

    kept = (*Iteration.kept, "anchor", "steps", "total", "start", "least", "least_x", "least_G", "eta", "_seen", "F",
            "prox")  # fmt: skip
    creep = 1.0  # growth of a checked step with each residual that is less than those before

    def __init__(self, k, tree, x, components, prox, lipschitz, checked, moving):
        super().__init__(k, tree, x)
        self.F, self.prox, self.lipschitz = components, prox, lipschitz
        self.checked, self.moving = checked, moving
        self.anchor, self.steps, self.total, self.restarts = x, 0, 0, 0
        self.start = self.least = math.inf  # the residual at the anchor, and the least since; where it was
        self.least_x, self.least_G, self.eta = x, None, math.nan
        self._seen = 0  # evaluations of all of F up to the last look

    @property
    def nfev(self):
        return self.F.count

    def closer(self, x, step):
        """prox(x, step), in the dtype of the iterate."""
        x = x.astype(self.x.dtype, copy=False)
        return x if self.prox is None else self.prox(x, step)

    def look_again(self):
        for x in (self.least_x, self.x):
            self.x = x
            self.F.count += self.F.n
            self._measure(self.F.evaluate(self.x, None))
            if self.x is self.least_x:
                self.least, self.least_G = self.residual, self.G

    def _measure(self, G):
        self.G = G
        self.residual = self.dot.norm(G if self.prox is None else self.x - self.closer(self.x - G, 1.0))

    def look(self):
        self._measure(self.F.all(self.x))
        self.spent, self._seen = self.F.whole - self._seen, self.F.whole
        if math.isnan(self.eta):
            self.eta = self.first_step()
            self._move_anchor(self.residual)
            return
        if self.checked and self.residual > RISEN * self.least:
            self.eta *= SHRINK
            self.x, self.G, self.residual = self.least_x, self.least_G, self.least
            self._move_anchor(self.least)
            return
        if self.residual < self.least:
            self.eta *= self.creep if self.checked else 1.0
            self.least, self.least_x, self.least_G = self.residual, self.x, self.G
        due = self.residual <= FALLEN * self.start or self.steps >= LONG * self.total
        if self.moving and due and self.steps > 3 and self.residual < self.start:
            self._move_anchor(self.residual)
            self.restarts += 1
            if self.checked:
                self.eta *= GROW

    def _move_anchor(self, residual):
        self.anchor, self.steps = self.x, 0
        self.start = self.least = residual
        self.least_x, self.least_G = self.x, self.G

    def largest_change(self, size, probes, each=False):
        """||F_S(y) - F_S(x)|| / ||y - x|| for y near x where it is large, S of `size`; or the quadratic mean of it."""
        x, indices = self.x, self.F.some(size)
        here = self.F.mean(indices, x)
        far = 1e-3 * (1 + self.dot.norm(x))
        direction, ratio = self.G, 0.0
        for _ in range(probes):
            length = self.dot.norm(direction)
            if not 0 < length < math.inf:
                break
            y = (x + far / length * direction).astype(x.dtype, copy=False)
            direction = self.F.mean(indices, y) - here
            ratio = self.dot.norm(direction) / self.dot.norm(y - x)
        if each and ratio:
            squares = [self.dot.norm(self.F.mean(i, y) - self.F.mean(i, x)) ** 2 for i in indices.reshape(-1, 1)]
            return math.sqrt(sum(squares) / len(squares)) / self.dot.norm(y - x)
        return ratio

    def first_step(self):
        """Before the first iteration."""
        raise NotImplementedError


class _Page(_FiniteSum):
    """Algorithm 1."""

    def first_step(self):
        if not self.checked:
            return 1 / (4 * self.lipschitz)
        if self.lipschitz is not None:
            return 1 / self.lipschitz
        return 1 / (self.largest_change(8 * self.F.batch, PROBES) or 1.0)

    def advance(self):
        root = math.sqrt(self.F.n)
        while True:
            lam, before = 2 / (self.steps + 4), self.x
            self.x = self.closer(lam * self.anchor + (1 - lam) * before - self.eta * self.G, self.eta)  # (1)
            self.steps, self.total = self.steps + 1, self.total + 1
            k = self.steps
            p = 1.0 if k <= 1 else 4 / (k + 4) if k - 1 <= root else 4 / (root + 5)  # (3)
            if self.F.draw.random() < (2 / (root + 2) if self.checked else p):
                return
            self.G = self.G + self.F.difference(self.x, before)  # (2)


class _Resolvents(_FiniteSum):
    """Algorithm 2."""

    kept = (*_FiniteSum.kept, "c", "p")
    creep = 1.1

    def first_step(self):
        L = self.lipschitz or self.largest_change(min(self.F.n, 64), PROBES, each=True) or 1.0
        self.c, self.p = math.sqrt(self.F.n) / L, min(0.5, self.F.batch / self.F.n)
        return math.sqrt(self.p * (1 - self.p)) / (2 * (self.c * L + 1))

    def advance(self):
        u, lam = self.x, 1 / (self.steps + 2)
        v = self._resolvent(u, max(1, round(INNER * self.F.n * math.log(self.steps + 2) / self.F.batch)))
        self.x = (lam * self.anchor + (1 - lam) * v).astype(u.dtype, copy=False)
        self.steps, self.total = self.steps + 1, self.total + 1

    def _resolvent(self, u, steps):
        """(5), from u on, where F is known."""
        c, p, gamma, F = self.c, self.p, self.eta, self.F
        whole = F.whole
        v = w = before = u
        H = c * self.G
        for _ in range(steps):
            change = c * F.difference(v, before) + v - before
            v_next = self.closer((1 - p) * v + p * w - gamma * (H + change), gamma * c)
            before = w
            if F.draw.random() < p:
                if F.whole - whole >= self.left - 1:  # the last one is for the residual
                    return v_next
                w = v_next
                H = c * F.all(w) + w - u
            v = v_next
        return v
