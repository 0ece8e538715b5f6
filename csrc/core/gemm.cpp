#include "core/gemm.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "core/simd.h"

namespace pyllmc {
namespace {

using Sgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                       const float* a, int lda, const float* b, int ldb, float beta, float* c,
                       int ldc);

struct Loaded {
  Sgemm sgemm = nullptr;
  GemmLibrary library{"built-in", "", ""};
};

std::vector<std::string> candidates() {
  std::vector<std::string> paths;
  if (const char* path = std::getenv("PYLLMC_OPENBLAS"); path && *path) paths.push_back(path);
  // A program installed in site-packages/pyllmc/bin stands beside site-packages/scipy_openblas32.
  Dl_info here;
  if (dladdr(reinterpret_cast<void*>(&candidates), &here) && here.dli_fname) {
    std::error_code ignored;
    const auto folder = std::filesystem::canonical(here.dli_fname, ignored).parent_path();
    for (const char* up : {"..", "../.."}) {
      paths.push_back((folder / up / "scipy_openblas32/lib/libscipy_openblas.so").string());
    }
  }
#ifdef PYLLMC_OPENBLAS_PATH
  paths.push_back(PYLLMC_OPENBLAS_PATH);
#endif
  return paths;
}

Loaded load() {
  Loaded loaded;
  const char* choice = std::getenv("PYLLMC_GEMM");
  if (choice && std::strcmp(choice, "builtin") == 0) return loaded;
  for (const std::string& path : candidates()) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) continue;
    const auto sgemm = reinterpret_cast<Sgemm>(dlsym(handle, "scipy_cblas_sgemm"));
    const auto set_threads =
        reinterpret_cast<void (*)(int)>(dlsym(handle, "scipy_openblas_set_num_threads"));
    const auto core = reinterpret_cast<char* (*)()>(dlsym(handle, "scipy_openblas_get_corename"));
    const auto config = reinterpret_cast<char* (*)()>(dlsym(handle, "scipy_openblas_get_config"));
    if (!sgemm || !set_threads || !core || !config) {
      dlclose(handle);
      continue;
    }
    set_threads(1);
    std::string name = config();  // "OpenBLAS 0.3.34 DYNAMIC_ARCH ..."
    const size_t second_space = name.find(' ', name.find(' ') + 1);
    loaded.sgemm = sgemm;
    loaded.library = {name.substr(0, second_space), core(), path};
    break;
  }
  return loaded;
}

const Loaded& loaded() {
  static const Loaded once = load();
  return once;
}

// A block of the product: rows of C times 32 columns, with the panel of B copied row by row.
constexpr int64_t kPanelColumns = 32;
constexpr int64_t kPanelDepth = 256;

PYLLMC_SIMD void multiply_panel(int64_t rows, int64_t depth, const float* a, int64_t a_row,
                                int64_t a_step, const float* panel, float* c, int64_t ldc,
                                int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    f32x16 left{}, right{};
    const float* ai = a + i * a_row;
    for (int64_t k = 0; k < depth; ++k) {
      const f32x16 x = broadcast(ai[k * a_step]);
      left += x * load16(panel + k * kPanelColumns);
      right += x * load16(panel + k * kPanelColumns + kLanes);
    }
    float sums[kPanelColumns];
    store16(sums, left);
    store16(sums + kLanes, right);
    for (int64_t j = 0; j < columns; ++j) c[i * ldc + j] += sums[j];
  }
}

}  // namespace

void gemm_builtin(Trans trans_a, Trans trans_b, int64_t M, int64_t N, int64_t K, const float* a,
                  int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  for (int64_t i = 0; i < M; ++i) {
    for (int64_t j = 0; j < N; ++j) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
  }
  const int64_t a_row = trans_a == Trans::yes ? 1 : lda;
  const int64_t a_step = trans_a == Trans::yes ? lda : 1;
  alignas(64) float panel[kPanelDepth * kPanelColumns];
  for (int64_t j0 = 0; j0 < N; j0 += kPanelColumns) {
    const int64_t columns = std::min(kPanelColumns, N - j0);
    for (int64_t k0 = 0; k0 < K; k0 += kPanelDepth) {
      const int64_t depth = std::min(kPanelDepth, K - k0);
      for (int64_t k = 0; k < depth; ++k) {
        for (int64_t j = 0; j < kPanelColumns; ++j) {
          const int64_t at =
              trans_b == Trans::yes ? (j0 + j) * ldb + k0 + k : (k0 + k) * ldb + j0 + j;
          panel[k * kPanelColumns + j] = j < columns ? b[at] : 0.0f;
        }
      }
      multiply_panel(M, depth, a + k0 * a_step, a_row, a_step, panel, c + j0, ldc, columns);
    }
  }
}

void gemm(Trans trans_a, Trans trans_b, int64_t M, int64_t N, int64_t K, const float* a,
          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  const Sgemm sgemm = loaded().sgemm;
  if (!sgemm) {
    gemm_builtin(trans_a, trans_b, M, N, K, a, lda, b, ldb, beta, c, ldc);
    return;
  }
  constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;
  sgemm(kRowMajor, trans_a == Trans::yes ? kTrans : kNoTrans,
        trans_b == Trans::yes ? kTrans : kNoTrans, static_cast<int>(M), static_cast<int>(N),
        static_cast<int>(K), 1.0f, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c,
        static_cast<int>(ldc));
}

const GemmLibrary& gemm_library() { return loaded().library; }

}  // namespace pyllmc
