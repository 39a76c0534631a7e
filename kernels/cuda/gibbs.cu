// CUDA twins of contracts/gibbs.py. Kernels that add up over rows run one block for each run of rows (runs.cuh): a
// thread has columns of its own, which no other touches, and the block meets only for the sums of a row. The others run
// a warp for each row.
#include "runs.cuh"

#define NOTHING -300.0
#define STORED 0    // where the cost comes from
#define SQUARES 1   // |x_i - y_j|^2
#define DISTANCE 2  // |x_i - y_j|

__device__ __forceinline__ double exp_or_0(double x) { return x > NOTHING ? exp(x) : 0.0; }

template <typename T, int FROM>
struct Cost {
  const T *C, *X, *Y;  // C (n, m), or X (n, p) and Y (p, m)
  const int* order;    // of the columns of C, or null
  int m, p;
  __device__ __forceinline__ double at(int i, int j) const {
    if (FROM == STORED) return double(C[(long long)i * m + (order == nullptr ? j : order[j])]);
    double squares = 0;
    for (int k = 0; k < p; k++) {
      const double difference = double(Y[(long long)k * m + j]) - double(X[(long long)i * p + k]);
      squares += difference * difference;
    }
    return FROM == SQUARES ? squares : sqrt(squares);
  }
};

struct Columns {  // of this thread: first, first + 32, ... below last; a warp has whole blocks, next to each other
  int low, first, last;
  __device__ Columns(int width) {
    const long long blocks = width / LANES;
    const int warp = threadIdx.x / 32;
    low = int(warp * blocks / WARPS) * LANES;
    last = int((warp + 1) * blocks / WARPS) * LANES;
    first = low + threadIdx.x % 32;
  }
};

// Row i as exponentials in x, 0 from column m on: their sum, and log_sum_i.
template <typename T, int FROM>
__device__ double row_exps(const Cost<T, FROM>& cost, int i, const Columns& columns, const double* log_v, double scale,
                           double* x, double& log_sum) {
  double top[1] = {-INFINITY}, total[1] = {0};
  for (int j = columns.first; j < columns.last; j += 32) {
    const double exponent = j < cost.m ? log_v[j] - scale * cost.at(i, j) : -INFINITY;
    x[j] = exponent;
    top[0] = fmax(top[0], exponent);
  }
  over_block<Largest>(top);
  for (int j = columns.first; j < columns.last; j += 32) {
    const double e = exp_or_0(x[j] - top[0]);
    x[j] = e;
    total[0] += e;
  }
  over_block<Sum>(total);
  log_sum = top[0] + log(total[0]);
  return total[0];
}

__device__ __forceinline__ double mass_of(double a, double power, double log_sum) {
  return power == 1 ? a : a * exp((1 - power) * log_sum);
}

// ---- the kernel and its sums ---------------------------------------------------------------------------------------

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
gibbs_kernel(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y, const int* __restrict__ order,
             const double* __restrict__ log_v, double scale, const double* __restrict__ a, double power,
             const double* __restrict__ b, double delta, const long long* __restrict__ starts,
             long long* __restrict__ ends, int* __restrict__ offsets, double* __restrict__ values,
             double* __restrict__ log_sums, double* work, int n, int m, int p, int width) {
  __shared__ int counts[WARPS];
  const Cost<T, FROM> cost{C, X, Y, order, m, p};
  const Run run(work, n, width);
  const Columns columns(width);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / LANES;
  double *col = run.slot(0), *x = run.slot(1);
  for (int j = columns.first; j < columns.last; j += 32) col[j] = 0;
  for (int i = run.low; i < run.high; i++) {
    double log_sum;
    const double total = row_exps(cost, i, columns, log_v, scale, x, log_sum);
    const double weight = mass_of(a[i], power, log_sum) / total;
    const double row_least = delta * total, column_least = delta * total / a[i];
    int count = 0;  // of the warp's blocks, those that are kept
    for (int base = columns.low; base < columns.last; base += 32) {
      const int j = base + lane;
      const double e = j < columns.last ? x[j] : 0;
      if (j < columns.last) col[j] += weight * e;
      const unsigned kept = __ballot_sync(FULL_WARP, j < columns.last && e > fmin(row_least, column_least * b[j]));
      for (int g = 0; g < 32 / LANES; g++) count += (kept >> (g * LANES) & 0xff) != 0;
    }
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    long long end = starts[i], all = 0;
    for (int w = 0; w < WARPS; w++) {
      if (w < warp) end += counts[w];
      all += counts[w];
    }
    for (int base = columns.low; base < columns.last; base += 32) {
      const int j = base + lane;
      const double e = j < columns.last ? x[j] : 0;
      const bool keep = j < columns.last && e > fmin(row_least, column_least * b[j]);
      const unsigned kept = __ballot_sync(FULL_WARP, keep);
      const long long at = end;
      int before = 0;
      for (int g = 0; g < 32 / LANES; g++) {
        const int any = (kept >> (g * LANES) & 0xff) != 0;
        before += g < group ? any : 0;
        end += any;
      }
      if (kept >> (group * LANES) & 0xff) {
        values[(at + before) * LANES + lane % LANES] = keep ? e / total : 0;
        if (lane % LANES == 0) offsets[at + before] = j;
      }
    }
    if (threadIdx.x == 0) {
      log_sums[i] = log_sum;
      ends[i] = starts[i] + all;
    }
  }
}

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
gibbs_sums(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y, const double* __restrict__ log_v,
           double scale, const double* __restrict__ a, double power, double* __restrict__ log_sums, double* work, int n,
           int m, int p, int width) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  const Run run(work, n, width);
  const Columns columns(width);
  double *col = run.slot(0), *x = run.slot(1);
  for (int j = columns.first; j < columns.last; j += 32) col[j] = 0;
  for (int i = run.low; i < run.high; i++) {
    double log_sum;
    const double total = row_exps(cost, i, columns, log_v, scale, x, log_sum);
    const double weight = mass_of(a[i], power, log_sum) / total;
    for (int j = columns.first; j < columns.last; j += 32) col[j] += weight * x[j];
    if (threadIdx.x == 0) log_sums[i] = log_sum;
  }
}

