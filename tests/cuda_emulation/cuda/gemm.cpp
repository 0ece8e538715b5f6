// Twin of csrc/cuda/gemm.cu: plain loops with double sums in the order of K, and refusals of what
// cuBLASLt's fused epilogues do not do and of rows that its algorithms may not like.
#include "cuda/gemm.h"

#include <cmath>
#include <vector>

#include "block.h"
#include "cuda/kernel_tools.cuh"

namespace pyllmc::cuda {
namespace {

float read(const void* at, DType type, int64_t i) {
  return type == DType::bf16 ? to_float(static_cast<const bf16*>(at)[i])
                             : static_cast<const float*>(at)[i];
}
void write(void* at, DType type, int64_t i, float value) {
  if (type == DType::bf16) {
    static_cast<bf16*>(at)[i] = from_float<bf16>(value);
  } else {
    static_cast<float*>(at)[i] = value;
  }
}

// A number of TF32 as Hopper's tensor cores read it: the lower 13 bits do not count.
float truncated(float value) {
  return std::isfinite(value) ? __uint_as_float(__float_as_uint(value) & 0xffffe000u) : value;
}

// (rows, cols) of a batch's matrix in fp32, cut as the tensor cores would.
std::vector<float> gather(const GemmOperand& operand, DType type, bool tf32, int64_t rows,
                          int64_t cols, int64_t at) {
  std::vector<float> all(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t i = operand.transposed ? c * operand.ld + r : r * operand.ld + c;
      const float value = read(operand.data, type, at * operand.stride + i);
      all[static_cast<size_t>(r * cols + c)] = tf32 ? truncated(value) : value;
    }
  }
  return all;
}

double gelu_slope(double x) {
  const double u = 0.7978845608 * (x + 0.044715 * x * x * x), s = 1 / (1 + std::exp(-2 * u));
  return s + x * s * (1 - s) * 2 * 0.7978845608 * (1 + 3 * 0.044715 * x * x);
}
double gelu(double x) { return x / (1 + std::exp(-2 * 0.7978845608 * (x + 0.044715 * x * x * x))); }

void multiply(const Gemm& g, bool tf32) {
  for (int64_t n = 0; n < g.batch; ++n) {
    const std::vector<float> a = gather(g.a, g.type, tf32, g.M, g.K, n);
    const std::vector<float> b = gather(g.b, g.type, tf32, g.K, g.N, n);
    std::vector<double> sums(static_cast<size_t>(g.N));
    for (int64_t row = 0; row < g.M; ++row) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (int64_t k = 0; k < g.K; ++k) {
        const double value = a[static_cast<size_t>(row * g.K + k)];
        const float* line = b.data() + k * g.N;
        for (int64_t col = 0; col < g.N; ++col) sums[static_cast<size_t>(col)] += value * line[col];
      }
      for (int64_t col = 0; col < g.N; ++col) {
        const int64_t i = n * g.stride + row * g.ld + col;
        double value = sums[static_cast<size_t>(col)];
        if (g.add) value += read(g.add, g.out_type, i);
        if (g.bias) value += read(g.bias, g.out_type, col);
        if (g.epilogue == GemmEpilogue::gelu) {
          write(g.aux, g.out_type, i, static_cast<float>(value));
          value = gelu(value);
        }
        if (g.epilogue == GemmEpilogue::gelu_derivative) {
          value *= gelu_slope(read(g.aux, g.out_type, i));
        }
        write(g.out, g.out_type, i, static_cast<float>(value));
      }
    }
  }
}

}  // namespace

bool try_gemm(const Context& context, const Gemm& g, void* workspace) {
  if (g.aux && g.ld % 8 != 0) return false;  // cuBLASLt's GELU needs rows of 16 bytes
  if (g.type == DType::bf16 && (g.a.ld % 2 || g.b.ld % 2)) return false;
  if (!workspace) throw DeviceError("emulation: a product without a workspace");
  emulation::enqueue(static_cast<cudaStream_t>(context.stream),
                     [g, tf32 = context.precision == Precision::tf32] { multiply(g, tf32); });
  check(cudaGetLastError(), "a product");
  return true;
}

void gemm(const Context& context, const Gemm& g, void* workspace) {
  if (!try_gemm(context, g, workspace)) plain_gemm(context, g);
}

std::string gemm_name() { return "emulated products"; }

}  // namespace pyllmc::cuda
