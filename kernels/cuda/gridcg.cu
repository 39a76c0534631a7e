// CUDA twins of contracts/gridcg.py. The passes run two blocks a plane, one for each half of it; blockIdx.x is the half,
// blockIdx.y the plane, blockIdx.z the system. A thread has the red cell and the black one of a place.
#include "cg.cuh"
#include "split.cuh"

#define THREADS 512
#define CELL_THREADS 256

// The operator of one system: D on a mask, else s and the faces, and A p = D p - sum of p' or s p + sum of f (p - p').
template <bool MASK, typename T>
struct Matrix {
  Split g;
  const unsigned char* whole;
  const T* sink;
  Faces<MASK, T> faces;
  __device__ double diagonal(int at) const { return MASK ? double(whole[at]) : double(sink[at]); }
};

template <bool MASK, typename T>
__device__ Matrix<MASK, T> matrix_of(const void* d, const T* fx, const T* fy, const T* fz, int stack, int nx, int ny, int h,
                                     int w0, int w1, int w2) {
  const Split g{nx, ny, h, {w0, w1, w2}};
  const long long start = stack == 1 ? 0 : g.size() * blockIdx.z;
  const Faces<MASK, T> faces{fx, fy, fz};
  return {g, MASK ? (const unsigned char*)d + start : nullptr, MASK ? nullptr : (const T*)d + start, faces.of(start)};
}

#define MATRIX_ARGUMENTS                                                                                               \
  const void *__restrict__ d, const T *__restrict__ fx, const T *__restrict__ fy, const T *__restrict__ fz, int stack, \
      int nx, int ny, int h, int w0, int w1, int w2
#define MATRIX matrix_of<MASK, T>(d, fx, fy, fz, stack, nx, ny, h, w0, w1, w2)

__device__ __forceinline__ float direction(const float* __restrict__ z, const float* __restrict__ before, float beta,
                                           long long at) {
  return fmaf(beta, before[at], z[at]);
}

// (1)
template <bool MASK, typename T>
__global__ void __launch_bounds__(THREADS)
grid_direction(MATRIX_ARGUMENTS, const float* __restrict__ z, const float* __restrict__ before,
               const double* __restrict__ alpha, const double* __restrict__ rz, const double* __restrict__ rz_old,
               double* __restrict__ x, float* __restrict__ p, double* __restrict__ work) {
  const Matrix<MASK, T> A = MATRIX;
  const Split& g = A.g;
  const int s = blockIdx.z, i = blockIdx.y + 1, size = g.plane(), middle = (size + 1) / 2, half = g.half();
  const double ratio = rz[s] / rz_old[s], step = alpha[s];
  const float beta = finite(ratio) ? float(ratio) : 0.0f;
  const long long start = g.size() * s;
  const float *zs = z + start, *was = before + start, *zs_black = zs + half, *was_black = was + half;
  double sum = 0;
  for (int at = blockIdx.x * middle + threadIdx.x; at < min(size, int(blockIdx.x + 1) * middle); at += THREADS) {
    const int to = i * size + at;
    const float red = direction(zs, was, beta, to), black = direction(zs_black, was_black, beta, to);
    p[start + to] = red;
    p[start + half + to] = black;
    x[start + to] += step * double(was[to]);
    x[start + half + to] += step * double(was_black[to]);
    sum += A.diagonal(to) * red * double(red) + A.diagonal(half + to) * black * double(black);
    neighbours(g, A.faces, 0, i, at / h, at % h, [&](T face, int there) {
      const double other = direction(zs_black, was_black, beta, there);
      const double difference = double(red) - other;
      sum += MASK ? -2 * double(red) * other : double(face) * difference * difference;
    });
  }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) work[((long long)s * 2 + blockIdx.x) * (nx + 2) + i] = sum;
}

// A p of the cell of colour c at [i, j, m]
template <bool MASK, typename T>
__device__ double product(const Matrix<MASK, T>& A, const float* __restrict__ p, int c, int i, int j, int m) {
  const int half = A.g.half(), at = A.g.place(i, j, m) + (c ? half : 0);
  const float* others = p + (c ? 0 : half);
  const double mine = p[at], diagonal = A.diagonal(at);
  double sum = diagonal * mine;
  neighbours(A.g, A.faces, c, i, j, m, [&](T face, int to) {
    sum += MASK ? -double(others[to]) : double(face) * (mine - double(others[to]));
  });
  return MASK && !(diagonal > 0) ? 0 : sum;
}

