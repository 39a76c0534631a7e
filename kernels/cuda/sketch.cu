// CUDA twins of contracts/sketch.py. Neighbouring threads have neighbouring columns, so that rows are read in one go.
#include "common.cuh"

#define THREADS 256
#define GRAM_ROWS 256

template <typename T>
__global__ void __launch_bounds__(THREADS)
sample_rows(const T* __restrict__ X, const long long* __restrict__ rows, const double* __restrict__ weights,
            T* __restrict__ Y, int k, int n) {
  const int j = blockIdx.y * THREADS + threadIdx.x;
  if (j >= n) return;
  for (long long t = blockIdx.x; t < k; t += gridDim.x) Y[t * n + j] = T(weights[t] * double(X[rows[t] * n + j]));
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
sum_buckets(const T* __restrict__ X, const long long* __restrict__ start, const long long* __restrict__ rows,
            const double* __restrict__ weights, T* __restrict__ Y, int n) {
  const int b = blockIdx.x, j = blockIdx.y * THREADS + threadIdx.x;
  if (j >= n) return;
  double sum = 0;
  for (long long t = start[b]; t < start[b + 1]; t++) sum += weights[rows[t]] * double(X[rows[t] * n + j]);
  Y[(long long)b * n + j] = T(sum);
}

// log2(RADIX) levels of the transform, the first with distance `half`; a thread has RADIX entries of a column.
template <typename T, int RADIX>
__global__ void __launch_bounds__(THREADS)
hadamard(T* __restrict__ A, long long n, long long half, long long threads, double scale) {
  const long long id = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (id >= threads) return;
  const long long group = id / n, row = group / half * half * RADIX + group % half;
  T* entry = A + row * n + id % n;
  double v[RADIX];
#pragma unroll
  for (int r = 0; r < RADIX; r++) v[r] = scale * double(entry[r * half * n]);
#pragma unroll
  for (int h = 1; h < RADIX; h *= 2) {
#pragma unroll
    for (int r = 0; r < RADIX; r++)
      if (!(r & h)) {
        const double a = v[r], b = v[r | h];
        v[r] = a + b;
        v[r | h] = a - b;
      }
  }
#pragma unroll
  for (int r = 0; r < RADIX; r++) entry[r * half * n] = T(v[r]);
}

// A block does GRAM_ROWS rows: a warp a product with v, then a thread a column, while the rows are in cache.
template <typename T>
__global__ void __launch_bounds__(THREADS)
gram_matvec(const T* __restrict__ X, const double* __restrict__ d, const double* __restrict__ v,
            double* __restrict__ work, int N, int n) {
  __shared__ double product[GRAM_ROWS];
  const int first = blockIdx.x * GRAM_ROWS, rows = min(GRAM_ROWS, N - first), lane = threadIdx.x % 32;
  const T* x = X + (long long)first * n;
  for (int i = threadIdx.x / 32; i < rows; i += THREADS / 32) {
    double sum = 0;
    for (int j = lane; j < n; j += 32) sum += double(x[(long long)i * n + j]) * v[j];
    sum = group_sum<32>(sum);
    if (lane == 0) product[i] = d[first + i] * sum;
  }
  __syncthreads();  // the products are complete
  for (int j = threadIdx.x; j < n; j += THREADS) {
    double sum = 0;
    for (int i = 0; i < rows; i++) sum += product[i] * double(x[(long long)i * n + j]);
    work[(long long)blockIdx.x * n + j] = sum;
  }
}

__global__ void __launch_bounds__(THREADS)
gram_total(const double* __restrict__ work, double* __restrict__ y, int blocks, int n) {
  const int j = blockIdx.x * THREADS + threadIdx.x;
  if (j >= n) return;
  double sum = 0;
  for (long long b = 0; b < blocks; b++) sum += work[b * n + j];
  y[j] = sum;
}

// A warp a row of G: it looks for its column in each row of X, and where it is there adds that row.
template <typename T, typename I>
__global__ void __launch_bounds__(THREADS)
gram_csr(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
         const double* __restrict__ d, double* G, int N, int n) {
  const int i = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= n) return;  // whole warps leave together
  double* row = G + (long long)i * n;
  for (int j = lane; j < n; j += 32) row[j] = 0;
  for (int r = 0; r < N; r++) {
    const I end = indptr[r + 1];
    double weight = 0;
    for (I k = indptr[r] + lane; k < end; k += 32)
      if (indices[k] == i) weight = double(data[k]);
    weight = group_sum<32>(weight);  // one lane at most has it
    if (weight == 0) continue;
    __syncwarp();  // what other lanes have added is there
    for (I k = indptr[r] + lane; k < end; k += 32) row[indices[k]] += d[r] * weight * double(data[k]);
  }
}
