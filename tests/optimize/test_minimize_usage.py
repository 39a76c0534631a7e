"""The forms in which `minimize` takes functions and constraints, what it refuses, and what its result holds."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import BFGS, Bounds, LinearConstraint, NonlinearConstraint
from scipy.optimize import minimize as scipy_minimize
from scipy.sparse.linalg import aslinearoperator

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device

N = 6
WEIGHTS = np.arange(1.0, N + 1)


def fun(x):
    return np.sum(WEIGHTS * (x - 1) ** 4) + x @ x


def jac(x):
    return 4 * WEIGHTS * (x - 1) ** 3 + 2 * x


def hess(x):
    return np.diag(12 * WEIGHTS * (x - 1) ** 2 + 2)


def sphere(x):
    return np.array([x @ x - 4])


def sphere_jac(x):
    return 2 * x[None]


def sphere_hess(x, v):
    return 2 * v[0] * np.eye(N)


SPHERE = NonlinearConstraint(sphere, 0, 0, jac=sphere_jac, hess=sphere_hess)
PLANE = LinearConstraint(np.ones((1, N)), 3, 3)
START = np.linspace(0.2, 1.0, N)
EXACT = {"jac": jac, "hess": hess, "constraints": [SPHERE, PLANE]}


def solve(**changes):
    return ntsolve.minimize(fun, START, **EXACT | changes)


WANT = solve()


def same(result, atol=1e-7):
    assert result.success
    assert np.allclose(result.x, WANT.x, atol=atol)
    assert np.allclose(np.concatenate(result.v), np.concatenate(WANT.v), atol=100 * atol)


def test_it_agrees_with_scipy():
    reference = scipy_minimize(fun, START, jac=jac, hess=hess, method="trust-constr", constraints=[SPHERE, PLANE],
                               options={"gtol": 1e-10, "xtol": 1e-14})  # fmt: skip
    assert np.allclose(WANT.x, reference.x, atol=1e-6)
    assert np.allclose(np.concatenate(WANT.v), np.concatenate(reference.v), atol=1e-4)


def test_the_result_has_the_names_of_trust_constr():
    x = WANT.x
    assert WANT.fun == fun(x)
    assert np.allclose(WANT.grad, jac(x), atol=1e-12)
    assert np.allclose(WANT.constr[0], sphere(x))
    assert np.allclose(WANT.constr[1], x.sum())
    assert np.allclose(WANT.jac[0], sphere_jac(x))
    gradient = jac(x) + WANT.v[0] @ sphere_jac(x) + WANT.v[1] @ np.ones((1, N))
    assert np.allclose(WANT.lagrangian_grad, gradient, atol=1e-12)
    assert np.isclose(WANT.optimality, abs(gradient).max(), atol=1e-12)
    assert np.isclose(WANT.constr_violation, max(abs(sphere(x)[0]), abs(x.sum() - 3)), atol=1e-15)
    assert WANT.residual == max(WANT.optimality, WANT.constr_violation)
    assert min(WANT.nfev, WANT.njev, WANT.nhev) >= WANT.nit
    assert len(WANT.constr_nfev) == len(WANT.constr_njev) == len(WANT.constr_nhev) == 2
    assert len(repr(WANT)) < 2000


def test_the_result_is_verified_against_a_problem():
    assert np.isclose(WANT.verify(fun, jac=jac, constraints=[SPHERE, PLANE]), WANT.residual, atol=1e-15)
    assert WANT.verify(lambda x: fun(x) + x[0], jac=lambda x: jac(x) + np.eye(N)[0], constraints=[SPHERE, PLANE]) > 0.1
    with pytest.raises(ValueError, match="multipliers"):
        WANT.verify(fun, jac=jac, constraints=SPHERE)


@pytest.mark.parametrize("inner", ["ldl", "splu", "minres"])
@pytest.mark.parametrize("form", ["dense", "sparse", "operator"])
def test_every_form_of_jacobian(form, inner):
    wrap = {"dense": np.asarray, "sparse": sp.csr_array, "operator": aslinearoperator}[form]
    flat = lambda x, v: np.zeros((N, N))
    constraints = [
        NonlinearConstraint(sphere, 0, 0, jac=lambda x: wrap(sphere_jac(x)), hess=sphere_hess),
        NonlinearConstraint(lambda x: x.sum(), 3, 3, jac=lambda x: wrap(np.ones((1, N))), hess=flat),
    ]
    if (form, inner) == ("operator", "splu"):
        with pytest.raises(TypeError, match="splu"):
            solve(constraints=constraints, inner=inner)
    else:
        same(solve(constraints=constraints, inner=inner))


@pytest.mark.parametrize("inner", ["ldl", "splu", "minres"])
@pytest.mark.parametrize("form", ["sparse", "operator", "factored"])
def test_every_form_of_hessian(form, inner):
    wrap = {
        "sparse": sp.csr_array,
        "operator": aslinearoperator,
        "factored": lambda H: ntsolve.FactoredHessian(np.eye(N), np.diag(H) - 2, 2.0),
    }[form]
    if (form, inner) == ("operator", "splu"):
        with pytest.raises(TypeError, match="splu"):
            solve(hess=lambda x: wrap(hess(x)), inner=inner)
    else:
        same(solve(hess=lambda x: wrap(hess(x)), inner=inner))


@pytest.mark.parametrize("inner", ["ldl", "minres"])
def test_products_with_the_hessian_of_the_lagrangian_are_enough(inner):
    product = lambda x, v, p: hess(x) @ p + 2 * v[0] * p
    same(solve(hess=None, hessp=product, inner=inner))


def test_dicts_and_single_constraints():
    first = {"type": "eq", "fun": sphere, "jac": sphere_jac, "hess": sphere_hess}
    second = {"type": "eq", "fun": lambda x, s: x.sum() - s, "jac": lambda x, s: np.ones(N), "args": (3,),
              "hess": lambda x, v, s: np.zeros((N, N))}  # fmt: skip
    same(solve(constraints=[first, second]))
    assert np.allclose(solve(constraints=PLANE).x, solve(constraints=[second]).x, atol=1e-7)
    both = NonlinearConstraint(lambda x: [x @ x, x.sum()], [4, 3], [4, 3], jac=lambda x: np.stack([2 * x, np.ones(N)]),
                               hess=sphere_hess)  # fmt: skip
    same(solve(constraints=both))


def test_arguments_and_a_gradient_that_comes_with_the_value():
    both = lambda x, s: (s * fun(x), s * jac(x))
    curved = lambda x, s: s * hess(x)
    same(ntsolve.minimize(both, START, jac=True, hess=curved, args=(1.0,), constraints=[SPHERE, PLANE]))
    scalar = ntsolve.minimize(lambda x, s: s * fun(x), START, jac=lambda x, s: s * jac(x), args=1.0,
                              hess=curved, constraints=[SPHERE, PLANE])  # fmt: skip
    same(scalar)


@pytest.mark.parametrize("missing", ["jac", "hess", "both", "constraints"])
def test_missing_derivatives_come_from_differences_with_a_warning(missing):
    changes = {
        "jac": {"jac": None},
        "hess": {"hess": None},
        "both": {"jac": None, "hess": None},
        "constraints": {"constraints": [NonlinearConstraint(sphere, 0, 0), PLANE]},  # whose hess is BFGS()
    }[missing]
    name = {"both": "jac, hess", "constraints": r"constraints\[0\].jac"}.get(missing, missing)
    with pytest.warns(ntsolve.PerformanceWarning, match=f"minimize: .*{name}") as record:
        result = solve(**changes)
    assert record[0].filename == __file__
    same(result, atol=1e-6)
    assert result.residual <= 1e-8


def test_differences_that_are_asked_for_come_without_a_warning():
    own = NonlinearConstraint(sphere, 0, 0, jac="cs", hess=sphere_hess)
    same(solve(jac="cs", hess="cs", constraints=[own, PLANE]), atol=1e-6)
    same(solve(jac="3-point", hess="3-point"), atol=1e-6)


def test_a_complex_step_is_exact_to_rounding():
    result = solve(jac="cs")
    assert abs(result.grad - jac(result.x)).max() < 1e-13


def test_a_warm_start_takes_fewer_iterations():
    near = WANT.x + 1e-5
    warm = ntsolve.minimize(fun, near, **EXACT, lam0=WANT.v)
    flat = ntsolve.minimize(fun, near, **EXACT, lam0=np.concatenate(WANT.v))
    assert warm.nit == flat.nit < WANT.nit
    same(warm)


def test_without_constraints_it_is_newtons_method():
    result = ntsolve.minimize(fun, START, jac=jac, hess=hess)
    reference = scipy_minimize(fun, START, jac=jac, hess=hess, method="trust-exact", options={"gtol": 1e-10})
    assert np.allclose(result.x, reference.x, atol=1e-8)
    assert list(result.v) == []


def test_scaling_the_functions_scales_the_multipliers():
    """Where the functions are steep they are scaled inside; what comes out is not."""
    steep = [{"type": "eq", "fun": lambda x: 1e6 * sphere(x), "jac": lambda x: 1e6 * sphere_jac(x),
              "hess": lambda x, v: 1e6 * sphere_hess(x, v)}, PLANE]  # fmt: skip
    result = solve(constraints=steep, tol=1e-6)
    assert result.success
    assert np.allclose(result.v[0] * 1e6, WANT.v[0], atol=1e-5)
    assert result.constr_violation <= 1e-6


def test_float32_in_float32_out():
    result = ntsolve.minimize(fun, START.astype("float32"), **EXACT, tol=1e-4)
    assert result.x.dtype == np.float32
    assert result.success
    with pytest.warns(ntsolve.PrecisionWarning):
        tight = ntsolve.minimize(fun, START.astype("float32"), **EXACT, tol=1e-12)
    assert tight.status == Status.STALLED


def test_the_residual_is_that_of_the_x_returned():
    """For a function that answers differently each time, success is what the last look at it says."""
    calls = []

    def drifting(x):
        calls.append(1)
        return jac(x) + 1e-3 * (len(calls) > WANT.njev - 1)

    result = solve(jac=drifting, on_failure="ignore")
    assert not (result.success and result.residual > 1e-8)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"bounds": [(0, 1)] * N}, ValueError, "bounds"),
        ({"constraints": Bounds(0, 1)}, ValueError, "Bounds"),
        ({"constraints": NonlinearConstraint(sphere, 0, 1)}, ValueError, "constraints is an inequality"),
        ({"constraints": [PLANE, LinearConstraint(np.ones((1, N)), -np.inf, 1)]}, ValueError, r"constraints\[1\]"),
        ({"constraints": {"type": "ineq", "fun": sphere}}, ValueError, "ineq"),
        ({"constraints": {"type": "eq"}}, TypeError, "no fun"),
        ({"constraints": {"type": "eq", "fun": sphere, "hes": 1}}, ValueError, "hes"),
        ({"constraints": LinearConstraint(np.ones((1, N + 1)), 0, 0)}, ValueError, "x0 has 6"),
        ({"constraints": LinearConstraint(np.full((1, N), np.nan), 0, 0)}, ValueError, "constraints.A"),
        ({"constraints": 7}, TypeError, "constraints"),
        ({"constraints": [7]}, TypeError, r"constraints\[0\]"),
        ({"jac": 7}, TypeError, "jac"),
        ({"jac": lambda x: np.ones(N + 1)}, ValueError, "jac returned"),
        ({"jac": lambda x: 1j * x}, TypeError, "jac returned"),
        ({"hess": lambda x: np.ones((2, 2))}, ValueError, "hess returned"),
        ({"hess": 7}, TypeError, "hess"),
        ({"hess": lambda x: None}, TypeError, "hess returned None"),
        ({"hessp": 7, "hess": None}, TypeError, "hessp"),
        ({"inner": "lu"}, ValueError, "inner"),
        ({"method": "SLSQP"}, ValueError, "method"),
        ({"globalization": "trust"}, ValueError, "globalization"),
        ({"lam0": np.ones(3)}, ValueError, "lam0 has 3"),
        ({"lam0": [np.nan, 1.0]}, ValueError, "lam0"),
        ({"tol": -1.0}, ValueError, "tol"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, error, match):
    with pytest.raises(error, match=match):
        solve(**changes)


def test_a_value_that_is_no_number_is_refused():
    for bad in (lambda x: x, lambda x: 1j, lambda x: None, lambda x: "text"):
        with pytest.raises(TypeError, match="fun returned"):
            ntsolve.minimize(bad, START, **EXACT)


def test_quasi_newton_objects_are_replaced_by_differences():
    with pytest.warns(ntsolve.PerformanceWarning, match="hess"):
        same(solve(hess=BFGS()), atol=1e-6)


def test_the_users_arrays_may_be_reused_by_his_functions():
    """A gradient written into the same array at each call, and an x that the function scribbles on."""
    held = np.empty(N)

    def reused(x):
        held[:] = jac(x)
        x[:] = np.nan
        return held

    same(solve(jac=reused))


def test_a_large_sparse_problem_is_factorised_as_one():
    n = 3000
    A = sp.diags_array([np.ones(n - 1), -np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n), format="csr")[::2]
    result = ntsolve.minimize(
        lambda x: np.sum(x**4) / 4 + np.sum(x**2) / 2 - x.sum(),
        np.linspace(0, 2, n),
        jac=lambda x: x**3 + x - 1,
        hess=lambda x: sp.diags_array(3 * x**2 + 1),
        constraints=LinearConstraint(A, 0, 0),
    )
    assert result.inner == "splu"
    assert result.success
    assert np.allclose(result.x**3 + result.x, 1, atol=1e-7)


def test_auto_chooses_by_size_and_form():
    """No evaluation is needed to see it: one iteration of problems that are linear but for their Hessian's form."""

    def chosen(n, hess, A):
        target = np.zeros(A.shape[0])
        return ntsolve.minimize(lambda x: x @ x / 2, np.ones(n), jac=lambda x: x, hess=hess,
                                constraints=LinearConstraint(A, target, target)).inner  # fmt: skip

    assert chosen(50, lambda x: sp.eye_array(50), sp.eye_array(2, 50, format="csr")) == "ldl"
    assert chosen(600, lambda x: sp.eye_array(600), sp.eye_array(2, 600, format="csr")) == "splu"
    assert chosen(600, lambda x: np.eye(600), sp.eye_array(2, 600, format="csr")) == "ldl"
    assert chosen(100, lambda x: aslinearoperator(np.eye(100)), np.eye(2, 100)) == "ldl"
    assert chosen(600, lambda x: aslinearoperator(sp.eye_array(600)), np.eye(2, 600)) == "minres"
    thin = ntsolve.FactoredHessian(np.eye(600), np.ones(600))
    assert chosen(600, lambda x: thin, np.eye(2, 600)) == "ldl"


