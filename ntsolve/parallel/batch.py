"""A farm of solves: problems of any shapes, in any order of finishing, results in the order they came in.

Problems that fit together become one true batch, which is what the solvers are quickest at (stacks.py). That takes
place here, or with an executor on its workers (crew.py), to whom the name of the solver, arrays and settings travel
(rows.py).
"""

import functools
import time
import uuid
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validate
from ..config import BACKEND, BUDGET, config
from ..dispatch import home
from ..errors import ConvergenceError, ConvergenceWarning
from ..kernels.settings import THREADS
from ..outcome import worst
from ..result import Status
from . import stacks
from .calls import bind, find, size
from .rows import Order, interrupted

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

    status: np.ndarray
    success: np.ndarray
    errors: tuple
    elapsed: float
    _made: list  # results of single problems
    _batches: list  # (numbers of problems, the result of their batch), taken apart when it is asked for

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Any:
        return iter(self.results)

    def __getitem__(self, number) -> Any:
        return self.results[number]

    def __getstate__(self):
        return {**self.__dict__, "_made": list(self.results), "_batches": []}

    @functools.cached_property
    def results(self):
        results = list(self._made)
        for numbers, whole in self._batches:
            for number, result in zip(numbers, whole[:], strict=True):
                results[number] = result
        return tuple(results)

    @property
    def x(self):
        """The answers, a list; None where there is no result."""
        found = [None if each is None else each.x for each in self._made]
        for numbers, whole in self._batches:
            for number, x in zip(numbers, whole.x, strict=True):
                found[number] = x
        return found

    def __repr__(self):
        names, counts = np.unique(self.status, return_counts=True)
        ends = ", ".join(f"{count} {Status(int(name)).name}" for name, count in zip(names, counts, strict=True))
        return f"BatchResult of {len(self)} problems: {ends or 'none'}"


def solve_batch(solver, problems, *, executor=None, progress=False, on_failure="warn", **settings) -> BatchResult:
    """Solve many problems, of equal shapes or not, with one solver.

    Parameters
    ----------
    solver : callable or str
        A solver of this package, or its name; or any callable that returns a `Result`. One that is to go to other
        processes has to be importable there.
    problems : iterable
        Each the arguments of one call: a tuple of positional ones, or a dict by name. All are drawn at once.
    executor : concurrent.futures.Executor, optional
        Whose workers are to solve them: ThreadPoolExecutor, ProcessPoolExecutor, loky's, ``client.get_executor()`` of
        dask, MPIPoolExecutor of mpi4py, or another with their interface. Each solve then uses one thread, unless
        `threads` says otherwise. Default: here, batch after batch.
    progress : bool or callable
        True: a progress bar, by tqdm. A callable gets (number done, number of all).
    on_failure : {"warn", "raise", "ignore"}
        What to do when a problem has not been solved; see `errors` and `status` for which.
    **settings
        Keyword arguments of every call. `threads` is that of `ntsolve.config`, for the calls; the other settings of
        `config` hold in the executor as they do here.

    Returns
    -------
    BatchResult
        Always one entry a problem, in their order: what one problem raises loses no other, and after a Ctrl-C what is
        done is returned.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit, or a setting that no call of the solver takes.
    ConvergenceError
        With ``on_failure="raise"``; its `result` is the BatchResult.

    Warns
    -----
    ConvergenceWarning
        With ``on_failure="warn"``.

    Notes
    -----
    Problems with equal settings are solved as one true batch, here or some of them by each worker, where they are of
    `cg` with dense matrices, or with one matrix for all, of one shape; of `solve_ot` and `solve_ot_sample`; or small
    ones of `linprog` with dense matrices, of one shape. There is no callback and no order among them.

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
    for option in ("checkpoint", "resume"):
        if settings.get(option) is not None:
            raise ValueError(f"{option} is a file for one solve: give each problem, as a dict, its own")
    threads = settings.pop("threads", THREADS.get() if executor is None else 1)
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
        raise TypeError(f"executor must have the interface of concurrent.futures.Executor, not {executor!r}")
    where = {"threads": threads, "backend": BACKEND.get(), "budget": BUDGET.get()}
    with config(**where):
        function, name = find(solver)
        calls, shared, errors = bind(function, problems, settings)
        farm = _Farm(function, name, calls, shared, errors, _shown(progress, len(calls)))
        try:
            farm.run(executor, where)
        except KeyboardInterrupt:
            pass  # what has not been solved says so
        finally:
            farm.show(None)
    result = farm.outcome(time.perf_counter() - began)
    _report(name, result, on_failure)
    return result


class _Farm:
    """The calls, and what has come back."""

    def __init__(self, function, name, calls, shared, errors, show):
        self.function, self.name, self.calls, self.shared, self.show = function, name, calls, shared, show
        self.made: list[Any] = [None] * len(calls)
        self.batches: list[tuple] = []
        self.errors: list[Any] = errors
        self.left = np.array([error is None for error in errors], dtype=bool)
        self.status = np.where(self.left, int(Status.INTERRUPTED), int(Status.RAISED))

    def run(self, executor, where):
        open_calls = np.flatnonzero(self.left).tolist()
        found = stacks.groups(self.name, [self.calls[number] for number in open_calls], self.shared)
        groups = [[open_calls[place] for place in group] for group in found]
        if executor is not None:
            from .crew import Crew

            order = Order(self.name or self.function, [], self.shared, where, uuid.uuid4().hex)
            sent = [group for group in groups if not self._at_home(group)]
            Crew(executor, order, self.calls, sent, self.take, self.tell).work()
            groups = [group for group in groups if self._at_home(group)]
        for group in groups:
            for piece in self._pieces(group):
                self._solve(piece)

    def _at_home(self, group):
        """Whether it is a batch for a GPU of this process, which workers have no better."""
        given = self.shared | self.calls[group[0]]
        return len(group) > 1 and any((home(value) or ("cpu",))[0] == "cuda" for value in given.values())

    def _pieces(self, group):
        """The group, in parts where a copy of all would take more than the budget."""
        most = max(1, BUDGET.get() // max(1, size(self.calls[group[0]])))
        return (group[low : low + most] for low in range(0, len(group), most))

    def _solve(self, group):
        for numbers, result, error in stacks.solve(self.function, self.name, self.calls, self.shared, group):
            if len(numbers) == 1:
                self.take(numbers[0], (result, error))
            else:
                self.batches.append((numbers, result))
                success, status = np.ravel(result.success), np.ravel(result.status)
                self.status[numbers] = np.where(success, int(Status.CONVERGED), status)
                self.left[numbers] = False
            self.tell()
            if interrupted(result):
                raise KeyboardInterrupt  # what comes after it is not begun

    def take(self, number, outcome):
        """Note what became of a problem: (result, exception), or None if it was not begun."""
        self.left[number] = False
        if outcome is None:
            return
        result, error = outcome
        if error is None and not (hasattr(result, "status") and hasattr(result, "success")):
            error = TypeError(f"the solver returned {type(result).__name__}, which is not a Result")
        if error is None:
            self.made[number], self.status[number] = result, worst(result.success, result.status)
        else:
            self.errors[number], self.status[number] = error, Status.RAISED

    def tell(self):
        """Say how many are done."""
        try:
            self.show(len(self.left) - int(self.left.sum()))
        except Exception as error:  # results are worth more than being shown
            self.show = _shown(False, 0)
            warnings.warn(f"progress raised {error!r}, and is not told any more", RuntimeWarning, stacklevel=2)

    def outcome(self, elapsed):
        return BatchResult(self.status, self.status > 0, tuple(self.errors), elapsed, self.made, self.batches)


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
