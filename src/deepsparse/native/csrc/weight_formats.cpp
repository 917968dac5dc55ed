#include "weight_formats.h"

#include <algorithm>
#include <bitset>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "csr4.h"
#include "kernels/bfloats.h"

namespace resparse {
namespace {

void check_sides(uint32_t rows, uint32_t columns) {
  if (rows == 0 || columns == 0 || rows > kMaxSide || columns > kMaxSide)
    throw Error("a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) + " cannot be packed");
}

void check(uint32_t format, uint32_t rows, uint32_t columns) {
  if (!is_dense(format) && format != kSlots64 && format != kSlots32 && format != kMask64 && format != kCsr4)
    throw Error("no such form of weights: " + std::to_string(format));
  check_sides(rows, columns);
}

// --- row sums ---

size_t row_sums_size(uint32_t rows) { return sizeof(int32_t) * round_up(rows, kPanelRows); }

void write_row_sums(const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  std::memset(out, 0, row_sums_size(rows));
  for (uint32_t row = 0; row < rows; ++row, weights += columns)
    reinterpret_cast<int32_t*>(out)[row] = std::accumulate(weights, weights + columns, int32_t{0});
}

// --- dense ---

size_t dense_size(const DenseShape& shape, uint32_t rows, uint32_t columns) {
  return round_up(rows, kPanelRows) * round_up(columns, shape.multiple);
}

void pack_dense(const DenseShape& shape, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  const uint32_t adjacent = shape.adjacent;
  std::memset(out, 0, dense_size(shape, rows, columns));
  for (uint32_t row = 0; row < rows; ++row) {
    uint8_t* const panel = out + dense_size(shape, row / kPanelRows * kPanelRows, columns);
    for (uint32_t column = 0; column < columns; ++column)
      std::memcpy(panel + (size_t{column / adjacent} * kPanelRows + row % kPanelRows) * adjacent + column % adjacent,
                  weights + size_t{row} * columns + column, 1);
  }
}

// --- slots ---

// Rows are padded to whole panels, whatever the size of a group.
uint32_t groups_of(const SlotShape& shape, uint32_t rows) {
  return static_cast<uint32_t>(round_up(rows, kPanelRows)) / shape.group_rows;
}

// Where the parts of a matrix in slots begin.
struct SlotLayout {
  size_t slots, windows, size;

  SlotLayout(const SlotShape& shape, uint32_t groups, size_t slot_count)
      : slots(round_up(sizeof(uint32_t) * (size_t{groups} + 1), kAlignment)),
        windows(slots + round_up(slot_count * shape.slot_bytes(), kAlignment)),
        size(windows + round_up(sizeof(uint16_t) * slot_count, kAlignment)) {}
};

// The last window that lies within the columns up to which inputs are readable.
uint32_t last_window(const SlotShape& shape, uint32_t columns) {
  return (static_cast<uint32_t>(round_up(columns, kColumnPad)) - shape.window) / shape.step;
}

// The rows of a group, whose non-zeros are consumed from left to right.
class Group {
 public:
  Group(const SlotShape& shape, const int8_t* weights, uint32_t rows, uint32_t columns, uint32_t group)
      : shape_(shape), last_(last_window(shape, columns)) {
    const uint32_t first = group * shape.group_rows, end = std::min(first + shape.group_rows, rows);
    rows_.reserve(shape.group_rows);
    for (uint32_t row = first; row < end; ++row) rows_.emplace_back(weights + size_t{row} * columns, columns);
  }

  // The window of the next slot: the leftmost that is needed; none when all non-zeros are consumed.
  std::optional<uint32_t> window() const {
    uint32_t column = kNoColumn;
    for (const Row& row : rows_) column = std::min(column, *row.next);
    if (column == kNoColumn) return std::nullopt;
    return std::min(column / shape_.step, last_);
  }

  // Consume every row's next non-zeros in that window: take(lane, position in the window, weight).
  template <typename Take>
  void take(uint32_t window, const Take& take) {
    const uint32_t start = window * shape_.step, end = start + shape_.window;
    for (uint32_t row = 0; row < rows_.size(); ++row)
      for (uint32_t i = 0; i < shape_.per_slot && *rows_[row].next < end; ++i, ++rows_[row].next)
        take(row * shape_.per_slot + i, *rows_[row].next - start, rows_[row].weights[*rows_[row].next]);
  }

 private:
  static constexpr uint32_t kNoColumn = ~0u;

  struct Row {
    const int8_t* weights;
    std::vector<uint32_t> columns;  // of the non-zeros, then kNoColumn
    const uint32_t* next;

    Row(const int8_t* weights, uint32_t width) : weights(weights), columns(width + 1) {
      size_t count = 0;
      for (uint32_t column = 0; column < width; ++column) {
        columns[count] = column;
        count += weights[column] != 0;
      }
      columns[count] = kNoColumn;
      next = columns.data();
    }
  };

  SlotShape shape_;
  uint32_t last_;
  std::vector<Row> rows_;
};

size_t count_slots(const SlotShape& shape, const int8_t* weights, uint32_t rows, uint32_t columns) {
  size_t count = 0;
  for (uint32_t i = 0; i < groups_of(shape, rows); ++i) {
    Group group(shape, weights, rows, columns, i);
    for (auto window = group.window(); window; window = group.window(), ++count)
      group.take(*window, [](uint32_t, uint32_t, int8_t) {});
  }
  return count;
}

void pack_slots(const SlotShape& shape, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  const uint32_t lanes = shape.group_rows * shape.per_slot, groups = groups_of(shape, rows);
  auto* const starts = reinterpret_cast<uint32_t*>(out);
  uint8_t* slot = out + SlotLayout(shape, groups, 0).slots;
  std::vector<uint16_t> windows;
  std::memset(out, 0, slot - out);
  for (uint32_t i = 0; i < groups; ++i) {
    Group group(shape, weights, rows, columns, i);
    for (auto window = group.window(); window; window = group.window(), slot += shape.slot_bytes()) {
      std::memset(slot, 0, shape.slot_bytes());
      group.take(*window, [&](uint32_t lane, uint32_t position, int8_t weight) {
        slot[lane] = static_cast<uint8_t>(position);
        slot[lanes + lane] = static_cast<uint8_t>(weight);
      });
      windows.push_back(static_cast<uint16_t>(*window));
    }
    starts[i + 1] = static_cast<uint32_t>(windows.size());
  }
  const SlotLayout layout(shape, groups, windows.size());
  std::memset(slot, 0, out + layout.size - slot);
  std::copy(windows.begin(), windows.end(), reinterpret_cast<uint16_t*>(out + layout.windows));
}

void view_slots(const uint8_t* packed, size_t size, PackedMatrix& result) {
  const SlotShape shape = slot_shape(result.format);
  const uint32_t groups = groups_of(shape, result.rows);
  if (size < SlotLayout(shape, groups, 0).size) throw Error("packed weights are cut short");
  result.starts = reinterpret_cast<const uint32_t*>(packed);
  if (!std::is_sorted(result.starts, result.starts + groups + 1)) throw Error("packed weights are damaged");
  const size_t slots = result.starts[groups];
  const SlotLayout layout(shape, groups, slots);
  if (result.starts[0] != 0 || size < layout.size) throw Error("packed weights are damaged");
  result.windows = reinterpret_cast<const uint16_t*>(packed + layout.windows);
  result.data = packed + layout.slots;
  const uint32_t last = last_window(shape, result.columns);
  for (size_t slot = 0; slot < slots; ++slot)
    if (result.windows[slot] > last) throw Error("packed weights are damaged");
}

// --- masks ---

// Where the parts of a matrix in masks begin.
struct MaskLayout {
  size_t masks, non_zeros;

  MaskLayout(uint32_t panels, uint32_t columns)
      : masks(round_up(sizeof(uint32_t) * (size_t{panels} + 1), kAlignment)),
        non_zeros(masks + sizeof(uint64_t) * kBlockMasks * blocks_of(columns) * panels) {}
  size_t size(size_t count) const { return round_up(non_zeros + count, kAlignment); }
};

size_t masks_size(const int8_t* weights, uint32_t rows, uint32_t columns) {
  const size_t all = size_t{rows} * columns;
  const size_t count = all - static_cast<size_t>(std::count(weights, weights + all, 0));
  if (count > std::numeric_limits<uint32_t>::max()) throw Error("so many non-zeros cannot be packed");
  return MaskLayout(panels_of(rows), columns).size(count);
}

void pack_masks(const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  const uint32_t panels = panels_of(rows);
  const MaskLayout layout(panels, columns);
  std::memset(out, 0, layout.non_zeros);
  auto* const starts = reinterpret_cast<uint32_t*>(out);
  auto* mask = reinterpret_cast<uint64_t*>(out + layout.masks);
  uint8_t* const non_zeros = out + layout.non_zeros;
  size_t count = 0;
  for (uint32_t panel = 0; panel < panels; ++panel) {
    const uint32_t first = panel * kPanelRows, height = std::min(kPanelRows, rows - first);
    for (uint32_t column = 0; column < blocks_of(columns) * kBlock; column += 4, ++mask)
      for (uint32_t row = 0; row < height; ++row)
        for (uint32_t i = 0; i < 4 && column + i < columns; ++i)
          if (const int8_t weight = weights[size_t{first + row} * columns + column + i]) {
            *mask |= uint64_t{1} << (row * 4 + i);
            non_zeros[count++] = static_cast<uint8_t>(weight);
          }
    starts[panel + 1] = static_cast<uint32_t>(count);
  }
  std::memset(non_zeros + count, 0, layout.size(count) - layout.non_zeros - count);
}

// Kernels read as many non-zeros as the masks have bits, so both must agree.
void view_masks(const uint8_t* packed, size_t size, PackedMatrix& result) {
  const uint32_t panels = panels_of(result.rows);
  const MaskLayout layout(panels, result.columns);
  if (size < layout.non_zeros) throw Error("packed weights are cut short");
  result.starts = reinterpret_cast<const uint32_t*>(packed);
  result.masks = reinterpret_cast<const uint64_t*>(packed + layout.masks);
  result.data = packed + layout.non_zeros;
  const size_t masks = size_t{blocks_of(result.columns)} * kBlockMasks;
  size_t count = 0;
  bool is_whole = result.starts[0] == 0;
  for (uint32_t panel = 0; panel < panels; ++panel) {
    for (size_t i = 0; i < masks; ++i) count += std::bitset<64>(result.masks[panel * masks + i]).count();
    is_whole = is_whole && result.starts[panel + 1] == count;
  }
  if (!is_whole) throw Error("packed weights are damaged");
  if (size < layout.size(count)) throw Error("packed weights are cut short");
}

}  // namespace

size_t packed_size(uint32_t format, const int8_t* weights, uint32_t rows, uint32_t columns) {
  check(format, rows, columns);
  const size_t sums = row_sums_size(rows);
  if (is_dense(format)) return sums + dense_size(dense_shape(format), rows, columns);
  if (format == kMask64) return sums + masks_size(weights, rows, columns);
  if (format == kCsr4) return sums + csr4_size(weights, rows, columns);
  const SlotShape shape = slot_shape(format);
  return sums + SlotLayout(shape, groups_of(shape, rows), count_slots(shape, weights, rows, columns)).size;
}

void pack(uint32_t format, const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  check(format, rows, columns);
  write_row_sums(weights, rows, columns, out);
  out += row_sums_size(rows);
  if (is_dense(format))
    pack_dense(dense_shape(format), weights, rows, columns, out);
  else if (format == kMask64)
    pack_masks(weights, rows, columns, out);
  else if (format == kCsr4)
    pack_csr4(weights, rows, columns, out);
  else
    pack_slots(slot_shape(format), weights, rows, columns, out);
}

PackedMatrix view(uint32_t format, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns) {
  check(format, rows, columns);
  const size_t sums = row_sums_size(rows);
  if (size < sums) throw Error("packed weights are cut short");
  PackedMatrix result{format, rows, columns, reinterpret_cast<const int32_t*>(packed)};
  packed += sums;
  size -= sums;
  if (format == kMask64) {
    view_masks(packed, size, result);
  } else if (format == kCsr4) {
    view_csr4(packed, size, result);
  } else if (!is_dense(format)) {
    view_slots(packed, size, result);
  } else {
    if (size < dense_size(dense_shape(format), rows, columns)) throw Error("packed weights are cut short");
    result.data = packed;
  }
  return result;
}

PackedMatrix view_floats(uint32_t format, const uint8_t* packed, size_t size, uint32_t rows, uint32_t columns) {
  check_sides(rows, columns);
  PackedMatrix result{format, rows, columns};
  const size_t padded = round_up(rows, kPanelRows);
  if (format == kFloat) {
    if (size < sizeof(float) * padded * columns) throw Error("packed weights are cut short");
    result.data = packed;
    return result;
  }
  if (format == kBfloat16) {
    if (!has_bfloats()) throw Error("packed weights in a form that this processor does not multiply");
    if (size < sizeof(uint16_t) * padded * round_up(columns, 2)) throw Error("packed weights are cut short");
    result.data = packed;
    return result;
  }
  const size_t starts = round_up(sizeof(uint32_t) * (padded + 1), kAlignment);
  if (size < starts) throw Error("packed weights are cut short");
  result.starts = reinterpret_cast<const uint32_t*>(packed);
  result.data = packed + starts;
  const size_t count = result.starts[padded];
  if (result.starts[0] != 0 || !std::is_sorted(result.starts, result.starts + padded + 1))
    throw Error("packed weights are damaged");
  if ((size - starts) / sizeof(SparseFloat) < count) throw Error("packed weights are cut short");
  const auto* non_zeros = reinterpret_cast<const SparseFloat*>(result.data);
  if (std::any_of(non_zeros, non_zeros + count, [&](const SparseFloat& one) { return one.column >= columns; }))
    throw Error("packed weights are damaged");
  return result;
}

}  // namespace resparse
