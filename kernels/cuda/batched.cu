// CUDA twins of contracts/batched.py. A Team of threads solves one system: it gives the loop its products, sums and the
// rows it owns, and the loop is written once.
#include "exact.cuh"

enum Outcome { OUT_OF_STEPS, MET, STALLED, NOT_FINITE, NOT_POSITIVE };

// n <= 32: a warp a system. Lane i keeps row i of A in registers, so that A is read once; vectors go round in shared memory.
template <typename T>
struct Warp {
  const int n, lane;
  double a[32];
  T* vector;  // 32, of this warp
  // tile (32 x 33, of this warp) turns the columns that coalesced reads give into rows
  __device__ Warp(const T* __restrict__ A, int n, T* vector, T* tile) : n(n), lane(threadIdx.x % 32), vector(vector) {
    if (lane < n)
      for (int j = 0; j < n; j++) tile[j * 33 + lane] = A[j * n + lane];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 32; j++) a[j] = lane < n && j < n ? double(tile[lane * 33 + j]) : 0.0;
  }
  __device__ int row() const { return lane; }
  __device__ double sum(double v) const { return group_sum<32>(v); }
  __device__ double most(double v) const {
    for (int d = 16; d; d >>= 1) v = larger(v, __shfl_xor_sync(FULL_WARP, v, d));
    return v;
  }
  // this row's entry of A v; v is zero in rows past the end
  __device__ T product(const T* __restrict__, T v) {
    vector[lane] = v;
    __syncwarp();
    double part[4] = {0, 0, 0, 0};  // four chains, since one waits for itself
#pragma unroll
    for (int j = 0; j < 32; j++) part[j % 4] += a[j] * double(vector[j]);
    __syncwarp();  // before the next vector goes in
    return T((part[0] + part[1]) + (part[2] + part[3]));
  }
  // this row's entry of b - A v
  __device__ T residual(const T* __restrict__, T b, T v) {
    vector[lane] = v;
    __syncwarp();
    Exact sum{double(b)};
#pragma unroll
    for (int j = 0; j < 32; j++) sum.subtract_product(a[j], double(vector[j]));
    __syncwarp();  // before the next vector goes in
    return T(sum.value());
  }
};

// n <= 256: a block a system, a thread a row of the vectors; a warp makes one entry of a product at a time.
template <typename T>
struct Block {
  const int n;
  T *vector, *result;  // 256 each
  __device__ Block(int n, T* vector, T* result) : n(n), vector(vector), result(result) {}
  __device__ int row() const { return threadIdx.x; }
  __device__ double sum(double v) const { return block_sum<256>(v); }
  __device__ double most(double v) const { return block_max<256>(v); }
  __device__ T product(const T* __restrict__ A, T v) {
    vector[threadIdx.x] = v;
    __syncthreads();  // v is complete
    for (int i = threadIdx.x / 32; i < n; i += 8) {
      double total = 0;
      for (int j = threadIdx.x % 32; j < n; j += 32) total += double(A[(long long)i * n + j]) * double(vector[j]);
      total = group_sum<32>(total);
      if (threadIdx.x % 32 == 0) result[i] = T(total);
    }
    __syncthreads();  // the product is complete, and nobody reads v any more
    return threadIdx.x < n ? result[threadIdx.x] : T(0);
  }
  __device__ T residual(const T* __restrict__ A, T b, T v) {
    vector[threadIdx.x] = v;
    result[threadIdx.x] = b;
    __syncthreads();  // v and b are complete
    for (int i = threadIdx.x / 32; i < n; i += 8) {
      Exact sum{threadIdx.x % 32 == 0 ? double(result[i]) : 0.0};
      for (int j = threadIdx.x % 32; j < n; j += 32) sum.subtract_product(double(A[(long long)i * n + j]), double(vector[j]));
      sum.over_warp();
      if (threadIdx.x % 32 == 0) result[i] = T(sum.value());
    }
    __syncthreads();  // the residual is complete, and nobody reads v any more
    return threadIdx.x < n ? result[threadIdx.x] : T(0);
  }
};

template <typename T, typename Team>
__device__ double size(const Team& team, T v) {  // ||v||_2 without overflow
  const double top = team.most(fabs(double(v)));
  if (!(top > 0 && finite(top))) return top;
  const double part = double(v) / top;
  return top * sqrt(team.sum(part * part));
}

