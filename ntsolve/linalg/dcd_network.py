"""The network behind `ntsolve.DeepConjugateDirection`, applied by the package's own kernels, without torch.

A residual r on a grid goes in, an approximation q of A^-1 r up to a factor comes out. Levels l = 0, 1, ... halve the
grid; 0, 1 and 2 have parameters of their own, those of 2 serve all deeper ones, so that a larger grid has more levels
and not another network. With * a convolution of 3 points an axis, g_l a field for each channel ("gate"), m_l whether a
cell has unknowns in it, and relu(t) = max(t, 0):

    g_l = m_l (W_g * relu(W_2 * relu(W_1 * (share, walls, zeros) + b_1) + b_2) + b_g)   once for an operator      (1)
    h = g_l (W_in * r_l)                                                                                          (2)
    h = h + g_l relu(W * h)                                  residual blocks, some before (3) and some after it   (3)
    r_{l+1} = mean of h over blocks of 2^dim cells,  h += m_l q_{l+1} of the block that a cell is in              (4)
    q_l = m_l (W_out * h)                                                                                         (5)

(2), (3) and (5) are layers as in Kaneda et al. (2023), whose network has one pooled level and sees the residual only.
That the network is told the domain is after Lan et al. (2024): by the share of unknowns in a cell, and the shares of
its faces to walls and to cells of value 0, which grow with a cell's surface where blocks are pooled, not with its
volume. There are no biases on the way of r, so that q(c r) = c q(r) for c > 0.
"""

import copy
import functools
import importlib.resources

import numpy as np

from ..kernels.contracts.convolution import half
from . import weightfile

OWN_LEVELS, FEATURES = 3, 3
LARGEST = 2 << 20  # bytes of a file
MOST_BLOCKS, MOST_CHANNELS, STEEPEST = 16, 256, 1e4


# ---- parameters ------------------------------------------------------------------------------------------------------


def take(weights, dim):
    """Parameters by name for a grid of `dim` axes, from "auto", a path or a mapping of arrays.

    Raises
    ------
    TypeError, ValueError
        Naming the argument `weights`, where it is none of these or not what parameters can be.
    """
    if isinstance(weights, str) and weights == "auto":
        return shipped(dim)
    arrays, name = weightfile.load(weights, largest=LARGEST, options='"auto"')
    return checked(arrays, dim, name)


@functools.cache
def shipped(dim):
    """The parameters that come with the package."""
    name = f"dcd_{dim}d.npz"
    content = (importlib.resources.files("ntsolve") / "weights" / name).read_bytes()
    return checked(weightfile.parse(content, name, LARGEST), dim, name)


def checked(arrays, dim, name):
    """The arrays as float32, names, shapes and ranges looked at."""
    for key, value in arrays.items():
        if value.dtype.kind != "f":
            raise ValueError(f"weights: {key} of {name} has dtype {value.dtype}, not one of real numbers")
        if not (abs(value) <= STEEPEST).all():  # false for NaN
            raise ValueError(f"weights: {key} of {name} holds NaN or numbers beyond {STEEPEST:g}")
    expected = _expected(arrays, dim)
    if set(expected) != set(arrays):
        odd = sorted(set(expected) ^ set(arrays))[:3]
        raise ValueError(f"weights: {name} lacks arrays of a network, or holds others: {', '.join(odd)}, ...")
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            hint = f"; a network for {dim} axes is needed" if len(arrays[key].shape) != len(shape) else ""
            raise ValueError(f"weights: {key} of {name} has shape {arrays[key].shape}, not {shape}{hint}")
    return {key: value.astype(np.float32) for key, value in arrays.items()}


def _expected(arrays, dim):
    """Names and shapes that go with the numbers of channels and blocks of `arrays`."""
    taps, shapes, inputs = (3,) * dim, {}, 1
    coarse = _leading(arrays, "levels.2.enter.weight")
    for level in range(OWN_LEVELS):
        at = f"levels.{level}."
        channels, features = _leading(arrays, at + "enter.weight"), _leading(arrays, at + "feature1.weight")
        for part, outer, inner in (("feature1", features, FEATURES), ("feature2", features, features),
                                   ("gate", channels, features)):  # fmt: skip
            shapes[f"{at}{part}.weight"], shapes[f"{at}{part}.bias"] = (outer, inner, *taps), (outer,)
        shapes[at + "enter.weight"] = (channels, inputs, *taps)
        shapes[at + "leave.weight"] = (inputs, channels, *taps)
        for way in ("before", "after"):
            for block in range(_blocks(arrays, at + way)):
                shapes[f"{at}{way}.{block}.weight"] = (channels, channels, *taps)
        inputs = channels if level == 0 else coarse
    return shapes


def _leading(arrays, key):
    """Channels, from the leading extent of an array that must be there."""
    shape = arrays[key].shape if key in arrays else ()
    return max(1, min(MOST_CHANNELS, shape[0])) if shape else 1


def _blocks(arrays, way):
    return next(n for n in range(MOST_BLOCKS + 1) if n == MOST_BLOCKS or f"{way}.{n}.weight" not in arrays)


