// Blocks of fibers. A thread of a block runs until it waits: at a barrier of the block, or where
// its warp meets (shuffles, matrix instructions). Warps go on as soon as all their lanes have met.
#undef _FORTIFY_SOURCE  // its longjmp() does not know other stacks
#include "block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation {
namespace {

constexpr int kLanes = 32;
constexpr size_t kStackBytes = 256 << 10;
constexpr int kMostThreads = 1024;
constexpr size_t kGuardBytes = 4096;

enum class State { ready, in_warp, at_barrier, done };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, read;
};

struct Fiber {
  jmp_buf at;
  State state = State::done;
  uint3 index;
  int number = 0;
  std::vector<Copy> begun;               // since the last commit
  std::deque<std::vector<Copy>> groups;  // oldest first
};

struct Warp {
  int arrived = 0;
  WarpWork work = nullptr;
  const char* name = "";
  void* lanes[kLanes] = {};
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Warp> warps;
  unsigned char* stacks = nullptr;
  unsigned char* shared = nullptr;
  ucontext_t starter;
  jmp_buf scheduler;
  Fiber* running = nullptr;
  const Grid* grid = nullptr;
  const std::function<void()>* body = nullptr;
  Failure failure{};
  bool failed = false;
};

// Never destroyed: fibers sleep inside their stacks until the process ends.
Machine& machine() {
  static Machine* one = new Machine;
  return *one;
}

void to_scheduler() {
  Machine& m = machine();
  if (_setjmp(m.running->at) == 0) _longjmp(m.scheduler, 1);
}

// A fiber's life: one body after another.
void live() {
  Machine& m = machine();
  for (;;) {
    to_scheduler();
    (*m.body)();
    m.running->state = State::done;
  }
}

void resume(Fiber& fiber) {
  Machine& m = machine();
  m.running = &fiber;
  threadIdx = fiber.index;
  if (_setjmp(m.scheduler) == 0) _longjmp(fiber.at, 1);
  m.running = nullptr;
}

void grow(int threads) {
  Machine& m = machine();
  if (!m.stacks) {
    m.stacks = static_cast<unsigned char*>(
        mmap(nullptr, kStackBytes * kMostThreads, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (m.stacks == MAP_FAILED) std::abort();
    m.shared =
        static_cast<unsigned char*>(std::aligned_alloc(128, kMostSharedBytes + 2 * kGuardBytes));
  }
  while (static_cast<int>(m.fibers.size()) < threads) {
    const size_t i = m.fibers.size();
    mprotect(m.stacks + i * kStackBytes, 4096, PROT_NONE);  // where a stack ends
    m.fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *m.fibers.back();
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = m.stacks + i * kStackBytes;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    m.running = &fiber;
    // Comes back from live()'s first to_scheduler().
    if (_setjmp(m.scheduler) == 0) setcontext(&context);
    m.running = nullptr;
  }
}

// Null for the plain order.
const char* order_name() {
  const char* name = std::getenv("PYLLMC_EMULATION_ORDER");
  return name && *name && std::strcmp(name, "ascending") != 0 ? name : nullptr;
}

// Ascending, descending, or a permutation drawn from the number that the variable holds.
std::vector<int> order(int count) {
  std::vector<int> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  const char* name = order_name();
  if (!name) return all;
  if (std::strcmp(name, "descending") == 0) {
    std::reverse(all.begin(), all.end());
  } else {
    std::mt19937 random(static_cast<unsigned>(std::atoi(name)));
    std::shuffle(all.begin(), all.end(), random);
  }
  return all;
}

void require_untouched(const unsigned char* guard) {
  if (untouched(guard, kGuardBytes)) return;
  fail("shared memory was written outside the launch's %zu bytes", machine().grid->shared_bytes);
}

void run_block(const std::vector<int>& warp_order, const std::vector<int>& lane_order,
               int threads) {
  Machine& m = machine();
  std::memset(m.shared, kUnwritten, m.grid->shared_bytes + 2 * kGuardBytes);
  for (Warp& warp : m.warps) warp.arrived = 0;
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = *m.fibers[static_cast<size_t>(i)];
    fiber.state = State::ready;
    fiber.begun.clear();
    fiber.groups.clear();
  }
  for (;;) {
    int done = 0, waiting = 0;
    for (int w : warp_order) {
      for (bool moved = true; moved;) {
        moved = false;
        for (int lane : lane_order) {
          Fiber& fiber = *m.fibers[static_cast<size_t>(w * kLanes + lane)];
          while (fiber.state == State::ready) {
            resume(fiber);
            moved = true;
            if (m.failed) throw m.failure;
          }
        }
      }
      for (int lane = 0; lane < kLanes; ++lane) {
        const State state = m.fibers[static_cast<size_t>(w * kLanes + lane)]->state;
        if (state == State::in_warp) {
          fail("%d of 32 lanes of warp %d meet in %s, the others never come",
               m.warps[static_cast<size_t>(w)].arrived, w, m.warps[static_cast<size_t>(w)].name);
        }
        ++(state == State::done ? done : waiting);
      }
    }
    if (waiting == 0) break;
    if (done) fail("%d threads wait at a barrier and %d have returned", waiting, done);
    for (int i = 0; i < threads; ++i) m.fibers[static_cast<size_t>(i)]->state = State::ready;
  }
  require_untouched(m.shared);
  require_untouched(m.shared + kGuardBytes + m.grid->shared_bytes);
}

}  // namespace

