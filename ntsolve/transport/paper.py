"""Sinkhorn-Newton-Sparse as published: what the solver of this package is compared with.

Tang, Shavlovsky, Rahmanian, Tardini, Thekumparampil, Xiao, Ying, "Accelerating Sinkhorn algorithm with sparse Newton
iterations", ICLR 2024, algorithm 1. With z = (f, g) and P_ij = exp((f_i + g_j - C_ij) / reg) (the paper's eta is 1/reg,
and its exponents are less by one, which moves f by reg), the potential

    F(z) = a.f + b.g - reg sum_ij P_ij,        grad F = (a - P 1, b - P' 1),                             (1)

                      [ diag(P 1)   P         ]
    -hess F = 1/reg   [                       ]                                                          (2)
                      [ P'          diag(P' 1)]

is maximised in two stages:

    Sinkhorn   N1 times  f += reg (log a - log P 1),  then  g += reg (log b - log P' 1)                  (3)
    Newton     z is made orthogonal to (1, -1), along which F is constant; then repeatedly
               H = Sparsify(-hess F, rho): of P in (2) the largest fraction rho of the entries           (4)
               H dz = grad F by conjugate gradients                                                      (5)
               z += alpha dz, where alpha is halved until F has grown enough                             (6)

with rho = 2/n. The diagonals in (2) stay whole, so that H is diagonally dominant, and (5) solvable, whatever (4) drops.
Left open by the paper and chosen here: N1 = 20; (5) to a relative residual of 1e-2 min(1, |grad F|_1), with at most
n + m steps; Armijo's constant 1e-4 in (6), which gives up after 30 halvings.
"""

import numpy as np

from ..linalg.cg import cg
from . import sinkhorn

SCALINGS = 20  # N1
HALVINGS = 30
ARMIJO = 1e-4


def solve(k, C, a, b, reg, tol, watch, f=None, g=None):
    """The two stages; arguments and return as those of `sinkhorn.solve`, without `tau`."""
    xp = k.xp
    f, g, error, counts = sinkhorn.solve(k, C, a, b, reg, tol, watch, f, g, most=SCALINGS)  # (3)
    counts |= {"newton": 0, "cg": 0}
    shift = (float(g.sum()) - float(f.sum())) / (a.size + b.size)
    f, g = f + shift, g - shift
    watch.iterate = lambda: (f, g)
    P, value = _plan_and_value(xp, C, a, b, reg, f, g)
    while error > tol and watch.going():
        rows, columns = P.sum(1), P.sum(0)
        grad_f, grad_g = a - rows, b - columns
        matvec = _sparsified(k, P, rows, columns)
        df, dg, steps = _direction(xp, matvec, grad_f, grad_g, reg)
        slope = float(grad_f @ df + grad_g @ dg)
        alpha = 1.0
        for _ in range(HALVINGS):  # (6)
            new_f, new_g = f + alpha * df, g + alpha * dg
            new_P, new_value = _plan_and_value(xp, C, a, b, reg, new_f, new_g)
            counts["passes"] += 1
            if new_value >= value + ARMIJO * alpha * slope - 1e-15 * abs(value):
                break
            alpha *= 0.5
        else:
            break
        f, g, P, value = new_f, new_g, new_P, new_value
        before, error = error, float(abs(a - P.sum(1)).sum() + abs(b - P.sum(0)).sum())
        counts["newton"] += 1
        counts["cg"] += steps
        watch.did([[error]], 1)
        if steps == 0 or (error >= before and alpha < 1e-6):  # rounding is all that moves
            break
    return f, g, error, counts


def _plan_and_value(xp, C, a, b, reg, f, g):
    """P, and (1)."""
    with np.errstate(over="ignore"):
        P = xp.exp((f[:, None] + g - C) / reg)
        return P, float(a @ f + b @ g) - reg * float(P.sum())


def _sparsified(k, P, rows, columns):
    """v -> reg H v of (4), for v = (v_f, v_g) of shape (n + m,)."""
    xp = k.xp
    n, m = P.shape
    entries = k.to_host(P).reshape(-1)  # a comparison need not choose entries on the GPU
    count = min(n * m, 2 * max(n, m))  # the fraction 2/n of a square P
    kept = np.sort(np.argpartition(entries, n * m - count)[n * m - count :])
    row, column, value = kept // m, kept % m, entries[kept]
    by_rows = _csr(xp, row, column, value, n)
    turned = np.lexsort((row, column))
    by_columns = _csr(xp, column[turned], row[turned], value[turned], m)
    diagonal = xp.concatenate([rows, columns])
    y_f, y_g = xp.empty((1, n)), xp.empty((1, m))

    def matvec(v):
        k.csr_matvec(*by_rows, v[None, n:], y_f)
        k.csr_matvec(*by_columns, v[None, :n], y_g)
        return diagonal * v + xp.concatenate([y_f[0], y_g[0]])

    return matvec


def _csr(xp, row, column, value, n):
    """CSR, on the backend, of entries sorted by rows: indptr, indices, data."""
    indptr = np.searchsorted(row, np.arange(n + 1))
    return xp.asarray(indptr.astype("int32")), xp.asarray(column.astype("int32")), xp.asarray(value)


def _direction(xp, matvec, grad_f, grad_g, reg):
    """(5): df, dg and the number of steps."""
    gradient = xp.concatenate([grad_f, grad_g])
    tolerance = 1e-2 * min(1.0, float(abs(gradient).sum()))
    found = cg(matvec, reg * gradient, rtol=tolerance, maxiter=gradient.size, check=False, on_failure="ignore")
    return found.x[: grad_f.size], found.x[grad_f.size :], int(found.nit)