// col += the sum of the runs.
__global__ void __launch_bounds__(THREADS, 2)
add_runs(const double* work, double* __restrict__ col, int runs, int width) {
  const double sum = over_runs<Sum>(work, runs, width);
  const int j = blockIdx.x * TILE + threadIdx.x;
  if (threadIdx.x < TILE && j < width) col[j] += sum;
}

// low = the smallest of the runs and low.
__global__ void __launch_bounds__(THREADS, 2)
lower_to_runs(const double* work, double* __restrict__ low, int runs, int width) {
  const double least = over_runs<Smallest>(work, runs, width);
  const int j = blockIdx.x * TILE + threadIdx.x;
  if (threadIdx.x < TILE && j < width) low[j] = fmin(low[j], least);
}

// ---- bounds --------------------------------------------------------------------------------------------------------

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
gibbs_certificate(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y,
                  const double* __restrict__ g, double scale, const double* __restrict__ a,
                  const double* __restrict__ keep, const double* __restrict__ left, double* __restrict__ f,
                  double* __restrict__ kept, double* __restrict__ short_, double* __restrict__ reach, double* work,
                  int n, int m, int p, int width) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  const Run run(work, n, width);
  const Columns columns(width);
  double *low = run.slot(0), *costs = run.slot(1);
  for (int j = columns.first; j < columns.last; j += 32) low[j] = INFINITY;
  for (int i = run.low; i < run.high; i++) {
    double least[1] = {INFINITY}, sums[4] = {0, 0, 0, 0};
    for (int j = columns.first; j < columns.last; j += 32) {
      costs[j] = j < m ? cost.at(i, j) : INFINITY;
      least[0] = fmin(least[0], costs[j] - g[j]);
    }
    over_block<Smallest>(least);
    for (int j = columns.first; j < columns.last; j += 32) {
      const double c = costs[j], e = exp_or_0((least[0] - (c - g[j])) * scale), whole = e * keep[j];
      sums[0] += e;
      sums[1] += whole > 0 ? whole * c : 0;
      sums[2] += e * (1 - keep[j]);
      sums[3] += left[j] > 0 ? left[j] * c : 0;
      low[j] = fmin(low[j], c - least[0]);
    }
    over_block<Sum>(sums);
    if (threadIdx.x == 0) {
      const double weight = a[i] / sums[0];
      f[i] = least[0];
      kept[i] = weight * sums[1];
      short_[i] = weight * sums[2];
      reach[i] = sums[3];
    }
  }
}

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
rounded_value(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y,
              const double* __restrict__ log_u, const double* __restrict__ log_v, double scale,
              const double* __restrict__ keep, const double* __restrict__ short_, const double* __restrict__ left,
              double* __restrict__ linear, double* __restrict__ entropy, int n, int m, int p) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  const int i = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= n) return;  // whole warps leave together
  double sums[2] = {0, 0};
  for (int j = lane; j < m; j += 32) {
    const double c = cost.at(i, j), whole = exp_or_0(log_u[i] + log_v[j] - scale * c);
    const double rounded = whole * keep[j] + short_[i] * left[j];
    if (rounded > 0) {
      sums[0] += rounded * c;
      sums[1] += rounded * (log(rounded) - 1);
    }
  }
  over_warp<Sum>(sums);
  if (lane == 0) {
    linear[i] = sums[0];
    entropy[i] = sums[1];
  }
}

// ---- the plan ------------------------------------------------------------------------------------------------------

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
plan_dense(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y, const double* __restrict__ log_u,
           const double* __restrict__ log_v, double scale, T* __restrict__ P, int n, int m, int p) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  const int i = blockIdx.x * WARPS + threadIdx.x / 32;
  if (i >= n) return;
  for (int j = threadIdx.x % 32; j < m; j += 32)
    P[(long long)i * m + j] = T(exp_or_0(log_u[i] + log_v[j] - scale * cost.at(i, j)));
}

