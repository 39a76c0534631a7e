// Decisions that the kernels of the conjugate gradient method share, as in contracts/linalg.py.
#ifndef NTSOLVE_CG_CUH
#define NTSOLVE_CG_CUH
#include "common.cuh"

#define A_NOT_POSITIVE -1.0
#define M_NOT_POSITIVE -2.0
#define HOPELESS 1e20

// Whether a system goes on; if not, `rr` becomes the verdict.
__device__ __forceinline__ bool goes_on(double& rr, double rz, double pq, double tol2) {
  if (!(rr > tol2 && rr <= HOPELESS)) return false;
  if (finite(rz) && finite(pq) && rz > 0 && pq > 0) return true;
  rr = !(finite(rz) && finite(pq)) ? double(NAN) : rz <= 0 ? M_NOT_POSITIVE : A_NOT_POSITIVE;
  return false;
}
#endif
