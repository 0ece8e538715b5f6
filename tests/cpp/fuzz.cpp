// Throws damaged files at every parser for a while. The sanitizers it is compiled with look for
// what no test asks: reads outside a buffer, overflows, leaks. An exception other than pyllmc's
// own, or an allocation that the file's size does not justify, is a finding too.
//
//   fuzz SECONDS FOLDER [SEED]   mutates samples; what was found lies in FOLDER/fuzz-input
//   fuzz FILE                    runs one input again
//
// An input's first byte picks the parser.
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <span>

#include "check.h"
#include "core/error.h"
#include "core/json.h"
#include "formats/checkpoint.h"
#include "formats/log_parser.h"
#include "formats/tokenizer.h"
#include "formats/tokens.h"
#include "models/model_file.h"
#include "samples.h"

using namespace pyllmc;
using namespace pyllmc::test;

namespace {

// The input at hand and where it goes when it turns out to be a finding.
std::string current_input, findings;

void keep_input() {
  if (findings.empty()) return;
  put(findings, current_input);
  std::cerr << "fuzz: the input is " << findings << "; run it again by `fuzz FILE`\n";
}

void require(bool good, const char* what) {
  if (good) return;
  std::cerr << "fuzz: " << what << '\n';
  std::abort();
}

// Where the parsers that read files find the input: in memory where the system has such a folder.
const std::string& input_path() {
  static const std::string path = [] {
    const char* folder = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    return std::string(folder) + "/pyllmc-fuzz-" + std::to_string(::getpid());
  }();
  static const int remover = std::atexit([] { ::unlink(input_path().c_str()); });
  (void)remover;
  return path;
}

void read_checkpoint(const std::string& path) {
  const CheckpointFile file = CheckpointFile::open(path);
  std::vector<float> values;
  for (int t = 0; t < kCheckpointTensors; ++t) {
    const int64_t count = file.tensors()[static_cast<size_t>(t)].count;
    values.resize(static_cast<size_t>(count));
    file.read_tensor(t, values.data(), count);
  }
}

void read_model(const std::string& path) {
  const ModelFile file = ModelFile::open(path);
  std::vector<float> values;
  for (size_t t = 0; t < file.tensors().size(); ++t) {
    const int64_t count = file.tensors()[t].count;
    values.resize(static_cast<size_t>(count));
    file.read_tensor(static_cast<int>(t), values.data(), count);
  }
}

void read_tokens(const std::string& path) {
  const TokenShards shards = TokenShards::open(path);
  std::vector<uint16_t> tokens(static_cast<size_t>(shards.total_tokens()));
  shards.read(0, 0, shards.total_tokens(), tokens.data());
  shards.fingerprint();
  shards.check_range(5);
}

void read_tokenizer(const std::string& path, std::string_view text) {
  const Tokenizer tokenizer = Tokenizer::open(path);
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    require(!tokenizer.decode(id).empty(), "an empty token");
  }
  std::string back;
  for (const int32_t id : tokenizer.encode(text)) back += tokenizer.decode(id);
  require(back == text, "encoding and decoding changed a text");
}

void read_log(std::string_view text) {
  LogParser whole, pieces;
  whole.feed(text);
  for (size_t at = 0; at < text.size(); at += 5) {
    const std::string piece(text.substr(at, 5));
    pieces.feed(piece);
  }
  const LogTable a = whole.finish(), b = pieces.finish();
  for (int i = 0; i < kLogSplits; ++i) {
    const auto split = static_cast<size_t>(i);
    require(a.splits[split].step == b.splits[split].step, "pieces changed the steps");
  }
  require(a.counts.lines == b.counts.lines && a.counts.skipped == b.counts.skipped,
          "pieces changed the counts");
}

void read_json(std::string_view text) {
  const std::string again = JsonValue::parse(text).text();
  require(JsonValue::parse(again).text() == again, "a JSON document changed");
}

// What the input's first byte stands for; the rest is the file.
constexpr int kParsers = 7;
const std::vector<std::string>& samples() {
  static const std::vector<std::string> all = [] {
    const TemporaryFolder folder;
    const Gpt2Shape shape = {.config = {4, 5, 2, 2, 4, 8}, .hidden = 12};
    const ModelRecord record = {.fc1_bandwidth = {4, 2}, .fc2_bandwidth = {0, 6}, .has_meta = true};
    const std::vector<CheckpointTensor> layout = model_layout(shape);
    std::vector<float> values;
    write_model(folder / "m.bin", shape, record, [&](int tensor, int64_t) {
      const CheckpointTensor& t = layout[static_cast<size_t>(tensor)];
      values.assign(static_cast<size_t>(t.per_layer ? t.count / 2 : t.count), 0.5f);
      return std::span<const float>(values);
    });
    return std::vector<std::string>{checkpoint_sample(4),
                                    checkpoint_sample(2),
                                    get(folder / "m.bin"),
                                    tokens_sample(),
                                    tokenizer_sample(),
                                    log_sample(),
                                    R"({"a":[1,2.5e-3,"\u00e9",null,{"b":true}]})"};
  }();
  return all;
}

