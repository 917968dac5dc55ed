// The instruction sets that the engine has kernels for. This pair of files is the only place that lists them: names,
// bits, the formats of weights that the kernels read, the check of the processor, and the tables of kernels.

#pragma once

#include <cstdint>

#include "engine.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#define RESPARSE_X86 1
#endif

// AVX-VNNI needs a compiler whose assembler knows it.
#if defined(__x86_64__)
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define RESPARSE_AVX_VNNI 1
#endif
#endif

#if defined(__aarch64__)
#define RESPARSE_ARM 1
#endif

// Dot products and i8mm need a compiler that knows them, also in functions for other processors than the rest is for.
#if defined(RESPARSE_ARM)
#if !defined(__clang__) ? __GNUC__ >= 10 : __clang_major__ >= (defined(__apple_build_version__) ? 15 : 16)
#define RESPARSE_ARM_DOT 1
#endif
#endif

// AMX needs a compiler whose assembler knows it, and a system that can be asked for the permission to use it.
#if defined(__x86_64__) && defined(__linux__)
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define RESPARSE_AMX 1
#endif
#endif

namespace resparse {

// Bits; a packed model says which one it is for, so they never change.
enum Isa : uint32_t {
  kPortable = 1,
  kAvx2 = 2,
  kAvx512 = 4,
  kAmx = 8,
  kAvxVnni = 16,
  kNeon = 1 << 16,
  kDotProd = 1 << 17,
  kI8mm = 1 << 18,
};

// The instruction sets that have a name, better ones later; null past the last.
const InstructionSet* instruction_set(uint32_t index);

// Bits of those that the processor has, its operating system allows, and this build has kernels for.
uint32_t usable_isas();

// The kernels of a usable instruction set. Throws Error where it is none.
const Kernels& kernels_of(uint32_t isa);

// Whether its kernels read a format of integer weights.
bool reads_format(uint32_t isa, uint32_t format);

}  // namespace resparse
