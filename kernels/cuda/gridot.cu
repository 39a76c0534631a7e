// CUDA twins of contracts/gridot.py: a block a line, a warp a row of it at a time.
#include "common.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)

// t of (2) for an entry of a line.
template <typename T>
__device__ __forceinline__ double turned(T s, double row, double column, T c, double scale) {
  return double(s) + scale * (row + column - double(c));
}

// Sums over both axes of the entries of a line: a thread a column, then a warp a row.
template <typename T, typename Entry>
__device__ void line_sums(int p, double* row_sums, double* column_sums, Entry entry) {
  const long long at = (long long)blockIdx.x * p;
  for (int k = threadIdx.x; k < p; k += THREADS) {
    double sum = 0;
#pragma unroll 1
    for (int i = 0; i < p; i++) sum += entry(i, k);
    column_sums[at + k] = sum;
  }
  for (int i = threadIdx.x / 32; i < p; i += WARPS) {
    double sum = 0;
#pragma unroll 1
    for (int k = threadIdx.x % 32; k < p; k += 32) sum += entry(i, k);
    sum = group_sum<32>(sum);
    if (threadIdx.x % 32 == 0) row_sums[at + i] = sum;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_step(T* s, const T* __restrict__ anchor, const double* __restrict__ rows, const double* __restrict__ columns,
          const T* __restrict__ C, double scale, double weight, double* __restrict__ row_sums,
          double* __restrict__ column_sums, double* __restrict__ moved, int p) {
  const long long line = blockIdx.x, first = line * p * p, at = line * p;
  double square = 0;
  for (int e = threadIdx.x; e < p * p; e += THREADS) {
    const int i = e / p, k = e % p;
    const double t = fabs(turned<T>(s[first + e], rows[at + i], columns[at + k], C[e], scale));
    const double d = double(s[first + e]) - t;
    square += d * d;
    s[first + e] = T(weight * t + (1 - weight) * fabs(double(anchor[first + e])));
  }
  square = block_sum<THREADS>(square);  // which waits until s is complete
  if (threadIdx.x == 0) moved[line] = square;
  line_sums<T>(p, row_sums, column_sums, [&](int i, int k) { return double(s[first + (long long)i * p + k]); });
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_plan(const T* __restrict__ s, const double* __restrict__ rows, const double* __restrict__ columns,
          const T* __restrict__ C, double scale, double* __restrict__ row_sums, double* __restrict__ column_sums, int p) {
  const long long first = (long long)blockIdx.x * p * p, at = (long long)blockIdx.x * p;
  line_sums<T>(p, row_sums, column_sums, [&](int i, int k) {
    const int e = i * p + k;
    return fmax(turned<T>(s[first + e], rows[at + i], columns[at + k], C[e], scale), 0.0);
  });
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_turn(T* s, const T* __restrict__ anchor, const double* __restrict__ rows, const double* __restrict__ columns,
          const T* __restrict__ C, double scale, double* __restrict__ moved, int p) {
  const long long line = blockIdx.x, first = line * p * p, at = line * p;
  double above = 0, below = 0;
  for (int e = threadIdx.x; e < p * p; e += THREADS) {
    const double t = turned<T>(s[first + e], rows[at + e / p], columns[at + e % p], C[e], scale);
    const double old = double(anchor[first + e]);
    const double high = fmax(t, 0.0) - fmax(old, 0.0), low = fmin(t, 0.0) - fmin(old, 0.0);
    above += high * high;
    below += low * low;
    s[first + e] = T(t);
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
grid_anchor(T* s, T* anchor, double ratio, double* __restrict__ row_sums, double* __restrict__ column_sums, int p) {
  const long long first = (long long)blockIdx.x * p * p;
  for (int e = threadIdx.x; e < p * p; e += THREADS) {
    const T t = s[first + e] < 0 ? T(double(s[first + e]) * ratio) : s[first + e];
    anchor[first + e] = t;
    s[first + e] = fabs(t);
  }
  __syncthreads();  // s is complete
  line_sums<T>(p, row_sums, column_sums, [&](int i, int k) { return double(s[first + (long long)i * p + k]); });
}

// One block: there is little to do, and most of it needs what comes before.
__global__ void __launch_bounds__(THREADS)
grid_potentials(const double* __restrict__ a, const double* __restrict__ b, const double* __restrict__ f_row_sums,
                const double* __restrict__ f_column_sums, const double* __restrict__ g_row_sums,
                const double* __restrict__ g_column_sums, const double* __restrict__ c_rows,
                const double* __restrict__ c_columns, const double* __restrict__ d_rows,
                const double* __restrict__ d_columns, double sigma, double* f_rows, double* f_columns, double* g_rows,
                double* g_columns, int m, int n) {
  extern __shared__ double shared[];
  double *over_k = shared, *over_j = shared + n;  // sums over k of r1 and y2, and over j of r3 and y2
  for (int j = threadIdx.x; j < n; j += THREADS) {
    double sum = 0;
    for (int i = 0; i < m; i++) {
      const double r1 = (a[i * n + j] - f_row_sums[j * m + i]) / sigma + c_rows[i];
      f_rows[j * m + i] = r1;
      sum += r1 / m;
    }
    over_k[j] = sum;
  }
  for (int k = threadIdx.x; k < m; k += THREADS) {
    double sum = 0;
    for (int l = 0; l < n; l++) {
      const double r3 = (b[k * n + l] - g_column_sums[k * n + l]) / sigma + d_columns[l];
      g_columns[k * n + l] = r3;
      sum += r3 / n;
    }
    over_j[k] = sum;
  }
  __syncthreads();  // the means are complete
  for (int e = threadIdx.x; e < m * n; e += THREADS) {
    const int k = e / n, j = e % n;
    g_rows[e] = (g_row_sums[e] - f_column_sums[j * m + k]) / sigma + c_columns[k] - d_rows[j] - over_k[j] + over_j[k];
  }
  __syncthreads();  // q is complete, and the means are no longer needed
  for (int j = threadIdx.x; j < n; j += THREADS) {
    double sum = 0;
    for (int k = 0; k < m; k++) sum += g_rows[k * n + j];
    over_k[j] = sum;
  }
  for (int k = threadIdx.x; k < m; k += THREADS) {
    double sum = 0;
    for (int j = 0; j < n; j++) sum += g_rows[k * n + j];
    over_j[k] = sum;
  }
  __syncthreads();  // the sums of q are complete
  for (int e = threadIdx.x; e < m * n; e += THREADS) {
    const int k = e / n, j = e % n;
    const double y2 = (g_rows[e] + over_j[k] / m + over_k[j] / n) / (m + n);
    f_columns[j * m + k] = y2;
    g_rows[e] = -y2;
  }
  __syncthreads();  // y2 is complete
  for (int j = threadIdx.x; j < n; j += THREADS) {
    double sum = 0;
    for (int k = 0; k < m; k++) sum += f_columns[j * m + k];
    for (int i = 0; i < m; i++) f_rows[j * m + i] = (f_rows[j * m + i] - sum) / m;
  }
  for (int k = threadIdx.x; k < m; k += THREADS) {
    double sum = 0;
    for (int j = 0; j < n; j++) sum -= g_rows[k * n + j];
    for (int l = 0; l < n; l++) g_columns[k * n + l] = (g_columns[k * n + l] + sum) / n;
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
