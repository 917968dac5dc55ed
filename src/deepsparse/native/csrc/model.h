// An opened model: the records of the block, with checked pointers in the place of offsets.

#pragma once

#include <cstdint>
#include <vector>

#include "engine.h"
#include "kernels/kernels.h"

namespace resparse {

// In kFloat there are no scales and no offsets.
struct OpenLinear {
  PackedMatrix weights;
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
  OpenLinear query, key, value, attention_output, intermediate, output;
  OpenNorm attention_norm, output_norm;
  const Layer* record = nullptr;  // for its grids
};

struct OpenModel {
  const Model* record = nullptr;
  const Kernels* kernels = nullptr;
  OpenTable words, positions, types;
  OpenNorm embedding_norm;
  OpenLinear projection;
  std::vector<OpenLayer> layers;
  std::vector<OpenLinear> head;
};

// Throws Error where the block is no model, or where an offset in it points outside.
OpenModel open_model(const uint8_t* block, uint64_t size);

}  // namespace resparse
