"""Conjugate gradients against elimination: every form that A, b, x0 and M may take, and every way it may end."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator, spsolve

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device, to_host

from .problems import hermitian, laplacian, poisson, residual, rhs, solve, spd

REAL, COMPLEX = ("float64", "float32"), ("complex128", "complex64")
TIGHT = {"float64": 1e-11, "float32": 1e-5, "complex128": 1e-11, "complex64": 1e-5}
CLOSE = {"float64": 1e-9, "float32": 2e-4, "complex128": 1e-9, "complex64": 2e-4}


def close(got, want, dtype="float64"):
    got = to_host(got)
    assert got.shape == want.shape
    assert abs(got - want).max(initial=0) <= CLOSE[dtype] * abs(want).max(initial=0)


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


class Product:
    """Nothing but `@`."""

    def __init__(self, A):
        self.A = A

    def __matmul__(self, v):
        return self.A @ v


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


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("A_shape", "b_shape"),
    [
        ((4,), (4,)),
        ((), (4,)),
        ((4,), ()),
        ((2, 3), (2, 3)),
        ((3,), (2, 3)),
        ((2, 1), (1, 3)),
        ((1,), (2,)),
        ((), (2, 3)),
        ((0,), (0,)),
        ((), (0,)),
        ((2, 0), (2, 0)),
        ((1,), ()),
    ],
)
@pytest.mark.parametrize("M", [None, "jacobi"])
def test_leading_axes_are_batch_axes(A_shape, b_shape, M, backend):
    A, b = spd(*A_shape, 9, 9), rhs(*b_shape, 9)
    shape = np.broadcast_shapes(A_shape, b_shape)
    result = ntsolve.cg(to_device(A, backend), to_device(b, backend), M=M, rtol=1e-12)
    assert result.x.shape == (*shape, 9)
    for name in ("success", "status", "nit", "residual", "tolerance"):
        assert np.shape(result[name]) == shape
    assert result.history.shape[1:] == shape
    assert np.all(result.success)
    close(result.x, solve(A, np.broadcast_to(b, (*shape, 9))))


@pytest.mark.parametrize("n", [9, 40])
def test_a_batch_gives_what_each_item_gives(n):
    A, b = spd(5, n, n, condition=50), rhs(5, n)
    together = ntsolve.cg(A, b, rtol=1e-9)
    for i in range(5):
        alone = ntsolve.cg(A[i], b[i], rtol=1e-9)
        assert abs(alone.nit - together.nit[i]) <= 1
        np.testing.assert_allclose(alone.x, together.x[i], atol=1e-7)


def test_an_item_does_not_depend_on_its_neighbours():
    A, b = spd(5, 20, 20, condition=50), rhs(5, 20)
    together = ntsolve.cg(A, b, rtol=1e-9)
    order = [3, 1, 4]
    others = ntsolve.cg(A[order], b[order], rtol=1e-9)
    assert others.x.tobytes() == together.x[order].tobytes()
    assert np.array_equal(others.nit, together.nit[order])


def test_right_hand_sides_of_one_matrix_give_what_each_gives():
    A, b = poisson(8), rhs(5, 64)
    together = ntsolve.cg(A, b, rtol=1e-9)
    for i in range(5):
        alone = ntsolve.cg(A, b[i], rtol=1e-9)
        assert alone.nit == together.nit[i]
        assert alone.x.tobytes() == together.x[i].tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [20, 40])
def test_one_bad_item_does_not_spoil_the_others(n, backend):
    A, b = spd(6, n, n), rhs(6, n)
    A[1] *= -1
    A[3] = np.diag(np.linspace(-1, 1, n) + 0.01)
    b[4] = 0
    with pytest.warns(ntsolve.ConvergenceWarning, match="2 of 6 systems failed"):
        result = ntsolve.cg(to_device(A, backend), to_device(b, backend), rtol=1e-11)
    assert result.success.tolist() == [True, False, True, False, True, True]
    assert result.status[[1, 3]].tolist() == [Status.INDEFINITE_OPERATOR] * 2
    assert result.status[[0, 2, 4, 5]].tolist() == [Status.CONVERGED] * 4
    assert result.nit[1] == result.nit[4] == 0
    good = [0, 2, 4, 5]
    close(to_host(result.x)[good], solve(A[good], b[good]))
    assert np.isfinite(to_host(result.x)).all()
    assert np.isfinite(result.history).all()


def test_one_bad_right_hand_side_does_not_spoil_the_others():
    """With nine orders of magnitude between them, and one that starts at its solution."""
    A = poisson(8)
    b = rhs(4, 64) * np.array([[1e-160], [1], [1e160], [1]])
    x0 = np.zeros((4, 64))
    x0[3] = spsolve(A.tocsc(), b[3])
    result = ntsolve.cg(A, b, x0, rtol=1e-9)
    assert result.success.all()
    assert result.nit[3] == 0
    assert (result.nit[:3] > 10).all()
    for i in range(4):
        assert residual(A, b[i], result.x[i]) <= 1e-9 * 1.01 * np.linalg.norm(b[i] / abs(b[i]).max()) * abs(b[i]).max()


def test_right_hand_sides_as_columns_are_recognised():
    with pytest.raises(ValueError, match=r"b\.T"):
        ntsolve.cg(laplacian(10), rhs(10, 3))


@pytest.mark.parametrize(
    ("A", "b", "x0", "message"),
    [
        (np.ones((3, 4)), np.ones(4), None, r"\bA\b.*square"),
        (np.ones(4), np.ones(4), None, r"\bA\b.*square"),
        (np.eye(4), np.ones(3), None, r"\bb\b.*3.*\bA\b.*4"),
        (np.ones((2, 4, 4)), np.ones((3, 4)), None, r"\bA\b.*\bb\b.*leading"),
        (np.eye(4), np.ones(()), None, r"\bb\b"),
        (np.eye(4), np.ones(4), np.ones(5), r"\bx0\b"),
        (np.eye(4), np.ones(4), np.ones((2, 4)), r"\bx0\b"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(A, b, x0, message):
    with pytest.raises(ValueError, match=message):
        ntsolve.cg(A, b, x0)


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


# ---- M --------------------------------------------------------------------------------------------------------------

PRECONDITIONERS = {
    "none": lambda D: None,
    "jacobi": lambda D: "jacobi",
    "array": lambda D: np.diag(1 / D),
    "sparse": lambda D: sp.diags_array(1 / D),
    "sparse csr": lambda D: sp.csr_matrix(sp.diags_array(1 / D)),
    "LinearOperator": lambda D: aslinearoperator(sp.diags_array(1 / D)),
    "function": lambda D: lambda r: r / D,
    "object with @": lambda D: Product(np.diag(1 / D)),
}


def graded(n=60):
    """A Laplacian between scales that differ by up to 10^4: Jacobi's preconditioner undoes that."""
    S = sp.diags_array(np.geomspace(1, 100, n))
    return (S @ laplacian(n, shift=0.1) @ S).tocsr()


