// What the kernels for ARM share: all that encoder_kernels.inl asks for but `multiply`, and the product with kSlots32.
// Included in the namespace of each, after
//
//   constexpr int32_t kInputFlip
//   constexpr uint32_t kAccumulators
//   struct FourSums                    int32 sums of four rows for one token:
//     void begin(from)                   starts from an int32x4_t
//     void add(inputs, weights)          adds products of 16 bytes: four of each row, the rows one after the other
//     void add<quad>(inputs, weights)    the same, of four of the 16 inputs with all rows
//     int32x4_t total()

constexpr uint32_t kVectorLanes = 4;  // compilers split wider vectors into scalars

#define RESPARSE_OWN_VECTORS
#include "kernels/vector_math.inl"

RESPARSE_INLINE Floats minimum(Floats a, Floats b) { return vminnmq_f32(a, b); }
RESPARSE_INLINE Floats maximum(Floats a, Floats b) { return vmaxnmq_f32(a, b); }

RESPARSE_INLINE Bytes low_bytes(Ints x) {
  const int8x16_t bytes = vreinterpretq_s8_s32(x), halves = vuzp1q_s8(bytes, bytes);
  const int32_t four = vgetq_lane_s32(vreinterpretq_s32_s8(vuzp1q_s8(halves, halves)), 0);
  Bytes low;
  __builtin_memcpy(&low, &four, sizeof low);
  return low;
}

RESPARSE_INLINE uint8x16_t widened(Bytes bytes) {
  uint32_t four;
  __builtin_memcpy(&four, &bytes, sizeof four);
  return vreinterpretq_u8_u32(vsetq_lane_u32(four, vdupq_n_u32(0), 0));
}

RESPARSE_INLINE Ints interleaved(Bytes a, Bytes b, Bytes c, Bytes d) {
  const uint8x16_t even = vzip1q_u8(widened(a), widened(c)), odd = vzip1q_u8(widened(b), widened(d));
  return vreinterpretq_s32_u8(vzip1q_u8(even, odd));
}

RESPARSE_INLINE Floats lookup(const float (&table)[GeluTable::kSegments], Ints index) {
  // The bytes of each lane's entry: 4 * index, and the three that follow.
  const uint32x4_t entry = vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(GeluTable::kSegments - 1));
  const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100), entry, 0x04040404);
  const uint8x16x4_t entries = vld1q_u8_x4(reinterpret_cast<const uint8_t*>(table));
  return vreinterpretq_f32_u8(vqtbl4q_u8(entries, vreinterpretq_u8_u32(bytes)));
}

// --- products with all weights ---

struct Accumulator {
  using Weights = int8x16x4_t;
  FourSums rows[4];
  uint8x16_t inputs;  // of four quads

  RESPARSE_INLINE Weights read(const uint8_t* quad) { return vld1q_s8_x4(reinterpret_cast<const int8_t*>(quad)); }
  inline RESPARSE_INLINED void begin(const int32_t* offsets) {
    each<4>([&](auto i) RESPARSE_INLINED {
      rows[i].begin(offsets == nullptr ? vdupq_n_s32(0) : vld1q_s32(offsets + 4 * i));
    });
  }
  inline RESPARSE_INLINED void add(const uint8_t* from, const Weights& weights) {
    uint32_t four;
    __builtin_memcpy(&four, from, sizeof four);
    const uint8x16_t quad = vreinterpretq_u8_u32(vdupq_n_u32(four));
    each<4>([&](auto i) RESPARSE_INLINED { rows[i].add(quad, weights.val[i]); });
  }
  template <int kQuad>
  inline RESPARSE_INLINED void add(const Weights& weights) {
    each<4>([&](auto i) RESPARSE_INLINED { rows[i].template add<kQuad>(inputs, weights.val[i]); });
  }
  inline RESPARSE_INLINED void store(int32_t* to) const {
    each<4>([&](auto i) RESPARSE_INLINED { vst1q_s32(to + 4 * i, rows[i].total()); });
  }
};

