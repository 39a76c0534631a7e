"""Preconditioned conjugate gradients, for one system, many right-hand sides, or a batch of systems.

For A symmetric (Hermitian) positive definite, with z = M r, in the notation of Saad, Iterative Methods for Sparse
Linear Systems, 2nd ed., algorithm 9.1:

    q = A p,  alpha = (r, z) / (p, q)                                                                    (1)
    x += alpha p,  r -= alpha q                                                                          (2)
    beta = (r+, z+) / (r, z),  p = z+ + beta p                                                           (3)

Where M is not known to be one fixed positive definite matrix, (3) becomes the locally optimal

    beta = -(z+, q) / (p, q),                                                                            (4)

flexible CG(1) of Notay, "Flexible Conjugate Gradients", SIAM J. Sci. Comput. 22 (2000), algorithm 2.1 with m = 1; m is
larger where M is seen to need it (window.py). Such an M is watched (watchdog.py), and given up for Jacobi's where that
is better. Directions may be kept orthogonal to what earlier solves have learned (recycling.py).

The loop itself is in iteration.py.
"""

import warnings
from dataclasses import replace

import numpy as np

from .. import matrices, operators, validate
from ..dispatch import kernels_for
from ..errors import PerformanceWarning
from ..outcome import report
from ..parallel import rowblocks
from ..reductions import SERIAL
from ..result import LinearResult
from . import batched, gridcg, multigrid, triangular
from .iteration import iterate
from .recycling import Recycler
from .watchdog import GIVEN_UP


def cg(A, b, x0=None, *, M=None, rtol=1e-5, atol=0.0, maxiter=None, recycle=None, time_limit=None, callback=None,
       verbose=False, rng=None, check=True, on_failure="warn", comm=None, checkpoint=None, checkpoint_every=60.0,
       resume=None) -> LinearResult:  # fmt: skip
    """Solve A x = b for symmetric (Hermitian) positive definite A by preconditioned conjugate gradients.

    Parameters
    ----------
    A : array (..., n, n), sparse matrix, LinearOperator, object with `@`, or callable
        Leading axes are a batch of systems. A callable maps a vector (n,) to A times it.
    b : array (..., n)
        Right-hand sides; with one A, leading axes are several right-hand sides of it.
    x0 : array (..., n), optional
        Where to start. Default: zero.
    M : None, "jacobi", "ic0", "multigrid", array (..., n, n), sparse matrix, LinearOperator, or callable
        Approximate inverse of A. "jacobi" is the inverse of its diagonal, "ic0" the incomplete Cholesky factorisation
        of a sparse A, see `ntsolve.ic0` and `ntsolve.ssor`; "multigrid" is `ntsolve.LearnedMultigrid`, for a
        GridOperator or a sparse matrix that is the stencil of a grid. Anything of your own runs flexible CG, so it
        may be nonlinear or change from call to call; it is given up for "jacobi" (None, where A has no diagonal to look
        at) where that makes more progress, see `message`.
    rtol, atol : float
        A system is solved when ``||b - A x||_2 <= max(rtol ||b||_2, atol)``.
    maxiter : int, optional
        Default: 10 n.
    recycle : Recycler, optional
        Carries what this solve learns of A to the next one with it; for one A, with any number of right-hand sides.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops.
    verbose : bool
        Report to the logger "ntsolve" at level INFO, which ``logging.basicConfig(level=logging.INFO)`` shows.
    rng : optional
        Accepted for uniformity; the method draws no random numbers.
    check : bool
        Look for NaN and infinity in the arrays passed in.
    on_failure : {"warn", "raise", "ignore"}
        What to do when a system ends without success.
    comm : communicator, optional
        One of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: solve one system on all its processes.
        Each passes its rows of A, (n_local, n) with all columns (or a `RowPartition` of them), and its part of b and
        x0, and gets its part of x; a callable maps local parts to local parts. M is of the local part, and "ic0" that
        of the diagonal block. Residuals, status and counts are those of the whole, the same on all processes.
    checkpoint : path, optional
        Keep the state of the solve in this file, also at its end. Not with `recycle`.
    checkpoint_every : float
        Seconds between two of these.
    resume : path, optional
        Go on from that checkpoint of the same call. It may be `checkpoint`, and then need not be there yet.

    Returns
    -------
    LinearResult
        `x` of b's kind; `success`, `status`, `nit`, `residual` one a system. A Ctrl-C, a time limit or a callback that
        stops returns the current iterate, whose error is the smallest so far in the norm of A.

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
    PerformanceWarning
        Where M was given up, unless ``on_failure="ignore"``.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> import ntsolve
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(100, 100))
    >>> result = ntsolve.cg(A, np.ones(100), M="jacobi", rtol=1e-8)
    >>> result.status.name, result.nit
    ('CONVERGED', 50)
    >>> bool(np.linalg.norm(A @ result.x - 1) <= 1e-8 * 10)
    True
    """
    with rowblocks.ranks_of(A, comm).together() as ranks:
        rtol, atol = validate.nonnegative("rtol", rtol), validate.nonnegative("atol", atol)
        options = validate.common(maxiter=0 if maxiter is None else maxiter, time_limit=time_limit, callback=callback,
                                  verbose=verbose, check=check, on_failure=on_failure, rng=rng, checkpoint=checkpoint,
                                  checkpoint_every=checkpoint_every, resume=resume)  # fmt: skip
        b, own = validate.own_kind("b", b)
        A, x0 = matrices.take("A", A), None if x0 is None else validate.own_kind("x0", x0)[0]
        M = validate.choice("M", M, ("jacobi", "ic0", "multigrid")) if isinstance(M, str) else matrices.take("M", M)
        if isinstance(M, type):
            raise TypeError(f"M is the class {M.__name__}, not a preconditioner made by it: {M.__name__}(A)")
        name = M if M is None or isinstance(M, str) else "your own" if hasattr(M, "for_system") else "watched"
        ranks.alike(M=name)  # a cycle is set up by all ranks together
        if isinstance(M, str) and M == "multigrid":
            A, M = multigrid.for_cg(A, ranks, b, x0)
        if not (recycle is None or isinstance(recycle, Recycler)):
            raise TypeError(f"recycle must be an ntsolve.Recycler, not {type(recycle).__name__}")
        with kernels_for(A=A, b=b, x0=x0, M=M) as k:
            result = _solve(k, A, b, x0, M, rtol, atol, maxiter, recycle, options, ranks, own)
    report("cg", result, options.on_failure)
    if GIVEN_UP in result.message and options.on_failure != "ignore":
        warnings.warn(f"cg: {result.message}", PerformanceWarning, stacklevel=2)
    return result