@pytest.mark.parametrize("name", PRECONDITIONERS)
@pytest.mark.parametrize("kind", ["csr", "dense", "operator", "many"])
def test_every_kind_of_preconditioner(name, kind):
    A = graded()
    b = rhs(3, 60) if kind == "many" else rhs(60)
    given = {"dense": lambda A: A.toarray(), "operator": aslinearoperator}.get(kind, lambda A: A)(A)
    M = PRECONDITIONERS[name](A.diagonal())
    if kind == "operator" and name == "jacobi":
        with pytest.raises(ValueError, match="diagonal of A"):
            ntsolve.cg(given, b, M=M)
        return
    result = ntsolve.cg(given, b, M=M, rtol=1e-9)
    assert np.all(result.success)
    x = solve(A, b)
    np.testing.assert_allclose(result.x, x, atol=1e-6 * abs(x).max())
    plain = ntsolve.cg(given, b, rtol=1e-9)
    assert name == "none" or np.all(np.asarray(result.nit) < 0.8 * np.asarray(plain.nit))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(), (4,), (1,)])
@pytest.mark.filterwarnings("ignore:.*M was given up:ntsolve.PerformanceWarning")
def test_a_preconditioner_for_each_system_or_one_for_all(shape, backend):
    A, b = spd(4, 16, 16, condition=1e4), rhs(4, 16)
    M = np.linalg.inv(A) if shape == (4,) else np.linalg.inv(A[:1]).reshape(*shape, 16, 16)
    result = ntsolve.cg(*(to_device(v, backend) for v in (A, b)), M=to_device(M, backend), rtol=1e-9)
    assert np.all(result.success)
    assert result.nit[0] <= 3
    if shape == (4,):
        assert (result.nit <= 3).all()


def test_the_inverse_as_preconditioner_needs_one_iteration():
    A, b = spd(30, 30, condition=1e5), rhs(30)
    assert ntsolve.cg(A, b, M=np.linalg.inv(A), rtol=1e-8).nit == 1


