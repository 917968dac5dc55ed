// The interface of the kernels: every instruction set provides one table of these functions.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "weight_formats.h"
#include "kernels/gelu_table.h"

namespace resparse {

constexpr uint32_t kTileTokens = 16;
constexpr uint32_t kMaxTiles = 4;    // in one call of `multiply`
constexpr uint32_t kQueryBlock = 8;  // queries whose attention scores are held at a time
constexpr uint32_t kFloatTile = 64;  // tokens of a tile of kSparseFloat's inputs

// int32 sums of a panel's 16 rows, for up to four tiles of tokens.
struct alignas(64) Sums {
  int32_t values[kMaxTiles * kTileTokens][kPanelRows];
};

// One attention head of one text: where its quantized queries, keys and values lie, `stride` bytes between tokens.
struct AttentionTask {
  const uint8_t* queries;
  const uint8_t* keys;    // int8
  const uint8_t* values;  // int8
  uint8_t* context;       // quantized by `context_grid`
  float* floats;          // the context in float, `float_stride` apart; where not null, `context` is not written
  size_t query_stride, stride, context_stride, float_stride;
  uint32_t query_count, tokens, head_size;
  Grid query_grid, probabilities_grid, context_grid;
  float score_scale;    // of an integer score
  float context_scale;  // of an integer sum of values
};

// The same in float; rows are readable up to a multiple of 16 numbers.
struct FloatAttentionTask {
  const float *queries, *keys, *values;
  float* context;
  size_t query_stride, stride, context_stride;
  uint32_t query_count, tokens, head_size;
  float score_scale;
};

struct Kernels {
  uint32_t max_tiles;  // of `multiply`
  // 0x80 where products take signed inputs: uint8 inputs are then kept as int8, 128 less, by all kernels that write or
  // read them; which is the exclusive or of their bytes with this. Else 0.
  uint8_t input_flip;
  // Product of up to max_tiles * 16 tokens with the 16 rows of a panel. Sums start from `offsets`, or from 0 if null.
  void (*multiply)(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                   const int32_t* offsets, Sums& sums);
  // The same for kFloat, any number of tokens; starts from 16 `biases`. out =, or out += where `add`.
  void (*multiply_floats)(const PackedMatrix& weights, uint32_t panel, const float* x, size_t stride, uint32_t tokens,
                          const float* biases, bool add, float* out, size_t out_stride);
  // The same for kSparseFloat, up to kFloatTile tokens; x[columns][kFloatTile] is what `turn` has written.
  void (*multiply_sparse_floats)(const PackedMatrix& weights, uint32_t panel, const float* x, uint32_t tokens,
                                 const float* biases, bool add, float* out, size_t out_stride);
  // Writes up to kFloatTile rows of floats as columns: out[round_up(columns, 4)][kFloatTile].
  void (*turn)(const float* x, size_t stride, uint32_t tokens, uint32_t columns, float* out);
  // out = sums * scales + biases, or out += where `add`; rounded to a grid, unless its scale is 0.
  void (*dequantize)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, Grid rounding,
                     bool add, float* out, size_t stride);
  // The same, of sums that started from 0, for tokens with a grid each.
  void (*dequantize_by_token)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases,
                              const int32_t* row_sums, const Grid* grids, bool add, float* out, size_t stride);
  // activation(sums * scales + biases), quantized; rounded before to a grid, unless its scale is 0.
  void (*requantize)(const Sums& sums, uint32_t tokens, const float* scales, const float* biases, Grid rounding,
                     uint32_t activation, Grid grid, uint8_t* out, size_t stride);
  // Layer normalization (Ba et al. 2016, arXiv:1607.06450) of a row: in place, and quantized to uint8. Row and `out`
  // are readable and writable up to a multiple of 16 numbers; so are those of the next two.
  void (*normalize)(float* row, uint32_t width, const float* weight, const float* bias, float epsilon, Grid grid,
                    uint8_t* out);
  // Quantizes a row.
  void (*quantize)(const float* row, uint32_t width, Grid grid, uint8_t* out);
  // Rounds a row to a grid's numbers.
  void (*round)(const float* row, uint32_t width, Grid grid, float* out);
  // row = activation(row)
  void (*activate)(float* row, uint32_t width, uint32_t activation);
  // The least and the greatest number of a row.
  void (*range)(const float* row, uint32_t width, float* least, float* greatest);
  // Attention of one head of one text. `scratch` has the size of its AttentionScratch, or of that of a longer text.
  void (*attend)(const AttentionTask& task, uint8_t* scratch);
  // The same in float, with a FloatAttentionScratch.
  void (*attend_floats)(const FloatAttentionTask& task, uint8_t* scratch);
  // Resets the processor state that `multiply` has configured for the calling thread; null where there is none.
  void (*release)();

  // Number of tokens for the next call of `multiply` when `tokens` are left: as many as fit, but so that the last call
  // has a whole tile.
  uint32_t next_tokens(uint32_t tokens) const {
    const uint32_t most = max_tiles * kTileTokens;
    if (tokens <= most) return tokens;
    return max_tiles > 1 && tokens < most + kTileTokens ? most - kTileTokens : most;
  }
};

// Calls `release` at the end of a scope in which a thread uses kernels.
class KernelScope {
 public:
  explicit KernelScope(const Kernels& kernels) : kernels_(kernels) {}
  ~KernelScope() {
    if (kernels_.release != nullptr) kernels_.release();
  }
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  const Kernels& kernels_;
};

// The layout of attention's scratch memory for a head: packed keys first, then these offsets in bytes.
struct AttentionScratch {
  size_t values, probabilities, scores, key_offsets, value_offsets, size;

  AttentionScratch(uint32_t tokens, uint32_t head_size) {
    const size_t padded = round_up(tokens, kPanelRows), head = round_up(head_size, kPanelRows);
    values = round_up(padded * head_size, kAlignment);
    probabilities = values + round_up(round_up(tokens, 4) * head, kAlignment);
    scores = probabilities + round_up(padded * kQueryBlock, kAlignment);
    key_offsets = scores + sizeof(int32_t) * padded * kQueryBlock;
    value_offsets = key_offsets + sizeof(int32_t) * padded;
    size = round_up(value_offsets + sizeof(int32_t) * head, kAlignment);
  }
};

// The same in float: the keys, packed, then rows of scores.
struct FloatAttentionScratch {
  size_t scores, size;

  FloatAttentionScratch(uint32_t tokens, uint32_t head_size) {
    const size_t padded = round_up(tokens, kPanelRows);
    scores = sizeof(float) * padded * head_size;
    size = round_up(scores + sizeof(float) * padded * kQueryBlock, kAlignment);
  }
};

}  // namespace resparse
