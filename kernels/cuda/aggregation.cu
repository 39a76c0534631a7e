// CUDA twins of contracts/aggregation.py: a thread for each cell or row, and a block for all of the small levels.
#include "common.cuh"

#define THREADS 256
#define SMALL_THREADS 256

enum What { DOWN, UP, AGAIN, FINISH, BOTTOM };

// c u, without a look at u where nothing flows: there it may be another thread's.
template <typename T>
__device__ __forceinline__ T flow(T c, const T* u) {
  return c ? c * *u : T(0);
}

// The sum of c_f u_j over the faces of cell i of a grid; a border is periodic, with faces of 0 where it is none.
template <typename T>
__device__ T around(const T* __restrict__ cz, const T* __restrict__ cy, const T* __restrict__ cx, const T* u, int i, int nz,
                    int ny, int nx) {
  const int x = i % nx, y = i / nx % ny, z = i / (nx * ny), plane = ny * nx;
  const int x0 = x ? i - 1 : i + nx - 1, x1 = x < nx - 1 ? i + 1 : i - nx + 1;
  const int y0 = y ? i - nx : i + plane - nx, y1 = y < ny - 1 ? i + nx : i - plane + nx;
  T sum = flow(cx[x0], u + x0) + flow(cx[i], u + x1) + flow(cy[y0], u + y0) + flow(cy[i], u + y1);
  if (nz > 1) {
    const int z0 = z ? i - plane : i + (nz - 1) * plane, z1 = z < nz - 1 ? i + plane : i - (nz - 1) * plane;
    sum += flow(cz[z0], u + z0) + flow(cz[i], u + z1);
  }
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
colour_sweep(const T* __restrict__ cz, const T* __restrict__ cy, const T* __restrict__ cx, const T* __restrict__ dinv,
             int colour, double weight, const T* __restrict__ r, T* x, int stack, int nz, int ny, int nx) {
  const long long n = (long long)nz * ny * nx, place = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (place >= stack * n) return;
  const long long start = place / n * n;
  const int i = int(place - start);
  if ((i % nx + i / nx % ny + i / (nx * ny)) % 2 != colour || !(dinv[place] > 0)) return;
  const T sum = around(cz + (nz > 1 ? start : 0), cy + start, cx + start, x + start, i, nz, ny, nx);
  x[place] += T(weight) * (dinv[place] * (r[place] + sum) - x[place]);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
stencil_residual(const T* __restrict__ cz, const T* __restrict__ cy, const T* __restrict__ cx, const T* __restrict__ diag,
                 const T* __restrict__ x, const T* __restrict__ r, T* __restrict__ t, int stack, int nz, int ny, int nx) {
  const long long n = (long long)nz * ny * nx, place = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (place >= stack * n) return;
  const long long start = place / n * n;
  const T sum = around(cz + (nz > 1 ? start : 0), cy + start, cx + start, x + start, int(place - start), nz, ny, nx);
  t[place] = r[place] + sum - diag[place] * x[place];
}

// ---- between levels ------------------------------------------------------------------------------------------------

template <typename T>
__device__ T sum_of(const long long* __restrict__ starts, const long long* __restrict__ members, const T* v, int a) {
  double total = 0;
  for (long long m = starts[a]; m < starts[a + 1]; m++) total += double(v[members[m]]);
  return T(total);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
sum_members(const long long* __restrict__ starts, const long long* __restrict__ members, const T* __restrict__ v,
            T* __restrict__ out, int count) {
  const int a = blockIdx.x * THREADS + threadIdx.x;
  if (a < count) out[a] = sum_of(starts, members, v, a);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
add_aggregates(const int* __restrict__ aggregate, const T* __restrict__ e, T* __restrict__ x, long long n) {
  const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i < n && aggregate[i] >= 0) x[i] += e[aggregate[i]];
}

// ---- sparse levels -------------------------------------------------------------------------------------------------

template <typename T>
__device__ T some(const int* __restrict__ indices, const T* __restrict__ weights, const T* x, long long k, long long end) {
  T sum = 0;
  for (; k < end; k++) sum += weights[k] * x[indices[k]];
  return sum;
}

template <typename T>
__device__ T coupled(const long long* __restrict__ indptr, const int* __restrict__ indices, const T* __restrict__ weights,
                     const T* x, int i) {
  return some(indices, weights, x, indptr[i], indptr[i + 1]);
}

template <typename T>  // rows low to high, of one colour
__global__ void __launch_bounds__(THREADS)
sparse_down(const long long* __restrict__ indptr, const long long* __restrict__ middle, const int* __restrict__ indices,
            const T* __restrict__ weights, const T* __restrict__ dinv, const T* __restrict__ r, T* x, int low, int high) {
  const int i = low + blockIdx.x * THREADS + threadIdx.x;
  if (i < high) x[i] = dinv[i] * (r[i] + some(indices, weights, x, indptr[i], middle[i]));
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
sparse_above(const long long* __restrict__ indptr, const long long* __restrict__ middle, const int* __restrict__ indices,
             const T* __restrict__ weights, const T* __restrict__ x, T* __restrict__ t, int n) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < n) t[i] = some(indices, weights, x, middle[i], indptr[i + 1]);
}

template <typename T>  // rows low to high, of one colour
__global__ void __launch_bounds__(THREADS)
sparse_up(const long long* __restrict__ indptr, const int* __restrict__ indices, const T* __restrict__ weights,
             const T* __restrict__ dinv, const T* __restrict__ r, T* x, int low, int high) {
  const int i = low + blockIdx.x * THREADS + threadIdx.x;
  if (i < high) x[i] = dinv[i] * (r[i] + coupled(indptr, indices, weights, x, i));
}

template <typename T>  // t may be r
__global__ void __launch_bounds__(THREADS)
sparse_residual(const long long* __restrict__ indptr, const int* __restrict__ indices, const T* __restrict__ weights,
                const T* __restrict__ diag, const T* __restrict__ x, const T* r, T* t, int n) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < n) t[i] = r[i] - diag[i] * x[i] + coupled(indptr, indices, weights, x, i);
}

