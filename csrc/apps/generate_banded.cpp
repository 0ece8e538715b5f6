// generate_banded: writes text with a checkpoint.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>

#include "apps/flags.h"
#include "apps/program.h"
#include "core/device.h"
#include "core/error.h"
#include "core/require.h"
#include "core/threads.h"
#include "formats/tokenizer.h"
#include "models/gpt2_checkpoint.h"
#include "train/sampler.h"

namespace {

struct Choices {
  std::string checkpoint = "checkpoint_banded.bin";
  std::string prompt;
  std::string tokenizer;
  int64_t tokens = 256;
  int64_t seed = 0;
  std::string precision = "fp32";
  std::string device = "auto";
  double temperature = 1;
  int64_t top_k = 0;
  int64_t threads = 0;
};

pyllmc::Flags flags_for(Choices& c) {
  pyllmc::Flags flags(
      "generate_banded", "Continues a prompt with a model or checkpoint of train_banded or llm.c.",
      "Example:\n  generate_banded -e checkpoint_banded.bin -n 128 -p \"Once upon a time\"\n",
      "The text goes to stdout, everything else to stderr.\n"
      "Exit codes: 0 done, 1 the text could not be written, 2 usage, 3 the weights are not "
      "finite,\n"
      "4 bad or missing file, 5 no GPU that can be used.\n");
  flags.group("Text");
  flags.text("p", "prompt", &c.prompt, "TEXT", "text to continue", "an end-of-text token");
  flags.integer("n", "tokens", &c.tokens, "tokens to write, at most what the model has room for");
  flags.text("", "precision", &c.precision, "NAME", "weights are read as fp32 or bf16");
  flags.number("", "temperature", &c.temperature, "of the softmax; 0 = the likeliest token always");
  flags.integer("", "top-k", &c.top_k, "draw from the K likeliest tokens; 0 = from all");
  flags.integer("s", "seed", &c.seed, "of the draws; 0 = another one every time");
  flags.group("Files and machine");
  flags.text("e", "checkpoint", &c.checkpoint, "FILE", "model or checkpoint");
  flags.text("", "tokenizer", &c.tokenizer, "FILE", "tokenizer file",
             "first that fits beside -e, in ., in data/*");
  flags.text("", "device", &c.device, "NAME", "auto, cpu or cuda; auto = a GPU where there is one");
  flags.integer("", "threads", &c.threads, "threads", "all processors");
  return flags;
}

// Tokenizer files of the model's vocabulary size, in a fixed order of folders and names.
std::string find_tokenizer(const Choices& c, int64_t vocab) {
  namespace fs = std::filesystem;
  if (!c.tokenizer.empty()) return c.tokenizer;
  std::vector<fs::path> folders = {fs::path(c.checkpoint).parent_path(), "."};
  if (folders[0].empty()) folders.erase(folders.begin());
  std::error_code ignored;
  std::vector<fs::path> prepared;
  for (const auto& entry : fs::directory_iterator("data", ignored)) {
    prepared.push_back(entry.path());
  }
  std::sort(prepared.begin(), prepared.end());
  folders.insert(folders.end(), prepared.begin(), prepared.end());
  for (const fs::path& folder : folders) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with("tokenizer.bin")) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      try {
        if (pyllmc::Tokenizer::open(file.string()).vocab_size() == vocab) return file.string();
      } catch (const pyllmc::FormatError&) {
        // A damaged file that nobody asked for is none that fits.
      }
    }
  }
  return "";
}

// "43.9% (band of 256)": of all layers; what they are is told by the first unless they differ.
std::string density_text(const pyllmc::Gpt2::Kept& kept, const pyllmc::Pattern& first,
                         const pyllmc::Gpt2Options& options,
                         const std::vector<int64_t>& bandwidths) {
  const bool alike = std::ranges::count(bandwidths, bandwidths[0]) == std::ssize(bandwidths);
  const std::string what = options.mlp_rank > 0 ? pyllmc::message("rank ", options.mlp_rank)
                           : alike              ? first.text()
                                                : "another bandwidth in each layer";
  char percent[32];
  std::snprintf(percent, sizeof percent, "%.1f%% (",
                100 * static_cast<double>(kept.kept) / static_cast<double>(kept.total));
  return percent + what + ")";
}

