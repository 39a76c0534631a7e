"""read_mps: what a file says, in both formats and all sections; a broken one is an error with its line, at once."""

import gzip
import io
import pickle
import time
import warnings

import numpy as np
import pytest

import ntsolve
from ntsolve import MPSError, read_mps

from .mps_writer import mps_text
from .programs import random_program

TEXT = """NAME          EXAMPLE
ROWS
 N  COST
 L  LIM1
 G  LIM2
 E  MYEQN
 N  OTHER
COLUMNS
    X         COST               1.0   LIM1               1.0
    X         LIM2               1.0
    Y         COST               2.0   LIM1               1.0
    Y         MYEQN             -1.0   OTHER              7.0
    Z         COST              -1.0   MYEQN              1.0
RHS
    RHS       LIM1               4.0   LIM2               1.0
    RHS       MYEQN              7.0   COST             -10.0
BOUNDS
 UP BND       X                  4.0
 LO BND       Y                 -1.0
 UP BND       Y                  1.0
ENDATA
"""


@pytest.fixture
def read(tmp_path):
    def from_text(text, **options):
        path = tmp_path / "problem.mps"
        path.write_text(text)
        return read_mps(path, **options)

    return from_text


def section(name, *lines, drop=None):
    """TEXT with the lines of a section replaced, or the section added before the end."""
    before, found, after = TEXT.partition(f"\n{name}\n")
    if not found:
        before, found, after = TEXT.partition("ENDATA")
        return "".join([before, name, "\n", *(f"{line}\n" for line in lines), found, after])
    rest = after.splitlines(keepends=True)
    while rest and rest[0][0] == " ":
        rest.pop(0)
    return "".join([before, found, *(f"{line}\n" for line in lines), *rest])


@pytest.mark.parametrize("format", ["auto", "free", "fixed"])
def test_a_file_says_what_it_says(read, format):
    lp = read(TEXT, format=format)
    assert (lp.name, lp.objective_name, lp.maximize) == ("EXAMPLE", "COST", False)
    assert (lp.column_names, lp.row_names) == (["X", "Y", "Z"], ["LIM1", "LIM2", "MYEQN"])
    assert list(lp.c) == [1, 2, -1]
    assert lp.offset == 10.0  # the right-hand side of the objective is minus its constant
    np.testing.assert_array_equal(lp.A.toarray(), [[1, 1, 0], [1, 0, 0], [0, -1, 1]])
    assert list(lp.row_lower) == [-np.inf, 1, 7]
    assert list(lp.row_upper) == [4, np.inf, 7]
    assert list(lp.lower) == [0, -1, 0]
    assert list(lp.upper) == [4, 1, np.inf]
    assert lp.objective([1.0, 1.0, 1.0]) == 12.0
    assert repr(lp) == "<LinearProgram 'EXAMPLE': 3 rows, 3 columns, 5 entries>"


def same(lp, program, *, rtol=0.0):
    for name in ("c", "lower", "upper"):
        np.testing.assert_allclose(getattr(lp, name), getattr(program, name), rtol=rtol)
    kept = ~(np.isneginf(program.row_lower) & np.isposinf(program.row_upper))
    np.testing.assert_allclose(lp.A.toarray(), program.matrix().toarray()[kept], rtol=rtol)
    np.testing.assert_allclose(lp.row_lower, program.row_lower[kept], rtol=rtol)
    np.testing.assert_allclose(lp.row_upper, program.row_upper[kept], rtol=rtol)
    assert lp.offset == pytest.approx(program.offset, rel=rtol)


def test_what_was_written_is_read_back(read):
    for seed in range(12):
        program = random_program(np.random.default_rng(seed), 9, 7)
        for fixed in (False, True):
            for pairs, sets in ((True, True), (False, False)):
                text = mps_text(program, fixed=fixed, pairs=pairs, sets=sets)
                same(read(text, format="fixed" if fixed else "free"), program)
                if sets or not fixed:
                    same(read(text), program)


def test_names_with_spaces_are_of_the_fixed_format(read):
    program = random_program(np.random.default_rng(3), 6, 5)
    columns, rows = [f"x {j} a" for j in range(5)], [f"row {i}" for i in range(6)]
    lp = read(mps_text(program, fixed=True, columns=columns, rows=rows))
    assert lp.column_names == columns
    same(lp, program)


