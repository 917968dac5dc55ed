// Kernels in plain C++: for processors that have no others, and the reference of the tests.

#include "kernels/kernels.h"

namespace resparse {
namespace portable {

// The tests build this file with other widths, which other instruction sets may have.
#ifdef RESPARSE_PORTABLE_LANES
constexpr uint32_t kVectorLanes = RESPARSE_PORTABLE_LANES;
#else
constexpr uint32_t kVectorLanes = 16;
#endif
constexpr int32_t kInputFlip = 0;

#include "kernels/vector_math.inl"

RESPARSE_INLINE Floats lookup(const float (&table)[GeluTable::kSegments], Ints index) {
  Floats values;
  for (uint32_t lane = 0; lane < kVectorLanes; ++lane) values[lane] = table[index[lane] & (GeluTable::kSegments - 1)];
  return values;
}

constexpr uint32_t kAccumulators = 4;

struct Accumulator {
  using Weights = const uint8_t*;
  int32_t sums[kPanelRows];

  static Weights read(const uint8_t* quad) { return quad; }
  void begin(const int32_t* offsets) {
    for (uint32_t lane = 0; lane < kPanelRows; ++lane) sums[lane] = offsets == nullptr ? 0 : offsets[lane];
  }
  void add(const uint8_t* inputs, Weights weights) {
    for (uint32_t lane = 0; lane < kPanelRows; ++lane)
      for (uint32_t i = 0; i < 4; ++i)
        sums[lane] += int32_t{inputs[i]} * int32_t{static_cast<int8_t>(weights[lane * 4 + i])};
  }
  void store(int32_t* to) const { std::memcpy(to, sums, sizeof sums); }
};

#include "kernels/encoder_kernels.inl"

void add_slots(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
               Sums& sums) {
  const SlotShape shape = slot_shape(weights.format);
  const uint32_t lanes = shape.group_rows * shape.per_slot;
  for (uint32_t part = 0; part < kPanelRows / shape.group_rows; ++part) {
    const uint32_t at = panel * (kPanelRows / shape.group_rows) + part;
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

void add_masks(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
               Sums& sums) {
  const uint32_t quads = blocks_of(weights.columns) * kBlockMasks;
  const uint64_t* const masks = weights.masks + size_t{panel} * quads;
  const uint8_t* non_zero = weights.data + weights.starts[panel];
  for (uint32_t quad = 0; quad < quads; ++quad)
    for (uint32_t bit = 0; bit < 64; ++bit) {
      if ((masks[quad] >> bit & 1) == 0) continue;
      const int32_t weight = static_cast<int8_t>(*non_zero++);
      for (uint32_t token = 0; token < tokens; ++token)
        sums.values[token][bit / 4] += weight * int32_t{x[token * stride + quad * 4 + bit % 4]};
    }
}

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  if (weights.format == kDense) return multiply_dense(weights, panel, x, stride, tokens, offsets, sums);
  for (uint32_t token = 0; token < tokens; ++token)
    for (uint32_t lane = 0; lane < kPanelRows; ++lane)
      sums.values[token][lane] = offsets == nullptr ? 0 : offsets[lane];
  (weights.format == kMask64 ? add_masks : add_slots)(weights, panel, x, stride, tokens, sums);
}

}  // namespace portable

extern const Kernels kPortableKernels;
constexpr Kernels kPortableKernels = portable::table();

}  // namespace resparse
