// The kernels of a transformer encoder, shared by all instruction sets and compiled to the vectors of each.
//
// A kernel file includes kernels.h (and target_begin.inl, unless it is plain C++), opens a namespace of its own, and
// defines in it, in this order:
//
//   constexpr uint32_t kVectorLanes    lanes of float and int32 in a vector: a power of two from 4 to 16. Best the
//                                      width of a register or a small multiple; independent of the 16 rows of a panel.
//   constexpr int32_t kInputFlip       Kernels::input_flip
//   #include "vector_math.inl"
//   Floats lookup(table, index)        as declared there
//   constexpr uint32_t kAccumulators   how many Accumulators fit the registers: a power of two
//   struct Accumulator                 int32 sums of a panel's 16 rows for one token:
//     using Weights                      a quad of the panel, loaded: int8 [16 rows][4 columns]
//     static Weights read(quad)          loads it from memory
//     void begin(offsets)                starts from 16 int32, or from 0 where null
//     void add(inputs, weights)          adds the products of four uint8 in memory with the four int8 of each row
//     void store(sums)                   writes 16 int32
//   multiply_rows(...)                 as below, if the file has its own, and defines RESPARSE_OWN_ROWS
//   #include "encoder_kernels.inl"
//   void multiply(...)                 as in Kernels, for all formats of weights that instruction_sets.cpp lists;
//                                      multiply_dense, defined below, serves kDense
//
// and after the namespace the table that instruction_sets.cpp declares, made by `table()` at the end of this file.

static_assert(kVectorLanes >= 4 && kPanelRows % kVectorLanes == 0, "a panel must be whole vectors");
static_assert(std::is_same<decltype(lookup(kGeluTable.coefficients[0], Ints{})), Floats>::value, "lookup");
static_assert(kAccumulators >= 1 && (kAccumulators & (kAccumulators - 1)) == 0, "must be a power of two");
static_assert(sizeof(Accumulator::read(static_cast<const uint8_t*>(nullptr))) == sizeof(Accumulator::Weights),
              "Accumulator::read");
static_assert(std::is_void<decltype(std::declval<Accumulator&>().begin(static_cast<const int32_t*>(nullptr)))>::value,
              "Accumulator::begin");
static_assert(std::is_void<decltype(std::declval<Accumulator&>().add(static_cast<const uint8_t*>(nullptr),
                                                                    std::declval<Accumulator::Weights>()))>::value,
              "Accumulator::add");
static_assert(std::is_void<decltype(std::declval<const Accumulator&>().store(static_cast<int32_t*>(nullptr)))>::value,
              "Accumulator::store");
static_assert(std::is_trivially_default_constructible<Accumulator>::value, "is set up by begin alone");

constexpr uint32_t kQuadBytes = kPanelRows * 4;  // weights of four columns of a panel

// --- integer products ---

#ifndef RESPARSE_OWN_ROWS
// kRows rows of uint8 times a panel [quads][16][4]: sums[kRows][16].
template <uint32_t kRows>
RESPARSE_INLINE void multiply_rows(const uint8_t* weights, uint32_t quads, const uint8_t* x, size_t stride,
                                   const int32_t* offsets, int32_t* sums, size_t sums_stride) {
  Unrolled<Accumulator, kRows> rows;
  rows.each([&](Accumulator& row, uint32_t) RESPARSE_INLINED { row.begin(offsets); });
  for (uint32_t quad = 0; quad < quads; ++quad) {
    const typename Accumulator::Weights loaded = Accumulator::read(weights + size_t{quad} * kQuadBytes);
    rows.each([&](Accumulator& row, uint32_t index) RESPARSE_INLINED {
      row.add(x + index * stride + size_t{quad} * 4, loaded);
    });
  }
  rows.each([&](Accumulator& row, uint32_t index) RESPARSE_INLINED { row.store(sums + index * sums_stride); });
}
#endif

// Any number of rows: kRows at once, then the remainder with half as many.
template <uint32_t kRows>
RESPARSE_INLINE void multiply_all_rows(const uint8_t* weights, uint32_t quads, const uint8_t* x, size_t stride,
                                       uint32_t rows, const int32_t* offsets, int32_t* sums, size_t sums_stride) {
  uint32_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    multiply_rows<kRows>(weights, quads, x + row * stride, stride, offsets, sums + row * sums_stride, sums_stride);
  if constexpr (kRows > 1)
    multiply_all_rows<kRows / 2>(weights, quads, x + row * stride, stride, rows - row, offsets,
                                 sums + row * sums_stride, sums_stride);
}

