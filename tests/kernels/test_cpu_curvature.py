"""What generated tests do not reach: the ways of the Numba twins through BLAS, LAPACK and panels, and a long window."""

import numpy as np
import pytest

import ntsolve.kernels.cpu as cpu
from ntsolve.kernels.contracts.factors import shift_workspace
from ntsolve.kernels.contracts.fisher import row_dots_workspace
from ntsolve.kernels.cpu import factors, fisher

from . import harness


@pytest.mark.parametrize("name", ["gram", "gram_columns", "leverage"])
@pytest.mark.parametrize("dtype", harness.DTYPES)
def test_blas_keeps_the_contract_as_well(name, dtype, monkeypatch):
    monkeypatch.setattr(fisher, "_for_blas", lambda blocks, products: True)
    for case in harness.cases(name, dtype):
        harness.compare(name, dtype, case, harness.run(getattr(cpu, name), name, case))


@pytest.mark.parametrize("name", ["row_dots", "combine_rows", "gram", "gram_columns", "leverage"])
def test_many_short_calls_are_one_long_one(name, monkeypatch):
    monkeypatch.setattr(fisher, "_CALL", 1)
    for case in harness.cases(name, "float32"):
        harness.compare(name, "float32", case, harness.run(getattr(cpu, name), name, case))


@pytest.mark.parametrize("order", [63, 64, 65, 96, 200])
def test_panels_give_the_factor(order, monkeypatch, rng):
    monkeypatch.setattr(factors, "_WHOLE", 64)
    half = rng.standard_normal((order, order))
    A = np.stack([half @ half.T] * 2)
    A[1, -1, -1] = -1.0
    L, info = np.full_like(A, np.nan), np.zeros(2, np.int32)
    cpu.cholesky(A, 3.0, L, info)
    assert info.tolist() == [0, 1]
    np.testing.assert_allclose(L[0], np.linalg.cholesky(A[0] + 3 * np.eye(order)), atol=1e-12)
    assert np.isnan(L[1]).all()


def test_a_window_of_many_steps_keeps_its_factor(rng):
    """2000 gradients through a window of 24, at a condition of 1e8: what is old goes out again, rounding with it."""
    m, d, shift = 24, 60, 1e-8
    G = list(rng.standard_normal((m, d)) / np.sqrt(d))
    A = np.array(G) @ np.array(G).T + shift * np.eye(m)
    L, work, info = np.linalg.cholesky(A), np.empty(shift_workspace(m)), np.zeros(1, np.int32)
    for step in range(2000):
        drop = step % m
        g = rng.standard_normal(d) / np.sqrt(d) if step % 3 else G[-1] * (1 + 1e-6)  # some are almost the one before
        del G[drop]
        cpu.shift_factor(L, drop, np.array(G) @ g, g @ g + shift, work, info)
        G.append(g)
        assert info[0] == 0
    A = np.array(G) @ np.array(G).T + shift * np.eye(m)
    assert abs(L @ L.T - A).max() < 1e-13


def test_float32_gradients_are_multiplied_in_float64():
    G = np.array([[1 + 2.0**-12, 1.0, 1 / 3]], np.float32)
    x = np.array([[1 - 2.0**-12, -1.0, 0.0]])
    out = np.zeros((1, 1, 1))
    cpu.row_dots(G, 3, x, out, np.empty(row_dots_workspace(1, 3, 3, 1)))
    assert out[0, 0, 0] == -(2.0**-24)
