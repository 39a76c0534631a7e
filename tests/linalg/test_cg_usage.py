"""What a user meets first: messages, results, callbacks, and neighbours in a batch."""

import numpy as np
import pytest
import scipy.linalg

import ntsolve
from ntsolve import Status

A, b = np.diag([1.0, 2.0, 3.0]), np.ones(3)


@pytest.mark.parametrize("rows", [b, np.ones((2, 3))], ids=["one", "batch"])
def test_a_message_never_says_converged_of_what_did_not(rows):
    result = ntsolve.cg(A, rows, callback=lambda state: True)
    assert np.all(np.asarray(result.status) == Status.CALLBACK_STOP)
    assert not np.any(result.success)
    assert "Converged" not in result.message
    assert Status.CALLBACK_STOP.advice in result.message


def test_a_numpy_true_stops_too():
    assert ntsolve.cg(A, b, callback=lambda state: np.bool_(True)).status == Status.CALLBACK_STOP
    assert ntsolve.cg(A, b, callback=lambda state: state.residual < 1).status == Status.CALLBACK_STOP


def test_the_residual_of_a_single_solve_is_a_float_in_the_callback():
    kinds = set()
    ntsolve.cg(A, b, callback=lambda state: kinds.update(map(type, (state.residual, state.start, state.target))))
    assert kinds == {float}


@pytest.mark.parametrize("maxiter", [None, 220, 221, 10_000])
def test_what_is_decided_in_a_batch_is_left_alone(maxiter):
    """The neighbour runs on into further calls of the kernel."""
    long, indefinite = scipy.linalg.hilbert(12), np.diag(np.r_[-1.0, np.arange(1, 12)])
    rows = np.ones((2, 12))
    options = {"rtol": 1e-14, "maxiter": maxiter, "on_failure": "ignore"}
    together = ntsolve.cg(np.stack([indefinite, long]), rows, **options)
    alone = ntsolve.cg(indefinite[None], rows[:1], **options)
    assert together.status[0] == alone.status[0] == Status.INDEFINITE_OPERATOR
    assert together.nit[0] == alone.nit[0] == 3
    assert together.x[0].tobytes() == alone.x[0].tobytes()


def test_a_singular_inconsistent_system_ends_before_overflow():
    result = ntsolve.cg(np.diag([1.0, 2.0, 0.0]), [1.0, 2.0, 1.0], on_failure="ignore")
    assert result.status == Status.BREAKDOWN
    assert "singular" in result.message
    assert np.isfinite(result.x).all()


def test_a_result_is_a_mapping_of_its_fields():
    result = ntsolve.cg(A, b)
    assert "nit" in result
    assert "tol" not in result
    assert list(result) == result.keys()
    assert len(result) == len(result.keys()) == len(dict(result))


def test_a_status_prints_its_name():
    assert str(Status.CONVERGED) == f"{Status.CONVERGED}" == "CONVERGED"
    assert f"{Status.MAXITER:d}" == "-1"


def test_strict_floating_point_errors_of_the_caller_do_not_get_in_the_way():
    tiny, single = b * 1e-310, (b * 1e-40).astype("float32")
    with np.errstate(all="raise"):
        assert ntsolve.cg(A, tiny, rtol=1e-3).success
        assert ntsolve.cg(A.astype("float32"), single, rtol=1e-2).success


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((A, None), {}, "b is None"),
        ((A, np.ones((3, 1))), {}, r"pass b\.ravel\(\)"),
        ((A, np.ones((3, 2))), {}, r"pass b\.T"),
        ((A, b), {"M": "ilu"}, "M must be 'jacobi' or 'ic0' or 'multigrid', not 'ilu'"),
        ((A, b), {"M": np.ones(3)}, "M has shape .* for a diagonal pass"),
        ((lambda v: None, b), {}, "A returned None"),
    ],
)
def test_an_error_says_what_to_do(arguments, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ntsolve.cg(*arguments, **options)


def test_verify_names_the_answer_as_x():
    with pytest.raises(ValueError, match="x has shape"):
        ntsolve.cg(A, b).verify(np.eye(4), np.ones(4))
