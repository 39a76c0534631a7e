"""What each training point has done to the loss on a test point: influence functions.

P. W. Koh, P. Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017. At the minimum w of the
mean loss (1/n) sum_i L(z_i, w) with the Hessian H, giving the training point z a weight larger by epsilon changes the
loss on a test point by epsilon times (their equation 2)

    I(z, z_test) = -s_test . grad L(z),   s_test = H^-1 grad L(z_test).                                  (1)

A point that is there has the weight 1/n, so (1) divided by n is what one more copy of z would do, and its negative what
leaving z out would. s_test costs a solve; then one pass over the training gradients gives the scores of them all.
"""

import itertools
from collections.abc import Iterable

from .. import validate
from ..dispatch import home, kernels_for
from ..kernels.contracts.fisher import row_dots_workspace
from ..outcome import report
from ..result import InfluenceResult
from .fisher import EmpiricalFisher
from .gradients import gradients
from .ihvp import ihvp

AT_ONCE = 16  # test gradients in one pass over the training gradients


def influence(G, g_test, *, hvp=None, fisher=None, n=None, damp=0.0, on_failure="warn", **options) -> InfluenceResult:
    """Influence of training points on the loss at test points, by equation 2 of Koh and Liang (2017).

    Parameters
    ----------
    G : array (m, d), memory map, or iterable of rows (d,) or of chunks (rows, d)
        Gradients of the loss at training points, one a row; an iterable is gone through once, chunk by chunk.
    g_test : array (..., d)
        Gradient of the loss at a test point, or several as rows; or of any other function of the weights.
    hvp : callable, array (d, d), sparse matrix, or LinearOperator, optional
        The Hessian of the mean training loss, as for `ntsolve.ihvp`: (H + damp I) s_test = g_test is solved.
    fisher : EmpiricalFisher, optional
        Without `hvp`, it takes the place of the Hessian, with its own damp; with `hvp`, it is the preconditioner.
    n : int, optional
        Points of the training set. Default: m.
    damp : float
        Added to the diagonal of the Hessian.
    on_failure : {"warn", "raise", "ignore"}
        What to do when the solve ends without success.
    **options
        For `ntsolve.ihvp`: `method`, `rank`, `rtol`, `maxiter`, `time_limit`, `rng`, ...

    Returns
    -------
    InfluenceResult
        `x` (..., m) are the scores: about the change of the test loss were the training point there twice. The negative
        is that of leaving it out, so that points with negative scores are those that help. `s_test` are the solutions;
        `success`, `residual` and the rest are those of the solve.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    ConvergenceError
        With ``on_failure="raise"``.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``.

    Notes
    -----
    The scores are those of a minimum: of weights where the gradient of the mean loss, with its penalty, is about zero.
    The empirical Fisher matrix is near the Hessian where the model fits its data well and may be far from it elsewhere.

    References
    ----------
    P. W. Koh, P. Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017, equation 2.

    Examples
    --------
    Least squares: leaving out an outlier would lower the loss at a test point.

    >>> import numpy as np, ntsolve
    >>> rng = np.random.default_rng(0)
    >>> X, w_true = rng.standard_normal((50, 3)), np.ones(3)
    >>> y = X @ w_true + 0.1 * rng.standard_normal(50)
    >>> y[7] += 5
    >>> w = np.linalg.lstsq(X, y)[0]
    >>> x_test = rng.standard_normal(3)
    >>> g_test = x_test * (x_test @ (w - w_true))
    >>> result = ntsolve.influence(X * (X @ w - y)[:, None], g_test, hvp=X.T @ X / 50, rng=0)
    >>> int(np.argmax(result.x))
    7
    """
    if not isinstance(fisher, EmpiricalFisher):
        if fisher is not None:
            raise TypeError(f"fisher must be an EmpiricalFisher, not {type(fisher).__name__}")
        if hvp is None:
            raise ValueError("influence needs a Hessian: pass hvp, or an EmpiricalFisher as fisher")
    n = None if n is None else validate.count("n", n, least=1)
    on_failure = validate.choice("on_failure", on_failure, ("warn", "raise", "ignore"))
    g, own = validate.own_kind("g_test", g_test)
    g = validate.numeric("g_test", g)
    if g.dtype.kind == "c" or g.ndim == 0:
        raise ValueError(f"g_test must be real, with at least one axis, the last of length d, not {g.dtype} {g.shape}")
    if fisher is not None and fisher.d != g.shape[-1]:
        raise ValueError(f"fisher has d = {fisher.d}, g_test has {g.shape[-1]} entries along its last axis")
    parts = _parts(G, g.shape[-1])
    if hvp is not None:
        if fisher is not None and "M" in options:
            raise ValueError("M: fisher is the preconditioner already")
        solution = ihvp(hvp, g_test, damp=damp, on_failure="ignore", **{"M": fisher} | options)
    elif validate.nonnegative("damp", damp):
        raise ValueError("damp is that of the Fisher matrix: pass fisher=fisher.with_damp(damp)")
    else:
        fixed = sorted({"method", "M", "keep"} & options.keys())
        if fixed:
            raise ValueError(f"{', '.join(fixed)}: only with hvp; without it the inverse of fisher is applied")
        solution = ihvp(fisher.matvec, g_test, method="cg", M=fisher, keep=0, on_failure="ignore", **options)
    s_test, _ = validate.own_kind("s_test", solution.x)
    with kernels_for(s_test=s_test) as k:
        scores = k.xp.concatenate([_dots(k, rows, s_test.reshape(-1, g.shape[-1])) for rows in parts], axis=1)
        if not bool(k.xp.isfinite(scores).all()):
            raise ValueError("G contains NaN or infinity, or its products with g_test overflow")
        m = scores.shape[1]
        scores *= -1 / (m if n is None else n)
        scores = own(scores.reshape(*g.shape[:-1], m).astype(s_test.dtype))
    result = InfluenceResult(**{**solution, "x": scores}, s_test=solution.x)
    report("influence", result, on_failure)
    return result


def _parts(G, d):
    """The training gradients, each part as `gradients` gives it: an array or a file in one, chunks as they come."""
    if home(G) is not None or hasattr(G, "__dlpack__") or not isinstance(G, Iterable) or isinstance(G, (list, tuple)):
        rows = gradients(G)
        _fits(rows, d)
        return [rows]
    chunks = iter(G)
    first = next(chunks, None)
    if first is None:
        raise ValueError("G is empty: no gradient came")
    first = _chunk(first, d)  # what does not fit is seen before the solve
    return itertools.chain([first], (_chunk(chunk, d) for chunk in chunks))


def _chunk(chunk, d):
    chunk, _ = validate.own_kind("G", chunk)
    rows = gradients(chunk[None] if chunk.ndim == 1 else chunk)
    _fits(rows, d)
    return rows


def _fits(rows, d):
    if rows.d != d:
        raise ValueError(f"G has {rows.d} columns, g_test has {d} entries along its last axis")


def _dots(k, rows, X):
    """(s, m) float64: X G', in one pass over G for every 16 rows of X (s, d)."""
    xp = k.xp
    scores = xp.zeros((len(X), rows.m))
    for first in range(0, len(X), AT_ONCE):
        few = X[first : first + AT_ONCE]
        out = xp.zeros((1, len(few), rows.m))
        for piece in rows.pieces(rows.d):
            columns = xp.ascontiguousarray(few[:, piece.first : piece.last].astype("float64"))
            work = xp.empty(row_dots_workspace(*piece.G.shape, rows.d, len(few)))
            k.row_dots(piece.G, rows.d, columns, out, work)
        scores[first : first + len(few)] = out[0]
    return scores
