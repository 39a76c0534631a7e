#include "common.cuh"
// Batched Jacobi-PCG, a block a dense n x n system, x = 0 at the start; the iterations taken in iters.
template <typename T, int BLOCK>
__global__ void __launch_bounds__(BLOCK, 1)
pcg_batched(const T* __restrict__ A, const T* __restrict__ b, T* __restrict__ x, int* __restrict__ iters, int n, int maxit, T tol) {
  extern __shared__ __align__(16) unsigned char raw[];  // p, r, z: 3 n of T
  T* p = reinterpret_cast<T*>(raw);
  T* r = p + n;
  T* z = r + n;
  const T* Ab = A + (long long)blockIdx.x * n * n;
  const T* bb = b + (long long)blockIdx.x * n;
  T* xb = x + (long long)blockIdx.x * n;
  T rz = 0, bn = 0;
  for (int i = threadIdx.x; i < n; i += BLOCK) {
    const T d = Ab[(long long)i * n + i];
    xb[i] = 0;
    r[i] = bb[i];
    z[i] = r[i] / d;
    p[i] = z[i];
    rz += r[i] * z[i];
    bn += r[i] * r[i];
  }
  rz = block_sum<T, BLOCK>(rz);
  bn = block_sum<T, BLOCK>(bn);
  int it = 0;
  T rn = bn;
  for (; it < maxit && rn > tol * tol * bn; it++) {
    T pap = 0;
    __syncthreads();  // p complete
    for (int i = threadIdx.x; i < n; i += BLOCK) {
      T q = 0;
      for (int j = 0; j < n; j++) q += Ab[(long long)i * n + j] * p[j];
      z[i] = q;
      pap += q * p[i];
    }
    const T a = rz / block_sum<T, BLOCK>(pap);
    T rz2 = 0;
    rn = 0;
    for (int i = threadIdx.x; i < n; i += BLOCK) {
      xb[i] += a * p[i];
      r[i] -= a * z[i];
      z[i] = r[i] / Ab[(long long)i * n + i];
      rz2 += r[i] * z[i];
      rn += r[i] * r[i];
    }
    rz2 = block_sum<T, BLOCK>(rz2);
    rn = block_sum<T, BLOCK>(rn);
    const T be = rz2 / rz;
    rz = rz2;
    for (int i = threadIdx.x; i < n; i += BLOCK) p[i] = z[i] + be * p[i];
  }
  if (threadIdx.x == 0) iters[blockIdx.x] = it;
}
