"""ntsolve.halpern: the fixed points are found, the residual is that of the map, and the theory holds."""

from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog, nnls

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device, to_host


def projected_gradient(rng, m=30, n=12):
    """(T, x*) of a nonnegative least squares problem."""
    A, b = rng.standard_normal((m, n)), rng.standard_normal(m)
    step = 1 / np.linalg.norm(A, 2) ** 2
    return lambda x: np.maximum(x - step * (A.T @ (A @ x - b)), 0), nnls(A, b)[0]


def rotation(angle):
    """Averaged with the identity, on pairs."""
    c, s = np.cos(angle), np.sin(angle)
    return lambda x: 0.5 * (x + np.array([[c, -s], [s, c]]) @ x)


def pdhg(rng):
    """(T, metric, start, c, A, b) of a linear program in standard form, min c'x, A x = b, x >= 0."""
    A = rng.standard_normal((6, 15))
    b = A @ np.maximum(rng.standard_normal(15), 0)
    c = A.T @ rng.standard_normal(6) + rng.random(15)
    step = 0.95 / np.linalg.norm(A, 2)

    def T(z):
        x = np.maximum(z["x"] - step * (c - A.T @ z["y"]), 0)
        return {"x": x, "y": z["y"] + step * (b - A @ (2 * x - z["x"]))}

    def metric(z):
        return {"x": z["x"] / step + A.T @ z["y"], "y": z["y"] / step + A @ z["x"]}

    return T, metric, {"x": np.zeros(15), "y": np.zeros(6)}, c, A, b


# ---- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerate", [None, "anderson"])
@pytest.mark.parametrize("reflect", ["auto", True, False])
@pytest.mark.parametrize("anchor", ["adaptive", "classic"])
def test_it_finds_the_fixed_point(rng, accelerate, reflect, anchor):
    T, want = projected_gradient(rng)
    result = ntsolve.halpern(T, np.ones(12), tol=1e-10, accelerate=accelerate, reflect=reflect, anchor=anchor)
    assert result.success
    np.testing.assert_allclose(result.x, want, atol=1e-7)


@pytest.mark.parametrize("metric", [None, "exact"])
def test_it_solves_a_linear_program_by_its_primal_dual_map(rng, metric):
    T, product, start, c, A, b = pdhg(rng)
    result = ntsolve.halpern(T, start, tol=1e-9, metric=product if metric else None)
    assert result.success
    want = linprog(c, A_eq=A, b_eq=b)
    assert c @ result.x["x"] == pytest.approx(want.fun, rel=1e-6)


def test_the_residual_is_that_of_the_map_at_x(rng):
    T, _ = projected_gradient(rng)
    for maxiter in (0, 3, 40):
        result = ntsolve.halpern(T, np.ones(12), tol=1e-14, maxiter=maxiter, on_failure="ignore")
        assert result.residual == pytest.approx(np.linalg.norm(result.x - T(result.x)), rel=1e-12)
        assert result.nfev == result.nit + 1 == len(result.history)


def test_the_metric_helps_where_the_map_is_nonexpansive_in_it():
    rng = np.random.default_rng(8)
    scale = np.geomspace(1, 100, 40)  # a rotation in coordinates that are stretched
    Q = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    N = (Q / scale[:, None]) * scale
    T = lambda x: 0.5 * (x + N @ x)
    x0 = rng.standard_normal(40) / scale
    options = {"tol": 1e-8, "maxiter": 20_000}
    forms = (scale**2, np.diag(scale**2), sp.diags_array(scale**2).tocsr(), lambda x: scale**2 * x)
    counts = [ntsolve.halpern(T, x0, metric=metric, **options).nfev for metric in forms]
    assert max(counts) == min(counts) <= ntsolve.halpern(T, x0, **options).nfev


@pytest.mark.parametrize("backend", BACKENDS)
def test_tuples_dicts_and_complex_arrays_come_back_as_they_were(backend):
    class Pair(NamedTuple):
        a: object
        b: object

    a = to_device(np.arange(3.0), backend)
    b = to_device(np.array([[1.0 + 1j, 2.0]]), backend)
    f = to_device(np.ones(2, np.float32), backend)

    def halve(x):
        if isinstance(x, dict):
            return {key: halve(value) for key, value in x.items()}
        if isinstance(x, tuple):
            return type(x)(*map(halve, x)) if hasattr(x, "_fields") else tuple(map(halve, x))
        return 0.5 * x

    for x0 in ((a, b), {"a": a, "b": (b, f)}, Pair(a, b)):
        result = ntsolve.halpern(halve, x0, tol=1e-6)
        assert result.success
        assert type(result.x) is type(x0)
        found, given = ((v["a"], *v["b"]) if isinstance(v, dict) else tuple(v) for v in (result.x, x0))
        for got, was in zip(found, given, strict=True):
            assert (got.shape, got.dtype, type(got)) == (was.shape, was.dtype, type(was))
            assert abs(to_host(got)).max() < 1e-5


