// What the scheduler (emu_rt.cpp) and the memory checker (emu_memory.cpp) know of each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace emu {

using Addr = uintptr_t;

struct Dim3 { unsigned x, y, z; };
struct Where { const char* file; int line; };  // file is null when only a code address is known

enum class State : uint8_t { Ready, AtBarrier, AtWarp, Done };

struct Thread {
  Dim3 index;
  int id, warp, lane;
  State state;
  Where at;          // the barrier or warp intrinsic where it waits
  void* stack;       // saved stack pointer of a fiber that does not run
  int mailbox;       // warp exchange whose values it may still be reading, -1 if none
  uint32_t clock;    // counts its __syncwarps in this barrier interval
};

// The thread that runs now; null outside a launch.
extern Thread* current;

// Time, for the race checker: `interval` grows by one at each block start and each __syncthreads, over the whole life of
// the process. Blocks run one after the other, so two numbers say what is concurrent: accesses older than launch_start
// are of the past, those between launch_start and block_start belong to another block of this launch.
extern uint32_t interval, block_start, launch_start;

// Up to which of `lane`'s clock ticks the current thread is ordered after that lane (same warp).
uint32_t seen(int lane);

// Report and end the launch. `other` is the code address of the other access of a race, 0 if none.
[[noreturn]] void fail(const std::string& what, Addr pc, Addr other = 0);
[[noreturn]] void fail(const std::string& what, Where at);

// ---- emu_memory.cpp
struct Range { Addr lo, hi; int readonly, argument; };  // the memory that one kernel argument gives access to
struct Launch {
  const Range* ranges; int n_ranges;
  Addr module_lo, module_hi;          // the kernel's own .so: constants may be read there
  Addr stacks_lo, stacks_hi;
  size_t dynamic_shared;
};
std::string memory_launch(const Launch&);   // "" or what is wrong with the arguments
void memory_block();                        // forget the last block's shared memory
char* reserve(size_t bytes);                // address space, filled with zeros when touched

extern const Launch* launch;
extern long countdown;                      // accesses that a thread may still make before another one must run

}  // namespace emu
