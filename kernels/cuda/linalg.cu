// CUDA twins of contracts/linalg.py. Vectors are (batch, n); `work` is (batch, 2, blocks), blocks = ceil(n / ELEMENTS).
// Kernels over vectors run one block of THREADS for each system and ELEMENTS of it: blockIdx.x = system * blocks + block.
// What they add up goes to `work` and is summed in a second launch, in a fixed order.
#include "cg.cuh"
#include "exact.cuh"

#define THREADS 256
#define ELEMENTS 2048

struct Span {  // the part of a vector that a block works on
  int system, block, low, high;
  long long start;  // of the system's row
  __device__ Span(int n, int blocks) {
    system = blockIdx.x / blocks;
    block = blockIdx.x % blocks;
    low = block * ELEMENTS;
    high = min(low + ELEMENTS, n);
    start = (long long)system * n;
  }
  __device__ double* work(double* all, int blocks, int slot) const {
    return all + ((long long)system * 2 + slot) * blocks + block;
  }
};

// ---- products ------------------------------------------------------------------------------------------------------

// y = A x, CSR, WIDTH lanes a row. A block does ELEMENTS rows, so that the sums of csr_matvec_dot fit `work`.
template <typename T, typename I, int WIDTH, bool DOT>
__device__ void csr_rows(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
                         const T* __restrict__ x, T* __restrict__ y, double* __restrict__ work, int batch, int n, int m,
                         int blocks) {
  const int lane = threadIdx.x % WIDTH, first = blockIdx.x * ELEMENTS + threadIdx.x / WIDTH;
  const int high = min((blockIdx.x + 1) * ELEMENTS, n);
  for (int s = 0; s < batch; s++) {  // from the second system on, the rows come from cache
    const T* xs = x + (long long)s * m;
    double sum = 0;
    for (int base = first - threadIdx.x / WIDTH; base < high; base += THREADS / WIDTH) {
      const int row = base + threadIdx.x / WIDTH;
      double total = 0;
      if (row < high) {
        const I end = indptr[row + 1];
        for (I k = indptr[row] + lane; k < end; k += WIDTH) total += double(data[k]) * double(xs[indices[k]]);
      }
      total = group_sum<WIDTH>(total);  // all lanes of the warp are here
      if (row < high && lane == 0) {
        const T value = T(total);
        y[(long long)s * n + row] = value;
        if (DOT) sum += double(xs[row]) * double(value);
      }
    }
    if (DOT) {
      sum = block_sum<THREADS>(sum);
      if (threadIdx.x == 0) work[(long long)s * 2 * blocks + blockIdx.x] = sum;
    }
  }
}

template <typename T, typename I, int WIDTH>
__global__ void __launch_bounds__(THREADS)
csr_matvec(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data, const T* __restrict__ x,
           T* __restrict__ y, int batch, int n, int m) {
  csr_rows<T, I, WIDTH, false>(indptr, indices, data, x, y, nullptr, batch, n, m, 0);
}

template <typename T, typename I, int WIDTH>
__global__ void __launch_bounds__(THREADS)
csr_matvec_dot(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
               const T* __restrict__ p, T* __restrict__ q, double* __restrict__ work, int batch, int n, int blocks) {
  csr_rows<T, I, WIDTH, true>(indptr, indices, data, p, q, work, batch, n, n, blocks);
}

// y = A x, dense, a warp a row. `stack` is 1, or batch.
template <typename T>
__global__ void __launch_bounds__(THREADS)
dense_matvec(const T* __restrict__ A, const T* __restrict__ x, T* __restrict__ y, int stack, int batch, int n, int m) {
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= n) return;  // whole warps leave together
  for (int s = blockIdx.y; s < batch; s += gridDim.y) {
    const T* a = A + ((long long)(stack == 1 ? 0 : s) * n + row) * m;
    const T* xs = x + (long long)s * m;
    double total = 0;
    for (int j = lane; j < m; j += 32) total += double(a[j]) * double(xs[j]);
    total = group_sum<32>(total);
    if (lane == 0) y[(long long)s * n + row] = T(total);
  }
}

