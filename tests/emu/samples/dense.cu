#include "common.cuh"
// Dense arrays: a tiled transpose, y += a x by 16-byte loads, a dot product with one atomic a block, a product.
template <typename T>
__global__ void transpose(const T* __restrict__ a, T* __restrict__ b, int rows, int cols) {
  __shared__ T tile[32][33];
  int i = blockIdx.y * 32 + threadIdx.y, j = blockIdx.x * 32 + threadIdx.x;
  for (int k = 0; k < 32; k += 8)
    if (i + k < rows && j < cols) tile[threadIdx.y + k][threadIdx.x] = a[(long long)(i + k) * cols + j];
  __syncthreads();
  i = blockIdx.x * 32 + threadIdx.y;
  j = blockIdx.y * 32 + threadIdx.x;
  for (int k = 0; k < 32; k += 8)
    if (i + k < cols && j < rows) b[(long long)(i + k) * rows + j] = tile[threadIdx.x][threadIdx.y + k];
}

template <typename T> struct Wide;
template <> struct Wide<float> { typedef float4 type; };
template <> struct Wide<double> { typedef double2 type; };

template <typename T>
__global__ void axpy(T a, const T* __restrict__ x, T* __restrict__ y, int n) {
  typedef typename Wide<T>::type V;
  constexpr int W = sizeof(V) / sizeof(T);
  const int t = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
  for (int i = t; i < n / W; i += step) {
    V u = reinterpret_cast<const V*>(x)[i], v = reinterpret_cast<V*>(y)[i];
    v.x += a * u.x;
    v.y += a * u.y;
    if constexpr (W == 4) {
      v.z += a * u.z;
      v.w += a * u.w;
    }
    reinterpret_cast<V*>(y)[i] = v;
  }
  for (int i = n / W * W + t; i < n; i += step) y[i] += a * x[i];
}

template <typename T, int BLOCK>
__global__ void dot(const T* x, const T* y, double* out, int n) {
  double s = 0;
  for (int i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) s += double(x[i]) * double(y[i]);
  s = block_sum<double, BLOCK>(s);
  if (threadIdx.x == 0) atomicAdd(out, s);
}

// y = A x or A' x, + bias where there is one; K rows a thread.
template <typename T, bool TRANSPOSED, int K>
__global__ void product(const T* A, const T* x, const T* bias, T* y, int rows, int cols, long long ld) {
  extern __shared__ __align__(16) unsigned char raw[];
  T* xs = reinterpret_cast<T*>(raw);
  const int n = TRANSPOSED ? cols : rows, m = TRANSPOSED ? rows : cols;
  for (int j = threadIdx.x; j < m; j += blockDim.x) xs[j] = x[j];
  __syncthreads();  // xs complete
  T acc[K];
  for (int k = 0; k < K; k++) acc[k] = 0;
  const int first = (blockIdx.x * blockDim.x + threadIdx.x) * K;
  for (int k = 0; k < K && first + k < n; k++) {
    for (int j = 0; j < m; j++) acc[k] += A[TRANSPOSED ? j * ld + first + k : (first + k) * ld + j] * xs[j];
    y[first + k] = acc[k] + (bias ? bias[first + k] : T(0));
  }
}
