// Kernels in plain C++: for processors without better, and as the reference of the tests.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "gelu.h"
#include "kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace resparse {
namespace portable {

#include "vectors.inl"

RESPARSE_INLINE Floats picked(const float (&table)[kLanes], Ints index) {
  Floats values;
  for (uint32_t lane = 0; lane < kLanes; ++lane) values[lane] = table[index[lane] & (kLanes - 1)];
  return values;
}

constexpr uint32_t kRowsAtOnce = 4;

struct Lanes {
  using Weights = const uint8_t*;
  int32_t sums[kLanes];

  static Weights read(const uint8_t* from) { return from; }
  void begin(const int32_t* offsets) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) sums[lane] = offsets == nullptr ? 0 : offsets[lane];
  }
  void add(const uint8_t* quad, Weights weights) {
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      for (uint32_t i = 0; i < 4; ++i)
        sums[lane] += int32_t{quad[i]} * int32_t{static_cast<int8_t>(weights[lane * 4 + i])};
  }
  void store(int32_t* to) const { std::memcpy(to, sums, sizeof sums); }
};

#include "body.inl"

void add_slots(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens, Sums& sums) {
  const Shape shape = shape_of(weights.form);
  const uint32_t lanes = shape.group_rows * shape.per_slot;
  for (uint32_t part = 0; part < kLanes / shape.group_rows; ++part) {
    const uint32_t at = group * (kLanes / shape.group_rows) + part;
    const uint8_t* slot = weights.data + size_t{weights.starts[at]} * shape.slot_bytes();
    for (uint32_t j = weights.starts[at]; j < weights.starts[at + 1]; ++j, slot += shape.slot_bytes())
      for (uint32_t i = 0; i < lanes; ++i) {
        const int32_t weight = static_cast<int8_t>(slot[lanes + i]);
        const size_t column = size_t{weights.windows[j]} * shape.step + slot[i] % shape.window;
        for (uint32_t token = 0; token < tokens; ++token)
          sums.values[token][part * shape.group_rows + i / shape.per_slot] +=
              weight * int32_t{x[token * stride + column]};
      }
  }
}

void add_masks(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens, Sums& sums) {
  const uint32_t quads = blocks_of(weights.columns) * kBlockMasks;
  const uint64_t* const masks = weights.masks + size_t{group} * quads;
  const uint8_t* non_zero = weights.data + weights.starts[group];
  for (uint32_t quad = 0; quad < quads; ++quad)
    for (uint32_t bit = 0; bit < 64; ++bit) {
      if ((masks[quad] >> bit & 1) == 0) continue;
      const int32_t weight = static_cast<int8_t>(*non_zero++);
      for (uint32_t token = 0; token < tokens; ++token)
        sums.values[token][bit / 4] += weight * int32_t{x[token * stride + quad * 4 + bit % 4]};
    }
}

void multiply(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  if (weights.form == kDense) return multiply_dense(weights, group, x, stride, tokens, offsets, sums);
  for (uint32_t token = 0; token < tokens; ++token)
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      sums.values[token][lane] = offsets == nullptr ? 0 : offsets[lane];
  (weights.form == kMask64 ? add_masks : add_slots)(weights, group, x, stride, tokens, sums);
}

}  // namespace portable

extern const Kernels kPortableKernels;
constexpr Kernels kPortableKernels = portable::table(kPortable);

}  // namespace resparse
