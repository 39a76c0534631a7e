"""Many small problems of one structure in one call."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, NonlinearConstraint

import ntsolve
from ntsolve import Status
from tests.backends import to_device, to_host

from .problems import load_all

PROBLEMS = load_all()
UNSOLVED = {"HATFLDF", "HEART6"}  # one by one they need restoration from the start


def quartic(batch, n=10, m=3, seed=0):
    """Arguments of: min sum x^4/4 - p x + x'Tx / 2 on a sphere, and on m - 1 planes; all but T differ."""
    rng = np.random.default_rng(seed)
    p, A, inside = (rng.standard_normal((batch, *shape)) for shape in ((n,), (m - 1, n), (n,)))
    b, radius2, T = (A @ inside[..., None])[..., 0], (inside**2).sum(-1), 0.5 * (np.eye(n, k=1) + np.eye(n, k=-1))

    def constraint(x):
        return np.concatenate([(x * x).sum(-1, keepdims=True) - radius2[:, None], (A @ x[..., None])[..., 0] - b], -1)

    return {
        "fun": lambda x: (x**4 / 4 - p * x).sum(-1) + 0.5 * (x * (x @ T)).sum(-1),
        "x0": inside + 0.5 * rng.standard_normal((batch, n)),
        "jac": lambda x: x**3 - p + x @ T,
        "hess": lambda x: 3 * x[..., None] ** 2 * np.eye(n) + T,
        "constraints": NonlinearConstraint(
            constraint,
            0,
            0,
            jac=lambda x: np.concatenate([2 * x[..., None, :], A], -2),
            hess=lambda x, v: 2 * v[..., :1, None] * np.eye(n),
        ),
    }


def residual(arguments, x, v):
    """max(|grad L|, |c|) of each problem."""
    c = arguments["constraints"]
    gradient = arguments["jac"](x) + (v[:, None] @ c.jac(x))[:, 0]
    return np.maximum(abs(gradient).max(-1), abs(c.fun(x)).max(-1))


def of_one(problem, starts):
    """A batch of one problem of the collection, from several starts."""
    each = lambda f: lambda x: np.stack([f(xi) for xi in x])
    hess = lambda x, v: np.stack([problem.constraint_hess(xi, vi) for xi, vi in zip(x, v, strict=True)])
    constraint = NonlinearConstraint(each(problem.constraint), 0, 0, jac=each(problem.jac), hess=hess)
    return {"fun": each(problem.fun), "x0": np.array(starts), "jac": each(problem.grad), "hess": each(problem.hess),
            "constraints": constraint}  # fmt: skip


def test_every_problem_of_a_thousand_is_solved():
    arguments = quartic(1000)
    result = ntsolve.minimize(**arguments)
    assert result.success.all()
    assert (result.status == Status.CONVERGED).all()
    assert residual(arguments, result.x, result.v[0]).max() <= 1e-8
    np.testing.assert_allclose(result.fun, arguments["fun"](result.x))
    assert result.history.shape == (result.nit.max() + 1, 1000)
    assert result.trace.shape == (result.nit.max(), 1000)


def test_each_problem_is_solved_as_if_alone():
    """What else is in the batch does not change a bit of it."""
    arguments = quartic(6)
    together = ntsolve.minimize(**arguments)
    reverse = lambda f: lambda x, *v: f(x[::-1], *(w[::-1] for w in v))[::-1]
    c = arguments["constraints"]
    turned = NonlinearConstraint(reverse(c.fun), 0, 0, jac=reverse(c.jac), hess=reverse(c.hess))
    other = ntsolve.minimize(reverse(arguments["fun"]), arguments["x0"][::-1], jac=reverse(arguments["jac"]),
                             hess=reverse(arguments["hess"]), constraints=turned)  # fmt: skip
    np.testing.assert_array_equal(together.x, other.x[::-1])
    np.testing.assert_array_equal(together.nit, other.nit[::-1])


