// AMX's tile registers, modelled: what tiles.h has as instructions, for processors without them.
//
// After Intel's Architecture Instruction Set Extensions Programming Reference, chapter on AMX, and the pages of the
// instructions. What raises an exception on a processor ends the program here.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace resparse {
namespace tiles {

constexpr int kRegisters = 8, kMostRows = 16, kMostBytes = 64;

struct Registers {
  bool is_configured = false;
  TileShapes shapes;
  uint8_t bytes[kRegisters][kMostRows][kMostBytes];
};

// Every thread has its own.
inline Registers& registers() {
  static thread_local Registers all;
  return all;
}

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "emulated tiles: %s\n", what);
  std::abort();
}

inline bool is_zero(const void* memory, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(memory);
  for (size_t i = 0; i < size; ++i)
    if (bytes[i] != 0) return false;
  return true;
}

inline void configure(const TileShapes& shapes) {
  Registers& all = registers();
  require(reinterpret_cast<uintptr_t>(&shapes) % alignof(TileShapes) == 0, "shapes that are not aligned");
  require(shapes.palette == 1 && shapes.start_row == 0, "another palette, or a row to start from");
  require(is_zero(shapes.reserved, sizeof shapes.reserved), "reserved bytes that are not zero");
  require(is_zero(shapes.row_bytes + kRegisters, sizeof(uint16_t) * (16 - kRegisters)), "shapes of tiles beyond 7");
  require(is_zero(shapes.rows + kRegisters, 16 - kRegisters), "shapes of tiles beyond 7");
  for (int i = 0; i < kRegisters; ++i) {
    require(shapes.rows[i] <= kMostRows && shapes.row_bytes[i] <= kMostBytes, "a tile too large");
    require((shapes.rows[i] == 0) == (shapes.row_bytes[i] == 0), "a tile with one side only");
  }
  all.shapes = shapes;
  all.is_configured = true;
  std::memset(all.bytes, 0, sizeof all.bytes);
}

inline void release() {
  registers().is_configured = false;
  std::memset(registers().bytes, 0, sizeof registers().bytes);
}

inline Registers& usable(int tile) {
  Registers& all = registers();
  require(all.is_configured, "used before they are configured");
  require(tile >= 0 && tile < kRegisters && all.shapes.rows[tile] != 0, "a tile without a shape");
  return all;
}

template <int kTo>
void zero() {
  std::memset(usable(kTo).bytes[kTo], 0, kMostRows * kMostBytes);
}

// Rows and bytes beyond the tile's shape become zero.
template <int kTo>
void load(const void* from, size_t stride) {
  Registers& all = usable(kTo);
  zero<kTo>();
  for (int row = 0; row < all.shapes.rows[kTo]; ++row)
    std::memcpy(all.bytes[kTo][row], static_cast<const uint8_t*>(from) + row * stride, all.shapes.row_bytes[kTo]);
}

template <int kFrom>
void store(void* to, size_t stride) {
  const Registers& all = usable(kFrom);
  for (int row = 0; row < all.shapes.rows[kFrom]; ++row)
    std::memcpy(static_cast<uint8_t*>(to) + row * stride, all.bytes[kFrom][row], all.shapes.row_bytes[kFrom]);
}

// TDPBUSD.
template <int kSums, int kInputs, int kWeights>
void add_products() {
  static_assert(kSums != kInputs && kSums != kWeights && kInputs != kWeights, "three tiles");
  usable(kSums), usable(kInputs);
  Registers& all = usable(kWeights);
  const TileShapes& shapes = all.shapes;
  require(shapes.rows[kSums] == shapes.rows[kInputs], "sums and inputs of other rows");
  require(shapes.row_bytes[kSums] == shapes.row_bytes[kWeights], "sums and weights of other columns");
  require(shapes.row_bytes[kInputs] == 4 * shapes.rows[kWeights], "inputs that the weights do not match");
  require(shapes.row_bytes[kSums] % 4 == 0, "parts of numbers");
  for (int row = 0; row < kMostRows; ++row) {
    if (row >= shapes.rows[kSums]) {
      std::memset(all.bytes[kSums][row], 0, kMostBytes);
      continue;
    }
    for (int quad = 0; quad < shapes.row_bytes[kInputs] / 4; ++quad)
      for (int column = 0; column < shapes.row_bytes[kSums] / 4; ++column) {
        uint32_t sum;  // wraps around
        std::memcpy(&sum, &all.bytes[kSums][row][4 * column], sizeof sum);
        for (int i = 0; i < 4; ++i)
          sum += static_cast<uint32_t>(int32_t{all.bytes[kInputs][row][4 * quad + i]} *
                                       static_cast<int8_t>(all.bytes[kWeights][quad][4 * column + i]));
        std::memcpy(&all.bytes[kSums][row][4 * column], &sum, sizeof sum);
      }
  }
}

}  // namespace tiles
}  // namespace resparse
