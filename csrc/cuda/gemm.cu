#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>

#include "cuda/gemm.h"

namespace pyllmc::cuda {
namespace {

void check_blas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(message("cuBLASLt: ", what, " failed: ", cublasLtGetStatusString(status), " (",
                            cublasLtGetStatusName(status), ")"));
}

bool is_refusal(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE ||
         status == CUBLAS_STATUS_ARCH_MISMATCH;
}

cublasLtHandle_t handle() {
  static const cublasLtHandle_t one = [] {
    cublasLtHandle_t made = nullptr;
    check_blas(cublasLtCreate(&made), "making a handle");
    return made;
  }();
  return one;
}

int64_t bytes_of(DType type) { return type == DType::bf16 ? 2 : 4; }
cudaDataType_t data_type(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

template <class Object, cublasStatus_t (*destroy)(Object)>
struct Destroy {
  using pointer = Object;
  void operator()(Object object) const { destroy(object); }
};
template <class Object, cublasStatus_t (*destroy)(Object)>
using Owned = std::unique_ptr<void, Destroy<Object, destroy>>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check_blas(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value),
             "describing a product");
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  check_blas(
      cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
      "describing a product");
}

// The library's matrices are column-major: a row-major (rows, cols) is its (cols, rows).
Layout make_layout(DType type, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
                   int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&made, data_type(type), static_cast<uint64_t>(cols),
                                        static_cast<uint64_t>(rows), ld),
             "describing a matrix");
  Layout layout(made);
  if (batch == 1) return layout;
  const auto count = static_cast<int32_t>(batch);
  check_blas(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                              sizeof count),
             "describing a batch");
  check_blas(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                              &stride, sizeof stride),
             "describing a batch");
  return layout;
}

Layout make_layout(DType type, const GemmOperand& operand, int64_t rows, int64_t cols,
                   int64_t batch) {
  return operand.transposed ? make_layout(type, cols, rows, operand.ld, batch, operand.stride)
                            : make_layout(type, rows, cols, operand.ld, batch, operand.stride);
}

// Bytes that every matrix of a batch begins at a multiple of, as far as algorithms care.
int64_t alignment(const void* at, int64_t stride_bytes = 0) {
  const auto common = reinterpret_cast<uintptr_t>(at) | static_cast<uintptr_t>(stride_bytes);
  for (const int64_t bytes : {16, 8, 4}) {
    if (common % static_cast<uintptr_t>(bytes) == 0) return bytes;
  }
  return 2;
}
int64_t alignment(const Gemm& g, const GemmOperand& operand) {
  return alignment(operand.data, g.batch > 1 ? operand.stride * bytes_of(g.type) : 0);
}
// Of out or what lies like it.
int64_t out_alignment(const Gemm& g, const void* at) {
  return alignment(at, g.batch > 1 ? g.stride * bytes_of(g.out_type) : 0);
}

// Everything that a plan is made for.
using Key = std::array<int64_t, 24>;
Key key_of(const Context& context, const Gemm& g) {
  return {g.M,
          g.N,
          g.K,
          g.batch,
          static_cast<int64_t>(g.type),
          static_cast<int64_t>(g.out_type),
          context.precision == Precision::tf32,
          static_cast<int64_t>(g.epilogue),
          g.a.ld,
          g.a.transposed,
          g.a.stride,
          alignment(g, g.a),
          g.b.ld,
          g.b.transposed,
          g.b.stride,
          alignment(g, g.b),
          g.ld,
          g.stride,
          out_alignment(g, g.out),
          g.add != nullptr,
          out_alignment(g, g.add ? g.add : g.out),
          g.bias != nullptr,
          alignment(g.bias),
          out_alignment(g, g.aux)};
}

// out^T = b^T a^T, so that the library's A is b.
struct Plan {
  Operation operation;
  Layout a, b, out;
  cublasLtMatmulAlgo_t algorithm{};
  bool found = false;
};

