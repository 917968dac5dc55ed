// kCsr4: compressed sparse rows, whose non-zeros are taken in groups of four.
//
// Made for registers that hold one group's products with many tokens: the inputs are transposed first (32 tokens of a
// column are adjacent), so that any four columns can be interleaved, wherever they are, and no position is lost to
// windows as in slots. Within a group, the first two weights and the last two are such that their products with any two
// uint8 add up to an int16: AVX2's vpmaddubsw, which saturates, is exact for them.
//
// Columns are cut into blocks of equal width, whose inputs fit the L1 cache. The rows of a panel are taken in pairs, so
// that a loop's end, which processors tend to mispredict, comes half as often; both rows of a pair have the same number
// of groups in a block, filled up with zero weights. Rows with similar numbers make a pair.
//
// uint32 starts[panels * blocks * 8 + 1], counted in steps: a pair's groups side by side; uint8 rows[panels * blocks *
// 16], of each pair, counted in the panel; Csr4Step steps[]. Each part begins at a multiple of 64 bytes.

#pragma once

#include <cstddef>
#include <cstdint>

#include "common.h"
#include "weight_formats.h"

namespace resparse {

constexpr uint32_t kCsr4Tokens = 32;        // of a tile of transposed inputs: [columns][32 tokens]
constexpr uint32_t kCsr4MostColumns = 768;  // of a block: 24 KiB of transposed inputs
constexpr uint32_t kCsr4Pairs = 8;          // of rows, in a panel

struct Csr4Step {
  uint16_t offsets[2][4];  // where the inputs of the columns begin: kCsr4Tokens times the column in the block
  int8_t weights[2][4];
};
static_assert(sizeof(Csr4Step) == 24, "is read from files");

constexpr uint32_t csr4_blocks(uint32_t columns) { return divide_up(columns, kCsr4MostColumns); }
constexpr uint32_t csr4_block_columns(uint32_t columns) { return divide_up(columns, csr4_blocks(columns)); }

// Bytes of the transposed inputs of a tile of tokens, as far as the kernels may read.
constexpr size_t csr4_tile_bytes(uint32_t columns) {
  return size_t{csr4_blocks(columns)} * csr4_block_columns(columns) * kCsr4Tokens;
}

size_t csr4_size(const int8_t* weights, uint32_t rows, uint32_t columns);
void pack_csr4(const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out);

// Sets the pointers. Throws Error where the kernels would read outside of the packed matrix or of their inputs.
void view_csr4(const uint8_t* packed, size_t size, PackedMatrix& result);

}  // namespace resparse