void multiply_dense(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  const uint32_t quads = divide_up(weights.columns, 4);
  multiply_all_rows<kAccumulators>(weights.data + size_t{panel} * quads * kQuadBytes, quads, x, stride, tokens, offsets,
                                   sums.values[0], kPanelRows);
}

// --- what follows an integer product ---

template <bool kRounded>
RESPARSE_INLINE void dequantize_with(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                                     const Quantizer& rounding, bool add, float* out, size_t stride) {
  for (uint32_t lane = 0; lane < kPanelRows; lane += kVectorLanes) {
    const Floats scale = load(scales + lane), bias = load(biases + lane);
    for (uint32_t token = 0; token < tokens; ++token) {
      float* const to = out + token * stride + lane;
      Floats value = to_floats(load(sums.values[token] + lane)) * scale + bias;
      if (kRounded) value = rounded(value, rounding);
      if (add) value += load(to);
      store(to, value);
    }
  }
}

void dequantize(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, Grid rounding, bool add,
                float* out, size_t stride) {
  if (rounding.scale == 0) return dequantize_with<false>(sums, tokens, scales, biases, Quantizer{}, add, out, stride);
  dequantize_with<true>(sums, tokens, scales, biases, quantizer_of(rounding), add, out, stride);
}

template <bool kRounded, uint32_t kActivation>
RESPARSE_INLINE void requantize_with(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                                     const Quantizer& rounding, const Quantizer& quantizer, uint8_t* out,
                                     size_t stride) {
  for (uint32_t lane = 0; lane < kPanelRows; lane += kVectorLanes) {
    const Floats scale = load(scales + lane), bias = load(biases + lane);
    for (uint32_t token = 0; token < tokens; ++token) {
      Floats value = to_floats(load(sums.values[token] + lane)) * scale + bias;
      if (kRounded) value = rounded(value, rounding);
      store(out + token * stride + lane, low_bytes(quantized(activation_of(value, kActivation), quantizer)));
    }
  }
}

template <bool kRounded>
RESPARSE_INLINE void requantize_after(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                                      const Quantizer& rounding, uint32_t activation, const Quantizer& to,
                                      uint8_t* out, size_t stride) {
  switch (activation) {
    case kNone:
      return requantize_with<kRounded, kNone>(sums, tokens, scales, biases, rounding, to, out, stride);
    case kGelu:
      return requantize_with<kRounded, kGelu>(sums, tokens, scales, biases, rounding, to, out, stride);
    case kGeluTanh:
      return requantize_with<kRounded, kGeluTanh>(sums, tokens, scales, biases, rounding, to, out, stride);
    case kRelu:
      return requantize_with<kRounded, kRelu>(sums, tokens, scales, biases, rounding, to, out, stride);
    case kTanh:
      return requantize_with<kRounded, kTanh>(sums, tokens, scales, biases, rounding, to, out, stride);
    default:
      return requantize_with<kRounded, kSilu>(sums, tokens, scales, biases, rounding, to, out, stride);
  }
}

void requantize(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, Grid rounding,
                uint32_t activation, Grid grid, uint8_t* out, size_t stride) {
  const Quantizer to = quantizer_of(grid);
  if (rounding.scale == 0)
    return requantize_after<false>(sums, tokens, scales, biases, Quantizer{}, activation, to, out, stride);
  requantize_after<true>(sums, tokens, scales, biases, quantizer_of(rounding), activation, to, out, stride);
}

// --- rows of floats ---

template <uint32_t kPower>
RESPARSE_INLINE Floats deviation(Floats x, float mean) {
  return kPower == 1 ? x - mean : (x - mean) * (x - mean);
}

