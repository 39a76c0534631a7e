// CUDA twin of contracts/manyot.py: a block of threads a problem. Rows of the plan are done by warps; columns by warps
// of 32 neighbours, that reads are coalesced, several warps sharing the rows of a column where there are few.
#include "common.cuh"

#define THREADS 512
#define WARPS (THREADS / 32)

enum Outcome { OUT_OF_STEPS, MET, STALLED, NOT_FINITE };
#define LEVEL_TOL 3e-3
#define FALL 0.5
#define SHIFT 0.03
#define REACH 4.0
#define SHORTER 0.4
#define TRIALS 12
#define FAILURES 5
#define CG_STEPS 200
#define ROUNDING 1e-10

#define EACH(i, n) for (int i = threadIdx.x; i < n; i += THREADS)

__device__ __forceinline__ double sum(double v) { return block_sum<THREADS>(v); }

// out(j, sum_i entry(i, j)) for all columns j, each by one thread. Reads what other threads wrote before, and ends with
// a barrier.
template <typename Entry, typename Out>
__device__ void over_columns(int n, int m, Entry entry, Out out) {
  __shared__ double found[WARPS][32];
  const int w = threadIdx.x / 32, lane = threadIdx.x % 32, tiles = (m + 31) / 32;
  const int parts = tiles < WARPS ? WARPS / tiles : 1, first = w / parts, part = w % parts;
  __syncthreads();  // what others wrote is there
  for (int tile = first; tile < tiles; tile += WARPS) {  // more than once with parts = 1 only
    const int j = tile * 32 + lane;
    double total = 0;
    if (j < m)
      for (int i = part; i < n; i += parts) total += entry(i, j);
    if (parts == 1) {
      if (j < m) out(j, total);
    } else {
      found[w][lane] = total;
    }
  }
  __syncthreads();
  if (parts > 1 && part == 0 && first < tiles && first * 32 + lane < m) {
    double total = 0;
    for (int p = 0; p < parts; p++) total += found[w + p][lane];
    out(first * 32 + lane, total);
  }
  __syncthreads();
}

// One problem. Pointers are to its own parts; every thread takes the same way through it.
template <typename T>
struct Item {
  const T* C;
  const double *a, *b;
  double *f, *g, *col, *P, *t;                              // t (n,)
  double *x, *residual, *p, *y, *d, *dinv, *trial, *before;  // (m,)
  int n, m;

  // f of (1) for these g, P and its column sums; |P'1 - b|_1, or infinity where a column is empty
  __device__ double evaluate(double r, const double* g) {
    const int lane = threadIdx.x % 32;
    const double inverse = 1 / r;
    __syncthreads();  // g is complete
    for (int i = threadIdx.x / 32; i < n; i += WARPS) {
      const T* c = C + (long long)i * m;
      double top = -INFINITY, total = 0;
      for (int j = lane; j < m; j += 32) top = fmax(top, (g[j] - double(c[j])) * inverse);
      for (int s = 16; s; s >>= 1) top = fmax(top, __shfl_xor_sync(FULL_WARP, top, s));
      for (int j = lane; j < m; j += 32) total += exp((g[j] - double(c[j])) * inverse - top);
      total = group_sum<32>(total);
      if (lane == 0) f[i] = r * (log(a[i]) - top - log(total));
    }
    over_columns(
        n, m,
        [&](int i, int j) {
          const long long at = (long long)i * m + j;
          return P[at] = exp((f[i] + g[j] - double(C[at])) * inverse);
        },
        [&](int j, double total) { col[j] = total; });
    double error = 0;
    EACH(j, m) error += col[j] > 1e-300 ? fabs(col[j] - b[j]) : double(INFINITY);
    return sum(error);
  }

  // y = (diag(d) - P' diag(1/a) P) p, and p.y
  __device__ double product() {
    __syncthreads();  // p is complete
    for (int i = threadIdx.x / 32; i < n; i += WARPS) {
      double total = 0;
      for (int j = threadIdx.x % 32; j < m; j += 32) total += P[(long long)i * m + j] * p[j];
      total = group_sum<32>(total);
      if (threadIdx.x % 32 == 0) t[i] = total / a[i];
    }
    over_columns(
        n, m, [&](int i, int j) { return P[(long long)i * m + j] * t[i]; },
        [&](int j, double total) { y[j] = d[j] * p[j] - total; });
    double dot = 0;
    EACH(j, m) dot += p[j] * y[j];
    return sum(dot);
  }

