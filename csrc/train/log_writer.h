// Two files a run: <log>.txt in the original's lines (s:<step> tel:<loss>, trl:, tsl:) and beside
// it <log>.jsonl with everything at full precision.
#pragma once

#include <cstdio>
#include <string>

#include "train/session.h"

namespace pyllmc {

class LogWriter : public TrainObserver {
 public:
  // Opens both files anew, making their folder. Throws WriteError.
  explicit LogWriter(const std::string& path);
  ~LogWriter() override;
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  void started(const TrainFacts& facts) override;
  void validated(int64_t step, const Loss& loss) override;
  void stepped(const StepResult& result, double seconds, int64_t tokens) override;
  void sampled(int64_t step, const std::string& text) override;
  void saved(int64_t step, const std::string& path) override;
  void tested(int64_t step, const Loss& loss) override;
  void ended(int64_t step, EndStatus status) override;

 private:
  void write(std::FILE* file, const std::string& path, const std::string& line);
  void text(int64_t step, const char* key, double loss);
  void json(const std::string& line) { write(json_file_, json_path_, line); }

  std::string text_path_, json_path_;
  std::FILE* text_file_ = nullptr;
  std::FILE* json_file_ = nullptr;
};

}  // namespace pyllmc
