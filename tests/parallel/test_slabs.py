"""GridOperators of which each rank has a slab: the same products, cycles and answers as in one process."""

import gc

import numpy as np
import pytest

import ntsolve
from ntsolve import RankError, operators
from ntsolve.kernels import cpu
from ntsolve.linalg import multigrid
from ntsolve.linalg.aggregation import Aggregation
from ntsolve.parallel import slabcycle
from ntsolve.parallel.slabcg import State
from ntsolve.parallel.slabs import SlabOperator
from ntsolve.reductions import SERIAL

from .team import Deserted, ends, together

CUTS = {
    "even": lambda n, size: [n * rank // size for rank in range(size + 1)],
    "uneven": lambda n, size: [0, *(n // 2 + 1 + rank for rank in range(size - 1)), n],  # thin slabs in the middle
    "first": lambda n, size: [0, *range(1, size), n],  # one plane each, and the rest
}


class Problem:
    """A grid, whole or as the slab of a rank: walls, cells of value 0 and coefficients, with and without."""

    def __init__(self, shape, *, kind="poisson", holes=0.0, contrast=4.0, seed=0, **options):
        rng = np.random.default_rng(seed)
        what = rng.random(shape)
        self.shape, self.kind, self.options = shape, kind, options
        self.arrays = {"mask": what >= holes, "solid": what < holes / 2}
        if kind == "diffusion":
            self.arrays["kappa"] = contrast ** rng.uniform(-0.5, 0.5, shape)
        self.b = rng.standard_normal(shape)

    def operator(self, comm=None, cut="even"):
        part = lambda v: v if comm is None else mine(v, comm, cut)
        arrays = {name: part(array) for name, array in self.arrays.items()}
        first = arrays.pop("kappa") if self.kind == "diffusion" else arrays.pop("mask")
        return getattr(ntsolve.GridOperator, self.kind)(first, **arrays, **self.options, comm=comm)


def mine(v, comm, cut="even", axis=0):
    bounds = CUTS[cut](v.shape[axis], comm.Get_size())
    rank = comm.Get_rank()
    return v[(slice(None),) * axis + (slice(bounds[rank], bounds[rank + 1]),)].copy()


PROBLEMS = {
    "a box": Problem((13, 6, 9)),
    "walls and air": Problem((9, 5, 6), holes=0.3),
    "coefficients": Problem((10, 7, 5), kind="diffusion", holes=0.3),
    "a square": Problem((11, 8), kind="diffusion", outside=(("neumann", "dirichlet"), "neumann")),
    "periods": Problem((8, 6, 16), holes=0.2, periodic=(True, False, True)),
    "flat cells": Problem((12, 7, 6), spacing=(1.0, 0.3, 2.0), holes=0.1),
    "periodic coefficients": Problem((6, 7), kind="diffusion", periodic=True, holes=0.2),
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_products_and_residuals_are_those_of_one_process(name, size):
    problem = PROBLEMS[name]
    A, x = problem.operator(), np.random.default_rng(1).standard_normal((2, *problem.shape))
    product = A @ x
    b = product[0] + 1e-9 * x[1]
    system = operators.linear_system(cpu, A, b, x[0])
    expected = np.empty_like(system.b)
    system.A.residual(system.b, system.x0, expected)

    def run(comm, cut):
        B = problem.operator(comm, cut)
        unknowns = np.array([v[B.mask] for v in mine(x, comm, cut, axis=1)])
        flat = B @ unknowns
        y = B @ mine(x, comm, cut, axis=1)
        np.testing.assert_array_equal(y[:, B.mask], flat)
        np.testing.assert_array_equal(B.diag, mine(A.diag, comm, cut))
        part = operators.linear_system(cpu, B, mine(b, comm, cut), mine(x[0], comm, cut))
        r = np.empty_like(part.b)
        part.A.residual(part.b, part.x0, r)
        return y, r.reshape(-1, *problem.shape[1:])

    for cut in CUTS:
        y, r = zip(*together(size, lambda comm, cut=cut: run(comm, cut)), strict=True)
        np.testing.assert_allclose(np.concatenate(y, axis=1), product, atol=1e-13 * abs(product).max())
        np.testing.assert_array_equal(np.concatenate(r).reshape(1, -1), expected)  # each entry is rounded once


CYCLES = {
    "odd extents": Problem((37, 12, 17)),
    "obstacles": Problem((40, 16, 14), holes=0.03, outside="neumann"),
    "coefficients": Problem((27, 14, 20), kind="diffusion", holes=0.02),
    "a square": Problem((48, 41), kind="diffusion", holes=0.01),
    "periods": Problem((24, 8, 32), periodic=True, holes=0.02),
    "long cells along the cut": Problem((40, 12, 16), spacing=(4.0, 1.0, 1.0)),
    "flat cells along the cut": Problem((64, 10, 9), spacing=(0.3, 1.0, 1.0), kind="diffusion"),
}


@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_has_the_numbers_of_one_process(name, monkeypatch):
    monkeypatch.setattr(slabcycle, "GATHERED", 150)
    problem = CYCLES[name]
    M = ntsolve.LearnedMultigrid(problem.operator(), coarsening="blocks")
    r = np.random.default_rng(1).standard_normal((2, *problem.shape))
    z = M @ r

    def run(comm, cut):
        N = ntsolve.LearnedMultigrid(problem.operator(comm, cut), coarsening="blocks")
        assert N.levels == M.levels
        assert N.weights.name == M.weights.name
        np.testing.assert_allclose(N._choice.blocks.merged, M._choice.blocks.merged, rtol=1e-12)
        return N @ mine(r, comm, cut, axis=1), N._choice.blocks.depth

    for size, cut in ((3, "uneven"), (2, "first")):
        parts = together(size, lambda comm, cut=cut: run(comm, cut))
        found = np.concatenate([part for part, _ in parts], axis=1)
        np.testing.assert_allclose(found, z, atol=2e-6 * abs(z).max())
        assert parts[0][1] >= 1


@pytest.mark.parametrize("name", CYCLES)
def test_cg_takes_the_iterations_of_one_process(name, monkeypatch):
    monkeypatch.setattr(slabcycle, "GATHERED", 600)
    problem = CYCLES[name]
    A, b, rtol = problem.operator(), problem.b, 1e-9
    if A.null is not None:
        A.null.project(cpu, b.reshape(1, -1))
    b = np.where(A.mask, np.stack([b, np.roll(b, 3, 0) if A.null is None else 2 * b]), 0)
    serial = ntsolve.cg(A, b, M="multigrid", rtol=rtol)

    def run(comm, cut):
        B = problem.operator(comm, cut)
        return ntsolve.cg(B, mine(b, comm, cut, axis=1), M="multigrid", rtol=rtol, comm=comm if cut == "even" else None)

    for size, cut in ((2, "even"), (3, "uneven")):
        parts = together(size, lambda comm, cut=cut: run(comm, cut))
        x = np.concatenate([part.x for part in parts], axis=1)
        left = np.linalg.norm((b - A @ x).reshape(2, -1), axis=1)
        assert (left <= 1.001 * rtol * np.linalg.norm(b.reshape(2, -1), axis=1)).all()
        for part in parts:
            assert part.success.all()
            assert (abs(part.nit - serial.nit) <= 2).all()
            np.testing.assert_array_equal(part.history, parts[0].history)
        np.testing.assert_allclose(x, serial.x, atol=1e-5 * abs(x).max())


def test_small_grids_and_high_contrast_are_gathered():
    """By itself: blocks of a level that is small, and aggregation where coefficients jump."""
    for problem, coarsening in (
        (Problem((20, 18, 17), kind="diffusion"), "blocks"),
        (Problem((20, 14, 16), kind="diffusion", contrast=1e9, holes=0.1), "aggregation"),
        (Problem((29, 31), spacing=(0.2, 1.0), holes=0.2, outside="neumann", periodic=(False, True)), None),
    ):
        A = problem.operator()
        M, b = ntsolve.LearnedMultigrid(A), A @ problem.b
        assert coarsening in (None, M.coarsening)
        serial = ntsolve.cg(A, b, M=M, rtol=1e-9)

        def run(comm, problem=problem, b=b):
            N = ntsolve.LearnedMultigrid(problem.operator(comm, "uneven"))
            return N, ntsolve.cg(N.grid, mine(b, comm, "uneven"), M=N, rtol=1e-9)

        for N, result in together(3, run):
            assert (N.coarsening, N.levels, N.why) == (M.coarsening, M.levels, M.why)
            assert result.success
            assert abs(result.nit - serial.nit) <= 2


@pytest.mark.parametrize(("coarsening", "then"), [("auto", "aggregation"), ("blocks", "untrained")])
def test_a_cycle_that_falls_short_is_changed_on_all_ranks(coarsening, then, monkeypatch):
    monkeypatch.setattr(slabcycle, "GATHERED", 600)
    monkeypatch.setattr(multigrid, "SLOW", 0.01)  # which no cycle is good for
    problem = Problem((24, 14, 12))
    serial = ntsolve.LearnedMultigrid(problem.operator(), coarsening=coarsening)
    expected = ntsolve.cg(serial.grid, problem.b, M=serial, rtol=1e-8)

    def run(comm):
        M = ntsolve.LearnedMultigrid(problem.operator(comm), coarsening=coarsening)
        return M, ntsolve.cg(M.grid, mine(problem.b, comm), M=M, rtol=1e-8)

    for M, result in together(2, run):
        assert then in (M.coarsening, M.weights.name)
        assert (M.coarsening, M.weights.name) == (serial.coarsening, serial.weights.name)
        assert result.success
        assert abs(result.nit - expected.nit) <= 2


# ---- where it is singular -------------------------------------------------------------------------------------------


def test_closed_boxes_across_the_cut_are_one_set():
    mask = np.ones((12, 9, 8), dtype=bool)
    mask[:, 4] = False  # two chambers, both of them cut
    mask[5:8, 5:, 3] = False
    mask[0, 0, 0] = False  # a cell of value 0, unless it is a wall
    for walls in (True, ~(np.arange(mask.size).reshape(mask.shape) == 0)):
        A = ntsolve.GridOperator.poisson(mask, solid=walls, outside="neumann")
        b = A @ np.random.default_rng(0).standard_normal(mask.shape)
        serial = ntsolve.cg(A, b, M="multigrid", rtol=1e-10)

        def run(comm, walls=walls, b=b):
            solid = walls if walls is True else mine(walls, comm, "uneven")
            B = ntsolve.GridOperator.poisson(mine(mask, comm, "uneven"), solid=solid, outside="neumann", comm=comm)
            results = [ntsolve.cg(B, mine(b, comm, "uneven"), M=M, rtol=1e-10) for M in ("multigrid", "jacobi")]
            return B.null.sizes, results

        parts = together(3, run)
        starts = np.sort(np.diff(A.null.starts))
        for sizes, (fast, plain) in parts:
            assert np.array_equal(np.sort(sizes), starts)
            assert fast.success
            assert plain.success
            assert abs(fast.nit - serial.nit) <= 2
        x = np.concatenate([results[0].x for _, results in parts])
        np.testing.assert_allclose(x, serial.x, atol=1e-8)


@pytest.mark.parametrize("kind", ["poisson", "diffusion"])
def test_a_sum_that_is_not_0_is_refused_on_all_ranks(kind):
    problem = Problem((8, 6, 5), kind=kind, outside="neumann")

    def run(comm):
        return ntsolve.cg(problem.operator(comm), mine(abs(problem.b), comm))

    for error in ends(2, run):
        assert isinstance(error, ValueError)
        assert "around cell (0, 0, 0)" in str(error)


def test_what_is_taken_from_b_counts_once():
    problem = Problem((10, 9, 8), outside="neumann")
    A = problem.operator()
    b = problem.b - problem.b.mean()
    b = (b / abs(b).sum()).astype("float32")
    b[0, 0, 0] += 1e-5
    serial = ntsolve.cg(A, b, M="multigrid", rtol=1e-4)

    def run(comm):
        B = problem.operator(comm)
        result = ntsolve.cg(B, mine(b, comm), M="multigrid", rtol=1e-4)
        return result, result.verify(B, mine(b, comm))

    for result, again in together(3, run):
        assert (result.success, result.status) == (serial.success, serial.status)
        np.testing.assert_allclose([result.residual, again], serial.verify(A, b), rtol=1e-3)


# ---- arguments and ends ---------------------------------------------------------------------------------------------


def test_one_rank_has_the_operator_of_one_process():
    A = together(1, Problem((5, 4)).operator)[0]
    assert type(A) is ntsolve.GridOperator
    assert A.comm is SERIAL


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_starts_precisions_and_forms(dtype):
    problem = Problem((9, 8, 7), holes=0.2)
    A, b = problem.operator(), problem.b.astype(dtype)
    flat, start = b[A.mask], np.random.default_rng(3).standard_normal(A.shape[0]).astype(dtype)
    rtol = 1e-4 if dtype == "float32" else 1e-9
    for M in ("multigrid", None):
        serial = ntsolve.cg(A, flat, start, M=M, rtol=rtol)

        def run(comm, M=M):
            B = problem.operator(comm)
            x0 = np.zeros(problem.shape, dtype)
            x0[A.mask] = start
            own = B.mask
            return ntsolve.cg(B, mine(b, comm)[own], mine(x0, comm)[own], M=M, rtol=rtol)

        parts = together(2, run)
        x = np.concatenate([part.x for part in parts])
        assert x.dtype == dtype
        assert np.linalg.norm(flat - A @ x) <= 1.01 * rtol * np.linalg.norm(flat)
        assert abs(parts[0].nit - serial.nit) <= 2


@pytest.mark.parametrize("M", [None, "jacobi", "your own"])
def test_other_preconditioners_work_on_the_unknowns_of_a_rank(M):
    M = M if M != "your own" else lambda r: r / (4 + np.arange(r.size) % 2)
    for problem in (Problem((10, 9), holes=0.2), PROBLEMS["coefficients"], PROBLEMS["periods"]):
        A, b = problem.operator(), problem.b
        b = A @ b
        serial = ntsolve.cg(A, b, M=M, rtol=1e-9)
        parts = together(2, lambda comm, problem=problem, b=b: ntsolve.cg(
            problem.operator(comm, "first"), mine(b, comm, "first"), M=M, rtol=1e-9))  # fmt: skip
        assert all(part.success and abs(part.nit - serial.nit) <= 2 for part in parts)
        np.testing.assert_allclose(np.concatenate([part.x for part in parts]), serial.x, atol=1e-6)


def refusal(run, size=2):
    """What the ranks raised: RankErrors, and one other, which is returned."""
    errors = [error for error in ends(size, run) if not isinstance(error, (RankError, Deserted))]
    assert errors
    return errors[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rank: {"mask": np.ones((2 + rank, 3 + rank), bool)}, "mask and kappa"),
        (lambda rank: {"mask": np.ones((2 * rank, 3), bool)}, "no cells"),
        (lambda rank: {"mask": np.ones((2, 3), int) * (1 + rank)}, "mask must hold"),
        (lambda rank: {"spacing": 1.0 + rank}, "spacing must be the same on every rank"),
        (lambda rank: {"outside": ("neumann", "dirichlet")[rank]}, "outside must be the same"),
        (lambda rank: {"ndim": 2, "mask": np.ones((3, 3, 3), bool)}, "batch"),
        (lambda rank: {"solid": np.ones((2 + rank, 4), bool)}, "solid has shape"),
    ],
)
def test_slabs_that_do_not_fit_are_refused(change, words):
    def run(comm):
        return ntsolve.GridOperator.poisson(**{"mask": np.ones((2, 3), bool)} | change(comm.Get_rank()), comm=comm)

    error = refusal(run)
    assert isinstance(error, (ValueError, TypeError))
    assert words in str(error)


def test_what_is_the_same_in_other_words_is_the_same():
    words = ({"spacing": 0.5, "outside": "neumann", "periodic": False},
             {"spacing": (np.float64(0.5), 0.5), "outside": ["neumann"] * 2, "periodic": (False, False)})  # fmt: skip
    made = together(2, lambda comm: ntsolve.GridOperator.poisson(np.ones((4, 8), bool), comm=comm,
                                                                 **words[comm.Get_rank()]))  # fmt: skip
    assert [A.offset for A in made] == [0, 4]


def test_another_preconditioner_on_one_rank_is_refused_before_a_cycle_is_set_up():
    def run(comm):
        A = ntsolve.GridOperator.poisson(np.ones((4, 8), bool), comm=comm)
        return ntsolve.cg(A, np.ones((4, 8)), M=("multigrid", "jacobi")[comm.Get_rank()])

    assert all("M must be the same on every rank" in str(error) for error in ends(2, run))


def test_numbers_out_of_range_are_refused_on_all_ranks():
    def run(comm):
        kappa = np.full((3, 4), 1e-300 if comm.Get_rank() else 1e300)
        return ntsolve.GridOperator.diffusion(kappa, spacing=1e-6, comm=comm)

    assert all("leaves the range" in str(error) for error in ends(2, run))


def test_an_operator_of_one_process_does_not_go_with_ranks_nor_one_of_ranks_with_others():
    problem = Problem((6, 5))
    A = problem.operator()
    assert "one process" in str(refusal(lambda comm: ntsolve.cg(A, problem.b, comm=comm)))

    class Other:
        """Another communicator of the same ranks."""

        def __init__(self, comm):
            self.Get_rank, self.Get_size = comm.Get_rank, comm.Get_size
            self.Allreduce, self.Allgatherv = comm.Allreduce, comm.Allgatherv

    def run(comm):
        return ntsolve.cg(problem.operator(comm), mine(problem.b, comm), comm=Other(comm))

    assert "not the communicator" in str(refusal(run))


def test_what_is_not_for_slabs_says_so():
    def run(comm):
        A = Problem((6, 5)).operator(comm)
        with pytest.raises(TypeError, match="divided among ranks"):
            A.tocsr()
        with pytest.raises(ValueError, match="several processes"):
            ntsolve.DeepConjugateDirection(A)
        return repr(A), Aggregation(A).levels  # of the block

    assert "planes 3 to 5 of 6x5 cells" in together(2, run)[1][0]


def test_a_bad_right_hand_side_on_one_rank_is_told_to_all_and_the_operator_goes_on():
    problem = Problem((8, 7, 6))
    serial = ntsolve.cg(problem.operator(), problem.b, M="multigrid", rtol=1e-8)

    def run(comm):
        A, b = problem.operator(comm), mine(problem.b, comm)
        bad = np.full_like(b, np.nan) if comm.Get_rank() else b
        with pytest.raises((ValueError, RankError), match="b "):
            ntsolve.cg(A, bad, M="multigrid")
        return ntsolve.cg(A, b, M="multigrid", rtol=1e-8)

    assert all(part.success and abs(part.nit - serial.nit) <= 2 for part in together(2, run))


def test_a_solve_leaves_nothing_to_collect():
    problem = Problem((12, 7, 6), outside="neumann")
    b = problem.b - problem.b.mean()
    gc.collect()
    gc.disable()
    try:
        together(2, lambda comm: ntsolve.cg(problem.operator(comm), mine(b, comm), M="multigrid").nit)
        left = [one for one in gc.get_objects() if type(one) in (State, SlabOperator)]
    finally:
        gc.enable()
    assert not left
