"""Distributed solves under real MPI: what tests/mpi/checks has, on 1, 2 and 3 ranks, each number in one mpiexec."""

import os
import sys

import pytest

from .launch import missing, run_all_checks

PROMISED = os.environ.get("CI") == "true" and sys.platform == "linux"
pytestmark = pytest.mark.skipif(missing() is not None and not PROMISED, reason=str(missing()))


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_check_holds_on_so_many_ranks(size):
    report = run_all_checks(size)
    assert not report.failures, str(report)
    assert report.seconds
