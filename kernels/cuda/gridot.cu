// CUDA twins of contracts/gridot.py: a block a line, its entries row by row.
#include "common.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)

// t of (2) for an entry of a line.
template <typename T>
__device__ __forceinline__ T turned(T s, double row, double column, T c, double scale) {
  return s + T(scale) * ((T(column) - c) + T(row));
}

// Sums of the entries (r, k) of a line with rows [first, last): a thread a column, then a warp a row.
template <typename Entry>
__device__ void line_sums(int first, int last, int p, double* row_sums, double* column_sums, Entry entry) {
  for (int k = threadIdx.x; k < p; k += THREADS) {
    double sum = 0;
#pragma unroll 1
    for (int r = first; r < last; r++) sum += entry(r, k);
    column_sums[(long long)blockIdx.x * p + k] = sum;
  }
  for (int r = first + threadIdx.x / 32; r < last; r += WARPS) {
    double sum = 0;
#pragma unroll 1
    for (int k = threadIdx.x % 32; k < p; k += 32) sum += entry(r, k);
    sum = group_sum<32>(sum);
    if (threadIdx.x % 32 == 0) row_sums[r] = sum;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_step(T* s, const T* __restrict__ anchor, const double* __restrict__ rows, const double* __restrict__ columns,
          const T* __restrict__ C, const int* __restrict__ starts, const int* __restrict__ places,
          const double* __restrict__ speeds, double scale,
          double weight, double* __restrict__ row_sums, double* __restrict__ column_sums, double* __restrict__ moved,
          int p) {
  const int line = blockIdx.x, first = starts[line], last = starts[line + 1];
  const long long begin = (long long)first * p;
  const T near = T(weight), far = T(1 - weight);
  double square = 0;
#pragma unroll 1
  for (int e = threadIdx.x; e < (last - first) * p; e += THREADS) {
    const int r = first + e / p, k = e % p;
    const T before = s[begin + e];
    const double column = columns[(long long)line * p + k];
    const T t = fabs(turned<T>(before, rows[r], column, C[places[r] * p + k], scale * speeds[r]));
    const double d = before - t;
    square += d * d / speeds[r];
    s[begin + e] = near * t + far * T(fabs(anchor[begin + e]));
  }
  square = block_sum<THREADS>(square);  // which waits until s is complete
  if (threadIdx.x == 0) moved[line] = square;
  line_sums(first, last, p, row_sums, column_sums, [=](int r, int k) { return double(s[(long long)r * p + k]); });
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_plan(const T* __restrict__ s, const double* __restrict__ rows, const double* __restrict__ columns,
          const T* __restrict__ C, const int* __restrict__ starts, const int* __restrict__ places,
          const double* __restrict__ speeds, double scale,
          double* __restrict__ row_sums, double* __restrict__ column_sums, int p) {
  const int line = blockIdx.x;
  line_sums(starts[line], starts[line + 1], p, row_sums, column_sums, [=](int r, int k) {
    const double column = columns[(long long)line * p + k], step = scale * speeds[r];
    return fmax(double(turned<T>(s[(long long)r * p + k], rows[r], column, C[places[r] * p + k], step)), 0.0);
  });
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_turn(T* s, const T* __restrict__ anchor, const double* __restrict__ rows, const double* __restrict__ columns,
          const T* __restrict__ C, const int* __restrict__ starts, const int* __restrict__ places,
          const double* __restrict__ speeds, double scale,
          double* __restrict__ moved, int p) {
  const int line = blockIdx.x, first = starts[line];
  const long long begin = (long long)first * p;
  double above = 0, below = 0;
  for (int e = threadIdx.x; e < (starts[line + 1] - first) * p; e += THREADS) {
    const int r = first + e / p, k = e % p;
    const double column = columns[(long long)line * p + k];
    const T t = turned<T>(s[begin + e], rows[r], column, C[places[r] * p + k], scale * speeds[r]);
    const double now = double(t), old = double(anchor[begin + e]);
    const double high = fmax(now, 0.0) - fmax(old, 0.0), low = fmin(now, 0.0) - fmin(old, 0.0);
    above += high * high / speeds[r];
    below += low * low / speeds[r];
    s[begin + e] = t;
  }
  above = block_sum<THREADS>(above);
  below = block_sum<THREADS>(below);
  if (threadIdx.x == 0) {
    moved[2 * line] = above;
    moved[2 * line + 1] = below;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_anchor(T* s, T* anchor, const int* __restrict__ starts, double ratio, double* __restrict__ row_sums,
            double* __restrict__ column_sums, int p) {
  const int first = starts[blockIdx.x], last = starts[blockIdx.x + 1];
  const long long begin = (long long)first * p;
  for (int e = threadIdx.x; e < (last - first) * p; e += THREADS) {
    const T t = s[begin + e] < 0 ? T(double(s[begin + e]) * ratio) : s[begin + e];
    anchor[begin + e] = t;
    s[begin + e] = fabs(t);
  }
  __syncthreads();  // s is complete
  line_sums(first, last, p, row_sums, column_sums, [=](int r, int k) { return double(s[(long long)r * p + k]); });
}

// One block: there is little to do, and most of it needs what comes before.
__global__ void __launch_bounds__(THREADS)
grid_potentials(const double* __restrict__ a, const double* __restrict__ b, const int* __restrict__ f_starts,
                const int* __restrict__ g_starts, const double* __restrict__ f_speeds,
                const double* __restrict__ g_speeds, const double* __restrict__ p,
                const double* __restrict__ q, const double* __restrict__ f_row_sums,
                const double* __restrict__ f_column_sums, const double* __restrict__ g_row_sums,
                const double* __restrict__ g_column_sums, const double* __restrict__ c_f,
                const double* __restrict__ c_fg, const double* __restrict__ c_g, const double* __restrict__ inverse,
                double sigma, double* f_rows, double* f_columns, double* g_rows, double* g_columns, int J, int K) {
  extern __shared__ double shared[];
  double *over = shared, *means = shared + J + K;  // sums over k, then over j; J of the one, K of the other
  for (int j = threadIdx.x; j < J; j += THREADS) {
    double sum = 0;
    for (int r = f_starts[j]; r < f_starts[j + 1]; r++) {
      f_rows[r] = (a[r] - f_row_sums[r]) / (sigma * f_speeds[r]) + c_f[r];
      sum += f_rows[r] * f_speeds[r];
    }
    means[j] = -sum / K;
  }
  for (int k = threadIdx.x; k < K; k += THREADS) {
    double sum = 0;
    for (int r = g_starts[k]; r < g_starts[k + 1]; r++) {
      g_rows[r] = (b[r] - g_row_sums[r]) / (sigma * g_speeds[r]) + c_g[r];
      sum += g_rows[r] * g_speeds[r];
    }
    means[J + k] = sum / J;
  }
  __syncthreads();  // the sums of r1 and r3 are complete
  for (int e = threadIdx.x; e < J * K; e += THREADS) {
    const int k = e / J, j = e % J;
    const double r2 = (g_column_sums[e] - f_column_sums[j * K + k]) / sigma + c_fg[e];
    g_columns[e] = (r2 + means[j] + means[J + k]) / (p[j] + q[k]);
  }
  __syncthreads();  // h is complete
  for (int e = threadIdx.x; e < J + K; e += THREADS) {
    double sum = 0;
    if (e < J) {
      for (int k = 0; k < K; k++) sum += g_columns[k * J + e];
    } else {
      for (int j = 0; j < J; j++) sum += g_columns[(e - J) * J + j];
    }
    over[e] = sum;
  }
  __syncthreads();  // its sums are complete
  for (int e = threadIdx.x / 32; e < J + K; e += WARPS) {
    double sum = 0;
    for (int d = threadIdx.x % 32; d < J + K; d += 32) sum += inverse[(long long)e * (J + K) + d] * over[d];
    sum = group_sum<32>(sum);
    if (threadIdx.x % 32 == 0) means[e] = sum;
  }
  __syncthreads();  // the means are complete
  for (int e = threadIdx.x; e < J * K; e += THREADS) {
    const int k = e / J, j = e % J;
    const double y2 = g_columns[e] + (means[j] + means[J + k]) / (p[j] + q[k]);
    f_columns[j * K + k] = y2;
    g_columns[e] = -y2;
  }
  __syncthreads();  // y2 is complete
  for (int j = threadIdx.x; j < J; j += THREADS) {
    double sum = 0;
    for (int k = 0; k < K; k++) sum += f_columns[j * K + k];
    for (int r = f_starts[j]; r < f_starts[j + 1]; r++) f_rows[r] = (f_rows[r] - sum) / K;
  }
  for (int k = threadIdx.x; k < K; k += THREADS) {
    double sum = 0;
    for (int j = 0; j < J; j++) sum -= g_columns[k * J + j];
    for (int r = g_starts[k]; r < g_starts[k + 1]; r++) g_rows[r] = (g_rows[r] + sum) / J;
  }
}

// A warp of neighbouring columns of one row of w.
__global__ void __launch_bounds__(32)
min_plus(const double* __restrict__ C, const double* __restrict__ u, double* __restrict__ w, int p, int q, int n) {
  const int tiles = (n + 31) / 32, k = blockIdx.x / tiles, j = (blockIdx.x % tiles) * 32 + threadIdx.x;
  if (j >= n) return;
  double least = INFINITY;
  for (int i = 0; i < p; i++) least = fmin(least, C[(long long)i * q + k] - u[(long long)i * n + j]);
  w[(long long)k * n + j] = least;
}
