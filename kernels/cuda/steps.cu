// CUDA twins of contracts/steps.py: a block a system, all of its iterations in one launch.
#include "cg.cuh"

#define THREADS 512

// (2) and (3) for one system whose q = A p is there; every thread of the block takes the same way through here.
template <typename T>
__device__ void step(T* __restrict__ x, T* __restrict__ r, T* __restrict__ p, const T* __restrict__ q,
                     const T* __restrict__ dinv, double& rr, double& rz, double tol2, int n) {
  double pq = 0, sum_rr = 0, sum_rz = 0;
  for (int i = threadIdx.x; i < n; i += THREADS) pq += double(p[i]) * double(q[i]);
  pq = block_sum<THREADS>(pq);
  if (!goes_on(rr, rz, pq, tol2)) return;
  const double alpha = rz / pq, rz_old = rz;
  for (int i = threadIdx.x; i < n; i += THREADS) {
    x[i] = T(double(x[i]) + alpha * double(p[i]));
    const T left = T(double(r[i]) - alpha * double(q[i]));
    r[i] = left;
    const double square = double(left) * double(left);
    sum_rr += square;
    sum_rz += dinv == nullptr ? square : square * double(dinv[i]);
  }
  rr = block_sum<THREADS>(sum_rr);
  rz = dinv == nullptr ? rr : block_sum<THREADS>(sum_rz);
  const double beta = rz / rz_old;
  for (int i = threadIdx.x; i < n; i += THREADS) {
    const double z = double(r[i]) * (dinv == nullptr ? 1.0 : double(dinv[i]));
    p[i] = T(z + beta * double(p[i]));
  }
}

// A thread a row of q = A p.
template <typename T, typename I>
__global__ void __launch_bounds__(THREADS, 1)
csr_cg_steps(const I* __restrict__ indptr, const I* __restrict__ indices, const T* __restrict__ data,
             const T* __restrict__ dinv, int dinv_rows, const double* __restrict__ tol2, int steps, T* x, T* r, T* p, T* q,
             double* rr, double* rz, int batch, int n) {
  const int s = blockIdx.x;
  const long long at = (long long)s * n;
  const T* d = dinv == nullptr ? nullptr : dinv + (dinv_rows == 1 ? 0 : at);
  double rr_s = rr[s], rz_s = rz[s];
  for (int j = 1; j <= steps; j++) {
    if (rr_s > tol2[s]) {  // the same for the whole block
      __syncthreads();  // p is complete
      for (int i = threadIdx.x; i < n; i += THREADS) {
        double total = 0;
        for (I k = indptr[i]; k < indptr[i + 1]; k++) total += double(data[k]) * double(p[at + indices[k]]);
        q[at + i] = T(total);
      }
      step<T>(x + at, r + at, p + at, q + at, d, rr_s, rz_s, tol2[s], n);
    }
    if (threadIdx.x == 0) {
      rr[(long long)j * batch + s] = rr_s;
      rz[(long long)j * batch + s] = rz_s;
    }
  }
}

// A warp a row of q = A p. `stack` is 1, or batch.
template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
dense_cg_steps(const T* __restrict__ A, int stack, const T* __restrict__ dinv, int dinv_rows,
               const double* __restrict__ tol2, int steps, T* x, T* r, T* p, T* q, double* rr, double* rz, int batch, int n) {
  const int s = blockIdx.x, lane = threadIdx.x % 32;
  const long long at = (long long)s * n;
  const T* As = A + (stack == 1 ? 0 : at * n);
  const T* d = dinv == nullptr ? nullptr : dinv + (dinv_rows == 1 ? 0 : at);
  double rr_s = rr[s], rz_s = rz[s];
  for (int j = 1; j <= steps; j++) {
    if (rr_s > tol2[s]) {  // the same for the whole block
      __syncthreads();  // p is complete
      for (int i = threadIdx.x / 32; i < n; i += THREADS / 32) {
        double total = 0;
        for (int k = lane; k < n; k += 32) total += double(As[(long long)i * n + k]) * double(p[at + k]);
        total = group_sum<32>(total);
        if (lane == 0) q[at + i] = T(total);
      }
      __syncthreads();  // q is complete
      step<T>(x + at, r + at, p + at, q + at, d, rr_s, rz_s, tol2[s], n);
    }
    if (threadIdx.x == 0) {
      rr[(long long)j * batch + s] = rr_s;
      rz[(long long)j * batch + s] = rz_s;
    }
  }
}