def test_a_map_that_writes_to_its_argument_does_no_harm():
    def T(x):
        x *= 0.5
        return x

    x0 = np.ones(3)
    result = ntsolve.halpern(T, x0, tol=1e-8)
    assert result.success
    assert result.residual > 0
    assert (x0 == 1).all()


# ---- how many evaluations -------------------------------------------------------------------------------------------


def picard(T, x, tol):
    for count in range(1, 100_000):
        t = T(x)
        if np.linalg.norm(x - t) <= tol:
            return count
        x = t
    return np.inf


def gridworld(v):
    """Value iteration on a 15 x 15 board, reward -1 a move; ends exactly."""
    w = np.pad(v.reshape(15, 15), 1, mode="edge")
    best = np.max([w[:-2, 1:-1], w[2:, 1:-1], w[1:-1, :-2], w[1:-1, 2:]], axis=0)
    new = -1 + 0.95 * best
    new[7, 7] = 0
    return new.ravel()


def walk(p):
    """A random walk with drift: its distribution after one more step."""
    q = 0.05 * p
    q[1:] += 0.5 * p[:-1]
    q[:-1] += 0.45 * p[1:]
    q[-1] += 0.5 * p[-1]
    q[0] += 0.45 * p[0]
    return q


@pytest.mark.parametrize("name", ["least squares", "gridworld", "walk", "contraction"])
def test_it_is_never_much_slower_than_the_plain_iteration(rng, name):
    T, x0 = {
        "least squares": (projected_gradient(rng)[0], np.ones(12)),
        "gridworld": (gridworld, np.zeros(225)),
        "walk": (walk, np.eye(50)[0]),
        "contraction": (lambda x: 0.99 * x[::-1] + 0.1, np.linspace(0, 1, 9)),
    }[name]
    tol = 1e-6 * np.linalg.norm(x0 - T(x0))
    assert ntsolve.halpern(T, x0, tol=tol).nfev <= 1.3 * picard(T, x0, tol)


def test_it_is_much_quicker_where_the_plain_iteration_turns_in_circles():
    T = rotation(0.05)
    result = ntsolve.halpern(T, np.array([1.0, 0.0]), tol=1e-8)
    assert 10 * result.nfev < picard(T, np.array([1.0, 0.0]), 1e-8)
    plain = ntsolve.halpern(T, np.array([1.0, 0.0]), tol=1e-8, restart=None, reflect=False, anchor="classic",
                            maxiter=20 * result.nfev, on_failure="ignore")  # fmt: skip
    assert not plain.success


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("restart", [None, "adaptive"])
@pytest.mark.parametrize("angle", [0.3, 3.0])
def test_the_residual_is_within_what_theory_promised(angle, reflect, restart):
    T, x0 = rotation(angle), np.array([3.0, 4.0])
    for maxiter in (0, 1, 2, 5, 20, 60):
        result = ntsolve.halpern(T, x0, tol=0, distance=5.0, reflect=reflect, restart=restart, anchor="classic",
                                 maxiter=maxiter, on_failure="ignore")  # fmt: skip
        assert result.residual <= result.bound * (1 + 1e-12)
    if restart is None and not reflect:
        assert result.bound == pytest.approx(10 / 61)


def test_the_error_is_within_its_bound():
    T = lambda x: 0.9 * x[::-1] + 1.0
    result = ntsolve.halpern(T, np.zeros(4), tol=1e-3, lipschitz=0.9)
    assert np.linalg.norm(result.x - 10) <= result.error_bound * (1 + 1e-9)
    assert result.error_bound == pytest.approx(10 * result.residual)
    assert ntsolve.halpern(T, np.zeros(4)).error_bound is None


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_map_without_fixed_point_is_no_success():
    with pytest.warns(ntsolve.ConvergenceWarning, match="there may be no fixed point"):
        result = ntsolve.halpern(lambda x: x + 1, np.zeros(2), maxiter=200)
    assert result.status == Status.MAXITER


def test_slow_progress_is_progress():
    result = ntsolve.halpern(lambda x: np.sin(x), np.ones(2), maxiter=200, tol=1e-12, on_failure="ignore")
    assert result.status == Status.MAXITER
    assert "no fixed point" not in result.message


