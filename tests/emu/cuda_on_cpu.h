// CUDA C++ on the CPU, for tests only: the device-side names that kernels may use.
// A name that is not here does not compile: add it on purpose, with its rules, and with the overloads that CUDA has.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "cuda_math.h"

#define EMU_UNCHECKED __attribute__((no_sanitize("thread")))
#define EMU_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct dim3 { unsigned x, y, z; };

extern "C" {
// constant for the one thread that runs a kernel call, so g++ may keep them in registers
__attribute__((const)) uint3 emu_thread_idx();
__attribute__((const)) uint3 emu_block_idx();
__attribute__((const)) dim3 emu_block_dim();
__attribute__((const)) dim3 emu_grid_dim();
__attribute__((const)) int emu_lane();
long emu_syncthreads(int vote, const char* file, int line);
const unsigned char* emu_meet(unsigned mask, const void* value, int size, int op, const char* file, int line);
void emu_atomic(void* p, int size, void* pc);
void emu_atomic_yield();
void emu_fail(const char* what, const char* file, int line);
void emu_launch_bounds(int limit, const char* file, int line);
void* emu_dynamic_shared();
void* emu_shared(const void* key, unsigned long bytes, unsigned long align, const char* file, int line);
}

#define threadIdx emu_thread_idx()
#define blockIdx emu_block_idx()
#define blockDim emu_block_dim()
#define gridDim emu_grid_dim()
#define warpSize 32

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__
#define __restrict__ __restrict
#define __align__(n) alignas(n)
// build.py rewrites "__shared__ T a[n];" to EMU_SHARED, so that every array has a place of its own, and
// "__launch_bounds__(n)" to a check at the head of the kernel.
#define EMU_SHARED(NAME, ALIGN, ...)                                                                  \
  static char NAME##_key;                                                                             \
  typedef __VA_ARGS__;                                                                                \
  auto& NAME = *(NAME##_t*)emu_shared(&NAME##_key, sizeof(NAME##_t), ALIGN ? ALIGN : alignof(NAME##_t), __FILE__, __LINE__);

// ---- barriers and fences
static inline void __syncthreads(EMU_AT) { emu_syncthreads(0, file, line); }
static inline int __syncthreads_count(int p, EMU_AT) { return (int)emu_syncthreads(p != 0, file, line); }
static inline int __syncthreads_or(int p, EMU_AT) { return emu_syncthreads(p != 0, file, line) > 0; }
static inline int __syncthreads_and(int p, EMU_AT) { return emu_syncthreads(p == 0, file, line) == 0; }
static inline void __syncwarp(unsigned mask = ~0u, EMU_AT) {
  const int nothing = 0;
  emu_meet(mask, &nothing, sizeof nothing, 0, file, line);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __trap(EMU_AT) { emu_fail("__trap", file, line); }

// ---- shuffles and votes
template <class T>
EMU_UNCHECKED T emu_shuffle(unsigned mask, T v, int source, bool inside, int op, const char* file, int line) {
  static_assert(std::is_arithmetic<T>::value && sizeof(T) >= 4 && sizeof(T) <= 8, "shuffles move 4- or 8-byte numbers");
  const unsigned char* values = emu_meet(mask, &v, sizeof(T), op, file, line);
  if (!inside) return v;
  if (!(mask >> source & 1)) emu_fail("a shuffle reads a lane that is not in its mask", file, line);
  T r;
  std::memcpy(&r, values + 16 * source, sizeof(T));
  return r;
}
#define EMU_FIRST (emu_lane() & ~(width - 1))  // of the lane's segment
template <class T> T __shfl_sync(unsigned mask, T v, int lane, int width = 32, EMU_AT) {
  return emu_shuffle(mask, v, EMU_FIRST + (lane & (width - 1)), true, 1, file, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, EMU_AT) {
  const int s = emu_lane() + (int)delta;
  return emu_shuffle(mask, v, s, s < EMU_FIRST + width, 2, file, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, EMU_AT) {
  const int s = emu_lane() - (int)delta;
  return emu_shuffle(mask, v, s, s >= EMU_FIRST, 3, file, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, EMU_AT) {
  const int s = emu_lane() ^ lanes;
  return emu_shuffle(mask, v, s, s < EMU_FIRST + width, 4, file, line);
}
EMU_UNCHECKED static inline unsigned __ballot_sync(unsigned mask, int p, EMU_AT) {
  const int bit = p != 0;
  const unsigned char* values = emu_meet(mask, &bit, sizeof bit, 5, file, line);
  unsigned r = 0;
  for (int i = 0; i < 32; i++)
    if (mask >> i & 1) r |= (unsigned)(values[16 * i] & 1) << i;
  return r;
}
static inline int __any_sync(unsigned mask, int p, EMU_AT) { return __ballot_sync(mask, p, file, line) != 0; }
static inline int __all_sync(unsigned mask, int p, EMU_AT) { return __ballot_sync(mask, p, file, line) == mask; }
template <class T> EMU_UNCHECKED unsigned __match_any_sync(unsigned mask, T v, EMU_AT) {
  const unsigned char* values = emu_meet(mask, &v, sizeof(T), 6, file, line);
  unsigned r = 0;
  for (int i = 0; i < 32; i++)
    if ((mask >> i & 1) && !std::memcmp(values + 16 * i, &v, sizeof(T))) r |= 1u << i;
  return r;
}
template <class T> EMU_UNCHECKED T emu_reduce(unsigned mask, T v, int op, const char* file, int line) {
  const unsigned char* values = emu_meet(mask, &v, sizeof(T), op, file, line);
  T r = 0;
  bool first = true;
  for (int i = 0; i < 32; i++) {
    if (!(mask >> i & 1)) continue;
    T o;
    std::memcpy(&o, values + 16 * i, sizeof(T));
    r = first ? o : op == 7 ? T(r + o) : op == 8 ? (o < r ? o : r) : op == 9 ? (r < o ? o : r) : op == 10 ? T(r & o) : T(r | o);
    first = false;
  }
  return r;
}
#define EMU_REDUCE(NAME, OP)                                                                                   \
  static inline int NAME(unsigned mask, int v, EMU_AT) { return emu_reduce(mask, v, OP, file, line); }         \
  static inline unsigned NAME(unsigned mask, unsigned v, EMU_AT) { return emu_reduce(mask, v, OP, file, line); }
EMU_REDUCE(__reduce_add_sync, 7)
EMU_REDUCE(__reduce_min_sync, 8)
EMU_REDUCE(__reduce_max_sync, 9)
static inline unsigned __reduce_and_sync(unsigned mask, unsigned v, EMU_AT) { return emu_reduce(mask, v, 10, file, line); }
static inline unsigned __reduce_or_sync(unsigned mask, unsigned v, EMU_AT) { return emu_reduce(mask, v, 11, file, line); }
static inline unsigned __activemask(EMU_AT) {
  emu_fail("__activemask depends on how the hardware schedules; pass masks on", file, line);
  return ~0u;
}

// ---- atomics, with CUDA's overloads
#define EMU_ATOMIC(NAME, T, EXPR)                                              \
  __attribute__((noinline)) EMU_UNCHECKED static T NAME(T* p, T v) {           \
    emu_atomic_yield();                                                        \
    emu_atomic(p, sizeof(T), __builtin_return_address(0));                     \
    const T o = *p;                                                            \
    *p = (EXPR);                                                               \
    return o;                                                                  \
  }
typedef unsigned long long emu_ull;
#define EMU_SMALL(NAME, EXPR) EMU_ATOMIC(NAME, int, EXPR) EMU_ATOMIC(NAME, unsigned, EXPR)
#define EMU_BITS(NAME, EXPR) EMU_SMALL(NAME, EXPR) EMU_ATOMIC(NAME, emu_ull, EXPR)
EMU_BITS(atomicAdd, o + v)
EMU_ATOMIC(atomicAdd, float, o + v)
EMU_ATOMIC(atomicAdd, double, o + v)
EMU_SMALL(atomicSub, o - v)
EMU_BITS(atomicMax, o < v ? v : o)
EMU_BITS(atomicMin, v < o ? v : o)
EMU_ATOMIC(atomicMax, long long, o < v ? v : o)
EMU_ATOMIC(atomicMin, long long, v < o ? v : o)
EMU_BITS(atomicExch, v)
EMU_ATOMIC(atomicExch, float, v)
EMU_BITS(atomicAnd, o & v)
EMU_BITS(atomicOr, o | v)
EMU_BITS(atomicXor, o ^ v)
EMU_ATOMIC(atomicInc, unsigned, o >= v ? 0 : o + 1)
EMU_ATOMIC(atomicDec, unsigned, o == 0 || o > v ? v : o - 1)
#define EMU_CAS(T)                                                                       \
  __attribute__((noinline)) EMU_UNCHECKED static T atomicCAS(T* p, T expected, T v) {    \
    emu_atomic_yield();                                                                  \
    emu_atomic(p, sizeof(T), __builtin_return_address(0));                               \
    const T o = *p;                                                                      \
    if (o == expected) *p = v;                                                           \
    return o;                                                                            \
  }
EMU_CAS(int) EMU_CAS(unsigned) EMU_CAS(emu_ull) EMU_CAS(unsigned short)

template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline void __stcs(T* p, T v) { *p = v; }
template <class T> inline void __stcg(T* p, T v) { *p = v; }

// ---- how Python calls a kernel; the signature is the compiler's own, not one that somebody parsed
template <class... A> const char* emu_signature_of(void (*)(A...)) {
  static char text[64 * (sizeof...(A) + 1)];
  if (!*text) ((std::strcat(text, typeid(A).name()), std::strcat(text, ",")), ...);
  return text;
}
template <class... A, size_t... I> EMU_UNCHECKED void emu_go(void (*f)(A...), void** a, std::index_sequence<I...>) {
  f(*(A*)a[I]...);
}
template <class... A> EMU_UNCHECKED void emu_call_with(void (*f)(A...), void** a) { emu_go(f, a, std::index_sequence_for<A...>{}); }
extern "C" __attribute__((visibility("hidden"))) char __ehdr_start, _end;  // where this .so lies; the linker sets them
#define EMU_EXPORT(...)                                                              \
  extern "C" const char* emu_signature() { return emu_signature_of(__VA_ARGS__); }   \
  extern "C" EMU_UNCHECKED void emu_call(void** a) { emu_call_with(__VA_ARGS__, a); } \
  extern "C" void* emu_module_begin() { return &__ehdr_start; }                      \
  extern "C" void* emu_module_end() { return &_end; }
