// A second stream beside a context's: for work of one op that does not wait for its other work, so
// that both share the GPU. In a recording they become two branches of the graph.
#pragma once

#include "core/context.h"

namespace pyllmc::cuda {

class SideStream {
 public:
  // What is enqueued on context() waits for what `main` was given so far.
  explicit SideStream(const Context& main);
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;
  // Joins too when an error prevents join(): a recording must not end with an open branch.
  ~SideStream();

  const Context& context() const { return context_; }
  // What `main` is given from here on waits for what context() was given.
  void join();

 private:
  Context context_;
  void* main_;
  bool joined_ = false;
};

// Frees what belongs to a context's stream, if anything does.
void release_side_stream(void* main) noexcept;

}  // namespace pyllmc::cuda
