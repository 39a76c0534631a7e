"""Gradients of what a transport problem is worth, with respect to what it was made of.

The value V = <P, C> + reg sum P (log P - 1) is a maximum over potentials, so that (Danskin)

    dV/dC = P,  dV/da = f,  dV/db = g.                                                                         (1)

The linear part L = <P, C> is none, and the plan moves with the problem. From P 1 = a, P'1 = b and
dP = P (df_i + dg_j - dC_ij) / reg, by the implicit function theorem with the adjoint system

    [ diag(a)  P       ] [ alpha ]   [ (P * C) 1  ]
    [ P'       diag(b) ] [ beta  ] = [ (P * C)' 1 ]                                                            (2)

    dL/dC = P (1 + (alpha_i + beta_j - C_ij) / reg),  dL/da = alpha,  dL/db = beta.                            (3)

alpha is eliminated, as in the Newton steps of the solver, and conjugate gradients with a Jacobi preconditioner run on

    (diag(b) - T' diag(a) T) beta = (P * C)' 1 - T' (P * C) 1,     T = diag(1/a) P.                            (4)

A marginal that may be missed at the price tau KL has diag((1 + reg / tau) P 1) in place of diag(a), and exp(-f / tau)
before alpha in (3). Points take their share of dC by the chain rule.
"""

import warnings

import numpy as np

from ..errors import ConvergenceWarning
from .points import PointCost
from .sparse import PackedStore, takes
from .store import Store

OF = ("value", "value_linear")
KEEP = 1e-13  # entries of a row of T that count, where T is not stored as a whole
RTOL = 1e-13
MOST = 20_000  # conjugate gradient steps
WORK_A_CALL = 5e7


def gradient(solution, wrt, of):
    """The gradient, of the shape of what it is with respect to; arrays of the backend."""
    problem, k = solution.problem, solution.k
    if of == "value":
        alpha, beta, slope = solution.f, solution.g, 0.0
        if wrt in "ab":
            axis = "ab".index(wrt)
            potential, tau = (alpha, beta)[axis], problem.tau[axis]
            if tau < np.inf:  # of tau KL(P 1 | a)
                potential = tau * (1 - k.xp.exp(-potential / tau))
            return _whole(solution, potential, axis, -np.inf)
    else:
        alpha, beta = solution.adjoint
        slope = 1 / solution.reg
        if wrt in "ab":
            axis = "ab".index(wrt)
            tau, weight = problem.tau[axis], (alpha, beta)[axis]
            if tau < np.inf:
                weight = weight * k.xp.exp(-(solution.f, solution.g)[axis] / tau)
            return _whole(solution, weight, axis, np.nan)
    if wrt == "C":
        return solution.plan() if slope == 0 else _whole_matrix(solution, _by_cost(solution, alpha, beta))
    if not isinstance(problem.cost, PointCost):
        raise ValueError(
            f"gradient(wrt={wrt!r}) needs solve_ot_sample with a metric that has a name; gradient('C') is with respect "
            "to the cost"
        )
    return _by_points(solution, wrt, alpha, beta, slope)


def _whole(solution, values, axis, fill):
    problem = solution.problem
    return solution.whole(values, (problem.rows, problem.columns)[axis], problem.shape[axis], fill)


def _whole_matrix(solution, matrix):
    problem, xp = solution.problem, solution.k.xp
    if problem.rows is None and problem.columns is None:
        return matrix
    rows, columns = (
        xp.arange(size) if kept is None else kept
        for kept, size in zip((problem.rows, problem.columns), problem.shape, strict=True)
    )
    full = xp.zeros(problem.shape)
    full[rows[:, None], columns] = matrix
    return full


def _by_cost(solution, alpha, beta):
    """(3), with C from the logarithm of the plan: where that is 0, so is what is looked for."""
    xp, cost, reg = solution.k.xp, solution.problem.cost, solution.reg
    P = xp.empty(cost.shape)
    cost.plan(*solution.logs, P)
    with np.errstate(divide="ignore"):
        log = xp.where(P > 0, xp.log(P), 0.0)
    return P * (1 + log + (alpha - solution.f)[:, None] / reg + (beta - solution.g) / reg)


