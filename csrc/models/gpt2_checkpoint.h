// GPT-2 models and llm.c's files: reading weights into the parameter table (Gpt2::save writes
// them).
#pragma once

#include <memory>
#include <string>

#include "models/gpt2.h"

namespace pyllmc {

// Parameter of tensor `tensor` (file order) and `layer`.
Parameter& gpt2_parameter(Gpt2& model, int tensor, int64_t layer);

// Copies the file's weights into the model's allocated parameters. Throws FormatError when the
// file's shape is another one.
void read_weights(Gpt2& model, const CheckpointFile& file);

// The model of a file, for inference: its own bandwidths, parameters read, no gradients.
std::unique_ptr<Gpt2> load_gpt2(const CheckpointFile& file);

}  // namespace pyllmc
