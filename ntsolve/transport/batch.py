"""Many transport problems in one call: taken apart, solved side by side, and put together again.

Problems of a batch have little in common but their form: each takes its own number of levels and steps. Those that a
core, or a block of a GPU, can solve by itself go into one kernel together (many.py). On the CPU, a thread solves the
larger ones one after the other, with kernels that use that one thread, as each would be solved alone, bit by bit.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import validate
from ..dispatch import home
from ..monitor import Monitor
from ..outcome import worst
from ..result import Status
from . import many, one
from .result import OTResult


@dataclass(frozen=True, eq=False, repr=False)
class OTBatchResult(OTResult):
    """Results of a batch of transport problems.

    Attributes
    ----------
    results : tuple of OTResult
        One a problem.

    All else is as in OTResult with the batch in front: an array, for problems in an array; for a list of problems, a
    list of what is an array for one of them, and an array (batch,) of what is a number.
    """

    results: tuple = ()
    _shape: Any = None  # of the batch; None for a list
    _own: Any = field(default=None)

    def _problem(self, number):
        return self.results[number]

    def _gathered(self, values):
        """Arrays, one a problem, as one."""
        if self._shape is None:
            return values
        xp = sys.modules[type(values[0]).__module__.partition(".")[0]]
        whole = xp.stack(values).reshape(*self._shape, *values[0].shape)
        return whole if self._own is None else self._own(whole)

    def _numbers(self, name):
        return np.array([getattr(each, name) for each in self.results]).reshape(self._shape or (-1,))

    @property
    def potentials(self):
        """(f, g) of all problems."""
        f, g = zip(*(each.potentials for each in self.results), strict=True)
        return self._gathered(list(f)), self._gathered(list(g))

    @functools.cached_property
    def plan(self):
        """The plans of all problems."""
        return self._gathered([each.plan for each in self.results])

    def sparse_plan(self, threshold=1e-12):
        """A list of the sparse plans; see `OTResult.sparse_plan`."""
        return [each.sparse_plan(threshold) for each in self.results]

    def gradient(self, wrt, *, of="value"):
        """The gradients of all problems; see `OTResult.gradient`."""
        return self._gathered([each.gradient(wrt, of=of) for each in self.results])

    @property
    def value(self):
        """As of OTResult."""
        return self._numbers("value")

    @property
    def value_linear(self):
        """As of OTResult."""
        return self._numbers("value_linear")

    @property
    def lower_bound(self):
        """As of OTResult."""
        return self._numbers("lower_bound")

    @property
    def upper_bound(self):
        """As of OTResult."""
        return self._numbers("upper_bound")

    @property
    def gap(self):
        """As of OTResult."""
        return self._numbers("gap")

    def verify(self, C, a=None, b=None):
        """The marginal errors of all problems, recomputed; see `OTResult.verify`."""
        given = {"C": (C, 2), "a": (a, 1), "b": (b, 1)}
        _, items = split({name: (arrays(name, value, axes)[0], axes) for name, (value, axes) in given.items()})
        if len(items) != len(self.results):
            raise ValueError(f"C, a, b are {len(items)} problems; the result is of {len(self.results)}")
        return np.array(
            [result.verify(*each.values()) for result, each in zip(self.results, items, strict=True)]
        ).reshape(self._shape or (-1,))


def is_list(value, axes):
    """Whether it is a list of arrays with so many axes, and not one array written as a list."""
    return isinstance(value, (list, tuple)) and any(each is None or _rank(each) >= axes for each in value)


def _rank(value):
    """Number of axes; -1 of what has no shape."""
    return len(value.shape) if hasattr(value, "shape") else -1


def split(arguments):
    """(shape of the batch, arguments of each problem); (None, ...) of a list, and ((), [arguments]) of one problem.

    `arguments` is {name: (value, number of axes that one problem has)}. What has no batch axis is shared.
    """
    counts, shapes = {}, {}
    for name, (value, axes) in arguments.items():
        if is_list(value, axes):
            counts[name] = len(value)
        elif _rank(value) > axes:
            shapes[name] = tuple(value.shape[: _rank(value) - axes])
    if not counts and not shapes:
        return (), [{name: value for name, (value, _) in arguments.items()}]
    if counts and any(len(shape) > 1 for shape in shapes.values()):
        raise ValueError(f"{next(iter(counts))} is a list; {next(iter(shapes))} has more than one axis of a batch")
    sizes = {name: (count,) for name, count in counts.items()} | shapes
    if len(set(sizes.values())) > 1:
        raise ValueError("; ".join(f"{name} is a batch of {size}" for name, size in sizes.items()))
    shape = next(iter(sizes.values()))
    if 0 in shape:
        raise ValueError(f"{next(iter(sizes))} is a batch of no problems")
    items = [
        {
            name: value[i] if name in counts else value.reshape(-1, *value.shape[len(shape) :])[i]
            if name in shapes else value
            for name, (value, _) in arguments.items()
        }
        for i in range(int(np.prod(shape)))
    ]  # fmt: skip
    return (None if counts else shape), items


def starts(init, count):
    """`potentials_init` of each problem."""
    if init is None:
        return [None] * count
    if not isinstance(init, (tuple, list)) or len(init) != 2:
        raise TypeError("potentials_init must be a tuple (f, g), each with the batch in front, or a list")
    sides = []
    for each in init:
        if not is_list(each, 1):
            each = validate.own_kind("potentials_init", each)[0]
            each = each.reshape(-1, each.shape[-1]) if each.ndim > 1 else each[None]
        if len(each) != count:
            raise ValueError(f"potentials_init has {len(each)} starts; there are {count} problems")
        sides.append(each)
    return list(zip(*sides, strict=True))


@dataclass(frozen=True)
class Task:
    """One problem of a batch, not looked at yet."""

    arguments: dict  # arrays by name
    pose: Callable  # -> Problem
    init: Any  # potentials to start from, or None
    own: Any  # makes an array of the user's own kind; None: it is one


def solve(k, tasks, shape, reg, method, options, own):
    """The result of the batch."""
    results: list = [None] * len(tasks)
    alone = method != "sns" or options.callback is not None
    with Monitor("solve_ot", maxiter=1, time_limit=None, began=options.began, start=[0.0]) as watch:
        if not alone:
            many.solve(k, tasks, reg, options, results)
        left = [i for i, result in enumerate(results) if result is None]

        def stopped():
            return None if watch.going() else watch.status

        def run(number):
            i = left[number]
            task = tasks[i]
            results[i] = found = one.solve(k, task.pose(), reg, method, task.init, options, task.own, stopped)
            if found.status == Status.CALLBACK_STOP:
                watch.status = Status.CALLBACK_STOP

        if options.callback is None:
            k.each(run, len(left))
        else:
            for number in range(len(left)):
                run(number)
        return gather(results, shape, watch.elapsed, own)


def gather(results, shape, elapsed, own):
    """The result of a batch."""
    first = results[0]
    success = np.array([each.success for each in results])
    status = np.array([int(each.status) for each in results])
    message = worst(success, status).advice
    if not success.all():
        message = f"{int((~success).sum())} of {success.size} problems failed. {message}"
    rows = max(len(each.history) for each in results)
    history = np.stack([np.pad(each.history, (0, rows - len(each.history)), mode="edge") for each in results], axis=1)
    out = shape or (-1,)
    numbers: dict[str, Any] = {
        name: np.array([getattr(each, name) for each in results]).reshape(out)
        for name in ("nit", "residual", "tolerance", "passes", "scaling_steps", "newton_steps", "cg_steps")
    }
    whole = OTBatchResult(
        x=None,
        success=success.reshape(out),
        status=status.reshape(out),
        message=message,
        history=history.reshape(rows, *out),
        elapsed=elapsed,
        backend=first.backend,
        reg=first.reg,
        results=tuple(results),
        _shape=shape,
        _own=own,
        **numbers,
    )
    object.__setattr__(whole, "x", whole._gathered([each.x for each in results]))
    return whole


def arrays(name, value, axes):
    """(value with arrays that a backend knows in it, function that makes one of the user's own kind, or None)"""
    if value is None:
        return None, None
    if is_list(value, axes):
        found = [(None, None) if each is None else _own_kind(f"{name}[{i}]", each) for i, each in enumerate(value)]
        return [each for each, _ in found], [own for _, own in found]
    return _own_kind(name, value)


def _own_kind(name, value):
    """As validate.own_kind, with None where an array is of the user's own kind already."""
    array, own = validate.own_kind(name, value)
    return array, None if home(value) is not None or not hasattr(value, "__dlpack__") else own


def places(values):
    """{name: array} with the arrays of lists one by one."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= {f"{name}[{i}]": each for i, each in enumerate(value)} if isinstance(value, list) else {name: value}
    return out
