"""Problems that fit together as one batch, for the solvers that take batches."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dispatch import home, kernels_for
from .calls import call

_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Stack:
    """How a solver takes a batch.

    Attributes
    ----------
    axes : dict
        The axes that each array has for one problem. All other arguments have to be equal.
    ragged : bool
        Whether a list of arrays of any shapes is a batch.
    most : int
        Numbers in the arrays of a problem, above which a batch is no gain.
    """

    axes: dict[str, int]
    ragged: bool = False
    most: float = math.inf


def solve(function, solver, calls, shared, group, errors=Exception):
    """Yield (numbers of calls, their result, None) or (the number of one, None, its exception), of a group of calls.

    All are one call; if that is refused, each is solved by itself, so that the one to blame is found.
    """
    if len(group) > 1:
        try:
            result = function(**together(solver, [calls[number] for number in group], shared))
        except Exception:  # of any of them
            pass
        else:
            yield group, result, None
            return
    for number in group:
        try:
            outcome = call(function, calls[number], shared), None
        except errors as error:  # it is for the caller to see
            outcome = None, error
        yield [number], *outcome


def groups(solver, calls, shared):
    """Lists of the numbers of calls that can be one; `calls` and `shared` as `calls.bind` gives them.

    What may be stacked are arrays, or the argument left out; all else has to be the same object, or equal.
    """
    stack = STACKS.get(solver)
    if stack is None or not all(name in stack.axes or _plain(value) for name, value in shared.items()):
        return [[number] for number in range(len(calls))]
    if _alike(stack, calls):
        return [list(range(len(calls)))]
    found: dict[Any, list[int]] = {}
    for number, given in enumerate(calls):
        key = _key(stack, given)
        found.setdefault(number if key is None else key, []).append(number)
    return list(found.values())


def together(solver, calls, shared):
    """The arguments of one call for all `calls`, which `groups` has found to fit."""
    stack, joined = STACKS[solver], dict(shared)
    names = [name for name in shared | calls[0] if name in stack.axes]
    columns = {name: [given[name] for given in calls] if name in calls[0] else [shared[name]] * len(calls)
               for name in names}  # fmt: skip
    joined |= {name: value for name, value in calls[0].items() if name not in stack.axes}
    same = {name for name, values in columns.items() if len({id(value) for value in values}) == 1}
    for name, values in columns.items():
        if _plain(values[0]) or (name in same and (name == "A" or (stack.ragged and len(same) < len(names)))):
            joined[name] = values[0]
        elif stack.ragged:
            joined[name] = values
        else:
            with kernels_for(**{name: values[0]}) as k:
                joined[name] = k.xp.concatenate(values).reshape(len(values), *values[0].shape)
    return joined


def _alike(stack, calls):
    """Whether all are one batch, where that is easily seen."""
    if not calls or (key := _key(stack, calls[0])) is None:
        return False
    names = calls[0].keys()
    if not all(given.keys() == names for given in calls):
        return False
    for (name, *_), value in zip(key, calls[0].values(), strict=True):
        values = [given[name] for given in calls]
        if type(value) is np.ndarray and not stack.ragged:
            if {*map(type, values)} != {np.ndarray}:
                return False
            if len({each.shape for each in values}) > 1 or len({each.dtype for each in values}) > 1:
                return False
        elif any(each is not value for each in values):
            return False
    return True


def _key(stack, given):
    """Equal for calls that can be one; None for a call that stays alone."""
    parts: list[Any] = []
    numbers = 0
    if "checkpoint" in given or "resume" in given:  # a file for each
        return None
    for name, value in given.items():
        axes = stack.axes.get(name)
        if axes is None or value is None or type(value) is tuple:
            if not _plain(value):
                return None
            parts.append((name, type(value), value))
        elif hasattr(value, "nnz"):  # a sparse matrix can only be shared
            parts.append((name, id(value)))
        else:
            place = ("cpu", None) if type(value) is np.ndarray else home(value)
            if place is None or value.ndim != axes:
                return None
            numbers += value.size
            parts.append((name, place, None if stack.ragged else value.shape, value.dtype))
    return tuple(parts) if numbers <= stack.most else None


def _plain(value):
    """Whether it is a setting: a number, a name, None, or a tuple of such."""
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(isinstance(each, _PLAIN) for each in value))


STACKS = {
    "cg": Stack({"A": 2, "b": 1, "x0": 1}),
    "linprog": Stack(
        {"c": 1, "A_ub": 2, "b_ub": 1, "A_eq": 2, "b_eq": 1, "bounds": 2, "x0": 1, "y0": 1}, most=5000
    ),
    "solve_ot": Stack({"C": 2, "a": 1, "b": 1}, ragged=True),
    "solve_ot_sample": Stack({"X": 2, "Y": 2, "a": 1, "b": 1}, ragged=True),
}
