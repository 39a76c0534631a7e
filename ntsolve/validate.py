"""The door: checks on what a user passes, once. Every error names the argument."""

import math
import numbers
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checkpoint import EVERY, Saving
from .dispatch import home
from .monitor import progress

FLOATS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")


def count(name: str, value: Any, *, least: int = 0) -> int:
    """A whole number that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    whole = int(value)
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return whole


def nonnegative(name, value, *, finite=True):
    """A real number >= 0."""
    number = _real(name, value)
    if not number >= 0 or (finite and math.isinf(number)):
        raise ValueError(f"{name} must be {'finite and ' if finite else ''}at least 0, not {value}")
    return number


def positive(name, value, *, finite=True):
    """A real number > 0."""
    number = _real(name, value)
    if not number > 0 or (finite and math.isinf(number)):
        raise ValueError(f"{name} must be {'' if number <= 0 or not finite else 'finite and '}positive, not {value}")
    return number


def _real(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, not {type(value).__name__}")
    return float(value)


def flag(name, value):
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def choice(name, value, allowed):
    """One of a few strings, or of True, False and None."""
    try:
        fits = bool(value in allowed)
    except (TypeError, ValueError):  # an array
        fits = False
    if not fits:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")
    return value


def function(name, value):
    """Something to call, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    return value


def arguments(name, value):
    """A tuple of what is passed on to a user's function."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple, not {type(value).__name__}: for one argument, ({name},)")
    return tuple(value)


def generator(name, value):
    """A generator of random numbers, from a seed or whatever else NumPy makes one of; None, the default, is seed 0."""
    try:
        return np.random.default_rng(0 if value is None else value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a seed or a generator, not {value!r}: {error}") from error


@dataclass(frozen=True)
class Common:
    """The keywords that every solver takes."""

    maxiter: int
    time_limit: float | None
    callback: Any
    verbose: bool
    check: bool
    on_failure: str
    began: float  # time.perf_counter() when the call came in
    saving: Saving


def _under_own_settings(callback):
    """The callback under NumPy's floating point settings as the caller has them, whatever a solver sets for itself."""
    if callback is None or isinstance(callback, progress):
        return callback
    settings = np.geterr()

    def called(state):
        with np.errstate(**settings):
            return callback(state)

    return called


def common(*, maxiter, time_limit, callback, verbose, check, on_failure, rng=None, checkpoint=None,
           checkpoint_every=EVERY, resume=None):  # fmt: skip
    """Check the keywords that every solver takes."""
    if rng is not None:
        generator("rng", rng)
    return Common(
        count("maxiter", maxiter),
        None if time_limit is None else nonnegative("time_limit", time_limit, finite=False),
        _under_own_settings(function("callback", callback)),
        bool(verbose),
        bool(check),
        choice("on_failure", on_failure, ("warn", "raise", "ignore")),
        time.perf_counter(),
        Saving(checkpoint, nonnegative("checkpoint_every", checkpoint_every, finite=False), resume),
    )


def own_kind(name, value):
    """(array that a backend knows, function that turns such an array into the caller's own kind)

    NumPy and CuPy arrays are themselves; objects with `__dlpack__` (torch, JAX) share their memory; lists become NumPy.
    """
    if value is None:
        raise TypeError(f"{name} is None where an array is needed")
    where = home(value)
    if where is not None:
        if hasattr(type(value), "nnz"):
            raise TypeError(f"{name} is a sparse matrix where an array is needed")
        return value, lambda array: array
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        on_cpu = value.__dlpack_device__()[0] == 1
        if not on_cpu and "cupy" not in sys.modules:
            import cupy  # noqa: F401
        library = np if on_cpu else sys.modules["cupy"]
        try:
            array = library.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name}: this {type(value).__name__} cannot be shared through DLPack: {error}") from error
        return array, _back_through_dlpack(value)
    try:
        return np.asarray(value), lambda array: array
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be made an array: {error}") from error


def _back_through_dlpack(value):
    if hasattr(value, "__array_namespace__"):
        library = value.__array_namespace__()
    else:
        library = sys.modules[type(value).__module__.partition(".")[0]]
    return library.from_dlpack


def numeric(name, array, *, check=True):
    """The array, if it holds real or complex numbers (all finite, where `check`); integers become float64."""
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        raise ValueError(f"{name} is a masked array with masked entries; fill or remove them first")
    if isinstance(array, np.ndarray):
        array = np.asarray(array)  # np.matrix, and masked arrays with nothing masked, become plain
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    kind = array.dtype.kind
    if kind in "biu":
        return array.astype("float64")
    if array.dtype.name == "float16":
        array = array.astype("float32")
    if array.dtype.name not in FLOATS + COMPLEX:
        supported = "float32, float64, complex64, complex128, integers and bool are supported"
        raise TypeError(f"{name} has dtype {array.dtype}; {supported}")
    if check and array.size:
        library = sys.modules[type(array).__module__.partition(".")[0]] if home(array) else np
        with np.errstate(all="ignore"):
            # a sum is quick and finite for finite numbers, unless it overflows
            fine = bool(library.isfinite(array.sum())) or bool(library.isfinite(array).all())
        if not fine:
            raise ValueError(f"{name} contains NaN or infinity")
    return array


def sparse_parts(name, A):
    """Refuse a sparse matrix whose parts do not fit together, before any compiled code trusts them."""
    if A.format in ("csr", "csc"):
        csr_parts(name, A.indptr, A.indices, A.data, A.shape if A.format == "csr" else A.shape[::-1])
    elif A.format == "bsr":
        high, wide = A.blocksize
        block_data = A.data[:, 0, 0] if A.data.size else A.data.reshape(-1)
        csr_parts(name, A.indptr, A.indices, block_data, (A.shape[0] // high, A.shape[1] // wide))
    elif A.format == "coo":
        if not A.row.size == A.col.size == A.data.size:
            raise ValueError(f"{name}: {A.row.size} rows and {A.col.size} columns for {A.data.size} values")
        for axis, index in enumerate((A.row, A.col)):
            if index.size and (int(index.min()) < 0 or int(index.max()) >= A.shape[axis]):
                raise ValueError(f"{name}: an index lies outside 0..{A.shape[axis] - 1}")
    elif A.format == "dia":
        if A.data.ndim != 2 or A.offsets.shape != A.data.shape[:1]:
            raise ValueError(f"{name}: {A.offsets.size} offsets for diagonals of shape {A.data.shape}")
    elif A.format == "lil" and (len(A.rows) != A.shape[0] or list(map(len, A.rows)) != list(map(len, A.data))):
        raise ValueError(f"{name}: the lists of columns and values are not of the same lengths")


def csr_parts(name, indptr, indices, data, shape):
    """Refuse a CSR (or, with the shape turned round, CSC) matrix whose parts do not fit together."""
    rows, columns = shape
    if indptr.size != rows + 1:
        raise ValueError(f"{name}: indptr has {indptr.size} entries, a matrix with {rows} rows needs {rows + 1}")
    if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        raise TypeError(f"{name}: indptr and indices must be integers")
    if int(indptr[0]) != 0 or bool((indptr[1:] < indptr[:-1]).any()):
        raise ValueError(f"{name}: indptr must start at 0 and never decrease")
    stored = int(indptr[-1])
    if stored > indices.size or stored > data.size:
        has = f"there are {indices.size} indices and {data.size} values"
        raise ValueError(f"{name}: indptr ends at {stored}, but {has}")
    used = indices[:stored]
    if stored and (int(used.min()) < 0 or int(used.max()) >= columns):
        raise ValueError(f"{name}: an index lies outside 0..{columns - 1}")
