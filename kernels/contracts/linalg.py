"""Sparse and dense products, reductions, and the steps of the conjugate gradient method.

Conjugate gradients, as in Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 9.1; scalars of all
systems live in (batch,) arrays of the backend, so that no step waits for the host:

    q = A p,  alpha = (r.z) / (p.q)                                                                      (1)
    x += alpha p,  r -= alpha q                                                                          (2)
    beta = (r+.z+) / (r.z),  p = z + beta p                                                              (3)
    beta = -(z+.q) / (p.q)         the same made locally optimal for an M that changes (Notay 2000)      (4)

The squared residual `rr` also carries the verdict on a system: a system goes on while rr > tol2; it rests unchanged
when rr <= tol2, when rr > HOPELESS, when rr is one of the negative verdicts below, and when rr is NaN.
"""

from fractions import Fraction

import numpy as np
import scipy.sparse as sp

from . import contract, workspace_shape

A_NOT_POSITIVE = -1.0  # p.Ap <= 0
M_NOT_POSITIVE = -2.0  # r.z <= 0
HOPELESS = 1e20  # a squared residual, of which the start is about 1, beyond which a system is given up


def verdict(rr, rz, pq, tol2):
    """What a step does with one system: None to go on, or the value that `rr` gets instead."""
    if not tol2 < rr <= HOPELESS:
        return rr
    if not (np.isfinite(rz) and np.isfinite(pq)):
        return np.nan
    if rz <= 0:
        return M_NOT_POSITIVE
    return A_NOT_POSITIVE if pq <= 0 else None


# ---- products -------------------------------------------------------------------------------------------------------


def _matrices(rng, dtype, shapes):
    """(indptr, indices, data, shape): from hardly any to many non-zeros a row, ragged, empty, both index types."""
    for index in (np.int32, np.int64):
        for n, m, density in (*shapes, (64, 64, 0.0), (0, 0, 0.0)):
            A = sp.csr_array(sp.random_array((n, m), density=density, rng=rng), dtype=dtype)
            A.data -= dtype.type(0.5)
            yield A.indptr.astype(index), A.indices.astype(index), A.data, (n, m)


def _csr_cases(rng, dtype):
    shapes = [(1, 1, 1.0), (33, 40, 0.1), (40, 40, 0.2), (30, 60, 0.2), (50, 50, 0.5), (9, 80, 0.6), (5, 300, 0.9)]
    shapes += [(2100, 60, 0.03)]
    for indptr, indices, data, (n, m) in _matrices(rng, dtype, shapes):
        for batch in (1, 3):
            x = rng.standard_normal((batch, m)).astype(dtype)
            yield indptr, indices, data, x, np.full((batch, n), np.nan, dtype)


@contract(cases=_csr_cases, writes=("y",))
def csr_matvec(indptr, indices, data, x, y):
    """y = A x, CSR: indptr (n+1,), indices (nnz,) int32 or int64, data (nnz,), x (batch, m), y (batch, n)."""
    for i in range(y.shape[1]):
        row = slice(indptr[i], indptr[i + 1])
        y[:, i] = (x[:, indices[row]].astype(float) * data[row].astype(float)).sum(1)


def _csr_dot_cases(rng, dtype):
    shapes = [(1, 1, 1.0), (33, 33, 0.1), (40, 40, 0.2), (60, 60, 0.2), (60, 60, 0.4), (80, 80, 0.6), (99, 99, 0.9)]
    shapes += [(2100, 2100, 0.002)]
    for indptr, indices, data, (n, _) in _matrices(rng, dtype, shapes):
        for batch in (1, 2):
            x = rng.standard_normal((batch, n)).astype(dtype)
            yield (indptr, indices, data, x, np.full((batch, n), np.nan, dtype), np.full(batch, np.nan),
                   np.full(workspace_shape(batch, n), np.nan))  # fmt: skip


@contract(cases=_csr_dot_cases, writes=("q", "pq"), scratch=("work",), rtol={"float32": 1e-4, "float64": 1e-11})
def csr_matvec_dot(indptr, indices, data, p, q, pq, work):
    """(1): q = A p and pq = p.q in one pass over the matrix; p, q (batch, n), pq (batch,)."""
    csr_matvec(indptr, indices, data, p, q)
    pq[:] = (p.astype(float) * q).sum(1)


def _dense_cases(rng, dtype):
    shapes = ((1, 1, 1, 1), (1, 3, 17, 40), (4, 4, 33, 33), (1, 1, 5, 3000), (2, 2, 0, 4), (1, 2, 3, 0))
    for stack, batch, n, m in shapes:
        A = rng.standard_normal((stack, n, m)).astype(dtype)
        yield A, rng.standard_normal((batch, m)).astype(dtype), np.full((batch, n), np.nan, dtype)


