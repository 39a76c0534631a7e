"""The sample kernels with what they are run on: each `run_*` launches a source and says whether the answer is right."""

import pathlib
import re

import cupy
import numpy as np

SAMPLES = pathlib.Path(__file__).parent / "samples"


def text(name: str) -> str:
    """A sample with its headers pasted in, as ntsolve's loader does it."""
    return re.sub(r'^#include "([^"]+)"\n', lambda m: text(m[1]), (SAMPLES / name).read_text(), flags=re.M)


def own_text(name: str) -> str:
    """A sample, or a header, alone."""
    return re.sub(r'^#include "([^"]+)"\n', "", (SAMPLES / name).read_text(), flags=re.M)


def kernel(code: str, name: str):
    return cupy.RawModule(code=code, options=("--std=c++17",), name_expressions=[name]).get_function(name)


def ctype(dtype) -> str:
    return {"float32": "float", "float64": "double"}[np.dtype(dtype).name]


def rng():
    return np.random.default_rng(20240607)


def close(got, want, dtype) -> bool:
    return bool(np.allclose(cupy.asnumpy(got), want, rtol=1e-4 if dtype == np.float32 else 1e-10, atol=1e-5))


def device(*arrays):
    return tuple(cupy.asarray(a) for a in arrays)


def run_lse(code, dtype=np.float32, m=1000, block=128, threads=None, ld_type=np.int64):
    n, r = 6, rng()
    C, g, logb = r.random((n, m)).astype(dtype), r.random(m).astype(dtype), np.full(m, -np.log(m), dtype)
    out = cupy.empty(n, dtype)
    lse = kernel(code, f"lse_rows<{ctype(dtype)},{block}>")
    lse((n,), (threads or block,), (*device(C, g, logb), out, dtype(0.1), np.int32(m), ld_type(m)))
    v = (g - C).astype(float) / 0.1 + logb
    top = v.max(1)
    return close(out, -0.1 * (top + np.log(np.exp(v - top[:, None]).sum(1))), dtype)


def run_pcg(code, dtype=np.float32, n=70, batch=3, missing=0):
    r = rng()
    A = r.standard_normal((batch, n, n))
    A = (A @ A.transpose(0, 2, 1) + n * np.eye(n)).astype(dtype)
    b = r.standard_normal((batch, n)).astype(dtype)
    x, nit = cupy.empty((batch, n), dtype), cupy.empty(batch, np.int32)
    pcg = kernel(code, f"pcg_batched<{ctype(dtype)},64>")
    size = 3 * n * np.dtype(dtype).itemsize - missing
    pcg((batch,), (64,), (*device(A, b), x, nit, np.int32(n), np.int32(100), dtype(1e-6)), shared_mem=size)
    return close(x, np.linalg.solve(A.astype(float), b[..., None].astype(float))[..., 0], dtype)


