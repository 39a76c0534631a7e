"""Checkpoints of one solve by several ranks: a file each, which are of one moment whenever they were cut off."""

import os
import shutil

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import checkpointfile
from ntsolve.checkpoint import of_ranks

from ..parallel.team import bounds, ends, part, together

N = 120
A = sp.diags_array([-1.0, 2.01, -1.0], offsets=[-1, 0, 1], shape=(N, N), format="csr")
b = np.random.default_rng(0).standard_normal(N)


def rows(comm, **options):
    first, end = bounds(N, comm)
    return ntsolve.cg(A[first:end], b[first:end], M="jacobi", rtol=1e-9, comm=comm, on_failure="ignore", **options)


def fixed_point(comm, **options):
    target = part(b, comm)
    map_ = lambda x: x - 0.3 * np.linspace(0.1, 1, x.size) * (x - target)
    return ntsolve.halpern(map_, np.zeros(target.size), comm=comm, on_failure="ignore", **options)


def program(comm, **options):
    rng = np.random.default_rng(6)
    matrix = sp.random_array((30, 50), density=0.2, rng=rng, format="csr")
    sides, c = matrix @ rng.random(50) + 0.1, -matrix.T @ rng.random(30) + rng.random(50)
    first, end = bounds(30, comm)
    options = {"finisher": False, "on_failure": "ignore", **options}
    return ntsolve.linprog(c, matrix[first:end], sides[first:end], comm=comm, **options)


def points(comm, **options):
    rng = np.random.default_rng(8)
    X, Y = rng.random((60, 2)), rng.random((50, 2))
    return ntsolve.solve_ot_sample(part(X, comm, 0), Y, part(np.full(60, 1 / 60), comm), np.full(50, 1 / 50), reg=5e-3,
                                   comm=comm, on_failure="ignore", **options)  # fmt: skip


