// CUDA twins of contracts/convolution.py. A thread a cell, neighbouring threads along the last axis.
#define THREADS 256
#define TOGETHER 8  // output channels of a thread: what it reads of x serves all of them

// blockIdx.y is a group of TOGETHER output channels. All threads of a warp read the same weight at a time.
template <int K>
__global__ void __launch_bounds__(THREADS)
convolve(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias,
         const float* __restrict__ gate, float* __restrict__ y, int channels, int outputs, int gates, int n0, int n1,
         int n2, int relu, int residual) {
  const long long cells = (long long)n0 * n1 * n2, cell = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (cell >= cells) return;
  const int t = cell % n2, i1 = cell / n2 % n1, i0 = cell / n2 / n1, first = blockIdx.y * TOGETHER;
  float sum[TOGETHER];
#pragma unroll
  for (int o = 0; o < TOGETHER; o++) sum[o] = 0;
  for (int c = 0; c < channels; c++)
#pragma unroll
    for (int k = 0; k < K; k++) {
      const int z = i0 + k - K / 2;
      if (z < 0 || z >= n0) continue;
      for (int i = 0; i < 3; i++) {
        const int row = i1 + i - 1;
        if (row < 0 || row >= n1) continue;
        const float* line = x + c * cells + ((long long)z * n1 + row) * n2;
        const float left = t > 0 ? line[t - 1] : 0.f, here = line[t], right = t + 1 < n2 ? line[t + 1] : 0.f;
#pragma unroll
        for (int o = 0; o < TOGETHER; o++)
          if (first + o < outputs) {
            const float* taps = w + ((((long long)(first + o) * channels + c) * K + k) * 3 + i) * 3;
            sum[o] += taps[0] * left + taps[1] * here + taps[2] * right;
          }
      }
    }
#pragma unroll
  for (int o = 0; o < TOGETHER; o++)
    if (first + o < outputs) {
      float v = sum[o] + bias[first + o];
      if (relu && v < 0) v = 0;
      v *= gate[(gates == 1 ? 0 : first + o) * cells + cell];
      y[(first + o) * cells + cell] = residual ? v + x[(first + o) * cells + cell] : v;
    }
}

__global__ void __launch_bounds__(THREADS)
pool_blocks(const float* __restrict__ x, float* __restrict__ y, float scale, int n0, int n1, int n2, int h0, int h1, int h2,
     long long entries) {
  const long long id = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (id >= entries) return;
  const int t = id % h2, i1 = id / h2 % h1, i0 = id / h2 / h1 % h0;
  const float* field = x + id / h2 / h1 / h0 * n0 * n1 * n2;
  float sum = 0;
  for (int a = 2 * i0; a < min(2 * i0 + 2, n0); a++)
    for (int b = 2 * i1; b < min(2 * i1 + 2, n1); b++) {
      const float* line = field + ((long long)a * n1 + b) * n2;
      sum += line[2 * t] + (2 * t + 1 < n2 ? line[2 * t + 1] : 0.f);
    }
  y[id] = scale * sum;
}

__global__ void __launch_bounds__(THREADS)
unpool_add(const float* __restrict__ x, const float* __restrict__ inside, float* __restrict__ y, int n0, int n1, int n2,
           int h0, int h1, int h2, long long entries) {
  const long long id = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (id >= entries) return;
  const int t = id % n2, i1 = id / n2 % n1, i0 = id / n2 / n1 % n0;
  const long long channel = id / n2 / n1 / n0;
  y[id] += inside[((long long)i0 * n1 + i1) * n2 + t] * x[((channel * h0 + i0 / 2) * h1 + i1 / 2) * h2 + t / 2];
}
