"""The faces of the cells of a grid: which of them lead to a wall, and what the others conduct.

Arrays end in the axes of the grid; `low`, `high` and `wrap` say, for each of these axes, whether what lies beyond its
two ends is a cell of value 0 (rather than a wall), and whether the axis is periodic.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate


@dataclass(frozen=True)
class Border:
    """What lies beyond the ends of each axis."""

    low: tuple
    high: tuple
    wrap: tuple

    @property
    def bits(self):
        """The periodic axes as the kernels want them: bit 0 for the last axis, and so on."""
        return sum(1 << bit for bit, wrap in enumerate(reversed(self.wrap)) if wrap)


def border(grid_shape, outside, periodic):
    """The arguments `outside` and `periodic`, checked."""
    ndim = len(grid_shape)
    wrap = (periodic,) * ndim if isinstance(periodic, (bool, np.bool_)) else _sequence(periodic)
    if len(wrap) != ndim or not all(isinstance(one, (bool, np.bool_)) for one in wrap):
        raise ValueError(f"periodic must be a bool, or one for each of {ndim} axes, not {periodic!r}")
    axes = (outside,) * ndim if isinstance(outside, str) else _sequence(outside)
    if len(axes) != ndim:
        raise ValueError(f"outside must be a word, or one (or a pair) for each of {ndim} axes, not {outside!r}")
    ends = [(axis, axis) if isinstance(axis, str) else _sequence(axis) for axis in axes]
    for pair in ends:
        if len(pair) != 2:
            raise ValueError(f"outside must have a word or a pair (low, high) for each axis: {outside!r} has not")
        for end in pair:
            validate.choice("outside", end, ("dirichlet", "neumann"))
    # one cell across, a period leads a cell to itself, across which nothing flows
    wrap = tuple(bool(one) for one in wrap)
    single = [one and extent == 1 for one, extent in zip(wrap, grid_shape, strict=True)]
    low, high = (
        tuple(pair[side] == "dirichlet" and not alone for pair, alone in zip(ends, single, strict=True))
        for side in (0, 1)
    )
    return Border(low, high, tuple(one and not alone for one, alone in zip(wrap, single, strict=True)))


def _sequence(value):
    """As a tuple, which is empty for what is no sequence."""
    return tuple(value) if isinstance(value, Iterable) else ()


def part(array, axis, ndim, where):
    """array[..., where, ...] with `where` on one of its last `ndim` axes."""
    return array[(..., where, *[slice(None)] * (ndim - 1 - axis))]


FIRST, LAST, FRONT, BACK = slice(0, 1), slice(-1, None), slice(None, -1), slice(1, None)


def open_faces(k, unknown, wall, ends):
    """How many faces of each unknown are no walls, uint8; 0 in other cells."""
    xp, ndim = k.xp, len(ends.wrap)
    passable = (~wall).astype("uint8")
    count = xp.zeros(unknown.shape, dtype="uint8")
    for axis in range(ndim):
        view = lambda array, where, axis=axis: part(array, axis, ndim, where)
        view(count, BACK)[...] += view(passable, FRONT)
        view(count, FRONT)[...] += view(passable, BACK)
        if ends.wrap[axis]:
            view(count, FIRST)[...] += view(passable, LAST)
            view(count, LAST)[...] += view(passable, FIRST)
        else:
            view(count, FIRST)[...] += np.uint8(ends.low[axis])
            view(count, LAST)[...] += np.uint8(ends.high[axis])
    count *= unknown
    return count


def linked(k, unknown, ends):
    """For each axis, where both sides of a cell's face to the next one are unknowns."""
    ndim = len(ends.wrap)
    both = []
    for axis in range(ndim):
        view = lambda array, where, axis=axis: part(array, axis, ndim, where)
        pairs = k.xp.zeros(unknown.shape, dtype=bool)
        view(pairs, FRONT)[...] = view(unknown, FRONT) & view(unknown, BACK)
        if ends.wrap[axis]:
            view(pairs, LAST)[...] = view(unknown, LAST) & view(unknown, FIRST)
        both.append(pairs)
    return both


def add_faces(faces, ends, total):
    """total += the sum of the faces of each cell."""
    ndim = len(faces)
    for axis, face in enumerate(faces):
        total += face
        part(total, axis, ndim, BACK)[...] += part(face, axis, ndim, FRONT)
        if ends.wrap[axis]:
            part(total, axis, ndim, FIRST)[...] += part(face, axis, ndim, LAST)
    return total


def harmonic(xp, a, b):
    """2 a b / (a + b), and 0 for two zeros; nothing on the way overflows."""
    least, most = xp.minimum(a, b), xp.maximum(a, b)
    return least * (2 / (1 + least / xp.where(most > 0, most, 1)))