@pytest.mark.skipif("cuda" not in BACKENDS, reason="no GPU backend, not even an emulated one")
def test_a_single_problem_on_a_gpu_is_refused_not_copied():
    with pytest.raises(TypeError, match="x0 lives on a GPU"):
        ntsolve.minimize(fun, to_device(START, "cuda"), **EXACT)


@pytest.mark.parametrize(
    "option", [{"inner": "minres"}, {"globalization": "merit"}, {"method": "adasketch"}, {"hessp": lambda x, v, p: p}]
)
def test_what_a_batch_cannot_choose_is_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        ntsolve.minimize(lambda x: (x * x).sum(-1), np.ones((3, 2)), jac=lambda x: 2 * x,
                         hess=lambda x: 2 * np.eye(2) + 0 * x[..., None], **option)  # fmt: skip


BOWL = {"jac": lambda x: 2 * x, "hess": lambda x: 2 * np.eye(x.size)}


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"inner": "ldl", "precond": np.eye(2)}, "precond"),
        ({"precond": "rows"}, "precond"),
        ({"inner": "ldl", "state_solve": lambda x: None}, "state_solve"),
    ],
)
def test_an_option_that_the_inner_solver_would_ignore_is_refused(option, word):
    with pytest.raises(ValueError, match=word):
        ntsolve.minimize(lambda x: x @ x, np.ones(2), **BOWL, **option)


