// CUDA twins of contracts/cycle.py. A way down is two launches and so is a way up: one makes the black cells from r and
// the correction, whose red part each cell computes for its neighbours, the other what follows from them. Small levels
// are done together by one block a system.
#include "split.cuh"

#define THREADS 256
#define SUM_THREADS 512
#define SMALL_THREADS 512
#define CODES 60.0f

// A level of one system. Vectors of a colour start at 0 (red) and half() (black).
template <bool MASK>
struct Level {
  Split g;
  const unsigned char* codes;
  const float* inverse;
  Faces<MASK, float> faces;
  float red, black;
  __device__ float dinv(int at) const { return MASK ? float(codes[at]) / CODES : inverse[at]; }
  __device__ bool active(int at) const { return MASK ? codes[at] > 0 : inverse[at] > 0; }
};

struct Coarse {
  Split g;
  int f0, f1, f2;
  // where the coarse cell is that has the cell of colour c at [i, j, m]
  __device__ int place(int c, int i, int j, int m) const {
    const int k = 2 * m + ((i + j + c) & 1), plane = (i + f0 - 1) / f0, row = j / f1, cell = k / f2;
    return ((plane + row + cell) & 1) * g.half() + g.place(plane, row, cell >> 1);
  }
};

// (2): x_b of the black cell at [i, j, m]
template <bool MASK>
__device__ float black_down(const Level<MASK>& l, const float* __restrict__ r, int i, int j, int m) {
  const int at = l.g.place(i, j, m), half = l.g.half();
  float t = r[half + at];
  neighbours(l.g, l.faces, 1, i, j, m, [&](float face, int to) { t += face * (l.red * l.dinv(to) * r[to]); });
  return l.black * l.dinv(half + at) * t;
}

// (3): the coarse residual of the coarse cell at [plane, row, m] of colour c
template <bool MASK>
__device__ float restricted(const Level<MASK>& l, const Coarse& coarse, const float* __restrict__ r, const float* xb, int c,
                            int plane, int row, int m) {
  const Split& g = l.g;
  const int half = g.half(), cell = 2 * m + ((plane + row + c) & 1);
  float sum = 0;
  for (int a = 0; a < coarse.f0; a++)
    for (int b = 0; b < coarse.f1; b++)
      for (int e = 0; e < coarse.f2; e++) {
        const int i = coarse.f0 * (plane - 1) + 1 + a, j = coarse.f1 * row + b, k = coarse.f2 * cell + e;
        if (i > g.nx || j >= g.ny || k >= 2 * g.h) continue;
        const int at = g.place(i, j, k >> 1);
        if ((i + j + k) & 1) {  // black: t again, of which x_b was made
          if (l.active(half + at)) sum += (1 - l.black) * (xb[at] / (l.black * l.dinv(half + at)));
        } else if (l.active(at)) {
          sum += (1 - l.red) * r[at];
          neighbours(g, l.faces, 0, i, j, k >> 1, [&](float face, int to) { sum += face * xb[to]; });
        }
      }
  return sum;
}

// The corrected x of the red cell of place `to`, whose coarse cell is at `from`.
template <bool MASK>
__device__ __forceinline__ float red_up(const Level<MASK>& l, const float* __restrict__ r, const float* e, int to, int from) {
  const float dinv = l.dinv(to);
  return l.red * dinv * r[to] + (dinv > 0 ? e[from] : 0.0f);
}

// (4), (5): z of the black cell at [i, j, m]
template <bool MASK>
__device__ float black_up(const Level<MASK>& l, const Coarse& coarse, const float* __restrict__ r, const float* xb,
                          const float* e, int i, int j, int m) {
  const Split& g = l.g;
  const int at = g.place(i, j, m), half = g.half(), plane = g.plane();
  float t = r[half + at];
  neighbours(g, l.faces, 1, i, j, m, [&](float face, int to) {
    const int to_i = to / plane, to_j = to % plane / g.h;
    t += face * red_up(l, r, e, to, coarse.place(0, to_i, to_j, to % g.h));
  });
  const float dinv = l.dinv(half + at), x = xb[at] + (dinv > 0 ? e[coarse.place(1, i, j, m)] : 0.0f);
  return (1 - l.black) * x + l.black * dinv * t;
}

