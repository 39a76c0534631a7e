// CUDA twins of contracts/split.py: a thread a cell; blockIdx.y is the plane, blockIdx.z the system.
#include "split.cuh"

#define THREADS 256

// A cell of a plane of `ny` rows of `width`; false beyond the last.
struct Spot {
  int i, j, k;
  __device__ Spot(int width) {
    const int at = blockIdx.x * THREADS + threadIdx.x;
    i = blockIdx.y;
    j = at / width;
    k = at % width;
  }
};

// Cells [c][i + 1][j][m] and all pads; the natural k is 2 m + its parity.
template <typename T, typename U>
__global__ void __launch_bounds__(THREADS)
grid_split(const T* __restrict__ a, U* __restrict__ v, int nx, int ny, int nz, int h) {
  const Spot at(2 * h);
  if (at.j >= ny) return;
  const long long half = (long long)(nx + 2) * ny * h, row = ((long long)blockIdx.z * nx + at.i) * ny + at.j;
  const int c = (at.i + 1 + at.j + at.k) & 1;
  const long long to = 2 * half * blockIdx.z + c * half + ((long long)(at.i + 1) * ny + at.j) * h + (at.k >> 1);
  v[to] = at.k < nz ? U(a[row * nz + at.k]) : U(0);
}

// Of the number of open faces D, 60 / D: the codes of contracts/split.py.
__global__ void __launch_bounds__(THREADS)
codes_split(const unsigned char* __restrict__ a, unsigned char* __restrict__ v, int nx, int ny, int nz, int h) {
  const Spot at(2 * h);
  if (at.j >= ny) return;
  const long long half = (long long)(nx + 2) * ny * h, row = ((long long)blockIdx.z * nx + at.i) * ny + at.j;
  const int c = (at.i + 1 + at.j + at.k) & 1, count = at.k < nz ? a[row * nz + at.k] : 0;
  v[2 * half * blockIdx.z + c * half + ((long long)(at.i + 1) * ny + at.j) * h + (at.k >> 1)] = count ? 60 / count : 0;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
grid_join(const float* __restrict__ v, T* __restrict__ a, int nx, int ny, int nz, int h) {
  const Spot at(nz);
  if (at.j >= ny) return;
  const long long half = (long long)(nx + 2) * ny * h, row = ((long long)blockIdx.z * nx + at.i) * ny + at.j;
  const int c = (at.i + 1 + at.j + at.k) & 1;
  a[row * nz + at.k] = T(v[2 * half * blockIdx.z + c * half + ((long long)(at.i + 1) * ny + at.j) * h + (at.k >> 1)]);
}

// ---- stencils ------------------------------------------------------------------------------------------------------

// The stencil of a fine grid in the natural order, cell by cell.
struct Coefficients {
  const float *fx, *fy, *fz, *s;
  __device__ double x(long long n, int, int, int) const { return double(fx[n]); }
  __device__ double y(long long n, int, int, int) const { return double(fy[n]); }
  __device__ double z(long long n, int, int, int) const { return double(fz[n]); }
  __device__ double sink(long long n, int, int, int) const { return double(s[n]); }
};

struct Mask {
  const unsigned char* d;
  int nx, ny, nz;
  Axes wrap;
  // whether there is an unknown `step` along an axis; n is the cell, k its place there
  __device__ int has(long long n, int k, int extent, long long stride, int step, int wraps) const {
    int to = k + step;
    if (to < 0 || to >= extent) {
      if (!wraps) return 0;
      to = to < 0 ? extent - 1 : 0;
    }
    return d[n + (to - k) * stride] > 0;
  }
  __device__ int in_x(long long n, int i, int step) const { return has(n, i, nx, (long long)ny * nz, step, wrap.x); }
  __device__ int in_y(long long n, int j, int step) const { return has(n, j, ny, nz, step, wrap.y); }
  __device__ int in_z(long long n, int k, int step) const { return has(n, k, nz, 1, step, wrap.z); }
  __device__ double x(long long n, int i, int, int) const { return d[n] ? in_x(n, i, 1) : 0; }
  __device__ double y(long long n, int, int j, int) const { return d[n] ? in_y(n, j, 1) : 0; }
  __device__ double z(long long n, int, int, int k) const { return d[n] ? in_z(n, k, 1) : 0; }
  __device__ double sink(long long n, int i, int j, int k) const {
    if (!d[n]) return 0;
    return d[n] - in_x(n, i, 1) - in_x(n, i, -1) - in_y(n, j, 1) - in_y(n, j, -1) - in_z(n, k, 1) - in_z(n, k, -1);
  }
};

// One cell of the coarse grid (cnx, cny, cnz) of a fine one (nx, ny, nz).
template <class Stencil>
__device__ void coarsen(const Stencil& fine, int nx, int ny, int nz, double alpha, double alpha_s, Axes factor,
                        float* __restrict__ cx, float* __restrict__ cy, float* __restrict__ cz, float* __restrict__ cs,
                        int cny, int cnz) {
  const Spot at(cnz);
  if (at.j >= cny) return;
  double x = 0, y = 0, z = 0, sink = 0;
#pragma unroll 1  // ptxas for sm_100 spills otherwise
  for (int a = 0; a < factor.x; a++)
#pragma unroll 1
    for (int b = 0; b < factor.y; b++)
#pragma unroll 1
      for (int c = 0; c < factor.z; c++) {
        const int i = factor.x * at.i + a, j = factor.y * at.j + b, k = factor.z * at.k + c;
        if (i >= nx || j >= ny || k >= nz) continue;
        const long long n = ((long long)i * ny + j) * nz + k;
        // of a pair, only the second has a face across to the next pair
        if (a == factor.x - 1) x += fine.x(n, i, j, k);
        if (b == factor.y - 1) y += fine.y(n, i, j, k);
        if (c == factor.z - 1) z += fine.z(n, i, j, k);
        sink += fine.sink(n, i, j, k);
      }
  const long long to = (((long long)blockIdx.z * gridDim.y + at.i) * cny + at.j) * cnz + at.k;
  cx[to] = float(factor.x == 2 ? alpha * x : x);
  cy[to] = float(factor.y == 2 ? alpha * y : y);
  cz[to] = float(factor.z == 2 ? alpha * z : z);
  cs[to] = float(alpha_s * sink);
}

__global__ void __launch_bounds__(THREADS)
coarsen_mask(const unsigned char* __restrict__ d, int nx, int ny, int nz, double alpha, double alpha_s, int f0, int f1,
             int f2, int w0, int w1, int w2, float* __restrict__ cx, float* __restrict__ cy, float* __restrict__ cz,
             float* __restrict__ cs, int cny, int cnz) {
  const Mask fine{d + (long long)blockIdx.z * nx * ny * nz, nx, ny, nz, {w0, w1, w2}};
  coarsen(fine, nx, ny, nz, alpha, alpha_s, Axes{f0, f1, f2}, cx, cy, cz, cs, cny, cnz);
}

__global__ void __launch_bounds__(THREADS)
coarsen_faces(const float* __restrict__ fx, const float* __restrict__ fy, const float* __restrict__ fz,
              const float* __restrict__ s, int nx, int ny, int nz, double alpha, double alpha_s, int f0, int f1, int f2,
              float* __restrict__ cx, float* __restrict__ cy, float* __restrict__ cz, float* __restrict__ cs, int cny,
              int cnz) {
  const long long start = (long long)blockIdx.z * nx * ny * nz;
  const Coefficients fine{fx + start, fy + start, fz + start, s + start};
  coarsen(fine, nx, ny, nz, alpha, alpha_s, Axes{f0, f1, f2}, cx, cy, cz, cs, cny, cnz);
}

// One block for each plane and system.
__global__ void __launch_bounds__(THREADS)
parted_pairs(const float* __restrict__ fx, const float* __restrict__ fy, const float* __restrict__ fz,
             const float* __restrict__ s, double* __restrict__ counts, int nx, int ny, int nz, int f0, int f1, int f2) {
  const int i = blockIdx.x;
  const long long start = (long long)blockIdx.y * nx * ny * nz;
  // 1 with a face or a sink, 3 where the faces are more than that; the last face of an axis is before the first cell
  const auto used = [&](int x, int y, int z) {
    const long long n = start + ((long long)x * ny + y) * nz + z;
    const long long behind = x > 0 ? n - (long long)ny * nz : n + (long long)(nx - 1) * ny * nz;
    const long long left = y > 0 ? n - nz : n + (long long)(ny - 1) * nz, before = z > 0 ? n - 1 : n + nz - 1;
    const double faces =
        double(fx[n]) + double(fx[behind]) + double(fy[n]) + double(fy[left]) + double(fz[n]) + double(fz[before]);
    return (faces > s[n] ? 2 : 0) | (faces + s[n] > 0 ? 1 : 0);
  };
  int pairs = 0, apart = 0;
  for (int at = threadIdx.x; at < ny * nz; at += THREADS) {
    const int j = at / nz, k = at % nz;
    const int here = used(i, j, k);
    if (!here) continue;
    const long long n = start + ((long long)i * ny + j) * nz + k;
    const auto count = [&](int there, float face) {
      pairs += there & 1;
      apart += (there & 1) && !(face > 0) && ((here | there) & 2);
    };
    if (f0 == 2 && i % 2 == 0 && i + 1 < nx) count(used(i + 1, j, k), fx[n]);
    if (f1 == 2 && j % 2 == 0 && j + 1 < ny) count(used(i, j + 1, k), fy[n]);
    if (f2 == 2 && k % 2 == 0 && k + 1 < nz) count(used(i, j, k + 1), fz[n]);
  }
  const double all = block_sum<THREADS>(pairs), parted = block_sum<THREADS>(apart);
  if (threadIdx.x == 0) {
    counts[2 * ((long long)blockIdx.y * nx + i)] = all;
    counts[2 * ((long long)blockIdx.y * nx + i) + 1] = parted;
  }
}

// Planes are those of the split arrays here, ghosts included; ss may be null.
template <typename T, typename U>
__global__ void __launch_bounds__(THREADS)
stencil_split(const T* __restrict__ fx, const T* __restrict__ fy, const T* __restrict__ fz, const T* __restrict__ s,
              float* __restrict__ d, U* __restrict__ sx, U* __restrict__ sy, U* __restrict__ sz, U* __restrict__ ss, int nx,
              int ny, int nz, int h, int w2) {
  const Spot at(2 * h);
  if (at.j >= ny) return;
  const long long half = (long long)(nx + 2) * ny * h, rows = ((long long)at.i * ny + at.j) * h;
  const int c = (at.i + at.j + at.k) & 1;
  const long long base = 2 * half * blockIdx.z, to = base + c * half + rows + (at.k >> 1);
  // faces towards k + 1: those of even cells at their pair, those of odd ones at the next, or at the first if it wraps
  const int next = at.k & 1 ? ((at.k >> 1) + 1) % h : at.k >> 1;
  const long long z_to = base + (at.k & 1) * half + rows + next;
  if (at.i < 1 || at.i > nx || at.k >= nz) {
    d[to] = 0;
    sx[to] = sy[to] = sz[z_to] = U(0);
    if (ss != nullptr) ss[to] = U(0);
    return;
  }
  const int i = at.i - 1, j = at.j, k = at.k;
  const long long start = (long long)blockIdx.z * nx * ny * nz, row = start + ((long long)i * ny + j) * nz, n = row + k;
  const long long behind = start + ((long long)(i > 0 ? i - 1 : nx - 1) * ny + j) * nz + k;
  const long long left = start + ((long long)i * ny + (j > 0 ? j - 1 : ny - 1)) * nz + k;
  const double whole = double(s[n]) + double(fx[n]) + double(fx[behind]) + double(fy[n]) + double(fy[left]) +
                       double(fz[n]) + double(fz[row + (k > 0 ? k - 1 : nz - 1)]);
  d[to] = whole > 0 ? float(1 / whole) : 0;
  sx[to] = U(fx[n]);
  sy[to] = U(fy[n]);
  if (ss != nullptr) ss[to] = U(s[n]);
  sz[z_to] = k < 2 * h - 1 || w2 ? U(fz[n]) : U(0);
}