cublasLtEpilogue_t epilogue_of(const Gemm& g) {
  switch (g.epilogue) {
    case GemmEpilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case GemmEpilogue::gelu:
      return g.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case GemmEpilogue::gelu_derivative:
      return CUBLASLT_EPILOGUE_DGELU;
    case GemmEpilogue::none:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// What may differ between two calls with one plan. The search for an algorithm looks at them too.
void set_pointers(const Operation& operation, const Gemm& g) {
  if (g.bias) set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
  if (g.aux) set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, g.aux);
}

void describe(Plan& plan, const Context& context, const Gemm& g) {
  cublasLtMatmulDesc_t operation = nullptr;
  check_blas(
      cublasLtMatmulDescCreate(
          &operation,
          context.precision == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
          CUDA_R_32F),
      "describing a product");
  plan.operation.reset(operation);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA,
      int32_t{g.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB,
      int32_t{g.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
  set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(g));
  if (g.bias) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{data_type(g.out_type)});
  }
  if (g.aux) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.ld);
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE,
        int32_t{data_type(g.out_type)});
  }
  set_pointers(plan.operation, g);
  plan.a = make_layout(g.type, g.a, g.M, g.K, g.batch);
  plan.b = make_layout(g.type, g.b, g.K, g.N, g.batch);
  plan.out = make_layout(g.out_type, g.M, g.N, g.ld, g.batch, g.stride);
}

void search(Plan& plan, const Gemm& g) {
  cublasLtMatmulPreference_t made = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&made), "describing a product");
  const Preference preference(made);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<uint64_t>(kGemmWorkspaceBytes));
  // Parts of a sum are added up in fp32 or not split.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  const auto promise = [&](cublasLtMatmulPreferenceAttributes_t attribute, int64_t bytes) {
    set(preference, attribute, static_cast<uint32_t>(bytes));
  };
  promise(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(g, g.b));
  promise(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(g, g.a));
  promise(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out_alignment(g, g.add ? g.add : g.out));
  promise(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out_alignment(g, g.out));
  const auto choose = [&] {
    cublasLtMatmulHeuristicResult_t first{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.out.get(), plan.out.get(),
        preference.get(), 1, &first, &found);
    if (is_refusal(status)) return;
    check_blas(status, "choosing an algorithm");
    plan.found = found > 0 && first.state == CUBLAS_STATUS_SUCCESS;
    plan.algorithm = first.algo;
  };
  choose();
  if (plan.found || g.epilogue != GemmEpilogue::none) return;
  // An odd shape: parts in the output's type, rather than no product.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK});
  choose();
}

std::mutex& plans_lock() {
  static std::mutex lock;
  return lock;
}

// The caller holds plans_lock() for as long as it uses the plan.
Plan& plan_of(const Context& context, const Gemm& g) {
  // Never ended: at the end of the process the library that made them may have ended itself.
  static auto& plans = *new std::map<Key, Plan>;
  const auto [entry, added] = plans.try_emplace(key_of(context, g));
  Plan& plan = entry->second;
  if (!added) return plan;
  try {
    describe(plan, context, g);
    search(plan, g);
  } catch (...) {
    plans.erase(entry);
    throw;
  }
  return plan;
}

}  // namespace

bool try_gemm(const Context& context, const Gemm& g, void* workspace) {
  const std::lock_guard held(plans_lock());
  Plan& plan = plan_of(context, g);
  if (!plan.found) return false;
  set_pointers(plan.operation, g);
  const float one = 1, beta = g.add ? 1.0f : 0.0f;
  const cublasStatus_t status = cublasLtMatmul(
      handle(), plan.operation.get(), &one, g.b.data, plan.b.get(), g.a.data, plan.a.get(), &beta,
      g.add ? g.add : g.out, plan.out.get(), g.out, plan.out.get(), &plan.algorithm, workspace,
      static_cast<size_t>(kGemmWorkspaceBytes), static_cast<cudaStream_t>(context.stream));
  // An algorithm that the search found may refuse all the same, before it begins.
  if (is_refusal(status)) {
    plan.found = false;
    cudaGetLastError();
    return false;
  }
  check_blas(status, "a product");
  return true;
}

void gemm(const Context& context, const Gemm& g, void* workspace) {
  if (!try_gemm(context, g, workspace)) plain_gemm(context, g);
}

std::string gemm_name() {
  const size_t version = cublasLtGetVersion();
  return message("cuBLASLt ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace pyllmc::cuda
