// CUDA twins of contracts/fisher.py. G is (m, c), a row a gradient; its columns come in blocks of `width`, and a block in
// `runs` of RUN (or so) columns: unit = block * runs + run. Everything is converted to double in registers.
#include "common.cuh"

#define THREADS 256
#define ELEMENTS 2048  // columns that a partial sum of row_dots covers
#define ROWS 4         // rows that a warp takes together, so that they share what they load of X
#define CHUNK 64       // rows of G whose coefficients combine_rows has in shared memory
#define PANEL 32       // rows that leverage solves for together

struct Columns {  // [low, high) of a unit
  int block, low, high;
  __device__ Columns(int unit, int runs, int run, int width, int c) {
    block = unit / runs;
    low = block * width + unit % runs * run;
    high = min(min(low + run, block * width + width), c);
  }
};

// ---- products with vectors -----------------------------------------------------------------------------------------

// work (units, s, m) = partial sums of X G', S vectors at a time: blockIdx.x = unit * ceil(s / S) + group of vectors, so
// that groups which read the same part of G run at the same time; blockIdx.y takes ROWS rows for each of its warps.
template <typename T, typename V, int S>
__global__ void __launch_bounds__(THREADS)
row_dots(const T* __restrict__ G, const V* __restrict__ X, double* __restrict__ work, int m, int c, int width, int runs,
         int s) {
  const int groups = (s + S - 1) / S, unit = blockIdx.x / groups, t0 = blockIdx.x % groups * S;
  const int lane = threadIdx.x % 32, i0 = (blockIdx.y * (THREADS / 32) + threadIdx.x / 32) * ROWS;
  const Columns columns(unit, runs, ELEMENTS, width, c);
  const T* rows[ROWS];  // past the last row, the last one again
#pragma unroll
  for (int r = 0; r < ROWS; r++) rows[r] = G + (long long)min(i0 + r, m - 1) * c;
  const V* vectors[S];
#pragma unroll
  for (int t = 0; t < S; t++) vectors[t] = X + (long long)min(t0 + t, s - 1) * c;
  double sum[ROWS][S] = {};
#pragma unroll 2
  for (int j = columns.low + lane; j < columns.high; j += 32) {
    double g[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) g[r] = double(rows[r][j]);
#pragma unroll
    for (int t = 0; t < S; t++) {
      const double x = double(vectors[t][j]);
#pragma unroll
      for (int r = 0; r < ROWS; r++) sum[r][t] += g[r] * x;
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int t = 0; t < S; t++) {
      const double total = group_sum<32>(sum[r][t]);
      if (lane == 0 && i0 + r < m && t0 + t < s) work[((long long)unit * s + t0 + t) * m + i0 + r] = total;
    }
}

// out (blocks, s, m) += the sums over the runs of each block; n = s m
__global__ void __launch_bounds__(THREADS)
row_dots_total(const double* __restrict__ work, double* __restrict__ out, int runs, int n) {
  const int i = blockIdx.y * THREADS + threadIdx.x;
  if (i >= n) return;
  double total = out[(long long)blockIdx.x * n + i];
  for (int run = 0; run < runs; run++) total += work[((long long)blockIdx.x * runs + run) * n + i];
  out[(long long)blockIdx.x * n + i] = total;
}

// Y = alpha X + beta C G, S vectors at a time, a thread a column; X may be null.
template <typename T, typename V, int S>
__global__ void __launch_bounds__(THREADS)
combine_rows(const T* __restrict__ G, const double* __restrict__ C, const V* __restrict__ X, V* __restrict__ Y,
             double alpha, double beta, int m, int c, int width, int runs, int s) {
  __shared__ double coefficient[CHUNK][S];
  const int groups = (s + S - 1) / S, unit = blockIdx.x / groups, t0 = blockIdx.x % groups * S;
  const Columns columns(unit, runs, blockDim.x, width, c);
  const int j = columns.low + threadIdx.x;
  const T* column = G + min(j, c - 1);  // past the end, a column that is there
  double sum[S] = {};
  for (int i0 = 0; i0 < m; i0 += CHUNK) {
    const int rows = min(CHUNK, m - i0);
    for (int e = threadIdx.x; e < rows * S; e += blockDim.x) {
      const int i = e / S, t = e % S;
      coefficient[i][t] = t0 + t < s ? C[((long long)columns.block * s + t0 + t) * m + i0 + i] : 0.0;
    }
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < rows; i++) {
      const double g = double(column[(long long)(i0 + i) * c]);
#pragma unroll
      for (int t = 0; t < S; t++) sum[t] += coefficient[i][t] * g;
    }
    __syncthreads();  // before the next coefficients go in
  }
  if (j >= columns.high) return;
#pragma unroll
  for (int t = 0; t < S; t++) {
    const long long at = (long long)(t0 + t) * c + j;
    if (t0 + t < s) Y[at] = V(X == nullptr ? beta * sum[t] : alpha * double(X[at]) + beta * sum[t]);
  }
}

