"""Preconditioned conjugate gradients, for one system, many right-hand sides, or a batch of systems.

For A symmetric (Hermitian) positive definite, with z = M r, in the notation of Saad, Iterative Methods for Sparse
Linear Systems, 2nd ed., algorithm 9.1:

    q = A p,  alpha = (r, z) / (p, q)                                                                    (1)
    x += alpha p,  r -= alpha q                                                                          (2)
    beta = (r+, z+) / (r, z),  p = z+ + beta p                                                           (3)

Where M is not known to be one fixed positive definite matrix, (3) becomes the locally optimal

    beta = -(z+, q) / (p, q),                                                                            (4)

flexible CG(1) of Notay, "Flexible Conjugate Gradients", SIAM J. Sci. Comput. 22 (2000), algorithm 2.1 with m = 1.

The recurrence for r drifts from b - A x. So when it says "converged", b - A x is computed; where that misses the
tolerance the iteration takes it up as its new r, and ends as STALLED when this no longer halves it. Each system is
scaled by a power of two, so that neither a tiny nor a huge b loses digits or overflows.
"""

import functools

import numpy as np

from .. import operators, validate
from ..dispatch import kernels_for
from ..kernels.contracts import workspace_shape
from ..kernels.contracts.linalg import A_NOT_POSITIVE, HOPELESS, M_NOT_POSITIVE
from ..monitor import LONGEST_BLOCK, Monitor
from ..outcome import linear_result, report
from ..reductions import SERIAL
from ..result import Status
from . import batched

_VERDICTS = {A_NOT_POSITIVE: Status.INDEFINITE_OPERATOR, M_NOT_POSITIVE: Status.INDEFINITE_PRECONDITIONER}


