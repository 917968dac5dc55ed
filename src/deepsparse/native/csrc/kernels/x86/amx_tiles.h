// The tile registers of AMX: eight matrices of up to 16 rows of 64 bytes, and their product of uint8 with int8.
//
// Inline assembly, since GCC's intrinsics (up to 12 at least) do not tell the compiler that they read and write memory,
// and accept no template parameters as registers. With RESPARSE_EMULATE_TILES, tests get an emulation in C++ that runs
// on processors without AMX.

#pragma once

#include <cstddef>
#include <cstdint>

namespace resparse {

// The operand of LDTILECFG.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64, "the layout that the processor reads");

}  // namespace resparse

#ifdef RESPARSE_EMULATE_TILES
#include "emulated_tiles.h"
#else

#define RESPARSE_TILES static inline __attribute__((always_inline))

namespace resparse {
namespace tiles {

// Sets the shapes of all tiles and zeroes them.
RESPARSE_TILES void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }

RESPARSE_TILES void release() { asm volatile("tilerelease"); }

template <int kTo>
RESPARSE_TILES void zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTo));
}

// Rows lie `stride` bytes apart.
template <int kTo>
RESPARSE_TILES void load(const void* from, size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTo) : "memory");
}

template <int kFrom>
RESPARSE_TILES void store(void* to, size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kFrom) : "memory");
}

// sums[row][column] += inputs[row][4 k + i] * weights[k][4 column + i] over all k and i: int32 of uint8 and int8.
template <int kSums, int kInputs, int kWeights>
RESPARSE_TILES void add_products() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kInputs), "i"(kWeights));
}

}  // namespace tiles
}  // namespace resparse

#undef RESPARSE_TILES

#endif