def test_minima_are_those_that_one_by_one_solves_find():
    arguments = quartic(8)
    batch = ntsolve.minimize(**arguments)
    c = arguments["constraints"]
    for i in range(8):

        def row(f, i=i):
            return lambda x, *v: f(np.tile(x, (8, 1)), *(np.tile(w, (8, 1)) for w in v))[i]

        one = {name: row(arguments[name]) for name in ("fun", "jac", "hess")}
        one["constraints"] = NonlinearConstraint(row(c.fun), 0, 0, jac=row(c.jac), hess=row(c.hess))
        alone = ntsolve.minimize(x0=batch.x[i] + 1e-3, **one)
        assert batch.fun[i] == pytest.approx(alone.fun, abs=1e-7)


@pytest.mark.parametrize("name", sorted(set(PROBLEMS) - UNSOLVED - {"HATFLDG", "S395", "ORTHREGA"}))
def test_solves_the_classical_problems(name):
    problem = PROBLEMS[name]
    result = ntsolve.minimize(**of_one(problem, [problem.x0]))
    assert result.success.all()
    assert problem.residual(result.x[0], result.v[0][0]) <= 1e-8


def test_one_problem_that_fails_does_not_stop_the_others():
    """x^2 + y^2 = r has no solution for r < 0; the second problem is unbounded below."""
    radius2, slope = np.array([1.0, 1.0, -1.0, 2.0]), np.array([0.0, 1.0, 0.0, 0.0])
    circle = NonlinearConstraint(lambda x: ((x[:, :2] ** 2).sum(-1) - radius2)[:, None], 0, 0,
                                 jac=lambda x: np.stack([2 * x[:, 0], 2 * x[:, 1], 0 * x[:, 2]], -1)[:, None],
                                 hess=lambda x, v: 2 * v[..., None] * np.diag([1.0, 1.0, 0.0]))  # fmt: skip
    with pytest.warns(ntsolve.ConvergenceWarning, match="2 of 4 problems failed"):
        result = ntsolve.minimize(
            lambda x: x[:, 0] + x[:, 1] + 0.5 * (1 - slope) * x[:, 2] ** 2 - slope * x[:, 2],
            np.array([[2.0, 1.0, 1.0]] * 4),
            jac=lambda x: np.stack([1 + 0 * x[:, 0], 1 + 0 * x[:, 0], (1 - slope) * x[:, 2] - slope], -1),
            hess=lambda x: (1 - slope)[:, None, None] * np.diag([0.0, 0.0, 1.0]),
            constraints=circle,
        )
    np.testing.assert_array_equal(result.success, [True, False, False, True])
    assert result.status[1] in (Status.UNBOUNDED, Status.NO_DESCENT, Status.MAXITER)
    assert result.status[2] == Status.INFEASIBLE_STATIONARY
    np.testing.assert_allclose(result.x[3], [-1, -1, 0], atol=1e-7)


def test_a_maximiser_to_start_from_is_not_a_success():
    sphere = NonlinearConstraint(lambda x: (x * x).sum(-1, keepdims=True), 1, 1, jac=lambda x: 2 * x[:, None],
                                 hess=lambda x, v: 2 * v[..., None] * np.eye(2))  # fmt: skip
    result = ntsolve.minimize(lambda x: x[:, 0], np.array([[1.0, 0.0], [0.6, 0.8]]), constraints=sphere,
                              jac=lambda x: np.tile([1.0, 0.0], (2, 1)), hess=lambda x: np.zeros((2, 2)),
                              on_failure="ignore")  # fmt: skip
    assert result.status[0] == Status.NOT_A_MINIMUM
    np.testing.assert_allclose(result.x[1], [-1, 0], atol=1e-7)


def test_nan_from_a_function_is_said_of_that_problem_alone():
    bad = np.array([False, True])

    def fun(x):
        return np.where(bad, np.nan, (x**2).sum(-1))

    result = ntsolve.minimize(fun, np.ones((2, 3)), jac=lambda x: 2 * x, hess=lambda x: 2 * np.eye(3),
                              on_failure="ignore")  # fmt: skip
    assert list(result.status) == [Status.CONVERGED, Status.NAN_OR_INF]


