"""`ot.solve` and `ot.solve_sample` on `ntsolve.solve_ot` and `ntsolve.solve_ot_sample`."""

import functools
import sys

import numpy as np

from .. import solve_ot_sample, validate
from ._pot_sinkhorn import exp, known, like, run, weights

METHODS = (None, "sinkhorn", "sinkhorn_log")
METRICS = ("sqeuclidean", "euclidean", "cosine")
GRADS = ("autodiff", "envelope", "last_step", "detach")
ROWS_AT_A_TIME = 1 << 22  # entries of a lazy plan that are summed at a time


class LazyPlan:
    """A plan of which the parts asked for are computed: ``plan[rows, columns]`` with slices or whole numbers.

    Attributes
    ----------
    shape : (int, int)
    """

    ndim = 2

    def __init__(self, shape, entries):
        self.shape, self._entries = shape, entries

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        if len(key) > 2:
            raise IndexError(f"{len(key)} indices for a plan, which has 2")
        rows, columns = (_slice(each, size) for each, size in zip((*key, slice(None))[:2], self.shape, strict=True))
        return self._entries(rows, columns)

    def __repr__(self):
        return f"LazyPlan(shape={self.shape})"

    def sums(self):
        """The marginals, without the whole plan at once."""
        step = max(1, ROWS_AT_A_TIME // max(1, self.shape[1]))
        parts = [self[low : low + step] for low in range(0, self.shape[0], step)]
        return _concatenate([part.sum(1) for part in parts]), sum(part.sum(0) for part in parts)


class TransportResult:
    """What `solve` and `solve_sample` return: the attributes of POT's OTResult that entropic transport fills.

    Attributes
    ----------
    plan : array (n, m), or None where `lazy=True` was asked for
    lazy_plan : LazyPlan
    sparse_plan : sparse matrix
    potentials : (array (n,), array (m,))
        Logarithms of the scalings, as POT has them: the potentials over reg. Also `potential_a`, `potential_b`.
    value : float
        <P, M> and all penalties, in POT's convention for `reg_type`.
    value_linear : float
        <P, M>
    marginals : (array (n,), array (m,))
        Also `marginal_a`, `marginal_b`.
    status : str
        What `ntsolve.Status` says.
    log : dict
        "err", "niter", and "result", the `ntsolve.OTResult` with bounds and gradients.
    """

    def __init__(self, result, reg, value, value_linear, lazy_plan, lazy=False):
        self._result, self._lazy = result, lazy
        self.potentials = tuple(each / reg for each in result.potentials)
        self.value, self.value_linear, self.lazy_plan = value, value_linear, lazy_plan
        self.status = result.message
        self.log = {"err": list(np.asarray(result.history, dtype=float)), "niter": int(result.nit), "result": result}

    potential_a = property(lambda self: self.potentials[0])
    potential_b = property(lambda self: self.potentials[1])
    marginal_a = property(lambda self: self.marginals[0])
    marginal_b = property(lambda self: self.marginals[1])

    @property
    def plan(self):
        return None if self._lazy else self._result.plan

    @functools.cached_property
    def sparse_plan(self):
        return self._result.sparse_plan(0.0)

    @functools.cached_property
    def marginals(self):
        return self.lazy_plan.sums() if self._lazy else (self.plan.sum(1), self.plan.sum(0))

    def __repr__(self):
        return f"TransportResult(value={self.value}, value_linear={self.value_linear}, shape={self.lazy_plan.shape})"


def solve(M, a=None, b=None, reg=None, c=None, reg_type="KL", unbalanced=None, unbalanced_type="KL", method=None,
          n_threads=1, max_iter=None, plan_init=None, potentials_init=None, tol=None, verbose=False,
          grad="autodiff") -> "TransportResult":  # fmt: skip
    """`ot.solve` for entropic transport: the same arguments, an object with the same attributes.

    Parameters
    ----------
    M : array (n, m)
    a, b : arrays (n,), (m,), optional
        Default: uniform.
    reg : float
        Positive: POT's exact transport, which reg=None stands for there, is not what this does.
    c : array (n, m), optional
        What the plan is compared with where reg_type is "KL" and the marginals are relaxed. Default: a b'.
    reg_type : {"KL", "entropy"}
        reg KL(P | a b'), or reg sum P (log P - 1), as in POT's `sinkhorn_unbalanced`. Where both marginals are to be
        met, the plan is the same.
    unbalanced : float or (float, float), optional
        Prices of missing a and b, in KL; infinite where one is to be met.
    unbalanced_type : {"KL"}
    method : {None, "sinkhorn", "sinkhorn_log"}
        All the same.
    n_threads : int
        Of POT's exact solver. Here the number of threads is set by `ntsolve.config`.
    max_iter, tol : int, float, optional
        Default: 1000, 1e-9. `tol` is the L1 error of both marginals.
    potentials_init : (array (n,), array (m,)), optional
        As `potentials` of a result. (POT takes no notice of it unless the marginals are relaxed.)
    verbose : bool
        Report to the logger "ntsolve"; nothing is printed.
    plan_init : None
    grad : {"autodiff", "envelope", "last_step", "detach"}
        No effect: no automatic differentiation passes through. ``result.log["result"].gradient`` has the gradients.

    Returns
    -------
    TransportResult

    Raises
    ------
    NotImplementedError
        Naming the argument that asks for something else.
    TypeError, ValueError
        Naming the argument that does not fit.

    Warns
    -----
    SinkhornWarning

    Examples
    --------
    >>> import numpy as np
    >>> from ntsolve.compat import pot as ot
    >>> result = ot.solve(np.array([[0.0, 1.0], [1.0, 0.0]]), reg=1.0)
    >>> result.plan.round(8)
    array([[0.36552929, 0.13447071],
           [0.13447071, 0.36552929]])
    """
    known("method", method, METHODS)
    tau = _entropic(reg, reg_type, unbalanced, unbalanced_type, plan_init, grad)
    M, a, b = validate.own_kind("M", M)[0], weights(a), weights(b)
    relative = reg_type.lower() == "kl" and tau != (None, None)  # KL against c; elsewhere that changes no plan
    if c is not None and not relative:
        raise NotImplementedError('c is supported where reg_type is "KL" and the marginals are relaxed')
    cost = M
    if relative:
        c = _product(M, a, b) if c is None else validate.own_kind("c", c)[0]
        cost = M - reg * _log(c)
    start = None if potentials_init is None else tuple(reg * validate.own_kind("potentials_init", each)[0]
                                                       for each in potentials_init)  # fmt: skip
    result = run(a, b, cost, reg, maxiter=1000 if max_iter is None else max_iter, tol=1e-9 if tol is None else tol,
                 verbose=verbose, start=start, warn=True, tau=tau)  # fmt: skip
    f, g = result.potentials

    def entries(rows, columns):
        with np.errstate(invalid="ignore"):
            return exp((f[rows, None] + g[None, columns] - cost[rows, columns]) / reg)

    if tau == (None, None):
        value, linear = _balanced_value(result, a, b, reg, reg_type), result.value_linear
    else:
        value, linear = _unbalanced_value(result.plan, M, a, b, reg, tau, c if relative else None)
    return TransportResult(result, reg, like(M, value), like(M, linear), LazyPlan(tuple(M.shape), entries))


def solve_sample(X_a, X_b, a=None, b=None, metric="sqeuclidean", reg=None, c=None, reg_type="KL", unbalanced=None,
                 unbalanced_type="KL", lazy=False, batch_size=None, method=None, n_threads=1, max_iter=None,
                 plan_init=None, rank=100, scaling=0.95, potentials_init=None, X_init=None, tol=None, verbose=False,
                 grad="autodiff", random_state=None, debias=False, n_projections=50, projections=None,
                 scaler=None) -> "TransportResult":  # fmt: skip
    """`ot.solve_sample` for entropic transport between point clouds.

    Parameters
    ----------
    X_a, X_b : arrays (n, p), (m, p)
    metric : str
        "sqeuclidean", "euclidean", "cosine"; with lazy=False any that `scipy.spatial.distance.cdist` knows.
    lazy : bool
        Compute the cost in each pass, and store neither cost nor plan: memory for O(n + m) and for a sparse kernel.
    a, b, reg, c, reg_type, unbalanced, unbalanced_type, method, max_iter, potentials_init, tol, verbose, grad
        As those of `solve`.
    batch_size, n_threads, rank, scaling, X_init, random_state, n_projections, projections
        Of POT's other methods; no effect.
    plan_init, debias, scaler : None, False, None

    Returns
    -------
    TransportResult
        With lazy=True its `plan` is None, as in POT.

    Examples
    --------
    >>> import numpy as np
    >>> from ntsolve.compat import pot as ot
    >>> X = np.array([[0.0], [1.0]])
    >>> ot.solve_sample(X, X, reg=1.0, lazy=True).lazy_plan[:].round(8)
    array([[0.36552929, 0.13447071],
           [0.13447071, 0.36552929]])
    """
    known("method", method, METHODS)
    for name, value, neutral in (("debias", debias, False), ("scaler", scaler, None)):
        if value is not neutral:
            raise NotImplementedError(f"{name}={value!r} is not supported")
    X, Y = validate.own_kind("X_a", X_a)[0], validate.own_kind("X_b", X_b)[0]
    if not lazy:
        return solve(_cost(X, Y, metric), a, b, reg, c, reg_type, unbalanced, unbalanced_type, method, n_threads,
                     max_iter, plan_init, potentials_init, tol, verbose, grad)  # fmt: skip
    tau = _entropic(reg, reg_type, unbalanced, unbalanced_type, plan_init, grad)
    if metric not in METRICS:
        raise NotImplementedError(f"metric={metric!r} with lazy=True; {', '.join(METRICS)} are supported there")
    if tau != (None, None) or c is not None:
        raise NotImplementedError("unbalanced and c are not supported with lazy=True")
    a, b = weights(a), weights(b)
    start = None if potentials_init is None else tuple(reg * validate.own_kind("potentials_init", each)[0]
                                                       for each in potentials_init)  # fmt: skip
    result = run(a, b, X, reg, maxiter=1000 if max_iter is None else max_iter, tol=1e-9 if tol is None else tol,
                 verbose=verbose, start=start, warn=True,
                 solver=functools.partial(solve_ot_sample, X, Y, metric=metric))  # fmt: skip
    f, g = result.potentials

    def entries(rows, columns):
        return exp((f[rows, None] + g[None, columns] - _cost(X[rows], Y[columns], metric)) / reg)

    value = like(X, _balanced_value(result, a, b, reg, reg_type))
    plan = LazyPlan((X.shape[0], Y.shape[0]), entries)
    return TransportResult(result, reg, value, like(X, result.value_linear), plan, lazy=True)


# ---- what is asked for ----------------------------------------------------------------------------------------------


def _entropic(reg, reg_type, unbalanced, unbalanced_type, plan_init, grad):
    """(tau_a, tau_b), None where a marginal is to be met; an error for what is not entropic transport."""
    if reg is None or reg == 0:
        raise NotImplementedError(f"reg={reg} is exact transport: use ot.solve or ot.emd of POT, or a small reg")
    if not isinstance(reg_type, str) or reg_type.lower() not in ("kl", "entropy"):
        raise NotImplementedError(f'reg_type={reg_type!r}; "KL" and "entropy" are supported')
    if unbalanced is not None and unbalanced_type.lower() != "kl":
        raise NotImplementedError(f'unbalanced_type={unbalanced_type!r}; "KL" is supported')
    if plan_init is not None:
        raise NotImplementedError("plan_init is not supported; potentials_init is")
    known("grad", grad, GRADS)
    if unbalanced is None:
        return None, None
    prices = [float(each) for each in np.atleast_1d(np.asarray(unbalanced, dtype=float))]
    if len(prices) not in (1, 2):
        raise ValueError(f"unbalanced has {len(prices)} entries: one price, or two")
    first, last = (None if np.isinf(each) else each for each in (prices[0], prices[-1]))
    return first, last


# ---- values in POT's conventions ------------------------------------------------------------------------------------


def _balanced_value(result, a, b, reg, reg_type):
    """From <P, C> + reg sum P (log P - 1), with the marginals that P has."""
    n, m = (each.shape[0] for each in result.potentials)
    mass = next((float(each.sum()) for each in (a, b) if each is not None), 1.0)
    if reg_type.lower() == "entropy":
        return result.value + reg * mass
    logs = sum(mass * np.log(mass / size) if each is None else float(_times_log(each).sum())
               for each, size in ((a, n), (b, m)))  # fmt: skip
    return result.value - reg * logs + reg * mass * mass


def _unbalanced_value(P, M, a, b, reg, tau, c):
    """(value, <P, M>) summed up from the plan."""
    linear = float(_where(P > 0, P * M, P).sum())
    value = linear + reg * (float((_times_log(P) - P).sum()) if c is None else _divergence(P, c))
    for price, rows, given in zip(tau, (P.sum(1), P.sum(0)), (a, b), strict=True):
        if price is not None:
            value += price * _divergence(rows, rows * 0 + 1 / rows.shape[0] if given is None else given)
    return value, linear


def _divergence(p, q):
    """KL(p | q) = sum p log(p / q) - p + q"""
    return float((_times_log(p) - _where(p > 0, p * _log(q), p) - p + q).sum())


def _times_log(p):
    return _where(p > 0, p * _log(_where(p > 0, p, p + 1)), p)


def _product(M, a, b):
    uniform = [M[:, 0] * 0 + 1 / M.shape[0], M[0] * 0 + 1 / M.shape[1]]
    a, b = (each if given is None else given for each, given in zip(uniform, (a, b), strict=True))
    return a[:, None] * b[None, :]


# ---- arrays of any library ------------------------------------------------------------------------------------------


def _library(array):
    return sys.modules[type(array).__module__.partition(".")[0]]


def _where(condition, x, y):
    return _library(x).where(condition, x, y)


def _concatenate(parts):
    return _library(parts[0]).concatenate(parts)


def _log(array):
    with np.errstate(divide="ignore"):
        return array.log() if hasattr(array, "log") else np.log(array)


def _cost(X, Y, metric):
    """(n, m) distances."""
    if isinstance(X, np.ndarray) and isinstance(Y, np.ndarray):
        from scipy.spatial.distance import cdist

        cost = cdist(X, Y, metric)
        return cost.astype(np.result_type(X, Y)) if X.dtype.kind == Y.dtype.kind == "f" else cost
    if metric not in METRICS:
        raise NotImplementedError(f"metric={metric!r} of {type(X).__name__}; {', '.join(METRICS)} are supported there")
    if metric == "cosine":
        X, Y = (each / (each * each).sum(1)[:, None] ** 0.5 for each in (X, Y))
        return 1 - X @ Y.T
    squares = ((X[:, None, :] - Y[None, :, :]) ** 2).sum(2)
    return squares if metric == "sqeuclidean" else squares**0.5


def _slice(index, size):
    if isinstance(index, slice):
        return index
    index = range(size)[index]
    return slice(index, index + 1)
