"""Hessians in the forms that a user may hand over, and their weighted sum, the Hessian of a Lagrangian."""

from typing import Any

import numpy as np

from ..dispatch import kernels_for
from ..matrices import to_csr

STRETCH = 8192  # rows of X that are multiplied at a time


def is_sparse(matrix):
    """Whether this is a SciPy sparse matrix or array."""
    return hasattr(type(matrix), "nnz") and type(matrix).__module__.startswith("scipy.sparse")


def is_operator(matrix):
    """Whether this has a product with vectors and nothing else: a LinearOperator, or something like it."""
    return not isinstance(matrix, np.ndarray) and not is_sparse(matrix) and hasattr(matrix, "matvec")


class FactoredHessian:
    """The matrix X' diag(d) X + s I, kept as its factors, which lets a solver sample the rows of X.

    What `hess` may return for a sum over data points: of N losses l(x_i . w) it is
    ``FactoredHessian(X, second derivatives of l, regularisation)``.

    Parameters
    ----------
    X : array (N, n) or sparse matrix
        One row a data point.
    d : array (N,)
        Weights of the rows; not negative where the objective is convex.
    s : float
        Added to the diagonal.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> H = ntsolve.FactoredHessian(np.eye(2), np.array([1.0, 2.0]), s=1.0)
    >>> H @ np.ones(2)
    array([2., 3.])
    """

    def __init__(self, X, d, s=0.0) -> None:
        self.X: Any = to_csr("X", X) if is_sparse(X) else np.asarray(X)
        self.d = np.asarray(d, dtype=float)
        self.s = float(s)
        if self.X.ndim != 2 or self.X.dtype.kind not in "fiub":
            raise TypeError(f"X must be a real matrix (N, n), not {self.X.dtype} of shape {self.X.shape}")
        if self.X.dtype.name not in ("float32", "float64"):
            self.X = self.X.astype(float)
        if self.d.shape != self.X.shape[:1]:
            raise ValueError(f"d has shape {self.d.shape}, X has {self.X.shape[0]} rows")
        self.shape = (self.X.shape[1], self.X.shape[1])
        self.dtype = np.dtype("float64")

    def matvec(self, v) -> Any:
        """(X' diag(d) X + s I) v"""
        v = np.asarray(v)
        inner = ((self.X @ v.astype(self.X.dtype, copy=False)).T * self.d).T
        return np.asarray(self.X.T @ inner.astype(self.X.dtype, copy=False), dtype=float) + self.s * v

    __matmul__ = matvec

    def toarray(self) -> np.ndarray:
        """The matrix, formed: N n**2 multiplications."""
        if is_sparse(self.X):
            formed = self._formed_from_rows()
        elif (self.d >= 0).all():
            formed = np.zeros(self.shape)
            for low in range(0, self.d.size, STRETCH):
                rows = slice(low, low + STRETCH)
                formed += gram_of_rows(self.X[rows] * np.sqrt(self.d[rows, None]).astype(self.X.dtype))
        else:
            formed = np.asarray(self.X.T @ (self.X * self.d[:, None].astype(self.X.dtype)), dtype=float)
            formed = 0.5 * (formed + formed.T)
        formed.reshape(-1)[:: self.shape[0] + 1] += self.s
        return formed

    def _formed_from_rows(self):
        X, formed = self.X, np.empty(self.shape)
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        with kernels_for(X=X) as k:
            k.gram_csr(X.indptr, X.indices, X.data, self.d, formed)
        return formed


def gram_of_rows(Y):
    """Y'Y (n, n) in float64."""
    if Y.dtype == np.float32:
        from scipy.linalg.blas import ssyrk as syrk
    else:
        from scipy.linalg.blas import dsyrk as syrk
    half = np.asarray(syrk(1.0, Y.T, lower=1), dtype=float)
    return np.tril(half) + np.tril(half, -1).T


class Hessian:
    """A weighted sum of matrices of order n: H = sum_k weight_k part_k. Nothing is formed until it is asked for.

    Attributes
    ----------
    n : int
    parts : tuple of (weight, matrix)
        A matrix is a NumPy array, a SciPy sparse matrix, a `FactoredHessian`, or anything with a `matvec`.
    """

    def __init__(self, n, parts):
        self.n, self.parts = n, tuple((weight, part) for weight, part in parts if weight != 0)
        self._dense: Any = None

    @property
    def kind(self):
        """ "dense", "sparse", "factored" or "operator": the least structured of the parts decides."""
        kinds = [_kind(part) for _, part in self.parts]
        for kind in ("operator", "factored", "dense"):
            if kind in kinds:
                return kind
        return "sparse"

    @property
    def factored(self):
        """(weight, FactoredHessian) of the first such part, or None."""
        return next(((weight, part) for weight, part in self.parts if _kind(part) == "factored"), None)

    @property
    def rest(self):
        """The Hessian without `factored`."""
        found = self.factored
        return Hessian(self.n, [pair for pair in self.parts if found is None or pair[1] is not found[1]])

    def matvec(self, v):
        """H v"""
        if self._dense is not None:
            return self._dense @ v
        total = np.zeros(self.n)
        for weight, part in self.parts:
            total += weight * (part @ v if isinstance(part, np.ndarray) or is_sparse(part) else part.matvec(v))
        return total

    def dense(self):
        """(n, n), symmetric; an operator is asked for n products."""
        if self._dense is None:
            total = np.zeros((self.n, self.n))
            for weight, part in self.parts:
                total += weight * _formed(part, self.n)
            self._dense = 0.5 * (total + total.T)
        return self._dense

    def sparse(self):
        """As CSC; None where a part is an operator."""
        import scipy.sparse as sp

        total = sp.csc_array((self.n, self.n))
        for weight, part in self.parts:
            if _kind(part) == "operator":
                return None
            total = total + weight * sp.csc_array(part.toarray() if _kind(part) == "factored" else part)
        return (0.5 * (total + total.T)).tocsc()


def _kind(part):
    if isinstance(part, np.ndarray):
        return "dense"
    if is_sparse(part):
        return "sparse"
    return "factored" if isinstance(part, FactoredHessian) else "operator"


def _formed(part, n):
    if isinstance(part, np.ndarray):
        return part
    if hasattr(part, "toarray"):
        return part.toarray()
    return np.stack([part.matvec(unit) for unit in np.eye(n)], axis=1)
