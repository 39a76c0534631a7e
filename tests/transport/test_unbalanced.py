"""Plans that may miss their marginals at a price."""

import numpy as np
import pytest

import ntsolve

from . import oracle, problems

INF = np.inf


def example(n=25, m=35, seed=0, mass=(1.0, 1.0)):
    rng = np.random.default_rng(seed)
    C = problems.squared(*problems.points(n, m, seed))
    return C, mass[0] * problems.weights(rng, n), mass[1] * problems.weights(rng, m)


def solve(C, a, b, tau_a, tau_b, **options):
    given = {name: None if tau == INF else tau for name, tau in (("tau_a", tau_a), ("tau_b", tau_b))}
    return ntsolve.solve_ot(C, a, b, **given, **options)


TAUS = [(1.0, 1.0), (0.05, 0.2), (INF, 0.1), (0.1, INF), (100.0, 100.0), (0.01, 0.01)]


@pytest.mark.parametrize("method", ["sns", "sinkhorn"])
@pytest.mark.parametrize("reg", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize(("tau_a", "tau_b"), TAUS)
def test_the_plan_is_the_solution(method, reg, tau_a, tau_b):
    if method == "sinkhorn" and reg < 1e-2 * max(1, min(tau_a, tau_b)):
        pytest.skip("takes long")
    masses = (2.0, 2.0) if INF in (tau_a, tau_b) else (1.0, 3.0)
    C, a, b = example(mass=masses)
    f, g = oracle.solve(C, a, b, reg, tau_a=tau_a, tau_b=tau_b, tol=1e-13)
    want = oracle.plan(C, f, g, reg)
    result = solve(C, a, b, tau_a, tau_b, reg=reg, tol=1e-10, method=method)
    assert result.success
    assert abs(result.plan - want).sum() < 1e-8 * want.sum()
    assert np.allclose(result.potentials[1], g, atol=1e-7) or INF in (tau_a, tau_b)


@pytest.mark.parametrize(("tau_a", "tau_b"), TAUS)
def test_the_value_is_that_of_the_plan_with_its_penalties(tau_a, tau_b):
    C, a, b = example(mass=(2.0, 2.0))
    result = solve(C, a, b, tau_a, tau_b, reg=1e-2, tol=1e-12, on_failure="ignore")
    P = result.plan
    want = oracle.value(P, C, 1e-2)
    for tau, p, q in ((tau_a, P.sum(1), a), (tau_b, P.sum(0), b)):
        want += 0.0 if tau == INF else tau * (p * np.log(p / q) - p + q).sum()
    assert result.value == pytest.approx(want, rel=1e-10)
    assert result.value_linear == pytest.approx(oracle.linear_value(P, C), rel=1e-10)
    f, g = result.potentials
    penalties = sum(
        weights @ potential if tau == INF else tau * (weights * (1 - np.exp(-potential / tau))).sum()
        for tau, potential, weights in ((tau_a, f, a), (tau_b, g, b))
    )
    assert result.value == pytest.approx(penalties - 1e-2 * P.sum(), rel=1e-9)


@pytest.mark.parametrize(("tau_a", "tau_b"), [(1e-4, 1e-4), (1e-9, 1e-9), (1e-5, INF), (INF, 1e-6), (1e-5, 3.0)])
def test_marginals_that_cost_next_to_nothing(tau_a, tau_b):
    C, a, b = example(mass=(2.0, 2.0))
    result = solve(C, a, b, tau_a, tau_b, reg=0.1)
    assert result.success
    assert result.nit < 6
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(20):  # Sinkhorn's iteration, as it is written
        f = -0.1 / (1 + (0.1 / tau_a if tau_a < INF else 0)) * np.log((np.exp((g - C) / 0.1)).sum(1) / a)
        g = -0.1 / (1 + (0.1 / tau_b if tau_b < INF else 0)) * np.log((np.exp((f[:, None] - C) / 0.1)).sum(0) / b)
    want = oracle.plan(C, f, g, 0.1)
    assert abs(result.plan - want).sum() < 1e-8 * want.sum()
    again = solve(C, a, b, tau_a, tau_b, reg=0.1, potentials_init=result.potentials)
    assert again.nit <= 1


@pytest.mark.filterwarnings("ignore:If reg_type")
def test_it_is_what_pot_finds():
    ot = pytest.importorskip("ot")
    C, a, b = example(mass=(1.0, 2.0))
    for reg, tau in ((0.05, 1.0), (0.05, (0.5, 2.0))):
        options = {"reg_type": "entropy", "stopThr": 1e-14, "numItermax": 100_000}
        want = ot.unbalanced.sinkhorn_unbalanced(a, b, C, reg, tau, **options)
        tau_a, tau_b = tau if isinstance(tau, tuple) else (tau, tau)
        result = ntsolve.solve_ot(C, a, b, reg=reg, tau_a=tau_a, tau_b=tau_b, tol=1e-12)
        assert abs(result.plan - want).max() < 1e-10


def test_a_high_price_is_a_balanced_plan():
    C, a, b = example()
    want = ntsolve.solve_ot(C, a, b, reg=1e-2).plan
    got = ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=1e6, tau_b=1e6).plan
    assert abs(got - want).sum() < 1e-5


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_masses_of_any_size_are_solved(scale):
    C, a, b = example()
    result = ntsolve.solve_ot(C, scale * a, scale * b, reg=1e-2, tau_a=0.1, tau_b=0.1, tol=1e-10 * scale)
    f, g = oracle.solve(C, scale * a, scale * b, 1e-2, tau_a=0.1, tau_b=0.1, tol=1e-13 * scale)
    assert result.success
    assert abs(result.plan - oracle.plan(C, f, g, 1e-2)).sum() < 1e-8 * scale