// (5): z of the red cell at [i, j, m]
template <bool MASK>
__device__ float red_again(const Level<MASK>& l, const Coarse& coarse, const float* __restrict__ r, const float* e,
                           const float* z_black, int i, int j, int m) {
  const int at = l.g.place(i, j, m);
  float t = r[at];
  neighbours(l.g, l.faces, 0, i, j, m, [&](float face, int to) { t += face * z_black[to]; });
  return (1 - l.red) * red_up(l, r, e, at, coarse.place(0, i, j, m)) + l.red * l.dinv(at) * t;
}

// ---- large levels --------------------------------------------------------------------------------------------------

// The level of system blockIdx.z; `stack` is 1, or batch.
template <bool MASK>
__device__ Level<MASK> level_of(const void* d, const float* fx, const float* fy, const float* fz, int stack, float red,
                                float black, int nx, int ny, int h, int w0, int w1, int w2, int system) {
  const Split g{nx, ny, h, {w0, w1, w2}};
  const long long start = stack == 1 ? 0 : g.size() * system;
  const Faces<MASK, float> faces{fx, fy, fz};
  return Level<MASK>{g, MASK ? (const unsigned char*)d + start : nullptr, MASK ? nullptr : (const float*)d + start,
                     faces.of(start), red, black};
}

#define LEVEL_ARGUMENTS                                                                                                \
  const void *__restrict__ d, const float *__restrict__ fx, const float *__restrict__ fy, const float *__restrict__ fz, \
      int stack, float red, float black, int nx, int ny, int h, int w0, int w1, int w2
#define LEVEL(system) level_of<MASK>(d, fx, fy, fz, stack, red, black, nx, ny, h, w0, w1, w2, system)

// A thread a black cell; blockIdx.y is the plane, blockIdx.z the system.
template <bool MASK>
__global__ void __launch_bounds__(THREADS)
down_black(const float* __restrict__ r, LEVEL_ARGUMENTS, float* __restrict__ xb) {
  const Level<MASK> l = LEVEL(blockIdx.z);
  const int at = blockIdx.x * THREADS + threadIdx.x, i = blockIdx.y + 1;
  if (at >= l.g.plane()) return;
  const long long half = l.g.half();
  xb[half * blockIdx.z + (long long)i * l.g.plane() + at] =
      black_down(l, r + 2 * half * blockIdx.z, i, at / h, at % h);
}

// A thread a coarse cell of either colour.
template <bool MASK>
__global__ void __launch_bounds__(THREADS)
down_coarse(const float* __restrict__ r, LEVEL_ARGUMENTS, const float* __restrict__ xb, float* __restrict__ rc, int cnx,
            int cny, int ch, int f0, int f1, int f2) {
  const Level<MASK> l = LEVEL(blockIdx.z);
  const Coarse coarse{{cnx, cny, ch, l.g.wrap}, f0, f1, f2};
  const int n = blockIdx.x * THREADS + threadIdx.x, size = coarse.g.plane(), c = n >= size, at = n - c * size;
  if (n >= 2 * size) return;
  const long long half = l.g.half(), plane = blockIdx.y + 1;
  rc[coarse.g.size() * blockIdx.z + c * coarse.g.half() + plane * size + at] =
      restricted(l, coarse, r + 2 * half * blockIdx.z, xb + half * blockIdx.z, c, int(plane), at / ch, at % ch);
}