def test_the_complex_step_needs_complex_answers():
    with pytest.raises(TypeError, match='"cs" needs functions that return complex numbers'):
        ntsolve.minimize(lambda x: float(abs(x) @ abs(x)), np.ones(2), jac="cs", hess=BOWL["hess"])


def test_a_function_that_has_no_gradient_to_give_is_named():
    with pytest.raises(TypeError, match="with jac=True fun must return"):
        ntsolve.minimize(lambda x: x @ x, np.ones(2), jac=True, hess=BOWL["hess"])


def test_nan_is_blamed_on_the_functions():
    result = ntsolve.minimize(lambda x: np.nan, np.ones(2), **BOWL, on_failure="ignore")
    assert result.status == Status.NAN_OR_INF
    assert "your functions" in result.message


def test_one_constraint_of_one_variable_may_have_a_number_for_a_jacobian():
    constraint = {"type": "eq", "fun": lambda x: x[0] - 2, "jac": lambda x: 1.0, "hess": lambda x, v: np.zeros((1, 1))}
    result = ntsolve.minimize(lambda x: x @ x, np.ones(1), **BOWL, constraints=constraint)
    assert result.x == pytest.approx([2.0])


def test_bounds_that_bound_nothing_are_none():
    free = [Bounds(), LinearConstraint(np.eye(N), -np.inf, np.inf), NonlinearConstraint(fun, -np.inf, np.inf)]
    result = ntsolve.minimize(fun, np.zeros(N), jac=jac, hess=hess, bounds=Bounds(-np.inf, np.inf), constraints=free)
    alone = ntsolve.minimize(fun, np.zeros(N), jac=jac, hess=hess)
    np.testing.assert_array_equal(result.x, alone.x)
    assert len(result.v) == 0


