"""One bug at a time in a correct kernel, or in its launch: the emulator must object, and say what it is."""

import re

import numpy as np
import pytest

from tests.conftest import REAL_GPU
from tests.emu import barriers, cases, control
from tests.emu.errors import EmuError

pytestmark = pytest.mark.skipif(REAL_GPU, reason="these kernels are wrong on purpose; a GPU is not to run them")

WRONG = "the answer is wrong"  # the emulator sees nothing illegal, the numbers do
UNWRITTEN = "read of .* nothing has written|read of .* no thread of this block has written"
F64 = np.float64

# name, sample, old text, new text, what must be said, options of the run
BUGS = [
    ("column too far", "lse", "j < m;", "j <= m;", r"illegal read of 4 bytes, 0 bytes past the end of argument 1", {}),
    ("sign", "lse", "-eps * (mx", "eps * (mx", WRONG, {}),
    (
        "shuffle in a branch",
        "lse",
        "const T om = __shfl_xor_sync(0xffffffffu, mx, d), os",
        "T om = mx; if (threadIdx.x & 1) om = __shfl_xor_sync(0xffffffffu, mx, d); const T os",
        "deadlock|different warp intrinsics",
        {},
    ),
    (
        "half a mask",
        "lse",
        "__shfl_xor_sync(0xffffffffu, mx",
        "__shfl_xor_sync(0xffffu, mx",
        "lane that is not in its mask",
        {},
    ),
    (
        "shuffle from outside the mask",
        "lse",
        "__shfl_xor_sync(0xffffffffu, mx, d)",
        "__shfl_xor_sync(threadIdx.x & 16 ? 0xffff0000u : 0xffffu, mx, d)",
        "reads a lane that is not in its mask",
        {},
    ),
    ("one warp combines too early", "lse", "if (threadIdx.x == 0) {", "if (threadIdx.x == 32) {", WRONG, {}),
    ("block too large", "lse", "", "", "__launch_bounds__ is 128", {"threads": 256}),
    ("int for long long", "lse", "", "", "int32 scalar where the kernel has int64", {"ld_type": np.int32}),
    ("active mask", "lse", "__shfl_xor_sync(0xffffffffu, mx", "__shfl_xor_sync(__activemask(), mx", "__activemask", {}),
    ("x never set", "pcg", "xb[i] = 0;", "", UNWRITTEN, {}),
    (
        "shared memory one element short",
        "pcg",
        "",
        "",
        r"outside the 836 bytes of dynamic shared memory",
        {"missing": 4},
    ),
    (
        "barrier in a loop of a part",
        "pcg",
        "pap += q * p[i];",
        "pap += q * p[i]; __syncthreads();",
        "divergent __syncthreads|returned|deadlock",
        {},
    ),
    (
        "some threads return before a barrier",
        "pcg",
        "T rz = 0, bn = 0;",
        "T rz = 0, bn = 0; if (threadIdx.x >= n) return;",
        "have returned|has returned|returns while",
        {"n": 33},
    ),
    (
        "size in int overflows",
        "pcg",
        "T rz = 0, bn = 0;",
        "T rz = 0, bn = 0; int total = n; for (int k = 0; k < 6; k++) total *= n; if (total == 1) maxit = 0;",
        "signed integer overflow",
        {},
    ),
    ("row guard missing", "spmv", "if (row >= rows) return;", "", "illegal read of 4 bytes", {}),
    ("row loop too far", "spmv", "k < ptr[row + 1]", "k <= ptr[row + 1]", "illegal read of 4 bytes", {}),
    (
        "lanes return one by one",
        "spmv",
        "if (row >= rows) return;",
        "if (row * 32 + lane >= rows * 32 - 5) return;",
        "has returned or does not exist|returns while lanes of its warp wait",
        {},
    ),
    ("grid rounded down", "spmv", "", "", UNWRITTEN + "|" + WRONG, {"blocks": 99 * 32 // 128}),
    (
        "values of the other dtype",
        "spmv",
        "",
        "",
        r"float64 array where the kernel has const float32\*",
        {"values": F64},
    ),
    (
        "write to an input",
        "spmv",
        "if (lane == 0) y[row] = s;",
        "if (lane == 0) { y[row] = s; const_cast<T*>(x)[0] = s; }",
        "got as const",
        {},
    ),
    (
        "indices one too large",
        "spmv",
        "x[col[k]]",
        "x[col[k] + 1]",
        "illegal read of 4 bytes, 0 bytes past the end of argument 3",
        {},
    ),
    ("halo never loaded", "stencil", "if (tx == BX - 1) s", "if (false) s", UNWRITTEN, {}),
    ("tile without halo", "stencil", "s[BY + 2][BX + 2]", "s[BY + 2][BX]", "index outside the bounds of an array", {}),
    ("edge guard missing", "stencil", "if (in) {", "if (i < nx) {", "race|illegal", {}),
    ("sweep in place", "stencil", "", "", "race between blocks", {"in_place": True}),
    (
        "count without atomics",
        "histogram",
        "atomicAdd(&local[keys[i]], 1)",
        "local[keys[i]] += 1",
        r"race .* on shared memory",
        {},
    ),
    (
        "sum of blocks without atomics",
        "histogram",
        "atomicAdd(&h[k], T(local[k]))",
        "h[k] += T(local[k])",
        "race between blocks",
        {},
    ),
    ("counters never zeroed", "histogram", "local[k] = 0;", ";", UNWRITTEN, {}),
    (
        "atomic and plain access",
        "histogram",
        "atomicAdd(&local[keys[i]], 1);",
        "{ if (i & 1) atomicAdd(&local[keys[i]], 1); else local[keys[i]]++; }",
        r"race .* on shared memory",
        {},
    ),
    ("key too large", "histogram", "", "", "illegal .* outside every __shared__ array|index outside", {"top": 9}),
    (
        "warp barrier for half the warp",
        "swap",
        "__syncwarp();",
        "if (threadIdx.x & 16) __syncwarp(0xffff0000u);",
        UNWRITTEN + "|race",
        {},
    ),
    (
        "warp barrier in a branch",
        "cholesky",
        "if (lane == j) s[j][j] = pivot;",
        "if (lane == j) { s[j][j] = pivot; __syncwarp(); }",
        "deadlock|different warp intrinsics",
        {},
    ),
    (
        "lane out of the block",
        "scan",
        "__shfl_up_sync(0xffffffffu, v, d);\n    if (lane >= d)",
        "__shfl_up_sync(0xffffffffu, v, d);\n    if (lane > d)",
        WRONG,
        {},
    ),
    (
        "vote in a branch",
        "positives",
        "const unsigned keep = __ballot_sync(0xffffffffu, v > T(0));",
        "unsigned keep = 0; if (i < n) keep = __ballot_sync(0xffffffffu, v > T(0));",
        "deadlock|different warp intrinsics|returns",
        {},
    ),
    (
        "no room reserved",
        "positives",
        "if (lane == 0) base = atomicAdd(count, __popc(keep));",
        "if (lane == 0) base = *count + 0 * __popc(keep);",
        "race|the answer is wrong",
        {},
    ),
    ("shift by the width", "positives", "(1u << lane) - 1", "(1u << (lane + 1)) - 1", "shift by", {}),
    (
        "tile transposed wrongly",
        "transpose",
        "tile[threadIdx.x][threadIdx.y + k];",
        "tile[threadIdx.y + k][threadIdx.x];",
        WRONG + "|" + UNWRITTEN,
        {},
    ),
    ("16-byte loads of an odd address", "axpy", "", "", "misaligned access: the type needs 16 bytes", {"offset": 1}),
    ("wide loop over the tail", "axpy", "i < n / W; i", "i < (n + W - 1) / W; i", "illegal read", {}),
    (
        "division by zero",
        "dot",
        "double s = 0;",
        "double s = n / (blockIdx.x - blockIdx.x + int(threadIdx.x / BLOCK));",
        "division by zero",
        {},
    ),
    ("sum in a register that was never set", "product", "for (int k = 0; k < K; k++) acc[k] = 0;", "", WRONG, {}),
    ("register array too short", "product", "T acc[K];", "T acc[K - 1];", "index outside the bounds", {}),
    (
        "null pointer",
        "product",
        "(bias ? bias[first + k] : T(0))",
        "bias[first + k]",
        "through a null pointer|null pointer",
        {},
    ),
    ("leading dimension too large", "product", "", "", "illegal read", {"ld_pad": 1}),
    (
        "too much static shared memory",
        "product",
        "T acc[K];",
        "T acc[K]; __shared__ double big[6145]; big[threadIdx.x] = 0;",
        "48 KiB",
        {},
    ),
    (
        "spinning on a flag",
        "dot",
        "double s = 0;",
        "double s = 0; if (threadIdx.x == 0) while (*(volatile double*)out == 0) {}",
        "no progress",
        {},
    ),
    (
        "write to a constant",
        "dot",
        "double s = 0;",
        "static int calls = 0; calls++; double s = 0;",
        "variable of the module",
        {},
    ),
]


PARAMETERS = ("sample", "old", "new", "said", "options")


def verdict(sample, code, options) -> str:
    try:
        return "" if cases.RUN[sample][1](code, **options) else WRONG
    except EmuError as e:
        return str(e)


def broken(sample, old, new) -> str:
    text = cases.text(cases.RUN[sample][0])
    assert old in text, f"the sample {sample} has no {old!r}"
    return text.replace(old, new, 1) if old else text


@pytest.mark.parametrize(PARAMETERS, [b[1:] for b in BUGS], ids=[f"{b[1]}: {b[0]}" for b in BUGS])
def test_bug_is_caught(sample, old, new, said, options):
    seen = verdict(sample, broken(sample, old, new), options)
    assert seen, "the emulator sees nothing wrong"
    assert re.search(said, seen), seen


def test_there_are_enough_bugs():
    assert len(BUGS) >= 30
    assert len({(b[1], b[0]) for b in BUGS}) == len(BUGS)


@pytest.mark.parametrize("dtype", [np.float32, F64])
@pytest.mark.parametrize("sample", cases.RUN)
def test_no_false_alarm(sample, dtype):
    file, run = cases.RUN[sample]
    for number in (0, 1, 7, 8, 9):
        with control.schedule(number):
            assert run(cases.text(file), dtype=dtype)


@pytest.mark.parametrize(("sample", "options"), [("lse", {"m": 1}), ("product", {"transposed": False, "bias": True})])
def test_no_false_alarm_at_the_edges(sample, options):
    assert cases.RUN[sample][1](cases.text(cases.RUN[sample][0]), **options)


def users(file) -> list[str]:
    """The samples that contain the text of a file."""
    raw = cases.own_text(file)
    return [s for s, (f, _) in cases.RUN.items() if raw in cases.text(f)]


BARRIERS = [
    (file.name, site)
    for file in sorted(cases.SAMPLES.iterdir())
    if users(file.name)
    for site in barriers.sites(cases.own_text(file.name))
]


@pytest.mark.parametrize(("file", "site"), BARRIERS, ids=[f"{f}:{s.line}" for f, s in BARRIERS])
def test_each_barrier_is_needed(file, site):
    raw = cases.own_text(file)
    deleted = barriers.without(raw, site)
    seen = [verdict(s, cases.text(cases.RUN[s][0]).replace(raw, deleted), {}) for s in users(file)]
    assert any(v and v != WRONG for v in seen), f"nobody misses the {site.kind} in line {site.line}"
