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
#include "models/gpt2_checkpoint.h"
#include "train/find_tokenizer.h"
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

// The tokenizer that was named, or one that fits.
std::string tokenizer_of(const Choices& c, int64_t vocab) {
  namespace fs = std::filesystem;
  if (!c.tokenizer.empty()) return c.tokenizer;
  std::vector<fs::path> folders;
  if (const fs::path beside = fs::path(c.checkpoint).parent_path(); !beside.empty()) {
    folders.push_back(beside);
  }
  folders.emplace_back(".");
  std::vector<fs::path> prepared;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("data", ignored)) {
    prepared.push_back(entry.path());
  }
  std::ranges::sort(prepared);
  folders.insert(folders.end(), prepared.begin(), prepared.end());
  const std::string found = pyllmc::find_tokenizer("", folders, vocab);
  if (!found.empty()) return found;
  throw pyllmc::FormatError(pyllmc::message(
      "no tokenizer of ", vocab, " tokens was found beside ", c.checkpoint,
      ", in . or in data/*; name one with --tokenizer FILE ('pyllmc data prepare' writes it)"));
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

void check(const Choices& c) {
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
}

void describe(const pyllmc::ModelFile& file, pyllmc::Gpt2& model) {
  std::fprintf(stderr, "model %s: %lld parameters, C = %lld, L = %lld, maxT = %lld, step %lld\n",
               file.path().c_str(), static_cast<long long>(model.parameters().numbers()),
               static_cast<long long>(file.config().channels),
               static_cast<long long>(file.config().num_layers),
               static_cast<long long>(file.config().max_seq_len),
               static_cast<long long>(file.record().step));
  if (!file.record().has_meta) {
    std::fprintf(stderr, "density recorded: none (a plain llm.c file)\n");
    return;
  }
  const pyllmc::Gpt2Options& o = model.options();
  std::fprintf(stderr, "density recorded: FC1 %s, FC2 %s\n",
               density_text(model.fc1_kept(), model.fc1_pattern(), o, o.fc1_bandwidths).c_str(),
               density_text(model.fc2_kept(), model.fc2_pattern(), o, o.fc2_bandwidths).c_str());
}

std::vector<int32_t> prompt_ids(const Choices& c, const pyllmc::Tokenizer& tokenizer,
                                int64_t room) {
  std::vector<int32_t> ids = {tokenizer.eot()};
  for (int32_t token : tokenizer.encode(c.prompt)) ids.push_back(token);
  if (static_cast<int64_t>(ids.size()) <= room) return ids;
  throw pyllmc::UsageError(
      pyllmc::message("the prompt is ", ids.size() - 1, " tokens long, the model has room for ",
                      room - 1, " after its end-of-text token; give a shorter --prompt"));
}

// The prompt and what is drawn after it, to stdout.
void write_text(const Choices& c, pyllmc::Gpt2& model, const pyllmc::Context& context,
                const pyllmc::Tokenizer& tokenizer, uint64_t seed) {
  const std::vector<int32_t> prompt = prompt_ids(c, tokenizer, model.max_seq_len());
  std::fputs(c.prompt.c_str(), stdout);
  std::fflush(stdout);
  const auto begin = std::chrono::steady_clock::now();
  const int64_t drawn = pyllmc::generate(
      model, context.decoding(), prompt, c.tokens,
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
  check(c);
  const pyllmc::ModelFile file = pyllmc::ModelFile::open(c.checkpoint);
  const std::string tokenizer_path = tokenizer_of(c, file.config().vocab_size);
  const pyllmc::Tokenizer tokenizer =
      pyllmc::open_tokenizer(tokenizer_path, file.config().vocab_size);
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
  describe(file, *model);
  std::fprintf(stderr, "tokenizer %s, seed %llu\n", tokenizer_path.c_str(),
               static_cast<unsigned long long>(seed));
  write_text(c, *model, context, tokenizer, seed);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return pyllmc::run_program("generate_banded", argv, [&] { return generate(argc, argv); });
}
