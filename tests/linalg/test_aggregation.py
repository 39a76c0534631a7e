"""Aggregation along strong couplings: positive definite whatever it is given, few iterations where contrast is high."""

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import GridOperator
from ntsolve.kernels.cpu import pairing
from ntsolve.linalg import aggregation, aggregationcycle
from ntsolve.linalg.aggregation import Aggregation, contrast
from tests.backends import BACKENDS, to_device, to_host


def rng(seed=0):
    return np.random.default_rng(seed)


def dense(M):
    """The matrix of a preconditioner, column by column."""
    return M.matvec(np.eye(M.shape[-1])).T


def general(shape, seed=0):
    """Smooth, over five decades."""
    waves = sum(
        np.cos(rng(seed + axis).uniform(3, 12) * np.linspace(0, 1, extent) + rng(seed + axis).uniform(0, 6)).reshape(
            [-1] + [1] * (len(shape) - axis - 1)
        )
        for axis, extent in enumerate(shape)
    )
    return 10 ** (5 * (waves - waves.min()) / np.ptp(waves))


def layered(shape, seed=0):
    layers = 10 ** (5 * rng(seed).random(shape[0]))
    return layers.reshape([-1] + [1] * (len(shape) - 1)) * np.ones(shape)


def inclusions(shape, seed=0):
    kappa = np.ones(shape)
    place = np.stack(np.meshgrid(*[(np.arange(extent) + 0.5) / extent for extent in shape], indexing="ij"), axis=-1)
    for _ in range(20):
        centre, radius = rng(seed).random(len(shape)), rng(seed).uniform(0.05, 0.15)
        seed += 1
        kappa[((place - centre) ** 2).sum(axis=-1) < radius**2] = 10.0 ** (5 * rng(seed).choice([-1, 1]))
    return kappa


def serpentine(extent):
    """Walls across a box, each with a hole at one of its ends."""
    mask = np.ones((extent,) * 3, dtype=bool)
    for number, wall in enumerate(range(3, extent - 1, 5)):
        mask[wall] = False
        mask[wall, 0 if number % 2 else -1] = True
    return mask


