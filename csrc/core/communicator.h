// The processes that train one model together. Today there is one: sums over ranks are what they
// are, and data and gradients already ask for their rank.
#pragma once

namespace pyllmc {

struct Communicator {
  int rank = 0;
  int size = 1;
};

}  // namespace pyllmc
