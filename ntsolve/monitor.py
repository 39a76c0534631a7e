"""The one loop guard: history, callback, logging, time limit, Ctrl-C and NaN, the same for every solver.

with Monitor("cg", maxiter=..., solution=..., keeper=...) as watch:
    watch.begin(state)                    # from the checkpoint, if there is one to go on from
    while running and watch.going(state):
        steps = watch.block()             # how many iterations to do before looking again
        ...
        watch.did(residuals)              # one row an iteration
    watch.finish(state, solved)
watch.status                              # None, or why the loop had to stop
"""

import logging
import math
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reductions import SERIAL
from .result import Status

LONGEST_BLOCK = 32  # iterations between two looks, at most
SECONDS_A_BLOCK = 0.01  # aimed at, so that a stop of any kind comes at once
_NO_STATUS = 1000  # above all of them


@dataclass(frozen=True)
class State:
    """What a callback gets.

    Attributes
    ----------
    nit : int
        Iterations done.
    residual : float, or float array (batch)
        As the iteration sees it.
    elapsed : float
        Seconds since the start.
    x : array
        The current iterate, made when it is asked for: ask during the callback, later it is a later one.
    start, target : float, or float array (batch)
        The residual at the start, and the tolerance it has to meet.
    """

    nit: int
    residual: Any
    elapsed: float
    start: Any
    target: Any
    solution: Any

    @property
    def x(self):
        return self.solution()


class _Interrupts:
    """Ctrl-C for all solves of the main thread: the first asks the running solves to end, the second raises.

    A second one counts for a second, in a later solve too: so a loop over solves can be left.
    """

    def __init__(self):
        self.depth, self.asked, self._before, self._last = 0, False, None, -math.inf

    def _handle(self, number, frame):
        now, before = time.monotonic(), self._last
        self._last = now
        if self.asked or now - before < 1.0:
            raise KeyboardInterrupt
        self.asked = True

    def forget(self):
        """The next Ctrl-C is a first one."""
        self._last = -math.inf

    def enter(self):
        """Whether this solve listens: only in the main thread, and never over a handler of the user's own."""
        if threading.current_thread() is not threading.main_thread():
            return False
        if self.depth == 0:
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                return False
            self._before = signal.signal(signal.SIGINT, self._handle)
        self.depth += 1
        return True

    def leave(self):
        self.depth -= 1
        if self.depth == 0:
            signal.signal(signal.SIGINT, self._before)
            self.asked = False


_INTERRUPTS = _Interrupts()