// Sum of the powers of the deviations from a mean, in four independent sums, since an addition takes longer than a
// load.
template <uint32_t kPower>
RESPARSE_INLINE float sum_of_deviations(const float* row, uint32_t width, float mean) {
  constexpr uint32_t kStep = kVectorLanes;
  Floats a{}, b{}, c{}, d{};
  uint32_t i = 0;
  for (; i + 4 * kStep <= width; i += 4 * kStep) {
    a += deviation<kPower>(load(row + i), mean);
    b += deviation<kPower>(load(row + i + kStep), mean);
    c += deviation<kPower>(load(row + i + 2 * kStep), mean);
    d += deviation<kPower>(load(row + i + 3 * kStep), mean);
  }
  for (; i + kStep <= width; i += kStep) a += deviation<kPower>(load(row + i), mean);
  if (i < width) b += deviation<kPower>(load_part(row + i, width - i, mean), mean);
  return sum((a + b) + (c + d));
}

void normalize(float* row, uint32_t width, const float* weight, const float* bias, float epsilon, Grid grid,
               uint8_t* out) {
  const float count = static_cast<float>(width);
  const float mean = sum_of_deviations<1>(row, width, 0.0f) / count;
  const float variance = sum_of_deviations<2>(row, width, mean) / count;
  const float inverse = 1.0f / std::sqrt(variance + epsilon);
  const Quantizer quantizer = quantizer_of(grid);
  uint32_t i = 0;
  for (; i + kVectorLanes <= width; i += kVectorLanes) {
    const Floats value = (load(row + i) - mean) * inverse * load(weight + i) + load(bias + i);
    store(row + i, value);
    store(out + i, low_bytes(quantized(value, quantizer)));
  }
  if (i == width) return;
  for (uint32_t j = i; j < width; ++j) row[j] = (row[j] - mean) * inverse * weight[j] + bias[j];
  store(out + i, low_bytes(quantized(load(row + i), quantizer)));
}

void quantize(const float* row, uint32_t width, Grid grid, uint8_t* out) {
  const Quantizer quantizer = quantizer_of(grid);
  for (uint32_t i = 0; i < width; i += kVectorLanes) store(out + i, low_bytes(quantized(load(row + i), quantizer)));
}

void activate(float* row, uint32_t width, uint32_t activation) {
  for (uint32_t i = 0; i < width; i += kVectorLanes) store(row + i, activation_of(load(row + i), activation));
}

void gate(float* row, const float* gate, uint32_t width, uint32_t activation) {
  for (uint32_t i = 0; i < width; i += kVectorLanes)
    store(row + i, activation_of(load(row + i), activation) * load(gate + i));
}

void rotate(float* row, uint32_t heads, uint32_t head_size, const float* angles) {
  const uint32_t half = head_size / 2;
  const float* const sines = angles + half;
  for (uint32_t head = 0; head < heads; ++head, row += head_size) {
    uint32_t i = 0;
    for (; i + kVectorLanes <= half; i += kVectorLanes) {
      const Floats x = load(row + i), y = load(row + half + i), cosine = load(angles + i), sine = load(sines + i);
      store(row + i, x * cosine - y * sine);
      store(row + half + i, y * cosine + x * sine);
    }
    for (; i < half; ++i) {
      const float x = row[i], y = row[half + i];
      row[i] = x * angles[i] - y * sines[i];
      row[half + i] = y * angles[i] + x * sines[i];
    }
  }
}

// --- attention ---

// -zero_point * (sums of the panel's rows): what corrects sums with inputs of that zero point, and that are flipped.
RESPARSE_INLINE void zero_point_offsets(const uint8_t* weights, uint32_t quads, int32_t zero_point, int32_t* offsets) {
  constexpr uint8_t kOnes[4] = {1, 1, 1, 1};
  Accumulator row_sums;
  row_sums.begin(nullptr);
  for (uint32_t quad = 0; quad < quads; ++quad)
    row_sums.add(kOnes, Accumulator::read(weights + size_t{quad} * kQuadBytes));
  row_sums.store(offsets);
  for (uint32_t lane = 0; lane < kPanelRows; lane += kVectorLanes)
    store(offsets + lane, load(offsets + lane) * (kInputFlip - zero_point));
}

// The offset of padding keys, whose scores so become the lowest.
constexpr int32_t kMaskedOffset = -(1 << 30);

