// Device memory and its checks: bounds, lifetime, alignment, initialisation, races.
//
// Kernels are compiled with -fsanitize=thread but linked to this file's __tsan_* hooks instead of libtsan, so every load
// and store of theirs passes through `access`. Shadow memory, one entry per 4-byte cell of the arena:
//   state  high nibble: bytes that belong to an array; low nibble: bytes that something has written
//   cells  who wrote the cell last, and up to four readers since, for the race check
//   reach  per 512 bytes: whether the kernel that runs now was given this memory, and may write there
#include "emu_rt.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

namespace emu {
namespace {

constexpr size_t ARENA = 1ull << 36, GRANULE = 512, PAGE = 4096;
constexpr size_t SHARED = 1 << 20;          // the arena starts with one block's shared memory: dynamic, then static
constexpr size_t DYNAMIC = 256 << 10;       // room for the dynamic part; 227 KiB is the most a GPU has
constexpr size_t STATIC_LIMIT = 48 << 10;
constexpr int MAX_DEVICES = 8;
constexpr uint32_t ATOMIC = 16, BYTES = 15; // in Access::what, below the code address

struct Access { uint32_t interval, who, what; };   // who = clock << 10 | thread, what = code offset << 8 | ATOMIC | bytes
struct alignas(64) Cell { Access write, read[4]; };
struct Array { size_t bytes; int device; bool touched; };
struct Freed { Addr lo, hi; };
struct Slot { const void* key; Addr lo; size_t bytes; };

char* arena;
uint8_t* state;
Cell* cells;
uint32_t* reach;
uint32_t reach_id;                          // 4 * launch number; + READ / WRITE / PARTIAL in `reach`
constexpr int READ = 1, WRITE = 2, PARTIAL = 3;

std::map<Addr, Array> live;
std::deque<Freed> freed;                    // the latest, for messages
size_t top = SHARED, soft_end = 1ull << 30; // addresses are used again only after soft_end - SHARED bytes of others
size_t used_bytes[MAX_DEVICES], pool_bytes[MAX_DEVICES];   // in arrays; in arrays and in the pool's cache
std::vector<Slot> slots;
size_t slots_top, slots_bytes;
bool check_written = true;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
uint8_t nibble(size_t bytes) { return uint8_t((1u << bytes) - 1); }

void setup() {
  if (arena) return;
  arena = reserve(ARENA);
  state = (uint8_t*)reserve(ARENA / 4);
  cells = (Cell*)reserve(ARENA / 4 * sizeof(Cell));
  reach = (uint32_t*)reserve(ARENA / GRANULE * sizeof(uint32_t));
}

// Add and remove bits of `state` for [off, off + n); off is a multiple of 4.
void set_state(size_t off, size_t n, uint8_t value) {
  memset(state + off / 4, value, n / 4);
  if (n % 4) state[(off + n) / 4] = value & (nibble(n % 4) * 0x11);
}

size_t find_room(size_t need) {             // next fit: the address that was free for the longest time
  for (int pass = 0; pass < 2; pass++) {
    auto it = live.lower_bound((Addr)arena + top);
    if (it != live.begin()) {
      auto before = std::prev(it);
      top = std::max(top, round_up(before->first - (Addr)arena + before->second.bytes, GRANULE) + GRANULE);
    }
    for (;; ++it) {
      const size_t end = it == live.end() ? soft_end : it->first - (Addr)arena;
      if (top + need + GRANULE <= end) return top;
      if (it == live.end()) break;
      top = round_up(end + it->second.bytes, GRANULE) + GRANULE;
    }
    if (pass == 0) top = SHARED;
  }
  top = std::max(top, soft_end);
  if (top + need + 2 * GRANULE > ARENA) return 0;
  while (soft_end < top + need + 2 * GRANULE) soft_end *= 2;
  return top;
}

std::string bytes_of(const char* what, int n) { return std::string(what) + " of " + std::to_string(n) + " bytes"; }

// What an address is that the kernel may not touch.
std::string describe(Addr a) {
  if (a < PAGE) return "through a null pointer";
  const size_t off = a - (Addr)arena;
  if (off >= ARENA) return "not device memory";
  if (off < DYNAMIC) return "outside the " + std::to_string(launch->dynamic_shared) + " bytes of dynamic shared memory of this launch";
  if (off < SHARED) return "outside every __shared__ array";
  for (auto f = freed.rbegin(); f != freed.rend(); ++f)
    if (a >= f->lo && a < f->hi) return "in a device array that has been freed";
  const Range* nearest = nullptr;
  Addr distance = 1 << 20;
  for (int i = 0; i < launch->n_ranges; i++) {
    const Range& r = launch->ranges[i];
    const Addr d = a < r.lo ? r.lo - a : a >= r.hi ? a - r.hi + 1 : 0;
    if (d < distance) distance = d, nearest = &r;
  }
  char text[160] = "outside every device array";
  if (nearest)
    snprintf(text, sizeof text, "%zu bytes %s argument %d, an array of %zu bytes", a < nearest->lo ? nearest->lo - a : a - nearest->hi,
             a < nearest->lo ? "before the start of" : "past the end of", nearest->argument, nearest->hi - nearest->lo);
  auto it = live.upper_bound(a);
  if (it != live.begin() && (--it, a < it->first + it->second.bytes))
    return std::string("in a device array, or a part of one, that is not an argument of this launch") + (nearest ? std::string(" (") + text + ")" : "");
  return text;
}

[[noreturn]] void illegal(Addr a, int n, bool write, Addr pc) {
  fail("illegal " + bytes_of(write ? "write" : "read", n) + ", " + describe(a), pc);
}

[[noreturn]] void race(const char* kind, const Access& old, bool shared, Addr pc) {
  char text[160];
  if (old.interval < block_start)
    snprintf(text, sizeof text, "race between blocks (%s) on %s memory", kind, shared ? "shared" : "global");
  else
    snprintf(text, sizeof text, "race (%s) on %s memory with thread %u of the same block%s", kind, shared ? "shared" : "global",
             old.who & 1023, (int)(old.who & 1023) / 32 == current->warp ? " and warp" : "");
  fail(text, pc, launch->module_lo + (old.what >> 8));
}

// Whether two accesses to the same bytes are unordered and not both atomic; the caller knows that one is a write.
inline bool clash(const Access& old, const Access& now, uint32_t since) {
  if (old.interval < since || !(old.what & now.what & BYTES) || (old.what & now.what & ATOMIC)) return false;
  if (old.interval != interval) return old.interval < block_start;   // another block; else ordered by a barrier
  const int thread = old.who & 1023;
  if (thread == current->id) return false;
  return thread / 32 != current->warp || (old.who >> 10) > seen(thread % 32);
}

template <bool Write>
inline void record(Cell& c, const Access& now, bool shared, Addr pc) {
  const uint32_t since = shared ? block_start : launch_start;
  if (clash(c.write, now, since)) race(Write ? "write after write" : "read after write", c.write, shared, pc);
  Access& last = c.read[0];
  if constexpr (Write) {
    for (const Access& r : c.read)
      if (clash(r, now, since)) race("write after read", r, shared, pc);
    c.write = now;
  } else {
    // Four readers are enough: the last one, and the last one of another thread of its warp, of another warp, of another
    // block. Whoever writes, one of them is not itself.
    if (last.interval == now.interval && last.who == now.who) {
      last.what |= now.what & BYTES;
      return;
    }
    if (last.interval >= since) {
      const uint32_t differs = last.who ^ now.who;
      if (last.interval < block_start) c.read[3] = last;
      else if (last.interval == interval) c.read[differs & (31 << 5) ? 2 : 1] = differs & 1023 ? last : c.read[1];
    }
    last = now;
  }
}

// The slow way to decide whether [a, a+n) was given to this launch: READ or WRITE, or it fails.
int reachable(Addr a, int n, bool write, Addr pc) {
  int best = 0;
  const size_t off = a - (Addr)arena;
  if (off < ARENA && (reach[off / GRANULE] & ~3u) == reach_id)
    for (int i = 0; i < launch->n_ranges; i++) {
      const Range& r = launch->ranges[i];
      if (a >= r.lo && a + n <= r.hi) best = std::max(best, r.readonly ? READ : WRITE);
    }
  if (!best) illegal(a, n, write, pc);
  return best;
}

template <int N> struct Bits;   // N bytes of an aligned access: their entries of `state`, read at once
template <> struct Bits<4> { using Type = uint8_t; static constexpr Type all = 0xFF, mine = 0xF0; };
template <> struct Bits<8> { using Type = uint16_t; static constexpr Type all = 0xFFFF, mine = 0xF0F0; };
template <> struct Bits<16> { using Type = uint32_t; static constexpr Type all = 0xFFFFFFFFu, mine = 0xF0F0F0F0u; };

[[noreturn]] __attribute__((noinline)) void bad_state(Addr a, int n, bool write, bool owned, Addr pc) {
  if (!owned || write) illegal(a, n, write, pc);
  fail(bytes_of("read", n) + " of " + (a - (Addr)arena < SHARED ? "shared memory that no thread of this block" : "device memory that nothing") +
           " has written",
       pc);
}

__attribute__((noinline)) void outside(Addr a, int n, bool write, Addr pc) {
  if (a >= launch->stacks_lo && a < launch->stacks_hi) return;               // local variables
  if (a >= launch->module_lo && a < launch->module_hi && !write) return;     // constants
  if (a >= launch->module_lo && a < launch->module_hi) fail("write to a variable of the module (constant or __device__)", pc);
  illegal(a, n, write, pc);
}

template <int N, bool Write, bool Atomic = false>
inline void access(Addr a, Addr pc) {
  if (!current) return;
  const size_t off = a - (Addr)arena;
  if (__builtin_expect(off >= ARENA, 0)) return outside(a, N, Write, pc);
  if (__builtin_expect(a % N != 0, 0)) fail("misaligned " + bytes_of(Write ? "write" : "read", N), pc);
  if (__builtin_expect(--countdown < 0, 0)) fail("this thread makes no progress: it spins, or the launch is too large to emulate", pc);
  const bool shared = off < SHARED;
  uint32_t bytes = BYTES;
  bool owned, written;
  if constexpr (N >= 4) {
    using B = Bits<N>;
    auto& s = *(typename B::Type*)(state + off / 4);
    owned = (s & B::mine) == B::mine;
    written = s == B::all || (!check_written && !shared);
    if (Write && owned) s = B::all;
  } else {
    uint8_t& s = state[off / 4];
    bytes = nibble(N) << off % 4;
    owned = (s >> 4 & bytes) == bytes;
    written = (s & bytes) == bytes || (!check_written && !shared);
    if (Write && owned) s |= bytes;
  }
  if (!shared) {
    int mode = int(reach[off / GRANULE] - reach_id);
    if (__builtin_expect(mode != READ && mode != WRITE, 0)) mode = reachable(a, N, Write, pc);
    if (__builtin_expect(!owned || ((!Write || Atomic) && !written), 0)) bad_state(a, N, Write && !Atomic, owned, pc);
    if (mode == READ) {     // nobody writes there during this launch, so there is no race to look for
      if (Write) fail("write to an array that this launch got as const", pc);
      return;
    }
  } else if (__builtin_expect(!owned || ((!Write || Atomic) && !written), 0)) {
    bad_state(a, N, Write && !Atomic, owned, pc);
  }
  const uint32_t code = (pc - launch->module_lo) & 0xFFFFFF;
  const Access now{interval, current->clock << 10 | uint32_t(current->id), code << 8 | (Atomic ? ATOMIC : 0) | bytes};
  Cell* c = cells + off / 4;
  record<Write>(*c, now, shared, pc);
  if constexpr (N >= 8) record<Write>(c[1], now, shared, pc);
  if constexpr (N >= 16) {
    record<Write>(c[2], now, shared, pc);
    record<Write>(c[3], now, shared, pc);
  }
}

template <bool Write>
void access_range(Addr a, size_t n, Addr pc) {   // aggregates, and accesses that are not aligned to their size
  while (n)
    if (a % 4 == 0 && n >= 4) access<4, Write>(a, pc), a += 4, n -= 4;
    else access<1, Write>(a, pc), a += 1, n -= 1;
}

void mark(size_t granule, uint32_t mode) {
  uint32_t& r = reach[granule];
  r = (r & ~3u) != reach_id || r == reach_id + mode ? reach_id + mode : reach_id + PARTIAL;
}

}  // namespace

const Launch* launch;
long countdown;

char* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) { perror("the CUDA emulator cannot reserve address space"); abort(); }
  return (char*)p;
}

