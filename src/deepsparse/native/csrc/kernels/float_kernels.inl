// Kernels of layers in float, and of layers whose inputs are quantized by the range of each text. Included by
// encoder_kernels.inl, for every instruction set.

// --- dense products ---

// A panel's 16 float sums, in vectors of at most 8: in wider ones, compilers spill them where registers are narrower.
struct FloatAccumulator {
  static constexpr uint32_t kLanes = kVectorLanes < 8 ? kVectorLanes : 8, kParts = kPanelRows / kLanes;
  VectorOf<float, kLanes>::Type parts[kParts];

  // In memory; `memcpy` of 16 bytes is an integer to GCC, and would move the sums to other registers.
  typedef float Unaligned __attribute__((vector_size(sizeof(float) * kLanes), aligned(sizeof(float)), may_alias));

  inline RESPARSE_INLINED void clear() {
    each<kParts>([&](auto i) RESPARSE_INLINED { parts[i] = VectorOf<float, kLanes>::Type{}; });
  }
  inline RESPARSE_INLINED void read(const float* from) {
    each<kParts>([&](auto i) RESPARSE_INLINED { parts[i] = *reinterpret_cast<const Unaligned*>(from + i * kLanes); });
  }
  inline RESPARSE_INLINED void add(const FloatAccumulator& other) {
    each<kParts>([&](auto i) RESPARSE_INLINED { parts[i] += other.parts[i]; });
  }
  inline RESPARSE_INLINED void add(float x, const FloatAccumulator& weights) {
    each<kParts>([&](auto i) RESPARSE_INLINED { parts[i] += weights.parts[i] * x; });
  }
  inline RESPARSE_INLINED void store(float* to) const {
    each<kParts>([&](auto i) RESPARSE_INLINED { *reinterpret_cast<Unaligned*>(to + i * kLanes) = parts[i]; });
  }
};

// kRows rows of floats times weights[columns][16], which are `weights_stride` apart; starts from `biases`, or from 0
// where null.
template <uint32_t kRows>
RESPARSE_INLINE void multiply_float_rows(const float* weights, size_t weights_stride, uint32_t columns, const float* x,
                                         size_t stride, const float* biases, bool add, float* out, size_t out_stride) {
  Unrolled<FloatAccumulator, kRows> rows;
  rows.each([&](FloatAccumulator& row, uint32_t) RESPARSE_INLINED {
    if (biases == nullptr)
      row.clear();
    else
      row.read(biases);
  });
  for (uint32_t column = 0; column < columns; ++column) {
    FloatAccumulator loaded;
    loaded.read(weights + column * weights_stride);
    rows.each([&](FloatAccumulator& row, uint32_t index) RESPARSE_INLINED {
      row.add(x[index * stride + column], loaded);
    });
  }
  rows.each([&](FloatAccumulator& row, uint32_t index) RESPARSE_INLINED {
    if (add) {
      FloatAccumulator before;
      before.read(out + index * out_stride);
      row.add(before);
    }
    row.store(out + index * out_stride);
  });
}

RESPARSE_INLINE void multiply_all_float_rows(const float* weights, size_t weights_stride, uint32_t columns,
                                             const float* x, size_t stride, uint32_t rows, const float* biases,
                                             bool add, float* out, size_t out_stride) {
  constexpr uint32_t kAtOnce = 4;
  uint32_t row = 0;
  for (; row + kAtOnce <= rows; row += kAtOnce)
    multiply_float_rows<kAtOnce>(weights, weights_stride, columns, x + row * stride, stride, biases, add,
                                 out + row * out_stride, out_stride);
  for (; row < rows; ++row)
    multiply_float_rows<1>(weights, weights_stride, columns, x + row * stride, stride, biases, add,
                           out + row * out_stride, out_stride);
}

void multiply_floats(const PackedMatrix& weights, uint32_t panel, const float* x, size_t stride, uint32_t rows,
                     const float* biases, bool add, float* out, size_t out_stride) {
  const auto* from = reinterpret_cast<const float*>(weights.data) + size_t{panel} * weights.columns * kPanelRows;
  multiply_all_float_rows(from, kPanelRows, weights.columns, x, stride, rows, biases, add, out, out_stride);
}

