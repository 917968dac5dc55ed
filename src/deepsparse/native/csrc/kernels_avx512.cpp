// Kernels for AVX-512 with VNNI and VBMI: Intel from Ice Lake on, AMD from Zen 4 on.

#include <cmath>
#include <cstdint>
#include <cstring>

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

#include "vectors.inl"

constexpr uint32_t kRowsAtOnce = 8;

struct Lanes {
  using Weights = __m512i;
  __m512i sums;

  RESPARSE_INLINE Weights read(const uint8_t* from) { return _mm512_loadu_si512(from); }
  inline __attribute__((always_inline)) void begin(const int32_t* offsets) {
    sums = offsets == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(offsets);
  }
  inline __attribute__((always_inline)) void add(int32_t quad, Weights weights) {
    sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(quad), weights);
  }
  inline __attribute__((always_inline)) void store(int32_t* to) const { _mm512_storeu_si512(to, sums); }
};

#include "body.inl"

// A group of 16 rows with `kTokens` tokens: for each slot, the tokens' bytes are permuted into the rows' lanes.
template <uint32_t kTokens>
void slots(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, const int32_t* offsets, Sums& sums) {
  __m512i lanes[kTokens];
#pragma GCC unroll 16
  for (uint32_t token = 0; token < kTokens; ++token)
    lanes[token] = offsets == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(offsets);
  const uint8_t* slot = weights.data + size_t{weights.starts[group]} * 128;
  const uint8_t* counts = weights.counts + size_t{group} * weights.blocks;
  for (uint32_t block = 0; block < weights.blocks; ++block, x += 64)
    for (uint32_t left = counts[block]; left > 0; --left, slot += 128) {
      const __m512i places = _mm512_loadu_si512(slot), values = _mm512_loadu_si512(slot + 64);
#pragma GCC unroll 16
      for (uint32_t token = 0; token < kTokens; ++token) {
        const __m512i bytes = _mm512_permutexvar_epi8(places, _mm512_loadu_si512(x + token * stride));
        lanes[token] = _mm512_dpbusd_epi32(lanes[token], bytes, values);
      }
    }
#pragma GCC unroll 16
  for (uint32_t token = 0; token < kTokens; ++token) _mm512_storeu_si512(sums.values[token], lanes[token]);
}

using SlotsOf = void (*)(const Packed&, uint32_t, const uint8_t*, size_t, const int32_t*, Sums&);
constexpr SlotsOf kSlotsOf[kTile + 1] = {
    nullptr,   slots<1>,  slots<2>,  slots<3>,  slots<4>,  slots<5>,  slots<6>,  slots<7>, slots<8>,
    slots<9>, slots<10>, slots<11>, slots<12>, slots<13>, slots<14>, slots<15>, slots<16>};

void multiply(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  if (weights.form == kDense) return multiply_dense(weights, group, x, stride, tokens, offsets, sums);
  kSlotsOf[tokens](weights, group, x, stride, offsets, sums);
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
