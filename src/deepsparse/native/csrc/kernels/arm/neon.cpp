// Kernels for the instructions that every 64-bit ARM processor has.
//
// Products of signed bytes have 16 bits, and are added in pairs to 32 bits. Two of them cannot be added in 16 bits
// before, since -128 * -128 twice is one too much.

#include "instruction_sets.h"

#ifdef RESPARSE_ARM

#include <arm_neon.h>

namespace resparse {
namespace neon {

constexpr int32_t kInputFlip = 0x80;

constexpr uint32_t kAccumulators = 2;

// Two sums for each row.
struct FourSums {
  int32x4_t low, high;

  void begin(int32x4_t from) {
    low = vzip1q_s32(from, vdupq_n_s32(0));
    high = vzip2q_s32(from, vdupq_n_s32(0));
  }
  void add(uint8x16_t inputs, int8x16_t weights) {
    const int8x16_t flipped = vreinterpretq_s8_u8(inputs);
    add_pairs(low, vmull_s8(vget_low_s8(flipped), vget_low_s8(weights)));
    add_pairs(high, vmull_high_s8(flipped, weights));
  }
  template <int kQuad>
  void add(uint8x16_t inputs, int8x16_t weights) {
    add(vreinterpretq_u8_u32(vdupq_laneq_u32(vreinterpretq_u32_u8(inputs), kQuad)), weights);
  }
  int32x4_t total() const { return vpaddq_s32(low, high); }

 private:
  // In assembly, as in dotprod.cpp.
  static void add_pairs(int32x4_t& sums, int16x8_t pairs) {
    asm volatile("sadalp %0.4s, %1.8h" : "+w"(sums) : "w"(pairs));
  }
};

#include "kernels/arm/neon_common.inl"

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  (weights.format == kDense ? multiply_dense : multiply_slots)(weights, panel, x, stride, tokens,
                                                              Offsets(weights, panel, offsets).values, sums);
}

}  // namespace neon

extern const Kernels kNeonKernels;
constexpr Kernels kNeonKernels = neon::table();

}  // namespace resparse

#endif