def maze(rooms, seed=0):
    """One way between any two rooms of a square, with corridors and walls of one cell."""
    mask = np.zeros((2 * rooms + 1,) * 2, dtype=bool)
    mask[1::2, 1::2] = True
    random, path, seen = rng(seed), [(0, 0)], {(0, 0)}
    while path:
        i, j = path[-1]
        ways = [(i + a, j + b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        ways = [way for way in ways if min(way) >= 0 and max(way) < rooms and way not in seen]
        if not ways:
            path.pop()
            continue
        to = ways[random.integers(len(ways))]
        mask[i + to[0] + 1, j + to[1] + 1] = True
        seen.add(to)
        path.append(to)
    return mask


def iterations(A, **options):
    b = A @ rng(9).standard_normal(A.shape[0])
    result = ntsolve.cg(A, b, M=Aggregation(A, **options), rtol=1e-6, maxiter=200)
    assert result.success
    assert np.linalg.norm(b - A @ result.x) <= 1.0001e-6 * np.linalg.norm(b)
    return result.nit


KIND = rng(2).random((5, 6, 5))
OPERATORS = {
    "mask": lambda: GridOperator.poisson(KIND < 0.75, solid=KIND > 0.9),
    "2-D": lambda: GridOperator.diffusion(general((14, 11))),
    "contrast": lambda: GridOperator.diffusion(inclusions((6, 5, 6)), outside=("dirichlet", "neumann", "neumann")),
    "periodic": lambda: GridOperator.diffusion(general((12, 10)), periodic=(True, False)),
    "odd period": lambda: GridOperator.diffusion(general((5, 5, 4)), periodic=(True, True, False)),
    "line": lambda: GridOperator.poisson(np.ones((1, 90), dtype=bool), outside=("neumann", "dirichlet")),
    "closed": lambda: GridOperator.poisson(KIND < 0.75, outside="neumann"),
    "large values": lambda: GridOperator.diffusion(1e30 * general((12, 12))),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_is_symmetric_positive_definite_for_any_weights(name, monkeypatch):
    monkeypatch.setattr(aggregation, "BOTTOM", 9)  # several levels
    A = OPERATORS[name]()
    for seed in range(2):
        weights = tuple(rng(seed).uniform(0.02, 1.98, 2))
        M = Aggregation(A, weights=weights, dtype="float64")
        assert len(M.levels) > 2
        matrix = dense(M)
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-12 * abs(matrix).max())
        values, vectors = np.linalg.eigh(A.tocsr().toarray())
        half = vectors * np.sqrt(values.clip(0))
        values = np.linalg.eigvalsh(half.T @ matrix @ half)
        assert values.max() <= aggregationcycle.SIGMA + 1e-6  # without which the level above would not be definite
        x = rng(seed).standard_normal((20, A.shape[0]))
        lonely = A.diagonal() == 0  # rows of zeros, of which there is nothing to precondition
        x[:, lonely] = 0
        assert ((x @ matrix) * x).sum(axis=1).min() > 0


@pytest.mark.parametrize("name", [*OPERATORS, "period of 16", "period of 10"])
def test_both_layouts_of_vectors_make_the_same_operator(name, monkeypatch):
    monkeypatch.setattr(aggregation, "BOTTOM", 9)
    operators = OPERATORS | {
        "period of 16": lambda: GridOperator.diffusion(inclusions((4, 6, 16)), periodic=True),
        "period of 10": lambda: GridOperator.diffusion(general((12, 10)), periodic=(False, True)),
    }
    A = operators[name]()
    single, double = (Aggregation(A, weights=(1.1, 0.9), dtype=dtype) for dtype in ("float32", "float64"))
    assert double.cycle(1) is None  # rows of cells in their natural order
    assert (single.cycle(1) is None) == (name in ("odd period", "period of 10"))
    r = rng().standard_normal((2, A.shape[0])) * (A.diagonal() > 0)
    want = double @ r
    np.testing.assert_allclose(single @ r, want, atol=1e-4 * abs(want).max())


@pytest.mark.parametrize("small", [1, 40, 10**6])
def test_levels_in_one_call_and_one_by_one_are_the_same(small, monkeypatch):
    monkeypatch.setattr(aggregation, "BOTTOM", 9)
    A = GridOperator.diffusion(inclusions((8, 8, 8)))
    r = rng().standard_normal(A.shape[0])
    want = Aggregation(A, dtype="float64") @ r
    monkeypatch.setattr(aggregation, "SMALL", small)
    np.testing.assert_allclose(Aggregation(A, dtype="float64") @ r, want, rtol=1e-10, atol=1e-12 * abs(want).max())


@pytest.mark.parametrize("family", [general, layered, inclusions])
def test_five_decades_of_contrast_take_15_iterations(family):
    for seed in (0, 100):
        A = GridOperator.diffusion(family((24, 24, 24), seed), outside=("dirichlet", "neumann", "neumann"))
        assert contrast(A) > 1e4
        assert iterations(A) <= 15


def test_contrast_beyond_the_precision_of_float32_is_met_in_float64():
    """Stiff pieces that hang on soft threads: in float32 their coupling to the rest is lost in rounding."""
    for shape, decades in (((48, 48), 8), ((16, 16, 16), 16)):
        random = rng(3)
        kappa = 10.0 ** (decades * random.choice((-0.5, 0, 0.5), [extent // 4 for extent in shape]))
        for axis in range(len(shape)):
            kappa = kappa.repeat(4, axis)
        A = GridOperator.diffusion(kappa)
        assert Aggregation(A).dtype == "float64"
        assert iterations(A) <= 20
        assert ntsolve.cg(A, np.ones(A.shape[0]), M=ntsolve.LearnedMultigrid(A, coarsening="aggregation"),
                          rtol=1e-6).success  # fmt: skip
    assert Aggregation(GridOperator.diffusion(inclusions((8, 8, 8)))).dtype == "float32"
    assert Aggregation(A, dtype="float32").dtype == "float32"


def test_thin_walls_and_mazes_take_15_iterations():
    walls = GridOperator.poisson(serpentine(24), solid=True, outside=(("dirichlet", "neumann"), "neumann", "neumann"))
    assert iterations(walls) <= 15
    assert iterations(GridOperator.poisson(maze(30), outside="neumann")) <= 15
    doors = maze(30)
    doors[0, 1] = doors[-1, -2] = True
    assert iterations(GridOperator.poisson(doors, solid=True)) <= 15


def test_closed_boxes_odd_sizes_and_periods_are_solved():
    assert iterations(GridOperator.poisson(np.ones((17, 20, 15), dtype=bool), outside="neumann")) <= 15
    assert iterations(GridOperator.poisson(np.ones((15, 9, 21), dtype=bool), periodic=True)) <= 20
    assert iterations(GridOperator.poisson(rng().random((20, 20, 20)) > 0.4, outside="neumann")) <= 20
    assert iterations(GridOperator.poisson(np.ones((1, 4000), dtype=bool))) <= 30


def test_what_is_hardly_coupled_needs_no_coarser_level():
    A = GridOperator.from_csr(sp.csr_array(np.diag(np.arange(1.0, 41.0))), (5, 8))
    M = Aggregation(A)
    np.testing.assert_allclose(M @ np.ones(40), 1 / np.arange(1.0, 41.0), rtol=1e-3)  # times 1 - (1 - w)**8
    assert iterations(A) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_takes_vectors_of_both_forms_and_any_size(dtype):
    mask = rng().random((9, 8)) < 0.8
    A = GridOperator.poisson(mask)
    M = Aggregation(A, dtype=dtype)
    r = rng().standard_normal((3, A.shape[0]))
    on_grid = np.zeros((3, 9, 8))
    on_grid[:, mask] = r
    np.testing.assert_array_equal(M.matvec(on_grid)[:, mask], M.matvec(r))
    np.testing.assert_array_equal(M.matvec(r[1]), M.matvec(r)[1])
    assert M.matvec(r.astype("float32")).dtype == "float32"
    np.testing.assert_allclose(M.matvec(r * 2.0**-600), M.matvec(r) * 2.0**-600, rtol=1e-4, atol=0)


def test_many_right_hand_sides_and_batches_of_masks():
    masks = np.stack([rng(seed).random((12, 13)) < 0.8 for seed in range(3)])
    A = GridOperator.poisson(masks, ndim=2)
    b = rng().standard_normal(masks.shape)
    result = ntsolve.cg(A, b, M=Aggregation(A), rtol=1e-8)
    assert result.success.all()
    for item in range(3):
        np.testing.assert_allclose(result.x[item], ntsolve.cg(A[item], b[item], rtol=1e-10).x, atol=1e-6)
    one = A[0]
    many = rng().standard_normal((4, one.shape[0]))
    result = ntsolve.cg(one, many, M=Aggregation(one), rtol=1e-8)
    np.testing.assert_allclose(one @ result.x, many, atol=1e-6)


def test_is_bitwise_the_same_for_any_number_of_threads():
    A = GridOperator.diffusion(inclusions((40, 40, 40)))
    r, found = rng().standard_normal(A.shape[0]), []
    for threads in (1, 2, 4):
        with ntsolve.config(threads=threads):  # that set it up, and that apply it
            found.append(Aggregation(A) @ r)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_contrast_is_that_of_the_faces():
    assert contrast(GridOperator.poisson(np.ones((4, 4), dtype=bool))) == 1
    assert contrast(GridOperator.diffusion(layered((4, 4)) * 0 + np.array([[1.0], [1], [1], [100]]))) > 50
    assert contrast(GridOperator.poisson(np.ones((4, 4), dtype=bool), spacing=(1, 10))) == pytest.approx(100)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"weights": (0.0, 1.0)}, "weights must be positive"), ({"weights": (1.0, 2.0)}, "weights must be two"),
     ({"weights": (1.0,)}, "weights must be two"), ({"dtype": "int8"}, "dtype must be")],
)  # fmt: skip
def test_bad_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        Aggregation(GridOperator.poisson(np.ones((4, 4), dtype=bool)), **options)


def test_a_preconditioner_of_another_operator_is_refused():
    one, other = (GridOperator.poisson(np.ones((4, n), dtype=bool)) for n in (4, 5))
    with pytest.raises(ValueError, match=r"^M is for "):
        ntsolve.cg(one, np.ones(16), M=Aggregation(other))
    with pytest.raises(ValueError, match="M is the preconditioner"):
        ntsolve.cg(one.tocsr(), np.ones(16), M=Aggregation(one))


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_backends_agree(backend, monkeypatch):
    monkeypatch.setattr(aggregation, "BOTTOM", 9)
    monkeypatch.setattr(aggregation, "SMALL", 30)
    kappa = inclusions((6, 7, 5))
    here, there = GridOperator.diffusion(kappa), GridOperator.diffusion(to_device(kappa, backend))
    r = rng().standard_normal(here.shape[0])
    want = Aggregation(here, dtype="float64") @ r
    got = to_host(Aggregation(there, dtype="float64") @ to_device(r, backend))
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10 * abs(want).max())


