"""What may stand in brackets after a device array."""

import numpy as np

from ..errors import EmuError
from . import streams


def is_device(x) -> bool:
    return type(x).__module__ == "cupy"


def parse(key, needs_count: bool = True) -> tuple[bool, tuple]:
    """(whether it makes a view, the key as a tuple). If the number of Trues of a mask is needed, the host waits."""
    key = key if isinstance(key, tuple) else (key,)
    basic = True
    for k in key:
        if is_device(k):
            if k.dtype.kind not in "biu":
                raise IndexError("arrays used as indices must be of integer or boolean type")
            if k.dtype.kind == "b" and needs_count:
                streams.host_waits(streams.current(), "a boolean mask")
            basic = False
        elif isinstance(k, (np.ndarray, list)):
            raise EmuError(
                "a host array or list as index of a device array is copied to the device at each use; do it once"
            )
        elif not (k is None or k is Ellipsis or isinstance(k, (slice, int, np.integer))) or isinstance(k, bool):
            raise IndexError(f"unsupported index {k!r}")
    return basic, key


def view(h: np.ndarray, key: tuple) -> np.ndarray:
    """h[key], as an array even where NumPy gives a scalar."""
    return h[key] if any(k is Ellipsis for k in key) else h[(*key, ...)]


def arrays(key: tuple) -> list:
    return [k for k in key if is_device(k)]


def gather(h: np.ndarray, key: tuple) -> np.ndarray:
    try:
        return h[tuple(k._h if is_device(k) else k for k in key)]
    except IndexError as e:
        raise EmuError(f"{e}; CuPy wraps such an index around without a word") from e


def refuse_duplicates(h: np.ndarray, place: tuple) -> None:
    try:
        hit = np.arange(h.size).reshape(h.shape)[place]
    except IndexError as e:
        raise EmuError(f"{e}; CuPy wraps such an index around without a word") from e
    if np.unique(hit).size != hit.size:
        raise EmuError("an indexed assignment names an element twice: which value stays is undefined on a GPU")