// Packs the keys of one head as weights: panels of 16 keys [head size / 4][16][4].
RESPARSE_INLINE void pack_keys(const AttentionTask& task, uint8_t* packed, int32_t* offsets) {
  const uint32_t quads = task.head_size / 4;
  for (uint32_t first = 0; first < task.tokens; first += kPanelRows, packed += size_t{quads} * kQuadBytes) {
    const uint32_t count = task.tokens - first < kPanelRows ? task.tokens - first : kPanelRows;
    if (count < kPanelRows) std::memset(packed, 0, size_t{quads} * kQuadBytes);
    for (uint32_t key = 0; key < count; ++key) {
      const uint8_t* from = task.keys + (first + key) * task.stride;
      for (uint32_t quad = 0; quad < quads; ++quad)
        std::memcpy(packed + (size_t{quad} * kPanelRows + key) * 4, from + size_t{quad} * 4, 4);
    }
    zero_point_offsets(packed, quads, task.query_grid.zero_point, offsets + first);
    for (uint32_t key = count; key < kPanelRows; ++key) offsets[first + key] = kMaskedOffset;
  }
}

// Four tokens of 16 columns of the values, interleaved to a quad; columns beyond `width` and tokens beyond `tokens` are
// zero.
RESPARSE_INLINE void pack_value_quad(const uint8_t* from, size_t stride, uint32_t width, uint32_t tokens, uint8_t* to) {
  for (uint32_t lane = 0; lane < kPanelRows; lane += kVectorLanes, from += kVectorLanes, to += 4 * kVectorLanes) {
    const uint32_t left = width > lane ? width - lane : 0;
    const Bytes second = tokens > 1 ? load_part(from + stride, left) : Bytes{};
    const Bytes third = tokens > 2 ? load_part(from + 2 * stride, left) : Bytes{};
    const Bytes fourth = tokens > 3 ? load_part(from + 3 * stride, left) : Bytes{};
    store(reinterpret_cast<int32_t*>(to), interleaved(load_part(from, left), second, third, fourth));
  }
}

// Packs the values of one head as weights: panels of 16 columns [tokens / 4][16 columns][4 tokens].
RESPARSE_INLINE void pack_values(const AttentionTask& task, uint8_t* packed, int32_t* offsets) {
  const uint32_t quads = divide_up(task.tokens, 4);
  for (uint32_t column = 0; column < task.head_size; column += kPanelRows) {
    const uint8_t* from = task.values + column;
    uint8_t* to = packed;
    for (uint32_t token = 0; token < task.tokens; token += 4, from += 4 * task.stride, to += kQuadBytes)
      pack_value_quad(from, task.stride, task.head_size - column, task.tokens - token, to);
    zero_point_offsets(packed, quads, task.probabilities_grid.zero_point, offsets + column);
    packed = to;
  }
}

// Softmax of rows of scores times `scale`, quantized; the scores are overwritten. Each step is done for all rows before
// the next, since reductions have a long latency. Not inlined, so that it has all registers to itself.
__attribute__((noinline)) void softmax(int32_t* scores, uint32_t rows, uint32_t tokens, float scale, Grid grid,
                                       uint8_t* out) {
  const size_t padded = round_up(tokens, kPanelRows);
  const float scale_of_two = scale * 1.44269504088896341f;  // exp(x) = 2^(x / log(2))
  const Quantizer quantizer = quantizer_of(grid);
  float* values = reinterpret_cast<float*>(scores);
  int32_t maxima[kQueryBlock];
  float totals[kQueryBlock];
  for (uint32_t row = 0; row < rows; ++row) {
    const int32_t* of_row = scores + row * padded;
    Ints most = broadcast(kMaskedOffset);
    for (size_t i = 0; i < padded; i += kVectorLanes) most = maximum(most, load(of_row + i));
    maxima[row] = largest(most);
  }
  for (uint32_t row = 0; row < rows; ++row) {
    Floats total{};
    for (size_t i = row * padded; i < (row + 1) * padded; i += kVectorLanes) {
      const Floats power = maximum(to_floats(load(scores + i) - maxima[row]) * scale_of_two, broadcast(-126.0f));
      const Floats shifted = power + kRounder;
      const Floats value = power_of_two(shifted, power - (shifted - kRounder));
      total += value;
      store(values + i, value);
    }
    totals[row] = sum(total);
  }
  for (uint32_t row = 0; row < rows; ++row) {
    const Floats factor = quantizer.inverse * (1.0f / totals[row]);
    for (size_t i = row * padded; i < (row + 1) * padded; i += kVectorLanes)
      store(out + i, low_bytes(quantized(load(values + i), factor, quantizer)));
  }
}

