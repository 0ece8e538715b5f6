// GPT-2 models and their files: reading weights into the parameter table (Gpt2::save writes them).
#pragma once

#include <memory>
#include <string>

#include "models/gpt2.h"

namespace pyllmc {

// The model that the file describes: its shape, bandwidths and pattern.
Gpt2Options options_of(const ModelFile& file);

// What the file says of the run that made it: of a plain llm.c file, whose seeds are unknown, the
// step alone.
RunRecord run_of(const ModelFile& file);

// That model, its memory still to be allocated. Throws FormatError when there can be no such
// pattern.
std::unique_ptr<Gpt2> model_of(const ModelFile& file);

// Copies the file's weights into the model's allocated parameters. Throws FormatError when the
// file's shape is another one.
void read_weights(Gpt2& model, const ModelFile& file);

// The model of a file, for inference: its own patterns, parameters read, no gradients.
std::unique_ptr<Gpt2> load_gpt2(const ModelFile& file, Device device = Device::cpu);

}  // namespace pyllmc