// Whether the parser took it.
bool run(std::string_view input) {
  if (input.empty()) return false;
  const int parser = static_cast<unsigned char>(input[0]) % kParsers;
  const std::string_view body = input.substr(1);
  if (parser < 5) put(input_path(), std::string(body));
  try {
    switch (parser) {
      case 0:
      case 1:
        read_checkpoint(input_path());
        break;
      case 2:
        read_model(input_path());
        break;
      case 3:
        read_tokens(input_path());
        break;
      case 4:
        read_tokenizer(input_path(), body.substr(body.size() - body.size() % 40));
        break;
      case 5:
        read_log(body);
        break;
      default:
        read_json(body);
    }
  } catch (const Error&) {
    return false;  // as it should be
  }
  return true;
}

using Random = std::mt19937_64;

std::string mutated(std::string body, Random& random) {
  const auto below = [&](size_t n) { return n ? static_cast<size_t>(random() % n) : 0; };
  static constexpr uint32_t kWords[] = {0, 1, 2, 3, 5, 8, 64, 1u << 30, INT32_MAX, 1u << 31, ~0u};
  for (size_t n = 1 + below(4); n > 0; --n) {
    switch (below(7)) {
      case 0:
        if (!body.empty()) body[below(body.size())] ^= static_cast<char>(1 << below(8));
        break;
      case 1:
        if (!body.empty()) body[below(body.size())] = static_cast<char>(random());
        break;
      case 2:  // a word of the header
        if (body.size() >= 64) {
          const uint32_t word =
              below(2) ? kWords[below(std::size(kWords))] : static_cast<uint32_t>(below(40));
          std::memcpy(body.data() + 4 * below(16), &word, sizeof word);
        }
        break;
      case 3:
        body.resize(below(body.size() + 1));
        break;
      case 4:  // more of what is there
        if (!body.empty()) {
          const size_t at = below(body.size());
          body.insert(below(body.size()), body.substr(at, below(64)));
        }
        break;
      case 5:
        body.erase(below(body.size() + 1), below(32));
        break;
      default:
        body.insert(below(body.size() + 1), 1, "{}[]\":,\\\n\0 .-0e"[below(16)]);
    }
  }
  return body;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2) {
    run(get(argv[1]));
    return 0;
  }
  if (argc < 3) {
    std::cerr << "usage: fuzz SECONDS FOLDER [SEED], or fuzz FILE\n";
    return 2;
  }
  const auto seconds = std::chrono::seconds(std::atoll(argv[1]));
  findings = std::string(argv[2]) + "/fuzz-input";
  __sanitizer_set_death_callback(keep_input);
  std::signal(SIGABRT, [](int) { keep_input(); });
  const uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : std::random_device{}();
  std::cout << "fuzzing " << kParsers << " parsers for " << seconds.count() << " s, seed " << seed
            << std::endl;
  Random random(seed);
  // Besides the samples, inputs that a parser took: damage upon damage reaches deeper.
  std::vector<std::vector<std::string>> bodies;
  for (const std::string& sample : samples()) bodies.push_back({sample});
  const auto start = std::chrono::steady_clock::now();
  int64_t runs = 0;
  for (auto told = start; std::chrono::steady_clock::now() - start < seconds; ++runs) {
    const size_t parser = random() % kParsers;
    std::vector<std::string>& pool = bodies[parser];
    std::string body = mutated(pool[random() % pool.size()], random);
    current_input = static_cast<char>(parser) + body;
    if (run(current_input) && body.size() < 8192) {
      if (pool.size() < 64)
        pool.push_back(std::move(body));
      else
        pool[1 + random() % 63] = std::move(body);
    }
    if (std::chrono::steady_clock::now() - told > std::chrono::seconds(10)) {
      told = std::chrono::steady_clock::now();
      std::cout << "  " << runs << " inputs" << std::endl;
    }
  }
  std::cout << runs << " inputs, nothing found" << std::endl;
  return 0;
}
