"""ntsolve.MFAC: each step is that of the paper, written out with dense matrices; it stops and goes on; it takes nothing
half."""

import numpy as np
import pytest

import ntsolve
from tests.backends import BACKENDS, to_device, to_host


def dense_steps(w, gradients, *, lr, m, damp, momentum, weight_decay):
    """The weights after each step, from equations (1) to (3) with F itself."""
    w, v, rows = w.astype(float), np.zeros(w.size), []
    for gradient in gradients:
        x = gradient(w) + weight_decay * w
        rows = [*rows, x][-m:]
        G = np.array(rows)
        F = damp * np.eye(w.size) + G.T @ G / len(rows)
        v = momentum * v + (1 - momentum) * np.linalg.solve(F, x)
        w = w - lr * v
        yield w


def problem(rng, d=8, steps=25):
    """Noisy gradients of a quadratic, as functions of the weights, and where to start."""
    half = rng.standard_normal((d, d)) * np.geomspace(0.1, 2, d)
    H, noise = half.T @ half / d, 0.3 * rng.standard_normal((steps, d))
    return rng.standard_normal(d), [lambda w, e=e: H @ w + e for e in noise]


SETTINGS = [
    {"lr": 0.1, "m": 6, "damp": 1e-2, "momentum": 0.0, "weight_decay": 0.0},
    {"lr": 0.1, "m": 6, "damp": 1e-2, "momentum": 0.9, "weight_decay": 0.05},
    {"lr": 0.05, "m": 1, "damp": 1e-1, "momentum": 0.5, "weight_decay": 0.0},
    {"lr": 0.1, "m": 12, "damp": 1e-2, "momentum": 0.5, "weight_decay": 0.01},  # more gradients than weights
    {"lr": 0.1, "m": 100, "damp": 1e-2, "momentum": 0.5, "weight_decay": 0.0},  # never full
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"m{s['m']}-momentum{s['momentum']}")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_steps_are_those_of_the_paper(settings, dtype, rng):
    start, gradients = problem(rng)
    w, optimizer = start.astype(dtype), ntsolve.MFAC(8, **settings, dtype=dtype)
    for gradient, expected in zip(gradients, dense_steps(start, gradients, **settings), strict=True):
        assert optimizer.step(w, gradient(w).astype(dtype)) is None
        np.testing.assert_allclose(w, expected, atol=1e-11 if dtype == "float64" else 2e-4)
    assert optimizer.steps == len(gradients)
    assert optimizer.fisher.m == min(settings["m"], len(gradients))
    assert w.dtype == dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_runs_where_the_weights_are(backend, rng):
    settings = SETTINGS[1]
    start, gradients = problem(rng, steps=9)
    w, optimizer = to_device(start.copy(), backend), ntsolve.MFAC(8, **settings, dtype="float64")
    for gradient, expected in zip(gradients, dense_steps(start, gradients, **settings), strict=True):
        optimizer.step(w, to_device(gradient(to_host(w)), backend))
        np.testing.assert_allclose(to_host(w), expected, atol=1e-11)


def test_update_returns_what_step_would_add(rng):
    start, gradients = problem(rng)
    w = start.copy()
    one, other = (ntsolve.MFAC(8, lr=0.1, m=5, damp=1e-2, weight_decay=0.1, dtype="float64") for _ in range(2))
    for gradient in gradients:
        g, before = gradient(w), w.copy()
        change = one.update(g, w)
        np.testing.assert_array_equal(w, before)
        other.step(w, g)
        np.testing.assert_array_equal(w, before + change)


def test_other_libraries_arrays_are_changed_in_place_or_come_back_as_their_own_kind(rng):
    xp = pytest.importorskip("array_api_strict")
    w, g = np.zeros(4), rng.standard_normal(4)
    foreign = xp.asarray(w.copy())
    change = ntsolve.MFAC(4, m=2).update(xp.asarray(g), foreign)
    assert type(change) is type(foreign)
    np.testing.assert_array_equal(np.from_dlpack(foreign), 0)
    ntsolve.MFAC(4, m=2).step(w, xp.asarray(g))
    np.testing.assert_array_equal(w, np.from_dlpack(change))


def test_the_learning_rate_may_change_between_steps(rng):
    w, optimizer = np.zeros(4), ntsolve.MFAC(4, lr=1.0, m=3, damp=0.1, momentum=0.0)
    g = rng.standard_normal(4)
    optimizer.step(w, g)
    moved = w.copy()
    optimizer.lr = 0.0
    optimizer.step(w, g)
    np.testing.assert_array_equal(w, moved)
    with pytest.raises(ValueError, match="lr"):
        optimizer.lr = -1.0


