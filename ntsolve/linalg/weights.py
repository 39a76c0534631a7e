"""The few numbers that a multigrid cycle on a grid is tuned by, and the files they are kept in.

For each of the finest levels, the last of them for all that are coarser:

    relaxation (red, black)   w in (0, 2) of the two halves of a red-black sweep
    faces                     alpha: a coarse face is alpha times the sum of the fine faces that it covers
    sink                      alpha_s, the same for the coupling to fixed values

alpha = 1 is the Galerkin operator of piecewise constant interpolation; alpha < 1 overcorrects, see
`ntsolve.linalg.multigrid`. Any numbers in these ranges give a positive definite cycle. Files are .npz, at most a few
hundred bytes of plain arrays.
"""

import functools
import importlib.resources
import io
from dataclasses import dataclass

import numpy as np

from . import weightfile

FAMILIES = ("mask-2d", "mask-3d", "coefficient-2d", "coefficient-3d")
"""What weights are shipped for: kind and dimension of the operator."""

RELAXATION = (0.02, 1.98)
OVERCORRECTION = (0.02, 2.0)
MOST_LEVELS = 16
_LARGEST = 1 << 16  # bytes of a file


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of a cycle on L levels.

    Attributes
    ----------
    relaxation : array (L, 2)
    faces, sink : array (L,)
    name : str
        What they are called: "untrained", a family, or a file.
    ndim : int or None
        Of the grids that they were trained on, if that is known.
    """

    relaxation: np.ndarray
    faces: np.ndarray
    sink: np.ndarray
    name: str = "given"
    ndim: int | None = None

    def at(self, level):
        """(w of red, w of black, alpha, alpha_s) on a level; the last two for the step to the next coarser one."""
        level = min(level, len(self.faces) - 1)
        return (*map(float, self.relaxation[level]), float(self.faces[level]), float(self.sink[level]))

    def arrays(self):
        """The arrays by name, as a file holds them."""
        found = {"relaxation": self.relaxation, "faces": self.faces, "sink": self.sink}
        return found if self.ndim is None else found | {"ndim": np.int64(self.ndim)}

    def save(self, path) -> None:
        """Write them to an .npz file.

        Parameters
        ----------
        path : str or path
            Written as it is, whatever its suffix.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **self.arrays())
        with open(path, "wb") as file:
            file.write(buffer.getvalue())


UNTRAINED = Weights(np.ones((1, 2)), np.full(1, 0.5), np.full(1, 0.5), "untrained")


def take(weights):
    """Weights from what a caller gave for them: "untrained", a path, a mapping of arrays, or Weights.

    Raises
    ------
    TypeError, ValueError
        Naming the argument `weights`, where it is none of these or not what weights can be.
    """
    if isinstance(weights, Weights):
        return checked(weights.arrays(), weights.name)
    if isinstance(weights, str) and weights == "untrained":
        return UNTRAINED
    return checked(*weightfile.load(weights, largest=_LARGEST, options='"auto", "untrained"'))


@functools.cache
def shipped(family):
    """The weights that come with the package for a family."""
    file = importlib.resources.files("ntsolve") / "weights" / f"{family}.npz"
    found = checked(weightfile.parse(file.read_bytes(), f"{family}.npz", _LARGEST), f"{family}.npz")
    return Weights(found.relaxation, found.faces, found.sink, family)


def checked(arrays, name):
    """Weights of arrays by name, whose names, shapes and ranges are looked at."""
    arrays = dict(arrays)
    ndim = arrays.pop("ndim", None)
    if ndim is not None and (np.shape(ndim) or ndim not in (2, 3)):
        raise ValueError(f"weights: ndim of {name} must be 2 or 3")
    if set(arrays) != {"relaxation", "faces", "sink"}:
        raise ValueError(f'weights: {name} must hold "relaxation", "faces" and "sink", not {sorted(map(str, arrays))}')
    found = {}
    for key, value in arrays.items():
        value = np.asarray(value)
        if value.dtype.kind not in "fiu":
            raise ValueError(f"weights: {key} of {name} has dtype {value.dtype}, not one of real numbers")
        found[key] = value.astype("float64")
    levels = found["faces"].size
    if not 1 <= levels <= MOST_LEVELS:
        raise ValueError(f"weights: {name} is for {levels} levels, not for 1 to {MOST_LEVELS}")
    for key, shape, (low, high) in (
        ("relaxation", (levels, 2), RELAXATION),
        ("faces", (levels,), OVERCORRECTION),
        ("sink", (levels,), OVERCORRECTION),
    ):
        if found[key].shape != shape:
            raise ValueError(f"weights: {key} of {name} has shape {found[key].shape}, not {shape}")
        if not ((found[key] >= low) & (found[key] <= high)).all():  # false for NaN
            raise ValueError(f"weights: {key} of {name} must lie between {low} and {high}")
    return Weights(found["relaxation"], found["faces"], found["sink"], name, None if ndim is None else int(ndim))
