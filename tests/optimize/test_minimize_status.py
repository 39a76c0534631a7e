"""What `minimize` says of problems that have no answer, or of functions that do not behave. It never says success."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint

import ntsolve
from ntsolve import Status

I, O = np.eye(2), np.zeros((2, 2))
INNERS = ("ldl", "splu")


def equality(c, J, H):
    """c(x) = 0 from lists."""
    return {
        "type": "eq",
        "fun": lambda x: np.array(c(x), float),
        "jac": lambda x: np.array(J(x), float),
        "hess": lambda x, v: sum(vi * np.array(h, float) for vi, h in zip(v, H(x), strict=True)),
    }


def solve(fun, jac, hess, x0, constraints=(), **options):
    return ntsolve.minimize(fun, x0, jac=jac, hess=hess, constraints=constraints, **{"on_failure": "ignore"} | options)


DISTANCE = (lambda x: x @ x / 2, lambda x: x, lambda x: I)
FIRST = (lambda x: x[0], lambda x: np.array([1.0, 0]), lambda x: O)
SECOND = (lambda x: x[1], lambda x: np.array([0, 1.0]), lambda x: O)
CIRCLE = equality(lambda x: [x @ x - 1], lambda x: [2 * x], lambda x: [2 * I])
ON_AXIS = LinearConstraint([[1.0, 0.0]], 0, 0)

INFEASIBLE = {
    "no real root": (
        [2.0, 1.0],
        equality(lambda x: [x[0] ** 2 + 1], lambda x: [[2 * x[0], 0]], lambda x: [np.diag([2.0, 0])]),
    ),
    "two lines": ([0.0, 0.5], LinearConstraint([[1, 0], [1, 0]], [1, 2], [1, 2])),
    "circle and line": (
        [0.5, 0.5],
        equality(lambda x: [x @ x - 1, x[0] - 3], lambda x: [2 * x, [1, 0]], lambda x: [2 * I, O]),
    ),
    "three lines": ([3.0, 2.0], LinearConstraint([[1, 0], [0, 1], [1, 1]], [1, 2, 4], [1, 2, 4])),
}  # fmt: skip


@pytest.mark.parametrize("globalization", ["filter", "merit"])
@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize("name", INFEASIBLE)
def test_constraints_that_cannot_be_met(name, inner, globalization):
    """The status says so, and x is where the violation is least."""
    x0, constraints = INFEASIBLE[name]
    result = solve(*DISTANCE, x0, constraints, inner=inner, globalization=globalization)
    assert result.status == Status.INFEASIBLE_STATIONARY
    assert not result.success
    assert result.constr_violation > 0.3
    target = constraints.lb if name.endswith("lines") else 0
    assert np.allclose(result.jac[0].T @ (result.constr[0] - target), 0, atol=1e-6)


UNBOUNDED = {
    "linear": (*SECOND, [1.0, 1.0], ON_AXIS),
    "linear, free": (*FIRST, [1.0, 1.0], ()),
    "concave": (lambda x: -(x @ x), lambda x: -2 * x, lambda x: -2 * I, [1.0, 1.0], ON_AXIS),
    "cubic": (
        lambda x: x[1] ** 3,
        lambda x: np.array([0, 3 * x[1] ** 2]),
        lambda x: np.diag([0, 6 * x[1]]),
        [1, -1],
        ON_AXIS,
    ),
    "exponential": (
        lambda x: -np.exp(x[1]),
        lambda x: np.array([0, -np.exp(x[1])]),
        lambda x: np.diag([0, -np.exp(x[1])]),
        [3.0, 2.0],
        ON_AXIS,
    ),
    "along a hyperbola": (
        *FIRST,
        [2.0, 0.5],
        equality(lambda x: [x[0] * x[1] - 1], lambda x: [[x[1], x[0]]], lambda x: [I[::-1]]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNBOUNDED)
def test_an_objective_that_falls_without_bound(name):
    result = solve(*UNBOUNDED[name])
    assert result.status == Status.UNBOUNDED
    assert not result.success


@pytest.mark.parametrize("inner", INNERS)
def test_constraints_that_are_stated_twice(inner):
    """Solved, and the message says that multipliers are not unique."""
    for objective, x0, constraints, want in [
        (DISTANCE, [3.0, 2.0], LinearConstraint([[1, 0], [1, 0]], 1, 1), [1, 0]),
        (FIRST, [2.0, 1.0], equality(lambda x: [x @ x - 1, 2 * (x @ x) - 2], lambda x: [2 * x, 4 * x],
                                     lambda x: [2 * I, 4 * I]), [-1, 0]),
    ]:  # fmt: skip
        result = solve(*objective, x0, constraints, inner=inner)
        assert result.success
        assert result.residual <= 1e-8
        assert np.allclose(result.x, want, atol=1e-7)
        if inner == "ldl":
            assert result.rank_deficient
            assert "linearly dependent" in result.message


def test_no_progress_beside_dependent_gradients_says_so():
    """x0^2 = 0, stated twice: both gradients vanish at the solution, where there are no multipliers."""
    squares = equality(lambda x: [x[0] ** 2, 2 * x[0] ** 2], lambda x: [[2 * x[0], 0], [4 * x[0], 0]],
                       lambda x: [np.diag([2.0, 0]), np.diag([4.0, 0])])  # fmt: skip
    result = solve(*FIRST, [1e-3, 0.0], squares, inner="splu", globalization="merit", tol=1e-13, maxiter=200)
    assert result.status == Status.RANK_DEFICIENT
    assert result.rank_deficient
    assert not result.success


def test_more_constraints_than_variables():
    consistent = equality(lambda x: [x[0] - 1, x[1] - 2, x[0] * x[1] - 2], lambda x: [[1, 0], [0, 1], [x[1], x[0]]],
                          lambda x: [O, O, I[::-1]])  # fmt: skip
    result = solve(*DISTANCE, [3.0, 2.0], consistent)
    assert result.success
    assert np.allclose(result.x, [1, 2], atol=1e-8)


@pytest.mark.parametrize("inner", [*INNERS, "minres"])
def test_a_start_at_a_maximiser_is_left(inner):
    """First-order conditions hold there, exactly."""
    result = solve(*FIRST, [1.0, 0.0], CIRCLE, inner=inner)
    assert result.success
    assert np.allclose(result.x, [-1, 0], atol=1e-8)
    for x0 in ([0.0, 0.0], [1e-12, -1e-12]):
        result = solve(
            lambda x: (x @ x - 1) ** 2,
            lambda x: 4 * (x @ x - 1) * x,
            lambda x: 4 * (x @ x - 1) * I + 8 * np.outer(x, x),
            x0,
            inner=inner,
        )
        assert result.success
        assert result.fun < 1e-10


def test_a_start_at_a_maximiser_is_no_success_even_without_an_iteration():
    result = solve(*FIRST, [1.0, 0.0], CIRCLE, maxiter=0)
    assert not result.success
    assert result.residual == 0


@pytest.mark.parametrize("inner", [*INNERS, "minres"])
@pytest.mark.parametrize("globalization", ["filter", "merit"])
def test_a_start_where_the_jacobian_vanishes(inner, globalization):
    """The origin, for a constraint |x| = 1: the violation is at its largest there, and stationary."""
    objective = (np.sum, np.ones_like, lambda x: O)
    result = solve(*objective, [0.0, 0.0], CIRCLE, inner=inner, globalization=globalization)
    assert result.success
    assert np.allclose(result.x, -np.sqrt(0.5), atol=1e-8)


@pytest.mark.parametrize(
    ("where", "when"),
    [("fun", "always"), ("jac", "always"), ("hess", "always"), ("constraint", "always")]
    + [("fun", "later"), ("jac", "later"), ("constraint", "later")],
)
@pytest.mark.parametrize("inner", INNERS)
def test_a_nan_is_never_a_success(where, when, inner):
    """`later`: beyond where the solution would be, so that no iterate can come near it."""

    def poison(name, function):
        if name != where:
            return function
        bad = lambda x: when == "always" or abs(x[1]) < 1
        return lambda x, *v: function(x, *v) * (np.nan if bad(x) else 1)

    fun = poison("fun", lambda x: x @ x)
    jac, hess = poison("jac", lambda x: 2 * x), poison("hess", lambda x: 2 * I)
    con = poison("constraint", lambda x: np.array([x[0] - 1]))
    constraints = {"type": "eq", "fun": con, "jac": lambda x: I[:1], "hess": lambda x, v: O}
    result = solve(fun, jac, hess, [3.0, 2.0], constraints, inner=inner, maxiter=200)
    assert not result.success
    if when == "always":
        assert result.status == Status.NAN_OR_INF


def test_a_nan_on_the_way_is_stepped_around():
    result = solve(
        lambda x: x @ x - np.log(x[0]),
        lambda x: 2 * x - np.array([1 / x[0], 0]),
        lambda x: 2 * I + np.diag([x[0] ** -2.0, 0]),
        [9.0, 2.0],
        LinearConstraint([[0, 1]], 0, 0),
    )
    assert result.success
    assert np.allclose(result.x, [np.sqrt(0.5), 0])


@pytest.mark.parametrize("where", ["fun", "jac", "hess", "c", "c'", "c''"])
@pytest.mark.parametrize("call", [1, 3])
def test_an_error_in_the_users_function_reaches_the_user(where, call):
    class Mine(Exception):
        pass

    calls, error = [], Mine("as it is")

    def guard(name, function):
        def guarded(x, *v):
            calls.append(name)
            if name == where and calls.count(name) >= call:
                raise error
            return function(x, *v)

        return guarded

    rosenbrock = lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    slope = lambda x: np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])
    bend = lambda x: np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])
    constraints = {name: guard(label, CIRCLE[name]) for name, label in [("fun", "c"), ("jac", "c'"), ("hess", "c''")]}
    constraints["type"] = "eq"
    with pytest.raises(Mine) as caught:
        solve(guard("fun", rosenbrock), guard("jac", slope), guard("hess", bend), [-1.2, 1.0], constraints)
    assert caught.value is error


KINKS = {
    "|x|": (
        lambda x: abs(x[0]) + x[1] ** 2,
        lambda x: np.array([np.sign(x[0]), 2 * x[1]]),
        lambda x: np.diag([0, 2.0]),
    ),
    "|x| + x^2": (
        lambda x: abs(x[0] - 0.3) + x @ x,
        lambda x: np.array([np.sign(x[0] - 0.3), 0]) + 2 * x,
        lambda x: 2 * I,
    ),
    "root": (
        lambda x: np.sqrt(abs(x[0])) + x[1] ** 2,
        lambda x: np.array([0.5 * np.sign(x[0]) / np.sqrt(abs(x[0])), 2 * x[1]]),
        lambda x: np.diag([-0.25 * abs(x[0]) ** -1.5, 2]),
    ),
    "wrong sign": (lambda x: x @ x, lambda x: -2 * x, lambda x: 2 * I),
}  # fmt: skip


@pytest.mark.parametrize("globalization", ["filter", "merit"])
@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize("name", KINKS)
def test_a_kink_or_a_wrong_derivative_is_no_success(name, inner, globalization):
    result = solve(*KINKS[name], [3.3, 2.0], LinearConstraint([[0, 1]], 1, 1), inner=inner, globalization=globalization)
    assert result.status == Status.NO_DESCENT
    assert result.nit < 200


def test_a_wrong_jacobian_is_no_success():
    wrong = equality(lambda x: [x @ x - 1], lambda x: [-2 * x], lambda x: [2 * I])
    assert solve(*DISTANCE, [3.3, 2.0], wrong).status == Status.NO_DESCENT


def test_a_constant_is_solved_where_it_stands():
    result = solve(lambda x: 1.0, np.zeros_like, lambda x: O, [3.0, 2.0])
    assert result.success
    assert result.nit == 0
