"""Minimization under equality constraints by a globalised Newton method on the optimality conditions.

    min f(x)  subject to  c(x) = 0,     L(x, lam) = f + lam'c,   g = grad f,  J = c',  H = Hessian of L

A step solves, to an accuracy that grows near the solution,

    [[H + tau I, J'], [J, -delta I]] (dx, dlam) = -(g + J'lam, c),                                        (1)

where tau makes H + tau I positive definite on the null space of J and delta > 0 only where J has not full rank
(kkt.py). x and lam move together, by a = 1, 1/2, ..., to what the filter or the merit function accepts
(globalization.py). At a = 1 second-order corrections go before a shorter step: (1) once more, with the violation at
the point that was refused added to c. Where nothing is accepted, the violation alone is lowered (restoration.py).

The method is that of Hong, Na, Mahoney and Kolar (see globalization.py): their exact augmented Lagrangian, their test
of descent, inexact solves of (1); with a filter in the manner of Waechter and Biegler, Math. Program. 106 (2006), and
with multipliers that are replaced by those of least squares where these are much better.
"""

import warnings
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import home, kernels_for
from ..errors import PerformanceWarning
from ..monitor import Monitor
from ..outcome import report
from ..result import Status
from . import kkt
from .constraints import vacuous
from .functions import Problem
from .outer import Newton
from .result import ADVICE, MinimizeResult, PerConstraint

METHODS = ("newton", "adasketch")


