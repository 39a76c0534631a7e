"""Factors of small symmetric indefinite matrices, many at a time, and Kaczmarz sweeps.

The matrices are those of Newton's method for min f subject to c = 0, of order q = n + m,

    K = [[H + shift I, J'], [J, -dual_shift I]],                                                         (1)

factorised with the pivoting of Bunch and Kaufman, Math. Comp. 31 (1977): with p a permutation, M unit upper triangular
and D block diagonal with blocks of order 1 and 2,

    K[p][:, p] = M' D M,                                                                                 (2)

so that D has as many positive, negative and zero eigenvalues as K (Sylvester's law of inertia).

Kaczmarz' method takes one equation of A x = b at a time, and x to the nearest point that satisfies it,

    x <- x + (b_i - a_i'x) / |a_i|^2 a_i.                                                                (3)
"""

import numpy as np

from . import contract

MAX_ORDER = 128  # of K
ALPHA = (1 + np.sqrt(17)) / 8  # bounds the growth of entries, see Bunch and Kaufman


def _systems(rng, indefinite):
    """(H, J) of several shapes, J of full rank; H positive definite or not."""
    for batch, n, m in ((1, 1, 0), (3, 2, 1), (9, 10, 3), (2, 33, 5), (1, 5, 5), (0, 3, 1), (2, 100, 28)):
        half = rng.standard_normal((batch, n, n))
        H = half + half.transpose(0, 2, 1) if indefinite else half @ half.transpose(0, 2, 1) / n + np.eye(n)
        yield H, rng.standard_normal((batch, m, n))


def _room(H, J):
    batch, q = H.shape[0], H.shape[1] + J.shape[1]
    return np.full((batch, q, q), np.nan), np.full((batch, q), 7, np.int32), np.full((batch, 3), 7, np.int32)


def _factor_cases(rng, dtype):
    for indefinite in (False, True):
        for H, J in _systems(rng, indefinite):
            shift, dual = rng.uniform(0, 0.1, H.shape[0]), np.zeros(H.shape[0])
            if H.shape[0] == 9:
                H[0], H[1], J[2], J[3, 1] = 0.0, 1e-8 * H[1], 0.0, J[3, 0]  # the last two: of no full rank
                shift[2] = shift[3] = dual[4] = 1e-8
                H[5, 0, 0], J[6, 0, 0], shift[7] = np.nan, np.inf, np.nan  # the last of these: left alone
            yield (H, J, shift, dual, 1e-13, *_room(H, J))


@contract(
    cases=_factor_cases, writes=("factor", "order", "inertia"), rtol={"float32": 1e-8, "float64": 1e-8}
)
def kkt_factor(H, J, shift, dual_shift, zero, factor, order, inertia):
    """(2) of the matrices (1). H (batch, n, n), its upper part used; J (batch, m, n); shift, dual_shift (batch,).

    factor (batch, q, q): M above the diagonal, the diagonal of D on it, zero below; the entry (k, k + 1) is D's where
    that block is of order 2. order (batch, q) int32: p, as -1 - p in both rows of such a block. inertia (batch, 3)
    int32: how many eigenvalues of D are positive, negative, and at most `zero` times the largest entry of K. Systems
    whose shift is NaN are left alone; one with other entries that are not finite has NaN for a factor, p the identity
    and inertia (0, 0, q). q <= MAX_ORDER, all float64.
    """
    for s in range(H.shape[0]):
        if np.isnan(shift[s]):
            continue
        n, m = H.shape[1], J.shape[1]
        K = np.block([[np.triu(H[s]) + np.triu(H[s], 1).T + shift[s] * np.eye(n), J[s].T],
                      [J[s], -dual_shift[s] * np.eye(m)]])  # fmt: skip
        if not np.isfinite(K).all():
            factor[s], order[s], inertia[s] = np.nan, np.arange(n + m), (0, 0, n + m)
            continue
        factor[s], order[s], values = _bunch_kaufman(K)
        tiny = zero * abs(K).max(initial=0.0)
        positive, negative = (values > tiny).sum(), (values < -tiny).sum()
        inertia[s] = positive, negative, n + m - positive - negative


