"""The one door through which scalars that decide anything pass: dots, norms, stop tests.

A solve in one process has whole vectors, and its local sums are the sums. In a distributed run every process holds a
part of each vector; an object with these methods, passed as `comm=`, adds the parts up, and the same loop runs on all.
"""

from typing import Protocol


class Reductions(Protocol):
    """What a solver asks of `comm`. Arrays are (batch,) float64 of the backend, changed in place."""

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

    carry = 1.0

    def total(self, *arrays):
        """Nothing to add."""

    def norm(self, norms):
        return norms

    def any(self, flag):
        return flag


SERIAL = Serial()
