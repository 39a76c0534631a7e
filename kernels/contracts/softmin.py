"""Soft minima of a stored cost: the two half steps of Sinkhorn's iteration in the logarithmic domain.

    softmin_reg(x) = -reg log sum_j exp(-x_j / reg)      tends to min_j x_j as reg tends to 0; +inf of nothing

With potentials f, g and marginals a, b (Peyre and Cuturi, Computational Optimal Transport, 2019, remark 4.22),

    f_i = reg log a_i + softmin_reg(C_i. - g),   g_j = reg log b_j + softmin_reg(C_.j - f).

The largest exponent is taken out of each sum, so that no cost is too large, and no reg too small, to be added up.
"""

import numpy as np

from . import contract


def _softmin(x, reg):
    """Along the last axis."""
    x = -x / reg
    top = x.max(axis=-1, initial=-np.inf)
    safe = np.where(np.isneginf(top), 0.0, top)
    return -reg * (top + np.log(np.where(np.isneginf(top), 1.0, np.exp(x - safe[..., None]).sum(-1))))


def _costs(rng, dtype):
    """(C (stack, n, m), f (batch, n), g (batch, m), reg): from hardly anything to several tiles, from soft to sharp."""
    shapes = ((1, 1, 1, 1), (1, 3, 17, 40), (4, 4, 33, 9), (1, 1, 5, 700), (1, 2, 300, 5), (1, 1, 200, 290),
              (2, 2, 0, 4), (1, 2, 3, 0))  # fmt: skip
    for stack, batch, n, m in shapes:
        for reg in (1.0, 1e-3) if n * m < 1000 else (1e-2,):
            C = rng.random((stack, n, m)).astype(dtype)
            yield C, rng.standard_normal((batch, n)), rng.standard_normal((batch, m)), reg
    C = 1000 + rng.random((1, 40, 70)).astype(dtype)
    C[0, rng.random((40, 70)) < 0.3] = np.inf  # forbidden pairs
    C[0, 7] = C[0, :, 9] = np.inf  # nothing to choose from
    yield C, rng.standard_normal((1, 40)), rng.standard_normal((1, 70)), 1e-2
    C = np.full((1, 70, 140), np.inf, dtype)  # a first tile of nothing, and then something
    C[0, 66:, 130:] = rng.random((4, 10))
    yield C, rng.standard_normal((1, 70)), rng.standard_normal((1, 140)), 1e-1


def _row_cases(rng, dtype):
    for C, f, g, reg in _costs(rng, dtype):
        yield C, g, reg, np.full_like(f, np.nan)


@contract(cases=_row_cases, writes=("f",), rtol={"float32": 1e-12, "float64": 1e-12})
def softmin_rows(C, g, reg, f):
    """f_i = softmin_j(C_ij - g_j): C (batch, n, m), or (1, n, m) for one cost; g (batch, m), f (batch, n) float64."""
    f[:] = _softmin(C.astype(float) - g[:, None, :], reg)


def _column_cases(rng, dtype):
    for C, f, g, reg in _costs(rng, dtype):
        yield C, f, reg, np.full_like(g, np.nan)


@contract(cases=_column_cases, writes=("g",), rtol={"float32": 1e-12, "float64": 1e-12})
def softmin_columns(C, f, reg, g):
    """g_j = softmin_i(C_ij - f_i), the same down the columns."""
    g[:] = _softmin(np.swapaxes(C.astype(float) - f[:, :, None], 1, 2), reg)