class Monitor:
    """Guards one loop; a context, so that handlers and progress bars are put back whatever happens.

    Parameters
    ----------
    name : str
        Of the solver, for the log.
    maxiter : int
    time_limit : float or None
        Seconds.
    callback : callable or None
        Called as callback(State) after each iteration; True ends the solve.
    verbose : bool
        Report about once a second at level INFO to the logger "ntsolve", instead of at level DEBUG.
    solution : callable
        Gives the current iterate.
    start, target : array (batch,)
        Residual at the start and tolerance, on the host.
    began : float, optional
        When the call began, by time.perf_counter(); default: now.
    shape : tuple
        Of the batch; () for one problem, whose residuals are floats.
    comm : Reductions
    keeper : Keeper or None
        Of checkpoints, see `ntsolve.checkpoint`.
    """

    def __init__(self, name, *, maxiter, time_limit=None, callback=None, verbose=False, solution=None, start=None,
                 target=None, began=None, shape=(), comm=SERIAL, keeper=None):  # fmt: skip
        self.maxiter, self.time_limit, self.callback, self.comm = maxiter, time_limit, callback, comm
        self.name, self.level = name, logging.INFO if verbose else logging.DEBUG
        self.solution, self.start, self.target, self.shape = solution, start, target, shape
        self.status: Status | None = None
        self.keeper, self._ended, self.nit = keeper, False, 0
        self._rows = [np.array(start, dtype=float)[None]]
        self._looked = self._said = time.perf_counter()
        self._began = self._looked if began is None else began
        self._pace = 0.0  # seconds an iteration, of late
        self._left, self._watched = math.inf, callback is not None  # of all processes of the run
        self._listens = False
        self._log = logging.getLogger("ntsolve")

    def __enter__(self):
        self._listens = _INTERRUPTS.enter()
        return self

    def __exit__(self, *exception):
        if self._listens:
            _INTERRUPTS.leave()
        if isinstance(self.callback, progress):
            self.callback.close()

    @property
    def elapsed(self):
        """Seconds since the start."""
        return time.perf_counter() - self._began

    @property
    def history(self):
        """(nit + 1, *batch): the residual after each iteration, from the start."""
        rows = np.concatenate(self._rows)
        return rows.reshape(len(rows), *self.shape)

    def going(self, state=None):
        """Whether the loop may go on; if not, `status` says why.

        Where `state` is passed, it is one from which the loop can be gone on with: it is kept, if that is due or the
        loop has to stop.
        """
        if self.status is None:
            self.status = self.reason()
        self._agree()
        stop = self.status is not None
        if state is not None and self.keeper is not None and not self._ended and (stop or self.keeper.due()):
            self._keep(state)
            self._ended = stop
        return not stop

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def begin(self, state):
        """Go on from the checkpoint that the call was told to go on from; whether there was one."""
        found = None if self.keeper is None else self.keeper.load()
        if self.keeper is not None:
            self.keeper.look_for_room(self._progress(), state)
        if found is None:
            return False
        progress, saved = found
        history = progress.like("history", np.concatenate(self._rows), grows=True)
        elapsed, self.nit = progress.like("elapsed", 0.0), progress.like("nit", 0)
        if not (1 <= len(history) <= self.nit + 1 and 0 <= elapsed < math.inf):
            raise ValueError("resume: nit, history and elapsed of the checkpoint do not fit together")
        saved.into(state)
        self._rows, self.start = [history], history[0]
        self._looked = self._said = time.perf_counter()
        self._began = self._looked - elapsed
        return True

    def finish(self, state, solved):
        """Keep the end of a solve: a solution, or where it was stopped if that was not kept by `going`."""
        if self.keeper is not None and (solved or (self.status is not None and not self._ended)):
            self._keep(state)

    def _keep(self, state):
        self.keeper.save(self._progress(), state)
        self._looked = time.perf_counter()

    def _progress(self):
        return {"nit": self.nit, "elapsed": self.elapsed, "history": np.concatenate(self._rows)}

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def reason(self):
        """Why the loop would have to stop now, as this process sees it alone; or None."""
        if self._listens and _INTERRUPTS.asked:
            return Status.INTERRUPTED
        if self.time_limit is not None and self.elapsed + 0.95 * self._pace >= self.time_limit:
            return Status.TIME_LIMIT
        return Status.MAXITER if self.nit >= self.maxiter else None

    def _agree(self):
        """Go by all processes of the run: by the worst reason to stop, the slowest pace, the least time left."""
        stop = 0 if self.status is None else _NO_STATUS - self.status
        left = math.inf if self.time_limit is None else self.time_limit - self.elapsed
        said = (stop, self._pace, -left, self.callback is not None)
        worst, pace, left, watched = self.comm.largest(said)
        self._pace, self._left, self._watched = float(pace), -float(left), bool(watched)
        if worst:
            self.status = Status(round(_NO_STATUS - worst))

    def block(self, *, exact=False):
        """Iterations to do before the next look: one where they are slow or watched, more where they are quick.

        `exact` says that a block wastes nothing: what converges inside it costs no more from there on.
        """
        steps = self.maxiter - self.nit
        if self._watched:
            return 1
        if not self._pace:
            first = LONGEST_BLOCK if np.size(self.start) == 1 else 8
            return min(steps, first if exact else 1)
        seconds = max(0.0, min(SECONDS_A_BLOCK, self._left))
        steps = min(steps, LONGEST_BLOCK, int(seconds / self._pace), steps if exact else self.nit // 8)
        return max(1, 1 << max(0, steps.bit_length() - 1))  # a power of two: few graphs to capture

    def did(self, residuals, steps):
        """Note the residuals (rows, batch) of the `steps` iterations just done, and show them to whoever looks."""
        self._rows.append(np.asarray(residuals, dtype=float))
        self.nit += steps
        now = time.perf_counter()
        self._pace, self._looked = (now - self._looked) / steps, now
        if now - self._said > 1.0 or self.nit == steps:
            self._said = now
            worst = np.max(residuals[-1], initial=0)
            self._log.log(self.level, "%s: iteration %d, residual %.3e", self.name, self.nit, worst)
        if self.callback is not None:
            first, last = self._rows[0], self._rows[-1]
            shown = [row[0].reshape(self.shape) for row in (first, last[-1:], np.asarray(self.target)[None])]
            shown = [row if self.shape else row.item() for row in shown]
            state = State(self.nit, shown[1], now - self._began, shown[0], shown[2], self.solution)
            answer = self.callback(state)
            if isinstance(answer, (bool, np.bool_)) and answer and self.status is None:
                self.status = Status.CALLBACK_STOP
            self._looked = time.perf_counter()


class progress:
    """A tqdm progress bar, to be passed as `callback=`: how far the residual is on its way to the tolerance.

    Parameters
    ----------
    **options
        For tqdm: `desc`, `file`, `disable`, `leave`, ...

    Notes
    -----
    The bar counts decades, on a logarithmic scale, so that it moves evenly when convergence is linear. It closes with
    the solve.

    Examples
    --------
    >>> import io, numpy as np, ntsolve
    >>> r = ntsolve.cg(np.diag([1.0, 2.0]), np.ones(2), callback=ntsolve.progress(file=io.StringIO()))
    >>> bool(r.success)
    True
    """

    def __init__(self, **options) -> None:
        self._options = options
        self._bar: Any = None

    def __call__(self, state) -> None:
        if self._bar is None:
            from tqdm import tqdm

            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=100.0, **{"desc": "solving", "bar_format": form, **self._options})
        worst = np.max(state.residual)
        with np.errstate(divide="ignore", invalid="ignore"):
            done = np.log(np.max(state.start) / worst) / np.log(np.max(state.start) / np.max(state.target))
        if np.isfinite(done):
            self._bar.n = round(100 * float(np.clip(done, self._bar.n / 100, 1)), 1)
        self._bar.set_postfix_str(f"iteration {state.nit}, residual {worst:.1e}")

    def close(self) -> None:
        """Close the bar; another solve opens a new one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
