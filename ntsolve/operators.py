"""Dense, CSR, LinearOperator, `@` or callable: one thing with matvec, shape and dtype, acting on rows.

Vectors are (batch, n), one system a row. A complex Hermitian system of order n is solved as a real symmetric one of
order 2n on the same memory (real and imaginary parts in turn): (p, Ap) and (r, Mr) are the real dots of those views.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import validate
from .dispatch import home, kernels_for
from .kernels.contracts import workspace_shape
from .matrices import in_csr, is_sparse, product_of, take, working
from .reductions import SERIAL


class Operator:
    """A square matrix of order n, or a stack of them, on vectors (batch, n) of one dtype."""

    capturable = True  # its matvec launches kernels and does nothing else
    fixed = False  # as a preconditioner: known to be one symmetric positive definite matrix
    carry = 1.0  # 0 where another process counts what is known of the whole, see `Reductions`

    def __init__(self, k, n, dtype):
        self.k, self.n, self.dtype = k, n, np.dtype(dtype)

    def matvec(self, x, y):
        """y = A x"""
        raise NotImplementedError

    def matvec_dot(self, p, q, pq, work):
        """q = A p and pq = p.q"""
        self.matvec(p, q)
        self.k.dot(p, q, pq, work)

    def residual(self, b, x, r):
        """r = b - A x"""
        self.matvec(x, r)
        with np.errstate(invalid="ignore"):  # seen in its norm
            r *= -1
            r += b

    def residual_norms(self, b, x):
        """||b - A x||_2 of each row, (batch,) float64."""
        r = self.k.xp.empty_like(b)
        self.residual(b, x, r)
        return norms(self.k, r)

    def restart(self):
        """What comes from here on is a new sequence of vectors: for a preconditioner that remembers the last one."""

    def steps_kernel(self):
        """The kernel that does a block of CG iterations in one call, with its matrix; None where A is not small."""
        return

    def diagonal(self):
        """(batch, n) or (1, n), real."""
        raise ValueError('M="jacobi" needs the diagonal of A: pass A as an array or a sparse matrix')

    @property
    def several(self):
        """Whether these are matrices of their own, one a system."""
        return False

    @property
    def block(self):
        """What of it maps this process's part of a vector to itself: all of it, unless ranks share it."""
        return self

    def settle(self, x):
        """Choose, in place, among the x that are one and the same to the caller, or have the same A x."""

    def preconditioner(self, M, system, check):
        """M as an operator on the vectors of this one, where they are not those of the caller; else None."""
        return

    def on_unknowns(self, make, system):
        """``make(system)``, an operator on the vectors of the caller, as one on the vectors of this one."""
        return make(system)


class Dense(Operator):
    """A (1, n, n), or (batch, n, n) with one matrix a system."""

    def __init__(self, k, A):
        super().__init__(k, A.shape[-1], A.dtype)
        self.A = A

    def matvec(self, x, y):
        self.k.dense_matvec(self.A, x, y)

    def residual(self, b, x, r):
        self.k.dense_residual(self.A, x, b, r)

    def steps_kernel(self):
        small = self.n * (self.n + 4) <= self.k.SMALL
        return functools.partial(self.k.dense_cg_steps, self.A) if small else None

    @property
    def several(self):
        return len(self.A) > 1

    def diagonal(self):
        return self.A.reshape(self.A.shape[0], self.n**2)[:, :: self.n + 1]


class Sparse(Operator):
    """A CSR matrix."""

    def __init__(self, k, indptr, indices, data, diagonal):
        super().__init__(k, indptr.size - 1, data.dtype)
        self.parts, self._diagonal = (indptr, indices, data), diagonal

    def matvec(self, x, y):
        self.k.csr_matvec(*self.parts, x, y)

    def matvec_dot(self, p, q, pq, work):
        self.k.csr_matvec_dot(*self.parts, p, q, pq, work)

    def residual(self, b, x, r):
        self.k.csr_residual(*self.parts, x, b, r)

    def steps_kernel(self):
        small = self.parts[2].size + 4 * self.n <= self.k.SMALL
        return functools.partial(self.k.csr_cg_steps, *self.parts) if small else None

    def diagonal(self):
        return self.k.xp.asarray(self._diagonal(), dtype=self.dtype)[None]


class Foreign(Operator):
    """Somebody else's product, one vector at a time; what it returns is checked."""

    capturable = False

    def __init__(self, k, name, n, dtype, product, diagonal=None):
        super().__init__(k, n, dtype)
        self.name, self.product, self._diagonal = name, product, diagonal

    def matvec(self, x, y):
        for row, out in zip(x, y, strict=True):
            got = self.product(row)
            if home(got) != home(row):
                if home(row) != ("cpu", None) or home(got) is not None:
                    raise TypeError(f"{self.name} returned {type(got).__name__} for {type(row).__name__}")
                if got is None:
                    raise TypeError(f"{self.name} returned None for a vector of {self.n}")
                got = np.asarray(got)
            if got.size != self.n or max(got.shape, default=1) != self.n:
                raise ValueError(f"{self.name} returned shape {got.shape} for a vector of {self.n}")
            if got.dtype.kind == "c" and out.dtype.kind != "c":
                raise TypeError(f"{self.name} returned complex numbers for a real vector; pass b as complex")
            out[...] = got.reshape(self.n)

    def diagonal(self):
        return super().diagonal() if self._diagonal is None else self._diagonal()


