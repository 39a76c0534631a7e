// Transport kernels: rows are cut into runs, each done by one block, a row at a time, with a column sum of its own in
// work[run][0]; work is (runs, SLOTS, width). A second launch puts the runs together in their order.
#ifndef NTSOLVE_RUNS_CUH
#define NTSOLVE_RUNS_CUH
#include "common.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)
#define LANES 8
#define SLOTS 3
#define TILE 32  // columns that a block puts together

struct Sum {
  static __device__ __forceinline__ double of(double a, double b) { return a + b; }
};
struct Largest {  // passes over NaN
  static __device__ __forceinline__ double of(double a, double b) { return fmax(a, b); }
};
struct Smallest {
  static __device__ __forceinline__ double of(double a, double b) { return fmin(a, b); }
};

// Each of N numbers combined over the warp; the results are in every lane.
template <typename Op, int N>
__device__ __forceinline__ void over_warp(double (&v)[N]) {
  for (int d = 16; d; d >>= 1)
    for (int k = 0; k < N; k++) v[k] = Op::of(v[k], __shfl_xor_sync(FULL_WARP, v[k], d));
}

// The same over the block of THREADS; the results are in every thread.
template <typename Op, int N>
__device__ __forceinline__ void over_block(double (&v)[N]) {
  __shared__ double part[N][WARPS];
  over_warp<Op>(v);
  __syncthreads();  // part may still be read from the last call
  if (threadIdx.x % 32 == 0)
    for (int k = 0; k < N; k++) part[k][threadIdx.x / 32] = v[k];
  __syncthreads();
  for (int k = 0; k < N; k++) {
    v[k] = part[k][0];
    for (int w = 1; w < WARPS; w++) v[k] = Op::of(v[k], part[k][w]);
  }
}

struct Run {  // the rows of this block, and its part of `work`
  int low, high;
  double* slots;
  int width;
  __device__ Run(double* work, int n, int columns) {
    low = int((long long)blockIdx.x * n / gridDim.x);
    high = int((long long)(blockIdx.x + 1) * n / gridDim.x);
    slots = work + (long long)blockIdx.x * SLOTS * columns;
    width = columns;
  }
  __device__ double* slot(int k) const { return slots + (long long)k * width; }
};

// Column blockIdx.x * TILE + threadIdx.x % TILE of slot 0, put together over all runs; for threads below TILE.
template <typename Op>
__device__ double over_runs(const double* work, int runs, int width) {
  __shared__ double part[WARPS][TILE];
  const int lane = threadIdx.x % TILE, first = threadIdx.x / TILE, column = blockIdx.x * TILE + lane;
  if (column < width && first < runs) {
    double v = work[(long long)first * SLOTS * width + column];
    for (int run = first + WARPS; run < runs; run += WARPS)
      v = Op::of(v, work[(long long)run * SLOTS * width + column]);
    part[first][lane] = v;
  }
  __syncthreads();
  if (threadIdx.x >= TILE || column >= width) return 0;
  double v = part[0][lane];
  for (int k = 1; k < WARPS && k < runs; k++) v = Op::of(v, part[k][lane]);
  return v;
}
#endif
