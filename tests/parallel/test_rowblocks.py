"""Systems of which each rank has some rows: the answer of one process, for any cut, kind of matrix and of M."""

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import RankError
from ntsolve.operators import residual_norm

from ..backends import BACKENDS, to_device, to_host
from ..linalg.problems import hermitian, laplacian, poisson, residual, rhs, spd
from .team import ends, together


def cuts(n, size, kind="even"):
    """Where the rows of each rank begin and end."""
    if kind == "even":
        return [round(n * rank / size) for rank in range(size + 1)]
    inner = {"first": [0] * (size - 1), "last": [n] * (size - 1), "uneven": [3, n - 1][: size - 1]}
    return [0, *inner[kind], n]


def mine(v, comm, kind="even", axis=-1):
    n = v.shape[axis]
    first, end = cuts(n, comm.Get_size(), kind)[comm.Get_rank() :][:2]
    return v[first:end] if axis == 0 else np.ascontiguousarray(v[..., first:end])


def scattered(n=90, seed=4, dtype="float64"):
    """Entries anywhere, twice in places."""
    R = sp.random_array((n, n), density=0.05, rng=np.random.default_rng(seed))
    A = (R @ R.T + sp.eye_array(n)).tocoo()
    if np.dtype(dtype).kind == "c":
        S = sp.random_array((n, n), density=0.02, rng=np.random.default_rng(seed + 1))
        A = (A + 1j * (S - S.T) * 0.3 + 2 * sp.eye_array(n)).tocoo()
    half = A.data / 2
    twice = (np.r_[half, half], (np.r_[A.row, A.row], np.r_[A.col, A.col]))
    return sp.coo_array(twice, shape=(n, n)).astype(dtype)


def by_rows(A):
    """In CSR, with what stands there twice."""
    if not sp.issparse(A) or A.format == "csr":
        return A
    order = np.argsort(A.row, kind="stable")
    indptr = np.append(0, np.cumsum(np.bincount(A.row, minlength=A.shape[0])))
    return sp.csr_array((A.data[order], A.col[order], indptr), shape=A.shape)


def rows_of(A, comm, kind="even"):
    """Its rows of a matrix, as they are."""
    first, end = cuts(A.shape[0], comm.Get_size(), kind)[comm.Get_rank() :][:2]
    if not sp.issparse(A):
        return A[first:end]
    low, high = A.indptr[first], A.indptr[end]
    parts = (A.data[low:high], A.indices[low:high], A.indptr[first : end + 1] - low)
    return sp.csr_array(parts, shape=(end - first, A.shape[1]))


MATRICES = {
    "grid": lambda: poisson(11),
    "scattered": lambda: by_rows(scattered()),
    "diagonal": lambda: sp.diags_array(np.linspace(1, 2, 40), format="csr"),
    "float32": lambda: laplacian(80, "float32", shift=0.1),
    "complex": lambda: by_rows(scattered(dtype="complex128")),
    "dense": lambda: spd(50, 50, condition=100),
    "dense complex": lambda: hermitian(40, 40, condition=50),
}


@pytest.mark.parametrize("cut", ["even", "first", "last", "uneven"])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", list(MATRICES))
def test_the_parts_make_up_the_answer_of_one(name, size, cut):
    if size == 1 and cut != "even":
        return
    A = MATRICES[name]()
    n, rtol = A.shape[0], 1e-4 if name == "float32" else 1e-9
    b = rhs(n, dtype=A.dtype)
    serial = ntsolve.cg(A, b, rtol=rtol)
    parts = together(size, lambda comm: ntsolve.cg(rows_of(A, comm, cut), mine(b, comm, cut), rtol=rtol, comm=comm))
    x = np.concatenate([part.x for part in parts])
    assert x.dtype == serial.x.dtype
    assert residual(A, b, x) <= (1.001 * rtol + np.finfo(A.dtype).eps) * np.linalg.norm(b)
    np.testing.assert_allclose(x, serial.x, atol=100 * rtol * np.abs(serial.x).max())
    for part in parts:
        assert part.success
        assert abs(part.nit - serial.nit) <= 2
        assert part.residual == parts[0].residual
        assert np.array_equal(part.history, parts[0].history)


