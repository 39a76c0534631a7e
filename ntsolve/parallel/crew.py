"""Orders of problems to an executor, so many at a time, and their parcels as they come back.

An order has as many problems as take about 50 ms, by what earlier ones took: a message costs from a tenth of a
millisecond to several, which small problems share. Only so many orders are under way as keep the workers busy, and
never more bytes than `config(budget=...)`, unless every worker has one: executors that send at once what they are
given would otherwise hold all problems, pickled, beside the problems.
"""

import concurrent.futures
import contextlib
import os
import pickle
import queue
import time
from collections import deque
from dataclasses import replace
from typing import Any

from ..config import BUDGET
from .calls import size
from .rows import fill

SECONDS_AN_ORDER = 0.05
BYTES_AT_FIRST = 1 << 18  # of problems that fit together, before it is known how long they take
BASE = 1000  # bytes that a problem counts as, beside its arrays
AT_LEAST = 32  # orders under way
LOOKS = 1.0  # seconds between two counts of the workers


class Crew:
    """Sends the problems of `groups` out.

    Parameters
    ----------
    executor
        With `submit`, whose futures have `result`, `cancel`, `done` and `add_done_callback`.
    order : Order
        Of no problems: what all orders have in common.
    calls : list
        All problems, by number.
    groups : list of lists of int
        Those to send; a group's fit together.
    take : callable
        take(number, outcome) is told what became of a problem; see `rows.Parcel`.
    told : callable
        told() after each parcel.
    """

    def __init__(self, executor, order, calls, groups, take, told):
        self.executor, self.order, self.calls, self.take, self.told = executor, order, calls, take, told
        self.waiting = deque((number, len(group) > 1) for group in groups for number in group)
        self.bytes = {number: size(calls[number]) for group in groups for number in group}
        self.flying: dict[Any, tuple] = {}  # future: (numbers, order)
        self.landed: queue.SimpleQueue = queue.SimpleQueue()
        self.carried = 0  # bytes of what is flying
        self.pace: float | None = None  # seconds a byte
        self.workers, self.counted = 1, -LOOKS
        self.ending = False

    def work(self):
        """Until all have come back. Whatever ends it, what is done by then is taken, and the rest called off."""
        try:
            while self.waiting or self.flying:
                self._send()
                if self.flying:
                    self._receive(self.landed.get())
        finally:
            self.ending = True
            for future in list(self.flying):
                if future.done() or (not future.cancel() and future.done()):
                    self._receive(future)

    def _send(self):
        now = time.monotonic()
        if now - self.counted > LOOKS:
            self.workers, self.counted = max(1, _workers(self.executor)), now
        most = max(AT_LEAST, 2 * self.workers + 1)
        while self.waiting and len(self.flying) < most:
            if self.carried + self.bytes[self.waiting[0][0]] > BUDGET.get() and len(self.flying) > self.workers:
                break
            self._submit(self._next())

    def _next(self):
        """Numbers of the problems of the next order."""
        numbers: list[int] = []
        length = -(-len(self.waiting) // (2 * self.workers))  # shorter and shorter, so that all end together
        weight, most = 0, BUDGET.get() // (2 * self.workers)
        while self.waiting and len(numbers) < length:
            number, stacked = self.waiting[0]
            weight += self.bytes[number] + BASE
            if self.pace is None:
                enough = not stacked or weight > BYTES_AT_FIRST
            else:
                enough = weight * self.pace > SECONDS_AN_ORDER
            if numbers and (enough or weight > most):
                break
            self.waiting.popleft()
            numbers.append(number)
        return numbers

    def _submit(self, numbers):
        order = replace(self.order, calls=[self.calls[number] for number in numbers])
        try:
            future = self.executor.submit(fill, order)
        except Exception as error:  # an executor that is broken, or shut, or has looked at the order
            self._failed(numbers, order, error)
            return
        self.flying[future] = numbers, order
        self.carried += sum(self.bytes[number] for number in numbers)
        future.add_done_callback(self.landed.put)

    def _receive(self, future):
        if future not in self.flying:
            return
        numbers, order = self.flying[future]
        try:
            error = future.exception()
            outcomes = [None] * len(numbers) if error else future.result().open(order)
        except (Exception, concurrent.futures.CancelledError) as its_own:  # of the executor
            error = its_own
        if error is None:
            pace = future.result().seconds / sum(self.bytes[number] + BASE for number in numbers)
            self.pace = pace if self.pace is None else (self.pace + pace) / 2
        if error is None or isinstance(error, KeyboardInterrupt):  # in the worker, between two solves
            for number, outcome in zip(numbers, outcomes, strict=True):
                self.take(number, outcome)
            self.told()
        else:
            self._failed(numbers, order, error)
        del self.flying[future]
        self.carried -= sum(self.bytes[number] for number in numbers)

    def _failed(self, numbers, order, error):
        """The order as a whole has failed: each problem by itself, so that the one to blame is found."""
        if len(numbers) > 1 and not isinstance(error, concurrent.futures.BrokenExecutor):
            for number in () if self.ending else numbers:
                self._submit([number])
            return
        for number, given in zip(numbers, order.calls, strict=True):
            self.take(number, (None, _explained(error, order, given)))
        self.told()


def _workers(executor):
    """How many an executor has, as far as one can tell."""
    for name in ("_max_workers", "num_workers"):  # of concurrent.futures and loky; of mpi4py
        count = getattr(executor, name, None)
        if isinstance(count, int):
            return count
    client: Any = getattr(executor, "_client", None)  # of dask
    if callable(getattr(client, "nthreads", None)):
        with contextlib.suppress(Exception):
            return sum(client.nthreads().values())
    return os.cpu_count() or 1


def _explained(error, order, given):
    """The error, or where something cannot be pickled, what that is."""
    if isinstance(error, concurrent.futures.BrokenExecutor):
        return error
    if not any(word in f"{type(error).__name__} {error}".lower() for word in ("pickle", "pickling", "serializ")):
        return error
    found, what = error, "the result of the solver cannot be sent back"
    for name, value in {"the solver": order.solver, **order.shared, **given}.items():
        try:
            pickle.dumps(value)
        except Exception as refused:
            found, what = refused, f"{name} ({type(value).__name__}) cannot be sent to a worker"
            break
    explained = TypeError(f"{what}: {found}")
    explained.__cause__ = error
    return explained