// r = b - A x, CSR, a thread a row.
template <typename T, typename I>
__global__ void __launch_bounds__(THREADS)
csr_residual(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
             const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ r, int batch, int n, int m) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  for (int s = 0; s < batch; s++) {
    Exact sum{double(b[(long long)s * n + i])};
    for (I k = indptr[i]; k < indptr[i + 1]; k++)
      sum.subtract_product(double(data[k]), double(x[(long long)s * m + indices[k]]));
    r[(long long)s * n + i] = T(sum.value());
  }
}

// r = b - A x, dense, a warp a row. `stack` is 1, or batch.
template <typename T>
__global__ void __launch_bounds__(THREADS)
dense_residual(const T* __restrict__ A, const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ r, int stack,
               int batch, int n, int m) {
  const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= n) return;  // whole warps leave together
  for (int s = blockIdx.y; s < batch; s += gridDim.y) {
    const T* a = A + ((long long)(stack == 1 ? 0 : s) * n + row) * m;
    Exact sum{lane == 0 ? double(b[(long long)s * n + row]) : 0.0};
    for (int j = lane; j < m; j += 32) sum.subtract_product(double(a[j]), double(x[(long long)s * m + j]));
    sum.over_warp();
    if (lane == 0) r[(long long)s * n + row] = T(sum.value());
  }
}

// ---- reductions ----------------------------------------------------------------------------------------------------

// Sum of one slot of `work` for each system, by WIDTH threads of which a block has one group.
template <int WIDTH>
__device__ double slot_sum(const double* __restrict__ work, int system, int slot, int blocks) {
  const double* w = work + ((long long)system * 2 + slot) * blocks;
  double sum = 0;
  for (int b = threadIdx.x; b < blocks; b += WIDTH) sum += w[b];
  if (WIDTH == 32) return group_sum<32>(sum);
  return block_sum<WIDTH>(sum);
}

// out0, out1: the sums of the slots, one block a system; out1 may be null.
template <int WIDTH>
__global__ void __launch_bounds__(WIDTH)
total(const double* __restrict__ work, double* __restrict__ out0, double* __restrict__ out1, int blocks) {
  const double sum0 = slot_sum<WIDTH>(work, blockIdx.x, 0, blocks);
  if (threadIdx.x == 0) out0[blockIdx.x] = sum0;
  if (out1 == nullptr) return;
  const double sum1 = slot_sum<WIDTH>(work, blockIdx.x, 1, blocks);
  if (threadIdx.x == 0) out1[blockIdx.x] = sum1;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
dot(const T* __restrict__ x, const T* __restrict__ y, double* __restrict__ work, int n, int blocks) {
  const Span span(n, blocks);
  const T *xs = x + span.start, *ys = y + span.start;
  double sum = 0;
  for (int i = span.low + threadIdx.x; i < span.high; i += THREADS) sum += double(xs[i]) * double(ys[i]);
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) *span.work(work, blocks, 0) = sum;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
norm(const T* __restrict__ x, double* __restrict__ work, int n, int blocks) {
  const Span span(n, blocks);
  const T* xs = x + span.start;
  double top = 0, sum = 0;
  for (int i = span.low + threadIdx.x; i < span.high; i += THREADS) top = larger(fabs(double(xs[i])), top);
  top = block_max<THREADS>(top);
  if (top > 0 && finite(top))
    for (int i = span.low + threadIdx.x; i < span.high; i += THREADS) {
      const double part = double(xs[i]) / top;
      sum += part * part;
    }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) {
    *span.work(work, blocks, 0) = top;
    *span.work(work, blocks, 1) = sum;
  }
}

