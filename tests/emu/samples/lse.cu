#include "common.cuh"
// out[i] = -eps log sum_j exp((g[j] - C[i,j]) / eps + logb[j]); a block a row, running maximum and sum.
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK)
lse_rows(const T* __restrict__ C, const T* __restrict__ g, const T* __restrict__ logb, T* __restrict__ out, T eps, int m,
         long long ldc) {
  __shared__ T smax[BLOCK / 32], ssum[BLOCK / 32];
  const T* row = C + blockIdx.x * ldc;
  const T inv = T(1) / eps;
  T mx = -T(INFINITY), s = 0;
  for (int j = threadIdx.x; j < m; j += BLOCK) {
    const T v = (g[j] - row[j]) * inv + logb[j];
    if (v > mx) { s = s * exp(mx - v) + T(1); mx = v; }
    else if (v > -T(INFINITY)) s += exp(v - mx);
  }
  for (int d = 16; d; d >>= 1) {
    const T om = __shfl_xor_sync(0xffffffffu, mx, d), os = __shfl_xor_sync(0xffffffffu, s, d);
    const T nm = om > mx ? om : mx;
    if (nm > -T(INFINITY)) { s = s * exp(mx - nm) + os * exp(om - nm); mx = nm; }
  }
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane == 0) { smax[warp] = mx; ssum[warp] = s; }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < BLOCK / 32; w++) {
      const T nm = smax[w] > mx ? smax[w] : mx;
      if (nm > -T(INFINITY)) { s = s * exp(mx - nm) + ssum[w] * exp(smax[w] - nm); mx = nm; }
    }
    out[blockIdx.x] = -eps * (mx + log(s));
  }
}
