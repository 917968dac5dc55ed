// Packed models of random weights, as Python writes them; for stress.cpp.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "engine.h"
#include "weight_formats.h"

namespace resparse {

// What is in float, as bits; kSparse: with zeros left out; kByRange: what else is quantized, is so by its range.
enum InFloat : uint32_t {
  kPooler = 1,
  kClassifier = 2,
  kProjection = 4,
  kQuery = 8,
  kLayers = 16,
  kAttention = 32,
  kSparse = 64,
  kByRange = 128,
};

// Parts that models of some architectures have, as bits.
enum Parts : uint32_t {
  kGates = 1,
  kRotary = 2,
  kBiases = 4,
  kWindows = 8,  // of every second layer
  kSums = 16,    // are kept
  kHeadNorm = 32,
  kNoPositions = 64,
};

struct Sizes {
  uint32_t layers, hidden, intermediate, heads, embedding, labels;
  double zeros;
  uint32_t in_float;
  uint32_t head_tokens = kFirstToken;
  uint32_t width = hidden;   // of all heads
  bool is_rounded = false;  // outputs are
  uint32_t parts = 0;
  bool rounds_all = false;  // and all that a layer computes
};

constexpr uint32_t kReach = 600;  // of relative positions

class Builder {
 public:
  Builder(const Sizes& sizes, uint32_t isa, uint32_t format, uint32_t seed)
      : sizes_(sizes), format_(format), random_(seed) {
    take(sizeof(Model));
    Model model{};
    model.magic = kMagic;
    model.version = kVersion;
    model.isa = isa;
    model.layers = sizes.layers;
    model.hidden = sizes.hidden;
    model.embedding = sizes.embedding;
    model.labels = sizes.labels;
    model.head_linears = 2;
    model.head_tokens = sizes.head_tokens;
    model.epsilon = 1e-12f;
    model.words = table(500);
    if ((sizes.parts & kNoPositions) == 0) model.positions = table(512);
    model.keeps_sums = (sizes.parts & kSums) != 0;
    model.types = table(2);
    model.embedding_norm = norm(sizes.embedding);
    if (sizes.embedding != sizes.hidden) {
      model.projection = any_linear(kProjection, sizes.hidden, sizes.embedding, 0.03f);
    }
    model.head[0] = {any_linear(kPooler, sizes.hidden, sizes.hidden, 0.03f), kTanh, 0, {}};
    if ((sizes.parts & kHeadNorm) != 0) model.head[0].norm = norm(sizes.hidden);
    if (sizes.rounds_all) {
      model.first_sum = model.embedding_sum = {0.001f, 128, 0, 255};
      model.added_last = kTypesLast;
    }
    model.head[1] = {any_linear(kClassifier, sizes.labels, sizes.hidden, 0.008f), kNone, 0, {}};
    std::vector<Layer> layers(sizes.layers);
    for (Layer& layer : layers) {
      const uint32_t h = sizes.hidden, width = sizes.width, wide = sizes.intermediate;
      layer.query = any_linear(kQuery, width, h, 0.03f);
      layer.key = any_linear(kLayers, width, h, 0.03f);
      layer.value = any_linear(kLayers, width, h, 0.03f);
      layer.attention_output = any_linear(kLayers, h, width, 0.02f);
      layer.intermediate = any_linear(kLayers, wide, h, 0.03f);
      layer.output = any_linear(kLayers, h, wide, 0.02f);
      if ((sizes.in_float & kAttention) == 0) {
        layer.query_grid = {0.02f, 128, 0, 255};
        layer.key_grid = layer.value_grid = {0.02f, 0, -128, 127};
        layer.probabilities_grid = {1 / 255.0f, 0, 0, 255};
      } else {
        layer.attention = (sizes.in_float & kByRange) != 0 ? kAttentionByRange : kFloatAttention;
      }
      layer.heads = sizes.heads;
      layer.activation = kGelu;
      layer.score_scale = 1 / std::sqrt(static_cast<float>(width) / static_cast<float>(sizes.heads));
      layer.attention_norm = norm(h);
      layer.output_norm = norm(h);
      if (sizes.rounds_all) round_all(layer);
      layer.window = kNoWindow;
      if ((sizes.parts & kGates) != 0) layer.gate = any_linear(kLayers, wide, h, 0.03f);
      if ((sizes.parts & kRotary) != 0) layer.frequencies = floats(width / sizes.heads / 2, 0.5f, 0.5f);
      if ((sizes.parts & kWindows) != 0 && &layer != layers.data()) layer.window = 9;
      if ((sizes.parts & kBiases) == 0) continue;
      layer.reach = kReach;
      layer.bias = floats(static_cast<uint32_t>(sizes.heads * bias_stride(kReach)), 0, 2);
    }
    model.layer_records = put(layers.data(), layers.size() * sizeof(Layer));
    model.size = bytes_.size();
    std::memcpy(bytes_.data(), &model, sizeof model);
  }

  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  uint64_t take(size_t size) {
    const uint64_t at = bytes_.size();
    bytes_.resize(round_up(at + size, kAlignment));
    return at;
  }

  uint64_t put(const void* data, size_t size) {
    const uint64_t at = take(size);
    std::memcpy(bytes_.data() + at, data, size);
    return at;
  }

  uint64_t floats(uint32_t count, float around, float spread) {
    std::vector<float> values(count);
    for (float& value : values)
      value = around + spread * static_cast<float>(static_cast<int>(random_() % 200) - 100) / 100;
    return put(values.data(), sizeof(float) * count);
  }

