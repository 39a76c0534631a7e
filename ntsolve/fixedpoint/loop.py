"""What the iterations of this family share: users' functions on flat vectors, dots, and the loop with its result."""

import math

import numpy as np

from ..kernels.contracts import workspace_shape
from ..monitor import Monitor
from ..reductions import SERIAL
from ..result import FixedPointResult, Status

QUIET = 500  # iterations without progress after which rounding is thought of
MOST_AT_ONCE = 6  # inner products
FEW = 50  # iterations, of which twice as many at least say whether there is progress
FLOOR = 16  # units in the last place of x that a residual may have in vain
EXPANSIVE = "The residual grew: the map may not be nonexpansive, or the operator not monotone."
NO_PROGRESS = "The residual has not fallen for half of the iterations: there may be no fixed point, or no zero."
NOT_FINITE = "NaN or infinity arose in what the function returned, or because the iteration diverged."


class Evaluation:
    """A user's function on flat vectors, run under the floating point settings of whoever made this."""

    kept = ("count",)

    def __init__(self, tree, what, function):
        self.tree, self.what, self.function, self.settings, self.count = tree, what, function, np.geterr(), 0

    def __call__(self, x, *rest):
        given = self.tree.restore(x)
        with np.errstate(**self.settings):
            returned = self.function(given, *rest)
        self.count += 1
        return self.tree.flatten(f"what {self.what} returned", returned)


class Dots:
    """Inner products of flat vectors, in float64, as floats; of whole vectors, where each rank has a part of them."""

    def __init__(self, k, size, ranks=SERIAL):
        self.k, self.ranks, self.work = k, ranks, k.xp.empty(workspace_shape(1, size))
        self._out = k.xp.zeros(MOST_AT_ONCE)

    def __call__(self, x, y):
        return self.several((x, y))[0]

    def several(self, *pairs):
        """Those of several pairs, in one message between ranks."""
        out = self._out[: len(pairs)]
        for i, (x, y) in enumerate(pairs):
            self.k.dot(x[None], y[None], out[i : i + 1], self.work)
        self.ranks.total(out)
        return self.k.to_host(out).tolist()

    def norm(self, x):
        """||x||_2; NaN or infinite if something in x is."""
        square = self(x, x)
        return math.sqrt(square) if square >= 0 else math.nan


class Iteration:
    """An iterate and what is known there. Subclasses say how to look at it, and how to go on.

    Attributes
    ----------
    x : array (size,)
    residual : float
    ranks : Reductions
        Who else has a part of x.
    """

    kept: tuple[str, ...] = ("x", "best", "_quiet", "restarts")  # what a checkpoint holds
    restarts = 0
    residual = math.nan
    spent = 1  # iterations that the last `advance` and `look` count as
    left = math.inf  # that the next ones may count as

    def __init__(self, k, tree, x, ranks=SERIAL):
        self.k, self.tree, self.x, self.ranks, self.dot = k, tree, x, ranks, Dots(k, x.size, ranks)
        self.best, self._quiet = math.inf, 0  # the least residual, up to a factor of 2, and iterations since

    @property
    def nfev(self):
        raise NotImplementedError

    def look(self):
        """Evaluate what there is to know at x, the residual among it."""
        raise NotImplementedError

    def advance(self):
        """To the next iterate."""
        raise NotImplementedError

    def unpack(self, saved):
        """Take up a checkpoint, and evaluate again at its x, so that nothing depends on what a file says of it."""
        saved.into(self, *self.kept)
        self._quiet -= 1  # the verdict that follows has been there before
        self.look_again()

    def look_again(self):
        """What `look` finds, where it has been before."""
        self.look()

    def promised(self, distance):
        """A bound of the residual that was certain beforehand, from the distance of x0 to a solution; or None."""
        return

    def verdict(self, tol):
        """A status that ends the solve, or None."""
        if self.residual <= tol:
            return Status.CONVERGED
        if not math.isfinite(self.residual):
            return Status.NAN_OR_INF
        self._quiet += 1
        if self.residual <= 0.5 * self.best:
            self.best, self._quiet = self.residual, 0
        if self._quiet >= QUIET:
            self._quiet = 0
            # the residual too: where the iteration diverges, x grows until `best` is little beside it
            if max(self.best, self.residual) <= FLOOR * np.finfo(self.x.dtype).eps * self.dot.norm(self.x):
                return Status.STALLED
        return None


def iterate(name, state, tol, options, *, distance=None, lipschitz=None, keeper=None):
    """Run an `Iteration` to its end; `keeper` is that of checkpoints."""
    tree = state.tree
    with np.errstate(all="ignore"):  # what overflows is seen
        state.look()
        with Monitor(name, maxiter=options.maxiter, time_limit=options.time_limit, callback=options.callback,
                     began=options.began, verbose=options.verbose, start=[state.residual], target=[tol],
                     solution=lambda: tree.restore(state.x), comm=state.ranks, keeper=keeper) as watch:  # fmt: skip
            watch.begin(state)
            status = state.verdict(tol)
            while status is None and watch.going(state):
                before, state.left = state.residual, options.maxiter - watch.nit
                state.advance()
                state.look()
                watch.did(np.array([[before]] * (state.spent - 1) + [[state.residual]]), state.spent)
                status = state.verdict(tol)
            status = status or watch.status
            watch.finish(state, status == Status.CONVERGED)
    return FixedPointResult(
        x=tree.restore(state.x),
        success=status == Status.CONVERGED,
        status=status,
        message=_message(status, watch.history),
        nit=watch.nit,
        residual=state.residual,
        history=watch.history,
        elapsed=watch.elapsed,
        backend=state.k.NAME,
        tolerance=tol,
        nfev=state.nfev,
        restarts=state.restarts,
        bound=None if distance is None else state.promised(distance),
        error_bound=None if lipschitz is None else state.residual / (1 - lipschitz),
    )


def _message(status, residuals):
    seen = residuals[np.isfinite(residuals)]
    message = NOT_FINITE if status == Status.NAN_OR_INF else status.advice
    if status < 0 and seen.size and seen[-1] > seen[0]:
        return f"{message} {EXPANSIVE}"
    half = seen.size // 2
    if status in (Status.MAXITER, Status.TIME_LIMIT) and half > FEW and seen[half:].min() > 0.99 * seen[:half].min():
        return f"{message} {NO_PROGRESS}"
    return message
