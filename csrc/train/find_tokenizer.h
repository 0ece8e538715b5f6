// A model's tokenizer: the one that was named, or one that lies about.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/tokenizer.h"

namespace pyllmc {

// The first tokenizer of `vocab` tokens: `first`, then every *tokenizer.bin of each folder, by
// name;
// "" when there is none. A folder "" is the working directory. Whatever cannot be read is passed
// over.
std::string find_tokenizer(const std::filesystem::path& first,
                           const std::vector<std::filesystem::path>& folders, int64_t vocab);

// Throws FormatError, also for one of another number of tokens.
Tokenizer open_tokenizer(const std::string& path, int64_t vocab);

}  // namespace pyllmc
