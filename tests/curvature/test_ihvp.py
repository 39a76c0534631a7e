"""Inverse-Hessian-vector products against elimination; what is sketched, kept and counted; negative curvature."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import ntsolve
from ntsolve import Status
from ntsolve.curvature.nystrom import orthonormal
from ntsolve.dispatch import kernels_for
from tests.backends import BACKENDS, to_device, to_host

from .problems import hessian, vector

METHODS = ("nystrom", "cg", "minres", "neumann")
TIGHT = {"float64": 1e-9, "float32": 1e-4}
CLOSE = {"float64": 1e-7, "float32": 2e-3}


def solve(H, v, damp):
    return np.linalg.solve(H + damp * np.eye(len(H)), v.T).T


def close(got, want, dtype="float64"):
    got = to_host(got)
    assert got.shape == want.shape
    assert abs(got - want).max() <= CLOSE[dtype] * abs(want).max()


# ---- the answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_that_of_elimination(method, dtype, backend):
    H, v, damp = hessian(24), vector(2, 24), 1.0 if method == "neumann" else 0.05
    arrays = [to_device(a.astype(dtype), backend) for a in (H, v)]
    result = ntsolve.ihvp(*arrays, damp=damp, method=method, rank=5, rtol=TIGHT[dtype], rng=0)
    assert result.success.all()
    assert result.x.dtype == dtype
    assert result.backend == ("cpu" if backend == "cpu" else "cuda")
    close(result.x, solve(H, v, damp), dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [1, 2, 3, 17])
def test_small_orders(method, d):
    H, v = hessian(d, condition=5), vector(d)
    result = ntsolve.ihvp(H, v, damp=0.1, method=method, rtol=1e-9, rng=0)
    assert result.success
    close(result.x, solve(H, v, 0.1))


FORMS = {
    "array": lambda H: H,
    "csr": sp.csr_array,
    "coo": sp.coo_array,
    "operator": aslinearoperator,
    "callable": lambda H: lambda x: H @ x,
    "at": lambda H: type("At", (), {"__matmul__": lambda self, x: H @ x})(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_hessian(form):
    H, v = hessian(), vector(60)
    result = ntsolve.ihvp(FORMS[form](H), v, damp=1e-3, rank=10, rtol=1e-9, rng=0)
    assert result.success
    close(result.x, solve(H, v, 1e-3))


@pytest.mark.parametrize("method", ["nystrom", "cg"])
def test_complex_hermitian(method):
    rng = np.random.default_rng(0)
    B = rng.standard_normal((20, 20)) + 1j * rng.standard_normal((20, 20))
    H, v = B @ B.conj().T / 20, vector(20) + 1j * vector(20, seed=2)
    result = ntsolve.ihvp(H, v, damp=0.1, method=method, rank=8, rtol=1e-10, rng=0)
    assert result.success
    close(result.x, solve(H, v, 0.1))


@pytest.mark.parametrize("shape", [(60,), (1, 60), (3, 60), (2, 2, 60), (0, 60)])
def test_rows_are_right_hand_sides(shape):
    H, v = hessian(), vector(*shape)
    result = ntsolve.ihvp(H, v, damp=1e-2, rtol=1e-9, rank=10, rng=0)
    assert np.all(result.success)
    assert np.shape(result.success) == shape[:-1]
    if v.size:
        close(result.x.reshape(-1, 60), solve(H, v.reshape(-1, 60), 1e-2))
    else:
        assert result.x.shape == shape


@pytest.mark.parametrize("method", METHODS)
def test_a_start_near_the_solution_saves_iterations(method):
    H, v = hessian(), vector(60)
    x0 = solve(H, v, 1e-2) * (1 + 1e-7 * vector(60))
    kept = x0.copy()
    options = {"damp": 1e-2, "method": method, "rtol": 1e-9, "rank": 10, "rng": 0}
    near, far = ntsolve.ihvp(H, v, x0=x0, **options), ntsolve.ihvp(H, v, **options)
    assert near.success
    assert near.nit < far.nit
    assert np.array_equal(x0, kept)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_solve(method):
    result = ntsolve.ihvp(hessian(), np.zeros(60), method=method, x0=np.ones(60))
    assert result.success
    assert result.nit == 0
    assert not result.x.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e-200, 1e-12, 1e12, 1e200])
def test_the_size_of_things_does_not_matter(method, size):
    H, v = hessian(), vector(60)
    options = {"method": method, "rank": 10, "rtol": 1e-8, "rng": 0}
    want = ntsolve.ihvp(H, v, damp=1e-2, **options)
    result = ntsolve.ihvp(H, size * v, damp=1e-2, **options)
    assert result.success
    close(result.x / size, want.x)
    if 1e-100 < size < 1e100:
        result = ntsolve.ihvp(size * H, v, damp=1e-2 * size, **options)
        assert result.success
        close(result.x * size, want.x)


def test_damp_is_what_is_added_to_the_diagonal():
    H, v = hessian(), vector(60)
    result = ntsolve.ihvp(H, v, damp=0.5, rtol=1e-10, rng=0)
    assert result.verify(H, v, damp=0.5) == pytest.approx(result.residual, abs=1e-9)
    assert result.verify(H + 0.5 * np.eye(60), v) <= 1e-9 * np.linalg.norm(v)
    assert result.verify(H, v) > 0.1 * np.linalg.norm(v)


# ---- the sketch -----------------------------------------------------------------------------------------------------


def test_a_sketch_saves_products():
    H, v = hessian(300, condition=1e12), vector(300)
    options = {"damp": 1e-4, "rtol": 1e-8, "rng": 0}
    plain = ntsolve.ihvp(H, v, method="cg", keep=0, **options)
    sketched = ntsolve.ihvp(H, v, rank=80, keep=0, **options)
    assert plain.success
    assert sketched.success
    assert sketched.products < plain.products / 3


def test_a_sketch_of_full_rank_is_the_inverse():
    H, v = hessian(40), vector(40)
    result = ntsolve.ihvp(H, v, damp=1e-4, rank=1000, rtol=1e-9, rng=0)
    assert result.success
    assert result.nit <= 3
    assert 40 < result.products <= 40 + 2 * result.nit + 2


def test_a_sketch_of_more_than_the_rank_of_the_hessian():
    B = vector(5, 60)
    result = ntsolve.ihvp(B.T @ B, vector(60, seed=2), damp=1e-3, rank=30, rtol=1e-9, rng=0)
    assert result.success
    assert result.nit <= 4
    close(result.x, solve(B.T @ B, vector(60, seed=2), 1e-3))


def test_a_hessian_that_is_zero():
    result = ntsolve.ihvp(np.zeros((30, 30)), np.ones(30), damp=0.5, rng=0)
    assert result.success
    np.testing.assert_allclose(result.x, 2.0)


def test_the_random_numbers_are_the_callers():
    H, v = hessian(), vector(60)
    state = repr(np.random.get_state())  # noqa: NPY002
    options = {"damp": 1e-3, "rank": 10, "rtol": 1e-9}
    one, two = (ntsolve.ihvp(H, v, rng=7, **options).x for _ in range(2))
    assert np.array_equal(one, two)
    generator = np.random.default_rng(7)
    assert np.array_equal(one, ntsolve.ihvp(H, v, rng=generator, **options).x)
    assert not np.array_equal(one, ntsolve.ihvp(H, v, rng=generator, **options).x)  # it has moved on
    assert np.array_equal(ntsolve.ihvp(H, v, **options).x, ntsolve.ihvp(H, v, rng=0, **options).x)  # unless told
    assert repr(np.random.get_state()) == state  # noqa: NPY002


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 400), (200, 200)])
def test_rows_are_made_orthonormal(shape):
    X = vector(*shape)
    with kernels_for(X=X) as k:
        Q = orthonormal(k, X.copy())
    np.testing.assert_allclose(Q @ Q.T, np.eye(len(Q)), atol=1e-12)
    np.testing.assert_allclose(X @ Q.T @ Q, X, atol=1e-10 * abs(X).max() * shape[0])


def test_products_are_counted():
    H, v = hessian(), vector(3, 60)
    for method in METHODS:
        calls = []

        def product(x, calls=calls):
            calls.append(1)
            return H @ x

        result = ntsolve.ihvp(product, v, damp=0.1, method=method, rank=10, rng=0)
        assert result.success.all()
        assert result.products == len(calls)
        assert "products" in result
        spent = {"nystrom": 10, "cg": 0, "minres": 0, "neumann": result.products - 3 * result.nit.max() - 3}[method]
        assert result.products == spent + 3 * result.nit.max() + 3  # with those of the residuals
        assert copy.deepcopy(result).products == len(calls)


def test_several_right_hand_sides_share_a_sketch():
    H, v = hessian(), vector(4, 60)
    options = {"damp": 1e-2, "rank": 20, "rng": 0}
    alone = sum(ntsolve.ihvp(H, row, **options).products for row in v)
    assert ntsolve.ihvp(H, v, **options).products <= alone - 3 * 20 + 4 * 10


# ---- residuals that are kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cg", "nystrom"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kept_residuals_save_iterations(method, dtype):
    H, v = hessian(300, condition=1e8).astype(dtype), vector(2, 300).astype(dtype)
    options = {"damp": 1e-4, "method": method, "rank": 10, "rtol": 1e-6 if dtype == "float64" else 1e-3, "rng": 0}
    kept, textbook = ntsolve.ihvp(H, v, **options), ntsolve.ihvp(H, v, keep=0, **options)
    assert kept.success.all()
    assert textbook.success.all()
    assert (kept.nit < 0.7 * textbook.nit).all()


@pytest.mark.parametrize("keep", [0, 1, 5, 15, 16, 17, 33, 1000])
@pytest.mark.parametrize("method", ["cg", "nystrom"])
def test_any_number_of_kept_residuals_gives_the_answer(method, keep):
    H, v = hessian(100, condition=1e5), vector(2, 100)
    result = ntsolve.ihvp(H, v, damp=1e-4, method=method, rank=5, keep=keep, rtol=1e-9, rng=0)
    assert result.success.all()
    close(result.x, solve(H, v, 1e-4))


def test_a_system_that_is_done_waits_for_the_others():
    """What rests in a batch must not be taken for rounding."""
    H = hessian(100, condition=1e5)
    eigenvector = np.linalg.eigh(H)[1][:, -1]
    v = np.stack([eigenvector, vector(100), np.zeros(100)])
    for method in ("cg", "nystrom"):
        result = ntsolve.ihvp(H, v, damp=1e-4, method=method, rank=5, rtol=1e-9, rng=0)
        assert result.success.all()
        assert result.nit[2] == 0
        assert method == "nystrom" or result.nit[0] < result.nit[1] / 3
        close(result.x, solve(H, v, 1e-4))


# ---- preconditioners of the caller's --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["nystrom", "cg"])
def test_an_empirical_fisher_matrix_is_a_preconditioner(method, backend):
    rng = np.random.default_rng(0)
    G = rng.standard_normal((30, 80)) * np.geomspace(3, 0.01, 80)
    H = G.T @ G / 30 + 1e-5 * np.eye(80)
    v, damp = rng.standard_normal(80), 1e-3
    fisher = ntsolve.EmpiricalFisher(to_device(G, backend), damp=damp)
    H_, v_ = to_device(H, backend), to_device(v, backend)
    result = ntsolve.ihvp(H_, v_, damp=damp, method=method, M=fisher, rtol=1e-9)
    assert result.success
    assert result.nit < 10 < ntsolve.ihvp(H_, v_, damp=damp, method="cg", rtol=1e-9).nit
    assert result.products <= result.nit + 3  # no sketch
    close(result.x, solve(H, v, damp))


@pytest.mark.parametrize("M", ["jacobi", "array", "operator", "callable"])
def test_whatever_cg_takes_is_a_preconditioner(M):
    scale = np.geomspace(1, 1e4, 60)
    H = hessian(condition=10) * scale * scale[:, None]
    v, diagonal = vector(60), np.diag(H) + 0.1
    given = {
        "jacobi": "jacobi",
        "array": np.diag(1 / diagonal),
        "operator": LinearOperator((60, 60), lambda r: r / diagonal, dtype=float),
        "callable": lambda r: r / diagonal,
    }[M]
    result = ntsolve.ihvp(H, v, damp=0.1, M=given, rtol=1e-10)
    assert result.success
    close(result.x, solve(H, v, 0.1))


def test_a_preconditioner_that_changes():
    H, v = hessian(condition=100), vector(60)
    calls = []

    def M(r):
        calls.append(1)
        return r * (1 + 0.5 * (len(calls) % 3))

    result = ntsolve.ihvp(H, v, damp=0.1, M=M, keep=0, rtol=1e-9)
    assert result.success
    close(result.x, solve(H, v, 0.1))


# ---- a Hessian that is indefinite -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["nystrom", "cg", "neumann"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_negative_curvature_is_found_and_named(method, dtype):
    H, v = hessian(shift=0.3).astype(dtype), vector(2, 60).astype(dtype)
    with pytest.warns(ntsolve.ConvergenceWarning, match="Gauss-Newton") as record:
        result = ntsolve.ihvp(H, v, damp=0.1, method=method, rank=30, rng=0)
    assert record[0].filename == __file__
    assert not result.success.any()
    assert (result.status == Status.INDEFINITE_OPERATOR).all()
    assert "larger damp than 0.1" in result.message
    assert "minres" in result.message
    assert np.isfinite(result.x).all()


def test_the_sketch_says_how_negative():
    H = hessian(shift=0.3)
    result = ntsolve.ihvp(H, vector(60), rank=60, rng=0, on_failure="ignore")
    assert result.nit == 0
    assert result.products == 60
    assert "eigenvalue -0.3" in result.message


def test_minres_solves_it():
    H, v = hessian(shift=0.3), vector(60)
    result = ntsolve.ihvp(H, v, damp=0.01, method="minres", rtol=1e-10)
    assert result.success
    close(result.x, solve(H, v, 0.01))


def test_a_damp_that_outweighs_negative_curvature_is_enough():
    H, v = hessian(shift=0.3), vector(60)
    for method in METHODS:
        result = ntsolve.ihvp(H, v, damp=0.35, method=method, rank=60, rtol=1e-8, rng=0)
        assert result.success, method
        close(result.x, solve(H, v, 0.35))


def test_minres_is_scipys():
    H, v = hessian(shift=0.3), vector(60)
    ours = ntsolve.ihvp(H, v, method="minres", maxiter=12, on_failure="ignore")
    theirs, _ = scipy.sparse.linalg.minres(H, v, rtol=0, maxiter=12)
    np.testing.assert_allclose(ours.x, theirs, rtol=1e-8, atol=1e-8 * abs(theirs).max())


def test_minres_in_single_precision_does_not_lose_what_it_has_to_rounding():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    H = ((Q * np.geomspace(1e-5, 1, 60) * np.where(rng.random(60) < 0.5, -1, 1)) @ Q.T).astype("float32")
    v = rng.standard_normal(60).astype("float32")
    result = ntsolve.ihvp((H + H.T) / 2, v, method="minres", rtol=1e-4, maxiter=4000, on_failure="ignore")
    assert result.residual < 1e-3 * np.linalg.norm(v)  # 3e-3 with an iterate in float32


def test_minres_on_a_singular_system():
    H, v = np.diag([1.0, -2.0, 0.0, 3.0]), np.array([1.0, 1.0, 0.0, 1.0])
    result = ntsolve.ihvp(H, v, method="minres", rtol=1e-10)
    assert result.success
    np.testing.assert_allclose(result.x, [1, -0.5, 0, 1 / 3], atol=1e-9)
    result = ntsolve.ihvp(H, v + 1, method="minres", rtol=1e-10, on_failure="ignore")  # v is not in the range
    assert not result.success
    assert result.status < 0
