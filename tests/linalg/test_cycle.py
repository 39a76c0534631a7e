"""The multigrid cycle on grids: what it is as a matrix, for any weights, and conjugate gradients in its layout."""

import numpy as np
import pytest

import ntsolve
from ntsolve.kernels import cpu as k
from ntsolve.kernels.contracts import cycle as contract
from ntsolve.kernels.contracts import gridcg, split
from ntsolve.kernels.settings import THREADS

GRIDS = (  # cells, factor to the next level, periodic axes
    ((5, 3, 6), (2, 2, 2), (0, 0, 0)),
    ((4, 5, 7), (2, 1, 2), (0, 0, 0)),
    ((3, 1, 21), (1, 1, 2), (0, 0, 0)),
    ((6, 1, 9), (2, 1, 2), (1, 0, 0)),
    ((2, 4, 16), (1, 2, 2), (1, 1, 1)),
)


def dense_stencil(faces, s, wrap):
    """A from faces in the natural order, cell by cell."""
    n = s.size
    number, A = np.arange(n).reshape(s.shape), np.diag(s.ravel().astype(float))
    for axis, face in enumerate(faces):
        for at in np.ndindex(s.shape):
            to = list(at)
            to[axis] = (at[axis] + 1) % s.shape[axis]
            if face[at] and (to[axis] > at[axis] or wrap[axis]):
                p, q = number[at], number[tuple(to)]
                A[[p, q], [p, q]] += face[at]
                A[p, q] -= face[at]
                A[q, p] -= face[at]
    return A


def level(rng, shape, wrap):
    """(d, fx, fy, fz) for the kernels, and A."""
    faces, s = split.some_faces(rng, (1, *shape), wrap)
    parts = [np.zeros((1, *split.split_shape(*shape)), np.float32) for _ in range(5)]
    k.stencil_split(*faces, s, wrap, *parts)
    return tuple(parts[:4]), dense_stencil([face[0] for face in faces], s[0], wrap)


def mask_level(rng, shape, wrap):
    """The same of a mask whose cells have six faces each, some of them to fixed values."""
    active = rng.random((1, *shape)) < 0.8
    d = np.zeros((1, *split.split_shape(*shape)), np.uint8)
    k.grid_split(np.where(active, 10, 0).astype(np.uint8), d)
    faces = []
    for axis in range(1, 4):
        face = active * np.roll(active, -1, axis)
        if not wrap[axis - 1]:
            np.moveaxis(face, axis, 0)[-1] = 0
        faces.append(face[0].astype(float))
    whole = dense_stencil(faces, np.zeros(shape), wrap)
    return (d, None, None, None), whole - np.diag(np.diag(whole)) + np.diag(6.0 * active.ravel())


