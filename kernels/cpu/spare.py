"""Large scratch that one solve leaves to the next: fresh memory costs more to get, page by page, than to compute in.

CuPy keeps freed memory for reuse; this does as much for what a solver asks for by name, up to a limit.
"""

import math
import threading

import numpy as np
from numba import njit

from .pool import JIT, over_blocks

MOST = 1 << 27  # bytes kept
ALIGNED = 64
_PIECE = 1 << 17  # bytes set to zero at a time
_GRAIN = 8  # pieces a thread is worth waking for
_LOCK = threading.Lock()
_SPARE: list[np.ndarray] = []  # of bytes, unused


def borrow(shape, dtype):
    """An array with anything in it, to be given back with `give_back`, or not."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = size + ALIGNED
    with _LOCK:
        fits = [number for number, spare in enumerate(_SPARE) if room <= spare.size <= 2 * room]
        memory = _SPARE.pop(min(fits, key=lambda number: _SPARE[number].size)) if fits else None
    if memory is None:
        memory = np.empty(room, dtype=np.uint8)
    first = -memory.ctypes.data % ALIGNED
    return memory[first : first + size].view(dtype).reshape(shape)


@njit(**JIT)
def _clear(first, last, memory):
    memory[first * _PIECE : min(last * _PIECE, memory.size)] = 0


def borrow_zeros(shape, dtype):
    """The same, all zero."""
    array = borrow(shape, dtype)
    memory = array.reshape(-1).view(np.uint8)
    over_blocks(_clear, -(-memory.size // _PIECE), _GRAIN, memory)
    return array


def give_back(array):
    """Let another solve have the memory of a borrowed array, which must not be used any more."""
    memory = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    with _LOCK:
        _SPARE.append(memory)
        while sum(spare.size for spare in _SPARE) > MOST:
            _SPARE.pop(0)


def release():
    """Give back memory that is cached for reuse."""
    with _LOCK:
        _SPARE.clear()
