"""A step of `lp_steps` in two halves, for a program of which each process has rows: A'y is summed between them.

The numbers (1)-(3) are those of `ntsolve.kernels.contracts.lp`. `share` is k/(k + 1) of (3). All numbers are float64,
all vectors have one axis, CSR has int32 indices.
"""

import numpy as np
import scipy.sparse as sp

from . import contract


def _bounds(rng, size):
    lower = np.where(rng.random(size) < 0.3, -np.inf, rng.standard_normal(size))
    return lower, np.where(rng.random(size) < 0.3, np.inf, np.maximum(lower, -1.0) + rng.integers(0, 3, size))


def _column_cases(rng, dtype):
    for n in (1, 255, 2100, 0):
        aty, c, x, x0 = rng.standard_normal((4, n))
        lower, upper = _bounds(rng, n)
        aty[n // 2 : n // 2 + 1] = np.nan  # which has to stay
        for keep in (0, 1):
            yield aty, c, lower, upper, 0.3, 0.75, keep, x.copy(), x0, np.ones(n), np.ones(n), np.full(n, np.nan)


@contract(cases=_column_cases, writes=("x", "p", "dx", "reflected"), rtol={"float32": 1e-12, "float64": 1e-12})
def lp_columns(aty, c, lower, upper, tau, share, keep, x, x0, p, dx, reflected):
    """(1) for x from aty = A'y, reflected = 2 p - x of it, and (3); p and dx = p - x only if `keep`. All (n,)."""
    to = np.clip(x - tau * (c - aty), lower, upper)
    if keep:
        p[:], dx[:] = to, to - x
    reflected[:] = 2 * to - x
    x[:] = share * reflected + (1 - share) * x0


def _row_cases(rng, dtype):
    for m, n in ((1, 1), (12, 7), (300, 60), (40, 300), (0, 4), (3, 0)):
        A = sp.random_array((m, n), density=min(1.0, 4 / max(1, m)), rng=rng, format="csr")
        parts = A.indptr.astype(np.int32), A.indices.astype(np.int32), A.data - 0.5
        low, high = _bounds(rng, m)
        y, y0, reflected = rng.standard_normal(m), rng.standard_normal(m), rng.standard_normal(n)
        for keep in (0, 1):
            yield *parts, low, high, 0.4, 0.75, keep, reflected, y.copy(), y0, np.ones(m), np.ones(m)


@contract(cases=_row_cases, writes=("y", "q", "dy"), rtol={"float32": 1e-11, "float64": 1e-11})
def lp_rows(indptr, indices, data, row_lower, row_upper, sigma, share, keep, reflected, y, y0, q, dy):
    """(1) for y from reflected = 2 p - x, (2) and (3); q and dy = q - y only if `keep`.

    reflected (n,); row_lower, row_upper, y, y0, q, dy (m,).
    """
    t = y - sigma * (sp.csr_array((data, indices, indptr), shape=(y.size, reflected.size)) @ reflected)
    to = t - np.clip(t, -sigma * row_upper, -sigma * row_lower)
    y_before = y.copy()
    y[:] = share * (2 * to - y) + (1 - share) * y0
    if keep:
        q[:], dy[:] = to, to - y_before
