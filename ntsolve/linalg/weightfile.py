"""Arrays by name from what a caller gave for `weights`: an .npz file of plain arrays, or a mapping.

A file is somebody else's: nothing in it is unpickled, nothing is allocated because of what its headers claim, and
whatever is wrong with it leaves as a ValueError that names the argument.
"""

import io
import math
import os
import zipfile

import numpy as np


def load(weights, *, largest, options):
    """(arrays by name, what to call them).

    Parameters
    ----------
    weights : path or mapping
    largest : int
        Bytes of a file, and of what it unpacks to.
    options : str
        What else `weights` may be, for the messages.

    Raises
    ------
    TypeError, ValueError
        Naming the argument `weights`.
    """
    if isinstance(weights, (str, os.PathLike)):
        try:
            size = os.path.getsize(weights)
            if size > largest:
                raise ValueError(f"it has {size:,} bytes, such a file has at most {largest:,}")
            with open(weights, "rb") as file:
                content = file.read(largest)
        except (OSError, ValueError) as error:
            wanted = f"weights must be {options}, a path or a dict of arrays"
            raise ValueError(f"{wanted}; no weights can be read from {weights!r}: {error}") from error
        return parse(content, str(weights), largest), str(weights)
    if hasattr(weights, "keys") and hasattr(weights, "__getitem__"):
        found = {}
        for key in weights:
            try:
                found[str(key)] = np.asarray(weights[key])
            except (TypeError, ValueError) as error:
                raise type(error)(f"weights: {key!r} cannot be made an array: {error}") from error
        return found, "given"
    raise TypeError(f"weights must be {options}, a path or a dict of arrays, not {type(weights).__name__}")


def parse(content, name, largest):
    """The arrays of the bytes of an .npz file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > largest:
                raise ValueError(f"it unpacks to more than {largest:,} bytes")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except Exception as error:  # unpacking and parsing bytes of any kind raises errors of any kind
        raise ValueError(f"weights: {name} is not an .npz file of plain arrays: {error}") from error


def _array(content):
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array in another version of the format")
    shape, turned, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"an array of shape {shape} has another number of bytes than {len(content) - file.tell()}")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if turned else "C")