class RealView(Operator):
    """A complex Hermitian operator on real vectors of twice the length."""

    def __init__(self, inner):
        super().__init__(inner.k, 2 * inner.n, np.zeros(0, inner.dtype).real.dtype)
        self.inner, self.capturable = inner, inner.capturable

    @property
    def several(self):
        return self.inner.several

    def matvec(self, x, y):
        self.inner.matvec(x.view(self.inner.dtype), y.view(self.inner.dtype))

    def diagonal(self):
        d = self.inner.diagonal().copy().view(self.dtype)
        d[:, 1::2] = d[:, ::2]  # where the imaginary parts were, which are zero
        return d


class Stack(Operator):
    """Complex dense matrices, (1 or batch, n, n)."""

    capturable = False

    def __init__(self, k, A):
        super().__init__(k, A.shape[-1], A.dtype)
        self.A = A

    def matvec(self, x, y):
        y[...] = self.k.xp.matmul(self.A, x[..., None])[..., 0]

    diagonal, several = Dense.diagonal, Dense.several


@dataclass(frozen=True)
class LinearSystem:
    """A x = b as a backend sees it: real, contiguous, one system a row."""

    A: Operator
    b: Any  # (batch, n)
    x0: Any  # (batch, n), a copy, or None
    shape: tuple  # of the batch, () for one system
    dtype: np.dtype  # as the user sees it
    restore: Any  # (batch, n) real -> the caller's shape, dtype and kind
    norms: Any = None  # ||b||_2 of each row on the host, where it is known
    removed: Any = None  # norms (batch,) on the host of what the caller's b had and no A x has, for a singular A

    @property
    def complex(self):
        return self.dtype.kind == "c"


def linear_system(k, A, b, x0=None, *, own=None, check=True, start="x0", names=("A", "b")):
    """Check A x = b and bring it into one form. A, b, x0 come from `take`; `own` turns x into the caller's kind.

    `start` and `names` are what the caller calls x0, A and b.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    """
    name, given = names
    if hasattr(type(A), "linear_system"):  # one that knows its vectors: a GridOperator, a RowPartition
        return A.linear_system(k, b, x0, own=own, check=check, start=start, names=names)
    b = validate.numeric(given, b, check=check)
    if b.ndim == 0:
        raise ValueError(f"{given} must have at least one axis, the last of length n")
    n = b.shape[-1]
    dtype, batch = b.dtype, b.shape[:-1]
    if hasattr(A, "dtype") and A.dtype is not None:
        dtype = np.result_type(dtype, working(name, A.dtype))
    if hasattr(A, "shape"):
        if len(A.shape) < 2 or A.shape[-1] != A.shape[-2]:
            raise ValueError(f"{name} must be square (..., n, n), not {tuple(A.shape)}")
        require_order(name, A.shape[-1], given, b)
        try:
            batch = np.broadcast_shapes(batch, tuple(A.shape[:-2]))
        except ValueError:
            shapes = f"{name} {tuple(A.shape)} and {given} {tuple(b.shape)}"
            raise ValueError(f"{shapes} do not have the same leading axes") from None
    if x0 is not None:
        x0 = validate.numeric(start, x0, check=check)
        if x0.ndim == 0 or x0.shape[-1] != n:
            raise ValueError(f"{start} has shape {tuple(x0.shape)}, {given} has {n} entries along its last axis")
        dtype = np.result_type(dtype, x0.dtype)
    xp = k.xp

    def rows(name, v):
        v = v.astype(dtype, copy=False)
        try:  # broadcasting makes an array read-only, which is another type to Numba
            v = v if tuple(v.shape) == (*batch, n) else xp.broadcast_to(v, (*batch, n))
        except ValueError:
            raise ValueError(f"{name} has leading axes {tuple(v.shape[:-1])}, the batch is {batch}") from None
        return xp.ascontiguousarray(v).reshape(math.prod(batch), n)

    b = _as_real(rows(given, b))
    x0 = None if x0 is None else _as_real(rows("x0", x0).copy())
    op = _operator(k, name, A, n, dtype, batch, check)

    def restore(x):
        x = x.view(dtype).reshape(*batch, n)
        return x if own is None else own(x)

    return LinearSystem(op, b, x0, batch, dtype, restore)


