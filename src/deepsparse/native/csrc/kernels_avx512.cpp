// Kernels for AVX-512 with VNNI and VBMI: Intel from Ice Lake on, AMD from Zen 4 on.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "gelu.h"
#include "isa.h"
#include "kernels.h"

#ifdef RESPARSE_X86

// Everything below is compiled for these instructions and is called only where the processor has them; no header is
// included below but the intrinsics, lest their functions be shared with code that must run everywhere.
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,fma,prefer-vector-width=512")
#endif

#include <immintrin.h>

namespace resparse {
namespace avx512 {

#include "avx512.inl"

void multiply(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  (weights.form == kDense ? multiply_dense : multiply_slots)(weights, group, x, stride, tokens, offsets, sums);
}

}  // namespace avx512

extern const Kernels kAvx512Kernels;
constexpr Kernels kAvx512Kernels = avx512::table(kAvx512);

}  // namespace resparse

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
