"""What a checkpoint is on disk: whole or not there, nobody else's, and never believed."""

import errno
import json
import os
import pickle
import signal
import warnings

import numpy as np
import pytest

import ntsolve
from ntsolve import CheckpointWarning, Status, checkpoint, checkpointfile
from ntsolve.checkpoint import Keeper, Saved, Saving, fingerprint, packed

from .solves import SOLVES, flat

REFUSED = r"^resume: "


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


@pytest.fixture
def solve():
    return SOLVES["cg jacobi"]()


# ---- the file -------------------------------------------------------------------------------------------------------

ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "b/c": np.zeros((0, 4), "int32"),
    "d": np.array([True, False]),
    "e": np.asfortranarray(np.arange(6, dtype="complex64").reshape(3, 2)),
    "f": np.array([np.nan, np.inf]),
    "g": np.arange(3, dtype=">f8"),
}


def test_what_was_written_is_read(path):
    checkpointfile.write(path, {"said": [1, None, 0.1, float("inf")]}, ARRAYS)
    header, arrays = checkpointfile.read(path)
    assert header["said"] == [1, None, 0.1, float("inf")]
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype.newbyteorder("<")
    assert checkpointfile.read(path, whole=False) == (header, None)


def test_numpy_reads_it_without_pickle(path):
    checkpointfile.write(path, {}, ARRAYS)
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["a"], ARRAYS["a"])
        assert json.loads(bytes(file["header"]))["format"] == checkpointfile.FORMAT


def test_an_object_is_not_written(path):
    with pytest.raises((KeyError, TypeError, ValueError)):
        checkpointfile.write(path, {"x": object()}, {})
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\0" * 1000, pickle.dumps([1, 2]), b"not at all\n" * 50])
def test_a_foreign_file_is_refused(content, path, solve):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=REFUSED + ".*is not a checkpoint of ntsolve, or it is damaged"):
        solve(resume=path)


def test_another_npz_is_refused(path, solve):
    for options in ({"x": np.ones(3)}, {"header": np.ones(3)}, {"header": np.array([{}], dtype=object)}):
        np.savez(path, **options)
        with pytest.raises(ValueError, match=REFUSED):
            solve(resume=path)
    np.savez_compressed(path, header=np.zeros(10, "u1"))
    with pytest.raises(ValueError, match=REFUSED):
        solve(resume=path)


def test_another_format_version_solver_or_package_is_refused(path, solve, monkeypatch):
    solve(maxiter=3, checkpoint=path)
    with pytest.raises(ValueError, match=r"resume: .* was written by cg, and this is halpern"):
        SOLVES["halpern"]()(resume=path)
    monkeypatch.setattr(checkpoint, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"resume: .* was written by ntsolve .*, and this is 99.0"):
        solve(resume=path)
    monkeypatch.undo()
    monkeypatch.setattr(checkpointfile, "FORMAT", 99)
    with pytest.raises(ValueError, match=r"resume: .*its format is 1"):
        solve(resume=path)


# ---- mutants --------------------------------------------------------------------------------------------------------


def mutant(data, rng):
    """The bytes, damaged in one of the ways in which files are."""
    data = bytearray(data)
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    match int(rng.integers(8)):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at] = int(rng.integers(256))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = rng.bytes(length)
        case 5:
            data[at : at + length] = bytes(len(data[at : at + length]))
        case 6:
            other = int(rng.integers(len(data)))
            data[at : at + length] = data[other : other + length]
        case _:
            data += rng.bytes(length)
    return bytes(data)


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_refused_or_does_no_harm(count, path, solve):
    solve(maxiter=40, checkpoint=path)
    data, rng, refused = path.read_bytes(), np.random.default_rng(count), 0
    for _ in range(count):
        path.write_bytes(mutant(data, rng))
        try:
            result = solve(resume=path)
        except ValueError as error:
            assert str(error).startswith("resume: ")  # noqa: PT017
            refused += 1
        else:
            assert result.success
            assert solve.right(result)
    assert refused > 0.7 * count  # the rest is damage to what a zip says of dates and rights


def altered(header, arrays, rng):
    """A file that is sound but for what is in it: one array or number is another one."""
    header = json.loads(json.dumps(header))
    arrays = {name: array.copy() for name, array in arrays.items()}
    if rng.random() < 0.6:
        name = sorted(arrays)[int(rng.integers(len(arrays)))]
        array = arrays[name]
        wrong = rng.standard_normal(array.shape) * 10 ** rng.uniform(-3, 3)
        change = [
            lambda: wrong.astype(array.dtype) if array.dtype.kind != "b" else ~array,
            lambda: np.full_like(array, np.nan if array.dtype.kind == "f" else 1),
            lambda: array[:-1],
            lambda: array.astype("float32"),
            lambda: array[None],
            lambda: np.zeros_like(array),
        ]
        arrays[name] = np.ascontiguousarray(change[int(rng.integers(len(change)))]())
    else:
        place = header["state" if rng.random() < 0.7 else "progress"]
        name = sorted(place)[int(rng.integers(len(place)))]
        values = [None, -1, 10**30, 0.5, float("nan"), "text", [], {}, {"array": "state/x"}, {"array": "none"}, True]
        place[name] = values[int(rng.integers(len(values)))]
        if rng.random() < 0.1:
            del place[name]
    return header, arrays


