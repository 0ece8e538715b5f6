#include <map>
#include <mutex>

#include "cuda/check.h"
#include "cuda/side_stream.h"

namespace pyllmc::cuda {
namespace {

struct Side {
  cudaStream_t stream = nullptr;
  cudaEvent_t begun = nullptr, done = nullptr;
};

std::mutex& lock() {
  static std::mutex one;
  return one;
}
std::map<void*, Side>& sides() {
  static std::map<void*, Side> all;
  return all;
}

void release(const Side& side) {
  if (side.done) cudaEventDestroy(side.done);
  if (side.begun) cudaEventDestroy(side.begun);
  if (side.stream) cudaStreamDestroy(side.stream);
}

// Made on the first ask, kept for as long as the main stream lives.
Side side_of(void* main) {
  const std::lock_guard held(lock());
  if (const auto found = sides().find(main); found != sides().end()) return found->second;
  Side side;
  try {
    check(cudaStreamCreateWithFlags(&side.stream, cudaStreamNonBlocking), "making a stream");
    check(cudaEventCreateWithFlags(&side.begun, cudaEventDisableTiming), "making an event");
    check(cudaEventCreateWithFlags(&side.done, cudaEventDisableTiming), "making an event");
    sides()[main] = side;
  } catch (...) {
    release(side);
    throw;
  }
  return side;
}

cudaError_t wait(void* stream, cudaEvent_t event, void* for_stream) {
  const cudaError_t code = cudaEventRecord(event, static_cast<cudaStream_t>(for_stream));
  if (code != cudaSuccess) return code;
  return cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), event, 0);
}

}  // namespace

SideStream::SideStream(const Context& main) : context_(main), main_(main.stream) {
  const Side side = side_of(main_);
  context_.stream = side.stream;
  check(wait(side.stream, side.begun, main_), "beginning a branch");
}

void SideStream::join() {
  joined_ = true;
  check(wait(main_, side_of(main_).done, context_.stream), "joining a branch");
}

SideStream::~SideStream() {
  try {
    if (!joined_) join();
  } catch (const std::exception&) {  // the caller sees the error that is already under way
  }
}

void release_side_stream(void* main) noexcept {
  const std::lock_guard held(lock());
  const auto found = sides().find(main);
  if (found == sides().end()) return;
  release(found->second);
  sides().erase(found);
}

}  // namespace pyllmc::cuda
