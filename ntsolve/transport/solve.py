"""Entropic optimal transport from a cost matrix or from points: the public functions, and the frame of every method.

    min <P, C> + reg sum_ij P_ij (log P_ij - 1)   subject to   P 1 = a,  P'1 = b                                  (1)

has the solution P_ij = exp((f_i + g_j - C_ij) / reg) for the potentials that maximise

    a.f + b.g - reg sum_ij exp((f_i + g_j - C_ij) / reg).                                                       (2)

Peyre, Cuturi, Computational Optimal Transport, 2019, chapter 4. The methods are in newton.py, sparse.py (many
points), unbalanced.py, sinkhorn.py and paper.py.
"""

import functools

from .. import validate
from ..dispatch import kernels_for
from ..outcome import report
from ..parallel.comm import join
from ..reductions import SERIAL
from . import batch, one, shared
from .costs import MatrixCost
from .points import cost_of_points, metric_of
from .problem import cost_matrix, pose, relaxation
from .result import OTResult

METHODS = ("sns", "sinkhorn", "sns-paper")
MAXITER = {"sns": 10_000, "sinkhorn": 1_000_000, "sns-paper": 10_000}


def solve_ot(C, a=None, b=None, *, reg, tol=None, method="sns", tau_a=None, tau_b=None, potentials_init=None,
             maxiter=None, time_limit=None, callback=None, verbose=False, rng=None, check=True,
             on_failure="warn", checkpoint=None, checkpoint_every=60.0, resume=None) -> OTResult:  # fmt: skip
    """Solve an entropic optimal transport problem from a cost matrix.

    Minimise ``<P, C> + reg * sum(P * (log P - 1))`` over plans P with row sums a and column sums b.

    Parameters
    ----------
    C : array (n, m)
        Costs, float32 or float64. +inf forbids a pair. (..., n, m), or a list of matrices, is a batch of problems.
    a, b : arrays (n,) and (m,), optional
        Weights, not negative, of equal sums but for rounding. None or empty: uniform, of the mass of the other, or 1.
    reg : float
        Strength of the entropy, in units of C. From a thousandth of its range down, plans are close to unregularised.
    tol : float, optional
        A plan is accepted when ``|P 1 - a|_1 + |P'1 - b|_1 <= tol``. Default: 1e-9 of the mass; 1e-6 of it where an
        array is float32, to which a plan rounds by 6e-8; and by how much the sums of a and b differ.
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
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there. For one problem, not for a batch.

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
    reg, tol = validate.positive("reg", reg), _tolerance(tol)
    method = validate.choice("method", method, METHODS)
    tau = relaxation("tau_a", tau_a), relaxation("tau_b", tau_b)
    maxiter = MAXITER[method] if maxiter is None else maxiter
    options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, check=check,
                              on_failure=on_failure, rng=rng, checkpoint=checkpoint,
                              checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
    given = {"C": (C, 2), "a": (a, 1), "b": (b, 1)}

    def posed(k, names, C, a, b):
        cost = MatrixCost(k, cost_matrix(k, names[0], C))
        return pose(k, cost, a, b, tol=tol, tau=tau, names=names, sides=names[:1] * 2, check=options.check)

    result = _solve(posed, given, potentials_init, reg, tol, method, options, tau=tau)
    report("solve_ot", result, options.on_failure)
    return result


def solve_ot_sample(X, Y, a=None, b=None, *, metric="sqeuclidean", reg, tol=None, tau_a=None, tau_b=None,
                    potentials_init=None, maxiter=None, time_limit=None, callback=None, verbose=False, rng=None,
                    check=True, on_failure="warn", comm=None, checkpoint=None, checkpoint_every=60.0,
                    resume=None) -> OTResult:  # fmt: skip
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
    checkpoint, checkpoint_every, resume
        As for `solve_ot`.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: the rows of X are shared among its ranks.
        Each passes its rows, none maybe, with their a and their f of `potentials_init`; everything else is the same on
        all. f and the plan of a result are those of a rank's own rows, values and bounds those of the whole. `gap`,
        `verify`, `gradient`, and `x` in a callback, take all ranks to compute: ask for them on all of them.

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
    RankError
        Where one of these, or any other exception, was raised on another rank.

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
    with join(comm).together() as ranks:
        reg, tol, metric = validate.positive("reg", reg), _tolerance(tol), metric_of(metric)
        tau = relaxation("tau_a", tau_a), relaxation("tau_b", tau_b)
        maxiter = MAXITER["sns"] if maxiter is None else maxiter
        options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose,
                                  check=check, on_failure=on_failure, rng=rng, checkpoint=checkpoint,
                                  checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
        given = {"X": (X, 2), "Y": (Y, 2), "a": (a, 1), "b": (b, 1)}

        def posed(k, names, X, Y, a, b):
            shared.agree(ranks, X, Y, b, potentials_init, metric=metric, reg=reg, tol=tol, tau_a=tau[0], tau_b=tau[1],
                         maxiter=options.maxiter)  # fmt: skip
            cost = cost_of_points(k, X, Y, metric, names[:2], ranks)
            said = {"names": ("metric", *names[2:]), "sides": names[:2]}
            return pose(k, cost, a, b, tol=tol, tau=tau, **said, check=options.check)

        result = _solve(posed, given, potentials_init, reg, tol, "sns", options, ranks, tau=tau,
                        metric=metric)  # fmt: skip
    report("solve_ot_sample", result, options.on_failure)
    return result


def _tolerance(tol):
    return None if tol is None else validate.nonnegative("tol", tol)


def _solve(posed, given, init, reg, tol, method, options, ranks=SERIAL, **settings):
    """The result of the one problem, or of those in a batch.

    `posed(k, names, **arguments)` is a problem; `given` is {name: (value, axes of one problem)}. What else makes it the
    problem that it is, is in `settings`, for checkpoints.
    """
    found = {name: batch.arrays(name, value, axes) for name, (value, axes) in given.items()}
    own = next(iter(found.values()))[1]
    shape, items = batch.split({name: (value, given[name][1]) for name, (value, _) in found.items()})
    if shape != () and ranks is not SERIAL:
        raise ValueError("comm is for one problem whose X is shared among ranks, not for a batch")
    with kernels_for(**batch.places({name: value for name, (value, _) in found.items()})) as k:
        if shape == ():
            settings |= {"reg": reg, "tol": tol, "method": method, "potentials_init": init}
            name = "solve_ot_sample" if "X" in given else "solve_ot"
            keeper = options.saving.of(name, k, ranks, **items[0], **settings)
            return one.solve(k, posed(k, tuple(given), **items[0]), reg, method, init, options, own, keeper=keeper)
        if options.saving.wanted:
            raise ValueError("checkpoint and resume are for one problem, not for a batch")
        owns, inits = own if isinstance(own, list) else [None] * len(items), batch.starts(init, len(items))
        tasks = []
        for i, (item, start, kind) in enumerate(zip(items, inits, owns, strict=True)):
            names = tuple(f"{name}[{i}]" for name in given)
            tasks.append(batch.Task(item, functools.partial(posed, k, names, **item), start, kind))
        return batch.solve(k, tasks, shape, reg, method, options, own)
