"""Operators on grids: against matrices assembled cell by cell, and what `cg` makes of them."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import ndimage

import ntsolve
from ntsolve import GridOperator
from ntsolve.linalg.aggregation import Aggregation
from tests.backends import BACKENDS, to_device, to_host

SHAPES = [(1, 1), (1, 6), (7, 1), (5, 4), (6, 9), (1, 1, 5), (4, 1, 3), (3, 4, 5), (5, 2, 2)]
OUTSIDES = ["dirichlet", "neumann"]


def rng(seed=0):
    return np.random.default_rng(seed)


def assembled(kappa, mask, solid, spacing, low, high, periodic):
    """The matrix of every cell's faces, one at a time, in dense form, rows in C order of the unknowns."""
    shape = mask.shape
    number = {cell: n for n, cell in enumerate(zip(*np.nonzero(mask), strict=True))}
    A = np.zeros((len(number), len(number)))
    for cell, row in number.items():
        for axis, step in itertools.product(range(len(shape)), (1, -1)):
            beyond = list(cell)
            beyond[axis] += step
            weight = 1 / spacing[axis] ** 2
            if not 0 <= beyond[axis] < shape[axis]:
                if periodic[axis]:
                    beyond[axis] %= shape[axis]
                else:
                    ends = high if step > 0 else low
                    A[row, row] += weight * kappa[cell] * (ends[axis] == "dirichlet")
                    continue
            beyond = tuple(beyond)
            if beyond == cell or (not mask[beyond] and solid[beyond]):
                continue
            mean = 2 * kappa[cell] * kappa[beyond] / (kappa[cell] + kappa[beyond])
            A[row, row] += weight * mean
            if mask[beyond]:
                A[row, number[beyond]] -= weight * mean
    return A


def cells_of(shape, seed=0, share=0.7):
    """(unknowns, which of the others are walls)"""
    kind = rng(seed).random(shape)
    mask = kind < share
    mask.flat[0] = True
    return mask, kind > (1 + share) / 2


