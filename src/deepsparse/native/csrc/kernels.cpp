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
#ifdef RESPARSE_AMX
extern const Kernels kAmxKernels;
#endif

const Kernels& kernels_of(uint32_t isa) {
  if ((usable_isas() & isa) != 0) {
    if (isa == kPortable) return kPortableKernels;
#ifdef RESPARSE_X86
    if (isa == kAvx2) return kAvx2Kernels;
    if (isa == kAvx512) return kAvx512Kernels;
#endif
#ifdef RESPARSE_AMX
    if (isa == kAmx) return kAmxKernels;
#endif
  }
  throw Error("this processor, or this build, has no instruction set number " + std::to_string(isa));
}

}  // namespace resparse
