"""Gradients, and the matrices that the tests compare with: dense, in float64 or by the SVD."""

import numpy as np


def gradients(m, d, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal((m, d)).astype(dtype)


def power_law(m, d, dtype="float32", seed=0, decay=1.0):
    """Gradients whose Fisher matrix has eigenvalues that fall like a power, the largest about 1."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((m, m)))[0]
    V = np.linalg.qr(rng.standard_normal((d, m)))[0]
    return np.sqrt(m) * ((U * np.arange(1, m + 1.0) ** -(decay / 2)) @ V.T).astype(dtype)


def fisher(G, damp, block_size=None):
    """damp I + G'G / m, or its diagonal blocks."""
    m, d = G.shape
    F = damp * np.eye(d) + G.T.astype(float) @ G.astype(float) / m
    if block_size is None:
        return F
    block = np.arange(d) // block_size
    return np.where(block[:, None] == block, F, 0.0)


def inverse_times(G, damp, X):
    """F^-1 X for rows X from the singular values of G, which hold their digits at a small damp."""
    _, s, V = np.linalg.svd(G.astype(float), full_matrices=False)
    inside = X @ V.T
    return (X - inside @ V) / damp + (inside / (s**2 / len(G) + damp)) @ V


def error(got, wanted):
    return np.linalg.norm(np.asarray(got, float) - wanted) / np.linalg.norm(wanted)


def hessian(d=60, condition=1e6, seed=0, shift=0.0):
    """Eigenvalues that fall geometrically from 1, less `shift`."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    H = (Q * (np.geomspace(1, 1 / condition, d) - shift)) @ Q.T
    return (H + H.T) / 2


def vector(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)
