#include "train/find_tokenizer.h"

#include <algorithm>

#include "core/error.h"

namespace pyllmc {

namespace fs = std::filesystem;

std::string find_tokenizer(const fs::path& first, const std::vector<fs::path>& folders,
                           int64_t vocab) {
  const auto fits = [&](const fs::path& file) {
    try {
      return Tokenizer::open(file.string()).vocab_size() == vocab;
    } catch (const FormatError&) {
      return false;
    }
  };
  if (!first.empty() && fits(first)) return first.string();
  for (const fs::path& folder : folders) {
    std::vector<fs::path> files;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, ignored)) {
      const fs::path name = entry.path().filename();
      if (name.string().ends_with("tokenizer.bin")) files.push_back(folder / name);
    }
    std::ranges::sort(files);
    const auto found = std::ranges::find_if(files, fits);
    if (found != files.end()) return found->string();
  }
  return "";
}

Tokenizer open_tokenizer(const std::string& path, int64_t vocab) {
  Tokenizer tokenizer = Tokenizer::open(path);
  if (tokenizer.vocab_size() == vocab) return tokenizer;
  throw FormatError(message(path, " holds ", tokenizer.vocab_size(),
                            " tokens, the model's vocabulary has ", vocab,
                            "; give the tokenizer of the training data"));
}

}  // namespace pyllmc
