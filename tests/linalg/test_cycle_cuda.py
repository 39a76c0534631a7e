"""Conjugate gradients on a grid with CuPy arrays: on a real GPU where there is one, else on the emulator's stand-in."""

import numpy as np
import pytest

import ntsolve

cupy = pytest.importorskip("cupy")


def mask(xp):
    at = np.indices((9, 8, 10)) - 4
    return ntsolve.GridOperator.poisson(xp.asarray((at**2).sum(0) > 4))


def coefficients(xp):
    return ntsolve.GridOperator.diffusion(xp.asarray(1 + np.random.default_rng(0).random((12, 17))))


@pytest.mark.parametrize("make", [mask, coefficients])
def test_a_solve_is_what_the_cpu_gives(make):
    on_cpu, on_gpu = make(np), make(cupy)
    b = np.random.default_rng(1).standard_normal((2, on_cpu.shape[0]))
    want = ntsolve.cg(on_cpu, b, M=ntsolve.LearnedMultigrid(on_cpu), rtol=1e-8)
    got = ntsolve.cg(on_gpu, cupy.asarray(b), M=ntsolve.LearnedMultigrid(on_gpu), rtol=1e-8)
    assert got.success.all()
    assert got.backend == "cuda"
    assert type(got.x) is cupy.ndarray
    assert abs(got.nit - want.nit).max() <= 1
    np.testing.assert_allclose(got.x.get(), want.x, rtol=0, atol=1e-6 * abs(want.x).max())
