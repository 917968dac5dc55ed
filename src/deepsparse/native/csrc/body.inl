// The kernels that are the same for all instruction sets but for the vectors they are compiled to. Included within a
// namespace that defines `multiply`, as in Kernels, and `Lanes`, sixteen integer sums:
//
//   Lanes::begin(offsets)    start from sixteen int32, or from 0 where null
//   add(quad, weights)       add the products of four uint8, from memory, with four int8 for each lane: weights[16][4]
//   store(sums)              write sixteen int32
//
// and kRowsAtOnce, how many of them fit the registers.

// --- dense products ---

template <uint32_t kRows>
RESPARSE_INLINE void quads(const uint8_t* weights, uint32_t blocks, const uint8_t* x, size_t stride,
                           const int32_t* offsets, int32_t* sums, size_t sums_stride) {
  Several<Lanes, kRows> rows;
  rows.each([&](Lanes& lanes, uint32_t) RESPARSE_INLINED { lanes.begin(offsets); });
  for (uint32_t block = 0; block < blocks; ++block) {
    const typename Lanes::Weights loaded = Lanes::read(weights + size_t{block} * kLanes * 4);
    rows.each([&](Lanes& lanes, uint32_t row) RESPARSE_INLINED {
      lanes.add(x + row * stride + size_t{block} * 4, loaded);
    });
  }
  rows.each([&](Lanes& lanes, uint32_t row) RESPARSE_INLINED { lanes.store(sums + row * sums_stride); });
}

// Products of rows of uint8 with weights [blocks][16][4]: sums[rows][16]. As many rows at once as there are left.
template <uint32_t kRows>
RESPARSE_INLINE void all_quads(const uint8_t* weights, uint32_t blocks, const uint8_t* x, size_t stride, uint32_t rows,
                               const int32_t* offsets, int32_t* sums, size_t sums_stride) {
  uint32_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    quads<kRows>(weights, blocks, x + row * stride, stride, offsets, sums + row * sums_stride, sums_stride);
  if constexpr (kRows > 1)
    all_quads<kRows / 2>(weights, blocks, x + row * stride, stride, rows - row, offsets, sums + row * sums_stride,
                         sums_stride);
}

void multiply_dense(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  const uint32_t blocks = (weights.columns + 3) / 4;
  all_quads<kRowsAtOnce>(weights.data + size_t{group} * blocks * kLanes * 4, blocks, x, stride, tokens, offsets,
                         sums.values[0], kLanes);
}

// --- products of floats ---

// Sixteen lanes in two vectors: in one, compilers keep sums in memory where registers are narrower.
struct FloatLanes {
  using Eight = float __attribute__((vector_size(32)));
  Eight low, high;

  inline RESPARSE_INLINED void read(const float* from) {
    __builtin_memcpy(&low, from, sizeof low);
    __builtin_memcpy(&high, from + kLanes / 2, sizeof high);
  }
  inline RESPARSE_INLINED void add(float x, const FloatLanes& weights) {
    low += weights.low * x;
    high += weights.high * x;
  }
  inline RESPARSE_INLINED void store(float* to) const {
    __builtin_memcpy(to, &low, sizeof low);
    __builtin_memcpy(to + kLanes / 2, &high, sizeof high);
  }
};

template <uint32_t kRows>
RESPARSE_INLINE void floats(const float* weights, uint32_t columns, const float* x, size_t stride, const float* biases,
                            float* out, size_t out_stride) {
  Several<FloatLanes, kRows> rows;
  rows.each([&](FloatLanes& lanes, uint32_t) RESPARSE_INLINED { lanes.read(biases); });
  for (uint32_t column = 0; column < columns; ++column) {
    FloatLanes loaded;
    loaded.read(weights + size_t{column} * kLanes);
    rows.each([&](FloatLanes& lanes, uint32_t row) RESPARSE_INLINED { lanes.add(x[row * stride + column], loaded); });
  }
  rows.each([&](FloatLanes& lanes, uint32_t row) RESPARSE_INLINED { lanes.store(out + row * out_stride); });
}

