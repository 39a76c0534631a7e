"""Files of weights: what is shipped is sound, what is malformed is refused by an error that names the argument."""

import contextlib
import zipfile

import numpy as np
import pytest

import ntsolve
from ntsolve.linalg import weightfile, weights

GOOD = {"relaxation": np.full((3, 2), 1.2), "faces": np.array([0.6, 0.5, 0.4]), "sink": np.full(3, 0.9)}


def grid():
    return ntsolve.GridOperator.poisson(np.ones((6, 5), dtype=bool))


@pytest.mark.parametrize("family", weights.FAMILIES)
def test_what_is_shipped_is_sound(family):
    found = weights.shipped(family)
    assert found.name == family
    assert weights.checked(found.arrays(), "again").faces.shape == (3,)


def test_what_is_saved_is_read_bit_by_bit(tmp_path):
    saved = weights.take(GOOD)
    saved.save(tmp_path / "mine")
    found = weights.take(tmp_path / "mine")
    for name, array in GOOD.items():
        np.testing.assert_array_equal(getattr(found, name), array)
    assert found.at(0) == (1.2, 1.2, 0.6, 0.9)
    assert found.at(7) == found.at(2) == (1.2, 1.2, 0.4, 0.9)


@pytest.mark.parametrize(
    "change",
    [
        {"relaxation": np.full((3, 2), 2.0)},
        {"relaxation": np.full((3, 2), np.nan)},
        {"relaxation": np.ones((2, 2))},
        {"relaxation": np.ones((3, 3))},
        {"relaxation": np.ones((3, 2), complex)},
        {"faces": np.array([0.5, 0.0, 0.5])},
        {"faces": np.array([0.5, np.inf, 0.5])},
        {"faces": np.array([["a"]])},
        {"sink": np.ones(4)},
        {"sink": np.array([0.5, 0.5, -0.5])},
        {"faces": np.zeros(0), "sink": np.zeros(0), "relaxation": np.zeros((0, 2))},
        {"more": np.ones(3)},
    ],
    ids=lambda change: "-".join(change),
)
def test_wrong_arrays_are_refused_in_a_dict_and_in_a_file(change, tmp_path):
    bad = {**GOOD, **change}
    with pytest.raises(ValueError, match="weights"):
        ntsolve.LearnedMultigrid(grid(), weights=bad)
    np.savez(tmp_path / "bad.npz", **bad)
    with pytest.raises(ValueError, match="weights"):
        ntsolve.LearnedMultigrid(grid(), weights=tmp_path / "bad.npz")


def malformed(path):
    good = path / "good.npz"
    np.savez(good, **GOOD)
    content = good.read_bytes()
    yield b""
    yield b"no archive at all"
    yield content[: len(content) // 2]
    middle = bytearray(content)
    middle[60:90] = bytes(30)
    yield bytes(middle)
    np.save(path / "one.npy", GOOD["faces"])
    yield (path / "one.npy").read_bytes()
    np.savez(path / "pickled.npz", **{**GOOD, "sink": np.array([{}, {}, {}])})  # an object array: never unpickled
    yield (path / "pickled.npz").read_bytes()
    with zipfile.ZipFile(path / "text.npz", "w") as archive:
        archive.writestr("faces.npy", "0.5")
    yield (path / "text.npz").read_bytes()
    with zipfile.ZipFile(path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("faces.npy", bytes(10**7))
    yield (path / "bomb.npz").read_bytes()
    yield bytes(10**6)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (SHAPE,), }"
    for text in (header.replace("SHAPE", str(10**12)), header.replace("SHAPE", str(10**30)), header[:30], "(" * 99):
        with zipfile.ZipFile(path / "header.npz", "w") as archive:
            line = text.ljust(117) + "\n"
            archive.writestr("faces.npy", b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line.encode())
        yield (path / "header.npz").read_bytes()
    with zipfile.ZipFile(path / "lzma.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("faces.npy", bytes(range(256)) * 4)
    packed = bytearray((path / "lzma.npz").read_bytes())
    packed[50:90] = bytes(40)
    yield bytes(packed)


def test_malformed_files_are_refused(tmp_path):
    for content in malformed(tmp_path):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match="weights"):
            ntsolve.LearnedMultigrid(grid(), weights=str(tmp_path / "bad.npz"))
        with pytest.raises(ValueError, match="weights"):
            ntsolve.DeepConjugateDirection(grid(), weights=tmp_path / "bad.npz")


@pytest.mark.parametrize("M", [ntsolve.LearnedMultigrid, ntsolve.DeepConjugateDirection])
def test_a_missing_file_or_a_misspelt_word_is_answered_by_what_there_is(M, tmp_path):
    for missing in (tmp_path / "nowhere.npz", "untraind", tmp_path, "a\0b"):
        with pytest.raises(ValueError, match=r'weights must be "auto".*a path or a dict of arrays; no weights can'):
            M(grid(), weights=missing)


def test_no_file_gets_past_the_loader_with_an_error_of_another_kind(tmp_path):
    path = tmp_path / "good.npz"
    np.savez(path, **GOOD)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(content)
        for place in rng.integers(0, len(bad), 4):
            bad[place] = rng.integers(0, 256)
        with contextlib.suppress(ValueError):
            weightfile.parse(bytes(bad[: rng.integers(len(bad) // 2, len(bad) + 1)]), "it", 1 << 16)


def test_other_things_are_no_weights():
    with pytest.raises(TypeError, match="weights"):
        ntsolve.LearnedMultigrid(grid(), weights=3)
