"""Threads for the Numba twins: a nogil body over ranges of blocks, shared among a few idle workers.

Numba's own parallel layers are not used: `workqueue` aborts the process when two threads enter it at once, GNU OpenMP
refuses to run in a forked child, and either sets one thread count for everybody. Here a body is compiled once, without
threads in it, and run on contiguous ranges of blocks; what a block computes does not depend on who computes it, so
results are bitwise the same for any number of threads.
"""

import contextlib
import ctypes
import os
import threading
from collections import deque

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..settings import threads

# Reassociation is allowed, so that sums vectorise, but nothing that assumes numbers to be finite: kernels look for NaN.
JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}

_PATIENCE = 60_000  # looks, together some 50 microseconds: a thread that sleeps is not woken much sooner than that


def _flag(context, builder, signature, arguments):
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(array.data, ir.IntType(64).as_pointer())


@intrinsic
def _read(typing_context, flag):
    """flag[0], int64, as another thread has left it."""

    def generate(*where):
        return where[1].load_atomic(_flag(*where), "acquire", 8)

    return types.int64(flag), generate


@intrinsic
def _write(typing_context, flag, value):
    """flag[0] = value, for other threads to see."""

    def generate(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], _flag(context, builder, signature, arguments), "release", 8)
        return context.get_dummy_value()

    return types.void(flag, types.int64), generate


@njit(cache=True, nogil=True)
def _await(flag, value, looks):
    """Wait, awake, for another thread to write `value`."""
    for _ in range(looks):
        if _read(flag) == value:
            return


@njit(cache=True, nogil=True)
def _tell(flag, value, other, looks):
    """Write `value`, and wait, awake and without the interpreter's lock, for another thread to write the next one."""
    _write(flag, value)
    for _ in range(looks):
        if _read(other) > value:
            return


def _processor_function():
    """What tells a thread which processor it is on; None where threads have no say in that."""
    try:
        return ctypes.PyDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
    except (AttributeError, OSError, TypeError):
        return None


_processor = _processor_function()


def _step_aside(allowed, taken):
    """Move this thread to one of the allowed processors that is not taken, if there is one, and keep it off those."""
    if free := allowed.difference(taken):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, free)


class _Worker(threading.Thread):
    """A daemon that waits on a lock, runs one call, and goes back to the list of the idle.

    Who waits for it does so awake for some microseconds, since most calls are short. Two threads that stay awake for
    each other may be left on one processor for long, while others are idle: a worker that finds itself where the others
    of its call are goes elsewhere.
    """

    def __init__(self):
        super().__init__(name="ntsolve-kernel", daemon=True)
        self.go, self.done = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.done.acquire()
        self.calls = 0
        self.begun, self.finished = np.zeros(1, np.int64), np.zeros(1, np.int64)  # as many calls
        self.call: tuple | None = None
        self.taken: tuple[int, ...] = ()
        self.processor = -1
        self.error: BaseException | None = None
        self.start()

    def run(self):
        allowed = set() if _processor is None else os.sched_getaffinity(0)
        while True:
            self.go.acquire()
            call, self.call, calls = self.call, None, self.calls
            assert call is not None
            body, first, last, args = call
            try:
                if _processor is not None:
                    self.processor = _processor()
                    if self.processor in self.taken:
                        _step_aside(allowed, self.taken)
                        self.processor = _processor()
                body(first, last, *args)
            except BaseException as error:  # handed to the caller, whatever it is
                self.error = error
            call = body = args = None  # an idle worker keeps no array alive
            self.done.release()
            _tell(self.finished, calls, self.begun, _PATIENCE)

    def begin(self, call, taken):
        self.call, self.error, self.calls, self.taken = call, None, self.calls + 1, taken
        self.go.release()
        self.begun[0] = self.calls

    def finish(self):
        _await(self.finished, self.calls, _PATIENCE)
        self.done.acquire()
        error, self.error = self.error, None
        _IDLE.append(self)
        return error


_IDLE: deque[_Worker] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDLE.clear)  # threads do not survive a fork


def over_blocks(body, count, grain, *args):
    """Run body(first, last, *args) over the blocks [0, count), at least `grain` blocks a thread.

    `body` is an njit(nogil=True) function that writes only what its own blocks own. Each call of it should take well
    under 100 ms, so that the caller's thread comes back to Python and sees a Ctrl-C.
    """
    parts = min(threads(), count // grain) if count > grain else 1
    if parts <= 1:
        body(0, count, *args)
        return
    helpers: list[_Worker] = []
    taken: tuple[int, ...] = () if _processor is None else (_processor(),)
    try:
        first = 0
        for part in range(1, parts):
            last = count * part // parts
            try:
                worker = _IDLE.pop()
            except IndexError:
                worker = _Worker()
            helpers.append(worker)
            worker.begin((body, first, last, args), taken)
            taken += (worker.processor,)
            first = last
        body(first, count, *args)
    finally:
        errors = [helper.finish() for helper in helpers]
    for error in errors:
        if error is not None:
            raise error