// --- sparse products ---
//
// Tokens lie in the lanes, so that a non-zero is one multiplication and addition for a vector of tokens, wherever its
// column is: inputs are turned once for all rows, and results are turned back.

// Lanes of a register: wider vectors would be spilled.
#ifdef __AVX512F__
constexpr uint32_t kTokenLanes = 16;
#else
constexpr uint32_t kTokenLanes = kVectorLanes < 8 ? kVectorLanes : 8;
#endif

using TokenFloats = VectorOf<float, kTokenLanes>::Type;
using Quad = VectorOf<float, 4>::Type;

#if defined(__clang__) || __GNUC__ >= 12
#define RESPARSE_MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define RESPARSE_MIX(a, b, ...) __builtin_shuffle(a, b, VectorOf<int32_t, 4>::Type{__VA_ARGS__})
#endif

RESPARSE_INLINE void turn_quads(Quad (&rows)[4]) {
  const Quad a = RESPARSE_MIX(rows[0], rows[1], 0, 4, 1, 5), b = RESPARSE_MIX(rows[0], rows[1], 2, 6, 3, 7);
  const Quad c = RESPARSE_MIX(rows[2], rows[3], 0, 4, 1, 5), d = RESPARSE_MIX(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = RESPARSE_MIX(a, c, 0, 1, 4, 5);
  rows[1] = RESPARSE_MIX(a, c, 2, 3, 6, 7);
  rows[2] = RESPARSE_MIX(b, d, 0, 1, 4, 5);
  rows[3] = RESPARSE_MIX(b, d, 2, 3, 6, 7);
}

#undef RESPARSE_MIX

void turn(const float* x, size_t stride, uint32_t tokens, uint32_t columns, float* out) {
  for (uint32_t token = 0; token < round_up(tokens, kPanelRows); token += 4)
    for (uint32_t column = 0; column < columns; column += 4) {
      Quad quads[4] = {};
      for (uint32_t i = 0; i < 4 && token + i < tokens; ++i)
        __builtin_memcpy(&quads[i], x + (token + i) * stride + column, sizeof(Quad));
      turn_quads(quads);
      for (uint32_t i = 0; i < 4; ++i)
        __builtin_memcpy(out + size_t{column + i} * kFloatTile + token, &quads[i], sizeof(Quad));
    }
}

// A row of weights with kVectors vectors of tokens.
template <uint32_t kVectors>
RESPARSE_INLINE void multiply_sparse_row(const SparseFloat* non_zero, const SparseFloat* end, const float* x,
                                         float bias, float* out) {
  Unrolled<TokenFloats, kVectors> sums;
  sums.each([&](TokenFloats& sum, uint32_t) RESPARSE_INLINED { sum = TokenFloats{} + bias; });
  for (; non_zero < end; ++non_zero) {
    const float* const from = x + size_t{non_zero->column} * kFloatTile;
    const float weight = non_zero->weight;
    sums.each([&](TokenFloats& sum, uint32_t index) RESPARSE_INLINED {
      TokenFloats inputs;
      __builtin_memcpy(&inputs, from + index * kTokenLanes, sizeof inputs);
      sum += inputs * weight;
    });
  }
  sums.each([&](TokenFloats& sum, uint32_t index) RESPARSE_INLINED {
    __builtin_memcpy(out + index * kTokenLanes, &sum, sizeof sum);
  });
}

void multiply_sparse_floats(const PackedMatrix& weights, uint32_t panel, const float* x, uint32_t tokens,
                            const float* biases, bool add, float* out, size_t out_stride) {
  constexpr uint32_t kWhole = kFloatTile / kTokenLanes;
  const uint32_t vectors = (tokens + kTokenLanes - 1) / kTokenLanes;
  const auto* const non_zeros = reinterpret_cast<const SparseFloat*>(weights.data);
  alignas(64) float turned[kPanelRows][kFloatTile];
  for (uint32_t row = 0; row < kPanelRows; ++row) {
    const SparseFloat* const begin = non_zeros + weights.starts[panel * kPanelRows + row];
    const SparseFloat* const end = non_zeros + weights.starts[panel * kPanelRows + row + 1];
    if (vectors == 1)
      multiply_sparse_row<1>(begin, end, x, biases[row], turned[row]);
    else if (vectors == 2)
      multiply_sparse_row<2>(begin, end, x, biases[row], turned[row]);
    else if (vectors <= kWhole / 2)
      multiply_sparse_row<kWhole / 2>(begin, end, x, biases[row], turned[row]);
    else
      multiply_sparse_row<kWhole>(begin, end, x, biases[row], turned[row]);
  }
  for (uint32_t token = 0; token < tokens; token += 4)
    for (uint32_t row = 0; row < kPanelRows; row += 4) {
      Quad quads[4];
      for (uint32_t i = 0; i < 4; ++i) __builtin_memcpy(&quads[i], &turned[row + i][token], sizeof(Quad));
      turn_quads(quads);
      for (uint32_t i = 0; i < 4 && token + i < tokens; ++i) {
        float* const to = out + (token + i) * out_stride + row;
        Quad before{};
        if (add) __builtin_memcpy(&before, to, sizeof before);
        quads[i] += before;
        __builtin_memcpy(to, &quads[i], sizeof(Quad));
      }
    }
}

// --- inputs quantized by their range, or only rounded ---

void round(const float* row, uint32_t width, Grid grid, float* out) {
  const Quantizer quantizer = quantizer_of(grid);
  for (uint32_t i = 0; i < width; i += kVectorLanes) store(out + i, rounded(load(row + i), quantizer));
}

void range(const float* row, uint32_t width, float* least, float* greatest) {
  float low = row[0], high = row[0];
  uint32_t i = 0;
  if (width >= kVectorLanes) {
    Floats lows = load(row), highs = lows;
    for (i = kVectorLanes; i + kVectorLanes <= width; i += kVectorLanes) {
      lows = minimum(lows, load(row + i));
      highs = maximum(highs, load(row + i));
    }
    for (uint32_t lane = 0; lane < kVectorLanes; ++lane) {
      low = lows[lane] < low ? lows[lane] : low;
      high = highs[lane] > high ? highs[lane] : high;
    }
  }
  for (; i < width; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  *least = low;
  *greatest = high;
}

using Unsigned = VectorOf<uint32_t, kVectorLanes>::Type;

void dequantize_by_token(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                         const int32_t* row_sums, const Grid* grids, bool add, float* out, size_t stride) {
  for (uint32_t lane = 0; lane < kPanelRows; lane += kVectorLanes) {
    const Floats scale = load(scales + lane), bias = load(biases + lane);
    // Unsigned, since in a damaged model the products may overflow.
    const auto of_ones = reinterpret_cast<Unsigned>(load(row_sums + lane));
    for (uint32_t token = 0; token < tokens; ++token) {
      float* const to = out + token * stride + lane;
      const Unsigned sum = reinterpret_cast<Unsigned>(load(sums.values[token] + lane)) -
                           of_ones * static_cast<uint32_t>(grids[token].zero_point);
      Floats value = to_floats(reinterpret_cast<Ints>(sum)) * (scale * grids[token].scale) + bias;
      if (add) value += load(to);
      store(to, value);
    }
  }
}

// --- attention ---

// Softmax of rows of scores times `scale`, in place; columns from `tokens` to a multiple of 16 become 0.
RESPARSE_INLINE void softmax_floats(float* scores, uint32_t rows, uint32_t tokens, float scale) {
  const size_t padded = round_up(tokens, kPanelRows);
  for (uint32_t row = 0; row < rows; ++row, scores += padded) {
    for (size_t i = tokens; i < padded; ++i) scores[i] = scores[0];
    Floats most = load(scores);
    for (size_t i = 0; i < padded; i += kVectorLanes) most = maximum(most, load(scores + i));
    float highest = most[0];
    for (uint32_t lane = 1; lane < kVectorLanes; ++lane) highest = most[lane] > highest ? most[lane] : highest;
    Floats total{};
    for (size_t i = 0; i < padded; i += kVectorLanes) store(scores + i, exponential((load(scores + i) - highest) * scale));
    for (size_t i = tokens; i < padded; ++i) scores[i] = 0;
    for (size_t i = 0; i < padded; i += kVectorLanes) total += load(scores + i);
    const float factor = 1.0f / sum(total);
    for (size_t i = 0; i < padded; i += kVectorLanes) store(scores + i, load(scores + i) * factor);
  }
}

// Scores times `scale`, rounded to each of the grids that there are.
RESPARSE_INLINE void round_scores(float* scores, size_t count, float scale, const Grid (&grids)[kMaxScoreGrids]) {
  for (size_t i = 0; i < count; i += kVectorLanes) store(scores + i, load(scores + i) * scale);
  for (const Grid& grid : grids)
    if (grid.scale != 0) round(scores, static_cast<uint32_t>(count), grid, scores);
}

void attend_floats(const FloatAttentionTask& task, uint8_t* scratch) {
  const FloatAttentionScratch places(task.tokens, task.head_size);
  const size_t padded = round_up(task.tokens, kPanelRows);
  auto* const keys = reinterpret_cast<float*>(scratch);
  auto* const scores = reinterpret_cast<float*>(scratch + places.scores);
  for (uint32_t first = 0; first < padded; first += kPanelRows)
    for (uint32_t column = 0; column < task.head_size; ++column)
      for (uint32_t key = 0; key < kPanelRows; ++key)
        keys[(size_t{first} * task.head_size) + column * kPanelRows + key] =
            first + key < task.tokens ? task.keys[(first + key) * task.stride + column] : 0.0f;
  for (uint32_t first = 0; first < task.query_count; first += kQueryBlock) {
    const uint32_t rows = task.query_count - first < kQueryBlock ? task.query_count - first : kQueryBlock;
    const Keys seen = keys_of(task.places, first, rows, task.tokens);
    for (size_t key = seen.begin; key < seen.end; key += kPanelRows)
      multiply_all_float_rows(keys + key * task.head_size, kPanelRows, task.head_size,
                              task.queries + first * task.query_stride, task.query_stride, rows, nullptr, false,
                              scores + key, padded);
    const bool is_rounded = task.score_grids[0].scale != 0;
    const uint32_t computed = seen.end - seen.begin;
    for (uint32_t row = 0; is_rounded && row < rows; ++row)
      round_scores(scores + row * padded + seen.begin, computed, task.score_scale, task.score_grids);
    const float scale = is_rounded ? 1.0f : task.score_scale;
    if (task.places.matter())
      softmax_floats_by_place(scores, rows, task.tokens, scale, task.places, first, seen);
    else
      softmax_floats(scores, rows, task.tokens, scale);
    const uint32_t count = (seen.end < task.tokens ? seen.end : task.tokens) - seen.begin;
    if (task.peak != nullptr) {
      for (uint32_t row = 0; row < rows; ++row)
        for (uint32_t i = 0; i < count; ++i) {
          const float probability = scores[row * padded + seen.begin + i];
          *task.peak = probability > *task.peak ? probability : *task.peak;
        }
      continue;
    }
    for (const Grid& grid : {task.softmax_grid, task.probabilities_grid})
      for (uint32_t row = 0; grid.scale != 0 && row < rows; ++row) {
        float* const probabilities = scores + row * padded + seen.begin;
        round(probabilities, computed, grid, probabilities);
      }
    for (uint32_t column = 0; column < task.head_size; column += kPanelRows) {
      float mixed[kQueryBlock * kPanelRows];
      multiply_all_float_rows(task.values + seen.begin * task.stride + column, task.stride, count,
                              scores + seen.begin, padded, rows, nullptr, false, mixed, kPanelRows);
      const uint32_t width = task.head_size - column < kPanelRows ? task.head_size - column : kPanelRows;
      for (uint32_t row = 0; row < rows; ++row)
        std::memcpy(task.context + (first + row) * task.context_stride + column, mixed + row * kPanelRows,
                    sizeof(float) * width);
    }
  }
}
