// CUDA twins of contracts/softmin.py. Each thread adds up exponentials as it meets them, scaled by the largest so far;
// what threads have found is joined two by two, in a fixed order.
#include "common.cuh"

#define THREADS 256
#define COLUMNS 8  // of a block of softmin_columns: a warp then reads 4 pieces of 32 or 64 bytes
#define ROWS (THREADS / COLUMNS)
#define NOTHING -1e300  // below any exponent that counts, and finite, that differences with it are numbers

struct LogSum {  // log of a sum of exponentials, as total * exp(top)
  double top, total;
  __device__ LogSum() : top(NOTHING), total(0) {}
  __device__ void add(double x) {
    if (x > top) {
      total = total * exp(top - x) + 1;
      top = x;
    } else {
      total += exp(x - top);
    }
  }
  __device__ void join(double other_top, double other_total) {
    const double higher = fmax(top, other_top);
    total = total * exp(top - higher) + other_total * exp(other_top - higher);
    top = higher;
  }
  __device__ double softmin(double reg) const { return top == NOTHING ? double(INFINITY) : -reg * (top + log(total)); }
};

// f_i = softmin_j(C_ij - g_j), a warp a row. `stack` is 1, or batch.
template <typename T>
__global__ void __launch_bounds__(THREADS)
softmin_rows(const T* __restrict__ C, const double* __restrict__ g, double reg, double* __restrict__ f, int stack,
             int n, int m) {
  const int tiles = (n + THREADS / 32 - 1) / (THREADS / 32), s = blockIdx.x / tiles;
  const int row = (blockIdx.x % tiles) * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= n) return;  // whole warps leave together
  const T* c = C + ((long long)(stack == 1 ? 0 : s) * n + row) * m;
  const double* gs = g + (long long)s * m;
  const double inverse = 1 / reg;
  LogSum sum;
  for (int j = lane; j < m; j += 32) sum.add((gs[j] - double(c[j])) * inverse);
  for (int d = 16; d; d >>= 1) {
    const double top = __shfl_xor_sync(FULL_WARP, sum.top, d), total = __shfl_xor_sync(FULL_WARP, sum.total, d);
    sum.join(top, total);
  }
  if (lane == 0) f[(long long)s * n + row] = sum.softmin(reg);
}

// g_j = softmin_i(C_ij - f_i), COLUMNS a block, each by ROWS threads.
template <typename T>
__global__ void __launch_bounds__(THREADS)
softmin_columns(const T* __restrict__ C, const double* __restrict__ f, double reg, double* __restrict__ g, int stack,
                int n, int m) {
  __shared__ double tops[ROWS][COLUMNS], totals[ROWS][COLUMNS];
  const int tiles = (m + COLUMNS - 1) / COLUMNS, s = blockIdx.x / tiles;
  const int part = threadIdx.x / COLUMNS, lane = threadIdx.x % COLUMNS, column = (blockIdx.x % tiles) * COLUMNS + lane;
  const T* c = C + (long long)(stack == 1 ? 0 : s) * n * m;
  const double* fs = f + (long long)s * n;
  const double inverse = 1 / reg;
  LogSum sum;
  if (column < m)
    for (int i = part; i < n; i += ROWS) sum.add((fs[i] - double(c[(long long)i * m + column])) * inverse);
  tops[part][lane] = sum.top;
  totals[part][lane] = sum.total;
  __syncthreads();
  if (part == 0 && column < m) {
    for (int p = 1; p < ROWS; p++) sum.join(tops[p][lane], totals[p][lane]);
    g[(long long)s * m + column] = sum.softmin(reg);
  }
}
