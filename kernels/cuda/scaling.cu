// CUDA twins of contracts/scaling.py. Kernels that add up over rows run one block for each run of rows (runs.cuh), 32
// blocks of 8 columns at a time; between two rows its threads meet, because rows share columns. What keeps rows apart
// runs a warp for each. Steps read on the device whether there is anything left to do.
#include "runs.cuh"

#define UNDERFLOW 1e-290
#define A_NOT_POSITIVE -1.0
#define SCALING 0  // what a row's sum is made to before it is added back: (given / sum)^power, given sum, or given row
#define PRODUCT 1
#define GIVEN 2

// ---- products ------------------------------------------------------------------------------------------------------

// s = R x, and each run's part of R' z. Nothing happens unless state is null or state[at] > above.
template <typename T, int WEIGHT>
__global__ void __launch_bounds__(THREADS, 2)
sweep(const long long* __restrict__ starts, const long long* __restrict__ ends, const int* __restrict__ offsets,
      const T* __restrict__ values, const double* __restrict__ x, const double* __restrict__ given, double power,
      const double* __restrict__ row, const double* __restrict__ state, int at, double above, double* __restrict__ s,
      double* work, int n, int width) {
  if (state != nullptr && !(state[at] > above)) return;  // all blocks
  const Run run(work, n, width);
  const int lane = threadIdx.x % LANES;
  double* y = run.slot(0);
  for (int j = threadIdx.x; j < width; j += THREADS) y[j] = 0;
  for (int i = run.low; i < run.high; i++) {
    const long long first = starts[i] + threadIdx.x / LANES, last = ends[i];
    double total[1] = {0};
    for (long long k = first; k < last; k += THREADS / LANES)
      total[0] += double(values[k * LANES + lane]) * x[offsets[k] + lane];
    over_block<Sum>(total);
    double weight = given[i];
    if (WEIGHT == SCALING) weight = power == 1 ? weight / total[0] : pow(weight / total[0], power);
    if (WEIGHT == PRODUCT) weight *= total[0];
    if (WEIGHT == GIVEN) weight *= row[i];
    for (long long k = first; k < last; k += THREADS / LANES)
      y[offsets[k] + lane] += weight * double(values[k * LANES + lane]);
    if (threadIdx.x == 0) s[i] = total[0];
  }
}

// Each run's part of the diagonal of R' diag(weights) R, or of the columns' maxima of diag(weights) R.
template <typename T, bool DIAGONAL>
__global__ void __launch_bounds__(THREADS, 2)
by_column(const long long* __restrict__ starts, const long long* __restrict__ ends, const int* __restrict__ offsets,
          const T* __restrict__ values, const double* __restrict__ weights, double* work, int n, int width) {
  const Run run(work, n, width);
  const int lane = threadIdx.x % LANES;
  double* y = run.slot(0);
  for (int j = threadIdx.x; j < width; j += THREADS) y[j] = 0;
  for (int i = run.low; i < run.high; i++) {
    __syncthreads();
    for (long long k = starts[i] + threadIdx.x / LANES; k < ends[i]; k += THREADS / LANES) {
      const double value = double(values[k * LANES + lane]), scaled = weights[i] * value;
      const int j = offsets[k] + lane;
      y[j] = DIAGONAL ? y[j] + scaled * value : fmax(y[j], scaled);
    }
  }
}

// out = the sum, or the largest, of the runs.
template <typename Op>
__device__ void runs_to(const double* work, double* out, int runs, int width) {
  const double v = over_runs<Op>(work, runs, width);
  const int j = blockIdx.x * TILE + threadIdx.x;
  if (threadIdx.x < TILE && j < width) out[j] = v;
}

__global__ void __launch_bounds__(THREADS, 2)
sum_runs(const double* work, double* __restrict__ out, int runs, int width) {
  runs_to<Sum>(work, out, runs, width);
}

__global__ void __launch_bounds__(THREADS, 2)
largest_of_runs(const double* work, double* __restrict__ out, int runs, int width) {
  runs_to<Largest>(work, out, runs, width);
}

// The sum over the block of what the tiles of the last launch have left in slot 2 of the first run.
__device__ double over_tiles(const double* work, int width) {
  double total[1] = {0};
  for (int t = threadIdx.x; t < (width + TILE - 1) / TILE; t += THREADS) total[0] += work[2 * width + t];
  over_block<Sum>(total);
  return total[0];
}

// Leave there the sum over a tile; v counts in the first TILE threads.
__device__ void leave_for_tile(double v, double* work, int width) {
  if (threadIdx.x >= TILE) return;  // a whole warp is left
  double total[1] = {v};
  over_warp<Sum>(total);
  if (threadIdx.x == 0) work[2 * width + blockIdx.x] = total[0];
}

