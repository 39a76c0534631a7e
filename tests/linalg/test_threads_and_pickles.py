"""Preconditioners in several threads, through pickle and copy, and as LinearOperators."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg

import ntsolve
from ntsolve.linalg.aggregation import Aggregation
from tests.backends import BACKENDS, to_device, to_host

G = ntsolve.GridOperator


def grid():
    mask = np.ones((20, 20), dtype=bool)
    mask[5:9, 6:15] = False
    return G.poisson(mask)


def made():
    A = grid()
    matrix = A.tocsr()
    yield "blocks", A, ntsolve.LearnedMultigrid(A)
    yield "aggregation", A, ntsolve.LearnedMultigrid(A, coarsening="aggregation")
    yield "Aggregation", A, Aggregation(A)
    yield "network", A, ntsolve.DeepConjugateDirection(A)
    yield "ic0", matrix, ntsolve.ic0(matrix)
    yield "ssor", matrix, ntsolve.ssor(matrix, 1.4)
    yield "operator", A, A


EACH = list(made())
each = pytest.mark.parametrize(("A", "M"), [one[1:] for one in EACH], ids=[one[0] for one in EACH])


@each
def test_one_object_serves_several_threads(A, M):
    rows = np.random.default_rng(0).standard_normal((8, A.shape[0]))
    want = [M.matvec(row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(M.matvec, [row for _ in range(5) for row in rows]))
    for number, found in enumerate(got):
        np.testing.assert_array_equal(found, want[number % len(rows)])


@each
@pytest.mark.parametrize("again", [copy.deepcopy, lambda M: pickle.loads(pickle.dumps(M))], ids=["copied", "pickled"])
def test_what_is_copied_or_pickled_does_the_same(A, M, again):
    r = np.random.default_rng(1).standard_normal(A.shape[0])
    twin = again(M)
    assert twin is not M
    np.testing.assert_array_equal(twin.matvec(r), M.matvec(r))
    if M is not A:
        assert ntsolve.cg(A, r, M=twin).nit == ntsolve.cg(A, r, M=M).nit


def test_a_pickled_tuner_goes_on_as_the_one_it_was():
    tuner = ntsolve.RelaxationTuner(arms=[1.0, 1.5], rng=0)
    for context in np.linspace(0, 1, 9):
        tuner.observe(10 * tuner.suggest(context) + context)
    twin = pickle.loads(pickle.dumps(tuner))
    assert twin.best(0.3) == tuner.best(0.3)
    assert [twin.suggest(0.3) for _ in range(5)] == [tuner.suggest(0.3) for _ in range(5)]


@each
def test_as_linear_operator_takes_vectors_and_columns(A, M):
    n = A.shape[0]
    operator = M.as_linear_operator()
    X = np.random.default_rng(2).standard_normal((n, 3))
    want = np.stack([M.matvec(np.ascontiguousarray(x)) for x in X.T], axis=1)
    np.testing.assert_array_equal(operator @ X, want)
    np.testing.assert_array_equal(operator @ X[:, 0], want[:, 0])
    np.testing.assert_array_equal(operator @ X[:, :1], want[:, :1])


def test_columns_are_not_mistaken_for_a_grid():
    mask = np.zeros((4, 6), dtype=bool)
    mask[1, :] = True  # as many unknowns as a row has cells
    A = G.poisson(mask)
    X = np.random.default_rng(3).standard_normal((6, 4))
    np.testing.assert_allclose(A.as_linear_operator() @ X, A.tocsr() @ X)


def test_lobpcg_takes_the_cycle():
    A = G.poisson(np.ones((20, 20), dtype=bool))
    M = ntsolve.LearnedMultigrid(A).as_linear_operator()
    start = np.random.default_rng(4).standard_normal((400, 3))
    values, _ = scipy.sparse.linalg.lobpcg(A.tocsr(), start, M=M, largest=False, tol=1e-6, maxiter=40)
    want = scipy.sparse.linalg.eigsh(A.tocsr(), 3, sigma=0)[0]
    np.testing.assert_allclose(np.sort(values), want, rtol=1e-8)


@pytest.mark.parametrize("make", [G.as_linear_operator, lambda A: ntsolve.LearnedMultigrid(A).as_linear_operator(),
                                  lambda A: Aggregation(A).as_linear_operator(),
                                  lambda A: ntsolve.DeepConjugateDirection(A).as_linear_operator()])  # fmt: skip
def test_a_batch_is_no_linear_operator(make):
    A = G.poisson(np.ones((2, 6, 6), dtype=bool), ndim=2)
    with pytest.raises(TypeError, match="batch"):
        make(A)


@pytest.mark.parametrize("M", [ntsolve.LearnedMultigrid, ntsolve.DeepConjugateDirection])
def test_a_class_is_no_preconditioner(M):
    with pytest.raises(TypeError, match=f"M is the class {M.__name__}"):
        ntsolve.cg(grid(), np.ones(grid().shape[0]), M=M)


@pytest.mark.parametrize(("call", "name"), [
    (lambda A: ntsolve.LearnedMultigrid(A).matvec(np.ones(A.shape[0]) * 1j), "r is complex"),
    (lambda A: Aggregation(A).matvec(np.ones(A.shape[0]) * 1j), "x is complex"),
    (lambda A: Aggregation(A.tocsr()), "A must be"),
    (lambda A: Aggregation(A, weights=1.0), "weights must be"),
    (lambda A: Aggregation(A, weights=(1.0, 2.5)), "weights must be"),
    (lambda A: ntsolve.RelaxationTuner(arms=5), "arms must be"),
    (lambda A: G.from_csr(sp.eye_array(12).tocsr(), 12), "grid_shape must be"),
    (lambda A: G.poisson(A.mask, periodic=None), "periodic must be"),
    (lambda A: G.poisson(A.mask, periodic=1), "periodic must be"),
    (lambda A: G.poisson(A.mask, outside=None), "outside must be"),
    (lambda A: G.poisson(A.mask, outside=(3, "neumann")), "outside must"),
    (lambda A: G.poisson(A.mask, ndim=2.0), "ndim must be"),
])  # fmt: skip
def test_errors_name_the_argument(call, name):
    with pytest.raises((TypeError, ValueError), match=name):
        call(grid())


def test_no_unknowns_are_no_system():
    A = G.poisson(np.zeros((4, 4), dtype=bool))
    for M in (None, "jacobi"):
        result = ntsolve.cg(A, np.zeros(0), M=M)
        assert result.x.shape == (0,)
        assert result.success


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [lambda A: A, ntsolve.LearnedMultigrid, Aggregation, ntsolve.DeepConjugateDirection])
def test_linear_operators_are_those_of_the_backend(make, backend):
    A = G.poisson(to_device(np.ones((6, 5), dtype=bool), backend))
    M, r = make(A), to_device(np.arange(30.0), backend)
    got = M.as_linear_operator().matvec(r)
    assert type(got) is type(r)
    np.testing.assert_array_equal(to_host(got), to_host(M.matvec(r)))
