#include "instruction_sets.h"

#include <string>

#include "common.h"

#ifdef RESPARSE_X86
#include <cpuid.h>
#endif
#if defined(RESPARSE_AMX) && !defined(RESPARSE_EMULATE_TILES)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(RESPARSE_ARM_DOT) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(RESPARSE_ARM_DOT) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace resparse {

extern const Kernels kPortableKernels;
extern const Kernels kAvx2Kernels, kAvxVnniKernels, kAvx512Kernels, kAmxKernels;
extern const Kernels kNeonKernels, kDotProdKernels, kI8mmKernels;

namespace {

// --- checks of the processor ---

#ifdef RESPARSE_X86
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#ifdef RESPARSE_AVX_VNNI
bool has_avx_vnni() {
#ifdef RESPARSE_EMULATE_AVX_VNNI
  return has_avx2() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
  // Not every compiler that has the instructions knows their name here.
  constexpr unsigned kAvxVnniBit = 1u << 4;  // of EAX
  unsigned a, b, c, d;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnniBit) != 0;
#endif
}
#endif

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}
#endif

#ifdef RESPARSE_AMX
#ifdef RESPARSE_EMULATE_TILES
bool has_tiles() { return true; }
#else
// Whether the processor has tiles of int8, the system saves them on a context switch, and this process may use them:
// Linux must be asked for that, since it enlarges the saved state (Documentation/arch/x86/xstate.rst).
bool has_tiles() {
  constexpr unsigned kTilesAndInt8 = 3u << 24;                 // of EDX: AMX-TILE and AMX-INT8
  constexpr unsigned kOsxsave = 1u << 27;                      // of ECX
  constexpr unsigned kTileState = 3u << 17;                    // of XCR0: TILECFG and TILEDATA
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

bool has_amx() { return has_avx512() && __builtin_cpu_supports("avx512vbmi2") && has_tiles(); }
#endif

#ifdef RESPARSE_ARM_DOT
#if defined(__linux__)
// Older systems' headers lack these, HWCAP_ASIMDDP and HWCAP2_I8MM (Documentation/arch/arm64/elf_hwcaps.rst).
constexpr unsigned long kHasDotProd = 1 << 20, kHasI8mm = 1 << 13;

bool has_dotprod() { return (getauxval(AT_HWCAP) & kHasDotProd) != 0; }
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) & kHasI8mm) != 0; }
#elif defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif
#endif

// --- the list ---

// What a build for another processor family has in the place of kernels and check.
#ifdef RESPARSE_X86
#define RESPARSE_ON_X86(kernels, check) &kernels, check
#else
#define RESPARSE_ON_X86(kernels, check) nullptr, nullptr
#endif
#ifdef RESPARSE_AVX_VNNI
#define RESPARSE_ON_AVX_VNNI(kernels, check) &kernels, check
#else
#define RESPARSE_ON_AVX_VNNI(kernels, check) nullptr, nullptr
#endif
#ifdef RESPARSE_AMX
#define RESPARSE_ON_AMX(kernels, check) &kernels, check
#else
#define RESPARSE_ON_AMX(kernels, check) nullptr, nullptr
#endif
#ifdef RESPARSE_ARM
#define RESPARSE_ON_ARM(kernels, check) &kernels, check
#else
#define RESPARSE_ON_ARM(kernels, check) nullptr, nullptr
#endif
#ifdef RESPARSE_ARM_DOT
#define RESPARSE_ON_ARM_DOT(kernels, check) &kernels, check
#else
#define RESPARSE_ON_ARM_DOT(kernels, check) nullptr, nullptr
#endif

constexpr uint32_t formats(uint32_t a, uint32_t b) { return 1u << a | 1u << b; }
constexpr uint32_t formats(uint32_t a, uint32_t b, uint32_t c) { return formats(a, b) | 1u << c; }

struct Entry {
  InstructionSet description;
  const Kernels* kernels;
  bool (*is_usable)();
};

bool always() { return true; }

const Entry kEntries[] = {
    {{"portable", kPortable, formats(kDense, kSlots64, kMask64)}, &kPortableKernels, always},
    {{"avx2", kAvx2, formats(kDense, kCsr4)}, RESPARSE_ON_X86(kAvx2Kernels, has_avx2)},
    {{"avxvnni", kAvxVnni, formats(kDense, kCsr4)}, RESPARSE_ON_AVX_VNNI(kAvxVnniKernels, has_avx_vnni)},
    {{"avx512", kAvx512, formats(kDense, kSlots64)}, RESPARSE_ON_X86(kAvx512Kernels, has_avx512)},
    {{"amx", kAmx, formats(kDense, kSlots64, kMask64)}, RESPARSE_ON_AMX(kAmxKernels, has_amx)},
    {{"neon", kNeon, formats(kDense, kSlots32)}, RESPARSE_ON_ARM(kNeonKernels, always)},
    {{"dotprod", kDotProd, formats(kDense, kSlots32)}, RESPARSE_ON_ARM_DOT(kDotProdKernels, has_dotprod)},
    {{"i8mm", kI8mm, formats(kDenseOctets, kSlots32)}, RESPARSE_ON_ARM_DOT(kI8mmKernels, has_i8mm)},
};

uint32_t detect() {
#ifdef RESPARSE_X86
  __builtin_cpu_init();
#endif
  uint32_t found = 0;
  for (const Entry& entry : kEntries)
    if (entry.kernels != nullptr && entry.is_usable()) found |= entry.description.isa;
  return found;
}

}  // namespace

const InstructionSet* instruction_set(uint32_t index) {
  return index < sizeof kEntries / sizeof kEntries[0] ? &kEntries[index].description : nullptr;
}

uint32_t usable_isas() {
  static const uint32_t found = detect();
  return found;
}

const Kernels& kernels_of(uint32_t isa) {
  for (const Entry& entry : kEntries)
    if (entry.description.isa == isa && (usable_isas() & isa) != 0) return *entry.kernels;
  throw Error("this processor, or this build, has no instruction set number " + std::to_string(isa));
}

bool reads_format(uint32_t isa, uint32_t format) {
  for (const Entry& entry : kEntries)
    if (entry.description.isa == isa) return format < 32 && (entry.description.formats >> format & 1) != 0;
  return false;
}

}  // namespace resparse
