#include <cmath>
#include <set>

#include "check.h"
#include "core/error.h"
#include "models/gpt2.h"
#include "models/gpt2_checkpoint.h"
#include "samples.h"
#include "train/batch_feed.h"
#include "train/data_order.h"
#include "train/sampler.h"
#include "train/trainer.h"

using namespace pyllmc;
using namespace pyllmc::test;

namespace {

Gpt2Options small_model(PatternKind pattern, int64_t hidden, int64_t rank) {
  // Nothing is a multiple of a vector or a tile.
  return {.config = {.max_seq_len = 11,
                     .vocab_size = 37,
                     .num_layers = 2,
                     .num_heads = 3,
                     .channels = 15,
                     .padded_vocab_size = 41},
          .fc1_bandwidths = {20},
          .fc2_bandwidths = {0, 30},
          .pattern = pattern,
          .hidden = hidden,
          .mlp_rank = rank};
}

std::string training_data(const TemporaryFolder& folder) {
  std::string file = header({20240520, 1, 500});
  for (int i = 0; i < 500; ++i) file += {static_cast<char>(i * i % 37), '\0'};
  put(folder / "train.bin", file);
  return folder / "train.bin";
}

Trainer make_trainer(const Gpt2Options& options, const std::string& data, int threads) {
  auto model = std::make_unique<Gpt2>(options);
  model->parameters().allocate(true);
  model->parameters().initialize(1337);
  TrainerOptions trainer;
  trainer.batch_size = 3;
  trainer.sequence_length = 9;
  trainer.accumulate = 2;
  trainer.schedule.learning_rate = 1e-2;
  trainer.adamw.weight_decay = 0.1;
  trainer.adamw.clip = 1;
  trainer.threads = threads;
  return Trainer(std::move(model), trainer, data);
}

}  // namespace

TEST(data_order_visits_every_chunk_once_an_epoch) {
  DataOrder order({3, 1, 4}, 42);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<std::pair<int64_t, int64_t>> seen;
    for (int64_t i = 0; i < 8; ++i) {
      const ChunkPlace place = order.shuffled(epoch * 8 + i);
      seen.insert({place.shard, place.chunk});
    }
    CHECK(seen.size() == 8);
  }
  DataOrder again({3, 1, 4}, 42);
  const ChunkPlace late = again.shuffled(20), first = order.shuffled(20);
  CHECK(late.shard == first.shard && late.chunk == first.chunk);
  CHECK(order.sequential(3).shard == 1 && order.sequential(4).chunk == 0);
}

TEST(training_lowers_the_loss_with_every_kind_of_mlp) {
  const TemporaryFolder folder;
  const std::string data = training_data(folder);
  const Gpt2Options models[] = {small_model(PatternKind::band, 0, 0),
                                small_model(PatternKind::random, 0, 0),
                                small_model(PatternKind::band_permuted_residual, 50, 0),
                                small_model(PatternKind::band, 0, 4)};
  for (Gpt2Options options : models) {
    if (options.mlp_rank > 0) options.fc1_bandwidths = options.fc2_bandwidths = {0};
    Trainer trainer = make_trainer(options, data, 1);
    const double first = trainer.step().loss;
    StepResult last{};
    for (int i = 0; i < 8; ++i) last = trainer.step();
    CHECK(std::abs(first - std::log(37.0)) < 0.5);
    CHECK(last.loss < first - 0.2);
    CHECK(std::isfinite(last.gradient_norm));
    DataLoader loader(data, 3, 9, 37, 1);
    const Loss loss = trainer.evaluate(loader, 2);
    CHECK(loss.count == 54 && std::isfinite(loss.sum));
  }
}

TEST(training_gives_the_same_file_with_1_and_3_threads_and_it_is_read_back) {
  const TemporaryFolder folder;
  const std::string data = training_data(folder);
  for (const int threads : {1, 3}) {
    Trainer trainer = make_trainer(small_model(PatternKind::band, 0, 0), data, threads);
    for (int i = 0; i < 3; ++i) trainer.step();
    trainer.save(folder / (std::to_string(threads) + ".bin"));
  }
  CHECK(!get(folder / "1.bin").empty() && get(folder / "1.bin") == get(folder / "3.bin"));
  const auto model = load_gpt2(ModelFile::open(folder / "1.bin"));
  std::vector<int32_t> drawn;
  const std::vector<int32_t> prompt = {1, 2, 3};
  generate(*model, Context{}, prompt, 100, {.top_k = 5}, [&](int32_t t) { drawn.push_back(t); });
  CHECK(drawn.size() == 9);
  for (const int32_t token : drawn) CHECK(token >= 0 && token < 37);
}

TEST(the_sampler_picks_from_what_it_may) {
  const std::vector<float> logits = {0, 3, -1, 3, 2};
  CHECK(sample_token(logits, {.temperature = 0}, 0.9) == 1);
  CHECK(sample_token(logits, {.top_k = 1}, 0.99) == 1);
  for (double coin = 0; coin < 1; coin += 1.0 / 64) {
    const int32_t token = sample_token(logits, {.temperature = 0.7, .top_k = 3}, coin);
    CHECK(token == 1 || token == 3 || token == 4);
    const int32_t any = sample_token(logits, {.top_k = 100}, coin);
    CHECK(any >= 0 && any < 5);
  }
  CHECK(sample_token(logits, {}, std::nextafter(1.0, 0.0)) == 4);
}

TEST(data_that_does_not_fit_is_refused) {
  const TemporaryFolder folder;
  const std::string data = training_data(folder);
  CHECK_THROWS(FormatError, DataLoader(data, 100, 10, 37, 1));
  DataLoader loader(data, 3, 9, 36, 1);
  CHECK_THROWS(FormatError, [&] {
    for (int64_t i = 0; i < loader.batches(); ++i) loader.sequential(i);
  }());
}

TEST(a_feed_takes_batches_of_its_own_shape_only) {
  const TemporaryFolder folder;
  BatchFeed feed(Device::cpu, 3, 9, 37, 1, 1);
  const std::string data = training_data(folder);
  DataLoader right(data, 3, 9, 37, 1), wrong(data, 2, 5, 37, 1);
  feed.fill(0, right.sequential(0));
  CHECK_THROWS(UsageError, feed.fill(0, wrong.sequential(0)));
  Batch mixed = right.sequential(0);
  mixed.set("targets", wrong.sequential(0).get("targets"));
  CHECK_THROWS(UsageError, feed.fill(0, mixed));
  CHECK_THROWS(UsageError, BatchFeed(Device::cpu, 3, 9, 37, INT64_MAX / 100, 1));
}

TEST(batches_that_cannot_be_are_refused) {
  const TemporaryFolder folder;
  const std::string data = training_data(folder);
  CHECK_THROWS(UsageError, DataLoader(data, 0, 9, 37, 1));
  CHECK_THROWS(UsageError, DataLoader(data, 3, -1, 37, 1));
  CHECK_THROWS(UsageError, DataLoader(data, int64_t{1} << 62, 4, 37, 1));
  Gpt2 model(small_model(PatternKind::band, 0, 0));
  CHECK_THROWS(UsageError, model.plan({}, 0, 9, Mode::train));
}
