// What the kernels for AVX-512 and those for AMX share. Included within the namespace of each, below the intrinsics;
// that namespace then defines `multiply`.

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
void slots(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, const int32_t* offsets,
           int32_t (*sums)[kLanes]) {
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
  tokens.each([&](Lanes& lanes, uint32_t token) RESPARSE_INLINED { lanes.store(sums[token]); });
}

using SlotsOf = void (*)(const Packed&, uint32_t, const uint8_t*, size_t, const int32_t*, int32_t (*)[kLanes]);
constexpr SlotsOf kSlotsOf[kTile + 1] = {
    nullptr,   slots<1>,  slots<2>,  slots<3>,  slots<4>,  slots<5>,  slots<6>,  slots<7>, slots<8>,
    slots<9>, slots<10>, slots<11>, slots<12>, slots<13>, slots<14>, slots<15>, slots<16>};

void multiply_slots(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  for (uint32_t first = 0; first < tokens; first += kTile)
    kSlotsOf[tokens - first < kTile ? tokens - first : kTile](weights, group, x + first * stride, stride, offsets,
                                                              sums.values + first);
}
