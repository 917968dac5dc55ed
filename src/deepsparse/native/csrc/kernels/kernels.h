// The interface of the kernels: every instruction set provides one table of these functions.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "csr4.h"
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

// What attention makes of places in a text, if anything.
struct Places {
  uint32_t first = 0;           // the place of the first query among the keys
  uint32_t window = kNoWindow;  // as in Layer
  const float* bias = nullptr;  // of a head, for the key at the query's own place; null: none

  bool matter() const { return window != kNoWindow || bias != nullptr; }
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
  Places places;
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
  Places places;
  float score_scale;
  Grid score_grids[kMaxScoreGrids];  // as in Layer
  Grid softmax_grid, probabilities_grid;
  float* peak;  // where not null, gets the largest probability, and `context` is not written
};

struct Kernels {
  uint32_t max_tiles;  // of `multiply`
  // 0x80 where products take signed inputs: uint8 inputs are then kept as int8, 128 less, by all kernels that write or
  // read them; which is the exclusive or of their bytes with this. Else 0.
  uint8_t input_flip;
  // Writes up to kCsr4Tokens tokens as `multiply` takes them in kCsr4: transposed, csr4_tile_bytes(columns), at a
  // multiple of 64. Null where the kernels do not read kCsr4.
  void (*arrange)(const uint8_t* x, size_t stride, uint32_t tokens, uint32_t columns, uint8_t* out);
  // Product of up to max_tiles * 16 tokens with the 16 rows of a panel. Sums start from `offsets`, or from 0 if null.
  // With kCsr4, `x` is what `arrange` has written of these tokens.
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
  // row = activation(row) * gate
  void (*gate)(float* row, const float* gate, uint32_t width, uint32_t activation);
  // Rotary positions (Su et al. 2021, arXiv:2104.09864) in a row of heads. `angles`: of the token's place, the cosines
  // of half a head's dimensions, each with the one that is half a head further, then the sines.
  void (*rotate)(float* row, uint32_t heads, uint32_t head_size, const float* angles);
  // The least and the greatest number of a row.
  void (*range)(const float* row, uint32_t width, float* least, float* greatest);
  // Attention of one head of one text. `scratch` has the size of its AttentionScratch, or of that of a longer text.
  void (*attend)(const AttentionTask& task, uint8_t* scratch);
  // The same in float, with a FloatAttentionScratch.
  void (*attend_floats)(const FloatAttentionTask& task, uint8_t* scratch);
  // Resets the processor state that `multiply` has configured for the calling thread; null where there is none.
  void (*release)();

  // Number of tokens for the next call of `multiply` when `tokens` are left: as many as fit, but so that the last call
  // has a whole tile, unless there are as many tokens as `arrange` takes.
  uint32_t next_tokens(uint32_t tokens) const {
    const uint32_t most = max_tiles * kTileTokens;
    if (tokens <= most) return tokens;
    return max_tiles > 1 && arrange == nullptr && tokens < most + kTileTokens ? most - kTileTokens : most;
  }
};

// Inputs of products as `multiply` takes them, for one thread. What is arranged is not arranged again, so an object
// serves only as long as the inputs do not change: a step.
class ArrangedInputs {
 public:
  ArrangedInputs(const Kernels& kernels, uint8_t* memory) : kernels_(kernels), memory_(memory) {}

  // Bytes of memory for so many tokens.
  static size_t size(uint32_t tokens, uint32_t columns) {
    return divide_up(tokens, kCsr4Tokens) * csr4_tile_bytes(columns);
  }

  // The tokens that `at` counts.
  void set(const PackedMatrix& weights, const uint8_t* x, size_t stride, uint32_t tokens) {
    is_arranged_ = weights.format == kCsr4;
    stride_ = stride;
    if (!is_arranged_) x_ = x;
    if (!is_arranged_ || (x == from_ && tokens == tokens_ && weights.columns == columns_)) return;
    from_ = x;
    tokens_ = tokens;
    columns_ = weights.columns;
    for (uint32_t token = 0; token < tokens; token += kCsr4Tokens)
      kernels_.arrange(x + token * stride, stride, tokens - token < kCsr4Tokens ? tokens - token : kCsr4Tokens,
                       columns_, memory_ + token / kCsr4Tokens * csr4_tile_bytes(columns_));
  }

  // What `multiply` takes for tokens from this one on; of arranged tokens a multiple of kCsr4Tokens.
  const uint8_t* at(uint32_t token) const {
    return is_arranged_ ? memory_ + token / kCsr4Tokens * csr4_tile_bytes(columns_) : x_ + token * stride_;
  }

 private:
  const Kernels& kernels_;
  uint8_t* const memory_;
  bool is_arranged_ = false;
  const uint8_t *x_ = nullptr, *from_ = nullptr;  // of the last call, and of what is arranged
  size_t stride_ = 0;
  uint32_t tokens_ = 0, columns_ = 0;
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
