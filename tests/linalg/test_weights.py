"""Files of weights: what is shipped is sound, what is malformed is refused by an error that names the argument."""

import zipfile

import numpy as np
import pytest

import ntsolve
from ntsolve.linalg import weights

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


def test_malformed_files_are_refused(tmp_path):
    for content in malformed(tmp_path):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match="weights"):
            ntsolve.LearnedMultigrid(grid(), weights=str(tmp_path / "bad.npz"))


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        ntsolve.LearnedMultigrid(grid(), weights=tmp_path / "nowhere.npz")


def test_other_things_are_no_weights():
    with pytest.raises(TypeError, match="weights"):
        ntsolve.LearnedMultigrid(grid(), weights=3)
