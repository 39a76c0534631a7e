"""The layer through which ranks talk: sums, maxima, parts, neighbours, and failures that everyone hears of."""

import numpy as np
import pytest

from ntsolve.errors import RankError
from ntsolve.parallel.comm import Ranks, join
from ntsolve.reductions import SERIAL

from .team import Member, ends, together

SIZES = [2, 3]


def test_one_process_needs_nothing():
    assert join(None) is SERIAL
    (alone,) = together(1, lambda comm: join(comm))
    assert alone is SERIAL
    with SERIAL.together() as ranks:
        assert ranks.gather(np.arange(3)).tolist() == [0, 1, 2]


def test_a_thing_that_is_no_communicator_is_named():
    with pytest.raises(TypeError, match=r"comm must be .* Get_rank"):
        join(3)
    with pytest.raises(TypeError, match="comm"):
        join(Member)


def test_the_same_communicator_is_wrapped_once():
    for same in together(2, lambda comm: join(comm) is join(comm)):
        assert same


@pytest.mark.parametrize("size", SIZES)
def test_sums_have_the_same_bits_everywhere_and_take_one_message(size):
    terms = np.random.default_rng(1).normal(size=(size, 5)) * 10.0 ** np.arange(5)

    def run(comm):
        ranks = join(comm)
        one, two = terms[comm.rank, :2].copy(), terms[comm.rank, 2:].reshape(3, 1).copy()
        before = comm.calls["Allgatherv"]
        ranks.total(one, two)
        assert two.shape == (3, 1)
        return np.r_[one, two[:, 0]], comm.calls["Allgatherv"] - before

    found = together(size, run)
    for numbers, _ in found:
        assert numbers.tobytes() == found[0][0].tobytes()
        assert np.allclose(numbers, terms.sum(0), rtol=1e-15)
    assert found[0][1] <= 2  # all is well, and the terms


@pytest.mark.parametrize("size", SIZES)
def test_norms_of_huge_parts_do_not_overflow(size):
    for norm in together(size, lambda comm: join(comm).norm(np.array([3e200, 0.0]))):
        assert np.allclose(norm, [3e200 * np.sqrt(size), 0.0])


@pytest.mark.parametrize("size", SIZES)
def test_maxima_and_flags(size):
    def run(comm):
        ranks = join(comm)
        assert ranks.any(comm.rank == 1)
        assert not ranks.any(False)
        assert np.isnan(ranks.largest([np.nan if comm.rank == 1 else 0.0]))[0]
        return ranks.largest([comm.rank, -comm.rank]).tolist()

    assert together(size, run) == [[size - 1, 0]] * size


UGLY = (0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1.7e308, -1.7e308, np.inf, -np.inf, np.nan, -np.nan)


def many_ugly(size):
    """Rows (size, 3, n), one a rank, too many numbers for one message."""
    return np.random.default_rng(3).choice(UGLY, size=(size, 3, 70_001))


@pytest.mark.parametrize("size", SIZES)
def test_maxima_of_many_numbers_are_those_of_few(size):
    rows = many_ugly(size)
    for found in together(size, lambda comm: join(comm).largest(rows[comm.rank])):
        np.testing.assert_array_equal(found, rows.max(axis=0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["f4", "c16", "i8", "?"])
def test_parts_of_any_length_come_together_in_order(size, dtype):
    whole = np.random.default_rng(2).integers(0, 2, (size * (size - 1) // 2, 2)).astype(dtype)

    def run(comm):
        first = comm.rank * (comm.rank - 1) // 2
        return join(comm).gather(whole[first : first + comm.rank])  # rank 0 has none

    for found in together(size, run):
        assert found.dtype == whole.dtype
        assert np.array_equal(found, whole)


@pytest.mark.parametrize("size", SIZES)
def test_neighbours_exchange_what_is_for_them(size):
    def run(comm):
        me, ranks = comm.rank, join(comm)
        near = [rank for rank in (me - 1, me + 1) if 0 <= rank < size]
        incoming = {rank: np.zeros((2, rank + 1)) for rank in near}
        ranks.exchange({rank: np.full((2, me + 1), 10.0 * me + rank) for rank in near}, incoming)()
        for rank, found in incoming.items():
            assert (found == 10 * rank + me).all()
        large = np.arange(4.0)
        ranks.add(large)
        return large.tolist()

    assert together(size, run) == [[0.0, size, 2.0 * size, 3.0 * size]] * size


def test_what_has_to_be_the_same_is_compared():
    def run(comm, **values):
        join(comm).alike(tol=1e-6, c=np.ones(3), bounds=None)
        join(comm).alike(**values, b=np.ones(comm.rank + 1))

    for error in ends(2, lambda comm: run(comm, Y=np.zeros(2))):
        assert isinstance(error, ValueError)
        assert "b must be the same on every rank" in str(error)


@pytest.mark.parametrize("other", [np.zeros((2, 3)), np.zeros(6, dtype="int64"), np.zeros(12, dtype="float32"), None])
def test_the_same_bytes_are_not_the_same_array(other):
    values = np.zeros((3, 2)), other
    for error in ends(2, lambda comm: join(comm).alike(Y=values[comm.rank])):
        assert isinstance(error, ValueError)
        assert "Y must be the same on every rank" in str(error)


@pytest.mark.parametrize("size", SIZES)
def test_an_exception_on_one_rank_is_heard_of_on_all(size):
    def run(comm):
        with join(comm).together() as ranks:
            ranks.any(False)
            if comm.rank == 1:
                raise KeyError("mine")
            ranks.total(np.zeros(1))
            raise AssertionError("not reached")

    found = ends(size, run)
    assert isinstance(found[1], KeyError)
    for rank in set(range(size)) - {1}:
        assert isinstance(found[rank], RankError)
        assert "rank 1: KeyError: 'mine'" in str(found[rank])


def test_nobody_leaves_before_all_have_come_through():
    def run(comm):
        with join(comm).together():
            if comm.rank == 0:
                raise ValueError("at the very end")

    assert isinstance(ends(2, run)[1], RankError)


def test_a_failed_solve_leaves_the_communicator_usable():
    def fails(comm):
        with join(comm).together() as ranks:
            if comm.rank == 0:
                raise ValueError("once")
            ranks.any(False)

    def run(comm):
        with pytest.raises((RankError, ValueError)):
            fails(comm)
        value = np.ones(1)
        with join(comm).together() as ranks:
            assert isinstance(ranks, Ranks)
            ranks.total(value)
        return value.item()

    assert together(2, run) == [2.0, 2.0]