// ---- small levels, all in one --------------------------------------------------------------------------------------

// One block. A step reads what the one before it wrote; so does a colour.
template <typename T>
__global__ void __launch_bounds__(SMALL_THREADS)
coarse_cycle(const int* __restrict__ program, const int* __restrict__ first, const long long* __restrict__ indptr,
             const long long* __restrict__ middle, const int* __restrict__ indices, const T* __restrict__ weights, const T* __restrict__ diag,
             const T* __restrict__ dinv, const int* __restrict__ colours, const long long* __restrict__ bounds,
             const long long* __restrict__ starts, const long long* __restrict__ members,
             const int* __restrict__ aggregate, const T* __restrict__ inverse, double once, double twice, T* x, T* r, T* y,
             T* t, int steps) {
  for (int step = 0; step < steps; step++) {
    const int what = program[2 * step], level = program[2 * step + 1];
    const int low = first[level], high = first[level + 1];
    if (what == DOWN || what == UP) {
      if (what == UP)
        for (int i = low + threadIdx.x; i < high; i += SMALL_THREADS)
          if (aggregate[i] >= 0) x[i] += x[aggregate[i]];
      const int begin = colours[level], count = colours[level + 1] - begin - 1;
      for (int number = 0; number < count; number++) {
        const int c = begin + (what == DOWN ? number : count - 1 - number);
        __syncthreads();
        for (int i = int(bounds[c]) + threadIdx.x; i < bounds[c + 1]; i += SMALL_THREADS)
          x[i] = dinv[i] * (r[i] + some(indices, weights, x, indptr[i], what == DOWN ? middle[i] : indptr[i + 1]));
      }
      if (what == DOWN) {
        __syncthreads();
        for (int i = low + threadIdx.x; i < high; i += SMALL_THREADS)
          t[i] = some(indices, weights, x, middle[i], indptr[i + 1]);
        __syncthreads();
        for (int a = high + threadIdx.x; a < first[level + 2]; a += SMALL_THREADS) r[a] = sum_of(starts, members, t, a);
      }
    } else if (what == AGAIN) {
      for (int i = low + threadIdx.x; i < high; i += SMALL_THREADS) {
        r[i] = r[i] - diag[i] * x[i] + coupled(indptr, indices, weights, x, i);
        y[i] = x[i];
      }
    } else if (what == FINISH) {
      for (int i = low + threadIdx.x; i < high; i += SMALL_THREADS) x[i] = T(once) * y[i] + T(twice) * x[i];
    } else {
      for (int i = low + threadIdx.x; i < high; i += SMALL_THREADS) {
        const T* row = inverse + (long long)(i - low) * (high - low);
        double total = 0;
        for (int j = low; j < high; j++) total += double(row[j - low]) * double(r[j]);
        x[i] = T(total);
      }
    }
    __syncthreads();
  }
}
