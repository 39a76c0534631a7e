"""compat.scipy.linprog beside scipy.optimize.linprog: the same calls, the same status, optimum, fields and errors."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

from ntsolve.compat.scipy import linprog

INF = np.inf


def klee_minty(n):
    """The simplex method may visit all 2^n corners."""
    A = 2 * np.tril(10.0 ** np.subtract.outer(np.arange(n), np.arange(n)), -1) + np.eye(n)
    return {"c": -(10.0 ** np.arange(n - 1, -1, -1)), "A_ub": A, "b_ub": 100.0 ** np.arange(n)}


def assignment(n, seed):
    """Highly degenerate; one row is superfluous."""
    cost = np.random.default_rng(seed).integers(1, 30, n * n).astype(float)
    A = np.vstack([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
    return {"c": cost, "A_eq": A, "b_eq": np.ones(2 * n)}


def network():
    """A cheapest flow: what goes in goes out."""
    A = np.zeros((4, 5))
    for arc, (tail, head) in enumerate([(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]):
        A[tail, arc], A[head, arc] = 1, -1
    bounds = [(0, 4), (0, None), (0, 3), (0, 3), (0, None)]
    return {"c": [2.0, 4, 1, 7, 3], "A_eq": A, "b_eq": [5.0, 0, 0, -5], "bounds": bounds}


def l1_regression(seed):
    """Free variables: min |A x - b|_1."""
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((12, 3)), rng.standard_normal(12)
    ones, zero = np.ones(12), np.zeros(3)
    return {"c": np.concatenate([zero, ones]), "A_ub": np.block([[A, -np.eye(12)], [-A, -np.eye(12)]]),
            "b_ub": np.concatenate([b, -b]), "bounds": [(None, None)] * 3 + [(0, None)] * 12}  # fmt: skip


CALLS = {
    "two variables": {"c": [-3.0, -2], "A_ub": [[2.0, 1], [1, 1], [1, 0]], "b_ub": [10.0, 8, 4]},
    "rows of both kinds": {"c": [4.0, 8, 3, 0, 0], "A_eq": [[2.0, 5, 3, -1, 0], [3, 2.5, 8, 0, -1]],
                           "b_eq": [185.0, 155], "A_ub": [[1.0, 1, 1, 0, 0]], "b_ub": [60.0]},
    "negative right-hand sides": {"c": [3.0, 5], "A_ub": [[-1.0, -1], [-2, -1]], "b_ub": [-4.0, -6]},
    "bounds of each kind": {"c": [1.0, -1, 1, -1, 0.5], "A_ub": [[1.0, 1, 1, 1, 1]], "b_ub": [9.0],
                            "bounds": [(None, None), (None, 3), (2, None), (1, 4), (-5, 5)],
                            "A_eq": [[1.0, 0, 0, 0, 1]], "b_eq": [0.0]},
    "one pair of bounds for all": {"c": [1.0, -1], "A_ub": [[1.0, 1]], "b_ub": [5.0], "bounds": (-2, 3)},
    "one pair in a list": {"c": [1.0, -1], "A_ub": [[1.0, 1]], "b_ub": [5.0], "bounds": [(-2, 3)]},
    "infinite bounds as numbers": {"c": [1.0, 1], "A_ub": [[-1.0, -2]], "b_ub": [-4.0],
                                   "bounds": [(-1, INF), (-INF, 3)]},
    "bounds alone": {"c": [1.0, -2, 0], "bounds": [(-1, 2), (-1, 2), (1, 1)]},
    "no constraints": {"c": [1.0, 2]},
    "fixed variables": {"c": [1.0, -1, 2], "A_ub": [[1.0, 1, 1]], "b_ub": [6.0], "bounds": [(1, 1), (0, None), (2, 2)]},
    "rows of zeros": {"c": [-1.0, -1], "A_ub": [[0.0, 0], [1, 2], [0, 0]], "b_ub": [1.0, 4, 0], "A_eq": [[0.0, 0]],
                      "b_eq": [0.0]},
    "columns of zeros": {"c": [-1.0, 2, 0], "A_ub": [[1.0, 0, 0]], "b_ub": [4.0]},
    "rows of one entry": {"c": [-1.0, -2], "A_ub": [[3.0, 0], [0, -1], [1, 1]], "b_ub": [6.0, -1, 3.5]},
    "the same row twice": {"c": [-1.0, -2], "A_eq": [[1.0, 1], [2, 2]], "b_eq": [3.0, 6]},
    "integers": {"c": [-1, -2], "A_ub": [[1, 1]], "b_ub": [4]},
    "a column c": {"c": [[-1.0], [-2]], "A_ub": [[1.0, 1]], "b_ub": [4.0]},
    "cycling": {"c": [-0.75, 150, -0.02, 6], "A_ub": [[0.25, -60, -0.04, 9], [0.5, -90, -0.02, 3], [0, 0, 1, 0]],
                "b_ub": [0.0, 0, 1]},
    "Klee-Minty": klee_minty(4),
    "assignment": assignment(5, 0),
    "network": network(),
    "least absolute deviations": l1_regression(1),
    "badly scaled": {"c": [1e4, 1e-3], "A_ub": [[-1e3, -1e-3], [-1.0, -1e-5]], "b_ub": [-1e3, -2.0]},
    "sparse": {"c": np.ones(6), "A_ub": sp.csr_array(-np.eye(6) - np.eye(6, k=1)), "b_ub": -np.arange(1.0, 7)},
    "sparse by columns": {"c": np.ones(4), "A_eq": sp.csc_matrix(np.tri(4)), "b_eq": np.arange(1.0, 5)},
    "equalities only": {"c": [1.0, 2, 3], "A_eq": [[1.0, 1, 1], [1, -1, 0]], "b_eq": [6.0, 0]},
    "contradictory rows": {"c": [1.0, 1], "A_ub": [[1.0, 1]], "b_ub": [1.0], "A_eq": [[1.0, 1]], "b_eq": [2.0]},
    "contradictory bounds": {"c": [1.0, 1], "A_ub": [[-1.0, -1]], "b_ub": [-9.0], "bounds": (0, 4)},
    "bounds the wrong way round": {"c": [1.0], "bounds": (2, 1)},
    "contradictory rows of zeros": {"c": [1.0, 1], "A_eq": [[0.0, 0]], "b_eq": [1.0]},
    "contradictory rows of one entry": {"c": [1.0, 1], "A_ub": [[1.0, 0], [-1, 0]], "b_ub": [1.0, -2]},
    "unbounded": {"c": [-1.0, -1], "A_ub": [[1.0, -1]], "b_ub": [2.0]},
    "unbounded without rows": {"c": [-1.0, 1]},
    "unbounded in a free variable": {"c": [1.0, 0], "A_ub": [[1.0, 1]], "b_ub": [4.0],
                                     "bounds": [(None, None), (0, None)]},
    "unbounded in a column of zeros": {"c": [-1.0, 1], "A_ub": [[0.0, -1]], "b_ub": [-1.0]},
}  # fmt: skip
UNIQUE = {"two variables", "negative right-hand sides", "one pair of bounds for all", "network", "rows of one entry",
          "equalities only", "fixed variables", "bounds alone"}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_outcome_is_that_of_scipy(name):
    call = CALLS[name]
    want, got = scipy.optimize.linprog(**call), linprog(**call)
    assert isinstance(got, scipy.optimize.OptimizeResult)
    assert got.status == want.status, got.message
    assert got.success == want.success
    if not want.success:
        assert got.x is got.fun is got.slack is got.con is got.lower.residual is got.ineqlin.marginals is None
        return
    assert got.fun == pytest.approx(want.fun, rel=1e-6, abs=1e-6)
    assert got.x.shape == want.x.shape
    size = 1 + abs(want.x).max()
    for field in ("ineqlin", "eqlin"):
        assert got[field].residual.shape == got[field].marginals.shape == want[field].marginals.shape
    assert (got.slack >= -1e-6 * size).all()
    np.testing.assert_allclose(got.con, 0, atol=1e-5 * size)
    assert (got.lower.marginals >= 0).all()
    assert (got.upper.marginals <= 0).all()
    assert (got.ineqlin.marginals <= 0).all()
    if name in UNIQUE:
        np.testing.assert_allclose(got.x, want.x, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got.lower.residual, want.lower.residual, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got.upper.residual, want.upper.residual, rtol=1e-5, atol=1e-5)


def test_marginals_are_those_of_scipy_where_there_is_one_choice():
    call = {"c": [-3.0, -5.0], "A_ub": [[1.0, 0.0], [0.0, 2.0], [3.0, 2.0]], "b_ub": [4.0, 12.0, 18.0]}
    want, got = scipy.optimize.linprog(**call), linprog(**call)
    for field in ("ineqlin", "lower", "upper"):
        np.testing.assert_allclose(got[field].marginals, want[field].marginals, atol=1e-6)
        np.testing.assert_allclose(got[field].residual, want[field].residual, atol=1e-5)


@pytest.mark.parametrize("method", [*scipy.optimize._linprog.LINPROG_METHODS, "HiGHS"])
def test_every_name_of_a_method_is_taken(method):
    assert linprog(**CALLS["two variables"], method=method).success


BAD = {
    "A_ub too wide": {"c": [1.0, 2], "A_ub": [[1.0, 2, 3]], "b_ub": [1.0]},
    "b_ub too long": {"c": [1.0, 2], "A_ub": [[1.0, 2]], "b_ub": [1.0, 2]},
    "A_ub without b_ub": {"c": [1.0, 2], "A_ub": [[1.0, 2]]},
    "b_eq without A_eq": {"c": [1.0, 2], "b_eq": [1.0]},
    "NaN": {"c": [1.0, np.nan]},
    "infinity": {"c": [1.0, 2], "A_eq": [[1.0, INF]], "b_eq": [1.0]},
    "too many bounds": {"c": [1.0, 2], "bounds": [(0, 1)] * 3},
    "a method that is none": {"c": [1.0, 2], "method": "guess"},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_errors_as_in_scipy(name):
    for function in (scipy.optimize.linprog, linprog):
        with pytest.raises(ValueError):
            function(**BAD[name])


def test_what_is_not_there_is_said():
    with pytest.raises(NotImplementedError, match="callback"):
        linprog([1.0], callback=print)
    with pytest.raises(NotImplementedError, match="integer"):
        linprog([1.0], integrality=[1])
    assert linprog([1.0], integrality=0).success


def test_options():
    call = CALLS["assignment"]
    assert linprog(**call, options={"maxiter": 1, "presolve": False}).status == 1
    assert linprog(**call, options={"maxiter": INF, "time_limit": INF, "disp": False}).status == 0
    exact = linprog(**call, options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-7})
    assert abs(exact.con).max() <= 1e-8
    assert linprog(**call, options={"mip_rel_gap": 0.1, "autoscale": True}).success
    with pytest.warns(scipy.optimize.OptimizeWarning, match="Unrecognized options detected: nonsense"):
        linprog(**call, options={"nonsense": 1})


def test_a_start_is_taken():
    cold = linprog(**CALLS["two variables"], options={"tol": 1e-4})
    assert linprog(**CALLS["two variables"], options={"tol": 1e-4}, x0=cold.x).success


def test_a_proof_comes_with_the_result():
    call = CALLS["contradictory rows"]
    ray = linprog(**call).ray
    A = np.vstack([call["A_ub"], call["A_eq"]])
    worth = ray @ np.concatenate([call["b_ub"], call["b_eq"]])
    assert (A.T @ ray <= 1e-6 * worth).all()
    assert ray[0] <= 0 < worth


@pytest.mark.parametrize(
    "more",
    [{"b_ub": [[4.0], [6.0]]}, {"b_ub": [[4.0, 6.0]]}, {"bounds": np.array([(0, None), (None, 2)], dtype=object)},
     {"bounds": [(0, np.nan), (np.nan, 2)]}, {"bounds": (0, np.nan)}, {"bounds": (-1e20, 1e20)}],
)  # fmt: skip
def test_sides_and_bounds_in_all_forms_that_scipy_takes(more):
    call = {"c": [-1.0, -2.0], "A_ub": [[1.0, 1.0], [1.0, 3.0]], "b_ub": [4.0, 6.0], **more}
    ours, theirs = linprog(**call), scipy.optimize.linprog(**call)
    assert ours.status == theirs.status == 0
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-6)
    np.testing.assert_allclose(ours.slack, theirs.slack, atol=1e-6)


def test_a_bound_of_1e20_is_none():
    assert linprog([-1.0], bounds=(0, 1e20)).status == scipy.optimize.linprog([-1.0], bounds=(0, 1e20)).status == 3