def test_compressed_files_are_read(tmp_path):
    path = tmp_path / "problem.mps.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert read_mps(str(path)).name == "EXAMPLE"
    path.write_bytes(gzip.compress(TEXT.encode())[:-9])
    with pytest.raises(MPSError, match="gzip"):
        read_mps(path)


def test_open_files_are_read(tmp_path):
    path = tmp_path / "problem.mps"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    with path.open(encoding="utf-8") as text, path.open("rb") as data:
        files = text, data, io.StringIO(TEXT), io.BytesIO(gzip.compress(TEXT.encode()))
        for file in files:
            assert list(read_mps(file).upper) == [4, 1, np.inf]
        assert not text.closed
    with pytest.raises(MPSError, match="the file, line 1: no section"):
        read_mps(io.StringIO("nothing"))


def test_line_ends_of_other_systems(tmp_path):
    path = tmp_path / "problem.mps"
    for end in (b"\r\n", b"\r"):
        path.write_bytes(TEXT.encode().replace(b"\n", end))
        assert list(read_mps(path).upper) == [4, 1, np.inf]


@pytest.mark.parametrize(
    ("sense", "value", "low", "high"),
    [("L", 3.0, 2.0, 5.0), ("L", -3.0, 2.0, 5.0), ("G", 3.0, 5.0, 8.0), ("G", -3.0, 5.0, 8.0), ("E", 3.0, 5.0, 8.0),
     ("E", -3.0, 2.0, 5.0), ("E", 0.0, 5.0, 5.0)],
)  # fmt: skip
def test_ranges(read, sense, value, low, high):
    text = f"ROWS\n N C\n {sense} R\nCOLUMNS\n X C 1 R 1\nRHS\n B R 5\nRANGES\n G R {value}\nENDATA\n"
    lp = read(text)
    assert (lp.row_lower[0], lp.row_upper[0]) == (low, high)


@pytest.mark.parametrize(
    ("lines", "low", "high"),
    [(["UP B X 4"], 0, 4), (["LO B X 4"], 4, np.inf), (["FX B X 4"], 4, 4), (["FR B X"], -np.inf, np.inf),
     (["MI B X"], -np.inf, np.inf), (["MI B X", "UP B X 4"], -np.inf, 4), (["UP B X 4", "PL B X"], 0, np.inf),
     (["UP B X -4"], -np.inf, -4), (["UP B X -4", "LO B X -6"], -6, -4), (["LO B X 0", "UP B X -4"], 0, -4),
     (["UP B X 0"], 0, 0), (["UP X 4"], 0, 4), (["FR X"], -np.inf, np.inf), (["UP B X 1e30"], 0, np.inf),
     (["LO B X -1d+20"], -np.inf, np.inf), (["LO B X 1.5D+01"], 15, np.inf), (["up B X Inf"], 0, np.inf)],
)  # fmt: skip
def test_bounds_of_each_kind(read, lines, low, high):
    with warnings.catch_warnings():
        warnings.simplefilter("error" if lines != ["UP B X -4"] else "ignore")
        lp = read(section("BOUNDS", *(f" {line}" for line in lines)))
    assert (lp.lower[0], lp.upper[0]) == (low, high)


@pytest.mark.parametrize("lines", [["UP B X 4", "UP B X 3"], ["FX B X 3", "UP B X 5"], ["LO B X 1", "LO B X 2"]])
def test_a_second_bound_of_a_kind_is_warned_of(read, lines):
    with pytest.warns(UserWarning, match="'X', .* have two bounds of a kind; the last is taken"):
        lp = read(section("BOUNDS", *(f" {line}" for line in lines)))
    last = float(lines[1].split()[-1])
    assert last in (lp.lower[0], lp.upper[0])


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "problem.mps"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert read_mps(path).A.nnz == 5


def test_a_negative_upper_bound_alone_is_warned_of(read):
    with pytest.warns(UserWarning, match="1 columns have a negative upper bound"):
        read(section("BOUNDS", " UP B X -4"))


def test_whole_numbers_are_relaxed_with_a_warning(read):
    marks = [" M 'MARKER' 'INTORG'", " X COST 1", " M 'MARKER' 'INTEND'", " Y COST 1", " Z COST 1", " W COST 1",
             " V COST 1"]  # fmt: skip
    text = section("COLUMNS", *marks).replace("ENDATA", " BV BND W\n LI BND V -3\n UI BND V 3\nENDATA")
    with pytest.warns(UserWarning, match="3 columns are to be whole numbers"):
        lp = read(text)
    assert list(lp.integers) == [0, 3, 4]
    assert list(lp.upper) == [4, 1, np.inf, 1, 3]
    assert lp.lower[4] == -3
    with pytest.warns(UserWarning, match="relaxation"):
        assert read(text.replace(" UP BND       X                  4.0\n", "")).upper[0] == 1  # no bounds at all


