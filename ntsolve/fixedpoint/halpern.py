"""Halpern's iteration for fixed points of nonexpansive maps, reflected, with an adaptive anchor, restarted.

For ||T(x) - T(y)|| <= ||x - y||, with f = x - T(x) and an anchor a,

    x+ = (a + phi R(x)) / (phi + 1),   R(x) = T(x) - rho f                                                    (1)

With phi = k + 1 and rho = 0 this is Halpern's iteration, ||f|| <= 2 ||a - x*|| / (k + 1) after k steps: Lieder, "On the
convergence rate of the Halpern-iteration", Optim. Lett. 15 (2021), theorem 2.1. The adaptive anchor is

    phi = 1 + 2 <x - R(x), a - x> / ||x - R(x)||^2  >=  k + 1,                                                 (2)

He, Xu, Dong, Rachford, "Convergence analysis of nonexpansive mappings with an adaptive anchoring parameter",
SIAM J. Optim. 34 (2024). R is the reflection of T for rho = 1, nonexpansive where T is firmly so. In general R is so
where, for all pairs,

    <dx, df> >= (1 + rho) / 2 ||df||^2,                                                                        (3)

and rho="auto" is the largest for which (3) holds for all pairs of successive iterates so far. Inner products are those
of the metric in which T is nonexpansive. Restarts, and stretches of x+ = T(x) where it is quicker: schedule.py.
"""

import math
from typing import Any

import numpy as np

from .. import validate
from ..anderson import Anderson
from ..dispatch import kernels_for
from ..outcome import report
from ..parallel.comm import join
from ..reductions import SERIAL
from ..result import FixedPointResult
from .loop import Evaluation, Iteration, iterate
from .schedule import Adaptive, Always, Step
from .trees import Tree

MAXITER = 100_000
CHOLESKY = 4000  # rows of a metric up to which it is factorised, to see whether it is positive definite
MEMORY = 5  # steps that Anderson's acceleration looks back


def halpern(T, x0, *, args=(), tol=1e-8, reflect="auto", restart="adaptive", anchor="adaptive", metric=None,
            accelerate=None, distance=None, lipschitz=None, maxiter=MAXITER, time_limit=None, callback=None,
            verbose=False, rng=None, check=True, on_failure="warn", comm=None, checkpoint=None, checkpoint_every=60.0,
            resume=None) -> FixedPointResult:  # fmt: skip
    """Find a fixed point x = T(x) of a nonexpansive map.

    Parameters
    ----------
    T : callable
        ``T(x, *args)`` returns an array of the shape of x; x is T's to keep or to change.
    x0 : array, or tuple or dict of arrays
        Where to start. T gets and returns the same structure.
    args : tuple
        Passed on to T.
    tol : float
        Solved when ``||x - T(x)||_2 <= tol``, all entries of the structure together.
    reflect : {"auto", True, False}
        Iterate with the reflection 2 T - I, which halves the work where T is firmly nonexpansive. "auto": as far as
        the evaluations seen allow it.
    restart : {"adaptive", None}
        "adaptive": start anew where that pays, and iterate x <- T(x) where that is quicker. None: one long run, as in
        the theory.
    anchor : {"adaptive", "classic"}
        The weight of the anchor: by (2) of the module's docstring, or 1 / (k + 2).
    metric : array, matrix, or callable, optional
        Symmetric positive definite M in whose inner product x'My the map is nonexpansive: a structure like x0 of
        positive entries (a diagonal); or, with a vector as x0, a dense or sparse matrix; or ``metric(x)``, which
        returns M x. Without it, x'y.
    accelerate : {None, "anderson"}
        "anderson": in place of x <- T(x), Anderson's acceleration with a memory of 5, where it is quicker.
    distance : float, optional
        A bound of the distance of x0 to the fixed point. With `reflect` True or False, and neither metric nor
        acceleration, the `bound` of the result is then what theory promised.
    lipschitz : float, optional
        A factor below 1 by which T is known to contract, in the 2-norm: gives the `error_bound` of the result.
    maxiter : int
        Evaluations after the first.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops.
    verbose : bool
        Report to the logger "ntsolve" at level INFO, which ``logging.basicConfig(level=logging.INFO)`` shows.
    rng : optional
        Accepted for uniformity; the method draws no random numbers.
    check : bool
        Look for NaN and infinity in x0 and the metric, and whether the metric is symmetric and positive definite: of a
        sparse matrix, or one with more than 4000 rows, only the diagonal is looked at for that, and of a callable
        nothing.
    on_failure : {"warn", "raise", "ignore"}
        What to do when the solve ends without success.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: each process calls with its part of x0, and
        of a diagonal `metric`; T and a callable `metric` get and return such parts, and talk to each other themselves
        where they have to. A part may be empty. All other arguments, `args` excepted, are the same on all. The `x` of
        the result is the part; what else it says is about the whole.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there.

    Returns
    -------
    FixedPointResult
        `x` has the structure of x0; `residual` is ``||x - T(x)||_2``, from an evaluation at that very x.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. What T raises is passed on as it is.
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
    A nonnegative least squares problem, by its projected gradient step:

    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> A, b = rng.standard_normal((30, 10)), rng.standard_normal(30)
    >>> step = 1 / np.linalg.norm(A, 2) ** 2
    >>> result = ntsolve.halpern(lambda x: np.maximum(x - step * A.T @ (A @ x - b), 0), np.zeros(10))
    >>> result.status.name, bool(result.residual <= 1e-8)
    ('CONVERGED', True)
    """
    with join(comm).together() as ranks:
        result = _run(ranks, T, x0, args, tol, reflect, restart, anchor, metric, accelerate, distance, lipschitz,
                      maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, rng=rng, check=check,
                      on_failure=on_failure, checkpoint=checkpoint, checkpoint_every=checkpoint_every,
                      resume=resume)  # fmt: skip
    report("halpern", result, on_failure)
    return result


