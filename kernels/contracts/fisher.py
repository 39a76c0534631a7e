"""Passes over the gradients of an empirical Fisher matrix, F = damp I + G'G / m for G (m, d), m gradients in its rows.

By the Woodbury identity, with the small matrix A = m damp I + G G' = L L' and W = L^-1 G,

    F^-1 x = (x - G' A^-1 G x) / damp                                                                    (1)
    diag(F^-1)_j = (1 - sum_i W_ij^2) / damp                                                             (2)

F may be block-diagonal: the columns of G are cut into blocks G_k of `width` (the last may be shorter), each with an A_k
of its own. Here G is all of the columns or, so that there may be more than fit into memory, a chunk (m, c) of them:
whole blocks, or (width >= c) a piece of one. It is float32 or float64; products and sums are in float64, in which the
product of two float32 numbers is exact. What is a sum over columns is added to the output, so that chunks add up.
"""

import numpy as np

from . import BLOCK, contract

ROOM = 2**22  # float64 numbers that converted columns may take in a workspace
COLUMNS = 4096  # and columns of them


def column_blocks(c: int, width: int) -> int:
    """Blocks that a chunk of c columns has."""
    return -(-c // width)


def gram_tile(m: int, c: int, width: int) -> tuple[int, int]:
    """(blocks, columns of each) that are converted to float64 at once."""
    whole = max(1, min(c, width))
    at_once = max(64, min(COLUMNS, ROOM // max(1, m)))
    if whole > at_once:
        return 1, at_once
    return max(1, min(column_blocks(c, width), at_once // whole)), whole


def gram_workspace(m: int, c: int, width: int) -> int:
    """Length of the float64 scratch of `gram`: columns, and their products."""
    blocks, columns = gram_tile(m, c, width)
    return blocks * m * (columns + m)


def gram_columns_tile(m: int, c: int, width: int) -> tuple[int, int]:
    """(blocks, rows of each) that are converted to float64 at once."""
    at_once = max(64, min(COLUMNS, ROOM // width))
    if m > at_once:
        return 1, at_once
    return max(1, min(column_blocks(c, width), COLUMNS // width)), max(1, m)


def gram_columns_workspace(m: int, c: int, width: int) -> int:
    """Length of the float64 scratch of `gram_columns`: rows, and their products."""
    blocks, rows = gram_columns_tile(m, c, width)
    return blocks * width * (rows + width)


def pieces(c: int, width: int) -> int:
    """Partial sums that `row_dots` makes of a block: one for BLOCK columns."""
    return max(1, -(-min(c, width) // BLOCK))


def row_dots_workspace(m: int, c: int, width: int, s: int) -> tuple[int, int, int]:
    """Shape of the float64 scratch of `row_dots`."""
    return column_blocks(c, width) * pieces(c, width), s, m


def leverage_columns(m: int, c: int) -> int:
    """Columns of W that are there at once, a multiple of 64."""
    return 64 * max(1, min(-(-c // 64), 2 * COLUMNS // 64, ROOM // (64 * max(1, m))))


def leverage_workspace(m: int, c: int) -> tuple[int, int]:
    """Shape of the float64 scratch of `leverage`."""
    return m, leverage_columns(m, c)


def _blocks(c, width):
    """(number, its columns) of each block"""
    return ((k, slice(k * width, min((k + 1) * width, c))) for k in range(column_blocks(c, width)))


def _gradients(rng, dtype, shapes):
    """Rows whose sizes differ by up to 10^4, one of them zero, two of them equal."""
    for m, c, width in shapes:
        G = rng.standard_normal((m, c)) * np.geomspace(1, 1e-4, m)[:, None]
        if m > 3:
            G[1], G[3] = 0.0, G[2]
        yield G.astype(dtype), width


# (m, c, width): m = 1, one column, ragged last blocks, several tiles, a block in pieces, m > width, nothing
_SHAPES = ((1, 1, 1), (1, 5000, 5000), (3, 10, 4), (5, 40, 8), (33, 70, 35), (4, 4099, 4099), (2, 8200, 4100),
           (7, 2100, 9000), (40, 333, 100), (6, 5000, 20), (9, 30, 4), (70, 90, 80), (3, 0, 5))  # fmt: skip


# ---- small matrices -------------------------------------------------------------------------------------------------


def _gram_cases(rng, dtype):
    for G, width in _gradients(rng, dtype, (*_SHAPES, (64, 300, 140))):
        m, c = G.shape
        A = rng.standard_normal((column_blocks(c, width), m, m))
        yield G, width, A + A.transpose(0, 2, 1), np.full(gram_workspace(m, c, width), np.nan)


@contract(cases=_gram_cases, writes=("A",), scratch=("work",), rtol={"float32": 1e-13, "float64": 1e-13})
def gram(G, width, A, work):
    """A_k += G_k G_k'; A (blocks, m, m) float64, symmetric to the bit before and after."""
    for k, part in _blocks(G.shape[1], width):
        columns = G[:, part].astype(float)
        A[k] += columns @ columns.T


def _gram_columns_cases(rng, dtype):
    shapes = ((1, 1, 1), (3, 10, 4), (40, 33, 8), (6, 50, 20), (70, 66, 33), (100, 70, 70), (9, 130, 65), (3, 0, 5))
    for G, width in _gradients(rng, dtype, (*shapes, (20, 4101, 4), (4100, 3, 2), (5, 7, 9))):
        m, c = G.shape
        A = rng.standard_normal((column_blocks(c, width), width, width))
        yield G, width, A + A.transpose(0, 2, 1), np.full(gram_columns_workspace(m, c, width), np.nan)


@contract(cases=_gram_columns_cases, writes=("A",), scratch=("work",), rtol={"float32": 1e-13, "float64": 1e-13})
def gram_columns(G, width, A, work):
    """A_k += G_k' G_k; A (blocks, width, width) float64, symmetric to the bit. A shorter last block fills a corner."""
    for k, part in _blocks(G.shape[1], width):
        columns = G[:, part].astype(float)
        A[k, : columns.shape[1], : columns.shape[1]] += columns.T @ columns


# ---- products with vectors ------------------------------------------------------------------------------------------


def _vectors(rng, dtype, shapes):
    """G, its width, and vectors of its dtype or float64: one, a few, many, none."""
    for at, (G, width) in enumerate(_gradients(rng, dtype, shapes)):
        for s in (1, (2, 3, 4, 5, 8, 9, 16, 17)[at % 8], *([0] if at == 2 else [])):
            for wide in dict.fromkeys((np.dtype(dtype), np.dtype(float))):
                yield G, width, rng.standard_normal((s, G.shape[1])).astype(wide)


def _row_dots_cases(rng, dtype):
    for G, width, X in _vectors(rng, dtype, _SHAPES):
        (m, c), s = G.shape, X.shape[0]
        out = rng.standard_normal((column_blocks(c, width), s, m))
        yield G, width, X, out, np.full(row_dots_workspace(m, c, width, s), np.nan)


@contract(cases=_row_dots_cases, writes=("out",), scratch=("work",), rtol={"float32": 1e-13, "float64": 1e-13})
def row_dots(G, width, X, out, work):
    """out_k += X_k G_k', the G x of (1); X (s, c) of G's dtype or float64, out (blocks, s, m) float64."""
    for k, part in _blocks(G.shape[1], width):
        out[k] += X[:, part].astype(float) @ G[:, part].astype(float).T


def _combine_rows_cases(rng, dtype):
    for at, (G, width, X) in enumerate(_vectors(rng, dtype, _SHAPES)):
        C = rng.standard_normal((column_blocks(G.shape[1], width), X.shape[0], G.shape[0]))
        Y = np.full_like(X, np.nan)
        yield (G, width, C, 0.0, None, 0.7, Y) if at % 3 == 1 else (G, width, C, 1.5, X, -0.7, Y)


@contract(cases=_combine_rows_cases, writes=("Y",), rtol={"float32": 1.2e-7, "float64": 1e-13})
def combine_rows(G, width, C, alpha, X, beta, Y):
    """Y_k = alpha X_k + beta C_k G_k, the other pass of (1), rounded once; X None stands for zeros.

    C (blocks, s, m) float64; X, Y (s, c), both of G's dtype or both float64.
    """
    for k, part in _blocks(G.shape[1], width):
        Y[:, part] = (0.0 if X is None else alpha * X[:, part].astype(float)) + beta * (C[k] @ G[:, part].astype(float))


def _leverage_cases(rng, dtype):
    for G, width in _gradients(rng, dtype, (*_SHAPES, (3, 8300, 8300), (65, 150, 75))):
        m, c = G.shape
        half = rng.standard_normal((column_blocks(c, width), m, m)) / np.sqrt(m)
        L = np.linalg.cholesky(half @ half.transpose(0, 2, 1) + np.eye(m))
        yield L, G, width, np.full(c, np.nan), np.full(leverage_workspace(m, c), np.nan)


@contract(cases=_leverage_cases, writes=("out",), scratch=("work",), rtol={"float32": 1e-12, "float64": 1e-12})
def leverage(L, G, width, out, work):
    """The sum of (2) for each column: out = column sums of squares of L_k^-1 G_k; L (blocks, m, m) lower, out (c,)."""
    for k, part in _blocks(G.shape[1], width):
        out[part] = (np.linalg.solve(L[k], G[:, part].astype(float)) ** 2).sum(0)
