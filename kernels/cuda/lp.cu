// CUDA twins of contracts/lp.py. A block takes ROWS rows (or columns) of one program, blockIdx.y, with WIDTH lanes a row.
// Whether a program rests, starts from a new anchor or has ended is read on the device, so that a block of iterations is
// launched without a look at what it does. What blocks add up goes to `work`, (batch, SLOTS, blocks), and is summed in a
// second launch, in a fixed order.
#include "common.cuh"

#define THREADS 256
#define ROWS 256

enum State { OUTCOME, WEIGHT, ETA, INTEGRAL, FIRST, LAST, MOVED, TOTAL, INNER, RESTARTS, STATE };
#define RUNNING 0.0
#define MET 1.0
#define NOT_FINITE 2.0
enum Scalar { OBJECTIVE_UNIT, OFFSET, ROW_NORM, COLUMN_NORM, SCALARS };
enum Error { PRIMAL, DUAL, GAP, PRIMAL_OBJECTIVE, DUAL_OBJECTIVE, OBJECTIVE_ERROR, ROW_VIOLATION, COLUMN_VIOLATION, ERRORS };
// of `work`; rows leave the first nine, columns the others
enum Slot { PRIMAL2, DUAL2, PAID, SLACK, MOVED2, CROSS, DISTANCE2, WORST_ROW, WORST_COLUMN, SIDE, SLOTS = 2 * SIDE };
#define COST CROSS  // columns have no cross term, rows no cost

struct Csr {  // of one program
  const int* __restrict__ indptr;
  const int* __restrict__ indices;
  const double* __restrict__ data;
};

// The rows of a block, WIDTH lanes each: rows.next() while there are any, then rows.product(...) by all lanes of a warp.
template <int WIDTH>
struct Rows {
  const int lane, high;
  int row;
  __device__ explicit Rows(int n)
      : lane(threadIdx.x % WIDTH), high(min((int(blockIdx.x) + 1) * ROWS, n)),
        row(int(blockIdx.x) * ROWS + int(threadIdx.x) / WIDTH - THREADS / WIDTH) {}
  __device__ bool next() {  // the same in all threads
    row += THREADS / WIDTH;
    return row - int(threadIdx.x) / WIDTH < high;
  }
  __device__ bool mine() const { return row < high && lane == 0; }
  __device__ double product(const Csr& A, const double* __restrict__ x) const {
    double total = 0;
    if (row < high)
      for (int k = A.indptr[row] + lane; k < A.indptr[row + 1]; k += WIDTH) total += A.data[k] * x[A.indices[k]];
    return group_sum<WIDTH>(total);
  }
};

