"""A window that moves is always the Fisher matrix of the gradients that are in it."""

import copy
import pickle

import numpy as np
import pytest

import ntsolve
from ntsolve.curvature.inverse import LOOK
from tests.backends import BACKENDS, to_device, to_host

from .problems import error, fisher, gradients


def _same(F, kept, damp, block_size=None, bound=1e-11):
    x = np.random.default_rng(9).standard_normal(F.d)
    inverse = np.linalg.inv(fisher(np.array(kept), damp, block_size))
    index = np.array([0, F.d // 2, F.d - 1])
    assert F.m == len(kept)
    assert error(F.solve(x), inverse @ x) < bound
    assert error(F.solve_newest(), inverse @ np.asarray(kept[-1], float)) < max(bound, 1e-6 * (F.dtype == np.float32))
    assert error(F.block(index), inverse[np.ix_(index, index)]) < bound


@pytest.mark.parametrize("method", ["cholesky", "recursion"])
@pytest.mark.parametrize("block_size", [None, 5, 8])
@pytest.mark.parametrize(("m", "d"), [(6, 20), (20, 8), (1, 4), (70, 90)])
def test_it_fills_and_moves(m, d, block_size, method):
    if method == "recursion" and block_size:
        pytest.skip("the paper's dynamic algorithm has no blocks")
    F, kept = ntsolve.EmpiricalFisher.window(m, d, 0.1, dtype="float64", block_size=block_size, method=method), []
    for step, g in enumerate(gradients(3 * m + 5, d)):
        F.append(g)
        kept = [*kept, g][-m:]
        if m < 30 or step % 20 == 0:
            _same(F, kept, 0.1, block_size)
    assert error(F.diag(), np.diag(np.linalg.inv(fisher(np.array(kept), 0.1, block_size)))) < 1e-11
    assert F.log_det() == pytest.approx(np.linalg.slogdet(fisher(np.array(kept), 0.1, block_size))[1])


@pytest.mark.parametrize("start", ["window", "array"])
def test_any_gradient_can_be_replaced(start):
    rng = np.random.default_rng(3)
    G = gradients(7, 25)
    kept = list(G)
    if start == "array":
        F = ntsolve.EmpiricalFisher(G, damp=0.2)
    else:
        F = ntsolve.EmpiricalFisher.window(7, 25, 0.2, dtype="float64")
        for g in G:
            F.append(g)
    for _ in range(30):
        index, g = int(rng.integers(-7, 7)), rng.standard_normal(25)
        F.replace(g, index)
        del kept[index]
        kept.append(g)
        _same(F, kept, 0.2)
        assert error(F.diag(), np.diag(np.linalg.inv(fisher(np.array(kept), 0.2)))) < 1e-11
    np.testing.assert_array_equal(G, gradients(7, 25))


def test_one_that_is_still_filling_can_replace():
    F, kept = ntsolve.EmpiricalFisher.window(6, 10, 0.3, dtype="float64"), []
    for step, g in enumerate(gradients(12, 10)):
        if step in (2, 4):
            F.replace(g, 1)
            del kept[1]
        else:
            F.append(g)
        kept = [*kept, g][-6:]
        _same(F, kept, 0.3)


def test_a_factor_that_has_drifted_is_made_anew():
    m, G = LOOK + 5, gradients(2 * LOOK + 5, 90)  # a row that leaves takes its errors along: some are to stay
    F = ntsolve.EmpiricalFisher.window(m, 90, 0.1, start=G[:m], dtype="float64")
    F._inverse.factor()[...] *= 1 + 1e-7
    for g in G[m:]:
        F.append(g)
    _same(F, list(G[-m:]), 0.1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_lives_where_its_first_gradient_does(backend):
    G = gradients(9, 12, "float32")
    F = ntsolve.EmpiricalFisher.window(4, 12, 0.1)
    for g in G:
        F.append(to_device(g, backend))
    x = np.ones(12, "float32")
    got = F.solve(to_device(x, backend))
    assert type(got) is type(to_device(x, backend))
    assert error(to_host(got), np.linalg.solve(fisher(G[-4:], 0.1), x)) < 1e-6


def test_copies_change_apart():
    G, x = gradients(5, 12), gradients(1, 12, seed=1)[0]
    F = ntsolve.EmpiricalFisher.window(4, 12, 0.1, start=G[:4], dtype="float64")
    before = F.solve(x)
    for made in (copy.copy(F), copy.deepcopy(F)):
        made.append(G[4])
        _same(made, list(G[1:]), 0.1)
        np.testing.assert_array_equal(F.solve(x), before)


def test_it_can_begin_with_gradients():
    G = gradients(9, 12)
    F = ntsolve.EmpiricalFisher.window(6, 12, 0.1, start=G[:4], dtype="float64")
    _same(F, list(G[:4]), 0.1)
    for g in G[4:]:
        F.append(g)
    F.replace(G[0], 2)
    kept = [G[3], G[4], *G[6:], G[0]]
    _same(F, kept, 0.1)
    np.testing.assert_array_equal(F.gradients(), kept)
    other = ntsolve.EmpiricalFisher.window(6, 12, 0.1, start=F.gradients(), dtype="float64")
    np.testing.assert_allclose(other.solve(G[0]), F.solve(G[0]), rtol=1e-9)
    for wrong in (G[:7], G[0], G[:3, :5]):
        with pytest.raises(ValueError, match="start has shape"):
            ntsolve.EmpiricalFisher.window(6, 12, 0.1, start=wrong)
    with pytest.raises(ValueError, match="start contains NaN"):
        ntsolve.EmpiricalFisher.window(6, 12, 0.1, start=np.full((1, 12), np.nan))
    assert ntsolve.EmpiricalFisher.window(6, 12, 0.1, start=G[:0]).gradients().shape == (0, 12)


def test_an_empty_one_is_the_damping_alone():
    F = ntsolve.EmpiricalFisher.window(4, 6, 0.5)
    np.testing.assert_allclose(F.solve(np.ones(6)), 2.0)
    np.testing.assert_allclose(F.matvec(np.ones(6)), 0.5)
    np.testing.assert_allclose(F.diag(), 2.0)
    np.testing.assert_allclose(F.block([1, 1, 2]), [[2, 2, 0], [2, 2, 0], [0, 0, 2]])
    assert F.log_det() == pytest.approx(6 * np.log(0.5))
    assert F.m == 0
    with pytest.raises(ValueError, match="empty"):
        F.solve_newest()
    other = F.with_damp(2.0)
    F.append(np.ones(6))
    assert (other.m, F.m) == (0, 1)
    other.append(np.zeros(6))
    np.testing.assert_allclose(other.solve(np.ones(6)), 0.5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_are_kept_as_asked(dtype):
    F = ntsolve.EmpiricalFisher.window(3, 50, 0.1, dtype=dtype)
    kept = gradients(5, 50)
    for g in kept:
        F.append(g)
    assert F._rows.array.dtype == dtype
    _same(F, kept.astype(dtype)[-3:], 0.1, bound=1e-12)


def test_ten_thousand_steps_lose_no_digits():
    m, d, damp = 24, 60, 1e-6
    rng = np.random.default_rng(0)
    base = rng.standard_normal(d)
    F, kept = ntsolve.EmpiricalFisher.window(m, d, damp), []
    for step in range(10_000):
        g = ((base + 0.05 * rng.standard_normal(d)) * 10 ** (-3 * (step % 5000) / 5000)).astype("float32")
        F.append(g)
        kept = [*kept, g][-m:]
        if step % 2500 == 2499:
            G = np.array(kept)
            x = np.linalg.solve(m * damp * np.eye(m) + G.astype(float) @ G.T.astype(float), np.eye(m)[-1])
            assert error(F.with_damp(damp).solve_newest(), m * G.T.astype(float) @ x) < 1e-6  # made anew, float32 out
            fresh = ntsolve.EmpiricalFisher(G, damp=damp)
            v = rng.standard_normal(d)
            assert error(F.solve(v), fresh.solve(v)) < 1e-9


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_gradient_changes_nothing(full, bad):
    F, kept = ntsolve.EmpiricalFisher.window(4, 8, 0.1, dtype="float64"), list(gradients(5 if full else 3, 8))
    for g in kept:
        F.append(g)
    for g, kind, words in (
        (np.full(8, bad), ValueError, "g contains NaN"),
        (np.ones(7), ValueError, "g must have the shape"),
        (np.ones((1, 8)), ValueError, "g must have the shape"),
        (np.ones(8, complex), TypeError, "g is complex"),
    ):
        with pytest.raises(kind, match=words):
            F.append(g)
        with pytest.raises(kind, match=words):
            F.replace(g)
    for index, kind in ((4, ValueError), (-5, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="index"):
            F.replace(np.ones(8), index)
    _same(F, kept[-4:], 0.1)
    half = ntsolve.EmpiricalFisher.window(4, 8, 0.1, dtype="float16")
    with pytest.raises(ValueError, match="g as float16"):
        half.append(np.full(8, 1e6))
    assert half.m == 0


@pytest.mark.parametrize("shape", [(4, 8), (8, 4)])
def test_an_exchange_that_leaves_no_factor_changes_nothing(shape):
    G = gradients(*shape)
    F, x = ntsolve.EmpiricalFisher(G, damp=0.1), gradients(1, shape[1], seed=1)[0]
    F.replace(x, 1)
    before = F.solve(x)
    for change in (F.append, F.replace):
        with pytest.raises(ValueError, match="squares overflow"):
            change(np.full(shape[1], 1e200))
        np.testing.assert_allclose(F.solve(x), before, rtol=1e-10)
    F.replace(G[1], -1)
    np.testing.assert_allclose(F.solve(x), ntsolve.EmpiricalFisher(G, damp=0.1).solve(x), rtol=1e-10)


@pytest.mark.parametrize(("arguments", "kind", "word"), [
    ((0, 5, 0.1), ValueError, "m"), ((5, 0, 0.1), ValueError, "d"), ((5, 5, 0.0), ValueError, "damp"),
    ((2.5, 5, 0.1), TypeError, "m"), ((5, "5", 0.1), TypeError, "d"),
])  # fmt: skip
def test_a_window_needs_sizes(arguments, kind, word):
    with pytest.raises(kind, match=word):
        ntsolve.EmpiricalFisher.window(*arguments)
    with pytest.raises(TypeError, match="dtype"):
        ntsolve.EmpiricalFisher.window(5, 5, 0.1, dtype="int8")
    with pytest.raises(TypeError, match="dtype"):
        ntsolve.EmpiricalFisher.window(5, 5, 0.1, dtype="no such")


@pytest.mark.parametrize("kind", ["whole", "blocks", "recursion", "window", "empty window"])
def test_a_pickle_is_the_same_matrix(kind):
    G, x = gradients(6, 20, "float64"), gradients(1, 20, "float64", seed=1)[0]
    options = {"blocks": {"block_size": 5}, "recursion": {"method": "recursion"}}.get(kind, {})
    if "window" in kind:
        F = ntsolve.EmpiricalFisher.window(4, 20, 0.1, dtype="float64")
        for g in G if kind == "window" else ():
            F.append(g)
    else:
        F = ntsolve.EmpiricalFisher(G, damp=0.1, **options)
    other = pickle.loads(pickle.dumps(F))
    np.testing.assert_allclose(other.solve(x), F.solve(x), rtol=1e-13)
    np.testing.assert_allclose(other @ x, F.matvec(x), rtol=1e-13)
    for each in (F, other):
        each.append(x)
    np.testing.assert_allclose(other.solve_newest(), F.solve_newest(), rtol=1e-12)


def test_what_is_not_here_is_not_pickled(tmp_path):
    G = np.memmap(tmp_path / "g", "float32", "w+", shape=(12, 300))
    G[...] = gradients(12, 300, "float32")
    with ntsolve.config(budget=2**11):
        F = ntsolve.EmpiricalFisher(G, damp=0.1)
        with pytest.raises(TypeError, match="file"):
            pickle.dumps(F)


def test_a_pickled_optimizer_takes_the_same_steps():
    G = gradients(8, 20, "float64")
    optimizer, w = ntsolve.MFAC(20, m=4, dtype="float64"), np.ones(20)
    for g in G[:6]:
        optimizer.step(w, g)
    other, v = pickle.loads(pickle.dumps(optimizer)), w.copy()
    for g in G[6:]:
        optimizer.step(w, g)
        other.step(v, g)
    np.testing.assert_allclose(v, w, rtol=1e-10)
