"""The stand-in for CuPy does what CuPy does, and refuses what CuPy would get silently wrong."""

import threading

import cupy
import cupyx.scipy.sparse as device_sparse
import cupyx.scipy.sparse.linalg as device_linalg
import numpy as np
import pytest
import scipy.sparse as sp

from tests.conftest import REAL_GPU
from tests.emu import cases, control, fakecupy
from tests.emu.errors import EmuError

pytestmark = pytest.mark.skipif(REAL_GPU, reason="about the stand-in")
ADD = """
extern "C" __global__ void add(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += x[i];
}
"""


@pytest.fixture
def add():
    return cupy.RawModule(code=ADD).get_function("add")


@pytest.fixture
def x():
    return cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))


# ---- host and device do not mix


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: np.asarray(x),
        lambda x: np.sum(x),
        lambda x: x + np.ones(3),
        lambda x: np.ones(3) + x,
        lambda x: np.ones((2, 3)) @ x.T,
        lambda x: cupy.exp(np.ones(3)),
        lambda x: cupy.where(x > 0, np.ones(3), x),
        lambda x: cupy.maximum(x, np.zeros(3)),
        lambda x: x.__setitem__(0, np.ones(3)),
        lambda x: x.__iadd__(np.ones(3)),
        lambda x: np.ones((2, 3)).__iadd__(x),
        lambda x: x + [1, 2, 3],
    ],
)
def test_mixing_host_and_device_is_an_error(x, expression):
    with pytest.raises(TypeError):
        expression(x)


def test_index_from_the_host_is_an_error(x):
    for index in (np.array([0]), [0]):
        with pytest.raises(EmuError, match="index of a device array"):
            x[index]


def test_type_name_says_cupy(x):
    assert type(x).__module__ == "cupy"
    assert type(device_sparse.csr_matrix(sp.eye_array(3))).__module__.startswith("cupyx.")
    assert cupy.get_array_module(x) is cupy
    assert cupy.get_array_module(np.ones(1)) is np


@pytest.mark.parametrize("name", ["linspace", "einsum", "random", "sync_count", "no_such_name"])
def test_unknown_names_fail(name):
    with pytest.raises(AttributeError):
        getattr(cupy, name)


def test_arrays_take_no_new_attributes(x):
    with pytest.raises(AttributeError):
        x.note = 1
    with pytest.raises(AttributeError):
        x.shape = (6,)


# ---- values as NumPy's


def test_arithmetic_is_numpys(x):
    h = x.get()
    for f in (
        lambda a, xp: a * 2 + 1 - a / 3,
        lambda a, xp: np.float32(2) * a,
        lambda a, xp: (a > 2) & ~(a == 4),
        lambda a, xp: a @ a.T,
        lambda a, xp: xp.exp2(-a).sum(axis=1),
        lambda a, xp: xp.where(a > 2, a, 0),
        lambda a, xp: xp.concatenate([a, a], axis=1),
        lambda a, xp: xp.stack([a, a]),
        lambda a, xp: xp.broadcast_to(a[0], (4, 3)),
        lambda a, xp: xp.expand_dims(a, 1) - a[None, ..., 1:2],
        lambda a, xp: a.T.reshape(-1)[::2],
        lambda a, xp: xp.linalg.norm(a),
        lambda a, xp: a.max(axis=0, keepdims=True) + a.min() + a.mean(),
        lambda a, xp: a.astype(xp.int64) // 2,
        lambda a, xp: xp.ldexp(*xp.frexp(a)),
        lambda a, xp: a.view(xp.int32),
    ):
        ours, theirs = f(x, cupy), np.asarray(f(h, np))
        assert isinstance(ours, cupy.ndarray)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.get(), theirs)


def test_numpy_scalar_on_the_left_keeps_the_device(x):
    y = np.float64(2) * x
    assert isinstance(y, cupy.ndarray)
    assert y.dtype == np.float64


