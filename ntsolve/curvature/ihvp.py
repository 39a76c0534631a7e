"""Inverse-Hessian-vector products: (H + damp I) x = v for a Hessian that is known by its products.

The default is conjugate gradients with the randomised Nystrom preconditioner (`nystrom.py`): a few dozen products with
random vectors show the large eigenvalues of H, which a trained model has few of; with these out of the way, conjugate
gradients have to deal with the rest of the spectrum only. A preconditioner that is passed in, such as an
`EmpiricalFisher`, takes the place of the sketch.

Whatever the method, it is the residual v - (H + damp I) x, recomputed from the Hessian as it was passed in, that
decides on success.
"""

from dataclasses import replace

import numpy as np

from .. import matrices, operators, validate
from ..dispatch import home, kernels_for
from ..linalg.iteration import iterate
from ..monitor import Monitor
from ..outcome import report
from ..parallel import rowblocks
from ..reductions import SERIAL
from ..result import IHVPResult, Status
from .fisher import EmpiricalFisher
from .minres import Minres
from .neumann import Neumann
from .nystrom import Sketch
from .orthogonal import Orthogonal

SERIES = 10_000  # terms of the Neumann series, at most, where nothing is said
METHODS = ("nystrom", "cg", "minres", "neumann")


def ihvp(hvp, v, *, damp=0.0, method="nystrom", rank=50, keep=100, M=None, rtol=1e-5, atol=0.0, x0=None,
         maxiter=None, time_limit=None, callback=None, verbose=False, rng=None, check=True, on_failure="warn",
         comm=None) -> IHVPResult:  # fmt: skip
    """Solve (H + damp I) x = v for a symmetric H given by its products, the Hessian of a loss for instance.

    Parameters
    ----------
    hvp : callable, array (d, d), sparse matrix, LinearOperator, or object with `@`
        The Hessian H. A callable maps a vector (d,), of v's kind and dtype, to H times it.
    v : array (..., d)
        One vector, or several as rows, for which the sketch of H is made once.
    damp : float
        Added to the diagonal of H.
    method : {"nystrom", "cg", "minres", "neumann"}
        Conjugate gradients with and without a preconditioner from a sketch of H, for H + damp I positive definite;
        MINRES, for any symmetric one; the Neumann series of LiSSA, for comparison.
    rank : int
        Products that the sketch of "nystrom" spends, and vectors of length d, in float64, that it keeps.
    keep : int
        Residuals of "nystrom" and "cg" that are kept, to make later ones orthogonal to them, which saves the iterations
        that rounding would cost: for each right-hand side up to so many vectors of length d, twice as many where there
        is a preconditioner. 0 is the textbook method, and right for an M that is not one fixed symmetric matrix.
    M : EmpiricalFisher, or what `ntsolve.cg` takes as M, optional
        Approximate inverse of H + damp I, for "cg"; with "nystrom" it is used in place of the sketch.
    rtol, atol : float
        A system is solved when ``||v - (H + damp I) x||_2 <= max(rtol ||v||_2, atol)``.
    x0 : array (..., d), optional
        Where to start. Default: zero.
    maxiter : int, optional
        Iterations; the products of a sketch are none. Default: 10 d; for "neumann" 10,000.
    time_limit : float, optional
        Seconds, those of the sketch included.
    callback : callable, optional
        ``callback(state)`` after each iteration, with `nit, residual, elapsed, x`; returning True stops.
    verbose : bool
        Report to the logger "ntsolve" at level INFO.
    rng : None, int, or numpy.random.Generator
        What the sketch, and the first vector of "neumann", are drawn from. None: 0, the same each time.
    check : bool
        Look for NaN and infinity in the arrays passed in.
    on_failure : {"warn", "raise", "ignore"}
        What to do when a system ends without success.
    comm : communicator, optional
        Of mpi4py, or with its `Get_rank, Get_size, Allreduce, Allgatherv`: each rank has a part of v, x0 and x, for
        "nystrom" and "cg". `hvp` and M map a rank's part to its part of the product, or `hvp` is an
        `ntsolve.RowPartition`.

    Returns
    -------
    IHVPResult
        `x` of v's kind; `products` counts those with H, of the sketch and of the last residual too. `status` is
        INDEFINITE_OPERATOR where "nystrom", "cg" or "neumann" met a direction of negative curvature.

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

    References
    ----------
    Z. Frangella, J. A. Tropp, M. Udell, "Randomized Nystrom Preconditioning", SIAM J. Matrix Anal. Appl. 44 (2023),
    algorithm 2.1 and equation 1.3.

    Examples
    --------
    The weights of a logistic regression, and the product with the Hessian of its mean loss:

    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> X, w = rng.standard_normal((500, 200)) / np.arange(1, 201), rng.standard_normal(200)
    >>> p = 1 / (1 + np.exp(-X @ w))
    >>> hvp = lambda u: X.T @ (p * (1 - p) * (X @ u)) / 500
    >>> v = rng.standard_normal(200)
    >>> result = ntsolve.ihvp(hvp, v, damp=1e-5, rank=20, rtol=1e-8, rng=0)
    >>> bool(np.linalg.norm(v - hvp(result.x) - 1e-5 * result.x) <= 1e-8 * np.linalg.norm(v))
    True
    >>> textbook = ntsolve.ihvp(hvp, v, damp=1e-5, method="cg", keep=0, rtol=1e-8)
    >>> result.products < 0.6 * textbook.products
    True
    """
    with rowblocks.ranks_of(hvp, comm).together() as ranks:
        damp = validate.nonnegative("damp", damp)
        rank, keep = validate.count("rank", rank, least=1), validate.count("keep", keep)
        rtol, atol = validate.nonnegative("rtol", rtol), validate.nonnegative("atol", atol)
        method = validate.choice("method", method, METHODS)
        options = validate.common(maxiter=0 if maxiter is None else maxiter, time_limit=time_limit, callback=callback,
                                  verbose=verbose, check=check, on_failure=on_failure)  # fmt: skip
        rng = validate.generator("rng", rng)
        if M is not None and method in ("minres", "neumann"):
            raise ValueError(f"M is for the methods 'cg' and 'nystrom', not for {method!r}")
        if ranks is not SERIAL and method in ("minres", "neumann"):
            raise ValueError(f"comm is for the methods 'cg' and 'nystrom', not for {method!r}")
        if getattr(hvp, "ndim", 2) > 2:
            raise ValueError(f"hvp must be one Hessian (d, d), not a stack {tuple(hvp.shape)}")
        if callable(hvp) and home(v) is None and hasattr(v, "__dlpack__"):
            hvp = _of_kind(hvp, v)
        v, own = validate.own_kind("v", v)
        x0 = None if x0 is None else validate.own_kind("x0", x0)[0]
        hvp, M = matrices.take("hvp", hvp), _inverse(M)
        # a Ctrl-C that comes before the first stage, or between two, ends the next one
        with Monitor("ihvp", maxiter=0, start=np.zeros(1)), kernels_for(hvp=hvp, v=v, x0=x0, M=M) as k:
            system = rowblocks.linear_system(k, hvp, v, x0, ranks, own=own, check=check, names=("hvp", "v"))
            ranks.alike(damp=damp, method=method, rank=rank, keep=keep, rtol=rtol, atol=atol, maxiter=maxiter,
                        **{"the dtype of hvp and v": str(system.dtype), "the leading axes of v": system.shape,
                           "whether M is given": M is not None, "whether x0 is given": x0 is not None})  # fmt: skip
            A = Damped(system.A, damp)
            system = replace(system, A=A)
            if M is not None and not isinstance(M, str):
                M = operators.preconditioner(k, M, system, check=check)
            result, lowest = _solve(k, system, method, rank, keep, M, rtol, atol, maxiter, options, rng, ranks)
        message = result.message.replace(Status.INDEFINITE_OPERATOR.advice, _indefinite(damp, lowest))
        result = IHVPResult(**{**result, "message": message}, products=A.products)
    report("ihvp", result, on_failure)
    return result


