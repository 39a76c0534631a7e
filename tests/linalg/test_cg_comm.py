"""Conjugate gradients on vectors of which each process holds a part, with functions for A and M."""

import numpy as np
import pytest

import ntsolve
from ntsolve import RankError, Status

from ..parallel.team import ends, part, together
from .problems import laplacian, residual, rhs


def product(comm, shift=0.0):
    """Its rows of the 1-D Laplacian, after a look at the neighbours' nearest entries."""
    rank, size = comm.Get_rank(), comm.Get_size()

    def matvec(v):
        ends = np.empty((size, 2))
        comm.Allgatherv(np.array([v[0], v[-1]]), [ends, [2] * size])
        before, after = ends[rank - 1, 1] if rank else 0.0, ends[rank + 1, 0] if rank + 1 < size else 0.0
        padded = np.concatenate([[before], v, [after]])
        return (2 + shift) * v - padded[:-2] - padded[2:]

    return matvec


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("M", [None, "function"])
@pytest.mark.parametrize("start", [False, True])
def test_the_parts_make_up_the_answer_of_one(size, batch, M, start):
    n, shift, rtol = 101, 0.02, 1e-9
    A, b, x0 = laplacian(n, shift=shift), rhs(*batch, n), rhs(*batch, n, seed=7) if start else None
    precondition = (lambda r: r / (2 + shift)) if M else None

    def run(comm):
        own = None if x0 is None else part(x0, comm)
        return ntsolve.cg(product(comm, shift), part(b, comm), own, M=precondition, rtol=rtol, comm=comm)

    parts, serial = together(size, run), ntsolve.cg(A, b, x0, M=precondition, rtol=rtol)
    x = np.concatenate([each.x for each in parts], axis=-1)
    assert np.all(residual(A, b, x) <= 1.01 * rtol * np.linalg.norm(b, axis=-1))
    for each in parts:
        assert np.all(each.success)
        assert np.all(abs(np.asarray(each.nit) - serial.nit) <= 2)
        np.testing.assert_allclose(each.tolerance, serial.tolerance, rtol=1e-14)
        np.testing.assert_allclose(each.residual, residual(A, b, x), rtol=0.05)  # near rounding
        assert np.array_equal(each.history, parts[0].history)  # every process knows the same
    np.testing.assert_allclose(x, serial.x, atol=1e-7)


def test_the_scale_does_not_matter():
    b = rhs(60)
    for factor in (1e-160, 1e160):
        parts = together(
            2, lambda comm, b=b * factor: ntsolve.cg(product(comm, 1.0), part(b, comm), comm=comm)
        )
        assert all(each.success for each in parts)
        x = np.concatenate([each.x for each in parts])
        assert residual(laplacian(60, shift=1.0), b * factor, x) <= 1.01e-5 * np.linalg.norm(b) * factor


def test_a_part_that_is_zero_takes_part():
    b = np.zeros(60)
    b[50:] = 1
    parts = together(2, lambda comm: ntsolve.cg(product(comm, 1.0), part(b, comm), comm=comm))
    assert all(each.success for each in parts)
    assert parts[0].nit == parts[1].nit > 5


def test_a_verdict_is_the_same_for_all():
    """The operator is indefinite only where the second process is."""

    def run(comm):
        A = product(comm)
        return ntsolve.cg(lambda v: A(v) * (-1 if comm.Get_rank() else 1), np.ones(30), comm=comm, on_failure="ignore")

    assert [each.status for each in together(2, run)] == [Status.INDEFINITE_OPERATOR] * 2


def test_nan_in_one_part_ends_the_solve_for_all():
    def run(comm):
        A = product(comm)
        return ntsolve.cg(
            lambda v: A(v) * (np.nan if comm.Get_rank() else 1), np.ones(30), comm=comm, on_failure="ignore"
        )

    parts = together(2, run)
    assert [each.status for each in parts] == [Status.NAN_OR_INF] * 2
    assert max(each.nit for each in parts) <= 1


def test_all_stop_when_one_has_to():
    """Its callback, its clock or its Ctrl-C: nobody is left waiting for a sum."""

    def run(comm):
        stop = (lambda state: state.nit == 4) if comm.Get_rank() else None
        return ntsolve.cg(product(comm), np.ones(50), rtol=1e-10, comm=comm, callback=stop, on_failure="ignore")

    parts = together(2, run)
    assert [each.status for each in parts] == [Status.CALLBACK_STOP] * 2
    assert {each.nit for each in parts} == {4}


def test_a_time_limit_on_one_is_one_for_all():
    def run(comm):
        limit = 0.0 if comm.Get_rank() else None
        return ntsolve.cg(product(comm), np.ones(50), comm=comm, time_limit=limit, on_failure="ignore")

    parts = together(2, run)
    assert [each.status for each in parts] == [Status.TIME_LIMIT] * 2
    assert [each.nit for each in parts] == [0, 0]


def test_maxiter_goes_by_the_whole_system():
    def run(comm):
        n = 1 if comm.Get_rank() else 25
        return ntsolve.cg(product(comm), np.arange(1.0, 1 + n), rtol=1e-12, comm=comm)

    assert all(each.success and each.nit > 10 for each in together(2, run))


