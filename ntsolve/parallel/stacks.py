"""Problems of equal shape as one batch, for the solvers that take batches, and the batch's result taken apart again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..dispatch import home, kernels_for
from ..result import Status


@dataclass(frozen=True)
class Stack:
    """How a solver takes a batch: the axes that each array has for one problem, and how its result is taken apart."""

    axes: dict[str, int]
    apart: Callable[[Any, int], Iterable]


def groups(solver, calls):
    """Lists of the numbers of calls that can be one; a call is ({name: argument}, ...) as the solver was to get it.

    What may be stacked are arrays, or the argument left out; all else has to be the same object, or equal.
    """
    stack = STACKS.get(solver)
    found: dict[Any, list[int]] = {}
    for number, arguments in enumerate(calls):
        key = None if stack is None else _key(stack, arguments)
        found.setdefault(number if key is None else key, []).append(number)
    return list(found.values())


def together(solver, calls):
    """The arguments of one call for all `calls`, which `groups` has found to fit."""
    stack, first = STACKS[solver], calls[0]
    joined = {}
    for name, value in first.items():
        if name not in stack.axes or value is None:
            joined[name] = value
        elif name == "A" and all(call[name] is value for call in calls):
            joined[name] = value  # one matrix, many right-hand sides
        else:
            with kernels_for(**{name: value}) as k:
                joined[name] = k.xp.stack([call[name] for call in calls])
    return joined


def _key(stack, arguments):
    """Equal for calls that can be one; None for a call that stays alone."""
    parts: list[Any] = []
    for name in sorted(arguments):
        value = arguments[name]
        if name not in stack.axes or value is None:
            if not isinstance(value, (str, int, float, bool, type(None))):
                return None
            parts.append((name, type(value).__name__, value))
        elif hasattr(value, "nnz"):  # a sparse matrix can only be shared
            parts.append((name, id(value)))
        elif home(value) is None or value.ndim != stack.axes[name]:
            return None
        else:
            parts.append((name, home(value), value.shape, value.dtype.str))
    return tuple(parts)


def _of_arrays(result, count):
    """Results of the items of a batch, for a result whose fields have the batch in front."""
    for i in range(count):
        fields: dict[str, Any] = {}
        for name in result:
            value = getattr(result, name)
            if name == "history":
                fields[name] = value[: int(result.nit[i]) + 1, i]
            elif getattr(value, "ndim", 0) and len(value) == count:
                fields[name] = value[i] if value.ndim > 1 else value[i].item()
        fields["status"] = Status(int(result.status[i]))
        fields["message"] = fields["status"].advice
        yield replace(result, **fields)


STACKS = {
    "cg": Stack({"A": 2, "b": 1, "x0": 1}, _of_arrays),
    "solve_ot": Stack({"C": 2, "a": 1, "b": 1}, lambda result, count: result.results),
}
