"""Arrays in, the kernels that own them out. Looks at type names only: nothing is imported to find out."""

import contextlib
import importlib

from .config import BACKEND

_MODULES = {"cpu": "ntsolve.kernels.cpu", "cuda": "ntsolve.kernels.cuda"}


def home(array):
    """(backend, device number or None) of an array or matrix; None for what lives nowhere, such as a function."""
    root = type(array).__module__.partition(".")[0]
    if root == "cupy":
        return ("cuda", array.device.id) if hasattr(array, "device") else None
    if root == "cupyx":
        return ("cuda", array.data.device.id) if hasattr(type(array), "nnz") else None
    if root == "numpy" or (root == "scipy" and hasattr(type(array), "nnz")):
        return ("cpu", None)
    return None


class kernels_for:
    """The kernels of the device that holds `arrays`, as a context: `with kernels_for(A=A, b=b) as k:`.

    Inside, that device is current. A mixture of devices is a TypeError that names each argument, never a copy. GPU
    memory that runs out leaves as a MemoryError, with the cached blocks given back, so that the next solve works.
    """

    __slots__ = ("_device", "_kernels", "where")

    def __init__(self, **arrays):
        homes = {name: place for name, array in arrays.items() if array is not None and (place := home(array))}
        places = set(homes.values())
        if len(places) > 1:
            raise TypeError(
                "arrays on different devices: " + ", ".join(f"{n} on {_words(p)}" for n, p in homes.items())
            )
        self.where = places.pop() if places else ("cpu", None)
        wanted = BACKEND.get()
        if wanted not in ("auto", self.where[0]):
            names = ", ".join(homes) or "the arrays"
            raise TypeError(f"config(backend={wanted!r}) is in force, but {names} live on {_words(self.where)}")
        self._device = None

    def __enter__(self):
        backend, number = self.where
        self._kernels = importlib.import_module(_MODULES[backend])
        if number is not None:
            self._device = self._kernels.xp.cuda.Device(number)
            self._device.__enter__()
        return self._kernels

    def __exit__(self, kind, error, trace):
        if self._device is not None:
            self._device.__exit__(kind, error, trace)
        if kind is not None and issubclass(kind, MemoryError):
            _forget(trace)
            self._kernels.release()
            raise MemoryError(f"out of memory on {_words(self.where)}: {error}") from None


def _words(place):
    return "the CPU" if place[0] == "cpu" else f"GPU {place[1]}"


def _forget(trace):
    """Drop the local variables of finished frames, which hold the arrays that filled the memory."""
    while trace is not None:
        with contextlib.suppress(RuntimeError):  # still running
            trace.tb_frame.clear()
        trace = trace.tb_next