def blocks(shape, factor):
    """P: which coarse cell has which fine one."""
    coarse = split.coarse_shape(shape, factor)
    P = np.zeros((np.prod(shape), np.prod(coarse)))
    for n, at in enumerate(np.ndindex(shape)):
        P[n, np.ravel_multi_index([i // f for i, f in zip(at, factor, strict=True)], coarse)] = 1
    return P


def as_matrix(apply, shape):
    """The matrix of a map of split vectors, on the cells of a grid."""
    n = int(np.prod(shape))
    r = np.zeros((n, *split.split_shape(*shape)), np.float32)
    k.grid_split(np.eye(n, dtype=np.float32).reshape(n, *shape), r)
    z = np.zeros_like(r)
    apply(r, z)
    columns = np.empty((n, *shape))
    k.grid_join(z, columns)
    return columns.reshape(n, n).T


def two_levels(stencil, weights, shape, factor, wrap, Mc, settle=False):
    """The matrix of the kernels' cycle with Mc on the coarse grid."""
    coarse = split.coarse_shape(shape, factor)

    def apply(r, z):
        batch = len(r)
        xb = np.zeros((batch, *r.shape[2:]), np.float32)
        rc = np.zeros((batch, *split.split_shape(*coarse)), np.float32)
        ec = np.zeros_like(rc)
        k.cycle_down(r, *stencil, *weights, factor, wrap, xb, rc)
        natural = np.empty((batch, *coarse), np.float32)
        k.grid_join(rc, natural)
        k.grid_split((natural.reshape(batch, -1) @ Mc).astype(np.float32).reshape(natural.shape), ec)
        rz = np.empty(batch)
        k.cycle_up(r, *stencil, *weights, factor, wrap, settle, xb, ec, z, rz, np.empty((batch, 2, r.shape[2])))
        np.testing.assert_allclose(rz, (r.astype(float) * z).sum((1, 2, 3, 4)), rtol=1e-5)

    return as_matrix(apply, shape)


def formula(A, weights, shape, factor, Mc):
    """S'D(2/w - 1)S + (I - S'A) P Mc P'(I - AS), on the cells that take part."""
    used = np.diag(A) > 0
    i, j, m = np.indices(shape)
    red = ((i + 1 + j + m) % 2 == 0).ravel()
    w = np.where(red, *weights)
    D = np.diag(np.where(used, np.diag(A), 1))
    L = np.where(~red[:, None] & red[None], -A, 0)  # of black on red, which comes first
    S = np.linalg.inv(D / w[:, None] - L) * used[:, None] * used
    P = blocks(shape, factor) * used[:, None]
    rest = np.eye(len(A)) - A @ S
    return S.T @ (D * (2 / w - 1)[:, None]) @ S + rest.T @ P @ Mc @ P.T @ rest


@pytest.mark.parametrize("make", [level, mask_level])
@pytest.mark.parametrize(("shape", "factor", "wrap"), GRIDS)
def test_one_level_is_its_formula_and_definite_for_any_weights(make, shape, factor, wrap):
    rng = np.random.default_rng(1)
    for weights in ((1.0, 1.0), tuple(rng.uniform(0.05, 1.95, 2)), tuple(rng.uniform(0.05, 1.95, 2))):
        stencil, A = make(rng, shape, wrap)
        n = int(np.prod(split.coarse_shape(shape, factor)))
        root = rng.standard_normal((n, n))
        Mc = root @ root.T / n
        M = two_levels(stencil, weights, shape, factor, wrap, Mc)
        np.testing.assert_allclose(M, formula(A, weights, shape, factor, Mc), rtol=0, atol=2e-5 * abs(M).max())
        np.testing.assert_allclose(M, M.T, rtol=0, atol=1e-6 * abs(M).max())
        used = np.diag(A) > 0
        assert not M[~used].any()
        assert not M[:, ~used].any()
        assert np.linalg.eigvalsh(M[np.ix_(used, used)])[0] > 0


@pytest.mark.parametrize("make", [level, mask_level])
@pytest.mark.parametrize(("shape", "factor", "wrap"), GRIDS)
def test_settled_black_cells_have_no_residual_and_red_ones_are_as_before(make, shape, factor, wrap):
    rng = np.random.default_rng(18)
    stencil, A = make(rng, shape, wrap)
    n = int(np.prod(split.coarse_shape(shape, factor)))
    weights, Mc = tuple(rng.uniform(0.05, 1.95, 2)), np.eye(n)
    before, settled = (two_levels(stencil, weights, shape, factor, wrap, Mc, settle) for settle in (False, True))
    i, j, m = np.indices(shape)
    black = ((i + 1 + j + m) % 2 == 1).ravel()
    np.testing.assert_array_equal(settled[~black], before[~black])
    left = np.diag((np.diag(A) > 0).astype(float)) - A @ settled
    np.testing.assert_allclose(left[black], 0, atol=2e-6 * abs(A).max() * abs(settled).max())


@pytest.mark.parametrize(
    ("shape", "axes"), [((9, 6, 11), (2, 2, 2)), ((14, 1, 13), (2, 1, 2)), ((5, 4, 18), (1, 1, 2))]
)
def test_many_levels_in_one_call_are_the_levels_one_by_one(shape, axes):
    rng = np.random.default_rng(2)
    shapes = [shape, split.coarse_shape(shape, axes)]
    shapes.append(split.coarse_shape(shapes[1], axes))
    stencils = [level(rng, s, (0, 0, 0)) for s in shapes[:2]]
    weights = rng.uniform(0.2, 1.8, (3, 2)).astype(np.float32)
    n = int(np.prod(shapes[2]))
    root = rng.standard_normal((n, n))
    inverse = (root @ root.T / n).astype(np.float32)
    levels, cells, room = contract.small_levels(shapes, [axes, axes], (0, 0, 0))
    stencil = np.concatenate([part.ravel() for parts, _ in stencils for part in parts])[None]
    M = as_matrix(lambda r, z: k.cycle_small(r, z, levels, weights, stencil, inverse[None], cells,
                                             np.zeros((len(r), room), np.float32)), shape)  # fmt: skip
    middle = formula(stencils[1][1], weights[1], shapes[1], axes, inverse)
    whole = formula(stencils[0][1], weights[0], shapes[0], axes, middle)
    np.testing.assert_allclose(M, whole, rtol=0, atol=5e-5 * abs(whole).max())


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(("shape", "factor", "wrap"), GRIDS)
def test_the_coarse_stencil_is_the_galerkin_product_where_nothing_is_overcorrected(shape, factor, wrap, mask):
    rng = np.random.default_rng(3)
    coarse = split.coarse_shape(shape, factor)
    out = [np.empty((1, *coarse), np.float32) for _ in range(4)]
    if mask:
        active = rng.random((1, *shape)) < 0.8
        given = (np.where(active, 6, 0).astype(np.uint8), None, None, None, None)
        _, A = mask_level(np.random.default_rng(3), shape, wrap)
    else:
        faces, s = split.some_faces(rng, (1, *shape), wrap)
        given = (None, *(part.astype(np.float32) for part in (*faces, s)))
        A = dense_stencil([face[0] for face in faces], s[0], wrap)
    k.stencil_coarsen(*given, 1.0, 1.0, factor, wrap, *out)
    P = blocks(shape, factor) * (np.diag(A) > 0)[:, None]
    np.testing.assert_allclose(dense_stencil([face[0] for face in out[:3]], out[3][0], wrap), P.T @ A @ P, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 9, 21), (6, 40)])
def test_vectors_come_back_from_their_layout(shape):
    nx, ny, nz = shape if len(shape) == 3 else (shape[0], 1, shape[1])
    a = np.random.default_rng(4).standard_normal((2, nx, ny, nz)).astype(np.float32)
    v = np.zeros((2, *split.split_shape(nx, ny, nz)), np.float32)
    back = np.empty_like(a)
    k.grid_split(a, v)
    k.grid_join(v, back)
    assert (back == a).all()
    assert np.count_nonzero(v) == a.size


# ---- conjugate gradients in this layout -----------------------------------------------------------------------------


def sphere(n, dimensions=3):
    """A box with a ball cut out of it."""
    at = np.indices((n,) * dimensions) - (n - 1) / 2.3
    return (at**2).sum(0) > (n / 5) ** 2


def solve(A, M, b, **options):
    return ntsolve.cg(A, b, M=M, rtol=1e-9, **options)


CASES = {
    "mask": lambda: ntsolve.GridOperator.poisson(sphere(17)),
    "spacing": lambda: ntsolve.GridOperator.poisson(sphere(13), spacing=1e-3),
    "plane": lambda: ntsolve.GridOperator.poisson(sphere(41, 2)),
    "coefficients": lambda: ntsolve.GridOperator.diffusion(1 + 1e4 * np.random.default_rng(0).random((15, 12, 18))),
    "periodic": lambda: ntsolve.GridOperator.poisson(sphere(16), periodic=(True, True, False)),
    "torus": lambda: ntsolve.GridOperator.diffusion(1 + np.random.default_rng(0).random((8, 12, 32)), periodic=True,
                                                    mask=np.arange(32) % 7 != 3 + np.zeros((8, 12, 1))),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_residual_of_the_callers_system_meets_the_tolerance(case):
    A = CASES[case]()
    M, b = ntsolve.LearnedMultigrid(A), np.random.default_rng(5).standard_normal(A.shape[0])
    result = solve(A, M, b)
    left = np.linalg.norm(b - A.tocsr() @ result.x)
    assert result.success
    assert left <= 1e-9 * np.linalg.norm(b)
    assert result.residual == pytest.approx(left, rel=1e-4)
    assert len(result.history) == result.nit + 1
    assert result.nit < 40


def test_iterations_are_those_of_the_system_for_red_cells():
    A = ntsolve.GridOperator.diffusion(1 + np.random.default_rng(20).random((8, 9, 10)))
    b, dense = np.random.default_rng(19).standard_normal(A.shape[0]), A.tocsr().toarray()
    M = ntsolve.LearnedMultigrid(A, weights="untrained", coarsening="blocks")
    red = np.indices(A.grid_shape).sum(0).ravel() % 2 == 1
    D, L = np.diag(dense)[~red], dense[np.ix_(red, ~red)]
    schur, right = dense[np.ix_(red, red)] - (L / D) @ L.T, b[red] - L @ (b[~red] / D)

    def block(r):
        whole = np.zeros(b.size)
        whole[red] = r
        return M.matvec(whole)[red]

    limits = {"rtol": 0, "atol": 1e-6 * np.linalg.norm(b)}
    want = ntsolve.cg(schur, right, M=block, **limits)
    assert abs(ntsolve.cg(A, b, M=M, **limits).nit - want.nit) <= 1
    assert ntsolve.cg(A, b, M=M.matvec, **limits).nit > want.nit + 1


def test_a_cycle_on_aggregates_is_taken_through_its_own_order():
    A = CASES["coefficients"]()
    b = np.random.default_rng(15).standard_normal(A.shape[0])
    result = solve(A, ntsolve.LearnedMultigrid(A, coarsening="aggregation"), b)
    assert result.success
    assert np.linalg.norm(b - A.tocsr() @ result.x) <= 1e-9 * np.linalg.norm(b)


def test_what_rounding_leaves_is_taken_up_again_until_it_helps_no_more():
    A = CASES["coefficients"]()
    b = np.random.default_rng(16).standard_normal(A.shape[0])
    result = ntsolve.cg(A, b, M=ntsolve.LearnedMultigrid(A), rtol=0, on_failure="ignore")
    assert result.status is ntsolve.Status.STALLED
    assert result.residual <= 1e-14 * np.linalg.norm(b)


def test_a_cycle_of_another_operator_will_do():
    A, other = CASES["coefficients"](), ntsolve.GridOperator.poisson(np.ones((15, 12, 18), bool))
    b = np.random.default_rng(17).standard_normal(A.shape[0])
    assert solve(A, ntsolve.LearnedMultigrid(other), b, maxiter=400).success


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_the_size_of_b_and_of_x0_does_not_matter(scale):
    A = CASES["spacing"]()
    M, rng = ntsolve.LearnedMultigrid(A), np.random.default_rng(6)
    b, x0 = rng.standard_normal((2, A.shape[0]))
    x0 = x0 * 1e-6
    want, got = solve(A, M, b, x0=x0), solve(A, M, b * scale, x0=x0 * scale)
    assert got.success
    assert got.nit == want.nit
    np.testing.assert_allclose(got.x / scale, want.x, rtol=0, atol=1e-7 * abs(want.x).max())


def test_many_right_hand_sides_are_solved_as_one_by_one():
    A = CASES["mask"]()
    M, b = ntsolve.LearnedMultigrid(A), np.random.default_rng(7).standard_normal((3, A.shape[0]))
    b[1] = 0
    together, alone = solve(A, M, b), [solve(A, M, row) for row in b]
    assert together.success.all()
    assert not together.x[1].any()
    assert together.nit.tolist() == [result.nit for result in alone]
    for x, result in zip(together.x, alone, strict=True):
        np.testing.assert_array_equal(x, result.x)


def test_a_batch_of_masks_is_solved_as_one_by_one():
    masks = np.stack([sphere(12), np.random.default_rng(8).random((12, 12, 12)) < 0.9])
    A = ntsolve.GridOperator.poisson(masks)
    b = np.random.default_rng(9).standard_normal(masks.shape) * masks
    together = solve(A, ntsolve.LearnedMultigrid(A), b)
    assert together.success.all()
    for mask, x, row in zip(masks, together.x, b, strict=True):
        one = ntsolve.GridOperator.poisson(mask)
        assert np.linalg.norm(row[mask] - one.tocsr() @ x[mask]) <= 1e-9 * np.linalg.norm(row)


def test_single_precision_gives_what_it_can():
    A = CASES["mask"]()
    b = np.random.default_rng(10).standard_normal(A.shape[0]).astype(np.float32)
    result = ntsolve.cg(A, b, M=ntsolve.LearnedMultigrid(A), rtol=1e-5)
    assert result.success
    assert result.x.dtype == np.float32


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    for module in ("cycle", "gridcg", "split"):
        monkeypatch.setattr(f"ntsolve.kernels.cpu.{module}._GRAIN", 1)
    A, found = CASES["coefficients"](), []
    b = np.random.default_rng(11).standard_normal(A.shape[0])
    for count in (1, 2, 3):
        token = THREADS.set(count)
        try:
            found.append(solve(A, ntsolve.LearnedMultigrid(A), b).x.tobytes())
        finally:
            THREADS.reset(token)
    assert found[0] == found[1] == found[2]


def test_callbacks_see_the_current_iterate_and_stop_the_solve():
    A = CASES["mask"]()
    M, b, seen = ntsolve.LearnedMultigrid(A), np.random.default_rng(12).standard_normal(A.shape[0]), []

    def callback(state):
        seen.append((state.residual, np.linalg.norm(b - A.tocsr() @ state.x)))
        return state.nit == 4

    result = solve(A, M, b, callback=callback)
    assert result.nit == 4
    assert result.status is ntsolve.Status.CALLBACK_STOP
    for claimed, true in seen:
        assert claimed == pytest.approx(true, rel=1e-6)


def test_limits_end_the_solve_with_a_true_residual():
    A = CASES["mask"]()
    b = np.random.default_rng(13).standard_normal(A.shape[0])
    result = solve(A, ntsolve.LearnedMultigrid(A), b, maxiter=3, on_failure="ignore")
    assert result.nit == 3
    assert not result.success
    assert result.status is ntsolve.Status.MAXITER
    assert result.residual == pytest.approx(np.linalg.norm(b - A.tocsr() @ result.x), rel=1e-6)


def test_the_passes_are_those_of_the_dense_operator():
    rng = np.random.default_rng(14)
    shape, wrap = (4, 3, 9), (0, 0, 0)
    faces, s = split.some_faces(rng, (1, *shape), wrap)
    A = dense_stencil([face[0] for face in faces], s[0], wrap)
    size = (1, *split.split_shape(*shape))
    parts = [np.zeros(size, np.float32), *(np.zeros(size) for _ in range(4))]
    k.stencil_split(*faces, s, wrap, *parts)
    p = rng.standard_normal((1, *shape)).astype(np.float32)
    given = np.zeros(size, np.float32)
    k.grid_split(p, given)
    product = gridcg.product(parts[4], *parts[1:4], wrap, split.natural(given).astype(float))
    np.testing.assert_allclose(product[0, ..., : shape[2]].ravel(), A @ p.ravel(), atol=1e-12)
