"""Numba twins of contracts/convolution.py.

A line (the last axis) of all input channels and neighbouring lines is copied between two zeros; for it, four output
channels at a time are added up by passes over the line, which vectorise, and stay in the first-level cache.
"""

import numpy as np
from numba import njit

from .floats import WIDTH, fill_floats, item_times_plus, load_floats, store_floats
from .pool import JIT, over_blocks

_WORTH = 400_000  # multiplications that a thread is worth waking for
_MOST = 40_000_000  # in one call, so that a Ctrl-C is seen
TOGETHER = 4  # output channels


def _lines(body, count, work, *args):
    """`over_blocks` over `count` lines of `work` multiplications each, several calls where that takes long."""
    turn = max(1, _MOST // (1 + work))
    for offset in range(0, count, turn):
        over_blocks(body, min(turn, count - offset), 1 + _WORTH // (1 + work), offset, *args)


@njit(**JIT)
def _four(near, place, wide, weights, first, at, rows, total, length):
    """total (4, length) = for four output channels, the sum over `rows` lines of `near` and their 3 taps.

    near: lines of `wide` floats, the first for the cell left of it, line place[row] the row's; its weights (3, 4) are
    from first[row] + at on.
    """
    for t in range(0, length, 2 * WIDTH):
        a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = fill_floats(np.float32(0.0))
        for row in range(rows):
            line = place[row] * wide
            for tap in range(3):
                x0 = load_floats(near, line + t + tap)
                x1 = load_floats(near, line + t + tap + WIDTH)
                w = first[row] + at + 4 * tap
                a0, a1 = item_times_plus(weights, w, x0, a0), item_times_plus(weights, w, x1, a1)
                b0, b1 = item_times_plus(weights, w + 1, x0, b0), item_times_plus(weights, w + 1, x1, b1)
                c0, c1 = item_times_plus(weights, w + 2, x0, c0), item_times_plus(weights, w + 2, x1, c1)
                d0, d1 = item_times_plus(weights, w + 3, x0, d0), item_times_plus(weights, w + 3, x1, d1)
        store_floats(total, t, a0)
        store_floats(total, t + WIDTH, a1)
        store_floats(total, length + t, b0)
        store_floats(total, length + t + WIDTH, b1)
        store_floats(total, 2 * length + t, c0)
        store_floats(total, 2 * length + t + WIDTH, c1)
        store_floats(total, 3 * length + t, d0)
        store_floats(total, 3 * length + t + WIDTH, d1)


@njit(**JIT)
def _copy(source, target):
    for t in range(source.size):
        target[t] = source[t]


@njit(**JIT)
def _finish(total, bias, gate, relu, x, residual, y):
    for t in range(y.size):
        v = total[t] + bias
        if relu:
            v = max(v, np.float32(0.0))
        v *= gate[t]
        y[t] = v + x[t] if residual else v


@njit(**JIT)
def _gather(w):
    """The weights in the order that `_four` reads them: (K, 3, in, groups of four outputs, taps, 4), flat."""
    outputs, channels, K = w.shape[:3]
    groups = -(-outputs // TOGETHER)
    flat = np.zeros(K * 3 * channels * groups * 3 * TOGETHER, np.float32)
    for o in range(outputs):
        for c in range(channels):
            for k in range(K):
                for i in range(3):
                    row = ((k * 3 + i) * channels + c) * groups + o // TOGETHER
                    for j in range(3):
                        flat[(row * 3 + j) * TOGETHER + o % TOGETHER] = w[o, c, k, i, j]
    return flat


@njit(**JIT)
def _convolve(first, last, offset, x, K, weights, bias, gate, relu, residual, y):
    channels, n0, n1, n2 = x.shape
    outputs = y.shape[0]
    stride = -(-outputs // TOGETHER) * 3 * TOGETHER  # of the weights of an input line
    length = -(-n2 // (2 * WIDTH)) * 2 * WIDTH
    near = np.zeros((3 * K * channels, length + 2), np.float32)  # of three lines y1, that of y1 in part y1 % 3
    total = np.empty((TOGETHER, length), np.float32)
    place, begin = np.empty(3 * K * channels, np.int64), np.empty(3 * K * channels, np.int64)
    for line in range(offset + first, offset + last):
        z, y1 = line // n1, line % n1
        new = y1 > 0 and line > offset + first  # two of the lines are there from the last time
        rows = 0
        for i in range(3):
            yy = y1 + i - 1
            if yy < 0 or yy >= n1:
                continue
            for k in range(K):
                zz = z + k - K // 2
                if zz < 0 or zz >= n0:
                    continue
                for c in range(channels):
                    place[rows] = (yy % 3 * K + k) * channels + c
                    begin[rows] = ((k * 3 + i) * channels + c) * stride
                    if i == 2 or not new:
                        _copy(x[c, zz, yy], near[place[rows], 1:])
                    rows += 1
        for o in range(0, outputs, TOGETHER):
            _four(near, place, length + 2, weights, begin, 3 * o, rows, total, length)
            for e in range(min(TOGETHER, outputs - o)):
                g = gate[min(o + e, gate.shape[0] - 1), z, y1]
                _finish(total[e], bias[o + e], g, relu, x[(o + e) % channels, z, y1], residual, y[o + e, z, y1])


def convolve(x, w, bias, gate, relu, residual, y):
    _, n0, n1, n2 = x.shape
    work = w.size * n2
    _lines(_convolve, n0 * n1, work, x, w.shape[2], _gather(w), bias, gate, bool(relu), bool(residual), y)


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
