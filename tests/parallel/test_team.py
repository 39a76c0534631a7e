"""The team of threads does what MPI would, and says what MPI would hang on."""

import numpy as np
import pytest

import ntsolve
from ntsolve.kernels.settings import THREADS

from .team import Deserted, Disagreement, bounds, ends, part, together


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sums_and_maxima_are_those_of_all(size):
    def run(comm):
        got = np.zeros((2, 2))
        comm.Allreduce(np.full((2, 2), 1.0 + comm.Get_rank()), got)
        most = np.zeros(1, dtype="int64")
        comm.Allreduce(np.array([comm.Get_rank()]), most, op="MPI_MAX")
        return got, most, dict(comm.calls)

    for got, most, calls in together(size, run):
        assert (got == sum(range(1, size + 1))).all()
        assert most == size - 1
        assert calls == {"Allreduce": 2}


@pytest.mark.parametrize("form", ["counts", "pair", "places", "type"])
def test_parts_of_any_length_are_put_together(form):
    counts = [2, 0, 3]

    def run(comm):
        out = np.full(5, -1.0)
        receive = {
            "counts": [out, counts],
            "pair": [out, (counts, [0, 2, 2])],
            "places": [out, counts, [0, 2, 2], "double"],
            "type": [out, counts, None, "double"],
        }
        comm.Allgatherv(np.full(counts[comm.Get_rank()], float(comm.Get_rank())), receive[form])
        return out

    for out in together(3, run):
        assert out.tolist() == [0, 0, 2, 2, 2]


def test_different_calls_are_told_apart():
    def run(comm):
        comm.Allreduce(np.zeros(1 + comm.Get_rank()), np.zeros(1 + comm.Get_rank()))

    with pytest.raises(Disagreement, match="different calls"):
        together(2, run)


def test_who_is_left_alone_does_not_wait():
    def run(comm):
        if comm.Get_rank() == 1:
            raise ValueError("mine")
        comm.Allreduce(np.zeros(1), np.zeros(1))

    with pytest.raises(ValueError, match="mine"):
        together(3, run)
    found = ends(3, run)
    assert [type(error) for error in found] == [Deserted, ValueError, Deserted]


def test_parts_make_up_the_whole():
    v = np.arange(14).reshape(2, 7)
    parts = together(3, lambda comm: (part(v, comm), bounds(7, comm)))
    assert np.array_equal(np.concatenate([p for p, _ in parts], axis=1), v)
    assert [b for _, b in parts] == [(0, 3), (3, 5), (5, 7)]


def test_settings_hold_for_all():
    with ntsolve.config(threads=1):
        assert together(2, lambda comm: THREADS.get()) == [1, 1]