def test_quick_iterations_share_a_look():
    """Where nobody watches, the ranks agree on how many iterations to do before they look again."""

    def run(comm):
        result = ntsolve.cg(product(comm), np.ones(100), rtol=1e-10, comm=comm)
        return result.nit, comm.calls["Allgatherv"]

    looks = {calls for nit, calls in together(2, run) if nit == 100}
    plain = {calls for _, calls in together(2, lambda comm: _watched(comm))}
    assert max(looks) < min(plain)


def _watched(comm):
    result = ntsolve.cg(product(comm), np.ones(100), rtol=1e-10, comm=comm, callback=lambda state: None)
    return result.nit, comm.calls["Allgatherv"]


def test_all_keep_the_directions_that_an_m_needs_which_is_not_linear():
    A, b = laplacian(101, shift=0.02), rhs(101)
    inverse = np.linalg.inv(A.toarray() + 0.01 * np.eye(101))

    def run(comm):
        block = part(part(inverse, comm).T, comm)

        def M(r):
            z = block @ r
            return z * (1 + 0.3 * np.sign(z))

        return ntsolve.cg(product(comm, 0.02), part(b, comm), M=M, rtol=1e-9, comm=comm)

    parts = together(2, run)
    assert all(each.success for each in parts)
    assert "given up" not in parts[0].message
    assert parts[0].nit == parts[1].nit < 40
    x = np.concatenate([each.x for each in parts])
    assert residual(A, b, x) <= 1.01e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("give_up", ["bad", "late", "indefinite"])
def test_all_give_a_preconditioner_up_together(give_up):
    shift = 0.02
    A, b = laplacian(101, shift=shift), rhs(101)

    def run(comm):
        weights, calls = part(np.random.default_rng(3).lognormal(0, 4, 101), comm), [0]

        def M(r):
            calls[0] += 1
            if give_up == "bad":
                return weights * r
            sign = -1 if calls[0] > 6 else 1
            return sign * r if give_up == "late" or comm.Get_rank() else r

        return ntsolve.cg(product(comm, shift), part(b, comm), M=M, rtol=1e-9, comm=comm, on_failure="ignore")

    parts = together(2, run)
    x = np.concatenate([each.x for each in parts])
    assert "given up" in parts[0].message
    assert all(each.success for each in parts)
    assert parts[0].message == parts[1].message
    assert parts[0].nit == parts[1].nit
    assert residual(A, b, x) <= 1.01e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("what", ["b", "callback", "M", "A returns"])
def test_an_error_on_one_is_an_error_on_all(what):
    def run(comm):
        mine, A, b = comm.Get_rank() == 1, product(comm), np.ones(30)

        def fail(_):
            raise KeyError("mine")

        if what == "b" and mine:
            b[3] = np.nan
        if what == "A returns" and mine:
            return ntsolve.cg(lambda v: A(v)[:-1], b, M=lambda r: r, comm=comm)
        return ntsolve.cg(A, b, M=fail if mine and what == "M" else lambda r: r,
                          callback=fail if mine and what == "callback" else None, comm=comm)  # fmt: skip

    found = ends(3, run)
    own = ValueError if what in ("b", "A returns") else KeyError
    assert [type(error) for error in found] == [RankError, own, RankError]
    assert all(str(error).startswith(f"rank 1: {own.__name__}: ") for error in (found[0], found[2]))


@pytest.mark.parametrize("name", ["rtol", "atol", "maxiter", "M", "batch", "dtype", "x0"])
def test_arguments_that_have_to_agree_do(name):
    def run(comm):
        odd = comm.Get_rank() == 1
        options = {"rtol": 1e-3 if odd else 1e-5, "atol": float(odd), "maxiter": 5 + odd, "M": [None, "ic0"][odd],
                   "x0": np.zeros(30) if odd else None}  # fmt: skip
        b = np.ones((2, 30) if odd and name == "batch" else 30, dtype="float32" if odd and name == "dtype" else float)
        return ntsolve.cg(product(comm), b, comm=comm, **{key: options[key] for key in options if key == name})

    for error in ends(2, run):
        assert isinstance(error, ValueError)
        named = {"batch": "the leading axes of b", "dtype": "the dtype of A and b", "x0": "whether x0 is given"}
        assert f"{named.get(name, name)} must be the same on every rank" in str(error)


def test_one_process_is_a_solve_as_any():
    A, b = laplacian(50), rhs(50)
    (own,) = together(1, lambda comm: (ntsolve.cg(A, b, comm=comm), dict(comm.calls)))
    assert np.array_equal(own[0].x, ntsolve.cg(A, b).x)
    assert not own[1]


def test_what_is_no_communicator_is_refused():
    with pytest.raises(TypeError, match="comm must be a communicator"):
        ntsolve.cg(laplacian(5), np.ones(5), comm=object())


def test_recycling_is_for_one_process():
    def run(comm):
        return ntsolve.cg(product(comm), np.ones(30), comm=comm, recycle=ntsolve.Recycler())

    for error in ends(2, run):
        assert isinstance(error, ValueError)
        assert "recycle is for one matrix A in one process" in str(error)
