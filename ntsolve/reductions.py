"""The one door through which scalars that decide anything pass: dots, norms, stop tests.

A solve in one process has whole vectors, and its local sums are the sums. In a distributed run every process holds a
part of each vector; an object with these methods, passed as `comm=`, adds the parts up, and the same loop runs on all.
"""

import contextlib
from typing import Protocol

import numpy as np


class Reductions(Protocol):
    """What a solver asks of the processes that share it; arrays are of the backend.

    The loop of `cg` and the guard of all loops need what is here; `ntsolve.parallel.comm.Ranks`, which is made of a
    communicator, and `Serial` have more, which solvers need to get started.
    """

    carry: float
    """Factor on scalars that every process carries along unchanged: 1 on exactly one process, 0 on the others."""

    def total(self, *arrays) -> None:
        """Replace each array by its sum over the processes."""

    def norm(self, norms):
        """Norms of whole vectors from the norms of their local parts: sqrt of the sum of squares, without overflow."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process, so that all take the same decision."""


class Serial:
    """One process: every local result is the result."""

    rank, size, carry, transfer = 0, 1, 1.0, None

    def total(self, *arrays):
        """Nothing to add."""

    def norm(self, norms):
        return norms

    def largest(self, values):
        return np.asarray(values, dtype=float)

    def any(self, flag):
        return flag

    def add(self, array):
        """Nothing to add."""

    def gather(self, rows):
        return rows

    def exchange(self, outgoing, incoming):
        """Nobody to talk to."""
        return lambda: None

    def alike(self, **values):
        """Nothing to compare with."""

    def together(self):
        return contextlib.nullcontext(self)


SERIAL = Serial()