def _by_points(solution, wrt, alpha, beta, slope):
    """(1) or (3), and the derivative of the cost of a pair with respect to its points."""
    problem, xp = solution.problem, solution.k.xp
    log_u, log_v, scale = solution.logs
    cost, row, column = problem.cost, (log_u, alpha), (log_v[: beta.size], beta)
    if wrt == "Y":
        cost, row, column = cost.transposed(), column, row
    log_column, weight_column = xp.zeros(cost.width), xp.zeros(cost.width)
    log_column[: column[0].size], weight_column[: column[1].size] = column
    out = xp.zeros(cost.X.shape)
    for part, (_, X, Y, root) in cost.blocks() if cost.shape[1] else ():  # a rank may have no points
        solution.k.points_gradient(X, Y, root, row[0][part], log_column, scale, row[1][part], weight_column, slope,
                                   out[part], cost.work)  # fmt: skip
    if wrt == "Y":
        solution.ranks.add(out)
    if cost.lengths is not None:  # points that were scaled to length 1 / sqrt(2), for the cosine
        out -= 2 * (out * cost.X).sum(axis=1)[:, None] * cost.X
        out /= np.sqrt(2) * cost.lengths[:, None]
    axis = "XY".index(wrt)
    kept, size = (problem.rows, problem.columns)[axis], problem.shape[axis]
    if kept is None:
        return out
    full = xp.zeros((size, out.shape[1]))
    full[kept] = out
    return full


def adjoint(solution):
    """(alpha, beta) of (2), from (4)."""
    problem, k, reg = solution.problem, solution.k, solution.reg
    xp, cost, m = k.xp, problem.cost, solution.g.size
    tau_a, tau_b = problem.tau
    power_a = 1.0 if tau_a == np.inf else tau_a / (tau_a + reg)
    rows, columns = solution.moments
    masses = solution.rows
    store = PackedStore(k, cost) if takes(cost) else Store(k, cost)
    try:
        log_v, log_sum = solution.logs[1], xp.empty(masses.size)
        ones, b, y = xp.ones(cost.width), xp.zeros(cost.width), xp.zeros(cost.width)
        b[:m] = solution.columns
        store.build(None, log_v, reg, masses, 1.0, b, KEEP if takes(cost) else 0.0, log_sum, y)
        s, t = xp.empty_like(masses), xp.empty_like(masses)
        store.sweep(ones, masses, 1.0, s, y)  # T = R / s
        q = power_a * masses / s**2
        d = y * (1 + reg / tau_b)
        d[m:] = 1
        diagonal = xp.empty(cost.width)
        store.diagonal(store.parts, q, diagonal, store.work)
        dinv = 1 / xp.maximum(d - diagonal, 1e-14 * d)
        right = xp.zeros(cost.width)
        k.scaling_products(*store.parts, ones, power_a / s, rows, t, right, store.work)
        store.ranks.add(right)
        right[:m] = columns - right[:m]
        right[m:] = 0
        beta = _conjugate_gradients(k, store, q, d, dinv, right)
        k.scaling_products(*store.parts, beta, q, None, t, y, store.work)
        return power_a * (rows / masses - t / s), beta[:m]
    finally:
        store.release()


def _conjugate_gradients(k, store, q, d, dinv, right):
    """x of (diag(d) - R' diag(q) R) x = right"""
    xp = k.xp
    x, r, p, t = xp.zeros_like(right), right, dinv * right, xp.empty_like(q)
    block = max(1, min(64, int(WORK_A_CALL / (16 * store.blocks + 1))))
    rz = xp.empty(block + 1)
    rz[0] = first = float(r @ p)
    tol2 = RTOL**2 * first
    for _ in range(-(-MOST // block)):
        store.schur_cg_steps(store.parts, q, d, dinv, tol2, block, x, r, p, rz, t, store.work)
        last = float(rz[block])
        if not last > tol2:
            break
        rz[0] = last
    if last > 1e-14 * first:  # relative, squared
        warnings.warn("gradient: the adjoint system was not solved accurately", ConvergenceWarning, stacklevel=6)
    return x