# ---- the network -----------------------------------------------------------------------------------------------------


class Network:
    """The parameters in the memory of a backend."""

    def __init__(self, k, parameters):
        self.k, self.parts = k, []
        for level in range(OWN_LEVELS):
            at = f"levels.{level}."
            part = {key.removeprefix(at): value for key, value in parameters.items() if key.startswith(at)}
            self.parts.append({key: self._array(value) for key, value in part.items()})
        self.channels = [part["enter.weight"].shape[0] for part in self.parts]

    def _array(self, value):
        """Weights (out, in, 3, 3) get the axis that a grid of 2 axes lacks."""
        value = value[:, :, None] if value.ndim == 4 else value
        return self.k.xp.asarray(np.ascontiguousarray(value))

    def on(self, share, walls, zeros):
        """The network for one domain, of which these are fields (n0, n1, n2) float32; faces in units of 2 dim."""
        return Domain(self, share, walls, zeros)

    def work(self, unknowns=1):
        """Multiplications that one application takes, for each of the cells of a large grid."""
        per = [sum(w.size for key, w in part.items() if key.startswith(("enter", "before", "after", "leave")))
               for part in self.parts]  # fmt: skip
        shrink = 2 ** (2 if self.parts[0]["enter.weight"].shape[2] == 1 else 3)
        return unknowns * (per[0] + per[1] / shrink + per[2] / shrink**2 / (1 - 1 / shrink))


class _Level:
    """Gate and memory of one level."""

    def __init__(self, network, depth, features):
        k, xp = network.k, network.k.xp
        self.part = part = network.parts[min(depth, OWN_LEVELS - 1)]
        grid, channels = features.shape[1:], part["enter.weight"].shape[0]
        hidden = part["feature1.weight"].shape[0]

        def field(n):
            return xp.empty((n, *grid), dtype="float32")

        self.inside, self.zeros = (features[:1] > 0).astype("float32"), xp.zeros(channels, dtype="float32")
        self.gate, ones = field(channels), xp.ones((1, *grid), dtype="float32")
        first, second = field(hidden), field(hidden)
        k.convolve(features, part["feature1.weight"], part["feature1.bias"], ones, True, False, first)
        k.convolve(first, part["feature2.weight"], part["feature2.bias"], ones, True, False, second)
        k.convolve(second, part["gate.weight"], part["gate.bias"], self.inside, False, False, self.gate)  # (1)
        inputs = part["leave.weight"].shape[0]
        self.r, self.h, self.other = field(inputs), field(channels), field(channels)
        self.before = [part[f"before.{n}.weight"] for n in range(_blocks(part, "before"))]
        self.after = [part[f"after.{n}.weight"] for n in range(_blocks(part, "after"))]

    def twin(self, xp):
        """The same gate with memory of its own."""
        other = copy.copy(self)
        other.r, other.h, other.other = (xp.empty_like(field) for field in (self.r, self.h, self.other))
        return other


class Domain:
    """The network with the gates of one domain, and the memory that an application needs."""

    def __init__(self, network, *features):
        self.k, xp = network.k, network.k.xp
        self.scale = 0.25 if network.parts[0]["enter.weight"].shape[2] == 1 else 0.125
        fields = xp.stack(features)
        self.levels = [_Level(network, 0, fields)]
        while max(fields.shape[1:]) >= 4:
            fine, fields = fields, xp.empty((FEATURES, *half(fields.shape[1:])), dtype="float32")
            self.k.pool_blocks(fine, self.scale, fields)
            fields[1:] *= 2  # of surfaces
            self.levels.append(_Level(network, len(self.levels), fields))
        self.r = self.levels[0].r  # (1, n0, n1, n2): in goes the residual, out comes the direction

    def twin(self):
        """The same with memory of its own."""
        other = copy.copy(self)
        other.levels = [level.twin(self.k.xp) for level in self.levels]
        other.r = other.levels[0].r
        return other

    def apply(self):
        """From the residual in `r` to the direction in `r`."""
        k = self.k
        for depth, level in enumerate(self.levels):
            k.convolve(level.r, level.part["enter.weight"], level.zeros, level.gate, False, False, level.h)  # (2)
            self._blocks(level, level.before)
            if depth + 1 < len(self.levels):
                k.pool_blocks(level.h, self.scale, self.levels[depth + 1].r)  # (4)
        for depth in reversed(range(len(self.levels))):
            level = self.levels[depth]
            if depth + 1 < len(self.levels):
                k.unpool_add(self.levels[depth + 1].r, level.inside, level.h)  # (4)
            self._blocks(level, level.after)
            no_bias = level.zeros[:1] if depth == 0 else self.levels[depth - 1].zeros
            k.convolve(level.h, level.part["leave.weight"], no_bias, level.inside, False, False, level.r)  # (5)

    def _blocks(self, level, weights):
        for w in weights:
            self.k.convolve(level.h, w, level.zeros, level.gate, True, True, level.other)  # (3)
            level.h, level.other = level.other, level.h
