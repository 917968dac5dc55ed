#include "csr4.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace resparse {
namespace {

struct NonZero {
  uint32_t column = 0;  // in the block
  int32_t weight = 0;
};

using Pair = std::array<NonZero, 2>;

// Whether the products of the weights with any two uint8 add up to an int16.
constexpr bool fits(int32_t a, int32_t b) {
  const int32_t most = std::max(a, 0) + std::max(b, 0), least = std::min(a, 0) + std::min(b, 0);
  return most * 255 <= std::numeric_limits<int16_t>::max() && least * 255 >= std::numeric_limits<int16_t>::min();
}
static_assert(fits(127, -128) && fits(64, 64) && fits(-128, 0) && !fits(65, 64) && !fits(-65, -64), "vpmaddubsw");

// Takes the `count` smallest non-zeros out of `all`, which stays in the order of columns; returns them by size.
std::vector<NonZero> take_smallest(std::vector<NonZero>& all, size_t count) {
  std::vector<NonZero> smallest(all);
  const auto is_smaller = [](const NonZero& a, const NonZero& b) {
    return std::pair(std::abs(a.weight), a.column) < std::pair(std::abs(b.weight), b.column);
  };
  const auto end = smallest.begin() + static_cast<std::ptrdiff_t>(count);
  if (end != smallest.end()) {
    std::nth_element(smallest.begin(), end, smallest.end(), is_smaller);
    const NonZero first_left = *end;
    all.erase(std::remove_if(all.begin(), all.end(), [&](const NonZero& one) { return is_smaller(one, first_left); }),
              all.end());
  } else {
    all.clear();
  }
  smallest.resize(count);
  std::sort(smallest.begin(), smallest.end(), is_smaller);
  return smallest;
}

// Pairs of weights that fit. Two of opposite signs always do; of those that are left over, all of one sign, a large one
// is paired with a small one, or stays alone. The smallest are left over, since most of them fit each other.
std::vector<Pair> paired(const int8_t* weights, uint32_t columns) {
  std::vector<NonZero> positive, negative;
  for (uint32_t column = 0; column < columns; ++column)
    if (weights[column] != 0) (weights[column] > 0 ? positive : negative).push_back({column, weights[column]});
  std::vector<NonZero>& more = positive.size() > negative.size() ? positive : negative;
  const std::vector<NonZero>& fewer = positive.size() > negative.size() ? negative : positive;
  const std::vector<NonZero> left = take_smallest(more, more.size() - fewer.size());
  std::vector<Pair> pairs;
  pairs.reserve(more.size() + left.size());
  for (size_t i = 0; i < fewer.size(); ++i) pairs.push_back({more[i], fewer[i]});
  for (size_t small = 0, end = left.size(); small < end; --end) {
    const NonZero& large = left[end - 1];
    const bool is_paired = small < end - 1 && fits(left[small].weight, large.weight);
    pairs.push_back({large, is_paired ? left[small] : NonZero{}});
    small += is_paired;
  }
  return pairs;
}

// The groups of a panel's rows in a block of columns.
class Block {
 public:
  Block(const int8_t* weights, uint32_t rows, uint32_t columns, uint32_t panel, uint32_t block) {
    const uint32_t width = csr4_block_columns(columns), first = block * width;
    for (uint32_t row = 0; row < kPanelRows && panel * kPanelRows + row < rows; ++row)
      pairs_[row] = paired(weights + size_t{panel * kPanelRows + row} * columns + first,
                           std::min(width, columns - first));
    std::iota(order_.begin(), order_.end(), uint8_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](uint8_t a, uint8_t b) { return groups(a) < groups(b); });
  }

  const std::array<uint8_t, kPanelRows>& order() const { return order_; }

  uint32_t steps(uint32_t pair) const { return groups(order_[2 * pair + 1]); }

  Csr4Step step(uint32_t pair, uint32_t index) const {
    Csr4Step result{};
    for (uint32_t of_pair = 0; of_pair < 2; ++of_pair) {
      const std::vector<Pair>& of_row = pairs_[order_[2 * pair + of_pair]];
      for (uint32_t i = 0; i < 4 && 2 * index + i / 2 < of_row.size(); ++i) {
        const NonZero& one = of_row[2 * index + i / 2][i % 2];
        result.offsets[of_pair][i] = static_cast<uint16_t>(one.column * kCsr4Tokens);
        result.weights[of_pair][i] = static_cast<int8_t>(one.weight);
      }
    }
    return result;
  }

