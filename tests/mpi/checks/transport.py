"""solve_ot_sample with the rows of X on different processes."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import ntsolve
from ntsolve.errors import RankError
from ntsolve.transport import sparse

from ...parallel.team import bounds
from ...parallel.test_transport_comm import assert_same, clouds, masses


def _compare(comm, X, Y, cuts=None, near=1e-9, **options):
    """Every rank solves the whole by itself as well, and all look at all parts."""
    own = slice(*(bounds(len(X), comm) if cuts is None else cuts[comm.rank : comm.rank + 2]))
    local = options | {name: options[name][own] for name in ("a",) if name in options}
    part = ntsolve.solve_ot_sample(X[own], Y, comm=comm, **local)
    parts = comm.allgather(part)
    assert_same(parts, ntsolve.solve_ot_sample(X, Y, **options), near)
    return part, own


def check_small_and_annealed(comm):
    X, Y = clouds(60, 45)
    _compare(comm, X, Y, a=masses(60), b=masses(45), reg=1e-3)
    _compare(comm, X, Y, a=masses(60), b=masses(45), reg=0.01, tau_a=0.3, tau_b=0.2)
    _compare(comm, *clouds(150, 1100), reg=1e-3)
    _compare(comm, *clouds(40, 33, dtype="float32"), reg=0.01, tol=1e-5, near=1e-5)


def check_a_rank_with_nothing(comm):
    X, Y = clouds(60, 45)
    _compare(comm, X, Y, cuts=[0, 60, 60, 60][: comm.size] + [60], reg=0.005, metric="euclidean")


def check_many_points(comm):
    before = sparse.DENSE, sparse.ENOUGH
    sparse.DENSE, sparse.ENOUGH = 10_000, 10_000
    try:
        part, _ = _compare(comm, *clouds(700, 600), reg=2e-3)
    finally:
        sparse.DENSE, sparse.ENOUGH = before
    assert part.cg_steps


def check_gradients_and_gap(comm):
    X, Y = clouds(30, 24)
    part, own = _compare(comm, X, Y, reg=0.02)
    serial = ntsolve.solve_ot_sample(X, Y, reg=0.02)
    assert part.gap == pytest.approx(serial.gap, abs=1e-12)
    for of in ("value", "value_linear"):
        np.testing.assert_allclose(part.gradient("X", of=of), serial.gradient("X", of=of)[own], atol=1e-7)
        np.testing.assert_allclose(part.gradient("Y", of=of), serial.gradient("Y", of=of), atol=1e-7)


def check_failures_are_heard_of(comm):
    if comm.size == 1:
        return
    X, Y = clouds(20, 15)
    own = slice(*bounds(20, comm))
    last = comm.rank == comm.size - 1

    def metric(X, Y):
        if last:
            raise ZeroDivisionError("no such points")
        return cdist(X, Y)

    with pytest.raises(ZeroDivisionError if last else RankError, match="no such points"):
        ntsolve.solve_ot_sample(X[own], Y, metric=metric, reg=0.1, comm=comm)
    with pytest.raises(ValueError, match="Y must be the same"):
        ntsolve.solve_ot_sample(X[own], Y + last, reg=0.1, comm=comm)
    with pytest.raises(ValueError if last else RankError, match="a has a negative weight"):
        ntsolve.solve_ot_sample(X[own], Y, np.full(len(X[own]), -1.0 if last else 3.0), reg=0.1, comm=comm)
    assert ntsolve.solve_ot_sample(X[own], Y, reg=0.1, comm=comm).success
