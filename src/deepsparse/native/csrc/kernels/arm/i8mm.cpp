// Kernels for ARM's products of unsigned with signed bytes (FEAT_I8MM): Neoverse V1, Apple M2.
//
// An instruction multiplies two tokens with two rows, eight columns of each: twice the products of a dot product.

#include "instruction_sets.h"

#ifdef RESPARSE_ARM_DOT

#define RESPARSE_TARGET "arch=armv8.2-a+dotprod+i8mm"
#include "kernels/target_begin.inl"

#include <arm_neon.h>

namespace resparse {
namespace i8mm {

constexpr int32_t kInputFlip = 0;

constexpr uint32_t kAccumulators = 4;

// In assembly, as in dotprod.cpp.
struct FourSums {
  int32x4_t sums;

  void begin(int32x4_t from) { sums = from; }
  void add(uint8x16_t inputs, int8x16_t weights) {
    asm volatile("usdot %0.4s, %1.16b, %2.16b" : "+w"(sums) : "w"(inputs), "w"(weights));
  }
  template <int kQuad>
  void add(uint8x16_t inputs, int8x16_t weights) {
    asm volatile("sudot %0.4s, %1.16b, %2.4b[%c3]" : "+w"(sums) : "w"(weights), "w"(inputs), "i"(kQuad));
  }
  int32x4_t total() const { return sums; }
};

#include "kernels/arm/neon_common.inl"

// --- products with kDenseOctets ---

constexpr uint32_t kOctetBytes = kPanelRows * 8;  // weights of eight columns of a panel

// Sums of a panel for two tokens: of each two rows, a matrix [tokens][rows].
struct PairSums {
  int32x4_t rows[kPanelRows / 2];
  uint8x16_t octets[2];  // inputs: [tokens][columns]

  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    each<kPanelRows / 2>([&](auto i) RESPARSE_INLINED {
      const int32x2_t two = vld1_s32(offsets + 2 * i);
      rows[i] = vcombine_s32(two, two);
    });
  }
  inline RESPARSE_INLINED void read(const uint8_t* first, const uint8_t* second) {
    const uint64x2_t a = vreinterpretq_u64_u8(vld1q_u8(first)), b = vreinterpretq_u64_u8(vld1q_u8(second));
    octets[0] = vreinterpretq_u8_u64(vzip1q_u64(a, b));
    octets[1] = vreinterpretq_u8_u64(vzip2q_u64(a, b));
  }
  inline RESPARSE_INLINED void store(int32_t* first, int32_t* second) const {
    each<kPanelRows / 4>([&](auto i) RESPARSE_INLINED {
      const int64x2_t a = vreinterpretq_s64_s32(rows[2 * i]), b = vreinterpretq_s64_s32(rows[2 * i + 1]);
      vst1q_s32(first + 4 * i, vreinterpretq_s32_s64(vzip1q_s64(a, b)));
      vst1q_s32(second + 4 * i, vreinterpretq_s32_s64(vzip2q_s64(a, b)));
    });
  }
};

// Up to 2 * kPairs tokens, more than one less than that. Where there is one less, the last is computed twice.
template <uint32_t kPairs>
void multiply_octets_by(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                        const int32_t* offsets, int32_t (*sums)[kPanelRows]) {
  const uint32_t octets = 2 * divide_up(weights.columns, 16), last = tokens - 1;
  const auto* from = reinterpret_cast<const int8_t*>(weights.data) + size_t{panel} * octets * kOctetBytes;
  Unrolled<PairSums, kPairs> pairs;
  pairs.each([&](PairSums& pair, uint32_t) RESPARSE_INLINED { pair.begin(offsets); });
  const auto second = [&](uint32_t pair) RESPARSE_INLINED { return 2 * pair < last ? 2 * pair + 1 : last; };
  for (uint32_t octet = 0; octet < octets; octet += 2, x += 16, from += 2 * kOctetBytes) {
    pairs.each([&](PairSums& pair, uint32_t index)
                   RESPARSE_INLINED { pair.read(x + 2 * index * stride, x + second(index) * stride); });
    each<kPanelRows>([&](auto i) RESPARSE_INLINED {
      constexpr uint32_t kRows = i % (kPanelRows / 2), kOctet = i / (kPanelRows / 2);
      const int8x16_t two_rows = vld1q_s8(from + 16 * i);
      pairs.each([&](PairSums& pair, uint32_t) RESPARSE_INLINED {
        asm volatile("usmmla %0.4s, %1.16b, %2.16b" : "+w"(pair.rows[kRows]) : "w"(pair.octets[kOctet]), "w"(two_rows));
      });
    });
  }
  pairs.each([&](PairSums& pair, uint32_t index)
                 RESPARSE_INLINED { pair.store(sums[2 * index], sums[second(index)]); });
}

void multiply_octets(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                     const int32_t* offsets, Sums& sums) {
  for (uint32_t first = 0; first < tokens; first += 4) {
    const uint32_t count = tokens - first < 4 ? tokens - first : 4;
    (count > 2 ? multiply_octets_by<2> : multiply_octets_by<1>)(weights, panel, x + first * stride, stride, count,
                                                                offsets, sums.values + first);
  }
}

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  (weights.format == kDenseOctets ? multiply_octets : multiply_slots)(weights, panel, x, stride, tokens,
                                                                     Offsets(weights, panel, offsets).values, sums);
}

}  // namespace i8mm

extern const Kernels kI8mmKernels;
constexpr Kernels kI8mmKernels = i8mm::table();

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
