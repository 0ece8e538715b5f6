// Single-threaded fp32 matrix multiplication, the tile inside our own parallel loops. OpenBLAS
// (the scipy-openblas32 package) does the work where it is found at run time; a built-in kernel
// otherwise. The bits of a result depend on the tile's shape and on the library, never on threads.
#pragma once

#include <cstdint>
#include <string>

namespace pyllmc {

enum class Trans : bool { no = false, yes = true };

// C(M,N) = op(A)(M,K) op(B)(K,N) + beta C, all row-major with leading dimensions lda, ldb, ldc.
void gemm(Trans trans_a, Trans trans_b, int64_t M, int64_t N, int64_t K, const float* a,
          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// The built-in kernel, whatever library there is: the twin that tests compare with.
void gemm_builtin(Trans trans_a, Trans trans_b, int64_t M, int64_t N, int64_t K, const float* a,
                  int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

struct GemmLibrary {
  std::string name;  // "OpenBLAS 0.3.34" or "built-in"
  std::string core;  // the kernels that OpenBLAS chose for this processor, e.g. "SkylakeX"
  std::string path;  // of the shared library
};

// What gemm() uses. PYLLMC_GEMM=builtin forces the built-in kernel; PYLLMC_OPENBLAS names the
// library.
const GemmLibrary& gemm_library();

}  // namespace pyllmc
