"""`ot.sinkhorn` and `ot.sinkhorn2` on `ntsolve.solve_ot`."""

import functools
import sys
import warnings
from typing import Any

import numpy as np

from .. import solve_ot, validate
from ..errors import ConvergenceWarning
from ..result import Status

METHODS = ("sinkhorn", "sinkhorn_log", "sinkhorn_stabilized", "sinkhorn_epsilon_scaling", "greenkhorn")
LOSS_METHODS = METHODS[:3]
OPTIONS = {"tau", "print_period", "epsilon0", "numInnerItermax"}  # of POT's loops: there are none here that they steer
BY_POTENTIALS = ("sinkhorn_stabilized", "sinkhorn_epsilon_scaling")  # whose warm start is (f, g), not (log u, log v)


class SinkhornWarning(ConvergenceWarning, UserWarning):
    """A solve ended above stopThr: what POT says with a UserWarning."""


def sinkhorn(a, b, M, reg, method="sinkhorn", numItermax=1000, stopThr=1e-9, verbose=False, log=False, warn=True,
             warmstart=None, **kwargs) -> Any:  # fmt: skip
    """`ot.sinkhorn`: the same arguments, the same return, computed by `ntsolve.solve_ot`.

    Parameters
    ----------
    a : array (n,)
        Empty: uniform.
    b : array (m,) or (m, k)
        Empty: uniform. Columns are k problems, of which the costs are returned.
    M : array (n, m)
    reg : float
    method : {"sinkhorn", "sinkhorn_log", "sinkhorn_stabilized", "sinkhorn_epsilon_scaling", "greenkhorn"}
        POT's names for ways to the one solution. All are served by the same solver; they differ in the keys of the log.
    numItermax : int
        Most iterations, of which a Newton step counts as one.
    stopThr : float
        Solved when ``norm(P.sum(0) - b) <= stopThr``, as in POT. Asked of the solver is this of the sum of the absolute
        values, for rows and columns, which is more.
    verbose : bool
        Report to the logger "ntsolve"; nothing is printed.
    log : bool
        Return a dictionary, too.
    warn : bool
        Warn when stopThr is not reached.
    warmstart : (array (n,), array (m,)), optional
        Logarithms of u and v; for the stabilized methods the potentials, as in POT. Where b is (m, k): two arrays
        (n, k) and (m, k), or k pairs.
    **kwargs
        What steers the loops of POT's methods (tau, epsilon0, ...) is accepted, and without effect.

    Returns
    -------
    P : array (n, m), or (k,)
        The plan; for b of shape (m, k) the costs <P, M>.
    log : dict
        "err" (marginal errors, sums of absolute values, after each iteration), "niter", "u", "v", "log_u", "log_v", or
        what POT has for the method; and "result", the `ntsolve.OTResult`, with bounds and gradients, or a list of them.

    Raises
    ------
    TypeError, ValueError
        Naming the argument as `ntsolve.solve_ot` calls it: C for M, tol for stopThr, maxiter for numItermax.

    Warns
    -----
    SinkhornWarning
        A UserWarning that says why there is no convergence.

    Notes
    -----
    Differences from POT 0.9.7: sums of a and b that differ are an error, since no plan has them as marginals; so are
    reg=0, NaN, infinite weights, and an unknown keyword. Both marginals are met, not b alone. A small reg yields the
    plan, where POT returns what it has when its kernel underflows. Ctrl-C raises KeyboardInterrupt.

    Examples
    --------
    >>> from ntsolve.compat import pot as ot
    >>> ot.sinkhorn([0.5, 0.5], [0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], 1).round(8)
    array([[0.36552929, 0.13447071],
           [0.13447071, 0.36552929]])
    """
    method = known("method", method.lower(), METHODS)
    options(kwargs)
    a, b, M = weights(a), weights(b, 2), _matrix(M)
    if b is not None and b.ndim == 2:
        return _several(a, b, M, reg, method, numItermax, stopThr, verbose, log, warn, warmstart)
    result = run(a, b, M, reg, maxiter=numItermax, tol=stopThr, verbose=verbose, start=_start(method, reg, warmstart),
                 warn=warn)  # fmt: skip
    return (result.plan, entries(method, reg, result)) if log else result.plan


def sinkhorn2(a, b, M, reg, method="sinkhorn", numItermax=1000, stopThr=1e-9, verbose=False, log=False, warn=False,
              warmstart=None, **kwargs) -> Any:  # fmt: skip
    """`ot.sinkhorn2`: the cost <P, M> of the plan of `sinkhorn`, and no warning unless asked for.

    Parameters
    ----------
    a, b, M, reg, numItermax, stopThr, verbose, log, warn, warmstart, **kwargs
        As those of `sinkhorn`.
    method : {"sinkhorn", "sinkhorn_log", "sinkhorn_stabilized"}

    Returns
    -------
    cost : float, or array (k,)
    log : dict
        As that of `sinkhorn`.

    Examples
    --------
    >>> from ntsolve.compat import pot as ot
    >>> round(float(ot.sinkhorn2([0.5, 0.5], [0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], 1)), 8)
    0.26894142
    """
    method = known("method", method.lower(), LOSS_METHODS)
    options(kwargs)
    a, b, M = weights(a), weights(b, 2), _matrix(M)
    if b is not None and b.ndim == 2:
        return _several(a, b, M, reg, method, numItermax, stopThr, verbose, log, warn, warmstart)
    result = run(a, b, M, reg, maxiter=numItermax, tol=stopThr, verbose=verbose, start=_start(method, reg, warmstart),
                 warn=warn)  # fmt: skip
    cost = like(M, result.value_linear)
    return (cost, entries(method, reg, result)) if log else cost


