// Helpers that the sample kernels share. The samples test the emulator; they are not part of ntsolve.
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

template <typename T> __device__ __forceinline__ T warp_sum(T v) {
  for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

// Sum over the block, in every thread; BLOCK is a multiple of 32.
template <typename T, int BLOCK> __device__ T block_sum(T v) {
  __shared__ T part[BLOCK / 32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  v = warp_sum(v);
  __syncthreads();  // part may still be read from the last call
  if (lane == 0) part[warp] = v;
  __syncthreads();  // part complete
  T s = 0;
  for (int i = 0; i < BLOCK / 32; i++) s += part[i];
  return s;
}
