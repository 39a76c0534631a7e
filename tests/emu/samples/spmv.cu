#include "common.cuh"
// y = A x, A in CSR, a warp a row.
template <typename T>
__global__ void spmv_csr(const int* __restrict__ ptr, const int* __restrict__ col, const T* __restrict__ val,
                         const T* __restrict__ x, T* __restrict__ y, int rows) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, lane = threadIdx.x & 31;
  if (row >= rows) return;  // whole warps leave together
  T s = 0;
  for (int k = ptr[row] + lane; k < ptr[row + 1]; k += 32) s += __ldg(val + k) * x[col[k]];
  s = warp_sum(s);
  if (lane == 0) y[row] = s;
}