def test_linear_constraints_and_shared_derivatives():
    """min |x - p|^2 / 2 with A x = b_i: a projection, in closed form."""
    rng = np.random.default_rng(1)
    p, A, b = rng.standard_normal((5, 4)), rng.standard_normal((2, 4)), rng.standard_normal(2)
    result = ntsolve.minimize(lambda x: 0.5 * ((x - p) ** 2).sum(-1), np.zeros((5, 4)), jac=lambda x: x - p,
                              hess=lambda x: np.eye(4), constraints=LinearConstraint(A, b, b))  # fmt: skip
    expected = p - (np.linalg.pinv(A) @ (A @ p.T - b[:, None])).T
    np.testing.assert_allclose(result.x, expected, atol=1e-9)
    assert result.nit.max() == 1


def test_without_constraints():
    p = np.random.default_rng(2).standard_normal((4, 3))
    result = ntsolve.minimize(lambda x: np.cosh(x - p).sum(-1), np.zeros((4, 3)), jac=lambda x: np.sinh(x - p),
                              hess=lambda x: np.cosh(x - p)[..., None] * np.eye(3))  # fmt: skip
    np.testing.assert_allclose(result.x, p, atol=1e-8)
    assert result.v == []


def test_more_leading_axes_and_float32():
    arguments = quartic(6)
    flat = ntsolve.minimize(**arguments)
    fold = lambda f: lambda x, *v: (lambda y: y.reshape(2, 3, *y.shape[1:]))(f(*(w.reshape(6, -1) for w in (x, *v))))
    c = arguments["constraints"]
    folded = {
        "fun": fold(arguments["fun"]),
        "jac": fold(arguments["jac"]),
        "hess": fold(arguments["hess"]),
        "constraints": NonlinearConstraint(fold(c.fun), 0, 0, jac=fold(c.jac), hess=fold(c.hess)),
    }
    x0 = arguments["x0"].reshape(2, 3, 10)
    result = ntsolve.minimize(x0=x0, **folded)
    np.testing.assert_array_equal(result.x.reshape(6, 10), flat.x)
    assert result.status.shape == result.fun.shape == (2, 3)
    assert result.v[0].shape == (2, 3, 3)
    single = ntsolve.minimize(x0=x0.astype("float32"), tol=1e-4, **folded)
    assert single.x.dtype == np.float32
    with pytest.warns(ntsolve.PrecisionWarning):
        tight = ntsolve.minimize(x0=x0.astype("float32"), tol=1e-10, **folded)
    assert (tight.status == Status.STALLED).all()  # the x that is returned, rounded, does not meet it
    assert not tight.success.any()
    assert single.success.all()


def test_differences_stand_in_for_derivatives_with_a_warning():
    arguments = quartic(3)
    c = arguments["constraints"]
    with pytest.warns(ntsolve.PerformanceWarning, match=r"jac, hess, constraints\.jac, constraints\.hess"):
        result = ntsolve.minimize(arguments["fun"], arguments["x0"], constraints=NonlinearConstraint(c.fun, 0, 0),
                                  tol=1e-6)  # fmt: skip
    assert result.success.all()
    assert residual(arguments, result.x, result.v[0]).max() <= 1e-5


def test_inputs_are_left_alone_and_threads_change_no_bit():
    arguments = quartic(400)
    before, answers = arguments["x0"].copy(), []
    for threads in (1, 2):
        with ntsolve.config(threads=threads):
            answers.append(ntsolve.minimize(**arguments).x)
    np.testing.assert_array_equal(arguments["x0"], before)
    np.testing.assert_array_equal(*answers)