std::string memory_launch(const Launch& l) {
  setup();
  static Launch kept;
  kept = l;
  launch = &kept;
  reach_id += 4;
  set_state(0, DYNAMIC, 0);
  for (int i = 0; i < l.n_ranges; i++) {
    const Range& r = l.ranges[i];
    auto it = live.upper_bound(r.lo);
    const std::string name = "argument " + std::to_string(r.argument);
    if (it == live.begin()) return name + " is not a device array";
    --it;
    Array& array = it->second;
    const Addr end = it->first + array.bytes;
    if (r.lo >= end || r.hi > end) return name + " is a device array that has been freed";
    array.touched = true;
    const size_t first = (r.lo - (Addr)arena) / GRANULE, last = (r.hi - 1 - (Addr)arena) / GRANULE;
    const uint32_t mode = r.readonly ? READ : WRITE;
    for (size_t g = first; g <= last; g++) {   // partly covered granules are looked up range by range
      const bool whole = (g > first || r.lo % GRANULE == 0) && (g < last || r.hi == end || r.hi % GRANULE == 0);
      mark(g, whole ? mode : PARTIAL);
    }
  }
  return "";
}

void memory_block() {
  if (slots_top) set_state(DYNAMIC, round_up(slots_top, 4), 0);
  slots.clear();
  slots_top = slots_bytes = 0;
  set_state(0, launch->dynamic_shared, 0xF0);
  memset(arena, 0xFF, launch->dynamic_shared);
}

}  // namespace emu

