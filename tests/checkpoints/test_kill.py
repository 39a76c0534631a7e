"""A process that is killed, at any moment, loses what it did since its last checkpoint, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .killed import EVERY
from .solves import SOLVES

ROOT = Path(__file__).resolve().parents[2]
SLACK = 1.0  # seconds that a busy machine may add to an interval


def killed(name, kills, folder, seed=0):
    command = [sys.executable, "-m", "tests.checkpoints.killed", name, str(kills), str(folder), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LONG = ["cg", "cg with a function", "halpern", "monotone", "linprog", "solve_ot", "solve_ot sinkhorn", "solve_ot_grid"]


@pytest.mark.parametrize(
    ("name", "kills"), [("cg", 3), *(pytest.param(name, 20, marks=pytest.mark.slow) for name in LONG)]
)
def test_a_killed_solve_goes_on_and_loses_one_interval_at_most(name, kills, tmp_path):
    seen = killed(name, kills, tmp_path)
    assert seen["success"]
    assert seen["kills"] == kills
    assert seen["seconds_lost"] <= EVERY + SLACK
    if SOLVES[name]().bitwise:
        assert seen["same"]
        assert seen["nit"][0] == seen["nit"][1]
