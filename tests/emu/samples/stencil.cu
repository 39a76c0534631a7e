// Damped Jacobi sweep for the 3-D 7-point Laplacian: a tile in x, y with halo in shared memory, marching in z.
template <typename T, int BX, int BY>
__global__ void __launch_bounds__(BX * BY)
jacobi7(const T* __restrict__ u, const T* __restrict__ f, T* __restrict__ out, int nx, int ny, int nz, T h2, T omega) {
  __shared__ T s[BY + 2][BX + 2];
  const int tx = threadIdx.x, ty = threadIdx.y, i = blockIdx.x * BX + tx, j = blockIdx.y * BY + ty;
  const bool in = i < nx && j < ny;
  const long long plane = (long long)nx * ny;
  for (int k = 0; k < nz; k++) {
    const T* uk = u + k * plane;
    s[ty + 1][tx + 1] = in ? uk[(long long)j * nx + i] : T(0);
    if (tx == 0) s[ty + 1][0] = (i > 0 && j < ny) ? uk[(long long)j * nx + i - 1] : T(0);
    if (tx == BX - 1) s[ty + 1][BX + 1] = (i + 1 < nx && j < ny) ? uk[(long long)j * nx + i + 1] : T(0);
    if (ty == 0) s[0][tx + 1] = (j > 0 && i < nx) ? uk[(long long)(j - 1) * nx + i] : T(0);
    if (ty == BY - 1) s[BY + 1][tx + 1] = (j + 1 < ny && i < nx) ? uk[(long long)(j + 1) * nx + i] : T(0);
    __syncthreads();  // tile complete
    if (in) {
      const long long q = k * plane + (long long)j * nx + i;
      const T c = s[ty + 1][tx + 1];
      T nb = s[ty + 1][tx] + s[ty + 1][tx + 2] + s[ty][tx + 1] + s[ty + 2][tx + 1];
      if (k > 0) nb += u[q - plane];
      if (k + 1 < nz) nb += u[q + plane];
      out[q] = c + omega * ((h2 * f[q] + nb) / T(6) - c);
    }
    __syncthreads();  // tile used
  }
}
