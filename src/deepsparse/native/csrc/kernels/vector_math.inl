// Vectors of kVectorLanes float, int32 or uint8, by the vector extension of GCC and Clang, and the functions of them
// that a transformer needs. Included once by each kernel file, in its own namespace; see encoder_kernels.inl.

#define RESPARSE_INLINED __attribute__((always_inline))
#define RESPARSE_INLINE static inline RESPARSE_INLINED

template <typename Item, uint32_t kCount>
struct VectorOf {
  typedef Item Type __attribute__((vector_size(sizeof(Item) * kCount)));
};

using Floats = VectorOf<float, kVectorLanes>::Type;
using Ints = VectorOf<int32_t, kVectorLanes>::Type;
using Bytes = VectorOf<uint8_t, kVectorLanes>::Type;

RESPARSE_INLINE Floats load(const float* from) {
  Floats value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
RESPARSE_INLINE Ints load(const int32_t* from) {
  Ints value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
RESPARSE_INLINE Bytes load(const uint8_t* from) {
  Bytes value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
RESPARSE_INLINE void store(float* to, Floats value) { __builtin_memcpy(to, &value, sizeof value); }
RESPARSE_INLINE void store(int32_t* to, Ints value) { __builtin_memcpy(to, &value, sizeof value); }
RESPARSE_INLINE void store(uint8_t* to, Bytes value) { __builtin_memcpy(to, &value, sizeof value); }

// The first `count` numbers from memory, the other lanes filled with `rest`.
RESPARSE_INLINE Floats load_part(const float* from, uint32_t count, float rest) {
  float lanes[kVectorLanes];
  for (uint32_t i = 0; i < kVectorLanes; ++i) lanes[i] = i < count ? from[i] : rest;
  return load(lanes);
}

// The first `count` bytes from memory, the other lanes zero.
RESPARSE_INLINE Bytes load_part(const uint8_t* from, uint32_t count) {
  if (count >= kVectorLanes) return load(from);
  uint8_t bytes[kVectorLanes] = {};
  std::memcpy(bytes, from, count);
  return load(bytes);
}

// table[index % 16] of each lane. Defined by the kernel file, with the instructions that the processor has for it.
RESPARSE_INLINE Floats lookup(const float (&table)[GeluTable::kSegments], Ints index);

RESPARSE_INLINE Floats minimum(Floats a, Floats b);
RESPARSE_INLINE Floats maximum(Floats a, Floats b);

// Four vectors of bytes, interleaved to lanes of four bytes.
RESPARSE_INLINE Ints interleaved(Bytes a, Bytes b, Bytes c, Bytes d);

RESPARSE_INLINE Bytes low_bytes(Ints x);

// A kernel file defines these itself where compilers find no good instructions for them.
#ifndef RESPARSE_OWN_VECTORS
RESPARSE_INLINE Floats minimum(Floats a, Floats b) { return a < b ? a : b; }
RESPARSE_INLINE Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
RESPARSE_INLINE Ints interleaved(Bytes a, Bytes b, Bytes c, Bytes d) {
  return __builtin_convertvector(a, Ints) | __builtin_convertvector(b, Ints) << 8 |
         __builtin_convertvector(c, Ints) << 16 | __builtin_convertvector(d, Ints) << 24;
}
RESPARSE_INLINE Bytes low_bytes(Ints x) { return __builtin_convertvector(x, Bytes); }
#endif

RESPARSE_INLINE Floats broadcast(float value) { return Floats{} + value; }
RESPARSE_INLINE Ints broadcast(int32_t value) { return Ints{} + value; }
RESPARSE_INLINE Ints maximum(Ints a, Ints b) { return a > b ? a : b; }
RESPARSE_INLINE Floats absolute(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & 0x7fffffff); }

// --- reductions ---

template <typename Item, uint32_t kCount>
struct Halves {
  typename VectorOf<Item, kCount / 2>::Type low, high;
  inline RESPARSE_INLINED explicit Halves(typename VectorOf<Item, kCount>::Type whole) {
    __builtin_memcpy(&low, &whole, sizeof low);
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&whole) + sizeof low, sizeof high);
  }
};

template <uint32_t kCount = kVectorLanes>
RESPARSE_INLINE float sum(typename VectorOf<float, kCount>::Type x) {
  if constexpr (kCount > 4) {
    const Halves<float, kCount> halves(x);
    return sum<kCount / 2>(halves.low + halves.high);
  } else {
    return (x[0] + x[2]) + (x[1] + x[3]);
  }
}

template <uint32_t kCount = kVectorLanes>
RESPARSE_INLINE int32_t largest(typename VectorOf<int32_t, kCount>::Type x) {
  if constexpr (kCount > 4) {
    const Halves<int32_t, kCount> halves(x);
    return largest<kCount / 2>(halves.low > halves.high ? halves.low : halves.high);
  } else {
    const int32_t even = x[0] > x[2] ? x[0] : x[2], odd = x[1] > x[3] ? x[1] : x[3];
    return even > odd ? even : odd;
  }
}

// --- exponential and activation functions ---

// Adding this rounds half to even to an integer, which is then found in the low bits; for values below 2^22.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

