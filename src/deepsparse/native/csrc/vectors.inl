// Sixteen lanes of float and int32, by the vector extension of GCC and Clang; and the functions of them that a
// transformer needs. Included by the kernels of each instruction set, within their own namespace.

#define RESPARSE_INLINED __attribute__((always_inline))
#define RESPARSE_INLINE static inline RESPARSE_INLINED

using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Bytes = uint8_t __attribute__((vector_size(16)));

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

// table[index % 16] of each lane; every instruction set has its own way.
RESPARSE_INLINE Floats picked(const float (&table)[kLanes], Ints index);

RESPARSE_INLINE Floats all(float value) { return Floats{} + value; }
RESPARSE_INLINE Ints all(int32_t value) { return Ints{} + value; }
RESPARSE_INLINE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
RESPARSE_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
RESPARSE_INLINE Ints larger(Ints a, Ints b) { return a > b ? a : b; }
RESPARSE_INLINE Floats magnitude(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & 0x7fffffff); }

// Both halves of a vector, for reductions.
template <typename Half, typename Whole>
struct Halves {
  Half low, high;
  inline RESPARSE_INLINED explicit Halves(Whole whole) {
    __builtin_memcpy(&low, &whole, sizeof low);
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&whole) + sizeof low, sizeof high);
  }
};

RESPARSE_INLINE float sum(Floats x) {
  using Eight = float __attribute__((vector_size(32)));
  using Four = float __attribute__((vector_size(16)));
  const Halves<Eight, Floats> halves(x);
  const Halves<Four, Eight> quarters(halves.low + halves.high);
  const Four four = quarters.low + quarters.high;
  return (four[0] + four[2]) + (four[1] + four[3]);
}
RESPARSE_INLINE int32_t greatest(Ints x) {
  using Eight = int32_t __attribute__((vector_size(32)));
  using Four = int32_t __attribute__((vector_size(16)));
  const Halves<Eight, Ints> halves(x);
  const Halves<Four, Eight> quarters(halves.low > halves.high ? halves.low : halves.high);
  const Four four = quarters.low > quarters.high ? quarters.low : quarters.high;
  const int32_t even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

// Adding this rounds half to even to a whole number, which is then found in the low bits; for values below 2^22.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

// 2^(n + r) for a whole n and r within half of 1, relative error 1e-7; `shifted` is n + kRounder. Minimax polynomial.
RESPARSE_INLINE Floats power_of_two(Floats shifted, Floats r) {
  Floats p = all(1.53458124e-4f);
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
  x = smaller(larger(x, all(-87.0f)), all(88.0f));
  const Floats shifted = x * kHigh + kRounder;
  return power_of_two(shifted, (x * kHigh - (shifted - kRounder)) + x * kLow);
}

RESPARSE_INLINE Floats gelu(Floats x) {
  constexpr float kLast = kRounder + (GeluTable::kSegments - 1);
  const Floats a = magnitude(x);
  const Floats shifted = smaller(a * (1.0f / GeluTable::kWidth) + kRounder, all(kLast));
  const Floats r = a - (shifted - kRounder) * GeluTable::kWidth;
  const Ints segment = reinterpret_cast<Ints>(shifted);
  Floats p = picked(kGeluTable.coefficients[GeluTable::kDegree], segment);
  for (uint32_t power = GeluTable::kDegree; power-- > 0;) p = p * r + picked(kGeluTable.coefficients[power], segment);
  return p + x * 0.5f;
}

RESPARSE_INLINE Floats hyperbolic_tangent(Floats x) {
  const Floats a = magnitude(x);
  const Floats value = 1.0f - 2.0f / (exponential(2.0f * a) + 1.0f);
  // Near zero the difference above has no digits left; there the series has.
  const Floats square = x * x;
  const Floats series = x * (1.0f + square * (-1.0f / 3.0f + square * (2.0f / 15.0f)));
  return a < 0.05f ? series : (x < 0.0f ? -value : value);
}

RESPARSE_INLINE Floats activated(Floats x, uint32_t activation) {
  switch (activation) {
    case kGelu:
      return gelu(x);
    case kGeluTanh:
      return 0.5f * x * (1.0f + hyperbolic_tangent(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case kRelu:
      return larger(x, Floats{});
    case kTanh:
      return hyperbolic_tangent(x);
    case kSilu:
      return x / (1.0f + exponential(-x));
    default:
      return x;
  }
}

// A grid, spread for use on vectors.
struct Rounding {
  Floats inverse, low, high;
  int32_t shift;
};

RESPARSE_INLINE Rounding rounding_of(Grid grid, bool is_signed) {
  const float least = is_signed ? -128.0f : 0.0f;
  const float zero = static_cast<float>(grid.zero_point);
  return {all(1.0f / grid.scale), all(least - zero), all(least + 255.0f - zero), grid.zero_point - kRounderBits};
}

// Integers of a grid, in the low byte of each lane, for x * factor, the grid's inverse being in the factor. Saturated
// first, which comes to the same since the ends are whole.
RESPARSE_INLINE Ints on_grid(Floats x, Floats factor, const Rounding& to) {
  const Floats limited = smaller(larger(x * factor, to.low), to.high);
  return reinterpret_cast<Ints>(limited + kRounder) + to.shift;
}
RESPARSE_INLINE Ints on_grid(Floats x, const Rounding& to) { return on_grid(x, to.inverse, to); }

// Four rows of bytes, made into 16 lanes of four.
RESPARSE_INLINE Ints interleaved(Bytes a, Bytes b, Bytes c, Bytes d) {
  return __builtin_convertvector(a, Ints) | __builtin_convertvector(b, Ints) << 8 |
         __builtin_convertvector(c, Ints) << 16 | __builtin_convertvector(d, Ints) << 24;
}

RESPARSE_INLINE Bytes narrowed(Ints x) { return __builtin_convertvector(x, Bytes); }
RESPARSE_INLINE Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

// Some items, named one by one through the nesting: of an array, compilers keep the elements in memory, not in
// registers.
template <typename Item, uint32_t kCount, uint32_t kFirst = 0>
struct Several {
  Item item;
  Several<Item, kCount - 1, kFirst + 1> others;

  // use(item, its place) for each.
  template <typename Use>
  inline RESPARSE_INLINED void each(const Use& use) {
    use(item, kFirst);
    others.each(use);
  }
};
template <typename Item, uint32_t kFirst>
struct Several<Item, 0, kFirst> {
  template <typename Use>
  inline RESPARSE_INLINED void each(const Use&) {}
};
