"""Conjugate gradients on vectors of which each process holds a part; here the processes are threads with a barrier."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ntsolve
from ntsolve import Status

from .problems import laplacian, residual, rhs


class Member:
    """One of `size` that compute together: what it says, all get to hear, in the same order."""

    def __init__(self, rank, size, barrier, said):
        self.rank, self.size, self.barrier, self.said = rank, size, barrier, said
        self.carry = 1.0 if rank == 0 else 0.0

    def hear(self, word):
        self.said[self.rank] = word
        self.barrier.wait(20)
        heard = list(self.said)
        self.barrier.wait(20)
        return heard

    # what `ntsolve.reductions.Reductions` asks for

    def total(self, *arrays):
        for array in arrays:
            array[...] = sum(self.hear(array.copy()))

    def norm(self, norms):
        return np.hypot.reduce(self.hear(norms.copy()))

    def any(self, flag):
        return any(self.hear(flag))


def team(size):
    barrier, said = threading.Barrier(size), [None] * size
    return [Member(rank, size, barrier, said) for rank in range(size)]


def together(size, run):
    """run(member) in a thread each; if one fails, none waits for it."""

    def guarded(member):
        try:
            return run(member)
        except BaseException:
            member.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(guarded, team(size)))


def local(v, member):
    """The member's part of a vector."""
    return np.array_split(v, member.size, axis=-1)[member.rank].copy()


def product(member, shift=0.0):
    """Its rows of the 1-D Laplacian, after a look at the neighbours' nearest entries."""

    def matvec(v):
        ends = member.hear((v[0], v[-1]))
        padded = np.concatenate(
            [
                [ends[member.rank - 1][1] if member.rank else 0.0],
                v,
                [ends[member.rank + 1][0] if member.rank + 1 < member.size else 0.0],
            ]
        )
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

    def run(member):
        own = None if x0 is None else local(x0, member)
        return ntsolve.cg(product(member, shift), local(b, member), own, M=precondition, rtol=rtol, comm=member)

    parts, serial = together(size, run), ntsolve.cg(A, b, x0, M=precondition, rtol=rtol)
    x = np.concatenate([part.x for part in parts], axis=-1)
    assert np.all(residual(A, b, x) <= 1.01 * rtol * np.linalg.norm(b, axis=-1))
    for part in parts:
        assert np.all(part.success)
        assert np.all(abs(np.asarray(part.nit) - serial.nit) <= 2)
        np.testing.assert_allclose(part.tolerance, serial.tolerance, rtol=1e-14)
        np.testing.assert_allclose(part.residual, residual(A, b, x), rtol=0.05)  # near rounding
        assert np.array_equal(part.history, parts[0].history)  # every process knows the same
    np.testing.assert_allclose(x, serial.x, atol=1e-7)


def test_the_scale_does_not_matter():
    b = rhs(60)
    for factor in (1e-160, 1e160):
        parts = together(
            2, lambda member, b=b * factor: ntsolve.cg(product(member, 1.0), local(b, member), comm=member)
        )
        assert all(part.success for part in parts)
        x = np.concatenate([part.x for part in parts])
        assert residual(laplacian(60, shift=1.0), b * factor, x) <= 1.01e-5 * np.linalg.norm(b) * factor


def test_a_part_that_is_zero_takes_part():
    b = np.zeros(60)
    b[50:] = 1
    parts = together(2, lambda member: ntsolve.cg(product(member, 1.0), local(b, member), comm=member))
    assert all(part.success for part in parts)
    assert parts[0].nit == parts[1].nit > 5


def test_a_verdict_is_the_same_for_all():
    """The operator is indefinite only where the second process is."""

    def run(member):
        A = product(member)
        return ntsolve.cg(lambda v: A(v) * (-1 if member.rank else 1), np.ones(30), comm=member, on_failure="ignore")

    assert [part.status for part in together(2, run)] == [Status.INDEFINITE_OPERATOR] * 2


def test_nan_in_one_part_ends_the_solve_for_all():
    def run(member):
        A = product(member)
        return ntsolve.cg(
            lambda v: A(v) * (np.nan if member.rank else 1), np.ones(30), comm=member, on_failure="ignore"
        )

    parts = together(2, run)
    assert [part.status for part in parts] == [Status.NAN_OR_INF] * 2
    assert max(part.nit for part in parts) <= 1


def test_all_stop_when_one_has_to():
    """Its callback, its clock or its Ctrl-C: nobody is left waiting for a sum."""

    def run(member):
        stop = (lambda state: state.nit == 4) if member.rank else None
        return ntsolve.cg(product(member), np.ones(50), rtol=1e-10, comm=member, callback=stop, on_failure="ignore")

    parts = together(2, run)
    assert [part.status for part in parts] == [Status.INTERRUPTED, Status.CALLBACK_STOP]
    assert {part.nit for part in parts} == {4}
