"""float32 numbers are multiplied and added up in float64: Numba's float() would leave them as they are."""

import numpy as np
import pytest

import ntsolve.kernels.cpu as cpu
from ntsolve.kernels.contracts import workspace_shape

X = np.array([[1 / 3, 1e4 / 7, 1e-3 / 11]], np.float32)
Y = np.array([[1 / 13, -1e-4 / 17, 1e3 / 19]], np.float32)
EXACT = float((X.astype(float) * Y.astype(float)).sum())


def close(value):
    assert value == pytest.approx(EXACT, rel=1e-15, abs=1e-15)


def test_dots():
    work, out, other = np.empty(workspace_shape(1, 3)), np.empty(1), np.empty(1)
    cpu.dot(X, Y, out, work)
    close(out[0])
    cpu.flexible_dots(X, Y, Y, out, other, work)
    close(out[0])
    close(-other[0])


def test_norms():
    out = np.empty(1)
    cpu.norm(X, out, np.empty(workspace_shape(1, 3)))
    assert out[0] == pytest.approx(np.linalg.norm(X.astype(float)), rel=1e-15)


def test_products_with_matrices():
    """Into a float32, whose neighbour is 6e-8 away; so for numbers that cancel."""
    row = np.array([1 + 2.0**-12, 1.0, 1.0], np.float32)
    x = np.array([[1 - 2.0**-12, -1.0, 0.0]], np.float32)
    y = np.empty((1, 1), np.float32)
    cpu.dense_matvec(row[None, None], x, y)
    assert y[0, 0] == -(2.0**-24)
    cpu.csr_matvec(np.array([0, 3], np.int32), np.arange(3, dtype=np.int32), row, x, y)
    assert y[0, 0] == -(2.0**-24)
