"""From what an iteration left to what a user gets: the result of a linear solve, and what is said of a failure."""

import warnings

import numpy as np

from .errors import ConvergenceError, ConvergenceWarning, PrecisionWarning
from .result import LinearResult, Result, Status


def linear_result(system, x, *, success, residual, tolerance, status, nit, history, elapsed, backend):
    """A LinearResult of a system as `operators.linear_system` made it; arrays (batch,) on the host.

    `success` is whether the residual at x, as computed, meets the tolerance whatever rounding it suffered; a system
    that does so has converged.
    """
    status = np.where(success, Status.CONVERGED, status)
    message = worst(success, status).advice
    if system.shape and not success.all():
        message = f"{int((~success).sum())} of {success.size} systems failed. {message}"

    def item(values):
        values = values.reshape(system.shape)
        return values if system.shape else values[()].item()

    return LinearResult(
        x=system.restore(x),
        success=item(success),
        status=status.reshape(system.shape) if system.shape else Status(int(status[0])),
        message=message,
        nit=item(nit),
        residual=item(residual),
        history=history,
        elapsed=elapsed,
        backend=backend,
        tolerance=item(tolerance),
    )


def worst(success, status):
    """The status that matters most: the lowest of the systems that failed."""
    failed = np.atleast_1d(status)[~np.atleast_1d(success)]
    return Status(int(failed.min())) if failed.size else Status.CONVERGED


def report(name, result, on_failure, stacklevel=3):
    """Warn, raise or be silent about the worst status of a result."""
    found = worst(result.success, result.status)
    if found > 0 or on_failure == "ignore":
        return
    message = f"{name}: {result.message}"
    if isinstance(result, Result):
        message += f" (iterations: {np.max(result.nit)}, largest residual: {np.max(result.residual):.3e})"
    if on_failure == "raise":
        raise ConvergenceError(message, result)
    warnings.warn(message, PrecisionWarning if found == Status.STALLED else ConvergenceWarning, stacklevel=stacklevel)
