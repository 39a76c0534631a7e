"""What a user's map acts on: an array, or a tuple or dict of them, seen by the solver as one real vector."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import validate
from ..dispatch import home
from ..reductions import SERIAL


@dataclass(frozen=True)
class Leaf:
    """One array of the structure: its name in errors, what it is made of, and how it becomes the user's own kind."""

    name: str
    shape: tuple
    dtype: np.dtype
    own: Callable


class Tree:
    """The structure of `x0`, and the way from it to a flat vector and back.

    Complex arrays lie in the vector as their real and imaginary parts, so that its dot is the real inner product.

    Attributes
    ----------
    arrays : dict
        Name of each leaf, as `x0["a"][1]`: its array. For `dispatch.kernels_for`.
    """

    def __init__(self, name, value):
        self.name, self.leaves, self.arrays = name, [], {}
        self._shape = self._take(name, value)

    @property
    def is_vector(self):
        """Whether it is one array with one axis, of real numbers."""
        return self._shape == 0 and len(self.leaves[0].shape) == 1 and self.leaves[0].dtype.kind != "c"

    def _take(self, name, value):
        """The structure of a value, leaves as numbers; its arrays are noted."""
        if isinstance(value, dict) and not hasattr(type(value), "nnz"):
            return type(value), {key: self._take(f"{name}[{key!r}]", each) for key, each in value.items()}
        if isinstance(value, tuple):
            return type(value), [self._take(f"{name}[{i}]", each) for i, each in enumerate(value)]
        try:
            array, own = validate.own_kind(name, value)
        except TypeError as error:
            if isinstance(value, list):
                raise TypeError(f"{name} is a list that is no array; several arrays are a tuple or a dict") from error
            raise
        self.arrays[name] = array
        self.leaves.append(Leaf(name, tuple(array.shape), array.dtype, own))
        return len(self.leaves) - 1

    def start(self, k, check, ranks=SERIAL):
        """The flat vector of the value that the tree was made of; its arrays are then forgotten.

        With `ranks`, of which this one's is a part that may have no entries.
        """
        xp, parts = k.xp, []
        for i, (leaf, array) in enumerate(zip(self.leaves, self.arrays.values(), strict=True)):
            array = validate.numeric(leaf.name, array, check=check)
            self.leaves[i] = Leaf(leaf.name, leaf.shape, array.dtype, leaf.own)
            parts.append(_reals(xp, array))
        self.arrays = {}
        if not ranks.any(sum(part.size for part in parts) > 0):
            raise ValueError(f"{self.name} has no entries")
        self.k, self.dtype = k, np.result_type(*(part.dtype for part in parts))
        ranks.alike(**{f"the dtype of {self.name}": str(self.dtype)})
        self.size = sum(part.size for part in parts)
        return self._joined(parts)

    def _joined(self, parts):
        if len(parts) == 1:
            return parts[0].astype(self.dtype)  # a copy
        return self.k.xp.concatenate([part.astype(self.dtype, copy=False) for part in parts])

    def restore(self, flat):
        """The structure with the numbers of a flat vector, in arrays that are nobody else's."""
        arrays, at = [], 0
        for leaf in self.leaves:
            size = math.prod(leaf.shape) * (2 if leaf.dtype.kind == "c" else 1)
            real = np.zeros(0, leaf.dtype).real.dtype
            part = flat[at : at + size].astype(real)  # a copy
            arrays.append(leaf.own(part.view(leaf.dtype).reshape(leaf.shape)))
            at += size
        return self._build(self._shape, arrays)

    def _build(self, shape, arrays):
        if isinstance(shape, int):
            return arrays[shape]
        kind, inside = shape
        if kind is tuple:
            return tuple(self._build(each, arrays) for each in inside)
        if isinstance(inside, list):  # a named tuple
            return kind(*(self._build(each, arrays) for each in inside))
        return {key: self._build(each, arrays) for key, each in inside.items()}

    def flatten(self, what, value):
        """The flat vector of a value of the same structure; what a user's function returned, or a parameter."""
        parts: list = []
        self._collect(what, self._shape, value, parts)
        return self._joined(parts)

    def _collect(self, what, shape, value, parts):
        if isinstance(shape, int):
            parts.append(self._part(what, self.leaves[shape], value))
            return
        _, inside = shape
        if isinstance(inside, dict):
            if not isinstance(value, dict) or value.keys() != inside.keys():
                raise TypeError(f"{what} is not a dict with the keys of {self.name}, {', '.join(map(repr, inside))}")
            for key, each in inside.items():
                self._collect(f"{what}[{key!r}]", each, value[key], parts)
        else:
            if not isinstance(value, (tuple, list)) or len(value) != len(inside):
                raise TypeError(f"{what} is not a tuple of {len(inside)}, as {self.name} is")
            for i, each in enumerate(inside):
                self._collect(f"{what}[{i}]", each, value[i], parts)

    def _part(self, what, leaf, value):
        if isinstance(value, (dict, tuple)) and not hasattr(type(value), "nnz"):
            raise TypeError(f"{what} is a {type(value).__name__} where {leaf.name} is an array")
        array, _ = validate.own_kind(what, value)
        if home(array) != home(self.k.xp.empty(0)):
            raise TypeError(f"{what} is {type(array).__name__} where {leaf.name} is {self.k.xp.ndarray.__name__}")
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{what} has dtype {array.dtype}, which is not one of numbers")
        if tuple(array.shape) != leaf.shape:
            raise ValueError(f"{what} has shape {tuple(array.shape)}, {leaf.name} has {leaf.shape}")
        if array.dtype.kind == "c" and leaf.dtype.kind != "c":
            raise TypeError(f"{what} is complex; pass {leaf.name} as complex")
        return _reals(self.k.xp, array.astype(leaf.dtype, copy=False))


def _reals(xp, array):
    """A flat real view, or copy, of an array."""
    array = xp.ascontiguousarray(array).reshape(-1)
    return array.view(np.zeros(0, array.dtype).real.dtype) if array.dtype.kind == "c" else array
