"""What `cg` makes of operators on grids: singular ones, batches, and what is made for other cells."""

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import GridOperator
from ntsolve.linalg.aggregation import Aggregation

from .problems import cells_of, consistent

# ---- null spaces ----------------------------------------------------------------------------------------------------


def chambers():
    """Two rooms with a wall between them, one of them with a window; and a cell walled in on its own."""
    mask = np.ones((7, 12), dtype=bool)
    mask[:, 5] = False
    mask[2:5, 8:11] = False
    mask[3, 9] = True
    return mask


def test_closed_chambers_are_found_one_by_one():
    mask = chambers()
    A = GridOperator.poisson(mask, outside="neumann")
    sizes = np.diff(A.null.starts)
    assert sorted(sizes) == [1, 33, 35]
    open_left = GridOperator.poisson(mask, solid=True, outside=("neumann", ("dirichlet", "neumann")))
    assert sorted(np.diff(open_left.null.starts)) == [1, 33]
    assert GridOperator.poisson(mask).null is None


@pytest.mark.parametrize("M", [None, "jacobi"])
def test_a_singular_system_has_the_solution_of_mean_zero(M):
    A = GridOperator.poisson(chambers(), outside="neumann")
    b = consistent(A)
    result = ntsolve.cg(A, b, M=M, rtol=1e-9)
    assert result.success
    np.testing.assert_allclose(A @ result.x, b, atol=1e-8 * np.linalg.norm(b))
    want = np.linalg.lstsq(A.tocsr().toarray(), b, rcond=1e-12)[0]
    np.testing.assert_allclose(result.x, want, atol=1e-7)


def test_periods_join_chambers():
    mask = np.ones((4, 9), dtype=bool)
    mask[:, 3] = mask[:, 6] = False
    for periodic, rooms in ((False, 3), ((False, True), 2)):
        A = GridOperator.poisson(mask, solid=True, outside="neumann", periodic=periodic)
        assert len(A.null.starts) == rooms + 1


def test_a_right_hand_side_without_a_solution_is_refused_by_name():
    A = GridOperator.poisson(chambers(), outside="neumann")
    b = consistent(A)
    b[-1] += 1e-3
    with pytest.raises(ValueError, match=r"^b must add up to 0 .* around cell \(0, 6\)"):
        ntsolve.cg(A, b)
    with pytest.raises(ValueError, match="b must add up to 0"):
        ntsolve.cg(GridOperator.poisson(np.ones((3, 3), dtype=bool), outside="neumann"), np.ones(9))


def test_rounding_in_a_compatible_right_hand_side_is_forgiven():
    A = GridOperator.poisson(np.ones((40, 40), dtype=bool), outside="neumann")
    for dtype in ("float32", "float64"):
        b = np.random.default_rng(0).uniform(0, 1, 1600).astype(dtype)
        b -= b.mean()
        assert ntsolve.cg(A, b, rtol=1e-5).success
    kappa = np.random.default_rng(1).uniform(1, 2, (40, 40))
    A = GridOperator.diffusion(kappa, outside="neumann")  # in float64, of which the rounding of b knows nothing
    b = (A @ np.random.default_rng(0).standard_normal(1600)).astype("float32")
    assert ntsolve.cg(A, b, rtol=1e-5).success


def test_zero_faces_of_a_matrix_separate_chambers():
    half = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(4, 4)).toarray()
    half[0, 0] = half[-1, -1] = 1
    path = sp.block_diag([half, half]).toarray()
    A = GridOperator.from_csr(sp.csr_array(np.kron(np.eye(2), path)), (2, 8))
    assert sorted(np.diff(A.null.starts)) == [4, 4, 4, 4]
    mask = np.zeros((4, 8), dtype=bool)  # other cells are no chambers
    mask[:2] = True
    A = GridOperator.from_csr(sp.csr_array(np.kron(np.eye(2), path)), mask=mask)
    assert sorted(np.diff(A.null.starts)) == [4, 4, 4, 4]
    b = A @ np.arange(16.0)
    assert ntsolve.cg(A, b, M="multigrid", rtol=1e-9).success


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
def test_a_batch_of_masks_is_solved_like_one_after_the_other(shape):
    masks = np.stack([cells_of(shape, seed)[0] for seed in range(3)])
    A = GridOperator.poisson(masks, ndim=len(shape))
    assert A.batch_shape == (3,)
    assert A.ragged
    b = np.random.default_rng(0).standard_normal(masks.shape)
    result = ntsolve.cg(A, b, rtol=1e-10, M="jacobi")
    assert result.success.all()
    for item in range(3):
        single = GridOperator.poisson(masks[item])
        assert (A[item].tocsr() != single.tocsr()).nnz == 0
        alone = ntsolve.cg(single, b[item], rtol=1e-10, M="jacobi")
        np.testing.assert_allclose(result.x[item], alone.x, atol=1e-8)
    with pytest.raises(ValueError, match=r"takes \(3, "):
        A.matvec(np.ones(A.shape[-1]))


