"""The slice of cupyx.scipy.sparse that takes matrices in. It proves nothing of cuSPARSE."""

import numpy as np
import scipy.sparse

from . import functions, streams
from .array import EmuError, compute, host_of, ndarray


class spmatrix:
    """What isinstance asks for."""

    __module__ = "cupyx.scipy.sparse._base"

    def __init__(self, *args, **kwargs):
        raise EmuError("use csr_matrix, csc_matrix or coo_matrix")


class _Matrix(spmatrix):
    """A matrix as device arrays; what the formats share."""

    __module__ = "cupyx.scipy.sparse._base"
    __array_priority__ = 101
    format = ""

    shape = property(lambda self: self._shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: 2)
    nnz = property(lambda self: self.data.size)
    device = property(lambda self: self.data.device)
    T = property(lambda self: self.transpose())

    def get(self, stream=None):
        """The scipy.sparse matrix with the same content."""
        streams.host_waits(
            stream or streams.current(), "get", [a._block for a in self._arrays() if a._block is not None]
        )
        return self._host(copy=True)

    def _operands(self) -> list[ndarray]:
        return list(self._arrays())

    def toarray(self, order=None, out=None):
        return compute("toarray", lambda: self._host().toarray(), self._operands())

    def diagonal(self, k=0):
        return compute("diagonal", lambda: self._host().diagonal(k), self._operands())

    def astype(self, t):
        return type(self)(
            (self.data.astype(t), *self._arrays()[1:])
            if self.format != "coo"
            else (self.data.astype(t), (self.row, self.col)),
            shape=self.shape,
        )

    def dot(self, other):
        return self @ other

    def __matmul__(self, other):
        if not isinstance(other, ndarray):
            if isinstance(other, spmatrix):
                raise EmuError("sparse times sparse is not emulated")
            raise TypeError(f"Unsupported type {type(other)}")
        if other.ndim not in (1, 2) or other.shape[0] != self.shape[1]:
            raise ValueError("dimension mismatch")
        h = host_of(other)
        return compute("a sparse product", lambda: self._host() @ h, [*self._operands(), other])

    def tocsr(self, copy=False):
        return self._to("csr", copy)

    def tocsc(self, copy=False):
        return self._to("csc", copy)

    def tocoo(self, copy=False):
        return self._to("coo", copy)

    def copy(self):
        return _of(self._host(copy=True))

    def transpose(self):
        return _of(self._host().T.asformat({"csr": "csc", "csc": "csr", "coo": "coo"}[self.format]))

    def _to(self, fmt, copy):
        return self if self.format == fmt and not copy else _of(self._host().asformat(fmt))

    def __len__(self):
        raise TypeError("sparse matrix length is ambiguous; use getnnz()")

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


def _of(host):
    return {"csr": csr_matrix, "csc": csc_matrix, "coo": coo_matrix}[host.format](host)


class _Compressed(_Matrix):
    def __init__(self, arg1, shape=None, dtype=None, copy=False):
        if scipy.sparse.issparse(arg1):
            h = arg1.asformat(self.format)
            if not h.has_canonical_format:
                h = h.copy()
                h.sum_duplicates()
            parts = [
                np.asarray(h.data, _data_dtype(dtype or h.dtype)),
                h.indices.astype(np.int32),
                h.indptr.astype(np.int32),
            ]
            self.data, self.indices, self.indptr = (functions.array_(p) for p in parts)
            self._shape = tuple(int(n) for n in h.shape)
        elif isinstance(arg1, spmatrix):
            same = arg1._to(self.format, copy)
            self.data, self.indices, self.indptr, self._shape = same.data, same.indices, same.indptr, same.shape
            if dtype is not None:
                self.data = self.data.astype(_data_dtype(dtype), copy=False)
        elif isinstance(arg1, ndarray) and arg1.ndim == 2:
            self.__init__(scipy.sparse.csr_matrix(arg1.get()).asformat(self.format), dtype=dtype)
        elif isinstance(arg1, tuple) and len(arg1) == 3:
            for part in arg1:
                if not isinstance(part, ndarray):
                    raise ValueError(f"data, indices and indptr must be cupy.ndarray, not {type(part)}")
            if shape is None:
                raise EmuError("without shape= CuPy waits for the device to find it out")
            self.data, self.indices, self.indptr = arg1
            if dtype is not None:
                self.data = self.data.astype(_data_dtype(dtype), copy=False)
            _data_dtype(self.data.dtype)
            self.indices, self.indptr = (a.astype(np.int32, copy=False) for a in (self.indices, self.indptr))
            self._shape = tuple(int(n) for n in shape)
            if self.indptr.size != self._shape[self.format == "csc"] + 1:
                raise ValueError("index pointer size does not match the shape")
        else:
            raise ValueError("Unsupported initializer format")

    def _arrays(self):
        return self.data, self.indices, self.indptr

    def _host(self, copy=False):
        kind = scipy.sparse.csr_matrix if self.format == "csr" else scipy.sparse.csc_matrix
        return kind(tuple(a._h for a in self._arrays()), shape=self.shape, copy=copy)


