"""The learned multigrid cycle: positive definite with any weights, what its formula says, few iterations anywhere."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg

import ntsolve
from bench import _linear_problems as problems
from ntsolve.linalg import hierarchy
from ntsolve.linalg.weights import OVERCORRECTION, RELAXATION, UNTRAINED, Weights

from . import multigrid_reference as reference

RTOL = 1e-6


def small(name, dtype="float64"):
    """Operators of a few hundred unknowns, of every kind."""
    rng = np.random.default_rng(5)
    if name == "mask 3-D":
        return problems.pressure(rng, (7, 8, 9))
    if name == "mask 2-D":
        return problems.pressure(rng, (17, 14))
    if name == "coefficients 3-D":
        return problems.general(rng, (6, 7, 8), decades=1.0)
    if name == "coefficients 2-D":
        return problems.white(rng, (15, 16), decades=1.0)
    if name == "unequal sides":
        return problems.box((4, 5, 12), spacing=(1.0, 1.0, 0.1))
    if name == "periodic":
        return ntsolve.GridOperator.diffusion(rng.uniform(1, 3, (8, 16)), periodic=(True, False))
    return problems.box((4, 5, 9), outside="neumann")


NAMES = ("mask 3-D", "mask 2-D", "coefficients 3-D", "coefficients 2-D", "unequal sides", "periodic", "neumann")


def random_weights(rng):
    """Any that are allowed, those at the ends of the ranges, too."""
    ends = rng.random() < 0.3

    def draw(shape, low, high):
        return rng.choice([low, high], shape) if ends else rng.uniform(low, high, shape)

    levels = int(rng.integers(1, 4))
    return Weights(draw((levels, 2), *RELAXATION), draw(levels, *OVERCORRECTION), draw(levels, *OVERCORRECTION))


def matrix(M):
    """M as a dense matrix."""
    return M.matvec(np.eye(M.shape[0])).T


@pytest.mark.parametrize("name", NAMES)
def test_it_is_positive_definite_with_any_weights(name, monkeypatch):
    monkeypatch.setattr(hierarchy, "SMALL", 100)  # several levels by kernels of their own
    A, rng = small(name), np.random.default_rng(1)
    for _ in range(6):
        M = matrix(ntsolve.LearnedMultigrid(A, weights=random_weights(rng), coarsening="blocks"))
        assert abs(M - M.T).max() <= 2e-5 * abs(M).max()
        values = np.linalg.eigvalsh((M + M.T) / 2)
        assert values[0] > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("small_levels", [60, 4096])
def test_it_is_what_its_formula_says(name, small_levels, monkeypatch):
    monkeypatch.setattr(hierarchy, "SMALL", small_levels)
    A = small(name)
    weights = random_weights(np.random.default_rng(3))
    M = ntsolve.LearnedMultigrid(A, weights=weights, coarsening="blocks")
    sizes, factors = M._plan.sizes, M._plan.factors
    faces = [np.asarray(face, dtype=float).reshape(sizes[0]) for face in A.faces]
    if A.ndim == 2:
        faces.insert(1, np.zeros(sizes[0]))
    expected = reference.cycle(faces, A.sink.reshape(sizes[0]), factors, weights)[np.ix_(A.cells, A.cells)]
    np.testing.assert_allclose(matrix(M), expected, atol=3e-5 * abs(expected).max())


def solve(A, b, M="multigrid"):
    result = ntsolve.cg(A, b, M=M, rtol=RTOL, maxiter=200)
    assert result.success
    return result


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda: problems.box((24, 24, 24)), 12),
        (lambda: problems.box((23, 25, 21)), 13),
        (lambda: problems.box((24, 24, 24), spacing=(1.0, 1.0, 0.1)), 14),
        (lambda: problems.box((24, 24, 24), spacing=(1.0, 0.1, 0.1)), 14),
        (lambda: problems.box((90, 70)), 16),
        (lambda: problems.box((64, 64), spacing=(1.0, 0.1)), 16),
        (lambda: problems.box((24, 24, 24), outside="neumann"), 13),
        (lambda: problems.box((16, 32, 16), periodic=True), 16),
        (lambda: problems.box((15, 15, 15), periodic=(True, False, True)), 20),
        (lambda: problems.thin_walls((24, 24, 24)), 25),
        (lambda: problems.maze((24, 24, 24)), 25),
        (lambda: problems.labyrinth(np.random.default_rng(0), (63, 63)), 25),
        (lambda: problems.layered(np.random.default_rng(1), (24, 24, 24), decades=5.0), 15),
        (lambda: problems.inclusions(np.random.default_rng(2), (24, 24, 24), decades=5.0), 15),
    ],
)  # fmt: skip
def test_few_iterations_suffice(make, most):
    A = make()
    b = problems.right_hand_side(A, np.random.default_rng(0))
    result = solve(A, b)
    assert result.nit <= most
    assert np.linalg.norm(b - A.tocsr() @ result.x) <= 1.01 * RTOL * np.linalg.norm(b)


def families():
    """Operator, shape, seed and options; on smaller grids fixed blocks do well whatever the coefficients."""
    for shape in ((20, 20, 20), (72, 72)):
        for number in range(3):
            yield problems.pressure, shape, number, {}
        for number, (make, decades) in enumerate(
            (make, decades) for make in problems.COEFFICIENTS.values() for decades in (0.5, 2.0, 5.0)
        ):
            yield make, shape, 10 + number, {"decades": decades}


def test_it_is_never_worse_than_the_untrained_cycle():
    """Over all families, within 5 % or one iteration, which is the least there is to lose."""
    for make, shape, seed, options in families():
        rng = np.random.default_rng([77, seed])
        A = make(rng, shape, **options)
        b = problems.right_hand_side(A, rng)
        untrained = solve(A, b, ntsolve.LearnedMultigrid(A, weights="untrained", coarsening="blocks"))
        assert solve(A, b).nit <= max(1.05 * untrained.nit, untrained.nit + 1), (make.__name__, shape, options)


def test_learned_weights_are_used_on_masks():
    A = problems.pressure(np.random.default_rng(3), (24, 24, 24))
    b = problems.right_hand_side(A, np.random.default_rng(4))
    M = ntsolve.LearnedMultigrid(A)
    assert (M.weights.name, M.coarsening, len(M.levels)) == ("mask-3d", "blocks", 4)
    assert "mask-3d" in repr(M)
    untrained = ntsolve.LearnedMultigrid(A, weights="untrained")
    assert solve(A, b, M).nit <= 0.75 * solve(A, b, untrained).nit
    assert M.weights.name == "mask-3d"


def test_cells_are_joined_along_strong_faces_where_coefficients_jump_and_walls_part_blocks():
    rng = np.random.default_rng(0)
    assert ntsolve.LearnedMultigrid(problems.layered(rng, (12, 12, 12), decades=5.0)).coarsening == "aggregation"
    assert ntsolve.LearnedMultigrid(problems.general(rng, (12, 12, 12), decades=0.5)).coarsening == "blocks"
    maze = ntsolve.LearnedMultigrid(problems.labyrinth(rng, (63, 63)))
    assert maze.coarsening == "aggregation"
    assert "walls" in maze.why
    assert ntsolve.LearnedMultigrid(problems.box((9, 9), periodic=True)).coarsening == "aggregation"
    with pytest.raises(ValueError, match="coarsening"):
        ntsolve.LearnedMultigrid(problems.box((9, 9), periodic=True), coarsening="blocks")


def test_what_the_first_iterations_do_not_confirm_is_given_up():
    A = problems.box((16, 16, 16))
    M = ntsolve.LearnedMultigrid(A)
    assert not M.confirm([1.0, 0.9, 0.9])  # too early to say
    assert not M.confirm(0.3 ** np.arange(7))
    assert not M.confirm([0.0] * 4)
    assert M.confirm(0.9 ** np.arange(7))
    assert M.coarsening == "aggregation"
    assert not M.confirm(0.9 ** np.arange(10))  # nothing is left to try
    M = ntsolve.LearnedMultigrid(A, coarsening="blocks")
    assert M.confirm(0.9 ** np.arange(7))
    assert M.weights is UNTRAINED
    assert "0.90" in M.why
    M = ntsolve.LearnedMultigrid(A, weights=UNTRAINED, coarsening="blocks")
    assert not M.confirm(0.9 ** np.arange(7))


@pytest.mark.parametrize("shape", [(8, 8), (7, 9)])
def test_what_rounding_leaves_indefinite_is_given_up(shape):
    """Cells that are stiffer and stiffer away from the only fixed value: more than float32 holds."""
    A = ntsolve.GridOperator.diffusion(10 ** np.linspace(0, 8.5, shape[0])[:, None] * np.ones(shape),
                                       outside=(("dirichlet", "neumann"), "neumann"))  # fmt: skip
    b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
    fixed, M = ntsolve.LearnedMultigrid(A, coarsening="blocks"), ntsolve.LearnedMultigrid(A)
    result = ntsolve.cg(A, b, M=fixed, rtol=1e-8, on_failure="ignore")
    assert result.status == ntsolve.Status.INDEFINITE_PRECONDITIONER
    for _ in range(2):
        assert ntsolve.cg(A, np.stack([b, 0 * b, -b]), M=M, rtol=1e-8).success.all()
    assert "not positive definite" in M.why
    assert ntsolve.cg(A.tocsr(), b, M="multigrid", rtol=1e-8).success
    on_vectors = ntsolve.LearnedMultigrid(A)
    assert ntsolve.cg(A.tocsr(), b, M=on_vectors, rtol=1e-8).success
    assert on_vectors.coarsening == "aggregation"


def test_systems_at_rest_say_nothing_of_how_fast_it_is():
    A = ntsolve.GridOperator.poisson(np.ones((64, 64), dtype=bool))
    M = ntsolve.LearnedMultigrid(A)
    q = np.random.default_rng(0).standard_normal((2, A.shape[0])) * [[1e-4], [1]]
    assert ntsolve.cg(A, q, M=M, rtol=0, atol=1e-6).success.all()
    assert M.coarsening == "blocks"
    rates = np.array([[1, 1], [0.2, 0.2], [0.04, 0.04], [0.04, 0.008], [0.04, 0.0016]])
    assert not M.confirm(rates)
    assert M.confirm(rates**0.1)


def test_solves_in_several_threads_may_change_it():
    A = problems.box((16, 16, 16))
    M = ntsolve.LearnedMultigrid(A)
    b = np.random.default_rng(0).standard_normal(A.shape[0])

    def work(number):
        if number % 2:
            return M.confirm(0.9 ** np.arange(7)) or True
        return ntsolve.cg(A, b, M=M, rtol=1e-8).success

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    assert M.coarsening == "aggregation"
    assert len(M.levels) > 1
    assert "0.90" in M.why


def test_bad_weights_cost_iterations_and_nothing_else():
    A = problems.box((12, 12, 12))
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    bad = {"relaxation": [[0.02, 1.98]], "faces": [2.0], "sink": [0.02]}
    solve(A, b, ntsolve.LearnedMultigrid(A, weights=bad))


def test_a_matrix_that_is_a_stencil_is_recognised():
    A = problems.pressure(np.random.default_rng(3), (12, 13, 14))
    b = problems.right_hand_side(A, np.random.default_rng(4))
    result, same = solve(A, b), solve(A.tocsr(), b)
    assert abs(same.nit - result.nit) <= 1
    np.testing.assert_allclose(same.x, result.x, atol=1e-4 * abs(result.x).max())
    assert ntsolve.LearnedMultigrid(A.tocsr()).shape == A.shape
    with pytest.raises(ValueError, match=r"the stencil of a grid: A is not recognised .* symmetric"):
        ntsolve.cg(sp.csr_array(np.ones((9, 9))), np.ones(9), M="multigrid")
    with pytest.raises(ValueError, match=r"the stencil of a grid$"):
        ntsolve.cg(np.eye(3), np.ones(3), M="multigrid")


def test_it_serves_other_solvers():
    A = problems.box((20, 20))
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    M, count = ntsolve.LearnedMultigrid(A), []
    x, info = scipy.sparse.linalg.cg(A.tocsr(), b, rtol=RTOL, M=M.as_linear_operator(), callback=count.append)
    assert info == 0
    assert len(count) < 20
    assert np.linalg.norm(b - A.matvec(x)) <= 1.1 * RTOL * np.linalg.norm(b)
    tiny = M.matvec(1e-200 * b)  # float32 inside has its range, what goes in and out has that of float64
    np.testing.assert_allclose(tiny * 1e200, M @ b, atol=1e-5 * abs(tiny * 1e200).max())


def test_it_keeps_the_dtype_and_takes_many_vectors():
    A = problems.box((10, 12))
    M = ntsolve.LearnedMultigrid(A)
    r = np.random.default_rng(0).standard_normal((3, A.shape[0]))
    z = M.matvec(r)
    assert z.shape == r.shape
    np.testing.assert_allclose(M.matvec(r[1]), z[1], rtol=1e-5, atol=1e-6 * abs(z).max())
    assert M.matvec(r.astype("float32")).dtype == np.float32
    with pytest.raises(ValueError, match="r "):
        M.matvec(r[:, :-1])
    many = ntsolve.cg(A, r, M=M, rtol=RTOL)
    assert many.success.all()
    assert many.nit.max() < 16


def test_a_batch_of_operators_has_a_cycle_each():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 20, 20)) < 0.9
    A = ntsolve.GridOperator.poisson(masks, ndim=2)
    b = np.where(masks, rng.standard_normal(masks.shape), 0)
    result = ntsolve.cg(A, b, M="multigrid", rtol=RTOL)
    assert result.success.all()
    assert result.nit.max() < 20
    one = ntsolve.cg(A[1], b[1], M="multigrid", rtol=RTOL)
    np.testing.assert_allclose(result.x[1], one.x, atol=1e-4 * abs(one.x).max())


def test_the_strong_axis_is_coarsened_first():
    found = hierarchy.plan((32, 32, 32), (1.0, 1.0, 100.0))
    assert found.factors[:3] == ((1, 1, 2),) * 3
    assert hierarchy.plan((32, 32, 32), (1.0, 1.0, 1.0)).factors[0] == (2, 2, 2)
    assert hierarchy.plan((33, 1, 17), (1.0, 0.0, 1.0)).sizes[1] == (17, 1, 9)
    assert hierarchy.plan((8, 1, 64), (1.0, 0.0, 1.0), (1, 0, 1)).sizes[-1] == (2, 1, 16)
    assert hierarchy.plan((7, 1, 48), (1.0, 0.0, 1.0), (1, 0, 0)) is None


def test_wrong_arguments_are_named():
    A = problems.box((6, 6))
    with pytest.raises(TypeError, match="A must be"):
        ntsolve.LearnedMultigrid(np.eye(4))
    with pytest.raises(ValueError, match="coarsening"):
        ntsolve.LearnedMultigrid(A, coarsening="boxes")
    with pytest.raises(ValueError, match="A"):
        ntsolve.LearnedMultigrid(sp.csr_array(np.ones((5, 5))))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 1, 1), (3, 2), (1, 1, 40)])
def test_tiny_grids_are_solved_at_once(shape):
    A = problems.box(shape)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    result = solve(A, b)
    assert result.nit <= 2 if A.shape[0] <= hierarchy.BOTTOM else 10


@pytest.mark.parametrize("kind", ["mask", "coefficient", "walls"])
def test_on_the_gpu_it_is_what_it_is_on_the_cpu(kind, monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(hierarchy, "SMALL", 40)
    rng = np.random.default_rng(0)
    if kind == "coefficient":
        kappa = rng.uniform(1, 2, (6, 5, 4))
        here, there = (ntsolve.GridOperator.diffusion(array) for array in (kappa, cupy.asarray(kappa)))
    else:
        mask = problems.labyrinth(rng, (23, 23)).mask if kind == "walls" else rng.random((7, 9)) < 0.9
        solid = kind == "walls"
        here, there = (ntsolve.GridOperator.poisson(array, solid=solid) for array in (mask, cupy.asarray(mask)))
    b = rng.standard_normal(here.shape[0])
    M, other = ntsolve.LearnedMultigrid(here), ntsolve.LearnedMultigrid(there)
    assert other.coarsening == M.coarsening == ("aggregation" if kind == "walls" else "blocks")
    z = M.matvec(b)
    np.testing.assert_allclose(other.matvec(cupy.asarray(b)).get(), z, atol=1e-5 * abs(z).max())
    result = ntsolve.cg(there, cupy.asarray(b), M="multigrid", rtol=RTOL)
    assert result.success
    assert abs(result.nit - solve(here, b).nit) <= 1


def test_fixed_values_all_over_the_place_are_no_walls():
    """They part the cells of a block as walls do, and hold each of them, so that joining these does no harm."""
    unknown = np.random.default_rng(0).random((96, 96)) < 0.75
    values, walls = (ntsolve.GridOperator.poisson(unknown, solid=solid) for solid in (False, True))
    assert ntsolve.LearnedMultigrid(values).coarsening == "blocks"
    assert ntsolve.LearnedMultigrid(walls).coarsening == "aggregation"
    assert solve(values, np.random.default_rng(1).standard_normal(values.shape[0])).nit < 15


def test_a_residual_that_rises_once_and_falls_then_is_no_reason_to_change():
    """That of a smooth b, for which the first correction is too large."""
    A = ntsolve.GridOperator.poisson(np.ones((20, 20), dtype=bool))
    for norms, changes in (([1, 16, 3, 0.95], False), ([1, 1.1, 1.0, 0.95], True), ([1, 0.9, 0.85, 0.8], True)):
        M = ntsolve.LearnedMultigrid(A)
        assert M.confirm(np.array(norms)) is changes