@pytest.mark.parametrize("M", ["jacobi", "ic0", "function", "blocks", "factor"])
@pytest.mark.parametrize("size", [2, 3])
def test_preconditioners_are_of_the_own_part(M, size):
    D = sp.diags_array(np.geomspace(1, 10, 121))
    A = (D @ poisson(11) @ D).tocsr()
    b = rhs(121)

    def run(comm):
        first, end = cuts(121, size)[comm.Get_rank() :][:2]
        block = A[first:end, first:end]
        given = {"function": lambda r: r / block.diagonal(), "blocks": np.linalg.inv(block.toarray()),
                 "factor": ntsolve.ic0(block)}  # fmt: skip
        return ntsolve.cg(A[first:end], mine(b, comm), M=given.get(M, M), rtol=1e-9, comm=comm)

    parts = together(size, run)
    x = np.concatenate([part.x for part in parts])
    assert residual(A, b, x) <= 1.01e-9 * np.linalg.norm(b)
    jacobi = ntsolve.cg(A, b, M="jacobi", rtol=1e-9)
    for part in parts:
        assert part.success
        if M in ("jacobi", "function"):
            assert abs(part.nit - jacobi.nit) <= 2 + 4 * (M == "function")
        else:
            assert part.nit < jacobi.nit


def test_a_factor_that_breaks_down_on_one_is_known_to_all():
    A = poisson(8).tolil()
    A[50, 50] = -1.0
    A = A.tocsr()
    parts = together(
        2, lambda comm: ntsolve.cg(rows_of(A, comm), np.ones(32), M="ic0", comm=comm, on_failure="ignore")
    )
    assert [part.status.name for part in parts] == ["INDEFINITE_OPERATOR"] * 2


@pytest.mark.parametrize("start", [False, True])
def test_many_right_hand_sides(start):
    A, b = poisson(9), rhs(2, 3, 81)
    x0 = rhs(2, 3, 81, seed=5) if start else None
    serial = ntsolve.cg(A, b, x0, rtol=1e-8)

    def run(comm):
        own = None if x0 is None else mine(x0, comm, "uneven")
        return ntsolve.cg(rows_of(A, comm, "uneven"), mine(b, comm, "uneven"), own, rtol=1e-8, comm=comm)

    parts = together(3, run)
    x = np.concatenate([part.x for part in parts], axis=-1)
    assert x.shape == (2, 3, 81)
    np.testing.assert_allclose(x, serial.x, atol=1e-6)
    for part in parts:
        assert part.success.all()
        assert (abs(part.nit - serial.nit) <= 2).all()


def test_real_rows_take_complex_vectors():
    A, b = poisson(7), rhs(49, dtype="complex128")
    parts = together(2, lambda comm: ntsolve.cg(rows_of(A, comm), mine(b, comm), M="jacobi", rtol=1e-9, comm=comm))
    x = np.concatenate([part.x for part in parts])
    assert residual(A, b, x) <= 1.01e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("name", ["scattered", "dense"])
def test_residuals_are_rounded_once(name):
    """b - A x where almost all of it cancels: as exact as in one process."""
    A = MATRICES[name]()
    x = rhs(A.shape[0])
    b = A @ x
    exact = residual_norm(A, b, x)
    norms = together(3, lambda comm: residual_norm(
        ntsolve.RowPartition(rows_of(A, comm), comm), mine(b, comm), mine(x, comm)))  # fmt: skip
    np.testing.assert_allclose(norms, exact, rtol=1e-12)


def test_a_partition_is_made_once_for_many_solves():
    A = poisson(10)
    bs = [rhs(100, seed=seed) for seed in range(3)]

    def run(comm):
        rows = ntsolve.RowPartition(rows_of(A, comm), comm)
        return rows, [ntsolve.cg(rows, mine(b, comm), rtol=1e-8) for b in bs], [
            ntsolve.cg(rows, mine(b, comm), rtol=1e-8, comm=comm).verify(rows, mine(b, comm)) for b in bs]  # fmt: skip

    found = together(2, run)
    for i, b in enumerate(bs):
        x = np.concatenate([results[i].x for _, results, _ in found])
        size = residual(A, b, x)
        assert size <= 1.01e-8 * np.linalg.norm(b)
        np.testing.assert_allclose([sizes[i] for _, _, sizes in found], size, rtol=1e-3)
    assert repr(found[1][0]) == "RowPartition(rows 50 to 100 of 100, halo of 10)"
    assert found[0][0].halo.tolist() == list(range(50, 60))
    assert found[0][0].offsets.tolist() == [0, 50, 100]


def test_inputs_are_left_as_they_are():
    A, b = poisson(6), rhs(36)

    def run(comm):
        rows, own = rows_of(A, comm), mine(b, comm)
        before = [v.copy() for v in (rows.data, rows.indices, rows.indptr, own)]
        for v in (rows.data, rows.indices, rows.indptr, own):
            v.flags.writeable = False
        ntsolve.cg(rows, own, comm=comm)
        return all(np.array_equal(v, w) for v, w in zip(before, (rows.data, rows.indices, rows.indptr, own),
                                                        strict=True))  # fmt: skip

    assert all(together(2, run))


