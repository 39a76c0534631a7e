"""Bandits for the relaxation: what they learn, and that nothing but the seed and the observations decides it."""

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve

from .problems import poisson, rhs


def played(tuner, cost, contexts):
    """Costs of a sequence, round by round."""
    costs = []
    for context in contexts:
        arm = tuner.suggest(context)
        costs.append(cost(arm, context))
        tuner.observe(costs[-1])
    return np.array(costs)


def parabola(arm, context):
    """Iterations that depend on the arm, and on the context which is best: 1.2 to 1.8."""
    return 20 + 150 * (arm - 1.5 - 0.3 * context) ** 2


CONTEXTS = np.random.default_rng(3).uniform(-1, 1, 400)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_arm_for_a_context_is_learned(seed):
    tuner = ntsolve.RelaxationTuner(rng=seed)
    costs = played(tuner, parabola, CONTEXTS)
    best = np.array([min(parabola(arm, c) for arm in tuner.arms) for c in CONTEXTS])
    assert costs[300:].mean() <= 1.1 * best[300:].mean()
    for context in (-1, 0, 1):
        assert abs(tuner.best(context) - (1.5 + 0.3 * context)) <= 0.15


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_tsallis_inf_learns_the_best_fixed_arm(seed):
    tuner = ntsolve.RelaxationTuner(method="tsallis", rng=seed)
    played(tuner, lambda arm, _: 10 + 90 * abs(arm - 1.5), np.zeros(1500))
    weights = tuner._tsallis()
    assert weights.sum() == pytest.approx(1)
    assert abs(tuner.best() - 1.5) < 0.1
    assert weights.max() > 0.4


@pytest.mark.parametrize("losses", [np.zeros(5), np.arange(5.0), np.r_[0.0, 1e6, 1e9], np.zeros(1)])
@pytest.mark.parametrize("count", [0, 10, 100_000])
def test_the_weights_of_tsallis_inf_are_a_distribution(losses, count):
    tuner = ntsolve.RelaxationTuner(range(losses.size), method="tsallis")
    tuner._losses, tuner.count = losses, count
    weights = tuner._tsallis()
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert (np.diff(weights) <= 1e-12).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1e300])
def test_the_scale_of_the_context_does_not_matter(scale):
    costs = [played(ntsolve.RelaxationTuner(rng=1), lambda a, c, s=s: parabola(a, c / s), CONTEXTS * s)
             for s in (1, scale)]  # fmt: skip
    assert abs(costs[0].mean() - costs[1].mean()) < 0.5


def test_without_a_context_the_best_arm_is_found():
    tuner = ntsolve.RelaxationTuner(rng=0)
    played(tuner, lambda arm, _: 10 + 90 * abs(arm - 1.3), [None] * 200)
    assert abs(tuner.best() - 1.3) < 0.1


def test_arms_may_be_anything():
    tuner = ntsolve.RelaxationTuner(["jacobi", "ic0", None], rng=0)
    A, b = poisson(12), rhs(144)
    played(tuner, lambda M, _: ntsolve.cg(A, b, M=M).nit, [None] * 30)
    assert tuner.best() == "ic0"
    assert tuner.count == 30


@pytest.mark.parametrize("method", ["regression", "tsallis"])
def test_a_seed_gives_the_same_choices(method):
    tuners = [ntsolve.RelaxationTuner(method=method, rng=seed) for seed in (7, 7, 8)]
    first, again, other = (played(tuner, parabola, CONTEXTS[:100]).tolist() for tuner in tuners)
    assert first == again
    assert first != other


def test_two_contexts_at_once_and_a_context_that_is_constant():
    tuner = ntsolve.RelaxationTuner(rng=0)
    played(tuner, lambda arm, c: 20 + 100 * (arm - 1.4 - 0.3 * c[1]) ** 2, [(5.0, c) for c in CONTEXTS])
    assert tuner.best((5.0, 1.0)) > tuner.best((5.0, -1.0))


def test_ssor_is_tuned_over_shifted_systems():
    """A small replica of the experiment of the paper: a Laplacian with a shift that is drawn for each system."""
    rng, A = np.random.default_rng(0), poisson(16)
    M, shifts = ntsolve.ssor(A, 1.0), 10 ** rng.uniform(-3, 0.5, 8)
    arms = (1.0, 1.3, 1.6, 1.8)
    systems = [A + sp.diags_array(np.full(256, shift)) for shift in shifts]
    table = {(i, arm): ntsolve.cg(system, rhs(256), M=ntsolve.ssor(system, arm), rtol=1e-8).nit
             for i, system in enumerate(systems) for arm in arms}  # fmt: skip
    tuner = ntsolve.RelaxationTuner(arms, rng=0)
    draws = rng.integers(0, 8, 300)
    nits = []
    for i in draws:
        nits.append(table[i, tuner.suggest(np.log10(shifts[i]))])
        tuner.observe(nits[-1])
    best = np.mean([min(table[i, arm] for arm in arms) for i in draws[200:]])
    assert np.mean(nits[200:]) <= 1.1 * best
    assert M.with_omega(1.3).omega == 1.3


def test_a_system_that_took_no_iteration_teaches_nothing():
    tuner = ntsolve.RelaxationTuner(rng=0)
    tuner.suggest()
    tuner.observe(0)
    assert tuner.count == 1
    tuner.suggest()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ntsolve.RelaxationTuner([]), ValueError, "arms"),
        (lambda: ntsolve.RelaxationTuner(method="ucb"), ValueError, "method"),
        (lambda: ntsolve.RelaxationTuner().observe(3), RuntimeError, "suggest"),
        (lambda: ntsolve.RelaxationTuner().suggest(np.nan), ValueError, "context"),
        (lambda: ntsolve.RelaxationTuner().suggest("smooth"), ValueError, "context"),
        (lambda: ntsolve.RelaxationTuner().best(np.inf), ValueError, "context"),
        (lambda: ntsolve.RelaxationTuner().observe(-1), ValueError, "iterations"),
        (lambda: ntsolve.RelaxationTuner().observe("many"), TypeError, "iterations"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_context_of_another_length_is_refused():
    tuner = ntsolve.RelaxationTuner(rng=0)
    tuner.suggest([1.0, 2.0])
    for ask in (tuner.suggest, tuner.best):
        with pytest.raises(ValueError, match="context has 1"):
            ask(1.0)
