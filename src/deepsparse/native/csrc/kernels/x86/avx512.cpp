// Kernels for AVX-512 with VNNI and VBMI: Intel from Ice Lake on, AMD from Zen 4 on.

#include "instruction_sets.h"

#ifdef RESPARSE_X86

#define RESPARSE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,fma"
#include "kernels/target_begin.inl"

#include <immintrin.h>

namespace resparse {
namespace avx512 {

#include "kernels/x86/avx512_common.inl"

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  (weights.format == kDense ? multiply_dense : multiply_slots)(weights, panel, x, stride, tokens, offsets, sums);
}

}  // namespace avx512

extern const Kernels kAvx512Kernels;
constexpr Kernels kAvx512Kernels = avx512::table();

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