# ---- setup ----------------------------------------------------------------------------------------------------------


def graph(A):
    """(begin, end, indices, weights, strongest, diag) of a symmetric matrix, with gaps."""
    off = sp.csr_array(A - sp.diags_array(A.diagonal()))
    off.eliminate_zeros()
    rows = np.repeat(np.arange(A.shape[0]), np.diff(off.indptr))
    begin, end = off.indptr[:-1] + 3 * np.arange(A.shape[0]), off.indptr[1:] + 3 * np.arange(A.shape[0])
    indices, weights = np.full(off.nnz + 3 * A.shape[0], -1, "int32"), np.full(off.nnz + 3 * A.shape[0], np.nan)
    indices[np.arange(off.nnz) + 3 * rows], weights[np.arange(off.nnz) + 3 * rows] = off.indices, -off.data
    strongest = np.zeros(A.shape[0])
    np.maximum.at(strongest, rows, -off.data)
    return begin, end, indices, weights, strongest, A.diagonal()


def matrix_of(begin, end, indices, weights, columns):
    """As SciPy has it."""
    rows = np.repeat(np.arange(begin.size), end - begin)
    places = np.concatenate([np.arange(*ends) for ends in zip(begin, end, strict=True)])
    return sp.csr_array((weights[places], (rows, indices[places])), shape=(begin.size, columns))


