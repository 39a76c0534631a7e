"""The empirical Fisher matrix and its inverse are those of the dense formula, in every form they can be asked for."""

import os

import numpy as np
import pytest
import scipy.sparse.linalg

import ntsolve
from ntsolve.curvature.gradients import cuts
from tests.backends import BACKENDS, to_device, to_host

from .problems import error, fisher, gradients, inverse_times, power_law

SHAPES = [(5, 40, None), (40, 17, None), (16, 16, None), (1, 1, None), (1, 9, None), (9, 1, None), (6, 40, 8),
          (6, 41, 4), (6, 41, 7), (3, 10, 100), (70, 150, None)]  # fmt: skip
ROUNDING = {"float64": 1e-12, "float32": 3e-7, "float16": 3e-7}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(("m", "d", "block_size"), SHAPES)
def test_everything_is_that_of_the_dense_matrix(m, d, block_size, dtype, backend):
    if backend != "cpu" and (dtype == "float16" or m * d > 2000):
        pytest.skip("large for an emulator")
    G = gradients(m, d, dtype)
    F = ntsolve.EmpiricalFisher(to_device(G, backend), damp=0.05, block_size=block_size)
    dense = fisher(G, 0.05, block_size)
    inverse, bound = np.linalg.inv(dense), ROUNDING[dtype]
    X = gradients(3, d, "float32" if dtype == "float16" else dtype, seed=1)
    there = to_device(X, backend)
    assert error(to_host(F.solve(there)), X @ inverse) < bound
    assert error(to_host(F.matvec(there)), X @ dense) < bound
    assert error(to_host(F.diag()), np.diag(inverse)) < bound
    assert error(to_host(F.solve_newest()), inverse @ G[-1].astype(float)) < bound
    index = np.random.default_rng(2).integers(0, d, 6)  # some twice
    block = to_host(F.block(index))
    assert error(block, inverse[np.ix_(index, index)]) < 1e-12
    assert block.dtype == np.float64
    assert F.element(0, d - 1) == pytest.approx(inverse[0, -1], abs=1e-12)
    assert F.element(-1, -1) == pytest.approx(inverse[-1, -1], rel=1e-12)
    assert F.log_det() == pytest.approx(np.linalg.slogdet(dense)[1], abs=1e-10)
    assert (F.m, F.d, F.shape) == (m, d, (d, d))


@pytest.mark.parametrize("method", ["cholesky", "recursion"])
@pytest.mark.parametrize(("m", "d"), [(5, 40), (40, 17), (1, 3)])
def test_both_methods_say_the_same(m, d, method):
    G = gradients(m, d)
    F, dense = ntsolve.EmpiricalFisher(G, damp=0.1, method=method), fisher(G, 0.1)
    inverse, X = np.linalg.inv(dense), gradients(2, d, seed=1)
    assert error(F.solve(X), X @ inverse) < 1e-12
    assert error(F.matvec(X), X @ dense) < 1e-12
    assert error(F.diag(), np.diag(inverse)) < 1e-12
    assert error(F.block(range(d)), inverse) < 1e-12
    assert error(F.solve_newest(), inverse @ G[-1]) < 1e-12
    assert F.log_det() == pytest.approx(np.linalg.slogdet(dense)[1])