class csr_matrix(_Compressed):
    __module__ = "cupyx.scipy.sparse._csr"
    format = "csr"


class csc_matrix(_Compressed):
    __module__ = "cupyx.scipy.sparse._csc"
    format = "csc"


class coo_matrix(_Matrix):
    __module__ = "cupyx.scipy.sparse._coo"
    format = "coo"

    def __init__(self, arg1, shape=None, dtype=None, copy=False):
        if scipy.sparse.issparse(arg1):
            h = arg1.tocoo()
            self.data = functions.array_(np.asarray(h.data, _data_dtype(dtype or h.dtype)))
            self.row, self.col = functions.array_(h.row.astype(np.int32)), functions.array_(h.col.astype(np.int32))
            self._shape = tuple(int(n) for n in h.shape)
        elif isinstance(arg1, tuple) and len(arg1) == 2 and shape is not None:
            self.data, (self.row, self.col) = arg1
            for part in self._arrays():
                if not isinstance(part, ndarray):
                    raise ValueError(f"data, row and col must be cupy.ndarray, not {type(part)}")
            self._shape = tuple(int(n) for n in shape)
        else:
            raise ValueError("Unsupported initializer format")

    def _arrays(self):
        return self.data, self.row, self.col

    def _host(self, copy=False):
        return scipy.sparse.coo_matrix((self.data._h, (self.row._h, self.col._h)), shape=self.shape, copy=copy)


def _data_dtype(dtype) -> np.dtype:
    dt = np.dtype(dtype)
    if dt.char not in "?fdFD":
        raise ValueError("Only bool, float32, float64, complex64 and complex128 are supported")
    return dt


def issparse(x) -> bool:
    return isinstance(x, spmatrix)


isspmatrix = issparse


def isspmatrix_csr(x) -> bool:
    return isinstance(x, csr_matrix)


class LinearOperator:
    """As cupyx.scipy.sparse.linalg.LinearOperator: something with matvec, shape and dtype."""

    __module__ = "cupyx.scipy.sparse.linalg._interface"
    ndim = 2

    def __init__(self, shape, matvec, rmatvec=None, matmat=None, dtype=None, rmatmat=None):
        self.shape, self.dtype = tuple(int(n) for n in shape), None if dtype is None else np.dtype(dtype)
        self._matvec_function, self._rmatvec_function = matvec, rmatvec

    def matvec(self, x):
        if x.shape not in ((self.shape[1],), (self.shape[1], 1)):
            raise ValueError("dimension mismatch")
        return self._matvec_function(x).reshape((self.shape[0],) if x.ndim == 1 else (self.shape[0], 1))

    def rmatvec(self, x):
        if self._rmatvec_function is None:
            raise NotImplementedError("rmatvec is not defined")
        if x.shape not in ((self.shape[0],), (self.shape[0], 1)):
            raise ValueError("dimension mismatch")
        return self._rmatvec_function(x).reshape((self.shape[1],) if x.ndim == 1 else (self.shape[1], 1))

    def __matmul__(self, x):
        return self.matvec(x)


def aslinearoperator(A):
    if isinstance(A, LinearOperator):
        return A
    if isinstance(A, (ndarray, spmatrix)):
        return LinearOperator(A.shape, lambda x: A @ x, lambda x: A.T @ x, dtype=A.dtype)
    raise TypeError("type not understood")
