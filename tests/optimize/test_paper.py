"""The paper's algorithm, and its inner solvers under either outer iteration."""

import numpy as np
import pytest

import ntsolve
from ntsolve import Status
from ntsolve.optimize.hessians import Hessian
from ntsolve.optimize.paper import Gaussian, Kaczmarz

from .problems import load_all

PROBLEMS = load_all()
EASY = ("HS6", "HS28", "HS40", "HS42", "HS48", "HS51", "HS78", "HS79", "GENHS28")


def solve(name, **options):
    return ntsolve.minimize(**PROBLEMS[name].arguments(), **options)


@pytest.mark.parametrize("inner", ["kaczmarz", "gaussian"])
@pytest.mark.parametrize("method", ["newton", "adasketch"])
@pytest.mark.parametrize("name", ["HS28", "HS40", "HS42", "HS48"])
def test_finds_the_published_solution(name, method, inner):
    problem = PROBLEMS[name]
    result = solve(name, method=method, inner=inner)
    assert result.success
    assert problem.residual(result.x) <= 2e-8
    assert result.fun == pytest.approx(problem.f_star, rel=1e-6, abs=1e-8)
    assert result.inner_iterations > 0  # touches of a row


@pytest.mark.parametrize("name", EASY)
def test_the_papers_method_agrees_with_the_default(name):
    paper, default = solve(name, method="adasketch"), solve(name)
    assert paper.inner == "kaczmarz"
    assert paper.success
    np.testing.assert_allclose(paper.x, default.x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EASY)
def test_every_step_of_the_papers_is_one_of_sufficient_descent(name):
    """And its penalties never return."""
    trace = solve(name, method="adasketch").trace
    assert (trace["descent_margin"] >= 1).all()
    assert (np.diff(trace["eta1"]) >= 0).all()
    assert (np.diff(trace["eta2"]) <= 0).all()
    assert set(trace["accepted_by"]) == {"merit"}


@pytest.mark.parametrize("kind", [Kaczmarz, Gaussian])
@pytest.mark.parametrize("accuracy", [1e-2, 1e-6, 1e-10])
def test_honours_the_accuracy_asked_for(kind, accuracy):
    rng = np.random.default_rng(0)
    n, m = 6, 2
    half = rng.standard_normal((n, n))
    H, J, b = Hessian(n, [(1.0, half @ half.T + np.eye(n))]), rng.standard_normal((m, n)), rng.standard_normal(n + m)
    inner = kind(n, m, rng=rng)
    assert inner.prepare(H, J, 0.25, 0.0)
    d, left = inner.solve(b, accuracy)
    K = np.block([[H.dense() + inner.shift * np.eye(n), J.T], [J, np.zeros((m, m))]])
    found = np.linalg.norm(K @ d - b) / np.linalg.norm(b)
    assert inner.shift == 0.25
    assert found <= accuracy * (1 + 1e-6)
    assert left == pytest.approx(found, rel=1e-3, abs=1e-14)


@pytest.mark.parametrize("inner", ["kaczmarz", "gaussian"])
def test_negative_curvature_raises_the_shift(inner):
    n, m = 3, 1
    H, J = Hessian(n, [(1.0, np.diag([-0.5, 1.0, 1.0]))]), np.array([[0.0, 0.0, 1.0]])
    solver = {"kaczmarz": Kaczmarz, "gaussian": Gaussian}[inner](n, m, rng=np.random.default_rng(0))
    assert solver.prepare(H, J, 0.0, 0.0)
    d, left = solver.solve(np.array([2.0, 1.0, 0.0, 0.0]), 1e-6)
    assert solver.shift > 0.5
    assert left <= 1e-6
    assert d[0] > 0  # as b, which is minus a gradient


def test_the_same_seed_gives_the_same_answer_bitwise():
    first, second, other = (solve("HS40", inner="kaczmarz", rng=seed) for seed in (3, 3, 4))
    assert first.x.tobytes() == second.x.tobytes()
    assert first.inner_iterations == second.inner_iterations
    assert first.x.tobytes() != other.x.tobytes()


def test_touches_far_more_rows_than_the_order_of_the_systems():
    result = solve("HS6", method="adasketch")
    assert result.success
    assert result.inner_iterations > 1000 * result.nit * 3


def test_other_inner_solvers_are_refused_by_name():
    with pytest.raises(ValueError, match="inner"):
        solve("HS6", method="adasketch", inner="ldl")


def test_dependent_constraints_have_their_status():
    twice = {"type": "eq", "fun": lambda x: np.repeat(x.sum() - 1, 2), "jac": lambda x: np.ones((2, 2)),
             "hess": lambda x, v: np.zeros((2, 2))}  # fmt: skip
    with pytest.warns(ntsolve.ConvergenceWarning, match="dependent"):
        result = ntsolve.minimize(lambda x: x @ x, np.array([3.0, 1.0]), jac=lambda x: 2 * x,
                                  hess=lambda x: 2 * np.eye(2), constraints=twice, method="adasketch")  # fmt: skip
    assert result.status == Status.RANK_DEFICIENT


def test_a_hopeless_solve_ends_at_its_time_limit():
    with pytest.warns(ntsolve.ConvergenceWarning, match="time limit"):
        result = solve("BT1", method="adasketch", time_limit=0.3)
    assert result.status == Status.TIME_LIMIT
    assert result.elapsed < 3
