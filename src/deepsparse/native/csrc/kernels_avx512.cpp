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

#include "vectors.inl"

RESPARSE_INLINE Floats picked(const float (&table)[kLanes], Ints index) {
  return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(index), _mm512_loadu_ps(table));
}

constexpr size_t kAhead = 2048;  // bytes of weights, fetched before they are needed

constexpr uint32_t kRowsAtOnce = 8;

struct Lanes {
  using Weights = __m512i;
  __m512i sums;

  RESPARSE_INLINE Weights read(const uint8_t* from) { return _mm512_loadu_si512(from); }
  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    sums = offsets == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(offsets);
  }
  inline RESPARSE_INLINED void add(__m512i bytes, Weights weights) {
    // As an intrinsic, GCC copies the sums before it adds to them.
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bytes), "v"(weights));
  }
  inline RESPARSE_INLINED void add(const uint8_t* quad, Weights weights) {
    int32_t bytes;
    __builtin_memcpy(&bytes, quad, sizeof bytes);
    add(_mm512_set1_epi32(bytes), weights);
  }
  inline RESPARSE_INLINED void store(int32_t* to) const { _mm512_storeu_si512(to, sums); }
};

#include "body.inl"

// A group of 16 rows with `kTokens` tokens: for each slot, the tokens' bytes are permuted into the rows' lanes.
template <uint32_t kTokens>
void slots(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, const int32_t* offsets, Sums& sums) {
  constexpr Shape kShape = shape_of(kSlots64);
  Several<Lanes, kTokens> tokens;
  tokens.each([&](Lanes& lanes, uint32_t) RESPARSE_INLINED { lanes.begin(offsets); });
  const uint32_t first = weights.starts[group], end = weights.starts[group + 1];
  const uint8_t* slot = weights.data + size_t{first} * kShape.slot_bytes();
  for (uint32_t i = first; i < end; ++i, slot += kShape.slot_bytes()) {
    const __m512i places = _mm512_load_si512(slot), values = _mm512_load_si512(slot + 64);
    const uint8_t* const from = x + size_t{weights.windows[i]} * kShape.step;
    _mm_prefetch(reinterpret_cast<const char*>(slot + kAhead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(slot + kAhead + 64), _MM_HINT_T0);
    tokens.each([&](Lanes& lanes, uint32_t token) RESPARSE_INLINED {
      lanes.add(_mm512_permutexvar_epi8(places, _mm512_loadu_si512(from + token * stride)), values);
    });
  }
  tokens.each([&](Lanes& lanes, uint32_t token) RESPARSE_INLINED { lanes.store(sums.values[token]); });
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
