"""Checkpoints: the state of a long solve, kept on disk, from which the same call goes on.

A solver says what its state is, and the rest is here and in `Monitor`: when to write, what may be read, and what a file
has to be of. What can be kept has an attribute `kept`, the names of the attributes that are its state:

    class State:
        kept = ("x", "r", "steps")

Arrays, numbers, strings, None, generators of random numbers, tuples and dicts of these, and objects that can be kept
themselves. `packed` takes the state out; `Saved.into` puts it back, where each value has to be of the kind, dtype and
shape of what is there; arrays named in `grows` may be longer. Where that does not do, `pack()` returns {name: value},
and `unpack(saved)` takes a `Saved`.

A file is of one solver, version, problem and set of settings: arrays count by their bytes, functions by their being
functions. It may hold what it likes, success comes from a residual that is computed after reading, as in any solve.

In a distributed run each rank has a file of its own, `run.0of2.npz`. All write at the same iteration, generation by
generation, and the one before, `run.0of2.before.npz`, stays: whenever the run is killed, all have one in common.
"""

import dataclasses
import errno
import glob
import hashlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import checkpointfile
from ._version import __version__
from .dispatch import home
from .errors import CheckpointWarning
from .reductions import SERIAL

EVERY = 60.0  # seconds between two checkpoints


class Saving:
    """What the keywords `checkpoint`, `checkpoint_every` and `resume` ask for, looked at before any work is done."""

    def __init__(self, path=None, every=EVERY, resume=None):
        self.path, self.every, self.resume = _path("checkpoint", path), every, _path("resume", resume)
        if self.path is not None:
            self.path = os.path.realpath(self.path)  # a callback may change to another folder, a link is to stay one
            _writable(self.path)
        self.same = None not in (self.path, self.resume) and self.path == os.path.realpath(self.resume)
        if self.resume is not None and not self.same and not (os.path.exists(self.resume) or of_ranks(self.resume)):
            raise FileNotFoundError(errno.ENOENT, "resume: there is no such file", self.resume)

    @property
    def wanted(self):
        """Whether there is anything to keep, or to go on from."""
        return self.path is not None or self.resume is not None

    def of(self, solver, k, comm=SERIAL, **identity):
        """The `Keeper` of a solve by that solver on those kernels, or None; `identity` is problem and settings."""
        comm = comm or SERIAL
        comm.alike(**{"whether checkpoint is given": self.path is not None,
                      "whether resume is given": self.resume is not None})  # fmt: skip
        return Keeper(self, solver, k, comm, identity) if self.wanted else None


def _path(name, value):
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")
    path = os.fspath(value)
    if not os.path.basename(path) or "\0" in path:
        raise ValueError(f"{name} must be the path of a file, not {path!r}")
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, f"{name} is a folder", path)
    return path


def _writable(path):
    folder = os.path.dirname(path)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ntsolve")
            file.flush()
    except OSError as error:
        raise type(error)(error.errno, f"checkpoint cannot be written here ({error.strerror})", folder) from error


def _of_rank(path, rank, ranks, before=""):
    root, end = os.path.splitext(path)
    return path if ranks == 1 else f"{root}.{rank}of{ranks}{before}{end}"


def of_ranks(path):
    """Files of that path that the ranks of a distributed run have written."""
    root, end = os.path.splitext(path)
    return glob.glob(f"{glob.escape(root)}.*of*{glob.escape(end)}")