def test_a_marker_without_its_end_is_warned_of(read):
    marks = [" X COST 1", " M 'MARKER' 'INTORG'", " Y COST 1", " Z COST 1"]
    relaxed, unended = "2 columns are to be whole numbers", "no marker INTEND follows INTORG in line"
    with pytest.warns(UserWarning, match=relaxed), pytest.warns(UserWarning, match=unended):
        assert list(read(section("COLUMNS", *marks)).integers) == [1, 2]


def test_a_setting_that_solve_does_not_take_is_named(read):
    with pytest.raises(TypeError, match=r"LinearProgram.solve\(\) got .* 'tolerance'"):
        read(TEXT).solve(tolerance=1)


def test_the_sense_of_the_objective(read):
    for sense, found in (("MAX", True), ("MIN", False), ("maximize", True), ("MAXIMUM", True), ("MINIMUM", False)):
        assert read(f"OBJSENSE\n    {sense}\n{TEXT}").maximize is found
        assert read(f"OBJSENSE {sense}\n{TEXT}").maximize is found
    lp = read(f"OBJSENSE MAX\n{TEXT}")
    assert list(lp.program.c) == [-1, -2, 1]
    assert lp.program.offset == -10
    assert list(read(f"OBJNAME\n OTHER\n{TEXT}").c) == [0, 7, 0]


def test_the_first_of_several_sets_is_taken(read):
    text = TEXT.replace("BOUNDS", "    RHS2      LIM1              44.0\nBOUNDS")
    with pytest.warns(UserWarning, match="RHS has several sets, of which 'RHS' is taken"):
        assert read(text).row_upper[0] == 4


def test_comments_and_blank_lines_are_passed_over(read):
    text = TEXT.replace("COLUMNS", "* a comment\n\n   \nCOLUMNS")
    for end in ("LIM2 1.0 $ x\n", "LIM2               1.0   $ x\n"):
        assert read(text.replace("LIM2               1.0\n", end, 1)).A.nnz == 5


BROKEN = [
    ("a row has a type", section("ROWS", " N COST", " L"), 4),
    ("rows are of type", section("ROWS", " N COST", " Q LIM1"), 4),
    ("row 'LIM1' comes up again", TEXT.replace(" G  LIM2", " G  LIM1"), 5),
    ("no row is the objective", TEXT.replace(" N  COST\n", "").replace(" N  OTHER\n", ""), 6),
    ("there is no row 'NOROW'", TEXT.replace("LIM2               1.0", "NOROW              1.0", 1), 10),
    ("'one' is not a number", TEXT.replace("LIM2               1.0", "LIM2               one", 1), 10),
    ("'nan' is not a number", TEXT.replace("LIM2               1.0", "LIM2               nan", 1), 10),
    ("'1_0' is not a number", TEXT.replace("LIM2               1.0", "LIM2               1_0", 1), 10),
    ("too large", TEXT.replace("LIM2               1.0", "LIM2               1e99", 1), 10),
    ("column 'X' comes up again", TEXT.replace("    Z ", "    X "), 13),
    ("column 'X' has row 'COST' twice", TEXT.replace("X         LIM2", "X         COST"), 10),
    ("there is no column 'Q'", TEXT.replace("BND       X", "BND       Q"), 18),
    ("bounds of type 'SC'", TEXT.replace(" UP BND       X", " SC BND       X"), 18),
    ("comes up again", TEXT.replace("MYEQN              7.0", "LIM1               7.0"), 16),
    ("without ENDATA", TEXT.replace("ENDATA\n", ""), 21),
    ("section QUADOBJ is none", TEXT.replace("BOUNDS", "QUADOBJ"), 17),
    ("section ROWS comes up again", TEXT.replace("RHS\n", "ROWS\n", 1), 14),
    ("needs a section COLUMNS", "ROWS\n N C\nRHS\n B C 1\nENDATA\n", 3),
    ("no section begins with", "hello\n", 1),
    ("OBJSENSE is MAX or MIN", f"OBJSENSE\n UP\n{TEXT}", 2),
    ("a marker is", TEXT.replace("    Z ", "    M 'MARKER' 'INT'\n    Z "), 13),
    ("the objective has no range", section("RANGES", " R COST 1"), 22),
    ("there are no columns", "ROWS\n N C\nCOLUMNS\nENDATA\n", 4),
    ("without ENDATA", "", 1),
    ("no activity of row 'MYEQN', of type E", TEXT.replace("MYEQN              7.0", "MYEQN              1e20"), 16),
    ("no activity of row 'LIM2', of type G", section("RHS", " R LIM2 1e30"), 15),
    ("no activity of row 'LIM1', of type L", section("RHS", " R LIM1 -1e30"), 15),
    ("no value of column 'X' is beyond its bound", section("BOUNDS", " LO B X 1e30"), 18),
    ("no value of column 'X' is beyond its bound", section("BOUNDS", " UP B X -1e30"), 18),
]