@pytest.mark.parametrize(
    ("name", "count"),
    [("cg", 60), ("linprog", 20),
     *(pytest.param(name, 200, marks=pytest.mark.slow) for name in SOLVES if name != "solve_ot_sample")],
)  # fmt: skip
def test_what_a_file_says_is_no_success(name, count, path):
    """Files made to deceive, with a digest that is right: nothing that they hold makes a wrong answer a success."""
    solve = SOLVES[name]()
    solve(maxiter=6, checkpoint=path)
    sound = checkpointfile.read(path)
    rng = np.random.default_rng(count)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(count):
            header, arrays = altered(*sound, rng)
            checkpointfile.write(path, header, arrays)
            try:
                result = solve(resume=path, time_limit=5.0)
            except (ValueError, ArithmeticError):
                continue
            assert not np.all(result.success) or solve.right(result)


# ---- the disk -------------------------------------------------------------------------------------------------------


def test_nothing_but_the_checkpoint_is_left(path, solve):
    solve(checkpoint=path, checkpoint_every=0.0)
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_replaced_at_once(path, solve, monkeypatch):
    """What takes the place of a whole checkpoint is a whole one."""
    replace, seen = os.replace, []

    def watched(part, final):
        pair = [checkpointfile.read(place)[0]["progress"]["nit"] for place in (final, part) if os.path.exists(place)]
        seen.append(tuple(pair))
        replace(part, final)

    monkeypatch.setattr(os, "replace", watched)
    solve(checkpoint=path, checkpoint_every=0.0, callback=lambda state: None, maxiter=10)
    assert seen == [(0,), *((nit, nit + 1) for nit in range(10))]


