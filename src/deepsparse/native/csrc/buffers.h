// The buffers of a forward pass: hidden states, and the sizes of all others.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "model.h"
#include "products.h"

namespace resparse {

// Where nothing is to be quantized: what is written is not read.
constexpr Grid kUnused{1, 0, 0, 255};

// Queries of a text whose attention to the keys of a head is one task: many, since each task packs the keys anew.
constexpr uint32_t kQueriesOfTask = 512;

// Hidden states between layers.
struct Rows {
  uint32_t count;
  size_t hidden_stride, bytes_stride;
  Buffer<float> hidden;   // [count][hidden]: the input of a layer; residuals are added in place
  Buffer<float> normed;   // the same, normalized, where `hidden` keeps the sums
  Buffer<uint8_t> input;  // [count][hidden]: what is normalized, quantized for the next linear

  Rows(uint32_t count, uint32_t width, bool keeps_sums)
      : count(count),
        hidden_stride(round_up(width, kPanelRows)),
        bytes_stride(round_up(width, kColumnPad)),
        hidden(count * hidden_stride),
        normed(keeps_sums ? count * hidden_stride : 0),
        input(count * bytes_stride),
        keeps_sums_(keeps_sums) {}

  // What the next linear reads of a row.
  float* read(size_t row) const { return (keeps_sums_ ? normed : hidden).data() + row * hidden_stride; }

 private:
  bool keeps_sums_;
};

// Strides between rows, and sizes; those of parts that the model does not have are 0.
struct BufferSizes {
  size_t bytes_stride = 0, intermediate_stride = 0;         // of layers
  size_t floats_stride = 0, float_intermediate_stride = 0;  // of layers of which a part is in float
  size_t gate_stride = 0, angles_stride = 0;                // of layers with a gate, and with rotary positions
  size_t embedded_stride = 0, head_stride = 0;
  uint32_t longest = 0;  // text
  size_t attention_scratch = 0;
  size_t peaks = 0;  // of attention by range
  InputSizes inputs;  // of Products

  BufferSizes(const OpenModel& model, const Tokens& tokens, bool of_texts) {
    for (uint32_t text = 0; text < tokens.texts; ++text) longest = std::max(longest, tokens.length_of(text));
    for (const OpenLayer& layer : model.layers) add(layer, tokens.count(), tokens.texts);
    const uint32_t head_rows = of_texts ? tokens.texts : tokens.count();
    for (const OpenLinear& linear : model.head) {
      head_stride = std::max(head_stride, round_up(linear.weights.rows, kColumnPad));
      inputs.include(linear, head_rows);
    }
    if (model.projection.weights.rows != 0) {
      embedded_stride = round_up(model.record->embedding, kColumnPad);
      inputs.include(model.projection, tokens.count());
    }
  }

 private:
  void add(const OpenLayer& layer, uint32_t tokens, uint32_t texts) {
    const uint32_t width = layer.width(), wide = layer.intermediate_size();
    bytes_stride = std::max(bytes_stride, round_up(width, kColumnPad));
    for (const OpenLinear* linear : layer.linears()) inputs.columns = std::max(inputs.columns, linear->weights.columns);
    const uint64_t around = uint64_t{kQueriesOfTask} + 2 * uint64_t{layer.record->window};
    const auto keys = static_cast<uint32_t>(std::min<uint64_t>(longest, around));
    if (layer.record->attention == kIntegerAttention)
      attention_scratch = std::max(attention_scratch, AttentionScratch(keys, layer.head_size()).size);
    else
      attention_scratch = std::max(attention_scratch, FloatAttentionScratch(keys, layer.head_size()).size);
    if (layer.is_integer) {
      intermediate_stride = std::max(intermediate_stride, round_up(wide, kColumnPad));
      return;
    }
    floats_stride = std::max(floats_stride, round_up(width, kColumnPad));
    float_intermediate_stride = std::max(float_intermediate_stride, round_up(wide, kColumnPad));
    if (layer.is_gated()) gate_stride = std::max(gate_stride, round_up(wide, kColumnPad));
    if (layer.frequencies != nullptr) angles_stride = std::max(angles_stride, round_up(layer.head_size(), kPanelRows));
    for (const OpenLinear* linear : layer.linears())
      if (linear->weights.rows != 0) inputs.include(*linear, tokens);
    if (layer.record->attention == kAttentionByRange) {
      inputs.quantized.include(tokens, 0);
      peaks = std::max(peaks, size_t{texts} * layer.record->heads * divide_up(longest, kQueriesOfTask));
    }
  }
};

}  // namespace resparse