def run_spmv(code, dtype=np.float32, rows=99, blocks=None, values=None):
    import scipy.sparse as sp

    S = sp.random_array((rows, 80), density=0.3, format="csr", rng=rng()).astype(dtype)
    x, y = rng().random(80).astype(dtype), cupy.empty(rows, dtype)
    spmv = kernel(code, f"spmv_csr<{ctype(dtype)}>")
    data = S.data if values is None else S.data.astype(values)
    args = device(S.indptr.astype(np.int32), S.indices.astype(np.int32), data, x)
    spmv((blocks or -(-rows * 32 // 128),), (128,), (*args, y, np.int32(rows)))
    return close(y, S @ x, dtype)


def run_stencil(code, dtype=np.float32, in_place=False):
    nx, ny, nz = 37, 21, 5
    u, f = (rng().random((nz, ny, nx)).astype(dtype) for _ in range(2))
    du, df = device(u, f)
    out = du if in_place else cupy.empty(u.shape, dtype)
    sizes = (np.int32(nx), np.int32(ny), np.int32(nz))
    kernel(code, f"jacobi7<{ctype(dtype)},32,8>")(
        (-(-nx // 32), -(-ny // 8)), (32, 8), (du, df, out, *sizes, dtype(0.01), dtype(0.8))
    )
    p = np.pad(u, 1)
    nb = (
        p[2:, 1:-1, 1:-1]
        + p[:-2, 1:-1, 1:-1]
        + p[1:-1, 2:, 1:-1]
        + p[1:-1, :-2, 1:-1]
        + p[1:-1, 1:-1, 2:]
        + p[1:-1, 1:-1, :-2]
    )
    return close(out, u + 0.8 * ((0.01 * f + nb) / 6 - u), dtype)


def run_histogram(code, dtype=np.float32, top=7):
    keys = rng().integers(0, top, 400).astype(np.int32)
    h = cupy.zeros(7, dtype)
    kernel(code, f"histogram<{ctype(dtype)},7>")((3,), (64,), (*device(keys), h, np.int32(400)))
    return close(h, np.bincount(keys, minlength=7), dtype)


def run_swap(code, dtype=np.float32):
    x, y = rng().random(64).astype(np.float32), cupy.empty(64, np.float32)
    kernel(code, "swap_neighbours")((1,), (64,), (*device(x), y))
    return close(y, x[np.arange(64) ^ 1], np.float32)


def run_cholesky(code, dtype=np.float32, n=23):
    A = rng().standard_normal((4, n, n))
    A = (A @ A.transpose(0, 2, 1) + n * np.eye(n)).astype(dtype)
    L = cupy.empty(A.shape, dtype)
    kernel(code, f"cholesky<{ctype(dtype)}>")((4,), (32,), (*device(A), L, np.int32(n)))
    return close(L, np.linalg.cholesky(A.astype(float)), dtype)


def run_scan(code, dtype=np.float32):
    x = rng().random((3, 128)).astype(dtype)
    y = cupy.empty((3, 128), dtype)
    kernel(code, f"scan<{ctype(dtype)},128>")((3,), (128,), (*device(x), y))
    return close(y, x.astype(float).cumsum(1), dtype)


def run_positives(code, dtype=np.float32, n=300):
    x = rng().standard_normal(n).astype(dtype)
    out, count = cupy.zeros(n, dtype), cupy.zeros(1, np.int32)
    kernel(code, f"positives<{ctype(dtype)}>")((-(-n // 128),), (128,), (*device(x), out, count, np.int32(n)))
    got = int(count[0])
    return got == (x > 0).sum() and close(np.sort(out.get()[:got]), np.sort(x[x > 0]), dtype)


def run_transpose(code, dtype=np.float32):
    a = rng().random((45, 70)).astype(dtype)
    b = cupy.empty((70, 45), dtype)
    kernel(code, f"transpose<{ctype(dtype)}>")((3, 2), (32, 8), (*device(a), b, np.int32(45), np.int32(70)))
    return close(b, a.T, dtype)


def run_axpy(code, dtype=np.float32, n=1003, offset=0):
    x, y = rng().random(n + offset).astype(dtype), rng().random(n).astype(dtype)
    dx, dy = device(x, y)
    kernel(code, f"axpy<{ctype(dtype)}>")((2,), (64,), (dtype(0.5), dx[offset:], dy, np.int32(n)))
    return close(dy, y + dtype(0.5) * x[offset:], dtype)


def run_dot(code, dtype=np.float32, n=1000):
    x, y = rng().random(n).astype(dtype), rng().random(n).astype(dtype)
    out = cupy.zeros(1, np.float64)
    kernel(code, f"dot<{ctype(dtype)},64>")((4,), (64,), (*device(x, y), out, np.int32(n)))
    return close(out, x.astype(float) @ y, np.float32)


def run_product(code, dtype=np.float32, transposed=True, bias=False, ld_pad=0):
    rows, cols = 37, 50
    A, x = rng().random((rows, cols)).astype(dtype), rng().random(rows if transposed else cols).astype(dtype)
    n = cols if transposed else rows
    b, y = rng().random(n).astype(dtype), cupy.empty(n, dtype)
    args = (
        *device(A, x),
        cupy.asarray(b) if bias else np.uintp(0),
        y,
        np.int32(rows),
        np.int32(cols),
        np.int64(cols + ld_pad),
    )
    product = kernel(code, f"product<{ctype(dtype)},{str(transposed).lower()},8>")
    product((1,), (32,), args, shared_mem=x.nbytes)
    return close(y, (A.T if transposed else A) @ x + (b if bias else 0), dtype)


RUN = {
    "lse": ("lse.cu", run_lse),
    "pcg": ("pcg.cu", run_pcg),
    "spmv": ("spmv.cu", run_spmv),
    "stencil": ("stencil.cu", run_stencil),
    "histogram": ("histogram.cu", run_histogram),
    "swap": ("warps.cu", run_swap),
    "cholesky": ("warps.cu", run_cholesky),
    "scan": ("warps.cu", run_scan),
    "positives": ("warps.cu", run_positives),
    "transpose": ("dense.cu", run_transpose),
    "axpy": ("dense.cu", run_axpy),
    "dot": ("dense.cu", run_dot),
    "product": ("dense.cu", run_product),
}
