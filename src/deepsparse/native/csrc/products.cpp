#include "products.h"

#include <algorithm>
#include <cmath>

#include "kernels/bfloats.h"

namespace resparse {
namespace {

// A task of a step is a product of some panels with some tokens.
constexpr uint32_t kPanelsOfTask = 4;
constexpr uint32_t kMostTokensOfTask = 128;
constexpr uint32_t kColumnsOfTask = 64;  // of turned inputs

// Each thread's share of the tokens, in whole products, split evenly where it is too large.
uint32_t tokens_of_task(uint32_t tokens, uint32_t threads, const Kernels& kernels) {
  const size_t share = round_up(divide_up(tokens, threads), std::max(2u, kernels.max_tiles) * kTileTokens);
  const auto most = static_cast<uint32_t>(std::min<size_t>(share, kMostTokensOfTask));
  return static_cast<uint32_t>(round_up(divide_up(tokens, divide_up(tokens, most)), 2 * kTileTokens));
}

uint32_t panel_blocks(const Product& product) {
  return divide_up(panels_of(product.linear.weights.rows), kPanelsOfTask);
}

}  // namespace

Grid grid_of_range(float least, float greatest) {
  least = std::min(least, 0.0f);
  const float scale = (std::max(greatest, 0.0f) - least) / 255.0f;
  if (!(scale > 0) || !std::isfinite(scale)) return {1, 0, 0, 255};
  const float zero = std::nearbyint(std::min(std::max(-least / scale, 0.0f), 255.0f));
  return {scale, static_cast<int32_t>(zero), 0, 255};
}

void InputSizes::include(const OpenLinear& linear, uint32_t rows) {
  const uint32_t inputs = linear.weights.columns;
  columns = std::max(columns, inputs);
  if (linear.product.scale != 0) {
    outputs.include(rows, linear.weights.rows);
    unbiased = std::max(unbiased, linear.weights.rows);
  }
  if (!is_float(linear.weights.format)) return quantized.include(rows, inputs);
  if (linear.weights.format == kBfloat16) bfloats.include(rows, inputs);
  if (linear.weights.format == kSparseFloat) turned.include(rows, inputs);
  if (linear.input.scale != 0) rounded.include(rows, inputs);
  if (linear.rounding.scale != 0) outputs.include(rows, linear.weights.rows);
}

Products::Products(const Kernels& kernels, const Tokens& tokens, uint32_t threads, const InputSizes& largest)
    : kernels_(kernels),
      tokens_(tokens),
      tokens_of_task_(tokens_of_task(tokens.count(), threads, kernels)),
      bytes_stride_(round_up(largest.quantized.columns, kColumnPad)),
      turned_stride_(round_up(largest.turned.columns, 4) * kFloatTile),
      rounded_stride_(round_up(largest.rounded.columns, kPanelRows)),
      outputs_stride_(round_up(largest.outputs.columns, kPanelRows)),
      bfloats_stride_(round_up(largest.bfloats.columns, kPanelRows)),
      bytes_(bytes_stride_ * largest.quantized.rows),
      turned_(turned_stride_ * divide_up(largest.turned.rows, kFloatTile)),
      rounded_(rounded_stride_ * largest.rounded.rows),
      outputs_(outputs_stride_ * largest.outputs.rows),
      bfloats_(bfloats_stride_ * largest.bfloats.rows),
      zeros_(round_up(largest.unbiased, kPanelRows)),
      ranges_(largest.quantized.rows),
      grids_(largest.quantized.rows),
      arranged_size_(kernels.arrange == nullptr ? 0 : ArrangedInputs::size(tokens_of_task_, largest.columns)),
      arranged_(arranged_size_ * threads) {
  std::fill_n(zeros_.data(), round_up(largest.unbiased, kPanelRows), 0.0f);
}

// --- integers ---

// For a step; what an earlier one has arranged may have changed.
ArrangedInputs Products::arranged_inputs(const Team::Member& team) const {
  return {kernels_, arranged_.data() + team.thread() * arranged_size_};
}

// One task; `inputs` are of the thread and the step. Calls finish(first row, first token, tokens, sums).
template <typename Finish>
void Products::multiply(const Product& product, uint32_t panel_block, uint32_t token_block, const int32_t* offsets,
                        ArrangedInputs& inputs, const Finish& finish) const {
  const OpenLinear& linear = product.linear;
  const uint32_t first_panel = panel_block * kPanelsOfTask;
  const uint32_t last_panel = std::min(first_panel + kPanelsOfTask, panels_of(linear.weights.rows));
  const uint32_t first = token_block * tokens_of_task_;
  const uint32_t last = std::min(first + tokens_of_task_, product.tokens);
  inputs.set(linear.weights, product.x + first * product.stride, product.stride, last - first);
  Sums sums;
  // The panel's weights stay in the L1 cache for two products, and their tokens for all panels of the task.
  const uint32_t most = 2 * kernels_.max_tiles * kTileTokens;
  for (uint32_t pair = first; pair < last; pair += most)
    for (uint32_t panel = first_panel; panel < last_panel; ++panel)
      for (uint32_t token = pair, count; token < std::min(pair + most, last); token += count) {
        const uint32_t row = panel * kPanelRows;
        count = kernels_.next_tokens(std::min(pair + most, last) - token);
        kernels_.multiply(linear.weights, panel, inputs.at(token - first), product.stride, count,
                          offsets == nullptr ? nullptr : offsets + row, sums);
        finish(row, token, count, sums);
      }
}

void Products::to_float(Team::Member& team, const Product& product, const FloatResult& result) const {
  const OpenLinear& linear = product.linear;
  const uint32_t blocks = panel_blocks(product);
  ArrangedInputs inputs = arranged_inputs(team);
  team.step(blocks * divide_up(product.tokens, tokens_of_task_), [&](uint32_t task) {
    multiply(product, task % blocks, task / blocks, linear.offsets, inputs,
             [&](uint32_t row, uint32_t token, uint32_t count, const Sums& sums) {
               kernels_.dequantize(sums, count, linear.scales + row, linear.biases + row, linear.rounding, result.add,
                                   result.out + token * result.stride + row, result.stride);
             });
  });
}

void Products::to_integers(Team::Member& team, const IntegerProduct* products, uint32_t count) const {
  uint32_t blocks = 0;
  for (uint32_t i = 0; i < count; ++i) blocks += panel_blocks(products[i].product);
  ArrangedInputs inputs = arranged_inputs(team);
  team.step(blocks * divide_up(products[0].product.tokens, tokens_of_task_), [&](uint32_t task) {
    const IntegerProduct* one = products;
    uint32_t block = task % blocks;
    for (; block >= panel_blocks(one->product); ++one) block -= panel_blocks(one->product);
    const OpenLinear& linear = one->product.linear;
    const IntegerResult& result = one->result;
    multiply(one->product, block, task / blocks, linear.offsets, inputs,
             [&](uint32_t row, uint32_t token, uint32_t tokens, const Sums& sums) {
               kernels_.requantize(sums, tokens, linear.scales + row, linear.biases + row, linear.rounding,
                                   result.activation, result.grid, result.out + token * result.stride + row,
                                   result.stride);
             });
  });
}

// --- any linear ---

bool Products::same_inputs(const OpenLinear& a, const OpenLinear& b) {
  const bool both = is_float(a.weights.format) == is_float(b.weights.format);
  return both && a.input == b.input && (!is_float(a.weights.format) || a.weights.format == b.weights.format);
}

void Products::any_to_float(Team::Member& team, const OpenLinear& linear, const FloatRows& x,
                            const FloatResult& result, bool prepared) {
  if (linear.product.scale != 0) return rounded_product(team, linear, x, result, prepared);
  if (is_float(linear.weights.format)) return floats(team, linear, x, result, prepared);
  const Product product{linear, bytes_.data(), bytes_stride_, x.count};
  if (linear.input.scale != 0) {
    if (!prepared) quantize(team, x, linear.weights.columns, linear.input);
    return to_float(team, product, result);
  }
  if (!prepared) quantize_by_range(team, x, linear.weights.columns);
  by_range_to_float(team, product, result);
}

// As of a linear without biases, whose outputs are rounded; then biases are added.
void Products::rounded_product(Team::Member& team, const OpenLinear& linear, const FloatRows& x,
                               const FloatResult& result, bool prepared) {
  OpenLinear unbiased = linear;
  unbiased.biases = zeros_.data();
  unbiased.rounding = linear.product;
  unbiased.product = Grid{};
  any_to_float(team, unbiased, x, {false, outputs_.data(), outputs_stride_}, prepared);
  team.step(x.count, [&](uint32_t index) {
    const uint32_t width = linear.weights.rows;
    float *const row = &outputs_[index * outputs_stride_], *const out = result.out + index * result.stride;
    for (uint32_t i = 0; i < width; ++i) row[i] += linear.biases[i];
    if (linear.rounding.scale != 0) kernels_.round(row, width, linear.rounding, row);
    for (uint32_t i = 0; i < width; ++i) out[i] = result.add ? out[i] + row[i] : row[i];
  });
}

void Products::quantize(Team::Member& team, const FloatRows& x, uint32_t width, Grid grid) {
  team.step(x.count, [&](uint32_t row) {
    kernels_.quantize(x.data + row * x.stride, width, grid, &bytes_[row * bytes_stride_]);
  });
}

void Products::find_grids(Team::Member& team, const FloatRows& x, uint32_t width) {
  team.step(x.count, [&](uint32_t row) {
    kernels_.range(x.data + row * x.stride, width, &ranges_[row].least, &ranges_[row].greatest);
  });
  team.step(tokens_.texts, [&](uint32_t text) {
    const uint32_t first = x.by_text ? text : tokens_.start_of(text);
    const uint32_t end = x.by_text ? text + 1 : tokens_.start_of(text + 1);
    Range all = ranges_[first];
    for (uint32_t row = first; row < end; ++row)
      all = {std::min(all.least, ranges_[row].least), std::max(all.greatest, ranges_[row].greatest)};
    std::fill(&grids_[first], &grids_[first] + (end - first), grid_of_range(all.least, all.greatest));
  });
}

void Products::round_by_range(Team::Member& team, float* x, size_t stride, uint32_t width) {
  find_grids(team, {x, stride, tokens_.count(), false}, width);
  team.step(tokens_.count(),
            [&](uint32_t row) { kernels_.round(x + row * stride, width, grids_[row], x + row * stride); });
}

void Products::quantize_by_range(Team::Member& team, const FloatRows& x, uint32_t width) {
  find_grids(team, x, width);
  team.step(x.count, [&](uint32_t row) {
    kernels_.quantize(x.data + row * x.stride, width, grids_[row], &bytes_[row * bytes_stride_]);
  });
}

void Products::by_range_to_float(Team::Member& team, const Product& product, const FloatResult& result) const {
  const OpenLinear& linear = product.linear;
  const uint32_t blocks = panel_blocks(product);
  ArrangedInputs inputs = arranged_inputs(team);
  team.step(blocks * divide_up(product.tokens, tokens_of_task_), [&](uint32_t task) {
    multiply(product, task % blocks, task / blocks, nullptr, inputs,
             [&](uint32_t row, uint32_t token, uint32_t count, const Sums& sums) {
               kernels_.dequantize_by_token(sums, count, linear.scales + row, linear.biases + row,
                                            linear.weights.row_sums + row, grids_.data() + token, result.add,
                                            result.out + token * result.stride + row, result.stride);
             });
  });
}

void Products::floats(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
                      bool prepared) {
  FloatRows from = x;
  if (linear.input.scale != 0) {
    from.data = rounded_.data();
    from.stride = rounded_stride_;
    if (!prepared)
      team.step(x.count, [&](uint32_t row) {
        kernels_.round(x.data + row * x.stride, linear.weights.columns, linear.input, &rounded_[row * rounded_stride_]);
      });
  }
  const bool is_rounded = linear.rounding.scale != 0;
  const FloatResult to = is_rounded ? FloatResult{false, outputs_.data(), outputs_stride_} : result;
  if (linear.weights.format == kFloat)
    dense_floats(team, linear, from, to);
  else if (linear.weights.format == kBfloat16)
    bfloats(team, linear, from, to, prepared);
  else
    sparse_floats(team, linear, from, to, prepared);
  if (!is_rounded) return;
  team.step(x.count, [&](uint32_t index) {
    const uint32_t width = linear.weights.rows;
    float *const row = &outputs_[index * outputs_stride_], *const out = result.out + index * result.stride;
    kernels_.round(row, width, linear.rounding, row);
    for (uint32_t i = 0; i < width; ++i) out[i] = result.add ? out[i] + row[i] : row[i];
  });
}

void Products::dense_floats(Team::Member& team, const OpenLinear& linear, const FloatRows& x,
                            const FloatResult& result) const {
  const uint32_t panels = panels_of(linear.weights.rows);
  team.step(panels * divide_up(x.count, tokens_of_task_), [&](uint32_t task) {
    const uint32_t row = task % panels * kPanelRows, token = task / panels * tokens_of_task_;
    kernels_.multiply_floats(linear.weights, task % panels, x.data + token * x.stride, x.stride,
                             std::min(tokens_of_task_, x.count - token), linear.biases + row, result.add,
                             result.out + token * result.stride + row, result.stride);
  });
}

void Products::bfloats(Team::Member& team, const OpenLinear& linear, const FloatRows& x, const FloatResult& result,
                       bool prepared) {
  if (!prepared)
    team.step(x.count, [&](uint32_t row) {
      to_bfloats(x.data + row * x.stride, linear.weights.columns, &bfloats_[row * bfloats_stride_]);
    });
  const uint32_t panels = panels_of(linear.weights.rows);
  team.step(panels * divide_up(x.count, tokens_of_task_), [&](uint32_t task) {
    const uint32_t row = task % panels * kPanelRows, token = task / panels * tokens_of_task_;
    multiply_bfloats(linear.weights, task % panels, &bfloats_[token * bfloats_stride_], bfloats_stride_,
                     std::min(tokens_of_task_, x.count - token), linear.biases + row, result.add,
                     result.out + token * result.stride + row, result.stride);
  });
}

void Products::sparse_floats(Team::Member& team, const OpenLinear& linear, const FloatRows& x,
                             const FloatResult& result, bool prepared) {
  const uint32_t columns = linear.weights.columns, tiles = divide_up(x.count, kFloatTile);
  const auto tokens_of = [&](uint32_t tile) { return std::min(kFloatTile, x.count - tile * kFloatTile); };
  if (!prepared) {
    const uint32_t parts = divide_up(columns, kColumnsOfTask);
    team.step(parts * tiles, [&](uint32_t task) {
      const uint32_t column = task % parts * kColumnsOfTask, tile = task / parts;
      kernels_.turn(x.data + tile * kFloatTile * x.stride + column, x.stride, tokens_of(tile),
                    std::min(kColumnsOfTask, columns - column),
                    &turned_[tile * turned_stride_ + size_t{column} * kFloatTile]);
    });
  }
  const uint32_t panels = panels_of(linear.weights.rows);
  team.step(panels * tiles, [&](uint32_t task) {
    const uint32_t row = task % panels * kPanelRows, tile = task / panels;
    kernels_.multiply_sparse_floats(linear.weights, task % panels, &turned_[tile * turned_stride_], tokens_of(tile),
                                    linear.biases + row, result.add,
                                    result.out + tile * kFloatTile * result.stride + row, result.stride);
  });
}

}  // namespace resparse