// 2^(n + r) for an integer n and |r| <= 0.5, relative error 1e-7; `shifted` is n + kRounder. Minimax polynomial.
RESPARSE_INLINE Floats power_of_two(Floats shifted, Floats r) {
  Floats p = broadcast(1.53458124e-4f);
  p = p * r + 1.33999309e-3f;
  p = p * r + 9.61848907e-3f;
  p = p * r + 5.55032864e-2f;
  p = p * r + 2.40226462e-1f;
  p = p * r + 6.93147182e-1f;
  p = p * r + 1.0f;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + (reinterpret_cast<Ints>(shifted) << 23));
}

RESPARSE_INLINE Floats exponential(Floats x) {
  constexpr float kHigh = 1.44269502f, kLow = 1.92596299e-8f;  // of 1 / log(2)
  x = minimum(maximum(x, broadcast(-87.0f)), broadcast(88.0f));
  const Floats shifted = x * kHigh + kRounder;
  return power_of_two(shifted, (x * kHigh - (shifted - kRounder)) + x * kLow);
}

RESPARSE_INLINE Floats gelu(Floats x) {
  constexpr float kLast = kRounder + (GeluTable::kSegments - 1);
  const Floats a = absolute(x);
  const Floats shifted = minimum(a * (1.0f / GeluTable::kWidth) + kRounder, broadcast(kLast));
  const Floats r = a - (shifted - kRounder) * GeluTable::kWidth;
  const Ints segment = reinterpret_cast<Ints>(shifted);
  Floats p = lookup(kGeluTable.coefficients[GeluTable::kDegree], segment);
  for (uint32_t power = GeluTable::kDegree; power-- > 0;) p = p * r + lookup(kGeluTable.coefficients[power], segment);
  return p + x * 0.5f;
}

RESPARSE_INLINE Floats hyperbolic_tangent(Floats x) {
  const Floats a = absolute(x);
  const Floats value = 1.0f - 2.0f / (exponential(2.0f * a) + 1.0f);
  // Near zero the difference above cancels; there the Taylor series is exact enough.
  const Floats square = x * x;
  const Floats series = x * (1.0f + square * (-1.0f / 3.0f + square * (2.0f / 15.0f)));
  return a < 0.05f ? series : (x < 0.0f ? -value : value);
}

RESPARSE_INLINE Floats activation_of(Floats x, uint32_t activation) {
  switch (activation) {
    case kGelu:
      return gelu(x);
    case kGeluTanh:
      return 0.5f * x * (1.0f + hyperbolic_tangent(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case kRelu:
      return maximum(x, Floats{});
    case kTanh:
      return hyperbolic_tangent(x);
    case kSilu:
      return x / (1.0f + exponential(-x));
    default:
      return x;
  }
}

// --- quantization ---

// A grid, broadcast to vectors.
struct Quantizer {
  Floats inverse, low, high;
  int32_t shift;
  float scale;
};

// Of uint8, or of int8 where the grid has negative integers.
RESPARSE_INLINE Quantizer quantizer_of(Grid grid) {
  const auto low = static_cast<float>(grid.least - grid.zero_point);
  const auto high = static_cast<float>(grid.most - grid.zero_point);
  const int32_t flip = grid.least < 0 ? 0 : kInputFlip;
  return {broadcast(1.0f / grid.scale), broadcast(low), broadcast(high), grid.zero_point - kRounderBits + flip,
          grid.scale};
}

// Integers in the low byte of each lane, for x * factor, where the factor includes the inverse scale. Saturates before
// it rounds, which gives the same since the bounds are integers.
RESPARSE_INLINE Ints quantized(Floats x, Floats factor, const Quantizer& to) {
  const Floats limited = minimum(maximum(x * factor, to.low), to.high);
  return reinterpret_cast<Ints>(limited + kRounder) + to.shift;
}
RESPARSE_INLINE Ints quantized(Floats x, const Quantizer& to) { return quantized(x, to.inverse, to); }

// The same, dequantized.
RESPARSE_INLINE Floats rounded(Floats x, const Quantizer& to) {
  const Floats limited = minimum(maximum(x * to.inverse, to.low), to.high);
  return ((limited + kRounder) - kRounder) * to.scale;
}

RESPARSE_INLINE Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

// --- unrolling ---

// kCount items as separate members: compilers keep the elements of an array in memory, not in registers.
template <typename Item, uint32_t kCount, uint32_t kFirst = 0>
struct Unrolled {
  Item item;
  Unrolled<Item, kCount - 1, kFirst + 1> others;

  // use(item, index) for each.
  template <typename Use>
  inline RESPARSE_INLINED void each(const Use& use) {
    use(item, kFirst);
    others.each(use);
  }
};
template <typename Item, uint32_t kFirst>
struct Unrolled<Item, 0, kFirst> {
  template <typename Use>
  inline RESPARSE_INLINED void each(const Use&) {}
};

// use(i) for every i below kCount, as compile-time constants.
template <uint32_t kCount, uint32_t kFirst = 0, typename Use>
RESPARSE_INLINE void each(const Use& use) {
  if constexpr (kFirst < kCount) {
    use(std::integral_constant<uint32_t, kFirst>{});
    each<kCount, kFirst + 1>(use);
  }
}