// A thread a black cell.
template <bool MASK>
__global__ void __launch_bounds__(SUM_THREADS)
up_black(const float* __restrict__ r, LEVEL_ARGUMENTS, const float* __restrict__ xb, const float* __restrict__ ec,
         float* __restrict__ z, int cnx, int cny, int ch, int f0, int f1, int f2) {
  const Level<MASK> l = LEVEL(blockIdx.z);
  const Coarse coarse{{cnx, cny, ch, l.g.wrap}, f0, f1, f2};
  const int at = blockIdx.x * SUM_THREADS + threadIdx.x, i = blockIdx.y + 1;
  if (at >= l.g.plane()) return;
  const long long half = l.g.half();
  z[2 * half * blockIdx.z + half + (long long)i * l.g.plane() + at] =
      black_up(l, coarse, r + 2 * half * blockIdx.z, xb + half * blockIdx.z, ec + coarse.g.size() * blockIdx.z, i, at / h,
               at % h);
}

// blockIdx.x is one of the two halves of a plane; `work` gets its sum of r.z, of both colours or, where the black one is
// to settle, of the red one.
template <bool MASK>
__global__ void __launch_bounds__(SUM_THREADS)
up_red(const float* __restrict__ r, LEVEL_ARGUMENTS, const float* __restrict__ ec, float* __restrict__ z, int cnx, int cny,
       int ch, int f0, int f1, int f2, int settle, double* __restrict__ work) {
  const Level<MASK> l = LEVEL(blockIdx.z);
  const Coarse coarse{{cnx, cny, ch, l.g.wrap}, f0, f1, f2};
  const long long half = l.g.half(), start = 2 * half * blockIdx.z;
  const float *rs = r + start, *e = ec + coarse.g.size() * blockIdx.z;
  float* zs = z + start;
  const int i = blockIdx.y + 1, size = l.g.plane(), middle = (size + 1) / 2;
  double sum = 0;
  for (int at = blockIdx.x * middle + threadIdx.x; at < min(size, int(blockIdx.x + 1) * middle); at += SUM_THREADS) {
    const int to = i * size + at;
    const float value = red_again(l, coarse, rs, e, zs + half, i, at / h, at % h);
    zs[to] = value;
    sum += double(value) * double(rs[to]);
    if (!settle) sum += double(zs[half + to]) * double(rs[half + to]);
  }
  sum = block_sum<SUM_THREADS>(sum);
  if (threadIdx.x == 0) work[((long long)blockIdx.z * 2 + blockIdx.x) * (l.g.nx + 2) + i] = sum;
}

// (6): the black cells of one of the two halves of a plane, whose part of r.z is added to `work`.
template <bool MASK>
__global__ void __launch_bounds__(SUM_THREADS)
up_settle(const float* __restrict__ r, LEVEL_ARGUMENTS, float* __restrict__ z, double* __restrict__ work) {
  const Level<MASK> l = LEVEL(blockIdx.z);
  const long long half = l.g.half(), start = 2 * half * blockIdx.z;
  const float* rb = r + start + half;
  float* zs = z + start;
  const int i = blockIdx.y + 1, size = l.g.plane(), middle = (size + 1) / 2;
  double sum = 0;
  for (int at = blockIdx.x * middle + threadIdx.x; at < min(size, int(blockIdx.x + 1) * middle); at += SUM_THREADS) {
    const int to = i * size + at;
    float t = rb[to];
    neighbours(l.g, l.faces, 1, i, at / h, at % h, [&](float face, int from) { t += face * zs[from]; });
    const float value = l.dinv(half + to) * t;
    zs[half + to] = value;
    sum += double(value) * double(rb[to]);
  }
  sum = block_sum<SUM_THREADS>(sum);
  if (threadIdx.x == 0) work[((long long)blockIdx.z * 2 + blockIdx.x) * (l.g.nx + 2) + i] += sum;
}