@pytest.mark.parametrize(("message", "text", "line"), BROKEN, ids=[f"{m}-{line}" for m, _, line in BROKEN])
def test_a_broken_file_is_an_error_that_names_the_line(read, message, text, line):
    with pytest.raises(MPSError, match=message) as caught:
        read(text, format="free")
    assert caught.value.line == line
    assert f"line {line}:" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).line == line
    with pytest.raises(ValueError):
        read(text)


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(OSError):
        read_mps(tmp_path / "nothing.mps")
    with pytest.raises(ValueError, match="format"):
        read_mps(tmp_path / "nothing.mps", format="loose")


def mutated(rng, text):
    """A file with bytes changed, lines dropped, doubled or swapped, or the end cut off."""
    data = bytearray(text.encode())
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(5)
        if kind == 0:
            data[rng.integers(len(data))] = rng.choice(list(b"\x00 \t\n-.$*'EN019\xff"))
        elif kind == 1:
            del data[rng.integers(len(data)) :]
            data += b" "
        else:
            lines = bytes(data).split(b"\n")
            a, b = rng.integers(len(lines), size=2)
            if kind == 2:
                lines.insert(a, lines[b])
            elif kind == 3:
                del lines[a]
            else:
                lines[a], lines[b] = lines[b], lines[a]
            data = bytearray(b"\n".join(lines) or b" ")
    return bytes(data)


def read_mutations(tmp_path, count):
    rng, good, longest, lines = np.random.default_rng(7), 0, 0.0, []
    texts = [TEXT, mps_text(random_program(rng, 6, 5), fixed=True), mps_text(random_program(rng, 6, 5))]
    path = tmp_path / "problem.mps"
    for number in range(count):
        data = mutated(rng, texts[number % 3])
        path.write_bytes(gzip.compress(data)[: rng.integers(20, 400)] if number % 10 == 9 else data)
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lp = read_mps(path)
        except MPSError as error:
            lines.append((error.line, data.count(b"\n") + data.count(b"\r") + 1))
        else:
            good += 1
            m, n = lp.A.shape
            assert lp.c.shape == lp.lower.shape == (n,)
            assert lp.row_lower.shape == (m,)
            assert np.isfinite(lp.c).all()
            assert np.isfinite(lp.A.data).all()
            assert not np.isnan(np.concatenate([lp.lower, lp.upper, lp.row_lower, lp.row_upper])).any()
        longest = max(longest, time.perf_counter() - began)
    assert all(0 <= line <= last for line, last in lines)
    assert longest < 20
    return good


def test_mutated_files_are_read_or_refused(tmp_path):
    assert 0 < read_mutations(tmp_path, 200) < 200


@pytest.mark.slow
def test_many_mutated_files_are_read_or_refused(tmp_path):
    assert 0 < read_mutations(tmp_path, 5000) < 5000


def test_a_program_that_was_read_is_solved(read):
    found = read(TEXT).solve(tol=1e-8)
    assert found.success
    assert found.fun == pytest.approx(1 - 2 - 6 + 10, abs=1e-6)  # x = 1, y = -1, z = 6
    most = read(f"OBJSENSE MAX\n{TEXT}".replace("Z         COST              -1.0", "Z         COST              -4.0"))
    found = most.solve(tol=1e-8)
    assert most.objective(found.x) == pytest.approx(-found.fun)
    assert ntsolve.LinearProgram is type(most)
