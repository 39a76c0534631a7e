"""Several methods on one problem: run in turn (A B A B), timed, each answer checked by the same independent code."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class UnequalAccuracy(AssertionError):
    """A method's answer is not as accurate as the contest asks for, so its time means nothing."""


@dataclass(frozen=True)
class Method:
    """One way to solve the problem: `run()` gives (answer, iterations or None).

    `prepare` is called once before the contest and is not timed: it compiles. `peer` marks whom ntsolve is measured
    against.
    """

    name: str
    run: Callable[[], tuple[Any, int | None]]
    prepare: Callable[[], Any] | None = None
    peer: bool = False


@dataclass(frozen=True)
class Entry:
    """What a method needed: seconds of each run, and the largest error of its answers."""

    method: str
    peer: bool
    iterations: int | None
    seconds: tuple[float, ...]
    error: float

    @property
    def median(self):
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Table:
    """The outcome of a contest; as text, a table. `ratio` is to the median time of the fastest peer."""

    title: str
    entries: tuple[Entry, ...]
    error_name: str
    notes: tuple[str, ...] = field(default=())

    def entry(self, method):
        """The entry of a method, by its name."""
        return next(entry for entry in self.entries if entry.method == method)

    @property
    def fastest_peer(self):
        """Entry that the ratios refer to."""
        return min((entry for entry in self.entries if entry.peer), key=lambda entry: entry.median)

    def ratio(self, method):
        """Median seconds of a method over those of the fastest peer."""
        return self.entry(method).median / self.fastest_peer.median

    @property
    def head(self):
        """Names of the columns."""
        return ("method", "iterations", "seconds", "ratio", self.error_name)

    def rows(self):
        """Cells as text, a row for each method."""
        for entry in self.entries:
            steps = "–" if entry.iterations is None else str(entry.iterations)
            ratio = f"{self.ratio(entry.method):.3g}"
            yield entry.method, steps, f"{entry.median:.3g}", ratio, f"{entry.error:.1e}"

    def __str__(self):
        cells = [self.head, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells = [(row[0].ljust(widths[0]), *row[1:]) for row in cells]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in cells]
        runs = len(self.entries[0].seconds)
        medians = f"seconds: median of {runs} runs, in turn" if runs > 1 else "seconds: one run each"
        about = f"{medians}; ratio: to the fastest peer, {self.fastest_peer.method}"
        return "\n".join([self.title, "", *lines, "", about, *self.notes])

    def record(self):
        """As a dictionary fit for JSON."""
        entries = [
            {
                "method": entry.method,
                "peer": entry.peer,
                "iterations": entry.iterations,
                "seconds": [round(s, 6) for s in entry.seconds],
                "median": round(entry.median, 6),
                "ratio": round(self.ratio(entry.method), 4),
                "error": entry.error,
            }
            for entry in self.entries
        ]
        return {"title": self.title, "error": self.error_name, "entries": entries, "notes": list(self.notes)}


def contest(title, methods, check, *, limit, repeats, agree=None, error_name="residual", notes=(), synchronize=None,
            say=lambda line: None):  # fmt: skip
    """Run the methods in turn, `repeats` times, and return the Table.

    Parameters
    ----------
    check : callable
        ``check(answer) -> float``, the error of an answer; the same code for all, and not timed.
    limit : float
        Largest error allowed.
    agree : float, optional
        Allow for no more than this relative difference between the errors: for runs of a fixed number of iterations.
    synchronize : callable, optional
        Waits for the device; counted in the time.
    say : callable, optional
        Is told what runs now.

    Raises
    ------
    UnequalAccuracy
        An answer misses the limit, or the errors do not agree.
    """
    wait = synchronize or (lambda: None)
    for method in methods:
        if method.prepare is not None:
            say(f"{method.name}: first call, not timed")
            method.prepare()
    wait()
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    errors = dict.fromkeys(seconds, 0.0)
    iterations: dict[str, int | None] = {}
    for turn in range(repeats):
        for method in methods:
            say(f"{method.name}: run {turn + 1} of {repeats}")
            began = time.perf_counter()
            answer, iterations[method.name] = method.run()
            wait()
            seconds[method.name].append(time.perf_counter() - began)
            error = float(check(answer))
            if not error <= limit:
                raise UnequalAccuracy(f"{title}: {method.name} has a {error_name} of {error:.2e}, above {limit:.2e}")
            errors[method.name] = max(errors[method.name], error)
            del answer
    least, most = min(errors.values()), max(errors.values())
    if agree is not None and most > (1 + agree) * least:
        raise UnequalAccuracy(f"{title}: the {error_name} lies between {least:.3e} and {most:.3e}")
    entries = [Entry(m.name, m.peer, iterations[m.name], tuple(seconds[m.name]), errors[m.name]) for m in methods]
    return Table(title, tuple(entries), error_name, tuple(notes))
