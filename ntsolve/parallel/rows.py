"""What travels to a worker and back: an `Order` of some problems, a `Parcel` with what became of each.

An order holds the solver's name, arrays and settings. In a parcel every result is pickled by itself, without those of
its arrays that came with the order: a plan's cost matrix is not sent back to where it came from. Nothing is pickled
for a thread.
"""

import io
import pickle
import time
import traceback
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import config
from ..result import Status
from . import stacks
from .calls import find

_ENDED: deque[str] = deque(maxlen=16)  # farms that a Ctrl-C has ended in this process
_WORTH_IT = 1024  # bytes of an array from which it is looked for in the order


@dataclass(frozen=True, eq=False)
class Order:
    """Some problems of one solver: a name of this package, or a function.

    Attributes
    ----------
    calls, shared
        As `calls.bind` gives them.
    settings : dict
        Of `ntsolve.config`.
    farm : str
        The same for all orders of one `solve_batch`, and for no others.
    """

    solver: Any
    calls: list
    shared: dict
    settings: dict
    farm: str

    def __dask_tokenize__(self):
        """No two orders are the same to dask, which would take the results of the one for those of the other."""
        return uuid.uuid4().hex


def fill(order):
    """A worker's task: the `Parcel` of an order. After a Ctrl-C a worker does nothing for that farm any more."""
    began = time.perf_counter()
    function, name = find(order.solver)
    outcomes: list[Any] = [None] * len(order.calls)
    with config(**order.settings):
        try:
            if order.farm in _ENDED:
                raise KeyboardInterrupt
            for group in stacks.groups(name, order.calls, order.shared):
                _solve(function, name, order, group, outcomes)
        except KeyboardInterrupt:
            _ENDED.append(order.farm)  # what is not done says so
    # a function of the user's own may have changed its arguments
    known = [order.shared | given for given in order.calls] if name else [{}] * len(outcomes)
    return Parcel(outcomes, time.perf_counter() - began, known)


def _solve(function, name, order, group, outcomes):
    errors = Exception, SystemExit  # which would end the worker
    for numbers, result, error in stacks.solve(function, name, order.calls, order.shared, group, errors):
        found = result[:] if len(numbers) > 1 else [result]
        for number, one in zip(numbers, found, strict=True):
            outcomes[number] = one, error
        if interrupted(result):
            raise KeyboardInterrupt


def interrupted(result):
    """Whether a Ctrl-C has ended this solve, which returns all the same."""
    return bool(np.any(np.asarray(getattr(result, "status", 0)) == int(Status.INTERRUPTED)))


class Parcel:
    """What became of each problem: (result, None), (None, exception), or None of one that was not begun.

    `seconds` is what they took together; `known` the arrays {name: ...} of each that the receiver has.
    """

    def __init__(self, outcomes, seconds, known):
        self.outcomes, self.seconds, self.known = outcomes, seconds, known

    def open(self, order):
        """The outcomes."""
        return self.outcomes

    def __reduce__(self):
        return Sealed, ([_packed(*pair) for pair in zip(self.outcomes, self.known, strict=True)], self.seconds)


class Sealed:
    """A parcel as it comes out of another process."""

    def __init__(self, packed, seconds):
        self.packed, self.seconds = packed, seconds

    def open(self, order):
        """The outcomes, given the order."""
        pairs = zip(self.packed, order.calls, strict=True)
        return [_unpacked(packed, order.shared | given) for packed, given in pairs]


def _packed(outcome, known):
    """(bytes or None, the outcome as it is or None, the traceback or None)"""
    if outcome is None:
        return None, None, None
    trace = None if outcome[1] is None else "".join(traceback.format_exception(outcome[1]))
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, known).dump(outcome)
    except Exception:  # the executor may know more ways; an exception travels as what it says
        return None, None if trace else outcome, trace
    return buffer.getvalue(), None, trace


def _unpacked(packed, given):
    found, outcome, trace = packed
    try:
        if found is not None:
            outcome = _Unpickler(io.BytesIO(found), given).load()
        elif trace is not None:
            raise pickle.UnpicklingError("not sent")
    except Exception as error:  # of an exception there is at least what it says
        said = f"what came back cannot be read: {error}" if trace is None else trace.strip().rpartition("\n")[2]
        outcome = None, RuntimeError(said)
    if trace is not None:
        outcome[1].add_note(f"In the worker:\n{trace}")
    return outcome


class _Pickler(pickle.Pickler):
    """Writes (its name,) for an array that is one of the arguments."""

    def __init__(self, buffer, known):
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self.names = {_place(value): name for name, value in known.items() if _large(value)}

    def persistent_id(self, value):
        return (self.names[place],) if _large(value) and (place := _place(value)) in self.names else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer, given):
        super().__init__(buffer)
        self.given = given

    def persistent_load(self, name):
        return self.given[name[0]]


def _large(value):
    return type(value) is np.ndarray and value.nbytes >= _WORTH_IT and not value.dtype.hasobject


def _place(array):
    """The same for two arrays only if they are the same numbers."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str
