// CUDA twins of contracts/linalg.py. Vectors are (batch, n); `work` is (batch, 2, blocks), blocks = ceil(n / ELEMENTS).
// Kernels over vectors run one block of THREADS for each system and ELEMENTS of it: blockIdx.x = system * blocks + block.
// What they add up goes to `work` and is summed in a second launch, in a fixed order.
#include "common.cuh"

#define THREADS 256
#define ELEMENTS 2048
#define A_NOT_POSITIVE -1.0
#define M_NOT_POSITIVE -2.0

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

__device__ __forceinline__ bool finite(double v) { return v - v == 0; }

// Whether a system goes on; if not, `rr` becomes the verdict.
__device__ __forceinline__ bool goes_on(double& rr, double rz, double pq, double tol2) {
  if (!(rr > tol2)) return false;
  if (finite(rz) && finite(pq) && rz > 0 && pq > 0) return true;
  rr = !(finite(rz) && finite(pq)) ? double(NAN) : rz <= 0 ? M_NOT_POSITIVE : A_NOT_POSITIVE;
  return false;
}

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

// ---- many small dense systems --------------------------------------------------------------------------------------

// n <= 32: a warp a system, WARPS of them a block. Lane i keeps column i of A (A is symmetric: its row) in registers, p
// is passed around in shared memory, sums go by shuffles, and A is read once.
template <typename T, int WARPS>
__global__ void __launch_bounds__(32 * WARPS)
batched_cg_warp(const T* __restrict__ A, const T* __restrict__ dinv, const double* __restrict__ tol2, int steps,
                T* __restrict__ x, T* __restrict__ r, T* __restrict__ p, double* __restrict__ rr, double* __restrict__ rz,
                int* __restrict__ nit, double* __restrict__ log, int batch, int n) {
  __shared__ T shared_p[WARPS][32];
  const int lane = threadIdx.x % 32, s = blockIdx.x * WARPS + threadIdx.x / 32;
  if (s >= batch) return;  // whole warps leave together
  T* ps = shared_p[threadIdx.x / 32];
  const bool mine = lane < n;
  const long long at = (long long)s * n + lane;
  double a[32];
#pragma unroll
  for (int j = 0; j < 32; j++) a[j] = mine && j < n ? double(A[((long long)s * n + j) * n + lane]) : 0.0;
  const double d = dinv == nullptr ? 1.0 : mine ? double(dinv[at]) : 0.0, limit = tol2[s];
  T xi = mine ? x[at] : T(0), ri = mine ? r[at] : T(0), pi = mine ? p[at] : T(0);
  double rr_s = rr[s], rz_s = rz[s];
  int taken = 0;
  for (int j = 0; j < steps; j++) {
    if (rr_s > limit) {  // the same for the whole warp
      ps[lane] = pi;
      __syncwarp();
      double part[4] = {0, 0, 0, 0};  // four chains, since one waits for itself
#pragma unroll
      for (int c = 0; c < 32; c++) part[c % 4] += a[c] * double(ps[c]);
      __syncwarp();  // before the next p goes in
      const T qi = T((part[0] + part[1]) + (part[2] + part[3]));
      const double pq = group_sum<32>(double(pi) * double(qi));
      if (goes_on(rr_s, rz_s, pq, limit)) {
        const double alpha = rz_s / pq;
        xi = T(double(xi) + alpha * double(pi));
        ri = T(double(ri) - alpha * double(qi));
        const double square = double(ri) * double(ri), rz_old = rz_s;
        rr_s = group_sum<32>(square);
        rz_s = group_sum<32>(square * d);
        pi = T(double(ri) * d + rz_s / rz_old * double(pi));
        taken++;
      }
    } else if (log == nullptr) {
      break;
    }
    if (log != nullptr && lane == 0) log[(long long)s * steps + j] = rr_s;
  }
  if (mine) {
    x[at] = xi;
    r[at] = ri;
    p[at] = pi;
  }
  __syncwarp();  // all lanes have read rr and rz
  if (lane == 0) {
    rr[s] = rr_s;
    rz[s] = rz_s;
    nit[s] += taken;
  }
}

