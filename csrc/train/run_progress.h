// The "run" entry of a training state's manifest.
#pragma once

#include "train/session.h"

namespace pyllmc {

JsonValue::Object progress_entry(const RunProgress& progress, JsonValue::Object configuration);

// Throws FormatError when a part is missing or of another kind.
RunProgress read_progress(const JsonValue& run);

}  // namespace pyllmc
