"""SciPy's signatures: change one import.

`from ntsolve.compat.scipy import cg, linprog` in place of `from scipy.sparse.linalg import cg` and
`from scipy.optimize import linprog`.
"""

import math
import warnings
from typing import Any

import numpy as np

from .. import validate
from ..linalg.cg import cg as _cg
from ..result import Status


def cg(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None) -> tuple[Any, int]:
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


# ---- linprog --------------------------------------------------------------------------------------------------------

METHODS = ("highs", "highs-ds", "highs-ipm", "interior-point", "revised simplex", "simplex")
TOLERANCES = ("tol", "primal_feasibility_tolerance", "dual_feasibility_tolerance", "ipm_optimality_tolerance")
FOR_OTHER_METHODS = ("simplex_dual_edge_weight_strategy", "mip_rel_gap", "autoscale", "rr", "rr_method", "bland",
                     "pivot", "alpha0", "beta", "sparse", "lstsq", "sym_pos", "cholesky", "pc", "ip", "permc_spec",
                     "maxupdate", "mast")  # fmt: skip
DEFAULT_TOL, INFINITE = 1e-8, 1e20
LIMIT, INFEASIBLE, UNBOUNDED, NUMERICAL = 1, 2, 3, 4  # SciPy's statuses; 0 is success
_STATUS = {Status.MAXITER: LIMIT, Status.TIME_LIMIT: LIMIT, Status.PRIMAL_INFEASIBLE: INFEASIBLE,
           Status.DUAL_INFEASIBLE: UNBOUNDED}  # fmt: skip


def linprog(c, A_ub=None, b_ub=None, A_eq=None, b_eq=None, bounds=(0, None), method="highs", callback=None,
            options=None, x0=None, integrality=None) -> Any:  # fmt: skip
    """`scipy.optimize.linprog`: the same arguments, the same fields of the result, computed by `ntsolve.linprog`.

    Parameters
    ----------
    c : array (n,)
    A_ub, A_eq : array (m, n) or sparse matrix, optional
    b_ub, b_eq : array (m,), optional
    bounds : pair or sequence of pairs
    method : str
        One of SciPy's names; all of them mean ntsolve's method.
    callback : None
        As in SciPy's HiGHS methods, there is none.
    options : dict, optional
        maxiter, time_limit, presolve, disp, and the tolerances, of which the smallest counts; default: 1e-8. What only
        other methods know is passed over, what SciPy does not know is warned of.
    x0 : array (n,), optional
        Where to start.
    integrality : None, or zeros
        There are no integer programs here.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `x, fun, success, status, message, nit, slack, con, ineqlin, eqlin, lower, upper`; and `ray`, the
        proof, where the status is 2 or 3.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    NotImplementedError
        For a callback, and for integers.

    Notes
    -----
    Differences from SciPy 1.17: the tolerances are relative to the size of the problem, and one of them stands for all;
    answers are not vertices where there are others; b_ub of 1e20 is a number, bounds of 1e20 are infinite as there;
    `success` is computed from c, A, b and x. Where SciPy cannot tell whether a problem is infeasible or unbounded
    (status 4), the status here is 2 or 3 with a proof, or 1 or 4.

    Examples
    --------
    >>> from ntsolve.compat.scipy import linprog
    >>> found = linprog([-1.0, 4.0], A_ub=[[-3.0, 1.0], [1.0, 2.0]], b_ub=[6.0, 4.0], bounds=[(None, None), (-3, None)])
    >>> found.status, round(found.fun, 6), found.x.round(6)
    (0, -22.0, array([10., -3.]))
    """
    from scipy.optimize import OptimizeResult

    from ..fixedpoint.linprog import linprog as _linprog

    if str(method).lower() not in METHODS:
        raise ValueError(f"Unknown solver '{method}'")
    if callback is not None:
        raise NotImplementedError("linprog takes no callback with SciPy's HiGHS methods; ntsolve.linprog does")
    if integrality is not None and np.any(integrality):
        raise NotImplementedError("integrality: ntsolve has no method for integer programs")
    c = np.asarray(c)
    b_ub, b_eq = (None if b is None else _sides(b) for b in (b_ub, b_eq))
    found = _linprog(
        c.reshape(c.size) if max(c.shape, default=1) == c.size else c,
        A_ub,
        b_ub,
        A_eq,
        b_eq,
        _bounds(bounds),
        x0=x0,
        on_failure="ignore",
        **_linprog_options(options or {}),
    )
    if found.status == Status.INTERRUPTED:
        raise KeyboardInterrupt
    status = 0 if found.success else _STATUS.get(found.status, NUMERICAL)
    known = status not in (INFEASIBLE, UNBOUNDED)
    groups = {
        name: OptimizeResult(residual=group.residual if known else None, marginals=group.marginals if known else None)
        for name, group in ((name, getattr(found, name)) for name in ("lower", "upper", "eqlin", "ineqlin"))
    }
    return OptimizeResult(
        x=found.x if known else None,
        fun=found.fun if known else None,
        success=bool(found.success),
        status=status,
        message=found.message,
        nit=found.nit,
        crossover_nit=0,
        slack=found.slack if known else None,
        con=found.con if known else None,
        ray=found.ray,
        **groups,
    )


def _sides(b):
    """Right-hand sides (m,), where they come as (m, 1) or (1, m)."""
    b = np.asarray(b)
    return b.reshape(b.size) if max(b.shape, default=1) == b.size else b


def _bounds(bounds):
    """The same without None and NaN, which are no bounds, in an array, and with what HiGHS takes for infinite so."""
    if bounds is None or hasattr(bounds, "lb"):
        return bounds
    try:
        pairs = np.array(bounds, dtype=float)  # None becomes NaN
    except (TypeError, ValueError):
        return bounds  # said what is wrong with it where bounds are read
    if pairs.ndim == 0 or pairs.shape[-1] != 2:
        return bounds
    ends = np.where(np.isnan(pairs), [-np.inf, np.inf], pairs)
    return np.where(abs(ends) >= INFINITE, np.copysign(np.inf, ends), ends)


def _linprog_options(options):
    """Keywords of `ntsolve.linprog` for SciPy's options."""
    from scipy.optimize import OptimizeWarning

    options = dict(options)
    tolerances = [options.pop(name, None) for name in TOLERANCES]
    given = [tol for tol in tolerances if tol is not None]
    taken = {"tol": min(given) if given else DEFAULT_TOL, "verbose": bool(options.pop("disp", False))}
    for name in ("maxiter", "time_limit"):
        value = options.pop(name, None)
        if value is not None and not math.isinf(value):
            taken[name] = value
    taken["presolve"] = options.pop("presolve", None) is not False
    unknown = sorted(set(options) - set(FOR_OTHER_METHODS))
    if unknown:
        warnings.warn(f"Unrecognized options detected: {', '.join(unknown)}", OptimizeWarning, stacklevel=3)
    return taken