def _matrix(M):
    M = validate.own_kind("M", M)[0]
    if M.ndim != 2:
        raise ValueError(f"M has shape {tuple(M.shape)}; one matrix of costs is needed")
    return M


# ---- what `solve` needs, too ----------------------------------------------------------------------------------------


def known(name, value, allowed):
    """A name on the list; POT's error where it is not."""
    if value not in allowed:
        raise ValueError(f"Unknown {name} {value!r}: it can be {', '.join(map(repr, allowed))}")
    return value


def options(kwargs):
    """Accept POT's own, and nothing misspelt."""
    unknown = sorted(set(kwargs) - OPTIONS)
    if unknown:
        raise TypeError(f"unexpected keyword {', '.join(unknown)}")


def weights(values, axes=1):
    """An array, or None for an empty one."""
    if values is None:
        return None
    values = validate.own_kind("weights", values)[0]
    if not 1 <= values.ndim <= axes:
        raise ValueError(f"weights have shape {tuple(values.shape)}; one number a point is needed")
    return values if values.shape[0] else None


def run(a, b, M, reg, *, maxiter, tol, verbose, start, warn, tau=(None, None), solver=None):
    """The OTResult; warns, on behalf of the caller's caller, where POT would."""
    solver = solver or functools.partial(solve_ot, M)
    result = solver(a=a, b=b, reg=reg, tol=tol, maxiter=maxiter, verbose=verbose, potentials_init=start,
                    tau_a=tau[0], tau_b=tau[1], on_failure="ignore")  # fmt: skip
    if result.status == Status.INTERRUPTED:
        raise KeyboardInterrupt
    if warn and not result.success and not (tau == (None, None) and _as_pot_sees_it(result, b) <= tol):
        warnings.warn(
            f"Sinkhorn did not converge: {result.marginal_error:.2e} of mass is off. {result.message}",
            SinkhornWarning,
            stacklevel=3,
        )
    return result


def _as_pot_sees_it(result, b):
    """||P'1 - b||_2"""
    columns = result.plan.sum(0)
    return float((((columns - columns.mean() if b is None else columns - b) ** 2).sum()) ** 0.5)


def entries(method, reg, result):
    """The dictionary that POT's method returns."""
    f, g = result.potentials
    log_u, log_v = f / reg, g / reg
    found = {"err": list(np.asarray(result.history, dtype=float)), "result": result}
    if method in BY_POTENTIALS:
        found |= {"alpha": f, "beta": g, "warmstart": (f, g), "logu": log_u, "logv": log_v}
    else:
        with np.errstate(over="ignore"):
            found |= {"u": exp(log_u), "v": exp(log_v), "log_u": log_u, "log_v": log_v}
    found["n_iter" if method in ("greenkhorn", "sinkhorn_stabilized") else "niter"] = int(result.nit)
    return found


def exp(array):
    """Of any library's array."""
    return array.exp() if hasattr(array, "exp") else np.exp(array)


def like(M, value):
    """A number as M's library and dtype have it."""
    if isinstance(M, np.ndarray):
        return np.result_type(M.dtype, np.float32).type(value)
    return M[:0].sum() + value


# ---- several targets ------------------------------------------------------------------------------------------------


def _start(method, reg, warmstart):
    if warmstart is None:
        return None
    first, second = (validate.own_kind("warmstart", each)[0] for each in warmstart)
    return (first, second) if method in BY_POTENTIALS else (reg * first, reg * second)


def _several(a, b, M, reg, method, numItermax, stopThr, verbose, log, warn, warmstart):
    count = b.shape[1]
    results = []
    for column in range(count):
        start = None if warmstart is None else _start(method, reg, _of_column(warmstart, column, count))
        results.append(run(a, b[:, column], M, reg, maxiter=numItermax, tol=stopThr, verbose=verbose, start=start,
                           warn=warn))  # fmt: skip
    costs = M[:0].sum() + _joined(b, [result.value_linear for result in results])
    if not log:
        return costs
    logs = [entries(method, reg, result) for result in results]
    found = {key: _stack([each[key] for each in logs]) for key in logs[0]
             if key not in ("err", "niter", "n_iter", "result", "warmstart")}  # fmt: skip
    longest = max(len(each["err"]) for each in logs)
    errors = [each["err"] + each["err"][-1:] * (longest - len(each["err"])) for each in logs]
    found["err"] = list(np.max(errors, axis=0))
    if "alpha" in found:
        found["warmstart"] = (found["alpha"], found["beta"])
    counter = "n_iter" if "n_iter" in logs[0] else "niter"
    return costs, found | {counter: max(each[counter] for each in logs), "result": results}


def _of_column(warmstart, column, count):
    """The pair of one column: of two arrays (n, k) and (m, k), or of a sequence of k pairs."""
    if len(warmstart) == 2 and all(getattr(each, "ndim", 0) == 2 for each in warmstart):
        return tuple(each[:, column] for each in warmstart)
    if len(warmstart) != count:
        raise ValueError(f"warmstart has {len(warmstart)} entries, b has {count} columns")
    return warmstart[column]


def _joined(b, values):
    """(k,) of b's library."""
    joined = b[0] * 0
    for column, value in enumerate(values):
        joined[column] = value
    return joined


def _stack(columns):
    """(n, k) of vectors (n,)."""
    if hasattr(columns[0], "exp"):  # torch
        import torch

        return torch.stack(columns, 1)
    return sys.modules[type(columns[0]).__module__.partition(".")[0]].stack(columns, 1)