int generate(int argc, char** argv) {
  Choices c;
  const pyllmc::Flags flags = flags_for(c);
  switch (flags.parse(argc, argv)) {
    case pyllmc::Flags::Outcome::help:
      std::fputs(flags.help().c_str(), stdout);
      return 0;
    case pyllmc::Flags::Outcome::version:
      std::printf("generate_banded %s\n", pyllmc::version());
      return 0;
    case pyllmc::Flags::Outcome::run:
      break;
  }
  pyllmc::require_between("--tokens", c.tokens, 1, INT32_MAX);
  pyllmc::require_between("--top-k", c.top_k, 0, INT32_MAX);
  pyllmc::require_between("--seed", c.seed, 0, INT64_MAX);
  pyllmc::require_between("--threads", c.threads, 0, pyllmc::kMostThreads);
  if (c.temperature < 0) {
    throw pyllmc::UsageError(
        pyllmc::message("--temperature is ", c.temperature, ", it must be 0 or more"));
  }
  if (std::error_code error; !std::filesystem::exists(c.checkpoint, error)) {
    throw pyllmc::FormatError(
        pyllmc::message("there is no checkpoint ", c.checkpoint, "; name one with --checkpoint"));
  }
  const pyllmc::ModelFile file = pyllmc::ModelFile::open(c.checkpoint);
  const std::string tokenizer_path = find_tokenizer(c, file.config().vocab_size);
  if (tokenizer_path.empty()) {
    throw pyllmc::FormatError(pyllmc::message(
        "no tokenizer of ", file.config().vocab_size, " tokens was found beside ", c.checkpoint,
        ", in . or in data/*; name one with --tokenizer FILE ('pyllmc data prepare' writes it)"));
  }
  const pyllmc::Tokenizer tokenizer = pyllmc::Tokenizer::open(tokenizer_path);
  if (tokenizer.vocab_size() != file.config().vocab_size) {
    throw pyllmc::FormatError(pyllmc::message(
        tokenizer_path, " holds ", tokenizer.vocab_size(), " tokens, the model's vocabulary has ",
        file.config().vocab_size, "; give the tokenizer of its training data"));
  }
  const pyllmc::Device device = pyllmc::device_of(c.device);
  const pyllmc::Precision precision = pyllmc::precision_of(c.precision);
  pyllmc::require_precision(device, precision);
  const auto model = pyllmc::load_gpt2(file, device);
  const pyllmc::Stream stream(device);
  pyllmc::Context context;
  context.device = device;
  context.stream = stream.get();
  context.threads = c.threads ? static_cast<int>(c.threads) : pyllmc::available_threads();
  context.precision = precision;
  if (precision == pyllmc::Precision::bf16) model->parameters().copy_to_bf16(context);
  const auto seed = c.seed ? static_cast<uint64_t>(c.seed) : std::random_device{}();
  std::fprintf(stderr, "model %s: %lld parameters, C = %lld, L = %lld, maxT = %lld, step %lld\n",
               c.checkpoint.c_str(), static_cast<long long>(model->parameters().numbers()),
               static_cast<long long>(file.config().channels),
               static_cast<long long>(file.config().num_layers),
               static_cast<long long>(file.config().max_seq_len),
               static_cast<long long>(file.record().step));
  if (file.record().has_meta) {
    const pyllmc::Gpt2Options& o = model->options();
    std::fprintf(
        stderr, "density recorded: FC1 %s, FC2 %s\n",
        density_text(model->fc1_kept(), model->fc1_pattern(), o, o.fc1_bandwidths).c_str(),
        density_text(model->fc2_kept(), model->fc2_pattern(), o, o.fc2_bandwidths).c_str());
  } else {
    std::fprintf(stderr, "density recorded: none (a plain llm.c file)\n");
  }
  std::fprintf(stderr, "tokenizer %s, seed %llu\n", tokenizer_path.c_str(),
               static_cast<unsigned long long>(seed));

  std::vector<int32_t> prompt = {tokenizer.eot()};
  for (int32_t token : tokenizer.encode(c.prompt)) prompt.push_back(token);
  if (static_cast<int64_t>(prompt.size()) > file.config().max_seq_len) {
    throw pyllmc::UsageError(pyllmc::message(
        "the prompt is ", prompt.size() - 1, " tokens long, the model has room for ",
        file.config().max_seq_len - 1, " after its end-of-text token; give a shorter --prompt"));
  }
  std::fputs(c.prompt.c_str(), stdout);
  std::fflush(stdout);
  const auto begin = std::chrono::steady_clock::now();
  const int64_t drawn = pyllmc::generate(
      *model, context.decoding(), prompt, c.tokens,
      {.temperature = c.temperature, .top_k = c.top_k, .seed = seed}, [&](int32_t token) {
        const std::string text = pyllmc::printable(tokenizer.decode(token));
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
      });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::fputs("\n", stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    throw pyllmc::WriteError("the text could not be written to stdout; see where it is sent to");
  }
  std::fprintf(stderr, "%lld tokens in %.2f s, %.0f tokens/s", static_cast<long long>(drawn),
               took.count(), static_cast<double>(drawn) / took.count());
  std::fputs(drawn < c.tokens ? " (the model has room for no more)\n" : "\n", stderr);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return pyllmc::run_program("generate_banded", argv, [&] { return generate(argc, argv); });
}
