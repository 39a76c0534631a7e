"""The sample kernels through NVIDIA's own compiler."""

import pytest

from tests import nvrtc
from tests.emu import cases

pytestmark = pytest.mark.skipif(not nvrtc.is_available() and not nvrtc.required(), reason=f"pip install {nvrtc.WHEEL}")
INSTANCES = {
    "lse.cu": ["lse_rows<{t},128>"],
    "pcg.cu": ["pcg_batched<{t},64>"],
    "spmv.cu": ["spmv_csr<{t}>"],
    "stencil.cu": ["jacobi7<{t},32,8>"],
    "histogram.cu": ["histogram<{t},7>"],
    "warps.cu": ["cholesky<{t}>", "scan<{t},128>", "positives<{t}>"],
    "dense.cu": ["transpose<{t}>", "axpy<{t}>", "dot<{t},64>", "product<{t},true,8>", "product<{t},false,8>"],
}
# two types for one extern __shared__ name: g++ does not mind, as every array has a place of its own there
TWO_TYPES = """
template <class T> __device__ T* buffer() { extern __shared__ T raw[]; return raw; }
__global__ void k(float* x) { x[0] = buffer<float>()[0] + buffer<double>()[0]; }
"""
ARCHS = [80, 90]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("file", INSTANCES)
def test_samples_compile(file, arch):
    if arch not in nvrtc.supported_archs():
        pytest.skip(f"this NVRTC has no sm_{arch}")
    exprs = [e.format(t=t) for e in INSTANCES[file] for t in ("float", "double")]
    report = nvrtc.compile(cases.text(file), exprs, arch)
    assert set(report) == set(exprs)
    for e, used in report.items():
        assert set(used) == {"regs", "spill", "stack", "smem"}
        assert 0 < used["regs"] <= 255, e
        assert used["spill"] == 0, e


def test_static_shared_memory_is_reported():
    used = nvrtc.compile(cases.text("dense.cu"), ["transpose<float>", "axpy<float>"], 90)
    assert used["transpose<float>"]["smem"] == 32 * 33 * 4
    assert used["axpy<float>"]["smem"] == 0


def test_spills_are_reported():
    text = """
    __global__ void __launch_bounds__(1024, 2) heavy(const double* x, double* y) {
      double v[96];
      for (int i = 0; i < 96; i++) v[i] = x[threadIdx.x + 1024 * i];
      __syncthreads();
      for (int k = 0; k < 96; k++)
        for (int i = 0; i < 96; i++) v[i] = v[i] * v[(i + 1) % 96] + v[k];
      for (int i = 0; i < 96; i++) y[threadIdx.x + 1024 * i] = v[i];
    }
    """
    used = nvrtc.compile(text, ["heavy"], 90)["heavy"]
    assert used["spill"] > 0 or used["stack"] > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__global__ void k(float* x) { x[0] = undefined; }", "undefined"),
        ("#include <cmath>\n__global__ void k(float* x) { x[0] = 1; }", "cmath"),
        (
            TWO_TYPES,
            "raw",
        ),
    ],
)
def test_errors_are_nvrtcs_own(text, said):
    with pytest.raises(nvrtc.NvrtcError, match=said):
        nvrtc.compile(text, ["k"], 90)


def test_missing_library_says_what_to_install(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(nvrtc.ctypes, "CDLL", absent)
    monkeypatch.setattr(nvrtc.sysconfig, "get_path", lambda name: "nowhere")
    nvrtc.library.cache_clear()
    try:
        with pytest.raises(nvrtc.NvrtcError, match="pip install nvidia-cuda-nvrtc"):
            nvrtc.library()
    finally:
        nvrtc.library.cache_clear()
