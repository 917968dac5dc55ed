// The forward pass of an encoder.

#pragma once

#include <cstddef>
#include <cstdint>

#include "model.h"

namespace resparse {

// A batch of texts without padding: text i has the tokens starts[i] to starts[i + 1] - 1.
struct Batch {
  const int32_t* ids;
  const int32_t* types;  // null: all 0
  const int32_t* positions;
  const int64_t* starts;
  uint32_t texts;
};

// Logits [texts][labels], or [tokens][labels] where the head is applied to every token, on at most `threads` threads.
// Throws Error for indices beyond the embedding tables, and for a text without tokens.
void run(const OpenModel& model, const Batch& batch, uint32_t threads, float* logits);

}  // namespace resparse