def require_order(name, order, given, b):
    """A ValueError unless the last axis of b is as long as the matrix called `name` is wide."""
    if b.ndim == 0:
        raise ValueError(f"{given} must have at least one axis, the last of length n")
    n, turned = b.shape[-1], ""
    if n == order:
        return
    if b.ndim == 2 and b.shape[0] == order:
        as_rows = f" (right-hand sides are rows of {given}: pass {given}.T)"
        turned = f" (pass {given}.ravel())" if n == 1 else as_rows
    raise ValueError(f"{given} has {n} entries along its last axis, {name} has order {order}{turned}")


def preconditioner(k, M, system, *, check=True):
    """The operator of a preconditioner M (an approximate inverse): array, matrix, LinearOperator, `@` or callable.

    An M with an `as_linear_operator` says by it how it is to be applied: an `EmpiricalFisher` by its inverse.
    """
    found = system.A.preconditioner(M, system, check)
    if found is not None:
        return found
    if hasattr(M, "as_linear_operator"):
        M = M.as_linear_operator()
    n, dtype = system.b.shape[-1], system.dtype
    if system.complex:
        n //= 2
    if hasattr(M, "shape") and (len(M.shape) < 2 or M.shape[-1] != n or M.shape[-2] != n):
        diagonal = "; for a diagonal pass scipy.sparse.diags_array(d)" if tuple(M.shape) == (n,) else ""
        raise ValueError(f"M has shape {tuple(M.shape)}, A has order {n}{diagonal}")
    if getattr(M, "ndim", 2) > 2:
        try:
            fits = np.broadcast_shapes(tuple(M.shape[:-2]), system.shape) == system.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"M has leading axes {tuple(M.shape[:-2])}, the batch is {system.shape}")
    kind = getattr(M, "dtype", None)
    if kind is not None and working("M", kind).kind == "c" and not system.complex:
        raise TypeError("M is complex, A and b are real")
    return _operator(k, "M", M, n, dtype, system.shape, check)


def residual_norm(A, b, x):
    """||b - A x||_2 of each system, on the host; a float for one. Of the whole system, where ranks have parts of A."""
    A, b, x = take("A", A), validate.own_kind("b", b)[0], validate.own_kind("x", x)[0]
    ranks = A.among(None) if hasattr(type(A), "among") else SERIAL
    with ranks.together(), kernels_for(A=A, b=b, x=x) as k:
        system = linear_system(k, A, b, x, start="x")
        sizes = k.to_host(true_residual(k, system, system.x0))
        return ranks.norm(sizes).reshape(system.shape)[()]


def true_residual(k, system, x, r=None):
    """r = b - A x, where it is wanted, and its norms (batch,), which are those for the b of the caller."""
    if r is None:
        found = system.A.residual_norms(system.b, x)
    else:
        system.A.residual(system.b, x, r)
        found = norms(k, r)
    if system.removed is None:
        return found
    return k.xp.asarray(np.hypot(k.to_host(found), system.removed * system.A.carry))


def norms(k, x):
    """||x||_2 of each row, (batch,) float64."""
    out = k.xp.empty(x.shape[0])
    k.norm(x, out, k.xp.empty(workspace_shape(*x.shape)))
    return out


# ---- the operator of what a caller passed ----------------------------------------------------------------------------


def _as_real(v):
    return v.view(np.zeros(0, v.dtype).real.dtype) if v.dtype.kind == "c" else v


def _operator(k, name, A, n, dtype, batch, check):
    if is_sparse(A):
        op = _sparse(k, name, A, dtype, check)
    elif home(A) is not None:
        op = _dense(k, name, A, dtype, batch, check)
    else:
        op = Foreign(k, name, n, dtype, product_of(name, A))
    return RealView(op) if dtype.kind == "c" else op


def _dense(k, name, A, dtype, batch, check):
    A = validate.numeric(name, A, check=check).astype(dtype, copy=False)
    xp = k.xp
    if A.ndim > 2 and tuple(A.shape[:-2]) != tuple(batch):
        A = xp.broadcast_to(A, (*batch, *A.shape[-2:]))
    A = xp.ascontiguousarray(A).reshape(math.prod(A.shape[:-2]), *A.shape[-2:])
    return (Stack if dtype.kind == "c" else Dense)(k, A)


def _sparse(k, name, A, dtype, check):
    A = in_csr(name, A, check)
    data = A.data.astype(dtype, copy=False)
    if data.dtype.kind == "c":
        A = A.astype(dtype)
        return Foreign(k, name, A.shape[0], dtype, A.__matmul__, lambda: A.diagonal()[None])
    indptr, indices = A.indptr, A.indices
    if indptr.dtype != indices.dtype or indices.dtype.name not in ("int32", "int64"):
        wide = "int64" if max(A.nnz, *A.shape) > np.iinfo(np.int32).max else "int32"
        indptr, indices = indptr.astype(wide), indices.astype(wide)
    xp = k.xp
    parts = (xp.ascontiguousarray(indptr), xp.ascontiguousarray(indices), xp.ascontiguousarray(data))
    return Sparse(k, *parts, A.diagonal)
