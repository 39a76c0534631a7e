"""Statuses carry advice, and survive a pickle; results read as they are documented."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

import ntsolve
from ntsolve import (
    ConvergenceError,
    ConvergenceWarning,
    LinearResult,
    PerformanceWarning,
    PrecisionWarning,
    Result,
    Status,
)


@pytest.mark.parametrize("status", Status)
def test_a_status_carries_a_sentence_of_advice(status):
    assert status.advice[0].isupper()
    assert status.advice[-1] == "."
    assert 20 < len(status.advice) < 250


def test_the_advice_is_not_twice_the_same():
    assert len({status.advice for status in Status}) == len(Status)


def test_the_answer_stands_where_a_status_is_positive():
    assert {status for status in Status if status > 0} == {Status.CONVERGED, Status.CALLBACK_STOP}
    assert 0 not in set(Status)
    names = {
        "MAXITER",
        "TIME_LIMIT",
        "INTERRUPTED",
        "STALLED",
        "NAN_OR_INF",
        "INDEFINITE_OPERATOR",
        "INDEFINITE_PRECONDITIONER",
        "BREAKDOWN",
        "PRIMAL_INFEASIBLE",
        "DUAL_INFEASIBLE",
        "RANK_DEFICIENT",
        "INFEASIBLE_STATIONARY",
        "UNBOUNDED",
        "NOT_A_MINIMUM",
        "NO_DESCENT",
        "RAISED",
    }
    assert {status.name for status in Status if status < 0} == names


@pytest.mark.parametrize("status", Status)
def test_a_status_is_a_number(status):
    assert Status(int(status)) is status
    assert np.asarray([status]).dtype.kind == "i"
    assert status == int(status)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("status", Status)
def test_a_status_pickles_as_itself(status, protocol):
    assert pickle.loads(pickle.dumps(status, protocol)) is status
    assert copy.deepcopy(status) is status


def result(**changes):
    values = {
        "x": np.arange(3.0),
        "success": True,
        "status": Status.CONVERGED,
        "message": "m",
        "nit": 4,
        "residual": 1e-9,
        "history": np.ones(5),
        "elapsed": 0.1,
        "backend": "cpu",
        "tolerance": 1e-8,
    }
    return LinearResult(**values | changes)


def test_a_result_reads_as_attributes_and_as_items():
    r = result()
    assert r["nit"] == r.nit == 4
    assert list(r.keys()) == [f.name for f in fields(r)]
    assert dict(r)["x"] is r.x  # keys and items make it a mapping
    with pytest.raises(KeyError, match="iterations"):
        r["iterations"]
    with pytest.raises(KeyError):
        r["keys"]


def test_a_result_is_frozen():
    with pytest.raises(FrozenInstanceError):
        result().nit = 5


def test_a_result_shows_what_matters_and_not_all_of_it():
    text = repr(result(x=np.zeros(10**6)))
    assert text.startswith("LinearResult")
    assert "CONVERGED" in text
    assert "array (1000000,) float64" in text
    assert "[0. 1. 2.]" in repr(result())


def test_results_are_results():
    assert isinstance(result(), Result)


def test_a_batch_has_items():
    b = np.ones((2, 3, 4))
    b[1, 2, 0] = 5.0
    r = ntsolve.cg(np.diag([1.0, 2.0, 4.0, 9.0]), b, rtol=1e-12)
    alone = ntsolve.cg(np.diag([1.0, 2.0, 4.0, 9.0]), b[1, 2], rtol=1e-12)
    for one in (r[5], r[-1], r[1, 2], r[4:][1], r[:][5]):
        assert type(one) is LinearResult
        assert one.x.tobytes() == r.x[1, 2].tobytes()
        assert (one.status, one.success, one.nit) == (Status.CONVERGED, True, r.nit[1, 2])
        assert one.history.shape == (one.nit + 1,)
        assert one.tolerance == alone.tolerance
        assert {type(one[name]) for name in ("success", "nit", "residual", "tolerance")} == {bool, int, float}
    with pytest.raises(IndexError, match="6 problems"):
        r[6]
    with pytest.raises(TypeError, match="of one problem"):
        alone[0]
    assert r["nit"] is r.nit


def test_an_item_of_a_batch_says_what_became_of_it():
    r = ntsolve.cg(np.stack([np.eye(3), -np.eye(3)]), np.ones((2, 3)), on_failure="ignore")
    assert [one.status for one in r[:]] == [Status.CONVERGED, Status.INDEFINITE_OPERATOR]
    assert [one.message for one in r[:]] == [one.status.advice for one in r[:]]
    programs = ntsolve.linprog([[1.0, 1.0], [-1.0, 0.0]], [[-1.0, -1.0]], [-1.0], on_failure="ignore")
    first, second = programs[:]
    assert (first.fun, first.ineqlin.marginals.shape, first.ray) == (programs.fun[0], (1,), None)
    assert second.status == Status.DUAL_INFEASIBLE
    assert second.ray[0] > 0
    assert first.con.shape == (0,)


def test_results_compare_and_hash_by_identity():
    """Arrays in them have no truth value."""
    first, second = result(), result()
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_the_warnings_are_a_family():
    assert issubclass(PrecisionWarning, ConvergenceWarning)
    assert issubclass(ConvergenceWarning, RuntimeWarning)
    assert issubclass(PerformanceWarning, RuntimeWarning)
    assert not issubclass(PerformanceWarning, ConvergenceWarning)


def test_the_error_holds_the_result_and_pickles():
    error = ConvergenceError("no", result())
    twin = pickle.loads(pickle.dumps(error))
    assert str(twin) == "no"
    assert twin.result.nit == 4
    assert isinstance(twin, RuntimeError)
    assert pickle.loads(pickle.dumps(ConvergenceError("alone"))).result is None
