"""Units in which the numbers of a program are not all small beside 1.

Errors of an answer are relative to 1 + the size of what they are errors of, see kkt.py. Where all costs, or all sides
and bounds, are far below 1, as in SI units they may be, that 1 would forgive everything. Such a program is solved in
other units: costs times a power of two, sides and bounds times another, so that the largest of each is from 1/2 to 1
(the side of a row with entries beyond 1 counts over the largest of these, as what it asks of x):

    x, A x  are times `size`,    y, z = c - A'y  times `cost`,    objectives times both,                   (1)

without any rounding. Programs with larger numbers stay as they are.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..reductions import SERIAL

MOST = 500  # the largest exponent: both together are still a number


@dataclass(frozen=True)
class Units:
    """Powers of two (..., 1), one a program of a batch: (1)."""

    cost: Any
    size: Any

    @classmethod
    def of(cls, program, ranks=SERIAL):
        """Those of a program on the host, or of the one of which each rank has rows."""
        largest = [np.zeros((*program.shape, 1)) for _ in range(2)]
        entry = _largest_entries(program)
        with np.errstate(invalid="ignore"):
            sides = [side / entry for side in (program.row_lower, program.row_upper)]
        groups = (program.c,), (program.lower, program.upper, *sides)
        for most, arrays in zip(largest, groups, strict=True):
            for v in arrays:
                finite = np.where(np.isfinite(v), abs(v), 0.0)
                np.maximum(most, finite.max(axis=-1, keepdims=True, initial=0.0), out=most)
            if ranks is not SERIAL:
                most[...] = ranks.largest(most.ravel()).reshape(most.shape)
        exponents = (np.where(most > 0, np.frexp(most)[1], 0) for most in largest)
        return cls(*(np.ldexp(1.0, np.clip(-exponent, 0, MOST)) for exponent in exponents))

    def program(self, program):
        """The program in these units."""
        sides = {name: getattr(program, name) * self.size for name in ("lower", "upper", "row_lower", "row_upper")}
        offset = program.offset * float((self.cost * self.size).item()) if program.offset else 0.0
        return replace(program, c=program.c * self.cost, **sides, offset=offset)

    def flat(self):
        """(cost, size), each (batch, 1)."""
        return self.cost.reshape(-1, 1), self.size.reshape(-1, 1)


def _largest_entries(program):
    """(..., m): of each row, at least 1; infinite where it has none."""
    largest = np.full((*program.shape, program.m), np.inf)
    filled = np.flatnonzero(np.diff(program.indptr))
    if filled.size:
        largest[..., filled] = np.maximum(1.0, np.maximum.reduceat(abs(program.data), program.indptr[filled], axis=-1))
    return largest
