"""`python -m ntsolve solve`: what it prints is what the solver found, and its exit code says whether it did."""

import gzip

import numpy as np
import pytest

from ntsolve import __main__ as command
from ntsolve import read_mps

from .mps_writer import mps_text
from .programs import highs, random_program


@pytest.fixture
def solve(tmp_path, capsys):
    def run(text, *options):
        path = tmp_path / "problem.mps"
        path.write_text(text)
        code = command.main(["solve", str(path), *options])
        printed = capsys.readouterr()
        lines = (line.split("  ", 1) for line in printed.out.splitlines() if "  " in line)
        return code, {name: rest.strip() for name, rest in lines}, printed.err

    return run


def test_a_file_is_solved_and_the_solution_written(solve, tmp_path):
    program = random_program(np.random.default_rng(0), 8, 9)
    out = tmp_path / "solution.txt"
    code, rows, err = solve(mps_text(program), "--tol", "1e-8", "--threads", "1", "--solution", str(out))
    assert (code, err) == (0, "")
    assert rows["status"].startswith("CONVERGED")
    assert float(rows["objective"]) == pytest.approx(highs(program)[1], abs=1e-6)
    values = dict(line.split() for line in out.read_text().splitlines())
    x = np.array([float(values[f"X{j}"]) for j in range(9)])
    assert read_mps(tmp_path / "problem.mps").objective(x) == pytest.approx(float(rows["objective"]), rel=1e-11)


def test_a_maximum_is_printed_as_one(solve):
    text = "OBJSENSE\n MAX\nROWS\n N C\n L R\nCOLUMNS\n X C 3 R 1\nRHS\n B R 4 C -1\nENDATA\n"
    code, rows, _ = solve(text)
    assert code == 0
    assert float(rows["maximum"]) == pytest.approx(13.0, abs=1e-4)


def test_what_cannot_be_solved_is_said(solve):
    code, rows, _ = solve("ROWS\n N C\n L R\n G S\nCOLUMNS\n X C 3 R 1\n X S 1\nRHS\n B R 4 S 5\nENDATA\n")
    assert code == 1
    assert rows["status"].startswith("PRIMAL_INFEASIBLE")
    assert "2 entries" in rows["proof"]


def test_what_cannot_be_read_is_said(solve, tmp_path, capsys):
    code, rows, err = solve("ROWS\n N C\n Q R\nENDATA\n")
    assert (code, rows) == (2, {})
    assert "line 3" in err
    assert command.main(["solve", str(tmp_path / "nothing.mps")]) == 2
    assert "nothing.mps" in capsys.readouterr().err
    code, _, err = solve("ROWS\n N C\nCOLUMNS\n X C 3\nENDATA\n", "--tol", "-1")
    assert code == 2
    assert "tol" in err


def test_a_solution_that_cannot_be_written_is_said_before_the_solve(solve, tmp_path, monkeypatch):
    monkeypatch.setattr("ntsolve.fixedpoint.mps.LinearProgram.solve", None)
    out = str(tmp_path / "nothing" / "solution.txt")
    code, rows, err = solve("ROWS\n N C\nCOLUMNS\n X C 3\nENDATA\n", "--solution", out)
    assert (code, rows) == (2, {})
    assert "solution.txt" in err


def test_bounds_that_contradict_each_other_are_named(solve):
    code, rows, _ = solve("ROWS\n N C\nCOLUMNS\n Y C 1\n X C 3\nBOUNDS\n LO B X 2\n UP B X 1\nENDATA\n")
    assert code == 1
    assert rows["proof"] == "the bounds of column X contradict each other"


def test_what_is_left_out_is_said(solve):
    code, _, err = solve("ROWS\n N C\nCOLUMNS\n X C 3\nBOUNDS\n BV B X\nENDATA\n")
    assert code == 0
    assert "whole numbers" in err


def test_compressed_files_are_solved(tmp_path, capsys):
    path = tmp_path / "problem.mps.gz"
    path.write_bytes(gzip.compress(mps_text(random_program(np.random.default_rng(1), 5, 6)).encode()))
    assert command.main(["solve", str(path)]) == 0
    assert "MADE: 5 rows, 6 columns" in capsys.readouterr().out
