#include "pack.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"

namespace resparse {
namespace {

struct Layout {
  Shape shape;
  uint32_t groups, blocks;
  size_t counts_at, slots_at;
};

Layout layout_of(uint32_t form, uint32_t rows, uint32_t columns) {
  if (form != kDense && form != kSlots64 && form != kSlots16)
    throw Error("no such form of weights: " + std::to_string(form));
  if (rows == 0 || columns == 0 || rows > kMaxSide || columns > kMaxSide)
    throw Error("a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) + " cannot be packed");
  Layout layout{};
  layout.shape = shape_of(form);
  // Rows are padded to whole vectors, whatever the group.
  layout.groups = static_cast<uint32_t>(round_up(rows, kLanes)) / layout.shape.group_rows;
  layout.blocks = (columns + layout.shape.block_columns - 1) / layout.shape.block_columns;
  if (form != kDense) {
    layout.counts_at = round_up(sizeof(uint32_t) * (layout.groups + 1), kAlignment);
    layout.slots_at = layout.counts_at + round_up(size_t{layout.groups} * layout.blocks, kAlignment);
  }
  return layout;
}

uint32_t non_zeros(const int8_t* weights, uint32_t count) {
  return static_cast<uint32_t>(count - std::count(weights, weights + count, 0));
}

// Slots that a group needs for each of its blocks.
std::vector<uint8_t> count_slots(const Layout& layout, const int8_t* weights, uint32_t rows, uint32_t columns) {
  const Shape& shape = layout.shape;
  std::vector<uint8_t> counts(size_t{layout.groups} * layout.blocks, 0);
  for (uint32_t row = 0; row < rows; ++row) {
    uint8_t* of_group = counts.data() + size_t{row / shape.group_rows} * layout.blocks;
    for (uint32_t block = 0; block < layout.blocks; ++block) {
      const uint32_t column = block * shape.block_columns;
      const uint32_t found =
          non_zeros(weights + size_t{row} * columns + column, std::min(shape.block_columns, columns - column));
      const auto slots = static_cast<uint8_t>((found + shape.per_slot - 1) / shape.per_slot);
      of_group[block] = std::max(of_group[block], slots);
    }
  }
  return counts;
}

void fill_block(const Layout& layout, const int8_t* weights, uint32_t rows, uint32_t columns, uint32_t group,
                uint32_t block, uint8_t* slots) {
  const Shape& shape = layout.shape;
  const uint32_t lanes = shape.group_rows * shape.per_slot;
  const uint32_t column = block * shape.block_columns;
  const uint32_t width = std::min(shape.block_columns, columns - column);
  for (uint32_t lane = 0; lane < shape.group_rows; ++lane) {
    const uint32_t row = group * shape.group_rows + lane;
    if (row >= rows) break;
    const int8_t* values = weights + size_t{row} * columns + column;
    uint32_t found = 0;
    for (uint32_t place = 0; place < width; ++place) {
      if (values[place] == 0) continue;
      uint8_t* slot = slots + size_t{found / shape.per_slot} * shape.slot_bytes();
      const uint32_t at = lane * shape.per_slot + found % shape.per_slot;
      slot[at] = static_cast<uint8_t>(place);
      std::memcpy(slot + lanes + at, values + place, 1);
      ++found;
    }
  }
}

void pack_dense(const Layout& layout, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  for (uint32_t row = 0; row < rows; ++row) {
    uint8_t* group = out + size_t{row / kLanes} * layout.blocks * kLanes * 4;
    for (uint32_t column = 0; column < columns; ++column)
      std::memcpy(group + (size_t{column / 4} * kLanes + row % kLanes) * 4 + column % 4,
                  weights + size_t{row} * columns + column, 1);
  }
}

}  // namespace

size_t packed_size(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns) {
  const Layout layout = layout_of(form, rows, columns);
  if (form == kDense) return size_t{layout.groups} * layout.blocks * kLanes * 4;
  size_t slots = 0;
  for (const uint8_t count : count_slots(layout, weights, rows, columns)) slots += count;
  return layout.slots_at + round_up(slots * layout.shape.slot_bytes(), kAlignment);
}

void pack(uint32_t form, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  const Layout layout = layout_of(form, rows, columns);
  std::memset(out, 0, packed_size(form, weights, rows, columns));
  if (form == kDense) return pack_dense(layout, weights, rows, columns, out);
  const std::vector<uint8_t> counts = count_slots(layout, weights, rows, columns);
  std::copy(counts.begin(), counts.end(), out + layout.counts_at);
  uint32_t slot = 0;
  for (uint32_t group = 0; group < layout.groups; ++group) {
    std::memcpy(out + sizeof(uint32_t) * group, &slot, sizeof slot);
    for (uint32_t block = 0; block < layout.blocks; ++block) {
      fill_block(layout, weights, rows, columns, group, block,
                 out + layout.slots_at + size_t{slot} * layout.shape.slot_bytes());
      slot += counts[size_t{group} * layout.blocks + block];
    }
  }
  std::memcpy(out + sizeof(uint32_t) * layout.groups, &slot, sizeof slot);
}

Packed view(uint32_t form, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns) {
  const Layout layout = layout_of(form, rows, columns);
  Packed result{form, rows, columns, layout.groups, layout.blocks, nullptr, nullptr, packed};
  if (form == kDense) {
    if (size < size_t{layout.groups} * layout.blocks * kLanes * 4) throw Error("packed weights are cut short");
    return result;
  }
  if (size < layout.slots_at) throw Error("packed weights are cut short");
  result.starts = reinterpret_cast<const uint32_t*>(packed);
  result.counts = packed + layout.counts_at;
  result.data = packed + layout.slots_at;
  const size_t most = (size - layout.slots_at) / layout.shape.slot_bytes();
  size_t slot = 0;
  for (uint32_t group = 0; group < layout.groups; ++group) {
    if (result.starts[group] != slot) throw Error("packed weights are damaged");
    for (uint32_t block = 0; block < layout.blocks; ++block)
      slot += result.counts[size_t{group} * layout.blocks + block];
  }
  if (result.starts[layout.groups] != slot || slot > most) throw Error("packed weights are damaged");
  return result;
}

}  // namespace resparse