  std::vector<int8_t> weights(size_t count, double zeros) {
    std::vector<int8_t> values(count);
    for (int8_t& value : values)
      if (random_() % 1000 >= zeros * 1000) value = static_cast<int8_t>(static_cast<int>(random_() % 255) - 127);
    return values;
  }

  Linear linear(uint32_t rows, uint32_t columns, float input_scale) {
    const std::vector<int8_t> values = weights(size_t{rows} * columns, sizes_.zeros);
    Linear record{};
    record.rows = rows;
    record.columns = columns;
    record.format = format_;
    const int64_t size = resparse_pack(format_, values.data(), rows, columns, nullptr, 0);
    std::vector<uint8_t> packed(static_cast<size_t>(size));
    resparse_pack(format_, values.data(), rows, columns, packed.data(), size);
    record.weights = put(packed.data(), packed.size());
    record.weights_size = packed.size();
    const auto padded = static_cast<uint32_t>(round_up(rows, kPanelRows));
    const float density = 1.02f - static_cast<float>(sizes_.zeros);
    const float weight_scale = 0.02f / std::sqrt(static_cast<float>(columns) * density);
    record.scales = floats(padded, input_scale * weight_scale, 0);
    record.biases = floats(padded, 0, 0.1f);
    std::vector<int32_t> offsets(padded, 0);
    for (uint32_t row = 0; row < rows; ++row)
      for (uint32_t column = 0; column < columns; ++column)
        offsets[row] -= 128 * values[size_t{row} * columns + column];
    record.offsets = put(offsets.data(), sizeof(int32_t) * padded);
    if ((sizes_.in_float & kByRange) == 0) record.input = {input_scale, 128, 0, 255};
    if (sizes_.is_rounded) record.output = {0.02f, 120, 4, 250};
    return record;
  }

  Linear any_linear(InFloat which, uint32_t rows, uint32_t columns, float input_scale) {
    if ((sizes_.in_float & which) == 0) return linear(rows, columns, input_scale);
    const auto padded = static_cast<uint32_t>(round_up(rows, kPanelRows));
    Linear record{};
    record.rows = rows;
    record.columns = columns;
    record.biases = floats(padded, 0, 0.1f);
    if (sizes_.is_rounded) record.input = record.output = {0.02f, 120, 4, 250};
    if ((sizes_.in_float & kSparse) != 0) return sparse_linear(record, padded);
    record.format = kFloat;
    record.weights = floats(padded * columns, 0, 0.1f);
    record.weights_size = sizeof(float) * padded * columns;
    return record;
  }

  Linear sparse_linear(Linear record, uint32_t padded) {
    std::vector<uint32_t> starts(padded + 1);
    std::vector<SparseFloat> non_zeros;
    for (uint32_t row = 0; row < padded; starts[++row] = static_cast<uint32_t>(non_zeros.size()))
      for (uint32_t column = 0; row < record.rows && column < record.columns; ++column)
        if (random_() % 1000 >= sizes_.zeros * 1000)
          non_zeros.push_back({column, static_cast<float>(static_cast<int>(random_() % 255) - 127) / 1000});
    const size_t before = round_up(sizeof(uint32_t) * starts.size(), kAlignment);
    std::vector<uint8_t> packed(before + sizeof(SparseFloat) * non_zeros.size());
    std::memcpy(packed.data(), starts.data(), sizeof(uint32_t) * starts.size());
    if (!non_zeros.empty())
      std::memcpy(packed.data() + before, non_zeros.data(), sizeof(SparseFloat) * non_zeros.size());
    record.format = kSparseFloat;
    record.weights = put(packed.data(), packed.size());
    record.weights_size = packed.size();
    return record;
  }

  void round_all(Layer& layer) {
    const Grid fine{0.02f, 120, 4, 250}, shares{1 / 255.0f, 0, 0, 255};
    layer.query_grid = layer.key_grid = layer.value_grid = layer.context_grid = fine;
    layer.score_grids[0] = layer.score_grids[1] = {0.05f, 100, 0, 255};
    layer.softmax_grid = layer.probabilities_grid = shares;
    layer.attention_residual = layer.attention_sum = layer.output_residual = layer.output_sum = {0.03f, 128, 0, 255};
    for (Linear* linear : {&layer.query, &layer.key, &layer.value, &layer.attention_output, &layer.intermediate,
                           &layer.output})
      linear->product = fine;
    layer.activation = kTable;
    layer.table = floats(kTableSize, 0, 1);
  }

  Norm norm(uint32_t width) { return {floats(width, 1, 0.2f), floats(width, 0, 0.2f)}; }

  Table table(uint32_t count) {
    const std::vector<int8_t> values = weights(size_t{count} * sizes_.embedding, 0);
    return {put(values.data(), values.size()), count, 0.001f};
  }

  Sizes sizes_;
  uint32_t format_;
  std::mt19937 random_;
  std::vector<uint8_t> bytes_;
};

// An aligned copy of a block, with no readable byte behind it.
struct Aligned {
  explicit Aligned(const std::vector<uint8_t>& bytes) : size(bytes.size()) {
    if (posix_memalign(&memory, kAlignment, size) != 0) std::abort();
    std::memcpy(memory, bytes.data(), size);
  }
  ~Aligned() { std::free(memory); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  void* memory = nullptr;
  size_t size;
};

}  // namespace resparse