// The number of entries above the threshold, or, where indptr is not null, those entries from indptr[i] on.
template <typename T, int FROM>
__device__ void above_threshold(const Cost<T, FROM>& cost, const double* log_u, const double* log_v, double scale,
                                double threshold, const long long* indptr, long long* counts, int* indices, T* data,
                                int n) {
  const int i = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= n) return;  // whole warps leave together
  long long end = indptr == nullptr ? 0 : indptr[i];
  for (int base = 0; base < cost.m; base += 32) {
    const int j = base + lane;
    const double mass = j < cost.m ? exp_or_0(log_u[i] + log_v[j] - scale * cost.at(i, j)) : 0;
    const unsigned chosen = __ballot_sync(FULL_WARP, mass > threshold);
    if (indptr != nullptr && mass > threshold) {
      const long long at = end + __popc(chosen & ((1u << lane) - 1));
      indices[at] = j;
      data[at] = T(mass);
    }
    end += __popc(chosen);
  }
  if (indptr == nullptr && lane == 0) counts[i] = end;
}

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
plan_count(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y, const double* __restrict__ log_u,
           const double* __restrict__ log_v, double scale, double threshold, long long* __restrict__ counts, int n,
           int m, int p) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  above_threshold(cost, log_u, log_v, scale, threshold, nullptr, counts, nullptr, (T*)nullptr, n);
}

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
plan_sparse(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y, const double* __restrict__ log_u,
            const double* __restrict__ log_v, double scale, double threshold, const long long* __restrict__ indptr,
            int* __restrict__ indices, T* __restrict__ data, int n, int m, int p) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  above_threshold(cost, log_u, log_v, scale, threshold, indptr, nullptr, indices, data, n);
}

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
plan_moments(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y,
             const double* __restrict__ log_u, const double* __restrict__ log_v, double scale,
             double* __restrict__ rows, double* work, int n, int m, int p, int width) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  const Run run(work, n, width);
  double* col = run.slot(0);
  for (int j = threadIdx.x; j < width; j += THREADS) col[j] = 0;
  for (int i = run.low; i < run.high; i++) {
    double total[1] = {0};
    for (int j = threadIdx.x; j < m; j += THREADS) {
      const double c = cost.at(i, j), mass = exp_or_0(log_u[i] + log_v[j] - scale * c);
      if (mass > 0) {
        col[j] += mass * c;
        total[0] += mass * c;
      }
    }
    over_block<Sum>(total);
    if (threadIdx.x == 0) rows[i] = total[0];
  }
}

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
points_gradient(const T* __restrict__ X, const T* __restrict__ Y, const double* __restrict__ log_u,
                const double* __restrict__ log_v, double scale, const double* __restrict__ alpha,
                const double* __restrict__ beta, double slope, double* __restrict__ gradient, double* work, int n,
                int m, int p, int width) {
  const Cost<T, FROM> cost{nullptr, X, Y, nullptr, m, p};
  const Run run(work, n, width);
  double* weights = run.slot(1);
  for (int i = run.low; i < run.high; i++) {
    for (int j = threadIdx.x; j < m; j += THREADS) {
      const double c = cost.at(i, j), mass = exp_or_0(log_u[i] + log_v[j] - scale * c);
      const double weight = mass * (1 + slope * (alpha[i] + beta[j] - c));
      weights[j] = FROM == SQUARES ? 2 * weight : c > 0 ? weight / c : 0;
    }
    for (int k = 0; k < p; k++) {
      const double here = double(X[(long long)i * p + k]);
      double total[1] = {0};
      for (int j = threadIdx.x; j < m; j += THREADS)
        total[0] += (here - double(Y[(long long)k * m + j])) * weights[j];
      over_block<Sum>(total);
      if (threadIdx.x == 0) gradient[(long long)i * p + k] = total[0];
    }
  }
}

// ---- the cost ------------------------------------------------------------------------------------------------------

template <typename T, int FROM>
__global__ void __launch_bounds__(THREADS, 2)
cost_range(const T* __restrict__ C, const T* __restrict__ X, const T* __restrict__ Y, double* __restrict__ low,
           double* __restrict__ high, long long* __restrict__ forbidden, int n, int m, int p) {
  const Cost<T, FROM> cost{C, X, Y, nullptr, m, p};
  const int i = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= n) return;  // whole warps leave together
  double least[1] = {INFINITY}, most[1] = {-INFINITY}, found[2] = {0, 0};  // of +inf, and of NaN
  for (int j = lane; j < m; j += 32) {
    const double c = cost.at(i, j);
    if (c == INFINITY) {
      found[0]++;
    } else if (c != c) {
      found[1]++;
    } else {
      least[0] = fmin(least[0], c);
      most[0] = fmax(most[0], c);
    }
  }
  over_warp<Smallest>(least);
  over_warp<Largest>(most);
  over_warp<Sum>(found);
  if (lane == 0) {
    low[i] = found[1] > 0 ? double(NAN) : least[0];
    high[i] = found[1] > 0 ? double(NAN) : most[0];
    forbidden[i] = (long long)found[0];
  }
}
