// CUDA twins of contracts/grid.py. Vectors are (batch, nz, ny, nx). A kernel with a sum runs one block of THREADS for each
// system and ELEMENTS cells: blockIdx.x = system * blocks + block; the others a thread for each cell.
#include "common.cuh"
#include "exact.cuh"

#define THREADS 256
#define ELEMENTS 2048

struct Grid {
  int nz, ny, nx;
  __device__ long long size() const { return (long long)nz * ny * nx; }
};

struct Cell {  // where it is, and where its six neighbours are: -1 for none
  int z, y, x;
  __device__ Cell(const Grid& g, int place) : z(place / (g.ny * g.nx)), y(place / g.nx % g.ny), x(place % g.nx) {}
  __device__ static int place(const Grid& g, int z, int y, int x) { return (z * g.ny + y) * g.nx + x; }
  // neighbour 0..5: x - 1, x + 1, y - 1, y + 1, z - 1, z + 1; the axes whose bit is set in `wraps` are periodic
  __device__ int neighbour(const Grid& g, int which, int wraps) const {
    const int axis = which / 2, step = which % 2 ? 1 : -1, extent = axis == 0 ? g.nx : axis == 1 ? g.ny : g.nz;
    int to = (axis == 0 ? x : axis == 1 ? y : z) + step;
    if (to < 0 || to >= extent) {
      if (!(wraps >> axis & 1)) return -1;
      to = to < 0 ? extent - 1 : 0;
    }
    return place(g, axis == 2 ? to : z, axis == 1 ? to : y, axis == 0 ? to : x);
  }
};

#define ALL_AXES 7

// One face of a cell of an operator given by faces; `beyond` is the neighbour across it.
template <typename T>
__device__ double face_between(const T* cz, const T* cy, const T* cx, int which, int cell, int beyond) {
  const T* c = which / 2 == 0 ? cx : which / 2 == 1 ? cy : cz;
  return double(c[which % 2 ? cell : beyond]);
}

// ---- products ------------------------------------------------------------------------------------------------------

template <typename T>
__global__ void __launch_bounds__(THREADS)
open_matvec_dot(const unsigned char* __restrict__ open_faces, double scale, int wraps, const T* __restrict__ p,
                T* __restrict__ q, double* __restrict__ work, int stack, int nz, int ny, int nx, int blocks) {
  const Grid grid{nz, ny, nx};
  const int system = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const long long n = grid.size(), start = system * n;
  const unsigned char* open = open_faces + (stack == 1 ? 0 : start);
  const T* u = p + start;
  double sum = 0;
  for (int i = block * ELEMENTS + threadIdx.x; i < min((long long)(block + 1) * ELEMENTS, n); i += THREADS) {
    double value = 0;
    if (open[i]) {
      const Cell cell(grid, i);
      double around = 0;
      for (int which = 0; which < 6; which++) {
        const int beyond = cell.neighbour(grid, which, wraps);
        if (beyond >= 0) around += double(u[beyond]);
      }
      value = scale * (double(open[i]) * double(u[i]) - around);
    }
    q[start + i] = T(value);
    sum += double(u[i]) * double(T(value));
  }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) work[(long long)system * 2 * blocks + block] = sum;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
faces_matvec_dot(const T* __restrict__ cz, const T* __restrict__ cy, const T* __restrict__ cx, const T* __restrict__ diag,
                 const T* __restrict__ p, T* __restrict__ q, double* __restrict__ work, int stack, int nz, int ny, int nx,
                 int blocks) {
  const Grid grid{nz, ny, nx};
  const int system = blockIdx.x / blocks, block = blockIdx.x % blocks, sides = nz > 1 ? 6 : 4;
  const long long n = grid.size(), start = system * n, offset = stack == 1 ? 0 : start;
  const T* u = p + start;
  double sum = 0;
  for (int i = block * ELEMENTS + threadIdx.x; i < min((long long)(block + 1) * ELEMENTS, n); i += THREADS) {
    const Cell cell(grid, i);
    double value = double(diag[offset + i]) * double(u[i]);
    for (int which = 0; which < sides; which++) {
      const int beyond = cell.neighbour(grid, which, ALL_AXES);
      value -= face_between(cz + offset, cy + offset, cx + offset, which, i, beyond) * double(u[beyond]);
    }
    q[start + i] = T(value);
    sum += double(u[i]) * double(T(value));
  }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) work[(long long)system * 2 * blocks + block] = sum;
}

