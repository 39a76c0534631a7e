"""Influence of training points: against the formula, against leaving them out, and whatever form the gradients have."""

import numpy as np
import pytest
import scipy.optimize

import ntsolve
from tests.backends import BACKENDS, to_device, to_host


class Regression:
    """Logistic regression with a penalty, at its minimum."""

    def __init__(self, n=120, d=8, penalty=0.01, seed=0):
        rng = np.random.default_rng(seed)
        self.X, self.penalty = rng.standard_normal((n, d)), penalty
        self.y = np.where(rng.random(n) < 1 / (1 + np.exp(-self.X @ rng.standard_normal(d))), 1.0, -1.0)
        self.w = self.fit(np.ones(n))

    def fit(self, weights):
        """Where the weighted sum of losses, over all n, is least."""
        n = len(self.y)

        def value(w):
            margins = self.y * (self.X @ w)
            slopes = -weights * self.y / (1 + np.exp(margins))
            loss = weights @ np.logaddexp(0, -margins) / n + 0.5 * self.penalty * w @ w
            return loss, self.X.T @ slopes / n + self.penalty * w

        start = np.zeros(self.X.shape[1])
        return scipy.optimize.minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x

    def gradients(self, X, y):
        return -(y / (1 + np.exp(y * (X @ self.w))))[:, None] * X

    def hessian(self):
        p = 1 / (1 + np.exp(-self.X @ self.w))
        return self.X.T @ (self.X * (p * (1 - p))[:, None]) / len(self.y) + self.penalty * np.eye(len(self.w))


@pytest.fixture(scope="module")
def model():
    return Regression()


@pytest.fixture(scope="module")
def held_out():
    rng = np.random.default_rng(1)
    return rng.standard_normal(8), 1.0


def formula(G, g, H):
    return -np.atleast_2d(g) @ np.linalg.solve(H, G.T) / len(G)


def test_it_foretells_what_leaving_a_point_out_does(model, held_out):
    x, y = held_out
    loss = lambda w: np.logaddexp(0, -y * (x @ w))
    G, g = model.gradients(model.X, model.y), model.gradients(x[None], np.array([y]))[0]
    result = ntsolve.influence(G, g, hvp=model.hessian(), rng=0)
    change = []
    for i in range(len(model.y)):
        weights = np.ones(len(model.y))
        weights[i] = 0
        change.append(loss(model.fit(weights)) - loss(model.w))
    assert np.corrcoef(-result.x, change)[0, 1] > 0.97
    slope = (-result.x @ change) / (result.x @ result.x)
    assert 0.9 < slope < 1.3  # of that size, too
    # a point that is there twice does the opposite
    twice = int(np.argmax(abs(result.x)))
    weights = np.ones(len(model.y))
    weights[twice] = 2
    assert result.x[twice] == pytest.approx(loss(model.fit(weights)) - loss(model.w), rel=0.3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 8), (2, 10, 8), (0, 8)])
def test_it_is_the_formula(model, shape, dtype, backend):
    G, H = model.gradients(model.X, model.y), model.hessian()
    g = np.random.default_rng(2).standard_normal(shape)
    arrays = [to_device(a.astype(dtype), backend) for a in (G, g, H)]
    result = ntsolve.influence(arrays[0], arrays[1], hvp=arrays[2], rtol=1e-5, rng=0)
    assert np.all(result.success)
    assert result.x.dtype == dtype
    assert result.x.shape == (*shape[:-1], 120)
    assert result.s_test.shape == shape
    want = formula(G, g.reshape(-1, 8), H).reshape(*shape[:-1], 120)
    np.testing.assert_allclose(to_host(result.x), want, atol=1e-3 * abs(want).max(initial=1e-9))


def as_file(G, tmp_path):
    np.save(tmp_path / "G.npy", G)
    return np.load(tmp_path / "G.npy", mmap_mode="r")


