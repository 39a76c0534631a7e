"""Conjugate gradients against elimination: every form that A, b and x0 may take."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator, spsolve

import ntsolve
from tests.backends import BACKENDS, to_device, to_host

from .problems import TIGHT, Product, close, hermitian, laplacian, poisson, residual, rhs, solve, spd

REAL, COMPLEX = ("float64", "float32"), ("complex128", "complex64")


# ---- A --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("n", [1, 2, 31, 33, 70])
def test_a_dense_matrix(n, dtype, backend):
    A, b = spd(n, n, dtype=dtype), rhs(n, dtype=dtype)
    result = ntsolve.cg(to_device(A, backend), to_device(b, backend), rtol=TIGHT[dtype])
    assert result.success is True
    assert result.x.dtype == dtype
    close(result.x, solve(A, b), dtype)


def test_a_dense_matrix_beyond_the_batched_kernel():
    A, b = spd(600, 600), rhs(600)
    result = ntsolve.cg(A, b, rtol=1e-11)
    assert result.success
    close(result.x, solve(A, b))
    assert len(result.history) == result.nit + 1


FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_sparse_format(form, kind, dtype):
    A = getattr(sp, f"{form}_{kind}")(laplacian(40, dtype, 0.1))
    b = rhs(40, dtype=dtype)
    result = ntsolve.cg(A, b, rtol=TIGHT[dtype])
    assert result.success
    assert type(result.x) is np.ndarray
    close(result.x, spsolve(laplacian(40, shift=0.1).tocsc(), b.astype(float)), dtype)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_both_kinds_of_index(form, index):
    A, b = poisson(7), rhs(49)
    want, A = solve(A, b), A.asformat(form)
    for name in ("indptr", "indices", "row", "col"):
        if isinstance(getattr(A, name, None), np.ndarray):
            setattr(A, name, getattr(A, name).astype(index))
    close(ntsolve.cg(A, b, rtol=1e-11).x, want)


def test_unlike_kinds_of_index():
    A, b = poisson(7), rhs(49)
    A.indptr, A.indices = A.indptr.astype(np.int64), A.indices.astype(np.uint16)
    close(ntsolve.cg(A, b, rtol=1e-11).x, solve(poisson(7), b))


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_unsorted_indices_and_duplicates(form):
    A, b = poisson(7), rhs(49)
    coo = A.tocoo()
    order = np.random.default_rng(0).permutation(2 * coo.nnz)
    row, col, data = (np.concatenate([v, v])[order] for v in (coo.row, coo.col, coo.data / 2))
    if form == "coo":
        messy = sp.coo_array((data, (row, col)), shape=A.shape)
    else:
        major = row if form == "csr" else col
        order = np.argsort(major, kind="stable")
        pointers = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=49))])
        messy = getattr(sp, f"{form}_array")(
            (data[order], (col if form == "csr" else row)[order], pointers), shape=A.shape
        )
        assert not messy.has_sorted_indices
    assert messy.nnz == 2 * A.nnz
    for M in (None, "jacobi"):
        result = ntsolve.cg(messy, b, M=M, rtol=1e-11)
        assert result.success
        close(result.x, solve(A, b))
    assert messy.nnz == 2 * A.nnz


def test_a_matrix_with_stored_zeros_and_unused_space():
    A, b = laplacian(20), rhs(20)
    A.data = np.concatenate([A.data, [7.0] * 5])
    A.indices = np.concatenate([A.indices, [99] * 5]).astype(A.indices.dtype)
    close(ntsolve.cg(A, b, rtol=1e-11).x, solve(laplacian(20), b))


OPERATORS = {
    "LinearOperator": aslinearoperator,
    "LinearOperator of a function": lambda A: LinearOperator(A.shape, lambda v: A @ v, dtype=A.dtype),
    "LinearOperator that gives columns": lambda A: LinearOperator(
        A.shape, lambda v: (A @ v.ravel())[:, None], dtype=A.dtype
    ),
    "object with @": Product,
    "function": lambda A: lambda v: A @ v,
    "function that gives lists": lambda A: lambda v: (A @ v).tolist(),
    "matrix": lambda A: np.asmatrix(A.toarray()),
    "list": lambda A: A.toarray().tolist(),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_every_kind_of_operator(name):
    A, b = poisson(6), rhs(36)
    result = ntsolve.cg(OPERATORS[name](A), b, rtol=1e-11)
    assert result.success
    close(result.x, solve(A, b))
    assert len(result.history) == result.nit + 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda v: v[:-1], ValueError),
        (lambda v: v[None].repeat(2, 0), ValueError),
        (lambda v: 1.0, ValueError),
        (lambda v: None, TypeError),
        (lambda v: v.astype(complex), TypeError),
        (lambda v: "text", (TypeError, ValueError)),
    ],
)
def test_an_operator_that_returns_nonsense_is_named(wrong, error):
    with pytest.raises(error, match=r"\bA\b"):
        ntsolve.cg(wrong, rhs(5))
    with pytest.raises(error, match=r"\bM\b"):
        ntsolve.cg(laplacian(5), rhs(5), M=wrong)


def test_an_error_in_the_operator_reaches_the_caller():
    def product(v):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ntsolve.cg(product, rhs(5))


# ---- dtypes and layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("A_dtype", ["float32", "float64", "int64", "uint8", "bool", "float16", "complex64"])
@pytest.mark.parametrize("b_dtype", ["float32", "float64", "int32", "float16", "complex128"])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_mixed_dtypes_are_promoted_as_numpy_promotes_them(A_dtype, b_dtype, kind):
    A = (
        np.eye(6, dtype=A_dtype)
        if A_dtype == "bool"
        else (4 * np.eye(6) + np.eye(6, k=1) + np.eye(6, k=-1)).astype(A_dtype)
    )
    b = np.arange(1, 7).astype(b_dtype)
    working = [
        np.dtype({"float16": "float32"}.get(d, "float64" if np.dtype(d).kind in "biu" else d))
        for d in (A_dtype, b_dtype)
    ]
    want = np.result_type(*working)
    if kind == "csr":
        if A_dtype == "float16":
            pytest.skip("SciPy has no sparse matrices of that")
        A = sp.csr_array(A)
    result = ntsolve.cg(A, b, rtol=1e-5)
    assert result.x.dtype == want
    assert residual(A, b, result.x) <= 2e-5 * np.linalg.norm(b.astype(want))


LAYOUTS = {
    "strided": lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
    "reversed": lambda v: v[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda v: v.astype(v.dtype.newbyteorder(">")),
    "read-only": lambda v: np.frombuffer(v.tobytes(), v.dtype).reshape(v.shape),
    "Fortran order": np.asfortranarray,
    "unaligned": lambda v: np.frombuffer(b"\0" + v.tobytes(), np.uint8)[1:].view(v.dtype).reshape(v.shape),
    "subclass": lambda v: np.ma.masked_array(v),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(20,), (3, 20)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
def test_every_layout(layout, shape, dtype):
    change = LAYOUTS[layout]
    A = (hermitian if dtype == "complex128" else spd)(*shape, 20, dtype=dtype)
    b, x0 = rhs(*shape, dtype=dtype), rhs(*shape, seed=2, dtype=dtype)
    want = ntsolve.cg(A, b, x0, M=None, rtol=TIGHT[dtype])
    got = ntsolve.cg(change(A), change(b), change(x0), rtol=TIGHT[dtype])
    assert got.x.tobytes() == want.x.tobytes()
    assert type(got.x) is np.ndarray
    assert got.x.dtype == np.dtype(dtype)
    assert got.x.dtype.isnative


def test_sparse_matrices_of_every_byte_order():
    A, b = laplacian(20), rhs(20)
    A.data = A.data.astype(">f8")
    close(ntsolve.cg(A, b, rtol=1e-11).x, solve(laplacian(20), b))


def test_masked_entries_are_refused():
    b = np.ma.masked_array(rhs(5), mask=[0, 1, 0, 0, 0])
    with pytest.raises(ValueError, match=r"\bb\b.*masked"):
        ntsolve.cg(laplacian(5), b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("kind", ["dense", "csr", "operator", "batch", "many"])
@pytest.mark.parametrize("M", [None, "jacobi"])
def test_complex_hermitian_systems(dtype, kind, M, backend):
    if backend == "cuda" and kind == "operator":
        pytest.skip("an operator of NumPy arrays")
    A = hermitian(*((3, 15, 15) if kind == "batch" else (15, 15)), dtype=dtype)
    b = rhs(*((3, 15) if kind in ("batch", "many") else (15,)), dtype=dtype)
    given = {"csr": sp.csr_array, "operator": aslinearoperator}.get(kind, np.asarray)(A)
    if kind == "operator" and M:
        with pytest.raises(ValueError, match="jacobi"):
            ntsolve.cg(given, b, M=M)
        return
    result = ntsolve.cg(to_device(given, backend), to_device(b, backend), M=M, rtol=TIGHT[dtype])
    assert np.all(result.success)
    assert result.x.dtype == dtype
    close(result.x, solve(A, b), dtype)


def test_a_real_matrix_with_a_complex_right_hand_side():
    A, b = laplacian(12), rhs(12, dtype="complex128")
    close(ntsolve.cg(A, b, rtol=1e-12).x, solve(A, b))
    close(ntsolve.cg(lambda v: A @ v, b, rtol=1e-12).x, solve(A, b))


# ---- the smallest problems ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("A", [np.zeros((0, 0)), sp.csr_array((0, 0)), np.zeros((3, 0, 0))])
def test_nothing_to_solve(A, backend):
    shape = A.shape[:-1]
    result = ntsolve.cg(to_device(A, backend), to_device(np.zeros(shape), backend))
    assert np.all(result.success)
    assert result.x.shape == shape
    assert np.all(np.asarray(result.nit) == 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("a", [1e-300, 1e-8, 3.0, 1e300])
def test_one_equation(a, backend):
    for make in (np.array, sp.csr_array):
        result = ntsolve.cg(to_device(make([[a]]), backend), to_device(np.array([6.0]), backend))
        assert result.success
        assert result.nit == 1
        np.testing.assert_allclose(to_host(result.x), 6.0 / a, rtol=1e-14)


@pytest.mark.parametrize("x0", [None, 1.0, 1e300])
@pytest.mark.parametrize("kind", ["dense", "csr", "operator"])
def test_a_zero_right_hand_side_has_the_solution_zero(x0, kind):
    A = {"dense": lambda A: A.toarray(), "csr": lambda A: A, "operator": aslinearoperator}[kind](laplacian(20))
    result = ntsolve.cg(A, np.zeros(20), None if x0 is None else np.full(20, x0))
    assert result.success
    assert result.nit == 0
    assert result.residual == 0.0
    assert not result.x.any()


# ---- x0 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_good_start_saves_iterations(backend):
    A, b = poisson(9), rhs(81)
    on = [to_device(v, backend) for v in (A, b, solve(A, b) * (1 + 1e-6))]
    cold, warm = ntsolve.cg(*on[:2], rtol=1e-8), ntsolve.cg(*on, rtol=1e-8)
    assert cold.success
    assert warm.success
    assert 0 < warm.nit < cold.nit


def test_the_solution_as_start_needs_no_iteration():
    A, b = poisson(9), rhs(81)
    x0 = solve(A, b)
    result = ntsolve.cg(A, b, x0, rtol=1e-10)
    assert result.nit == 0
    assert np.array_equal(result.x, x0)
    assert not np.shares_memory(result.x, x0)


@pytest.mark.parametrize("size", [1e8, 1e20, 1e100, 1e140])
def test_a_start_far_off_is_recovered_from(size):
    """What the start leaves of rounding is worked off in further rounds."""
    A, b = laplacian(30, shift=1.0), rhs(30)
    result = ntsolve.cg(A, b, size * rhs(30, seed=5), rtol=1e-10, maxiter=1000)
    assert result.success
    close(result.x, solve(A, b))


def test_x0_of_several_right_hand_sides_may_be_one():
    A, b = laplacian(20), rhs(3, 20)
    x0 = rhs(20, seed=9)
    want = ntsolve.cg(A, b, np.broadcast_to(x0, (3, 20)), rtol=1e-10)
    assert np.array_equal(ntsolve.cg(A, b, x0, rtol=1e-10).x, want.x)
