// CUDA's built-in vector types, mathematical functions and conversions for cuda_on_cpu.h.
#pragma once

// ---- vector types, aligned as CUDA aligns them
#define EMU_VECTOR(T, NAME, ALIGN2, ALIGN4)                                              \
  struct alignas(ALIGN2) NAME##2 { T x, y; };                                            \
  struct NAME##3 { T x, y, z; };                                                         \
  struct alignas(ALIGN4) NAME##4 { T x, y, z, w; };                                      \
  static inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                      \
  static inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }              \
  static inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR(float, float, 8, 16)
EMU_VECTOR(double, double, 16, 16)
EMU_VECTOR(int, int, 8, 16)
EMU_VECTOR(unsigned, uint, 8, 16)
EMU_VECTOR(long long, longlong, 16, 16)
EMU_VECTOR(signed char, char, 2, 4)
EMU_VECTOR(unsigned char, uchar, 2, 4)

// ---- minimum and maximum: overloads, as in CUDA, not templates
#define EMU_MINMAX(T)                                                             \
  static inline T min(T a, T b) { return b < a ? b : a; }                         \
  static inline T max(T a, T b) { return a < b ? b : a; }
#define EMU_MINMAX_INTEGER(S, U)                                                  \
  EMU_MINMAX(S)                                                                   \
  EMU_MINMAX(U)                                                                   \
  static inline U min(S a, U b) { return min((U)a, b); }                          \
  static inline U min(U a, S b) { return min(a, (U)b); }                          \
  static inline U max(S a, U b) { return max((U)a, b); }                          \
  static inline U max(U a, S b) { return max(a, (U)b); }
EMU_MINMAX_INTEGER(int, unsigned)
EMU_MINMAX_INTEGER(long, unsigned long)
EMU_MINMAX_INTEGER(long long, unsigned long long)
// a NaN loses against a number, unlike with a comparison
static inline float min(float a, float b) { return std::fmin(a, b); }
static inline float max(float a, float b) { return std::fmax(a, b); }
static inline double min(double a, double b) { return std::fmin(a, b); }
static inline double max(double a, double b) { return std::fmax(a, b); }
static inline double min(float a, double b) { return std::fmin((double)a, b); }
static inline double max(float a, double b) { return std::fmax((double)a, b); }
static inline double min(double a, float b) { return std::fmin(a, (double)b); }
static inline double max(double a, float b) { return std::fmax(a, (double)b); }

// ---- functions that have a float and a double form under one name
using std::abs; using std::acos; using std::asin; using std::atan; using std::atan2; using std::cbrt; using std::ceil;
using std::copysign; using std::cos; using std::cosh; using std::erf; using std::erfc; using std::exp; using std::exp2;
using std::expm1; using std::fabs; using std::floor; using std::fma; using std::fmax; using std::fmin; using std::fmod;
using std::frexp; using std::hypot; using std::ilogb; using std::isfinite; using std::isinf; using std::isnan;
using std::ldexp; using std::lgamma; using std::llrint; using std::log; using std::log10; using std::log1p; using std::log2;
using std::logb; using std::lrint; using std::nearbyint; using std::nextafter; using std::pow; using std::rint;
using std::round; using std::scalbn; using std::signbit; using std::sin; using std::sinh; using std::sqrt; using std::tan;
using std::tanh; using std::tgamma; using std::trunc;
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
static inline float rcbrtf(float x) { return 1.0f / std::cbrt(x); }
static inline double rcbrt(double x) { return 1.0 / std::cbrt(x); }
static inline float exp10(float x) { return exp10f(x); }  // glibc has the other two
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }

// ---- fast and rounded forms; here they are the plain ones
#define __expf(x) std::exp((float)(x))
#define __exp10f(x) std::pow(10.0f, (float)(x))
#define __logf(x) std::log((float)(x))
#define __log2f(x) std::log2((float)(x))
#define __powf(x, y) std::pow((float)(x), (float)(y))
#define __sinf(x) std::sin((float)(x))
#define __cosf(x) std::cos((float)(x))
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline float __frsqrt_rn(float a) { return float(1.0 / std::sqrt((double)a)); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __drcp_rn(double a) { return 1.0 / a; }
static inline double __dsqrt_rn(double a) { return std::sqrt(a); }

// ---- bits
template <class To, class From> inline To emu_bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "");
  To r;
  std::memcpy(&r, &v, sizeof r);
  return r;
}
static inline float __int_as_float(int v) { return emu_bits<float>(v); }
static inline int __float_as_int(float v) { return emu_bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return emu_bits<float>(v); }
static inline unsigned __float_as_uint(float v) { return emu_bits<unsigned>(v); }
static inline double __longlong_as_double(long long v) { return emu_bits<double>(v); }
static inline long long __double_as_longlong(double v) { return emu_bits<long long>(v); }
static inline int __double2hiint(double v) { return int(emu_bits<unsigned long long>(v) >> 32); }
static inline int __double2loint(double v) { return int(emu_bits<unsigned long long>(v)); }
static inline double __hiloint2double(int hi, int lo) {
  return emu_bits<double>((unsigned long long)(unsigned)hi << 32 | (unsigned)lo);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r = r << 1 | (x >> i & 1);
  return r;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
static inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}

// ---- conversions; CUDA saturates where C++ has undefined behaviour
template <class I, class F> inline I emu_saturate(F v) {
  if (v != v) return 0;
  const F lo = F((long long)(sizeof(I) == 8 ? INT64_MIN : INT32_MIN)), hi = -lo;
  return v < lo ? I(lo) : v >= hi ? (sizeof(I) == 8 ? I(INT64_MAX) : I(INT32_MAX)) : I(v);
}
#define EMU_CONVERT(NAME, F, I)                                                                     \
  static inline I NAME##_rn(F v) { return emu_saturate<I>(std::nearbyint(v)); }                     \
  static inline I NAME##_rz(F v) { return emu_saturate<I>(std::trunc(v)); }                         \
  static inline I NAME##_rd(F v) { return emu_saturate<I>(std::floor(v)); }                         \
  static inline I NAME##_ru(F v) { return emu_saturate<I>(std::ceil(v)); }
EMU_CONVERT(__float2int, float, int)
EMU_CONVERT(__double2int, double, int)
EMU_CONVERT(__float2ll, float, long long)
EMU_CONVERT(__double2ll, double, long long)
static inline float __int2float_rn(int v) { return (float)v; }
static inline double __int2double_rn(int v) { return (double)v; }
static inline float __double2float_rn(double v) { return (float)v; }
