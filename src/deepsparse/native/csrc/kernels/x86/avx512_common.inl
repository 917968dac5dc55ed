// What the kernels for AVX-512 and those for AMX share: all that encoder_kernels.inl asks for but `multiply`, and the
// product with kSlots64. Included in the namespace of each.

constexpr uint32_t kVectorLanes = 16;
constexpr int32_t kInputFlip = 0;

#include "kernels/vector_math.inl"

RESPARSE_INLINE Floats lookup(const float (&table)[GeluTable::kSegments], Ints index) {
  return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(index), _mm512_loadu_ps(table));
}

constexpr size_t kAhead = 2048;  // prefetch distance in the weights, in bytes

constexpr uint32_t kAccumulators = 8;

struct Accumulator {
  using Weights = __m512i;
  __m512i sums;

  RESPARSE_INLINE Weights read(const uint8_t* quad) { return _mm512_loadu_si512(quad); }
  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    sums = offsets == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(offsets);
  }
  inline RESPARSE_INLINED void add(__m512i bytes, Weights weights) {
    // With the intrinsic, GCC copies the sums before it adds to them.
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bytes), "v"(weights));
  }
  inline RESPARSE_INLINED void add(const uint8_t* inputs, Weights weights) {
    int32_t bytes;
    __builtin_memcpy(&bytes, inputs, sizeof bytes);
    add(_mm512_set1_epi32(bytes), weights);
  }
  inline RESPARSE_INLINED void store(int32_t* to) const { _mm512_storeu_si512(to, sums); }
};

#include "kernels/encoder_kernels.inl"

// A panel with `kTokens` tokens: for each slot, the tokens' bytes are permuted into the rows' lanes.
template <uint32_t kTokens>
void multiply_slots_by(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride,
                       const int32_t* offsets, int32_t (*sums)[kPanelRows]) {
  constexpr SlotShape kShape = slot_shape(kSlots64);
  Unrolled<Accumulator, kTokens> tokens;
  tokens.each([&](Accumulator& row, uint32_t) RESPARSE_INLINED { row.begin(offsets); });
  const uint32_t first = weights.starts[panel], end = weights.starts[panel + 1];
  const uint8_t* slot = weights.data + size_t{first} * kShape.slot_bytes();
  for (uint32_t i = first; i < end; ++i, slot += kShape.slot_bytes()) {
    const __m512i positions = _mm512_load_si512(slot), values = _mm512_load_si512(slot + 64);
    const uint8_t* const from = x + size_t{weights.windows[i]} * kShape.step;
    _mm_prefetch(reinterpret_cast<const char*>(slot + kAhead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(slot + kAhead + 64), _MM_HINT_T0);
    tokens.each([&](Accumulator& row, uint32_t token) RESPARSE_INLINED {
      row.add(_mm512_permutexvar_epi8(positions, _mm512_loadu_si512(from + token * stride)), values);
    });
  }
  tokens.each([&](Accumulator& row, uint32_t token) RESPARSE_INLINED { row.store(sums[token]); });
}

constexpr decltype(&multiply_slots_by<1>) kSlotsBy[kTileTokens + 1] = {
    nullptr,
    multiply_slots_by<1>,  multiply_slots_by<2>,  multiply_slots_by<3>,  multiply_slots_by<4>,
    multiply_slots_by<5>,  multiply_slots_by<6>,  multiply_slots_by<7>,  multiply_slots_by<8>,
    multiply_slots_by<9>,  multiply_slots_by<10>, multiply_slots_by<11>, multiply_slots_by<12>,
    multiply_slots_by<13>, multiply_slots_by<14>, multiply_slots_by<15>, multiply_slots_by<16>};

void multiply_slots(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  for (uint32_t first = 0; first < tokens; first += kTileTokens) {
    const uint32_t count = tokens - first < kTileTokens ? tokens - first : kTileTokens;
    kSlotsBy[count](weights, panel, x + first * stride, stride, offsets, sums.values + first);
  }
}