// ---- small matrices ------------------------------------------------------------------------------------------------

// tile (blocks, rows, columns) = those rows of G from row `row` and, of each block from `block` on, the columns from
// `offset` on; zero where there is none
template <typename T>
__global__ void __launch_bounds__(THREADS)
convert(const T* __restrict__ G, double* __restrict__ tile, int c, int width, int row, int block, int offset, int rows,
        int columns) {
  const int j = blockIdx.y * THREADS + threadIdx.x;
  if (j >= columns) return;
  const int k = blockIdx.x / rows, i = blockIdx.x % rows;
  const long long from = (long long)(block + k) * width + offset + j;
  const bool there = offset + j < width && from < c;
  tile[(long long)blockIdx.x * columns + j] = there ? double(G[(long long)(row + i) * c + from]) : 0.0;
}

// A (blocks, q, q) += products, the lower triangle of which goes to both
__global__ void __launch_bounds__(THREADS)
add_symmetric(const double* __restrict__ products, double* __restrict__ A, int q) {
  const int j = blockIdx.y * THREADS + threadIdx.x;
  if (j >= q) return;
  const int i = blockIdx.x % q;
  const long long matrix = (long long)(blockIdx.x / q) * q * q;
  A[matrix + (long long)i * q + j] += products[matrix + (long long)max(i, j) * q + min(i, j)];
}

// out = column sums of squares of W = L^-1 G. A block has 64 columns at a time, and as many of `work` (m, room) for its W;
// each of four groups of threads has a quarter of the rows of a panel.
template <typename T>
__global__ void __launch_bounds__(THREADS, 2)
leverage(const double* __restrict__ L, const T* __restrict__ G, double* __restrict__ out, double* __restrict__ work, int m,
         int c, int width, int runs, int units, int room) {
  constexpr int MINE = PANEL / 4;
  __shared__ double factor[PANEL][PANEL + 1], panel[PANEL][64];
  const int column = threadIdx.x % 64, first = threadIdx.x / 64 * MINE;
  double* W = work + blockIdx.x * 64 + column;
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const Columns columns(unit, runs, 64, width, c);
    const double* l = L + (long long)columns.block * m * m;
    const int j = columns.low + column;
    const bool inside = j < columns.high;
    double total = 0;
    for (int p = 0; p < m; p += PANEL) {
      double left[MINE];  // G - L W, for the rows above the panel
#pragma unroll
      for (int r = 0; r < MINE; r++) {
        const int i = p + first + r;
        left[r] = inside && i < m ? double(G[(long long)i * c + j]) : 0.0;
      }
      for (int q = 0; q <= p; q += PANEL) {
        __syncthreads();  // the last factor has been used, and the last panel is in W
        for (int e = threadIdx.x; e < PANEL * PANEL; e += THREADS) {
          const int i = p + e / PANEL, k = q + e % PANEL;
          factor[e / PANEL][e % PANEL] = i < m && k < m ? l[(long long)i * m + k] : 0.0;
        }
        if (q == p) {
#pragma unroll
          for (int r = 0; r < MINE; r++) panel[first + r][column] = left[r];
        }
        __syncthreads();
        if (q == p) break;
#pragma unroll 4
        for (int k = 0; k < PANEL; k++) {
          const double w = W[(long long)(q + k) * room];
#pragma unroll
          for (int r = 0; r < MINE; r++) left[r] -= factor[first + r][k] * w;
        }
      }
      if (first == 0) {  // whole warps
        for (int i = 0; i < min(PANEL, m - p); i++) {
          double w = panel[i][column];
          for (int k = 0; k < i; k++) w -= factor[i][k] * panel[k][column];
          w /= factor[i][i];
          panel[i][column] = W[(long long)(p + i) * room] = w;
          total += w * w;
        }
      }
    }
    if (first == 0 && inside) out[j] = total;
  }
}