def _run(ranks, T, x0, args, tol, reflect, restart, anchor, metric, accelerate, distance, lipschitz, **common):
    tol, function = validate.nonnegative("tol", tol), validate.function("T", T)
    if function is None:
        raise TypeError("T must be callable, not None")
    reflect = validate.choice("reflect", reflect, ("auto", True, False))
    args = validate.arguments("args", args)
    restart = validate.choice("restart", restart, ("adaptive", None))
    anchor = validate.choice("anchor", anchor, ("adaptive", "classic"))
    accelerate = validate.choice("accelerate", accelerate, (None, "anderson"))
    if accelerate and restart is None:
        raise ValueError("accelerate is for restart='adaptive'")
    distance = None if distance is None else validate.nonnegative("distance", distance)
    if lipschitz is not None and validate.nonnegative("lipschitz", lipschitz) >= 1:
        raise ValueError(f"lipschitz must be below 1, not {lipschitz}: without it T need only be nonexpansive")
    options = validate.common(**common)
    ranks.alike(tol=tol, reflect=reflect, restart=restart, anchor=anchor, metric=_form(metric), accelerate=accelerate,
                distance=distance, lipschitz=lipschitz, maxiter=options.maxiter)  # fmt: skip
    tree = Tree("x0", x0)
    with kernels_for(**tree.arrays) as k:
        x = tree.start(k, options.check, ranks)
        product = metric_product(k, tree, metric, options.check, ranks)
        evaluate = Evaluation(tree, "T", lambda given: T(given, *args))
        state = _Halpern(k, tree, evaluate, x, product, reflect, restart, anchor, accelerate, ranks)
        keeper = options.saving.of("halpern", k, ranks, x0=x, args=args, tol=tol, reflect=reflect, restart=restart,
                                   anchor=anchor, metric=metric, accelerate=accelerate)  # fmt: skip
        return iterate("halpern", state, tol, options, distance=distance, lipschitz=lipschitz, keeper=keeper)


def _form(metric):
    """In which of its forms a metric was passed."""
    return None if metric is None else "function" if callable(metric) else "entries"


def metric_product(k, tree, metric, check, ranks=SERIAL):
    """v -> M v on flat vectors; None for the identity."""
    if metric is None:
        return None
    if callable(metric):
        return Evaluation(tree, "metric", metric)
    if tree.is_vector and isinstance(metric, list):
        metric, _ = validate.own_kind("metric", metric)
    if getattr(metric, "ndim", None) == 2 and tree.is_vector:
        if ranks is not SERIAL:
            raise TypeError("metric must be a diagonal or callable with comm: no process has a whole matrix")
        if tuple(metric.shape) != (tree.size, tree.size):
            raise ValueError(f"metric has shape {tuple(metric.shape)}, x0 has {tree.size} entries")
        if check:
            _look_at_matrix(k, metric)
        return Evaluation(tree, "metric", lambda x: metric @ x)
    diagonal = tree.flatten("metric", metric)
    if any(leaf.dtype.kind == "c" for leaf in tree.leaves):
        raise TypeError("metric must be callable where x0 is complex")
    if check and not bool((diagonal > 0).all() & k.xp.isfinite(diagonal).all()):
        raise ValueError("metric must be positive and finite")
    return lambda x: diagonal * x


