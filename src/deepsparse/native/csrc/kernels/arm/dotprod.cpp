// Kernels for ARM's dot product of signed bytes (FEAT_DotProd): Cortex-A76, Neoverse N1, Apple M1.

#include "instruction_sets.h"

#ifdef RESPARSE_ARM_DOT

#define RESPARSE_TARGET "arch=armv8.2-a+dotprod"
#include "kernels/target_begin.inl"

#include <arm_neon.h>

namespace resparse {
namespace dotprod {

constexpr int32_t kInputFlip = 0x80;

constexpr uint32_t kAccumulators = 4;

// With intrinsics, GCC copies sums before it adds to them, and reorders products until inputs do not fit the registers.
struct FourSums {
  int32x4_t sums;

  void begin(int32x4_t from) { sums = from; }
  void add(uint8x16_t inputs, int8x16_t weights) {
    asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(sums) : "w"(weights), "w"(inputs));
  }
  template <int kQuad>
  void add(uint8x16_t inputs, int8x16_t weights) {
    asm volatile("sdot %0.4s, %1.16b, %2.4b[%c3]" : "+w"(sums) : "w"(weights), "w"(inputs), "i"(kQuad));
  }
  int32x4_t total() const { return sums; }
};

#include "kernels/arm/neon_common.inl"

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  (weights.format == kDense ? multiply_dense : multiply_slots)(weights, panel, x, stride, tokens,
                                                              Offsets(weights, panel, offsets).values, sums);
}

}  // namespace dotprod

extern const Kernels kDotProdKernels;
constexpr Kernels kDotProdKernels = dotprod::table();

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
