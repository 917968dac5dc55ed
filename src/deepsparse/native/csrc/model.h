// An opened model: the records of the block, with checked pointers in the place of offsets.

#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine.h"
#include "kernels/kernels.h"

namespace resparse {

// In float there are no scales and no offsets.
struct OpenLinear {
  PackedMatrix weights;
  Grid input{}, rounding{}, product{};  // as in Linear: `rounding` is `output`
  const float* scales = nullptr;
  const float* biases = nullptr;
  const int32_t* offsets = nullptr;
};

struct OpenNorm {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

struct OpenTable {
  const uint8_t* rows = nullptr;
  uint32_t count = 0;
  float scale = 0;
};

struct OpenLayer {
  OpenLinear query, key, value, attention_output, intermediate, gate, output;
  OpenNorm attention_norm, output_norm;
  const float* frequencies = nullptr;
  const float* bias = nullptr;
  const Layer* record = nullptr;
  const float* table = nullptr;  // of the activation kTable
  // All linears and the attention are in integers, and nothing between them is in float: no input is quantized by its
  // range, no position is rotary, nothing is gated, and nothing is rounded but inputs and outputs of linears.
  bool is_integer = false;
  bool by_range = false;  // inputs of some linears, or the factors of attention, are

  // That of the gate has no rows where there is none.
  std::array<const OpenLinear*, 7> linears() const {
    return {&query, &key, &value, &attention_output, &intermediate, &gate, &output};
  }
  bool is_gated() const { return gate.weights.rows != 0; }
  uint32_t width() const { return query.weights.rows; }  // of all heads
  uint32_t head_size() const { return width() / record->heads; }
  uint32_t intermediate_size() const { return intermediate.weights.rows; }
};

struct OpenModel {
  const Model* record = nullptr;
  const Kernels* kernels = nullptr;
  OpenTable words, positions, types;
  OpenNorm embedding_norm;
  OpenLinear projection;
  std::vector<OpenLayer> layers;
  std::vector<OpenLinear> head;
  std::vector<OpenNorm> head_norms;  // without weights: none
  std::vector<const float*> tables;  // of the head's activations
};

// Throws Error where the block is no model, or where an offset in it points outside.
OpenModel open_model(const uint8_t* block, uint64_t size);

}  // namespace resparse