#include "kernels/places.inl"

void attend(const AttentionTask& task, uint8_t* scratch) {
  const size_t padded = round_up(task.tokens, kPanelRows);
  const uint32_t token_quads = divide_up(task.tokens, 4);
  const AttentionScratch places(task.tokens, task.head_size);
  uint8_t* const keys = scratch;
  uint8_t* const values = scratch + places.values;
  uint8_t* const probabilities = scratch + places.probabilities;
  auto* const scores = reinterpret_cast<int32_t*>(scratch + places.scores);
  auto* const key_offsets = reinterpret_cast<int32_t*>(scratch + places.key_offsets);
  auto* const value_offsets = reinterpret_cast<int32_t*>(scratch + places.value_offsets);
  pack_keys(task, keys, key_offsets);
  pack_values(task, values, value_offsets);

  const Quantizer quantizer = quantizer_of(task.context_grid);
  for (uint32_t first = 0; first < task.query_count; first += kQueryBlock) {
    const uint32_t rows = task.query_count - first < kQueryBlock ? task.query_count - first : kQueryBlock;
    const uint8_t* queries = task.queries + first * task.query_stride;
    const Keys seen = keys_of(task.places, first, rows, task.tokens);
    for (size_t key = seen.begin; key < seen.end; key += kPanelRows)
      multiply_all_rows<kAccumulators>(keys + key * task.head_size, task.head_size / 4, queries, task.query_stride,
                                       rows, key_offsets + key, scores + key, padded);
    if (task.places.matter())
      softmax_by_place(scores, rows, task.tokens, task.score_scale, task.probabilities_grid, task.places, first, seen,
                       probabilities);
    else
      softmax(scores, rows, task.tokens, task.score_scale, task.probabilities_grid, probabilities);
    const uint32_t quads = (seen.end / 4 < token_quads ? seen.end / 4 : token_quads) - seen.begin / 4;
    for (size_t column = 0; column < task.head_size; column += kPanelRows) {
      int32_t sums[kQueryBlock * kPanelRows];
      const uint8_t* const panel = values + column * token_quads * 4 + size_t{seen.begin} * kPanelRows;
      // Of a part of the values the zero point is corrected by the sums of this part.
      if (task.places.window != kNoWindow)
        zero_point_offsets(panel, quads, task.probabilities_grid.zero_point, value_offsets + column);
      multiply_all_rows<kAccumulators>(panel, quads, probabilities + seen.begin, padded, rows,
                                       value_offsets + column, sums, kPanelRows);
      const size_t width = task.head_size - column < kPanelRows ? task.head_size - column : kPanelRows;
      for (uint32_t row = 0; row < rows; ++row)
        for (size_t lane = 0; lane < width; lane += kVectorLanes) {
          const Floats value = to_floats(load(sums + row * kPanelRows + lane)) * task.context_scale;
          if (task.floats != nullptr) {
            float* const to = task.floats + (first + row) * task.float_stride + column + lane;
            std::memcpy(to, &value, sizeof(float) * (width - lane < kVectorLanes ? width - lane : kVectorLanes));
            continue;
          }
          const Bytes bytes = low_bytes(quantized(value, quantizer));
          uint8_t* const to = task.context + (first + row) * task.context_stride + column + lane;
          if (lane + kVectorLanes <= width)
            store(to, bytes);
          else
            std::memcpy(to, &bytes, width - lane);
        }
    }
  }
}

#include "kernels/float_kernels.inl"

// --- the table ---

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums);

// A constant expression, so that no code for these instructions runs when the library is loaded.
constexpr Kernels table(uint32_t max_tiles = 1, void (*release)() = nullptr,
                        decltype(Kernels::arrange) arrange = nullptr) {
  return {max_tiles,     kInputFlip, arrange,             multiply,   multiply_floats, multiply_sparse_floats,
          turn,          dequantize, dequantize_by_token, requantize, normalize,       quantize,
          round,         activate,   gate,                rotate,     range,           attend,
          attend_floats, release};
}