// n <= THREADS * ROWS: a block a system. A thread keeps its ROWS rows of the vectors in registers; p is in shared memory, A
// is read along columns (it is symmetric), which is coalesced, from cache after the first step.
#define ROWS 2

template <typename T>
__global__ void __launch_bounds__(THREADS, 4)
batched_cg_block(const T* __restrict__ A, const T* __restrict__ dinv, const double* __restrict__ tol2, int steps,
                 T* __restrict__ x, T* __restrict__ r, T* __restrict__ p, double* __restrict__ rr,
                 double* __restrict__ rz, int* __restrict__ nit, double* __restrict__ log, int n) {
  __shared__ T ps[THREADS * ROWS];
  const int s = blockIdx.x;
  const T* As = A + (long long)s * n * n;
  const long long start = (long long)s * n;
  const double limit = tol2[s];
  double rr_s = rr[s], rz_s = rz[s], d[ROWS];
  T xs[ROWS], rs[ROWS], qs[ROWS];
  int taken = 0;
#pragma unroll
  for (int o = 0; o < ROWS; o++) {
    const int i = threadIdx.x + o * THREADS;
    const bool mine = i < n;
    xs[o] = mine ? x[start + i] : T(0);
    rs[o] = mine ? r[start + i] : T(0);
    ps[i] = mine ? p[start + i] : T(0);
    d[o] = dinv != nullptr && mine ? double(dinv[start + i]) : 1.0;
  }
  for (int j = 0; j < steps; j++) {
    if (rr_s > limit) {  // the same for the whole block
      __syncthreads();  // p is complete
      double pq = 0;
#pragma unroll
      for (int o = 0; o < ROWS; o++) {
        const int i = threadIdx.x + o * THREADS;
        double product = 0;
        if (i < n)
          for (int c = 0; c < n; c++) product += double(As[(long long)c * n + i]) * double(ps[c]);
        qs[o] = T(product);
        pq += double(ps[i]) * double(qs[o]);
      }
      pq = block_sum<THREADS>(pq);
      if (goes_on(rr_s, rz_s, pq, limit)) {
        const double alpha = rz_s / pq, rz_old = rz_s;
        double sum_rr = 0, sum_rz = 0;
#pragma unroll
        for (int o = 0; o < ROWS; o++) {
          xs[o] = T(double(xs[o]) + alpha * double(ps[threadIdx.x + o * THREADS]));
          rs[o] = T(double(rs[o]) - alpha * double(qs[o]));
          const double square = double(rs[o]) * double(rs[o]);
          sum_rr += square;
          sum_rz += square * d[o];
        }
        rr_s = block_sum<THREADS>(sum_rr);
        rz_s = block_sum<THREADS>(sum_rz);
        const double beta = rz_s / rz_old;
#pragma unroll
        for (int o = 0; o < ROWS; o++) {
          const int i = threadIdx.x + o * THREADS;
          ps[i] = T(double(rs[o]) * d[o] + beta * double(ps[i]));
        }
        taken++;
      }
    } else if (log == nullptr) {
      break;
    }
    if (log != nullptr && threadIdx.x == 0) log[(long long)s * steps + j] = rr_s;
  }
#pragma unroll
  for (int o = 0; o < ROWS; o++) {
    const int i = threadIdx.x + o * THREADS;
    if (i < n) {
      x[start + i] = xs[o];
      r[start + i] = rs[o];
      p[start + i] = ps[i];
    }
  }
  __syncthreads();  // all threads have read rr and rz
  if (threadIdx.x == 0) {
    rr[s] = rr_s;
    rz[s] = rz_s;
    nit[s] += taken;
  }
}
