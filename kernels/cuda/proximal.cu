// CUDA twins of contracts/proximal.py.
#include "common.cuh"

__device__ __forceinline__ double clip(double v, double low, double high) { return fmin(fmax(v, low), high); }

// The product of a row with x, in each of the lanes that share the row; all lanes of the warp take part.
template <int LANES>
__device__ __forceinline__ double row_product(const int* __restrict__ indptr, const int* __restrict__ indices,
                                              const double* __restrict__ data, const double* __restrict__ x, int row,
                                              int rows) {
  double sum = 0;
  if (row < rows)
    for (int t = indptr[row] + threadIdx.x % LANES; t < indptr[row + 1]; t += LANES) sum += data[t] * x[indices[t]];
  return group_sum<LANES>(sum);
}

template <int LANES>
__global__ void __launch_bounds__(256)
proximal_columns(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
                 const double* __restrict__ c, const double* __restrict__ lower, const double* __restrict__ upper,
                 const double* __restrict__ x0, const double* __restrict__ y, double tau, double* __restrict__ aty,
                 double* __restrict__ x, signed char* __restrict__ inside, int n) {
  const int j = (blockIdx.x * 256 + threadIdx.x) / LANES;
  const double product = row_product<LANES>(indptr, indices, data, y, j, n);
  if (j >= n || threadIdx.x % LANES) return;
  const double p = x0[j] - tau * (c[j] - product);
  aty[j] = product;
  inside[j] = p > lower[j] && p < upper[j];
  x[j] = clip(p, lower[j], upper[j]);
}

template <int LANES>
__global__ void __launch_bounds__(256)
proximal_rows(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
              const double* __restrict__ lower, const double* __restrict__ upper, const double* __restrict__ s0,
              const double* __restrict__ y0, const double* __restrict__ x, const double* __restrict__ y, double tau,
              double sigma, double* __restrict__ s, signed char* __restrict__ slack, double* __restrict__ g, int m) {
  const int i = (blockIdx.x * 256 + threadIdx.x) / LANES;
  const double product = row_product<LANES>(indptr, indices, data, x, i, m);
  if (i >= m || threadIdx.x % LANES) return;
  const double p = s0[i] - tau * y[i], inside = clip(p, lower[i], upper[i]);
  slack[i] = p > lower[i] && p < upper[i];
  s[i] = inside;
  g[i] = (y[i] - y0[i]) / sigma + (product - inside);
}

#define SEARCH 512
#define GOOD_ENOUGH 0.1
#define ACCURACY 0.05
#define FURTHEST 1e6
#define LOOKS 60
#define NARROW 1e-12

struct Line {
  const double *c, *lower, *upper, *row_lower, *row_upper, *x0, *s0, *y0, *y, *d, *aty, *atd;
  double tau, sigma;
  int n, m;

  // d'g(y + a d), in every thread.
  __device__ double slope(double a) const {
    double sum = 0;
    for (int j = threadIdx.x; j < n; j += SEARCH)
      sum += atd[j] * clip(x0[j] - tau * (c[j] - (aty[j] + a * atd[j])), lower[j], upper[j]);
    for (int i = threadIdx.x; i < m; i += SEARCH) {
      const double at = y[i] + a * d[i];
      sum += d[i] * ((at - y0[i]) / sigma - clip(s0[i] - tau * at, row_lower[i], row_upper[i]));
    }
    return block_sum<SEARCH>(sum);
  }

  __device__ double search() const {
    const double start = slope(0);
    if (!(start < 0)) return 0;
    double low = 0, below = start, high = 1, above = slope(1);
    if (fabs(above) <= GOOD_ENOUGH * -start) return 1;
    while (above < 0) {
      if (high >= FURTHEST) return high;
      low = high;
      below = above;
      high *= 4;
      above = slope(high);
    }
    double a = high;
    for (int look = 0; look < LOOKS; look++) {
      a = low + (high - low) * clip(below / (below - above), 0.1, 0.9);
      const double here = slope(a);
      if (fabs(here) <= ACCURACY * -start || high - low <= NARROW * high) break;
      if (here < 0) {
        low = a;
        below = here;
      } else {
        high = a;
        above = here;
      }
    }
    return a;
  }
};

// One block; all its threads take the same decisions from the same sums.
__global__ void __launch_bounds__(SEARCH)
proximal_search(const double* c, const double* lower, const double* upper, const double* row_lower,
                const double* row_upper, const double* x0, const double* s0, const double* y0, const double* y,
                const double* d, const double* aty, const double* atd, double tau, double sigma, double* step, int n,
                int m) {
  const Line line = {c, lower, upper, row_lower, row_upper, x0, s0, y0, y, d, aty, atd, tau, sigma, n, m};
  const double found = line.search();
  if (threadIdx.x == 0) *step = found;
}

// A warp a row of H: columns of A one after the other, the entries of one shared out among the lanes.
__global__ void __launch_bounds__(256)
proximal_hessian(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
                 const int* __restrict__ t_indptr, const int* __restrict__ t_indices, const double* __restrict__ t_data,
                 const signed char* __restrict__ inside, const signed char* __restrict__ slack, double tau, double shift,
                 double* H, int m) {
  const int i = (blockIdx.x * 256 + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (i >= m) return;  // whole warps leave together
  double* row = H + (long long)i * m;
  for (int k = lane; k < m; k += 32) row[k] = k == i ? shift + tau * slack[i] : 0.0;
  for (int t = indptr[i]; t < indptr[i + 1]; t++) {
    const int j = indices[t];
    if (!inside[j]) continue;
    const double value = tau * data[t];
    __syncwarp();  // the last column's products are in
    for (int u = t_indptr[j] + lane; u < t_indptr[j + 1]; u += 32)
      if (t_indices[u] <= i) row[t_indices[u]] += value * t_data[u];
  }
}
