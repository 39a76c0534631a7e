// CUDA twins of contracts/kkt.py. A warp factorises one matrix, in place in global memory, where L1 keeps it.
#include "common.cuh"

#define MAX_ORDER 128
#define ALPHA 0.6403882032022076  // (1 + sqrt(17)) / 8

__device__ __forceinline__ void exchange(double* a, double* b) {
  const double t = *a;
  *a = *b;
  *b = t;
}

__device__ __forceinline__ double warp_most(double v) {
  for (int d = 16; d; d >>= 1) v = larger(v, __shfl_xor_sync(FULL_WARP, v, d));
  return v;
}

// The largest of the sizes and the least place where it is; in every lane.
__device__ __forceinline__ void warp_argmax(double& most, int& place) {
  for (int d = 16; d; d >>= 1) {
    const double other = __shfl_xor_sync(FULL_WARP, most, d);
    const int there = __shfl_xor_sync(FULL_WARP, place, d);
    if (other > most || (other == most && there < place)) {
      most = other;
      place = there;
    }
  }
}

// A symmetric matrix of which the upper part is kept, M growing from its top.
struct Matrix {
  double* a;
  int* order;
  const int q, lane;
  __device__ Matrix(double* a, int* order, int q) : a(a), order(order), q(q), lane(threadIdx.x % 32) {}
  __device__ double& at(int i, int j) const { return a[i * q + j]; }

  // Rows and columns p < r.
  __device__ void swap(int p, int r) const {
    for (int i = lane; i < q; i += 32) {
      if (i < p) exchange(&at(i, p), &at(i, r));
      else if (i > p && i < r) exchange(&at(p, i), &at(i, r));
      else if (i > r) exchange(&at(p, i), &at(r, i));
    }
    if (lane == 0) {
      exchange(&at(p, p), &at(r, r));
      const int t = order[p];
      order[p] = order[r];
      order[r] = t;
    }
  }

  // What to swap with; `size` is the order of the block.
  __device__ __forceinline__ int pivot(int k, int& size) const {
    const double here = fabs(at(k, k));
    double most = 0;
    int far = q;
    for (int j = k + 1 + lane; j < q; j += 32)
      if (fabs(at(k, j)) > most) {
        most = fabs(at(k, j));
        far = j;
      }
    warp_argmax(most, far);
    size = 1;
    if (!(here < ALPHA * most)) return k;
    double beyond = 0;
    for (int i = k + lane; i < q; i += 32)
      if (i != far) beyond = fmax(beyond, fabs(i < far ? at(i, far) : at(far, i)));
    beyond = warp_most(beyond);
    if (!(here < ALPHA * most * (most / beyond))) return k;
    if (fabs(at(far, far)) < ALPHA * beyond) size = 2;
    return far;
  }

  __device__ void eliminate_one(int k) const {
    const double d = at(k, k);
    const int wide = q - k - 1;
    if (d == 0) return;  // and so is what is right of it
    for (int t = lane; t < wide * wide; t += 32) {
      const int i = k + 1 + t / wide, j = k + 1 + t % wide;
      if (i <= j) at(i, j) -= at(k, i) / d * at(k, j);
    }
    __syncwarp();  // what is left of the matrix is complete, and nobody reads row k any more
    for (int j = k + 1 + lane; j < q; j += 32) at(k, j) /= d;
  }

  __device__ void eliminate_two(int k) const {
    const double off = at(k, k + 1), low = at(k + 1, k + 1) / off, high = at(k, k) / off;
    const double scale = 1.0 / (low * high - 1.0) / off;
    const int wide = q - k - 2;
    for (int t = lane; t < wide * wide; t += 32) {
      const int i = k + 2 + t / wide, j = k + 2 + t % wide;
      if (i > j) continue;
      const double first = scale * (low * at(k, i) - at(k + 1, i)), second = scale * (high * at(k + 1, i) - at(k, i));
      at(i, j) -= first * at(k, j) + second * at(k + 1, j);
    }
    __syncwarp();  // the same, of rows k and k + 1
    for (int i = k + 2 + lane; i < q; i += 32) {
      const double first = scale * (low * at(k, i) - at(k + 1, i)), second = scale * (high * at(k + 1, i) - at(k, i));
      at(k, i) = first;
      at(k + 1, i) = second;
    }
  }
};

