"""The peers of the transport bench, brought to the accuracy asked for, or stopped at a time that says enough.

Every peer has its own way to measure convergence. So that none does more than it has to, its tolerance is set by trial,
which is not timed: from 1e-9 downwards until the plan passes the check that all have to pass, and no further. A peer
that would take longer than `cap` seconds is stopped by its own limit on iterations; its time is then a lower bound, and
its error what it has got to.

Of POT's methods sinkhorn_epsilon_scaling is left out: it makes 3,500 scaling steps at least, whatever the problem.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ntsolve.demo import need

from ._transport_tasks import Task, marginal_error

TOL = 1e-9
PROBE = 10  # iterations from which the time of one is estimated


@dataclass(frozen=True)
class Peer:
    """`solve(task, reg, tol, iterations)` gives (plan, iterations done). `prepare` makes the costs as it wants them."""

    name: str
    solve: Callable
    prepare: Callable = np.ascontiguousarray


@dataclass(frozen=True)
class Trial:
    """What a trial found: how to call a peer, how long it took and how far it came."""

    peer: Peer
    run: Callable  # () -> (plan, iterations)
    seconds: float
    error: float
    stopped: bool  # by the cap

    @property
    def reached(self):
        return self.error <= TOL

    @property
    def failed(self):
        """Ended of its own accord without an answer."""
        return not self.reached and not self.stopped


def _pot(method):
    def solve(C, a, b, reg, tol, iterations):
        (ot,) = need("ot")
        P, log = ot.sinkhorn(a, b, C, reg, method=method, stopThr=tol, numItermax=iterations, log=True, warn=False)
        return P, 1 + log.get("niter", log.get("n_iter"))

    return Peer(f"ot.sinkhorn, {method}" if method != "sinkhorn" else "ot.sinkhorn", solve)


def _ssns(C, a, b, reg, tol, iterations):
    (regot,) = need("regot")
    result = regot.sinkhorn_ssns(C, a, b, reg, tol=tol, max_iter=iterations)
    return result.plan, result.niter


def _emd(C, a, b, reg, tol, iterations):
    (ot,) = need("ot")
    return ot.emd(a, b, C, numItermax=10**9), None


SINKHORN, SINKHORN_LOG = _pot("sinkhorn"), _pot("sinkhorn_log")
POT = (SINKHORN, SINKHORN_LOG, _pot("sinkhorn_stabilized"), _pot("greenkhorn"))
SSNS = Peer("regot.sinkhorn_ssns", _ssns, np.asfortranarray)
EMD = Peer("ot.emd (exact)", _emd)


def contenders(task: Task, reg: float):
    """Who is measured. On many points all of POT's methods take long at a small reg, and SSNS at a large one."""
    if task.family != "points":
        return (SSNS, *POT)
    return POT if reg > 1e-3 else (SSNS, SINKHORN, SINKHORN_LOG)


def trial(peer: Peer, task: Task, reg: float, cap: float) -> Trial:
    """Find out how a peer is to be called on a problem."""
    C = peer.prepare(task.C)

    def call(tol, iterations):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return peer.solve(C, task.a, task.b, reg, tol, iterations)

    def timed(tol, iterations):
        began = time.perf_counter()
        plan, done = call(tol, iterations)
        return time.perf_counter() - began, marginal_error(task, plan), done

    timed(TOL, 1)  # imports, and whatever else a first call does
    seconds, _, done = timed(1e-2 * TOL, PROBE)
    if seconds < 0.05 * cap:  # what comes before the first iteration is not to be multiplied
        more, _, last = timed(1e-2 * TOL, 5 * PROBE)
        seconds, done = max(more - seconds, 1e-3 * more), (last or 0) - (done or 0)
    most = max(PROBE, int(cap * (done or PROBE) / seconds))
    tol = TOL
    while True:
        seconds, error, done = timed(tol, most)
        stopped = error > TOL and done is not None and done >= most
        if stopped and seconds < 0.7 * cap:  # iterations that get cheaper
            most = int(1 + most * cap / seconds)
            continue
        if error <= TOL or stopped or not error < 1e3 * TOL or tol < 1e-3 * TOL:
            break
        tol *= min(0.3, 0.9 * TOL / error)  # not so little that the same iterate is returned once more
    return Trial(peer, lambda: call(tol, most), seconds, error, stopped)
