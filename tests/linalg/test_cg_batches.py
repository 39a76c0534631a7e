"""Conjugate gradients for many: a batch of systems, several right-hand sides of one, and none that spoils another."""

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

import ntsolve
from ntsolve import Status
from tests.backends import BACKENDS, to_device, to_host

from .problems import close, laplacian, poisson, residual, rhs, solve, spd


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("A_shape", "b_shape"),
    [
        ((4,), (4,)),
        ((), (4,)),
        ((4,), ()),
        ((2, 3), (2, 3)),
        ((3,), (2, 3)),
        ((2, 1), (1, 3)),
        ((1,), (2,)),
        ((), (2, 3)),
        ((0,), (0,)),
        ((), (0,)),
        ((2, 0), (2, 0)),
        ((1,), ()),
    ],
)
@pytest.mark.parametrize("M", [None, "jacobi"])
def test_leading_axes_are_batch_axes(A_shape, b_shape, M, backend):
    A, b = spd(*A_shape, 9, 9), rhs(*b_shape, 9)
    shape = np.broadcast_shapes(A_shape, b_shape)
    result = ntsolve.cg(to_device(A, backend), to_device(b, backend), M=M, rtol=1e-12)
    assert result.x.shape == (*shape, 9)
    for name in ("success", "status", "nit", "residual", "tolerance"):
        assert np.shape(result[name]) == shape
    assert result.history.shape[1:] == shape
    assert np.all(result.success)
    close(result.x, solve(A, np.broadcast_to(b, (*shape, 9))))


@pytest.mark.parametrize("n", [9, 40])
def test_a_batch_gives_what_each_item_gives(n):
    A, b = spd(5, n, n, condition=50), rhs(5, n)
    together = ntsolve.cg(A, b, rtol=1e-9)
    for i in range(5):
        alone = ntsolve.cg(A[i], b[i], rtol=1e-9)
        assert abs(alone.nit - together.nit[i]) <= 1
        np.testing.assert_allclose(alone.x, together.x[i], atol=1e-7)


def test_an_item_does_not_depend_on_its_neighbours():
    A, b = spd(5, 20, 20, condition=50), rhs(5, 20)
    together = ntsolve.cg(A, b, rtol=1e-9)
    order = [3, 1, 4]
    others = ntsolve.cg(A[order], b[order], rtol=1e-9)
    assert others.x.tobytes() == together.x[order].tobytes()
    assert np.array_equal(others.nit, together.nit[order])


def test_right_hand_sides_of_one_matrix_give_what_each_gives():
    A, b = poisson(8), rhs(5, 64)
    together = ntsolve.cg(A, b, rtol=1e-9)
    for i in range(5):
        alone = ntsolve.cg(A, b[i], rtol=1e-9)
        assert alone.nit == together.nit[i]
        assert alone.x.tobytes() == together.x[i].tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [20, 40])
def test_one_bad_item_does_not_spoil_the_others(n, backend):
    A, b = spd(6, n, n), rhs(6, n)
    A[1] *= -1
    A[3] = np.diag(np.linspace(-1, 1, n) + 0.01)
    b[4] = 0
    with pytest.warns(ntsolve.ConvergenceWarning, match="2 of 6 systems failed"):
        result = ntsolve.cg(to_device(A, backend), to_device(b, backend), rtol=1e-11)
    assert result.success.tolist() == [True, False, True, False, True, True]
    assert result.status[[1, 3]].tolist() == [Status.INDEFINITE_OPERATOR] * 2
    assert result.status[[0, 2, 4, 5]].tolist() == [Status.CONVERGED] * 4
    assert result.nit[1] == result.nit[4] == 0
    good = [0, 2, 4, 5]
    close(to_host(result.x)[good], solve(A[good], b[good]))
    assert np.isfinite(to_host(result.x)).all()
    assert np.isfinite(result.history).all()


def test_one_bad_right_hand_side_does_not_spoil_the_others():
    """With nine orders of magnitude between them, and one that starts at its solution."""
    A = poisson(8)
    b = rhs(4, 64) * np.array([[1e-160], [1], [1e160], [1]])
    x0 = np.zeros((4, 64))
    x0[3] = spsolve(A.tocsc(), b[3])
    result = ntsolve.cg(A, b, x0, rtol=1e-9)
    assert result.success.all()
    assert result.nit[3] == 0
    assert (result.nit[:3] > 10).all()
    for i in range(4):
        assert residual(A, b[i], result.x[i]) <= 1e-9 * 1.01 * np.linalg.norm(b[i] / abs(b[i]).max()) * abs(b[i]).max()


def test_right_hand_sides_as_columns_are_recognised():
    with pytest.raises(ValueError, match=r"b\.T"):
        ntsolve.cg(laplacian(10), rhs(10, 3))


@pytest.mark.parametrize(
    ("A", "b", "x0", "message"),
    [
        (np.ones((3, 4)), np.ones(4), None, r"\bA\b.*square"),
        (np.ones(4), np.ones(4), None, r"\bA\b.*square"),
        (np.eye(4), np.ones(3), None, r"\bb\b.*3.*\bA\b.*4"),
        (np.ones((2, 4, 4)), np.ones((3, 4)), None, r"\bA\b.*\bb\b.*leading"),
        (np.eye(4), np.ones(()), None, r"\bb\b"),
        (np.eye(4), np.ones(4), np.ones(5), r"\bx0\b"),
        (np.eye(4), np.ones(4), np.ones((2, 4)), r"\bx0\b"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(A, b, x0, message):
    with pytest.raises(ValueError, match=message):
        ntsolve.cg(A, b, x0)


def test_the_message_of_a_batch_is_of_its_worst_failure():
    A = np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([1.0, -3.0, 1.0])])
    with pytest.warns(ntsolve.ConvergenceWarning, match="not positive definite"):
        result = ntsolve.cg(A, np.ones((2, 3)), maxiter=1, rtol=1e-12)
    assert list(result.status) == [Status.MAXITER, Status.INDEFINITE_OPERATOR]
    assert result.message.startswith("2 of 2 systems failed. A is not positive definite")
