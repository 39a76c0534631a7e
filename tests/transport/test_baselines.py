"""Plain Sinkhorn and the published Sinkhorn-Newton-Sparse: the steps are the papers', the answer the dual's maximum."""

import importlib

import numpy as np
import pytest
import scipy.optimize
from scipy.special import logsumexp

from ntsolve.monitor import Monitor
from ntsolve.result import Status
from ntsolve.transport import paper, sinkhorn
from tests.backends import BACKENDS, to_device, to_host


def kernels(backend):
    return importlib.import_module(f"ntsolve.kernels.{backend}")


def problem(n=12, m=17, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.random(n) + 0.1, rng.random(m) + 0.1
    return rng.random((n, m)), a / a.sum(), b / b.sum()


def marginal_error(C, a, b, reg, f, g):
    P = np.exp((f[:, None] + g - C) / reg)
    return abs(P.sum(1) - a).sum() + abs(P.sum(0) - b).sum()


def run(method, C, a, b, reg, tol, *, maxiter=10_000, backend="cpu", **options):
    C, a, b = (to_device(array, backend) for array in (C, a, b))
    with Monitor("test", maxiter=maxiter, start=[1.0], target=[tol]) as watch:
        f, g, error, counts = method.solve(kernels(backend), C, a, b, reg, tol, watch, **options)
    return to_host(f), to_host(g), error, counts, watch


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", [sinkhorn, paper])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_marginals_are_met_and_the_error_is_true(method, dtype, backend):
    C, a, b = problem()
    f, g, error, counts, watch = run(method, C.astype(dtype), a, b, 0.02, 1e-9, backend=backend)
    assert error <= 1e-9
    assert marginal_error(C.astype(dtype).astype(float), a, b, 0.02, f, g) == pytest.approx(error, abs=1e-13)
    assert watch.status is None
    assert len(watch.history) - 1 == counts["scalings"] + counts.get("newton", 0)


def test_a_sinkhorn_step_is_two_log_sum_exps():
    C, a, b = problem()
    reg, f = 0.05, np.zeros(a.size)
    for _ in range(7):
        g = reg * np.log(b) - reg * logsumexp((f[:, None] - C) / reg, axis=0)
        f = reg * np.log(a) - reg * logsumexp((g - C) / reg, axis=1)
    got_f, got_g, error, counts, watch = run(sinkhorn, C, a, b, reg, 0.0, maxiter=7)
    np.testing.assert_allclose(got_f, f, atol=1e-13)
    np.testing.assert_allclose(got_g, g, atol=1e-13)
    assert counts == {"passes": 15, "scalings": 7}
    assert watch.status == Status.MAXITER
    assert error == pytest.approx(marginal_error(C, a, b, reg, f, g), rel=1e-9)


@pytest.mark.parametrize("tau", [(0.3, 0.7), (np.inf, 0.2), (0.5, np.inf)])
def test_unbalanced_sinkhorn_maximises_the_dual(tau):
    C, a, b = problem()
    b, reg = 1.5 * b, 0.05
    f, g, error, *_ = run(sinkhorn, C, a, b, reg, 1e-12, tau=tau)
    assert error <= 1e-12

    def paid(weights, potential, price):
        return weights @ potential if np.isinf(price) else -price * weights @ np.expm1(-potential / price)

    def dual(z):
        f, g = z[: a.size], z[a.size :]
        return -paid(a, f, tau[0]) - paid(b, g, tau[1]) + reg * np.exp((f[:, None] + g - C) / reg).sum()

    best = scipy.optimize.minimize(dual, np.concatenate([f, g]) + 0.01, method="BFGS", options={"gtol": 1e-9})
    assert dual(np.concatenate([f, g])) <= best.fun + 1e-12


@pytest.mark.parametrize("method", [sinkhorn, paper])
def test_a_warm_start_from_the_solution_is_the_solution(method):
    C, a, b = problem()
    f, g, *_ = run(method, C, a, b, 0.02, 1e-11)
    for start in ({"f": f, "g": g}, {"f": f}, {"g": g}):
        again = run(method, C, a, b, 0.02, 1e-9, **start)
        assert again[3]["scalings"] <= 1
        assert marginal_error(C, a, b, 0.02, *again[:2]) <= 1e-9


@pytest.mark.parametrize("reg", [1e-3, 1e-6])
def test_nothing_overflows_however_sharp(reg):
    C, a, b = problem()
    f, g, error, *_ = run(sinkhorn, 1000 + C, a, b, reg, 1e-9, maxiter=50)
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    assert error < 2
    np.testing.assert_allclose(np.exp((f[:, None] + g - 1000 - C) / reg).sum(1), a, rtol=1e-5)


def test_the_sparsified_hessian_is_the_hessian_where_nothing_is_dropped():
    rng = np.random.default_rng(0)
    P = rng.random((2, 5))
    matvec = paper._sparsified(kernels("cpu"), P, P.sum(1), P.sum(0))  # 2 max(n, m) entries are all of them
    H = np.block([[np.diag(P.sum(1)), P], [P.T, np.diag(P.sum(0))]])
    v = rng.standard_normal(7)
    np.testing.assert_allclose(matvec(v), H @ v, rtol=1e-14)


def test_sparsifying_keeps_the_largest_entries_and_the_whole_diagonal():
    rng = np.random.default_rng(1)
    P = rng.random((9, 6))
    matvec = paper._sparsified(kernels("cpu"), P, P.sum(1), P.sum(0))
    H = np.stack([matvec(unit) for unit in np.eye(15)])
    least = np.sort(P, axis=None)[-18]
    largest = np.where(least <= P, P, 0)
    np.testing.assert_array_equal(H, np.block([[np.diag(P.sum(1)), largest], [largest.T, np.diag(P.sum(0))]]))
    assert np.linalg.eigvalsh(H).min() > 0


def test_newton_steps_finish_what_scaling_steps_began():
    rng = np.random.default_rng(2)
    C, a = rng.random((60, 60)), np.full(60, 1 / 60)
    *_, slow, _ = run(sinkhorn, C, a, a, 5e-3, 1e-9, maxiter=1000)
    *_, counts, watch = run(paper, C, a, a, 5e-3, 1e-9)
    assert counts["scalings"] == paper.SCALINGS
    assert 1 <= counts["newton"] < 100
    assert slow["scalings"] == 1000  # not there yet
    assert watch.history[-1] <= 1e-9
