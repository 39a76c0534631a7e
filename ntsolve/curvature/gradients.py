"""Where the gradients are: an (m, d) array, rows in a file, or rows that come one chunk after the other.

Whatever it is, the methods see it piece by piece: all m rows of some columns, contiguous, in float32 or float64. An
array that is so already is one piece, itself. Rows in a file are read while the piece before is worked on, with
ordinary reads: pages of a memory map would count as memory of this process.
"""

import contextlib
import itertools
import os
import tempfile
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..config import BUDGET
from ..dispatch import home, kernels_for

PIECE = 2**26  # bytes of a piece that has to be made, where the budget does not ask for less
STORED = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Piece:
    """Columns [first, last) of G, and the blocks that they lie in: whole ones, or a part of one."""

    first: int
    last: int
    blocks: slice
    G: Any  # (m, last - first), contiguous


def cuts(d, width, most):
    """(first, last, blocks) of consecutive pieces of at most about `most` columns, for columns in blocks of `width`."""
    found = []
    if width <= most:
        step = most // width * width
        for first in range(0, d, step):
            last = min(first + step, d)
            found.append((first, last, slice(first // width, -(-last // width))))
    else:
        for block, begin in enumerate(range(0, d, width)):
            end = min(begin + width, d)
            parts = -(-(end - begin) // most)
            edges = [begin + (end - begin) * part // parts for part in range(parts + 1)]
            found += [(a, b, slice(block, block + 1)) for a, b in itertools.pairwise(edges)]
    return found


class _Rows:
    """What rows in memory and in a file have in common."""

    m: int
    d: int
    working: np.dtype  # that kernels see them in

    def pieces(self, width):
        """All rows of some columns at a time."""
        raise NotImplementedError

    def part(self, rows, first, last):
        """Columns [first, last) of a slice of the rows, contiguous, as kernels see them."""
        raise NotImplementedError

    def slabs(self, width):
        """As pieces, but of whole blocks always: of some of the rows at a time, where all would be too many."""
        most = _columns(self.m, self.working)
        if width <= most:
            yield from self.pieces(width)
            return
        step = max(1, most * self.m // width)
        for block, first in enumerate(range(0, self.d, width)):
            last = min(first + width, self.d)
            for begin in range(0, self.m, step):
                rows = slice(begin, min(begin + step, self.m))
                yield Piece(first, last, slice(block, block + 1), self.part(rows, first, last))


class InMemory(_Rows):
    """The first m rows of an array of a backend. What is not owned is copied before it is changed."""

    def __init__(self, array, *, owned=False, m=None):
        self.array, self.owned, self.m = array, owned, array.shape[0] if m is None else m
        self.d, self.working = array.shape[1], working(array.dtype)

    @property
    def _ready(self):
        return self.array.dtype == self.working and self.array.flags.c_contiguous

    def part(self, rows, first, last):
        part = self.array[rows, first:last].astype(self.working)  # of an array in another order it may be in that too
        return part if part.flags.c_contiguous else part.copy("C")

    def slabs(self, width):
        return self.pieces(width) if self._ready else super().slabs(width)

    @property
    def on_device(self):
        return home(self.array) != ("cpu", None)

    def row(self, i):
        return self.array[i].astype(self.working)

    def pieces(self, width):
        if not self.d:
            return
        if self._ready:
            yield Piece(0, self.d, slice(0, max(1, -(-self.d // width))), self.array[: self.m])
            return
        for first, last, blocks in cuts(self.d, width, _columns(self.m, self.working)):
            yield Piece(first, last, blocks, self.part(slice(0, self.m), first, last))

    def rows(self, index):
        return self.array[index]

    def columns(self, index):
        """(len(index), m) float64: the columns of G named, as rows."""
        return self.array[: self.m, index].T.astype("float64", order="C")

    def own(self, capacity):
        """Make the array this object's alone, with room for `capacity` rows."""
        if not self.owned or capacity > self.array.shape[0]:
            with kernels_for(G=self.array) as k:
                array = k.xp.zeros((capacity, self.d), self.array.dtype)
                array[: self.m] = self.array[: self.m]
            self.array, self.owned = array, True


class InFile(_Rows):
    """Rows of a file, open as `fd` and closed with this, `stride` bytes from one to the next, the first at `offset`."""

    on_device = False

    def __init__(self, fd, offset, stride, m, d, dtype):
        weakref.finalize(self, os.close, fd)
        self.fd, self.offset, self.stride, self.m, self.d, self.stored = fd, offset, stride, m, d, np.dtype(dtype)
        self.working = working(self.stored)
        self._check_length()

    def row(self, i):
        out = np.empty(self.d, self.stored)
        self._read_row(i, 0, out)
        return out.astype(self.working, copy=False)

    def _check_length(self):
        needed = self.offset + (self.m - 1) * self.stride + self.d * self.stored.itemsize
        there = os.fstat(self.fd).st_size
        if there < needed:
            raise ValueError(f"G: the file has {there} bytes; {self.m} rows of {self.d} {self.stored} need {needed}")

    def part(self, rows, first, last):
        self._check_length()
        out = np.empty((rows.stop - rows.start, last - first), self.stored)
        for i, row in enumerate(out, rows.start):
            self._read_row(i, first, row)
        return out.astype(self.working, copy=False)

    def _read(self, first, last, out):
        """Fill out (m, last - first) with columns [first, last), and have the system fetch as many that come next."""
        size = self.stored.itemsize
        for i in range(self.m):
            ahead = self.offset + i * self.stride + last * size
            os.posix_fadvise(self.fd, ahead, (last - first) * size, os.POSIX_FADV_WILLNEED)
            self._read_row(i, first, out[i])

    def _read_row(self, i, first, out):
        begin = self.offset + i * self.stride + first * self.stored.itemsize
        row, done = memoryview(out).cast("B"), 0
        while done < len(row):
            got = os.preadv(self.fd, [row[done:]], begin + done)
            if got == 0:
                raise ValueError(f"G: the file ends within row {i}")
            done += got

    def pieces(self, width):
        self._check_length()
        dtype = working(self.stored)
        todo = cuts(self.d, width, _columns(self.m, dtype))
        spare = [np.empty(self.m * max(last - first for first, last, _ in todo), self.stored) for _ in range(2)]

        def fetch(number):
            first, last, _ = todo[number]
            out = spare[number % 2][: self.m * (last - first)].reshape(self.m, last - first)
            self._read(first, last, out)
            return out

        with ThreadPoolExecutor(1, thread_name_prefix="ntsolve-read") as reader:
            coming = reader.submit(fetch, 0)
            for number, (first, last, blocks) in enumerate(todo):
                here = coming.result()
                if number + 1 < len(todo):
                    coming = reader.submit(fetch, number + 1)
                yield Piece(first, last, blocks, here.astype(dtype, copy=False))

    def rows(self, index):
        out = np.empty((len(index), self.d), self.stored)
        for row, i in zip(out, index, strict=True):
            self._read_row(int(i), 0, row)
        return out

    def columns(self, index):
        """(len(index), m) float64: the columns of G named, as rows."""
        out, one = np.empty((len(index), self.m)), np.empty((self.m, 1), self.stored)
        for row, j in zip(out, index, strict=True):
            self._read(int(j), int(j) + 1, one)
            row[...] = one[:, 0]
        return out

    def own(self, capacity):
        raise ValueError("gradients in a file are left as they are: for a window that moves, EmpiricalFisher.window")


# ---- from what a user passes ----------------------------------------------------------------------------------------


def gradients(G, *, part=False):
    """InMemory or InFile for an array (m, d), a memory map, or an iterable of rows or chunks of rows.

    A `part` of all columns may be none of them. A memory map larger than the budget is read from its file, piece by
    piece. What an iterable brings is kept in memory up to half the budget, and in a temporary file beyond that.
    """
    if isinstance(G, (list, tuple)) and not any(getattr(part, "ndim", 0) == 2 for part in G):
        try:
            G = np.asarray(G)
        except ValueError as error:
            raise ValueError(f"G: rows of different lengths: {error}") from None
    if home(G) is None and not hasattr(G, "__dlpack__") and not hasattr(G, "__array__"):
        if not isinstance(G, Iterable):
            raise TypeError(f"G must be an array (m, d) or an iterable of rows, not {type(G).__name__}")
        return _collected(G)
    G, _ = validate.own_kind("G", G)
    G = _rows(G, "G")
    if G.ndim != 2:
        raise ValueError(f"G must have the shape (m, d), one gradient a row, not {tuple(G.shape)}")
    if 0 in G.shape[: 1 if part else 2]:
        raise ValueError(f"G is empty: its shape is {tuple(G.shape)}")
    mapped = _mapped(G) if G.size else None
    if mapped is not None and G.nbytes > BUDGET.get():
        return mapped
    return InMemory(G)


def stored(name, dtype):
    """One of the dtypes that gradients are kept in."""
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if found.name not in STORED:
        raise TypeError(f"{name} must be {', '.join(STORED[:-1])} or {STORED[-1]}, not {found}")
    return found


def working(dtype):
    """The dtype that kernels see: float16 as float32."""
    return np.dtype("float32") if dtype == np.float16 else np.dtype(dtype)


def _columns(m, dtype):
    """Columns of a piece that has to be made. Four may be there at once: two read, one converted, one in a kernel."""
    return max(1, min(PIECE, BUDGET.get() // 4) // (m * np.dtype(dtype).itemsize))


def _rows(array, name):
    """The array, in one of the dtypes that gradients are kept in."""
    if isinstance(array, np.ndarray):
        if np.ma.is_masked(array):
            raise ValueError(f"{name} is a masked array with masked entries; fill or remove them first")
        array = np.asarray(array)
    if array.dtype.kind in "biu":
        return array.astype("float64")
    if array.dtype.name not in STORED or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; {', '.join(STORED)} and integers are supported")
    return array


def _mapped(G):
    """The file behind a memory map; None where there is none that can be read as it lies there."""
    root = G
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not root.filename or G.strides[1] != G.itemsize or G.strides[0] < 0:
        return None
    if root.mode == "c":  # what was written to such a map is not in the file
        return None
    offset = root.offset + G.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    try:
        fd = os.open(root.filename, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    m, d = G.shape
    return InFile(fd, offset, G.strides[0], m, d, G.dtype)


def _collected(chunks):
    """The rows of all chunks: an array, or a temporary file where they are more than half the budget."""
    kept: list[Any] = []
    m, d, dtype = 0, -1, np.dtype(float)
    with contextlib.ExitStack() as spill:
        file = None
        for number, chunk in enumerate(chunks):
            name = f"G, chunk {number}"
            chunk = _rows(validate.own_kind(name, chunk)[0], name)
            chunk = chunk[None] if chunk.ndim == 1 else chunk
            if chunk.ndim != 2:
                raise ValueError(f"{name} must have the shape (rows, d) or (d,), not {tuple(chunk.shape)}")
            if number == 0:
                d, dtype = chunk.shape[1], chunk.dtype
            if chunk.shape[1] != d:
                raise ValueError(f"{name} has {chunk.shape[1]} columns, the first chunk has {d}")
            m += chunk.shape[0]
            on_cpu = home(chunk) == ("cpu", None)
            if file is None and on_cpu and m * d * dtype.itemsize > BUDGET.get() // 2:
                file = spill.enter_context(tempfile.TemporaryFile(prefix="ntsolve-"))
                for earlier in kept:
                    earlier.tofile(file)
            if file is None:
                kept.append(chunk.astype(dtype))  # a copy: the same buffer may come again with the next rows in it
            else:
                np.ascontiguousarray(chunk, dtype).tofile(file)
        if not m or d == 0:
            raise ValueError("G is empty: no gradient came, or gradients without entries")
        if file is not None:
            file.flush()
            return InFile(os.dup(file.fileno()), 0, d * dtype.itemsize, m, d, dtype)
    with kernels_for(**{f"chunk {number}": chunk for number, chunk in enumerate(kept)}) as k:
        return InMemory(k.xp.concatenate(kept), owned=True)