def test_in_place_and_views(x):
    row = x[1]
    row += 10
    x[:, 0] = -1
    assert x.get().tolist() == [[-1, 1, 2], [-1, 14, 15]]
    assert row.base is x
    flat = x.ravel()
    flat[0] = 7
    assert float(x[0, 0]) == 7
    cupy.copyto(x, 3)
    cupy.multiply(x, 2, out=x)
    assert (x == 6).all()


def test_reductions_and_items_stay_on_the_device(x):
    assert isinstance(x.sum(), cupy.ndarray)
    assert isinstance(x[0, 0], cupy.ndarray)
    assert isinstance(cupy.linalg.norm(x), cupy.ndarray)


def test_selection_by_arrays(x):
    assert x[cupy.asarray([1, 0])].get().tolist() == [[3, 4, 5], [0, 1, 2]]
    assert x[x > 3].get().tolist() == [4, 5]
    x[x > 3] = 0
    assert float(x.sum()) == 6
    with pytest.raises(EmuError, match="wraps"):
        x[cupy.asarray([2])]
    with pytest.raises(EmuError, match="twice"):
        x[cupy.asarray([0, 0])] = cupy.zeros((2, 3))


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, object, "U3"])
def test_dtypes_that_cupy_lacks(dtype):
    if np.dtype(dtype) == np.float16:
        assert cupy.zeros(2, dtype).dtype == dtype
        return
    with pytest.raises(ValueError, match="dtype"):
        cupy.empty(2, dtype)


def test_reading_what_nothing_wrote():
    with pytest.raises(EmuError, match="nothing has written"):
        cupy.empty(3) + 1
    with control.unwritten_reads_allowed():
        assert np.isnan((cupy.empty(3) + 1).get()).all()
    half = cupy.empty(4)
    half[:2] = 0
    assert float(half[:2].sum()) == 0
    with pytest.raises(EmuError, match="nothing has written"):
        half.sum()


# ---- launches


def test_launch(add, x):
    y = cupy.ones((2, 3), np.float32)
    add((1,), (32,), (x, y, np.int32(6)))
    assert y.get().tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("replace", "said"),
    [
        ({2: 6}, "int where the kernel has int32"),
        ({2: 6.0}, "float where the kernel has int32"),
        ({2: True}, "bool where the kernel has int32"),
        ({2: np.int64(6)}, "int64 scalar where the kernel has int32"),
        ({2: np.array(6, np.int32)}, "ndarray where the kernel has int32"),
        ({0: None}, "NoneType where the kernel has a pointer"),
        ({0: 0}, "int where the kernel has a pointer"),
        ({0: np.zeros(6, np.float32)}, "ndarray where the kernel has a pointer"),
        ({0: np.uintp(8)}, "uint64 scalar where the kernel has a pointer"),
    ],
)
def test_arguments_of_the_wrong_type(add, x, replace, said):
    args = [x, x.copy(), np.int32(6)]
    for k, v in replace.items():
        args[k] = v
    with pytest.raises(EmuError, match=said):
        add((1,), (32,), tuple(args))


def test_arrays_that_a_kernel_cannot_take(add, x):
    y = x.copy()
    with pytest.raises(EmuError, match="float64 array where the kernel has const float32"):
        add((1,), (32,), (x.astype(np.float64), y, np.int32(6)))
    with pytest.raises(EmuError, match="not C-contiguous"):
        add((1,), (32,), (x.T, y, np.int32(6)))
    with pytest.raises(EmuError, match="2 arguments, the kernel has 3"):
        add((1,), (32,), (x, y))


def test_a_part_of_an_array_gives_no_access_to_the_rest(add):
    x, y = cupy.ones(64, np.float32), cupy.ones(64, np.float32)
    add((1,), (32,), (x[8:16], y[4:12], np.int32(8)))
    assert y.get().sum() == 72
    with pytest.raises(EmuError, match="0 bytes past the end of argument 0"):
        add((1,), (32,), (x[8:16], y, np.int32(9)))