void multiply_floats(const Packed& weights, uint32_t group, const float* x, size_t stride, uint32_t rows,
                     const float* biases, float* out, size_t out_stride) {
  constexpr uint32_t kAtOnce = 4;
  const auto* from = reinterpret_cast<const float*>(weights.data) + size_t{group} * weights.columns * kLanes;
  uint32_t row = 0;
  for (; row + kAtOnce <= rows; row += kAtOnce)
    floats<kAtOnce>(from, weights.columns, x + row * stride, stride, biases, out + row * out_stride, out_stride);
  for (; row < rows; ++row)
    floats<1>(from, weights.columns, x + row * stride, stride, biases, out + row * out_stride, out_stride);
}

// --- what follows a product ---

void finish_float(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, bool add, float* out,
                  size_t stride) {
  const Floats scale = load(scales), bias = load(biases);
  for (uint32_t token = 0; token < tokens; ++token) {
    Floats value = to_floats(load(sums.values[token])) * scale + bias;
    if (add) value += load(out + token * stride);
    store(out + token * stride, value);
  }
}

template <uint32_t kActivation>
RESPARSE_INLINE void finish_integer_of(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                                       const Rounding& rounding, uint8_t* out, size_t stride) {
  const Floats scale = load(scales), bias = load(biases);
  for (uint32_t token = 0; token < tokens; ++token) {
    const Floats value = to_floats(load(sums.values[token])) * scale + bias;
    store(out + token * stride, narrowed(on_grid(activated(value, kActivation), rounding)));
  }
}

void finish_integer(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, uint32_t activation,
                    Grid grid, bool is_signed, uint8_t* out, size_t stride) {
  const Rounding rounding = rounding_of(grid, is_signed);
  switch (activation) {
    case kNone:
      return finish_integer_of<kNone>(sums, tokens, scales, biases, rounding, out, stride);
    case kGelu:
      return finish_integer_of<kGelu>(sums, tokens, scales, biases, rounding, out, stride);
    case kGeluTanh:
      return finish_integer_of<kGeluTanh>(sums, tokens, scales, biases, rounding, out, stride);
    case kRelu:
      return finish_integer_of<kRelu>(sums, tokens, scales, biases, rounding, out, stride);
    case kTanh:
      return finish_integer_of<kTanh>(sums, tokens, scales, biases, rounding, out, stride);
    default:
      return finish_integer_of<kSilu>(sums, tokens, scales, biases, rounding, out, stride);
  }
}

// --- rows ---

RESPARSE_INLINE Floats load_part(const float* from, uint32_t count, float rest) {
  float lanes[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lanes[i] = i < count ? from[i] : rest;
  return load(lanes);
}

template <uint32_t kPower>
RESPARSE_INLINE Floats deviation(Floats x, float mean) {
  return kPower == 1 ? x - mean : (x - mean) * (x - mean);
}

// Sum of the powers of the deviations from a mean; four run side by side, since an addition takes longer than a load.
template <uint32_t kPower>
RESPARSE_INLINE float sum_of(const float* row, uint32_t width, float mean) {
  Floats a{}, b{}, c{}, d{};
  uint32_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    a += deviation<kPower>(load(row + i), mean);
    b += deviation<kPower>(load(row + i + kLanes), mean);
    c += deviation<kPower>(load(row + i + 2 * kLanes), mean);
    d += deviation<kPower>(load(row + i + 3 * kLanes), mean);
  }
  for (; i + kLanes <= width; i += kLanes) a += deviation<kPower>(load(row + i), mean);
  if (i < width) b += deviation<kPower>(load_part(row + i, width - i, mean), mean);
  return sum((a + b) + (c + d));
}

void normalize(float* row, uint32_t width, const float* weight, const float* bias, float epsilon, Grid grid,
               uint8_t* out) {
  const float count = static_cast<float>(width);
  const float mean = sum_of<1>(row, width, 0.0f) / count;
  const float variance = sum_of<2>(row, width, mean) / count;
  const float inverse = 1.0f / std::sqrt(variance + epsilon);
  const Rounding rounding = rounding_of(grid, false);
  uint32_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Floats value = (load(row + i) - mean) * inverse * load(weight + i) + load(bias + i);
    store(row + i, value);
    store(out + i, narrowed(on_grid(value, rounding)));
  }
  if (i == width) return;
  for (uint32_t j = i; j < width; ++j) row[j] = (row[j] - mean) * inverse * weight[j] + bias[j];
  store(out + i, narrowed(on_grid(load(row + i), rounding)));
}