def slabs(comm, **options):
    field = np.random.default_rng(1).standard_normal((32, 24))
    A = ntsolve.GridOperator.poisson(part(np.ones((32, 24), bool), comm, 0), comm=comm)
    return ntsolve.cg(A, part(field, comm, 0), M="multigrid", rtol=1e-9, on_failure="ignore", comm=comm, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


@pytest.mark.parametrize(
    ("solve", "size"),
    [(rows, 3), (slabs, 2), (program, 2),
     *(pytest.param(solve, size, marks=pytest.mark.slow) for size in (2, 3)
       for solve in (rows, slabs, fixed_point, program, points))],
)  # fmt: skip
def test_a_solve_in_parts_is_the_solve_in_one(solve, size, path):
    whole = together(size, solve)
    cut = together(size, lambda comm: solve(comm, maxiter=max(1, int(whole[0].nit) // 2), checkpoint=path))
    assert not any(result.success for result in cut)
    found = together(size, lambda comm: solve(comm, checkpoint=path, resume=path))
    assert all(result.success for result in found)
    for result, other in zip(found, whole, strict=True):
        if solve is points:
            assert np.allclose(result.plan, other.plan, atol=1e-9)
        else:
            assert np.array_equal(result.x, other.x)
            assert result.nit == other.nit
    assert sorted(os.listdir(path.parent)) == sorted(
        f"run.{rank}of{size}{before}.npz" for rank in range(size) for before in ("", ".before")
    )


@pytest.mark.parametrize("written", [1, *(pytest.param(written, marks=pytest.mark.slow) for written in (0, 2))])
def test_a_kill_between_the_writes_of_two_ranks_loses_one_generation(written, path):
    """Some ranks have written the last generation, the others not yet: all go on from the one before."""
    whole = together(3, rows)
    together(3, lambda comm: rows(comm, maxiter=20, checkpoint=path))
    older = {name: (path.parent / name).read_bytes() for name in os.listdir(path.parent)}
    together(3, lambda comm: rows(comm, maxiter=30, checkpoint=path, resume=path))
    for rank in range(written, 3):  # as they were
        for name in os.listdir(path.parent):
            if name.startswith(f"run.{rank}of3"):
                os.unlink(path.parent / name)
        (path.parent / f"run.{rank}of3.npz").write_bytes(older[f"run.{rank}of3.npz"])
    seen = together(3, lambda comm: rows(comm, time_limit=0.0, resume=path))
    assert [result.nit for result in seen] == [20] * 3
    found = together(3, lambda comm: rows(comm, checkpoint=path, resume=path))
    assert all(np.array_equal(result.x, other.x) for result, other in zip(found, whole, strict=True))


def test_a_kill_between_the_two_steps_of_a_write_loses_one_generation(path):
    """The file of before has been put aside, and the new one not yet in its place."""
    together(2, lambda comm: rows(comm, maxiter=20, checkpoint=path))
    os.replace(path.parent / "run.1of2.npz", path.parent / "run.1of2.before.npz")
    seen = together(2, lambda comm: rows(comm, time_limit=0.0, resume=path))
    assert [result.nit for result in seen] == [20] * 2


def test_a_damaged_file_is_made_up_for_by_the_generation_before(path):
    together(2, lambda comm: rows(comm, checkpoint=path, checkpoint_every=0.0))
    (path.parent / "run.0of2.npz").write_bytes(b"damaged")
    found = together(2, lambda comm: rows(comm, resume=path))
    assert all(result.success for result in found)
    (path.parent / "run.0of2.before.npz").write_bytes(b"damaged")
    assert all("damaged" in str(error) for error in ends(2, lambda comm: rows(comm, resume=path)))


def test_another_number_of_ranks_is_refused(path):
    together(2, lambda comm: rows(comm, maxiter=20, checkpoint=path))
    for size in (1, 3):
        for error in ends(size, lambda comm: rows(comm, resume=path, checkpoint=path)):
            assert f"this run has {size} ranks" in str(error)
            assert "was written by another number of them" in str(error)


def test_a_rank_that_cannot_write_keeps_all_at_the_generation_before(path, monkeypatch):
    together(2, lambda comm: rows(comm, maxiter=20, checkpoint=path))
    write = checkpointfile.write

    def refused(part, *rest):
        if "1of2" in part:
            raise OSError(28, "No space left on device")
        write(part, *rest)

    monkeypatch.setattr(checkpointfile, "write", refused)
    with pytest.warns(ntsolve.CheckpointWarning, match="1of2"):
        together(2, lambda comm: rows(comm, maxiter=40, checkpoint=path, resume=path))
    monkeypatch.undo()
    seen = together(2, lambda comm: rows(comm, time_limit=0.0, resume=path))
    assert [result.nit for result in seen] == [20] * 2


def test_a_rank_that_cannot_put_a_file_in_place_goes_on_counting_with_the_others(path, monkeypatch):
    settle, refusals = checkpointfile.settle, []

    def refused(part, to):
        if "1of2" in part and not refusals:
            refusals.append(part)
            raise OSError(5, "Input/output error")
        settle(part, to)

    monkeypatch.setattr(checkpointfile, "settle", refused)
    with pytest.warns(ntsolve.CheckpointWarning, match="1of2"):
        together(2, lambda comm: rows(comm, maxiter=40, checkpoint=path, checkpoint_every=0))
    headers = [checkpointfile.read(file, whole=False)[0] for file in of_ranks(path) if "before" not in file]
    assert len(headers) == 2
    assert len({header["generation"] for header in headers}) == 1


def test_files_of_two_runs_are_not_taken_for_one(path):
    seen = []
    for _ in range(2):
        together(2, lambda comm: rows(comm, maxiter=40, checkpoint=path, checkpoint_every=0))
        seen.append({checkpointfile.read(file, whole=False)[0]["generation"] for file in of_ranks(path)})
    assert len(seen[0]) == len(seen[1]) == 2  # the last, and the one before
    assert max(seen[0]) < min(seen[1])


def test_the_file_of_another_rank_is_refused(path):
    together(2, lambda comm: rows(comm, maxiter=40, checkpoint=path))
    shutil.copy(path.parent / "run.0of2.npz", path.parent / "run.1of2.npz")
    assert any("was written by rank 0 of 2, this is 1 of 2" in str(error)
               for error in ends(2, lambda comm: rows(comm, resume=path)))  # fmt: skip


@pytest.mark.parametrize("name", ["checkpoint", "resume"])
def test_either_all_ranks_keep_checkpoints_or_none(name, path):
    together(2, lambda comm: rows(comm, maxiter=20, checkpoint=path))
    for error in ends(2, lambda comm: rows(comm, **{name: None if comm.Get_rank() else path})):
        assert isinstance(error, ValueError)
        assert f"whether {name} is given must be the same on every rank" in str(error)


def test_the_first_call_of_a_job_that_is_started_again_begins(path):
    found = together(2, lambda comm: rows(comm, checkpoint=path, resume=path))
    assert all(result.success for result in found)
    shutil.copy(path.parent / "run.0of2.npz", path.parent / "kept")
    for file in of_ranks(path):
        os.unlink(file)
    assert all(isinstance(error, (OSError, ntsolve.RankError)) for error in ends(2, lambda c: rows(c, resume=path)))
