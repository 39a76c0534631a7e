"""`solve_batch` on the ranks of an MPI run, by mpi4py's pool."""

import pytest

from .launch import missing, run
from .test_checks import PROMISED

pytestmark = pytest.mark.skipif(missing() is not None and not PROMISED, reason=str(missing()))


def test_a_pool_of_ranks_keeps_the_promises_of_a_farm():
    done = run(3, "-m", "mpi4py.futures", "-m", "tests.mpi.programs.farm", timeout=200)
    assert done.code == 0, done.output
    assert "500 CONVERGED by" in done.output
