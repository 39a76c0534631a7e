"""M="multigrid" works in the box of the unknowns, which nobody notices but by the clock."""

import numpy as np
import pytest

import ntsolve
from ntsolve.linalg import grid_box
from tests.backends import BACKENDS, to_device, to_host

G = ntsolve.GridOperator


def puddle(shape, box):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*part) for part in box)] = True
    mask[tuple((part[0] + part[1]) // 2 for part in box)] = False
    return mask


CASES = {
    "3-D, air around": (puddle((20, 18, 23), ((3, 15), (0, 18), (5, 12))), {}),
    "3-D, closed in": (puddle((20, 18, 23), ((3, 15), (5, 17), (0, 12))), {"solid": True, "outside": "neumann"}),
    "2-D, one axis periodic": (puddle((40, 32), ((7, 20), (0, 32))), {"periodic": (False, True)}),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_that_on_all_cells(name, backend):
    mask, options = CASES[name]
    A = G.poisson(to_device(mask, backend), **options)
    small = grid_box.cropped(A)
    assert small is not A
    assert small.size < 0.7 * A.size
    assert grid_box.cropped(A) is small
    matrix = G.poisson(mask, **options).tocsr()
    assert abs(G.poisson(mask, **options).tocsr() - to_matrix(small)).nnz == 0
    b = matrix @ np.random.default_rng(0).standard_normal((3, len(matrix.indptr) - 1)).T
    b = np.ascontiguousarray(b.T)
    start = np.ones_like(b)
    result = ntsolve.cg(A, to_device(b, backend), x0=to_device(start, backend), M="multigrid", rtol=1e-9)
    whole = ntsolve.cg(A, to_device(b, backend), M=ntsolve.LearnedMultigrid(A), rtol=1e-9)
    assert result.success.all()
    x = to_host(result.x)
    assert x.shape == b.shape
    assert (np.linalg.norm(b.T - matrix @ x.T, axis=0) <= 1.0001e-9 * np.linalg.norm(b, axis=1)).all()
    np.testing.assert_allclose(x, to_host(whole.x), atol=1e-6 * abs(x).max())


def to_matrix(A):
    matrix = A.tocsr()
    return matrix.get() if hasattr(matrix, "get") else matrix


@pytest.mark.parametrize(
    "A",
    [
        G.poisson(np.ones((12, 12), dtype=bool)),
        G.poisson(np.zeros((12, 12), dtype=bool)),
        G.poisson(puddle((16, 16), ((0, 8), (0, 8))), spacing=(1.0, 2.0)),
        G.poisson(np.stack([puddle((16, 16), ((0, 8), (0, 8)))] * 2), ndim=2),
    ],
    ids=["full", "empty", "coefficients", "batch"],
)
def test_other_operators_stay_as_they_are(A):
    assert grid_box.cropped(A) is A


def test_arrays_in_the_shape_of_the_grid_are_solved_on_all_cells():
    A = G.poisson(CASES["3-D, air around"][0])
    b = np.random.default_rng(1).standard_normal(A.grid_shape)
    result = ntsolve.cg(A, b, M="multigrid", rtol=1e-8)
    assert result.success
    assert result.x.shape == b.shape
    flat = ntsolve.cg(A, b[A.mask], M="multigrid", rtol=1e-8)
    np.testing.assert_allclose(result.x[A.mask], flat.x, atol=1e-6)
    with pytest.raises(ValueError, match="b has shape"):
        ntsolve.cg(A, b[1:], M="multigrid")
