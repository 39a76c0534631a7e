"""A farm of solves: problems of any shapes, in any order of finishing, results in the order they came in.

Problems that fit together become one true batch, which is what the solvers are quickest at. The rest goes to an
executor with the interface of `concurrent.futures`. What travels is the name of the solver, arrays and settings.
"""

import concurrent.futures
import importlib
import inspect
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..config import config
from ..errors import ConvergenceError, ConvergenceWarning
from ..outcome import worst
from ..result import Status
from . import stacks

ON_FAILURE = ("warn", "raise", "ignore")


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What `solve_batch` returns: as long as the list of problems, and in its order.

    Attributes
    ----------
    results : tuple
        The result of each problem as its solver returned it; None where there is none.
    status : int array
        A `Status` of each. RAISED where the solver raised an exception, INTERRUPTED where it did not get its turn.
    success : bool array
    errors : tuple
        The exception of each problem that raised one; None for the others.
    elapsed : float
        Seconds.
    """

    results: tuple
    status: np.ndarray
    success: np.ndarray
    errors: tuple
    elapsed: float

    def __len__(self):
        return len(self.results)

    def __iter__(self):
        return iter(self.results)

    def __getitem__(self, number):
        return self.results[number]

    @property
    def x(self):
        """The answers, a list; None where there is no result."""
        return [None if result is None else result.x for result in self.results]

    def __repr__(self):
        names, counts = np.unique(self.status, return_counts=True)
        ends = ", ".join(f"{count} {Status(int(name)).name}" for name, count in zip(names, counts, strict=True))
        return f"BatchResult of {len(self)} problems: {ends or 'none'}"


def solve_batch(solver, problems, *, executor=None, progress=False, on_failure="warn", **settings):
    """Solve many problems, of equal shapes or not, with one solver.

    Parameters
    ----------
    solver : callable or str
        A solver of this package, or its name; or any callable that returns a `Result`. One that is to go to other
        processes has to be importable there.
    problems : iterable
        Each the arguments of one call: a tuple of positional ones, or a dict by name.
    executor : concurrent.futures.Executor, optional
        Where to solve those that are not part of a batch: ThreadPoolExecutor, ProcessPoolExecutor, or another with
        their interface. Each solve then uses one thread, unless `threads` says otherwise. Default: here, one by one.
    progress : bool or callable
        True: a progress bar, by tqdm. A callable gets (number done, number of all).
    on_failure : {"warn", "raise", "ignore"}
        What to do when a problem has not been solved; see `errors` and `status` for which.
    **settings
        Keyword arguments of every call. `threads` is that of `ntsolve.config`, for the calls in an executor.

    Returns
    -------
    BatchResult
        Always one entry a problem, in their order: what one problem raises loses no other, and after a Ctrl-C what is
        done is returned.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit.
    ConvergenceError
        With ``on_failure="raise"``; its `result` is the BatchResult.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``.

    Notes
    -----
    Problems of `cg` with dense matrices, or with one matrix for all, and of `solve_ot`, that are equal in shape, dtype
    and settings, are solved as one true batch; there is no callback and no order among them.

    Examples
    --------
    >>> import numpy as np, ntsolve
    >>> problems = [(np.diag(np.arange(1.0, n + 1)), np.ones(n)) for n in (3, 3, 5, 3)]
    >>> result = ntsolve.solve_batch("cg", problems, rtol=1e-10)
    >>> result
    BatchResult of 4 problems: 4 CONVERGED
    >>> [x.shape for x in result.x]
    [(3,), (3,), (5,), (3,)]
    """
    began = time.perf_counter()
    on_failure = validate.choice("on_failure", on_failure, ON_FAILURE)
    threads = settings.pop("threads", None if executor is None else 1)
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
        raise TypeError(f"executor must have the interface of concurrent.futures.Executor, not {executor!r}")
    function, name = _function(solver)
    calls, errors = _calls(function, problems, settings)
    farm = _Farm(function, name, calls, errors, threads, _shown(progress, len(calls)))
    try:
        farm.run(executor)
    except KeyboardInterrupt:
        pass  # what has not been solved says so
    finally:
        farm.close()
    result = farm.outcome(time.perf_counter() - began)
    _report(name, result, on_failure)
    return result


class _Farm:
    """The calls, and what has come back."""

    def __init__(self, function, name, calls, errors, threads, show):
        self.function, self.name, self.calls, self.threads, self.show = function, name, calls, threads, show
        self.results: list[Any] = [None] * len(calls)
        self.errors: list[Any] = errors
        self.left = [error is None for error in errors]

    def run(self, executor):
        open_calls = [number for number, left in enumerate(self.left) if left]
        found = stacks.groups(self.name, [self.calls[number] for number in open_calls])
        groups = [[open_calls[place] for place in group] for group in found]
        alone = [number for group in groups if len(group) == 1 for number in group]
        pending = self._submit(executor, alone) if executor is not None else {}
        try:
            for group in groups:
                if len(group) > 1:
                    self._batch(group)
            for number in alone if executor is None else ():
                self._here(number)
            for future in concurrent.futures.as_completed(pending):
                self._receive(future, pending[future])
        finally:
            for future, number in pending.items():
                if self.left[number] and not future.cancel() and future.done():
                    self._receive(future, number)

    def _receive(self, future, number):
        self._take([number], lambda: [future.result()])

    def _submit(self, executor, numbers):
        """{future: number}; a solver of this package travels by its name."""
        what = self.function if self.name is None else self.name
        futures = {}
        for number in numbers:
            try:
                futures[executor.submit(_call, what, self.calls[number], self.threads)] = number
            except Exception as error:  # an executor that is broken, or shut
                self._failed([number], error)
        return futures

    def _batch(self, group):
        """As one call; each by itself if that is refused, so that the one to blame is found."""
        calls = [self.calls[number] for number in group]
        try:
            result = self.function(**stacks.together(self.name, calls))
        except Exception:  # of any of them
            for number in group:
                self._here(number)
            return
        self._take(group, lambda: stacks.STACKS[self.name].apart(result, len(group)))
        self._look(group)

    def _here(self, number):
        self._take([number], lambda: [_call(self.function, self.calls[number], self.threads)])
        self._look([number])

    def _look(self, numbers):
        """A solve that a Ctrl-C has ended returns: what comes after it is not begun."""
        results = [self.results[number] for number in numbers]
        if any(np.any(np.asarray(result.status) == Status.INTERRUPTED) for result in results if result is not None):
            raise KeyboardInterrupt

    def _take(self, numbers, get):
        """Note the results that get() gives, or the exception that it raises."""
        try:
            for number, result in zip(numbers, get(), strict=True):
                if not (hasattr(result, "status") and hasattr(result, "success")):
                    raise TypeError(f"the solver returned {type(result).__name__}, which is not a Result")
                self.results[number] = result
        except Exception as error:  # it is kept for the caller to see
            self._failed(numbers, error)
            return
        self._done(numbers)

    def _failed(self, numbers, error):
        for number in numbers:
            self.errors[number] = error
        self._done(numbers)

    def _done(self, numbers):
        for number in numbers:
            self.left[number] = False
        try:
            self.show(len(self.left) - sum(self.left))
        except Exception as error:  # results are worth more than being shown
            self.show = _shown(False, 0)
            warnings.warn(f"progress raised {error!r}, and is not told any more", RuntimeWarning, stacklevel=2)

    def close(self):
        self.show(None)

    def outcome(self, elapsed):
        status = np.full(len(self.calls), int(Status.INTERRUPTED))
        for number, (result, error) in enumerate(zip(self.results, self.errors, strict=True)):
            if error is not None:
                status[number] = Status.RAISED
            elif result is not None:
                status[number] = worst(result.success, result.status)
        return BatchResult(tuple(self.results), status, status > 0, tuple(self.errors), elapsed)


def _call(solver, arguments, threads):
    """One solve, wherever it takes place."""
    function = getattr(importlib.import_module("ntsolve"), solver) if isinstance(solver, str) else solver
    arguments = dict(arguments)
    rest = arguments.pop("*", ())
    with config(threads=threads):
        return function(*rest, **arguments)


def _function(solver):
    """(the function, its name if it is one of this package)"""
    package = importlib.import_module("ntsolve")
    if isinstance(solver, str):
        if solver.startswith("_") or not inspect.isfunction(getattr(package, solver, None)):
            raise ValueError(f"solver: ntsolve has no solver called {solver!r}")
        return getattr(package, solver), solver
    if not callable(solver):
        raise TypeError(f"solver must be a function or the name of one, not {type(solver).__name__}")
    name = getattr(solver, "__name__", "")
    return solver, name if name in package.__all__ and getattr(package, name) is solver else None


def _calls(function, problems, settings):
    """({name: argument} of each call, the exception of each that is none)"""
    signature = inspect.signature(function)
    silent = {"on_failure": "ignore"} if "on_failure" in signature.parameters else {}
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    placed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
    by_place = any(kind in placed for kind in kinds.values())
    open_names = [name for name, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD and not by_place]
    calls, errors = [], []
    if isinstance(problems, (str, bytes, Mapping)) or not hasattr(problems, "__iter__"):
        raise TypeError(f"problems must be a list of tuples or dicts, not {type(problems).__name__}")
    for number, problem in enumerate(problems):
        if not isinstance(problem, (tuple, Mapping)):
            raise TypeError(f"problems[{number}] must be a tuple or a dict of arguments, not {type(problem).__name__}")
        given = {} if isinstance(problem, tuple) else dict(problem)
        error = None
        try:
            bound = signature.bind(*(problem if isinstance(problem, tuple) else ()), **settings | silent | given)
            given = {"*": bound.args, **bound.kwargs} if by_place else dict(bound.arguments)
            for name in open_names:
                given |= given.pop(name, {})
        except TypeError as problem_error:
            error = problem_error
        calls.append(given)
        errors.append(error)
    return calls, errors


def _shown(progress, count):
    """A function that is told how many are done, and None at the end."""
    if callable(progress):
        return lambda done: None if done is None else progress(done, count)
    if not progress:
        return lambda done: None
    from tqdm import tqdm

    bar = tqdm(total=count, desc="solving")

    def show(done):
        if done is None:
            bar.close()
        else:
            bar.update(done - bar.n)

    return show


def _report(name, result, on_failure):
    failed = int((~result.success).sum())
    if not failed or on_failure == "ignore":
        return
    first = int(np.argmin(result.success))
    why = result.errors[first] or Status(int(result.status[first])).advice
    message = f"{name or 'solve_batch'}: {failed} of {len(result)} problems failed; problem {first}: {why}"
    if on_failure == "raise":
        raise ConvergenceError(message, result) from result.errors[first]
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