@contract(cases=_dense_cases, writes=("y",), rtol={"float32": 1e-4, "float64": 1e-11})
def dense_matvec(A, x, y):
    """y = A x: A (batch, n, m), or (1, n, m) for one matrix and many vectors; x (batch, m), y (batch, n)."""
    y[:] = np.einsum("bij,bj->bi", np.broadcast_to(A.astype(float), (x.shape[0], *A.shape[1:])), x.astype(float))


def _left_over(rng, dtype, A, batch):
    """(x, b) of which b - A x is far smaller than b, and x, b of which it is not."""
    for size in (0.0, 1.0):
        x = rng.standard_normal((batch, A.shape[-1])).astype(dtype)
        near = np.einsum("...ij,...j->...i", A.astype(float), x.astype(float))
        yield x, (near + size * rng.standard_normal(near.shape)).astype(dtype)


def _csr_residual_cases(rng, dtype):
    shapes = ((1, 1, 1.0), (33, 33, 0.1), (300, 300, 0.02), (40, 40, 0.9))
    for indptr, indices, data, shape in _matrices(rng, dtype, shapes):
        A = sp.csr_array((data, indices, indptr), shape=shape).toarray()
        for x, b in _left_over(rng, dtype, A, 2):
            yield indptr, indices, data, x, b, np.full_like(b, np.nan)


@contract(cases=_csr_residual_cases, writes=("r",), rtol={"float32": 2e-7, "float64": 1e-11})
def csr_residual(indptr, indices, data, x, b, r):
    """r = b - A x for A in CSR, each entry as if summed in twice the precision of float64 and rounded once."""
    for s in range(b.shape[0]):
        for i in range(b.shape[1]):
            row = slice(indptr[i], indptr[i + 1])
            r[s, i] = _exact(b[s, i], data[row], x[s, indices[row]])


def _dense_residual_cases(rng, dtype):
    for stack, batch, n, m in (
        (1, 1, 1, 1),
        (1, 3, 17, 40),
        (4, 4, 33, 33),
        (1, 1, 5, 300),
        (2, 2, 0, 4),
        (1, 2, 3, 0),
    ):
        A = rng.standard_normal((stack, n, m)).astype(dtype)
        for x, b in _left_over(rng, dtype, np.broadcast_to(A, (batch, n, m)), batch):
            yield A, x, b, np.full_like(b, np.nan)


@contract(cases=_dense_residual_cases, writes=("r",), rtol={"float32": 2e-7, "float64": 1e-11})
def dense_residual(A, x, b, r):
    """The same for dense A, (batch, n, m) or (1, n, m)."""
    for s in range(b.shape[0]):
        for i in range(b.shape[1]):
            r[s, i] = _exact(b[s, i], A[s % A.shape[0], i], x[s])


def _exact(b, row, x):
    """b - row.x in rational arithmetic, rounded once."""
    products = (Fraction(float(a)) * Fraction(float(v)) for a, v in zip(row, x, strict=True))
    return float(Fraction(float(b)) - sum(products))


# ---- reductions -----------------------------------------------------------------------------------------------------


def _vectors(rng, dtype, count):
    for batch, n in ((1, 0), (1, 1), (2, 31), (1, 2048), (3, 2049), (1, 33000)):
        yield [rng.standard_normal((batch, n)).astype(dtype) for _ in range(count)], batch, n


def _dot_cases(rng, dtype):
    for (x, y), batch, n in _vectors(rng, dtype, 2):
        yield x, abs(x) + y * dtype.type(0.01), np.full(batch, np.nan), np.full(workspace_shape(batch, n), np.nan)


@contract(cases=_dot_cases, writes=("out",), scratch=("work",), rtol={"float32": 1e-5, "float64": 1e-11})
def dot(x, y, out, work):
    """out = x.y for each row; x, y (batch, n), out (batch,) float64."""
    out[:] = (x.astype(float) * y).sum(1)


def _norm_cases(rng, dtype):
    huge = dtype.type(1e30) if dtype == np.float32 else 1e200
    for (x,), batch, n in _vectors(rng, dtype, 1):
        for scale in (1, huge, 1 / huge):
            yield x * dtype.type(scale), np.full(batch, np.nan), np.full(workspace_shape(batch, n), np.nan)
    for bad in (np.inf, -np.inf, np.nan):
        x = np.ones((2, 3000), dtype)
        x[1, 2500] = bad
        yield x, np.full(2, np.nan), np.full(workspace_shape(2, 3000), np.nan)


@contract(cases=_norm_cases, writes=("out",), scratch=("work",))
def norm(x, out, work):
    """out = ||x||_2 for each row, without overflow or underflow on the way; x (batch, n), out (batch,) float64."""
    for i, row in enumerate(x.astype(float)):
        top = abs(row).max(initial=0)
        out[i] = top * np.sqrt(((row / top) ** 2).sum()) if 0 < top < np.inf else top


# ---- conjugate gradients --------------------------------------------------------------------------------------------