bool order_is_turned_round() { return order_name() != nullptr; }

void fail(const char* format, ...) {
  Machine& m = machine();
  char reason[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(reason, sizeof reason, format, arguments);
  va_end(arguments);
  const Grid& grid = *m.grid;
  int used = std::snprintf(m.failure.text, sizeof m.failure.text, "%s, block (%u, %u, %u)",
                           grid.name, blockIdx.x, blockIdx.y, blockIdx.z);
  if (m.running) {
    used += std::snprintf(m.failure.text + used, sizeof m.failure.text - static_cast<size_t>(used),
                          ", thread (%u, %u, %u)", threadIdx.x, threadIdx.y, threadIdx.z);
  }
  std::snprintf(m.failure.text + used, sizeof m.failure.text - static_cast<size_t>(used), ": %s",
                reason);
  if (!m.running) throw m.failure;
  // A failed fiber never goes on: exceptions do not leave its stack.
  m.failed = true;
  to_scheduler();
  std::abort();
}

void run(const Grid& grid, const std::function<void()>& body) {
  Machine& m = machine();
  m.grid = &grid;
  m.body = &body;
  blockDim = grid.block;
  gridDim = grid.grid;
  blockIdx = {};
  const int64_t threads = int64_t{grid.block.x} * grid.block.y * grid.block.z;
  const int64_t blocks = int64_t{grid.grid.x} * grid.grid.y * grid.grid.z;
  if (threads < 1 || threads > kMostThreads || threads % kLanes != 0) {
    fail("a block of %lld threads: 32 to 1024 by whole warps", static_cast<long long>(threads));
  }
  if (blocks < 1 || grid.grid.y > 65535 || grid.grid.z > 65535) {
    fail("a grid of (%u, %u, %u) blocks: 1 or more, y and z up to 65535", grid.grid.x, grid.grid.y,
         grid.grid.z);
  }
  if (grid.shared_bytes > kMostSharedBytes) {
    fail("%zu bytes of shared memory: up to %zu", grid.shared_bytes, kMostSharedBytes);
  }
  grow(static_cast<int>(threads));
  m.warps.assign(static_cast<size_t>(threads / kLanes), {});
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = *m.fibers[static_cast<size_t>(i)];
    const auto at = static_cast<unsigned>(i);
    fiber.number = i;
    fiber.index = {at % blockDim.x, at / blockDim.x % blockDim.y, at / blockDim.x / blockDim.y};
  }
  const std::vector<int> warp_order = order(static_cast<int>(threads / kLanes));
  const std::vector<int> lane_order = order(kLanes);
  try {
    for (int b : order(static_cast<int>(blocks))) {
      const auto at = static_cast<unsigned>(b);
      blockIdx = {at % gridDim.x, at / gridDim.x % gridDim.y, at / gridDim.x / gridDim.y};
      run_block(warp_order, lane_order, static_cast<int>(threads));
    }
    check_guards();
  } catch (const Failure&) {
    // Fibers that are in the middle of the body are left there; new ones take their place.
    m.failed = false;
    m.stacks = nullptr;
    for (auto& fiber : m.fibers) fiber.release();
    m.fibers.clear();
    throw;
  }
}

