// Products of bfloat16 with sums in float32, for AVX512_BF16: AMD from Zen 4 on, Intel from Cooper Lake and Sapphire
// Rapids on. Used with the kernels for AVX-512 and AMX where the processor has the instruction.

#include "kernels/bfloats.h"

#ifdef RESPARSE_BFLOATS

#include <cpuid.h>

namespace resparse {

bool has_bfloats() {
  constexpr unsigned kBf16Bit = 1u << 5;  // of EAX
  unsigned a, b, c, d;
  static const bool found =
      __builtin_cpu_supports("avx512f") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBf16Bit) != 0;
  return found;
}

}  // namespace resparse

#define RESPARSE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma"
#include "kernels/target_begin.inl"

#include <immintrin.h>

namespace resparse {
namespace {

#define RESPARSE_INLINE static inline __attribute__((always_inline))

constexpr uint32_t kLanes = 16;

// kRows rows of pairs of bfloat16 times a panel [pairs][16 rows][2].
template <uint32_t kRows>
RESPARSE_INLINE void multiply_rows(const uint8_t* weights, uint32_t pairs, const uint16_t* x, size_t stride,
                                   const float* biases, bool add, float* out, size_t out_stride) {
  __m512 sums[kRows];
#pragma GCC unroll 8
  for (uint32_t row = 0; row < kRows; ++row) sums[row] = _mm512_loadu_ps(biases);
  for (uint32_t pair = 0; pair < pairs; ++pair) {
    const __m512i loaded = _mm512_load_si512(weights + size_t{pair} * 64);
#pragma GCC unroll 8
    for (uint32_t row = 0; row < kRows; ++row) {
      int32_t two;
      __builtin_memcpy(&two, x + row * stride + size_t{pair} * 2, sizeof two);
      // With the intrinsic, GCC copies the sums before it adds to them.
      asm("vdpbf16ps %2, %1, %0" : "+v"(sums[row]) : "v"(_mm512_set1_epi32(two)), "v"(loaded));
    }
  }
#pragma GCC unroll 8
  for (uint32_t row = 0; row < kRows; ++row) {
    float* const to = out + row * out_stride;
    _mm512_storeu_ps(to, add ? _mm512_add_ps(sums[row], _mm512_loadu_ps(to)) : sums[row]);
  }
}

}  // namespace

void multiply_bfloats(const PackedMatrix& weights, uint32_t panel, const uint16_t* x, size_t stride, uint32_t rows,
                      const float* biases, bool add, float* out, size_t out_stride) {
  constexpr uint32_t kAtOnce = 8;
  const uint32_t pairs = (weights.columns + 1) / 2;
  const uint8_t* const from = weights.data + size_t{panel} * pairs * 64;
  uint32_t row = 0;
  for (; row + kAtOnce <= rows; row += kAtOnce)
    multiply_rows<kAtOnce>(from, pairs, x + row * stride, stride, biases, add, out + row * out_stride, out_stride);
  for (; row < rows; ++row)
    multiply_rows<1>(from, pairs, x + row * stride, stride, biases, add, out + row * out_stride, out_stride);
}

void to_bfloats(const float* row, uint32_t width, uint16_t* out) {
  for (uint32_t i = 0; i < width; i += kLanes) {
    const __mmask16 within = width - i < kLanes ? static_cast<__mmask16>((1u << (width - i)) - 1) : __mmask16{0xffff};
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(within, row + i));
    __builtin_memcpy(out + i, &rounded, sizeof rounded);
  }
}

#undef RESPARSE_INLINE

}  // namespace resparse

#include "kernels/target_end.inl"

#else

namespace resparse {

bool has_bfloats() { return false; }

void multiply_bfloats(const PackedMatrix&, uint32_t, const uint16_t*, size_t, uint32_t, const float*, bool, float*,
                      size_t) {}

void to_bfloats(const float*, uint32_t, uint16_t*) {}

}  // namespace resparse

#endif
