#include "isa.h"

#if defined(RESPARSE_AMX) && !defined(RESPARSE_EMULATE_TILES)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace resparse {
namespace {

#ifdef RESPARSE_AMX
#ifdef RESPARSE_EMULATE_TILES
bool has_tiles() { return true; }
#else
// Whether the processor has tiles of int8, the system saves them when it switches threads, and this process may use
// them: for that Linux wants to be asked, since they make what it saves larger (Documentation/arch/x86/xstate.rst).
bool has_tiles() {
  constexpr unsigned kTilesAndInt8 = 3u << 24;  // of EDX: AMX-TILE and AMX-INT8
  constexpr unsigned kOsxsave = 1u << 27;       // of ECX
  constexpr unsigned kTileState = 3u << 17;     // of XCR0: TILECFG and TILEDATA
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTilesAndInt8) != kTilesAndInt8) return false;
  unsigned low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kTileState) != kTileState) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif
#endif

uint32_t detect() {
  uint32_t found = kPortable;
#ifdef RESPARSE_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found |= kAvx2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512vbmi"))
    found |= kAvx512;
#endif
#ifdef RESPARSE_AMX
  if ((found & kAvx512) != 0 && __builtin_cpu_supports("avx512vbmi2") && has_tiles()) found |= kAmx;
#endif
  return found;
}

}  // namespace

uint32_t usable_isas() {
  static const uint32_t found = detect();
  return found;
}

}  // namespace resparse
