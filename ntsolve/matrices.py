"""A matrix as a caller passes it: an array, a sparse matrix of SciPy's or CuPy's, or anything that multiplies."""

import numpy as np

from . import validate
from .dispatch import home


def take(name, value):
    """What a caller passed, as an array that a backend knows; operators and None as they are."""
    if value is None or _is_operator(name, value):
        return value
    return validate.own_kind(name, value)[0]


def is_sparse(A):
    return type(A).__module__.startswith(("scipy.sparse.", "cupyx.scipy.sparse.")) and hasattr(type(A), "nnz")


def _is_operator(name, A):
    """Neither an array nor something to make an array of."""
    if home(A) is not None and not is_sparse(A):
        return False
    if isinstance(A, (str, bytes, dict)) and not is_sparse(A):  # SciPy's dok_array is a dict
        raise TypeError(f"{name} is not a matrix but {type(A).__name__}")
    array_like = hasattr(A, "__dlpack__") or hasattr(A, "__array__")
    return is_sparse(A) or not (array_like or isinstance(A, (list, tuple, int, float, complex)))


def working(name, dtype):
    """The dtype that numbers of `dtype` are computed in."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "biufc":
        raise TypeError(f"{name} has dtype {dtype}, which is not one of numbers")
    if dtype.kind in "biu":
        return np.dtype("float64")
    return np.dtype("float32") if dtype == np.float16 else dtype


def product_of(name, A):
    if hasattr(A, "matvec"):
        return A.matvec
    if hasattr(A, "__matmul__"):
        return A.__matmul__
    if callable(A):
        return A
    raise TypeError(f"{name} must be an array, a sparse matrix, a LinearOperator, an object with @, or callable, "
                    f"not {type(A).__name__}")  # fmt: skip


def to_csr(name, A):
    """A in CSR. One whose parts do not fit together is refused before any code trusts it."""
    validate.sparse_parts(name, A)
    try:
        A, form = A.tocsr(), A.format
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be brought into CSR: {error}") from error
    if form in ("lil", "dok"):  # cheaper to look at afterwards
        validate.sparse_parts(name, A)
    return A


def in_csr(name, A, check):
    """A in CSR, in a dtype to compute in."""
    if A.ndim != 2:
        raise ValueError(f"{name} must be a matrix, not a sparse array with {A.ndim} axes")
    A = to_csr(name, A)
    data = validate.numeric(f"{name}.data", A.data, check=check)
    return A if data is A.data else type(A)((data, A.indices, A.indptr), shape=A.shape)
