// The instruction sets of this processor.

#pragma once

#include <cstdint>

#include "engine.h"

#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
#define RESPARSE_X86 1
#endif

// AMX wants a compiler whose assembler knows it, and a system that can be asked for it.
#if defined(__x86_64__) && defined(__linux__)
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define RESPARSE_AMX 1
#endif
#endif

namespace resparse {

// Bits of Isa that the processor has, its operating system allows, and this library has kernels for.
uint32_t usable_isas();

}  // namespace resparse
