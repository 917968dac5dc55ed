// How long products take as the engine runs them: in tasks of a team, and requantized. Packing chooses formats by it.

#pragma once

#include <cstdint>

#include "engine.h"

namespace resparse {

// Seconds. Of one thread, for which it ran: what others do meanwhile does not count. Of several, which wait for each
// other, those that passed.
double now(uint32_t threads);

// Seconds of all products with `tokens` tokens, one after the other: the mean of `runs`, after one that is not counted.
// With `sums_only`, nothing is done with the sums.
double time_products(uint32_t isa, const TimedMatrix* matrices, uint32_t count, uint32_t tokens, uint32_t threads,
                     uint32_t runs, bool sums_only);

}  // namespace resparse
