"""linprog finds what HiGHS finds, says only what holds in the problem as passed in, and takes what SciPy takes."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint

import ntsolve
from bench._linprog_problems import KINDS, random_sparse, with_known_optimum
from ntsolve import Status
from ntsolve.fixedpoint.solve import Solve


def residuals(arguments, x, y):
    """(largest violation, dual objective) of A x within its sides, x within its bounds, and y, all dense."""
    (A, low, high), bounds, c = arguments["constraints"], arguments["bounds"], arguments["c"]
    A, g = A.toarray(), A @ x
    z = c - A.T @ y
    violation = max(
        np.max(low - g, initial=0),
        np.max(g - high, initial=0),
        np.max(bounds[:, 0] - x, initial=0),
        np.max(x - bounds[:, 1], initial=0),
    )
    paid = [np.where(m > 0, a, b) for m, a, b in ((y, low, high), (z, *bounds.T))]
    # what pays for an infinite side has to be nothing, up to the tolerance
    dual = sum(m[np.isfinite(p)] @ p[np.isfinite(p)] for m, p in zip((y, z), paid, strict=True))
    wrong = max(abs(m[np.isinf(p)]).max(initial=0) for m, p in zip((y, z), paid, strict=True))
    return violation, wrong, dual


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("finisher", [True, False])
def test_success_is_true(kind, finisher):
    """Of programs with a known optimum: the objective is right wherever success is claimed, and it mostly is."""
    rng, solved = np.random.default_rng(1), 0
    for _ in range(8):
        arguments, value = with_known_optimum(rng, kind, int(rng.integers(2, 25)), int(rng.integers(2, 40)))
        result = ntsolve.linprog(**arguments, tol=1e-5, finisher=finisher, maxiter=20_000, on_failure="ignore")
        if result.success:
            solved += 1
            assert abs(result.fun - value) <= 1e-4 * max(1, abs(value))
            assert result.residual <= 1e-5
    assert solved >= (8 if finisher else 6)


@pytest.mark.parametrize("kind", ["plain", "ranges"])
def test_the_answer_is_near_feasible_and_its_multipliers_prove_it(kind):
    arguments, value = with_known_optimum(np.random.default_rng(2), kind, 20, 30)
    result = ntsolve.linprog(**arguments, tol=1e-9)
    violation, wrong, dual = residuals(arguments, result.x, result.y)
    assert max(violation, wrong) < 1e-6
    assert dual == pytest.approx(value, rel=1e-7)
    assert result.dual_objective == pytest.approx(dual, rel=1e-9)
    assert result.gap == pytest.approx(abs(result.fun - result.dual_objective))
    assert result.primal_error <= result.residual <= 1e-9
    assert result.verify(**arguments) == pytest.approx(result.residual, abs=1e-15)


def test_scipys_fields_are_scipys():
    """Of a program without degeneracy, whose multipliers are unique."""
    rng = np.random.default_rng(3)
    A_ub, A_eq = rng.standard_normal((6, 12)), rng.standard_normal((3, 12))
    x = rng.uniform(0, 1, 12)
    given = {
        "c": rng.standard_normal(12),
        "A_ub": A_ub,
        "b_ub": A_ub @ x + rng.uniform(0, 0.5, 6),
        "A_eq": A_eq,
        "b_eq": A_eq @ x,
        "bounds": (0, 1),
    }
    want, got = scipy.optimize.linprog(**given), ntsolve.linprog(**given, tol=1e-10)
    assert got.fun == pytest.approx(want.fun, rel=1e-8)
    for name in ("x", "slack", "con"):
        np.testing.assert_allclose(got[name], want[name], atol=1e-6)
    for name in ("ineqlin", "eqlin", "lower", "upper"):
        for field in ("residual", "marginals"):
            np.testing.assert_allclose(got[name][field], want[name][field], atol=1e-6, err_msg=f"{name}.{field}")


# ---- what may be passed in ------------------------------------------------------------------------------------------

SMALL = {"c": [-1.0, -2.0], "A_ub": [[1.0, 1.0], [1.0, 3.0]], "b_ub": [4.0, 6.0]}


def test_rows_may_be_given_in_any_form():
    forms = [
        SMALL,
        {**SMALL, "A_ub": sp.csc_array(SMALL["A_ub"])},
        {**SMALL, "A_ub": sp.coo_array(([1, 0.5, 0.5, 1, 3], ([0, 0, 0, 1, 1], [0, 1, 1, 0, 1])))},
        {"c": SMALL["c"], "constraints": LinearConstraint(SMALL["A_ub"], -np.inf, SMALL["b_ub"])},
        {"c": SMALL["c"], "constraints": (SMALL["A_ub"], [-np.inf, -np.inf], SMALL["b_ub"])},
        {"c": SMALL["c"], "constraints": [([1.0, 1.0], -np.inf, 4.0), LinearConstraint([[1.0, 3.0]], 0, 6)]},
        {"c": SMALL["c"], "A_ub": [SMALL["A_ub"][0]], "b_ub": 4.0, "constraints": ([[1.0, 3.0]], 0, 6)},
    ]
    for form in forms:
        result = ntsolve.linprog(**form, tol=1e-8)
        np.testing.assert_allclose(result.x, [3, 1], atol=1e-5)
        np.testing.assert_allclose(result.y, [-0.5, -0.5], atol=1e-5)


@pytest.mark.parametrize(
    "bounds",
    [
        (0, None),
        None,
        [(0, None), (0, None)],
        [[0, 10], [None, 1]],
        Bounds([0, 0], [np.inf, 9]),
        np.array([[0, 5], [0, 5.0]]),
        np.array([(0, None), (None, 1)]),
    ],
)
def test_bounds_may_be_given_in_any_form(bounds):
    np.testing.assert_allclose(ntsolve.linprog(**SMALL, bounds=bounds, tol=1e-8).x, [3, 1], atol=1e-5)


def test_both_sides_of_a_row_have_what_is_left_to_them():
    rows = ([[1.0, 2.0], [2.0, 1.0]], [2, 3], [9, 9])
    result = ntsolve.linprog([1.0, 1.0], bounds=(None, None), constraints=rows, tol=1e-9)
    np.testing.assert_allclose(result.rows.residual, [[0, 7], [0, 6]], atol=1e-6)
    np.testing.assert_allclose(result.rows.marginals, [1 / 3, 1 / 3], atol=1e-6)
    assert result.slack.shape == result.con.shape == (0,)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"c": 3.0}, "c"),
        ({"A_ub": None}, "A_ub"),
        ({"b_ub": None}, "b_ub"),
        ({"b_ub": [1.0, np.nan]}, "b_ub"),
        ({"b_ub": [1.0, -np.inf]}, "b_ub"),
        ({"A_ub": 5.0}, "A_ub"),
        ({"A_ub": np.ones((2, 3))}, "A_ub"),
        ({"c": [1j, 0]}, "c"),
        ({"bounds": (1, 2, 3)}, "bounds"),
        ({"bounds": [(0, 1)] * 3}, "bounds"),
        ({"bounds": (np.nan, 1)}, "bounds"),
        ({"bounds": (np.inf, None)}, "bounds"),
        ({"bounds": 3}, "bounds"),
        ({"constraints": 5}, "constraints"),
        ({"constraints": [5]}, "constraints"),
        ({"constraints": (np.eye(2), [0, 0, 0], 1)}, r"constraints\.lb"),
        ({"constraints": (np.eye(2), 0, np.nan)}, r"constraints\.ub"),
        ({"x0": [1.0]}, "x0"),
        ({"y0": [1.0]}, "y0"),
        ({"c": np.ones((2, 2)), "b_ub": np.ones((3, 2))}, "leading axes"),
        ({"A_ub": [sp.eye_array(2), sp.eye_array(3, 2)]}, "A_ub"),
    ],
)
def test_what_does_not_fit_is_named(change, name):
    with pytest.raises((TypeError, ValueError), match=name):
        ntsolve.linprog(**{**SMALL, **change})


# ---- ugly ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("presolve", [True, False])
def test_programs_with_next_to_nothing_in_them(presolve):
    solve = lambda *args, **kw: ntsolve.linprog(*args, **kw, presolve=presolve, tol=1e-8)
    np.testing.assert_allclose(solve([1.0, -1.0], bounds=[(-1, 4), (2, 3)]).x, [-1, 3], atol=1e-6)  # no rows
    result = solve(np.zeros(0))
    assert result.success
    assert result.x.shape == (0,)
    assert result.fun == 0
    assert solve(np.zeros(0), A_ub=np.zeros((2, 0)), b_ub=[1.0, 0.0]).success  # rows of no variables
    assert solve([1.0, 1.0], A_ub=[[]], b_ub=[], A_eq=[], b_eq=[]).fun == 0
    one = solve([1.0], A_ub=[[-1.0]], b_ub=[-3.0])
    assert one.x[0] == pytest.approx(3, abs=1e-6)
    empty = {"A_ub": sp.csr_array((2, 2)), "b_ub": [1.0, 0.0]}  # rows and columns without entries
    assert solve([1.0, 1.0], **empty, bounds=(1, 2)).fun == pytest.approx(2, abs=1e-6)
    assert solve([0.0, 0.0], **empty).success
    equal = solve([1.0, 2.0, 3.0], A_eq=[[1, 1, 1]], b_eq=[2], bounds=[(1, 1), (0, None), (0, None)])
    np.testing.assert_allclose(equal.x, [1, 1, 0], atol=1e-5)  # a fixed variable


@pytest.mark.parametrize("presolve", [True, False])
def test_infeasible_and_unbounded_programs_come_with_a_proof(presolve):
    A, b = np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([1.0, -3.0])
    result = ntsolve.linprog([1.0, 1.0], A, b, presolve=presolve, on_failure="ignore")
    assert result.status == Status.PRIMAL_INFEASIBLE
    assert not result.success
    y = result.ray
    assert (y <= 1e-9).all()  # paid on the upper side only
    assert (A.T @ y <= 1e-9 * abs(y).max()).all()  # x >= 0 cannot make up for it
    assert y @ b > 0
    result = ntsolve.linprog([-1.0, -1.0], [[1.0, -1.0]], [1.0], presolve=presolve, on_failure="ignore")
    assert result.status == Status.DUAL_INFEASIBLE
    d = result.ray
    assert (d >= -1e-9).all()
    assert d[0] - d[1] <= 1e-9 * abs(d).max()
    assert -d.sum() < 0


@pytest.mark.parametrize("finisher", [True, False])
def test_an_unbounded_program_is_told_by_products_alone(finisher):
    rng = np.random.default_rng(10)
    A, d = rng.standard_normal((15, 25)), rng.uniform(0.5, 1, 25)
    A -= np.outer(A @ d, d) / (d @ d)  # A d = 0
    b = A @ rng.uniform(0, 1, 25)
    result = ntsolve.linprog(-d, A_eq=A, b_eq=b, finisher=finisher, maxiter=20_000, on_failure="ignore")
    assert result.status == Status.DUAL_INFEASIBLE
    assert (result.ray >= 0).all()
    assert abs(A @ result.ray).max() <= 1e-6 * (d @ result.ray)


def test_bounds_that_contradict_each_other_are_infeasible():
    assert ntsolve.linprog([1.0], bounds=(2, 1), on_failure="ignore").status == Status.PRIMAL_INFEASIBLE
    batch = ntsolve.linprog([[1.0], [1.0]], bounds=[[(0, 1)], [(2, 1)]], on_failure="ignore")
    assert [Status(int(s)).name for s in batch.status] == ["CONVERGED", "PRIMAL_INFEASIBLE"]


def test_a_warm_start_is_used():
    arguments, _ = with_known_optimum(np.random.default_rng(4), "plain", 20, 30)
    cold = ntsolve.linprog(**arguments, tol=1e-6, finisher=False)
    again = ntsolve.linprog(**arguments, tol=1e-6, finisher=False, x0=cold.x, y0=cold.y)
    assert again.success
    assert again.nit == 0
    arguments["c"] = arguments["c"] + 1e-4 * abs(arguments["c"]).max()
    warm = ntsolve.linprog(**arguments, tol=1e-6, finisher=False, x0=cold.x, y0=cold.y)
    assert warm.success
    assert warm.nit <= ntsolve.linprog(**arguments, tol=1e-6, finisher=False).nit


def test_single_precision_out_of_reach_is_a_precision_warning():
    arguments, value = with_known_optimum(np.random.default_rng(5), "plain", 10, 20)
    A, low, high = arguments["constraints"]
    single = arguments | {"c": arguments["c"].astype("f4"), "constraints": (A.astype("f4"), low, high)}
    with pytest.warns(ntsolve.PrecisionWarning):
        result = ntsolve.linprog(**single, tol=1e-11)
    assert result.x.dtype == np.float32
    assert result.fun == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("far", [1e5, 1e9, 1e12])
def test_far_bounds_may_stand_for_infinite_ones(far):
    for seed in range(3):
        arguments, value = with_known_optimum(np.random.default_rng(seed), "plain", 60, 90)
        low, high = arguments["bounds"].T
        bounds = np.column_stack([np.where(np.isinf(low), -far, low), np.where(np.isinf(high), far, high)])
        result = ntsolve.linprog(**{**arguments, "bounds": bounds}, tol=1e-6, maxiter=20_000)
        assert result.success
        assert result.fun == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("far", [1e5, 1e9])
def test_an_optimum_may_be_at_far_bounds(far):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        A, c = rng.standard_normal((10, 20)), rng.standard_normal(20)
        given = {"c": c, "A_ub": A, "b_ub": rng.uniform(0, far, 10), "bounds": (0, far)}
        result = ntsolve.linprog(**given, tol=1e-6, maxiter=20_000)
        assert result.fun == pytest.approx(scipy.optimize.linprog(**given).fun, rel=1e-5)


# ---- batches --------------------------------------------------------------------------------------------------------


def test_each_program_of_a_batch_is_solved_as_if_alone():
    rng = np.random.default_rng(6)
    A, x = rng.standard_normal((4, 5, 9)), rng.uniform(0, 1, (4, 9))
    c, b = rng.standard_normal((4, 9)), np.einsum("bij,bj->bi", A, x) + 0.1
    b[2] -= 1e3  # without a feasible point
    together = ntsolve.linprog(c, A, b, bounds=(0, 1), tol=1e-7, on_failure="ignore")
    assert together.x.shape == (4, 9)
    assert together.status[2] == Status.PRIMAL_INFEASIBLE
    assert together.success.tolist() == [True, True, False, True]
    for i in (0, 1, 3):
        alone = ntsolve.linprog(c[i], A[i], b[i], bounds=(0, 1), tol=1e-7)
        assert together.fun[i] == pytest.approx(alone.fun, rel=1e-5)
    assert "1 of 4 programs" in together.message


def test_a_batch_may_share_what_it_likes():
    """One matrix and many costs; sparse matrices of different patterns; bounds of each."""
    rng = np.random.default_rng(7)
    A, c = rng.standard_normal((3, 6)), rng.standard_normal((2, 1, 6))
    b = A @ np.full(6, 0.5)
    result = ntsolve.linprog(c, A, b, bounds=(0, 1), tol=1e-8)
    assert result.fun.shape == (2, 1)
    want = [scipy.optimize.linprog(one[0], A, b, bounds=(0, 1)).fun for one in c]
    np.testing.assert_allclose(result.fun[:, 0], want, atol=1e-6)
    several = [sp.random_array((3, 6), density=0.6, rng=rng, data_sampler=rng.standard_normal) for _ in range(2)]
    bounds = np.stack([np.zeros((2, 6)), rng.uniform(0.5, 1, (2, 6))], -1)
    result = ntsolve.linprog(c[0, 0], several, np.full(3, 0.2), bounds=bounds, tol=1e-8)
    pairs = zip(several, bounds, strict=True)
    want = [scipy.optimize.linprog(c[0, 0], one, np.full(3, 0.2), bounds=u).fun for one, u in pairs]
    np.testing.assert_allclose(result.fun, want, atol=1e-6)


# ---- what is tested of success --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [1e-3, 1e-4])
def test_rows_of_small_sides_are_mended_where_all_else_is_well(monkeypatch, tol):
    """PDHG's answer to a loose tolerance leaves some of them unmet; it need not iterate on for these."""
    arguments = random_sparse(300, 1200, seed=1)
    result = ntsolve.linprog(**arguments, tol=tol, finisher=False)
    assert result.success
    assert result.violation <= 100 * tol
    assert result.verify(**arguments) == pytest.approx(result.residual, abs=1e-15)
    want = scipy.optimize.linprog(**arguments).fun
    assert abs(result.fun - want) <= 10 * tol * max(1, abs(want))
    monkeypatch.setattr(Solve, "mend", lambda self, tol: False)
    without = ntsolve.linprog(**arguments, tol=tol, finisher=False)
    assert result.nit < without.nit


def test_small_residuals_are_not_enough():
    """A flat corner, as in GANGES: relative errors pass while the objective is per cents off."""
    from ntsolve.fixedpoint.kkt import errors_of
    from ntsolve.fixedpoint.program import Program

    n = 100
    big = np.full(n, 1e4)
    program = Program.from_matrix(np.ones(n), sp.eye_array(n), big, np.full(n, np.inf), np.zeros(n), np.full(n, np.inf))
    x, y = big * (1 - 2e-3), np.ones(n)
    errors = errors_of(program, x, y)
    assert errors.kkt <= 3e-3
    assert not errors.meets(1e-3)
    assert errors.objective_error == pytest.approx(4e-3, rel=0.1)
    assert errors_of(program, big, y).meets(1e-12)
