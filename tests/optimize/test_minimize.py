"""Does `minimize` solve the classical problems, in few iterations, quickly at the end, whatever solves its systems?"""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint

import ntsolve
from ntsolve import Status

from .problems import load_all

PROBLEMS = load_all()
TOL = 1e-8


def known(problem, f):
    """Whether f is one of the values that local minima of the problem are known to have."""
    return any(abs(f - value) <= 1e-5 * max(1.0, abs(value)) for value in (problem.f_star, *problem.also))


@pytest.mark.parametrize(
    ("name", "globalization"),
    [
        pytest.param(name, way, marks=[pytest.mark.slow] * ((name, way) == ("ORTHREGA", "merit")))
        for name in PROBLEMS
        for way in ("filter", "merit")
    ],
)
def test_every_problem_is_solved(name, globalization):
    problem = PROBLEMS[name]
    result = ntsolve.minimize(**problem.arguments(), tol=TOL, globalization=globalization)
    assert result.status == Status.CONVERGED
    assert result.success
    assert problem.residual(result.x, result.v[0] if problem.m else None) <= 2 * TOL
    assert known(problem, result.fun)


def test_few_iterations_are_needed():
    counts = {name: ntsolve.minimize(**problem.arguments()).nit for name, problem in PROBLEMS.items()}
    assert sum(counts.values()) <= 11 * len(counts)
    assert np.median(list(counts.values())) <= 10


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.n <= 12])
def test_dense_and_sparse_factorisations_lead_to_the_same_point(name):
    problem = PROBLEMS[name]
    dense = ntsolve.minimize(**problem.arguments(), inner="ldl")
    sparse = ntsolve.minimize(**problem.arguments(), inner="splu")
    assert sparse.success
    assert abs(sparse.fun - dense.fun) <= 1e-6 * max(1.0, abs(dense.fun))


@pytest.mark.parametrize("name", ["HS6", "HS7", "HS27", "HS39", "HS40", "HS77", "HS79", "BT1", "BT8", "BT11"])
def test_minres_leads_to_the_same_point(name):
    problem = PROBLEMS[name]
    dense = ntsolve.minimize(**problem.arguments(), inner="ldl")
    iterative = ntsolve.minimize(**problem.arguments(), inner="minres")
    assert iterative.success
    assert iterative.inner_iterations > 0
    assert abs(iterative.fun - dense.fun) <= 1e-6 * max(1.0, abs(dense.fun))


@pytest.mark.parametrize("inner", ["ldl", "splu", "minres"])
@pytest.mark.parametrize("name", ["HS77", "HS79", "HS100LNP", "BT11"])
def test_convergence_is_superlinear(name, inner):
    """The ratio of successive residuals falls towards zero, with inexact solves too: their forcing term does."""
    problem = PROBLEMS[name]
    residuals = ntsolve.minimize(**problem.arguments(), tol=1e-10, inner=inner).history
    ratios = residuals[1:] / residuals[:-1]
    assert ratios[-1] < 1e-2
    assert residuals[-1] <= 100 * residuals[-2] ** 1.4


@pytest.mark.parametrize("inner", ["ldl", "minres"])
def test_unit_steps_are_taken_near_the_solution(inner):
    result = ntsolve.minimize(**PROBLEMS["HS77"].arguments(), inner=inner)
    assert (result.trace["step"][-3:] == 1).all()


def test_the_maratos_effect_does_not_hold_the_iteration_up():
    """min 2 (|x|^2 - 1) - x1 on the unit circle: full steps raise both f and the violation, however near."""
    for angle in (1.0, 0.1, 0.01):
        result = ntsolve.minimize(
            lambda x: 2 * (x @ x - 1) - x[0],
            [np.cos(angle), np.sin(angle)],
            jac=lambda x: 4 * x - np.eye(2)[0],
            hess=lambda x: 4 * np.eye(2),
            constraints={
                "type": "eq",
                "fun": lambda x: x @ x - 1,
                "jac": lambda x: 2 * x,
                "hess": lambda x, v: 2 * v[0] * np.eye(2),
            },
        )
        assert result.success
        assert result.nit <= 8
        assert np.allclose(result.x, [1, 0], atol=1e-8)


def test_the_trace_tells_of_every_iteration():
    result = ntsolve.minimize(**PROBLEMS["HS77"].arguments())
    assert len(result.trace) == result.nit == len(result.history) - 1
    moved = result.trace[result.trace["step"] > 0]
    assert (moved["relative_residual"] <= 0.1).all()
    assert set(moved["accepted_by"]) <= {"objective", "filter", "merit", "restoration", "curvature"}
    assert (moved["eta1"] >= 1).all()
    assert (moved["eta2"] <= 0.1).all()


@pytest.mark.parametrize("name", ["HS77", "HS79", "BT11"])
def test_directions_descend_for_the_merit_function_and_its_penalties_never_return(name):
    trace = ntsolve.minimize(**PROBLEMS[name].arguments(), globalization="merit").trace
    assert (trace["descent_margin"] >= 1).all()
    assert (np.diff(trace["eta1"]) >= 0).all()
    assert (np.diff(trace["eta2"]) <= 0).all()


def test_a_random_quadratic_programme_takes_one_step():
    rng = np.random.default_rng(0)
    for n, m in [(1, 1), (3, 1), (20, 7), (40, 39)]:
        half, A, g = rng.standard_normal((n, n)), rng.standard_normal((m, n)), rng.standard_normal(n)
        Q, b = half @ half.T + np.eye(n), rng.standard_normal(m)
        want = np.linalg.solve(np.block([[Q, A.T], [A, np.zeros((m, m))]]), np.concatenate([-g, b]))
        result = ntsolve.minimize(lambda x, Q=Q, g=g: x @ Q @ x / 2 + g @ x, rng.standard_normal(n), tol=1e-7,
                                  jac=lambda x, Q=Q, g=g: Q @ x + g, hess=lambda x, Q=Q: Q,
                                  constraints=LinearConstraint(A, b, b))  # fmt: skip
        assert result.nit <= 2
        assert np.allclose(result.x, want[:n], rtol=1e-6, atol=1e-6)
        assert np.allclose(result.v[0], want[n:], rtol=1e-4, atol=1e-5)