def conducted(k, kappa, unknown, wall, weights, ends):
    """(faces between unknowns, for each axis; the sum of each unknown's faces to cells of value 0)

    A face conducts the harmonic mean of its two cells; beyond the border lies what lies within it.
    """
    xp, ndim = k.xp, len(ends.wrap)
    conduct = xp.where(wall, 0, kappa).astype(kappa.dtype)
    to_zero = unknown.astype(kappa.dtype), (~unknown & ~wall).astype(kappa.dtype)
    sink = xp.zeros_like(conduct)
    faces = []
    for axis in range(ndim):
        weight = kappa.dtype.type(weights[axis])
        face = xp.zeros_like(conduct)
        pairs = [(FRONT, BACK)] + [(LAST, FIRST)] * ends.wrap[axis]
        for here, beyond in pairs:
            one, other = part(conduct, axis, ndim, here), part(conduct, axis, ndim, beyond)
            mean = weight * harmonic(xp, one, other)
            mine, zero = ([part(flag, axis, ndim, side) for side in (here, beyond)] for flag in to_zero)
            part(face, axis, ndim, here)[...] = mean * mine[0] * mine[1]
            part(sink, axis, ndim, here)[...] += mean * mine[0] * zero[1]
            part(sink, axis, ndim, beyond)[...] += mean * mine[1] * zero[0]
        if not ends.wrap[axis]:
            for side, leads_to_zero in ((FIRST, ends.low[axis]), (LAST, ends.high[axis])):
                if leads_to_zero:
                    mine = part(to_zero[0], axis, ndim, side)
                    part(sink, axis, ndim, side)[...] += weight * part(conduct, axis, ndim, side) * mine
        faces.append(face)
    return tuple(faces), sink


def booleans(name, value, *, like=None):
    """An array of bool; 0 and 1 will do. `like` is the shape that it must have."""
    array: Any = validate.own_kind(name, value)[0]
    if array.dtype.kind in "iu":
        if bool(((array != 0) & (array != 1)).any()):
            raise ValueError(f"{name} must hold True and False (or 1 and 0), and holds other numbers")
        array = array != 0
    if array.dtype.kind != "b":
        raise TypeError(f"{name} must be an array of bool, not of {array.dtype}")
    if like is not None and tuple(array.shape) != tuple(like):
        raise ValueError(f"{name} has shape {tuple(array.shape)}, not {tuple(like)}")
    return array


def numbers(name, value, mask):
    """(a real array, the mask that goes with it or None)"""
    array = validate.numeric(name, validate.own_kind(name, value)[0], check=False)
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real")
    return array, None if mask is None else booleans("mask", mask, like=array.shape)


def require_conductive(k, kappa, unknown, wall):
    """What cells conduct must be positive in unknowns, and a number in cells of value 0."""
    if bool((unknown & ~((kappa > 0) & k.xp.isfinite(kappa))).any()):
        raise ValueError("kappa must be positive and finite in every unknown cell")
    if bool((~unknown & ~wall & ~((kappa >= 0) & k.xp.isfinite(kappa))).any()):
        raise ValueError("kappa must be finite and at least 0 in every cell of value 0 (see `solid`)")


def checked(k, mask, solid, spacing, outside, periodic, ndim, planes=None):
    """(mask, walls, what lies beyond the border, spacing), checked; where mask is a slab, `planes` are those of all."""
    if ndim is None:
        ndim = mask.ndim if mask.ndim < 4 else 3
    elif validate.count("ndim", ndim) not in (2, 3):
        raise ValueError(f"ndim must be 2 or 3, not {ndim}")
    if ndim < 2 or mask.ndim - ndim not in (0, 1):
        raise ValueError(f"mask must have 2 or 3 axes (with `ndim`: and one for a batch), not {mask.ndim}")
    grid_shape = mask.shape[mask.ndim - ndim :]
    if 0 in mask.shape:
        raise ValueError(f"mask has no cells: its shape is {tuple(mask.shape)}")
    steps = (spacing,) * ndim if np.ndim(spacing) == 0 else tuple(spacing)
    if len(steps) != ndim:
        raise ValueError(f"spacing must be a number, or one for each of {ndim} axes, not {spacing!r}")
    steps = tuple(validate.positive("spacing", float(step) if isinstance(step, np.number) else step) for step in steps)
    for weight in weights(steps):
        if not np.finfo(float).tiny <= weight <= 2 * ndim * weight < math.inf:
            raise ValueError(f"spacing {spacing!r} is out of the range in which 1 / spacing^2 is a number")
    if solid is None:
        solid = isinstance(outside, str) and outside == "neumann"
    if isinstance(solid, (bool, np.bool_)):
        wall = ~mask if solid else k.xp.zeros_like(mask)
    else:
        wall = booleans("solid", solid, like=mask.shape) & ~mask
    ends = border(grid_shape if planes is None else (planes, *grid_shape[1:]), outside, periodic)
    return k.xp.ascontiguousarray(mask).copy(), wall, ends, steps


def weights(spacing):
    return tuple(1.0 / step / step if step else math.inf for step in spacing)