def test_on_a_gpu_as_on_the_cpu():
    cupy = pytest.importorskip("cupy")

    def solve(backend, xp):
        p, identity = to_device(np.random.default_rng(0).standard_normal((5, 4)), backend), xp.eye(4)
        sphere = NonlinearConstraint(lambda x: (x * x).sum(axis=-1).reshape(5, 1), 2, 2,
                                     jac=lambda x: 2 * x.reshape(5, 1, 4),
                                     hess=lambda x, v: 2 * v.reshape(5, 1, 1) * identity)  # fmt: skip
        return ntsolve.minimize(lambda x: (x * x * x * x / 4 - p * x).sum(axis=-1), xp.ones((5, 4)),
                                jac=lambda x: x * x * x - p, hess=lambda x: 3 * (x * x)[..., None] * identity,
                                constraints=sphere)  # fmt: skip

    host, device = solve("cpu", np), solve("cuda", cupy)
    assert isinstance(device.x, cupy.ndarray)
    assert device.success.all()
    assert device.backend == "cuda"
    np.testing.assert_allclose(to_host(device.x), host.x, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(device.nit, host.nit)
    one, same = device[3], host[3]
    assert repr(one).splitlines()[2:7] == repr(same).splitlines()[2:7]
    assert [v.shape for v in (one.x, *one.v, *one.jac, one.trace)] == [
        v.shape for v in (same.x, *same.v, *same.jac, same.trace)
    ]
    assert isinstance(one.fun, float)
    np.testing.assert_allclose(one.fun, host.fun[3], rtol=1e-9)


def test_parameters_as_args_are_evaluated_for_open_problems_only():
    """With the same answer as from functions that know their parameters, and far fewer rows evaluated."""
    rng = np.random.default_rng(0)
    p, radius2, rows = rng.standard_normal((300, 4)), rng.uniform(1, 3, 300), []

    def fun(x, p):
        rows.append(len(x))
        return (x**4 / 4 - p * x).sum(-1)

    def sphere(radius2, *args):
        return {
            "type": "eq",
            "fun": lambda x, *a: ((x * x).sum(-1) - (*a, radius2)[0])[:, None],
            "jac": lambda x, *a: 2 * x[:, None],
            "hess": lambda x, v, *a: 2 * v[..., None] * np.eye(4),
            "args": args,
        }

    derivatives = {"jac": lambda x, p: x**3 - p, "hess": lambda x, p: 3 * x[..., None] ** 2 * np.eye(4)}
    cut = ntsolve.minimize(fun, np.ones((300, 4)), args=(p,), constraints=sphere(None, radius2), **derivatives)
    few, rows = sum(rows), []
    bound = {name: lambda x, f=f: f(x, p) for name, f in derivatives.items()}
    all_ = ntsolve.minimize(lambda x: fun(x, p), np.ones((300, 4)), constraints=sphere(radius2), **bound)
    assert cut.success.all()
    assert all_.success.all()
    np.testing.assert_allclose(cut.x, all_.x, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(cut.nit, all_.nit)
    np.testing.assert_array_equal(cut.status, all_.status)
    assert set(rows) <= {300, 150}  # half of them to see that these cannot be cut
    assert few < 0.5 * sum(rows)


def test_functions_that_depend_on_a_rows_place_are_called_for_all():
    """Those that would give something else for some of the rows, without an error."""
    place = np.arange(40.0)

    def fun(x):
        return ((x - np.arange(len(x))[:, None]) ** 2).sum(-1)

    result = ntsolve.minimize(fun, np.zeros((40, 2)), jac=lambda x: 2 * (x - np.arange(len(x))[:, None]),
                              hess=lambda x: 2 * np.eye(2))  # fmt: skip
    np.testing.assert_allclose(result.x, np.stack([place, place], 1), atol=1e-9)


def test_a_function_may_change_the_x_that_it_gets():
    arguments = quartic(5)
    plain = ntsolve.minimize(**arguments)

    def fun(x):
        value = arguments["fun"](x)
        x[:] = np.nan
        return value

    changed = ntsolve.minimize(**{**arguments, "fun": fun})
    np.testing.assert_array_equal(plain.x, changed.x)


def test_maxiter_time_limit_and_callback_stop_it():
    arguments = quartic(5)
    result = ntsolve.minimize(**arguments, maxiter=2, on_failure="ignore")
    assert set(result.status) <= {Status.CONVERGED, Status.MAXITER}
    assert result.nit.max() == 2
    result = ntsolve.minimize(**arguments, time_limit=0, on_failure="ignore")
    assert set(result.status) == {Status.TIME_LIMIT}
    np.testing.assert_array_equal(result.x, arguments["x0"])
    seen = []
    result = ntsolve.minimize(**arguments, callback=lambda state: seen.append(state.x.shape) or state.nit == 3)
    assert seen == [(5, 10)] * 3
    assert set(result.status) <= {Status.CONVERGED, Status.CALLBACK_STOP}


def test_warm_multipliers():
    arguments = quartic(4)
    cold = ntsolve.minimize(**arguments)
    warm = ntsolve.minimize(**{**arguments, "x0": cold.x}, lam0=cold.v[0])
    assert warm.nit.max() == 0
    with pytest.raises(ValueError, match="lam0"):
        ntsolve.minimize(**arguments, lam0=np.zeros(7))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"fun": lambda x: x}, ValueError, "fun returned"),
        ({"jac": lambda x: x[:, :2]}, ValueError, "jac returned"),
        ({"hess": lambda x: x}, ValueError, "hess returned"),
        ({"constraints": LinearConstraint(np.eye(10), 0, 1)}, ValueError, "inequality"),
        ({"constraints": {"type": "ineq", "fun": np.sum}}, ValueError, "inequalities"),
        ({"constraints": {"type": "eq", "fun": lambda x: x.sum()}}, ValueError, r"constraints\.fun"),
        ({"constraints": 3}, TypeError, "constraints"),
        ({"x0": np.full((2, 10), np.nan)}, ValueError, "x0"),
        ({"x0": np.zeros((0, 10))}, ValueError, "x0"),
        ({"x0": np.zeros((1, 200))}, ValueError, "128"),
    ],
)
def test_what_does_not_fit_is_named(change, error, match):
    arguments = {**quartic(2), **change}
    if arguments["x0"].shape != (2, 10):
        arguments |= {"fun": lambda x: x.sum(-1), "jac": None, "hess": None, "constraints": ()}
    with pytest.raises(error, match=match):
        ntsolve.minimize(**arguments)