def minimize(fun, x0, *, jac=None, hess=None, hessp=None, constraints=(), bounds=None, args=(), tol=1e-8, inner="auto",
             method="newton", globalization="filter", lam0=None, state_solve=None, precond=None, maxiter=500,
             time_limit=None, callback=None, verbose=False, rng=None, check=True, on_failure="warn", checkpoint=None,
             checkpoint_every=60.0, resume=None) -> MinimizeResult:  # fmt: skip
    """Minimize f(x) subject to equality constraints c(x) = 0.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns f(x), or with ``jac=True`` f(x) and its gradient.
    x0 : array (n,)
        Where to start; it need not be feasible. Leading axes are a batch of problems of one structure.
    jac : callable, True, "3-point", "2-point" or "cs", optional
        ``jac(x, *args)`` returns the gradient (n,). By default it comes from central differences, with a
        `PerformanceWarning`, and so it does for "2-point", which is not accurate enough here; "cs" is the complex step,
        for functions that take complex numbers.
    hess : callable, "3-point" or "cs", optional
        ``hess(x, *args)`` returns the Hessian of f: an array (n, n), a sparse matrix, a LinearOperator, or a
        `FactoredHessian`. By default, differences of the gradient.
    hessp : callable, optional
        ``hessp(x, v, p, *args)`` returns the Hessian of the Lagrangian f + v'c times p, in place of all of `hess`.
        Not used where `hess` is given.
    constraints : NonlinearConstraint, LinearConstraint, or dict, or a list of these
        SciPy's, with lb == ub; a dict is ``{"type": "eq", "fun": ..., "jac": ..., "hess": ..., "args": ...}`` with
        ``hess(x, v)`` as in a NonlinearConstraint. Jacobians may be arrays, sparse matrices or LinearOperators.
    bounds : None, or a Bounds with nothing finite in it
        There for a clear refusal: bounds and inequalities are not taken.
    args : tuple
        Passed on to fun, jac, hess and hessp.
    tol : float
        Solved when ``max(|grad f + J'v|, |c|) <= tol``, largest entries, nothing scaled. The multipliers v are the
        iteration's, or those of least squares where they are better.
    inner : {"auto", "ldl", "splu", "nullspace", "reduced", "minres", "kaczmarz", "gaussian"}
        What solves the Newton systems. "ldl": a dense symmetric factorisation. "splu": a sparse one. "nullspace":
        conjugate gradients along the constraints, with a sketch of the Hessian as preconditioner. "reduced": the same
        in the space of the controls, with solves for the state. "minres": an iteration that needs products only.
        "kaczmarz" and "gaussian": those of the paper. "auto" chooses, see `ntsolve.optimize.kkt.choose`.
    method : {"newton", "adasketch"}
        "adasketch" is the algorithm of the paper as written.
    globalization : {"filter", "merit"}
        "filter" accepts what lowers f, the violation, or the merit function; "merit" nothing but the latter, with
        penalties that never return, for which there is a proof of convergence.
    lam0 : array (m,), optional
        Multipliers to start from. Default: those of least squares.
    state_solve : callable, optional
        For ``inner="reduced"``: ``state_solve(x)`` returns an object with `matvec` and `rmatvec`, the inverse of the
        Jacobian of the constraints with respect to the first m variables, the state.
    precond : optional
        For iterative inner solvers: an approximate inverse, positive definite, of order n or n + m for "minres", n for
        "nullspace", n - m for "reduced". For "nullspace" also a sketch: "rows", "countsketch", "srht", "exact".
    maxiter : int
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops.
    verbose : bool
        Report to the logger "ntsolve" at level INFO, which ``logging.basicConfig(level=logging.INFO)`` shows.
    rng : optional
        Seed or generator for sketches and random probes. Default: 0, the same each time.
    check : bool
        Look for NaN and infinity in x0 and lam0.
    on_failure : {"warn", "raise", "ignore"}
        What to do when the solve ends without success.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there. For one problem by "newton". What
        `nfev` and its like count begins anew.

    Returns
    -------
    MinimizeResult
        With SciPy's names. `status` tells what went wrong: INFEASIBLE_STATIONARY, UNBOUNDED, RANK_DEFICIENT,
        NOT_A_MINIMUM, NO_DESCENT, NAN_OR_INF, ...

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. What the user's functions raise is passed on as it is.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.
    PerformanceWarning
        Where differences stand in for derivatives.

    Examples
    --------
    The point of a circle where x + y is least:

    >>> import numpy as np, ntsolve
    >>> from scipy.optimize import NonlinearConstraint
    >>> circle = NonlinearConstraint(
    ...     lambda x: x @ x, 2, 2, jac=lambda x: 2 * x[None], hess=lambda x, v: 2 * v[0] * np.eye(2)
    ... )
    >>> result = ntsolve.minimize(
    ...     np.sum, [-2.0, 0.0], jac=np.ones_like, hess=lambda x: np.zeros((2, 2)), constraints=circle
    ... )
    >>> result.x.round(8), result.v[0].round(8), result.status.name
    (array([-1., -1.]), array([0.5]), 'CONVERGED')
    """
    tol = validate.nonnegative("tol", tol)
    options = validate.common(maxiter=maxiter, time_limit=time_limit, callback=callback, verbose=verbose, check=check,
                              on_failure=on_failure, rng=rng, checkpoint=checkpoint,
                              checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
    if options.saving.wanted and (method != "newton" or np.ndim(x0) > 1):
        raise ValueError('checkpoint and resume are for one problem, by method="newton"')
    if bounds is not None and not vacuous(bounds):
        raise ValueError("bounds are not taken: equality constraints only")
    validate.choice("method", method, METHODS)
    validate.choice("globalization", globalization, ("filter", "merit"))
    validate.choice("inner", inner, ("auto", *kkt.INNER))
    x0, own = validate.own_kind("x0", x0)
    x0 = validate.numeric("x0", x0, check=options.check)
    if x0.dtype.kind == "c":
        raise TypeError("x0 is complex; minimize is for real variables")
    x0 = x0.reshape(1) if x0.ndim == 0 else x0
    if x0.shape[-1] == 0:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; (n,) with n at least 1 is needed")
    if x0.ndim > 1:
        from . import batch

        fixed = {"inner": (inner, ("auto", "ldl")), "globalization": (globalization, ("filter",)),
                 "method": (method, ("newton",)), "hessp": (hessp, (None,)), "precond": (precond, (None,)),
                 "state_solve": (state_solve, (None,))}  # fmt: skip
        for name, (value, allowed) in fixed.items():
            if not any(value is one or (isinstance(value, str) and value == one) for one in allowed):
                raise ValueError(f"{name} cannot be chosen for a batch: x0 has shape {tuple(x0.shape)}")
        try:
            with kernels_for(x0=x0) as k:
                result = batch.solve(k, fun, x0, own=own, jac=jac, hess=hess, constraints=constraints, args=args,
                                     lam0=lam0, tol=tol, maxiter=options.maxiter, options=options)  # fmt: skip
        except Exception as error:
            error.add_note(f"x0 has shape {tuple(x0.shape)}: its leading axes are a batch, functions get x like that")
            raise
        report("minimize", result, options.on_failure)
        return result
    place = home(x0)
    if place is not None and place[0] != "cpu":
        raise TypeError("x0 lives on a GPU, where only batches are solved: pass x0.get(), or several problems at once")
    with kernels_for(x0=x0) as k:
        lam = _multipliers(lam0, options.check)
        problem = Problem(fun, x0.astype(float), jac=jac, hess=hess, hessp=hessp, constraints=constraints, args=args)
        if problem.missing:
            warnings.warn(f"minimize: differences stand in for {', '.join(problem.missing)}, at the cost of many more "
                          "evaluations", PerformanceWarning, stacklevel=2)  # fmt: skip
        keeper = options.saving.of("minimize", k, x0=x0, lam0=lam, args=args, constraints=constraints, tol=tol,
                                   inner=inner, globalization=globalization, precond=precond)  # fmt: skip
        result = _solve(problem, x0, lam, tol, inner, method, globalization, state_solve, precond,
                        validate.generator("rng", rng), options, own, k.NAME, keeper)  # fmt: skip
    report("minimize", result, options.on_failure)
    return result


def _multipliers(lam0, check):
    if lam0 is None:
        return None
    if isinstance(lam0, (list, tuple)) and any(np.ndim(part) for part in lam0):  # a result's v
        lam0 = np.concatenate([np.atleast_1d(np.asarray(part, dtype=float)) for part in lam0])
    lam0 = validate.numeric("lam0", validate.own_kind("lam0", lam0)[0], check=check)
    return np.array(lam0, dtype=float).reshape(-1)


def _solve(problem, x0, lam, tol, inner, method, globalization, state_solve, precond, rng, options, own, backend,
           keeper):  # fmt: skip
    start = problem.begin(x0.astype(float))
    if lam is not None and lam.size != problem.m:
        raise ValueError(f"lam0 has {lam.size} entries, the constraints have {problem.m}")
    lam = None if lam is None else problem.multipliers_in(lam)
    if method == "adasketch":
        inner = validate.choice("inner", "kaczmarz" if inner == "auto" else inner, ("kaczmarz", "gaussian"))
    elif inner == "auto":
        inner = kkt.choose(problem, start, np.zeros(problem.m) if lam is None else lam, state_solve=state_solve)
    if state_solve is not None and inner != "reduced":
        raise ValueError(f'state_solve is for inner="reduced", not {inner!r}')
    if precond is not None and inner not in ("minres", "nullspace", "reduced"):
        raise ValueError(f"precond is for inner solvers that iterate, not {inner!r}")
    outer: Any
    solver = kkt.make(inner, problem, rng=rng, precond=precond, state_solve=state_solve)
    if method == "adasketch":
        from . import paper

        outer = paper.AdaSketch(problem, solver, start, lam, tol=tol)
    else:
        outer = Newton(problem, solver, start, lam, tol=tol, merit_only=globalization == "merit")
    seen = outer.seen  # and not outer, which holds the watch
    with Monitor("minimize", maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                 began=options.began, verbose=options.verbose, target=np.array([tol]), start=np.array([outer.residual]),
                 keeper=keeper, solution=lambda: own(seen[0].x.astype(x0.dtype))) as watch:  # fmt: skip
        solver.going = watch.going
        watch.begin(outer)
        status = outer.run(watch)
        result = _result(problem, outer, status, x0, tol, watch, inner, own, backend)
        watch.finish(outer, result.success)
        return result


def _result(problem, outer, status, x0, tol, watch, inner, own, backend):
    """The residual is recomputed from the user's functions at the x that is returned, in its own dtype."""
    x = outer.point.x.astype(x0.dtype)
    solver = outer.inner
    point = problem.at(x.astype(float))
    lam, residual, rank_deficient = outer.lam, problem.residual(point, outer.lam), None
    if problem.m and point.finite and point.smooth:
        solver.visit(point)
        better = solver.multipliers(point.g, point.J)
        rank = solver.rank(point.J)
        rank_deficient = None if rank is None else rank < problem.m
        if problem.residual(point, better) < residual and not residual <= tol:
            lam, residual = better, problem.residual(point, better)
    if status == Status.CONVERGED and not (residual <= tol and point.finite):
        status = Status.STALLED
    if status in (Status.STALLED, Status.NO_DESCENT) and rank_deficient:
        status = Status.RANK_DEFICIENT
    message = ADVICE.get(status, status.advice)
    if status == Status.CONVERGED and rank_deficient:
        message += " The constraints are linearly dependent there, so their multipliers are not unique."
    ends = np.cumsum([block.m for block in problem.blocks])[:-1]
    parts = lambda values: np.split(values, ends) if problem.blocks else []
    with np.errstate(all="ignore"):
        gradient = point.g / problem.f_scale
        of_lagrangian = (point.g + point.J.T @ lam) / problem.f_scale
    counts = (problem.nfev, problem.njev, problem.nhev,
              *(PerConstraint(getattr(b, name) for b in problem.blocks) for name in ("nfev", "njev", "nhev")))
    return MinimizeResult(
        x=own(x),
        success=status == Status.CONVERGED,
        status=status,
        message=message,
        nit=watch.nit,
        residual=float(residual),
        history=watch.history,
        elapsed=watch.elapsed,
        backend=backend,
        fun=point.f / problem.f_scale,
        grad=gradient,
        lagrangian_grad=of_lagrangian,
        optimality=problem.stationarity(point, lam),
        constr_violation=problem.violation(point),
        constr=PerConstraint(
            c + block.target for c, block in zip(parts(point.c / problem.c_scale), problem.blocks, strict=True)
        ),
        jac=PerConstraint(block.jacobian(point.x) for block in problem.blocks),
        v=PerConstraint(parts(problem.multipliers_out(lam))),
        nfev=counts[0], njev=counts[1], nhev=counts[2],
        constr_nfev=counts[3], constr_njev=counts[4], constr_nhev=counts[5],
        inner=inner,
        products=solver.products,
        factorizations=solver.factorizations,
        inner_iterations=solver.iterations,
        rank_deficient=rank_deficient,
        trace=outer.trace(),
    )  # fmt: skip
