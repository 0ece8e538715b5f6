#include "apps/console.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <functional>

#include "apps/program.h"
#include "core/device.h"
#include "core/text.h"
#include "train/machine.h"

namespace pyllmc {
namespace {

constexpr int kNameWidth = 21, kValueWidth = 50;

void rule() {
  std::printf("+-%s-+-%s-+\n", std::string(kNameWidth, '-').c_str(),
              std::string(kValueWidth, '-').c_str());
}
void row(const std::string& name, const std::string& value) {
  std::printf("| %-*s | %-*s |\n", kNameWidth, name.c_str(), kValueWidth, value.c_str());
}
void row(const std::string& name, int64_t value) { row(name, std::to_string(value)); }
void row(const std::string& name, double value) { row(name, message(value)); }

// 28768 -> "28,768"
std::string with_commas(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string or_none(const std::string& text) { return text.empty() ? "none" : text; }

std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%" PRId64 ":%02" PRId64 ":%02" PRId64, whole / 3600,
                  whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%" PRId64 ":%02" PRId64, whole / 60, whole % 60);
  }
  return text;
}

bool any_band(const std::vector<int64_t>& bandwidths) {
  return std::ranges::any_of(bandwidths, [](int64_t bandwidth) { return bandwidth > 0; });
}

// "FC1"
std::string title_of(const PatternedWeight& weight) {
  std::string title = weight.name;
  for (char& c : title) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return title;
}

bool any_band(const std::vector<PatternedWeight>& weights) {
  return std::ranges::any_of(weights,
                             [](const PatternedWeight& w) { return any_band(w.bandwidths); });
}

std::string sparsity_mode(const TrainSettings& s, const std::vector<PatternedWeight>& weights) {
  std::vector<std::string> names;
  for (const PatternedWeight& weight : weights) {
    if (any_band(weight.bandwidths)) names.push_back(title_of(weight));
  }
  if (names.empty()) return "DENSE (no sparsity)";
  std::string layers = names.front();
  for (size_t i = 1; i < names.size(); ++i) layers += " + " + names[i];
  if (names.size() == 1 && weights.size() > 1) layers += " only";
  if (s.pattern == "band") return "BANDED (" + layers + ")";
  return s.pattern + " (" + layers + "), mask seed " + std::to_string(s.mask_seed);
}

void mask_rows(const TrainSettings& s, const PatternedWeight& weight) {
  const std::string layer = title_of(weight);
  if (!any_band(weight.bandwidths)) {
    row(layer, std::string("DENSE (bandwidth=0)"));
    return;
  }
  char density[32];
  std::snprintf(density, sizeof density, ", density=%.1f%%",
                100 * static_cast<double>(weight.kept) / static_cast<double>(weight.total));
  row(layer + (s.pattern == "band" ? " banded mask" : " mask"),
      "bandwidth=" + join(weight.bandwidths) + density);
  std::string connections = with_commas(weight.kept) + " / " + with_commas(weight.total);
  if (std::ranges::adjacent_find(weight.bandwidths, std::not_equal_to<>()) ==
      weight.bandwidths.end()) {
    connections += " (per layer: " + with_commas(weight.patterns.front().kept()) + " / " +
                   with_commas(weight.patterns.front().total()) + ")";
  }
  row(layer + " connections", connections);
}

// A band that keeps everything is no band, and who asked for one should know.
void say_when_dense(const std::vector<PatternedWeight>& weights) {
  const auto dense = [](const PatternedWeight& weight) {
    return std::ranges::all_of(weight.patterns, &Pattern::is_dense);
  };
  const auto say = [&](const std::string& start, const PatternedWeight& weight, const char* what) {
    const auto band = std::ranges::find_if(
        weight.patterns, [](const Pattern& pattern) { return pattern.bandwidth() > 0; });
    if (band == weight.patterns.end() || !dense(weight)) return false;
    std::printf("%s %" PRId64 " keeps %s of %s entries: this %s is dense\n", start.c_str(),
                band->bandwidth(), with_commas(band->kept()).c_str(),
                with_commas(band->total()).c_str(), what);
    return true;
  };
  const bool all = std::ranges::all_of(weights, dense);
  for (const PatternedWeight& weight : weights) {
    if (all && say("bandwidth", weight, "run")) return;
    if (!all) say("note: " + title_of(weight) + " bandwidth", weight, "layer");
  }
}

// A checkpoint that is continued with another band than it was made with: right for a comparison
// that starts from a trained model, a mistake when a flag was forgotten.
void warn_of_other(const std::string& what, const std::string& flag, const std::string& recorded,
                   const std::string& used) {
  if (recorded == used) return;
  std::fprintf(
      stderr,
      "warning: the model was trained with %s %s, this run uses %s; give %s %s to continue "
      "it as it was\n",
      what.c_str(), recorded.c_str(), used.c_str(), flag.c_str(), recorded.c_str());
}

void warn_of_other_pattern(const ModelRecord& start, const TrainSettings& s) {
  const bool fc1 = any_band(start.fc1_bandwidth), fc2 = any_band(start.fc2_bandwidth);
  if (fc1) warn_of_other("FC1 bandwidth", "-1", join(start.fc1_bandwidth), join(s.fc1_bandwidth));
  if (fc2) warn_of_other("FC2 bandwidth", "-2", join(start.fc2_bandwidth), join(s.fc2_bandwidth));
  if (!fc1 && !fc2) return;
  warn_of_other("pattern", "--pattern", std::string(pattern_name(start.pattern)), s.pattern);
  if (start.pattern == PatternKind::band) return;
  warn_of_other("mask seed", "--mask-seed", std::to_string(start.mask_seed),
                std::to_string(s.mask_seed));
}

void say_resumed(const ResumeFacts& resumed) {
  for (const std::string& reason : resumed.unreadable) {
    std::fprintf(stderr, "warning: %s; an older state is used\n", reason.c_str());
  }
  if (!resumed.changed.empty()) {
    std::fprintf(stderr, "warning: the run goes on with other settings: %s\n",
                 resumed.changed.c_str());
  }
  std::printf("resuming from %s (step %" PRId64 ")\n", resumed.folder.c_str(), resumed.step);
}

}  // namespace

