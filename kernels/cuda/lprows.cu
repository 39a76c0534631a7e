// CUDA twins of contracts/lprows.py.
#include "common.cuh"

// NaN stays.
__device__ __forceinline__ double clip(double v, double low, double high) {
  return v < low ? low : v > high ? high : v;
}

__global__ void __launch_bounds__(256)
lp_columns(const double* __restrict__ aty, const double* __restrict__ c, const double* __restrict__ lower,
           const double* __restrict__ upper, double tau, double share, int keep, double* __restrict__ x,
           const double* __restrict__ x0, double* __restrict__ p, double* __restrict__ dx,
           double* __restrict__ reflected, int n) {
  const int j = blockIdx.x * 256 + threadIdx.x;
  if (j >= n) return;
  const double at = x[j], to = clip(at - tau * (c[j] - aty[j]), lower[j], upper[j]), beyond = 2 * to - at;
  if (keep) {
    p[j] = to;
    dx[j] = to - at;
  }
  reflected[j] = beyond;
  x[j] = share * beyond + (1 - share) * x0[j];
}

template <int LANES>
__global__ void __launch_bounds__(256)
lp_rows(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
        const double* __restrict__ lower, const double* __restrict__ upper, double sigma, double share, int keep,
        const double* __restrict__ reflected, double* __restrict__ y, const double* __restrict__ y0,
        double* __restrict__ q, double* __restrict__ dy, int m) {
  const int i = (blockIdx.x * 256 + threadIdx.x) / LANES;
  double sum = 0;
  if (i < m)
    for (int k = indptr[i] + threadIdx.x % LANES; k < indptr[i + 1]; k += LANES) sum += data[k] * reflected[indices[k]];
  sum = group_sum<LANES>(sum);  // all lanes of the warp take part
  if (i >= m || threadIdx.x % LANES) return;
  const double at = y[i], t = at - sigma * sum, to = t - clip(t, -sigma * upper[i], -sigma * lower[i]);
  if (keep) {
    q[i] = to;
    dy[i] = to - at;
  }
  y[i] = share * (2 * to - at) + (1 - share) * y0[i];
}