// Four quads at a time: a product takes its quad from a register of inputs, which costs no instruction.
#define RESPARSE_OWN_ROWS
template <uint32_t kRows>
RESPARSE_INLINE void multiply_rows(const uint8_t* weights, uint32_t quads, const uint8_t* x, size_t stride,
                                   const int32_t* offsets, int32_t* sums, size_t sums_stride) {
  constexpr uint32_t kAtOnce = 4, kQuad = kPanelRows * 4;
  Unrolled<Accumulator, kRows> rows;
  rows.each([&](Accumulator& row, uint32_t) RESPARSE_INLINED { row.begin(offsets); });
  uint32_t quad = 0;
  for (; quad + kAtOnce <= quads; quad += kAtOnce, weights += kAtOnce * kQuad) {
    rows.each([&](Accumulator& row, uint32_t index)
                  RESPARSE_INLINED { row.inputs = vld1q_u8(x + index * stride + size_t{quad} * 4); });
    each<kAtOnce>([&](auto i) RESPARSE_INLINED {
      const Accumulator::Weights loaded = Accumulator::read(weights + i * kQuad);
      rows.each([&](Accumulator& row, uint32_t) RESPARSE_INLINED { row.template add<i>(loaded); });
    });
  }
  for (; quad < quads; ++quad, weights += kQuad) {
    const Accumulator::Weights loaded = Accumulator::read(weights);
    rows.each([&](Accumulator& row, uint32_t index)
                  RESPARSE_INLINED { row.add(x + index * stride + size_t{quad} * 4, loaded); });
  }
  rows.each([&](Accumulator& row, uint32_t index) RESPARSE_INLINED { row.store(sums + index * sums_stride); });
}

#include "kernels/encoder_kernels.inl"

// --- products with non-zeros ---

// int32 sums of the eight rows of a group for one token.
struct EightSums {
  FourSums low, high;
};

// A group of 8 rows with `kTokens` tokens: for each slot, the tokens' bytes are permuted into the rows' lanes.
template <uint32_t kTokens>
void multiply_slots_by(const PackedMatrix& weights, uint32_t group, const uint8_t* x, size_t stride,
                       const int32_t* offsets, int32_t (*sums)[kPanelRows]) {
  constexpr SlotShape kShape = slot_shape(kSlots32);
  Unrolled<EightSums, kTokens> tokens;
  tokens.each([&](EightSums& rows, uint32_t) RESPARSE_INLINED {
    rows.low.begin(vld1q_s32(offsets));
    rows.high.begin(vld1q_s32(offsets + 4));
  });
  const uint32_t first = weights.starts[group], end = weights.starts[group + 1];
  const uint8_t* slot = weights.data + size_t{first} * kShape.slot_bytes();
  for (uint32_t i = first; i < end; ++i, slot += kShape.slot_bytes()) {
    const uint8x16_t of_low = vld1q_u8(slot), of_high = vld1q_u8(slot + 16);
    const int8x16_t low = vreinterpretq_s8_u8(vld1q_u8(slot + 32)), high = vreinterpretq_s8_u8(vld1q_u8(slot + 48));
    const uint8_t* const from = x + size_t{weights.windows[i]} * kShape.step;
    tokens.each([&](EightSums& rows, uint32_t token) RESPARSE_INLINED {
      const uint8x16x2_t window = vld1q_u8_x2(from + token * stride);
      rows.low.add(vqtbl2q_u8(window, of_low), low);
      rows.high.add(vqtbl2q_u8(window, of_high), high);
    });
  }
  tokens.each([&](EightSums& rows, uint32_t token) RESPARSE_INLINED {
    vst1q_s32(sums[token], rows.low.total());
    vst1q_s32(sums[token] + 4, rows.high.total());
  });
}

constexpr uint32_t kSlotTokens = 2 * kAccumulators;  // in the registers

template <size_t... kCounts>
void multiply_slots_of(const PackedMatrix& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
                       const int32_t* offsets, int32_t (*sums)[kPanelRows], std::index_sequence<kCounts...>) {
  static constexpr decltype(&multiply_slots_by<1>) kBy[] = {multiply_slots_by<kCounts + 1>...};
  kBy[tokens - 1](weights, group, x, stride, offsets, sums);
}

void multiply_slots(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  for (uint32_t part = 0; part < 2; ++part)
    for (uint32_t first = 0; first < tokens; first += kSlotTokens) {
      const uint32_t count = tokens - first < kSlotTokens ? tokens - first : kSlotTokens;
      auto* const to = reinterpret_cast<int32_t(*)[kPanelRows]>(sums.values[first] + 8 * part);
      multiply_slots_of(weights, 2 * panel + part, x + first * stride, stride, count, offsets + 8 * part, to,
                        std::make_index_sequence<kSlotTokens>());
    }
}

// What sums of a packed matrix start from.
struct Offsets {
  int32_t values[kPanelRows];

  inline RESPARSE_INLINED Offsets(const PackedMatrix& weights, uint32_t panel, const int32_t* offsets) {
    const int32_t* const row_sums = weights.row_sums + size_t{panel} * kPanelRows;
    for (uint32_t lane = 0; lane < kPanelRows; lane += kVectorLanes) {
      const Ints from = offsets == nullptr ? Ints{} : load(offsets + lane), sums = load(row_sums + lane);
      // Unsigned, since damaged sums may overflow.
      store(values + lane, vreinterpretq_s32_u32(vmlaq_n_u32(vreinterpretq_u32_s32(from), vreinterpretq_u32_s32(sums),
                                                             kInputFlip)));
    }
  }
};
