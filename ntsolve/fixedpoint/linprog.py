"""Linear programs by restarted, reflected Halpern PDHG, and Newton's method to finish.

min c'x  subject to  A_ub x <= b_ub,  A_eq x = b_eq,  lb <= A x <= ub,  lower <= x <= upper              (1)

The primal-dual hybrid gradient method (Chambolle and Pock, 2011) is a nonexpansive map T of (x, y) whose fixed points
are the solutions. Halpern's iteration, reflected and restarted, finds them (Lu and Yang, "Restarted Halpern PDHG for
linear programming", 2024): from an anchor z0,

    z_{k+1} = (k + 1)/(k + 2) (2 T(z_k) - z_k) + 1/(k + 2) z0,                                           (2)

and T(z) becomes the next anchor when |z - T(z)| has fallen enough. It needs nothing but products with A and A', and
gets near soon. From there, where factors of A A' are cheap, `Interior` takes the rest of the way by an interior point
method; where that ends early, `Finisher` takes proximal-point steps by Newton's method, now and then, and what it gains
is kept. Answers are measured, in the problem as it was passed in, by the errors of kkt.py: all have to be small.
"""

import dataclasses
import math

import numpy as np

from .. import validate
from ..dispatch import kernels_for
from ..monitor import Monitor
from ..outcome import report
from ..parallel.comm import join
from ..reductions import SERIAL
from .arguments import take
from .result import LinprogResult
from .solve import Solve

MAXITER = 10_000_000


