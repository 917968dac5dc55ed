// Kernels for AVX2: Intel from Haswell on, AMD from Zen on.
//
// AVX2 has no exact product of uint8 with int8: vpmaddubsw adds pairs in 16 bits and saturates. So bytes are widened to
// 16 bits and multiplied by vpmaddwd, whose sums have 32 bits.

#include "instruction_sets.h"

#ifdef RESPARSE_X86

#define RESPARSE_TARGET "avx2,fma"
#include "kernels/target_begin.inl"

#include <immintrin.h>

namespace resparse {
namespace avx2 {

constexpr uint32_t kVectorLanes = 16;  // in two registers
constexpr int32_t kInputFlip = 0;

#include "kernels/vector_math.inl"

RESPARSE_INLINE Floats lookup(const float (&table)[GeluTable::kSegments], Ints index) {
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
  __m256i halves[2];
  __m256 values[2];
  __builtin_memcpy(halves, &index, sizeof halves);
  for (int half = 0; half < 2; ++half) {
    const __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(halves[half], 28));
    values[half] = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, halves[half]),
                                    _mm256_permutevar8x32_ps(high, halves[half]), is_high);
  }
  Floats result;
  __builtin_memcpy(&result, values, sizeof result);
  return result;
}

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
      weights.parts[part] =
          _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(quad + 16 * part)));
    return weights;
  }
  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    for (__m256i& part : sums) part = _mm256_setzero_si256();
    offsets_ = offsets;
  }
  inline RESPARSE_INLINED void add(const uint8_t* inputs, const Weights& weights) {
    int32_t four;
    __builtin_memcpy(&four, inputs, sizeof four);
    const __m256i bytes = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
    for (int part = 0; part < 4; ++part)
      sums[part] = _mm256_add_epi32(sums[part], _mm256_madd_epi16(bytes, weights.parts[part]));
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

// A group of 8 rows with `kTokens` tokens. A slot's positions become a shuffle that widens the bytes to 16 bits.
template <uint32_t kTokens>
void multiply_slots_by(const PackedMatrix& weights, uint32_t group, const uint8_t* x, size_t stride,
                       const int32_t* offsets, int32_t* sums) {
  __m256i lanes[kTokens];
  for (uint32_t token = 0; token < kTokens; ++token)
    lanes[token] = offsets == nullptr ? _mm256_setzero_si256()
                                      : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offsets));
  const __m256i zeros = _mm256_set1_epi16(static_cast<int16_t>(0x8000));
  constexpr SlotShape kShape = slot_shape(kSlots16);
  const uint32_t first = weights.starts[group], end = weights.starts[group + 1];
  const uint8_t* slot = weights.data + size_t{first} * kShape.slot_bytes();
  for (uint32_t i = first; i < end; ++i, slot += kShape.slot_bytes()) {
    const __m256i positions =
        _mm256_or_si256(_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(slot))), zeros);
    const __m256i values = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(slot + 16)));
    const uint8_t* from = x + size_t{weights.windows[i]} * kShape.step;
#pragma GCC unroll 8
    for (uint32_t token = 0; token < kTokens; ++token) {
      const __m256i bytes =
          _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + token * stride)));
      lanes[token] = _mm256_add_epi32(lanes[token], _mm256_madd_epi16(_mm256_shuffle_epi8(bytes, positions), values));
    }
  }
  for (uint32_t token = 0; token < kTokens; ++token)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + token * kPanelRows), lanes[token]);
}

constexpr uint32_t kMostTokens = 8;
constexpr decltype(&multiply_slots_by<1>) kSlotsBy[kMostTokens + 1] = {
    nullptr,
    multiply_slots_by<1>, multiply_slots_by<2>, multiply_slots_by<3>, multiply_slots_by<4>,
    multiply_slots_by<5>, multiply_slots_by<6>, multiply_slots_by<7>, multiply_slots_by<8>};

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  if (weights.format == kDense) return multiply_dense(weights, panel, x, stride, tokens, offsets, sums);
  for (uint32_t half = 0; half < 2; ++half)
    for (uint32_t first = 0; first < tokens; first += kMostTokens) {
      const uint32_t count = tokens - first < kMostTokens ? tokens - first : kMostTokens;
      kSlotsBy[count](weights, 2 * panel + half, x + first * stride, stride,
                      offsets == nullptr ? nullptr : offsets + 8 * half, sums.values[first] + 8 * half);
    }
}

}  // namespace avx2

extern const Kernels kAvx2Kernels;
constexpr Kernels kAvx2Kernels = avx2::table();

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