def test_a_batch_of_equal_sizes_takes_flat_vectors_and_null_spaces():
    masks = np.stack([np.ones((4, 6), dtype=bool)] * 2)
    masks[0, 0, 0] = masks[1, 3, 3] = False
    A = GridOperator.poisson(masks, outside="neumann", ndim=2)
    assert A.shape == (2, 23, 23)
    b = np.stack([A[item] @ np.random.default_rng(item).standard_normal(23) for item in range(2)])
    result = ntsolve.cg(A, b, rtol=1e-10)
    np.testing.assert_allclose(A @ result.x, b, atol=1e-8)
    np.testing.assert_allclose(result.x.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(A.diagonal()[1], A[1].diagonal())
    assert ntsolve.cg(A, b, M=lambda r: r, rtol=1e-6).success.all()


# ---- what is made for other cells -----------------------------------------------------------------------------------


def with_a_hole(at, shape=(24, 24)):
    mask = np.ones(shape, dtype=bool)
    mask[at : at + 4, at : at + 4] = False
    return GridOperator.poisson(mask)


def true_residual(A, b, x):
    return np.linalg.norm(b - A.tocsr() @ x)


@pytest.mark.parametrize("make", [ntsolve.LearnedMultigrid, ntsolve.DeepConjugateDirection, Aggregation])
def test_a_preconditioner_for_other_cells_is_refused_by_name(make):
    A = with_a_hole(3)
    b = np.ones(A.shape[0])
    assert ntsolve.cg(A, b, M=make(with_a_hole(3))).success
    with pytest.raises(ValueError, match=r"^M is for .*, of other cells"):
        ntsolve.cg(A, b, M=make(with_a_hole(12)))
    with pytest.raises(ValueError, match=r"^M is for "):
        ntsolve.cg(A, b, M=make(with_a_hole(3, (24, 25))))


@pytest.mark.parametrize("make", [ntsolve.ic0, lambda C: ntsolve.ssor(C, 1.4)])
def test_factors_act_on_the_unknowns(make):
    A = with_a_hole(3)
    b = consistent(A)
    plain = ntsolve.cg(A, b, rtol=1e-8)
    result = ntsolve.cg(A, np.stack([b, 2 * b]), M=make(A.tocsr()), rtol=1e-8)
    assert result.success.all()
    assert result.nit[0] < 0.6 * plain.nit
    assert true_residual(A, b, result.x[0]) <= 1.01e-8 * np.linalg.norm(b)
    box = GridOperator.poisson(np.ones((24, 24), dtype=bool))
    assert ntsolve.cg(box, np.ones(576), M=make(box.tocsr())).success
    with pytest.raises(ValueError, match=r"^M .* order 576, A is of order 560"):
        ntsolve.cg(A, b, M=make(box.tocsr()))


def test_a_recycler_goes_from_mask_to_mask():
    recycler = ntsolve.Recycler()
    for seed in (0, 1, 2):
        A = GridOperator.poisson(np.random.default_rng(seed).random((24, 24)) < 0.8)
        b = np.ones(A.shape[0])
        result = ntsolve.cg(A, b, rtol=1e-8, recycle=recycler)
        assert result.success
        assert true_residual(A, b, result.x) <= 1.01e-8 * np.linalg.norm(b)
    assert recycler.size == 10


@pytest.mark.parametrize("batch", ["masks", "complex matrices"])
def test_a_recycler_is_for_one_matrix(batch):
    if batch == "masks":
        A, b = GridOperator.poisson(np.random.default_rng(0).random((2, 8, 8)) < 0.9, ndim=2), np.ones((2, 8, 8))
    else:
        A, b = np.eye(3) * np.ones((2, 1, 1)) * (1 + 0j), np.ones((2, 3))
    with pytest.raises(ValueError, match=r"^recycle "):
        ntsolve.cg(A, b, recycle=ntsolve.Recycler())


# ---- success is about the b that was passed in ----------------------------------------------------------------------


@pytest.mark.parametrize("M", [None, "multigrid"])
def test_what_is_taken_from_an_incompatible_right_hand_side_counts(M):
    A = GridOperator.poisson(np.ones((16, 16), dtype=bool), outside="neumann")
    b = np.random.default_rng(3).standard_normal((16, 16)).astype("float32")
    b += np.float32(2e-5 * abs(b).mean()) - b.mean()
    away = abs(b.astype(float).mean()) * 16 / np.linalg.norm(b)
    assert ntsolve.cg(A, b, M=M, rtol=1e-4).success
    result = ntsolve.cg(A, b, M=M, rtol=1e-6, on_failure="ignore")
    assert not result.success
    assert result.status == ntsolve.Status.STALLED
    assert "add up to 0" in result.message
    assert result.residual == pytest.approx(away * np.linalg.norm(b), rel=0.1)


def test_the_removed_part_is_that_of_each_grid_of_a_batch():
    masks = np.ones((2, 6, 6), dtype=bool)
    masks[1, 3] = False  # two chambers
    A = GridOperator.poisson(masks, ndim=2, outside="neumann", solid=True)
    b = np.where(masks, np.random.default_rng(4).standard_normal(masks.shape), 0)
    b[0] -= b[0].mean()
    for chamber in (b[1, :3], b[1, 4:]):
        chamber -= chamber.mean() - 1e-12
    result = ntsolve.cg(A, b, rtol=1e-13, on_failure="ignore")
    assert list(result.success) == [True, False]
    assert result.residual[1] == pytest.approx(1e-12 * np.sqrt(30), rel=0.05)