@pytest.mark.parametrize("damp", [1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("repeated", [False, True])
def test_float32_gradients_keep_six_digits_at_a_small_damp(damp, repeated):
    G = power_law(60, 400)
    if repeated:
        G[10:20] = G[0]
    X = gradients(4, 400, seed=1)
    X[0], X[1] = G[0], G.sum(0)  # what the inverse shrinks most
    wanted = inverse_times(G, damp, X)
    got = ntsolve.EmpiricalFisher(G, damp=damp).solve(X)
    for row, right in zip(got, wanted, strict=True):
        assert error(row, right) < 1e-6


def test_the_recursion_is_the_cholesky_factor_row_by_row():
    from ntsolve.curvature.recursion import StaticRecursion

    G, damp = gradients(7, 30), 0.01
    recursion = ntsolve.EmpiricalFisher(G, damp=damp, method="recursion")._inverse
    assert isinstance(recursion, StaticRecursion)
    L = np.linalg.cholesky(7 * damp * np.eye(7) + G @ G.T)
    assert error(recursion.q, np.diag(L) ** 2 / damp) < 1e-13
    assert error(recursion.v, np.diag(L)[:, None] * np.linalg.solve(L, G) / damp) < 1e-13


def test_vectors_come_in_any_number_and_keep_shape_and_dtype():
    G = gradients(5, 12, "float32")
    F = ntsolve.EmpiricalFisher(G, damp=0.1)
    one = gradients(1, 12, "float32", seed=3)[0]
    assert F.solve(one).shape == (12,)
    assert F.solve(one).dtype == np.float32
    for shape in ((12,), (1, 12), (40, 12), (2, 3, 12), (0, 12), (12, 12)):
        X = np.random.default_rng(1).standard_normal(shape)
        Y = F.solve(X)
        assert Y.shape == shape
        assert Y.dtype == np.float64
        for row, answer in zip(X.reshape(-1, 12), Y.reshape(-1, 12), strict=True):
            np.testing.assert_allclose(F.solve(row), answer, rtol=1e-11, atol=1e-13)
    assert F.solve([1] * 12).dtype == np.float64
    assert F.solve(one.astype("float16")).dtype == np.float32
    assert ntsolve.EmpiricalFisher(G.astype(float), damp=1).solve(one).dtype == np.float64


@pytest.mark.parametrize("block_size", [None, 5])
def test_another_damp_needs_no_gradients(block_size):
    G = gradients(8, 20)
    F = ntsolve.EmpiricalFisher(iter(G), damp=1.0, block_size=block_size)
    other = F.with_damp(0.01)
    F._rows.array[...] = np.nan  # not read again
    dense = fisher(G, 0.01, block_size)
    assert other.damp == 0.01
    assert other.log_det() == pytest.approx(np.linalg.slogdet(dense)[1])
    with pytest.raises(ValueError, match="damp"):
        F.with_damp(0)


def test_objects_that_share_gradients_change_apart():
    G = gradients(6, 20)
    kept = G.copy()
    F = ntsolve.EmpiricalFisher(G, damp=0.1)
    other, x = F.with_damp(0.2), gradients(1, 20, seed=1)[0]
    before = other.solve(x)
    F.append(gradients(1, 20, seed=2)[0])
    assert (other.solve(x) == before).all()
    other.replace(gradients(1, 20, seed=3)[0], 2)
    assert error(F.solve(x), np.linalg.solve(fisher(np.vstack([kept[1:], gradients(1, 20, seed=2)]), 0.1), x)) < 1e-12
    np.testing.assert_array_equal(G, kept)


def test_the_inverse_preconditions_other_solvers():
    G = gradients(30, 60)
    A = fisher(G, 1e-3)
    M, b = ntsolve.EmpiricalFisher(G, damp=1e-3), np.ones(60)
    alone = ntsolve.cg(A, b, rtol=1e-10)
    for form in (M, M.as_linear_operator()):
        r = ntsolve.cg(A, b, M=form, rtol=1e-10)
        assert r.success
        assert r.nit <= 3 < alone.nit
    _, info = scipy.sparse.linalg.cg(A, b, M=M.as_linear_operator(), rtol=1e-10)
    assert info == 0
    operator = M.as_linear_operator()
    assert isinstance(operator, scipy.sparse.linalg.LinearOperator)
    np.testing.assert_allclose(operator @ np.eye(60), np.linalg.inv(A), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(operator.T @ b, M.solve(b))


def test_what_shares_memory_through_dlpack_is_taken():
    class Shared:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

        def __array_namespace__(self):
            return np

    G = gradients(4, 10)
    x = np.ones(10)
    got = ntsolve.EmpiricalFisher(Shared(G), damp=0.1).solve(x)
    np.testing.assert_array_equal(got, ntsolve.EmpiricalFisher(G, damp=0.1).solve(x))


# ---- where the gradients are ----------------------------------------------------------------------------------------


def _arrangements(G):
    yield "array", G
    yield "fortran", np.asfortranarray(G)
    yield "every second", np.repeat(G, 2, axis=0)[::2]
    yield "columns reversed", np.ascontiguousarray(G[:, ::-1])[:, ::-1]
    yield "read-only", np.broadcast_to(G, (1, *G.shape))[0]
    yield "list of rows", list(G)
    yield "list of lists", G.tolist()
    yield "generator of rows", (row for row in G)
    yield "generator of chunks", (G[i : i + 3] for i in range(0, len(G), 3))
    yield "list of chunks", [G[:1], G[1:5], G[5:]]


@pytest.mark.parametrize("budget", [2**30, 2**11, 1])
@pytest.mark.parametrize("block_size", [None, 4, 30])
def test_any_arrangement_of_the_gradients_gives_the_same(budget, block_size):
    G = gradients(8, 100)
    x, dense = gradients(1, 100, seed=1)[0], fisher(G, 0.1, block_size)
    for name, form in _arrangements(G):
        with ntsolve.config(budget=budget):
            F = ntsolve.EmpiricalFisher(form, damp=0.1, block_size=block_size)
            assert error(F.solve(x), np.linalg.solve(dense, x)) < 1e-12, name
            assert error(F.diag(), np.diag(np.linalg.inv(dense))) < 1e-12, name
            assert F.element(3, 5) == pytest.approx(np.linalg.inv(dense)[3, 5]), name


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("offset", [0, 48])
def test_a_memory_map_beyond_the_budget_is_read_from_its_file(tmp_path, dtype, offset):
    path = tmp_path / "g"
    whole = np.memmap(path, dtype, "w+", offset=offset, shape=(12, 300))
    whole[...] = gradients(12, 300, dtype)
    for view in (whole, whole[2:9], whole[::2], whole[:, 17:250]):
        G, x = np.array(view), gradients(1, view.shape[1], seed=1)[0]
        with ntsolve.config(budget=2**11):
            F = ntsolve.EmpiricalFisher(view, damp=0.1)
            assert not hasattr(F._rows, "array")
            assert error(F.solve(x), np.linalg.solve(fisher(G, 0.1), x)) < 1e-12
            assert error(F.solve_newest(), np.linalg.solve(fisher(G, 0.1), G[-1].astype(float))) < 1e-6
            with pytest.raises(ValueError, match="file"):
                F.append(G[0])
    copied = np.memmap(path, dtype, "c", offset=offset, shape=(12, 300))
    copied[0] = 1  # in memory alone
    with ntsolve.config(budget=2**12):
        assert F.d == 233
        assert error(ntsolve.EmpiricalFisher(copied, damp=0.1).solve(np.ones(300)),
                     np.linalg.solve(fisher(np.array(copied), 0.1), np.ones(300))) < 1e-12  # fmt: skip


def test_a_file_that_has_become_shorter_than_its_map_is_named(tmp_path):
    path = tmp_path / "g"
    G = np.memmap(path, "float32", "w+", shape=(6, 1000))
    G[...] = gradients(6, 1000, "float32")
    with ntsolve.config(budget=2**12):
        F = ntsolve.EmpiricalFisher(G, damp=0.1)
        os.truncate(path, 6 * 4000 - 100)
        with pytest.raises(ValueError, match=r"G: the file has 23900 bytes; 6 rows of 1000 float32 need 24000"):
            F.solve(np.ones(1000))
    for budget in (2**12, 2**30):
        with ntsolve.config(budget=budget), pytest.raises(ValueError, match="G: the file has 23900 bytes"):
            ntsolve.EmpiricalFisher(G, damp=0.1)


@pytest.mark.parametrize(
    ("d", "width", "most"), [(10, 3, 4), (10, 3, 7), (10, 10, 3), (10, 4, 3), (1, 1, 1), (7, 7, 100)]
)
def test_pieces_cover_all_columns_and_keep_to_blocks(d, width, most):
    found = cuts(d, width, most)
    assert [first for first, _, _ in found] == [0, *(last for _, last, _ in found[:-1])]
    assert found[-1][1] == d
    for first, last, blocks in found:
        assert 0 < last - first <= most
        assert blocks == slice(first // width, (last - 1) // width + 1)
        whole = first % width == 0 and (last % width == 0 or last == d)
        assert whole or blocks.stop - blocks.start == 1


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("m", "d", "block_size", "where"), [(4, 20, None, "row 2"), (20, 4, None, "column 3"),
                                                             (4, 20, 3, "column 3"), (4, 20, 6, "row 2")])  # fmt: skip
def test_nan_is_refused_with_its_place(bad, m, d, block_size, where):
    G = gradients(m, d)
    G[2, 3] = bad
    with pytest.raises(ValueError, match=f"G contains NaN or infinity.*{where}"):
        ntsolve.EmpiricalFisher(G, damp=0.1, block_size=block_size)
    with pytest.raises(ValueError, match="G contains NaN"):
        ntsolve.EmpiricalFisher(G, damp=0.1, method="recursion")


@pytest.mark.parametrize(
    ("G", "kind", "words"),
    [
        (np.ones((0, 4)), ValueError, "G is empty"),
        (np.ones((4, 0)), ValueError, "G is empty"),
        (iter(()), ValueError, "G is empty"),
        (np.ones(4), ValueError, r"G must have the shape \(m, d\)"),
        (np.ones((2, 2, 2)), ValueError, r"G must have the shape \(m, d\)"),
        (np.ones((2, 2), complex), TypeError, "G has dtype complex128"),
        (np.ones((2, 2), "U1"), TypeError, "G has dtype"),
        (np.ones((2, 2), ">f8"), TypeError, "G has dtype >f8"),
        (3.0, TypeError, "G must be an array"),
        (None, TypeError, "G must be an array"),
        ([[1.0, 2.0], [3.0]], ValueError, "G: rows of different lengths"),
        (iter([np.ones(3), np.ones(4)]), ValueError, "G, chunk 1 has 4 columns, the first chunk has 3"),
        (iter([np.ones((1, 2, 3))]), ValueError, "G, chunk 0 must have the shape"),
        (np.ma.masked_array(np.ones((2, 2)), [[0, 1], [0, 0]]), ValueError, "G is a masked array"),
    ],
)
def test_gradients_that_are_none_are_refused(G, kind, words):
    with pytest.raises(kind, match=words):
        ntsolve.EmpiricalFisher(G, damp=0.1)


@pytest.mark.parametrize(("options", "kind", "word"), [
    ({"damp": 0}, ValueError, "damp"), ({"damp": -1e-3}, ValueError, "damp"), ({"damp": np.nan}, ValueError, "damp"),
    ({"damp": np.inf}, ValueError, "damp"), ({"damp": "1"}, TypeError, "damp"), ({}, TypeError, "damp"),
    ({"damp": 1, "block_size": 0}, ValueError, "block_size"), ({"damp": 1, "block_size": 2.5}, TypeError, "block_size"),
    ({"damp": 1, "method": "exact"}, ValueError, "method"),
    ({"damp": 1, "method": "recursion", "block_size": 2}, ValueError, "block_size"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, kind, word):
    with pytest.raises(kind, match=word):
        ntsolve.EmpiricalFisher(gradients(3, 4), **options)


def test_a_damp_that_is_lost_in_rounding_is_refused():
    G = np.ones((5, 30))
    with pytest.raises(ValueError, match="damp = 1e-25 is lost in rounding"):
        ntsolve.EmpiricalFisher(G, damp=1e-25)


def test_zero_gradients_are_fine():
    F = ntsolve.EmpiricalFisher(np.zeros((3, 5)), damp=0.5)
    np.testing.assert_allclose(F.solve(np.ones(5)), 2.0)
    np.testing.assert_allclose(F.solve_newest(), 0.0)


@pytest.mark.parametrize(("X", "kind", "words"), [
    (np.ones(5), ValueError, "X has shape"), (np.float64(3), ValueError, "X has shape"),
    (np.full(4, np.nan), ValueError, "X contains NaN"), (np.ones(4, complex), TypeError, "X is complex"),
    (None, TypeError, "X is None"),
])  # fmt: skip
def test_vectors_that_do_not_fit_are_refused(X, kind, words):
    F = ntsolve.EmpiricalFisher(gradients(3, 4), damp=0.1)
    for call in (F.solve, F.matvec):
        with pytest.raises(kind, match=words):
            call(X)


@pytest.mark.parametrize(("idx", "kind"), [([4], IndexError), ([-5], IndexError), ([0.5], TypeError),
                                           ([[1, 2]], TypeError), (np.ones(3, bool), TypeError)])  # fmt: skip
def test_indices_that_do_not_fit_are_refused(idx, kind):
    F = ntsolve.EmpiricalFisher(gradients(3, 4), damp=0.1)
    with pytest.raises(kind, match="indices"):
        F.block(idx)
    assert F.block([]).shape == (0, 0)
    mask = np.array([True, False, False, True])
    np.testing.assert_array_equal(F.block(mask), F.block([0, 3]))


def test_nothing_is_copied_or_changed_that_need_not_be():
    G = gradients(5, 30, "float32")
    kept = G.copy()
    F = ntsolve.EmpiricalFisher(G, damp=0.1)
    assert F._rows.array is G
    F.solve(np.ones(30)), F.diag(), F.block([1, 2]), F.solve_newest()
    np.testing.assert_array_equal(G, kept)
    assert repr(F) == "EmpiricalFisher(m=5, d=30, float32, damp=0.1)"
