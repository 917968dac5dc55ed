// What the kernels for AVX2 and those for AVX-VNNI share of what encoder_kernels.inl asks for. Included in the
// namespace of each.

constexpr uint32_t kVectorLanes = 8;
constexpr int32_t kInputFlip = 0;

#define RESPARSE_OWN_VECTORS
#include "kernels/vector_math.inl"
#undef RESPARSE_OWN_VECTORS

RESPARSE_INLINE Floats minimum(Floats a, Floats b) { return _mm256_min_ps(a, b); }
RESPARSE_INLINE Floats maximum(Floats a, Floats b) { return _mm256_max_ps(a, b); }

RESPARSE_INLINE __m128i whole_register(Bytes x) {
  int64_t bytes;
  __builtin_memcpy(&bytes, &x, sizeof bytes);
  return _mm_cvtsi64_si128(bytes);
}

RESPARSE_INLINE Ints interleaved(Bytes a, Bytes b, Bytes c, Bytes d) {
  const __m128i ab = _mm_unpacklo_epi8(whole_register(a), whole_register(b));
  const __m128i cd = _mm_unpacklo_epi8(whole_register(c), whole_register(d));
  return reinterpret_cast<Ints>(_mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd)));
}

RESPARSE_INLINE Bytes low_bytes(Ints x) {
  const __m256i lowest = _mm256_set1_epi32(0x0c080400);
  const __m256i of_halves = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(x), lowest);
  const int64_t bytes = _mm_cvtsi128_si64(
      _mm_unpacklo_epi32(_mm256_castsi256_si128(of_halves), _mm256_extracti128_si256(of_halves, 1)));
  Bytes result;
  __builtin_memcpy(&result, &bytes, sizeof result);
  return result;
}

RESPARSE_INLINE Floats lookup(const float (&table)[GeluTable::kSegments], Ints index) {
  const __m256i lanes = reinterpret_cast<__m256i>(index);
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), lanes),
                          _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), lanes),
                          _mm256_castsi256_ps(_mm256_slli_epi32(lanes, 28)));
}
