// Kernels for AVX2 with AVX-VNNI, the exact product of uint8 with int8 at 256 bits: Intel's client processors from
// Alder Lake on, and AMD from Zen 5 on.
//
// With RESPARSE_EMULATE_AVX_VNNI they are built for AVX-512's encoding of the same instruction, on the same registers,
// so that they can be tested where there is no AVX-VNNI.

#include "instruction_sets.h"

#ifdef RESPARSE_AVX_VNNI

#ifdef RESPARSE_EMULATE_AVX_VNNI
#define RESPARSE_TARGET "avx2,fma,avx512f,avx512vl,avx512vnni"
#else
#define RESPARSE_TARGET "avx2,fma,avxvnni"
#endif
#include "kernels/target_begin.inl"

#include <immintrin.h>

namespace resparse {
namespace avx_vnni {

#include "kernels/x86/avx2_common.inl"

#ifdef RESPARSE_EMULATE_AVX_VNNI
#define RESPARSE_VPDPBUSD "vpdpbusd"
#else
#define RESPARSE_VPDPBUSD "%{vex%} vpdpbusd"
#endif

// Adds the products of four uint8 with four int8 to every int32. With the intrinsic, GCC copies the sums before it adds
// to them.
RESPARSE_INLINE __m256i add_products(__m256i sums, __m256i inputs, __m256i weights) {
  asm(RESPARSE_VPDPBUSD " %2, %1, %0" : "+x"(sums) : "x"(inputs), "x"(weights));
  return sums;
}
RESPARSE_INLINE __m128i add_products(__m128i sums, __m128i inputs, __m128i weights) {
  asm(RESPARSE_VPDPBUSD " %2, %1, %0" : "+x"(sums) : "x"(inputs), "x"(weights));
  return sums;
}

#undef RESPARSE_VPDPBUSD

constexpr uint32_t kAccumulators = 4;

struct Accumulator {
  struct Weights {
    __m256i halves[2];
  };
  __m256i sums[2];

  RESPARSE_INLINE Weights read(const uint8_t* quad) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(quad)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quad + 32))};
  }
  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    if (offsets == nullptr)
      sums[0] = sums[1] = _mm256_setzero_si256();
    else
      __builtin_memcpy(sums, offsets, sizeof sums);
  }
  inline RESPARSE_INLINED void add(const uint8_t* inputs, const Weights& weights) {
    int32_t four;
    __builtin_memcpy(&four, inputs, sizeof four);
    const __m256i bytes = _mm256_set1_epi32(four);
    for (int half = 0; half < 2; ++half) sums[half] = add_products(sums[half], bytes, weights.halves[half]);
  }
  inline RESPARSE_INLINED void store(int32_t* to) const { __builtin_memcpy(to, sums, sizeof sums); }
};

#include "kernels/encoder_kernels.inl"
#include "kernels/x86/csr4_kernels.inl"

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  if (weights.format == kCsr4)
    multiply_csr4(weights, panel, x, tokens, offsets, sums);
  else
    multiply_dense(weights, panel, x, stride, tokens, offsets, sums);
}

}  // namespace avx_vnni

extern const Kernels kAvxVnniKernels;
constexpr Kernels kAvxVnniKernels = avx_vnni::table(kCsr4Tokens / kTileTokens, nullptr, avx_vnni::arrange);

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