def _solve(k, system, method, rank, keep, M, rtol, atol, maxiter, options, rng, ranks):
    """(result, the smallest eigenvalue estimate of H that was seen, or None)"""
    if options.callback is None:
        options = replace(options, callback=_look)
    if maxiter is None:
        maxiter = SERIES if method == "neumann" else 10 * int(ranks.gather(np.array([system.A.n])).sum())
    if method == "minres":
        return Minres(k, system, rtol, atol).solve("ihvp", maxiter, options), None
    if method == "neumann":
        return Neumann(k, system, rtol, atol, rng).solve("ihvp", maxiter, options), None
    lowest = status = None
    if method == "nystrom" and M is None and maxiter and ranks.any(k.to_host(operators.norms(k, system.b)).any()):
        sketch = Sketch(k, system.A, rank, rng, options, ranks)
        status = sketch.status
        lowest = sketch.lowest if status == Status.INDEFINITE_OPERATOR else None
        M = None if status else sketch.preconditioner()
    if status is None:
        if keep and not isinstance(M, str):
            M = Orthogonal(k, M, min(keep, maxiter), system.b.shape, system.b.dtype, ranks)
        return iterate("ihvp", k, system, M, rtol, atol, maxiter, options, ranks), lowest
    start = iterate("ihvp", k, system, None, rtol, atol, 0, replace(options, callback=None), ranks)
    return _ended(start, status), lowest


