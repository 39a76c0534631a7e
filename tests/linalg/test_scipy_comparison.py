"""docs/scipy_comparison.md says what is so: of SciPy, in the version that it names, and of ntsolve."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy
from scipy.sparse.linalg import cg as scipy_cg

import ntsolve
from ntsolve.compat.scipy import cg as compat_cg
from tests.test_docs import FENCE, NO_RUN

from .problems import laplacian

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scipy_comparison.md"
of_scipy = pytest.mark.skipif(not scipy.__version__.startswith("1.17."), reason="the page is about SciPy 1.17")
A, b = laplacian(100), np.ones(100)
with_nan = np.where(np.arange(100) == 50, np.nan, b)


def with_index(value):
    broken = A.copy()
    broken.indices[150] = value
    return broken


def apart(code):
    """The code, after the first block of the page, in another process."""
    code = FENCE.findall(PAGE.read_text("utf-8"))[0][1] + code
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=200, cwd=PAGE.parents[1]
    )


@of_scipy
def test_scipy_iterates_on_nan():
    calls = []
    x, info = scipy_cg(A, with_nan, callback=lambda x: calls.append(1))
    assert info == len(calls) == 1000
    assert np.isnan(x).all()


def test_ntsolve_refuses_nan():
    for solve in (ntsolve.cg, compat_cg):
        with pytest.raises(ValueError, match=r"^b contains NaN or infinity$"):
            solve(A, with_nan)


@of_scipy
def test_scipy_calls_no_iteration_a_success():
    x, info = scipy_cg(A, b, maxiter=0)
    assert info == 0
    assert not x.any()


def test_ntsolve_does_not_call_no_iteration_a_success():
    result = ntsolve.cg(A, b, maxiter=0, on_failure="ignore")
    assert not result.success
    assert result.status == ntsolve.Status.MAXITER
    assert compat_cg(A, b, maxiter=0)[1] == 1


@of_scipy
def test_scipy_takes_a_small_right_hand_side_for_zero():
    x, info = scipy_cg(A, 1e-200 * b)
    assert info == 0
    assert np.array_equal(x, 1e-200 * b)


def test_ntsolve_solves_for_a_small_right_hand_side():
    want = np.linalg.solve(A.toarray(), b)
    result = ntsolve.cg(A, 1e-200 * b)
    assert result.success
    np.testing.assert_allclose(result.x * 1e200, want, rtol=1e-4)
    x, info = compat_cg(A, 1e-200 * b)
    assert info == 0
    np.testing.assert_allclose(x * 1e200, want, rtol=1e-4)


@of_scipy
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seen on Linux")
def test_scipy_crashes_on_an_index_out_of_range():
    text = PAGE.read_text("utf-8")
    (crash,) = [fence["code"] for fence in FENCE.finditer(text) if text[: fence.start()].rstrip().endswith(NO_RUN)]
    assert apart("pass").returncode == 0
    assert apart(crash).returncode == -11


@of_scipy
def test_scipy_reads_what_lies_beyond_the_vector():
    """No error; what comes out depends on what lies there."""
    done = apart("A.indices[150] = n; x, info = scipy_cg(A, b); print('came back', info)")
    assert done.returncode < 0 or done.stdout.startswith("came back"), done.stderr


@pytest.mark.parametrize("index", [100, -1, 10**6, 2**31 - 1])
def test_ntsolve_refuses_an_index_out_of_range(index):
    for solve in (ntsolve.cg, compat_cg):
        with pytest.raises(ValueError, match=r"^A: an index lies outside 0\.\.99$"):
            solve(with_index(index), b)
