// Every table of kernels that the library registers.
#pragma once

#include "ops/attention/attention.h"
#include "ops/classifier/classifier.h"
#include "ops/convert/convert.h"
#include "ops/embedding/embedding.h"
#include "ops/layernorm/layernorm.h"
#include "ops/linear/linear.h"
#include "optim/adamw.h"

namespace pyllmc {

#define PYLLMC_TABLE(type, name) extern const type name __attribute__((weak))
PYLLMC_TABLE(AttentionKernels, attention_cuda);
PYLLMC_TABLE(ClassifierKernels, classifier_cuda);
PYLLMC_TABLE(ConvertKernels, convert_cuda);
PYLLMC_TABLE(EmbeddingKernels, embedding_cuda);
PYLLMC_TABLE(LayerNormKernels, layernorm_cuda);
PYLLMC_TABLE(LinearKernels, linear_cuda);
PYLLMC_TABLE(AdamWKernels, adamw_cuda);
#undef PYLLMC_TABLE

}  // namespace pyllmc