// NaN stays.
__device__ __forceinline__ double clip(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

// ---- scaling -------------------------------------------------------------------------------------------------------

template <int WIDTH, bool BY_SUM>
__global__ void __launch_bounds__(THREADS, 2)
lp_equilibrate(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
               const double* __restrict__ own, const double* __restrict__ other, double* __restrict__ out, int nnz, int m,
               int n) {
  const long long s = blockIdx.y;
  const double *values = data + s * nnz, *theirs = other + s * n;
  for (Rows<WIDTH> rows(m); rows.next();) {
    const double mine = rows.row < rows.high ? own[s * m + rows.row] : 1.0;
    double size = 0;
    if (rows.row < rows.high)
      for (int k = indptr[rows.row] + rows.lane; k < indptr[rows.row + 1]; k += WIDTH) {
        const double entry = fabs(values[k] / theirs[indices[k]]);
        size = BY_SUM ? size + entry : fmax(size, entry);
      }
    for (int d = WIDTH / 2; d; d >>= 1) {
      const double far = __shfl_xor_sync(FULL_WARP, size, d);
      size = BY_SUM ? size + far : fmax(size, far);
    }
    if (rows.mine()) out[s * m + rows.row] = size > 0 ? mine * sqrt(size / mine) : mine;
  }
}

template <int WIDTH>
__global__ void __launch_bounds__(THREADS, 2)
lp_scale(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
         const double* __restrict__ own, const double* __restrict__ other, double* __restrict__ out, int nnz, int m,
         int n) {
  const long long s = blockIdx.y;
  const double *values = data + s * nnz, *theirs = other + s * n;
  for (Rows<WIDTH> rows(m); rows.next();) {
    if (rows.row >= rows.high) continue;
    const double factor = 1 / own[s * m + rows.row];
    for (int k = indptr[rows.row] + rows.lane; k < indptr[rows.row + 1]; k += WIDTH)
      out[s * nnz + k] = factor * (values[k] / theirs[indices[k]]);
  }
}

// y = A x
template <int WIDTH>
__global__ void __launch_bounds__(THREADS, 2)
lp_product(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
           const double* __restrict__ x, double* __restrict__ y, int nnz, int m, int n) {
  const long long s = blockIdx.y;
  const Csr A{indptr, indices, data + s * nnz};
  for (Rows<WIDTH> rows(m); rows.next();) {
    const double total = rows.product(A, x + s * n);
    if (rows.mine()) y[s * m + rows.row] = total;
  }
}

// One block a program: the value and what it leaves open, of v and the `product` A A'v; out of that, |v| = 1. `v` and
// `product` are two arrays, of which `to` is one.
__global__ void __launch_bounds__(THREADS, 2)
lp_power_end(const double* v, const double* product, double* to, double* __restrict__ out, int m) {
  const long long at = (long long)blockIdx.x * m;
  double size = 0, overlap = 0, square = 0;
  for (int i = threadIdx.x; i < m; i += THREADS) {
    size += v[at + i] * v[at + i];
    overlap += v[at + i] * product[at + i];
    square += product[at + i] * product[at + i];
  }
  size = block_sum<THREADS>(size);
  overlap = block_sum<THREADS>(overlap);
  square = block_sum<THREADS>(square);
  const double norm = sqrt(square);
  for (int i = threadIdx.x; i < m; i += THREADS) to[at + i] = norm > 0 ? product[at + i] / norm : 0;
  if (threadIdx.x == 0) {
    const double value = size > 0 ? overlap / size : 0;
    out[2 * blockIdx.x] = value;
    out[2 * blockIdx.x + 1] = size > 0 ? sqrt(fmax(square / size - value * value, 0.0)) : 0;
  }
}

// ---- iteration -----------------------------------------------------------------------------------------------------

// What a step needs to know of its program: it is the `since`-th after the last look.
struct Step {
  bool running, keep;
  double tau, sigma, share;
  __device__ Step(const double* __restrict__ state, int since, int keep_all) {
    running = state[OUTCOME] == RUNNING;
    keep = keep_all || (since == 1 && state[INNER] == 0);  // the first from an anchor
    tau = state[ETA] / state[WEIGHT];
    sigma = state[ETA] * state[WEIGHT];
    share = (state[INNER] + since) / (state[INNER] + since + 1);
  }
};

// (1) for x, and (3).
template <int WIDTH>
__global__ void __launch_bounds__(THREADS, 2)
lp_columns(const int* __restrict__ tindptr, const int* __restrict__ tindices, const double* __restrict__ tdata,
           const double* __restrict__ c, const double* __restrict__ lower, const double* __restrict__ upper,
           const double* __restrict__ state, int since, int keep_all, double* __restrict__ x, const double* __restrict__ y,
           const double* __restrict__ x0, double* __restrict__ p, double* __restrict__ dx, double* __restrict__ reflected,
           int nnz, int m, int n) {
  const long long s = blockIdx.y;
  const Step step(state + s * STATE, since, keep_all);
  if (!step.running) return;  // the whole block
  const Csr A{tindptr, tindices, tdata + s * nnz};
  for (Rows<WIDTH> rows(n); rows.next();) {
    const double total = rows.product(A, y + s * m);
    if (!rows.mine()) continue;
    const long long j = s * n + rows.row;
    const double at = x[j], to = clip(at - step.tau * (c[j] - total), lower[j], upper[j]), beyond = 2 * to - at;
    if (step.keep) {
      p[j] = to;
      dx[j] = to - at;
    }
    reflected[j] = beyond;
    x[j] = step.share * beyond + (1 - step.share) * x0[j];
  }
}

// (2), and (3).
template <int WIDTH>
__global__ void __launch_bounds__(THREADS, 2)
lp_rows(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
        const double* __restrict__ row_lower, const double* __restrict__ row_upper, const double* __restrict__ state,
        int since, int keep_all, double* __restrict__ y, const double* __restrict__ y0, double* __restrict__ q,
        double* __restrict__ dy, const double* __restrict__ reflected, int nnz, int m, int n) {
  const long long s = blockIdx.y;
  const Step step(state + s * STATE, since, keep_all);
  if (!step.running) return;  // the whole block
  const Csr A{indptr, indices, data + s * nnz};
  for (Rows<WIDTH> rows(m); rows.next();) {
    const double total = rows.product(A, reflected + s * n);
    if (!rows.mine()) continue;
    const long long i = s * m + rows.row;
    const double at = y[i], t = at - step.sigma * total;
    const double to = t - clip(t, -step.sigma * row_upper[i], -step.sigma * row_lower[i]);
    if (step.keep) {
      q[i] = to;
      dy[i] = to - at;
    }
    y[i] = step.share * (2 * to - at) + (1 - step.share) * y0[i];
  }
}

// ---- looks ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ double size_of(double bound) { return fabs(bound) < INFINITY ? fabs(bound) : 0; }

// What the side is worth that a multiplier pays, and how much of it pays an infinite side.
__device__ __forceinline__ void unmet(double multiplier, double low, double high, double& paid, double& wrong) {
  const double side = multiplier > 0 ? low : high;
  paid = wrong = 0;
  if (multiplier == 0) return;
  if (fabs(side) < INFINITY) paid = multiplier * side;
  else if (multiplier == multiplier) wrong = fabs(multiplier);
  else paid = wrong = multiplier;
}

// A block's sums and maxima, SIDE slots from `first` on.
struct Sums {
  double v[SIDE];
  __device__ Sums() {
    for (int slot = 0; slot < SIDE; slot++) v[slot] = 0;
  }
  __device__ void raise(int slot, double value) { v[slot] = larger(value, v[slot]); }
  __device__ void leave(double* __restrict__ work, int first, int blocks) {
    for (int slot = 0; slot < WORST_ROW; slot++) {
      const double total = block_sum<THREADS>(v[slot]);
      if (threadIdx.x == 0) work[(first + slot) * blocks + blockIdx.x] = total;
    }
    for (int slot = WORST_ROW; slot < SIDE; slot++) {
      const double top = block_max<THREADS>(v[slot]);
      if (threadIdx.x == 0) work[(first + slot) * blocks + blockIdx.x] = top;
      __syncthreads();  // before the next maximum
    }
  }
};

// What rows contribute to the errors of (p, q), and, where there is a state, to (4) and the distance from the anchor.
template <int WIDTH>
__global__ void __launch_bounds__(THREADS, 2)
lp_look_rows(const int* __restrict__ indptr, const int* __restrict__ indices, const double* __restrict__ data,
             const double* __restrict__ row_lower, const double* __restrict__ row_upper,
             const double* __restrict__ row_unit, const double* __restrict__ scalars, const double* __restrict__ p,
             const double* __restrict__ q, const double* __restrict__ state, const double* __restrict__ y0,
             const double* __restrict__ dx, const double* __restrict__ dy, double* __restrict__ work, int nnz, int m,
             int n, int blocks) {
  const long long s = blockIdx.y;
  const bool moving = state != nullptr;
  if (moving && state[s * STATE + OUTCOME] != RUNNING) return;  // the whole block
  const Csr A{indptr, indices, data + s * nnz};
  const double unit = scalars[s * SCALARS + OBJECTIVE_UNIT];
  Sums sums;
  for (Rows<WIDTH> rows(m); rows.next();) {
    const double g = rows.product(A, p + s * n);
    const double change = moving ? rows.product(A, dx + s * n) : 0.0;
    if (!rows.mine()) continue;
    const long long i = s * m + rows.row;
    const double low = row_lower[i], high = row_upper[i], y = q[i];
    double over = larger(g - high, larger(low - g, 0.0)), paid, wrong;
    unmet(y, low, high, paid, wrong);
    sums.v[PAID] += paid;
    sums.v[SLACK] += fabs(y) * over;
    over *= row_unit[i];
    wrong *= unit / row_unit[i];
    sums.v[PRIMAL2] += over * over;
    sums.v[DUAL2] += wrong * wrong;
    sums.raise(WORST_ROW, over / (1 + fmax(size_of(low), size_of(high)) * row_unit[i]));
    sums.raise(WORST_COLUMN, wrong);
    if (moving) {
      sums.v[MOVED2] += dy[i] * dy[i];
      sums.v[CROSS] += dy[i] * change;
      sums.v[DISTANCE2] += (y - y0[i]) * (y - y0[i]);
    }
  }
  sums.leave(work + s * SLOTS * blocks, 0, blocks);
}

// The same of columns.
template <int WIDTH>
__global__ void __launch_bounds__(THREADS, 2)
lp_look_columns(const int* __restrict__ tindptr, const int* __restrict__ tindices, const double* __restrict__ tdata,
                const double* __restrict__ c, const double* __restrict__ lower, const double* __restrict__ upper,
                const double* __restrict__ col_unit, const double* __restrict__ scalars, const double* __restrict__ p,
                const double* __restrict__ q, const double* __restrict__ state, const double* __restrict__ x0,
                const double* __restrict__ dx, double* __restrict__ work, int nnz, int m, int n, int blocks) {
  const long long s = blockIdx.y;
  const bool moving = state != nullptr;
  if (moving && state[s * STATE + OUTCOME] != RUNNING) return;  // the whole block
  const Csr A{tindptr, tindices, tdata + s * nnz};
  const double unit = scalars[s * SCALARS + OBJECTIVE_UNIT];
  Sums sums;
  for (Rows<WIDTH> rows(n); rows.next();) {
    const double total = rows.product(A, q + s * m);
    if (!rows.mine()) continue;
    const long long j = s * n + rows.row;
    const double z = c[j] - total, low = lower[j], high = upper[j], x = p[j], x_unit = unit / col_unit[j];
    double paid, wrong;
    unmet(z, low, high, paid, wrong);
    sums.v[COST] += c[j] * x;
    sums.v[PAID] += paid;
    sums.v[SLACK] += fabs(x) * wrong;
    wrong *= col_unit[j];
    const double over = larger(x - high, larger(low - x, 0.0)) * x_unit;
    sums.v[PRIMAL2] += over * over;
    sums.v[DUAL2] += wrong * wrong;
    sums.raise(WORST_ROW, over / (1 + fmax(size_of(low), size_of(high)) * x_unit));
    sums.raise(WORST_COLUMN, wrong / (1 + fabs(c[j]) * col_unit[j]));
    if (moving) {
      sums.v[MOVED2] += dx[j] * dx[j];
      sums.v[DISTANCE2] += (x - x0[j]) * (x - x0[j]);
    }
  }
  sums.leave(work + s * SLOTS * blocks, SIDE, blocks);
}

// What all blocks of a program left; by a warp, in every lane.
struct Totals {
  const double* work;
  const int blocks, row_blocks, column_blocks;
  __device__ double part(int slot, int count, bool largest) const {
    double v = 0;
    for (int b = threadIdx.x; b < count; b += 32) {
      const double w = work[slot * blocks + b];
      v = largest ? larger(w, v) : v + w;
    }
    for (int d = 16; d; d >>= 1) {
      const double far = __shfl_xor_sync(FULL_WARP, v, d);
      v = largest ? larger(far, v) : v + far;
    }
    return v;
  }
  __device__ double rows(int slot) const { return part(slot, row_blocks, slot >= WORST_ROW); }
  __device__ double columns(int slot) const { return part(SIDE + slot, column_blocks, slot >= WORST_ROW); }
};

__device__ double moved(const Totals& totals, const double* state) {
  const double sx = totals.columns(MOVED2), sy = totals.rows(MOVED2), cross = totals.rows(CROSS), w = state[WEIGHT];
  const double squared = w * sx + sy / w + 2 * state[ETA] * cross;
  return squared > 0 ? sqrt(squared) : squared * 0;
}

__device__ void errors_of(const Totals& totals, const double* scalars, double* e) {
  const double unit = scalars[OBJECTIVE_UNIT], offset = scalars[OFFSET];
  const double p = totals.columns(COST) * unit + offset;
  const double d = (totals.rows(PAID) + totals.columns(PAID)) * unit + offset;
  const double slack = (totals.rows(SLACK) + totals.columns(SLACK)) * unit;
  e[PRIMAL] = sqrt(totals.rows(PRIMAL2) + totals.columns(PRIMAL2)) / (1 + scalars[ROW_NORM]);
  e[DUAL] = sqrt(totals.rows(DUAL2) + totals.columns(DUAL2)) / (1 + scalars[COLUMN_NORM]);
  e[GAP] = fabs(p - d) / (1 + fabs(p) + fabs(d));
  e[PRIMAL_OBJECTIVE] = p;
  e[DUAL_OBJECTIVE] = d;
  e[OBJECTIVE_ERROR] = (fabs(p - d) + slack) / (1 + fmin(fabs(p), fabs(d)));
  e[ROW_VIOLATION] = larger(totals.rows(WORST_ROW), totals.columns(WORST_ROW));
  e[COLUMN_VIOLATION] = larger(totals.rows(WORST_COLUMN), totals.columns(WORST_COLUMN));
}

// One warp a program, as the following ones: the errors.
__global__ void __launch_bounds__(32)
lp_errors_end(const double* __restrict__ work, const double* __restrict__ scalars, double* __restrict__ errors, int blocks,
              int row_blocks, int column_blocks) {
  const long long s = blockIdx.x;
  const Totals totals{work + s * SLOTS * blocks, blocks, row_blocks, column_blocks};
  double e[ERRORS];
  errors_of(totals, scalars + s * SCALARS, e);
  if (threadIdx.x == 0)
    for (int k = 0; k < ERRORS; k++) errors[s * ERRORS + k] = e[k];
}

// (4) of the step just done, if it was the first from an anchor.
__global__ void __launch_bounds__(32)
lp_first(const double* __restrict__ work, double* __restrict__ state, int blocks, int row_blocks, int column_blocks) {
  const long long s = blockIdx.x;
  double* mine = state + s * STATE;
  if (mine[OUTCOME] != RUNNING || mine[INNER] != 0) return;
  const Totals totals{work + s * SLOTS * blocks, blocks, row_blocks, column_blocks};
  const double first = moved(totals, mine);
  if (threadIdx.x == 0) mine[FIRST] = first;
}

__device__ bool meets(const double* e, double tol) {
  const double kkt = fmax(fmax(e[PRIMAL], e[DUAL]), e[GAP]), violation = fmax(e[ROW_VIOLATION], e[COLUMN_VIOLATION]);
  return kkt <= tol && e[OBJECTIVE_ERROR] <= 5 * tol && violation <= 100 * tol;
}

// As `_restart` of the contract; an anchor is new where INNER is 0 afterwards.
__device__ void restart(double* state, double dp, double dq, bool first_look) {
  const double now = state[MOVED], first = state[FIRST];
  const bool fallen = now <= 0.2 * first || (now <= 0.5 * first && now > state[LAST]);
  state[LAST] = now;
  if (!(first_look || fallen || state[INNER] >= 0.36 * state[TOTAL])) return;
  if (fmin(dp, dq) > 1e-16 && fmax(dp, dq) < 1e12) {
    const double error = log(dq / dp / state[WEIGHT]);
    state[INTEGRAL] = 0.3 * state[INTEGRAL] + error;
    state[WEIGHT] = clip(state[WEIGHT] * exp(0.99 * error + 0.01 * state[INTEGRAL]), 1 / 1e8, 1e8);
  }
  state[INNER] = 0;
  state[LAST] = INFINITY;
  state[RESTARTS] += 1;
}

// The end of a look after `since` steps: errors, trace, outcome, and whether (p, q) is the next anchor.
__global__ void __launch_bounds__(32)
lp_look_end(const double* __restrict__ work, const double* __restrict__ scalars, double tol, int since, int due, int every,
            double* __restrict__ state, double* __restrict__ errors, double* __restrict__ trace, int look, int looks,
            int blocks, int row_blocks, int column_blocks) {
  const long long s = blockIdx.x;
  double* mine = state + s * STATE;
  if (mine[OUTCOME] != RUNNING) return;
  const Totals totals{work + s * SLOTS * blocks, blocks, row_blocks, column_blocks};
  double e[ERRORS];
  errors_of(totals, scalars + s * SCALARS, e);
  const double now = moved(totals, mine);
  const double dp = sqrt(totals.columns(DISTANCE2)), dq = sqrt(totals.rows(DISTANCE2));
  __syncwarp();  // all lanes have read the state
  if (threadIdx.x) return;
  const double kkt = larger(e[GAP], larger(e[DUAL], e[PRIMAL]));
  for (int k = 0; k < ERRORS; k++) errors[s * ERRORS + k] = e[k];
  trace[s * looks + look] = kkt;
  mine[MOVED] = now;
  mine[INNER] += since;
  mine[TOTAL] += since;
  if (!(finite(now) && finite(kkt))) mine[OUTCOME] = NOT_FINITE;
  else if (due && meets(e, tol)) mine[OUTCOME] = MET;
  else if (due) restart(mine, dp, dq, mine[TOTAL] == every);
}

// v = v0 = anchor, where it is a new one.
__global__ void __launch_bounds__(THREADS, 2)
lp_anchor(const double* __restrict__ state, const double* __restrict__ anchor, double* __restrict__ v,
          double* __restrict__ v0, int n) {
  const long long s = blockIdx.y;
  if (state[s * STATE + OUTCOME] != RUNNING || state[s * STATE + INNER] != 0) return;  // the whole block
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < n) v[s * n + i] = v0[s * n + i] = anchor[s * n + i];
}
