"""Triangular factors of small symmetric matrices, and how they follow a sliding window.

A matrix A = L L' of products between the last q items, in the order of their age. To drop an item is to leave out its
row and column,

    A = [A11  .  A13']        L = [L11          ]
        [ .   .   .  ]            [ .    .      ]
        [A31  .  A33 ]            [L31   l   L33],    A33 - L31 L31' = L33 L33' + l l',                  (1)

so that what is below gets a rank-one update with a plus sign, which plane rotations do stably (never a downdate); to
append one is a forward substitution (Golub and Van Loan, Matrix Computations, 4th ed., sections 6.5.3-4):

    L y = a,   new row (y', sqrt(corner - y'y)).                                                         (2)
"""

import numpy as np

from . import contract


def _positive(rng, shapes, small):
    for blocks, q in shapes:
        half = rng.standard_normal((blocks, q, q)) * np.geomspace(1, small, q)[:, None] / np.sqrt(max(1, q))
        yield half @ half.transpose(0, 2, 1)


_SHAPES = ((1, 1), (7, 3), (1, 33), (3, 32), (0, 4), (2, 0), (2, 65), (1, 150))


def _cholesky_cases(rng, dtype):
    for small in (1.0, 1e-4):
        for A in _positive(rng, _SHAPES, small):
            yield A, 0.1 * small**2, np.full_like(A, np.nan), np.full(A.shape[0], 7, np.int32)
    A = np.broadcast_to(np.eye(40), (6, 40, 40)).copy()
    A[0] *= 1e-200
    A[1, 20, 20] = -1.0
    A[2, 3, 3] = np.nan
    A[3, 5, 4] = A[3, 4, 5] = 2.0
    A[5] = 0.0
    yield A, 0.0, np.full_like(A, np.nan), np.full(6, 7, np.int32)
    yield A, 1.5, np.full_like(A, np.nan), np.full(6, 7, np.int32)
    yield A[5:], 0.0, np.full_like(A[5:], np.nan), np.full(1, 7, np.int32)


@contract(cases=_cholesky_cases, writes=("L", "info"), rtol={"float32": 1e-11, "float64": 1e-11})
def cholesky(A, shift, L, info):
    """L_k L_k' = A_k + shift I; A, L (blocks, q, q) float64, of L the strictly upper part zero.

    info (blocks,) int32 is 0; or 1 where that matrix is not positive definite in float64, and all of L_k NaN.
    """
    for k in range(A.shape[0]):
        try:
            L[k] = np.linalg.cholesky(A[k] + shift * np.eye(A.shape[1]))
        except np.linalg.LinAlgError:
            L[k] = np.nan
        info[k] = np.isnan(L[k]).any()
        if info[k]:
            L[k] = np.nan


def _factors(rng, shapes):
    for A in _positive(rng, shapes, 0.1):
        yield np.linalg.cholesky(A + 0.1 * np.eye(A.shape[1]))


def _cholesky_solve_cases(rng, dtype):
    for L in _factors(rng, (*_SHAPES, (1, 300))):
        for s in (0, 1, 2, 17):
            yield L, rng.standard_normal((L.shape[0], s, L.shape[1]))


@contract(cases=_cholesky_solve_cases, writes=("X",), rtol={"float32": 1e-11, "float64": 1e-11})
def cholesky_solve(L, X):
    """Each row x of X_k becomes the y of L_k L_k' y = x; L (blocks, q, q) lower, X (blocks, s, q), float64."""
    for k in range(L.shape[0]):
        X[k] = np.linalg.solve(L[k].T, np.linalg.solve(L[k], X[k].T)).T


def shift_workspace(q: int) -> tuple[int, int]:
    """Shape of the float64 scratch of `shift_factor`."""
    return 3, q


def _shift_cases(rng, dtype):
    for q in (1, 2, 9, 33, 65, 150, 300):
        for A in _positive(rng, ((1, q + 1),), 0.03):
            A = A[0] + 0.01 * np.eye(q + 1)
            for drop in dict.fromkeys((0, q // 3, q - 1)):
                kept = [i for i in range(q) if i != drop]
                for corner in (A[q, q], 0.0) if q < 150 else (A[q, q],):  # 0 is not positive
                    yield (np.linalg.cholesky(A[:q, :q]), drop, A[q, kept], corner, np.full(shift_workspace(q), np.nan),
                           np.full(1, 7, np.int32))  # fmt: skip


@contract(cases=_shift_cases, writes=("L", "info"), scratch=("work",), rtol={"float32": 1e-11, "float64": 1e-11})
def shift_factor(L, drop, row, corner, work, info):
    """(1) and (2): the factor of L L' without row and column `drop`, and with a new last one; in place, in O(q^2).

    L (q, q) float64, lower, the strictly upper part zero; row (q-1,) the new entries left of the diagonal, in the order
    of those that stay, corner the new one on it. info (1,) int32 is 0; or 1 where the new matrix is not positive
    definite, and the last entry of L NaN.
    """
    q = L.shape[0]
    kept = np.delete(L @ L.T, drop, 0)
    M = np.linalg.cholesky(np.delete(kept, drop, 1))
    y = np.linalg.solve(M, row)
    L[: q - 1, : q - 1] = M
    L[: q - 1, q - 1], L[q - 1, : q - 1] = 0.0, y
    left = corner - y @ y
    info[0] = not left > 0
    L[q - 1, q - 1] = np.nan if info[0] else np.sqrt(left)
