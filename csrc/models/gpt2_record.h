// A GPT-2 in words, for the record in training states: what makes its numbers mean what they mean.
#pragma once

#include <string>

#include "core/json.h"
#include "models/gpt2.h"

namespace pyllmc {

constexpr char kInverseSqrtDensity[] = "inverse-sqrt-density";

JsonValue::Object gpt2_record(const Gpt2& model, const std::string& init_scale);

}  // namespace pyllmc
