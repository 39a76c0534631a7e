"""ntsolve.prune: what it takes out, and how it makes up for that, are those of dense formulas; bad input is named."""

import numpy as np
import pytest

import ntsolve
from tests.backends import BACKENDS, to_device, to_host

M, D = 6, 23
BLOCKS = (None, 100, 10, 4)  # whole; longer than d; dual blocks and a shorter last one; primal ones


def dense_fisher(G, damp, block_size=None):
    """damp I + G'G / m, without what lies between blocks."""
    G = G.astype(float)
    F = damp * np.eye(G.shape[1]) + G.T @ G / len(G)
    if block_size is not None:
        block = np.arange(len(F)) // block_size
        F *= block[:, None] == block
    return F


def constrained_minimiser(F, w, gone):
    """w + dw for the least dw'F dw with (w + dw)[gone] = 0, from the KKT system."""
    d, p = len(w), int(gone.sum())
    E = np.eye(d)[gone]
    K = np.block([[F, E.T], [E, np.zeros((p, p))]])
    return w + np.linalg.solve(K, np.concatenate([np.zeros(d), -w[gone]]))[:d]


def surgeon(F, w, counts, *, joint=True, keep=None):
    """Optimal brain surgeon, dense: in each step the inverse of what is left, and what equation (1) says."""
    left, w = np.ones(len(w), bool), w.astype(float)
    for count in counts:
        index = np.flatnonzero(left)
        inverse = np.linalg.inv(F[np.ix_(index, index)])
        rho = w[index] ** 2 / (2 * np.diag(inverse))
        if keep is not None:
            rho[keep[index]] = np.inf
        gone = np.zeros(len(index), bool)
        gone[np.argsort(rho)[: count - (~left).sum()]] = True
        if joint:
            w[index] = constrained_minimiser(F[np.ix_(index, index)], w[index], gone)
        else:
            w[index] -= inverse[:, gone] @ (w[index] / np.diag(inverse))[gone]
        w[index[gone]] = 0
        left[index[gone]] = False
    return w, left


@pytest.fixture
def problem(rng):
    """Gradients with columns of different size that depend on one another, and weights."""
    G = rng.standard_normal((M, D)) * np.geomspace(0.3, 3, D)
    G[:, 5:9] += G[:, 10:14]
    return G, rng.standard_normal(D)


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("sparsity", [0.04, 0.5, 0.9])
@pytest.mark.parametrize("damp", [1e-8, 1e-2])
def test_the_joint_form_is_the_constrained_minimiser(problem, block_size, sparsity, damp):
    G, w = problem
    F = dense_fisher(G, damp, block_size)
    r = ntsolve.prune(w, ntsolve.EmpiricalFisher(G, damp=damp, block_size=block_size), sparsity=sparsity)
    assert (~r.mask).sum() == round(sparsity * D)
    assert r.sparsity == pytest.approx(round(sparsity * D) / D)
    np.testing.assert_array_equal(r.weights[~r.mask], 0)
    rho = w**2 / (2 * np.diag(np.linalg.inv(F)))
    assert rho[~r.mask].max() <= rho[r.mask].min() * (1 + 1e-6)
    # the minimiser of a system with condition 1e8, found by an independent dense solve, is that far off itself
    np.testing.assert_allclose(r.weights, constrained_minimiser(F, w, ~r.mask), atol=1e-10 + 1e-13 / damp)
    dw = r.weights - w
    assert r.loss_increase == pytest.approx(0.5 * dw @ F @ dw, rel=1e-6)


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("recomputes", [1, 2, 5])
def test_it_goes_the_way_of_the_dense_surgeon(problem, block_size, joint, recomputes):
    G, w = problem
    F = ntsolve.EmpiricalFisher(G, damp=0.05, block_size=block_size)
    r = ntsolve.prune(w, F, sparsity=0.7, recomputes=recomputes, joint=joint)
    expected, left = surgeon(dense_fisher(G, 0.05, block_size), w, r.removed, joint=joint)
    np.testing.assert_array_equal(r.mask, left)
    np.testing.assert_allclose(r.weights, expected, atol=1e-11)
    assert r.removed[-1] == round(0.7 * D)
    assert len(r.removed) == len(r.loss_increases) == recomputes
    assert r.loss_increase == pytest.approx(r.loss_increases.sum())


