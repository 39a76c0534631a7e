"""Conjugate gradients for many small dense systems: each from its start to its verified end inside one kernel.

The method is that of cg.py. A loop over iterations would read every matrix from memory in each of them; here a system
stays where it is read to, in cache on the CPU, in registers or shared memory on the GPU.
"""

import numpy as np

from .. import operators
from ..kernels.contracts.batched import MAX_N, MET, NOT_FINITE, NOT_POSITIVE, OUT_OF_STEPS, STALLED
from ..monitor import Monitor
from ..outcome import linear_result
from ..result import Status

_STATUS = {
    OUT_OF_STEPS: Status.MAXITER,
    MET: Status.CONVERGED,
    STALLED: Status.STALLED,
    NOT_FINITE: Status.NAN_OR_INF,
    NOT_POSITIVE: Status.INDEFINITE_OPERATOR,
}


def takes(system):
    """Whether these are systems for this file: a batch of dense ones, small enough to keep close."""
    A = system.A
    return bool(system.shape) and isinstance(A, operators.Dense) and len(A.A) == len(system.b) and A.n <= MAX_N


def solve(k, system, *, jacobi, rtol, atol, maxiter, options):
    """All systems, so many in one call that a Ctrl-C and the time limit are seen in time."""
    xp, A, b = k.xp, system.A.A, system.b
    batch, n = b.shape
    x = xp.zeros_like(b) if system.x0 is None else system.x0
    residual, tolerance = xp.empty(batch), xp.empty(batch)
    nit, outcome = xp.zeros(batch, dtype="int32"), xp.full(batch, OUT_OF_STEPS, dtype="int32")
    group = max(4, int(k.FLOPS_A_CALL / (2.0 * n * n * min(n, maxiter) + 1)))
    most = 10 * n + 100  # steps in one call; then the method starts anew from where it is, which is late enough
    start = operators.norms(k, b) if system.x0 is None else operators.true_residual(k, system, x, xp.empty_like(b))
    with Monitor("cg", maxiter=maxiter + 1, time_limit=options.time_limit, verbose=options.verbose, began=options.began,
                 start=k.to_host(start), shape=system.shape) as watch:  # fmt: skip
        for low in range(0, batch, group):
            part = slice(low, low + group)
            done, undecided = 0, True
            while undecided:
                # once it has to end, no steps: what the start is worth
                steps = min(most, maxiter - done) if watch.going() else 0
                k.batched_cg(A[part], b[part], int(jacobi), rtol, atol, steps, x[part], residual[part], tolerance[part],
                             nit[part], outcome[part])  # fmt: skip
                done += steps
                undecided = steps > 0 and done < maxiter and bool((outcome[part] == OUT_OF_STEPS).any())
        residual, tolerance, nit, outcome = (k.to_host(values) for values in (residual, tolerance, nit, outcome))
        if nit.any():
            watch.did(residual[None], int(nit.max()))
        status = np.array([_STATUS[value] for value in sorted(_STATUS)])[outcome]
        if watch.status is not None:
            status[(outcome == OUT_OF_STEPS) & (nit < maxiter)] = watch.status
        return linear_result(
            system,
            x,
            success=outcome == MET,
            residual=residual,
            tolerance=tolerance,
            status=status,
            nit=nit.astype("int64"),
            history=watch.history,
            elapsed=watch.elapsed,
            backend=k.NAME,
        )