class Keeper:
    """Keeps the state of one solve in files, and takes it from there."""

    def __init__(self, saving, solver, k, comm, identity):
        self.saving, self.solver, self.k, self.comm = saving, solver, k, comm
        self.rank, self.ranks = getattr(comm, "rank", 0), getattr(comm, "size", 1)
        self.identity = {name: fingerprint(value) for name, value in identity.items()}
        # by the clock, so that files which an earlier run has left are not taken for some of this one
        self.generation, self._failed = int(comm.largest([1e6 * time.time()])[0]), False
        self._written = time.perf_counter()

    # ---- writing ----------------------------------------------------------------------------------------------------

    def due(self):
        """Whether it is time to write, which all ranks agree upon."""
        late = self.saving.path is not None and time.perf_counter() - self._written >= self.saving.every
        return self.comm.any(late)

    def save(self, progress, state):
        """Write where the solve is; `progress` is what its Monitor knows. A disk that refuses is a warning."""
        if self.saving.path is None:
            return
        path = _of_rank(self.saving.path, self.rank, self.ranks)
        part, error = f"{path}.part", None
        try:
            checkpointfile.write(part, *self._content(progress, state))
        except OSError as refused:
            error = refused
        if not self.comm.any(error is not None):  # all of this generation, or none
            self.generation += 1  # also where the next lines fail, so that ranks go on counting alike
            try:
                if self.ranks > 1 and os.path.exists(path):
                    os.replace(path, _of_rank(self.saving.path, self.rank, self.ranks, ".before"))
                checkpointfile.settle(part, path)
                self._failed = False
            except OSError as refused:
                error = refused
        if error is not None and not self._failed:
            self._failed = True
            warnings.warn(f"checkpoint: {path} could not be written, the solve goes on without: {error}",
                          CheckpointWarning, stacklevel=2)  # fmt: skip
        self._written = time.perf_counter()

    def _content(self, progress, state):
        arrays: dict[str, Any] = {}
        header = {"solver": self.solver, "version": __version__, "rank": self.rank, "ranks": self.ranks,
                  "generation": self.generation + 1, "identity": self.identity}  # fmt: skip
        header["progress"] = _plain("progress", progress, arrays, self.k)
        header["state"] = _plain("state", packed(state), arrays, self.k)
        return header, arrays

    def look_for_room(self, progress, state):
        """An error where the disk is too full for a checkpoint, before there is anything to lose."""
        if self.saving.path is None:
            return
        needed = sum(array.nbytes for array in self._content(progress, state)[1].values())
        folder = os.path.dirname(self.saving.path)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"checkpoint takes {needed} bytes, and there is room for {free}", folder)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def load(self):
        """(progress, state) as `Saved`, or None where the solve is to begin anew."""
        saving = self.saving
        if saving.resume is None:
            return None
        path = saving.resume if self.ranks == 1 else self._in_common()
        if path is None or not os.path.exists(path):
            found = of_ranks(saving.resume) + [saving.resume] * os.path.exists(saving.resume)
            others = [file for file in found if f"of{self.ranks}." not in os.path.basename(file)]
            if others:
                said = f"this run has {self.ranks} ranks, and {others[0]} was written by another number of them"
                raise ValueError(f"resume: {said}")
            if saving.same:
                return None
            raise FileNotFoundError(errno.ENOENT, "resume: there is no such file", saving.resume)
        header, arrays = checkpointfile.read(path)
        try:
            self._suits(path, header)
            self.generation = max(self.generation, int(header["generation"]))
            return tuple(Saved(header[name], arrays, name, self.k) for name in ("progress", "state"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"resume: {path} is not a checkpoint of ntsolve, or it is damaged: {error!r}") from error

    def _in_common(self):
        """The file of the last generation that all ranks have, or None."""
        paths = [_of_rank(self.saving.resume, self.rank, self.ranks, before) for before in ("", ".before")]
        mine, damage = np.full((1, 2), -1, np.int64), None
        for at, path in enumerate(paths):
            try:
                mine[0, at] = checkpointfile.read(path, whole=False)[0]["generation"]
            except FileNotFoundError:
                pass
            except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
                damage = error
        everyone = np.asarray(self.comm.gather(mine)).reshape(-1, 2)
        common = set(everyone[0].tolist()).intersection(*(row.tolist() for row in everyone)) - {-1}
        if common:
            return paths[mine[0].tolist().index(max(common))]
        if self.comm.any(damage is not None):
            found = damage or f"resume: of {self.saving.resume}, the file of another rank is damaged"
            raise ValueError(str(found)) from damage
        return None

    def _suits(self, path, header):
        """A ValueError unless the file is of this solver, version, problem and settings."""
        what = f"resume: {path} was written by"
        if header["solver"] != self.solver:
            raise ValueError(f"{what} {header['solver']}, and this is {self.solver}")
        if header["version"] != __version__:
            raise ValueError(f"{what} ntsolve {header['version']}, and this is {__version__}")
        if (header["rank"], header["ranks"]) != (self.rank, self.ranks):
            raise ValueError(f"{what} rank {header['rank']} of {header['ranks']}, this is {self.rank} of {self.ranks}")
        for name in sorted(header["identity"].keys() | self.identity.keys()):
            before, now = header["identity"].get(name), self.identity.get(name)
            if before != now:
                raise ValueError(f"resume: {path} is of another problem: {name} was {before}, and is {now}. To go on "
                                 "with another, end this one as it was, and start from its answer")  # fmt: skip


# ---- what a file is of ----------------------------------------------------------------------------------------------


def fingerprint(value):
    """A text that tells one value from another: arrays by their bytes, functions and operators by their kind only."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)
    if isinstance(value, np.generic):
        return repr(value.item())
    if hasattr(type(value), "identity"):
        return f"{type(value).__name__} {fingerprint(value.identity())}"
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {fingerprint(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(fingerprint, value)) + ")"
    if hasattr(type(value), "nnz") and hasattr(value, "tocsr"):
        csr = value.tocsr()
        return f"sparse {tuple(csr.shape)} {fingerprint((csr.data, csr.indices, csr.indptr))}"
    if hasattr(value, "dtype") and home(value) is not None:
        array = np.ascontiguousarray(value.get() if hasattr(value, "get") else value)
        digest = hashlib.blake2b(array.reshape(-1).view(np.uint8).data, digest_size=16).hexdigest()
        return f"{array.dtype} {tuple(value.shape)} {digest}"
    return getattr(type(value), "__name__", "object") if not callable(value) else "a function"


# ---- what is in it --------------------------------------------------------------------------------------------------


def packed(thing):
    """{name: value}, the state of what can be kept."""
    return thing.pack() if hasattr(thing, "pack") else {name: getattr(thing, name) for name in thing.kept}


def _can_be_kept(value):
    return hasattr(value, "pack") or hasattr(value, "kept")


def _is_array(value):
    return hasattr(value, "dtype") and hasattr(value, "shape") and home(value) is not None and value.ndim > 0


def _plain(path, value, arrays, k):
    """The value as JSON knows it; the arrays in it are put beside, by their paths."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return float(value) if isinstance(value, np.floating) else value
    if _can_be_kept(value):
        value = packed(value)
    if isinstance(value, np.random.Generator):
        return {"generator": _listed(value.bit_generator.state)}
    if isinstance(value, dict):
        return {str(key): _plain(f"{path}/{key}", each, arrays, k) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(f"{path}/{at}", each, arrays, k) for at, each in enumerate(value)]
    if _is_array(value):
        arrays[path] = np.ascontiguousarray(k.to_host(value))
        return {"array": path}
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{path} is {type(value).__name__}, which cannot be kept")


def _listed(state):
    """The state of a generator, with lists in place of arrays."""
    if isinstance(state, dict):
        return {key: _listed(each) for key, each in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state


class Saved(Mapping):
    """What was kept of something, on its way back: {name: value}, and checks of what a value has to be."""

    def __init__(self, values, arrays, path, k):
        if not isinstance(values, dict):
            raise ValueError(f"resume: the checkpoint has no {path}")
        self._values, self._arrays, self._path, self.k = values, arrays, path, k

    def __getitem__(self, name):
        """As it is in the file: numbers, texts and lists, arrays on the host, parts as `Saved`."""
        if name not in self._values:
            raise ValueError(f"resume: the checkpoint has no {self._path}/{name}")
        return self._found(self._values[name], f"{self._path}/{name}")

    def __contains__(self, name):
        return name in self._values

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def _found(self, value, path):
        if isinstance(value, dict) and value.keys() == {"array"}:
            self._want(isinstance(value["array"], str) and value["array"] in self._arrays, path)
            return self._arrays[value["array"]]
        return Saved(value, self._arrays, path, self.k) if isinstance(value, dict) else value

    def into(self, thing, *names):
        """Put it back into what it came from, or only what is called so."""
        if not names and hasattr(thing, "unpack"):
            thing.unpack(self)
            return
        for name in names or thing.kept:
            grows = name in getattr(thing, "grows", ())
            setattr(thing, name, self.like(name, getattr(thing, name), grows=grows))

    def like(self, name, current, *, grows=False):
        """A value of the kind of `current`; an array of its dtype and shape, which `grows` leaves free along axis 0."""
        return self._like(self[name], current, f"{self._path}/{name}", grows)

    def part(self, name):
        """What has a state of its own."""
        found = self[name]
        self._want(isinstance(found, Saved), f"{self._path}/{name}")
        return found

    def rows(self, name, width=None):
        """A list of tuples of numbers and texts, all of one length."""
        found = self[name]
        self._want(isinstance(found, list), f"{self._path}/{name}")
        for row in found:
            fits = isinstance(row, list) and len(row) == (len(found[0]) if width is None else width)
            self._want(fits and all(_kind(each) in (int, float, str) for each in row), f"{self._path}/{name}")
        return [tuple(row) for row in found]

    def _like(self, value, current, path, grows=False):
        if _can_be_kept(current):
            self._want(isinstance(value, Saved), path)
            value.into(current)
            return current
        if isinstance(current, np.random.Generator):
            self._want(isinstance(value, Saved) and set(value) == {"generator"}, path)
            return _restart(current, value._values["generator"], path)
        if isinstance(current, dict):
            self._want(isinstance(value, Saved) and set(value) == {str(key) for key in current}, path)
            return {key: value.like(str(key), each) for key, each in current.items()}
        if isinstance(current, (tuple, list)):
            self._want(isinstance(value, list) and len(value) == len(current), path)
            pairs = enumerate(zip(value, current, strict=True))
            return type(current)(self._like(self._found(v, path), c, f"{path}/{at}") for at, (v, c) in pairs)
        if _is_array(current):
            same = isinstance(value, np.ndarray) and value.dtype == current.dtype and value.ndim == current.ndim
            self._want(same and value.shape[grows:] == tuple(current.shape[grows:]), path)
            return value if home(current)[0] == "cpu" else self.k.xp.asarray(value)
        kind, found = _kind(current), _kind(value)
        if kind is None:
            self._want(value is None, path)
            return None
        self._want(found is kind or (kind is float and found is int), path)
        return float(value) if kind is float else value

    @staticmethod
    def _want(fits, path):
        if not fits:
            raise ValueError(f"resume: {path} of the checkpoint does not fit")


def _kind(value):
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)


def _restart(generator, state, path):
    try:
        generator.bit_generator.state = state
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"resume: {path} of the checkpoint is of another generator: {error}") from error
    return generator