def test_a_number_is_a_start_of_one_variable():
    found = ntsolve.minimize(lambda x: (x[0] - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3), hess=lambda x: 2 * np.eye(1))
    assert found.success
    np.testing.assert_allclose(found.x, [3.0])


def test_two_point_differences_are_done_with_three_and_said_to_be():
    with pytest.warns(ntsolve.PerformanceWarning, match="jac"):
        found = ntsolve.minimize(fun, np.zeros(N), jac="2-point", hess=hess)
    np.testing.assert_allclose(found.x, ntsolve.minimize(fun, np.zeros(N), jac=jac, hess=hess).x, atol=1e-7)


def test_functions_that_fail_on_a_batch_say_that_it_is_one():
    with pytest.raises(ValueError, match="matmul") as caught:
        ntsolve.minimize(lambda x: x @ np.eye(N) @ x, np.zeros((1, N)), jac=jac, hess=hess)
    assert "batch" in caught.value.__notes__[0]


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_a_dense_row_of_constraints_leaves_a_sparse_problem_sparse(form):
    n = 600
    T = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
    total = LinearConstraint(form(np.ones((1, n))), 1, 1)
    found = ntsolve.minimize(
        lambda x: 0.5 * x @ (T @ x), np.zeros(n), jac=lambda x: T @ x, hess=lambda x: T, constraints=total
    )
    assert found.success
    assert found.inner == "splu"
    K = np.block([[T.toarray(), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    np.testing.assert_allclose(found.x, np.linalg.solve(K, np.append(np.zeros(n), 1))[:n], atol=1e-10)


@pytest.mark.parametrize("m", [0, 1])
def test_products_alone_do_where_the_hessian_is_far_from_well_conditioned(m):
    """A Laplacian on a line: MINRES ends where its own measure, relative to |K| |d|, would have ended long before."""
    n = 400
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
    d, ones = np.random.default_rng(0).standard_normal(n), np.ones((m, n))
    found = ntsolve.minimize(
        lambda x: 0.5 * x @ (T @ x) - d @ x, np.zeros(n), jac=lambda x: T @ x - d, hessp=lambda x, v, p: T @ p,
        constraints=LinearConstraint(ones, 1, 1) if m else (),
    )  # fmt: skip
    assert found.success
    assert found.inner == "minres"
    assert found.nit < 12
    K = np.block([[T.toarray(), ones.T], [ones, np.zeros((m, m))]])
    np.testing.assert_allclose(found.x, np.linalg.solve(K, np.append(d, np.ones(m)))[:n], atol=1e-3)
