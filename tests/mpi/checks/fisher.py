"""EmpiricalFisher, and ihvp with and without it, with the columns on different processes."""

import numpy as np
import pytest

import ntsolve
from ntsolve import EmpiricalFisher
from ntsolve.errors import RankError
from ntsolve.parallel.comm import join

from ...parallel.team import bounds
from ...parallel.test_fisher_comm import logistic, problem


def _own(d, comm, cuts=None):
    return slice(*(bounds(d, comm) if cuts is None else cuts[comm.rank : comm.rank + 2]))


def _joined(comm, part):
    return np.concatenate(comm.allgather(part), axis=-1)


def check_the_matrix_and_its_inverse(comm):
    cases = (5, None, "float64"), (60, None, "float64"), (12, 10, "float64"), (5, None, "float32")
    for m, block_size, dtype in cases:
        G, X = problem(m, 40, dtype)
        own = _own(40, comm, [0, 10, 10, 40][: comm.size] + [40])
        F = EmpiricalFisher(G, damp=1e-2, block_size=block_size)
        part = EmpiricalFisher(G[:, own], damp=1e-2, block_size=block_size, comm=comm)
        near = {"rtol": 1e-9, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-3}
        np.testing.assert_allclose(_joined(comm, part.solve(X[:, own])), F.solve(X), **near)
        np.testing.assert_allclose(_joined(comm, part.matvec(X[0, own])), F.matvec(X[0]), **near)
        np.testing.assert_allclose(_joined(comm, part.solve_newest()), F.solve_newest(), **near)
        np.testing.assert_allclose(_joined(comm, part.diag()), F.diag(), **near)
        other, wanted = part.with_damp(1.0), F.with_damp(1.0).solve(X[0])
        np.testing.assert_allclose(_joined(comm, other.solve(X[0, own])), wanted, **near)
        assert part.log_det() == pytest.approx(F.log_det(), rel=1e-9)


def check_a_window(comm):
    rng, own = np.random.default_rng(1), _own(30, comm)
    G, X = rng.standard_normal((18, 30)), rng.standard_normal(30)
    serial = EmpiricalFisher.window(6, 30, 1e-2, dtype="float64")
    part = EmpiricalFisher.window(6, own.stop - own.start, 1e-2, dtype="float64", comm=comm)
    for g in G:
        serial.append(g)
        part.append(g[own])
    np.testing.assert_allclose(_joined(comm, part.solve(X[own])), serial.solve(X), rtol=1e-8)


def check_inverse_hessian_products(comm):
    (H, v), own = logistic(), _own(90, comm)
    for options in ({"rank": 15}, {"method": "cg"}):
        options |= {"damp": 1e-4, "rtol": 1e-7, "rng": 0}
        part, serial = ntsolve.ihvp(H[own], v[own], comm=comm, **options), ntsolve.ihvp(H, v, **options)
        assert part.success
        assert abs(part.nit - serial.nit) <= 2
        x = _joined(comm, part.x)
        assert np.linalg.norm(v - H @ x - 1e-4 * x) <= 1.01e-7 * np.linalg.norm(v)


def check_it_preconditions(comm):
    rng, own = np.random.default_rng(0), _own(200, comm)
    G = rng.standard_normal((30, 200)) * np.geomspace(1, 1e-2, 200)
    shift, b = rng.uniform(0.5e-3, 2e-3, 200), rng.standard_normal(200)
    ranks = join(comm)

    def product(v):
        inside = G[:, own] @ v
        ranks.add(inside)
        return G[:, own].T @ inside / 30 + shift[own] * v

    M = EmpiricalFisher(G[:, own], damp=1e-3, comm=comm).as_linear_operator()
    part = ntsolve.cg(product, b[own], M=M, rtol=1e-8, comm=comm)
    whole = EmpiricalFisher(G, damp=1e-3).as_linear_operator()
    serial = ntsolve.cg(lambda v: G.T @ (G @ v) / 30 + shift * v, b, M=whole, rtol=1e-8)
    assert part.success
    assert abs(part.nit - serial.nit) <= 2
    np.testing.assert_allclose(_joined(comm, part.x), serial.x, rtol=1e-5, atol=1e-5)


def check_failures_are_heard_of(comm):
    if comm.size == 1:
        return
    G, X = problem(5, 40, "float64")
    own, last = _own(40, comm), comm.rank == comm.size - 1
    F = EmpiricalFisher.window(5, own.stop - own.start, 1.0, start=G[:, own], dtype="float64", comm=comm)
    for call in (F.append, F.solve):
        with pytest.raises(ValueError if last else RankError, match="contains NaN"):
            call(np.full(F.d, np.nan if last else 1.0))
    found = _joined(comm, F.solve(X[0, own]))
    np.testing.assert_allclose(found, EmpiricalFisher(G, damp=1.0).solve(X[0]), rtol=1e-12)
    with pytest.raises(ValueError, match="number of gradients"):
        EmpiricalFisher(G[last:, own], damp=1.0, comm=comm)
