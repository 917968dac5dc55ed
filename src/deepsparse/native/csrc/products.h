// The products of linear layers with tokens, in tasks of a team.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "model.h"
#include "thread_pool.h"

namespace resparse {

// The tokens that are computed together, text by text.
struct Tokens {
  const int64_t* starts;  // of the texts, from that of the first on
  uint32_t texts;

  uint32_t start_of(uint32_t text) const { return static_cast<uint32_t>(starts[text] - starts[0]); }
  uint32_t length_of(uint32_t text) const { return static_cast<uint32_t>(starts[text + 1] - starts[text]); }
  uint32_t count() const { return start_of(texts); }
};

// A product with quantized tokens. Its tasks are blocks of panels by blocks of tokens. Tasks with the same tokens are
// adjacent, so that a thread's range of a step has about the same tokens in all steps.
struct Product {
  const OpenLinear& linear;
  const uint8_t* x;
  size_t stride;
  uint32_t tokens;
};

// Where the result of a product goes: as float, into `out` or added to it,
struct FloatResult {
  bool add;
  float* out;
  size_t stride;
};
// or quantized, after an activation function.
struct IntegerResult {
  uint32_t activation;
  Grid grid;
  uint8_t* out;
  size_t stride;
};

struct IntegerProduct {
  Product product;
  IntegerResult result;
};

// Rows of floats, readable up to a multiple of 16 numbers: one a token, or one a text.
struct FloatRows {
  const float* data;
  size_t stride;
  uint32_t count;
  bool by_text;
};

// A number of rows of so many columns.
struct Size {
  uint32_t rows = 0, columns = 0;

  void include(uint32_t other_rows, uint32_t other_columns) {
    rows = std::max(rows, other_rows);
    columns = std::max(columns, other_columns);
  }
};

// The largest of what `any_to_float` has to make room for: inputs that are quantized, turned, rounded or shortened to bfloat16, and outputs
// that are rounded, of linears in float, and before biases are added.
struct InputSizes {
  Size quantized, turned, rounded, outputs, bfloats;
  uint32_t unbiased = 0;  // rows of linears whose products are rounded before biases are added
  uint32_t columns = 0;  // of all linears, those in integers throughout included

  void include(const OpenLinear& linear, uint32_t rows);
};

// The grid of ONNX's DynamicQuantizeLinear: it includes 0.
Grid grid_of_range(float least, float greatest);

class Products {
 public:
  Products(const Kernels& kernels, const Tokens& tokens, uint32_t threads, const InputSizes& largest);

  // Of a linear whose inputs have a grid.
  void to_float(Team::Member& team, const Product& product, const FloatResult& result) const;

  // Several products with the same tokens, in one step.
  void to_integers(Team::Member& team, const IntegerProduct* products, uint32_t count) const;

  // Of any linear: its inputs are quantized, or turned, first. Not where they are `prepared`: where the call before was
  // with the same rows, and a linear that reads the same (`same_inputs`).
  void any_to_float(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
                    bool prepared = false);

  // Rounds rows of all tokens in place, by the range of each text.
  void round_by_range(Team::Member& team, float* x, size_t stride, uint32_t width);

  static bool same_inputs(const OpenLinear& a, const OpenLinear& b);

 private:
  template <typename Finish>
  void multiply(const Product& product, uint32_t panel_block, uint32_t token_block, const int32_t* offsets,
                ArrangedInputs& inputs, const Finish& finish) const;
  ArrangedInputs arranged_inputs(const Team::Member& team) const;
  void rounded_product(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
                       bool prepared);
  void quantize(Team::Member& team, const FloatRows& x, uint32_t width, Grid grid);
  void find_grids(Team::Member& team, const FloatRows& x, uint32_t width);
  void quantize_by_range(Team::Member& team, const FloatRows& x, uint32_t width);
  void by_range_to_float(Team::Member& team, const Product& product, const FloatResult& result) const;
  void floats(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
              bool prepared);
  void dense_floats(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result) const;
  void bfloats(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
               bool prepared);
  void sparse_floats(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
                     bool prepared);

  struct Range {
    float least, greatest;
  };

  const Kernels& kernels_;
  const Tokens tokens_;
  const uint32_t tokens_of_task_;
  const size_t bytes_stride_, turned_stride_, rounded_stride_, outputs_stride_, bfloats_stride_;
  Buffer<uint8_t> bytes_;  // inputs, quantized
  Buffer<float> turned_;   // inputs, tiles of tokens by columns
  Buffer<float> rounded_;  // inputs of linears in float
  Buffer<float> outputs_;  // of linears in float, and of products, before they are rounded
  Buffer<uint16_t> bfloats_;
  Buffer<float> zeros_;    // in the place of biases
  Buffer<Range> ranges_;
  Buffer<Grid> grids_;
  const size_t arranged_size_;  // of a thread
  Buffer<uint8_t> arranged_;
};

}  // namespace resparse
