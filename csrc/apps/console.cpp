#include "apps/console.h"

#include <sys/stat.h>

#include <cinttypes>
#include <cstdio>

#include "apps/program.h"
#include "core/gemm.h"

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

const char* sparsity_mode(const TrainSettings& s) {
  if (s.fc1_bandwidth && s.fc2_bandwidth) return "BANDED (FC1 + FC2)";
  if (s.fc1_bandwidth) return "BANDED (FC1 only)";
  if (s.fc2_bandwidth) return "BANDED (FC2 only)";
  return "DENSE (no sparsity)";
}

void mask_rows(const std::string& layer, const Pattern& pattern, int64_t layers) {
  if (pattern.bandwidth() == 0) {
    row(layer, std::string("DENSE (bandwidth=0)"));
    return;
  }
  char density[64];
  std::snprintf(density, sizeof density, "bandwidth=%" PRId64 ", density=%.1f%%",
                pattern.bandwidth(), 100 * pattern.density());
  row(layer + " banded mask", std::string(density));
  row(layer + " connections", with_commas(pattern.kept() * layers) + " / " +
                                  with_commas(pattern.total() * layers) +
                                  " (per layer: " + with_commas(pattern.kept()) + " / " +
                                  with_commas(pattern.total()) + ")");
}

// A band that keeps everything is no band, and who asked for one should know.
void say_when_dense(const Pattern& fc1, const Pattern& fc2) {
  const auto say = [](const char* start, const Pattern& pattern, const char* what) {
    if (pattern.bandwidth() == 0 || !pattern.is_dense()) return false;
    std::printf("%s %" PRId64 " keeps %s of %s entries: this %s is dense\n", start,
                pattern.bandwidth(), with_commas(pattern.kept()).c_str(),
                with_commas(pattern.total()).c_str(), what);
    return true;
  };
  if (fc1.is_dense() && fc2.is_dense()) {
    if (!say("bandwidth", fc1, "run")) say("bandwidth", fc2, "run");
  } else {
    say("note: FC1 bandwidth", fc1, "layer");
    say("note: FC2 bandwidth", fc2, "layer");
  }
}

// A checkpoint that is continued with another band than it was made with: right for a comparison
// that starts from a trained model, a mistake when a flag was forgotten.
void warn_of_other_band(const char* layer, const char* flag, int64_t recorded, int64_t used) {
  if (recorded == used || recorded == 0) return;
  std::fprintf(stderr,
               "warning: the model was trained with %s bandwidth %" PRId64
               ", this run uses %" PRId64 "; give %s %" PRId64 " to continue it as it was\n",
               layer, recorded, used, flag, recorded);
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
  row("FC1 bandwidth", s.fc1_bandwidth);
  row("FC2 bandwidth", s.fc2_bandwidth);
  row("Sparsity mode", std::string(sparsity_mode(s)));
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
  row("device", std::string("cpu"));
  row("threads", static_cast<int64_t>(s.threads));
  row("precision", s.precision);
  row("matrix product", message(gemm_library().name, " ", gemm_library().core));
  rule();
  row("max_sequence_length T", f.config.max_seq_len);
  row("vocab_size V", f.config.vocab_size);
  row("padded_vocab_size Vp", f.config.padded_vocab_size);
  row("num_layers L", f.config.num_layers);
  row("num_heads NH", f.config.num_heads);
  row("channels C", f.config.channels);
  row("num_parameters", f.parameters);
  rule();
  if (s.fc1_bandwidth || s.fc2_bandwidth) {
    mask_rows("FC1", f.fc1, f.config.num_layers);
    mask_rows("FC2", f.fc2, f.config.num_layers);
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
  say_when_dense(f.fc1, f.fc2);
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
  warn_of_other_band("FC1", "-1", f.start.fc1_bandwidth.front(), s.fc1_bandwidth);
  warn_of_other_band("FC2", "-2", f.start.fc2_bandwidth.front(), s.fc2_bandwidth);
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
