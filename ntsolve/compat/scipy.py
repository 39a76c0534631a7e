"""SciPy's signatures. `from ntsolve.compat.scipy import cg` in place of `from scipy.sparse.linalg import cg`."""

import math

import numpy as np

from .. import validate
from ..linalg.cg import cg as _cg
from ..result import Status


def cg(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    """`scipy.sparse.linalg.cg`: the same arguments, the same return, computed by `ntsolve.cg`.

    Parameters
    ----------
    A : sparse matrix, array (n, n), or LinearOperator
        Hermitian positive definite.
    b : array (n,) or (n, 1)
    x0 : array (n,) or (n, 1), or "Mb", optional
        Where to start; "Mb" is M applied to b. Default: zero.
    rtol, atol : float
        Solved when ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Default: 10 n.
    M : sparse matrix, array, or LinearOperator, optional
        Approximate inverse of A. Default: the attribute `psolve` of A, if there is one.
    callback : callable, optional
        ``callback(xk)`` after each iteration; what it returns is ignored.

    Returns
    -------
    x : array (n,)
    info : int
        0: solved. Positive: the tolerance was not reached, in this many iterations (or 1, where there were none).
        Negative: A or M is not positive definite, or NaN or infinity arose; the value is that of `ntsolve.Status`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit. NaN and infinity in A, b, x0 or M are such errors.

    Notes
    -----
    Differences from SciPy 1.17: info is 0 only where the residual, recomputed from A, b and x, meets the tolerance;
    NaN and infinity in the input, a broken sparse matrix, and dtypes other than float32, float64, complex64,
    complex128, integers and bool are errors; an A or M that is not positive definite ends the solve, where SciPy goes
    on (and solves negative definite systems). Ctrl-C raises KeyboardInterrupt, and nothing warns, as in SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> from ntsolve.compat.scipy import cg
    >>> cg(np.diag([1.0, 2.0]), np.array([1.0, 4.0]))
    (array([1., 2.]), 0)
    """
    rtol, atol = _tolerance("rtol", rtol), _tolerance("atol", atol)
    if math.inf in (rtol, atol):  # everything is good enough
        rtol, atol = 0.0, np.finfo(float).max
    b, _ = validate.own_kind("b", b)
    n = A.shape[-1] if hasattr(A, "shape") else b.shape[0] if b.ndim else 0
    b = _column("b", b, n)
    if len(getattr(A, "shape", (n, n))) != 2:
        raise ValueError(f"A has shape {tuple(A.shape)}; a matrix is needed")
    M = getattr(A, "psolve", None) if M is None else M
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f'x0 must be an array or "Mb", not {x0!r}')
        x0 = b if M is None else M(b) if callable(M) and not hasattr(M, "matvec") else M @ b
    elif x0 is not None:
        x0 = _column("x0", validate.own_kind("x0", x0)[0], n)
        x0 = x0.astype(np.result_type(_working(b), _working(A)), copy=False)  # the start does not set the dtype
    result = _cg(
        A,
        b,
        x0,
        M=M,
        rtol=rtol,
        atol=atol,
        maxiter=maxiter,
        on_failure="ignore",
        callback=None if callback is None else lambda state: (callback(state.x), None)[1],
    )
    if result.success:
        return result.x, 0
    if result.status == Status.INTERRUPTED:
        raise KeyboardInterrupt
    if result.status in (Status.MAXITER, Status.STALLED):
        return result.x, max(1, result.nit)
    return result.x, int(result.status)


def _tolerance(name, value):
    try:
        value = float(value)
    except (TypeError, ValueError):
        value = math.nan
    if not value >= 0:
        raise ValueError(f"{name} must be a real, non-negative number")
    return value


def _column(name, v, n):
    if isinstance(v, np.matrix):  # would stay two-dimensional
        v = np.asarray(v)
    if v.shape not in ((n,), (n, 1)):
        raise ValueError(f"{name} has shape {tuple(v.shape)}, A has order {n}")
    return v.reshape(n)


def _working(array):
    """The dtype that the numbers of an array or operator are computed in: SciPy's rule."""
    dtype = np.dtype(getattr(array, "dtype", None) or "float32")
    return dtype if dtype.char in "fdFD" else np.dtype("float64")
