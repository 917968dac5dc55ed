// Weights as the kernels read them.
//
// Lanes of a vector are rows of the matrix. A slot gives every row of a group a few of its non-zeros that lie in the
// same window of columns: their places in the window, by which the input's bytes are shuffled into the rows' lanes, and
// their values, by which these are multiplied. Where a row has fewer left, zero weights fill its lanes.
//
// Windows overlap, so that a row with few non-zeros in one goes on to its next ones while the others catch up; with
// blocks that do not overlap, every block would take as many slots as its fullest row (at 90 % zeros a third more).
//
//   form      rows of a group   columns of a window   windows begin every   non-zeros of a row in a slot
//   kSlots64  16                64                    32 columns            4
//   kSlots16  8                 16                    8 columns             2
//
// Packed: uint32 starts[groups + 1], counted in slots; the slots, each its places (a byte each) and then its weights;
// uint16 windows[slots]. Each part begins at a multiple of 64 bytes.
//
// kDense has no slots: int8 weights[groups of 16][columns / 4][16 rows][4 columns].
//
// kMask64 is kDense without its zeros, for kernels that put them back on the way to a dense product. A mask has a bit
// for each of 64 weights as kDense has them one after the other, 16 rows of 4 columns, lowest bit first; a block of 64
// columns has 16 masks. Packed: uint32 starts[groups + 1], where the groups' non-zeros begin; uint64
// masks[groups][columns / 64][16]; int8 non-zeros, in the order of the masks' bits, nothing between them. Each part
// begins at a multiple of 64 bytes.
//
// kFloat has none either: float weights[groups of 16][columns][16 rows]. It is not packed here, and is multiplied with
// floats.

#pragma once

#include <cstddef>
#include <cstdint>

#include "engine.h"

namespace resparse {

constexpr size_t kAlignment = 64;
constexpr uint32_t kLanes = 16;         // rows are padded to a multiple of these
constexpr uint32_t kColumnPad = 64;     // rows of inputs are readable up to a multiple of these
constexpr uint32_t kMaxSide = 1 << 19;  // of a matrix: its windows can be counted in 16 bits
constexpr uint32_t kBlock = 64;         // columns of a block of kMask64
constexpr uint32_t kBlockMasks = 16;    // of 64 weights each

constexpr size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

struct Shape {
  uint32_t group_rows, window, step, per_slot;
  constexpr uint32_t slot_bytes() const { return 2 * group_rows * per_slot; }
};

constexpr Shape shape_of(uint32_t form) {
  return form == kSlots64 ? Shape{16, 64, 32, 4} : form == kSlots16 ? Shape{8, 16, 8, 2} : Shape{16, 4, 4, 4};
}

// Blocks of kMask64 side by side.
constexpr uint32_t blocks_of(uint32_t columns) { return (columns + kBlock - 1) / kBlock; }

// A packed matrix, taken apart; points into memory that is somebody else's.
struct Packed {
  uint32_t form = 0, rows = 0, columns = 0, groups = 0;
  const uint32_t* starts = nullptr;
  const uint16_t* windows = nullptr;
  const uint64_t* masks = nullptr;
  const uint8_t* data = nullptr;  // slots, non-zeros, or all weights
};

// Bytes of a packed matrix, without packing it.
size_t packed_size(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns);

// Pack into memory of packed_size() bytes.
void pack(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out);

// Take a packed matrix apart. Throws Error where the kernels would read outside of it.
Packed view(uint32_t form, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns);

// The same for a matrix of the form kFloat.
Packed view_floats(const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns);

}  // namespace resparse