def test_nothing_does_better_than_the_joint_form(problem, rng):
    """For the set that it takes out, whatever is done with the others."""
    G, w = problem
    F = dense_fisher(G, 0.05)
    r = ntsolve.prune(w, G, sparsity=0.5, damp=0.05)
    for size in 10.0 ** np.arange(-6, 1):
        other = r.weights + size * rng.standard_normal(D) * r.mask
        assert 0.5 * (other - w) @ F @ (other - w) > r.loss_increase


def test_one_weight_costs_its_saliency(problem):
    G, w = problem
    F = ntsolve.EmpiricalFisher(G, damp=0.05)
    r = ntsolve.prune(w, F, sparsity=1 / D)
    (i,) = np.flatnonzero(~r.mask)
    assert r.loss_increase == pytest.approx(w[i] ** 2 / (2 * F.element(i, i)), rel=1e-10)
    assert r.loss_increase == pytest.approx((w**2 / (2 * F.diag())).min(), rel=1e-10)
    one_by_one = ntsolve.prune(w, F, sparsity=1 / D, joint=False)
    np.testing.assert_allclose(one_by_one.weights, r.weights, atol=1e-12)


@pytest.mark.parametrize("block_size", [None, 10, 4])
def test_gradients_in_whatever_form_give_the_same(problem, block_size, tmp_path):
    G, w = problem
    options = {"sparsity": 0.6, "recomputes": 3}
    expected = ntsolve.prune(w, ntsolve.EmpiricalFisher(G, damp=0.1, block_size=block_size), **options).weights
    kept = np.lib.format.open_memmap(tmp_path / "G.npy", "w+", shape=G.shape, dtype=G.dtype)
    kept[...] = G
    kept.flush()
    forms = {
        "array": G,
        "not contiguous": np.asfortranarray(G),
        "rows": (row for row in G),
        "callable": lambda weights: G,
        "fisher of a callable": lambda weights: ntsolve.EmpiricalFisher(G, damp=0.1, block_size=block_size),
        "file": np.load(tmp_path / "G.npy", mmap_mode="r"),
    }
    for name, form in forms.items():
        own = {} if name.startswith("fisher") else {"damp": 0.1, "block_size": block_size}
        with ntsolve.config(budget=256):  # the file is read piece by piece
            found = ntsolve.prune(w, form, **own, **options).weights
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=name)
    window = ntsolve.EmpiricalFisher.window(M, D, 0.1, dtype="float64", block_size=block_size)
    for g in (*G[:3], *G):  # full, and gone round
        window.append(g)
    np.testing.assert_allclose(ntsolve.prune(w, window, **options).weights, expected, atol=1e-11)


def test_the_papers_recursion_will_do_as_well(problem):
    G, w = problem
    expected = ntsolve.prune(w, G, sparsity=0.6, damp=0.1).weights
    found = ntsolve.prune(w, ntsolve.EmpiricalFisher(G, damp=0.1, method="recursion"), sparsity=0.6).weights
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_callable_is_asked_once_a_step_at_the_weights_as_they_are(problem):
    G, w = problem
    seen = []

    def gradients(weights):
        seen.append(weights.copy())
        weights[...] = np.nan  # it may do with them what it likes
        return G * (1 + len(seen))

    r = ntsolve.prune(w.astype("float32"), gradients, sparsity=0.8, recomputes=4, damp=0.1)
    assert len(seen) == 4
    np.testing.assert_array_equal(seen[0], w.astype("float32"))
    assert [int((weights == 0).sum()) for weights in seen[1:]] == list(r.removed[:-1])
    assert all(weights.dtype == np.float32 for weights in seen)
    assert np.isfinite(r.weights).all()