def linprog(c, A_ub=None, b_ub=None, A_eq=None, b_eq=None, bounds=(0, None), *, constraints=None, x0=None, y0=None,
            tol=1e-6, finisher=True, presolve=True, maxiter=None, time_limit=None, callback=None, verbose=False,
            rng=None, check=True, on_failure="warn", comm=None, checkpoint=None, checkpoint_every=60.0,
            resume=None) -> LinprogResult:  # fmt: skip
    """Minimize c'x subject to A_ub x <= b_ub, A_eq x = b_eq, bounds and two-sided rows; one program or a batch.

    Parameters
    ----------
    c : array (..., n)
        Leading axes, here or on other arguments, are a batch.
    A_ub, A_eq : array (..., m, n), sparse matrix, or list of sparse matrices of one shape, optional
        A list is a batch. Rows of a batch share one pattern, the union of those given.
    b_ub, b_eq : array (..., m), optional
    bounds : pair, sequence of pairs, array (..., n, 2), or scipy.optimize.Bounds
        (lower, upper) for all variables or for each; None is infinite. Default: x >= 0.
    constraints : scipy.optimize.LinearConstraint, tuple, or list of these, optional
        Further rows ``lb <= A x <= ub``; either side may be infinite. A tuple is ``(A, lb, ub)``.
    x0, y0 : array (..., n), (..., m), optional
        Where to start: a solution of a similar program, say. y as in the result. A start whose errors are 100 times
        those of zeros, or with entries of 1e10 in the problem's units, is left out.
    tol : float
        Relative: see Notes.
    finisher : bool
        Whether Newton's methods, from interior points and of proximal point steps, may help; without them the
        iteration does nothing but multiply by A and A'.
    presolve : bool
        Whether to take out beforehand what is decided by itself: rows without or with one entry, fixed variables.
        A batch goes without.
    maxiter : int, optional
        Iterations of PDHG. Default: 10,000,000.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops. Residuals are
        computed for it each time, so that it slows the solve down.
    verbose : bool
        Report to the logger "ntsolve" at level INFO.
    rng : optional
        Accepted for uniformity; the method draws no random numbers.
    check : bool
        Look for NaN and infinity in the arrays passed in.
    on_failure : {"warn", "raise", "ignore"}
        What to do when a program ends without success.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: each process passes its own rows, in A_ub,
        A_eq and `constraints`, with their sides and their part of y0; it may have none. c, bounds, x0, tol, finisher
        and maxiter are the same on all, and so is the `x` of the result, bit for bit; `y`, slacks, marginals of rows
        and a `ray` of multipliers are those of the process's own rows. One program, no batch. Presolve is left out;
        the finisher works on the first process, which is given all rows for that, once, if rows, columns and entries
        are 20,000,000 at most.
    checkpoint, checkpoint_every, resume
        As for `cg`: keep the state of the solve in a file, and go on from there.

    Returns
    -------
    LinprogResult

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    ConvergenceError
        With ``on_failure="raise"``.
    RankError
        With `comm`, where another process has failed: what it raised is in the message.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

    Notes
    -----
    `success` means, for x and y put into the program as passed in: the primal, dual and duality-gap errors, each
    relative, are at most `tol`; the error of the objective that they leave open is at most 5 tol; and no row, bound or
    reduced cost is violated by more than 100 tol, also where entries are small. The first alone, which is what first-
    order codes test, accepts answers whose objective is per cents off.

    Examples
    --------
    >>> import ntsolve
    >>> result = ntsolve.linprog([-1.0, -2.0], A_ub=[[1.0, 1.0], [1.0, 3.0]], b_ub=[4.0, 6.0])
    >>> result.status.name, round(result.fun, 4), result.x.round(4)
    ('CONVERGED', -5.0, array([3., 1.]))
    >>> result.ineqlin.marginals.round(4)
    array([-0.5, -0.5])
    """
    with join(comm).together() as ranks:
        options = validate.common(maxiter=MAXITER if maxiter is None else maxiter, time_limit=time_limit,
                                  callback=callback, verbose=verbose, check=check, on_failure=on_failure, rng=rng,
                                  checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
        tol = validate.nonnegative("tol", tol)
        taken = take(c, A_ub, b_ub, A_eq, b_eq, bounds, constraints, x0, y0, options.check)
        result = _run(taken, tol, finisher, presolve, options, ranks)
    report("linprog", result, on_failure)
    return result


def solve_program(program, *, x0=None, y0=None, tol=1e-6, finisher=True, presolve=True, maxiter=None, time_limit=None,
                  callback=None, verbose=False, rng=None, check=True, on_failure="warn"):  # fmt: skip
    """`linprog` of a single `Program` on the host, with the same keywords; its rows are `rows` in the result."""
    options = validate.common(maxiter=MAXITER if maxiter is None else maxiter, time_limit=time_limit, callback=callback,
                              verbose=verbose, check=check, on_failure=on_failure, rng=rng)  # fmt: skip
    bounds, rows = np.stack([program.lower, program.upper], -1), (program.row_lower, program.row_upper)
    taken = take(program.c, None, None, None, None, bounds, (program.matrix(), *rows), x0, y0, options.check)
    taken = dataclasses.replace(taken, program=dataclasses.replace(taken.program, offset=program.offset))
    result = _run(taken, validate.nonnegative("tol", tol), finisher, presolve, options)
    report("linprog", result, on_failure)
    return result


def _run(taken, tol, finisher, presolve, options, ranks=SERIAL):
    finisher, presolve = validate.flag("finisher", finisher), validate.flag("presolve", presolve)
    with kernels_for(**taken.where) as k, np.errstate(all="ignore"):  # seen in the errors
        if ranks is not SERIAL:
            from .rowsolve import RowSolve, agree

            taken = agree(taken, ranks, tol, finisher, options.maxiter)
            return _solve(RowSolve(k, taken, 1, ranks), tol, finisher, options)
        solve = Solve(k, taken, math.prod(taken.program.shape))
        if presolve and taken.program.single:
            from .presolve import presolve as reduce_program

            solve.reduce(reduce_program(solve.program))
        return _solve(solve, tol, finisher, options)


def _solve(solve, tol, finisher, options):
    solve.contradictions()
    solve.begin(tol)
    keeper = options.saving.of("linprog", solve.k, solve.ranks, program=solve.taken.program, x0=solve.taken.x0,
                               y0=solve.taken.y0, tol=tol, finisher=finisher, presolve=solve.presolved is not None)
    with Monitor("linprog", maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                 began=options.began, verbose=options.verbose, start=solve.start, target=np.full(solve.batch, tol),
                 shape=solve.program.shape, solution=solve.shown,
                 comm=solve.ranks, keeper=keeper) as watch:  # fmt: skip
        solve.run(watch, tol, finisher)
        return solve.result(watch, tol)