def plain_pcg(A, b, M, rtol, maxiter):
    """Algorithm 9.1 of Saad as it stands: right only for an M that is one fixed matrix. Returns the iterations."""
    x, r = np.zeros_like(b), b.copy()
    z = M(r)
    p, rz = z.copy(), r @ z
    for nit in range(1, maxiter + 1):
        q = A @ p
        alpha = rz / (p @ q)
        x, r = x + alpha * p, r - alpha * q
        if np.linalg.norm(b - A @ x) <= rtol * np.linalg.norm(b):
            return nit
        z = M(r)
        rz, old = r @ z, rz
        p = z + rz / old * p
    return maxiter


def test_a_preconditioner_that_is_nonlinear_converges_where_plain_pcg_stalls():
    """CG itself, to a loose tolerance: nonlinear in r, and the better the more the plain method suffers from it."""
    A, b = poisson(24), rhs(576)

    def inner(r):
        return ntsolve.cg(A, r, rtol=0.3).x

    rtol = 1e-8
    result = ntsolve.cg(A, b, M=inner, rtol=rtol)
    assert result.success
    assert 4 * result.nit < ntsolve.cg(A, b, rtol=rtol).nit
    assert plain_pcg(A, b, inner, rtol, 10 * result.nit) == 10 * result.nit  # not converged by then


@pytest.mark.filterwarnings("ignore:.*M was given up:ntsolve.PerformanceWarning")
def test_a_preconditioner_that_changes_from_call_to_call_converges():
    A, b = poisson(16), rhs(256)
    weights = np.random.default_rng(0)

    def changing(r):
        return r * weights.uniform(0.2, 1.8, r.size)

    result = ntsolve.cg(A, b, M=changing, rtol=1e-8)
    assert result.success
    assert plain_pcg(A, b, changing, 1e-8, 3 * result.nit) > result.nit


