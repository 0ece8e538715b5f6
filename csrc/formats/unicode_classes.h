// The character classes that GPT-2's split pattern asks for.
#pragma once

#include <cstdint>

namespace pyllmc {

enum class CharClass { letter, number, space, other };

// Class of a code point as of Unicode 16.0 (the version in tiktoken's regex): \p{L}, \p{N},
// \s (White_Space), or other. Values that are no code point are other.
CharClass char_class(uint32_t code_point);

}  // namespace pyllmc