// out[system] = the sum of `work` (batch, 2, planes) but for its ghosts.
__global__ void __launch_bounds__(SUM_THREADS)
sum_planes(const double* __restrict__ work, double* __restrict__ out, int planes) {
  double sum = 0;
  for (int n = threadIdx.x; n < 2 * planes; n += SUM_THREADS) {
    const int i = n % planes;
    if (i > 0 && i < planes - 1) sum += work[(long long)blockIdx.x * 2 * planes + n];
  }
  sum = block_sum<SUM_THREADS>(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// ---- small levels together -----------------------------------------------------------------------------------------

#define FIELDS 12

struct Entry {  // a row of `levels`
  const int* row;
  __device__ Split grid() const { return {row[0] - 2, row[1], row[2], {row[6], row[7], row[8]}}; }
  __device__ Level<false> level(const float* stencil, const float* weights) const {
    const Split g = grid();
    const float* d = stencil + row[9];
    const long long size = g.size();
    return {g, nullptr, d, {d + size, d + 2 * size, d + 3 * size}, weights[0], weights[1]};
  }
};

// A block a system, all of its levels down and up; `levels` is the same for all.
__global__ void __launch_bounds__(SMALL_THREADS, 1)
cycle_small(const float* __restrict__ r, float* __restrict__ z, const int* __restrict__ levels,
            const float* __restrict__ weights, const float* __restrict__ stencils, const float* __restrict__ inverses,
            const int* __restrict__ cells, float* __restrict__ rooms, int depth, int count, long long stencil_size,
            int stencil_stack, int inverse_stack, long long room_size) {
  const int s = blockIdx.x;
  const long long top = Entry{levels}.grid().size();
  const float* stencil = stencils + (stencil_stack == 1 ? 0 : stencil_size * s);
  const float* inverse = inverses + (inverse_stack == 1 ? 0 : (long long)count * count * s);
  float* room = rooms + room_size * s;
  for (int way = 0; way <= 2 * depth; way++) {
    const int n = way <= depth ? way : 2 * depth - way;
    const Entry entry{levels + FIELDS * n};
    const Split g = entry.grid();
    const int half = g.half(), size = g.plane();
    const float* rl = n == 0 ? r + top * s : room + entry.row[10];
    float* zl = n == 0 ? z + top * s : room + entry.row[10] + 2 * half;
    float* xb = room + entry.row[10] + 4 * half;
    if (n == depth) {
      if (depth == 0)  // the pads of the caller's z; those of the others are 0 since ever
        for (int at = threadIdx.x; at < g.nx * size; at += SMALL_THREADS) zl[size + at] = zl[half + size + at] = 0;
      __syncthreads();  // r of the bottom is there
      for (int a = threadIdx.x; a < count; a += SMALL_THREADS) {
        float sum = 0;
        for (int b = 0; b < count; b++) sum += inverse[(long long)b * count + a] * rl[cells[b]];  // it is symmetric
        zl[cells[a]] = sum;
      }
      continue;
    }
    const Level<false> l = entry.level(stencil, weights + 2 * n);
    const Entry below{entry.row + FIELDS};
    const Coarse coarse{below.grid(), entry.row[3], entry.row[4], entry.row[5]};
    float *rc = room + below.row[10], *ec = rc + coarse.g.size();
    __syncthreads();  // way down: r is there; way up: ec
    if (way < depth) {
      for (int at = threadIdx.x; at < g.nx * size; at += SMALL_THREADS)
        xb[size + at] = black_down(l, rl, at / size + 1, at % size / g.h, at % g.h);
      __syncthreads();  // all of xb
      const int coarse_size = coarse.g.plane(), coarse_cells = coarse.g.nx * coarse_size;
      for (int at = threadIdx.x; at < 2 * coarse_cells; at += SMALL_THREADS) {
        const int c = at >= coarse_cells, cell = at - c * coarse_cells;
        rc[c * coarse.g.half() + coarse_size + cell] = restricted(l, coarse, rl, xb, c, cell / coarse_size + 1,
                                                                  cell % coarse_size / coarse.g.h, cell % coarse.g.h);
      }
    } else {
      for (int at = threadIdx.x; at < g.nx * size; at += SMALL_THREADS)
        zl[half + size + at] = black_up(l, coarse, rl, xb, ec, at / size + 1, at % size / g.h, at % g.h);
      __syncthreads();  // all of the black z
      for (int at = threadIdx.x; at < g.nx * size; at += SMALL_THREADS)
        zl[size + at] = red_again(l, coarse, rl, ec, zl + half, at / size + 1, at % size / g.h, at % g.h);
    }
  }
}
