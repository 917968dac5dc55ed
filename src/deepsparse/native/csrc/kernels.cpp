#include "kernels.h"

#include <string>

#include "error.h"
#include "isa.h"

namespace resparse {

extern const Kernels kPortableKernels;
#ifdef RESPARSE_X86
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

const Kernels& kernels_of(uint32_t isa) {
  if ((usable_isas() & isa) != 0) {
    if (isa == kPortable) return kPortableKernels;
#ifdef RESPARSE_X86
    if (isa == kAvx2) return kAvx2Kernels;
    if (isa == kAvx512) return kAvx512Kernels;
#endif
  }
  throw Error("this processor, or this build, has no instruction set number " + std::to_string(isa));
}

size_t attention_scratch(uint32_t tokens, uint32_t head_size) {
  const size_t padded = round_up(tokens, kLanes), head = round_up(head_size, kLanes);
  constexpr size_t kQueriesAtOnce = 8;
  return 2 * round_up(padded * head, kAlignment) + round_up(padded * kQueriesAtOnce, kAlignment) +
         sizeof(int32_t) * (padded * kQueriesAtOnce + padded + head) + 4 * kAlignment;
}

}  // namespace resparse
