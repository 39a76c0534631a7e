"""What the bench of the Fisher matrix measures against, and the problems it measures on.

The peers are what a user would otherwise write or take: the recursion of the M-FAC paper in NumPy, vector by vector in
float32 as its reference implementation has it; the identity of Woodbury in float32; LAPACK in float64.
"""

import numpy as np
import scipy.linalg


def gradients(m, d, rng, *, duplicates=0):
    """(m, d) float32, singular values falling like 1/i, the largest sqrt(m); the last rows repeat the first, if asked.

    The directions are random, and not quite orthogonal: for float32 rows of that length it makes no difference. The
    scale makes 1 the largest eigenvalue of (1/m) G'G, so that 1 / damp is about the condition number.
    """
    mix = scipy.linalg.qr(rng.standard_normal((m, m)))[0] * (np.sqrt(m) / np.arange(1, m + 1))
    G = np.empty((m, d), np.float32)
    step = max(1, 2**24 // m)
    for first in range(0, d, step):
        width = min(step, d - first)
        G[:, first : first + width] = mix @ (rng.standard_normal((m, width)) / np.sqrt(d))
    if duplicates:
        G[-duplicates:] = G[:duplicates]
    return G


class Exact:
    """F^-1 from the singular values of G in float64: nothing is squared, so nothing is lost for a small damp."""

    def __init__(self, G):
        self.m = len(G)
        self.V, s, _ = scipy.linalg.svd(G.T.astype(float), full_matrices=False)
        self.eigenvalues = s**2 / self.m

    def solve(self, x, damp):
        """The part of x within the span of the gradients, and the rest, each divided by its eigenvalue."""
        c = self.V.T @ x
        inside = self.V @ (c / (self.eigenvalues + damp))
        rest = x - self.V @ c
        rest -= self.V @ (self.V.T @ rest)
        return inside + rest / damp


class Recursion:
    """v_i = g_i / damp - sum_j v_j (v_j.g_i) / q_j, q_i = m + g_i.v_i; one row after the other, in G's dtype."""

    def __init__(self, G, damp, rows=None):
        m = len(G)
        self.damp, self.V, self.q = G.dtype.type(damp), np.empty_like(G), np.empty(m, G.dtype)
        for i, g in enumerate(G[:rows]):
            V = self.V[:i]
            self.V[i] = g / self.damp - ((V @ g) / self.q[:i]) @ V
            self.q[i] = m + g @ self.V[i]

    def solve(self, x):
        return x / self.damp - ((self.V @ x) / self.q) @ self.V

    def diag(self):
        """1 / damp - sum_j v_j^2 / q_j, in one pass over V."""
        found = np.full(self.V.shape[1], 1 / self.damp)
        for v, q in zip(self.V, self.q, strict=True):
            found -= v * v / q
        return found


class Dynamic:
    """The paper's other algorithm: the same from the products G G' alone, in G's dtype."""

    def __init__(self, G, damp):
        m = len(G)
        self.G, self.damp = G, G.dtype.type(damp)
        D = (G @ G.T) / self.damp
        B = np.eye(m, dtype=G.dtype) / self.damp
        for i in range(1, m):
            share = D[:i, i] / (m + D.diagonal()[:i])
            D[i, i:] -= share @ D[:i, i:]
            B[i] -= share @ B[:i]
        self.q, self.B = m + D.diagonal(), B

    def solve(self, x):
        c = (self.B @ (self.G @ x)) / self.q
        return x / self.damp - (c @ self.B) @ self.G


class Woodbury:
    """(x - G' A^-1 G x) / damp with A = m damp I + G G', products and sums in the dtype of G."""

    def __init__(self, G, damp):
        m = len(G)
        self.G, self.damp = G, G.dtype.type(damp)
        self.A = G @ G.T
        self.A[np.diag_indices(m)] += G.dtype.type(m * damp)

    def solve(self, x):
        return (x - np.linalg.solve(self.A, self.G @ x) @ self.G) / self.damp


class Lapack:
    """Woodbury's identity with everything in float64: dsyrk, columns at a time, and dpotrf."""

    def __init__(self, G, damp, columns=65536):
        m, d = G.shape
        self.G, self.damp = G, damp
        A = np.zeros((m, m), order="F")
        for first in range(0, d, columns):
            part = G[:, first : first + columns].astype(float)
            A = scipy.linalg.blas.dsyrk(1.0, part.T, trans=1, beta=1.0, c=A, overwrite_c=1)
        A[np.diag_indices(m)] += m * damp
        self.U, info = scipy.linalg.lapack.dpotrf(A, overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError(f"dpotrf: {info}")

    def solve(self, x):
        c = scipy.linalg.lapack.dpotrs(self.U, products(self.G, x))[0]
        return (x - combination(self.G, c)) / self.damp

    def diag(self, index):
        """Some elements of the diagonal."""
        g = self.G[:, index].astype(float)
        return (1 - (g * scipy.linalg.lapack.dpotrs(self.U, g)[0]).sum(0)) / self.damp


class Plain:
    """A window whose m x m matrix is factored anew for each gradient, as the paper's is: NumPy, and dpotrf."""

    def __init__(self, G, damp):
        self.G, self.damp, self.next = G.copy(), damp, 0
        self.A = (self.G @ self.G.T).astype(float)

    def append(self, g):
        self.G[self.next] = g
        dots = self.G @ g
        self.A[self.next], self.A[:, self.next] = dots, dots
        self.newest, self.next = self.next, (self.next + 1) % len(self.G)

    def solve_newest(self):
        m = len(self.G)
        A, e = self.A.copy().T, np.zeros(m)  # symmetric, and as LAPACK wants it
        A[np.diag_indices(m)] += m * self.damp
        e[self.newest] = m
        L, _ = scipy.linalg.lapack.dpotrf(A, lower=1, overwrite_a=1)
        return scipy.linalg.lapack.dpotrs(L, e, lower=1)[0].astype(self.G.dtype) @ self.G

    def gradients(self):
        return self.G


def products(G, x, columns=65536):
    """G x in float64, a few columns of G at a time."""
    parts = (slice(first, first + columns) for first in range(0, G.shape[1], columns))
    return sum(G[:, part].astype(float) @ x[part] for part in parts)


def combination(G, c, columns=65536):
    """G' c in float64."""
    parts = (slice(first, first + columns) for first in range(0, G.shape[1], columns))
    return np.concatenate([c @ G[:, part].astype(float) for part in parts])


def residual(G, damp, x, v):
    """||F x - v|| / ||v||, F = damp I + G'G / m, in float64."""
    x = np.asarray(x, float)
    return float(np.linalg.norm(damp * x + combination(G, products(G, x) / len(G)) - v) / np.linalg.norm(v))


def relative_error(x, exact):
    """In the 2-norm, in float64."""
    x = np.asarray(x, float)
    return float(np.linalg.norm(x - exact) / np.linalg.norm(exact)) if np.isfinite(x).all() else np.finfo(float).max