void Console::started(const TrainFacts& f) {
  const TrainSettings& s = f.settings;
  steps_ = s.steps;
  parameters_ = f.parameters;
  first_step_ = f.resumed ? f.resumed->step : 0;
  state_root_ = f.state_root;
  rule();
  row("Parameter", std::string("Value"));
  rule();
  for (const PatternedWeight& weight : f.weights) {
    row(title_of(weight) + " bandwidth", join(weight.bandwidths));
  }
  row("Sparsity mode", sparsity_mode(s, f.weights));
  if (s.init_scale != "none") row("initial scale", s.init_scale);
  row("model path", s.model);
  row("checkpoint path", or_none(s.checkpoint));
  row("checkpoint_every", s.checkpoint_every);
  row("train data pattern", s.train_data);
  row("val data pattern", s.val_data);
  row("test data pattern", or_none(s.test_data));
  row("output log file", or_none(s.log));
  row("tokenizer", or_none(f.tokenizer));
  row("max_steps", s.steps);
  row("batch size B", s.batch_size);
  row("accumulate", s.accumulate);
  row("sequence length T", *s.sequence_length);
  row("learning rate", s.learning_rate);
  row("warmup", s.warmup);
  row("schedule", s.min_lr ? message("cosine to ", *s.min_lr) : std::string("constant"));
  row("weight decay", s.weight_decay);
  row("gradient clipping", s.grad_clip > 0 ? message(s.grad_clip) : std::string("off"));
  row("val_loss_every", s.val_every);
  row("val_max_steps", s.val_batches);
  row("train_eval_batches", s.train_eval_batches);
  row("sample_every", s.sample_every);
  row("genT", s.sample_length);
  row("init seed, data seed", message(*s.init_seed, ", ", s.data_seed));
  rule();
  const Machine machine = machine_of(device_of(s.device), precision_of(s.precision));
  const bool gpu = s.device == name_of(Device::cuda);
  row("device", gpu ? "cuda: " + machine.gpu : s.device);
  row("threads", static_cast<int64_t>(s.threads));
  row("precision", s.precision);
  row("matrix product", gpu ? machine.library : machine.kernels);
  rule();
  row("max_sequence_length T", f.config.max_seq_len);
  row("vocab_size V", f.config.vocab_size);
  row("padded_vocab_size Vp", f.config.padded_vocab_size);
  row("num_layers L", f.config.num_layers);
  row("num_heads NH", f.config.num_heads);
  row("channels C", f.config.channels);
  if (f.hidden != 4 * f.config.channels) row("MLP width H", f.hidden);
  if (f.mlp_rank > 0) row("MLP rank", f.mlp_rank);
  row("num_parameters", f.parameters);
  rule();
  if (any_band(f.weights)) {
    for (const PatternedWeight& weight : f.weights) mask_rows(s, weight);
    row("execution", s.execution);
    row("Mask mode", std::string(s.mask_init ? "initial weights + gradients + post-update"
                                             : "gradients + post-update only"));
    rule();
  }
  row("train_num_batches", f.train_batches);
  row("val_num_batches", f.val_batches_used);
  rule();
  for (const MemoryNeed& need : f.memory) row("memory: " + need.purpose, bytes_text(need.bytes));
  row("memory: all",
      message(bytes_text(total_bytes(f.memory)), " of ", bytes_text(f.memory_available), " free"));
  rule();
  say_when_dense(f.weights);
  if (f.resumed) {
    say_resumed(*f.resumed);
    std::fflush(stdout);
    return;
  }
  if (s.resume) {
    std::printf("--resume: there is no state in %s yet, starting at step 0\n",
                f.state_root.c_str());
  }
  if (!f.set_aside.empty()) {
    std::printf("states of an earlier run of %s are now in %s\n", s.checkpoint.c_str(),
                f.set_aside.c_str());
  }
  warn_of_other_pattern(f.start, s);
  std::fflush(stdout);
}