def test_a_file_that_cannot_be_written_to_its_end_is_not_left(path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpointfile.write(path, {}, {"x": np.ones(3)})
    assert not path.exists()


def test_a_disk_that_is_full_is_a_warning_and_not_the_end(path, solve, monkeypatch):
    whole = solve()
    write, calls = checkpointfile.write, []

    def full(*arguments):
        calls.append(1)
        if len(calls) in (3, 4, 5):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(checkpointfile, "write", full)
    with pytest.warns(CheckpointWarning, match="could not be written, the solve goes on.*No space left") as caught:
        result = solve(checkpoint=path, checkpoint_every=0.0)
    assert len(caught) == 1
    assert np.array_equal(result.x, whole.x)
    assert checkpointfile.read(path)[0]["progress"]["nit"] == whole.nit


def test_a_disk_without_room_is_an_error_before_the_solve(path, solve, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(OSError, match=r"checkpoint takes \d+ bytes, and there is room for 1000"):
        solve(checkpoint=path)


def test_a_folder_that_is_not_there_is_an_error_before_the_solve(path, solve):
    with pytest.raises(FileNotFoundError, match="checkpoint cannot be written here"):
        solve(checkpoint=path.parent / "none" / "run.npz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error_before_the_solve(path, solve):
    path.parent.chmod(0o500)
    with pytest.raises(PermissionError, match="checkpoint cannot be written here"):
        solve(checkpoint=path)


def test_a_file_that_is_not_there_is_an_error(path, solve):
    with pytest.raises(FileNotFoundError, match="resume: there is no such file"):
        solve(resume=path)
    with pytest.raises(FileNotFoundError):
        solve(resume=path, checkpoint=path.parent / "other.npz")
    assert solve(resume=path, checkpoint=path).success  # which is how a job that is started again begins


@pytest.mark.parametrize("name", ["checkpoint", "resume"])
@pytest.mark.parametrize(("value", "error"), [(5, TypeError), (b"x", TypeError), ("", ValueError), (".", OSError)])
def test_what_is_no_path_is_refused(name, value, error, solve):
    with pytest.raises(error, match=name):
        solve(**{name: value})


@pytest.mark.parametrize("value", [-1.0, np.nan, "often", None])
def test_an_interval_that_is_none_is_refused(value, path, solve):
    with pytest.raises((TypeError, ValueError), match="checkpoint_every"):
        solve(checkpoint=path, checkpoint_every=value)


def test_checkpoints_that_cannot_be_are_refused(path):
    A, b = np.eye(3), np.ones(3)
    with pytest.raises(ValueError, match=r"checkpoint.*recycle"):
        ntsolve.cg(A, b, recycle=ntsolve.Recycler(), checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint.*batch"):
        ntsolve.solve_ot(np.ones((2, 3, 3)), reg=1.0, checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint.*one problem"):
        ntsolve.minimize(np.sum, np.ones((2, 3)), jac=np.ones_like, checkpoint=path)


def test_without_an_interval_there_is_one_at_the_end(path, solve):
    written = []
    solve(checkpoint=path, checkpoint_every=np.inf, callback=lambda state: written.append(path.exists()))
    assert not any(written)
    assert path.exists()


def test_ctrl_c_leaves_a_checkpoint(path, solve):
    whole = solve()

    def press(state):
        if state.nit == 30:
            signal.raise_signal(signal.SIGINT)

    cut = solve(checkpoint=path, callback=press)
    assert cut.status == Status.INTERRUPTED
    assert np.array_equal(solve(resume=path).x, whole.x)


def test_an_exception_leaves_the_last_checkpoint(path, solve):
    whole = solve()

    def fail(state):
        if state.nit == 30:
            raise RuntimeError("in the callback")

    with pytest.raises(RuntimeError, match="in the callback"):
        solve(checkpoint=path, checkpoint_every=0.0, callback=fail)
    assert checkpointfile.read(path)[0]["progress"]["nit"] == 29
    assert np.array_equal(solve(resume=path).x, whole.x)


def test_the_solve_is_the_same_with_checkpoints_and_without(path):
    for name in ("cg multigrid", "minimize"):
        solve = SOLVES[name]()
        assert np.array_equal(flat(solve(checkpoint=path, checkpoint_every=0.0)), flat(solve()))


# ---- the parts ------------------------------------------------------------------------------------------------------


class Thing:
    kept = ("array", "number", "word", "nothing", "pair", "table", "draw", "inner")

    def __init__(self, value, seed=0, inner=None):
        self.array, self.number, self.word, self.nothing = np.full(3, value), float(value), str(value), None
        self.pair, self.table = (1, np.full(2, value)), {"a": value, "b": True}
        self.draw, self.inner = np.random.default_rng(seed), inner


def _kept(thing, path):
    """Through a file and back: the `Saved` of a thing."""
    keeper = Keeper(Saving(path), "test", ntsolve.kernels.cpu, ntsolve.reductions.SERIAL, {})
    keeper.save({}, thing)
    header, arrays = checkpointfile.read(path)
    return Saved(header["state"], arrays, "state", ntsolve.kernels.cpu)


def test_a_thing_comes_back_as_it_was(path):
    ntsolve.cg(np.eye(2), np.ones(2))  # loads the kernels
    thing, other = Thing(2, 5, Thing(3, 6)), Thing(0, 0, Thing(0))
    thing.draw.random(7)
    _kept(thing, path).into(other)
    assert other.number == 2.0
    assert (other.word, other.nothing, other.pair[0], other.table) == ("2", None, 1, {"a": 2, "b": True})
    assert other.array.tolist() == [2, 2, 2]
    assert other.pair[1].tolist() == [2, 2]
    assert other.inner.array.tolist() == [3, 3, 3]
    assert other.draw.random() == thing.draw.random()


@pytest.mark.parametrize(
    ("name", "value"),
    [("array", np.zeros(4)), ("array", np.zeros(3, "float32")), ("array", 1.0), ("number", "1"), ("word", 1),
     ("pair", (1,)), ("table", {"a": 1}), ("table", {"a": 1, "b": 2}), ("inner", None)],
)  # fmt: skip
def test_what_is_of_another_kind_does_not_come_back(name, value, path):
    ntsolve.cg(np.eye(2), np.ones(2))
    thing = Thing(2.0, 0, Thing(3))
    setattr(thing, name, value)
    with pytest.raises(ValueError, match="resume: "):
        _kept(thing, path).into(Thing(0.0, 0, Thing(0)))


def test_fingerprints_tell_values_apart():
    import scipy.sparse as sp

    values = [None, 1, 1.0, "1", np.ones(3), np.ones(3, "f4"), np.ones((1, 3)), -np.ones(3), sp.eye_array(3).tocsr(),
              2 * sp.eye_array(3).tocsr(), (np.ones(3), None), {"a": np.ones(3)}, len,
              ntsolve.GridOperator.poisson(np.ones((4, 4), bool)), ntsolve.GridOperator.poisson(np.ones((4, 5), bool))]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint(np.ones((3, 3))) == fingerprint(np.asfortranarray(np.ones((3, 3))))
    assert fingerprint(sp.eye_array(3).tocsr()) == fingerprint(sp.eye_array(3).tocsc())


def test_what_cannot_be_kept_says_so():
    class Odd:
        kept = ("x",)
        x = object()

    assert packed(Odd()).keys() == {"x"}
    with pytest.raises(TypeError, match="state/x is object, which cannot be kept"):
        checkpoint._plain("state", packed(Odd()), {}, None)


def test_a_callback_may_change_to_another_folder(solve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    solve(checkpoint="run.npz", callback=lambda state: os.chdir(other))
    assert os.listdir(other) == []
    assert (tmp_path / "run.npz").exists()


def test_a_link_is_written_through(solve, tmp_path):
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "target.npz")
    solve(checkpoint=link)
    assert link.is_symlink()
    assert (tmp_path / "target.npz").exists()
