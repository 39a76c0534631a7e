"""Conjugate gradients with an M of any kind: the same answer, sooner; and what is said of one that does not fit."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device

from .problems import Product, laplacian, poisson, rhs, solve, spd

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


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_jacobi_is_the_inverse_of_a_complex_diagonal(kind):
    A = np.diag(np.geomspace(1, 1e4, 30)).astype(complex)
    result = ntsolve.cg(sp.csr_array(A) if kind == "csr" else A, rhs(30, dtype="complex128"), M="jacobi", rtol=1e-10)
    assert result.success
    assert result.nit == 1
