"""A GridOperator without what lies around its unknowns: the same matrix, on fewer cells."""

import math

import numpy as np

from ..dispatch import kernels_for
from ..reductions import SERIAL
from .grid import GridOperator
from .grid_rows import Form

WORTH = 0.9  # of the cells, at most, that must be left


def flat(A, v):
    """Whether v is None or vectors (..., N) of the unknowns."""
    try:
        return v is None or not Form.of(A, "v", v).on_cells
    except ValueError:  # the solver will say what is wrong
        return False


def cropped(A):
    """A on the box of its unknowns, which it keeps; A itself where that is nearly all, a batch, or has coefficients.

    The box begins at even places: blocks of a multigrid cycle stay as they are.
    """
    if A.kind != "mask" or A.batch_shape or A.comm is not SERIAL:
        return A
    kept = vars(A)
    if "_cropped" not in kept:
        with kernels_for(mask=A.mask) as k:
            box = _box(k, A)
            left = math.prod(len(range(*part.indices(n))) for part, n in zip(box, A.grid_shape, strict=True))
            kept["_cropped"] = _part(k, A, box) if 0 < left <= WORTH * A.size else None
    return kept["_cropped"] or A


def _box(k, A):
    box = []
    for axis, periodic in enumerate(A.periodic):
        across = tuple(other for other in range(A.ndim) if other != axis)
        places = np.flatnonzero(k.to_host(A.mask.any(axis=across)))
        whole = periodic or not places.size
        box.append(slice(None) if whole else slice(int(places[0]) // 2 * 2, int(places[-1]) + 1))
    return tuple(box)


def _part(k, A, box):
    mask, open_faces = (k.xp.ascontiguousarray(part[box]) for part in (A.mask, A.open_faces))
    return GridOperator(k, mask, A.ends, spacing=A.spacing, dtype=A.dtype, kind="mask", scale=A.scale,
                        open_faces=open_faces, ndim=A.ndim, weak=A.weak)  # fmt: skip