template <int WARPS>
__global__ void __launch_bounds__(32 * WARPS, 4)
kkt_factor(const double* __restrict__ H, const double* __restrict__ J, const double* __restrict__ shift,
           const double* __restrict__ dual_shift, double zero, double* factor, int* order, int* __restrict__ inertia,
           int batch, int n, int m) {
  const int s = blockIdx.x * WARPS + threadIdx.x / 32, q = n + m;
  if (s >= batch || shift[s] != shift[s]) return;  // whole warps leave together
  const Matrix A(factor + (long long)s * q * q, order + (long long)s * q, q);
  const double *h = H + (long long)s * n * n, *jac = J + (long long)s * m * n;
  for (int t = A.lane; t < q * q; t += 32) {
    const int i = t / q, j = t % q;
    double v = 0;
    if (i <= j) {
      if (j < n) v = h[i * n + j] + (i == j ? shift[s] : 0.0);
      else if (i < n) v = jac[(j - n) * n + i];
      else if (i == j) v = -dual_shift[s];
    }
    A.a[t] = v;
  }
  for (int i = A.lane; i < q; i += 32) A.order[i] = i;
  __syncwarp();  // the matrix is complete
  double top = 0;
  for (int j = A.lane; j < q; j += 32)
    for (int i = 0; i <= j; i++) top = larger(fabs(A.at(i, j)), top);
  top = warp_most(top);
  int positive = 0, negative = 0;
  if (finite(top)) {
    const double tiny = zero * top;
    for (int k = 0, size; k < q; k += size) {
      const int with = A.pivot(k, size);
      __syncwarp();  // everybody has looked for it
      if (with != k + size - 1) {
        A.swap(k + size - 1, with);
        __syncwarp();  // it is in its place
      }
      double low = A.at(k, k), high = low;  // eigenvalues of the block
      if (size == 1) {
        A.eliminate_one(k);
      } else {
        const double other = A.at(k + 1, k + 1), off = A.at(k, k + 1), half = 0.5 * (low - other);
        const double middle = 0.5 * (low + other), radius = sqrt(half * half + off * off);
        low = middle - radius;
        high = middle + radius;
        A.eliminate_two(k);
        if (A.lane < 2) A.order[k + A.lane] = -1 - A.order[k + A.lane];
        positive += low > tiny;
        negative += low < -tiny;
      }
      positive += high > tiny;
      negative += high < -tiny;
    }
  } else {
    __syncwarp();  // everybody has seen it
    for (int t = A.lane; t < q * q; t += 32) A.a[t] = NAN;
  }
  if (A.lane == 0) {
    inertia[3 * s] = positive;
    inertia[3 * s + 1] = negative;
    inertia[3 * s + 2] = q - positive - negative;
  }
}

template <int WARPS>
__global__ void __launch_bounds__(32 * WARPS)
kkt_solve(const double* __restrict__ factor, const int* __restrict__ order, double* __restrict__ X, int batch, int s_max,
          int q) {
  __shared__ double room[WARPS][MAX_ORDER];
  const int s = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (s >= batch) return;  // whole warps leave together
  double* y = room[threadIdx.x / 32];
  const double* a = factor + (long long)s * q * q;
  const int* p = order + (long long)s * q;
  for (int r = 0; r < s_max; r++) {
    double* x = X + ((long long)s * s_max + r) * q;
    for (int k = lane; k < q; k += 32) y[k] = x[p[k] >= 0 ? p[k] : -1 - p[k]];
    __syncwarp();  // y is complete
    for (int k = 0; k < q;) {  // M'
      const int size = p[k] >= 0 ? 1 : 2;
      const double first = y[k], second = size == 2 ? y[k + 1] : 0.0;
      for (int j = k + size + lane; j < q; j += 32) {
        y[j] -= a[k * q + j] * first;
        if (size == 2) y[j] -= a[(k + 1) * q + j] * second;
      }
      __syncwarp();  // y[k + size] is final
      k += size;
    }
    for (int k = 0; k < q;) {  // D; a lane a block
      const int size = p[k] >= 0 ? 1 : 2;
      if (k % 32 == lane) {
        if (size == 1) {
          y[k] /= a[k * q + k];
        } else {
          const double off = a[k * q + k + 1], low = a[(k + 1) * q + k + 1] / off, high = a[k * q + k] / off;
          const double first = y[k] / off, second = y[k + 1] / off, det = low * high - 1.0;
          y[k] = (low * first - second) / det;
          y[k + 1] = (high * second - first) / det;
        }
      }
      k += size;
    }
    __syncwarp();  // the quotients are complete
    // M, by columns; the entry beside the diagonal is D's in the first row of a pair
    for (int k = q - 1; k > 0; k--) {
      int before = 0;
      while (before < k && p[k - 1 - before] < 0) before++;
      const bool second = p[k] < 0 && before % 2 == 1;
      const double value = y[k];
      for (int i = lane; i < (second ? k - 1 : k); i += 32) y[i] -= a[i * q + k] * value;
      __syncwarp();  // y[k - 1] is final
    }
    for (int k = lane; k < q; k += 32) x[p[k] >= 0 ? p[k] : -1 - p[k]] = y[k];
  }
}

// A block a system; a thread owns the entries of x that it writes.
__global__ void __launch_bounds__(256)
kaczmarz(const double* __restrict__ A, const double* __restrict__ b, const double* __restrict__ squares,
         const int* __restrict__ rows, double* __restrict__ x, int q, int n, int steps) {
  const long long s = blockIdx.x;
  double* xs = x + s * n;
  for (int t = 0; t < steps; t++) {
    const int i = rows[s * steps + t];
    const double square = squares[s * q + i];
    if (!(square > 0)) continue;  // the whole block
    const double* row = A + (s * q + i) * n;
    double product = 0;
    for (int j = threadIdx.x; j < n; j += 256) product += row[j] * xs[j];
    const double step = (b[s * q + i] - block_sum<256>(product)) / square;
    for (int j = threadIdx.x; j < n; j += 256) xs[j] += step * row[j];
  }
}