// ---- Sinkhorn ------------------------------------------------------------------------------------------------------

// y = R'u and the marginal's error, by tiles. err[k] is -1 where nothing is left to do, from the step before.
__global__ void __launch_bounds__(THREADS, 2)
sinkhorn_columns(const double* __restrict__ v, const double* __restrict__ b, double power_b,
                 const double* __restrict__ err, int k, double* __restrict__ y, double* work, int runs, int width) {
  if (k > 0 && err[k] < 0) return;
  const double sum = over_runs<Sum>(work, runs, width);
  const int j = blockIdx.x * TILE + threadIdx.x;
  double error = 0;
  if (threadIdx.x < TILE && j < width) {
    y[j] = sum;
    const double target = power_b == 1 ? b[j] : b[j] * pow(v[j], 1 - 1 / power_b);
    error = b[j] > 0 && !(sum > UNDERFLOW) ? INFINITY : fabs(v[j] * sum - target);
  }
  leave_for_tile(error, work, width);
}

// One block: err[k], whether to go on, and if so, and k is not the last, the next v.
__global__ void __launch_bounds__(THREADS, 2)
sinkhorn_update(const double* __restrict__ y, const double* __restrict__ b, double power_b, double tol, double rate,
                int warm, int last, int k, double* __restrict__ v, double* __restrict__ err, const double* work,
                int width) {
  const bool rests = k > 0 && err[k] < 0;
  const double before = k > 0 ? err[k - 1] : INFINITY, error = over_tiles(work, width);
  const bool goes_on = !rests && tol < error && error < INFINITY && !(k > warm && error > rate * before);
  if (threadIdx.x == 0) {
    if (!rests) err[k] = error;
    if (k < last) err[k + 1] = goes_on ? 0 : -1;
  }
  if (!goes_on || k == last) return;
  for (int j = threadIdx.x; j < width; j += THREADS)
    if (b[j] > 0) v[j] = power_b == 1 ? b[j] / y[j] : pow(b[j] / y[j], power_b);
}

// ---- annealing -----------------------------------------------------------------------------------------------------

// Where a warp puts the blocks that it keeps of the four it has at hand: each group of LANES lanes gets its place.
struct Places {
  bool mine;     // whether this group's block is kept
  long long at;  // where to
  __device__ Places(bool keep, int group, long long& end) {
    const unsigned kept = __ballot_sync(FULL_WARP, keep);
    mine = kept >> (group * LANES) & 0xff;
    at = end;
    for (int g = 0; g < 32 / LANES; g++) {
      const int any = (kept >> (g * LANES) & 0xff) != 0;
      if (g < group) at += any;
      end += any;
    }
  }
};

