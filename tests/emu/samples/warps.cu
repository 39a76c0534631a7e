// Work within one warp: an exchange through shared memory, a Cholesky factor, a scan, a compaction.
__global__ void swap_neighbours(const float* x, float* y) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncwarp();  // written
  y[threadIdx.x] = s[threadIdx.x ^ 1];
}

// L L' = A, n <= 32, a warp a matrix, a lane a row.
template <typename T>
__global__ void cholesky(const T* A, T* L, int n) {
  __shared__ T s[32][33];
  const int lane = threadIdx.x;
  const T* Ab = A + (long long)blockIdx.x * n * n;
  for (int j = 0; j < n; j++)
    if (lane < n) s[lane][j] = Ab[(long long)lane * n + j];
  __syncwarp();  // loaded
  for (int j = 0; j < n; j++) {
    const T pivot = sqrt(s[j][j]);
    __syncwarp();  // pivot read
    if (lane == j) s[j][j] = pivot;
    if (lane > j && lane < n) s[lane][j] /= pivot;
    __syncwarp();  // column ready
    for (int k = j + 1; k <= lane && lane < n; k++) s[lane][k] -= s[lane][j] * s[k][j];
    __syncwarp();  // trailing part updated
  }
  if (lane < n)
    for (int j = 0; j < n; j++) L[(long long)blockIdx.x * n * n + (long long)lane * n + j] = j <= lane ? s[lane][j] : T(0);
}

// Inclusive sums over a block of BLOCK.
template <typename T, int BLOCK>
__global__ void scan(const T* x, T* y) {
  __shared__ T part[BLOCK / 32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  T v = x[blockIdx.x * BLOCK + threadIdx.x];
  for (int d = 1; d < 32; d <<= 1) {
    const T o = __shfl_up_sync(0xffffffffu, v, d);
    if (lane >= d) v += o;
  }
  if (lane == 31) part[warp] = v;
  __syncthreads();  // part complete
  for (int w = 0; w < warp; w++) v += part[w];
  y[blockIdx.x * BLOCK + threadIdx.x] = v;
}

// The positive entries of x, in any order, and their number.
template <typename T>
__global__ void positives(const T* x, T* out, int* count, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31;
  const T v = i < n ? x[i] : T(0);
  const unsigned keep = __ballot_sync(0xffffffffu, v > T(0));
  int base = 0;
  if (lane == 0) base = atomicAdd(count, __popc(keep));
  base = __shfl_sync(0xffffffffu, base, 0);
  if (v > T(0)) out[base + __popc(keep & ((1u << lane) - 1))] = v;
}
