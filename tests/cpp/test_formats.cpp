#include <cstring>

#include "check.h"
#include "core/error.h"
#include "formats/atomic_file.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer.h"
#include "formats/tokens.h"
#include "models/model_file.h"
#include "samples.h"

using namespace pyllmc;
using namespace pyllmc::test;

namespace {

std::vector<float> all_of(const CheckpointFile& file, int tensor) {
  std::vector<float> values(static_cast<size_t>(file.tensors()[static_cast<size_t>(tensor)].count));
  file.read_tensor(tensor, values.data(), static_cast<int64_t>(values.size()));
  return values;
}

}  // namespace

TEST(checkpoints_of_both_precisions_are_written_as_they_were_read) {
  const TemporaryFolder folder;
  for (const int bytes : {4, 2}) {
    const std::string path = folder / "a.bin", again = folder / "b.bin";
    put(path, checkpoint_sample(bytes));
    const CheckpointFile file = CheckpointFile::open(path);
    CHECK(file.precision() == (bytes == 2 ? Precision::bf16 : Precision::fp32));
    CHECK(file.meta().fc1_bandwidth == 6 && file.meta().data_seed == 2);
    std::vector<float> values;
    const auto source = [&](int tensor, int64_t layer) {
      const CheckpointTensor& t = file.tensors()[static_cast<size_t>(tensor)];
      const int64_t n = t.per_layer ? t.count / file.config().num_layers : t.count;
      values.resize(static_cast<size_t>(n));
      file.read_tensor(tensor, values.data(), n, layer * n);
      return std::span<const float>(values);
    };
    write_checkpoint(again, file.config(), file.meta(), source, false, file.precision());
    CHECK(get(again) == get(path));
  }
}

TEST(bf16_checkpoints_hold_the_upper_halves) {
  const TemporaryFolder folder;
  put(folder / "a.bin", checkpoint_sample(2));
  const std::string bytes = checkpoint_sample(2);
  const std::vector<float> wte = all_of(CheckpointFile::open(folder / "a.bin"), 0);
  for (size_t i = 0; i < wte.size(); ++i) {
    uint16_t half;
    std::memcpy(&half, bytes.data() + kHeaderBytes + 2 * i, sizeof half);
    uint32_t whole;
    std::memcpy(&whole, &wte[i], sizeof whole);
    CHECK(whole == static_cast<uint32_t>(half) << 16);
  }
}

TEST(checkpoints_refuse_ranges_that_leave_a_tensor) {
  const TemporaryFolder folder;
  put(folder / "a.bin", checkpoint_sample(4));
  const CheckpointFile file = CheckpointFile::open(folder / "a.bin");
  float value;
  CHECK_THROWS(UsageError, file.read_tensor(0, &value, 1, file.tensors()[0].count));
  CHECK_THROWS(UsageError, file.read_tensor(0, &value, 1, -1));
  CHECK_THROWS(UsageError, file.read_tensor(0, &value, INT64_MAX, 1));
  CHECK_THROWS(UsageError, file.read_tensor(16, &value, 1));
  CHECK_THROWS(UsageError, file.read_tensor("lm_head", &value, 1));
}

TEST(files_cut_anywhere_are_refused) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.bin";
  const std::string whole[] = {checkpoint_sample(4), tokens_sample(), tokenizer_sample()};
  for (const std::string& good : whole) {
    for (size_t end = 0; end < good.size(); end += end < 64 || end > 1000 ? 1 : 97) {
      put(path, good.substr(0, end));
      if (&good == &whole[0]) CHECK_THROWS(FormatError, CheckpointFile::open(path));
      if (&good == &whole[1]) CHECK_THROWS(FormatError, TokenShards::open(path));
      if (&good == &whole[2]) CHECK_THROWS(FormatError, Tokenizer::open(path));
    }
  }
}

TEST(tokens_are_read_and_ranges_checked) {
  const TemporaryFolder folder;
  put(folder / "a.bin", tokens_sample());
  const TokenShards shards = TokenShards::open(folder / "*.bin");
  std::vector<uint16_t> tokens(9);
  shards.read(0, 0, 9, tokens.data());
  CHECK(tokens[4] == 4 && tokens[5] == 0);
  shards.check_range(5);
  CHECK_THROWS(FormatError, shards.check_range(4));
  CHECK_THROWS(UsageError, shards.read(0, 9, 1, tokens.data()));
  CHECK_THROWS(UsageError, shards.read(1, 0, 1, tokens.data()));
  CHECK(shards.fingerprint() == TokenShards::open(folder / "a.bin").fingerprint());
}

TEST(tokenizers_encode_and_decode_any_bytes_they_have) {
  const TemporaryFolder folder;
  put(folder / "t.bin", tokenizer_sample());
  Tokenizer tokenizer = Tokenizer::open(folder / "t.bin");
  const Tokenizer moved = std::move(tokenizer);
  CHECK((moved.encode("abab a\xc3\xa9") == std::vector<int32_t>{2, 2, 3, 4}));
  CHECK(moved.decode(3) == " a" && moved.eot() == 5);
  CHECK_THROWS(UsageError, moved.encode("\xff"));
  CHECK_THROWS(UsageError, moved.decode(6));
  CHECK_THROWS(UsageError, moved.decode(-1));
}

TEST(model_files_with_patterns_come_back) {
  const TemporaryFolder folder;
  const std::string path = folder / "m.bin";
  const Gpt2Shape shape = {.config = {.max_seq_len = 4,
                                      .vocab_size = 5,
                                      .num_layers = 2,
                                      .num_heads = 2,
                                      .channels = 4,
                                      .padded_vocab_size = 8},
                           .hidden = 12,
                           .mlp_rank = 3};
  const ModelRecord record = {.step = 3,
                              .fc1_bandwidth = {4, 2},
                              .fc2_bandwidth = {0, 6},
                              .pattern = PatternKind::random,
                              .has_meta = true};
  CHECK(!fits_llmc(shape, record));
  const std::vector<CheckpointTensor> layout = model_layout(shape);
  std::vector<float> values;
  write_model(path, shape, record, [&](int tensor, int64_t layer) {
    const CheckpointTensor& t = layout[static_cast<size_t>(tensor)];
    values.assign(static_cast<size_t>(t.per_layer ? t.count / 2 : t.count),
                  static_cast<float>(10 * tensor + layer));
    return std::span<const float>(values);
  });
  const ModelFile file = ModelFile::open(path);
  CHECK(file.shape() == shape && file.record().fc1_bandwidth == record.fc1_bandwidth);
  for (size_t t = 0; t < layout.size(); ++t) {
    float last = -1;
    file.read_tensor(static_cast<int>(t), &last, 1, layout[t].count - 1);
    CHECK(last == static_cast<float>(10 * t + (layout[t].per_layer ? 1 : 0)));
  }
  const std::string good = get(path);
  for (size_t end = 0; end < good.size(); end += end < 400 ? 1 : 61) {
    put(path, good.substr(0, end));
    CHECK_THROWS(FormatError, ModelFile::open(path));
  }
}

TEST(atomic_files_appear_whole_or_not_at_all) {
  const TemporaryFolder folder;
  const std::string path = folder / "new/file";
  {
    AtomicFile file(path, true);
    file.write("half", 4);
  }
  CHECK(std::filesystem::is_empty(folder / "new"));
  AtomicFile file(path, true);
  file.write("whole", 5);
  file.commit();
  CHECK(get(path) == "whole");
  CHECK_THROWS(WriteError, AtomicFile(folder / "missing/file"));
}
