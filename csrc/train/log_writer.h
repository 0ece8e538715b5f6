// Two files a run: <log>.txt in the original's lines (s:<step> tel:<loss>, trl:, tsl:) and beside
// it <log>.jsonl with everything at full precision.
#pragma once

#include <cstdio>
#include <string>

#include "core/json.h"
#include "train/session.h"

namespace pyllmc {

class LogWriter : public TrainObserver {
 public:
  // Opens both files, making their folder: anew, or, for a resumed run, cut to where its state says
  // that they ended. Throws WriteError, and FormatError when they are shorter than that.
  LogWriter(const std::string& path, const std::optional<ResumeFacts>& resumed);
  ~LogWriter() override;
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  void started(const TrainFacts& facts) override;
  void validated(int64_t step, const Loss& loss) override;
  void measured_train_subset(int64_t step, const Loss& loss) override;
  void stepped(const StepResult& result, double seconds, int64_t tokens) override;
  void sampled(int64_t step, const std::string& text) override;
  void saved(int64_t step, const std::string& path) override;
  void tested(int64_t step, const Loss& loss) override;
  void ended(int64_t step, EndStatus status) override;
  std::optional<LogPosition> sync() override;

 private:
  void write(std::FILE* file, const std::string& path, const std::string& line);
  void text(int64_t step, const char* key, double loss);
  void json(const char* type, JsonValue::Object facts);

  std::string text_path_, json_path_;
  std::FILE* text_file_ = nullptr;
  std::FILE* json_file_ = nullptr;
};

}  // namespace pyllmc
