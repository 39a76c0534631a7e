// Every device-side name that the emulator offers, so that NVRTC can say whether CUDA has it too.
__constant__ float table[2] = {0.25f, 2.0f};

template <typename T> __device__ __noinline__ T functions(T x, T y) {
  T s = acos(x) + asin(x) + atan(x) + atan2(x, y) + cbrt(x) + ceil(x) + copysign(x, y) + cos(x) + cosh(x) + erf(x) + erfc(x);
  s += exp(x) + exp2(x) + exp10(x) + expm1(x) + fabs(x) + floor(x) + fma(x, y, x) + fmax(x, y) + fmin(x, y) + fmod(x, y);
  s += hypot(x, y) + ldexp(x, 2) + lgamma(x) + log(x) + log10(x) + log1p(x) + log2(x) + logb(x) + nearbyint(x) + nextafter(x, y);
  s += pow(x, y) + rint(x) + round(x) + rsqrt(x) + scalbn(x, 1) + sin(x) + sinh(x) + sqrt(x) + tan(x) + tanh(x) + tgamma(x);
  s += trunc(x) + min(x, y) + max(x, y) + abs(x) + ilogb(x) + lrint(x) + llrint(x);
  int e;
  s += frexp(x, &e);
  return s + e + isfinite(x) + isinf(x) + isnan(x) + signbit(x);
}

__global__ void arithmetic(const float* x, const double* y, double* out) {
  const float a = __ldg(x) + table[0], b = __ldcs(x + 1);
  const double c = __ldcg(y), d = y[1];
  float f = rsqrtf(a) + rcbrtf(a) + __saturatef(a) + __expf(a) + __exp10f(a) + __logf(a) + __log2f(a) + __powf(a, b) + __sinf(a);
  f += __cosf(a) + __fdividef(a, b) + __fmaf_rn(a, b, a) + __fadd_rn(a, b) + __fsub_rn(a, b) + __fmul_rn(a, b) + __fdiv_rn(a, b);
  f += __frcp_rn(a) + __fsqrt_rn(a) + __frsqrt_rn(a) + __int_as_float(__float_as_int(a)) + __uint_as_float(__float_as_uint(b));
  f += __int2float_rn(3) + __double2float_rn(c);
  double g = __fma_rn(c, d, c) + __dadd_rn(c, d) + __dsub_rn(c, d) + __dmul_rn(c, d) + __ddiv_rn(c, d) + __drcp_rn(c) + __dsqrt_rn(c);
  g += __hiloint2double(__double2hiint(c), __double2loint(c)) + __longlong_as_double(__double_as_longlong(d)) + __int2double_rn(2);
  g += rcbrt(c) + functions(a, b) + functions(c, d) + min(a, c) + max(c, a) + min(c, a) + max(a, c);
  long long n = __float2int_rn(a) + __float2int_rz(a) + __float2int_rd(a) + __float2int_ru(a) + __double2int_rn(c);
  n += __double2int_rz(c) + __double2int_rd(c) + __double2int_ru(c) + __float2ll_rn(a) + __float2ll_rz(a) + __float2ll_rd(a);
  n += __float2ll_ru(a) + __double2ll_rn(c) + __double2ll_rz(c) + __double2ll_rd(c) + __double2ll_ru(c);
  n += __popc(5u) + __popcll(5ull) + __ffs(8) + __ffsll(8ll) + __clz(1) + __clzll(1ll) + __brev(1u) % 7u + __umulhi(1u << 31, 4u);
  n += __mulhi(1 << 30, 8) + (long long)__umul64hi(1ull << 63, 4ull) + min(1, 2) + max(1, 2u) + min(1ll, 2ull) + max(1l, 2l);
  __stcs(out, g + f);
  __stcg(out + 1, double(n));
}

__global__ void vectors(const float4* a, const double2* b, const int2* c, float* out) {
  const float4 v = a[threadIdx.x], w = make_float4(v.x, v.y, v.z, v.w);
  const double2 p = b[0], q = make_double2(p.x, p.y);
  const int2 i = c[0], j = make_int2(i.x, i.y);
  const float2 f = make_float2(w.x, w.y);
  const float3 h = make_float3(1, 2, 3);
  const double3 k = make_double3(1, 2, 3);
  const double4 l = make_double4(1, 2, 3, 4);
  const int3 m = make_int3(1, 2, 3);
  const int4 n = make_int4(1, 2, 3, 4);
  const uint2 o = make_uint2(1, 2);
  const uint3 r = make_uint3(1, 2, 3);
  const uint4 s = make_uint4(1, 2, 3, 4);
  const longlong2 t = make_longlong2(1, 2);
  const char2 u = make_char2(1, 2);
  const char4 x = make_char4(1, 2, 3, 4);
  const uchar2 y = make_uchar2(1, 2);
  const uchar4 z = make_uchar4(1, 2, 3, 4);
  out[threadIdx.x] = f.x + f.y + w.z + w.w + float(q.x + q.y + k.z + l.w) + j.x + j.y + h.z + m.z + n.w + o.y + r.z + s.w + t.y +
                     u.y + x.w + y.y + z.w;
}

__global__ void __launch_bounds__(64) warps(int* ints, unsigned* words, unsigned long long* longs, long long* signeds, float* floats,
                                            double* doubles, unsigned short* shorts) {
  const unsigned all = 0xffffffffu;
  const int lane = threadIdx.x % warpSize;
  double d = __shfl_sync(all, double(lane), 3) + __shfl_up_sync(all, 1.0, 1) + __shfl_down_sync(all, 1.0f, 1, 16);
  d += __shfl_xor_sync(all, (long long)lane, 1) + __shfl_sync(all, 7u, 0);
  unsigned u = __ballot_sync(all, lane > 3) + __any_sync(all, lane) + __all_sync(all, lane) + __match_any_sync(all, lane / 2);
  u += __reduce_add_sync(all, lane) + __reduce_min_sync(all, lane) + __reduce_max_sync(all, lane) + __reduce_and_sync(all, 3u) +
       __reduce_or_sync(all, 4u);
  u += __syncthreads_count(lane > 3) + __syncthreads_and(1) + __syncthreads_or(0);
  __syncwarp();
  __syncwarp(all);
  __threadfence();
  __threadfence_block();
  atomicAdd(ints, 1); atomicSub(ints, 1); atomicMin(ints, 1); atomicMax(ints, 1); atomicExch(ints, 1); atomicCAS(ints, 1, 2);
  atomicAnd(ints, 1); atomicOr(ints, 1); atomicXor(ints, 1);
  atomicAdd(words, 1u); atomicInc(words, 9u); atomicDec(words, 9u);
  atomicAdd(longs, 1ull); atomicMax(longs, 1ull); atomicCAS(longs, 1ull, 2ull);
  atomicMin(signeds, 1ll); atomicMax(signeds, 1ll);
  atomicAdd(floats, 1.0f); atomicExch(floats + 1, 1.0f);
  atomicAdd(doubles, 1.0);
  atomicCAS(shorts, (unsigned short)0, (unsigned short)1);
  if (blockIdx.x > gridDim.x || blockDim.x == 0) __trap();
  if (threadIdx.x == 0) doubles[1] = d, words[1] = u;
}
