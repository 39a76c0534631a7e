"""Gradients of the value and of its linear part, against central differences."""

import numpy as np
import pytest

import ntsolve

from . import problems

OF = ("value", "value_linear")


def example(n=12, m=15, seed=1):
    rng = np.random.default_rng(seed)
    X, Y = rng.random((n, 3)), rng.random((m, 3)) + 0.2
    return X, Y, problems.weights(rng, n), problems.weights(rng, m)


def squared(X, Y):
    return ((X[:, None] - Y[None]) ** 2).sum(-1)


def difference(fun, x, direction, h):
    """Central, of fourth order."""
    one, two = (fun(x + s * h * direction) - fun(x - s * h * direction) for s in (1, 2))
    return (8 * one - two) / (12 * h)


def directions(shape, count=3, *, balanced=False):
    rng = np.random.default_rng(7)
    for _ in range(count):
        d = rng.standard_normal(shape)
        yield d - d.mean() if balanced else d


@pytest.mark.parametrize("reg", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize("wrt", ["C", "a", "b"])
def test_of_a_cost_matrix(reg, of, wrt):
    X, Y, a, b = example()
    arguments = {"C": squared(X, Y), "a": a, "b": b}

    def fun(value):
        result = ntsolve.solve_ot(**arguments | {wrt: value}, reg=reg, tol=1e-13, on_failure="ignore")
        return getattr(result, of)

    gradient = ntsolve.solve_ot(**arguments, reg=reg, tol=1e-13, on_failure="ignore").gradient(wrt, of=of)
    assert gradient.shape == arguments[wrt].shape
    for direction in directions(gradient.shape, balanced=wrt != "C"):
        want = difference(fun, arguments[wrt], direction, 0.03 * reg * (1 if wrt == "C" else 0.1))
        assert (gradient * direction).sum() == pytest.approx(want, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("reg", [1e-2, 1e-3])
@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("wrt", ["X", "Y"])
def test_of_points(reg, of, metric, wrt):
    X, Y, a, b = example()
    arguments = {"X": X, "Y": Y, "a": a, "b": b, "metric": metric, "reg": reg, "tol": 1e-13, "on_failure": "ignore"}
    gradient = ntsolve.solve_ot_sample(**arguments).gradient(wrt, of=of)
    fun = lambda value: getattr(ntsolve.solve_ot_sample(**arguments | {wrt: value}), of)
    for direction in directions(gradient.shape):
        want = difference(fun, arguments[wrt], direction, 0.02 * reg)
        assert (gradient * direction).sum() == pytest.approx(want, rel=1e-5, abs=1e-8)


def test_without_mass_there_is_none():
    X, Y, a, b = example()
    a[3], b[[2, 5]] = 0, 0
    a, b = a / a.sum(), b / b.sum()
    result = ntsolve.solve_ot_sample(X, Y, a, b, reg=1e-2)
    for of in OF:
        assert (result.gradient("C", of=of)[3] == 0).all()
        assert (result.gradient("C", of=of)[:, [2, 5]] == 0).all()
        assert (result.gradient("X", of=of)[3] == 0).all()
        assert (result.gradient("Y", of=of)[[2, 5]] == 0).all()
        assert np.isfinite(np.delete(result.gradient("a", of=of), 3)).all()
        assert np.isfinite(np.delete(result.gradient("b", of=of), [2, 5])).all()


def test_of_forbidden_pairs_it_is_zero():
    C, a, b, _ = problems.ugly()["forbidden pairs"]
    result = ntsolve.solve_ot(C, a, b, reg=0.05)
    for of in OF:
        gradient = result.gradient("C", of=of)
        assert (gradient[np.isinf(C)] == 0).all()
        assert np.isfinite(gradient).all()


def test_it_has_the_dtype_of_the_problem():
    X, Y, a, b = (v.astype(np.float32) for v in example())
    result = ntsolve.solve_ot_sample(X, Y, a, b, reg=1e-2, tol=1e-5)
    for wrt in "CabXY":
        for of in OF:
            assert result.gradient(wrt, of=of).dtype == np.float32


def test_what_has_none_is_refused():
    X, Y, a, b = example()
    result = ntsolve.solve_ot(squared(X, Y), a, b, reg=1e-2)
    with pytest.raises(ValueError, match="wrt"):
        result.gradient("reg")
    with pytest.raises(ValueError, match="of"):
        result.gradient("C", of="gap")
    with pytest.raises(ValueError, match="solve_ot_sample"):
        result.gradient("X")
    with pytest.raises(ValueError, match="metric"):
        ntsolve.solve_ot_sample(X, Y, metric=squared, reg=1e-2).gradient("Y")


def test_of_many_points_it_is_that_of_the_cost_matrix(monkeypatch):
    from ntsolve.transport import sparse

    rng = np.random.default_rng(2)
    X, Y = rng.random((300, 2)), rng.random((200, 2))
    want = ntsolve.solve_ot_sample(X, Y, reg=1e-3, tol=1e-11).gradient("X", of="value_linear")
    monkeypatch.setattr(sparse, "DENSE", 1000)
    got = ntsolve.solve_ot_sample(X, Y, reg=1e-3, tol=1e-11).gradient("X", of="value_linear")
    assert abs(got - want).max() < 1e-6 * abs(want).max()