def test_several_arrays_are_a_tuple():
    with pytest.raises(TypeError, match="x0 is a list that is no array; several arrays are a tuple"):
        ntsolve.halpern(lambda x: x, [np.zeros(3), np.zeros(2)])


def test_a_map_that_sends_the_iteration_off_is_not_said_to_be_limited_by_rounding():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    for T, options in ((lambda x: 2 * x - 1, {}), (lambda x: turn @ x, {"reflect": True, "maxiter": 3000})):
        with pytest.warns(ntsolve.ConvergenceWarning, match="nonexpansive") as warned:
            result = ntsolve.halpern(T, np.array([0.0, 0.5]), **options)
        assert result.status in (Status.MAXITER, Status.NAN_OR_INF)
        assert not any(issubclass(each.category, ntsolve.PrecisionWarning) for each in warned)


def test_a_map_that_returns_nan_is_seen_at_once():
    result = ntsolve.halpern(lambda x: x * np.nan, np.ones(2), on_failure="ignore")
    assert result.status == Status.NAN_OR_INF
    assert result.nit == 0


def test_a_tolerance_out_of_reach_of_the_dtype_is_a_precision_warning(rng):
    T = lambda x: (0.5 * x + 0.5 + 3e-7 * rng.standard_normal(50)).astype(np.float32)  # as if rounded here and there
    with pytest.warns(ntsolve.PrecisionWarning):
        result = ntsolve.halpern(T, np.linspace(0, 3, 50, dtype=np.float32), tol=1e-12)
    assert result.status == Status.STALLED
    assert result.residual < 1e-5


@pytest.mark.parametrize(
    ("returned", "error"),
    [(np.zeros(3), ValueError), (np.zeros((2, 1)), ValueError), (None, TypeError), ({"x": 1}, TypeError),
     (np.zeros(2, complex), TypeError), (["a", "b"], TypeError)],
)  # fmt: skip
def test_what_the_map_returns_is_looked_at(returned, error):
    with pytest.raises(error, match="what T returned"):
        ntsolve.halpern(lambda x: returned, np.zeros(2))


@pytest.mark.parametrize(
    ("options", "error"),
    [({"reflect": "yes"}, ValueError), ({"restart": "always"}, ValueError), ({"anchor": None}, ValueError),
     ({"metric": -np.ones(2)}, ValueError), ({"metric": np.ones(3)}, ValueError), ({"metric": np.eye(3)}, ValueError),
     ({"accelerate": "aitken"}, ValueError), ({"lipschitz": 1.0}, ValueError), ({"distance": -1}, ValueError)],
    ids=str,
)  # fmt: skip
def test_an_option_that_does_not_fit_is_named(options, error):
    with pytest.raises(error, match=next(iter(options))):
        ntsolve.halpern(lambda x: x / 2, np.zeros(2), **options)


@pytest.mark.parametrize(
    ("metric", "said"),
    [(np.full((2, 2), np.nan), "NaN"), (-np.eye(2), "positive definite"), ([[1, 2], [2, 1]], "positive definite"),
     (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"), (sp.diags_array([1.0, -1.0]), "positive definite"),
     (sp.csr_array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"), (np.eye(2) * 1j, "real")],
)  # fmt: skip
def test_a_matrix_that_is_no_metric_is_refused(metric, said):
    with pytest.raises((ValueError, TypeError), match=f"metric .*{said}"):
        ntsolve.halpern(lambda x: x / 2, np.ones(2), metric=metric)


def test_a_metric_may_be_a_list_of_rows():
    assert ntsolve.halpern(lambda x: x / 2, np.ones(2), metric=[[2, 1], [1, 2]]).success


@pytest.mark.parametrize(
    ("options", "name"),
    [({"args": 0.5}, "args"), ({"rng": "a"}, "rng"), ({"rng": -1}, "rng"), ({"reflect": np.array([1, 2])}, "reflect")],
)
def test_what_is_no_tuple_no_seed_and_no_choice_is_named(options, name):
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
        ntsolve.halpern(lambda x: x / 2, np.ones(2), **options)


def test_an_error_in_the_map_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        ntsolve.halpern(lambda x: 1 // 0, np.zeros(2))


def test_arguments_are_passed_on():
    result = ntsolve.halpern(lambda x, shift, factor: factor * x + shift, np.zeros(2), args=(1.0, 0.5))
    np.testing.assert_allclose(result.x, 2, rtol=1e-7)