void meet(WarpWork work, void* mine, const char* name) {
  Machine& m = machine();
  const int w = m.running->number / kLanes;
  Warp& warp = m.warps[static_cast<size_t>(w)];
  if (warp.arrived == 0) {
    warp.work = work;
    warp.name = name;
  } else if (warp.work != work) {
    fail("lanes of warp %d meet in %s and in %s", w, warp.name, name);
  }
  warp.lanes[m.running->number % kLanes] = mine;
  if (++warp.arrived < kLanes) {
    m.running->state = State::in_warp;
    to_scheduler();
    return;
  }
  if (work) work(warp.lanes);
  warp.arrived = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    m.fibers[static_cast<size_t>(w * kLanes + lane)]->state = State::ready;
  }
}

unsigned char* shared_begin() { return machine().shared + kGuardBytes; }

void require_aligned(const void* at, size_t alignment, const char* what) {
  if (reinterpret_cast<uintptr_t>(at) % alignment != 0) {
    fail("%s of %zu bytes at a misaligned address", what, alignment);
  }
}

void require_shared(const void* at, size_t bytes, size_t alignment, const char* what) {
  require_aligned(at, alignment, what);
  const auto* begin = shared_begin();
  const auto* p = static_cast<const unsigned char*>(at);
  if (p < begin || p + bytes > begin + machine().grid->shared_bytes) {
    fail("%s outside the launch's %zu bytes of shared memory", what, machine().grid->shared_bytes);
  }
}

void begin_copy(void* shared, const void* global, size_t bytes, size_t read) {
  require_shared(shared, bytes, bytes, "asynchronous copy");
  require_aligned(global, bytes, "asynchronous copy");
  if (read > bytes) fail("asynchronous copy of %zu bytes reads %zu", bytes, read);
  // Nothing is read there, but a tool that watches a real GPU may look at the address.
  if (read == 0 && !allocated(global, bytes)) {
    fail("asynchronous copy of nothing from outside every allocation");
  }
  std::memset(shared, kUnwritten, bytes);
  machine().running->begun.push_back({shared, global, bytes, read});
}

void commit_copies() {
  Fiber& fiber = *machine().running;
  fiber.groups.push_back(std::move(fiber.begun));
  fiber.begun.clear();
}

void wait_copies(int groups_left) {
  Fiber& fiber = *machine().running;
  while (static_cast<int>(fiber.groups.size()) > groups_left) {
    for (const Copy& copy : fiber.groups.front()) {
      std::memcpy(copy.to, copy.from, copy.read);
      std::memset(static_cast<unsigned char*>(copy.to) + copy.read, 0, copy.bytes - copy.read);
    }
    fiber.groups.pop_front();
  }
}

}  // namespace emulation

void __syncthreads() {
  using namespace emulation;
  Machine& m = machine();
  m.running->state = State::at_barrier;
  to_scheduler();
}

void __syncwarp(unsigned mask) {
  if (mask != 0xffffffffu) emulation::fail("__syncwarp with the mask %08x", mask);
  emulation::meet(nullptr, nullptr, __func__);
}