  // x is the step in g / r, no longer than REACH to either side; returns the slope of phi along it
  __device__ double newton_step(double error) {
    over_columns(
        n, m,
        [&](int i, int j) {
          const double entry = P[(long long)i * m + j];
          return entry * entry / a[i];
        },
        [&](int j, double total) { dinv[j] = total; });
    double rz = 0;
    EACH(j, m) {
      d[j] = col[j] + SHIFT * fmin(error, 1.0) * b[j];
      dinv[j] = 1 / fmax(d[j] - dinv[j], 1e-14 * d[j]);
      x[j] = 0;
      residual[j] = b[j] - col[j];
      p[j] = dinv[j] * residual[j];
      rz += residual[j] * p[j];
    }
    rz = sum(rz);
    const double tol = fmin(0.1, fmax(0.3 * sqrt(error), 1e-4)), tol2 = tol * tol * rz;
    for (int k = 0; k < CG_STEPS && rz > tol2; k++) {
      const double curvature = product();
      if (!(curvature > 0)) break;
      const double alpha = rz / curvature, old = rz;
      rz = 0;
      EACH(j, m) {
        x[j] += alpha * p[j];
        residual[j] -= alpha * y[j];
        rz += residual[j] * residual[j] * dinv[j];
      }
      rz = sum(rz);
      EACH(j, m) p[j] = dinv[j] * residual[j] + rz / old * p[j];
    }
    double centre = 0, high = 0, low = 0, down = 0, along = 0;
    EACH(j, m) centre += b[j] * x[j];
    centre = sum(centre);
    EACH(j, m) {
      x[j] -= centre;
      high = larger(x[j] > 0 ? x[j] : 0, high);
      low = larger(x[j] < 0 ? -x[j] : 0, low);
      down += (col[j] - b[j]) * x[j];
      along += (col[j] - b[j]) * fmin(fmax(x[j], -REACH), REACH);
    }
    high = block_max<THREADS>(high);
    down = sum(down);
    low = block_max<THREADS>(low);
    along = sum(along);
    if (high + low <= 2 * REACH) return down;
    const double length = 2 * REACH / (high + low);
    const bool clip = along < 0.02 * down * length;
    EACH(j, m) x[j] = clip ? fmin(fmax(x[j], -REACH), REACH) : length * x[j];
    return clip ? along : length * down;
  }

  // a.f + b.g
  __device__ double dual(const double* g) {
    double total = 0;
    EACH(i, n) total += a[i] * f[i];
    EACH(j, m) total += b[j] * g[j];
    return sum(total);
  }

  __device__ int solve(double reg, double tol, int limit, double& r, double& error, int& taken) {
    int sinkhorn = 0, failures = 0, slow = 0, levels = 0;
    bool quick = true;
    error = evaluate(r, g);
    while (true) {
      if (!finite(error)) return NOT_FINITE;
      if (error <= (r > reg ? fmax(LEVEL_TOL, tol) : 0.5 * tol)) {
        if (!(r > reg)) return MET;
        double centre = 0;
        EACH(j, m) centre += levels ? b[j] * (g[j] - before[j]) : 0;
        centre = sum(centre);
        EACH(j, m) {
          const double ahead = levels ? g[j] - before[j] - centre : 0;
          before[j] = g[j];
          g[j] += 0.25 * ahead;
        }
        r /= 4;
        levels++;
        error = evaluate(r, g);
        quick = true;
        sinkhorn = 0;
        continue;
      }
      if (taken >= limit) return OUT_OF_STEPS;
      if (failures > FAILURES || slow > 3) return STALLED;
      taken++;
      const double last = error;
      if (quick) {
        EACH(j, m) g[j] += r * (log(b[j]) - log(col[j]));
        error = evaluate(r, g);
        sinkhorn++;
        quick = sinkhorn < 2 || error <= FALL * last;
        continue;
      }
      const double phi = -dual(g) / r, down = newton_step(error);
      double length = 1;
      bool helped = false;
      for (int k = 0; k < TRIALS && !helped; k++) {
        if (k) length *= SHORTER;
        EACH(j, m) trial[j] = g[j] + length * r * x[j];
        error = evaluate(r, trial);
        const double least = phi + 1e-4 * length * down + 1e-14 * fmax(1.0, fabs(phi));
        helped = error < 0.5 * last || (finite(error) && -dual(trial) / r <= least);
      }
      if (helped) {
        EACH(j, m) g[j] = trial[j];
      } else {
        error = evaluate(r, g);
      }
      if (!helped || (length < 0.05 && error > 0.9 * last)) {
        failures++;
        quick = true;
        sinkhorn = 0;
      }
      slow = error < ROUNDING && error > 0.5 * last ? slow + 1 : 0;
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
transport_items(const T* __restrict__ C, const double* __restrict__ a, const double* __restrict__ b,
                const long long* __restrict__ places, const int* __restrict__ sizes, double reg, const double* __restrict__ tol,
                int limit,
                double* __restrict__ r, double* __restrict__ f, double* __restrict__ g, double* __restrict__ columns,
                double* __restrict__ error, int* __restrict__ nit, int* __restrict__ outcome, double* __restrict__ room,
                double* __restrict__ wide, double* __restrict__ tall, long long all_columns) {
  const int item = blockIdx.x;
  if (outcome[item] != OUT_OF_STEPS) return;  // the whole block
  const long long* place = places + 4 * item;
  const long long row = place[2], column = place[3];
  double* vector[8];
#pragma unroll
  for (int k = 0; k < 8; k++) vector[k] = wide + k * all_columns + column;
  Item<T> one{C + place[0], a + row, b + column, f + row, g + column, columns + column, room + place[1], tall + row,
              vector[0], vector[1], vector[2], vector[3], vector[4], vector[5], vector[6], vector[7],
              sizes[2 * item], sizes[2 * item + 1]};
  double at = r[item], left;
  int taken = 0;
  const int end = one.solve(reg, tol[item], limit, at, left, taken);
  if (threadIdx.x == 0) {
    r[item] = at;
    error[item] = left;
    nit[item] += taken;
    outcome[item] = end;
  }
}