def matrices():
    yield GridOperator.diffusion(inclusions((9, 8, 7)), outside="neumann").tocsr()
    yield GridOperator.poisson(maze(9), outside="neumann").tocsr()
    yield GridOperator.poisson(rng().random((15, 14)) < 0.6).tocsr()


@pytest.mark.parametrize("A", list(matrices()))
def test_aggregates_hang_together_and_their_matrix_is_galerkins(A):
    parts = graph(A)
    aggregate, count = pairing.pair(*parts)
    assert aggregate.max() == count - 1
    assert (np.bincount(aggregate[aggregate >= 0], minlength=count) >= 1).all()
    starts, members = pairing.members_of(aggregate, count)
    for a in range(count):
        mine = members[starts[a] : starts[a + 1]]
        assert (aggregate[mine] == a).all()
        inner = sp.csr_array(A[mine][:, mine])
        assert sp.csgraph.connected_components(inner)[0] == 1
    inside = np.flatnonzero(aggregate >= 0)
    P = sp.csr_array((np.ones(inside.size), (inside, aggregate[inside])), shape=(A.shape[0], count))
    slack = np.maximum(A.sum(axis=1), 0)
    *coarse, strongest, diag, slack = pairing.galerkin(*parts[:4], slack, aggregate, starts, members)
    off = matrix_of(*coarse, count)
    np.testing.assert_array_equal(strongest, off.max(axis=1).toarray().reshape(-1))
    found = sp.diags_array(diag) - off
    np.testing.assert_allclose(found.toarray(), (P.T @ A @ P).toarray(), atol=1e-12 * abs(diag).max())
    np.testing.assert_allclose(slack, found.sum(axis=1), atol=1e-12 * abs(diag).max())


@pytest.mark.parametrize("A", list(matrices()))
def test_neighbours_have_different_colours(A):
    begin, end, indices, weights, _, _ = graph(A)
    colours, count = pairing.colour(begin, end, indices)
    assert sorted(set(colours)) == list(range(count))
    off = matrix_of(begin, end, indices, weights, A.shape[0]).tocoo()
    assert (colours[off.row] != colours[off.col]).all()
    order = pairing.by_colours(begin, end, indices, colours)
    np.testing.assert_array_equal(np.sort(order), np.arange(A.shape[0]))
    assert (np.diff(colours[order]) >= 0).all()
    place = np.argsort(order).astype("int32")
    indptr, middle, indices, weights = pairing.reorder(begin, end, indices, weights, order, place)
    moved = sp.csr_array((weights, indices, indptr), shape=A.shape)
    above = indices > np.repeat(np.arange(A.shape[0]), np.diff(indptr))
    np.testing.assert_array_equal(above, np.arange(above.size) >= np.repeat(middle, np.diff(indptr)))
    np.testing.assert_array_equal(moved.toarray(), off.tocsr()[order][:, order].toarray())
