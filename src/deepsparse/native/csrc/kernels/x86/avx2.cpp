// Kernels for AVX2: Intel from Haswell on, AMD from Zen on.
//
// AVX2 has no exact product of any uint8 with any int8: vpmaddubsw adds pairs in 16 bits and saturates. The weights of
// kCsr4 are paired so that no pair can saturate; of other weights, bytes are widened to 16 bits and multiplied by
// vpmaddwd, whose sums have 32 bits.

#include "instruction_sets.h"

#ifdef RESPARSE_X86

#define RESPARSE_TARGET "avx2,fma"
#include "kernels/target_begin.inl"

#include <immintrin.h>

namespace resparse {
namespace avx2 {

#include "kernels/x86/avx2_common.inl"

constexpr uint32_t kAccumulators = 2;

// Two partial sums for each row: four vectors of four rows.
struct Accumulator {
  struct Weights {
    __m256i parts[4];
  };
  __m256i sums[4];
  const int32_t* offsets_;

  RESPARSE_INLINE Weights read(const uint8_t* quad) {
    Weights weights;
    for (int part = 0; part < 4; ++part)
      weights.parts[part] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(quad + 16 * part)));
    return weights;
  }
  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    for (__m256i& part : sums) part = _mm256_setzero_si256();
    offsets_ = offsets;
  }
  // `inputs`: four, in every 64 bits.
  inline RESPARSE_INLINED void add(__m256i inputs, const Weights& weights) {
    for (int part = 0; part < 4; ++part)
      // With the intrinsic, GCC copies the sums after it has added to them.
      asm("vpaddd %1, %0, %0" : "+x"(sums[part]) : "x"(_mm256_madd_epi16(inputs, weights.parts[part])));
  }
  inline RESPARSE_INLINED void add(const uint8_t* inputs, const Weights& weights) {
    int32_t four;
    __builtin_memcpy(&four, inputs, sizeof four);
    add(_mm256_cvtepu8_epi16(_mm_set1_epi32(four)), weights);
  }
  inline RESPARSE_INLINED void add(const int16_t* inputs, const Weights& weights) {
    int64_t four;
    __builtin_memcpy(&four, inputs, sizeof four);
    add(_mm256_set1_epi64x(four), weights);
  }
  inline RESPARSE_INLINED void store(int32_t* to) const {
    for (int half = 0; half < 2; ++half) {
      const __m256i mixed = _mm256_hadd_epi32(sums[2 * half], sums[2 * half + 1]);
      __m256i ordered = _mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0));
      if (offsets_ != nullptr)
        ordered = _mm256_add_epi32(
            ordered, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offsets_ + 8 * half)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8 * half), ordered);
    }
  }
};

#include "kernels/encoder_kernels.inl"

// kDense with several tokens: weights and inputs are widened once for all tokens and rows, in chunks that stay in the
// L1 cache.
constexpr uint32_t kChunkQuads = 64;

struct Widened {
  alignas(kAlignment) Accumulator::Weights weights[kChunkQuads];
  int16_t inputs[kCsr4Tokens][kChunkQuads * 4];
};

template <uint32_t kTokens>
RESPARSE_INLINE void multiply_widened(const Widened& from, uint32_t quads, uint32_t token, const int32_t* offsets,
                                      Sums& sums) {
  Unrolled<Accumulator, kTokens> tokens;
  tokens.each([&](Accumulator& one, uint32_t i) RESPARSE_INLINED {
    one.begin(offsets != nullptr ? offsets : sums.values[token + i]);
  });
  for (uint32_t quad = 0; quad < quads; ++quad) {
    const Accumulator::Weights weights = from.weights[quad];
    tokens.each([&](Accumulator& one, uint32_t i) RESPARSE_INLINED {
      one.add(from.inputs[token + i] + size_t{quad} * 4, weights);
    });
  }
  tokens.each([&](Accumulator& one, uint32_t i) RESPARSE_INLINED { one.store(sums.values[token + i]); });
}

void multiply_dense_widened(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride,
                            uint32_t tokens, const int32_t* offsets, Sums& sums) {
  constexpr int32_t kNoOffsets[kPanelRows] = {};
  if (offsets == nullptr) offsets = kNoOffsets;
  const uint32_t quads = divide_up(weights.columns, 4);
  const uint8_t* from = weights.data + size_t{panel} * quads * kQuadBytes;
  Widened widened;
  // The first chunk's sums begin with the offsets, the others' with the sums so far.
  for (uint32_t first = 0; first < quads; first += kChunkQuads, offsets = nullptr) {
    const uint32_t count = quads - first < kChunkQuads ? quads - first : kChunkQuads;
    for (uint32_t quad = 0; quad < count; ++quad, from += kQuadBytes) widened.weights[quad] = Accumulator::read(from);
    for (uint32_t token = 0; token < tokens; ++token)
      for (uint32_t i = 0; i < 4 * count; i += 16)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(widened.inputs[token] + i),
                            _mm256_cvtepu8_epi16(_mm_loadu_si128(
                                reinterpret_cast<const __m128i*>(x + token * stride + size_t{first} * 4 + i))));
    uint32_t token = 0;
    for (; token + kAccumulators <= tokens; token += kAccumulators)
      multiply_widened<kAccumulators>(widened, count, token, offsets, sums);
    if (token < tokens) multiply_widened<1>(widened, count, token, offsets, sums);
  }
}

// Two products at a time are added up in 16 bits, which kCsr4 lets them fit.
RESPARSE_INLINE __m256i add_products(__m256i sums, __m256i inputs, __m256i weights) {
  const __m256i pairs = _mm256_maddubs_epi16(inputs, weights);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
RESPARSE_INLINE __m128i add_products(__m128i sums, __m128i inputs, __m128i weights) {
  return _mm_add_epi32(sums, _mm_madd_epi16(_mm_maddubs_epi16(inputs, weights), _mm_set1_epi16(1)));
}

#include "kernels/x86/csr4_kernels.inl"

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  constexpr uint32_t kWorthWidening = 4;
  if (weights.format == kCsr4)
    multiply_csr4(weights, panel, x, tokens, offsets, sums);
  else if (tokens < kWorthWidening)
    multiply_dense(weights, panel, x, stride, tokens, offsets, sums);
  else
    multiply_dense_widened(weights, panel, x, stride, tokens, offsets, sums);
}

}  // namespace avx2

extern const Kernels kAvx2Kernels;
constexpr Kernels kAvx2Kernels = avx2::table(kCsr4Tokens / kTileTokens, nullptr, avx2::arrange);

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
