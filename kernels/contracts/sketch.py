"""Sketches S X of a tall matrix X, of which (S X)'(S X) is X'X on average; X' diag(d) X, and its products.

Row sampling keeps some rows, CountSketch adds each row to one of few (Clarkson and Woodruff, J. ACM 63 (2017)), and the
subsampled randomised Hadamard transform mixes all rows before it keeps some (Ailon and Chazelle, SIAM J. Comput. 39
(2009)). Which rows, and with what weights and signs, is decided by the caller.
"""

import numpy as np
import scipy.sparse as sp

from . import contract

GRAM_ROWS = 256
"""Rows of X that a partial sum of `gram_matvec` covers."""


def _matrices(rng, dtype):
    for N, n in ((1, 1), (40, 7), (300, 40), (7, 300), (600, 33)):
        yield rng.standard_normal((N, n)).astype(dtype)


def _sample_cases(rng, dtype):
    for X in _matrices(rng, dtype):
        for k in (0, 1, 50):
            rows = rng.integers(0, X.shape[0], k)
            yield X, rows, rng.standard_normal(k), np.full((k, X.shape[1]), np.nan, dtype)


@contract(cases=_sample_cases, writes=("Y",))
def sample_rows(X, rows, weights, Y):
    """Y[t] = weights[t] X[rows[t]]; X (N, n), rows (k,) int64, weights (k,) float64, Y (k, n) of X's dtype."""
    Y[:] = weights[:, None] * X[rows]


def _bucket_cases(rng, dtype):
    for X in _matrices(rng, dtype):
        for k in (1, 3, 80):
            bucket = rng.integers(0, k, X.shape[0])
            start = np.searchsorted(np.sort(bucket), np.arange(k + 1))
            yield (X, start, np.argsort(bucket, kind="stable"), rng.standard_normal(X.shape[0]),
                   np.full((k, X.shape[1]), np.nan, dtype))  # fmt: skip


@contract(cases=_bucket_cases, writes=("Y",))
def sum_buckets(X, start, rows, weights, Y):
    """Y[b] = sum of weights[i] X[i] over i in rows[start[b] : start[b + 1]].

    X (N, n); start (k + 1,) int64; rows int64, the rows of X bucket by bucket; weights (N,) float64; Y (k, n).
    """
    for b in range(Y.shape[0]):
        chosen = rows[start[b] : start[b + 1]]
        Y[b] = (weights[chosen, None] * X[chosen]).sum(0)


def _hadamard_cases(rng, dtype):
    for N, n in ((1, 3), (2, 1), (4, 5), (8, 40), (16, 300), (256, 33), (1024, 3)):
        yield (rng.standard_normal((N, n)).astype(dtype),)


@contract(cases=_hadamard_cases, writes=("A",))
def hadamard(A):
    """A becomes H A, with H the Hadamard matrix of order N over sqrt(N), which is orthogonal; A (N, n), N = 2^p."""
    H = np.ones((1, 1))
    while H.shape[0] < A.shape[0]:
        H = np.block([[H, H], [H, -H]]) / np.sqrt(2)
    A[:] = H @ A.astype(float)


def gram_workspace(N: int, n: int) -> tuple[int, int]:
    """Shape of the float64 scratch of `gram_matvec`."""
    return max(1, -(-N // GRAM_ROWS)), n


def _gram_cases(rng, dtype):
    for X in (*_matrices(rng, dtype), np.zeros((0, 4), dtype)):
        N, n = X.shape
        room = np.full(n, np.nan), np.full(gram_workspace(N, n), np.nan)
        yield X, rng.standard_normal(N), rng.standard_normal(n), *room


@contract(cases=_gram_cases, writes=("y",), scratch=("work",), rtol={"float32": 1e-11, "float64": 1e-11})
def gram_matvec(X, d, v, y, work):
    """y = X' diag(d) X v in one pass over X; X (N, n), d (N,), v and y (n,) float64, work of `gram_workspace`."""
    y[:] = X.astype(float).T @ (d * (X.astype(float) @ v))


def _gram_csr_cases(rng, dtype):
    for N, n, density in ((1, 1, 1.0), (40, 7, 0.3), (300, 70, 0.1), (20, 150, 0.4), (0, 3, 0.0), (90, 40, 0.0)):
        X = sp.csr_array(sp.random_array((N, n), density=density, rng=rng), dtype=dtype)
        for index in (np.int32, np.int64):
            room = np.full((n, n), np.nan)
            yield X.indptr.astype(index), X.indices.astype(index), X.data, rng.standard_normal(N), room


@contract(cases=_gram_csr_cases, writes=("G",), rtol={"float32": 1e-11, "float64": 1e-11})
def gram_csr(indptr, indices, data, d, G):
    """G = X' diag(d) X for X in CSR, columns ascending in each row; d (N,), G (n, n) float64."""
    X = sp.csr_array((data.astype(float), indices, indptr), shape=(d.size, G.shape[0])).toarray()
    G[:] = X.T @ (d[:, None] * X)
