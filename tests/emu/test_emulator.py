"""What the emulator offers to kernels exists in CUDA and computes what CUDA computes; and the tools around it."""

import re

import cupy
import numpy as np
import pytest

from tests import nvrtc
from tests.conftest import REAL_GPU
from tests.emu import barriers, build, cases, control, source
from tests.emu.errors import EmuError

NAMES = ["arithmetic", "vectors", "warps"]
emulated = pytest.mark.skipif(REAL_GPU, reason="about the emulator")


def offered() -> set[str]:
    """Names that the headers give to kernels."""
    text = source.blank_comments("".join((build.HERE / h).read_text() for h in build.HEADERS))
    functions = set(
        re.findall(r"^(?:template <[^>]*> )?(?:EMU_UNCHECKED )?(?:static )?inline [\w ]+?\*? ?(\w+)\(", text, re.M)
    )
    functions |= set(re.findall(r"using std::(\w+);", text))
    functions |= set(re.findall(r"^(?:EMU_[A-Z_]+\()(__\w+|atomic\w+)", text, re.M))
    functions |= {
        f"{name}_{way}" for name in re.findall(r"EMU_CONVERT\((__\w+)", text) for way in ("rn", "rz", "rd", "ru")
    }
    functions |= {n for n in re.findall(r"^#define (\w+)", text, re.M) if not n.startswith("EMU")}
    return {n for n in functions if not n.startswith(("emu_", "make_", "EMU")) and not n.endswith("_rn_")}


# what only a declaration can use, what other samples have, and what is refused on purpose
DECLARATIVE = {
    "__global__",
    "__device__",
    "__syncthreads",
    "__activemask",
    "__host__",
    "__forceinline__",
    "__noinline__",
    "__constant__",
    "__restrict__",
    "__align__",
    "uint3",
    "blockIdx",
    "threadIdx",
}


def test_the_sample_uses_every_name():
    used = set(re.findall(r"\w+", cases.text("names.cu")))
    missing = (
        {re.sub(r"__(float2int|double2int|float2ll|double2ll)$", r"__\1_rn", n) for n in offered()} - used - DECLARATIVE
    )
    assert not missing


@pytest.mark.skipif(not nvrtc.is_available() and not nvrtc.required(), reason=f"pip install {nvrtc.WHEEL}")
@pytest.mark.parametrize("arch", [80, 90])
def test_cuda_has_every_name(arch):
    assert set(nvrtc.compile(cases.text("names.cu"), NAMES, arch)) == set(NAMES)


@emulated
def test_every_name_runs():
    code = cases.text("names.cu")
    x, y, out = cupy.asarray(np.array([0.5, 0.25], np.float32)), cupy.asarray([0.5, 0.25]), cupy.empty(2)
    cases.kernel(code, "arithmetic")((1,), (1,), (x, y, out))
    assert np.isfinite(out.get()).all()
    a, b, c = cupy.ones((8, 4), np.float32), cupy.ones(2), cupy.ones(2, np.int32)
    result = cupy.empty(8, np.float32)
    cases.kernel(code, "vectors")((1,), (8,), (a, b, c, result))
    assert result.get().tolist() == [48.0] * 8
    numbers = [cupy.zeros(2, t) for t in ("int32", "uint32", "uint64", "int64", "float32", "float64", "uint16")]
    cases.kernel(code, "warps")((1,), (64,), tuple(numbers))
    _, words, longs, signeds, floats, doubles, shorts = (n.get() for n in numbers)
    assert (signeds[0], floats[0], doubles[0], shorts[0]) == (1, 64, 64, 1)
    assert longs[0] in (64, 65)  # one more where the compare-and-swap met a 1
    assert doubles[1] == 3 + 1 + 1 + 1 + 7
    wanted = 0xFFFFFFF0 + 1 + 0 + 3 + 496 + 0 + 31 + 3 + 4 + 56 + 1 + 0
    assert words[1] == wanted % 2**32


@emulated
def test_lanes_that_returned_do_not_hold_up_a_warp_barrier():
    code = """extern "C" __global__ void k(float* x, int n) {
      __shared__ float s[32];
      if (threadIdx.x >= n) return;
      s[threadIdx.x] = threadIdx.x;
      __syncwarp();
      x[threadIdx.x] = s[n - 1 - threadIdx.x];
    }"""
    for schedule in range(4):
        with control.schedule(schedule):
            x = cupy.empty(20, np.float32)
            cupy.RawModule(code=code).get_function("k")((1,), (32,), (x, np.int32(20)))
            assert x.get().tolist() == list(range(20))[::-1]