def test_an_exception_of_the_users_is_passed_on():
    def fun(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ntsolve.minimize(fun, np.zeros((2, 2)), jac=lambda x: x, hess=lambda x: np.eye(2))


SQUARES = {"jac": lambda x: 2 * x, "hess": lambda x: 2 * np.eye(2) + 0 * x[..., None]}


@pytest.mark.parametrize(("option", "kind"), [({"jac": "nonsense"}, ValueError), ({"hess": "cs"}, ValueError),
                                              ({"precond": np.eye(2)}, ValueError)])  # fmt: skip
def test_options_that_make_no_sense_for_a_batch_are_refused(option, kind):
    with pytest.raises(kind, match=next(iter(option))):
        ntsolve.minimize(lambda x: (x * x).sum(-1), np.ones((3, 2)), **SQUARES | option)


def test_a_derivative_of_a_constraint_that_is_no_function_is_refused():
    plane = {"type": "eq", "fun": lambda x: x.sum(-1, keepdims=True) - 1, "jac": np.ones((1, 2))}
    with pytest.raises(TypeError, match="jac must be callable"):
        ntsolve.minimize(lambda x: (x * x).sum(-1), np.ones((3, 2)), **SQUARES, constraints=plane)


def test_a_batch_starts_from_the_multipliers_of_another():
    plane = LinearConstraint([[1.0, 2.0]], 1, 1)
    first = ntsolve.minimize(lambda x: (x * x).sum(-1), np.ones((3, 2)), **SQUARES, constraints=plane)
    again = ntsolve.minimize(lambda x: (x * x).sum(-1), first.x, **SQUARES, constraints=plane, lam0=first.v)
    assert again.success.all()
    assert np.max(again.nit) == 0
    with pytest.raises(TypeError, match="single problems"):
        first.verify(lambda x: (x * x).sum(-1), jac=SQUARES["jac"], constraints=plane)