def _bunch_kaufman(K):
    """(factor, order, eigenvalues of D)"""
    q, k, S = K.shape[0], 0, K.copy()
    values: list[float] = []
    factor, order = np.zeros((q, q)), np.arange(q)
    while k < q:
        pivot, size = _pivot(abs(S[k:, k:]))
        if pivot:
            swap, back = [k + size - 1, k + pivot], [k + pivot, k + size - 1]
            S[swap], order[swap] = S[back], order[back]
            S[:, swap], factor[:k, swap] = S[:, back], factor[:k, back]
        block, rest = slice(k, k + size), slice(k + size, q)
        D = S[block, block]
        factor[block, block] = np.triu(D)
        if D.any():
            factor[block, rest] = np.linalg.solve(D, S[block, rest])
            S[rest, rest] -= S[rest, block] @ factor[block, rest]
        values.extend(np.linalg.eigvalsh(D))
        if size == 2:
            order[block] = -1 - order[block]
        k += size
    return factor, order, np.array(values)


def _pivot(A):
    """(what to swap with, order of the block) for the first place of a matrix, given the sizes of its entries."""
    here, column = A[0, 0], A[0, 1:]
    if not column.size or not here < ALPHA * column.max():
        return 0, 1
    far = 1 + int(column.argmax())
    most, beyond = column.max(), np.delete(A[far], far).max()
    if not here < ALPHA * most * (most / beyond):
        return 0, 1
    return (far, 1) if not A[far, far] < ALPHA * beyond else (far, 2)


def _solve_cases(rng, dtype):
    for indefinite in (False, True):
        for H, J in _systems(rng, indefinite):
            factor, order, inertia = _room(H, J)
            kkt_factor(H, J, np.zeros(H.shape[0]), np.zeros(H.shape[0]), 1e-13, factor, order, inertia)
            for s in (1, 3):
                yield factor, order, rng.standard_normal((H.shape[0], s, factor.shape[1]))


@contract(cases=_solve_cases, writes=("X",), rtol={"float32": 1e-8, "float64": 1e-8})
def kkt_solve(factor, order, X):
    """Each row x of X_k becomes K_k^-1 x, from what `kkt_factor` made; X (batch, s, q) float64."""
    for s in range(X.shape[0]):
        paired = order[s] < 0
        p = np.where(paired, -1 - order[s], order[s])
        first = np.flatnonzero(paired)[::2]
        D = np.diag(np.diag(factor[s]))
        D[first, first + 1] = D[first + 1, first] = factor[s][first, first + 1]
        M = np.triu(factor[s], 1) + np.eye(p.size)
        M[first, first + 1] = 0.0
        X[s][:, p] = np.linalg.solve(M, np.linalg.solve(D, np.linalg.solve(M.T, X[s][:, p].T))).T


def _kaczmarz_cases(rng, dtype):
    for batch, q, n, steps in ((1, 1, 1, 3), (3, 13, 13, 40), (1, 7, 300, 5), (2, 40, 40, 0), (1, 600, 600, 20)):
        A = rng.standard_normal((batch, q, n))
        A[:, q // 2] *= 1e-3
        if q > 5:
            A[:, 1] = 0.0
        rows = rng.integers(0, q, (batch, steps), dtype=np.int32)
        yield A, rng.standard_normal((batch, q)), (A**2).sum(2), rows, rng.standard_normal((batch, n))


@contract(cases=_kaczmarz_cases, writes=("x",), rtol={"float32": 1e-9, "float64": 1e-9})
def kaczmarz(A, b, squares, rows, x):
    """(3) for one row after another. A (batch, q, n), b and squares (batch, q), x (batch, n), all float64.

    squares are the |a_i|^2; rows (batch, steps) int32 says which rows, in order. Rows of zero length are passed over.
    """
    for s in range(A.shape[0]):
        for i in rows[s]:
            if squares[s, i] > 0:
                x[s] += (b[s, i] - A[s, i] @ x[s]) / squares[s, i] * A[s, i]
