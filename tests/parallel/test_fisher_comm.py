"""EmpiricalFisher, MFAC and ihvp with columns shared among ranks: the answers of one process, on threads as ranks."""

import functools

import numpy as np
import pytest

import ntsolve
from ntsolve import EmpiricalFisher
from ntsolve.errors import RankError
from ntsolve.parallel.comm import join

from ..backends import BACKENDS, to_device, to_host
from .team import bounds, ends, together

DAMP = 1e-2


def columns(cuts, comm):
    return slice(cuts[comm.rank], cuts[comm.rank + 1])


def joined(parts):
    return np.concatenate(parts, axis=-1)


def on_parts(cuts, solve, run=together):
    """solve(comm, columns of the rank) on a rank each."""
    with ntsolve.config(threads=1):
        return run(len(cuts) - 1, lambda comm: solve(comm, columns(cuts, comm)))


def shared(G, cuts, ask, run=together, **options):
    """ask(F, columns) of each rank, where F has those columns of G."""
    return on_parts(cuts, lambda comm, own: ask(EmpiricalFisher(G[:, own], comm=comm, **options), own), run)


@functools.cache
def problem(m, d, dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal((m, d)).astype(dtype), rng.standard_normal((20, d))


@pytest.mark.parametrize("cuts", [(0, 40), (0, 20, 40), (0, 10, 20, 40), (0, 0, 40, 40)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    ("m", "block_size"), [(5, None), (5, 100), (60, None), (5, 10), (12, 10)], ids=lambda case: str(case)
)
def test_the_parts_make_up_the_answers_of_one_process(cuts, dtype, m, block_size):
    G, X = problem(m, 40, dtype)
    options = {"damp": DAMP, "block_size": block_size}
    F, index = EmpiricalFisher(G, **options), np.arange(40)[::3]

    def ask(part, own):
        mine = index[(index >= own.start) & (index < own.stop)]
        assert np.allclose(part.block(mine - own.start), F.block(mine), rtol=1e-6, atol=1e-6)
        other = part.with_damp(0.1)
        return {"solve": part.solve(X[:, own]), "matvec": part.matvec(X[0, own]), "newest": part.solve_newest(),
                "diag": part.diag(), "other": other.solve(X[1, own]), "log_det": part.log_det(), "d": part.d,
                "own": part.gradients()}  # fmt: skip

    parts = shared(G, cuts, ask, **options)
    wanted = {"solve": F.solve(X), "matvec": F.matvec(X[0]), "newest": F.solve_newest(), "diag": F.diag(),
              "other": F.with_damp(0.1).solve(X[1]), "own": G}  # fmt: skip
    for name, value in wanted.items():
        near = 1e-9 if dtype == "float64" else 2e-4
        found = joined([part[name] for part in parts])
        assert found.dtype == value.dtype
        np.testing.assert_allclose(found, value, rtol=near, atol=near * abs(value).max())
    for part in parts:
        assert part["log_det"] == pytest.approx(F.log_det(), rel=1e-9)
    assert [part["d"] for part in parts] == list(np.diff(cuts))


@pytest.mark.parametrize("cuts", [(0, 12, 30), (0, 0, 11, 30)])
@pytest.mark.parametrize(("capacity", "block_size"), [(6, None), (40, None)])
def test_a_window_moves_with_all_its_parts(cuts, capacity, block_size):
    rng = np.random.default_rng(1)
    G, X = rng.standard_normal((3 * capacity, 30)), rng.standard_normal(30)
    serial = EmpiricalFisher.window(capacity, 30, DAMP, start=G[:3], dtype="float64")

    def moved(F, own):
        found = [F.solve(X[own])]
        for number, g in enumerate(G[3:]):
            F.append(g[own])
            if number % 7 == 0:
                found.append(F.solve(X[own]))
        F.replace(G[0, own], index=2)
        return np.array([*found, F.solve(X[own]), F.solve_newest(), F.diag()])

    def parts(comm, own):
        width = own.stop - own.start
        return moved(EmpiricalFisher.window(capacity, width, DAMP, start=G[:3, own], dtype="float64", comm=comm), own)

    found = joined(on_parts(cuts, parts))
    np.testing.assert_allclose(found, moved(serial, slice(None)), rtol=1e-8, atol=1e-8)


@pytest.mark.skipif("cuda" not in BACKENDS, reason="neither a GPU nor the emulator")
@pytest.mark.parametrize(("m", "block_size"), [(3, None), (3, 6), (16, None)])
def test_gradients_on_a_gpu_are_shared(m, block_size):
    G, X = problem(m, 12, "float64")
    F = EmpiricalFisher(G, damp=DAMP, block_size=block_size)
    parts = shared(to_device(G, "cuda"), (0, 0, 6, 12), damp=DAMP, block_size=block_size,
                   ask=lambda part, own: (to_host(part.solve(to_device(X[:2, own], "cuda"))), to_host(part.diag())))
    np.testing.assert_allclose(joined([part[0] for part in parts]), F.solve(X[:2, :12]), rtol=1e-8)
    np.testing.assert_allclose(joined([part[1] for part in parts]), F.diag(), rtol=1e-8)


def test_a_window_begins_with_nothing():
    def ask(comm, own):
        F = EmpiricalFisher.window(3, own.stop - own.start, 0.5, dtype="float64", comm=comm)
        empty = F.log_det(), F.solve(np.ones(F.d))
        F.append(np.ones(F.d))
        return *empty, F.solve(np.ones(F.d))

    for log_det, before, after in on_parts((0, 2, 2, 6), ask):
        assert log_det == pytest.approx(6 * np.log(0.5))
        np.testing.assert_allclose(before, 2.0)
        np.testing.assert_allclose(after, 1 / 6.5)


def test_a_product_takes_one_message_of_m_numbers():
    G, X = problem(5, 40, "float64")

    def ask(comm, own):
        F = EmpiricalFisher(G[:, own], damp=DAMP, comm=comm)
        before = comm.calls["Allreduce"]
        F.solve(X[0, own])
        F.matvec(X[0, own])
        between = comm.calls.copy()
        F.diag(), F.block([0, 1]), F.element(0, 1), F.solve_newest()
        return between["Allreduce"] - before, comm.calls == between

    assert on_parts((0, 11, 40), ask) == [(2, True)] * 2


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_preconditions_a_distributed_solve(size):
    rng = np.random.default_rng(0)
    G = rng.standard_normal((30, 200)) * np.geomspace(1, 1e-2, 200)
    shift, b = rng.uniform(0.5e-3, 2e-3, 200), rng.standard_normal(200)

    def solve(comm, own=slice(None)):
        mine, ranks, part = G[:, own], join(comm), shift[own]

        def product(v):
            inside = mine @ v
            ranks.add(inside)
            return mine.T @ inside / 30 + part * v

        M = EmpiricalFisher(mine, damp=1e-3, comm=comm)
        first = ntsolve.cg(product, b[own], M=M.as_linear_operator(), rtol=1e-8, comm=comm)
        return first, ntsolve.ihvp(product, b[own], M=M, rtol=1e-8, comm=comm)

    serial = solve(None)
    with ntsolve.config(threads=1):
        parts = together(size, lambda comm: solve(comm, slice(*bounds(200, comm))))
    for which in range(2):
        assert {abs(part[which].nit - serial[which].nit) <= 2 for part in parts} == {True}
        assert all(part[which].success for part in parts)
        np.testing.assert_allclose(joined([part[which].x for part in parts]), serial[which].x, rtol=1e-5, atol=1e-5)


@functools.cache
def logistic():
    """(H, v) of a small logistic regression."""
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((300, 90)) / np.arange(1, 91), rng.standard_normal(90)
    p = 1 / (1 + np.exp(-X @ w))
    return X.T @ ((p * (1 - p) / 300)[:, None] * X), rng.standard_normal(90)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("options", [{"rank": 15}, {"rank": 200}, {"method": "cg"}, {"method": "cg", "keep": 0}])
def test_ihvp_works_on_parts(size, options):
    H, v = logistic()
    options = {"damp": 1e-4, "rtol": 1e-7, "rng": 0} | options
    serial = ntsolve.ihvp(H, v, **options)

    def solve(comm):
        own = slice(*bounds(90, comm))
        return ntsolve.ihvp(H[own], v[own], comm=comm, **options)

    with ntsolve.config(threads=1):
        parts = together(size, solve)
    x = joined([part.x for part in parts])
    assert np.linalg.norm(v - H @ x - 1e-4 * x) <= 1.01e-7 * np.linalg.norm(v)
    for part in parts:
        assert part.success
        assert abs(part.nit - serial.nit) <= 2
        assert part.products == parts[0].products
        assert np.array_equal(part.history, parts[0].history)


@pytest.mark.parametrize("cuts", [(0, 8, 20), (0, 0, 5, 20)])
def test_the_optimizer_steps_with_all_parts(cuts):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((30, 20)) * np.geomspace(0.01, 1, 20)

    def walk(d, own, comm=None):
        optimizer = ntsolve.MFAC(d, m=8, damp=1e-3, lr=0.1, weight_decay=1e-2, dtype="float64", comm=comm)
        w = np.ones(20)[own]
        for g in gradients[:20]:
            optimizer.step(w, g[own])
        again = ntsolve.MFAC(d, m=8, damp=1e-3, dtype="float64", comm=comm)
        again.load_state_dict(optimizer.state_dict())
        for g in gradients[20:]:
            w += again.update(g[own], w)
        return w

    found = joined(on_parts(cuts, lambda comm, own: walk(own.stop - own.start, own, comm)))
    np.testing.assert_allclose(found, walk(20, slice(None)), rtol=1e-9)


# ---- errors ---------------------------------------------------------------------------------------------------------


def failures(cuts, solve):
    found = on_parts(cuts, solve, run=ends)
    assert all(isinstance(error, Exception) for error in found), found
    return found


def test_blocks_that_straddle_ranks_are_refused():
    G, _ = problem(5, 40, "float64")
    for error in failures((0, 15, 40), lambda comm, own: EmpiricalFisher(G[:, own], damp=1, block_size=10, comm=comm)):
        assert "block_size = 10 does not divide the 15 columns of rank 0" in str(error)


def test_what_differs_or_does_not_fit_is_named():
    G, _ = problem(5, 40, "float64")
    make = functools.partial(EmpiricalFisher, damp=1.0)
    cases = {
        "damp": lambda comm, own: make(G[:, own], damp=1.0 + comm.rank, comm=comm),
        "block_size": lambda comm, own: make(G[:, own], block_size=10 + comm.rank, comm=comm),
        "number of gradients": lambda comm, own: make(G[comm.rank :, own], comm=comm),
        "dtype": lambda comm, own: make(G[:, own].astype(f"float{32 * (1 + comm.rank)}"), comm=comm),
        "takes no comm": lambda comm, own: make(G[:, own], method="recursion", comm=comm),
        "no columns on any rank": lambda comm, own: make(G[:, :0], comm=comm),
        "not for 'minres'": lambda comm, own: ntsolve.ihvp(np.eye(20), np.ones(20), method="minres", comm=comm),
        "whether x0 is given": lambda comm, own: ntsolve.ihvp(
            lambda x: x, np.ones(20), method="cg", x0=np.ones(20) if comm.rank else None, comm=comm
        ),
        "prune": lambda comm, own: ntsolve.prune(np.ones(20), make(G[:, own], comm=comm), sparsity=0.5),
    }
    for word, solve in cases.items():
        for error in failures((0, 20, 40), solve):
            assert isinstance(error, (ValueError, RankError))
            assert word in str(error)


def test_nan_on_one_rank_is_heard_of_and_changes_nothing():
    G, X = problem(5, 40, "float64")
    bad = G.copy()
    bad[3, 30] = np.nan
    for error in failures((0, 20, 40), lambda comm, own: EmpiricalFisher(bad[:, own], damp=1.0, comm=comm)):
        assert "G contains NaN or infinity" in str(error)
        assert "row 3" in str(error)

    def ask(comm, own):
        F = EmpiricalFisher.window(5, 20, 1.0, start=G[:, own], dtype="float64", comm=comm)
        for call in (F.append, F.replace, F.solve):
            with pytest.raises(ValueError if comm.rank else RankError, match="contains NaN"):
                call(np.full(20, np.nan if comm.rank else 1.0))
        return F.solve(X[0, own])

    found = joined(on_parts((0, 20, 40), ask))
    np.testing.assert_allclose(found, EmpiricalFisher(G, damp=1.0).solve(X[0]), rtol=1e-12)
