"""How conjugate gradients end: success by the residual of the problem as given, and every other status."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device

from .problems import laplacian, poisson, residual, rhs, solve, spd

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


def test_success_is_never_the_rounding_of_an_operator():
    """float32(1/3) times 3 rounds to 1, and is off by 3e-8."""
    b = np.ones(1, dtype="float32")
    with pytest.warns(ntsolve.PrecisionWarning):
        assert not ntsolve.cg(lambda v: np.float32(3) * v, b, rtol=1e-9).success
    assert ntsolve.cg(lambda v: np.float32(3) * v, b, rtol=1e-7).success


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


def test_verify_names_what_does_not_fit():
    A, b = laplacian(20), rhs(20)
    result = ntsolve.cg(A, b)
    with pytest.raises(TypeError, match="b is a sparse matrix"):
        result.verify(b, A)
    with pytest.raises(ValueError, match="x has"):
        result.verify(laplacian(30), rhs(30))


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