void quantize(const float* row, uint32_t width, Grid grid, uint8_t* out) {
  const Rounding rounding = rounding_of(grid, false);
  for (uint32_t i = 0; i < width; i += kLanes) store(out + i, narrowed(on_grid(load(row + i), rounding)));
}

void activate(float* row, uint32_t width, uint32_t activation) {
  for (uint32_t i = 0; i < width; i += kLanes) store(row + i, activated(load(row + i), activation));
}

// --- attention ---

// For 16 columns of weights, what the zero point of the other factor adds to their sums.
RESPARSE_INLINE void zero_point_offsets(const uint8_t* weights, uint32_t blocks, int32_t zero_point, int32_t* offsets) {
  constexpr uint8_t kOnes[4] = {1, 1, 1, 1};
  Lanes lanes;
  lanes.begin(nullptr);
  for (uint32_t block = 0; block < blocks; ++block) lanes.add(kOnes, Lanes::read(weights + size_t{block} * kLanes * 4));
  lanes.store(offsets);
  store(offsets, load(offsets) * -zero_point);
}

// What is added to the scores of keys that are there only to fill up a vector.
constexpr int32_t kNever = -(1 << 30);

// Keys of one head as weights: [blocks of 16 keys][head size / 4][16][4].
RESPARSE_INLINE void pack_keys(const AttentionTask& task, uint8_t* packed, int32_t* offsets) {
  const uint32_t quads_of_key = task.head_size / 4;
  for (uint32_t first = 0; first < task.tokens; first += kLanes, packed += size_t{quads_of_key} * kLanes * 4) {
    const uint32_t count = task.tokens - first < kLanes ? task.tokens - first : kLanes;
    if (count < kLanes) std::memset(packed, 0, size_t{quads_of_key} * kLanes * 4);
    for (uint32_t key = 0; key < count; ++key) {
      const uint8_t* from = task.keys + (first + key) * task.stride;
      for (uint32_t quad = 0; quad < quads_of_key; ++quad)
        std::memcpy(packed + (size_t{quad} * kLanes + key) * 4, from + size_t{quad} * 4, 4);
    }
    zero_point_offsets(packed, quads_of_key, task.query_grid.zero_point, offsets + first);
    for (uint32_t key = count; key < kLanes; ++key) offsets[first + key] = kNever;
  }
}

// Up to 16 bytes, and zeros.
RESPARSE_INLINE Bytes load_part(const uint8_t* from, uint32_t count) {
  if (count >= kLanes) return load(from);
  uint8_t bytes[kLanes] = {};
  std::memcpy(bytes, from, count);
  return load(bytes);
}

// Values of one head as weights: [blocks of 16 columns][tokens / 4][16 columns][4 tokens].
RESPARSE_INLINE void pack_values(const AttentionTask& task, uint8_t* packed, int32_t* offsets) {
  const uint32_t token_quads = (task.tokens + 3) / 4;
  for (uint32_t column = 0; column < task.head_size; column += kLanes) {
    const uint8_t* from = task.values + column;
    const uint32_t width = task.head_size - column;
    uint8_t* to = packed;
    for (uint32_t token = 0; token < task.tokens; token += 4, from += 4 * task.stride, to += kLanes * 4) {
      const uint32_t left = task.tokens - token;
      const Bytes second = left > 1 ? load_part(from + task.stride, width) : Bytes{};
      const Bytes third = left > 2 ? load_part(from + 2 * task.stride, width) : Bytes{};
      const Bytes fourth = left > 3 ? load_part(from + 3 * task.stride, width) : Bytes{};
      store(reinterpret_cast<int32_t*>(to), interleaved(load_part(from, width), second, third, fourth));
    }
    zero_point_offsets(packed, token_quads, task.probabilities_grid.zero_point, offsets + column);
    packed = to;
  }
}

