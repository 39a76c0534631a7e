"""Linear systems for the tests, small and with known answers."""

import numpy as np
import scipy.sparse as sp

from tests.backends import to_host

TIGHT = {"float64": 1e-11, "float32": 1e-5, "complex128": 1e-11, "complex64": 1e-5}  # tolerances for close answers
CLOSE = {"float64": 1e-9, "float32": 2e-4, "complex128": 1e-9, "complex64": 2e-4}


def laplacian(n, dtype="float64", shift=0.0):
    """1-D, on n points, plus `shift` times the identity, in CSR."""
    A = sp.diags_array([-1.0, 2.0 + shift, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr")
    return A.astype(dtype)


def poisson(side):
    """2-D, five points, on a square."""
    eye = sp.eye_array(side)
    return (sp.kron(laplacian(side), eye) + sp.kron(eye, laplacian(side))).tocsr()


def spd(*shape, condition=10.0, seed=0, dtype="float64"):
    """Dense, symmetric positive definite, with eigenvalues from 1/condition to 1."""
    rng = np.random.default_rng(seed)
    n = shape[-1]
    Q = np.linalg.qr(rng.standard_normal(shape))[0]
    A = (Q * np.geomspace(1 / condition, 1, n)) @ Q.swapaxes(-1, -2)
    return ((A + A.swapaxes(-1, -2)) / 2).astype(dtype)


def hermitian(*shape, condition=10.0, seed=0, dtype="complex128"):
    """Dense, Hermitian positive definite."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))[0]
    A = (Q * np.geomspace(1 / condition, 1, shape[-1])) @ Q.conj().swapaxes(-1, -2)
    return ((A + A.conj().swapaxes(-1, -2)) / 2).astype(dtype)


def rhs(*shape, seed=1, dtype="float64"):
    """Normally distributed; complex for a complex dtype."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal(shape)
    return (b + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else b).astype(dtype)


def solve(A, b):
    """By elimination, with NumPy."""
    A = A.toarray() if sp.issparse(A) else np.asarray(A)
    return np.linalg.solve(A, b[..., None])[..., 0]


def residual(A, b, x):
    """||b - A x||_2 in extended precision, without any code of ntsolve."""
    A = A.toarray() if sp.issparse(A) else np.asarray(A)
    wide = np.clongdouble if any(v.dtype.kind == "c" for v in (A, b, x)) else np.longdouble
    A, b, x = A.astype(wide), b.astype(wide), x.astype(wide)
    r = abs(b - (A @ x[..., None])[..., 0])
    top = r.max(axis=-1, initial=0)
    safe = np.where((top > 0) & np.isfinite(top), top, 1)
    return np.where(top > 0, top * np.sqrt(((r / safe[..., None]) ** 2).sum(-1)), 0)


def close(got, want, dtype="float64"):
    """Whether an answer to a tolerance of TIGHT is the right one."""
    got = to_host(got)
    assert got.shape == want.shape
    assert abs(got - want).max(initial=0) <= CLOSE[dtype] * abs(want).max(initial=0)


class Product:
    """Nothing but `@`."""

    def __init__(self, A):
        self.A = A

    def __matmul__(self, v):
        return self.A @ v


def cells_of(shape, seed=0, share=0.7):
    """(unknowns, which of the others are walls)"""
    kind = np.random.default_rng(seed).random(shape)
    mask = kind < share
    mask.flat[0] = True
    return mask, kind > (1 + share) / 2


def consistent(A, seed=1):
    """A right-hand side that has a solution."""
    return A @ np.random.default_rng(seed).standard_normal(A.shape[0])