// A warp a run of rows, of which there are `runs`. Only lane 0 reads and writes starts and ends.
__global__ void __launch_bounds__(THREADS, 2)
anneal(int runs, const double* __restrict__ v, const double* __restrict__ u, const double* __restrict__ top,
       double drop, long long* starts, long long* ends, int* offsets, double* values, int n) {
  const int run = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % LANES, group = threadIdx.x % 32 / LANES;
  if (run >= runs) return;  // whole warps leave together
  const bool leads = threadIdx.x % 32 == 0;
  const int low = int((long long)run * n / runs), high = int((long long)(run + 1) * n / runs);
  long long end = 0;
  for (int i = low; i < high; i++) {
    const long long first = __shfl_sync(FULL_WARP, leads ? starts[i] : 0, 0);
    const long long last = __shfl_sync(FULL_WARP, leads ? ends[i] : 0, 0);
    if (i == low) end = first;
    if (leads) starts[i] = end;
    double peak[1] = {0};
    for (long long k = first + group; k < last; k += 32 / LANES)
      peak[0] = fmax(peak[0], values[k * LANES + lane] * v[offsets[k] + lane]);
    over_warp<Largest>(peak);
    for (long long base = first; base < last; base += 32 / LANES) {
      const long long k = base + group;
      const int offset = k < last ? offsets[k] : 0;
      const double scaled = k < last ? values[k * LANES + lane] * v[offset + lane] : 0;
      const bool keep = k < last && (scaled > drop * peak[0] || u[i] * scaled > drop * top[offset + lane]);
      const Places places(keep, group, end);
      __syncwarp();  // all have read before one writes
      if (places.mine) {
        const double square = keep ? (scaled / peak[0]) * (scaled / peak[0]) : 0;
        values[places.at * LANES + lane] = square * square;
        if (lane == 0) offsets[places.at] = offset;
      }
    }
    if (leads) ends[i] = end;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 2)
pack(const long long* __restrict__ starts, const long long* __restrict__ ends, const int* __restrict__ offsets,
     const T* __restrict__ values, const long long* __restrict__ packed_starts, int* __restrict__ packed_offsets,
     T* __restrict__ packed_values, int n) {
  const int i = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % LANES;
  if (i >= n) return;
  const long long first = starts[i], to = packed_starts[i], count = ends[i] - first;
  for (long long k = threadIdx.x % 32 / LANES; k < count; k += 32 / LANES) {
    packed_values[(to + k) * LANES + lane] = values[(first + k) * LANES + lane];
    if (lane == 0) packed_offsets[to + k] = offsets[first + k];
  }
}

// ---- Newton --------------------------------------------------------------------------------------------------------

__device__ __forceinline__ double toward_zero(double x, double) { return x; }

__device__ __forceinline__ float toward_zero(double x, float) {
  return float(__longlong_as_double(__double_as_longlong(x) & ~((1LL << 29) - 1)));
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 2)
compact(int runs, const long long* __restrict__ starts, const long long* __restrict__ ends,
        const int* __restrict__ offsets, const double* __restrict__ values, const double* __restrict__ v,
        const double* __restrict__ s, const double* __restrict__ a, const double* __restrict__ b, double threshold,
        long long* __restrict__ kept_starts, long long* __restrict__ kept_ends, int* __restrict__ kept_offsets,
        T* __restrict__ kept_values, int n) {
  const int run = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % LANES, group = threadIdx.x % 32 / LANES;
  if (run >= runs) return;  // whole warps leave together
  const bool leads = threadIdx.x % 32 == 0;
  const int low = int((long long)run * n / runs), high = int((long long)(run + 1) * n / runs);
  long long end = low < high ? starts[low] : 0;
  for (int i = low; i < high; i++) {
    const long long last = ends[i];
    const double inverse = 1 / s[i];
    if (leads) kept_starts[i] = end;
    for (long long base = starts[i]; base < last; base += 32 / LANES) {
      const long long k = base + group;
      const int offset = k < last ? offsets[k] : 0;
      const double scaled = k < last ? values[k * LANES + lane] * v[offset + lane] * inverse : 0;
      const bool keep = k < last && (scaled > threshold || a[i] * scaled > threshold * b[offset + lane]);
      const Places places(keep, group, end);
      if (places.mine) {
        kept_values[places.at * LANES + lane] = toward_zero(keep ? scaled : 0.0, T());
        if (lane == 0) kept_offsets[places.at] = offset;
      }
    }
    if (leads) kept_ends[i] = end;
  }
}

// S p, to slot 1 of the first run, and the parts of p.Sp by tiles.
__global__ void __launch_bounds__(THREADS, 2)
schur_product(const double* __restrict__ d, const double* __restrict__ p, const double* __restrict__ rz, int k,
              double tol2, double* work, int runs, int width) {
  if (!(rz[k - 1] > tol2)) return;
  const double sum = over_runs<Sum>(work, runs, width);
  const int j = blockIdx.x * TILE + threadIdx.x;
  double curvature = 0;
  if (threadIdx.x < TILE && j < width) {
    const double product = d[j] * p[j] - sum;
    work[width + j] = product;
    curvature = p[j] * product;
  }
  leave_for_tile(curvature, work, width);
}

// One block: the rest of iteration k.
__global__ void __launch_bounds__(THREADS, 2)
schur_update(const double* __restrict__ dinv, double tol2, int k, double* __restrict__ x, double* __restrict__ r,
             double* __restrict__ p, double* __restrict__ rz, const double* work, int width) {
  const double before = rz[k - 1];
  const double curvature = before > tol2 ? over_tiles(work, width) : 1;
  if (!(before > tol2) || !(curvature > 0)) {
    if (threadIdx.x == 0) rz[k] = before > tol2 ? A_NOT_POSITIVE : before;
    return;  // the whole block
  }
  const double step = before / curvature;
  double total[1] = {0};
  for (int j = threadIdx.x; j < width; j += THREADS) {
    const double left = r[j] - step * work[width + j];
    x[j] += step * p[j];
    r[j] = left;
    total[0] += dinv[j] * left * left;
  }
  over_block<Sum>(total);
  if (threadIdx.x == 0) rz[k] = total[0];
  if (total[0] > tol2)
    for (int j = threadIdx.x; j < width; j += THREADS) p[j] = dinv[j] * r[j] + total[0] / before * p[j];
}
