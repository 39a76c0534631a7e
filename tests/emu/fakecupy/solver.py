"""The slice of cupy.linalg that is used, evaluated on the host, and cupyx.errstate. It proves nothing of cuSOLVER."""

import contextlib
import threading

import numpy as np

from . import streams
from .array import compute, ndarray

_config = threading.local()


@contextlib.contextmanager
def errstate(*, divide=None, over=None, under=None, invalid=None, linalg=None):
    """As in CuPy, only `linalg` can be set; to "ignore", the default, or "raise"."""
    if any(v is not None for v in (divide, over, under, invalid)) or linalg not in (None, "ignore", "raise"):
        raise NotImplementedError
    before = _mode()
    _config.linalg = linalg or before
    try:
        yield
    finally:
        _config.linalg = before


def _mode():
    return getattr(_config, "linalg", "ignore")


def _checked(a):
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    return a


def norm(x, ord=None, axis=None, keepdims=False):
    h = _checked(x)._h
    return compute("norm", lambda: np.linalg.norm(h, ord, axis, keepdims), [x])


def cholesky(a):
    """Where a matrix has no factor: its lower triangle as it was, or with errstate(linalg="raise") an error."""
    if not isinstance(a, ndarray):
        raise np.linalg.LinAlgError("cupy.linalg only supports cupy.ndarray")  # as CuPy says
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("the last two axes are to be those of square matrices")
    if a.dtype.kind not in "fc":
        raise TypeError(f"{a.dtype} has to be converted by hand: CuPy would factor a copy in float64")
    failed = []

    def factor():
        out = np.tril(a._h)
        for k in np.ndindex(a.shape[:-2]):
            try:
                out[k] = np.linalg.cholesky(a._h[k])
            except np.linalg.LinAlgError:
                failed.append(k)
        return out

    result = compute("cholesky", factor, [a])
    if _mode() == "raise" and a.size:
        streams.host_waits(streams.current(), "cholesky with errstate(linalg='raise')")
        if failed:
            raise np.linalg.LinAlgError("Error reported by potrf in cuSOLVER")
    return result
