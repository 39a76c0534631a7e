"""The stand-in's linear algebra: silent by default where there is no factor, as CuPy is."""

import numpy as np
import pytest

from tests.conftest import REAL_GPU

cupy = pytest.importorskip("cupy")
cupyx = pytest.importorskip("cupyx")
pytestmark = pytest.mark.skipif(REAL_GPU, reason="about the stand-in")
GOOD, BAD = np.array([[4.0, 2.0], [2.0, 5.0]]), np.array([[1.0, 2.0], [2.0, 1.0]])


def test_cholesky_gives_lower_factors_of_a_stack():
    L = cupy.linalg.cholesky(cupy.asarray(np.stack([GOOD, 4 * GOOD])))
    assert np.allclose(cupy.asnumpy(L), [[[2, 0], [1, 2]], [[4, 0], [2, 4]]])


def test_a_matrix_without_a_factor_is_an_error_only_on_demand():
    A = cupy.asarray(np.stack([GOOD, BAD]))
    cupy.linalg.cholesky(A)
    with cupyx.errstate(linalg="raise"), pytest.raises(np.linalg.LinAlgError):
        cupy.linalg.cholesky(A)
    with cupyx.errstate(linalg="raise"), cupyx.errstate(linalg="ignore"):
        cupy.linalg.cholesky(A)
    cupy.linalg.cholesky(A)


def test_cholesky_takes_square_matrices_on_the_device():
    for A in (GOOD, cupy.asarray(np.ones((2, 3)))):
        with pytest.raises(np.linalg.LinAlgError):
            cupy.linalg.cholesky(A)
