#include "train/log_writer.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/build.h"
#include "core/json.h"
#include "core/text.h"
#include "formats/fault.h"
#include "train/machine.h"

namespace pyllmc {
namespace {

std::string jsonl_beside(const std::string& path) {
  const std::string suffix = ".txt";
  const bool has_suffix =
      path.size() > suffix.size() && path.compare(path.size() - 4, 4, suffix) == 0;
  return (has_suffix ? path.substr(0, path.size() - 4) : path) + ".jsonl";
}

std::FILE* open_file(const std::string& path, const char* mode) {
  std::FILE* file = std::fopen(path.c_str(), mode);
  if (!file) throw WriteError(message("cannot open the log ", path, ": ", std::strerror(errno)));
  return file;
}

int64_t size_of(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(size);
}

void cut(const std::string& path, int64_t bytes) {
  if (::truncate(path.c_str(), bytes) != 0) {
    throw WriteError(message("cannot cut the log ", path, ": ", std::strerror(errno)));
  }
}

// Entries that a layer keeps: one number where all layers keep as many.
JsonValue kept_per_layer(const PatternedWeight& weight) {
  std::vector<int64_t> kept;
  for (const Pattern& pattern : weight.patterns) kept.push_back(pattern.kept());
  const JsonValue counts = json_numbers(kept);
  // Of a low-rank weight, the pattern is that of one factor.
  return counts.is_list() ? counts : JsonValue(weight.kept / std::ssize(weight.patterns));
}

const char* text_of(EndStatus status) {
  switch (status) {
    case EndStatus::done:
      return "done";
    case EndStatus::diverged:
      return "diverged";
    case EndStatus::interrupted:
      return "interrupted";
  }
  return "";
}

}  // namespace

LogWriter::LogWriter(const std::string& path, const std::optional<ResumeFacts>& resumed)
    : text_path_(path), json_path_(jsonl_beside(path)) {
  const auto folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) {
    throw WriteError(message("cannot make the folder ", folder.string(), ": ", error.message()));
  }
  const bool continued = resumed && resumed->progress.log;
  if (continued) {
    const LogPosition& position = *resumed->progress.log;
    for (const auto& [file, bytes] :
         {std::pair(text_path_, position.text_bytes), std::pair(json_path_, position.json_bytes)}) {
      if (size_of(file) >= bytes) continue;
      throw FormatError(message("the log ", file, " has ", size_of(file), " bytes, it had ", bytes,
                                " when ", resumed->folder,
                                " was saved: its lines are lost; restore it, or begin a new one "
                                "from here on with --allow-changed log"));
    }
    fault_point(FaultPoint::resume_chosen);
    cut(text_path_, position.text_bytes);
    fault_point(FaultPoint::resume_text_cut);
    cut(json_path_, position.json_bytes);
    fault_point(FaultPoint::resume_logs_cut);
  }
  text_file_ = open_file(text_path_, continued ? "ab" : "wb");
  json_file_ = open_file(json_path_, continued ? "ab" : "wb");
}

LogWriter::~LogWriter() {
  if (text_file_) std::fclose(text_file_);
  if (json_file_) std::fclose(json_file_);
}

// Every line is flushed: whoever watches the run reads the files.
void LogWriter::write(std::FILE* file, const std::string& path, const std::string& line) {
  if (std::fputs((line + "\n").c_str(), file) < 0 || std::fflush(file) != 0) {
    throw WriteError(message("cannot write to the log ", path, ": ", std::strerror(errno)));
  }
}

void LogWriter::text(int64_t step, const char* key, double loss) {
  char line[96];
  std::snprintf(line, sizeof line, "s:%lld %s:%.4f", static_cast<long long>(step), key, loss);
  write(text_file_, text_path_, line);
}

void LogWriter::json(const char* type, JsonValue::Object facts) {
  facts.emplace(facts.begin(), "type", type);
  write(json_file_, json_path_, JsonValue(std::move(facts)).text());
}

