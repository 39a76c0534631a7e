"""Problems that benches share, made with NumPy and SciPy or, where `xp` and `sparse` say so, with CuPy on the GPU."""

import numpy as np
import scipy.sparse


def poisson(n, xp=np, sparse=scipy.sparse):
    """The 5-point Laplacian of an n x n grid with Dirichlet boundaries, as CSR with int32 indices."""
    cell = xp.arange(n * n, dtype="int32")
    row, column = cell // n, cell % n
    there = xp.stack([row > 0, column > 0, row >= 0, column < n - 1, row < n - 1], axis=1)
    indices = (cell[:, None] + xp.array([-n, -1, 0, 1, n], dtype="int32"))[there]
    data = (xp.zeros((n * n, 1)) + xp.array([-1.0, -1.0, 4.0, -1.0, -1.0]))[there]
    indptr = xp.zeros(n * n + 1, dtype="int32")
    indptr[1:] = xp.cumsum(there.sum(axis=1))
    return sparse.csr_matrix((data, indices, indptr), shape=(n * n, n * n))


def dense_spd(count, n, rng, xp=np):
    """`count` dense SPD matrices of order n (Wishart plus the identity: condition about 5) and right-hand sides."""
    half = rng.standard_normal((count, n, n))
    A = half @ half.transpose(0, 2, 1) / n
    A += xp.eye(n)
    return A, rng.standard_normal((count, n))


def relative_residual(A, b, x):
    """||b - A x|| / ||b||, by the library of the arrays; for batches the largest."""
    product = A @ x if x.ndim == 1 else (A @ x[..., None])[..., 0]
    r = b - product
    return float(((r * r).sum(-1) ** 0.5 / (b * b).sum(-1) ** 0.5).max())