def _solve(k, A, b, x0, M, rtol, atol, maxiter, recycle, options, comm, own):
    system = rowblocks.linear_system(k, A, b, x0, comm, own=own, check=options.check)
    comm.alike(rtol=rtol, atol=atol, maxiter=maxiter, **{"the dtype of A and b": str(system.dtype),
               "the leading axes of b": system.shape, "whether x0 is given": x0 is not None})  # fmt: skip
    if maxiter is None:
        maxiter = 10 * int(comm.gather(np.array([system.A.n])).sum())
    diagonal = M is None or (isinstance(M, str) and M == "jacobi")
    plain = options.callback is None and comm is SERIAL and recycle is None and not options.saving.wanted
    if diagonal and batched.takes(system) and plain:
        return batched.solve(k, system, jacobi=M is not None, rtol=rtol, atol=atol, maxiter=maxiter, options=options)
    if recycle is not None and (comm is not SERIAL or system.A.several):
        raise ValueError("recycle is for one matrix A in one process, not for a batch of them")
    if recycle is not None and options.saving.wanted:
        raise ValueError("checkpoint and resume are for a solve without recycle")
    keeper = options.saving.of("cg", k, comm, A=A, b=b, x0=x0, M=M, rtol=rtol, atol=atol)
    watched = not (M is None or isinstance(M, str) or hasattr(M, "for_system"))
    M, note = _preconditioner(k, M, system, options.check, comm)
    kind = gridcg.state(system, M, comm, recycle)
    result = iterate("cg", k, system, M, rtol, atol, maxiter, options, comm, recycle=recycle, watched=watched,
                     kind=kind, keeper=keeper)  # fmt: skip
    if system.removed is not None and (system.removed > np.ravel(result.tolerance)).any():
        note = (f"b does not add up to 0 where walls close the unknowns in, by more than the tolerance: a part of it "
                f"of norm {system.removed.max():.3g} is no A x. {note}").strip()  # fmt: skip
    if k.NAME != "cpu" and comm.transfer == "host":
        note = f"{note} Between processes, arrays passed through the memory of the host.".strip()
    return replace(result, message=f"{result.message} {note}") if note else result


def _preconditioner(k, M, system, check, comm):
    """(None, "jacobi" or an `Operator`, what is to be said of it)"""
    if isinstance(M, str) and M == "ic0":
        pattern = triangular.of_system(k, system.A.block, M)
        found, shift = (None, 0.0) if pattern.broken is not None else triangular.incomplete_cholesky(k, pattern)
        shift = float(comm.largest([shift])[0])
        if comm.any(found is None):  # A is not positive definite, which the iteration will say
            return "jacobi", ""
        return found, f"IC(0) of A broke down and is one of A + {shift:g} diag(A)." if shift else ""
    if M is None or isinstance(M, str):
        return M, ""
    if hasattr(M, "for_system"):
        return M.for_system(k, system), ""
    return operators.preconditioner(k, M, system, check=check), ""
