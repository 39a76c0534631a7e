"""Entropic optimal transport from a cost matrix or from points: the public functions, and the frame of every method.

    min <P, C> + reg sum_ij P_ij (log P_ij - 1)   subject to   P 1 = a,  P'1 = b                                  (1)

has the solution P_ij = exp((f_i + g_j - C_ij) / reg) for the potentials that maximise

    a.f + b.g - reg sum_ij exp((f_i + g_j - C_ij) / reg).                                                       (2)

Peyre, Cuturi, Computational Optimal Transport, 2019, chapter 4. The methods are in newton.py, sinkhorn.py and paper.py.
"""

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..linalg.outcome import report
from ..monitor import Monitor
from ..result import Status
from . import newton, paper, sinkhorn, sparse, unbalanced
from .costs import MatrixCost
from .feasibility import obstruction
from .level import relaxed
from .points import cost_of_points, metric_of
from .problem import cost_matrix, pose, positive, real, relaxation
from .result import OTResult
from .solution import Solution

METHODS = ("sns", "sinkhorn", "sns-paper")
MAXITER = {"sns": 10_000, "sinkhorn": 1_000_000, "sns-paper": 10_000}


def solve_ot(C, a=None, b=None, *, reg, tol=1e-9, method="sns", tau_a=None, tau_b=None, potentials_init=None,
             maxiter=None, time_limit=None, callback=None, verbose=False, rng=None, check=True,
             on_failure="warn"):  # fmt: skip
    """Solve an entropic optimal transport problem from a cost matrix.

    Minimise ``<P, C> + reg * sum(P * (log P - 1))`` over plans P with row sums a and column sums b.

    Parameters
    ----------
    C : array (n, m)
        Costs, float32 or float64. +inf forbids a pair.
    a, b : arrays (n,) and (m,), optional
        Weights, not negative and of equal sums. None or empty: uniform, of the mass of the other, or 1.
    reg : float
        Strength of the entropy, in units of C. From a thousandth of its range down, plans are close to unregularised.
    tol : float
        A plan is accepted when ``|P 1 - a|_1 + |P'1 - b|_1 <= tol``.
    method : {"sns", "sinkhorn", "sns-paper"}
        "sns": Sinkhorn-Newton-Sparse on an annealed kernel, see `ntsolve.transport.newton`. "sinkhorn": Sinkhorn's
        iteration in the logarithmic domain. "sns-paper": Sinkhorn-Newton-Sparse as it was published. The last two are
        there for comparison.
    tau_a, tau_b : float, optional
        Let the plan miss a, or b, at the price tau KL(P 1 | a). Default: it has to be met.
    potentials_init : tuple of arrays (n,) and (m,), optional
        Where to start, such as the `potentials` of a similar problem.
    maxiter : int, optional
        Scaling and Newton steps. Default: 10,000; 1,000,000 for "sinkhorn".
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops.
    verbose : bool
        Report to the logger "ntsolve" at level INFO.
    rng : optional
        Accepted for uniformity; the method draws no random numbers.
    check : bool
        Look for NaN and infinity in the weights.
    on_failure : {"warn", "raise", "ignore"}
        What to do when the solve ends without success.

    Returns
    -------
    OTResult
        With `plan`, `sparse_plan`, `potentials`, `value`, `value_linear`, `lower_bound`, `upper_bound`, `gap`,
        `marginal_error` and `gradient`, computed when asked for.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. Weights of different sums, and forbidden pairs that leave no plan, are
        such errors.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> x = np.linspace(0, 1, 50)
    >>> result = ntsolve.solve_ot((x[:, None] - x) ** 2, reg=1e-3)
    >>> result.status.name, result.plan.shape
    ('CONVERGED', (50, 50))
    >>> bool(abs(result.plan.sum(axis=1) - 1 / 50).sum() < 1e-9)
    True
    >>> bool(result.lower_bound <= 0 <= result.upper_bound)  # of the cost without entropy
    True
    """
    reg, tol = positive("reg", reg), validate.nonnegative("tol", tol)
    method = validate.choice("method", method, METHODS)
    tau = relaxation("tau_a", tau_a), relaxation("tau_b", tau_b)
    maxiter = MAXITER[method] if maxiter is None else maxiter
    options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, check=check,
                              on_failure=on_failure, rng=rng)  # fmt: skip
    C, own = validate.own_kind("C", C)
    a, b = _weights(a, b)
    with kernels_for(C=C, a=a, b=b) as k:
        problem = pose(k, MatrixCost(k, cost_matrix(k, "C", C)), a, b, tau=tau, check=options.check)
        result = _solve(k, problem, reg, tol, method, potentials_init, options, own)
    if not result.success:
        report("solve_ot", result, options.on_failure)
    return result