// (2)
template <bool MASK, typename T>
__global__ void __launch_bounds__(THREADS)
grid_update(MATRIX_ARGUMENTS, const float* __restrict__ p, const double* __restrict__ rz, const double* __restrict__ pq,
            const double* __restrict__ rr_old, const double* __restrict__ tol2, double* __restrict__ r,
            float* __restrict__ single, double* __restrict__ work) {
  const Matrix<MASK, T> A = MATRIX;
  const int s = blockIdx.z, i = blockIdx.y + 1, size = A.g.plane(), middle = (size + 1) / 2;
  double verdict = rr_old[s];
  if (!goes_on(verdict, rz[s], pq[s], tol2[s])) return;  // the whole block
  const double alpha = rz[s] / pq[s];
  const long long start = A.g.size() * s;
  double sum = 0;
  for (int at = blockIdx.x * middle + threadIdx.x; at < min(size, int(blockIdx.x + 1) * middle); at += THREADS)
    for (int c = 0; c < 2; c++) {
      const long long to = start + (c ? A.g.half() : 0) + (long long)i * size + at;
      const double left = r[to] - alpha * product(A, p + start, c, i, at / h, at % h);
      r[to] = left;
      single[to] = float(left);
      sum += left * left;
    }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) work[((long long)s * 2 + blockIdx.x) * (nx + 2) + i] = sum;
}

// out[system] = the sum of `work` (batch, 2, planes) but for its ghosts; of an update, its alpha, or the verdict.
template <bool UPDATE>
__global__ void __launch_bounds__(THREADS)
grid_total(const double* __restrict__ work, double* __restrict__ out, int planes, const double* __restrict__ rz,
           const double* __restrict__ pq, const double* __restrict__ rr_old, const double* __restrict__ tol2,
           double* __restrict__ alpha) {
  const int s = blockIdx.x;
  if (UPDATE) {
    double verdict = rr_old[s];
    const bool on = goes_on(verdict, rz[s], pq[s], tol2[s]);
    if (threadIdx.x == 0) {
      alpha[s] = on ? rz[s] / pq[s] : 0;
      if (!on) out[s] = verdict;
    }
    if (!on) return;  // the whole block
  }
  double sum = 0;
  for (int n = threadIdx.x; n < 2 * planes; n += THREADS) {
    const int i = n % planes;
    if (i > 0 && i < planes - 1) sum += work[(long long)s * 2 * planes + n];
  }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) out[s] = sum;
}

// ---- between a caller's order and that of colours: a thread a cell, blockIdx.y the plane ----------------------------

template <typename T>
__global__ void __launch_bounds__(CELL_THREADS)
grid_take(const T* __restrict__ a, const double* __restrict__ factor, double* __restrict__ r, float* __restrict__ single,
          int nx, int ny, int nz, int h) {
  const int at = blockIdx.x * CELL_THREADS + threadIdx.x, i = blockIdx.y, j = at / (2 * h), k = at % (2 * h);
  if (j >= ny) return;
  const Split g{nx, ny, h, {0, 0, 0}};
  const long long to = g.size() * blockIdx.z + ((i + 1 + j + k) & 1) * g.half() + g.place(i + 1, j, k >> 1);
  const double value =
      k < nz ? factor[blockIdx.z] * double(a[(((long long)blockIdx.z * nx + i) * ny + j) * nz + k]) : 0;
  r[to] = value;
  single[to] = float(value);
}

template <typename T>
__global__ void __launch_bounds__(CELL_THREADS)
grid_give(const double* __restrict__ x, const float* __restrict__ p, const double* __restrict__ alpha,
          const double* __restrict__ factor, T* __restrict__ a, int nx, int ny, int nz, int h) {
  const int at = blockIdx.x * CELL_THREADS + threadIdx.x, i = blockIdx.y, j = at / nz, k = at % nz, s = blockIdx.z;
  if (j >= ny) return;
  const Split g{nx, ny, h, {0, 0, 0}};
  const long long from = g.size() * s + ((i + 1 + j + k) & 1) * g.half() + g.place(i + 1, j, k >> 1);
  a[(((long long)s * nx + i) * ny + j) * nz + k] = T(factor[s] * (x[from] + alpha[s] * double(p[from])));
}
