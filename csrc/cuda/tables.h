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

extern const AttentionKernels attention_cuda;
extern const ClassifierKernels classifier_cuda;
extern const ConvertKernels convert_cuda;
extern const EmbeddingKernels embedding_cuda;
extern const LayerNormKernels layernorm_cuda;
extern const LinearKernels linear_cuda;
extern const AdamWKernels adamw_cuda;

}  // namespace pyllmc