 private:
  uint32_t groups(uint8_t row) const { return divide_up(static_cast<uint32_t>(pairs_[row].size()), 2); }

  std::array<std::vector<Pair>, kPanelRows> pairs_;
  std::array<uint8_t, kPanelRows> order_;
};

// Calls take(block) for every panel and block of columns.
template <typename Take>
void for_each_block(const int8_t* weights, uint32_t rows, uint32_t columns, const Take& take) {
  for (uint32_t panel = 0; panel < panels_of(rows); ++panel)
    for (uint32_t block = 0; block < csr4_blocks(columns); ++block) take(Block(weights, rows, columns, panel, block));
}

// Where the parts begin.
struct Layout {
  size_t pairs, rows, steps;

  Layout(uint32_t rows_of_matrix, uint32_t columns)
      : pairs(size_t{panels_of(rows_of_matrix)} * csr4_blocks(columns) * kCsr4Pairs),
        rows(round_up(sizeof(uint32_t) * (pairs + 1), kAlignment)),
        steps(rows + round_up(2 * pairs, kAlignment)) {}
  size_t size(size_t count) const { return round_up(steps + sizeof(Csr4Step) * count, kAlignment); }
};

}  // namespace

size_t csr4_size(const int8_t* weights, uint32_t rows, uint32_t columns) {
  size_t count = 0;
  for_each_block(weights, rows, columns, [&](const Block& block) {
    for (uint32_t pair = 0; pair < kCsr4Pairs; ++pair) count += block.steps(pair);
  });
  if (count > std::numeric_limits<uint32_t>::max()) throw Error("so many non-zeros cannot be packed");
  return Layout(rows, columns).size(count);
}

void pack_csr4(const int8_t* weights, uint32_t rows, uint32_t columns, uint8_t* out) {
  const Layout layout(rows, columns);
  std::memset(out, 0, layout.steps);
  auto* start = reinterpret_cast<uint32_t*>(out);
  uint8_t* row = out + layout.rows;
  auto* const steps = reinterpret_cast<Csr4Step*>(out + layout.steps);
  uint32_t count = 0;
  for_each_block(weights, rows, columns, [&](const Block& block) {
    row = std::copy(block.order().begin(), block.order().end(), row);
    for (uint32_t pair = 0; pair < kCsr4Pairs; ++pair) {
      for (uint32_t i = 0; i < block.steps(pair); ++i) steps[count++] = block.step(pair, i);
      *++start = count;
    }
  });
  auto* const end = reinterpret_cast<uint8_t*>(steps + count);
  std::memset(end, 0, static_cast<size_t>(out + layout.size(count) - end));
}

void view_csr4(const uint8_t* packed, size_t size, PackedMatrix& result) {
  const Layout layout(result.rows, result.columns);
  if (size < layout.steps) throw Error("packed weights are cut short");
  result.starts = reinterpret_cast<const uint32_t*>(packed);
  result.pair_rows = packed + layout.rows;
  result.data = packed + layout.steps;
  const size_t count = result.starts[layout.pairs];
  const auto has_row = [](uint8_t row) { return row < kPanelRows; };
  if (result.starts[0] != 0 || !std::is_sorted(result.starts, result.starts + layout.pairs + 1) ||
      !std::all_of(result.pair_rows, result.pair_rows + 2 * layout.pairs, has_row))
    throw Error("packed weights are damaged");
  if (size < layout.size(count)) throw Error("packed weights are cut short");
  const auto* const steps = reinterpret_cast<const Csr4Step*>(result.data);
  uint16_t most = 0, bits = 0;
  for (size_t i = 0; i < count; ++i)
    for (const auto& offsets : steps[i].offsets)
      for (const uint16_t offset : offsets) {
        most = std::max(most, offset);
        bits |= offset;
      }
  if (most / kCsr4Tokens >= csr4_block_columns(result.columns) || bits % kCsr4Tokens != 0)
    throw Error("packed weights are damaged");
}

}  // namespace resparse
