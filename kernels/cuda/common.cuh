// What every .cu file uses. No system headers: NVRTC has none.
#ifndef NTSOLVE_COMMON_CUH
#define NTSOLVE_COMMON_CUH
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif

#define FULL_WARP 0xffffffffu

// Sum over groups of WIDTH lanes; the result is in every lane of the group.
template <int WIDTH>
__device__ __forceinline__ double group_sum(double v) {
  for (int d = WIDTH / 2; d; d >>= 1) v += __shfl_xor_sync(FULL_WARP, v, d);
  return v;
}

// Sum over a block of THREADS, a multiple of 32; the result is in every thread.
template <int THREADS>
__device__ double block_sum(double v) {
  __shared__ double part[THREADS / 32];
  v = group_sum<32>(v);
  __syncthreads();  // part may still be read from the last call
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < THREADS / 32; w++) sum += part[w];
  return sum;
}

__device__ __forceinline__ bool finite(double v) { return v - v == 0; }

// The larger of two sizes, and NaN if either is.
__device__ __forceinline__ double larger(double a, double b) { return a > b || a != a ? a : b; }

// Largest of non-negative numbers over a block, in every thread; NaN if there is one. Two calls need a barrier between
// them, since part may still be read.
template <int THREADS>
__device__ double block_max(double v) {
  __shared__ double part[THREADS / 32];
  for (int d = 16; d; d >>= 1) v = larger(v, __shfl_xor_sync(FULL_WARP, v, d));
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  double top = 0;
  for (int w = 0; w < THREADS / 32; w++) top = larger(part[w], top);
  return top;
}
#endif
