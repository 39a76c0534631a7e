"""cg with CuPy arrays: on a real GPU where there is one, else on the emulator's stand-in."""

import numpy as np
import pytest
import scipy.sparse as sp

import ntsolve
from ntsolve import monitor

cupy = pytest.importorskip("cupy")
csr_matrix = pytest.importorskip("cupyx.scipy.sparse").csr_matrix


def poisson(n, dtype="float64"):
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    return sp.csr_matrix(sp.kron(T, sp.eye_array(n)) + sp.kron(sp.eye_array(n), T), dtype=dtype)


def spd(rng, batch, n, dtype="float64"):
    G = rng.standard_normal((batch, n, n))
    return (G @ G.transpose(0, 2, 1) / n + np.eye(n)).astype(dtype)


@pytest.fixture(params=["small", "large"])
def path(request, monkeypatch):
    """Both ways through an iteration: all in one kernel, and (as for a large system) launch by launch."""
    if request.param == "large":
        monkeypatch.setattr("ntsolve.kernels.cuda.SMALL", 0)
        monkeypatch.setattr("ntsolve.kernels.cpu.SMALL", 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("M", [None, "jacobi", "callable"])
def test_sparse_is_what_the_cpu_gives(rng, dtype, M, path):
    A, b = poisson(12, dtype), rng.standard_normal(144).astype(dtype)
    rtol = 1e-9 if dtype == "float64" else 1e-4
    if M == "callable":
        M = lambda r: r / 4
    on_cpu = ntsolve.cg(A, b, M=M, rtol=rtol)
    on_gpu = ntsolve.cg(csr_matrix(A), cupy.asarray(b), M=M, rtol=rtol)
    assert on_gpu.success
    assert on_gpu.backend == "cuda"
    assert type(on_gpu.x) is cupy.ndarray
    assert on_gpu.x.dtype == dtype
    assert abs(on_gpu.nit - on_cpu.nit) <= 1
    assert on_gpu.history.shape == (on_gpu.nit + 1,)
    np.testing.assert_allclose(on_gpu.x.get(), on_cpu.x, atol=30 * rtol * abs(on_cpu.x).max())


@pytest.mark.parametrize(("batch", "n"), [(7, 5), (5, 32), (3, 40)])
def test_batches_are_what_the_cpu_gives(rng, batch, n):
    A, b = spd(rng, batch, n), rng.standard_normal((batch, n))
    A[1] *= -1  # one that is not positive spoils nothing
    on_cpu = ntsolve.cg(A, b, M=None, rtol=1e-10, on_failure="ignore")
    on_gpu = ntsolve.cg(cupy.asarray(A), cupy.asarray(b), M=None, rtol=1e-10, on_failure="ignore")
    assert on_gpu.success.tolist() == [True, False, *[True] * (batch - 2)]
    assert on_gpu.status.tolist() == on_cpu.status.tolist()
    assert abs(on_gpu.nit - on_cpu.nit).max() <= 1
    np.testing.assert_allclose(on_gpu.x.get(), on_cpu.x, atol=1e-8)


def test_several_right_hand_sides_warm_start_and_dense(rng, path):
    A, b = spd(rng, 1, 20)[0], rng.standard_normal((3, 20))
    exact = np.linalg.solve(A, b.T).T
    start = cupy.asarray(exact + 1e-6 * rng.standard_normal(exact.shape))
    cold = ntsolve.cg(cupy.asarray(A), cupy.asarray(b), rtol=1e-10)
    warm = ntsolve.cg(cupy.asarray(A), cupy.asarray(b), start, rtol=1e-10)
    assert warm.success.all()
    assert warm.nit.max() < cold.nit.max()
    np.testing.assert_allclose(warm.x.get(), exact, atol=1e-8)


def test_the_answer_can_be_verified_on_the_device(rng):
    A, b = csr_matrix(poisson(8)), cupy.asarray(rng.standard_normal(64))
    r = ntsolve.cg(A, b, rtol=1e-8)
    assert r.verify(A, b) == pytest.approx(r.residual)


def test_mixed_places_are_refused_by_name(rng):
    A, b = poisson(4), rng.standard_normal(16)
    with pytest.raises(TypeError, match=r"A on the CPU, b on GPU 0"):
        ntsolve.cg(A, cupy.asarray(b))
    with pytest.raises(TypeError, match=r"x0 on the CPU"):
        ntsolve.cg(csr_matrix(A), cupy.asarray(b), b)
    with pytest.raises(TypeError, match="config"), ntsolve.config(backend="cpu"):
        ntsolve.cg(csr_matrix(A), cupy.asarray(b))


def test_runs_on_the_device_of_the_arrays(rng):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices")
    A, b = poisson(5), rng.standard_normal(25)
    with cupy.cuda.Device(1):
        A1, b1 = csr_matrix(A), cupy.asarray(b)
    r = ntsolve.cg(A1, b1, rtol=1e-8)
    assert r.success
    assert r.x.device.id == 1
    assert cupy.cuda.Device().id == 0
    with pytest.raises(TypeError, match="A on GPU 1, b on GPU 0"):
        ntsolve.cg(A1, cupy.asarray(b))


def test_runs_on_the_current_stream(rng):
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        A, b = csr_matrix(poisson(6)), cupy.asarray(rng.standard_normal(36))
        r = ntsolve.cg(A, b, rtol=1e-8)
        assert cupy.cuda.get_current_stream() == stream
    stream.synchronize()
    assert r.success


def test_waits_for_the_device_only_where_the_stop_test_is_due(rng, real_gpu, monkeypatch):
    if real_gpu:
        pytest.skip("counted on the stand-in")
    from tests.emu import control

    monkeypatch.setattr("ntsolve.kernels.cuda.SMALL", 0)
    looks = []

    def eight(self, exact):
        looks.append(8)
        return min(8, self.maxiter - self.nit)

    monkeypatch.setattr(monitor.Monitor, "block", eight)
    A, b = csr_matrix(poisson(16)), cupy.asarray(rng.standard_normal(256))
    used = []
    for maxiter in (16, 48):
        looks.clear()
        before = control.counts()
        ntsolve.cg(A, b, rtol=0.0, maxiter=maxiter, on_failure="ignore")
        used.append((control.counts() - before, len(looks)))
    (few, few_looks), (many, many_looks) = used
    assert many_looks - few_looks == 4
    assert many.syncs - few.syncs == 4, "one wait a look, and no other"


def test_blocks_of_iterations_of_a_large_system_are_replayed_as_graphs(rng, real_gpu, monkeypatch):
    if real_gpu:
        pytest.skip("counted on the stand-in")
    from tests.emu import control

    monkeypatch.setattr("ntsolve.kernels.cuda.SMALL", 0)
    monkeypatch.setattr(monitor.Monitor, "block", lambda self, exact: min(16, self.maxiter - self.nit))
    A, b = poisson(12), rng.standard_normal(144)
    before = control.counts()
    on_gpu = ntsolve.cg(csr_matrix(A), cupy.asarray(b), rtol=1e-9)
    used = control.counts() - before
    assert used.graph_launches >= 2
    assert used.launches < on_gpu.nit, "iterations were launched one by one"
    np.testing.assert_allclose(on_gpu.x.get(), ntsolve.cg(A, b, rtol=1e-9).x, atol=1e-7)


def test_out_of_memory_is_a_memory_error_and_the_next_solve_works(rng):
    A, b = csr_matrix(poisson(12)), cupy.asarray(rng.standard_normal(144))
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + 4096)
    try:
        with pytest.raises(MemoryError, match="GPU 0"):
            ntsolve.cg(A, b, rtol=1e-8)
        assert pool.total_bytes() == pool.used_bytes(), "blocks are kept"
    finally:
        pool.set_limit(size=0)
    assert ntsolve.cg(A, b, rtol=1e-8).success


class Shared:
    """An array of another library that shares its device memory through DLPack."""

    def __init__(self, array):
        self._device_array, self.shape, self.dtype = array, array.shape, array.dtype

    def __dlpack__(self, **options):
        return self._device_array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._device_array.__dlpack_device__()

    def __array_namespace__(self):
        return Shared

    @staticmethod
    def from_dlpack(array):
        return Shared(cupy.from_dlpack(array))


def test_dlpack_in_own_kind_out(rng):
    A, b = spd(rng, 1, 12)[0], rng.standard_normal(12)
    r = ntsolve.cg(Shared(cupy.asarray(A)), Shared(cupy.asarray(b)), rtol=1e-10)
    assert type(r.x) is Shared
    np.testing.assert_allclose(A @ r.x._device_array.get(), b, atol=1e-8)
