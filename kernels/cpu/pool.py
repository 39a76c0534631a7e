"""Threads for the Numba twins: a nogil body over ranges of blocks, shared among a few idle workers.

Numba's own parallel layers are not used: `workqueue` aborts the process when two threads enter it at once, GNU OpenMP
refuses to run in a forked child, and either sets one thread count for everybody. Here a body is compiled once, without
threads in it, and run on contiguous ranges of blocks; what a block computes does not depend on who computes it, so
results are bitwise the same for any number of threads.
"""

import os
import threading
from collections import deque

from ..settings import threads

# Reassociation is allowed, so that sums vectorise, but nothing that assumes numbers to be finite: kernels look for NaN.
JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}


class _Worker(threading.Thread):
    """A daemon that waits on a lock, runs one call, and goes back to the list of the idle."""

    def __init__(self):
        super().__init__(name="ntsolve-kernel", daemon=True)
        self.go, self.done = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.done.acquire()
        self.call: tuple | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self):
        while True:
            self.go.acquire()
            call, self.call = self.call, None
            assert call is not None
            body, first, last, args = call
            try:
                body(first, last, *args)
            except BaseException as error:  # handed to the caller, whatever it is
                self.error = error
            call = body = args = None  # an idle worker keeps no array alive
            self.done.release()

    def begin(self, call):
        self.call, self.error = call, None
        self.go.release()

    def finish(self):
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
    helpers = []
    try:
        first = 0
        for part in range(1, parts):
            last = count * part // parts
            try:
                worker = _IDLE.pop()
            except IndexError:
                worker = _Worker()
            helpers.append(worker)
            worker.begin((body, first, last, args))
            first = last
        body(first, count, *args)
    finally:
        errors = [helper.finish() for helper in helpers]
    for error in errors:
        if error is not None:
            raise error