def _look(state):
    """For each iteration to be looked at, so that none comes after the last: a product costs more than a look."""


def _ended(start, status):
    """What there is when the sketch was the end: x0, and the status for what it does not solve."""
    found = np.where(start.success, start.status, status)
    message = start.message.replace(Status.MAXITER.advice, status.advice)
    return replace(start, status=found if found.ndim else Status(int(found)), message=message)


def _indefinite(damp, lowest):
    """What to do about negative curvature."""
    seen = f"; the sketch saw the eigenvalue {lowest:.3g}" if lowest is not None and lowest < -damp else ""
    return (
        f"H + damp I is not positive definite (p.Hp + damp p.p <= 0 for some p{seen}). Take products with the "
        f"Gauss-Newton or Fisher matrix in place of the Hessian's, or a larger damp than {damp:g}, or method='minres'."
    )


def _inverse(M):
    """M as operators know one."""
    if isinstance(M, str):
        return validate.choice("M", M, ("jacobi",))
    if isinstance(M, EmpiricalFisher):
        return M.solve
    return matrices.take("M", M)


def _of_kind(hvp, v):
    """A product with vectors of v's library, as one with those that it shares memory with."""
    _, own = validate.own_kind("v", v)

    def product(x):
        return validate.own_kind("hvp(v)", hvp(own(x.copy())))[0]  # a copy: what is kept of it stays as it is

    return product


class Damped(operators.Operator):
    """H + damp I, which counts the products with H."""

    capturable = False

    def __init__(self, H, damp):
        super().__init__(H.k, H.n, H.dtype)
        self.H, self.damp, self.products = H, damp, 0

    def undamped(self, x, y):
        """y = H x"""
        self.H.matvec(x, y)
        self.products += len(x)

    def matvec(self, x, y):
        self.undamped(x, y)
        if self.damp:
            with np.errstate(all="ignore"):  # seen by the iteration
                y += self.damp * x

    def residual(self, b, x, r):
        self.H.residual(b, x, r)
        self.products += len(x)
        if self.damp:
            with np.errstate(all="ignore"):  # seen in its norm
                r -= self.damp * x

    def diagonal(self):
        return self.H.diagonal() + self.H.dtype.type(self.damp)