def _update_cases(rng, dtype):
    for (x, r, p, q), batch, n in _vectors(rng, dtype, 4):
        pq, rz = rng.uniform(0.5, 2, batch), rng.uniform(0.5, 2, batch)
        rr, tol2 = np.full(batch, 2.0), np.full(batch, 1e-10)
        for dinv in (None, rng.uniform(0.5, 2, (1, n)).astype(dtype), rng.uniform(0.5, 2, (batch, n)).astype(dtype)):
            yield (p, q, dinv, rz, pq, rr, tol2, 1.0, x.copy(), r.copy(), np.full(batch, np.nan),
                   np.full(batch, np.nan), np.full(workspace_shape(batch, n), np.nan))  # fmt: skip
    # at rest, no progress possible, broken: each verdict once, between two systems that go on
    batch, n = 10, 70
    x, r, p, q = (rng.standard_normal((batch, n)).astype(dtype) for _ in range(4))
    rr = np.array([1.0, 1e-12, 1.0, 1.0, np.nan, A_NOT_POSITIVE, 1.0, 1.0, 1.0, 2 * HOPELESS])
    pq = np.array([1.0, 1.0, -1.0, np.nan, 1.0, 1.0, 0.0, 1.0, np.inf, 1.0])
    rz = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    for carry in (1.0, 0.0):
        yield (p, q, None, rz, pq, rr, np.full(batch, 1e-10), carry, x.copy(), r.copy(), np.full(batch, np.nan),
               np.full(batch, np.nan), np.full(workspace_shape(batch, n), np.nan))  # fmt: skip


@contract(cases=_update_cases, writes=("x", "r", "rr", "rz"), scratch=("work",))
def cg_update(p, q, dinv, rz_old, pq, rr_old, tol2, carry, x, r, rr, rz, work):
    """(2), and the dots of the new residual: rr = r.r, rz = r.(dinv r).

    p, q, x, r (batch, n); dinv (batch, n), (1, n) or None for the identity; all scalars (batch,) float64. A system
    whose `verdict` is not to go on keeps x and r, and gets carry times the verdict in rr and carry rz_old in rz. (carry
    is 1, and 0 on all but one process of a distributed run, where rr and rz are then added up.)
    """
    for i in range(x.shape[0]):
        stop = verdict(rr_old[i], rz_old[i], pq[i], tol2[i])
        if stop is not None:
            rr[i], rz[i] = carry * stop, carry * rz_old[i]
            continue
        alpha = rz_old[i] / pq[i]
        x[i] += (alpha * p[i]).astype(x.dtype)
        r[i] -= (alpha * q[i]).astype(r.dtype)
        new = r[i].astype(float)
        d = 1.0 if dinv is None else dinv[i % dinv.shape[0]].astype(float)
        rr[i], rz[i] = new @ new, (new * d) @ new


def _flexible_cases(rng, dtype):
    for (z, r, q), batch, n in _vectors(rng, dtype, 3):
        yield (z, abs(z) + r * dtype.type(0.01), abs(z) + q * dtype.type(0.01), np.full(batch, np.nan),
               np.full(batch, np.nan), np.full(workspace_shape(batch, n), np.nan))  # fmt: skip


@contract(cases=_flexible_cases, writes=("rz", "minus_zq"), scratch=("work",), rtol={"float32": 1e-5, "float64": 1e-11})
def flexible_dots(z, r, q, rz, minus_zq, work):
    """The two dots of (4): rz = r.z and minus_zq = -(z.q); z, r, q (batch, n), scalars (batch,) float64."""
    rz[:] = (r.astype(float) * z).sum(1)
    minus_zq[:] = -(z.astype(float) * q).sum(1)


def _direction_cases(rng, dtype):
    for (z, p), batch, n in _vectors(rng, dtype, 2):
        for dinv in (None, rng.uniform(0.5, 2, (1, n)).astype(dtype), rng.uniform(0.5, 2, (batch, n)).astype(dtype)):
            yield z, dinv, rng.standard_normal(batch), rng.uniform(0.5, 2, batch), p.copy()
    yield (
        np.ones((3, 5), dtype),
        None,
        np.array([0.0, 1.0, np.nan]),
        np.array([0.0, 0.0, 1.0]),
        np.ones((3, 5), dtype),
    )


@contract(cases=_direction_cases, writes=("p",))
def cg_direction(z, dinv, numerator, denominator, p):
    """(3), (4): p = dinv z + (numerator / denominator) p, or p = dinv z where that quotient is not finite.

    z, p (batch, n); dinv (batch, n), (1, n) or None for the identity; numerator, denominator (batch,) float64.
    """
    for i in range(p.shape[0]):
        with np.errstate(all="ignore"):
            beta = numerator[i] / denominator[i]
        beta = beta if np.isfinite(beta) else 0.0
        d = 1.0 if dinv is None else dinv[i % dinv.shape[0]].astype(float)
        p[i] = (z[i] * d + beta * p[i]).astype(p.dtype)
