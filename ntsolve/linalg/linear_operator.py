"""What `as_linear_operator` returns, and how what holds kernels is pickled."""

import importlib
from typing import Any


def linear_operator(of, backend, *, dtype=None, symmetric=True):
    """`of`, which has `shape`, `dtype` and `matvec` on (..., N), as SciPy's (CuPy's) LinearOperator.

    Raises
    ------
    TypeError
        For a batch.
    """
    if len(of.shape) > 2:
        raise TypeError("a batch is no single linear operator; take one of them, that of A[i]")
    if backend == "cpu":
        from scipy.sparse.linalg import LinearOperator
    else:
        from cupyx.scipy.sparse.linalg import LinearOperator

    def vector(x):
        return of.matvec(x.reshape(-1))

    def columns(X):  # the axes of one keep (N, k) apart from what has the shape of a grid
        return of.matvec(X.T.copy()[:, None, None, :])[:, 0, 0].T

    transposed = {"rmatvec": vector, "rmatmat": columns} if symmetric and backend == "cpu" else {}
    return LinearOperator(of.shape, matvec=vector, matmat=columns, dtype=dtype or of.dtype, **transposed)


class WithKernels:
    """Pickles with the name of the kernels `k` in place of the module."""

    k: Any

    def __getstate__(self):
        return {**self.__dict__, "k": self.k.NAME}

    def __setstate__(self, state):
        self.__dict__.update(state, k=importlib.import_module(f"ntsolve.kernels.{state['k']}"))