def test_the_same_share_of_what_is_left_goes_in_each_step(rng):
    w, G = rng.standard_normal(1000), rng.standard_normal((4, 1000))
    r = ntsolve.prune(w, G, sparsity=0.9, recomputes=5, damp=1.0)
    np.testing.assert_allclose(1 - r.removed / 1000, 0.1 ** (np.arange(1, 6) / 5), atol=1e-3)


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("joint", [True, False])
def test_what_is_gone_stays_gone_and_what_must_stay_stays(problem, block_size, joint):
    """Going on from a mask is the same as having started without those weights."""
    G, w = problem
    mask, keep = np.ones(D, bool), np.zeros(D, bool)
    mask[[2, 3, 11, 20]] = False
    keep[[0, 7, 19, 20]] = True  # 20 is gone already
    F = ntsolve.EmpiricalFisher(G, damp=0.05, block_size=block_size)
    r = ntsolve.prune(w, F, sparsity=0.6, recomputes=2, mask=mask, keep=keep, joint=joint)
    assert not r.mask[~mask].any()
    assert r.mask[[0, 7, 19]].all()
    assert (~r.mask).sum() == round(0.6 * D)
    dense = dense_fisher(G, 0.05, block_size)[np.ix_(mask, mask)]
    expected, left = surgeon(dense, w[mask], r.removed - 4, joint=joint, keep=keep[mask])
    np.testing.assert_array_equal(r.mask[mask], left)
    np.testing.assert_allclose(r.weights[mask], expected, atol=1e-11)
    assert mask.sum() == D - 4


def test_two_steps_are_one_call_each(problem):
    """The mask of a result goes into the next call, for training in between."""
    G, w = problem
    F = ntsolve.EmpiricalFisher(G, damp=0.05)
    both = ntsolve.prune(w, F, sparsity=0.7, recomputes=2)
    first = ntsolve.prune(w, F, sparsity=both.removed[0] / D)
    second = ntsolve.prune(first.weights, F, sparsity=0.7, mask=first.mask)
    np.testing.assert_array_equal(second.mask, both.mask)
    np.testing.assert_allclose(second.weights, both.weights, atol=1e-12)


@pytest.mark.parametrize("block_size", [None, 10, 4])
@pytest.mark.parametrize("sparsity", [0.0, 0.999])
def test_nothing_and_everything(problem, sparsity, block_size):
    G, w = problem
    r = ntsolve.prune(w, G, sparsity=sparsity, damp=0.1, recomputes=2, block_size=block_size)
    np.testing.assert_array_equal(r.weights, w if sparsity == 0 else 0)
    assert r.sparsity == (sparsity > 0)
    expected = 0.0 if sparsity == 0 else 0.5 * w @ dense_fisher(G, 0.1, block_size) @ w
    assert r.loss_increase >= expected * (1 - 1e-12)  # in two steps it may cost more


def test_a_weight_that_is_zero_goes_first_and_costs_nothing(problem):
    G, w = problem
    w[[4, 8, 15]] = 0
    r = ntsolve.prune(w, G, sparsity=3 / D, damp=0.1)
    np.testing.assert_array_equal(np.flatnonzero(~r.mask), [4, 8, 15])
    np.testing.assert_array_equal(r.weights, w)
    assert r.loss_increase == 0


def test_dead_columns_and_repeated_gradients_do_no_harm(problem):
    """Weights that no gradient knows cost damp w^2 / 2; ten equal rows make the products singular."""
    G, w = problem
    G = np.concatenate([np.tile(G[:1], (10, 1)), G])
    G[:, [3, 9]] = 0
    r = ntsolve.prune(w, G, sparsity=0.5, damp=1e-8)
    F = dense_fisher(G, 1e-8)
    assert not r.mask[[3, 9]].any()
    np.testing.assert_allclose(r.weights, constrained_minimiser(F, w, ~r.mask), atol=1e-5)