def test_an_outlier_is_left_out():
    C, a, b = example()
    C[3], C[:, 7] = 1e4, 1e4
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=0.1, tau_b=0.1)
    assert result.success
    P = result.plan
    assert P[3].sum() < 1e-12
    assert P[:, 7].sum() < 1e-12
    keep = np.ix_(np.delete(np.arange(25), 3), np.delete(np.arange(35), 7))
    without = ntsolve.solve_ot(C[keep], np.delete(a, 3), np.delete(b, 7), reg=1e-2, tau_a=0.1, tau_b=0.1)
    assert abs(P[keep] - without.plan).sum() < 1e-8
    f, g = result.potentials
    assert f[3] > 1e3
    assert g[7] > 1e3


def test_zero_weights_and_forbidden_pairs_are_no_obstacle():
    C, a, b = example(mass=(1.0, 2.0))
    a[3], b[[1, 4]] = 0, 0
    C[5] = np.inf
    C[5, 6] = 0.3
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=0.5, tau_b=0.5)
    assert result.success
    assert (result.plan[3] == 0).all()
    assert (result.plan[:, [1, 4]] == 0).all()


def test_points_and_gradients():
    rng = np.random.default_rng(0)
    X, Y = rng.random((20, 2)), rng.random((30, 2))
    options = {"reg": 1e-2, "tau_a": 0.2, "tau_b": 0.5, "tol": 1e-13, "on_failure": "ignore"}
    a, b = np.full(20, 1 / 20), np.full(30, 1 / 30)
    result = ntsolve.solve_ot_sample(X, Y, a, b, **options)
    C = ((X[:, None] - Y) ** 2).sum(-1)
    assert abs(result.plan - ntsolve.solve_ot(C, **options).plan).max() < 1e-12
    for of in ("value", "value_linear"):
        for wrt, at in (("X", X), ("Y", Y), ("a", a)):
            direction = rng.standard_normal(at.shape)
            step = 1e-4 * (0.05 if wrt == "a" else 1)
            ends = [
                ntsolve.solve_ot_sample(
                    **{"X": X, "Y": Y, "a": a, "b": b} | {wrt: at + s * step * direction}, **options
                )
                for s in (-2, -1, 1, 2)
            ]
            values = [getattr(end, of) for end in ends]
            want = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
            assert (result.gradient(wrt, of=of) * direction).sum() == pytest.approx(want, rel=1e-5)


def test_verify_is_the_residual():
    C, a, b = example(mass=(1.0, 2.0))
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=0.5, tau_b=0.5, maxiter=1, on_failure="ignore")
    assert not result.success
    assert result.verify(C, a, b) == pytest.approx(result.residual, rel=1e-9)


def test_a_warm_start_saves_steps():
    C, a, b = example()
    options = {"reg": 1e-3, "tau_a": 0.2, "tau_b": 0.2}
    cold = ntsolve.solve_ot(C, a, b, **options)
    warm = ntsolve.solve_ot(C * 1.001, a, b, **options, potentials_init=cold.potentials)
    assert warm.success
    assert warm.nit < 0.7 * cold.nit


def test_what_needs_marginals_is_refused():
    C, a, b = example()
    result = ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=0.5, tau_b=0.5)
    for name in ("lower_bound", "upper_bound", "gap"):
        with pytest.raises(ValueError, match="tau_a"):
            getattr(result, name)
    with pytest.raises(ValueError, match="tau_a"):
        ntsolve.solve_ot(C, a, b, reg=1e-2, tau_a=0.5, method="sns-paper")
