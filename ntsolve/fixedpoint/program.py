"""A linear program in the one form that everything here works on.

min c'x + offset  subject to  row_lower <= A x <= row_upper,  lower <= x <= upper                       (1)

With y_i the multiplier of row i and z = c - A'y, the dual objective is the sum over rows and columns of
y_i row_lower_i or y_i row_upper_i, and z_j lower_j or z_j upper_j, by the sign of y_i and z_j; a y or z on the side
of an infinite bound must be zero.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import validate


@dataclass(frozen=True)
class Program:
    """(1), or a batch of them with one pattern of A, which is in CSR with sorted columns and no duplicates.

    Attributes
    ----------
    c, lower, upper : array (..., n)
        float64, as all of them; bounds may be infinite.
    row_lower, row_upper : array (..., m)
    indptr, indices : array (m + 1,), (nnz,)
        int32
    data : array (..., nnz)
    offset : float
        Constant of the objective.
    """

    c: Any
    lower: Any
    upper: Any
    row_lower: Any
    row_upper: Any
    indptr: Any
    indices: Any
    data: Any
    offset: float = 0.0

    @property
    def n(self):
        return self.c.shape[-1]

    @property
    def m(self):
        return self.indptr.size - 1

    @property
    def nnz(self):
        return self.indices.size

    @property
    def shape(self):
        """Of the batch, () for one program."""
        return self.c.shape[:-1]

    @property
    def single(self):
        return self.c.ndim == 1

    @cached_property
    def turned(self):
        """`transpose` of the pattern, of a program on the host."""
        return transpose(self.indptr, self.indices, self.n)

    def matrix(self):
        """A of a single program on the host, for SciPy."""
        from scipy.sparse import csr_array

        return csr_array((self.data, self.indices, self.indptr), shape=(self.m, self.n))

    @classmethod
    def from_matrix(cls, c, A, row_lower, row_upper, lower, upper, offset=0.0):
        """A single program on the host from a sparse matrix of SciPy's, or an array (m, n)."""
        indptr, indices, data = csr_parts(A)
        vectors = {"c": c, "lower": lower, "upper": upper, "row_lower": row_lower, "row_upper": row_upper}
        parts: dict[str, Any] = {name: np.ascontiguousarray(v, dtype=float) for name, v in vectors.items()}
        return cls(**parts, indptr=indptr, indices=indices, data=data, offset=float(offset))


def csr_parts(A, *, name="A", zeros=False):
    """(indptr, indices, data) of a matrix of SciPy's or an array: sorted, without duplicates, and without zeros unless
    `zeros`; int32 and float64."""
    from scipy.sparse import csr_array

    A = csr_array(A, dtype=float, copy=True)
    A.sum_duplicates()
    if not zeros:
        A.eliminate_zeros()
    if max(A.nnz, *A.shape) > np.iinfo(np.int32).max:
        raise ValueError(f"{name} has {A.nnz} entries, more than 2**31 - 1")
    data = validate.numeric(name, A.data)
    return A.indptr.astype(np.int32), A.indices.astype(np.int32), np.ascontiguousarray(data)


def transpose(indptr, indices, n):
    """(indptr, indices, permutation) of the transposed pattern on the host: its data are data[..., permutation]."""
    from scipy.sparse import csr_array

    numbers = np.arange(indices.size, dtype=np.int32)
    turned = csr_array((numbers, indices, indptr), shape=(indptr.size - 1, n)).tocsc()
    return turned.indptr.astype(np.int32), turned.indices.astype(np.int32), turned.data