@pytest.mark.parametrize(
    ("M", "status"),
    [
        (lambda n: -np.eye(n), Status.INDEFINITE_PRECONDITIONER),
        (lambda n: np.zeros((n, n)), Status.INDEFINITE_PRECONDITIONER),
        (lambda n: sp.csr_array((n, n)), Status.INDEFINITE_PRECONDITIONER),
        (lambda n: lambda r: 0 * r, Status.INDEFINITE_PRECONDITIONER),
        (lambda n: lambda r: r * np.nan, Status.NAN_OR_INF),
        (lambda n: lambda r: np.where(np.arange(n) == 3, np.inf, r), Status.NAN_OR_INF),
        (lambda n: np.diag([-5.0] * (n // 2) + [1.0] * (n - n // 2)), Status.INDEFINITE_PRECONDITIONER),
    ],
)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_preconditioner_that_is_not_positive_definite_is_reported(M, status, batch):
    n = 20
    with pytest.warns(ntsolve.ConvergenceWarning, match=Status(status).advice[:20]):
        result = ntsolve.cg(laplacian(n), rhs(*batch, n), M=M(n))
    assert np.all(np.asarray(result.status) == status)
    assert not np.any(result.success)
    assert np.max(result.nit) <= 1
    assert np.isfinite(result.x).all()


@pytest.mark.parametrize(
    ("M", "message"),
    [
        (np.eye(5), r"\bM\b.*shape"),
        (np.ones((4, 5)), r"\bM\b.*shape"),
        (np.ones(4), r"\bM\b.*shape"),
        (sp.eye_array(5), r"\bM\b.*shape"),
        (aslinearoperator(np.eye(5)), r"\bM\b.*shape"),
        (np.ones((3, 4, 4)), r"\bM\b.*leading"),
        (np.eye(4) * np.nan, r"\bM\b.*NaN"),
        (np.eye(4) * 1j, r"\bM\b.*complex"),
        ("ilu", r"\bM\b.*jacobi"),
        (3.0, r"\bM\b"),
        (object(), r"\bM\b"),
        (np.eye(4).astype(object), r"\bM\b.*object"),
        (np.eye(4).astype("M8[s]"), r"\bM\b"),
    ],
)
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_a_preconditioner_that_does_not_fit_is_refused(M, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ntsolve.cg(np.eye(4), np.ones((2, 4)), M=M)


@pytest.mark.parametrize("entry", [0.0, -1.0])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_jacobi_meets_a_diagonal_that_is_not_positive(entry, kind):
    A = laplacian(20).toarray()
    A[7, 7] = entry
    with pytest.warns(ntsolve.ConvergenceWarning, match="not positive definite"):
        result = ntsolve.cg(sp.csr_array(A) if kind == "csr" else A, rhs(20), M="jacobi")
    assert result.status == Status.INDEFINITE_OPERATOR
    assert result.nit == 0


@pytest.mark.parametrize("kind", ["dense", "csr", "batch", "many", "operator"])
@pytest.mark.parametrize("M", [None, "jacobi", "array"])
@pytest.mark.parametrize("power", [-480, 480])
@pytest.mark.filterwarnings("ignore:.*M was given up:ntsolve.PerformanceWarning")
def test_a_power_of_two_in_a_changes_no_digit(kind, M, power):
    """Not even where the square of an entry of p underflows: no product is formed but those of the method."""
    if kind == "operator" and M == "jacobi":
        pytest.skip("an operator has no diagonal")
    A = spd(*((3, 40, 40) if kind == "batch" else (40, 40)), condition=30)
    b = rhs(*((3, 40) if kind in ("batch", "many") else (40,)))
    convert = {"csr": sp.csr_array, "operator": aslinearoperator}.get(kind, np.asarray)

    def solve_for(power):
        array = np.eye(40) / np.ldexp(A.max(), power)
        return ntsolve.cg(convert(np.ldexp(A, power)), b, M=array if M == "array" else M, rtol=1e-10)

    want, got = solve_for(0), solve_for(power)
    assert np.array_equal(got.nit, want.nit)
    assert np.array_equal(np.ldexp(got.x, power), want.x)


# ---- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_an_indefinite_operator_is_reported(kind, backend):
    A = np.diag(np.linspace(-1, 1, 30) + 0.01)
    A = sp.csr_array(A) if kind == "csr" else A
    with pytest.warns(ntsolve.ConvergenceWarning, match="not positive definite"):
        result = ntsolve.cg(to_device(A, backend), to_device(rhs(30), backend))
    assert result.status == Status.INDEFINITE_OPERATOR
    assert not result.success
    assert len(result.history) == result.nit + 1


@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_from_the_operator_ends_the_solve_within_one_iteration(call, bad):
    A, calls = laplacian(50), []

    def product(v):
        calls.append(1)
        return A @ v * (bad if len(calls) >= call else 1)

    with pytest.warns(ntsolve.ConvergenceWarning, match="NaN or infinity"):
        result = ntsolve.cg(product, rhs(50), rtol=1e-12)
    assert result.status == Status.NAN_OR_INF
    assert not result.success
    assert result.nit <= call
    assert len(calls) <= call + 2


def test_a_tolerance_below_single_precision_warns_and_gives_the_best():
    A, b = poisson(12), rhs(144, dtype="float32")
    with pytest.warns(ntsolve.PrecisionWarning, match="rounding"):
        result = ntsolve.cg(A.astype("float32"), b, rtol=1e-12)
    assert result.status == Status.STALLED
    assert not result.success
    assert result.nit < 400
    assert residual(A.astype("float32"), b, result.x) <= 1e-5 * np.linalg.norm(b)


def test_a_tolerance_below_double_precision_warns_and_gives_the_best():
    A, b = poisson(12), rhs(144)
    with pytest.warns(ntsolve.PrecisionWarning, match="rounding"):
        result = ntsolve.cg(A, b, rtol=1e-18)
    assert result.status == Status.STALLED
    assert result.nit < 500
    assert residual(A, b, result.x) <= 1e-13 * np.linalg.norm(b)


def test_a_singular_system_that_is_consistent_is_solved():
    A = laplacian(40).tolil()
    A[0, 0] = A[39, 39] = 1  # Neumann: constants in the null space
    b = rhs(40)
    b -= b.mean()
    assert ntsolve.cg(A, b, rtol=1e-10).success


def test_a_singular_system_that_is_not_consistent_fails():
    A = laplacian(40).tolil()
    A[0, 0] = A[39, 39] = 1
    result = ntsolve.cg(A, np.ones(40), rtol=1e-10, on_failure="ignore")
    assert not result.success
    assert result.status < 0


@pytest.mark.parametrize(
    ("options", "reached"),
    [({"rtol": 1e-3}, 1e-3), ({"rtol": 0, "atol": 1e-7}, 1e-7), ({"rtol": 1e-3, "atol": 0.5}, 0.5)],
)
def test_the_larger_of_the_tolerances_counts(options, reached):
    A, b = poisson(9), rhs(81)
    b /= np.linalg.norm(b)
    result = ntsolve.cg(A, b, **options)
    assert result.success
    assert result.tolerance == pytest.approx(reached)
    assert 1e-3 * reached < result.residual <= reached


@pytest.mark.parametrize("atol", [1e100, 1e200, 1e308])
def test_a_huge_tolerance_is_met_at_once(atol):
    for b in (rhs(10), rhs(10) * 1e-200):
        result = ntsolve.cg(laplacian(10), b, atol=atol)
        assert result.success
        assert result.nit == 0


def test_a_norm_that_overflows_is_no_success():
    result = ntsolve.cg(laplacian(50), np.full(50, 1e308), on_failure="ignore")
    assert not result.success
    assert result.status == Status.NAN_OR_INF


def test_the_residual_is_that_of_the_problem_as_given():
    for dtype, slack in (("float64", 1e-10), ("float32", 0.1)):
        A, b = poisson(9).astype(dtype), rhs(81, dtype=dtype)
        result = ntsolve.cg(A, b, rtol=1e-5)
        assert result.residual == pytest.approx(float(residual(A, b, result.x)), rel=slack)


def test_an_ill_conditioned_problem_succeeds_only_by_its_true_residual():
    """The recurrence for r drifts from b - A x by more than the tolerance here."""
    A, b = spd(50, 50, condition=1e12, seed=3), rhs(50)
    for rtol in (1e-3, 1e-5, 1e-7):
        result = ntsolve.cg(A, b, rtol=rtol, maxiter=5000, on_failure="ignore")
        assert result.residual == pytest.approx(float(residual(A, b, result.x)), rel=1e-2)
        assert result.success == (result.residual <= rtol * np.linalg.norm(b))


@pytest.mark.parametrize("n", [1, 5, 40])
def test_maxiter_is_ten_n_by_default(n):
    """An operator that is a different one each time never converges."""
    rng = np.random.default_rng(0)
    result = ntsolve.cg(lambda v: v * rng.uniform(0.1, 1, v.size), rhs(n), rtol=1e-14, on_failure="ignore")
    assert result.nit <= 10 * n


def test_check_false_looks_for_nothing_but_still_never_succeeds_on_nan():
    b = rhs(20)
    b[3] = np.nan
    for A in (laplacian(20), laplacian(20).toarray()):
        result = ntsolve.cg(A, b, check=False, on_failure="ignore")
        assert not result.success
        assert result.status == Status.NAN_OR_INF
        assert result.nit == 0


# ---- what the result can do -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_verify_recomputes_the_residual(backend):
    for A, b in ((poisson(6), rhs(36)), (poisson(6), rhs(2, 36)), (spd(3, 8, 8), rhs(3, 8))):
        on = to_device(A, backend), to_device(b, backend)
        result = ntsolve.cg(*on)
        np.testing.assert_allclose(result.verify(*on), result.residual, rtol=1e-6, atol=1e-13)
        assert np.all(result.verify(on[0], 2 * on[1]) > result.tolerance)
        assert np.shape(result.verify(*on)) == np.shape(result.residual)


def test_verify_takes_operators():
    A, b = poisson(6), rhs(36)
    result = ntsolve.cg(A, b)
    for other in (aslinearoperator(A), lambda v: A @ v, A.toarray(), A.tocsc()):
        assert result.verify(other, b) == pytest.approx(result.residual)


def test_the_history_is_the_residual_of_each_iterate():
    A, b = poisson(9), rhs(81)
    xs = []
    result = ntsolve.cg(A, b, rtol=1e-8, callback=lambda state: xs.append(state.x))
    want = [float(residual(A, b, x)) for x in [0 * b, *xs]]
    np.testing.assert_allclose(result.history, want, rtol=1e-6)


def test_blocks_of_iterations_give_the_history_of_single_ones():
    A, b = laplacian(300), rhs(300)
    for problem in ((A, b), (A.toarray(), b)):
        watched = ntsolve.cg(*problem, rtol=1e-8, callback=lambda state: None)
        free = ntsolve.cg(*problem, rtol=1e-8)
        assert np.array_equal(watched.history, free.history)
        assert watched.x.tobytes() == free.x.tobytes()


def test_the_error_in_the_norm_of_a_never_grows():
    """Hestenes and Stiefel 1952, theorem 6:3; so an iterate on the way is worth having."""
    A, b = spd(40, 40, condition=1e4), rhs(40)
    x, errors = solve(A, b), []
    ntsolve.cg(A, b, rtol=1e-9, callback=lambda state: errors.append((state.x - x) @ A @ (state.x - x)))
    assert len(errors) > 10
    assert all(later <= earlier * (1 + 1e-8) for earlier, later in itertools.pairwise(errors))


def test_the_iterations_are_those_of_the_theory():
    """As many as there are different eigenvalues."""
    for count in (1, 2, 5):
        A = np.diag(np.repeat(np.arange(1.0, count + 1), 6))
        assert ntsolve.cg(A, rhs(6 * count), rtol=1e-10).nit == count
