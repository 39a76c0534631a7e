"""What is carried from solve to solve: fewer iterations, never a wrong answer, and nothing where it does not fit."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import ntsolve
from tests.backends import BACKENDS, to_device, to_host

from .problems import hermitian, laplacian, poisson, residual, rhs, solve, spd


def drifting(t, n=28):
    """Systems with a few small eigenvalues that vary slowly."""
    rng = np.random.default_rng(0)
    A = poisson(n)
    scale = sp.diags_array(np.exp(0.5 * rng.standard_normal(n * n) + 0.05 * np.sin(t + np.arange(n * n) / 50)))
    return (scale @ A @ scale).tocsr()


PRECONDITIONERS = {
    "none": lambda A: None,
    "jacobi": lambda A: "jacobi",
    "ic0": lambda A: "ic0",
    "function": lambda A: lambda r: r / A.diagonal(),
    "factor": ntsolve.ic0,
}


@pytest.mark.parametrize(
    ("M", "gain"), [("none", 0.8), ("jacobi", 0.75), ("ic0", 0.7), ("function", 0.9), ("factor", 0.7)]
)
def test_later_solves_of_drifting_systems_take_fewer_iterations(M, gain):
    recycler, n = ntsolve.Recycler(k=12), 784
    for t in range(4):
        A, b = drifting(t), rhs(n, seed=t)
        make = PRECONDITIONERS[M]
        alone = ntsolve.cg(A, b, M=make(A), rtol=1e-8)
        result = ntsolve.cg(A, b, M=make(A), rtol=1e-8, recycle=recycler)
        assert result.success
        assert residual(A, b, result.x) <= 1.001e-8 * np.linalg.norm(b)
        assert len(result.history) == result.nit + 1
    assert result.nit <= gain * alone.nit
    assert recycler.size == 12
    assert recycler.nbytes == 12 * n * 4


def test_the_lowest_eigenvectors_are_what_is_kept():
    A = laplacian(300)
    recycler = ntsolve.Recycler(k=6)
    ntsolve.cg(A, rhs(300), rtol=1e-10, recycle=recycler)
    W = recycler._held[1].astype(float)
    ritz = np.sort(np.linalg.eigvals(np.linalg.solve(W @ W.T, W @ (A @ W.T))).real)
    lowest = np.linalg.eigvalsh(A.toarray())[:6]
    np.testing.assert_allclose(ritz, lowest, rtol=0.05)


def test_the_same_system_again():
    A, b = poisson(20), rhs(400)
    recycler = ntsolve.Recycler()
    first, again = (ntsolve.cg(A, b, rtol=1e-9, recycle=recycler) for _ in range(2))
    assert again.nit < 0.8 * first.nit
    np.testing.assert_allclose(again.x, first.x, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *((kind, "float32") for kind in ("csr", "dense", "operator", "many")),
        ("csr", "complex128"),
        *(pytest.param(kind, "complex128", marks=pytest.mark.slow) for kind in ("dense", "operator", "many")),
    ],
)
def test_every_kind_of_system(kind, dtype):
    A = hermitian(80, 80, condition=50) if dtype == "complex128" else spd(80, 80, condition=300, dtype=dtype)
    b = rhs(*((3, 80) if kind == "many" else (80,)), dtype=dtype)
    given = {"csr": sp.csr_array, "operator": aslinearoperator}.get(kind, np.asarray)(A)
    recycler, rtol = ntsolve.Recycler(k=8), 1e-8 if dtype == "complex128" else 1e-4
    for _ in range(3):
        result = ntsolve.cg(given, b, rtol=rtol, recycle=recycler)
        assert np.all(result.success)
    x = solve(A, b)
    np.testing.assert_allclose(result.x, x, atol=3e-2 * abs(x).max() if dtype == "float32" else 1e-4)
    assert np.max(result.nit) <= 1.2 * np.max(ntsolve.cg(given, b, rtol=rtol).nit)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_on_the_device_it_is_the_same(backend):
    recyclers = [ntsolve.Recycler(k=4), ntsolve.Recycler(k=4)]
    for t in range(2):
        A, b = laplacian(60, shift=0.01 * t), rhs(60, seed=t)
        on_cpu = ntsolve.cg(A, b, rtol=1e-8, recycle=recyclers[0])
        on_gpu = ntsolve.cg(to_device(A, backend), to_device(b, backend), rtol=1e-8, recycle=recyclers[1])
        assert on_gpu.success
        assert abs(on_gpu.nit - on_cpu.nit) <= 2
        np.testing.assert_allclose(to_host(on_gpu.x), on_cpu.x, atol=1e-4)


def test_another_size_or_dtype_starts_anew():
    recycler = ntsolve.Recycler(k=5)
    for A in (poisson(12), poisson(13), poisson(13).astype("float32"), laplacian(40), poisson(12)):
        b = rhs(A.shape[0], dtype=A.dtype)
        alone, result = ntsolve.cg(A, b, rtol=1e-4), ntsolve.cg(A, b, rtol=1e-4, recycle=recycler)
        assert result.success
        assert abs(result.nit - alone.nit) <= 1
        assert recycler.size == 5


@pytest.mark.parametrize("power", [-480, 480])
def test_any_size_of_the_matrix(power):
    recycler = ntsolve.Recycler(k=5)
    A = poisson(12)
    A.data = np.ldexp(A.data, power)
    nits = [ntsolve.cg(A, rhs(144, seed=t), rtol=1e-8, recycle=recycler).nit for t in range(3)]
    assert nits[2] < 0.8 * nits[0]


BAD = {
    "random": lambda W: np.random.default_rng(0).standard_normal(W.shape).astype(W.dtype),
    "all the same": lambda W: np.broadcast_to(W[:1], W.shape).copy(),
    "zero": lambda W: 0 * W,
    "nan": lambda W: np.nan * W,
    "inf": lambda W: np.where(np.arange(W.shape[1]) == 3, np.inf, W).astype(W.dtype),
    "huge": lambda W: W * np.float32(1e30),
    "one row": lambda W: W[:1],
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("M", [pytest.param(None, marks=pytest.mark.slow), "jacobi", "ic0"])
def test_a_bad_space_never_makes_the_answer_wrong(bad, M):
    A, b = drifting(0), rhs(784)
    recycler = ntsolve.Recycler(k=6)
    alone = ntsolve.cg(A, b, M=M, rtol=1e-8, recycle=recycler)
    kind, W = recycler._held
    recycler._held = kind, BAD[bad](W)
    for _ in range(2):
        result = ntsolve.cg(A, b, M=M, rtol=1e-8, recycle=recycler)
        assert result.success
        assert residual(A, b, result.x) <= 1.001e-8 * np.linalg.norm(b)
        assert result.nit <= 1.25 * alone.nit


def test_a_space_of_an_unrelated_matrix_never_makes_the_answer_wrong():
    recycler = ntsolve.Recycler(k=8)
    for seed in range(3):
        A, b = spd(80, 80, condition=1e4, seed=seed), rhs(80, seed=seed)
        result = ntsolve.cg(sp.csr_array(A), b, rtol=1e-8, recycle=recycler)
        assert result.success
        assert result.nit <= 1.1 * ntsolve.cg(sp.csr_array(A), b, rtol=1e-8).nit


def test_an_indefinite_matrix_after_a_good_one_is_found():
    recycler, A = ntsolve.Recycler(k=4), laplacian(80)
    ntsolve.cg(A, rhs(80), recycle=recycler)
    result = ntsolve.cg(-A, rhs(80), recycle=recycler, on_failure="ignore")
    assert result.status == ntsolve.Status.INDEFINITE_OPERATOR
    assert ntsolve.cg(A, rhs(80), recycle=recycler).success


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_the_smallest_systems(n):
    recycler = ntsolve.Recycler(k=10)
    for _ in range(2):
        assert ntsolve.cg(laplacian(n), rhs(n), rtol=1e-10, recycle=recycler).success
    assert recycler.size <= n


def test_a_start_and_a_zero_right_hand_side():
    A, recycler = poisson(12), ntsolve.Recycler(k=5)
    for b, x0 in ((rhs(144), rhs(144, seed=4)), (np.zeros(144), None), (rhs(144), None)):
        result = ntsolve.cg(A, b, x0, rtol=1e-9, recycle=recycler)
        assert result.success
        np.testing.assert_allclose(result.x, solve(A, b), atol=1e-7)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_start_so_far_off_that_rounding_undoes_the_deflation_is_overcome(seed):
    A, b = spd(80, 80, condition=1e3, seed=seed).astype("float32"), rhs(80).astype("float32")
    recycler = ntsolve.Recycler(k=10)
    first = ntsolve.cg(A, b, rtol=1e-3, recycle=recycler)
    far = (1e6 * np.random.default_rng(seed).standard_normal(80)).astype("float32")
    result = ntsolve.cg(A, b, far, rtol=1e-3, recycle=recycler, maxiter=4000)
    assert first.success
    assert result.success


def test_a_solve_within_a_solve_leaves_a_space_that_the_next_one_can_tell():
    recycler, small = ntsolve.Recycler(k=4), laplacian(30)

    def M(r):
        ntsolve.cg(small, rhs(30), recycle=recycler)
        return r

    for A in (laplacian(50), small, laplacian(50)):
        result = ntsolve.cg(A, rhs(A.shape[0]), M=M if A is not small else None, rtol=1e-8, recycle=recycler)
        assert result.success


def test_it_can_be_cleared_shown_and_copied():
    recycler = ntsolve.Recycler(k=3)
    ntsolve.cg(laplacian(50), rhs(50), recycle=recycler)
    assert repr(recycler) == "Recycler(k=3, size=3)"
    assert pickle.loads(pickle.dumps(recycler)).k == 3
    recycler.clear()
    assert recycler.size == recycler.nbytes == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ntsolve.Recycler(k=0), ValueError, r"\bk\b"),
        (lambda: ntsolve.Recycler(k=2.5), TypeError, r"\bk\b"),
        (lambda: ntsolve.cg(laplacian(5), rhs(5), recycle=3), TypeError, "recycle"),
        (lambda: ntsolve.cg(spd(3, 9, 9), rhs(9), recycle=ntsolve.Recycler()), ValueError, "recycle.*one matrix"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
