// CUDA twins of contracts/triangular.py: a thread a row, level after level. A launch does the levels [first, last) of each
// system, with one block for a system if there are several levels, since a level waits for all rows of the one before.
#include "common.cuh"

#define THREADS 512

template <typename T, typename I>
__global__ void __launch_bounds__(THREADS)
forward(const I* __restrict__ indptr, const I* __restrict__ indices, const I* __restrict__ place, const T* __restrict__ data,
        const T* __restrict__ dinv, double scale, const int* __restrict__ order, const int* __restrict__ level_ptr,
        const T* __restrict__ r, T* z, int first, int last, int n) {
  const T* rs = r + (long long)blockIdx.x * n;
  T* zs = z + (long long)blockIdx.x * n;
  for (int level = first; level < last; level++) {
    const int end = level_ptr[level + 1];
    for (int t = level_ptr[level] + blockIdx.y * THREADS + threadIdx.x; t < end; t += gridDim.y * THREADS) {
      const int i = order[t];
      double total = double(rs[i]);
      for (I k = indptr[i]; k < place[i]; k++) total -= double(data[k]) * double(zs[indices[k]]);
      zs[i] = T(total * double(dinv[i]));
    }
    __syncthreads();  // the level is complete
  }
}

template <typename T, typename I>
__global__ void __launch_bounds__(THREADS)
back(const I* __restrict__ indptr, const I* __restrict__ indices, const I* __restrict__ place, const T* __restrict__ data,
     const T* __restrict__ dinv, double scale, const int* __restrict__ order, const int* __restrict__ level_ptr,
     const T* __restrict__ r, T* z, int first, int last, int n) {
  T* zs = z + (long long)blockIdx.x * n;
  for (int level = last - 1; level >= first; level--) {
    const int end = level_ptr[level + 1];
    for (int t = level_ptr[level] + blockIdx.y * THREADS + threadIdx.x; t < end; t += gridDim.y * THREADS) {
      const int i = order[t];
      double total = 0;
      for (I k = place[i] + 1; k < indptr[i + 1]; k++) total += double(data[k]) * double(zs[indices[k]]);
      zs[i] = T(scale * double(zs[i]) - double(dinv[i]) * total);
    }
    __syncthreads();  // the level is complete
  }
}