// All arguments are those of one system; a thread has one entry of each vector. Every thread of the team takes the same
// way through here.
template <typename T, typename Team>
__device__ void solve(Team& team, const T* __restrict__ A, const T* __restrict__ b_all, int jacobi, double rtol,
                      double atol, double eps, int maxiter, T* __restrict__ x_all, double* __restrict__ residual,
                      double* __restrict__ tolerance, int* __restrict__ nit, int* __restrict__ outcome) {
  const int i = team.row();
  const bool mine = i < team.n;
  const T b = mine ? b_all[i] : T(0);
  T x = mine ? x_all[i] : T(0);
  const double diagonal = mine && jacobi ? double(A[(long long)i * team.n + i]) : 1.0, dinv = 1 / diagonal;
  const bool positive = team.sum(diagonal > 0 ? 0.0 : 1.0) == 0;
  const double b_norm = size<T>(team, b), tol = fmax(rtol * b_norm, atol), goal = tol - 0.5 * eps * b_norm;
  double res = 0, last = INFINITY;
  int steps = 0, end = -1, broken = -1;
  if (b_norm == 0) {
    x = 0;
    end = MET;
  }
  while (end < 0) {
    T r = team.residual(A, b, x);
    res = size<T>(team, r);
    if (!finite(res)) end = NOT_FINITE;
    else if (res <= goal) end = MET;
    else if (broken >= 0) end = broken;
    else if (!positive) end = NOT_POSITIVE;
    else if (steps >= maxiter) end = OUT_OF_STEPS;
    else if (!(res < 0.5 * last)) end = STALLED;
    if (end >= 0) break;
    last = res;
    int exponent;
    frexp(fmax(b_norm, res), &exponent);
    exponent--;
    const double aim = ldexp(fmax(0.999 * goal, 0.1 * eps * fmax(b_norm, res)), -exponent);
    x = T(ldexp(double(x), -exponent));
    r = T(ldexp(double(r), -exponent));
    T p = T(double(r) * dinv);
    double rr = double(r) * double(r), rz = team.sum(rr * dinv);
    rr = team.sum(rr);
    while (rr > aim * aim && steps < maxiter) {
      const T q = team.product(A, p);  // (1)
      const double pq = team.sum(double(p) * double(q));
      if (!(finite(rz) && finite(pq)) || pq <= 0) {
        broken = pq <= 0 ? NOT_POSITIVE : NOT_FINITE;
        break;
      }
      const double alpha = rz / pq;
      x = T(double(x) + alpha * double(p));  // (2)
      r = T(double(r) - alpha * double(q));
      const double square = double(r) * double(r), rz_old = rz;
      rr = team.sum(square);
      rz = jacobi ? team.sum(square * dinv) : rr;
      p = T(double(r) * dinv + rz / rz_old * double(p));  // (3)
      steps++;
    }
    x = T(ldexp(double(x), exponent));
  }
  if (mine) x_all[i] = x;
  if (i == 0) {
    *residual = res;
    *tolerance = tol;
    *nit += steps;
    *outcome = end;
  }
}

template <typename T, int WARPS>
__global__ void __launch_bounds__(32 * WARPS, 2)
batched_cg_warp(const T* __restrict__ A, const T* __restrict__ b, int jacobi, double rtol, double atol, double eps,
                int maxiter, T* __restrict__ x, double* __restrict__ residual, double* __restrict__ tolerance,
                int* __restrict__ nit, int* __restrict__ outcome, int batch, int n) {
  __shared__ T tile[WARPS][32 * 33];
  __shared__ T vector[WARPS][32];
  const int w = threadIdx.x / 32, s = blockIdx.x * WARPS + w;
  if (s >= batch || outcome[s] != OUT_OF_STEPS) return;  // whole warps leave together
  const T* As = A + (long long)s * n * n;
  const long long at = (long long)s * n;
  Warp<T> team(As, n, vector[w], tile[w]);
  solve<T>(team, As, b + at, jacobi, rtol, atol, eps, maxiter, x + at, residual + s, tolerance + s, nit + s, outcome + s);
}

template <typename T>
__global__ void __launch_bounds__(256, 2)
batched_cg_block(const T* __restrict__ A, const T* __restrict__ b, int jacobi, double rtol, double atol, double eps,
                 int maxiter, T* __restrict__ x, double* __restrict__ residual, double* __restrict__ tolerance,
                 int* __restrict__ nit, int* __restrict__ outcome, int n) {
  __shared__ T v[256];
  __shared__ T out[256];
  const int s = blockIdx.x;
  if (outcome[s] != OUT_OF_STEPS) return;  // the whole block
  const long long at = (long long)s * n;
  Block<T> team(n, v, out);
  solve<T>(team, A + at * n, b + at, jacobi, rtol, atol, eps, maxiter, x + at, residual + s, tolerance + s, nit + s,
           outcome + s);
}