@emulated
def test_shared_arrays_are_no_better_aligned_than_promised():
    code = """extern "C" __global__ void k(float* x) {
      ALIGN __shared__ float s[8];
      for (int i = 0; i < 8; i++) s[i] = i;
      x[0] = reinterpret_cast<float4*>(s)[1].y;
    }"""
    x = cupy.empty(1, np.float32)
    with pytest.raises(EmuError, match="the type needs 16 bytes"):
        cupy.RawModule(code=code.replace("ALIGN ", "")).get_function("k")((1,), (1,), (x,))
    aligned = code.replace("ALIGN __shared__", "__shared__ __align__(16)")
    cupy.RawModule(code=aligned).get_function("k")((1,), (1,), (x,))
    assert float(x[0]) == 5


@emulated
def test_message_names_the_line_and_its_file():
    code = '#line 1 "helper.cuh"\n__device__ float get(const float* x, int i) {\n  return x[i];\n}\n'
    code += '#line 1 "main.cu"\nextern "C" __global__ void k(const float* x, float* y) { y[0] = get(x, 9); }\n'
    with pytest.raises(EmuError, match=r"helper.cuh:2 .*called from main.cu:1.* `return x\[i\];`"):
        cupy.RawModule(code=code).get_function("k")((1,), (1,), (cupy.ones(9, np.float32), cupy.ones(1, np.float32)))


def test_translation_keeps_lines():
    text = """// __shared__ float a[3];
    __shared__ float a[3], b;
    __shared__ __align__(16) Pair<int,
        float> c[4][5];
    extern __shared__ unsigned char raw[];
    __global__ void __launch_bounds__(BX * BY, 2) k(int* x) { }"""
    new = source.translate(text).split("\n")
    assert len(new) == 6
    assert new[0].startswith("// __shared__")
    assert "EMU_SHARED(a, 0, float a_t[3])" in new[1]
    assert "EMU_SHARED(b, 0, float b_t)" in new[1]
    assert "EMU_SHARED(c, 16, Pair<int, float> c_t[4][5])" in new[2]
    assert "unsigned char* raw = (unsigned char*)emu_dynamic_shared();" in new[4]
    assert "{ emu_launch_bounds((BX * BY), __FILE__, __LINE__); }" in new[5]
    assert "__launch_bounds__" not in new[5]
    with pytest.raises(source.SourceError, match="no headers"):
        source.translate("  # include <cmath>\n")


def test_barriers_are_found_and_deleted():
    text = """a();
__syncthreads();  // __syncthreads();
if (x) __syncwarp(mask(y)); /* __syncwarp(); */
__syncthreads_count(1);
"""
    found = barriers.sites(text)
    assert [(s.line, s.kind) for s in found] == [(2, "__syncthreads"), (3, "__syncwarp")]
    assert "\nif (x) ; /*" in barriers.without(text, found[1])
    assert barriers.without(text, found[0]).count("\n") == text.count("\n")
    with pytest.raises(ValueError, match="no __syncwarp"):
        barriers.without(text, found[1]._replace(start=0))


def test_missing_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.compiler.cache_clear()
    try:
        with pytest.raises(build.BuildError, match="install g\\+\\+"):
            build.compiler()
    finally:
        build.compiler.cache_clear()


def test_options():
    assert build.flags(("--std=c++14", "-DN=3", "--use_fast_math")) == ("c++14", ("-DN=3",))
    with pytest.raises(build.BuildError, match="no-such-option"):
        build.flags(("--no-such-option",))


@emulated
def test_prebuild_fills_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EMU_CACHE", str(tmp_path))
    code = "template <int N> __global__ void k(int* x) { x[0] = N; }"
    build.prebuild([(code, [f"k<{n}>" for n in range(3)], ())], jobs=2)
    made = set(tmp_path.glob("*.so"))
    assert len(made) == 4  # and the runtime
    build.instance(code, "k<2>")
    assert set(tmp_path.glob("*.so")) == made
