"""How inverse-Hessian-vector products end where they do not converge, and what is refused."""

import numpy as np
import pytest

import ntsolve
from ntsolve import Status

from .problems import hessian, vector

METHODS = ("nystrom", "cg", "minres", "neumann")


# ---- no success -----------------------------------------------------------------------------------------------------


def test_the_neumann_series_says_when_it_has_not_converged():
    H, v = hessian(condition=1e8), vector(60)
    with pytest.warns(ntsolve.ConvergenceWarning, match="ihvp: Stopped at maxiter"):
        result = ntsolve.ihvp(H, v, damp=1e-6, method="neumann", maxiter=500, rng=0)
    assert not result.success
    assert result.status == Status.MAXITER
    assert result.residual == pytest.approx(np.linalg.norm(v - H @ result.x - 1e-6 * result.x))


@pytest.mark.parametrize("method", METHODS)
def test_nan_from_the_product_is_said_at_once(method):
    calls = []

    def product(x):
        calls.append(1)
        return x * np.nan if len(calls) == 5 else 2 * x + np.roll(x, 1) / 2 + np.roll(x, -1) / 2

    result = ntsolve.ihvp(product, vector(60), method=method, rank=10, rtol=1e-12, rng=0, on_failure="ignore")
    assert not result.success
    assert result.status == Status.NAN_OR_INF
    assert len(calls) < 12


@pytest.mark.parametrize("method", METHODS)
def test_a_tolerance_below_what_the_dtype_can_reach(method):
    H, v = hessian(condition=100).astype("float32"), vector(60).astype("float32")
    with pytest.warns(ntsolve.PrecisionWarning):
        result = ntsolve.ihvp(H, v, damp=0.01, method=method, rtol=1e-12, rank=10, rng=0)
    assert result.status == Status.STALLED
    assert result.residual < 1e-4 * np.linalg.norm(v)


def test_an_unsymmetric_product_is_no_success():
    H = hessian(condition=10) + np.triu(np.ones((60, 60)))
    for method in METHODS:
        result = ntsolve.ihvp(H, vector(60), method=method, maxiter=300, rank=10, rng=0, on_failure="ignore")
        residual = np.linalg.norm(vector(60) - H @ result.x)
        assert bool(result.success) == (residual <= 1e-5 * np.linalg.norm(vector(60)))


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"damp": -1.0}, ValueError, "damp"),
        ({"damp": np.nan}, ValueError, "damp"),
        ({"damp": "small"}, TypeError, "damp"),
        ({"method": "gmres"}, ValueError, "method"),
        ({"rank": 0}, ValueError, "rank"),
        ({"rank": 2.5}, TypeError, "rank"),
        ({"keep": -1}, ValueError, "keep"),
        ({"method": "minres", "M": np.eye(60)}, ValueError, "M"),
        ({"method": "neumann", "M": np.eye(60)}, ValueError, "M"),
        ({"M": np.eye(59)}, ValueError, "M"),
        ({"M": "ilu"}, ValueError, "M"),
        ({"x0": np.ones(59)}, ValueError, "x0"),
        ({"x0": np.full(60, np.nan)}, ValueError, "x0"),
        ({"comm": object()}, TypeError, "comm"),
        ({"comm": object(), "method": "minres"}, TypeError, "comm"),
        ({"rng": "dice"}, TypeError, ""),
    ],
)
def test_an_argument_that_does_not_fit_is_named(options, error, word):
    with pytest.raises(error, match=rf"\b{word}\b"):
        ntsolve.ihvp(hessian(), vector(60), **options)


@pytest.mark.parametrize(
    ("H", "word"),
    [
        (np.ones((2, 60, 60)), "hvp"),
        (np.ones((60, 59)), "hvp"),
        (np.full((60, 60), np.nan), "hvp"),
        (lambda x: x[:-1], "hvp"),
        (lambda x: None, "hvp"),
        (lambda x: 1j * x, "hvp"),
        (None, "hvp"),
        ("H", "hvp"),
    ],
)
def test_a_hessian_that_is_none_is_refused(H, word):
    with pytest.raises((TypeError, ValueError), match=rf"\b{word}\b"):
        ntsolve.ihvp(H, vector(60))


def test_an_error_of_the_callers_product_reaches_the_caller():
    def product(x):
        raise ZeroDivisionError("mine")

    for method in METHODS:
        with pytest.raises(ZeroDivisionError, match="mine"):
            ntsolve.ihvp(product, vector(60), method=method)


# ---- stops, within the sketch too -----------------------------------------------------------------------------------


def test_the_time_limit_holds_within_the_sketch():
    import time

    def product(x):
        time.sleep(0.05)
        return x

    result = ntsolve.ihvp(product, vector(60), x0=None, time_limit=0.2, rng=0, on_failure="ignore")
    assert result.status == Status.TIME_LIMIT
    assert result.nit == 0
    assert result.elapsed < 1
    assert not result.x.any()


def test_vectors_of_another_library_reach_the_product_as_such(monkeypatch):
    strict = pytest.importorskip("array_api_strict")
    H, v, kinds = hessian(condition=100), vector(60), set()
    H_ = strict.asarray(H)

    def product(x):
        kinds.add(type(x))
        return H_ @ x

    result = ntsolve.ihvp(product, strict.asarray(v), damp=0.1, rank=10, rng=0)
    assert result.success
    assert kinds == {type(H_)}
    assert type(result.x) is type(H_)
