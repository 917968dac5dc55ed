// What every instruction set provides: the same few functions, by a table.

#pragma once

#include <cstddef>
#include <cstdint>

#include "engine.h"
#include "pack.h"

namespace resparse {

constexpr uint32_t kTile = 16;      // tokens of a tile
constexpr uint32_t kMostTiles = 4;  // that a kernel takes at once
constexpr uint32_t kQueries = 8;    // queries whose scores attention holds at a time

// Integer sums of some tiles: [tokens][16 rows].
struct alignas(64) Sums {
  int32_t values[kMostTiles * kTile][kLanes];
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
  uint32_t tiles;  // that `multiply` takes at most
  // Sums of the tiles' tokens and of the rows from 16 * `group` on, begun with `offsets` (16 of them, or null for 0).
  void (*multiply)(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
                   const int32_t* offsets, Sums& sums);
  // The same of a matrix of floats and rows of floats, begun with 16 `biases`, for any number of rows.
  void (*multiply_floats)(const Packed& weights, uint32_t group, const float* x, size_t stride, uint32_t rows,
                          const float* biases, float* out, size_t out_stride);
  // sums * scales + biases, as float: into `out`, or added to what is there.
  void (*finish_float)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, bool add,
                       float* out, size_t stride);
  // activation(sums * scales + biases) on a grid of uint8, or of int8 where `is_signed`.
  void (*finish_integer)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                         uint32_t activation, Grid grid, bool is_signed, uint8_t* out, size_t stride);
  // Layer normalization of a row (Ba et al. 2016, arXiv:1607.06450): in place, and on a grid of uint8. Row and `out`
  // are readable and writable to whole vectors.
  void (*normalize)(float* row, uint32_t width, const float* weight, const float* bias, float epsilon, Grid grid,
                    uint8_t* out);
  // A row on a grid of uint8, written to whole vectors.
  void (*quantize)(const float* row, uint32_t width, Grid grid, uint8_t* out);
  // row = activation(row)
  void (*activate)(float* row, uint32_t width, uint32_t activation);
  // One head of one text. `scratch` has the size of its AttentionScratch, or of that of a longer text.
  void (*attend)(const AttentionTask& task, uint8_t* scratch);
  // Gives back what `multiply` has set up in this thread's processor; null where that is nothing.
  void (*release)();

  // How many of so many tokens to multiply next: all that fit, but such that the last product has a whole tile.
  uint32_t next_of(uint32_t tokens) const {
    const uint32_t most = tiles * kTile;
    if (tokens <= most) return tokens;
    return tiles > 1 && tokens < most + kTile ? most - kTile : most;
  }
};

// Held by a thread while it uses kernels.
class Use {
 public:
  explicit Use(const Kernels& kernels) : kernels_(kernels) {}
  ~Use() {
    if (kernels_.release != nullptr) kernels_.release();
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  const Kernels& kernels_;
};

// Where attention keeps what it needs for a head, in bytes from the beginning of its scratch memory; keys come first.
struct AttentionScratch {
  size_t values, probabilities, scores, key_offsets, value_offsets, size;

  AttentionScratch(uint32_t tokens, uint32_t head_size) {
    const size_t padded = round_up(tokens, kLanes), head = round_up(head_size, kLanes);
    values = round_up(padded * head_size, kAlignment);
    probabilities = values + round_up(round_up(tokens, 4) * head, kAlignment);
    scores = probabilities + round_up(padded * kQueries, kAlignment);
    key_offsets = scores + sizeof(int32_t) * padded * kQueries;
    value_offsets = key_offsets + sizeof(int32_t) * padded;
    size = round_up(value_offsets + sizeof(int32_t) * head, kAlignment);
  }
};

// The table of an instruction set, which must be usable. Throws Error where there is none.
const Kernels& kernels_of(uint32_t isa);

}  // namespace resparse