def test_array_without_elements_is_a_null_pointer(add):
    nothing = cupy.empty(0, np.float32)
    assert nothing.data.ptr == 0
    add((1,), (32,), (nothing, nothing, np.int32(0)))
    with pytest.raises(EmuError, match="null pointer"):
        add((1,), (32,), (nothing, nothing, np.int32(1)))


@pytest.mark.parametrize(
    ("grid", "block"),
    [((0,), (32,)), ((1,), (0,)), ((1,), (1025,)), ((1,), (1, 1, 65)), ((1, 65536), (1,)), ((1.0,), (1,)), ((), (1,))],
)
def test_geometry_that_a_gpu_refuses(add, x, grid, block):
    with pytest.raises(EmuError):
        add(grid, block, (x, x.copy(), np.int32(6)))


def test_geometry_must_be_tuples(add, x):
    for grid, block in (([1], (1,)), (1, (1,))):
        with pytest.raises(TypeError):
            add(grid, block, (x, x.copy(), np.int32(6)))


def test_dynamic_shared_memory_needs_permission():
    code = """extern "C" __global__ void fill(float* y, int n) {
      extern __shared__ float s[];
      s[n - 1] = 1;
      y[0] = s[n - 1];
    }"""
    fill, y = cupy.RawModule(code=code).get_function("fill"), cupy.empty(1, np.float32)
    n = 50 << 10
    with pytest.raises(EmuError, match="max_dynamic_shared_size_bytes"):
        fill((1,), (1,), (y, np.int32(n // 4)), shared_mem=n)
    fill.max_dynamic_shared_size_bytes = n
    fill((1,), (1,), (y, np.int32(n // 4)), shared_mem=n)
    assert float(y[0]) == 1
    with pytest.raises(EmuError, match="INVALID_VALUE"):
        fill.max_dynamic_shared_size_bytes = 228 << 10


def test_modules_are_strict():
    with pytest.raises(EmuError, match="NOT_FOUND"):
        cupy.RawModule(code=ADD, name_expressions=["add<float>"]).get_function("subtract")
    with pytest.raises(TypeError, match="tuple"):
        cupy.RawModule(code=ADD, options=["--std=c++17"])
    with pytest.raises(EmuError, match="no headers"):
        cupy.RawModule(code="#include <cmath>\n" + ADD).get_function("add")
    with pytest.raises(EmuError, match="no_such_function"):
        cupy.RawModule(code=ADD.replace("x[i]", "no_such_function(x[i])")).get_function("add")
    code = 'extern "C" __global__ void k(long long* x) { atomicAdd(x, 1LL); }'  # CUDA has it for unsigned only
    with pytest.raises(EmuError, match="invalid conversion"):
        cupy.RawModule(code=code).get_function("k")


def test_freed_memory_is_seen():
    """A kernel that keeps an address from an earlier launch; the emulator does not use the address again."""
    code = """
    extern "C" __global__ void keep(float* x, long long* kept) { kept[0] = (long long)x; }
    extern "C" __global__ void use(const long long* kept) { *(float*)kept[0] = 1; }
    """
    module, kept = cupy.RawModule(code=code), cupy.zeros(1, np.int64)
    keep, use = module.get_function("keep"), module.get_function("use")
    x = cupy.zeros(4, np.float32)
    keep((1,), (1,), (x, kept))
    with pytest.raises(EmuError, match="not an argument of this launch"):
        use((1,), (1,), (kept,))
    del x
    for _ in range(100):
        cupy.zeros(4, np.float32)
    with pytest.raises(EmuError, match="in a device array that has been freed"):
        use((1,), (1,), (kept,))


# ---- devices and the pool


def test_two_devices(add, x):
    assert cupy.cuda.runtime.getDeviceCount() == 2
    with cupy.cuda.Device(1) as device:
        y = cupy.ones((2, 3), np.float32)
        assert y.device == device
        assert cupy.cuda.Device().id == 1
        with pytest.raises(EmuError, match="array of device 0"):
            add((1,), (32,), (x, y, np.int32(6)))
        with pytest.raises(EmuError, match="array of device 0"):
            x + y
    assert cupy.cuda.Device().id == 0
    with pytest.raises(EmuError, match="array of device 1"):
        y += 1
    with pytest.raises(EmuError, match="ordinal"), cupy.cuda.Device(2):
        pass


def test_pool_limit():
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    used = pool.used_bytes()
    a = cupy.zeros(1000)
    assert pool.used_bytes() == used + 8192
    try:
        pool.set_limit(size=used + (1 << 20))
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match=r"allocating 2,097,152 bytes .* limit set to"):
            cupy.empty(1 << 18)
        with pytest.raises(MemoryError):
            cupy.empty(1 << 18)
        cupy.empty(1 << 16)
    finally:
        pool.set_limit(size=0)
    del a
    assert pool.used_bytes() == used
    assert pool.total_bytes() > used
    pool.free_all_blocks()
    assert pool.total_bytes() == used


# ---- counters, threads, sparse, DLPack


def test_counters(add, x):
    y = x.copy()
    before = control.counts()
    add((1,), (32,), (x, y, np.int32(6)))
    y *= 2
    assert (control.counts() - before) == control.Counts(launches=1, array_ops=1)
    float(y[0, 0]), bool((y > 0).any()), y.get(), int(y[0, 0]), y.sum().item(), cupy.asnumpy(y), y[y > 0]
    assert (control.counts() - before).syncs == 7
    cupy.cuda.Device().synchronize()
    cupy.cuda.get_current_stream().synchronize()
    assert (control.counts() - before).syncs == 9
    cupy.asarray(np.ones(3))
    assert (control.counts() - before).uploads == 1
    assert fakecupy.sync_count() == control.counts().syncs
    assert fakecupy.launch_count() == control.counts().launches


def test_eight_threads():
    failures = []

    def work(k):
        try:
            for _ in range(5):
                assert cases.run_pcg(cases.text("pcg.cu"), n=20 + k)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_sparse():
    A = sp.random_array((20, 30), density=0.3, format="coo", rng=np.random.default_rng(0))
    D = device_sparse.csr_matrix(A)
    v, B = cupy.arange(30.0), cupy.ones((30, 2))
    np.testing.assert_allclose((D @ v).get(), A @ v.get())
    np.testing.assert_allclose((D @ B).get(), A @ B.get())
    np.testing.assert_allclose(D.diagonal().get(), A.diagonal())
    np.testing.assert_allclose(D.tocsc().tocoo().tocsr().toarray().get(), A.toarray())
    assert D.indices.dtype == D.indptr.dtype == np.int32
    assert device_sparse.issparse(D)
    assert not device_sparse.issparse(A)
    again = device_sparse.csr_matrix((D.data, D.indices, D.indptr), shape=D.shape)
    assert again.data is D.data
    assert isinstance(D.get(), sp.csr_matrix)
    operator = device_linalg.aslinearoperator(D)
    np.testing.assert_allclose(operator.rmatvec(cupy.ones(20)).get(), A.T @ np.ones(20))
    with pytest.raises(ValueError, match="Only bool, float32"):
        device_sparse.csr_matrix(sp.csr_array(np.eye(3, dtype=np.int32)))
    with pytest.raises(TypeError):
        D @ np.ones(30)


def test_dlpack_shares_memory(x):
    class Foreign:  # as torch or JAX would hold it
        __dlpack__ = lambda self, **kw: x.__dlpack__(**kw)
        __dlpack_device__ = lambda self: x.__dlpack_device__()

    assert x.__dlpack_device__() == (2, 0)
    y = cupy.from_dlpack(Foreign())
    assert y.data.ptr == x.data.ptr
    y += 1
    assert float(x[0, 0]) == 1
    with pytest.raises(ValueError, match="CUDA device"):
        cupy.from_dlpack(np.ones(3))