def solve_ot_sample(X, Y, a=None, b=None, *, metric="sqeuclidean", reg, tol=1e-9, tau_a=None, tau_b=None,
                    potentials_init=None, maxiter=None, time_limit=None, callback=None, verbose=False, rng=None,
                    check=True, on_failure="warn"):  # fmt: skip
    """Solve an entropic optimal transport problem between two sets of points, whose costs are never stored.

    Memory is that of the points, and of the entries of the plan that matter at this reg.

    Parameters
    ----------
    X, Y : arrays (n, p) and (m, p)
        Points, float32 or float64.
    a, b : arrays (n,) and (m,), optional
        Weights, as for `solve_ot`.
    metric : {"sqeuclidean", "euclidean", "cosine"} or callable
        The cost of a pair: the squared distance, the distance, one minus the cosine; or ``metric(X, Y)`` -> array
        (n, m), which is called with some of the points of X, or with means of points.
    reg, tol, tau_a, tau_b, potentials_init, maxiter, time_limit, callback, verbose, rng, check, on_failure
        As for `solve_ot`; `reg` is in units of the cost.

    Returns
    -------
    OTResult
        As of `solve_ot`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.random((300, 2)), rng.random((400, 2)) + 1
    >>> result = ntsolve.solve_ot_sample(X, Y, reg=1e-2)
    >>> result.status.name, result.sparse_plan(1e-9).shape
    ('CONVERGED', (300, 400))
    """
    reg, tol, metric = positive("reg", reg), validate.nonnegative("tol", tol), metric_of(metric)
    tau = relaxation("tau_a", tau_a), relaxation("tau_b", tau_b)
    maxiter = MAXITER["sns"] if maxiter is None else maxiter
    options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, check=check,
                              on_failure=on_failure, rng=rng)  # fmt: skip
    X, own = validate.own_kind("X", X)
    Y, _ = validate.own_kind("Y", Y)
    a, b = _weights(a, b)
    with kernels_for(X=X, Y=Y, a=a, b=b) as k:
        cost = cost_of_points(k, X, Y, metric)
        problem = pose(k, cost, a, b, tau=tau, names=("metric", "a", "b"), check=options.check)
        result = _solve(k, problem, reg, tol, "sns", potentials_init, options, own)
    if not result.success:
        report("solve_ot_sample", result, options.on_failure)
    return result


def _weights(a, b):
    return (None if each is None else validate.own_kind(name, each)[0] for name, each in (("a", a), ("b", b)))


class _Watch(Monitor):
    """A monitor whose solution is made from the current potentials, which the method gives as `iterate`."""

    def __init__(self, show, **options):
        super().__init__("solve_ot", solution=lambda: show(*self.iterate()), **options)

    def iterate(self):
        """(f, g)"""
        raise NotImplementedError


def _solve(k, problem, reg, tol, method, init, options, own):
    """One problem, by one method, from the door to the result."""
    cost, mass, tau = problem.cost, problem.mass, problem.tau
    a, b = problem.weights
    start = _start(k, problem, init)
    nothing = float(a.sum()) + float(b.sum())  # the error of a plan of zeros

    def show(f, g):
        return Solution(problem, reg, f, g, None, None, own).x

    with _Watch(show, maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                began=options.began, verbose=options.verbose, start=[nothing], target=[tol]) as watch:  # fmt: skip
        goal = tol - problem.mismatch
        if method == "sns" and problem.balanced:
            solve = sparse.solve if sparse.takes(cost) else newton.solve
            f, g, error, counts, columns = solve(k, cost, problem.a, problem.b, reg, goal / mass, watch, start[1], mass)
            f, error, columns = f + reg * np.log(mass), mass * error, mass * columns
        elif method == "sns":
            f, g, error, counts, columns = unbalanced.solve(k, cost, a, b, reg, goal, watch, tau, start[1])
        else:
            if method == "sinkhorn":
                answer = sinkhorn.solve(k, cost.C, a, b, reg, 0.9 * goal, watch, start[0], start[1], tau)
            elif problem.balanced:
                answer = paper.solve(k, cost.C, a, b, reg, 0.9 * goal, watch, *start)
            else:
                raise ValueError("method='sns-paper' meets both marginals: tau_a and tau_b are not for it")
            f, g, _, counts = answer
            f, error, columns = newton.exact_rows(k, cost, a, b, reg, g, tau)
        if problem.balanced:  # the constant that may go from f to g
            shift = 0.5 * (float(problem.a @ f) - float(problem.b @ g))
            f, g = f - shift, g + shift
        rows = relaxed(k.xp, a, f, tau[0])
        solution = Solution(problem, reg, f, g, rows, columns, own)
        residual = solution.residual(error)
        if not np.isfinite(residual):
            status = Status.NAN_OR_INF
        elif residual <= tol:
            status = Status.CONVERGED
        else:
            status = watch.status or Status.STALLED
        if status == Status.STALLED and cost.forbidden:
            why = obstruction(np.isfinite(k.to_host(cost.C)), k.to_host(problem.a), k.to_host(problem.b))
            if why is not None:
                raise ValueError(f"C forbids (+inf) too much, there is no plan: of what has mass, {why}")
        return OTResult(
            x=solution.x,
            success=status == Status.CONVERGED,
            status=status,
            message=status.advice,
            nit=watch.nit,
            residual=residual,
            history=watch.history,
            elapsed=watch.elapsed,
            backend=k.NAME,
            tolerance=tol,
            reg=reg,
            passes=counts.get("passes", 0),
            scaling_steps=counts.get("scalings", 0),
            newton_steps=counts.get("newton", 0),
            cg_steps=counts.get("cg", 0),
            _solution=solution,
        )


def _start(k, problem, init):
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
        if bool((values != values).any()) or not bool(known.any()):
            raise ValueError("potentials_init contains NaN, or nothing finite")
        if not bool(known.all()):  # had no mass, then
            values = k.xp.where(known, values, values[known].min())
        found.append(k.xp.ascontiguousarray(values))
    return tuple(found)