def _look_at_matrix(k, metric):
    """Refuse what is plainly not symmetric positive definite."""
    if hasattr(type(metric), "nnz"):
        metric = metric.tocsr()
        values, diagonal, skew = metric.data, metric.diagonal(), (metric - metric.T).tocsr().data
    else:
        values, _ = validate.own_kind("metric", metric)
        values = k.to_host(values)
        diagonal, skew = values.diagonal(), values - values.T
    if values.dtype.kind not in "biuf":
        raise TypeError(f"metric has dtype {values.dtype}; real numbers are needed")
    if not bool(np.isfinite(values).all()):
        raise ValueError("metric contains NaN or infinity")
    eps = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    if skew.size and float(abs(skew).max()) > math.sqrt(eps) * float(abs(values).max()):
        raise ValueError("metric must be symmetric")
    definite = bool((diagonal > 0).all())
    if definite and values.ndim == 2 and diagonal.size <= CHOLESKY:
        try:
            np.linalg.cholesky(values.astype(np.float64))
        except np.linalg.LinAlgError:
            definite = False
    if not definite:
        raise ValueError("metric must be positive definite")


class _Halpern(Iteration):
    """The iterate x, t = T(x), f = x - t, and what the next step depends on."""

    kept = (*Iteration.kept, "anchor", "rho", "steps", "schedule", "anderson", "T")

    def __init__(self, k, tree, evaluate, x, product, reflect, restart, anchor, accelerate, ranks=SERIAL):
        super().__init__(k, tree, x, ranks)
        self.T, self.M, self.anchor = evaluate, product, x
        self.auto, self.rho = reflect == "auto", float(reflect is not False)
        self.adaptive = anchor == "adaptive"
        self.schedule: Adaptive | Always = Adaptive() if restart else Always()
        self.anderson = Anderson(k, k.xp.ones(x.size), MEMORY, np.inf, ranks) if accelerate else None
        self.steps = 0  # since the anchor
        self.before: Any = None
        self.forth = 0.0  # <M f, a - x>, where x is no longer the anchor

    @property
    def nfev(self):
        return self.T.count

    def look_again(self):
        self.before = None
        self.look()

    def look(self):
        """T and all that is measured at x."""
        self.t = self.T(self.x)
        self.f = self.x - self.t
        self.Mf = self.f if self.M is None else self.M(self.f)
        doubt = self.auto and self.before is not None and self.rho > 0
        pairs = [(self.f, self.f)]
        if self.M is not None:
            pairs.append((self.f, self.Mf))
        if doubt:
            x, f, Mf = self.before
            dMf = self.Mf - Mf
            pairs += [(self.f - f, dMf), (self.x - x, dMf), (self.x, self.x)]
        if self.adaptive and self.steps:
            pairs.append((self.Mf, self.anchor - self.x))
        found = self.dot.several(*pairs)
        self.residual = math.sqrt(found[0]) if found[0] >= 0 else math.nan
        self.size2 = found[0 if self.M is None else 1]  # ||f||^2 in the metric
        if doubt:
            at = 1 if self.M is None else 2
            self._doubt(*found[at : at + 3])
        self.forth = found[-1] if self.adaptive and self.steps else 0.0
        self.before = (self.x, self.f, self.Mf)

    def _doubt(self, moved, crossed, square):
        """(3), for the last two iterates: |df|^2 and <dx, df> in the metric, and |x|^2."""
        noise = (64 * np.finfo(self.x.dtype).eps) ** 2 * square
        if moved > noise * max(1.0, self.size2 / self.residual**2 if self.residual else 1.0):
            self.rho = min(self.rho, max(0.0, 2 * crossed / moved - 1))

    def advance(self):
        """To the next iterate."""
        step = self.schedule.next(math.sqrt(self.size2) if self.size2 > 0 else 0.0)
        self.restarts = self.schedule.restarts
        if step is Step.HALPERN:
            self._halpern()
        elif step is Step.PLAIN and self.anderson is not None:
            self._accelerated(self.anderson)
        else:
            self.steps = 0
            self.x = self.anchor = self.t
            if self.anderson is not None:
                self.anderson.forget()

    def _halpern(self):
        """(1), (2)"""
        phi = self.steps + 1.0
        if self.adaptive and self.size2 > 0:
            # smaller than k + 1 only where R is not nonexpansive
            phi = max(phi, 1 + 2 * self.forth / ((1 + self.rho) * self.size2))
        weight = phi / (phi + 1)
        x = self.t - self.rho * self.f if self.rho else self.t.copy()
        x *= weight
        x += (1 - weight) * self.anchor
        self.x = x.astype(self.t.dtype, copy=False)
        self.steps += 1

    def _accelerated(self, anderson):
        if self.residual > 2 * self.best:
            anderson.forget()
        x = self.k.xp.empty_like(self.t)
        anderson.step(self.x, self.t, x)
        self.x, self.steps = x, 0

    def promised(self, distance):
        """2 d / (k + 1), half of it for the reflection: no iterate is farther from a fixed point than x0 was."""
        if self.auto or self.anderson is not None or self.M is not None:
            return None
        return 2 * distance / ((1 + self.rho) * (self.steps + 1)) if self.steps else 2 * distance
