// What every instruction set provides: the same few functions, by a table.

#pragma once

#include <cstddef>
#include <cstdint>

#include "engine.h"
#include "pack.h"

namespace resparse {

constexpr uint32_t kTile = 16;  // tokens that a kernel takes at most

// Integer sums of one tile: [tokens][16 rows].
struct alignas(64) Sums {
  int32_t values[kTile][kLanes];
};

// Where the heads of one text's queries, keys and values lie, and where its context goes: bytes, `stride` a token.
struct AttentionTask {
  const uint8_t* queries;
  const uint8_t* keys;    // int8
  const uint8_t* values;  // int8
  uint8_t* context;       // integers of the grid `context_grid`
  size_t query_stride, stride, context_stride;
  uint32_t query_count, tokens, head_size;
  Grid query_grid, probabilities_grid, context_grid;
  float score_scale;    // of an integer score
  float context_scale;  // of an integer sum of values
};

struct Kernels {
  uint32_t isa;
  // Sums of the tile's tokens and of the rows from 16 * `group` on, begun with `offsets` (16 of them, or null for 0).
  void (*multiply)(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
                   const int32_t* offsets, Sums& sums);
  // sums * scales + biases (+ residual, where given), as float.
  void (*finish_float)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                       const float* residual, float* out, size_t stride);
  // activation(sums * scales + biases) on a grid of uint8, or of int8 where `is_signed`.
  void (*finish_integer)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                         uint32_t activation, Grid grid, bool is_signed, uint8_t* out, size_t stride);
  // Layer normalization of a row in place (Ba et al. 2016, arXiv:1607.06450); readable and writable to whole vectors.
  void (*normalize)(float* row, uint32_t width, const float* weight, const float* bias, float epsilon);
  // A row on a grid of uint8, written to whole vectors.
  void (*quantize)(const float* row, uint32_t width, Grid grid, uint8_t* out);
  // row = activation(row)
  void (*activate)(float* row, uint32_t width, uint32_t activation);
  // One head of one text. `scratch` has attention_scratch() bytes.
  void (*attend)(const AttentionTask& task, uint8_t* scratch);
};

size_t attention_scratch(uint32_t tokens, uint32_t head_size);

// The table of an instruction set, which must be usable. Throws Error where there is none.
const Kernels& kernels_of(uint32_t isa);

}  // namespace resparse
