// Weights as the kernels read them.
//
// Lanes of a vector are rows of the matrix. A slot gives every row of a group a few of its non-zeros that lie in the
// same block of columns: their places in the block, by which the input's bytes are shuffled into the rows' lanes, and
// their values, by which these are multiplied. A group has as many slots for a block as its fullest row needs; shorter
// rows are filled up with zero weights.
//
//   form      rows of a group   columns of a block   non-zeros of a row in a slot   bytes of a slot
//   kSlots64  16                64                   4                              64 places + 64 weights
//   kSlots16  8                 16                   2                              16 places + 16 weights
//
// Packed: uint32 starts[groups + 1], counted in slots; uint8 counts[groups][blocks]; the slots. Each part begins at a
// multiple of 64 bytes.
//
// kDense has no slots: int8 weights[groups of 16][columns / 4][16 rows][4 columns].

#pragma once

#include <cstddef>
#include <cstdint>

#include "engine.h"

namespace resparse {

constexpr size_t kAlignment = 64;
constexpr uint32_t kLanes = 16;         // rows are padded to a multiple of these
constexpr uint32_t kColumnPad = 64;     // rows of inputs are readable up to a multiple of these
constexpr uint32_t kMaxSide = 1 << 20;  // of a matrix

inline size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

struct Shape {
  uint32_t group_rows, block_columns, per_slot;
  uint32_t slot_bytes() const { return 2 * group_rows * per_slot; }
};

inline Shape shape_of(uint32_t form) {
  return form == kSlots64 ? Shape{16, 64, 4} : form == kSlots16 ? Shape{8, 16, 2} : Shape{16, 4, 4};
}

// A packed matrix, taken apart; points into memory that is somebody else's.
struct Packed {
  uint32_t form = 0, rows = 0, columns = 0, groups = 0, blocks = 0;
  const uint32_t* starts = nullptr;
  const uint8_t* counts = nullptr;
  const uint8_t* data = nullptr;  // slots, or dense weights
};

// Bytes of a packed matrix, without packing it.
size_t packed_size(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns);

// Pack into memory of packed_size() bytes.
void pack(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out);

// Take a packed matrix apart. Throws Error where the kernels would read outside of it.
Packed view(uint32_t form, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns);

}  // namespace resparse