// One block of 32 threads a system.
__global__ void __launch_bounds__(32) norm_total(const double* __restrict__ work, double* __restrict__ out, int blocks) {
  const double *tops = work + (long long)blockIdx.x * 2 * blocks, *sums = tops + blocks;
  double top = 0, sum = 0;
  for (int b = threadIdx.x; b < blocks; b += 32) top = larger(tops[b], top);
  for (int d = 16; d; d >>= 1) top = larger(top, __shfl_xor_sync(FULL_WARP, top, d));
  if (top > 0 && finite(top))
    for (int b = threadIdx.x; b < blocks; b += 32) {
      const double part = tops[b] / top;
      sum += sums[b] * part * part;
    }
  sum = group_sum<32>(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum > 0 ? top * sqrt(sum) : top;
}

// ---- conjugate gradients -------------------------------------------------------------------------------------------

// dinv may be null; dinv_rows is 1, or batch.
template <typename T>
__global__ void __launch_bounds__(THREADS)
cg_update(const T* __restrict__ p, const T* __restrict__ q, const T* __restrict__ dinv, const double* __restrict__ rz_old,
          const double* __restrict__ pq, const double* __restrict__ rr_old, const double* __restrict__ tol2,
          T* __restrict__ x, T* __restrict__ r, double* __restrict__ work, int dinv_rows, int n, int blocks) {
  const Span span(n, blocks);
  const int s = span.system;
  double rr = rr_old[s];
  if (!goes_on(rr, rz_old[s], pq[s], tol2[s])) return;  // the whole block
  const double alpha = rz_old[s] / pq[s];
  const T* d = dinv == nullptr ? nullptr : dinv + (dinv_rows == 1 ? 0 : span.start);
  double sum_rr = 0, sum_rz = 0;
  for (int i = span.low + threadIdx.x; i < span.high; i += THREADS) {
    const long long at = span.start + i;
    x[at] = T(double(x[at]) + alpha * double(p[at]));
    const T left = T(double(r[at]) - alpha * double(q[at]));
    r[at] = left;
    const double square = double(left) * double(left);
    sum_rr += square;
    sum_rz += d == nullptr ? square : square * double(d[i]);
  }
  sum_rr = block_sum<THREADS>(sum_rr);
  sum_rz = block_sum<THREADS>(sum_rz);
  if (threadIdx.x == 0) {
    *span.work(work, blocks, 0) = sum_rr;
    *span.work(work, blocks, 1) = sum_rz;
  }
}

// One block a system: the sums of cg_update, or the verdict.
template <int WIDTH>
__global__ void __launch_bounds__(WIDTH)
cg_update_total(const double* __restrict__ rz_old, const double* __restrict__ pq, const double* __restrict__ rr_old,
                const double* __restrict__ tol2, double carry, double* __restrict__ rr, double* __restrict__ rz,
                const double* __restrict__ work, int blocks) {
  const int s = blockIdx.x;
  double verdict = rr_old[s];
  if (!goes_on(verdict, rz_old[s], pq[s], tol2[s])) {
    if (threadIdx.x == 0) {
      rr[s] = carry * verdict;
      rz[s] = carry * rz_old[s];
    }
    return;  // the whole block
  }
  const double sum_rr = slot_sum<WIDTH>(work, s, 0, blocks), sum_rz = slot_sum<WIDTH>(work, s, 1, blocks);
  if (threadIdx.x == 0) {
    rr[s] = sum_rr;
    rz[s] = sum_rz;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
flexible_dots(const T* __restrict__ z, const T* __restrict__ r, const T* __restrict__ q, double* __restrict__ work, int n,
              int blocks) {
  const Span span(n, blocks);
  double rz = 0, minus_zq = 0;
  for (int i = span.low + threadIdx.x; i < span.high; i += THREADS) {
    const double zi = double(z[span.start + i]);
    rz += zi * double(r[span.start + i]);
    minus_zq -= zi * double(q[span.start + i]);
  }
  rz = block_sum<THREADS>(rz);
  minus_zq = block_sum<THREADS>(minus_zq);
  if (threadIdx.x == 0) {
    *span.work(work, blocks, 0) = rz;
    *span.work(work, blocks, 1) = minus_zq;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
cg_direction(const T* __restrict__ z, const T* __restrict__ dinv, const double* __restrict__ numerator,
             const double* __restrict__ denominator, T* __restrict__ p, int dinv_rows, int n, int blocks) {
  const Span span(n, blocks);
  double beta = numerator[span.system] / denominator[span.system];
  if (!finite(beta)) beta = 0;
  const T* d = dinv == nullptr ? nullptr : dinv + (dinv_rows == 1 ? 0 : span.start);
  for (int i = span.low + threadIdx.x; i < span.high; i += THREADS) {
    const long long at = span.start + i;
    const double scale = d == nullptr ? 1.0 : double(d[i]);
    p[at] = T(double(z[at]) * scale + beta * double(p[at]));
  }
}
