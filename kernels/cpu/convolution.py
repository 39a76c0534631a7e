"""Numba twins of contracts/convolution.py.

A line (the last axis) of all input channels and neighbouring lines is copied between two zeros; for it, four output
channels at a time are added up by passes over the line, which vectorise, and stay in the first-level cache.
"""

import numpy as np
from numba import njit, uint64

from .pool import JIT, over_blocks

_WORTH = 400_000  # multiplications that a thread is worth waking for
_MOST = 40_000_000  # in one call, so that a Ctrl-C is seen
_TOGETHER = 4  # output channels


def _lines(body, count, work, *args):
    """`over_blocks` over `count` lines of `work` multiplications each, several calls where that takes long."""
    turn = max(1, _MOST // (1 + work))
    for offset in range(0, count, turn):
        over_blocks(body, min(turn, count - offset), 1 + _WORTH // (1 + work), offset, *args)


@njit(**JIT)
def _four(a, b, c, d, x, w0, w1, w2, w3, n):
    """a, b, c, d += the 3-point convolutions of x (n + 2,) with the rows w0 .. w3."""
    p0, p1, p2, q0, q1, q2 = w0[0], w0[1], w0[2], w1[0], w1[1], w1[2]
    r0, r1, r2, s0, s1, s2 = w2[0], w2[1], w2[2], w3[0], w3[1], w3[2]
    for t in range(n):
        left, here, right = x[uint64(t)], x[uint64(t) + uint64(1)], x[uint64(t) + uint64(2)]
        a[uint64(t)] += p0 * left + p1 * here + p2 * right
        b[uint64(t)] += q0 * left + q1 * here + q2 * right
        c[uint64(t)] += r0 * left + r1 * here + r2 * right
        d[uint64(t)] += s0 * left + s1 * here + s2 * right


@njit(**JIT)
def _finish(total, bias, gate, relu, x, residual, y):
    for t in range(y.size):
        v = total[t] + bias
        if relu:
            v = max(v, np.float32(0.0))
        v *= gate[t]
        y[t] = v + x[t] if residual else v


@njit(**JIT)
def _convolve(first, last, offset, x, w, bias, gate, relu, residual, y):
    channels, n0, n1, n2 = x.shape
    outputs, K = y.shape[0], w.shape[2]
    near = np.zeros((K * 3 * channels, n2 + 2), np.float32)
    weights = np.zeros((K * 3 * channels, outputs + _TOGETHER, 3), np.float32)
    total = np.zeros((_TOGETHER, n2), np.float32)
    for k in range(K):
        for i in range(3):
            for c in range(channels):
                for o in range(outputs):
                    for j in range(3):
                        weights[(k * 3 + i) * channels + c, o, j] = w[o, c, k, i, j]
    for line in range(offset + first, offset + last):
        z, y1 = line // n1, line % n1
        rows = 0
        used = np.empty(K * 3 * channels, np.int64)
        for k in range(K):
            for i in range(3):
                zz, yy = z + k - K // 2, y1 + i - 1
                if zz < 0 or zz >= n0 or yy < 0 or yy >= n1:
                    continue
                for c in range(channels):
                    near[rows, 1 : n2 + 1] = x[c, zz, yy]
                    used[rows] = (k * 3 + i) * channels + c
                    rows += 1
        for o in range(0, outputs, _TOGETHER):
            total[:] = np.float32(0.0)
            for row in range(rows):
                ws = weights[used[row]]
                _four(total[0], total[1], total[2], total[3], near[row], ws[o], ws[o + 1], ws[o + 2], ws[o + 3], n2)
            for e in range(min(_TOGETHER, outputs - o)):
                g = gate[min(o + e, gate.shape[0] - 1), z, y1]
                _finish(total[e], bias[o + e], g, relu, x[(o + e) % channels, z, y1], residual, y[o + e, z, y1])


def convolve(x, w, bias, gate, relu, residual, y):
    _, n0, n1, n2 = x.shape
    work = w.size * n2
    _lines(_convolve, n0 * n1, work, x, w, bias, gate, bool(relu), bool(residual), y)


@njit(**JIT)
def _pool(first, last, offset, x, scale, y):
    n0, n1, n2 = x.shape[1:]
    h0, h1, h2 = y.shape[1:]
    for line in range(offset + first, offset + last):
        c, z, y1 = line // (h0 * h1), line // h1 % h0, line % h1
        out = y[c, z, y1]
        out[:] = np.float32(0.0)
        for zz in range(2 * z, min(2 * z + 2, n0)):
            for yy in range(2 * y1, min(2 * y1 + 2, n1)):
                row = x[c, zz, yy]
                for t in range(n2 // 2):
                    out[t] += row[2 * t] + row[2 * t + 1]
                if n2 % 2:
                    out[h2 - 1] += row[n2 - 1]
        for t in range(h2):
            out[t] *= scale


def pool_blocks(x, scale, y):
    channels, h0, h1, h2 = y.shape
    _lines(_pool, channels * h0 * h1, 8 * h2, x, np.float32(scale), y)


@njit(**JIT)
def _unpool_add(first, last, offset, x, inside, y):
    n0, n1, n2 = y.shape[1:]
    for line in range(offset + first, offset + last):
        c, z, y1 = line // (n0 * n1), line // n1 % n0, line % n1
        row, within, out = x[c, z // 2, y1 // 2], inside[0, z, y1], y[c, z, y1]
        for t in range(n2 // 2):
            out[2 * t] += within[2 * t] * row[t]
            out[2 * t + 1] += within[2 * t + 1] * row[t]
        if n2 % 2:
            out[n2 - 1] += within[n2 - 1] * row[n2 // 2]


def unpool_add(x, inside, y):
    channels, n0, n1, n2 = y.shape
    _lines(_unpool_add, channels * n0 * n1, n2, x, inside, y)
