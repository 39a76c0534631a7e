"""Operators on grids: against matrices assembled cell by cell, vectors and arguments."""

import itertools

import numpy as np
import pytest

import ntsolve
from ntsolve import GridOperator
from tests.backends import BACKENDS, to_device, to_host

from .problems import cells_of, consistent

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


@pytest.mark.parametrize("M", [None, "multigrid"])
@pytest.mark.parametrize("full", [True, False])
def test_vectors_may_lie_in_memory_in_any_order(M, full):
    mask = cells_of((6, 5))[0] | full
    A = GridOperator.poisson(mask)
    b = rng().standard_normal((3, A.shape[0]))
    want = ntsolve.cg(A, b, M=M).x
    for other in (np.asfortranarray(b), b.repeat(2, axis=1)[:, ::2], b[::-1, ::-1].copy()[::-1, ::-1], b.astype(">f8")):
        np.testing.assert_array_equal(A @ other, A @ b)
        np.testing.assert_array_equal(ntsolve.cg(A, other, M=M).x, want)


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


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: GridOperator(np.ones((3, 3), dtype=bool)), r"GridOperator.poisson\(mask\)"),
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
