"""Operators on grids and their matrices: there, back again, and what is no stencil of a grid."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import ndimage

import ntsolve
from ntsolve import GridOperator

from .problems import cells_of, consistent


def same(A, C):
    return A.shape == C.shape and (A.tocsr() != C).nnz == 0


@pytest.mark.parametrize("shape", [(1, 5), (5, 4), (2, 2), (7, 1), (3, 4, 5), (2, 2, 2), (1, 3, 4), (6, 3, 1)])
@pytest.mark.parametrize("periodic", [False, True])
def test_a_matrix_comes_back_as_it_was(shape, periodic):
    mask, solid = cells_of(shape)
    kappa = np.random.default_rng(0).uniform(0.5, 2, shape)
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
    A = GridOperator.diffusion(np.random.default_rng(0).uniform(1, 2, shape), mask=mask)
    C = A.tocsr()
    found = GridOperator.from_csr(C)
    assert same(found, C)
    assert found.mask.size <= 2 * mask.size
    b = np.random.default_rng(0).standard_normal(C.shape[0])
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


def test_what_a_matrix_says_of_its_own_order_is_not_trusted():
    C = GridOperator.poisson(np.ones((5, 4), dtype=bool)).tocsr()
    order = np.concatenate([np.arange(*ends)[::-1] for ends in zip(C.indptr[:-1], C.indptr[1:], strict=True)])
    split = sp.csr_array((np.repeat(C.data / 2, 2), np.repeat(C.indices, 2), 2 * C.indptr), shape=C.shape)
    turned = sp.csr_array((C.data[order], C.indices[order], C.indptr), shape=C.shape)
    for odd in (split, turned):
        odd.has_canonical_format = True  # as where it has been changed since
        assert same(GridOperator.from_csr(odd), C)


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
    kappa = np.random.default_rng(0).uniform(1, 9, (16, 16))
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
