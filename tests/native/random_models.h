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

// Linear layers that are in float, as bits.
enum InFloat : uint32_t { kPooler = 1, kClassifier = 2, kProjection = 4 };

struct Sizes {
  uint32_t layers, hidden, intermediate, heads, embedding, labels;
  double zeros;
  uint32_t in_float;
  uint32_t head_tokens = kFirstToken;
};

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
    model.intermediate = sizes.intermediate;
    model.heads = sizes.heads;
    model.embedding = sizes.embedding;
    model.labels = sizes.labels;
    model.activation = kGelu;
    model.head_linears = 2;
    model.head_tokens = sizes.head_tokens;
    model.epsilon = 1e-12f;
    model.score_scale = 1 / std::sqrt(static_cast<float>(sizes.hidden) / static_cast<float>(sizes.heads));
    model.words = table(500);
    model.positions = table(512);
    model.types = table(2);
    model.embedding_norm = norm(sizes.embedding);
    if (sizes.embedding != sizes.hidden) {
      model.projection = any_linear(kProjection, sizes.hidden, sizes.embedding, 0.03f);
      model.projection_input = {0.03f, 120};
    }
    model.head[0] = {any_linear(kPooler, sizes.hidden, sizes.hidden, 0.03f), {0.03f, 128}, kTanh, 0};
    model.head[1] = {any_linear(kClassifier, sizes.labels, sizes.hidden, 0.008f), {0.008f, 128}, kNone, 0};
    std::vector<Layer> layers(sizes.layers);
    for (Layer& layer : layers) {
      const uint32_t h = sizes.hidden;
      layer.query = linear(h, h, 0.03f);
      layer.key = linear(h, h, 0.03f);
      layer.value = linear(h, h, 0.03f);
      layer.attention_output = linear(h, h, 0.02f);
      layer.intermediate = linear(sizes.intermediate, h, 0.03f);
      layer.output = linear(h, sizes.intermediate, 0.02f);
      layer.input = layer.intermediate_input = {0.03f, 128};
      layer.query_grid = {0.02f, 128};
      layer.key_grid = layer.value_grid = {0.02f, 0};
      layer.probabilities_grid = {1 / 255.0f, 0};
      layer.attention_output_input = {0.02f, 128};
      layer.output_input = {0.02f, 10};
      layer.attention_norm = norm(h);
      layer.output_norm = norm(h);
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
    return record;
  }

  Linear any_linear(InFloat which, uint32_t rows, uint32_t columns, float input_scale) {
    if ((sizes_.in_float & which) == 0) return linear(rows, columns, input_scale);
    const auto padded = static_cast<uint32_t>(round_up(rows, kPanelRows));
    Linear record{};
    record.rows = rows;
    record.columns = columns;
    record.format = kFloat;
    record.weights = floats(padded * columns, 0, 0.1f);
    record.weights_size = sizeof(float) * padded * columns;
    record.biases = floats(padded, 0, 0.1f);
    return record;
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
