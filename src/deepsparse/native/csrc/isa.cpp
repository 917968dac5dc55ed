#include "isa.h"

namespace resparse {

uint32_t usable_isas() {
  uint32_t found = kPortable;
#ifdef RESPARSE_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found |= kAvx2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512vbmi"))
    found |= kAvx512;
#endif
  return found;
}

}  // namespace resparse
