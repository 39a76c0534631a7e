"""The file of a checkpoint: an .npz of plain arrays, there as a whole or not at all, and read with suspicion.

Its members are `header`, a JSON text in bytes; the arrays, whose names, dtypes and shapes the header lists; and
`digest`, BLAKE2b of all of it. Nothing is stored compressed or pickled, and `numpy.load` opens it. It is read by what
the header says: the bytes before each array have to be those that NumPy would write, so that nothing that a file says
of itself is parsed but JSON, and nothing larger than the file is allocated.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile

import numpy as np

FORMAT = 1
DTYPES = frozenset(("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"))
MOST_AXES = 16
PIECE = 1 << 24  # bytes that are read or hashed at a time


def write(path, header, arrays):
    """Write (header, arrays {name: array on the host}) and have it on the disk; there is no file where that fails."""
    listed = {name: [_little(v.dtype).str, list(v.shape), bool(_finite(v))] for name, v in arrays.items()}
    text = json.dumps({**header, "format": FORMAT, "arrays": listed}).encode()
    digest = hashlib.blake2b(text, digest_size=32)
    try:
        with open(path, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                _put(archive, "header", np.frombuffer(text, np.uint8))
                for name, array in arrays.items():
                    _put(archive, name, array.astype(_little(array.dtype), copy=False), digest)
                _put(archive, "digest", np.frombuffer(digest.digest(), np.uint8))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def read(path, *, whole=True):
    """(header, arrays) of a file, or (header, None).

    Raises
    ------
    OSError
        Where it cannot be opened.
    ValueError
        Where it is not such a file, or not as it was written.
    """
    with open(path, "rb") as file:
        try:
            return _read(file, whole)
        except Exception as error:
            why = str(error) or type(error).__name__
            raise ValueError(f"resume: {path} is not a checkpoint of ntsolve, or it is damaged: {why}") from error


def settle(part, path):
    """Let the file `part` take the place of `path`, for good."""
    os.replace(part, path)
    with contextlib.suppress(OSError):  # some systems do not open folders
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _little(dtype):
    return dtype.newbyteorder("<")


def _finite(array):
    return array.dtype.kind not in "fc" or np.isfinite(array).all()


def _prefix(dtype, shape):
    """What NumPy writes before the numbers of such an array."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": tuple(shape)})
    return out.getvalue()


def _put(archive, name, array, digest=None):
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        member.write(_prefix(array.dtype.str, array.shape))
        numbers = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, numbers.size, PIECE):
            member.write(numbers[at : at + PIECE].data)
            if digest is not None:
                digest.update(numbers[at : at + PIECE].data)


def _read(file, whole):
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("a name occurs twice")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or not 0 <= info.file_size == info.compress_size <= size:
                raise ValueError(f"{info.filename} is compressed, or larger than the file")
        length = members["header.npy"].file_size
        text = bytes(_take(archive, members["header.npy"], "|u1", [length - len(_prefix("|u1", [length]))]))
        header = json.loads(text.decode())
        if not isinstance(header, dict) or not isinstance(header["arrays"], dict):
            raise ValueError("the header is not one")
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']}, this is ntsolve of format {FORMAT}")
        if not whole:
            return header, None
        if members.keys() != {f"{name}.npy" for name in ("header", "digest", *header["arrays"])}:
            raise ValueError("arrays are missing, or there are too many")
        digest, arrays = hashlib.blake2b(text, digest_size=32), {}
        for name, (dtype, shape, finite) in header["arrays"].items():
            array = arrays[name] = _take(archive, members[f"{name}.npy"], dtype, shape, digest)
            if finite and not _finite(array):
                raise ValueError(f"{name} contains NaN or infinity")
        if bytes(_take(archive, members["digest.npy"], "|u1", [32])) != digest.digest():
            raise ValueError("the digest is another one")
        return header, arrays


def _take(archive, info, dtype, shape, digest=None):
    """An array, which is as long as the member is, or a ValueError."""
    fits = dtype in DTYPES and isinstance(shape, list) and len(shape) <= MOST_AXES
    if not fits or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{info.filename} has no shape or dtype")
    prefix, count = _prefix(dtype, shape), math.prod(shape)
    if info.file_size != len(prefix) + count * np.dtype(dtype).itemsize:
        raise ValueError(f"{info.filename} is not as long as its shape says")
    with archive.open(info) as member:
        if member.read(len(prefix)) != prefix:
            raise ValueError(f"{info.filename} does not begin as an array does")
        array = np.empty(count, dtype)
        numbers, at = array.view(np.uint8), 0
        while at < numbers.size:
            got = member.readinto(numbers[at : at + PIECE].data)
            if not got:
                raise ValueError(f"{info.filename} ends too soon")
            if digest is not None:
                digest.update(numbers[at : at + got].data)
            at += got
        if member.read(1):  # which also looks at the checksum
            raise ValueError(f"{info.filename} is too long")
    return array.reshape(shape)
