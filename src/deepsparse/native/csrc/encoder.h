// The forward pass.

#pragma once

#include <cstddef>
#include <cstdint>

#include "model.h"

namespace resparse {

// Texts without padding: those of text i are the tokens starts[i] to starts[i + 1] - 1.
struct Texts {
  const int32_t* ids;
  const int32_t* types;  // or null: all 0
  const int32_t* positions;
  const int64_t* starts;
  uint32_t count;
};

// Logits of the texts, [count][labels], on at most `threads` threads.
// Throws Error for what the model's tables do not have, and for a text without tokens.
void classify(const OpenModel& model, const Texts& texts, uint32_t threads, float* logits);

}  // namespace resparse
