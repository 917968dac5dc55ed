// The storage formats of weight matrices: packing, and views of packed matrices that the kernels read.
//
// Rows are packed in panels of 16, whatever the width of the processor's registers. Every format of integer weights
// begins with int32 row_sums[padded rows], the sum of each row's weights, from which zero points of inputs are
// corrected; kernels that multiply signed with signed bytes (ARM without mixed-sign products) need them, too.
//
// kDense: int8 weights[panels][columns / 4][16 rows][4 columns]. kDenseOctets, for products of small matrices (ARM's
// i8mm): int8 weights[panels][columns / 8][16 rows][8 columns], columns padded to a multiple of 16.
//
// kSlots64, kSlots32: a slot holds, for every row of a group, a few non-zeros that lie in the same window of columns:
// their positions in the window, by which the input's bytes are permuted into the rows' lanes, then their values. Rows
// with fewer non-zeros left are filled with zero weights. Windows overlap, so that a row with few non-zeros in a window
// can go on while the others catch up; without overlap every window would take as many slots as its fullest row (at 90
// % zeros a third more).
//
//   format    rows of a group   columns of a window   windows begin every   non-zeros of a row in a slot
//   kSlots64  16                64                    32 columns            4
//   kSlots32  8                 32                    8 columns             4
//
// uint32 starts[groups + 1], counted in slots; the slots, each its positions (a byte each) and then its weights;
// uint16 windows[slots].
//
// kMask64: kDense without its zeros, for kernels that expand it to dense tiles. A mask has a bit for each of 64
// consecutive weights of kDense (16 rows of 4 columns), lowest bit first; a block of 64 columns has 16 masks.
// uint32 starts[panels + 1], where the panels' non-zeros begin; uint64 masks[panels][columns / 64][16]; int8 non-zeros,
// in the order of the masks' bits.
//
// kCsr4: see csr4.h.
//
// kFloat, kSparseFloat: multiplied with float inputs, packed by Python, without row sums. kFloat: float
// weights[panels][columns][16 rows]. kSparseFloat: uint32 starts[padded rows + 1], counted in non-zeros; the non-zeros,
// row by row, each a uint32 column and a float weight. kBfloat16: uint16 weights[panels][pairs of columns][16 rows][2].
//
// Each part begins at a multiple of 64 bytes.

#pragma once

#include <cstddef>
#include <cstdint>

#include "common.h"
#include "engine.h"

namespace resparse {

constexpr uint32_t kPanelRows = 16;     // rows of a panel; numbers of rows are padded to multiples of it
constexpr uint32_t kColumnPad = 64;     // inputs are readable up to a multiple of these columns
constexpr uint32_t kMaxSide = 1 << 19;  // of a matrix, so that its windows can be counted in 16 bits
constexpr uint32_t kBlock = 64;         // columns of a block of kMask64
constexpr uint32_t kBlockMasks = 16;    // of 64 weights each

struct SlotShape {
  uint32_t group_rows, window, step, per_slot;
  constexpr uint32_t slot_bytes() const { return 2 * group_rows * per_slot; }
};

constexpr SlotShape slot_shape(uint32_t format) {
  return format == kSlots32 ? SlotShape{8, 32, 8, 4} : SlotShape{16, 64, 32, 4};
}

// Of a format of all weights: how many columns of a row are adjacent, and of what the columns are padded to a multiple.
struct DenseShape {
  uint32_t adjacent, multiple;
};

constexpr DenseShape dense_shape(uint32_t format) {
  return format == kDenseOctets ? DenseShape{8, 16} : DenseShape{4, 4};
}

constexpr bool is_dense(uint32_t format) { return format == kDense || format == kDenseOctets; }

constexpr uint32_t panels_of(uint32_t rows) { return divide_up(rows, kPanelRows); }
constexpr uint32_t blocks_of(uint32_t columns) { return divide_up(columns, kBlock); }

// A non-zero of kSparseFloat.
struct SparseFloat {
  uint32_t column;
  float weight;
};

// Pointers into the memory of a packed matrix.
struct PackedMatrix {
  uint32_t format = 0, rows = 0, columns = 0;
  const int32_t* row_sums = nullptr;  // [padded rows]
  const uint32_t* starts = nullptr;
  const uint16_t* windows = nullptr;
  const uint64_t* masks = nullptr;
  const uint8_t* pair_rows = nullptr;
  const uint8_t* data = nullptr;  // slots, non-zeros, steps, or all weights
};

// Size in bytes of a packed matrix, without packing it.
size_t packed_size(uint32_t format, const int8_t* weights, uint32_t rows, uint32_t columns);

// Pack into memory of packed_size() bytes.
void pack(uint32_t format, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out);

// Throws Error where the kernels would read outside of the packed matrix.
PackedMatrix view(uint32_t format, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns);

constexpr bool is_float(uint32_t format) {
  return format == kFloat || format == kSparseFloat || format == kBfloat16;
}

// The same for the formats in float.
PackedMatrix view_floats(uint32_t format, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns);

}  // namespace resparse