@pytest.mark.parametrize("what", ["columns", "rows", "nan", "kind", "b", "index", "device"])
def test_rows_that_do_not_fit_are_refused_by_all(what):
    A = poisson(6)

    def run(comm):
        rows, b, odd = rows_of(A, comm), np.ones(18), comm.Get_rank() == 1
        if what == "columns" and odd:
            rows = sp.csr_array((rows.data, rows.indices, rows.indptr), shape=(18, 40))
        elif what == "rows":
            rows = rows[:17]
        elif what == "nan" and odd:
            rows.data[3] = np.nan
        elif what == "kind" and odd:
            rows = rows.toarray()
        elif what == "b" and odd:
            b = np.ones(17)
        elif what == "index" and odd:
            rows.indices[3] = 99
        elif what == "device" and odd:
            rows = rows.toarray().astype(str)
        return ntsolve.cg(rows, b, comm=comm)

    message = {"columns": "columns", "rows": "add up to 34", "nan": "A.data contains NaN", "index": "lies outside",
               "kind": "the kind of A must be the same on every rank", "b": "this rank has 18 rows", "device": "A has"}
    found = ends(2, run)
    assert isinstance(found[1], (ValueError, TypeError))
    assert isinstance(found[0], (RankError, ValueError))
    assert all(message[what] in str(error) for error in found)


def test_another_communicator_than_the_one_of_the_rows_is_refused():
    def run(comm):
        rows = ntsolve.RowPartition(rows_of(poisson(4), comm), comm)
        other = type("Other", (), {name: getattr(comm, name)
                                   for name in ("Get_rank", "Get_size", "Allreduce", "Allgatherv")})()  # fmt: skip
        return ntsolve.cg(rows, np.ones(8), comm=other)

    for error in ends(2, run):
        assert isinstance(error, ValueError)
        assert "comm is not the communicator" in str(error)


def test_multigrid_of_rows_is_refused_with_what_to_do():
    for error in ends(2, lambda comm: ntsolve.cg(rows_of(poisson(4), comm), np.ones(8), M="multigrid", comm=comm)):
        assert isinstance(error, ValueError)
        assert "GridOperator made with the same comm" in str(error)


@pytest.mark.parametrize("solver", [ntsolve.cg, ntsolve.ihvp])
def test_a_partition_brings_its_communicator(solver):
    A, b = poisson(4), rhs(16)
    parts = together(2, lambda comm: solver(ntsolve.RowPartition(rows_of(A, comm), comm), mine(b, comm), rtol=1e-9))
    assert residual(A, b, np.concatenate([part.x for part in parts])) <= 1.01e-9 * np.linalg.norm(b)


def test_a_partition_is_no_preconditioner():
    def run(comm):
        return ntsolve.cg(np.eye(8), np.ones(8), M=ntsolve.RowPartition(rows_of(poisson(4), comm), comm))

    for error in ends(2, run):
        assert isinstance(error, (TypeError, ValueError))


@pytest.mark.skipif("cuda" not in BACKENDS, reason="neither a GPU nor the emulator")
@pytest.mark.parametrize("name", ["grid", "complex", "dense", "many"])
def test_rows_on_a_gpu(name):
    A = {"grid": lambda: poisson(6), "many": lambda: poisson(6), "dense": lambda: spd(20, 20)}.get(
        name, lambda: by_rows(scattered(30, dtype="complex128")))()  # fmt: skip
    M = "ic0" if name == "grid" else None if name in ("complex", "many") else "jacobi"
    b = rhs(2, A.shape[0]) if name == "many" else rhs(A.shape[0], dtype=A.dtype)

    def run(comm):
        rows = rows_of(A, comm, "uneven")
        rows = csr_on_gpu(rows) if sp.issparse(rows) else to_device(rows, "cuda")
        return ntsolve.cg(rows, to_device(mine(b, comm, "uneven"), "cuda"), M=M, rtol=1e-8, comm=comm)

    parts = together(2, run)
    x = np.concatenate([to_host(part.x) for part in parts], axis=-1)
    assert (residual(A, b, x) <= 1.01e-8 * np.linalg.norm(b, axis=-1)).all()
    for part in parts:
        assert np.all(part.success)
        assert part.backend == "cuda"
        assert "through the memory of the host" in part.message


def csr_on_gpu(A):
    from cupyx.scipy.sparse import csr_matrix

    return csr_matrix(sp.csr_matrix(A))
