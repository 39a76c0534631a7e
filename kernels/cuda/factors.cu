// CUDA twins of contracts/factors.py. Matrices are (q, q), lower, row by row; 32 columns are done at a time: a warp does
// what is between them, step after step by shuffles, then all threads what is below.
#include "common.cuh"

#define THREADS 256
#define PANEL 32

// A block a matrix: info is raised where a diagonal entry of L is not a positive number; then all of L becomes NaN.
__global__ void __launch_bounds__(THREADS) cholesky_verdict(double* __restrict__ L, int* __restrict__ info, int q) {
  double* l = L + (long long)blockIdx.x * q * q;
  double wrong = 0;
  for (int i = threadIdx.x; i < q; i += THREADS) wrong += !(l[(long long)i * q + i] > 0);
  wrong = block_sum<THREADS>(wrong);
  if (wrong == 0 && info[blockIdx.x] == 0) return;  // the whole block: info is written after the barrier
  __syncthreads();
  if (threadIdx.x == 0) info[blockIdx.x] = 1;
  for (long long e = threadIdx.x; e < (long long)q * q; e += THREADS) l[e] = NAN;
}

// The square of a panel to shared memory: square[r][k] = l[(row + r) q + column + k], zero above the diagonal and outside.
__device__ void load_square(double (*square)[PANEL + 1], const double* __restrict__ l, int q, int row, int column, int size) {
  for (int e = threadIdx.x; e < PANEL * PANEL; e += THREADS) {
    const int r = e / PANEL, k = e % PANEL;
    square[r][k] = r < size && k <= r ? l[(long long)(row + r) * q + column + k] : 0.0;
  }
}

// L L' y = x in place, a block a vector: blockIdx.x = matrix * s + vector.
__global__ void __launch_bounds__(THREADS)
cholesky_solve(const double* __restrict__ L, double* __restrict__ X, int s, int q) {
  __shared__ double square[PANEL][PANEL + 1], y[PANEL];
  const double* l = L + (long long)(blockIdx.x / s) * q * q;
  double* x = X + (long long)blockIdx.x * q;
  const int lane = threadIdx.x % 32, panels = (q + PANEL - 1) / PANEL;
  for (int sweep = 0; sweep < 2 * panels; sweep++) {  // down through L, and up through L'
    const bool down = sweep < panels;
    const int p = (down ? sweep : 2 * panels - 1 - sweep) * PANEL, size = min(PANEL, q - p);
    load_square(square, l, q, p, p, size);
    __syncthreads();
    if (threadIdx.x < 32) {
      const double inverse = lane < size ? 1.0 / square[lane][lane] : 0.0;
      double v = lane < size ? x[p + lane] : 0.0;
      for (int e = 0; e < size; e++) {
        const int k = down ? e : size - 1 - e;
        const double solved = __shfl_sync(FULL_WARP, v, k) * __shfl_sync(FULL_WARP, inverse, k);
        if (lane == k) v = solved;
        else if (down ? lane > k : lane < k) v -= (down ? square[lane][k] : square[k][lane]) * solved;
      }
      y[lane] = v;
      if (lane < size) x[p + lane] = v;
    }
    __syncthreads();
    if (down) {
      for (int i = p + PANEL + threadIdx.x; i < q; i += THREADS) {
        const double* row = l + (long long)i * q + p;
        double sum = 0;
        for (int k = 0; k < PANEL; k++) sum += row[k] * y[k];  // a panel with rows below it is full
        x[i] -= sum;
      }
    } else {
      for (int j = threadIdx.x; j < p; j += THREADS) {
        double sum = 0;
        for (int k = 0; k < size; k++) sum += l[(long long)(p + k) * q + j] * y[k];
        x[j] -= sum;
      }
    }
  }
}

// Rows and columns after `drop` move up by one, those of L33 rotated with l (1), while y is solved for (2); one block.
// Panels end at `drop`, so that one has either nothing to rotate (old row i is row i), or only that (old row i+1, one
// column on, becomes row i). work (3, q) holds what is left of l and of y.
__global__ void __launch_bounds__(THREADS)
shift_factor(double* __restrict__ L, int drop, const double* __restrict__ row, double corner, double* __restrict__ work,
             int* __restrict__ info, int q) {
  __shared__ double square[PANEL][PANEL + 1], cosine[PANEL], sine[PANEL], solved[PANEL];
  const int n = q - 1, lane = threadIdx.x % 32;
  double *l = work, *y = work + 2 * (long long)q;
  for (int i = threadIdx.x; i < n; i += THREADS) {
    l[i] = i >= drop ? L[(long long)(i + 1) * q + drop] : 0.0;
    y[i] = row[i];
  }
  for (int j = threadIdx.x; j < drop; j += THREADS)  // L31 moves up
    for (int i = drop; i < n; i++) L[(long long)i * q + j] = L[(long long)(i + 1) * q + j];
  for (int p = 0, size; p < n; p += size) {
    const int on = p >= drop ? 1 : 0;
    size = min(PANEL, (on ? n : drop) - p);
    load_square(square, L, q, p + on, p + on, size);
    __syncthreads();
    if (threadIdx.x < 32) {
      double a = lane < size ? l[p + lane] : 0.0, b = lane < size ? y[p + lane] : 0.0;
      for (int k = 0; k < size; k++) {
        const double old = square[k][k], x = __shfl_sync(FULL_WARP, a, k), top = fmax(fabs(old), fabs(x));
        double c = 1, s = 0, diagonal = old;
        if (on && top > 0 && finite(top)) {
          const double u = old / top, v = x / top, length = sqrt(u * u + v * v);
          c = u / length;
          s = v / length;
          diagonal = length * top;
        }
        const double z = __shfl_sync(FULL_WARP, b, k) / diagonal;
        if (lane > k) {
          const double t = square[lane][k], rotated = c * t + s * a;
          a = c * a - s * t;
          b -= rotated * z;
          square[lane][k] = rotated;
        }
        if (lane == k) {
          cosine[k] = c;
          sine[k] = s;
          solved[k] = z;
          y[p + k] = z;
          L[(long long)(p + k) * q + p + k] = diagonal;
        }
      }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < PANEL * PANEL; e += THREADS) {
      const int r = e / PANEL, k = e % PANEL;
      if (r < size && k < r) L[(long long)(p + r) * q + p + k] = square[r][k];
    }
    for (int i0 = p + size; i0 < n; i0 += THREADS) {
      const int i = i0 + threadIdx.x;
      double old[PANEL];
#pragma unroll
      for (int k = 0; k < PANEL; k++) old[k] = i < n && k < size ? L[(long long)(i + on) * q + p + on + k] : 0.0;
      __syncthreads();  // before the thread of the next row overwrites them, and the next panel the square
      if (i < n) {
        double a = l[i], b = y[i];
#pragma unroll
        for (int k = 0; k < PANEL; k++)
          if (k < size) {
            const double rotated = cosine[k] * old[k] + sine[k] * a;
            a = cosine[k] * a - sine[k] * old[k];
            b -= rotated * solved[k];
            L[(long long)i * q + p + k] = rotated;
          }
        l[i] = a;
        y[i] = b;
      }
    }
  }
  double square_sum = 0;
  for (int i = threadIdx.x; i < n; i += THREADS) {
    square_sum += y[i] * y[i];
    L[(long long)n * q + i] = y[i];
  }
  square_sum = block_sum<THREADS>(square_sum);
  if (threadIdx.x == 0) {
    const double left = corner - square_sum;
    L[(long long)n * q + n] = left > 0 ? sqrt(left) : NAN;
    *info = left > 0 ? 0 : 1;
  }
}
