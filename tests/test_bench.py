"""Every bench runs, and what its record and its page say is what it found. Figures are not looked at: see docs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from bench import __main__ as command
from bench import _floor, _harness, _problems

ROOT = Path(__file__).resolve().parent.parent
LONG = {"cg", "distributed", "farm", "fisher", "fixedpoint", "ihvp", "linear", "linprog", "transport"}
"""Benches whose quick run takes more than a few seconds, in processes of its own or in what it compiles."""
RECORDS = sorted((ROOT / "docs" / "benchmarks").glob("*.json"))


def run(*arguments):
    """`python -m bench ...` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "bench", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, env=os.environ)  # fmt: skip


def test_it_lists_every_claim(capsys):
    assert command.main([]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == _harness.benches()
    assert all(len(line.split()) > 5 for line in listed)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in _harness.benches()]
)
def test_a_quick_run_works_and_leaves_a_record(name, tmp_path):
    path = tmp_path / "record.json"
    done = run(name, "--quick", "--json", path)
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text("utf-8"))
    assert record["name"] == name
    assert record["quick"]
    assert {"ntsolve", "python", "numpy", "scipy", "numba"} <= set(record["environment"]["versions"])
    assert record["tables"] or "needs a GPU" in record["lines"][0] or "needs MPI" in record["lines"][0]
    for table in record["tables"]:
        assert table["title"] in done.stdout
        peers = [entry["median"] for entry in table["entries"] if entry["peer"]]
        assert len(peers) >= 1
        for entry in table["entries"]:
            assert entry["ratio"] == pytest.approx(entry["median"] / min(peers), rel=0.02)
    page = _harness.page(record)
    assert "quick run" in page
    assert f"python -m bench {name}" in page
    assert all(f"## {table['title']}" in page for table in record["tables"])


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_page_says_what_its_record_says(path):
    record = json.loads(path.read_text("utf-8"))
    assert record["name"] == path.stem
    assert not record["quick"], "a quick run proves nothing"
    page = path.with_suffix(".md").read_text("utf-8")
    assert page == _harness.page(record), "made by hand, or out of date: python -m bench --pages"


def test_a_target_says_whether_it_is_met():
    assert _harness.Target("time", 0.6, 0.7).met
    assert not _harness.Target("time", 0.8, 0.7).met
    assert _harness.Target("speed", 25, 20, at_least=True).met
    assert "MISSED" in str(_harness.Target("speed", 15, 20, at_least=True))


def test_the_problems_are_what_they_are_called():
    chain = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(4, 4)).toarray()
    eye = np.eye(4)
    np.testing.assert_array_equal(_problems.poisson(4).toarray(), np.kron(chain, eye) + np.kron(eye, chain))
    assert _problems.poisson(4).indices.dtype == np.int32
    A, b = _problems.dense_spd(3, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(A, A.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(A).min() >= 1
    x = np.linalg.solve(A, b[..., None])[..., 0]
    assert _problems.relative_residual(A, b, x) < 1e-13
    x[1] *= 1.5
    assert _problems.relative_residual(A, b, x) == pytest.approx(0.5)


def test_the_floor_counts_bytes():
    # matrix 10 values and indices, 4 pointers; 2 + 6 + 3 vectors of 4 values
    assert _floor.cg_bytes(4, 10) == 10 * 12 + 4 * 4 + 4 * 8 * 11
    assert _floor.copy_bandwidth(2, mebibytes=1, repeats=1) > 0
    assert _floor.read_bandwidth(2, mebibytes=1, repeats=1) > 0
    assert "50 % of it" in _floor.sentence("cg", 1e6, 2e-3, 1e9)