// Softmax of rows of scores times `scale`, on the grid of the probabilities; the scores are overwritten. Each step is
// done for all rows before the next, since its end takes long to arrive. Not inlined, so that the registers are its
// own.
__attribute__((noinline)) void softmax(int32_t* scores, uint32_t rows, uint32_t tokens, float scale, Grid grid,
                                       uint8_t* out) {
  const size_t padded = round_up(tokens, kLanes);
  const float in_twos = scale * 1.44269504088896341f;
  const Rounding rounding = rounding_of(grid, false);
  float* values = reinterpret_cast<float*>(scores);
  int32_t tops[kQueries];
  float totals[kQueries];
  for (uint32_t row = 0; row < rows; ++row) {
    const int32_t* of_row = scores + row * padded;
    Ints most = all(kNever);
    for (size_t i = 0; i < padded; i += kLanes) most = larger(most, load(of_row + i));
    tops[row] = greatest(most);
  }
  for (uint32_t row = 0; row < rows; ++row) {
    Floats total{};
    for (size_t i = row * padded; i < (row + 1) * padded; i += kLanes) {
      const Floats power = larger(to_floats(load(scores + i) - tops[row]) * in_twos, all(-126.0f));
      const Floats shifted = power + kRounder;
      const Floats value = power_of_two(shifted, power - (shifted - kRounder));
      total += value;
      store(values + i, value);
    }
    totals[row] = sum(total);
  }
  for (uint32_t row = 0; row < rows; ++row) {
    const Floats factor = rounding.inverse * (1.0f / totals[row]);
    for (size_t i = row * padded; i < (row + 1) * padded; i += kLanes)
      store(out + i, narrowed(on_grid(load(values + i), factor, rounding)));
  }
}

void attend(const AttentionTask& task, uint8_t* scratch) {
  const size_t padded = round_up(task.tokens, kLanes);
  const uint32_t token_quads = (task.tokens + 3) / 4;
  const AttentionScratch places(task.tokens, task.head_size);
  uint8_t* const keys = scratch;
  uint8_t* const values = scratch + places.values;
  uint8_t* const probabilities = scratch + places.probabilities;
  auto* const scores = reinterpret_cast<int32_t*>(scratch + places.scores);
  auto* const key_offsets = reinterpret_cast<int32_t*>(scratch + places.key_offsets);
  auto* const value_offsets = reinterpret_cast<int32_t*>(scratch + places.value_offsets);
  pack_keys(task, keys, key_offsets);
  pack_values(task, values, value_offsets);

  const Rounding context = rounding_of(task.context_grid, false);
  for (uint32_t first = 0; first < task.query_count; first += kQueries) {
    const uint32_t rows = task.query_count - first < kQueries ? task.query_count - first : kQueries;
    const uint8_t* queries = task.queries + first * task.query_stride;
    for (size_t key = 0; key < padded; key += kLanes)
      all_quads<kRowsAtOnce>(keys + key * task.head_size, task.head_size / 4, queries, task.query_stride, rows,
                             key_offsets + key, scores + key, padded);
    softmax(scores, rows, task.tokens, task.score_scale, task.probabilities_grid, probabilities);
    for (size_t column = 0; column < task.head_size; column += kLanes) {
      int32_t sums[kQueries * kLanes];
      all_quads<kRowsAtOnce>(values + column * token_quads * 4, token_quads, probabilities, padded, rows,
                             value_offsets + column, sums, kLanes);
      const size_t width = task.head_size - column < kLanes ? task.head_size - column : kLanes;
      for (uint32_t row = 0; row < rows; ++row) {
        const Bytes bytes = narrowed(on_grid(to_floats(load(sums + row * kLanes)) * task.context_scale, context));
        uint8_t* const to = task.context + (first + row) * task.context_stride + column;
        if (width == kLanes)
          store(to, bytes);
        else
          std::memcpy(to, &bytes, width);
      }
    }
  }
}

// --- the table ---

void multiply(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums);

// A constant expression: it is there when the library is loaded, and no code for these instructions runs for it.
constexpr Kernels table(uint32_t isa, uint32_t tiles = 1, void (*release)() = nullptr) {
  return {isa,       tiles,    multiply, multiply_floats, finish_float, finish_integer,
          normalize, quantize, activate, attend,          release};
}