void LogWriter::started(const TrainFacts& f) {
  const TrainSettings& s = f.settings;
  if (f.resumed) {
    json("resume", {{"step", f.resumed->step},
                    {"state", f.resumed->folder},
                    {"changed", f.resumed->changed},
                    {"threads", int64_t{s.threads}}});
    if (f.resumed->progress.log) return;
  }
  const Machine machine = machine_of(device_of(s.device), precision_of(s.precision));
  JsonValue::Object settings = {
      {"version", version()},
      {"model", s.model},
      {"train_data", s.train_data},
      {"val_data", s.val_data},
      {"steps", s.steps},
      {"batch_size", s.batch_size},
      {"sequence_length", *s.sequence_length},
      {"accumulate", s.accumulate},
      {"train_eval_batches", s.train_eval_batches},
      {"learning_rate", s.learning_rate},
      {"warmup", s.warmup},
      {"min_lr", s.min_lr ? JsonValue(*s.min_lr) : JsonValue()},
      {"weight_decay", s.weight_decay},
      {"grad_clip", s.grad_clip},
      {"fc1_bandwidth", json_numbers(s.fc1_bandwidth)},
      {"fc2_bandwidth", json_numbers(s.fc2_bandwidth)},
      {"pattern", s.pattern},
      {"mask_seed", s.mask_seed},
      {"init_scale", s.init_scale},
      {"mask_init", s.mask_init},
      {"execution", s.execution},
      {"precision", s.precision},
      {"init_seed", *s.init_seed},
      {"data_seed", s.data_seed},
      {"device", s.device},
      {"threads", int64_t{s.threads}},
      {"kernels", machine.kernels},
      {"gpu", machine.gpu},
  };
  const auto add = [&](std::string name, JsonValue value) {
    settings.emplace_back(std::move(name), std::move(value));
  };
  for (const auto& [name, value] : f.dimensions) add(name, value);
  add("parameters", f.parameters);
  for (const PatternedWeight& weight : f.weights) {
    add(weight.name + "_kept", kept_per_layer(weight));
    add(weight.name + "_total", weight.total / std::ssize(weight.patterns));
  }
  add("train_tokens", f.train_tokens);
  add("val_tokens", f.val_tokens);
  add("train_fingerprint", hex_text(f.train_fingerprint));
  add("val_fingerprint", hex_text(f.val_fingerprint));
  add("val_tokens_evaluated", f.val_batches_used * s.batch_size * *s.sequence_length);
  add("memory_bytes", total_bytes(f.memory));
  json("settings", std::move(settings));
}

void LogWriter::validated(int64_t step, const Loss& loss) {
  text(step, "tel", loss.mean());
  json("val", {{"step", step}, {"loss", loss.mean()}, {"tokens", loss.count}});
}

void LogWriter::measured_train_subset(int64_t step, const Loss& loss) {
  text(step, "tsb", loss.mean());
  json("train_subset", {{"step", step}, {"loss", loss.mean()}, {"tokens", loss.count}});
}

void LogWriter::stepped(const StepResult& r, double seconds, int64_t tokens) {
  text(r.step, "trl", r.loss);
  json("train", {{"step", r.step},
                 {"loss", r.loss},
                 {"lr", r.learning_rate},
                 {"grad_norm", r.gradient_norm},
                 {"ms", seconds * 1e3},
                 {"tokens_per_second", static_cast<double>(tokens) / seconds}});
}

void LogWriter::sampled(int64_t step, const std::string& text) {
  json("sample", {{"step", step}, {"text", text}});
}

void LogWriter::saved(int64_t step, const std::string& path) {
  json("checkpoint", {{"step", step}, {"path", path}});
}

void LogWriter::tested(int64_t step, const Loss& loss) {
  text(step, "tsl", loss.mean());
  json("test", {{"step", step}, {"loss", loss.mean()}, {"tokens", loss.count}});
}

void LogWriter::ended(int64_t step, EndStatus status) {
  json("end", {{"step", step}, {"status", text_of(status)}});
}

std::optional<LogPosition> LogWriter::sync() {
  for (const auto& [file, path] : {std::pair(text_file_, text_path_), {json_file_, json_path_}}) {
    // What is no file on a disk (a pipe) cannot be synced, and says EINVAL.
    if (::fsync(::fileno(file)) != 0 && errno != EINVAL) {
      throw WriteError(message("cannot write to the log ", path, ": ", std::strerror(errno)));
    }
  }
  return LogPosition{size_of(text_path_), size_of(json_path_)};
}

}  // namespace pyllmc
