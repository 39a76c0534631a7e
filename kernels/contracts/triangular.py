"""Preconditioners that are products of sparse triangles: incomplete Cholesky and symmetric successive over-relaxation.

Both approximate a symmetric A = N + diag(A) + N' by

    B = (D + S) D^-1 (D + S'),    S strictly lower triangular where A is, D diagonal and positive,                (1)

which is positive definite whatever S is. IC(0) has the S and D with which B is A at every entry of A (Meijerink and
van der Vorst, Math. Comp. 31 (1977)), in the form without square roots:

    s_ij = a_ij - sum_{m<j} s_im s_jm / d_m,    d_i = a_ii - sum_{m<i} s_im^2 / d_m.                              (2)

SSOR has S = N and D = diag(A) / omega, and B / (2 - omega) in place of B. A row waits for those of its neighbours that
come before it; rows that wait for as many in turn make a level, have no entry in common, and can be done together.

The matrices are in CSR with the pattern of A, sorted, the diagonal there; `place` says where in a row it is.
"""

import numpy as np
import scipy.sparse as sp

from . import contract

PIVOT = 1e-8  # of a_ii: d_i below this is a breakdown


def _patterns(rng, dtype):
    """(indptr, indices, place, A): diagonally dominant, of few and of many levels, both index types, empty."""
    chain = sp.diags_array([-1.0, -1.0], offsets=[-1, 1], shape=(70, 70))
    shapes = [(1, 0.0), (2, 1.0), (33, 0.1), (60, 0.3), (700, 0.003), (4200, 2e-7), (0, 0.0)]
    drawn = [sp.random_array((n, n), density=density, rng=rng) for n, density in shapes]
    for at, half in enumerate([chain, *drawn]):
        n = half.shape[0]
        both = sp.csr_array(half + half.T)
        both.setdiag(0)
        both.eliminate_zeros()
        A = sp.csr_array(both + sp.diags_array(1.0 + abs(both).sum(1)) if n else both)
        A.sort_indices()
        index = (np.int32, np.int64)[at % 2]
        rows = np.repeat(np.arange(n), np.diff(A.indptr))
        place = np.flatnonzero(A.indices == rows).astype(index)
        yield A.indptr.astype(index), A.indices.astype(index), place, A.astype(dtype)


def _level_cases(rng, dtype):
    for indptr, indices, place, A in _patterns(rng, dtype):
        yield indptr, indices, place, np.full(A.shape[0], 7, np.int32)


@contract(cases=_level_cases, writes=("level",))
def row_levels(indptr, indices, place, level):
    """level_i = 1 + the largest level of a neighbour before i, or 0 without one; (n,) int32."""
    for i in range(level.size):
        before = indices[indptr[i] : place[i]]
        level[i] = 1 + level[before].max() if before.size else 0


def _factor_cases(rng, dtype):
    for indptr, indices, place, A in _patterns(rng, dtype):
        n = A.shape[0]
        bad = A.data.copy()
        bad[place[n // 2 :]] *= dtype.type(-0.1)
        for data in (A.data, bad):
            for shift in (0.0, 0.25):
                yield indptr, indices, place, data, shift, np.full_like(data, np.nan), np.full(1, 7, np.int64)


@contract(cases=_factor_cases, writes=("factor", "broke"), rtol={"float32": 1e-5, "float64": 1e-12})
def ic0_factor(indptr, indices, place, data, shift, factor, broke):
    """(2) of A + shift diag(A); factor (nnz,): S below the diagonal, D on it, S' above it.

    broke (1,) int64: -1, or the first row with d_i <= PIVOT a_ii; then factor is zero.
    """
    n, broke[0], factor[:] = place.size, -1, 0
    S: list[dict[int, float]] = [{} for _ in range(n)]
    d = np.zeros(n)
    for i in range(n):
        for at in range(indptr[i], place[i]):
            j = indices[at]
            S[i][j] = float(data[at]) - sum(S[i][m] * v / d[m] for m, v in S[j].items() if m in S[i])
        pivot = float(data[place[i]]) * (1 + shift)
        d[i] = pivot - sum(v * v / d[m] for m, v in S[i].items())
        if not (d[i] > PIVOT * pivot and np.isfinite(d[i])):
            broke[0] = i
            return
    for i in range(n):
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            factor[at] = d[i] if i == j else S[max(i, j)][min(i, j)]


def levels_in_order(level):
    """(order, level_ptr): rows by level, and where in that order each level begins; int32."""
    order = np.argsort(level, kind="stable").astype(np.int32)
    return order, np.concatenate([[0], np.cumsum(np.bincount(level))]).astype(np.int32)


def _sweep_cases(rng, dtype):
    for indptr, indices, place, A in _patterns(rng, dtype):
        level = np.zeros(A.shape[0], np.int32)
        row_levels(indptr, indices, place, level)
        dinv = (1.5 / A.diagonal()).astype(dtype)
        for batch in (1, 3):
            r = rng.standard_normal((batch, A.shape[0])).astype(dtype)
            yield indptr, indices, place, A.data, dinv, 0.5, *levels_in_order(level), r, np.full_like(r, np.nan)


@contract(cases=_sweep_cases, writes=("z",), rtol={"float32": 1e-5, "float64": 1e-12})
def two_sweeps(indptr, indices, place, data, dinv, scale, order, level_ptr, r, z):
    """z = scale B^-1 r of (1), forward and back; r, z (batch, n). S is what data has below the diagonal, S' above it.

    dinv (n,) is D^-1; the diagonal of data is not looked at. order (n,), level_ptr (levels + 1,) int32: the rows by
    level, see `levels_in_order`; from the last to the first they serve the way back.
    """
    n, data, dinv, y = place.size, data.astype(float), dinv.astype(float), r.astype(float)
    for i in range(n):
        before = slice(indptr[i], place[i])
        y[:, i] = (y[:, i] - y[:, indices[before]] @ data[before]) * dinv[i]
    for i in reversed(range(n)):
        after = slice(place[i] + 1, indptr[i + 1])
        y[:, i] = scale * y[:, i] - dinv[i] * (y[:, indices[after]] @ data[after])
    z[:] = y
