// h[k] += how often k is among keys; counted per block in shared memory first.
template <typename T, int BINS>
__global__ void histogram(const int* keys, T* h, int n) {
  __shared__ int local[BINS];
  for (int k = threadIdx.x; k < BINS; k += blockDim.x) local[k] = 0;
  __syncthreads();  // zeroed
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[keys[i]], 1);
  __syncthreads();  // counted
  for (int k = threadIdx.x; k < BINS; k += blockDim.x) atomicAdd(&h[k], T(local[k]));
}