using namespace emu;

#define PC ((Addr)__builtin_return_address(0))
extern "C" {

void* emu_malloc(size_t bytes, int device) {
  setup();
  const size_t off = find_room(round_up(bytes, GRANULE));
  if (!off) return nullptr;
  char* p = arena + off;
  live[(Addr)p] = {bytes, device, false};
  used_bytes[device] += round_up(bytes, GRANULE);
  pool_bytes[device] = std::max(pool_bytes[device], used_bytes[device]);
  set_state(off, bytes, 0xF0);
  memset(p, 0xFF, bytes);    // NaN, or -1: what nobody wrote must not look like an answer
  top = off + round_up(bytes, GRANULE) + GRANULE;
  return p;
}

void emu_free(void* p) {
  auto it = live.find((Addr)p);
  if (it == live.end()) return;
  const size_t off = it->first - (Addr)arena, bytes = it->second.bytes;
  set_state(off, bytes, 0);
  used_bytes[it->second.device] -= round_up(bytes, GRANULE);
  if (it->second.touched) madvise(cells + off / 4, round_up(bytes, GRANULE) / 4 * sizeof(Cell), MADV_DONTNEED);
  const Addr lo = round_up((Addr)p, PAGE), hi = ((Addr)p + bytes) / PAGE * PAGE;
  if (hi > lo) madvise((void*)lo, hi - lo, MADV_DONTNEED);
  freed.push_back({(Addr)p, (Addr)p + bytes});
  if (freed.size() > 4096) freed.pop_front();
  live.erase(it);
}

// The host has written [p, p + n), which lies in one array.
void emu_written(void* p, size_t n) {
  for (Addr a = (Addr)p, end = a + n; a < end;) {
    const size_t off = a - (Addr)arena;
    if (off % 4 == 0 && end - a >= 4) {
      memset(state + off / 4, 0xFF, (end - a) / 4);
      a += (end - a) / 4 * 4;
    } else {
      state[off / 4] |= 1u << off % 4;
      a++;
    }
  }
}

// Whether something has written all of [p, p + n), which lies in one array.
int emu_is_written(void* p, size_t n) {
  const size_t off = (Addr)p - (Addr)arena;
  for (size_t i = off; i < off + n; i += 4 - i % 4) {
    const uint8_t want = uint8_t(nibble(std::min<size_t>(off + n - i, 4 - i % 4)) << i % 4);
    if ((state[i / 4] & want) != want) return !check_written;
  }
  return 1;
}

size_t emu_used_bytes(int device) { return used_bytes[device]; }
size_t emu_pool_bytes(int device) { return pool_bytes[device]; }
void emu_pool_trim(int device) { pool_bytes[device] = used_bytes[device]; }

void emu_check_written(int on) { check_written = on; }

void* emu_dynamic_shared() { return arena; }

// A __shared__ array: one per function instance and block. It is placed no better aligned than its type promises, with
// a gap before the next one.
void* emu_shared(const void* key, size_t bytes, size_t align, const char* file, int line) {
  for (const Slot& s : slots)
    if (s.key == key) return (void*)s.lo;
  slots_bytes += bytes;
  if (slots_bytes > STATIC_LIMIT) fail("more than 48 KiB of static shared memory", Where{file, line});
  const size_t a = std::max<size_t>(align, 4);
  const size_t at = round_up(slots_top + 64, 2 * a) + a;
  slots.push_back({key, (Addr)arena + DYNAMIC + at, bytes});
  slots_top = at + round_up(bytes, 4) + 64;
  set_state(DYNAMIC + at, bytes, 0xF0);
  memset(arena + DYNAMIC + at, 0xFF, bytes);
  return arena + DYNAMIC + at;
}

// An atomic counts as a write that does not clash with other atomics; it reads too, so the memory must hold something.
void emu_atomic(void* p, int n, void* pc) {
  const Addr at = (Addr)pc;
  if (n == 2) access<2, true, true>((Addr)p, at);
  else if (n == 4) access<4, true, true>((Addr)p, at);
  else access<8, true, true>((Addr)p, at);
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
#define ALIGNED(N) \
  void __tsan_read##N(void* p) { access<N, false>((Addr)p, PC); } \
  void __tsan_write##N(void* p) { access<N, true>((Addr)p, PC); }
ALIGNED(1) ALIGNED(2) ALIGNED(4) ALIGNED(8) ALIGNED(16)
#define UNALIGNED(N) \
  void __tsan_unaligned_read##N(void* p) { access_range<false>((Addr)p, N, PC); } \
  void __tsan_unaligned_write##N(void* p) { access_range<true>((Addr)p, N, PC); }
UNALIGNED(2) UNALIGNED(4) UNALIGNED(8) UNALIGNED(16)
void __tsan_read_range(void* p, size_t n) { access_range<false>((Addr)p, n, PC); }
void __tsan_write_range(void* p, size_t n) { access_range<true>((Addr)p, n, PC); }
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}

}  // extern "C"