// One block of 32 threads a system: the sum of its part of `work`.
__global__ void __launch_bounds__(32) grid_total(const double* __restrict__ work, double* __restrict__ out, int blocks) {
  double sum = 0;
  for (int b = threadIdx.x; b < blocks; b += 32) sum += work[(long long)blockIdx.x * 2 * blocks + b];
  sum = group_sum<32>(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// ---- residuals -----------------------------------------------------------------------------------------------------

// b - A x of a cell, given its number of open faces.
template <typename T>
__device__ double open_left(const Grid& grid, const Cell& cell, int i, int count, double scale, int wraps,
                            const T* u, double b) {
  Exact sum{b};
  if (count) {
    sum.subtract_product(scale * count, double(u[i]));
#pragma unroll 1  // ptxas spills otherwise, if a little
    for (int which = 0; which < 6; which++) {
      const int beyond = cell.neighbour(grid, which, wraps);
      if (beyond >= 0) sum.subtract_product(-scale, double(u[beyond]));
    }
  }
  return sum.value();
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
open_residual(const unsigned char* __restrict__ open_faces, double scale, int wraps, const T* __restrict__ x,
              const T* __restrict__ b, T* __restrict__ r, int stack, int batch, int nz, int ny, int nx) {
  const Grid grid{nz, ny, nx};
  const long long n = grid.size(), i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  const Cell cell(grid, i);
  for (int s = 0; s < batch; s++) {
    const int count = open_faces[(stack == 1 ? 0 : s * n) + i];
    r[s * n + i] = T(open_left(grid, cell, int(i), count, scale, wraps, x + s * n, double(b[s * n + i])));
  }
}

// Of the residuals of a block of cells, the largest, and the sum of the squares of their ratios to it; see `norm`.
template <typename T>
__global__ void __launch_bounds__(THREADS)
open_residual_norm(const unsigned char* __restrict__ open_faces, double scale, int wraps, const T* __restrict__ x,
                   const T* __restrict__ b, double* __restrict__ work, int stack, int nz, int ny, int nx, int blocks) {
  const Grid grid{nz, ny, nx};
  const int system = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const long long n = grid.size(), start = system * n;
  const int end = int(min((long long)(block + 1) * ELEMENTS, n));
  const unsigned char* open = open_faces + (stack == 1 ? 0 : start);
  __shared__ double left[ELEMENTS];  // each thread reads what it has written; registers would not do
  double top = 0, sum = 0;
#pragma unroll 1
  for (int i = block * ELEMENTS + threadIdx.x; i < end; i += THREADS) {
    const Cell cell(grid, i);
    const double value = double(T(open_left(grid, cell, i, open[i], scale, wraps, x + start, double(b[start + i]))));
    left[i % ELEMENTS] = value;
    top = larger(fabs(value), top);
  }
  top = block_max<THREADS>(top);
  if (top > 0 && finite(top))
    for (int i = block * ELEMENTS + threadIdx.x; i < end; i += THREADS) {
      const double part = left[i % ELEMENTS] / top;
      sum += part * part;
    }
  sum = block_sum<THREADS>(sum);
  if (threadIdx.x == 0) {
    work[(long long)system * 2 * blocks + block] = top;
    work[((long long)system * 2 + 1) * blocks + block] = sum;
  }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
faces_residual(const T* __restrict__ cz, const T* __restrict__ cy, const T* __restrict__ cx, const T* __restrict__ diag,
               const T* __restrict__ x, const T* __restrict__ b, T* __restrict__ r, int stack, int batch, int nz, int ny,
               int nx) {
  const Grid grid{nz, ny, nx};
  const long long n = grid.size(), i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  const Cell cell(grid, i);
  for (int s = 0; s < batch; s++) {
    const long long offset = stack == 1 ? 0 : s * n;
    const T* u = x + s * n;
    Exact sum{double(b[s * n + i])};
    sum.subtract_product(double(diag[offset + i]), double(u[i]));
    for (int which = 0; which < (nz > 1 ? 6 : 4); which++) {
      const int beyond = cell.neighbour(grid, which, ALL_AXES);
      sum.subtract_product(-face_between(cz + offset, cy + offset, cx + offset, which, i, beyond), double(u[beyond]));
    }
    r[s * n + i] = T(sum.value());
  }
}

// ---- between (N,) and the grid -------------------------------------------------------------------------------------

template <typename T>
__global__ void __launch_bounds__(THREADS)
gather_cells(const long long* __restrict__ cells, const T* __restrict__ rows, T* __restrict__ x, int batch, int count,
             long long size) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  for (int s = 0; s < batch; s++) x[(long long)s * count + i] = rows[s * size + cells[i]];
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
scatter_cells(const long long* __restrict__ cells, T* __restrict__ rows, const T* __restrict__ x, int batch, int count,
              long long size) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  for (int s = 0; s < batch; s++) rows[s * size + cells[i]] = x[(long long)s * count + i];
}

// One block for each system and set: blockIdx.x = system * sets + set.
template <typename T>
__global__ void __launch_bounds__(THREADS)
remove_means(const long long* __restrict__ starts, const long long* __restrict__ members, T* __restrict__ x,
             double* __restrict__ sums, double* __restrict__ sizes, int sets, long long size) {
  const int system = blockIdx.x / sets, set = blockIdx.x % sets;
  const long long first = starts[set], last = starts[set + 1];
  T* u = x + system * size;
  double total = 0, absolute = 0;
  for (long long k = first + threadIdx.x; k < last; k += THREADS) {
    const double value = double(u[members[k]]);
    total += value;
    absolute += fabs(value);
  }
  total = block_sum<THREADS>(total);
  absolute = block_sum<THREADS>(absolute);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = total;
    sizes[blockIdx.x] = absolute;
  }
  const double mean = total / double(last - first);
  for (long long k = first + threadIdx.x; k < last; k += THREADS) u[members[k]] = T(double(u[members[k]]) - mean);
}

// ---- a sparse matrix that is a stencil -----------------------------------------------------------------------------

// The neighbour 0..5 (as in Cell) of flat place a that b is, or -1.
__device__ int step_to(const Grid& grid, long long a, long long b, int wraps) {
  const Cell cell(grid, int(a));
  for (int which = 0; which < 6; which++)
    if (cell.neighbour(grid, which, 0) == b) return which;
  for (int which = 0; which < 6; which++)
    if (cell.neighbour(grid, which, wraps) == b) return which;
  return -1;
}

template <typename T, typename I>
__global__ void __launch_bounds__(THREADS)
read_faces(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
           const long long* __restrict__ cells, int wraps, T* __restrict__ cz, T* __restrict__ cy, T* __restrict__ cx,
           T* __restrict__ diag, unsigned char* __restrict__ flaws, signed char* __restrict__ balance, int count, int nz,
           int ny, int nx) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  const Grid grid{nz, ny, nx};
  const long long a = cells[i];
  int flaw = 0, forward = 0;
  for (I k = indptr[i]; k < indptr[i + 1]; k++) {
    const double value = double(data[k]);
    const long long b = cells[indices[k]];
    if (!finite(value) || (a != b && value > 0)) {
      flaw = 1;
    } else if (a == b) {
      diag[a] = data[k];
    } else if (value != 0) {
      const int which = step_to(grid, a, b, wraps);
      if (which < 0) {
        flaw = 1;
      } else if (which % 2 == 0) {
        forward--;
      } else {
        forward++;
        (which == 1 ? cx : which == 3 ? cy : cz)[a] = -data[k];
      }
    }
  }
  flaws[i] = flaw;
  balance[i] = forward;
}

template <typename T, typename I>
__global__ void __launch_bounds__(THREADS)
match_faces(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
            const long long* __restrict__ cells, int wraps, double match, const T* __restrict__ cz,
            const T* __restrict__ cy, const T* __restrict__ cx, unsigned char* __restrict__ flaws, int count, int nz,
            int ny, int nx) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= count) return;
  const Grid grid{nz, ny, nx};
  const long long a = cells[i];
  for (I k = indptr[i]; k < indptr[i + 1]; k++) {
    const double value = double(data[k]);
    const long long b = cells[indices[k]];
    if (a == b || !(value < 0) || !finite(value)) continue;
    const int which = step_to(grid, a, b, wraps);
    if (which < 0 || which % 2) continue;
    const double mirror = double((which == 0 ? cx : which == 2 ? cy : cz)[b]);
    if (!(fabs(mirror + value) <= match * mirror)) flaws[i] = 1;
  }
}