void Console::validated(int64_t step, const Loss& loss) {
  std::printf("val loss %.6f (step %" PRId64 ", %s tokens)\n", loss.mean(), step,
              with_commas(loss.count).c_str());
  std::fflush(stdout);
}

void Console::measured_train_subset(int64_t step, const Loss& loss) {
  std::printf("train subset loss %.6f (step %" PRId64 ", %s tokens)\n", loss.mean(), step,
              with_commas(loss.count).c_str());
}

void Console::stepped(const StepResult& r, double seconds, int64_t tokens) {
  if (r.step > first_step_) {
    ++timed_steps_;
    timed_seconds_ += seconds;
  }
  const double average =
      timed_steps_ ? timed_seconds_ / static_cast<double>(timed_steps_) : seconds;
  const std::string left = clock_text(average * static_cast<double>(steps_ - r.step - 1));
  std::printf("step %4" PRId64 "/%" PRId64 ": train loss %.6f (%.3f ms, %.0f tok/s, %s left)\n",
              r.step + 1, steps_, r.loss, seconds * 1e3, static_cast<double>(tokens) / seconds,
              left.c_str());
  std::fflush(stdout);
}

void Console::sampled(int64_t, const std::string& text) {
  std::printf("generating:\n---\n%s\n---\n", printable(text).c_str());
  std::fflush(stdout);
}

void Console::saved(int64_t, const std::string& path) {
  struct stat info{};
  const double mib =
      stat(path.c_str(), &info) == 0 ? static_cast<double>(info.st_size) / (1 << 20) : 0;
  std::printf("saving checkpoint to %s\n", path.c_str());
  std::printf("checkpoint saved (%" PRId64 " parameters, %.2f MB)\n", parameters_, mib);
  std::fflush(stdout);
}

void Console::tested(int64_t step, const Loss& loss) {
  std::printf("test loss %.6f (step %" PRId64 ", %s tokens)\n", loss.mean(), step,
              with_commas(loss.count).c_str());
}

void Console::ended(int64_t step, EndStatus status) {
  if (timed_steps_) {
    std::printf("total average iteration time: %.6f ms\n",
                1e3 * timed_seconds_ / static_cast<double>(timed_steps_));
  }
  if (status == EndStatus::interrupted) {
    std::printf("interrupted after %" PRId64 " of %" PRId64 " updates%s\n", step, steps_,
                state_root_.empty() ? "; nothing was saved, as there is no --checkpoint"
                                    : "; --resume goes on from here");
  }
  std::fflush(stdout);
}

}  // namespace pyllmc
