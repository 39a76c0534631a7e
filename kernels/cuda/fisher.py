"""CUDA twins of contracts/fisher.py: launch geometry and typed arguments.

Products of matrices are cuBLAS's, through CuPy, on columns converted to float64, where there is no TF32.
"""

import functools

import cupy
import numpy as np

from ..contracts.fisher import gram_columns_tile, gram_tile, pieces
from .launch import CTYPE, INSTANCES, launch

FILE = "fisher.cu"
THREADS, ROWS_A_BLOCK, AT_ONCE = 256, 32, (1, 8)
PAIRS = (("float", "float"), ("float", "double"), ("double", "double"))
INSTANCES[FILE] = [
    *(f"{name}<{t},{v},{s}>" for name in ("row_dots", "combine_rows") for t, v in PAIRS for s in AT_ONCE),
    *(f"{name}<{t}>" for name in ("convert", "leverage") for t in ("float", "double")),
    "row_dots_total",
    "add_symmetric",
]
_launch = functools.partial(launch, FILE)
_int = np.int32


def _instance(name, G, X):
    """The instance for these dtypes and so many vectors, and how many it takes at once."""
    at_once = AT_ONCE[X.shape[0] > 1]
    return f"{name}<{CTYPE[G.dtype.name]},{CTYPE[X.dtype.name]},{at_once}>", at_once


# ---- products with vectors ------------------------------------------------------------------------------------------


def row_dots(G, width, X, out, work):
    (m, c), (units, s, _) = G.shape, work.shape
    runs = pieces(c, width)
    instance, at_once = _instance("row_dots", G, X)
    sizes = (_int(m), _int(c), _int(min(width, c)), _int(runs), _int(s))
    _launch(instance, (units * -(-s // at_once), -(-m // ROWS_A_BLOCK)), THREADS, (G, X, work, *sizes))
    _launch("row_dots_total", (units // runs, -(-s * m // THREADS)), THREADS, (work, out, _int(runs), _int(s * m)))


def combine_rows(G, width, C, alpha, X, beta, Y):
    (m, c), s = G.shape, Y.shape[0]
    width = min(width, c)
    threads = next((t for t in (64, 128) if t >= width), THREADS)
    runs = -(-width // threads)
    instance, at_once = _instance("combine_rows", G, Y)
    numbers = (np.float64(alpha), np.float64(beta), _int(m), _int(c), _int(width), _int(runs), _int(s))
    _launch(instance, (C.shape[0] * runs * -(-s // at_once),), threads, (G, C, X, Y, *numbers))


# ---- small matrices -------------------------------------------------------------------------------------------------


def _convert(G, tile, width, row, block, offset):
    blocks, rows, columns = tile.shape
    place = (_int(G.shape[1]), _int(width), _int(row), _int(block), _int(offset), _int(rows), _int(columns))
    instance = f"convert<{CTYPE[G.dtype.name]}>"
    _launch(instance, (blocks * rows, -(-columns // THREADS)), THREADS, (G, tile, *place))


def _shaped(work, *shape):
    return work[: np.prod(shape, dtype=int)].reshape(shape)


def _add_products(left, right, products, A):
    """A += left right, symmetric to the bit, which cuBLAS does not promise."""
    if len(A) == 1:  # as two matrices, which CuPy hands over without a copy
        cupy.matmul(left[0], right[0], out=products[0])
    else:
        cupy.matmul(left, right, out=products)
    blocks, q, _ = A.shape
    _launch("add_symmetric", (blocks * q, -(-q // THREADS)), THREADS, (products, A, _int(q)))


def gram(G, width, A, work):
    m, c = G.shape
    width = min(width, max(1, c))
    at_once, columns = gram_tile(m, c, width)
    for block in range(0, A.shape[0] if m else 0, at_once):
        part = A[block : block + at_once]
        for offset in range(0, width, columns):
            tile = _shaped(work, len(part), m, min(columns, width - offset))
            _convert(G, tile, width, 0, block, offset)
            _add_products(tile, tile.transpose(0, 2, 1), _shaped(work[tile.size :], *part.shape), part)


def gram_columns(G, width, A, work):
    m, c = G.shape
    at_once, rows = gram_columns_tile(m, c, width)
    for block in range(0, A.shape[0], at_once):
        part = A[block : block + at_once]
        for row in range(0, m, rows):
            tile = _shaped(work, len(part), min(rows, m - row), width)
            _convert(G, tile, width, row, block, 0)
            _add_products(tile.transpose(0, 2, 1), tile, _shaped(work[tile.size :], *part.shape), part)


def leverage(L, G, width, out, work):
    (m, c), room = G.shape, work.shape[1]
    width = min(width, c)
    runs = -(-width // 64) if width else 0
    units = L.shape[0] * runs
    sizes = (_int(m), _int(c), _int(width), _int(runs), _int(units), _int(room))
    _launch(f"leverage<{CTYPE[G.dtype.name]}>", (min(units, room // 64),), THREADS, (L, G, out, work, *sizes))
