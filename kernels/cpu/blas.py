"""BLAS and LAPACK on row-major float64 arrays, in place and without copies.

A row-major matrix is the transpose of the column-major one in the same memory: what these libraries call the upper
triangle is our lower one. They run with their own threads, whose number is not ours to change.
"""

from scipy.linalg.blas import dgemm, dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf, dpotrs


def add_row_products(rows, A):
    """The lower triangle of A += rows rows'; rows (q, n), A (q, q)."""
    dsyrk(1.0, rows.T, beta=1.0, c=A.T, trans=1, lower=0, overwrite_c=1)


def add_column_products(rows, A):
    """The lower triangle of A += rows' rows; rows (n, q), A (q, q)."""
    dsyrk(1.0, rows.T, beta=1.0, c=A.T, trans=0, lower=0, overwrite_c=1)


def solve_lower(L, B):
    """B becomes L^-1 B; L (q, q) lower, B (q, n)."""
    dtrsm(1.0, L.T, B.T, side=1, lower=0, overwrite_b=1)


def solve_rows(L, X):
    """Each row x of X becomes L^-1 x; L (q, q) lower, X (s, q)."""
    dtrsm(1.0, L.T, X.T, lower=0, trans_a=1, overwrite_b=1)


def row_products(X, Y):
    """X Y', a new array; X (s, q), Y (t, q)."""
    return dgemm(1.0, Y.T, X.T, trans_a=1).T


def factor(L):
    """The lower triangle of L becomes the factor of the matrix in it; True where that is positive definite."""
    return dpotrf(L.T, lower=0, clean=0, overwrite_a=1)[1] == 0


def solve(L, X):
    """Each row x of X becomes (L L')^-1 x; L (q, q) lower, X (s, q)."""
    dpotrs(L.T, X.T, lower=0, overwrite_b=1)