@pytest.mark.parametrize("taken", [0, 3, 12])
def test_it_stops_and_goes_on(taken, rng, tmp_path):
    """Through a file, before the window is full and after."""
    start, gradients = problem(rng)
    settings = {**SETTINGS[1], "dtype": "float64"}
    w, optimizer = start.copy(), ntsolve.MFAC(8, **settings)
    for gradient in gradients[:taken]:
        optimizer.step(w, gradient(w))
    np.savez(tmp_path / "state.npz", **optimizer.state_dict())
    again, later = w.copy(), ntsolve.MFAC(8, lr=5.0, m=2)
    with np.load(tmp_path / "state.npz") as state:
        later.load_state_dict(dict(state))
    assert repr(later) == repr(optimizer)
    for gradient in gradients[taken:]:
        optimizer.step(w, gradient(w))
        later.step(again, gradient(again))
    np.testing.assert_allclose(again, w, rtol=1e-10)


def test_a_state_is_a_copy(rng):
    w, optimizer = np.zeros(4), ntsolve.MFAC(4, m=2, damp=0.1)
    for _ in range(3):
        optimizer.step(w, rng.standard_normal(4))
    state = optimizer.state_dict()
    before = {name: np.array(value) for name, value in state.items()}
    optimizer.step(w, rng.standard_normal(4))
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mean": np.zeros(3)}, "mean"),
        ({"gradients": np.zeros((2, 3))}, "gradients"),
        ({"gradients": np.full((2, 4), np.nan)}, "gradients"),
        ({"gradients": np.zeros((5, 4))}, "gradients"),
        ({"damp": 0.0}, "damp"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, named, rng):
    w, optimizer = np.zeros(4), ntsolve.MFAC(4, m=3, damp=0.1)
    optimizer.step(w, rng.standard_normal(4))
    state, before = optimizer.state_dict(), repr(optimizer)
    with pytest.raises((TypeError, ValueError), match=named):
        optimizer.load_state_dict(state | change)
    state.pop("mean")
    with pytest.raises(ValueError, match="mean"):
        optimizer.load_state_dict(state)
    assert repr(optimizer) == before
    assert optimizer.fisher.m == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"d": 0}, "d must"),
        ({"d": 2.5}, "d must"),
        ({"lr": -1}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"m": 0}, "m must"),
        ({"damp": 0.0}, "damp"),
        ({"damp": -1.0}, "damp"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"dtype": "int32"}, "dtype"),
    ],
)
def test_bad_settings_are_named(options, named):
    with pytest.raises((TypeError, ValueError), match=named):
        ntsolve.MFAC(options.pop("d", 4), **options)


def read_only(v):
    v.flags.writeable = False
    return v


@pytest.mark.parametrize(
    ("w", "g", "named"),
    [
        (np.zeros(4), np.array([1, np.nan, 0, 0]), "g"),
        (np.zeros(4), np.array([1, np.inf, 0, 0]), "g"),
        (np.zeros(4), np.ones(3), "g"),
        (np.zeros(4), np.ones(4, complex), "g"),
        (np.zeros(4), None, "g"),
        (np.zeros(3), np.ones(4), "w"),
        (np.zeros(4, int), np.ones(4), "w"),
        ([0.0] * 4, np.ones(4), "w"),
        (read_only(np.zeros(4)), np.ones(4), "w"),
        (np.full(4, np.nan), np.ones(4), "w"),
    ],
)
def test_a_step_that_cannot_be_made_is_refused_and_changes_nothing(w, g, named, rng):
    optimizer, good = ntsolve.MFAC(4, m=2, damp=0.1, weight_decay=0.1), np.zeros(4)
    for _ in range(3):
        optimizer.step(good, rng.standard_normal(4))
    before, state = np.array(w, copy=True), optimizer.state_dict()
    with pytest.raises((TypeError, ValueError), match=rf"^{named}\b"):
        optimizer.step(w, g)
    np.testing.assert_array_equal(np.array(w), before)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_update_without_weights_needs_no_weight_decay(rng):
    assert ntsolve.MFAC(4).update(rng.standard_normal(4)).shape == (4,)
    with pytest.raises(ValueError, match="w is needed"):
        ntsolve.MFAC(4, weight_decay=0.1).update(rng.standard_normal(4))


def test_a_badly_scaled_problem_that_gradient_descent_cannot_do(rng):
    """Logistic regression with features of very different size: the loss falls much further in as many steps."""
    scale = np.geomspace(1e-2, 1, 20)
    X, true = rng.standard_normal((1000, 20)) * scale, rng.standard_normal(20) / scale
    y = rng.random(1000) < 1 / (1 + np.exp(-X @ true))

    def gradient(w, some):
        return X[some].T @ (1 / (1 + np.exp(-X[some] @ w)) - y[some]) / len(some)

    def loss(w):
        return np.mean(np.logaddexp(0, np.where(y, -1, 1) * (X @ w)))

    batches = rng.integers(0, 1000, (150, 50))
    plain = {}
    for lr in (0.1, 1.0, 10.0, 100.0):
        w = np.zeros(20)
        for some in batches:
            w -= lr * gradient(w, some)
        plain[lr] = loss(w)
    w, optimizer = np.zeros(20), ntsolve.MFAC(20, lr=0.05, m=64, damp=1e-6, dtype="float64")
    for some in batches:
        optimizer.step(w, gradient(w, some))
    assert loss(w) < min(plain.values())
