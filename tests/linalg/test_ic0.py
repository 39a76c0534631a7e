"""Incomplete Cholesky and SSOR: what they are by definition, that they help, and what they refuse."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device, to_host

from .problems import hermitian, laplacian, poisson, rhs, solve, spd

CLOSE = {"float64": 1e-12, "float32": 1e-5}


def matrix_of(M, n):
    """The matrix of an operator, from its products with unit vectors."""
    return np.stack([M.matvec(e) for e in np.eye(n, dtype=M.dtype)], axis=1)


def scattered(n=60, seed=0):
    """Diagonally dominant, with scattered entries."""
    half = sp.random_array((n, n), density=0.08, rng=np.random.default_rng(seed))
    A = sp.csr_array(half + half.T)
    return (A + sp.diags_array(1.0 + np.asarray(A.sum(axis=1)).ravel())).tocsr()


def hard(n=40):
    """Positive definite, and without an IC(0): of Kershaw's kind, repeated along the diagonal."""
    block = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])
    return sp.kron(sp.eye_array(n // 4), block).tocsr()


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("make", [scattered, lambda: poisson(8)])
def test_ic0_is_the_matrix_at_each_of_its_entries(make, dtype):
    A = make().astype(dtype)
    product = np.linalg.inv(matrix_of(ntsolve.ic0(A), A.shape[0]).astype(float))
    rows, columns = A.nonzero()
    np.testing.assert_allclose(product[rows, columns], A.toarray()[rows, columns], atol=30 * CLOSE[dtype])
    assert np.linalg.eigvalsh((product + product.T) / 2)[0] > 0


def test_ic0_of_a_band_without_fill_is_the_inverse():
    A, b = laplacian(50), rhs(50)
    result = ntsolve.cg(A, b, M="ic0", rtol=1e-10)
    assert result.nit == 1
    np.testing.assert_allclose(result.x, solve(A, b), atol=1e-9)


@pytest.mark.parametrize("omega", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("dtype", CLOSE)
def test_ssor_is_its_formula(omega, dtype):
    A = scattered()
    D, N = np.diag(A.diagonal()), np.tril(A.toarray(), -1)
    want = (D / omega + N) @ np.linalg.inv(D / omega) @ (D / omega + N.T) / (2 - omega)
    for M in (ntsolve.ssor(A.astype(dtype), omega), ntsolve.ssor(A.astype(dtype), 1.2).with_omega(omega)):
        assert M.omega == omega
        np.testing.assert_allclose(np.linalg.inv(matrix_of(M, 60).astype(float)), want, atol=300 * CLOSE[dtype])


@pytest.mark.parametrize(
    ("batch", "dtype", "backend"),
    [
        ((), "float64", "cpu"),
        ((), "float32", "cpu"),
        ((3,), "float64", "cpu"),
        *((batch, "float64", backend) for batch in [(), (2,)] for backend in BACKENDS[1:]),
    ],
)
def test_either_solves_in_fewer_iterations(batch, dtype, backend):
    n = 20 if backend == "cpu" else 9  # the emulator is slow
    A, b, rtol = poisson(n).astype(dtype), rhs(*batch, n * n, dtype=dtype), 1e-5
    x, on = solve(A.astype(float), b.astype(float)), [to_device(v, backend) for v in (A, b)]
    plain = ntsolve.cg(*on, M="jacobi", rtol=rtol)
    for M in ("ic0", ntsolve.ic0(on[0]), ntsolve.ssor(on[0], 1.6)):
        result = ntsolve.cg(*on, M=M, rtol=rtol)
        assert np.all(result.success)
        assert result.x.dtype == dtype
        assert np.max(result.nit) < 0.65 * np.max(plain.nit)
        np.testing.assert_allclose(to_host(result.x), x, atol=1e-3 * abs(x).max())


def test_ten_rows_at_once_are_one_at_a_time():
    A, b = poisson(12), rhs(10, 144)
    M = ntsolve.ic0(A)
    together = ntsolve.cg(A, b, M=M, rtol=1e-9)
    for i in range(10):
        alone = ntsolve.cg(A, b[i], M=M, rtol=1e-9)
        assert alone.nit == together.nit[i]
        assert alone.x.tobytes() == together.x[i].tobytes()


@pytest.mark.parametrize("power", [-480, 480])
def test_a_power_of_two_in_a_changes_no_digit(power):
    A, b = poisson(10), rhs(100)
    scaled = A.copy()
    scaled.data = np.ldexp(A.data, power)
    want, got = (ntsolve.cg(matrix, b, M="ic0", rtol=1e-9) for matrix in (A, scaled))
    assert got.nit == want.nit
    assert np.array_equal(np.ldexp(got.x, power), want.x)


def test_a_breakdown_shifts_the_diagonal_and_says_so():
    A, b = hard(), rhs(40)
    M = ntsolve.ic0(A)
    assert 0 < M.shift < 10
    shifted = A + M.shift * sp.diags_array(A.diagonal())
    product = np.linalg.inv(matrix_of(M, 40))
    rows, columns = A.nonzero()
    np.testing.assert_allclose(product[rows, columns], shifted.toarray()[rows, columns], atol=1e-10)
    result = ntsolve.cg(A, b, M="ic0", rtol=1e-9)
    assert result.success
    assert f"A + {M.shift:g} diag(A)" in result.message
    np.testing.assert_allclose(result.x, solve(A, b), atol=1e-6)


def test_a_matrix_that_needs_no_shift_has_none():
    assert ntsolve.ic0(poisson(6)).shift == 0.0
    assert "diag(A)" not in ntsolve.cg(poisson(6), rhs(36), M="ic0").message


@pytest.mark.parametrize("form", ["csc", "coo", "bsr", "lil", "messy"])
def test_every_format_gives_the_same(form):
    A, b = poisson(7), rhs(49)
    if form == "messy":  # duplicates, unsorted
        coo, order = A.tocoo(), np.random.default_rng(0).permutation(2 * A.nnz)
        row, col, data = (np.concatenate([v, v])[order] for v in (coo.row, coo.col, coo.data / 2))
        major = np.argsort(row, kind="stable")
        given = sp.csr_array((data[major], col[major], np.r_[0, np.cumsum(np.bincount(row))]), shape=A.shape)
    else:
        given = A.asformat(form)
    np.testing.assert_allclose(ntsolve.ic0(given).matvec(b), ntsolve.ic0(A).matvec(b), rtol=1e-13)


def test_the_upper_triangle_is_not_looked_at():
    A = poisson(6)
    lower = sp.tril(A).tocsr()
    np.testing.assert_array_equal(ntsolve.ic0(lower).matvec(rhs(36)), ntsolve.ic0(A).matvec(rhs(36)))


def test_a_is_left_as_it_was():
    A = poisson(6)
    before = [part.copy() for part in (A.indptr, A.indices, A.data)]
    ntsolve.cg(A, rhs(36), M="ic0")
    ntsolve.ssor(A, 1.5).matvec(rhs(36))
    assert all(np.array_equal(*pair) for pair in zip(before, (A.indptr, A.indices, A.data), strict=True))


def test_a_factor_serves_another_dtype_and_other_libraries():
    A, b = poisson(9), rhs(81)
    M = ntsolve.ic0(A.astype("float32"))
    result = ntsolve.cg(A, b, M=M, rtol=1e-9)
    assert result.success
    assert result.x.dtype == "float64"
    operator = M.as_linear_operator()
    assert isinstance(operator, LinearOperator)
    np.testing.assert_allclose(operator @ np.stack([b, -b], axis=1), np.stack([M @ b, M @ -b], axis=1), rtol=1e-6)
    assert "IncompleteCholesky(order=81" in repr(M)


def test_a_factor_applied_by_itself_works_in_the_larger_precision():
    A, b = poisson(9), rhs(81)
    single, double = (ntsolve.ssor(A.astype(dtype), 1.5) for dtype in ("float32", "float64"))
    for M, r in ((single, b * 1e100), (double, b.astype("float32"))):
        z = M @ r
        assert z.dtype == "float64"
        np.testing.assert_allclose(z, double @ r.astype(float), rtol=1e-6, atol=1e-7 * abs(z).max())


@pytest.mark.parametrize("A", [spd(20, 20), hermitian(20, 20), sp.csr_array(hermitian(20, 20)), lambda v: 2 * v])
def test_ic0_needs_a_real_sparse_matrix(A):
    with pytest.raises(ValueError, match=r'M="ic0".*sparse'):
        ntsolve.cg(A, rhs(20), M="ic0")


def test_a_batch_of_matrices_is_refused():
    with pytest.raises(ValueError, match=r'M="ic0".*sparse'):
        ntsolve.cg(spd(3, 20, 20), rhs(20), M="ic0")


@pytest.mark.parametrize("entry", [0.0, -1.0])
def test_a_diagonal_entry_that_is_not_positive_is_found(entry):
    A = laplacian(20).tolil()
    A[7, 7] = entry
    with pytest.warns(ntsolve.ConvergenceWarning, match="not positive definite"):
        result = ntsolve.cg(A.tocsr(), rhs(20), M="ic0")
    assert result.status == Status.INDEFINITE_OPERATOR
    for make in (ntsolve.ic0, lambda A: ntsolve.ssor(A, 1.0)):
        with pytest.raises(ValueError, match=r"\bA\b.*diagonal entry 7"):
            make(A.tocsr())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ntsolve.ic0(np.eye(3)), TypeError, r"\bA\b.*sparse"),
        (lambda: ntsolve.ic0(sp.csr_array(np.eye(3) * 1j)), TypeError, r"\bA\b.*real"),
        (lambda: ntsolve.ic0(sp.csr_array(np.ones((3, 4)))), ValueError, r"\bA\b.*square"),
        (lambda: ntsolve.ssor(poisson(3), 2.0), ValueError, "omega"),
        (lambda: ntsolve.ssor(poisson(3), 0.0), ValueError, "omega"),
        (lambda: ntsolve.ssor(poisson(3), "1"), TypeError, "omega"),
        (lambda: ntsolve.ssor(poisson(3), 1.0).with_omega(-1), ValueError, "omega"),
        (lambda: ntsolve.ic0(poisson(3)).matvec(np.ones(8)), ValueError, r"\br\b.*8"),
        (lambda: ntsolve.ic0(poisson(3)) @ (np.ones(9) * 1j), TypeError, r"\br\b.*complex"),
        (lambda: ntsolve.cg(poisson(4), np.ones(16), M=ntsolve.ic0(poisson(3))), ValueError, r"\bM\b.*9.*16"),
        (lambda: ntsolve.cg(poisson(3), np.ones(9) * 1j, M=ntsolve.ic0(poisson(3))), ValueError, r"\bM\b.*complex"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_to_do():
    empty = sp.csr_array((0, 0))
    assert ntsolve.cg(empty, np.zeros(0), M="ic0").success
    assert ntsolve.ic0(sp.csr_array([[4.0]])).matvec(np.array([2.0])).tolist() == [0.5]
