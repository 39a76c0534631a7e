// The scheduler: every CUDA thread is a fiber, blocks run one after the other, one OS thread at a time.
//
// A thread runs until it waits at a barrier or a warp intrinsic. Which of the ready threads runs next is the schedule:
// 0 in order, 1 in reverse, any other number a seed (then blocks are permuted too, and atomics may yield).
#include "emu_rt.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#include <ucontext.h>
#endif

namespace emu {
namespace {

constexpr size_t STACK = 256 << 10;
constexpr int MAX_THREADS = 1024, WARP = 32;
constexpr long SPIN_LIMIT = 100'000'000;
constexpr uint32_t MAX_CLOCK = 1u << 22;    // Access::who keeps the clock in 22 bits

// Lanes of a warp that meet in one intrinsic, and the value that each brought.
struct Meeting { unsigned mask, arrived; int op; Where at; int mailbox; };
struct Mailbox { int readers; unsigned char value[WARP][16]; };
struct Warp {
  std::vector<Meeting> meetings;
  std::vector<Mailbox> mailboxes;
  unsigned alive;
  bool synced;                              // known[] holds more than zeros
  uint32_t known[WARP][WARP];               // [a][b]: lane a is ordered after ticks 0..known[a][b] of lane b
};

std::vector<Thread> threads;
std::vector<Warp> warps;
std::vector<int> ready;
char* stacks;
Dim3 block_index, block_dim, grid_dim;
int n_threads, alive, arrived;
Where barrier;
long votes, votes_result;
int schedule;
uint64_t random_state;

bool failed;
std::string error, error_file;
int error_line;
Addr error_pc, error_other;

void (*kernel)(void**);
void** kernel_args;

uint64_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// ---- switching between the launch loop and a fiber
void fiber_main();
#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
extern "C" void emu_switch(void** save, void* to);
asm(".text\n.globl emu_switch\nemu_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
void* launch_stack;
void fiber_start(Thread& t) {
  void** sp = (void**)(stacks + STACK * (t.id + 1) - 64);
  *--sp = nullptr;
  *--sp = (void*)fiber_main;
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  t.stack = sp;
}
void fiber_resume(Thread& t) { emu_switch(&launch_stack, t.stack); }
void fiber_pause(Thread& t) { emu_switch(&t.stack, launch_stack); }
#else
ucontext_t launch_context, contexts[MAX_THREADS];
void fiber_start(Thread& t) {
  ucontext_t& c = contexts[t.id];
  getcontext(&c);
  c.uc_stack.ss_sp = stacks + STACK * t.id;
  c.uc_stack.ss_size = STACK;
  c.uc_link = nullptr;
  makecontext(&c, fiber_main, 0);
}
void fiber_resume(Thread& t) { swapcontext(&launch_context, &contexts[t.id]); }
void fiber_pause(Thread& t) { swapcontext(&contexts[t.id], &launch_context); }
#endif

void make_ready(Thread& t) {
  t.state = State::Ready;
  ready.push_back(t.id);
}

std::string place(Where at) {
  const char* slash = at.file ? strrchr(at.file, '/') : nullptr;
  return std::string(slash ? slash + 1 : at.file ? at.file : "") + ":" + std::to_string(at.line);
}

void note(const std::string& what, Where at, Addr pc, Addr other) {
  failed = true;
  error = what;
  if (current) {
    char text[120];
    const Dim3 b = block_index, t = current->index;
    snprintf(text, sizeof text, "; block (%u,%u,%u) thread (%u,%u,%u)", b.x, b.y, b.z, t.x, t.y, t.z);
    error += text;
  }
  error_file = at.file ? at.file : "";
  error_line = at.line;
  error_pc = pc;
  error_other = other;
}

[[noreturn]] void stop() {                  // the launch loop never resumes a fiber of a failed launch
  fiber_pause(*current);
  abort();
}

void release_mailbox(Thread& t) {
  if (t.mailbox >= 0) warps[t.warp].mailboxes[t.mailbox].readers--;
  t.mailbox = -1;
}

int free_mailbox(Warp& w) {
  for (size_t i = 0; i < w.mailboxes.size(); i++)
    if (!w.mailboxes[i].readers) return int(i);
  w.mailboxes.emplace_back();
  return int(w.mailboxes.size()) - 1;
}

// Only __syncwarp orders memory; shuffles and votes do not (CUDA C++ Programming Guide, warp functions).
void order_lanes(int warp, unsigned mask) {
  Warp& w = warps[warp];
  if (!w.synced) memset(w.known, 0, sizeof w.known), w.synced = true;
  uint32_t joined[WARP] = {0};
  for (int i = 0; i < WARP; i++) {
    if (!(mask >> i & 1)) continue;
    for (int j = 0; j < WARP; j++) joined[j] = std::max(joined[j], w.known[i][j]);
    joined[i] = std::max(joined[i], threads[warp * WARP + i].clock);
  }
  for (int i = 0; i < WARP; i++) {
    if (!(mask >> i & 1)) continue;
    memcpy(w.known[i], joined, sizeof joined);
    threads[warp * WARP + i].clock++;
  }
}

void complete(int warp, size_t meeting) {   // the last lane has arrived, or has exited
  Warp& w = warps[warp];
  const Meeting m = w.meetings[meeting];
  w.meetings.erase(w.meetings.begin() + meeting);
  w.mailboxes[m.mailbox].readers = __builtin_popcount(m.arrived);
  if (m.op == 0) order_lanes(warp, m.arrived);
  for (int i = 0; i < WARP; i++)
    if (m.arrived >> i & 1) make_ready(threads[warp * WARP + i]);
}

void fiber_main() {
  kernel(kernel_args);
  Thread& me = *current;
  Warp& w = warps[me.warp];
  me.state = State::Done;
  alive--;
  w.alive &= ~(1u << me.lane);
  release_mailbox(me);
  if (arrived) fail("this thread returns while others wait at __syncthreads (" + place(barrier) + ")", Where{});
  for (size_t i = w.meetings.size(); i-- > 0;) {
    const Meeting& m = w.meetings[i];
    if (!(m.mask >> me.lane & 1)) continue;
    if (m.op) fail("this thread returns while lanes of its warp wait for it in a shuffle or vote (" + place(m.at) + ")", Where{});
    if (m.arrived == (m.mask & w.alive)) complete(me.warp, i);   // a __syncwarp does not wait for lanes that have returned
  }
  stop();
}

void report_deadlock() {
  std::map<std::string, int> waiting;
  for (Thread& t : threads)
    if (t.state == State::AtBarrier || t.state == State::AtWarp)
      waiting[(t.state == State::AtBarrier ? "__syncthreads, " : "a warp intrinsic, ") + place(t.at)]++;
  std::string text = "deadlock";
  for (auto& [where, count] : waiting) text += (text == "deadlock" ? ": " : ", ") + std::to_string(count) + " threads at " + where;
  Thread* first = &*std::find_if(threads.begin(), threads.end(), [](Thread& t) { return t.state != State::Done; });
  current = first;
  note(text, first->at, 0, 0);
}

void run_block(uint32_t b) {
  block_index = {b % grid_dim.x, b / grid_dim.x % grid_dim.y, b / grid_dim.x / grid_dim.y};
  block_start = ++interval;
  arrived = 0;
  votes = 0;
  alive = n_threads;
  memory_block();
  for (Warp& w : warps) w.meetings.clear(), w.alive = 0, w.synced = false;
  for (Warp& w : warps) for (Mailbox& m : w.mailboxes) m.readers = 0;
  for (int i = 0; i < n_threads; i++) {
    Thread& t = threads[i];
    const unsigned u = unsigned(i);
    t.index = {u % block_dim.x, u / block_dim.x % block_dim.y, u / block_dim.x / block_dim.y};
    t.id = i;
    t.warp = i / WARP;
    t.lane = i % WARP;
    t.state = State::Ready;
    t.mailbox = -1;
    t.clock = 1;
    warps[t.warp].alive |= 1u << t.lane;
    fiber_start(t);
  }
  ready.clear();
  for (int i = 0; i < n_threads; i++) ready.push_back(schedule == 1 ? i : n_threads - 1 - i);   // taken from the back
  while (!failed && alive) {
    if (ready.empty()) return report_deadlock();
    const size_t last = ready.size() - 1;
    if (schedule > 1) std::swap(ready[last], ready[random_number() % ready.size()]);
    current = &threads[ready[last]];
    ready.pop_back();
    countdown = SPIN_LIMIT;
    fiber_resume(*current);
  }
}

}  // namespace

Thread* current;
uint32_t interval, block_start, launch_start;

uint32_t seen(int lane) {
  const Warp& w = warps[current->warp];
  return w.synced ? w.known[current->lane][lane] : 0;
}

void fail(const std::string& what, Addr pc, Addr other) {
  note(what, Where{}, pc, other);
  stop();
}
void fail(const std::string& what, Where at) {
  note(what, at, 0, 0);
  stop();
}

}  // namespace emu

using namespace emu;

extern "C" {

Dim3 emu_thread_idx() { return current->index; }
Dim3 emu_block_idx() { return block_index; }
Dim3 emu_block_dim() { return block_dim; }
Dim3 emu_grid_dim() { return grid_dim; }
int emu_lane() { return current->lane; }
void emu_fail(const char* what, const char* file, int line) { fail(what, Where{file, line}); }

void emu_launch_bounds(int limit, const char* file, int line) {
  if (n_threads > limit)
    fail("a block of " + std::to_string(n_threads) + " threads, the kernel's __launch_bounds__ is " + std::to_string(limit), Where{file, line});
}

// Returns the sum of `vote` over the block.
long emu_syncthreads(int vote, const char* file, int line) {
  Thread& me = *current;
  const Where here{file, line};
  if (alive < n_threads) fail("__syncthreads after " + std::to_string(n_threads - alive) + " threads of the block have returned", here);
  if (arrived && (barrier.line != line || strcmp(barrier.file, file)))
    fail("divergent __syncthreads: others wait at " + place(barrier), here);
  barrier = here;
  votes += vote;
  me.at = here;
  release_mailbox(me);
  if (++arrived == alive) {
    arrived = 0;
    votes_result = votes;
    votes = 0;
    interval++;
    for (Warp& w : warps) w.synced = false;
    for (Thread& t : threads) t.clock = 1, make_ready(t);
  } else {
    me.state = State::AtBarrier;
  }
  fiber_pause(me);
  return votes_result;
}

// Meet the lanes in `mask`; op 0 is __syncwarp. Returns the values of all lanes, 16 bytes apart, valid for those in mask.
const unsigned char* emu_meet(unsigned mask, const void* value, int size, int op, const char* file, int line) {
  Thread& me = *current;
  Warp& w = warps[me.warp];
  const Where here{file, line};
  const unsigned bit = 1u << me.lane;
  if (!(mask & bit)) fail("a warp intrinsic is called by a lane that is not in its mask", here);
  if (op && (mask & ~w.alive)) fail("the mask names a lane that has returned or does not exist", here);
  if (me.clock >= MAX_CLOCK - 1) fail("too many __syncwarp in a row for the emulator", here);
  release_mailbox(me);
  size_t k = 0;
  while (k < w.meetings.size() && w.meetings[k].mask != mask) k++;
  if (k == w.meetings.size()) {
    for (const Meeting& o : w.meetings)
      if ((o.arrived & mask) && (o.mask & bit)) fail("warp masks overlap: other lanes wait with another mask at " + place(o.at), here);
    const int box = free_mailbox(w);
    w.mailboxes[box].readers = WARP;       // taken; the true number is known when all have met
    w.meetings.push_back({mask, 0, op, here, box});
  }
  Meeting& m = w.meetings[k];
  if (m.op != op || m.at.line != line || strcmp(m.at.file, file))
    fail("lanes of one mask meet in different warp intrinsics, others at " + place(m.at), here);
  memcpy(w.mailboxes[m.mailbox].value[me.lane], value, size);
  m.arrived |= bit;
  me.mailbox = m.mailbox;
  me.state = State::AtWarp;
  me.at = here;
  const int box = m.mailbox;
  if (m.arrived == (mask & w.alive)) complete(me.warp, k);
  fiber_pause(me);
  return &w.mailboxes[box].value[0][0];
}

// Called before an atomic: a random schedule lets others run in between.
void emu_atomic_yield() {
  if (schedule > 1 && random_number() % 8 == 0 && !ready.empty()) {
    make_ready(*current);
    fiber_pause(*current);
  }
}

struct LaunchArgs {
  void (*function)(void**);
  void** args;
  unsigned grid[3], block[3];
  size_t dynamic_shared;
  int schedule;
  Addr module_lo, module_hi;
  const Range* ranges;
  int n_ranges;
};

// Returns 0, or 1 when emu_error() has something to say.
int emu_launch(const LaunchArgs* l) {
  if (!stacks) stacks = reserve(STACK * MAX_THREADS);
  const Launch memory{l->ranges, l->n_ranges, l->module_lo, l->module_hi, (Addr)stacks, (Addr)stacks + STACK * MAX_THREADS, l->dynamic_shared};
  current = nullptr;
  failed = false;
  kernel = l->function;
  kernel_args = l->args;
  schedule = l->schedule;
  random_state = 0x9E3779B97F4A7C15ull * (schedule + 1);
  grid_dim = {l->grid[0], l->grid[1], l->grid[2]};
  block_dim = {l->block[0], l->block[1], l->block[2]};
  n_threads = int(block_dim.x * block_dim.y * block_dim.z);
  threads.resize(n_threads);
  warps.resize((n_threads + WARP - 1) / WARP);
  launch_start = interval + 1;
  const std::string wrong = memory_launch(memory);
  if (!wrong.empty()) return note(wrong, Where{}, 0, 0), 1;
  const size_t n_blocks = size_t(grid_dim.x) * grid_dim.y * grid_dim.z;
  std::vector<uint32_t> order(n_blocks);
  for (size_t i = 0; i < n_blocks; i++) order[i] = uint32_t(schedule == 1 ? n_blocks - 1 - i : i);
  if (schedule > 1)
    for (size_t i = n_blocks; i > 1; i--) std::swap(order[i - 1], order[random_number() % i]);
  for (size_t i = 0; i < n_blocks && !failed; i++) run_block(order[i]);
  current = nullptr;
  return failed;
}

const char* emu_error() { return error.c_str(); }
const char* emu_error_file() { return error_file.c_str(); }
int emu_error_line() { return error_line; }
Addr emu_error_pc() { return error_pc ? error_pc - launch->module_lo : 0; }
Addr emu_error_other() { return error_other ? error_other - launch->module_lo : 0; }

// ---- what the undefined-behaviour checks of g++ call
struct SourceLocation { const char* file; uint32_t line, column; };
struct TypeMismatch { SourceLocation at; void* type; unsigned char log_alignment, kind; };

#define UB(NAME, TEXT) \
  void __ubsan_handle_##NAME(SourceLocation* at, Addr, Addr) { fail(TEXT, Where{at->file, int(at->line)}); }
UB(add_overflow, "signed integer overflow in +")
UB(sub_overflow, "signed integer overflow in -")
UB(mul_overflow, "signed integer overflow in *")
UB(negate_overflow, "signed integer overflow in a negation")
UB(divrem_overflow, "integer division by zero, or its result overflows")
UB(shift_out_of_bounds, "shift by a negative amount, or by the width of the type or more")
UB(out_of_bounds, "index outside the bounds of an array")
void __ubsan_handle_type_mismatch_v1(TypeMismatch* m, Addr a) {
  const Where at{m->at.file, int(m->at.line)};
  if (!a) fail("use of a null pointer", at);
  fail("misaligned access: the type needs " + std::to_string(1 << m->log_alignment) + " bytes, the address is a multiple of " +
           std::to_string(int(a & -a)),
       at);
}

}  // extern "C"
