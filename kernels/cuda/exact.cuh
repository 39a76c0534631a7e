// Sums in twice the precision of float64: TwoProductFMA, TwoSum and Dot2 of Ogita, Rump and Oishi, "Accurate sum and dot
// product", SIAM J. Sci. Comput. 26 (2005).
#ifndef NTSOLVE_EXACT_CUH
#define NTSOLVE_EXACT_CUH
#include "common.cuh"

struct Exact {
  double high, low;
  __device__ Exact(double start) : high(start), low(0) {}
  __device__ void add(double value) {
    const double total = high + value, part = total - high;
    low += (high - (total - part)) + (value - part);
    high = total;
  }
  __device__ void subtract_product(double a, double b) {
    const double product = __dmul_rn(-a, b);  // must not be contracted with the sum
    add(product);
    low += fma(-a, b, -product);
  }
  __device__ double value() const { return high + low; }
  // sum over a warp, in every lane
  __device__ void over_warp() {
    for (int d = 16; d; d >>= 1) {
      const double other = __shfl_xor_sync(FULL_WARP, high, d), rest = __shfl_xor_sync(FULL_WARP, low, d);
      add(other);
      low += rest;
    }
  }
};
#endif