def cg(A, b, x0=None, *, M=None, rtol=1e-5, atol=0.0, maxiter=None, time_limit=None, callback=None, verbose=False,
       rng=None, check=True, on_failure="warn", comm=None):  # fmt: skip
    """Solve A x = b for symmetric (Hermitian) positive definite A by preconditioned conjugate gradients.

    Parameters
    ----------
    A : array (..., n, n), sparse matrix, LinearOperator, object with `@`, or callable
        Leading axes are a batch of systems. A callable maps a vector (n,) to A times it.
    b : array (..., n)
        Right-hand sides; with one A, leading axes are several right-hand sides of it.
    x0 : array (..., n), optional
        Where to start. Default: zero.
    M : None, "jacobi", array (..., n, n), sparse matrix, LinearOperator, object with `@`, or callable
        Approximate inverse of A. "jacobi" is the inverse of its diagonal. Anything but None and "jacobi" runs flexible
        CG(1), so M may be nonlinear or change from call to call.
    rtol, atol : float
        A system is solved when ``||b - A x||_2 <= max(rtol ||b||_2, atol)``.
    maxiter : int, optional
        Default: 10 n.
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
    comm : Reductions, optional
        Adds up the parts of dots in a distributed run, see `ntsolve.reductions`; A, b and x are then the local parts.

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

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``; a PrecisionWarning where rounding is what stands in the way.

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
    rtol, atol = validate.nonnegative("rtol", rtol), validate.nonnegative("atol", atol)
    options = validate.common(maxiter=0 if maxiter is None else maxiter, time_limit=time_limit, callback=callback,
                              verbose=verbose, check=check, on_failure=on_failure, rng=rng)  # fmt: skip
    comm = comm or SERIAL
    b, own = validate.own_kind("b", b)
    A, x0 = operators.take("A", A), None if x0 is None else validate.own_kind("x0", x0)[0]
    M = validate.choice("M", M, ("jacobi",)) if isinstance(M, str) else operators.take("M", M)
    with kernels_for(A=A, b=b, x0=x0, M=M) as k:
        result = _solve(k, A, b, x0, M, rtol, atol, maxiter, options, comm, own)
    report("cg", result, options.on_failure)
    return result


def _solve(k, A, b, x0, M, rtol, atol, maxiter, options, comm, own):
    system = operators.linear_system(k, A, b, x0, own=own, check=options.check)
    if maxiter is None:
        maxiter = 10 * system.A.n
    if (M is None or isinstance(M, str)) and batched.takes(system) and options.callback is None and comm is SERIAL:
        return batched.solve(k, system, jacobi=M is not None, rtol=rtol, atol=atol, maxiter=maxiter, options=options)
    if M is not None and not isinstance(M, str):
        M = operators.preconditioner(k, M, system, check=options.check)
    return iterate("cg", k, system, M, rtol, atol, maxiter, options, comm)


def iterate(name, k, system, M, rtol, atol, maxiter, options, comm=SERIAL):
    """The solve of a `LinearSystem`, for whichever solver is called `name`; M is None, "jacobi" or an `Operator`."""
    state = _State(k, system, M, rtol, atol, comm)
    plain = state.M is None and comm is SERIAL
    kernel = system.A.steps_kernel() if plain else None
    if kernel is not None:
        iterate = functools.partial(state.small_block, kernel)
    else:
        iterate = k.Replay(state.iteration, capturable=plain and system.A.capturable)
    with Monitor(name, maxiter=maxiter, time_limit=options.time_limit, callback=options.callback, comm=comm,
                 began=options.began, verbose=options.verbose, start=state.residual, target=state.tolerance,
                 shape=system.shape, solution=lambda: system.restore(state.solution())) as watch:  # fmt: skip
        while state.begin():
            while state.active.any() and watch.going():
                state.advance(iterate, watch.block(exact=kernel is not None), watch)
            state.verify()
            if watch.status is not None:
                break
        # undecided: stopped by the watch, or solved, which linear_result sees
        status = np.where(state.status, state.status, watch.status or Status.STALLED)
        return linear_result(
            system,
            state.solution(),
            success=np.isfinite(state.residual) & (state.residual <= state.goal),
            residual=state.residual,
            tolerance=state.tolerance,
            status=status,
            nit=state.nit,
            history=watch.history,
            elapsed=watch.elapsed,
            backend=k.NAME,
        )


class _State:
    """All systems of one call. Inside, each is divided by 2**exponent, so that its residual is about 1 at the start.

    Vectors are (batch, n) arrays of the backend; what is known of each system is in (batch,) arrays on the host.
    """

    def __init__(self, k, system, M, rtol, atol, comm):
        self.k, self.system, self.A, self.comm = k, system, system.A, comm
        self.M = None if isinstance(M, str) else M
        xp, b = k.xp, system.b
        batch, n = b.shape
        b_norm = self.b_norm = comm.norm(k.to_host(operators.norms(k, b)))
        with np.errstate(all="ignore"):
            self.tolerance = np.maximum(rtol * b_norm, atol)
            # A x, near b, is rounded: a residual is only known to that, and success must not be due to it
            self.goal = self.tolerance - 0.5 * np.finfo(b.dtype).eps * b_norm
        x, r = system.x0, b.copy()
        if x is None:
            x, self.residual = xp.zeros_like(b), b_norm.copy()
        else:
            x[xp.asarray(b_norm == 0)] = 0  # the solution, whatever the start
            self.residual = comm.norm(k.to_host(operators.true_residual(k, system, x, r)))
        size = np.maximum(b_norm, self.residual)
        exponent = np.frexp(np.where(np.isfinite(size) & (size > 0), size, 1.0))[1] - 1
        self.scale = np.ldexp(np.ones(batch), exponent)
        self._up, self._down = xp.asarray(exponent)[:, None], xp.asarray(-exponent)[:, None]
        with np.errstate(all="ignore"):
            self.x, self.r, self.p = xp.ldexp(x, self._down), xp.ldexp(r, self._down), xp.zeros_like(b)

        self.status = np.zeros(batch, dtype="int64")  # 0 while undecided
        self.status[~np.isfinite(self.residual)] = int(Status.NAN_OR_INF)
        self.nit = np.zeros(batch, dtype="int64")
        self.active = np.zeros(batch, dtype=bool)
        self._last = np.full(batch, np.inf)  # the residual when an iteration was last begun
        self.tol2 = xp.zeros(batch)

        self.dinv = None
        if isinstance(M, str):
            diagonal = self.A.diagonal()
            positive = diagonal > 0
            with np.errstate(all="ignore"):  # seen in r.z
                self.dinv = xp.ascontiguousarray(1 / xp.where(positive, diagonal, 1))
            broken = np.broadcast_to(~k.to_host(positive.all(axis=-1)), (batch,))
            self.status[broken] = int(Status.INDEFINITE_OPERATOR)  # a diagonal entry is p.Ap for a unit vector p
        self.work = xp.empty(workspace_shape(batch, n))
        # row 0 is what a block of iterations starts from, row j what its iteration j leaves
        self.rr, self.rz = xp.zeros((LONGEST_BLOCK + 1, batch)), xp.zeros((LONGEST_BLOCK + 1, batch))
        self.q, self.pq, self.minus_zq = xp.zeros_like(b), xp.zeros(batch), xp.zeros(batch)
        self.z = None if self.M is None else xp.zeros_like(b)

    def solution(self):
        """The current iterate, in the caller's units."""
        with np.errstate(all="ignore"):  # seen in the residual
            return self.k.xp.ldexp(self.x, self._up)

    def begin(self):
        """Start the iteration, anew or again, for systems that it can help; False where there is none.

        Taking up b - A x again is worth it while that halves it.
        """
        unsolved = (self.status == 0) & (self.residual > self.goal)
        if not unsolved.any():
            return False
        with np.errstate(all="ignore"):
            self.active = unsolved & (self.residual < 0.5 * self._last)
            self.status[unsolved & ~self.active] = int(Status.STALLED)
            self._last = self._seen = self.residual
            # the recurrence aims a little lower than needed, and no lower than what rounding leaves of b - A x
            floor = 0.1 * np.finfo(self.r.dtype).eps * np.maximum(self.b_norm, self.residual)
            self.aim2 = (np.maximum(0.999 * self.goal, floor) / self.scale) ** 2  # infinite for a huge atol
        if not self.active.any():
            return False
        k, (rr, rz) = self.k, (self.rr[0], self.rz[0])
        self.tol2[...] = k.xp.asarray(np.where(self.active, self.aim2, np.inf))  # the others rest
        self.p.fill(0)
        z = self.r
        if self.M is not None:
            self.M.restart()
            self.M.matvec(self.r, self.z)
            z = self.z
        k.cg_direction(z, self.dinv, rz, k.xp.ones_like(rz), self.p)  # p = z: rz is finite, p is zero
        k.dot(self.r, self.r, rr, self.work)
        k.dot(self.r, self.p, rz, self.work)
        self.comm.total(rr, rz)
        return True

    def iteration(self, j):
        """(1) - (4), from row j - 1 to row j."""
        k, p, q, pq, rr, rz = self.k, self.p, self.q, self.pq, self.rr, self.rz
        self.A.matvec_dot(p, q, pq, self.work)  # (1)
        self.comm.total(pq)
        k.cg_update(p, q, self.dinv, rz[j - 1], pq, rr[j - 1], self.tol2, self.comm.carry,
                    self.x, self.r, rr[j], rz[j], self.work)  # (2)  # fmt: skip
        self.comm.total(rr[j], rz[j])
        if self.M is None:
            k.cg_direction(self.r, self.dinv, rz[j], rz[j - 1], p)  # (3)
        else:
            self.M.matvec(self.r, self.z)
            k.flexible_dots(self.z, self.r, q, rz[j], self.minus_zq, self.work)
            self.comm.total(rz[j], self.minus_zq)
            k.cg_direction(self.z, None, self.minus_zq, pq, p)  # (4)

    def small_block(self, kernel, steps):
        """(1) - (3), `steps` times, in one kernel."""
        kernel(self.dinv, self.tol2, steps, self.x, self.r, self.p, self.q, self.rr, self.rz)

    def advance(self, iterate, steps, watch):
        """A block of iterations of each active system, and what it means for them."""
        iterate(steps)
        self.rr[0], self.rz[0] = self.rr[steps], self.rz[steps]
        rows = self.k.to_host(self.rr[1 : steps + 1])
        running = ((rows > self.aim2) & (rows <= HOPELESS)).sum(0)
        # the iteration that converges, or is the last straw, counts; one that a verdict prevents does not
        taken = np.where(rows[-1] >= 0, np.minimum(running + 1, steps), running)
        last = rows[-1]
        taken = np.where(self.active, taken, 0)
        self.nit += taken
        if not (last >= 0).all():
            for verdict, status in _VERDICTS.items():
                self.status[self.active & (last == verdict)] = int(status)
            self.status[self.active & ~np.isfinite(last)] = int(Status.NAN_OR_INF)
        most = int(taken.max())
        if most:
            with np.errstate(all="ignore"):
                seen = np.where(self.active & (rows >= 0), np.sqrt(abs(rows)) * self.scale, self._seen)
            self._seen = seen[-1]  # what rests is shown as it was last
            watch.did(seen[:most], most)
        # in exact arithmetic the residual grows by the square root of the condition number at most
        self.status[self.active & (self.status == 0) & (last > HOPELESS)] = int(Status.BREAKDOWN)
        self.active = self.active & (last > self.aim2) & (self.status == 0)

    def verify(self):
        """b - A x, computed from the problem as the caller gave it; it is what a next round starts from."""
        if self.nit.any():
            r = self.k.xp.empty_like(self.r)
            norms = operators.true_residual(self.k, self.system, self.solution(), r)
            self.residual = self.comm.norm(self.k.to_host(norms))
            self.status[~np.isfinite(self.residual)] = int(Status.NAN_OR_INF)
            with np.errstate(all="ignore"):
                self.r[...] = self.k.xp.ldexp(r, self._down)
