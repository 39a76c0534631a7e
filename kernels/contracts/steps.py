"""Blocks of conjugate gradient iterations in one call, for systems too small to be worth sharing among threads.

A call does what `steps` rounds of the kernels in contracts/linalg.py do: (1)-(3), with M = dinv or the identity.
"""

import numpy as np
import scipy.sparse as sp

from . import contract, workspace_shape
from .linalg import cg_direction, cg_update, csr_matvec_dot, dense_matvec


def _states(rng, dtype, A, jacobi):
    """(dinv, tol2, steps, x, r, p, q, rr, rz) for a matrix or a stack of them; the last of three systems rests."""
    batch, n = (A.shape[0], A.shape[-1]) if A.ndim == 3 else (3, A.shape[0])
    steps = min(4, n)
    r = rng.standard_normal((batch, n)).astype(dtype)
    dinv = rng.uniform(0.5, 2, (1, n)).astype(dtype) if jacobi else None
    p = r if dinv is None else (r * dinv).astype(dtype)
    rr, rz = np.full((steps + 1, batch), np.nan), np.full((steps + 1, batch), np.nan)
    rr[0], rz[0] = (r.astype(float) ** 2).sum(1), (r.astype(float) * p).sum(1)
    tol2 = rr[0] * 1e-6
    tol2[2:] = rr[0, 2:] * 2
    room = np.full((batch, n), np.nan, dtype)
    return dinv, tol2, steps, np.zeros((batch, n), dtype), r, p.copy(), room, rr, rz


def _csr_cases(rng, dtype):
    for n, density, sign in ((1, 1.0, 1), (40, 0.1, 1), (45, 0.5, -1), (1100, 0.002, 1)):
        half = sp.random_array((n, n), density=density, rng=rng)
        A = sp.csr_array(half @ half.T + n * density * sp.eye_array(n), dtype=dtype) * dtype.type(sign)
        for index in (np.int32, np.int64):
            for jacobi in (False, True):
                yield A.indptr.astype(index), A.indices.astype(index), A.data, *_states(rng, dtype, A, jacobi)


@contract(
    cases=_csr_cases, writes=("x", "r", "p", "rr", "rz"), scratch=("q",), rtol={"float32": 2e-3, "float64": 1e-10}
)
def csr_cg_steps(indptr, indices, data, dinv, tol2, steps, x, r, p, q, rr, rz):
    """`steps` iterations for A in CSR. x, r, p (batch, n) is the state; dinv (batch, n), (1, n) or None; q is scratch.

    rr, rz (steps + 1 or more, batch) float64: row 0 is what the call starts from, row j what iteration j leaves.
    """
    work = np.empty(workspace_shape(*x.shape))
    _steps(lambda pq: csr_matvec_dot(indptr, indices, data, p, q, pq, work), dinv, tol2, steps, x, r, p, q, rr, rz)


def _dense_cases(rng, dtype):
    for stack, n, sign in ((1, 1, 1), (3, 33, 1), (2, 20, -1), (1, 300, 1)):
        half = rng.standard_normal((stack, n, n)) / np.sqrt(n)
        A = (sign * (half @ half.transpose(0, 2, 1) + np.eye(n))).astype(dtype)
        for jacobi in (False, True):
            yield A, *_states(rng, dtype, A, jacobi)


@contract(
    cases=_dense_cases, writes=("x", "r", "p", "rr", "rz"), scratch=("q",), rtol={"float32": 2e-3, "float64": 1e-10}
)
def dense_cg_steps(A, dinv, tol2, steps, x, r, p, q, rr, rz):
    """The same for dense A, (batch, n, n) or (1, n, n)."""

    def product(pq):
        dense_matvec(A, p, q)
        pq[:] = (p.astype(float) * q).sum(1)

    _steps(product, dinv, tol2, steps, x, r, p, q, rr, rz)


def _steps(product, dinv, tol2, steps, x, r, p, q, rr, rz):
    pq = np.empty(x.shape[0])
    for j in range(1, steps + 1):
        product(pq)
        going = rr[j - 1] > tol2
        cg_update(p, q, dinv, rz[j - 1], pq, rr[j - 1], tol2, 1.0, x, r, rr[j], rz[j], None)
        new = p.copy()
        cg_direction(r, dinv, rz[j], rz[j - 1], new)
        going &= rr[j] >= 0  # p of a system at rest is left alone
        p[going] = new[going]