def consistent(A, seed=1):
    return A @ rng(seed).standard_normal(A.shape[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outside", OUTSIDES)
def test_poisson_is_the_sum_over_the_faces(shape, outside):
    ndim = len(shape)
    for periodic in (False, tuple(axis == 0 for axis in range(ndim)), True):
        mask, solid = cells_of(shape)
        A = GridOperator.poisson(mask, solid=solid, outside=outside, periodic=periodic, spacing=0.5)
        wrap = (periodic,) * ndim if isinstance(periodic, bool) else periodic
        want = assembled(np.ones(shape), mask, solid, (0.5,) * ndim, (outside,) * ndim, (outside,) * ndim, wrap)
        assert A.kind == "mask"
        assert A.shape == (mask.sum(), mask.sum())
        assert A.grid_shape == shape
        np.testing.assert_array_equal(A.tocsr().toarray(), want)
        np.testing.assert_array_equal(A.diagonal(), want.diagonal())
        x = rng().standard_normal(len(want))
        np.testing.assert_allclose(A.matvec(x), want @ x, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(A @ x, A.tocsr() @ x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5), (1, 7), (4, 3, 5)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_diffusion_has_harmonic_means_and_spacings_of_each_axis(shape, dtype):
    ndim = len(shape)
    mask, solid = cells_of(shape, 3)
    kappa = (10 ** rng().uniform(-2, 2, shape)).astype(dtype)
    spacing = (0.5, 2.0, 1.0)[:ndim]
    low, high = ("dirichlet", "neumann", "dirichlet")[:ndim], ("neumann", "neumann", "dirichlet")[:ndim]
    outside = tuple(zip(low, high, strict=True))
    for periodic in ((False,) * ndim, (False,) * (ndim - 1) + (True,)):
        A = GridOperator.diffusion(kappa, mask=mask, solid=solid, spacing=spacing, outside=outside, periodic=periodic)
        want = assembled(kappa.astype(float), mask, solid, spacing, low, high, periodic)
        assert A.kind == "coefficient"
        assert A.dtype == dtype
        rtol = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(A.tocsr().toarray(), want, rtol=rtol, atol=rtol * abs(want).max())
        np.testing.assert_array_equal(A.tocsr().toarray(), A.tocsr().toarray().T)
        x = rng().standard_normal(len(want)).astype(dtype)
        assert A.matvec(x).dtype == dtype
        np.testing.assert_allclose(A @ x, want @ x, rtol=0, atol=20 * rtol * abs(want).max())


def test_poisson_with_spacings_of_each_axis_is_diffusion_of_one():
    mask, solid = cells_of((5, 6, 4))
    one = GridOperator.poisson(mask, solid=solid, spacing=(1, 2, 0.5))
    other = GridOperator.diffusion(np.ones(mask.shape), mask=mask, solid=solid, spacing=(1, 2, 0.5))
    assert (one.tocsr() != other.tocsr()).nnz == 0


def test_a_mask_cuts_rows_and_columns_out_of_the_matrix():
    mask, _ = cells_of((6, 7))
    kappa = rng().uniform(1, 5, mask.shape)
    whole, part = (GridOperator.diffusion(kappa, mask=m).tocsr().toarray() for m in (None, mask))
    np.testing.assert_allclose(part, whole[mask.ravel()][:, mask.ravel()], rtol=1e-14)


def test_what_lies_in_walls_does_not_matter():
    mask, solid = cells_of((6, 7))
    kappa = np.where(mask, 1.0, 0.5)
    want = GridOperator.diffusion(kappa, mask=mask, solid=solid).tocsr()
    kappa[solid & ~mask] = np.nan
    assert (GridOperator.diffusion(kappa, mask=mask, solid=solid).tocsr() != want).nnz == 0


def test_faces_sink_and_diagonal_are_those_of_the_matrix():
    mask, solid = cells_of((4, 5, 6))
    A = GridOperator.poisson(mask, solid=solid, spacing=0.5, periodic=(True, False, False))
    B = GridOperator.diffusion(np.ones(mask.shape), mask=mask, solid=solid, spacing=0.5, periodic=(True, False, False))
    for one, other in zip((*A.faces, A.sink, A.diag), (*B.faces, B.sink, B.diag), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(A.diag[mask], A.diagonal())


# ---- vectors --------------------------------------------------------------------------------------------------------


def test_vectors_may_be_flat_or_have_the_shape_of_the_grid():
    mask, solid = cells_of((5, 6))
    A = GridOperator.poisson(mask, solid=solid)
    x = rng().standard_normal((2, 3, A.shape[0]))
    on_grid = np.full((2, 3, *mask.shape), np.nan)  # what stands in other cells is ignored
    on_grid[:, :, mask] = x
    got = A.matvec(on_grid)
    assert got.shape == on_grid.shape
    assert not got[:, :, ~mask].any()
    np.testing.assert_array_equal(got[:, :, mask], A.matvec(x))


def test_complex_vectors_are_two_real_ones():
    A = GridOperator.poisson(np.ones((4, 4), dtype=bool))
    x = rng().standard_normal(16) + 1j * rng(1).standard_normal(16)
    np.testing.assert_allclose(A @ x, A.tocsr() @ x, rtol=1e-13)


@pytest.mark.parametrize("M", [None, "jacobi"])
def test_cg_takes_and_returns_both_forms(M):
    mask, solid = cells_of((6, 5, 4))
    A = GridOperator.poisson(mask, solid=solid)
    b = rng().standard_normal(A.shape[0])
    want = np.linalg.solve(A.tocsr().toarray(), b)
    on_grid = np.full(mask.shape, np.nan)
    on_grid[mask] = b
    flat, shaped = (ntsolve.cg(A, v, M=M, rtol=1e-10) for v in (b, on_grid))
    assert flat.success
    assert shaped.success
    np.testing.assert_allclose(flat.x, want, rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(shaped.x[mask], flat.x)
    assert not shaped.x[~mask].any()
    again = ntsolve.cg(A, on_grid, flat.x, M=M, rtol=1e-8)
    assert (again.success, again.nit) == (True, 0)


def test_cg_takes_many_right_hand_sides():
    A = GridOperator.poisson(np.ones((5, 6), dtype=bool))
    b = rng().standard_normal((3, 5, 6))
    result = ntsolve.cg(A, b, rtol=1e-10)
    assert result.x.shape == b.shape
    assert result.success.shape == (3,)
    np.testing.assert_allclose(A @ result.x, b, atol=1e-8)


@pytest.mark.parametrize("precise", ["float32", "float64"])
def test_an_operator_of_a_mask_works_in_the_precision_of_b(precise):
    A = GridOperator.poisson(np.ones((8, 8), dtype=bool))
    assert ntsolve.cg(A, np.ones(64, precise)).x.dtype == precise


def test_a_callable_or_scipy_preconditioner_sees_vectors_of_the_unknowns():
    mask, solid = cells_of((6, 7))
    A = GridOperator.poisson(mask, solid=solid)
    inverse = np.linalg.inv(A.tocsr().toarray())
    b = np.ones(mask.shape)
    seen = []
    for M in (inverse, lambda r: (seen.append(r.shape), inverse @ r)[1]):
        result = ntsolve.cg(A, b, M=M, rtol=1e-8)
        assert result.success
        assert result.nit <= 2
    assert set(seen) == {A.shape[:1]}
    with pytest.raises(ValueError, match="M has shape"):
        ntsolve.cg(A, b, M=np.eye(3))


def test_scipy_takes_it_for_a_linear_operator():
    from scipy.sparse.linalg import aslinearoperator, cg

    A = GridOperator.poisson(np.ones((5, 5), dtype=bool))
    b = rng().standard_normal(25)
    x, info = cg(aslinearoperator(A), b, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(A.tocsr().toarray(), b), rtol=1e-6)
    np.testing.assert_array_equal(A.as_linear_operator() @ b, A @ b)


def test_success_is_measured_beyond_the_precision_of_the_vectors():
    A = GridOperator.poisson(np.ones((30, 30), dtype=bool))
    b = np.ones(900, "float32")
    result = ntsolve.cg(A, b, rtol=1e-5)
    true = np.linalg.norm(b.astype(float) - A.tocsr() @ result.x.astype(float))
    assert result.success
    assert true <= 1e-5 * 30
    assert result.residual == pytest.approx(true, rel=1e-3)


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
        b = rng().uniform(0, 1, 1600).astype(dtype)
        b -= b.mean()
        assert ntsolve.cg(A, b, rtol=1e-5).success


def test_zero_faces_of_a_matrix_separate_chambers():
    half = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(4, 4)).toarray()
    half[0, 0] = half[-1, -1] = 1
    path = sp.block_diag([half, half]).toarray()
    A = GridOperator.from_csr(sp.csr_array(np.kron(np.eye(2), path)), (2, 8))
    assert sorted(np.diff(A.null.starts)) == [4, 4, 4, 4]


# ---- matrices -------------------------------------------------------------------------------------------------------


def same(A, C):
    return A.shape == C.shape and (A.tocsr() != C).nnz == 0


@pytest.mark.parametrize("shape", [(1, 5), (5, 4), (2, 2), (7, 1), (3, 4, 5), (2, 2, 2), (1, 3, 4), (6, 3, 1)])
@pytest.mark.parametrize("periodic", [False, True])
def test_a_matrix_comes_back_as_it_was(shape, periodic):
    mask, solid = cells_of(shape)
    kappa = rng().uniform(0.5, 2, shape)
    for A in (
        GridOperator.poisson(np.ones(shape, dtype=bool), periodic=periodic, spacing=0.3),
        GridOperator.poisson(mask, solid=solid, periodic=periodic),
        GridOperator.diffusion(kappa, mask=mask, solid=solid, periodic=periodic),
        GridOperator.diffusion(kappa.astype("float32"), periodic=periodic, outside="neumann"),
    ):
        C = A.tocsr()
        back = GridOperator.from_csr(C, mask=A.mask)
        assert same(back, C)
        assert back.dtype == A.dtype
        if A.full:
            assert same(GridOperator.from_csr(C, shape), C)
            assert same(GridOperator.from_csr(C), C)


@pytest.mark.parametrize("shape", [(20, 17), (12, 9, 11)])
def test_a_masked_matrix_is_placed_without_being_told_where(shape):
    axes = [(np.linspace(-1, 1, extent) ** 2).reshape([-1] + [1] * axis) for axis, extent in enumerate(shape[::-1])]
    middle = sum(axes)
    mask = middle < 1.1
    mask[tuple(extent // 2 for extent in shape)] = False
    A = GridOperator.diffusion(rng().uniform(1, 2, shape), mask=mask)
    C = A.tocsr()
    found = GridOperator.from_csr(C)
    assert same(found, C)
    assert found.mask.size <= 2 * mask.size
    b = rng().standard_normal(C.shape[0])
    np.testing.assert_allclose(ntsolve.cg(found, b, rtol=1e-10).x, ntsolve.cg(A, b, rtol=1e-10).x, atol=1e-7)


def test_matrices_of_scipy_are_recognised():
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9))
    I = sp.eye_array(9)
    for form in ("csr", "csc", "coo", "dia"):
        A = GridOperator.from_csr((sp.kron(I, T) + sp.kron(T, I)).asformat(form))
        assert (A.grid_shape, A.kind) == ((9, 9), "mask")


def broken(change):
    A = GridOperator.poisson(np.ones((6, 6), dtype=bool)).tocsr().tolil()
    change(A)
    return A.tocsr()


def unsymmetric(A):
    A[3, 4] = -2


def one_sided(A):
    A[3, 4] = 0


def positive(A):
    A[3, 4] = A[4, 3] = 1


def far(A):
    A[0, 20] = A[20, 0] = -1


def not_dominant(A):
    A[7, 7] = 1


@pytest.mark.parametrize("change", [unsymmetric, one_sided, positive, far, not_dominant])
def test_what_is_no_stencil_is_refused(change):
    with pytest.raises(ValueError, match=r"^A is not"):
        GridOperator.from_csr(broken(change), (6, 6))
    with pytest.raises(ValueError, match=r"^A is not recognised"):
        GridOperator.from_csr(broken(change))


@pytest.mark.parametrize(
    ("A", "options", "match"),
    [
        (np.eye(4), {}, "A must be a sparse matrix"),
        (sp.eye_array(3, 4, format="csr"), {}, "A must be square"),
        (sp.eye_array(4, format="csr"), {"grid_shape": (3, 2)}, "grid_shape .* has 6 cells"),
        (sp.eye_array(4, format="csr"), {"grid_shape": (4,)}, "grid_shape must have 2 or 3"),
        (sp.eye_array(4, format="csr"), {"mask": np.ones((3, 3), dtype=bool)}, "mask has 9 unknowns"),
        (sp.csr_array(np.eye(4) * np.nan), {}, "A.data contains NaN"),
        (sp.csr_array(np.eye(4) * 1j), {}, "A is complex"),
    ],
)
def test_bad_matrices_are_named(A, options, match):
    with pytest.raises((TypeError, ValueError), match=match):
        GridOperator.from_csr(A, **options)


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
def test_a_batch_of_masks_is_solved_like_one_after_the_other(shape):
    masks = np.stack([cells_of(shape, seed)[0] for seed in range(3)])
    A = GridOperator.poisson(masks, ndim=len(shape))
    assert A.batch_shape == (3,)
    assert A.ragged
    b = rng().standard_normal(masks.shape)
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
    b = np.stack([A[item] @ rng(item).standard_normal(23) for item in range(2)])
    result = ntsolve.cg(A, b, rtol=1e-10)
    np.testing.assert_allclose(A @ result.x, b, atol=1e-8)
    np.testing.assert_allclose(result.x.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(A.diagonal()[1], A[1].diagonal())
    assert ntsolve.cg(A, b, M=lambda r: r, rtol=1e-6).success.all()


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: GridOperator.poisson(np.ones((3, 3))), "mask must be an array of bool"),
        (lambda: GridOperator.poisson(np.full((3, 3), 2)), "mask must hold True and False"),
        (lambda: GridOperator.poisson(np.ones(3, dtype=bool)), "mask must have 2 or 3 axes"),
        (lambda: GridOperator.poisson(np.ones((2, 0), dtype=bool)), "mask has no cells"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), spacing=0), "spacing must be positive"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), spacing=(1, 2, 3)), "spacing must be a number"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), spacing=1e-200), "spacing .* range"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), outside="open"), "outside must be"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), outside=("neumann",)), "outside must be"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), periodic=(True,)), "periodic must be"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), solid=np.ones((2, 2), dtype=bool)), "solid has"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool), ndim=4), "ndim must be 2 or 3"),
        (lambda: GridOperator.diffusion(np.zeros((3, 3))), "kappa must be positive"),
        (lambda: GridOperator.diffusion(np.full((3, 3), np.nan)), "kappa must be positive and finite"),
        (lambda: GridOperator.diffusion(np.ones((3, 3)), mask=np.ones((2, 3), dtype=bool)), "mask has shape"),
        (lambda: GridOperator.diffusion(np.ones((3, 3)) * 1j), "kappa must be real"),
        (lambda: GridOperator.poisson(np.ones((3, 3), dtype=bool)).matvec(np.ones(8)), "x has shape"),
        (lambda: ntsolve.cg(GridOperator.poisson(np.ones((3, 3), dtype=bool)), np.ones(8)), "b has shape"),
        (lambda: ntsolve.cg(GridOperator.poisson(np.ones((3, 3), dtype=bool)), np.ones(9), np.ones(8)), "x0 has shape"),
        (lambda: ntsolve.cg(GridOperator.poisson(np.ones((3, 3), dtype=bool)), np.ones(9) * 1j), "b is complex"),
        (lambda: ntsolve.cg(GridOperator.poisson(np.ones((3, 3), dtype=bool)), np.full(9, np.nan)), "b contains NaN"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call()


def test_no_unknowns_and_one_unknown():
    nothing = GridOperator.poisson(np.zeros((3, 4), dtype=bool))
    assert nothing.shape == (0, 0)
    assert ntsolve.cg(nothing, np.ones((3, 4))).success
    single = np.zeros((3, 4), dtype=bool)
    single[1, 1] = True
    assert ntsolve.cg(GridOperator.poisson(single), np.ones((3, 4))).x[1, 1] == pytest.approx(0.25)
    walled = GridOperator.poisson(single, outside="neumann")
    assert ntsolve.cg(walled, np.zeros((3, 4))).success
    with pytest.raises(ValueError, match="b must add up to 0"):
        ntsolve.cg(walled, np.ones((3, 4)))


def test_arguments_are_neither_changed_nor_kept():
    mask, solid = cells_of((5, 5))
    kept = mask.copy()
    A = GridOperator.poisson(mask, solid=solid)
    before = A.tocsr()
    mask[:] = False
    assert (A.tocsr() != before).nnz == 0
    assert (A.mask == kept).all()
    b = np.full((5, 5), 3.0)
    ntsolve.cg(A, b)
    assert (b == 3).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_backends_agree(backend):
    mask, solid = cells_of((4, 5, 6))
    kappa = rng().uniform(0.5, 2, mask.shape)
    there = [to_device(array, backend) for array in (mask, solid, kappa)]
    for here, over in (
        (GridOperator.poisson(mask, solid=solid), GridOperator.poisson(there[0], solid=there[1])),
        (GridOperator.diffusion(kappa, mask=mask), GridOperator.diffusion(there[2], mask=there[0])),
        (GridOperator.poisson(mask, outside="neumann"), GridOperator.poisson(there[0], outside="neumann")),
    ):
        b = consistent(here)
        got = ntsolve.cg(over, to_device(b, backend), M="jacobi", rtol=1e-9)
        assert type(got.x) is type(there[0])
        np.testing.assert_allclose(to_host(got.x), ntsolve.cg(here, b, M="jacobi", rtol=1e-9).x, atol=1e-7)
        back = GridOperator.from_csr(over.tocsr(), mask=over.mask)
        np.testing.assert_allclose(to_host(back.matvec(to_device(b, backend))), here.matvec(b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "cpu"])
def test_arrays_on_two_devices_are_refused(backend):
    A = GridOperator.poisson(to_device(np.ones((3, 3), dtype=bool), backend))
    with pytest.raises(TypeError, match="different devices"):
        ntsolve.cg(A, np.ones(9))


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
        A = GridOperator.poisson(rng(seed).random((24, 24)) < 0.8)
        b = np.ones(A.shape[0])
        result = ntsolve.cg(A, b, rtol=1e-8, recycle=recycler)
        assert result.success
        assert true_residual(A, b, result.x) <= 1.01e-8 * np.linalg.norm(b)
    assert recycler.size == 10


@pytest.mark.parametrize("batch", ["masks", "complex matrices"])
def test_a_recycler_is_for_one_matrix(batch):
    if batch == "masks":
        A, b = GridOperator.poisson(rng(0).random((2, 8, 8)) < 0.9, ndim=2), np.ones((2, 8, 8))
    else:
        A, b = np.eye(3) * np.ones((2, 1, 1)) * (1 + 0j), np.ones((2, 3))
    with pytest.raises(ValueError, match=r"^recycle "):
        ntsolve.cg(A, b, recycle=ntsolve.Recycler())


# ---- success is about the b that was passed in ----------------------------------------------------------------------


@pytest.mark.parametrize("M", [None, "multigrid"])
def test_what_is_taken_from_an_incompatible_right_hand_side_counts(M):
    A = GridOperator.poisson(np.ones((16, 16), dtype=bool), outside="neumann")
    b = rng(3).standard_normal((16, 16)).astype("float32")
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
    b = np.where(masks, rng(4).standard_normal(masks.shape), 0)
    b[0] -= b[0].mean()
    for chamber in (b[1, :3], b[1, 4:]):
        chamber -= chamber.mean() - 1e-12
    result = ntsolve.cg(A, b, rtol=1e-13, on_failure="ignore")
    assert list(result.success) == [True, False]
    assert result.residual[1] == pytest.approx(1e-12 * np.sqrt(30), rel=0.05)


# ---- matrices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_small_coupling_to_fixed_values_is_kept_and_rounding_is_not(dtype):
    box = GridOperator.poisson(np.ones((16, 16), dtype=bool), outside="neumann")
    C = box.tocsr().astype(dtype)
    shift = {"float32": 2e-6, "float64": 4e-15}[dtype]
    shifted = C + sp.diags_array(np.full(256, shift, dtype=dtype))
    A = GridOperator.from_csr(shifted)
    if dtype == "float32":
        assert ntsolve.cg(shifted, np.ones(256, dtype), M="multigrid").success
    assert A.null is None
    assert A.dtype == dtype
    kappa = rng(0).uniform(1, 9, (16, 16))
    rounded = GridOperator.diffusion(kappa, outside="neumann").tocsr().astype(dtype)
    assert GridOperator.from_csr(rounded).null is not None
    third = GridOperator.poisson(np.ones((16, 16), dtype=bool), outside="neumann", spacing=3**0.5).tocsr().astype(dtype)
    assert GridOperator.from_csr(third).null is not None


def test_a_matrix_takes_the_same_shapes_with_multigrid():
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(20, 20))
    A = (sp.kron(sp.eye_array(20), T) + sp.kron(T, sp.eye_array(20))).tocsr()
    for M in (None, "multigrid"):
        with pytest.raises(ValueError, match=r"^b has 20 entries along its last axis, A has order 400"):
            ntsolve.cg(A, np.ones((20, 20)), M=M)
        with pytest.raises(ValueError, match=r"^b has 1 entries .*b.ravel"):
            ntsolve.cg(A, np.ones((400, 1)), M=M)
        with pytest.raises(ValueError, match=r"^x0 has leading axes"):
            ntsolve.cg(A, np.ones((2, 400)), np.ones((3, 400)), M=M)
        line = sp.kron(sp.eye_array(1), T).tocsr()
        assert ntsolve.cg(line, np.ones((1, 20)), np.zeros(20), M=M).success.shape == (1,)


def test_a_start_for_the_smallest_numbers():
    A = GridOperator.poisson(np.ones((20, 20), dtype=bool), spacing=1e-5)
    b = 1e-300 * consistent(GridOperator.poisson(np.ones((20, 20), dtype=bool)))
    for x0 in (None, np.zeros(400)):
        result = ntsolve.cg(A, b, x0, M="multigrid", rtol=0.2)
        assert np.isfinite(result.x).all()
        assert result.success
    large = ntsolve.cg(A, 1e300 * b, np.ones(400), M="multigrid", rtol=1e-8)
    assert large.success


def test_masks_with_parts_one_cell_wide_are_recognised():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask = rng.random(tuple(rng.integers(5, 20, rng.integers(2, 4)))) < 0.85
        label, _ = ndimage.label(mask)
        mask = label == np.bincount(label[mask]).argmax()  # in one piece
        A = GridOperator.diffusion(10 ** rng.uniform(0, 2, mask.shape), mask=mask).tocsr()
        x = rng.standard_normal(A.shape[0])
        np.testing.assert_allclose(GridOperator.from_csr(A) @ x, A @ x, rtol=1e-12, atol=1e-9)