@pytest.mark.parametrize("size", [1e-150, 1e-6, 1e6, 1e120])
def test_the_units_of_the_weights_do_not_matter(problem, size):
    G, w = problem
    one, other = (ntsolve.prune(s * w, G, sparsity=0.5, damp=0.1) for s in (1.0, size))
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_allclose(other.weights, size * one.weights, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("block_size", [None, 10, 4])
@pytest.mark.parametrize("joint", [True, False])
def test_it_runs_where_the_weights_are(problem, backend, block_size, joint):
    G, w = problem
    options = {"sparsity": 0.6, "recomputes": 2, "damp": 0.1, "block_size": block_size, "joint": joint}
    r = ntsolve.prune(to_device(w, backend), to_device(G, backend), **options)
    expected = ntsolve.prune(w, G, **options)
    assert r.backend == backend
    assert type(r.weights) is type(to_device(w, backend))
    np.testing.assert_array_equal(to_host(r.mask), expected.mask)
    np.testing.assert_allclose(to_host(r.weights), expected.weights, atol=1e-12)


@pytest.mark.parametrize("weights", ["float32", "float64"])
@pytest.mark.parametrize("gradients", ["float16", "float32", "float64"])
def test_dtypes(problem, weights, gradients):
    G, w = problem
    G = G.astype(gradients)
    r = ntsolve.prune(w.astype(weights), G, sparsity=0.5, damp=0.1)
    assert r.weights.dtype == weights
    np.testing.assert_allclose(
        r.weights, constrained_minimiser(dense_fisher(G, 0.1), w, ~r.mask), atol=1e-6 if weights == "float32" else 1e-11
    )


def test_other_libraries_arrays_come_back_as_their_own_kind(problem):
    xp = pytest.importorskip("array_api_strict")
    G, w = problem
    kinds = []

    def gradients(weights):
        kinds.append(type(weights))
        return xp.asarray(G)

    r = ntsolve.prune(xp.asarray(w), gradients, sparsity=0.5, damp=0.1, keep=np.arange(D) == 2)
    assert type(r.weights) is type(r.mask) is type(xp.asarray(w)) is kinds[0]
    expected = ntsolve.prune(w, G, sparsity=0.5, damp=0.1, keep=np.arange(D) == 2)
    np.testing.assert_array_equal(np.from_dlpack(r.weights), expected.weights)
    again = ntsolve.prune(r.weights, gradients, sparsity=0.6, damp=0.1, mask=r.mask)
    assert float(xp.sum(xp.astype(again.mask, xp.float64))) == D - round(0.6 * D)


def test_inputs_are_left_as_they_are(problem):
    G, w = problem
    mask, keep = np.arange(D) != 3, np.arange(D) == 5
    before = [v.copy() for v in (G, w, mask, keep)]
    F = ntsolve.EmpiricalFisher(G, damp=0.1)
    solved = F.solve(w)
    for value in (G, w, mask, keep):
        value.flags.writeable = False
    ntsolve.prune(w, F, sparsity=0.6, recomputes=2, mask=mask, keep=keep)
    for value, copy in zip((G, w, mask, keep), before, strict=True):
        np.testing.assert_array_equal(value, copy)
    np.testing.assert_array_equal(F.solve(w), solved)


def test_a_result_is_read_by_name(problem):
    G, w = problem
    r = ntsolve.prune(w, G, sparsity=0.5, damp=0.1)
    assert r["weights"] is r.weights
    assert {"weights", "mask", "sparsity", "loss_increase"} <= set(r)
    assert "loss_increase" in repr(r)
    assert (r.success, r.status, r.x is r.weights) == (True, ntsolve.Status.CONVERGED, True)
    with pytest.raises(AttributeError):
        r.weights = w


def test_what_overflows_is_said(problem):
    G, w = problem
    with np.errstate(all="ignore"), pytest.warns(ntsolve.ConvergenceWarning, match="size of the weights"):
        r = ntsolve.prune(1e200 * w, G, sparsity=0.5, damp=0.1)
    assert (r.success, r.status) == (False, ntsolve.Status.NAN_OR_INF)
    with np.errstate(all="ignore"), pytest.raises(ntsolve.ConvergenceError) as caught:
        ntsolve.prune(1e200 * w, G, sparsity=0.5, damp=0.1, on_failure="raise")
    assert caught.value.result.mask.sum() == r.mask.sum()


def fisher(d=D, damp=0.1):
    return ntsolve.EmpiricalFisher(np.ones((2, d)), damp=damp)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": np.zeros(D - 1)}, "weights"),
        ({"weights": np.zeros((D, 1))}, "weights"),
        ({"weights": np.zeros(0)}, "weights"),
        ({"weights": np.full(D, np.nan)}, "weights"),
        ({"weights": np.ones(D, complex)}, "weights"),
        ({"weights": None}, "weights"),
        ({"weights": np.array(["a"] * D)}, "weights"),
        ({"fisher": None}, "fisher"),
        ({"fisher": lambda weights: None}, "fisher"),
        ({"fisher": 3.0, "damp": 0.1}, "fisher"),
        ({"fisher": np.full((2, D), np.nan), "damp": 0.1}, "fisher"),
        ({"fisher": np.full((2, D), np.inf, "f4"), "damp": 0.1}, "fisher"),
        ({"fisher": np.ones((2, D), complex), "damp": 0.1}, "fisher"),
        ({"fisher": np.ones((0, D)), "damp": 0.1}, "fisher"),
        ({"fisher": np.ones(D), "damp": 0.1}, "fisher"),
        ({"fisher": np.ones((2, D + 1)), "damp": 0.1}, "fisher"),
        ({"fisher": fisher(D + 1)}, "fisher"),
        ({"fisher": lambda weights: fisher(D + 1)}, "fisher"),
        ({"fisher": ntsolve.EmpiricalFisher.window(3, D, 0.1)}, "fisher"),
        ({"fisher": np.ones((2, D))}, "damp"),
        ({"fisher": np.ones((2, D)), "damp": 0.0}, "damp"),
        ({"fisher": np.ones((2, D)), "damp": -1.0}, "damp"),
        ({"fisher": np.ones((2, D)), "damp": float("nan")}, "damp"),
        ({"damp": 0.2}, "damp"),
        ({"block_size": 4}, "block_size"),
        ({"fisher": np.ones((2, D)), "damp": 0.1, "block_size": 0}, "block_size"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": -0.1}, "sparsity"),
        ({"sparsity": float("nan")}, "sparsity"),
        ({"sparsity": "half"}, "sparsity"),
        ({"sparsity": 0.1, "mask": np.arange(D) < 5}, "sparsity"),
        ({"sparsity": 0.9, "keep": np.arange(D) < 20}, "sparsity"),
        ({"recomputes": 0}, "recomputes"),
        ({"recomputes": 1.5}, "recomputes"),
        ({"mask": np.ones(D)}, "mask"),
        ({"mask": np.ones(D - 1, bool)}, "mask"),
        ({"keep": np.ones((D, 1), bool)}, "keep"),
    ],
)
def test_bad_input_is_named(change, named):
    arguments = {"weights": np.ones(D), "fisher": fisher(), "sparsity": 0.5} | change
    with pytest.raises((TypeError, ValueError), match=rf"\b{named}\b"):
        ntsolve.prune(arguments.pop("weights"), arguments.pop("fisher"), **arguments)


def test_weights_and_gradients_on_different_devices_are_refused(problem):
    if len(BACKENDS) == 1:
        pytest.skip("no CuPy, and no stand-in")
    G, w = problem
    with pytest.raises(TypeError, match=r"different devices.*weights"):
        ntsolve.prune(w, to_device(G, "cuda"), sparsity=0.5, damp=0.1)


def test_a_small_network_keeps_its_accuracy():
    """On held-out digits; the full comparison is in the bench."""
    pytest.importorskip("sklearn")
    from ntsolve.demo import pruning

    with pruning.one_blas_thread():
        task = pruning.task()
        surgeon = task.accuracy(pruning.surgeon(6)(task, 0.8))
    before = task.accuracy(task.weights)
    assert before > 0.95
    assert surgeon > before - 0.06
    assert surgeon > task.accuracy(pruning.magnitude(task, 0.8)) + 0.1
