#include "train/run_progress.h"

namespace pyllmc {

JsonValue::Object progress_entry(const RunProgress& progress, JsonValue::Object configuration) {
  JsonValue best, log;
  if (progress.best) {
    best = JsonValue::Object{{"loss", progress.best->loss}, {"step", progress.best->step}};
  }
  if (progress.log) {
    log = JsonValue::Object{{"text_bytes", progress.log->text_bytes},
                            {"json_bytes", progress.log->json_bytes}};
  }
  return {{"configuration", std::move(configuration)},
          {"evaluated", progress.evaluated},
          {"best_val_loss", best},
          {"log", log}};
}

RunProgress read_progress(const JsonValue& run) {
  RunProgress progress;
  progress.evaluated = run.at("evaluated").boolean();
  if (const JsonValue& best = run.at("best_val_loss"); !best.is_null()) {
    progress.best = {best.at("loss").real(), best.at("step").integer()};
  }
  if (const JsonValue& log = run.at("log"); !log.is_null()) {
    progress.log = {log.at("text_bytes").integer(), log.at("json_bytes").integer()};
    if (progress.log->text_bytes < 0 || progress.log->json_bytes < 0) {
      throw FormatError(message("the log's position is ", log.text(), ", expected 0 or more"));
    }
  }
  return progress;
}

}  // namespace pyllmc