FORMS = {
    "array": lambda G, tmp: G,
    "float16": lambda G, tmp: G.astype("float16"),
    "columns first": lambda G, tmp: np.asfortranarray(G),
    "list of rows": lambda G, tmp: list(G),
    "rows": lambda G, tmp: iter(G),
    "chunks": lambda G, tmp: (G[i : i + 7] for i in range(0, len(G), 7)),
    "file": as_file,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("budget", [2**30, 2000])
def test_the_gradients_come_in_any_form(model, form, budget, tmp_path):
    G, H = model.gradients(model.X, model.y), model.hessian()
    g = G[:2] + 0.1
    with ntsolve.config(budget=budget):
        result = ntsolve.influence(FORMS[form](G, tmp_path), g, hvp=H, rtol=1e-10, rng=0)
    want = formula(G, g, H)
    np.testing.assert_allclose(result.x, want, atol=(2e-3 if form == "float16" else 1e-8) * abs(want).max())


def test_with_the_empirical_fisher_matrix(model):
    G, g = model.gradients(model.X, model.y), np.ones((2, 8))
    fisher = ntsolve.EmpiricalFisher(G, damp=1e-3)
    F = G.T @ G / 120 + 1e-3 * np.eye(8)
    result = ntsolve.influence(G, g, fisher=fisher)
    assert result.success.all()
    np.testing.assert_allclose(result.x, formula(G, g, F), rtol=1e-9)
    assert (result.residual <= result.tolerance).all()
    both = ntsolve.influence(G, g, fisher=fisher, hvp=model.hessian(), rtol=1e-10)
    np.testing.assert_allclose(both.x, formula(G, g, model.hessian()), atol=1e-8)


def test_n_is_the_size_of_the_training_set(model):
    G, H = model.gradients(model.X, model.y), model.hessian()
    whole = ntsolve.influence(G, G[0], hvp=H, rng=0).x
    some = ntsolve.influence(G[:5], G[0], hvp=H, n=120, rng=0).x
    np.testing.assert_allclose(some, whole[:5], rtol=1e-12)
    np.testing.assert_allclose(ntsolve.influence(G[:5], G[0], hvp=H, rng=0).x, 24 * whole[:5], rtol=1e-12)


def test_the_input_is_unmodified(model):
    G, H, g = model.gradients(model.X, model.y), model.hessian(), np.ones(8)
    kept = [a.copy() for a in (G, H, g)]
    for a in (G, H, g):
        a.flags.writeable = False
    ntsolve.influence(G, g, hvp=H, rng=0)
    assert all(np.array_equal(a, b) for a, b in zip((G, H, g), kept, strict=True))


def test_a_solve_that_fails_is_said(model):
    G, H = model.gradients(model.X, model.y), -model.hessian()
    with pytest.warns(ntsolve.ConvergenceWarning, match="influence: .*Gauss-Newton"):
        result = ntsolve.influence(G, G[0], hvp=H, rng=0)
    assert not result.success
    with pytest.raises(ntsolve.ConvergenceError):
        ntsolve.influence(G, G[0], hvp=H, rng=0, on_failure="raise")


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"hvp": None}, "Hessian"),
        ({"fisher": np.eye(8)}, "fisher"),
        ({"G": np.ones((120, 7))}, "G"),
        ({"G": iter([np.ones(7)])}, "G"),
        ({"G": iter([])}, "G"),
        ({"G": np.full((120, 8), np.nan)}, "G"),
        ({"G": 5}, "G"),
        ({"g_test": np.ones(7)}, "g_test"),
        ({"g_test": np.full(8, np.inf)}, "g_test"),
        ({"g_test": 1j * np.ones(8)}, "g_test"),
        ({"n": 0}, "n"),
        ({"damp": -1}, "damp"),
        ({"rank": 0}, "rank"),
        ({"on_failure": "shrug"}, "on_failure"),
        ({"tolerence": 1}, "tolerence"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(model, changed, word):
    arguments = {"G": np.ones((120, 8)), "g_test": np.ones(8), "hvp": model.hessian()} | changed
    with pytest.raises((TypeError, ValueError), match=rf"\b{word}\b"):
        ntsolve.influence(arguments.pop("G"), arguments.pop("g_test"), **arguments)


def test_damp_belongs_to_the_fisher_matrix(model):
    fisher = ntsolve.EmpiricalFisher(np.ones((120, 8)), damp=1e-3)
    with pytest.raises(ValueError, match="with_damp"):
        ntsolve.influence(np.ones((120, 8)), np.ones(8), fisher=fisher, damp=0.1)


def test_options_of_the_solve_are_for_a_hessian():
    G, g = np.random.default_rng(0).standard_normal((2, 8, 5))[0], np.ones(5)
    F, H = ntsolve.EmpiricalFisher(G, damp=0.1), np.eye(5)
    with pytest.raises(ValueError, match="keep, method: only with hvp"):
        ntsolve.influence(G, g, fisher=F, method="nystrom", keep=5)
    with pytest.raises(ValueError, match="M: fisher is the preconditioner already"):
        ntsolve.influence(G, g, hvp=H, fisher=F, M=H)
    np.testing.assert_allclose(ntsolve.influence(G, g, hvp=H, M=H, rtol=1e-10).x, -G @ g / 8, rtol=1e-6)
    with pytest.raises(ValueError, match="fisher has d = 5, g_test has 4"):
        ntsolve.influence(G[:, :4], g[:4], fisher=F)
