"""Layers of convolutional networks on grids, of 3 or 2 axes: what `ntsolve.DeepConjugateDirection` applies.

A field is (channels, n0, n1, n2) float32; one of 2 axes has n0 = 1. Weights are (out, in, K, 3, 3), K = 3 or, for 2
axes, 1. What lies beyond the grid counts as 0. Everything is in float32, sums too, for so the network was trained.
"""

import numpy as np

from . import contract

SINGLE = {"float32": 3e-5, "float64": 3e-5}
"""The tolerances: there is one dtype."""


def _shapes():
    yield from ((1, 1, 1), (1, 1, 7), (1, 5, 1), (1, 16, 33), (3, 4, 5), (8, 2, 17), (5, 9, 40), (1, 3, 300))


def _convolve_cases(rng, dtype):
    every = dtype == np.float32
    for number, shape in enumerate(_shapes()):
        K = 1 if shape[0] == 1 and number % 2 else 3
        for cin, cout in ((1, 1), (2, 8), (8, 8), (3, 5), (16, 4))[:: 1 if every else 3]:
            for relu, residual in ((True, False), (False, True)):
                if residual and cin != cout:
                    continue
                x = rng.standard_normal((cin, *shape)).astype(np.float32)
                w = (rng.standard_normal((cout, cin, K, 3, 3)) / np.sqrt(9 * cin * K)).astype(np.float32)
                bias = rng.standard_normal(cout).astype(np.float32)
                gate = rng.standard_normal((1 if number % 3 == 0 else cout, *shape)).astype(np.float32)
                yield x, w, bias, gate, relu, residual, np.full((cout, *shape), np.nan, np.float32)


@contract(cases=_convolve_cases, writes=("y",), rtol=SINGLE)
def convolve(x, w, bias, gate, relu, residual, y):
    """y = [x if residual] + gate * act(w * x + bias); act(t) = max(t, 0) if relu, else t.

    x (in, ...), w (out, in, K, 3, 3), bias (out,), gate (out, ...) or (1, ...) for all channels, y (out, ...).
    (w * x)[o] is the sum over channels and offsets of w[o, c, k, i, j] x[c, n0 + k - K // 2, n1 + i - 1, n2 + j - 1].
    """
    K, grid = w.shape[2], x.shape[1:]
    padded = np.pad(x.astype(float), ((0, 0), (K // 2, K // 2), (1, 1), (1, 1)))
    total = np.zeros(y.shape) + bias.astype(float)[:, None, None, None]
    for k, i, j in np.ndindex(K, 3, 3):
        window = padded[:, k : k + grid[0], i : i + grid[1], j : j + grid[2]]
        total += np.einsum("oc,c...->o...", w[:, :, k, i, j].astype(float), window)
    y[:] = gate * (np.maximum(total, 0) if relu else total) + (x if residual else 0)


def half(shape):
    """The grid of one level down."""
    return tuple(-(-n // 2) for n in shape)


def _pool_cases(rng, dtype):
    for shape in _shapes():
        for channels in (1, 3):
            x = rng.standard_normal((channels, *shape)).astype(np.float32)
            yield x, 0.25 if shape[0] == 1 else 0.125, np.full((channels, *half(shape)), np.nan, np.float32)


@contract(cases=_pool_cases, writes=("y",), rtol=SINGLE)
def pool_blocks(x, scale, y):
    """y = scale times the sum of x over blocks of 2 x 2 x 2; x (channels, ...), y of its `half` shape."""
    grid = [2 * n for n in y.shape[1:]]
    padded = np.zeros((x.shape[0], *grid))
    padded[tuple(slice(n) for n in x.shape)] = x
    blocks = padded.reshape(x.shape[0], grid[0] // 2, 2, grid[1] // 2, 2, grid[2] // 2, 2)
    y[:] = scale * blocks.sum(axis=(2, 4, 6))


def _unpool_cases(rng, dtype):
    for shape in _shapes():
        for channels in (1, 3):
            x = rng.standard_normal((channels, *half(shape))).astype(np.float32)
            inside = (rng.random((1, *shape)) < 0.7).astype(np.float32)
            yield x, inside, rng.standard_normal((channels, *shape)).astype(np.float32)


@contract(cases=_unpool_cases, writes=("y",), rtol=SINGLE)
def unpool_add(x, inside, y):
    """y += inside times the x of a cell's block; x (channels, ...) of `half` of y's shape, inside (1, ...)."""
    spread = x
    for axis in (1, 2, 3):
        spread = np.repeat(spread, 2, axis=axis)
    y += inside * spread[tuple(slice(n) for n in y.shape)]
